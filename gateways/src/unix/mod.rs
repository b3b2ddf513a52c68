//! [`UnixGateway`]: connections over Unix sockets.

mod socket_file;

use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::path::Path;

use mio::event::Source;
use mio::net::UnixStream;
use multiaddr::Multiaddr;

use crate::address::{unix_address, unix_path};
use crate::gateway::{Gateway, GatewayError, Outbox};
use crate::link::Link;
use crate::stream::{StreamConfig, StreamGateway, Transport};
use socket_file::{SocketFile, fits_socket_address};

const EXPECTED: &str = "/unix/%2Ftmp%2Fnode.sock";

/// Carries messages over Unix sockets: `/unix/…` with the path as one percent-encoded component.
///
/// The socket file can be used by its owner only (mode 0600), from its first moment on. It is gone when the gateway
/// is. One that was left behind by a process that crashed is replaced; one that is in use, or that is no socket, is
/// not.
///
/// ```
/// use kademlia_gateways::{Gateway, UnixGateway};
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("node.sock");
/// let gateway = UnixGateway::bind_path(&path).unwrap();
/// assert!(path.exists());
/// drop(gateway);
/// assert!(!path.exists());
/// ```
#[derive(Debug)]
pub struct UnixGateway(StreamGateway<Unix>);

impl UnixGateway {
    /// Listens on the address.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Address`] if it is not exactly `/unix/…` with an absolute path, [`GatewayError::Bind`] with the
    /// cause if it cannot be bound: another process listens there, something that is no socket is there, or the path
    /// is too long.
    pub fn bind(address: Multiaddr) -> Result<Self, GatewayError> {
        UnixGateway::bind_with(address, StreamConfig::default())
    }

    /// Listens on a path, which must be absolute.
    ///
    /// # Errors
    ///
    /// As [`bind`](UnixGateway::bind).
    pub fn bind_path(path: impl AsRef<Path>) -> Result<Self, GatewayError> {
        UnixGateway::bind(unix_address(path).map_err(|error| GatewayError::Failed(error.to_string()))?)
    }

    /// Listens on the address, with other bounds than the usual ones.
    ///
    /// # Errors
    ///
    /// As [`bind`](UnixGateway::bind).
    pub fn bind_with(address: Multiaddr, config: StreamConfig) -> Result<Self, GatewayError> {
        let Some(path) = unix_path(&address) else {
            return Err(GatewayError::Address { gateway: "UnixGateway", address, expected: EXPECTED });
        };
        match SocketFile::bind(&path) {
            Ok(listener) => Ok(UnixGateway(StreamGateway::new(Unix { path: path.into() }, listener, address, config)?)),
            Err(source) => Err(GatewayError::Bind { address, source }),
        }
    }

    /// The address that was bound.
    pub fn address(&self) -> &Multiaddr {
        self.0.address()
    }
}

impl Gateway for UnixGateway {
    fn name(&self) -> String {
        "unix".to_owned()
    }

    fn addresses(&self) -> Vec<Multiaddr> {
        vec![self.address().clone()]
    }

    fn outbox(&mut self) -> Result<Box<dyn Outbox>, GatewayError> {
        self.0.outbox()
    }

    fn run(&mut self, link: &Link) -> Result<(), GatewayError> {
        self.0.run(link)
    }

    fn reopen(&mut self) -> Result<(), GatewayError> {
        self.0.reopen()
    }

    fn lends_thread(&self) -> bool {
        true
    }
}

/// Unix sockets, bound to this path.
#[derive(Debug, Clone)]
struct Unix {
    path: Box<Path>,
}

impl Transport for Unix {
    type Listener = SocketFile;
    type Stream = UnixStream;

    fn listen(&self) -> io::Result<SocketFile> {
        SocketFile::bind(&self.path)
    }

    fn source(listener: &mut SocketFile) -> &mut dyn Source {
        listener.listener_mut()
    }

    fn accept(listener: &SocketFile) -> io::Result<(UnixStream, Option<IpAddr>)> {
        Ok((listener.listener().accept()?.0, None))
    }

    fn dials(&self, address: &Multiaddr) -> bool {
        unix_path(address).is_some_and(|path| fits_socket_address(&path))
    }

    fn connect(&self, address: &Multiaddr) -> io::Result<UnixStream> {
        UnixStream::connect(unix_path(address).ok_or(ErrorKind::InvalidInput)?)
    }

    fn is_connected(stream: &UnixStream) -> io::Result<bool> {
        match stream.take_error()? {
            Some(error) => Err(error),
            None => Ok(true),
        }
    }

    fn confirm(claimed: &Multiaddr, _observed: Option<IpAddr>) -> Option<Multiaddr> {
        unix_path(claimed).is_some().then(|| claimed.clone())
    }
}
