//! The ways to a node: over TCP, through the socket in its folder, or within this process.

use std::io;
#[cfg(unix)]
use std::path::PathBuf;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, header};
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::sync::watch::Receiver;
use tokio::time::timeout;
use tower::ServiceExt;

use super::Failure;
use super::cleanup::Cleanup;
use super::patience::{Patience, Turn, theirs};
use crate::api::{self, Access, Api, Settings};
use crate::args::{DoorPlan, HttpPlan, WayPlan};
use crate::node::{self, Running, Unjoined, join_any};

/// A way to a node.
#[derive(Debug)]
pub(super) struct Door {
    /// The name under which it is asked for.
    host: String,
    /// Where it is, in words.
    place: String,
    patience: Patience,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Connection(Place, Mutex<http1::SendRequest<Body>>),
    Own(Own),
}

/// Where a node takes connections.
#[derive(Debug)]
enum Place {
    /// `HOST:PORT`.
    Tcp(String),
    #[cfg(unix)]
    Socket(PathBuf),
}

/// A node of this process's own, which ends with it.
#[derive(Debug)]
struct Own {
    router: Router,
    _running: Running,
}

impl Door {
    /// Opens it.
    pub(super) async fn open(plan: DoorPlan, patience: Duration, cleanup: &Cleanup) -> Result<Self, Failure> {
        let patience = Patience(patience);
        match plan {
            DoorPlan::Url(url) => {
                let Some(host) = host_of(&url) else { return Err(Failure::Url { url }) };
                Door::to(Place::Tcp(host.clone()), host, url, patience).await
            }
            #[cfg(unix)]
            DoorPlan::DataDir(folder) => {
                let path = folder.join(node::CONTROL_SOCKET);
                let words = path.display().to_string();
                Door::to(Place::Socket(path), "localhost".to_owned(), words, patience).await
            }
            #[cfg(not(unix))]
            DoorPlan::DataDir(folder) => {
                let error = io::Error::from(io::ErrorKind::Unsupported);
                Err(Failure::Unreachable { place: folder.display().to_string(), error })
            }
            DoorPlan::Own(plan) => {
                let (host, place) = ("localhost".to_owned(), "the network that was joined".to_owned());
                Ok(Door { host, place, patience, way: Way::Own(own(&plan, cleanup).await?) })
            }
        }
    }

    async fn to(to: Place, host: String, place: String, patience: Patience) -> Result<Self, Failure> {
        match patience.reach(to.connect()).await {
            Ok(sender) => Ok(Door { host, place, patience, way: Way::Connection(to, Mutex::new(sender)) }),
            Err(error) => Err(Failure::Unreachable { place, error }),
        }
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Sends a request, and waits for the head of the answer. `turn` says whose turn it is meanwhile.
    pub(super) async fn send(&self, request: Request<Body>, turn: Receiver<Turn>) -> Result<Response<Body>, Failure> {
        self.heard(self.patience.hear(turn, self.answer(request), async || self.is_alive().await).await)
    }

    /// Gives an answer piece by piece.
    pub(super) async fn copy(
        &self,
        response: Response<Body>,
        mut write: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut body = response.into_body();
        let next = async |body: &mut Body| match body.frame().await {
            Some(frame) => frame.map(Some).map_err(|error| Failure::Answer(format!("it ended early: {error}"))),
            None => Ok(None),
        };
        while let Some(frame) = self.heard(self.patience.hear(theirs(), next(&mut body), async || false).await)? {
            if let Some(piece) = frame.data_ref() {
                write(piece)?;
            }
        }
        Ok(())
    }

    fn heard<T>(&self, heard: Option<Result<T, Failure>>) -> Result<T, Failure> {
        heard.unwrap_or_else(|| Err(Failure::Silent { place: self.place.clone(), time: self.patience.0 }))
    }

    /// Whether a node that says nothing works: what it has still to save may lie in the system's buffers, and a large
    /// value takes long to find. If it does, it answers on a connection beside, whatever that answer is.
    async fn is_alive(&self) -> bool {
        let Way::Connection(place, _) = &self.way else { return false };
        let Ok(request) = Request::get("/healthz").header(header::HOST, &self.host).body(Body::empty()) else {
            return false;
        };
        let asked = async { place.connect().await?.send_request(request).await.map_err(io::Error::other) };
        self.patience.reach(asked).await.is_ok()
    }

    async fn answer(&self, request: Request<Body>) -> Result<Response<Body>, Failure> {
        match &self.way {
            Way::Connection(_, sender) => {
                let response = sender.lock().await.send_request(request).await;
                response.map(|response| response.map(Body::new)).map_err(|error| Failure::Answer(error.to_string()))
            }
            Way::Own(own) => match own.router.clone().oneshot(request).await {
                Ok(response) => Ok(response),
                Err(never) => match never {},
            },
        }
    }
}

impl Place {
    async fn connect(&self) -> io::Result<http1::SendRequest<Body>> {
        match self {
            Place::Tcp(host) => handshake(TcpStream::connect(host).await?).await,
            #[cfg(unix)]
            Place::Socket(path) => handshake(tokio::net::UnixStream::connect(path).await?).await,
        }
    }
}

/// `HOST:PORT` of a URL. There is no TLS here: for that there are proxies.
fn host_of(url: &str) -> Option<String> {
    let host = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
    if host.is_empty() || host.contains(['/', '?', '#', '@', ' ']) || !host.is_ascii() {
        return None;
    }
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Some(if has_port { host.to_owned() } else { format!("{host}:80") })
}

async fn handshake<S>(stream: S) -> io::Result<http1::SendRequest<Body>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // What goes wrong with it goes wrong with the request as well.
    tokio::spawn(connection);
    Ok(sender)
}

/// A node in client mode, which has joined the network.
async fn own(plan: &WayPlan, cleanup: &Cleanup) -> Result<Own, Failure> {
    let running = Running::start(plan, None)?;
    // A socket of it would stay behind.
    let stopped = running.service().clone();
    cleanup.on_interrupt(move || stopped.stop())?;
    // What is asked for comes first, and the resolver of names can take for ever.
    let most = plan.config.lookup_timeout;
    let joined = timeout(most, join_any(running.service(), &plan.entrances)).await;
    if let Err(error) = joined.unwrap_or(Err(Unjoined::Service(kademlia_dht::Error::TimedOut(most)))) {
        let entrances: Vec<String> = plan.entrances.iter().map(ToString::to_string).collect();
        return Err(Failure::NotJoined { entrances: entrances.join(", "), error });
    }
    let api = Api::new(running.service().clone(), Settings::new(plan), &HttpPlan::default(), None);
    Ok(Own { router: api::router(&api, Access::Own), _running: running })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_nodes() {
        for (url, host) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("http://localhost:8080/", "localhost:8080"),
            ("[::1]:80", "[::1]:80"),
            ("http://example.org", "example.org:80"),
            ("http://[::1]", "[::1]:80"),
        ] {
            assert_eq!(host_of(url).as_deref(), Some(host), "{url}");
        }
        for wrong in ["", "http://", "https://example.org", "http://a/b", "http://a b", "http://user@host:1"] {
            assert_eq!(host_of(wrong), None, "{wrong}");
        }
    }
}
