//! Lets connections in: only so many, each of which must get on.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::future::{Either, select};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};

use super::connection::Patient;

/// The most headers of a request, and the bytes of all of its head: beyond, it is answered with 431.
const MAX_HEADERS: usize = 100;
const MAX_HEAD_BYTES: usize = 16 << 10;

/// What of a body waits in memory before it is read.
const MAX_BUFFER_BYTES: usize = 64 << 10;

/// At the end, how long requests that are under way may take. They are answered when the node stops.
const LAST_REQUESTS: Duration = Duration::from_millis(500);

/// After an accept that failed, as when there are no file descriptors left, the next one waits so long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Those for whom there is no place, and those to whom all was said: how many are told so, or listened to, at once; and how
/// long it may take to tell them.
const REFUSALS: usize = 64;
const REFUSAL: Duration = Duration::from_secs(1);

const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n\
    connection: close\r\ncontent-length: 81\r\n\r\n\
    {\"error\":{\"code\":\"busy\",\"message\":\"as many connections as can be are open now\"}}\n";

const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\n\
    connection: close\r\ncontent-length: 82\r\n\r\n\
    {\"error\":{\"code\":\"too_slow\",\"message\":\"the head of the request came too slowly\"}}\n";

/// Something at which connections come in.
pub(super) trait Listener: Send + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next one.
    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listener for TcpListener {
    type Stream = tokio::net::TcpStream;

    async fn next(&self) -> io::Result<Self::Stream> {
        let (stream, _): (_, SocketAddr) = self.accept().await?;
        // Answers are written whole.
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

#[cfg(unix)]
impl Listener for tokio::net::UnixListener {
    type Stream = tokio::net::UnixStream;

    async fn next(&self) -> io::Result<Self::Stream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

/// Lets connections of one listener in.
#[derive(Debug)]
pub(super) struct Doorman {
    router: Router,
    /// How long the other end may take for a step.
    patience: Duration,
    places: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    ended: watch::Receiver<bool>,
}

impl Doorman {
    pub(super) fn new(router: Router, patience: Duration, places: usize, ended: watch::Receiver<bool>) -> Self {
        let semaphore = |places| Arc::new(Semaphore::new(places));
        Doorman { router, patience, places: semaphore(places), refusals: semaphore(REFUSALS), ended }
    }

    /// Lets connections in until the end, and then waits a moment for those that are open.
    pub(super) async fn serve<L: Listener>(self, listener: L) {
        let (open, mut all_closed) = mpsc::channel::<()>(1);
        loop {
            let accepted = {
                match select(pin!(listener.next()), pin!(end(self.ended.clone()))).await {
                    Either::Left((accepted, _)) => accepted,
                    Either::Right(_) => break,
                }
            };
            match accepted {
                Ok(stream) => self.let_in(stream, &open),
                Err(error) => {
                    log::warn!("a connection over HTTP could not be accepted: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop((listener, open));
        // Nothing comes: it ends when the last connection has gone.
        timeout(LAST_REQUESTS, all_closed.recv()).await.ok();
    }

    fn let_in<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(&self, stream: S, open: &mpsc::Sender<()>) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            if let Ok(place) = Arc::clone(&self.refusals).try_acquire_owned() {
                let stream = Patient::new(stream, REFUSAL, self.ended.clone(), place, Arc::clone(&self.refusals));
                tokio::spawn(async move { timeout(REFUSAL, refuse(stream)).await.ok() });
            }
            return;
        };
        let (router, ended, open) = (self.router.clone(), self.ended.clone(), open.clone());
        let stream = Patient::new(stream, self.patience, ended.clone(), place, Arc::clone(&self.refusals));
        let patience = self.patience;
        tokio::spawn(async move {
            if let Err(error) = converse(router, patience, ended, stream).await {
                log::debug!("a connection over HTTP has ended: {error}");
            }
            drop(open);
        });
    }
}

/// Answers the requests of a connection.
async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    router: Router,
    patience: Duration,
    ended: watch::Receiver<bool>,
    stream: Patient<S>,
) -> hyper::Result<()> {
    let mut builder = http1::Builder::new();
    // Who has said all that they want to say may still listen.
    builder.timer(TokioTimer::new()).header_read_timeout(patience).half_close(true);
    builder.max_headers(MAX_HEADERS).max_header_size(MAX_HEAD_BYTES).max_buf_size(MAX_BUFFER_BYTES);
    let mut connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let result = match select(Pin::new(&mut connection), pin!(end(ended))).await {
        Either::Left((result, _)) => result,
        Either::Right((_, connection)) => {
            let mut connection = connection;
            connection.as_mut().graceful_shutdown();
            return connection.await;
        }
    };
    if result.as_ref().is_err_and(hyper::Error::is_timeout) {
        let parts = connection.into_parts();
        // Who has not even begun a request has nothing to be told.
        if !parts.read_buf.is_empty() {
            let mut stream = parts.io.into_inner();
            stream.write_all(TOO_SLOW).await.and(stream.shutdown().await).ok();
        }
    }
    result
}

/// Waits until the server ends.
pub(super) async fn end(mut ended: watch::Receiver<bool>) {
    ended.wait_for(|ended| *ended).await.ok();
}

/// Tells somebody for whom there is no place.
async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(mut stream: Patient<S>) -> io::Result<()> {
    stream.write_all(BUSY).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_without_a_library_are_as_long_as_they_say() {
        for answer in [BUSY, TOO_SLOW] {
            let text = std::str::from_utf8(answer).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.ends_with(&format!("content-length: {}", body.len())), "{head} {}", body.len());
            assert!(serde_json::from_str::<serde_json::Value>(body).is_ok());
        }
    }
}
