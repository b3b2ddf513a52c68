//! [`UdpGateway`]: a message is a datagram, or several if it is large.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Instant;

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token, Waker};
use multiaddr::Multiaddr;

use crate::address::{self, IpTransport};
use crate::codec::{self, DecodeError, SizeLimits};
use crate::count::Count;
use crate::gateway::{Gateway, GatewayError, Inbound, Outbound, Outbox, Unsent, UnsentReason};
use crate::ip;
use crate::link::Link;
use crate::message::Envelope;
use crate::parts::{self, Assembler};

const SOCKET: Token = Token(0);
const WAKER: Token = Token(1);

/// What the system should keep for the socket each way, in bytes of datagrams and of what it adds to them. What is usual on
/// Linux, 208 KiB, has room for 92 parts, and two of the largest messages have more.
const SYSTEM_BUFFER: usize = 1024 * 1024;

/// How many messages cross to the node at once.
const BATCH: usize = 64;

/// With so many bytes they cross in any case.
const BATCH_BYTES: usize = 128 * 1024;

/// After so many errors in a row the socket itself is at fault, not what came by it.
const MAX_ERRORS: usize = 256;

/// Carries messages over UDP: `/ip4/…/udp/…` or `/ip6/…/udp/…`.
///
/// A message of up to 1,452 bytes is a datagram. A larger one, up to [`MAX_MESSAGE_BYTES`](codec::MAX_MESSAGE_BYTES), goes in
/// parts of at most 1,200 bytes each; where one of them is lost, the message is. What has come of a message is dropped when no
/// further part comes for two seconds, and all that has takes at most 4 MiB, of one host 512 KiB.
///
/// What is sent leaves from the caller's thread without ever blocking. A gateway for IPv6 leaves IPv4 alone, so that
/// one of each can have the same port. One that is bound to a loopback address dials only such.
///
/// ```
/// use kademlia_gateways::{Gateway, UdpGateway};
/// let gateway = UdpGateway::bind("/ip4/127.0.0.1/udp/0".parse().unwrap()).unwrap();
/// assert_ne!(gateway.address().to_string(), "/ip4/127.0.0.1/udp/0", "the port that was really bound");
/// assert_eq!(gateway.addresses(), [gateway.address().clone()]);
/// ```
#[derive(Debug)]
pub struct UdpGateway {
    address: Multiaddr,
    local: SocketAddr,
    open: Option<Open>,
}

/// What there is between `bind` or `reopen` and the end of a run.
#[derive(Debug)]
struct Open {
    poll: Poll,
    waker: Arc<Waker>,
    /// Kept alive by the gateway alone, so that the port is free when it ends, whoever still has an outbox.
    socket: Arc<UdpSocket>,
}

impl UdpGateway {
    /// Binds the address; port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Address`] if it is not an address of UDP, [`GatewayError::Bind`] with the cause if it cannot
    /// be bound.
    #[allow(clippy::needless_pass_by_value, reason = "reads as the handing over that it is for every gateway")]
    pub fn bind(address: Multiaddr) -> Result<Self, GatewayError> {
        let wanted = ip::bindable(&address, IpTransport::Udp)?;
        let bound = Open::bind(wanted).and_then(|open| Ok((open.socket.local_addr()?, open)));
        let (local, open) = bound.map_err(|source| GatewayError::Bind { address, source })?;
        Ok(UdpGateway { address: address::ip_address(local, IpTransport::Udp), local, open: Some(open) })
    }

    /// The address that was bound, with its real port.
    pub fn address(&self) -> &Multiaddr {
        &self.address
    }
}

impl Open {
    fn bind(address: SocketAddr) -> io::Result<Self> {
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
        Ok(Open { poll, waker, socket: Arc::new(socket) })
    }
}

impl Gateway for UdpGateway {
    fn name(&self) -> String {
        "udp".to_owned()
    }

    fn addresses(&self) -> Vec<Multiaddr> {
        vec![self.address.clone()]
    }

    fn outbox(&mut self) -> Result<Box<dyn Outbox>, GatewayError> {
        let open = self.open.as_ref().ok_or(GatewayError::Ended)?;
        Ok(Box::new(UdpOutbox {
            socket: Arc::downgrade(&open.socket),
            own: self.local.ip(),
            buffer: Vec::new(),
            random: RandomState::new(),
            numbered: 0,
        }))
    }

    fn run(&mut self, link: &Link) -> Result<(), GatewayError> {
        let Open { mut poll, waker, socket } = self.open.take().ok_or(GatewayError::Ended)?;
        link.on_wake(move || {
            waker.wake().ok();
        });
        let mut receiver = Receiver {
            socket: &socket,
            link,
            buffer: [0; RECEIVE_BYTES],
            assembler: Assembler::default(),
            batch: Vec::new(),
            batch_bytes: 0,
        };
        let mut events = Events::with_capacity(4);
        while !link.stopping() {
            match poll.poll(&mut events, None) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result?,
            }
            if events.iter().any(|event| event.token() == SOCKET) {
                receiver.receive_all()?;
            }
        }
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), GatewayError> {
        self.open = None;
        let bound = Open::bind(self.local);
        self.open = Some(bound.map_err(|source| GatewayError::Bind { address: self.address.clone(), source })?);
        Ok(())
    }

    fn lends_thread(&self) -> bool {
        true
    }
}

/// One byte more than the largest datagram, to tell when there was more.
const RECEIVE_BYTES: usize = parts::UNSPLIT_BYTES + 1;

struct Receiver<'a> {
    socket: &'a UdpSocket,
    link: &'a Link,
    buffer: [u8; RECEIVE_BYTES],
    assembler: Assembler,
    batch: Vec<Inbound>,
    batch_bytes: usize,
}

impl Receiver<'_> {
    /// Receives until nothing is left. Only an error that does not go away ends it.
    fn receive_all(&mut self) -> io::Result<()> {
        let mut errors = 0;
        while !self.link.stopping() {
            match self.socket.recv_from(&mut self.buffer) {
                Ok((size, from)) => {
                    errors = 0;
                    self.accept(size, from);
                    (0..self.assembler.take_unfinished()).for_each(|_| self.link.count(Count::Unfinished));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // The echo of a datagram that we sent, or a signal: no matter of what comes next.
                Err(error) if errors < MAX_ERRORS => {
                    errors += 1;
                    self.link.count(Count::SocketError);
                    log::debug!("receiving over UDP: {error}");
                }
                Err(error) => return Err(error),
            }
        }
        self.deliver();
        Ok(())
    }

    fn accept(&mut self, size: usize, from: SocketAddr) {
        let Some(datagram) = self.buffer.get(..size).filter(|_| size < RECEIVE_BYTES) else {
            return self.link.count(Count::Oversized);
        };
        if !parts::is_part(datagram) {
            if !self.assembler.is_empty() {
                self.assembler.expire(Instant::now());
            }
            let read = codec::decode(datagram);
            return self.take(from, size, read);
        }
        match self.assembler.accept(Instant::now(), from, datagram) {
            Ok(Some(whole)) => self.take(from, whole.bytes, codec::decode(&whole.message)),
            Ok(None) => {}
            Err(error) => {
                log::trace!("from {from}: {error}");
                self.link.count(Count::from(&error));
            }
        }
    }

    fn take(&mut self, from: SocketAddr, bytes: usize, read: Result<Envelope, DecodeError>) {
        match read {
            Ok(envelope) => {
                self.batch.push(Inbound::datagram(address::ip_address(from, IpTransport::Udp), bytes, envelope));
                self.batch_bytes += bytes;
            }
            Err(error) => {
                log::trace!("from {from}: {error}");
                self.link.count(Count::from(&error));
            }
        }
        if self.batch.len() >= BATCH || self.batch_bytes >= BATCH_BYTES {
            self.deliver();
        }
    }

    fn deliver(&mut self) {
        self.batch_bytes = 0;
        self.link.deliver_or_drop(std::mem::take(&mut self.batch));
    }
}

/// Sends straight on the socket.
struct UdpOutbox {
    socket: Weak<UdpSocket>,
    own: IpAddr,
    buffer: Vec<u8>,
    random: RandomState,
    /// How many messages have got a number.
    numbered: u64,
}

impl UdpOutbox {
    /// A number that no other message has, and that nobody can guess who would add parts to it.
    fn next_number(&mut self) -> u64 {
        self.numbered += 1;
        self.random.hash_one(self.numbered)
    }

    fn try_send(&mut self, outbound: &mut Outbound) -> Result<(), UnsentReason> {
        let to = ip::dialled(self.own, IpTransport::Udp, &outbound.to).ok_or(UnsentReason::NotDialable)?;
        let socket = self.socket.upgrade().ok_or(UnsentReason::Closed)?;
        let mut limits = outbound.limits(SizeLimits::PARTS);
        // The headers of parts count as well.
        limits.largest = outbound.at_most.map_or(limits.largest, parts::largest_within);
        self.buffer.clear();
        self.buffer.extend([0; parts::HEADER_BYTES]);
        codec::encode_fitting(&mut outbound.envelope, limits, &mut self.buffer)?;
        let number = self.next_number();
        parts::send(number, &mut self.buffer, |datagram| {
            loop {
                match socket.send_to(datagram, to) {
                    Ok(_) => return Ok(()),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(UnsentReason::of(&error)),
                }
            }
        })
    }
}

impl Outbox for UdpOutbox {
    fn dials(&self, address: &Multiaddr) -> bool {
        ip::dialled(self.own, IpTransport::Udp, address).is_some()
    }

    fn limits(&self) -> SizeLimits {
        SizeLimits::PARTS
    }

    fn send(&mut self, mut outbound: Outbound) -> Result<(), Unsent> {
        self.try_send(&mut outbound).map_err(|reason| Unsent::new(outbound, reason))
    }
}
