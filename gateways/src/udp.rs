//! [`UdpGateway`]: a message is a datagram, or several if it is large.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Instant;

use mio::Events;
use mio::net::UdpSocket;
use multiaddr::Multiaddr;

use crate::address::{self, IpTransport};
use crate::codec::{self, DecodeError, SizeLimits};
use crate::count::Count;
use crate::gateway::{Gateway, GatewayError, Inbound, Outbound, Outbox, Unsent, UnsentReason};
use crate::ip;
use crate::link::Link;
use crate::message::Envelope;
use crate::parts::{self, Assembler};
use crate::socket::{self, Bound, Endpoint};

/// How many messages cross to the node at once.
const BATCH: usize = 64;

/// With so many bytes they cross in any case.
const BATCH_BYTES: usize = 128 * 1024;

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
pub struct UdpGateway(Endpoint);

impl UdpGateway {
    /// Binds the address; port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Address`] if it is not an address of UDP, [`GatewayError::Bind`] with the cause if it cannot
    /// be bound.
    pub fn bind(address: Multiaddr) -> Result<Self, GatewayError> {
        Endpoint::bind("UdpGateway", address).map(UdpGateway)
    }

    /// The address that was bound, with its real port.
    pub fn address(&self) -> &Multiaddr {
        self.0.address()
    }
}

impl Gateway for UdpGateway {
    fn name(&self) -> String {
        "udp".to_owned()
    }

    fn addresses(&self) -> Vec<Multiaddr> {
        vec![self.address().clone()]
    }

    fn outbox(&mut self) -> Result<Box<dyn Outbox>, GatewayError> {
        Ok(Box::new(UdpOutbox {
            socket: Arc::downgrade(&self.0.open()?.socket),
            own: self.0.ip(),
            buffer: Vec::new(),
            random: RandomState::new(),
            numbered: 0,
        }))
    }

    fn run(&mut self, link: &Link) -> Result<(), GatewayError> {
        let Bound { mut poll, socket, .. } = self.0.take(link)?;
        let mut receiver = Receiver { link, assembler: Assembler::default(), batch: Vec::new(), batch_bytes: 0 };
        let mut buffer = [0; RECEIVE_BYTES];
        let mut events = Events::with_capacity(4);
        while !link.stopping() {
            if socket::wait(&mut poll, &mut events, None)? {
                socket::receive_all(&socket, link, &mut buffer, |datagram, from| receiver.accept(datagram, from))?;
                receiver.deliver();
            }
        }
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), GatewayError> {
        self.0.reopen()
    }

    fn lends_thread(&self) -> bool {
        true
    }
}

/// One byte more than the largest datagram, to tell when there was more.
const RECEIVE_BYTES: usize = parts::UNSPLIT_BYTES + 1;

struct Receiver<'a> {
    link: &'a Link,
    assembler: Assembler,
    batch: Vec<Inbound>,
    batch_bytes: usize,
}

impl Receiver<'_> {
    fn accept(&mut self, datagram: &[u8], from: SocketAddr) {
        self.read(datagram, from);
        (0..self.assembler.take_unfinished()).for_each(|_| self.link.count(Count::Unfinished));
    }

    fn read(&mut self, datagram: &[u8], from: SocketAddr) {
        if !parts::is_part(datagram) {
            if !self.assembler.is_empty() {
                self.assembler.expire(Instant::now());
            }
            return self.take(from, datagram.len(), codec::decode(datagram));
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
        parts::send(number, &mut self.buffer, |datagram| socket::send(&socket, datagram, to))
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
