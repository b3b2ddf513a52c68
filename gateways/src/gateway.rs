//! The [`Gateway`] trait: what carries messages over one transport.

use std::fmt;
use std::io;

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use multiaddr::Multiaddr;

use crate::codec::{self, EncodeError, MAX_MESSAGE_BYTES, SizeLimits};
use crate::link::Link;
use crate::message::Envelope;

/// A transport: translates between the messages of the DHT and the wire.
///
/// A service runs each gateway on a thread of its own, from [`run`](Gateway::run) to its return. What the node sends
/// goes through the [`Outbox`], which the node holds and calls. A gateway needs nothing but this crate;
/// the built-in ones use nothing that another cannot.
///
/// The shortest gateway waits on two channels: [`Queue`]'s receiver for what is to be sent, and
/// [`Link::stop_signal`]. One that waits in a system call (`poll`, `recv`) gives the link a way to wake it with
/// [`Link::on_wake`] instead.
///
/// ```
/// use crossbeam::channel::{select, Receiver};
/// use kademlia_gateways::{
///     Gateway, GatewayError, Inbound, Link, Multiaddr, Outbound, Outbox, Queue, SizeLimits,
/// };
///
/// /// Sends everything back to where it comes from.
/// struct Echo {
///     outbox: Option<Queue>,
///     outbound: Receiver<Outbound>,
/// }
///
/// impl Gateway for Echo {
///     fn name(&self) -> String {
///         "echo".to_owned()
///     }
///     fn addresses(&self) -> Vec<Multiaddr> {
///         vec!["/memory/1".parse().unwrap()]
///     }
///     fn outbox(&mut self) -> Result<Box<dyn Outbox>, GatewayError> {
///         self.outbox.take().map(|outbox| Box::new(outbox) as _).ok_or(GatewayError::NotReopenable)
///     }
///     fn run(&mut self, link: &Link) -> Result<(), GatewayError> {
///         loop {
///             select! {
///                 recv(link.stop_signal()) -> _ => return Ok(()),
///                 recv(self.outbound) -> outbound => {
///                     let Ok(outbound) = outbound else { return Ok(()) };
///                     link.deliver_or_drop(vec![Inbound::new(outbound.to, outbound.envelope)]);
///                 }
///             }
///         }
///     }
/// }
///
/// let (outbox, outbound) = Queue::new(1024, SizeLimits::STREAM, |_address| true);
/// let _gateway = Echo { outbox: Some(outbox), outbound };
/// ```
pub trait Gateway: Send + 'static {
    /// A short name for logs, events and status, such as `udp`.
    fn name(&self) -> String;

    /// The addresses at which others reach this node through the gateway, with the port that was really bound.
    ///
    /// An unspecified IP (`0.0.0.0`, `::`) stands for whatever IP the others see.
    fn addresses(&self) -> Vec<Multiaddr>;

    /// The sending half. Asked for once before the gateway runs, and again after each [`reopen`](Gateway::reopen).
    ///
    /// # Errors
    ///
    /// When there is none to give; the gateway is then not started.
    fn outbox(&mut self) -> Result<Box<dyn Outbox>, GatewayError>;

    /// Receives until the link stops, on the gateway's own thread.
    ///
    /// # Errors
    ///
    /// When the transport fails for good. The service then says so in an event and tries [`reopen`](Gateway::reopen),
    /// as it does after a panic. `Ok` means that the gateway has ended and is not started again.
    fn run(&mut self, link: &Link) -> Result<(), GatewayError>;

    /// Makes the gateway ready to run again after a failure, on the same addresses.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotReopenable`] if it cannot, which ends it; any other error is tried again later.
    fn reopen(&mut self) -> Result<(), GatewayError> {
        Err(GatewayError::NotReopenable)
    }

    /// Whether the node may work on the gateway's thread while [`Link::deliver`] lasts, where it would wake a thread of
    /// its own otherwise. It saves as much time as all else that is done with a message.
    ///
    /// Then outboxes, this gateway's own among them, and what [`Link::on_wake`] was given are called from within
    /// [`Link::deliver`] and [`Link::unsent`]. So who calls these, on whatever thread, must hold nothing that its outbox
    /// or its waker waits for; and an outbox must not call them itself.
    ///
    /// What `run` takes from a queue of its own waits there meanwhile: so it should hand over no more messages at once than
    /// the queue has room for their answers. `false` unless a gateway says otherwise.
    fn lends_thread(&self) -> bool {
        false
    }
}

impl<G: Gateway + ?Sized> Gateway for Box<G> {
    fn name(&self) -> String {
        (**self).name()
    }

    fn addresses(&self) -> Vec<Multiaddr> {
        (**self).addresses()
    }

    fn outbox(&mut self) -> Result<Box<dyn Outbox>, GatewayError> {
        (**self).outbox()
    }

    fn run(&mut self, link: &Link) -> Result<(), GatewayError> {
        (**self).run(link)
    }

    fn reopen(&mut self) -> Result<(), GatewayError> {
        (**self).reopen()
    }

    fn lends_thread(&self) -> bool {
        (**self).lends_thread()
    }
}

/// The sending half of a gateway. The node calls it, from one thread at a time and from any, so it never blocks.
pub trait Outbox: Send {
    /// Whether the gateway can send to this address (which is never a circuit).
    fn dials(&self, address: &Multiaddr) -> bool;

    /// How large the gateway's messages can be.
    fn limits(&self) -> SizeLimits;

    /// Sends a message or queues it. One that was queued and cannot be sent after all is told by [`Link::unsent`].
    ///
    /// # Errors
    ///
    /// When it was certainly not sent; it is handed back with the reason.
    fn send(&mut self, outbound: Outbound) -> Result<(), Unsent>;
}

/// A message to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Outbound {
    /// Where to: a direct address of the gateway's transport.
    pub to: Multiaddr,
    /// For an answer: how what it answers came in. An answer leaves by that connection if it is still there.
    pub path: Option<ReplyPath>,
    /// The most bytes that it may have, whatever the transport can carry; `None` if that is all. An answer to an
    /// address that is not proved is not much larger than the request, so that nobody can have others flooded.
    pub at_most: Option<usize>,
    /// What to send.
    pub envelope: Envelope,
}

impl Outbound {
    /// A message that answers nothing, as large as the transport can carry.
    pub fn new(to: Multiaddr, envelope: Envelope) -> Self {
        Outbound { to, path: None, at_most: None, envelope }
    }

    /// How large it may be on a transport with these limits. A gateway gives this to
    /// [`encode_fitting`](crate::codec::encode_fitting).
    pub fn limits(&self, transport: SizeLimits) -> SizeLimits {
        let least = |limit: usize| self.at_most.map_or(limit, |most| most.min(limit));
        SizeLimits { preferred: least(transport.preferred), largest: least(transport.largest) }
    }
}

/// A message that came in.
#[derive(Debug, Clone, PartialEq)]
pub struct Inbound {
    /// The direct address it came from, such that a request to it would reach the sender.
    pub from: Multiaddr,
    /// How an answer gets back.
    pub path: ReplyPath,
    /// Whether the sender is known to be at that address: a connection shows it, the source address of a datagram does
    /// not, as anyone can write it there.
    pub proved: bool,
    /// How many bytes it had. An answer to an address that is not proved has at most three times as many. A circuit is
    /// dropped unless it has as many as in the native encoding, filled up.
    pub bytes: usize,
    /// What came.
    pub envelope: Envelope,
}

impl Inbound {
    /// A message that came by datagram: answers go to its address, which is not proved. It counts as many bytes as it
    /// has in the native encoding.
    pub fn new(from: Multiaddr, envelope: Envelope) -> Self {
        let bytes = codec::encoded_size(&envelope).unwrap_or_default();
        Inbound::datagram(from, bytes, envelope)
    }

    /// A message that came by a datagram of so many bytes: answers go to its address, which is not proved.
    pub fn datagram(from: Multiaddr, bytes: usize, envelope: Envelope) -> Self {
        Inbound { from, path: ReplyPath::default(), proved: false, bytes, envelope }
    }

    /// A message of so many bytes that came by a connection, which proves the address.
    pub fn connected(from: Multiaddr, path: ReplyPath, bytes: usize, envelope: Envelope) -> Self {
        Inbound { from, path, proved: true, bytes, envelope }
    }
}

/// Within one gateway, names the connection that a message came by. Datagram gateways leave it 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ReplyPath(pub u64);

/// A message that was not sent, and why.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("the message to {} was not sent: {reason}", .outbound.to)]
pub struct Unsent {
    /// What was not sent.
    pub outbound: Box<Outbound>,
    /// Why.
    pub reason: UnsentReason,
}

impl Unsent {
    /// Hands `outbound` back.
    pub fn new(outbound: Outbound, reason: UnsentReason) -> Self {
        Unsent { outbound: Box::new(outbound), reason }
    }
}

/// Why a message was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum UnsentReason {
    /// No gateway can dial the address.
    #[error("no gateway dials this address")]
    NotDialable,
    /// The queue to the gateway, or the kernel's, is full.
    #[error("the outbound queue is full")]
    QueueFull,
    /// It is larger than the gateway can send.
    #[error("the message has more than the {limit} bytes that fit")]
    TooLarge {
        /// The most bytes that fit.
        limit: u32,
    },
    /// Nobody listens there: the connection was refused or reset, or the host cannot be reached.
    #[error("the address does not answer")]
    Unreachable,
    /// This host has no network that leads there, for now at least. That says nothing about the other end.
    #[error("this host has no network that leads there")]
    NoNetwork,
    /// The gateway has ended.
    #[error("the gateway has ended")]
    Closed,
    /// The gateway speaks the protocol of another program, which has no form for this message: sent in another form it
    /// would mean something else.
    #[error("the protocol of the gateway has no form for this message")]
    Inexpressible,
}

impl UnsentReason {
    /// Why a message was not sent on which a socket failed with this error: a lack of this host is
    /// [`QueueFull`](UnsentReason::QueueFull) or [`NoNetwork`](UnsentReason::NoNetwork), all else a matter of the other end or of the way to it.
    pub fn of(error: &io::Error) -> Self {
        // ENFILE, EMFILE, and ENOBUFS of the BSDs and of Linux, for which the standard library has no names.
        let lacking = cfg!(unix) && matches!(error.raw_os_error(), Some(23 | 24 | 55 | 105));
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory | io::ErrorKind::AddrNotAvailable => {
                UnsentReason::QueueFull
            }
            _ if lacking => UnsentReason::QueueFull,
            io::ErrorKind::NetworkDown | io::ErrorKind::NetworkUnreachable => UnsentReason::NoNetwork,
            _ => UnsentReason::Unreachable,
        }
    }
}

impl From<EncodeError> for UnsentReason {
    fn from(error: EncodeError) -> Self {
        let limit = match error {
            EncodeError::TooLarge { limit, .. } => limit,
            EncodeError::Encoder(_) => MAX_MESSAGE_BYTES,
        };
        UnsentReason::TooLarge { limit: u32::try_from(limit).unwrap_or(u32::MAX) }
    }
}

/// An [`Outbox`] that queues for the gateway's thread.
pub struct Queue {
    queue: Sender<Outbound>,
    limits: SizeLimits,
    dials: Box<dyn Fn(&Multiaddr) -> bool + Send>,
    wake: Option<Box<dyn Fn() + Send>>,
}

impl Queue {
    /// A queue of at most `capacity` messages, and the receiver that the gateway takes them from.
    ///
    /// `dials` tells which addresses the gateway can send to.
    pub fn new(
        capacity: usize,
        limits: SizeLimits,
        dials: impl Fn(&Multiaddr) -> bool + Send + 'static,
    ) -> (Self, Receiver<Outbound>) {
        let (queue, outbound) = bounded(capacity);
        (Queue { queue, limits, dials: Box::new(dials), wake: None }, outbound)
    }

    /// Calls `wake` after each message that was queued, for a gateway that does not wait on the receiver.
    #[must_use]
    pub fn with_wake(mut self, wake: impl Fn() + Send + 'static) -> Self {
        self.wake = Some(Box::new(wake));
        self
    }
}

impl Outbox for Queue {
    fn dials(&self, address: &Multiaddr) -> bool {
        (self.dials)(address)
    }

    fn limits(&self) -> SizeLimits {
        self.limits
    }

    fn send(&mut self, outbound: Outbound) -> Result<(), Unsent> {
        match self.queue.try_send(outbound) {
            Ok(()) => {
                if let Some(wake) = &self.wake {
                    wake();
                }
                Ok(())
            }
            Err(TrySendError::Full(outbound)) => Err(Unsent::new(outbound, UnsentReason::QueueFull)),
            Err(TrySendError::Disconnected(outbound)) => Err(Unsent::new(outbound, UnsentReason::Closed)),
        }
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("queued", &self.queue.len()).field("limits", &self.limits).finish()
    }
}

/// What can go wrong with a gateway as a whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// The address is not of the form that the gateway binds.
    #[error("{gateway} cannot listen on {address}: expected an address like {expected}")]
    Address {
        /// The gateway's type.
        gateway: &'static str,
        /// The address that was given.
        address: Multiaddr,
        /// What one looks like.
        expected: &'static str,
    },
    /// The address could not be bound.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address that was given.
        address: Multiaddr,
        /// The cause.
        source: io::Error,
    },
    /// The transport failed while the gateway ran.
    #[error("the transport failed: {0}")]
    Io(#[from] io::Error),
    /// Any other failure, in the gateway's own words.
    #[error("{0}")]
    Failed(String),
    /// The gateway ran and has not been reopened since.
    #[error("the gateway has ended and was not reopened")]
    Ended,
    /// The gateway cannot be started a second time.
    #[error("the gateway cannot be reopened")]
    NotReopenable,
}
