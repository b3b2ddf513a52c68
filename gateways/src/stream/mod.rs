//! What all gateways over connections share: one thread that serves a listener and all connections.
//!
//! Each connection begins with a hello in both directions, which tells where the sender listens; then come messages,
//! each in a frame. Everybody can claim any address in a hello. So a request leaves only by a connection that this
//! gateway dialled itself, to exactly that address, and never by one that was accepted; an answer leaves by the
//! connection that the request came by. No message leaves before the other side has said hello: a connection may lead
//! to any service, which must not get bytes that a stranger chose.

mod accepting;
mod batch;
mod connection;
mod engine;
mod hello;
mod incoming;
mod pool;

use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, never};
use mio::event::Source;
use mio::{Interest, Poll, Token, Waker};
use multiaddr::Multiaddr;

use crate::codec::SizeLimits;
use crate::gateway::{GatewayError, Outbound, Outbox, Queue};
use crate::link::Link;
use engine::Engine;
pub use incoming::{Arrived, Incoming, Nonsense};

/// How many messages wait for the gateway's thread.
const QUEUE: usize = 1024;

/// How many messages cross to the node at once.
const BATCH: usize = 64;

/// How many messages wait for the node. Until the gateway's thread takes from its queue again, the node may answer all
/// of them and one more batch, and ask each sender something as well: so many have room in the queue.
const ROOM: usize = QUEUE / 2 - BATCH;

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

/// What a gateway over connections holds itself and others to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamConfig {
    /// The most connections at a time: 256 if not set. Beyond it the one that was idle longest is closed.
    pub max_connections: usize,
    /// How long a connection may take until it is there: 5 s if not set.
    pub connect_timeout: Duration,
    /// How long the first bytes of the other side may take: 10 s if not set.
    pub hello_timeout: Duration,
    /// How long the other side may take for a message that it has begun, and for how long it may read nothing while
    /// something waits to be written to it: 10 s if not set. Between messages it may be silent for as long as it likes.
    pub stall_timeout: Duration,
    /// How much memory the other sides of all connections together may make the gateway take for messages whose end has
    /// not come and for answers that they have not read, in bytes: 4 MiB if not set. Beyond it, of the connections that
    /// take more than an even share the one that has stalled longest is closed.
    pub max_buffered_bytes: usize,
}

impl Default for StreamConfig {
    fn default() -> Self {
        StreamConfig {
            max_connections: 256,
            connect_timeout: Duration::from_secs(5),
            hello_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(10),
            max_buffered_bytes: 4 * 1024 * 1024,
        }
    }
}

/// What differs from transport to transport.
pub(crate) trait Transport: Clone + Send + 'static {
    /// Listens while it lives.
    type Listener: Send;
    /// A nonblocking stream.
    type Stream: Source + Read + Write + Send;

    /// Listens on the address that was bound first.
    fn listen(&self) -> io::Result<Self::Listener>;

    /// What tells that a connection can be accepted.
    fn source(listener: &mut Self::Listener) -> &mut dyn Source;

    /// Accepts a connection, and tells the IP of the other side if the transport has such.
    fn accept(listener: &Self::Listener) -> io::Result<(Self::Stream, Option<IpAddr>)>;

    /// Whether it can connect to this address.
    fn dials(&self, address: &Multiaddr) -> bool;

    /// Begins a connection.
    fn connect(&self, address: &Multiaddr) -> io::Result<Self::Stream>;

    /// Whether a connection that was begun is there.
    fn is_connected(stream: &Self::Stream) -> io::Result<bool>;

    /// The address of one who claims to listen on `claimed`, corrected by the IP that was observed; `None` if it
    /// cannot be true.
    fn confirm(claimed: &Multiaddr, observed: Option<IpAddr>) -> Option<Multiaddr>;
}

/// The gateway over connections of `T`.
#[derive(Debug)]
pub(crate) struct StreamGateway<T: Transport> {
    transport: T,
    config: StreamConfig,
    address: Multiaddr,
    /// The number of the next connection: from 1 up, so that no reply path ever means two connections.
    next_number: u64,
    open: Option<Open<T>>,
}

/// What there is between `new` or `reopen` and the end of a run.
pub(crate) struct Open<T: Transport> {
    poll: Poll,
    waker: Arc<Waker>,
    listener: T::Listener,
    outbound: Receiver<Outbound>,
    /// The gateway's thread looks into the queue before it sleeps again.
    awake: Arc<AtomicBool>,
}

impl<T: Transport> std::fmt::Debug for Open<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open").field("queued", &self.outbound.len()).finish_non_exhaustive()
    }
}

impl<T: Transport> Open<T> {
    fn new(mut listener: T::Listener) -> io::Result<Self> {
        let poll = Poll::new()?;
        poll.registry().register(T::source(&mut listener), LISTENER, Interest::READABLE)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        Ok(Open { poll, waker, listener, outbound: never(), awake: Arc::default() })
    }
}

impl<T: Transport> StreamGateway<T> {
    /// The gateway of a listener on `address`.
    pub(crate) fn new(
        transport: T,
        listener: T::Listener,
        address: Multiaddr,
        config: StreamConfig,
    ) -> Result<Self, GatewayError> {
        let open = match Open::new(listener) {
            Ok(open) => Some(open),
            Err(source) => return Err(GatewayError::Bind { address, source }),
        };
        Ok(StreamGateway { transport, config, address, next_number: 1, open })
    }

    pub(crate) fn address(&self) -> &Multiaddr {
        &self.address
    }

    pub(crate) fn outbox(&mut self) -> Result<Box<dyn Outbox>, GatewayError> {
        let open = self.open.as_mut().ok_or(GatewayError::Ended)?;
        let transport = self.transport.clone();
        let (queue, outbound) = Queue::new(QUEUE, SizeLimits::STREAM, move |address| transport.dials(address));
        open.outbound = outbound;
        let (awake, waker) = (Arc::clone(&open.awake), Arc::clone(&open.waker));
        Ok(Box::new(queue.with_wake(move || {
            // One system call at most for all messages that are queued before the thread looks.
            if !awake.swap(true, Ordering::SeqCst) {
                waker.wake().ok();
            }
        })))
    }

    pub(crate) fn run(&mut self, link: &Link) -> Result<(), GatewayError> {
        let open = self.open.take().ok_or(GatewayError::Ended)?;
        let waker = Arc::clone(&open.waker);
        link.on_wake(move || {
            waker.wake().ok();
        });
        Ok(Engine::new(open, &self.transport, link, &self.config, &self.address, &mut self.next_number)?.run()?)
    }

    pub(crate) fn reopen(&mut self) -> Result<(), GatewayError> {
        self.open = None;
        let open = self.transport.listen().and_then(Open::new);
        self.open = Some(open.map_err(|source| GatewayError::Bind { address: self.address.clone(), source })?);
        Ok(())
    }
}
