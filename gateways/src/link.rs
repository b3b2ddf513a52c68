//! The [`Link`]: a gateway's end of the channel to the node that it serves.

use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam::channel::{Receiver, Sender, bounded};

use crate::gateway::{Inbound, UnsentReason};
use crate::message::Tag;

/// How many messages of one gateway can wait for the node.
pub const MAX_PENDING: usize = 4096;

/// What a gateway sends to the node.
#[derive(Debug)]
pub enum FromGateway {
    /// Messages that came in.
    Delivery(Delivery),
    /// A message that had been queued could not be sent.
    Unsent {
        /// The gateway.
        gateway: u64,
        /// The tag of the message.
        tag: Tag,
        /// Why it was not sent.
        reason: UnsentReason,
    },
}

/// A batch of messages that came in. Dropping it makes room for as many more.
#[derive(Debug)]
pub struct Delivery {
    gateway: u64,
    messages: Vec<Inbound>,
    /// Held for its drop.
    _credit: Credit,
}

impl Delivery {
    /// The gateway that they came by.
    pub fn gateway(&self) -> u64 {
        self.gateway
    }

    /// Takes the messages out.
    pub fn take(&mut self) -> Vec<Inbound> {
        std::mem::take(&mut self.messages)
    }
}

/// What is counted at a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// Messages handed to the node.
    Received,
    /// What came in but is no message: wrong version, malformed, trailing bytes.
    Malformed,
    /// What came in and is larger than any message.
    Oversized,
    /// Messages dropped because the node did not keep up.
    QueueFull,
    /// Connections closed: their number reached its limit, or the other side was too slow with its first bytes.
    ConnectionsClosed,
    /// Messages that were queued and could not be sent.
    Unsent,
}

/// A snapshot of what a link has counted since the gateway was registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkCounts {
    /// See [`Count::Received`].
    pub received: u64,
    /// See [`Count::Malformed`].
    pub malformed: u64,
    /// See [`Count::Oversized`].
    pub oversized: u64,
    /// See [`Count::QueueFull`].
    pub queue_full: u64,
    /// See [`Count::ConnectionsClosed`].
    pub connections_closed: u64,
    /// See [`Count::Unsent`].
    pub unsent: u64,
}

type Waker = Box<dyn Fn() + Send + Sync>;

struct Shared {
    pending: AtomicUsize,
    /// A delivery was handed back: wake the gateway when there is room again.
    starved: AtomicBool,
    stopping: AtomicBool,
    waker: Mutex<Option<Waker>>,
    counts: Arc<[AtomicU64; 6]>,
    /// Whether the counts are those of an outer link, which counts what passes through both.
    nested: bool,
}

impl Shared {
    fn wake(&self) {
        if let Some(waker) = &*self.waker.lock().unwrap_or_else(PoisonError::into_inner) {
            waker();
        }
    }

    fn new(counts: Arc<[AtomicU64; 6]>, nested: bool) -> Arc<Self> {
        Arc::new(Shared {
            pending: AtomicUsize::new(0),
            starved: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            waker: Mutex::new(None),
            counts,
            nested,
        })
    }

    fn count(&self, what: Count, amount: usize) {
        if self.nested && matches!(what, Count::Received | Count::Unsent) {
            return;
        }
        if let Some(counter) = self.counts.get(what as usize) {
            counter.fetch_add(amount as u64, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("pending", &self.pending)
            .field("stopping", &self.stopping)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Credit {
    shared: Arc<Shared>,
    messages: usize,
}

impl Drop for Credit {
    fn drop(&mut self) {
        // Sequentially consistent, as in `Link::deliver`: one of the two sides must see what the other wrote.
        let before = self.shared.pending.fetch_sub(self.messages, Ordering::SeqCst);
        let after = before.saturating_sub(self.messages);
        if after <= MAX_PENDING / 2 && self.shared.starved.swap(false, Ordering::SeqCst) {
            self.shared.wake();
        }
    }
}

/// A gateway's end of the channel to its node: hands over what comes in, and tells when to stop.
#[derive(Debug)]
pub struct Link {
    gateway: u64,
    to_node: Sender<FromGateway>,
    stop: Receiver<Infallible>,
    shared: Arc<Shared>,
}

/// The node's end of a [`Link`].
#[derive(Debug)]
pub struct LinkHost {
    stop: Option<Sender<Infallible>>,
    shared: Arc<Shared>,
}

impl Link {
    /// A link for the gateway numbered `gateway`, which sends to `to_node`, and its other end.
    ///
    /// Services make these, and the tests of gateways.
    pub fn new(gateway: u64, to_node: Sender<FromGateway>) -> (Link, LinkHost) {
        Link::with_shared(gateway, to_node, Shared::new(Arc::default(), false))
    }

    /// A link for a gateway inside the one that has this link, and its other end.
    ///
    /// What the inner gateway counts is counted here, except for what it hands over ([`Count::Received`],
    /// [`Count::Unsent`]), which this link counts when it is passed on.
    pub fn nested(&self, to_outer: Sender<FromGateway>) -> (Link, LinkHost) {
        Link::with_shared(self.gateway, to_outer, Shared::new(Arc::clone(&self.shared.counts), true))
    }

    fn with_shared(gateway: u64, to_node: Sender<FromGateway>, shared: Arc<Shared>) -> (Link, LinkHost) {
        let (stop_sender, stop) = bounded(0);
        let host = LinkHost { stop: Some(stop_sender), shared: Arc::clone(&shared) };
        (Link { gateway, to_node, stop, shared }, host)
    }

    /// Hands messages to the node, all or none.
    ///
    /// # Errors
    ///
    /// When [`MAX_PENDING`] messages wait already, the messages come back. A stream gateway then stops reading; the
    /// waker of [`Link::on_wake`] is called when there is room again. Also when the node has gone.
    pub fn deliver(&self, messages: Vec<Inbound>) -> Result<(), Vec<Inbound>> {
        let amount = messages.len();
        if amount == 0 {
            return Ok(());
        }
        if !self.reserve(amount) {
            // Room may have come between the refusal and the mark, when nobody would see the mark any more.
            self.shared.starved.store(true, Ordering::SeqCst);
            if !self.reserve(amount) {
                return Err(messages);
            }
        }
        let credit = Credit { shared: Arc::clone(&self.shared), messages: amount };
        // Before they can be seen. Where the node has gone, nobody looks at the count any more.
        self.shared.count(Count::Received, amount);
        let delivery = FromGateway::Delivery(Delivery { gateway: self.gateway, messages, _credit: credit });
        match self.to_node.send(delivery) {
            Err(crossbeam::channel::SendError(FromGateway::Delivery(mut delivery))) => Err(delivery.take()),
            _ => Ok(()),
        }
    }

    /// Hands messages to the node; where there is no room they are dropped and counted, as datagrams may be.
    pub fn deliver_or_drop(&self, messages: Vec<Inbound>) {
        if let Err(dropped) = self.deliver(messages) {
            self.shared.count(Count::QueueFull, dropped.len());
        }
    }

    fn reserve(&self, amount: usize) -> bool {
        // A batch larger than the bound passes when nothing waits.
        self.shared
            .pending
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |pending| {
                (pending == 0 || pending + amount <= MAX_PENDING).then_some(pending + amount)
            })
            .is_ok()
    }

    /// Tells the node that a queued message could not be sent, so that it need not wait for an answer.
    pub fn unsent(&self, tag: Tag, reason: UnsentReason) {
        self.shared.count(Count::Unsent, 1);
        // The node has gone when this fails, and with it the interest in the message.
        self.to_node.send(FromGateway::Unsent { gateway: self.gateway, tag, reason }).ok();
    }

    /// Counts something that was dropped or closed.
    pub fn count(&self, what: Count) {
        self.shared.count(what, 1);
    }

    /// Sets what wakes the gateway, from any thread, when it must stop or can deliver again.
    ///
    /// Called at once if the link is stopping already.
    pub fn on_wake(&self, waker: impl Fn() + Send + Sync + 'static) {
        *self.shared.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(waker));
        if self.stopping() {
            self.shared.wake();
        }
    }

    /// Whether the gateway must return from its run.
    pub fn stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::Acquire)
    }

    /// A channel on which nothing ever comes and that is disconnected when the gateway must stop.
    pub fn stop_signal(&self) -> &Receiver<Infallible> {
        &self.stop
    }
}

impl LinkHost {
    /// Tells the gateway to return from its run.
    pub fn stop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.stop = None;
        self.shared.wake();
    }

    /// What the link has counted.
    pub fn counts(&self) -> LinkCounts {
        let read = |what: Count| self.shared.counts.get(what as usize).map_or(0, |count| count.load(Ordering::Relaxed));
        LinkCounts {
            received: read(Count::Received),
            malformed: read(Count::Malformed),
            oversized: read(Count::Oversized),
            queue_full: read(Count::QueueFull),
            connections_closed: read(Count::ConnectionsClosed),
            unsent: read(Count::Unsent),
        }
    }
}

impl Drop for LinkHost {
    fn drop(&mut self) {
        self.stop();
    }
}
