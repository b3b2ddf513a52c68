//! [`TcpGateway`]: connections over TCP.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mio::event::Source;
use mio::net::{TcpListener, TcpStream};
use multiaddr::Multiaddr;

use crate::address::{self, IpTransport};
use crate::gateway::{Gateway, GatewayError, Outbox};
use crate::ip;
use crate::link::Link;
use crate::stream::{StreamConfig, StreamGateway, Transport};

/// How many connections the kernel completes before they are accepted.
const BACKLOG: i32 = 1024;

/// Carries messages over TCP: `/ip4/…/tcp/…` or `/ip6/…/tcp/…`.
///
/// One thread serves all connections. A connection is dialled for the first message to an address and kept; answers
/// go back by the connection that the request came by. A gateway for IPv6 leaves IPv4 alone, so that one of each can
/// have the same port. One that is bound to a loopback address dials only such.
///
/// ```
/// use kademlia_gateways::{Gateway, TcpGateway};
/// let gateway = TcpGateway::bind("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
/// assert_ne!(gateway.address().to_string(), "/ip4/127.0.0.1/tcp/0", "the port that was really bound");
/// ```
#[derive(Debug)]
pub struct TcpGateway(StreamGateway<Tcp>);

impl TcpGateway {
    /// Listens on the address; port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Address`] if it is not an address of TCP, [`GatewayError::Bind`] with the cause if it cannot
    /// be bound.
    pub fn bind(address: Multiaddr) -> Result<Self, GatewayError> {
        TcpGateway::bind_with(address, StreamConfig::default())
    }

    /// Listens on the address, with other bounds than the usual ones.
    ///
    /// # Errors
    ///
    /// As [`bind`](TcpGateway::bind).
    pub fn bind_with(address: Multiaddr, config: StreamConfig) -> Result<Self, GatewayError> {
        let wanted = ip::bindable(&address, IpTransport::Tcp)?;
        let bound = listen(wanted).and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (local, listener) = bound.map_err(|source| GatewayError::Bind { address, source })?;
        let address = address::ip_address(local, IpTransport::Tcp);
        Ok(TcpGateway(StreamGateway::new(Tcp { local }, listener, address, config)?))
    }

    /// The address that was bound, with its real port.
    pub fn address(&self) -> &Multiaddr {
        self.0.address()
    }
}

impl Gateway for TcpGateway {
    fn name(&self) -> String {
        "tcp".to_owned()
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

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = ip::open(address, IpTransport::Tcp)?;
    // Where connections of an earlier run still fade away, the port can be bound again. Windows does so by itself, and
    // would with this option share a port with whoever asks.
    if cfg!(unix) {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// TCP, bound to this address.
#[derive(Debug, Clone)]
struct Tcp {
    local: SocketAddr,
}

impl Transport for Tcp {
    type Listener = TcpListener;
    type Stream = TcpStream;

    fn listen(&self) -> io::Result<TcpListener> {
        listen(self.local)
    }

    fn source(listener: &mut TcpListener) -> &mut dyn Source {
        listener
    }

    fn accept(listener: &TcpListener) -> io::Result<(TcpStream, Option<IpAddr>)> {
        let (stream, from) = listener.accept()?;
        Ok((with_nodelay(stream), Some(from.ip())))
    }

    fn dials(&self, address: &Multiaddr) -> bool {
        ip::dialled(self.local.ip(), IpTransport::Tcp, address).is_some()
    }

    fn connect(&self, address: &Multiaddr) -> io::Result<TcpStream> {
        let to = ip::dialled(self.local.ip(), IpTransport::Tcp, address).ok_or(ErrorKind::InvalidInput)?;
        let own = self.local.ip();
        // The others take the IP that they see for the one that we listen on. The usual loopback address is taken by
        // the kernel anyway, without a search for a free port.
        if own.is_unspecified() || own == Ipv4Addr::LOCALHOST || own == Ipv6Addr::LOCALHOST {
            return TcpStream::connect(to).map(with_nodelay);
        }
        let socket = ip::open(to, IpTransport::Tcp)?;
        socket.bind(&SocketAddr::new(own, 0).into())?;
        match socket.connect(&to.into()) {
            Err(error) if !is_in_progress(&error) => Err(error),
            _ => Ok(with_nodelay(TcpStream::from_std(socket.into()))),
        }
    }

    fn is_connected(stream: &TcpStream) -> io::Result<bool> {
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        match stream.peer_addr() {
            // The kernel chose the very port that nobody listened on as the port to dial from.
            Ok(peer) if stream.local_addr()? == peer => Err(ErrorKind::ConnectionRefused.into()),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn confirm(claimed: &Multiaddr, observed: Option<IpAddr>) -> Option<Multiaddr> {
        let (claimed, transport) = address::socket_addr(claimed)?;
        let ip = observed.unwrap_or(claimed.ip());
        let possible = transport == IpTransport::Tcp && claimed.port() != 0 && ip.is_ipv4() == claimed.is_ipv4();
        possible.then(|| address::ip_address(SocketAddr::new(ip, claimed.port()), transport))
    }
}

/// A message is written as a whole: waiting for more to send along would only delay it.
fn with_nodelay(stream: TcpStream) -> TcpStream {
    // Fails where the other side has closed already, which shows soon enough.
    stream.set_nodelay(true).ok();
    stream
}

/// Whether a nonblocking connect has only begun: `EINPROGRESS`, for which the standard library has no name.
fn is_in_progress(error: &io::Error) -> bool {
    let in_progress = if cfg!(any(target_os = "linux", target_os = "android")) { 115 } else { 36 };
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
        || (cfg!(unix) && error.raw_os_error() == Some(in_progress))
}
