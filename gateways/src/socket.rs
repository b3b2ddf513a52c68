//! What all gateways over datagrams share: a bound UDP socket, waiting for it, receiving and sending.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token, Waker};
use multiaddr::Multiaddr;

use crate::address::{self, IpTransport};
use crate::count::Count;
use crate::gateway::{GatewayError, UnsentReason};
use crate::ip;
use crate::link::Link;

const SOCKET: Token = Token(0);
const WAKER: Token = Token(1);

/// What the system should keep for the socket each way, in bytes of datagrams and of what it adds to them. What is usual on
/// Linux, 208 KiB, has room for 92 parts, and two of the largest messages have more.
const SYSTEM_BUFFER: usize = 1024 * 1024;

/// After so many errors in a row the socket itself is at fault, not what came by it.
const MAX_ERRORS: usize = 256;

/// A bound address, with its socket while there is one: from the binding, or a reopening, to the end of a run.
#[derive(Debug)]
pub(crate) struct Endpoint {
    address: Multiaddr,
    local: SocketAddr,
    open: Option<Bound>,
}

impl Endpoint {
    /// Binds an address for `gateway`, which errors name.
    pub(crate) fn bind(gateway: &'static str, address: Multiaddr) -> Result<Self, GatewayError> {
        let wanted = ip::bindable(&address, IpTransport::Udp).map_err(|error| match error {
            GatewayError::Address { address, expected, .. } => GatewayError::Address { gateway, address, expected },
            error => error,
        })?;
        let bound = Bound::new(wanted).and_then(|open| Ok((open.socket.local_addr()?, open)));
        let (local, open) = bound.map_err(|source| GatewayError::Bind { address, source })?;
        Ok(Endpoint { address: address::ip_address(local, IpTransport::Udp), local, open: Some(open) })
    }

    /// The address that was bound, with its real port.
    pub(crate) fn address(&self) -> &Multiaddr {
        &self.address
    }

    /// Its own IP.
    pub(crate) fn ip(&self) -> IpAddr {
        self.local.ip()
    }

    pub(crate) fn open(&self) -> Result<&Bound, GatewayError> {
        self.open.as_ref().ok_or(GatewayError::Ended)
    }

    /// What a run needs. The link wakes it from now on.
    pub(crate) fn take(&mut self, link: &Link) -> Result<Bound, GatewayError> {
        let open = self.open.take().ok_or(GatewayError::Ended)?;
        let waker = Arc::clone(&open.waker);
        link.on_wake(move || {
            waker.wake().ok();
        });
        Ok(open)
    }

    /// Binds the same address again.
    pub(crate) fn reopen(&mut self) -> Result<(), GatewayError> {
        self.open = None;
        let bound = Bound::new(self.local);
        self.open = Some(bound.map_err(|source| GatewayError::Bind { address: self.address.clone(), source })?);
        Ok(())
    }
}

/// What there is between the binding of an address and the end of a run.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) poll: Poll,
    pub(crate) waker: Arc<Waker>,
    /// Kept alive by the gateway alone, so that the port is free when it ends, whoever still has an outbox.
    pub(crate) socket: Arc<UdpSocket>,
}

impl Bound {
    pub(crate) fn new(address: SocketAddr) -> io::Result<Self> {
        let socket = ip::open(address, IpTransport::Udp)?;
        // The system gives less if it allows no more.
        if socket.recv_buffer_size().is_ok_and(|size| size < SYSTEM_BUFFER) {
            socket.set_recv_buffer_size(SYSTEM_BUFFER).ok();
        }
        if socket.send_buffer_size().is_ok_and(|size| size < SYSTEM_BUFFER) {
            socket.set_send_buffer_size(SYSTEM_BUFFER).ok();
        }
        socket.bind(&address.into())?;
        let mut socket = UdpSocket::from_std(socket.into());
        let poll = Poll::new()?;
        poll.registry().register(&mut socket, SOCKET, Interest::READABLE)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        Ok(Bound { poll, waker, socket: Arc::new(socket) })
    }
}

/// Waits for the socket or the waker, for so long at most. Whether something can be received.
pub(crate) fn wait(poll: &mut Poll, events: &mut Events, timeout: Option<Duration>) -> io::Result<bool> {
    match poll.poll(events, timeout) {
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(false),
        result => result.map(|()| events.iter().any(|event| event.token() == SOCKET)),
    }
}

/// Receives until nothing is left. Only an error that does not go away ends it.
///
/// The buffer has a byte more than the largest datagram, to tell when there was more.
pub(crate) fn receive_all(
    socket: &UdpSocket,
    link: &Link,
    buffer: &mut [u8],
    mut accept: impl FnMut(&[u8], SocketAddr),
) -> io::Result<()> {
    let mut errors = 0;
    while !link.stopping() {
        match socket.recv_from(buffer) {
            Ok((size, from)) => {
                errors = 0;
                match buffer.get(..size).filter(|_| size < buffer.len()) {
                    Some(datagram) => accept(datagram, from),
                    None => link.count(Count::Oversized),
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            // The echo of a datagram that we sent, or a signal: no matter of what comes next.
            Err(error) if errors < MAX_ERRORS => {
                errors += 1;
                link.count(Count::SocketError);
                log::debug!("receiving over UDP: {error}");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Sends a datagram without blocking.
pub(crate) fn send(socket: &UdpSocket, datagram: &[u8], to: SocketAddr) -> Result<(), UnsentReason> {
    loop {
        match socket.send_to(datagram, to) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(UnsentReason::of(&error)),
        }
    }
}
