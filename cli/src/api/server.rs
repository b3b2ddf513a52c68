//! Serves the API: over TCP and over the control socket, on a thread of its own, which also keeps large values alive.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::thread::JoinHandle;

use futures_util::future::select;
use tokio::net::TcpListener;
use tokio::runtime::{self, Runtime};
use tokio::sync::watch;

#[cfg(unix)]
use super::control;
use super::doorman::{self, Doorman};
use super::guard::Access;
use super::{Api, renewing, router};
use crate::args::HttpPlan;

/// Connections through the control socket at once.
const CONTROL_CONNECTIONS: usize = 64;

/// Threads for what waits, such as transfers of large values.
const BLOCKING_THREADS: usize = 32;

/// What serves one listener, or is done beside that.
type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Why HTTP is not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServerError {
    #[error("cannot serve HTTP at {address}: {error}")]
    Bind { address: SocketAddr, error: io::Error },
    #[error("cannot make the control socket {}: {error}", .path.display())]
    Control { path: PathBuf, error: io::Error },
    #[error("another node uses the folder: its control socket {} is in use", .path.display())]
    InUse { path: PathBuf },
    #[error("cannot read the token in {}: {error}", .path.display())]
    Token { path: PathBuf, error: io::Error },
    #[error("there is no token in {}", .path.display())]
    EmptyToken { path: PathBuf },
    #[error("cannot start the thread of HTTP: {0}")]
    Thread(#[source] io::Error),
}

impl ServerError {
    /// Whether the arguments are to blame.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(self, ServerError::Token { .. } | ServerError::EmptyToken { .. })
    }
}

/// The thread that serves.
#[derive(Debug)]
pub(crate) struct Server {
    address: Option<SocketAddr>,
    ends: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
    #[cfg(unix)]
    control: Option<control::SocketFile>,
}

impl Server {
    /// Listens where it is told to. When this returns, requests are answered.
    pub(crate) fn start(api: &Api, plan: &HttpPlan, control: Option<PathBuf>) -> Result<Self, ServerError> {
        let (ends, ended) = watch::channel(false);
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("http-aside")
            .build()
            .map_err(ServerError::Thread)?;
        let guard = runtime.enter();
        let (renewing, until) = (renewing::renew(api.clone()), doorman::end(ended.clone()));
        let mut serving: Vec<Serving> = vec![Box::pin(async move {
            select(pin!(renewing), pin!(until)).await;
        })];
        let mut server = Server {
            address: None,
            ends,
            thread: None,
            #[cfg(unix)]
            control: None,
        };
        if let Some(address) = plan.address {
            let failed = |error| ServerError::Bind { address, error };
            let listener = std::net::TcpListener::bind(address).map_err(failed)?;
            listener.set_nonblocking(true).map_err(failed)?;
            let listener = TcpListener::from_std(listener).map_err(failed)?;
            let address = listener.local_addr().map_err(failed)?;
            server.address = Some(address);
            if !address.ip().is_loopback() && plan.token_file.is_none() {
                log::warn!("http://{address} takes no writes, as there is no token (--http-token-file)");
            }
            let access = if address.ip().is_loopback() { Access::Loopback } else { Access::Elsewhere };
            let doorman = Doorman::new(router(api, access), plan.timeout, plan.max_connections, ended.clone());
            serving.push(Box::pin(doorman.serve(listener)));
        }
        #[cfg(unix)]
        if let Some(path) = control
            && let Some((listener, file)) = control::listen(path)?
        {
            server.control = Some(file);
            let doorman = Doorman::new(router(api, Access::Own), plan.timeout, CONTROL_CONNECTIONS, ended);
            serving.push(Box::pin(doorman.serve(listener)));
        }
        drop(guard);
        let work = move || serve(runtime, serving);
        server.thread =
            Some(std::thread::Builder::new().name("http".to_owned()).spawn(work).map_err(ServerError::Thread)?);
        Ok(server)
    }

    /// Where it serves over TCP.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Takes no more requests. Those under way are answered.
    pub(crate) fn begin_to_end(&mut self) {
        self.ends.send_replace(true);
        // Before the folder is free: the next node there has a socket of the same name.
        #[cfg(unix)]
        drop(self.control.take());
    }

    /// Waits until the last request has been answered, or has taken too long.
    pub(crate) fn end(mut self) {
        self.begin_to_end();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Serves until all listeners have ended, and with them the connections.
fn serve(runtime: Runtime, serving: Vec<Serving>) {
    runtime.block_on(async {
        let tasks: Vec<_> = serving.into_iter().map(tokio::spawn).collect();
        for task in tasks {
            task.await.ok();
        }
    });
    // What waits on one of its threads is not waited for.
    runtime.shutdown_background();
}
