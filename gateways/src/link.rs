//! The [`Link`]: a gateway's end of the channel to the node that it serves.

use std::convert::Infallible;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam::channel::{Receiver, SendError, Sender, bounded};

use crate::count::{Count, LinkCounts, Tally};
use crate::gateway::{Inbound, UnsentReason};
use crate::message::Tag;

/// How many messages of one gateway can wait for the node, unless it says otherwise with [`Link::set_room`].
pub const MAX_PENDING: usize = 4096;

/// How many bytes of messages of one gateway can wait for the node.
pub const MAX_PENDING_BYTES: usize = 4 * 1024 * 1024;

/// What a gateway sends to the node.
#[derive(Debug)]
pub enum FromGateway {
    /// Messages that came in.
    Delivery(Delivery),
    /// A request of the node that had been queued could not be sent.
    Unsent {
        /// The gateway.
        gateway: u64,
        /// The tag of the request.
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

type Waker = Box<dyn Fn() + Send + Sync>;

struct Shared {
    waiting: Mutex<Waiting>,
    stopping: AtomicBool,
    waker: Mutex<Option<Waker>>,
    tally: Arc<Tally>,
    /// Whether the counts are those of an outer link, which counts what passes through both.
    nested: bool,
}

/// What waits for the node.
#[derive(Debug)]
struct Waiting {
    messages: usize,
    bytes: usize,
    /// How many messages can wait.
    room: usize,
    /// A delivery was handed back: wake the gateway when there is room again.
    starved: bool,
}

impl Waiting {
    /// Adds so much if there is room for it. A batch larger than all room passes when nothing waits.
    fn add(&mut self, messages: usize, bytes: usize) -> bool {
        let (all_messages, all_bytes) = (self.messages + messages, self.bytes.saturating_add(bytes));
        let fits = self.messages == 0 || (all_messages <= self.room && all_bytes <= MAX_PENDING_BYTES);
        if fits {
            (self.messages, self.bytes) = (all_messages, all_bytes);
        } else {
            self.starved = true;
        }
        fits
    }

    /// Takes so much away. Whether the gateway is to be woken: it waits for room, and half of that is free.
    fn remove(&mut self, messages: usize, bytes: usize) -> bool {
        self.messages = self.messages.saturating_sub(messages);
        self.bytes = self.bytes.saturating_sub(bytes);
        let half_free = self.messages <= self.room / 2 && self.bytes <= MAX_PENDING_BYTES / 2;
        half_free && std::mem::take(&mut self.starved)
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        // The gateway's code runs here on any thread of the node, which must survive it.
        if let Some(waker) = &*waker
            && catch_unwind(AssertUnwindSafe(waker)).is_err()
        {
            log::error!("what wakes a gateway has panicked");
        }
    }

    fn new(tally: Arc<Tally>, nested: bool) -> Arc<Self> {
        Arc::new(Shared {
            waiting: Mutex::new(Waiting { messages: 0, bytes: 0, room: MAX_PENDING, starved: false }),
            stopping: AtomicBool::new(false),
            waker: Mutex::new(None),
            tally,
            nested,
        })
    }

    fn count(&self, what: Count, amount: usize) {
        if !(self.nested && what == Count::Received) {
            self.tally.add(what, amount);
        }
    }

    /// Counts an unsent message of which the node, or the outer link, is told.
    fn count_told(&self, reason: UnsentReason) {
        if !self.nested {
            self.tally.add_unsent(reason);
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("waiting", &self.waiting)
            .field("stopping", &self.stopping)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Credit {
    shared: Arc<Shared>,
    messages: usize,
    bytes: usize,
}

impl Drop for Credit {
    fn drop(&mut self) {
        let wake = self.shared.waiting().remove(self.messages, self.bytes);
        if wake {
            self.shared.wake();
        }
    }
}

/// A gateway's end of the channel to its node: hands over what comes in, and tells when to stop.
pub struct Link {
    gateway: u64,
    to_node: Sender<FromGateway>,
    stop: Receiver<Infallible>,
    shared: Arc<Shared>,
    wake_node: Option<Waker>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("gateway", &self.gateway).field("shared", &self.shared).finish_non_exhaustive()
    }
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
    /// What the inner gateway counts is counted here, except for what it hands over, which this link counts when it is
    /// passed on: [`Count::Received`], and requests that it could not send.
    pub fn nested(&self, to_outer: Sender<FromGateway>) -> (Link, LinkHost) {
        Link::with_shared(self.gateway, to_outer, Shared::new(Arc::clone(&self.shared.tally), true))
    }

    fn with_shared(gateway: u64, to_node: Sender<FromGateway>, shared: Arc<Shared>) -> (Link, LinkHost) {
        let (stop_sender, stop) = bounded(0);
        let host = LinkHost { stop: Some(stop_sender), shared: Arc::clone(&shared) };
        (Link { gateway, to_node, stop, shared, wake_node: None }, host)
    }

    /// Calls `wake` after each message to the node, for a node that does not wait on the receiver.
    #[must_use]
    pub fn with_wake(mut self, wake: impl Fn() + Send + Sync + 'static) -> Self {
        self.wake_node = Some(Box::new(wake));
        self
    }

    fn send(&self, message: FromGateway) -> Result<(), SendError<FromGateway>> {
        self.to_node.send(message)?;
        if let Some(wake) = &self.wake_node {
            wake();
        }
        Ok(())
    }

    /// Hands messages to the node, all or none.
    ///
    /// # Errors
    ///
    /// When [`MAX_PENDING`] messages wait already, or as many as [`Link::set_room`] allows, or [`MAX_PENDING_BYTES`], the
    /// messages come back. A stream gateway then stops reading; the waker of [`Link::on_wake`] is called when there is room
    /// again. Also when the node has gone.
    pub fn deliver(&self, messages: Vec<Inbound>) -> Result<(), Vec<Inbound>> {
        let amount = messages.len();
        if amount == 0 {
            return Ok(());
        }
        let bytes = messages.iter().map(|message| message.bytes).fold(0, usize::saturating_add);
        if !self.shared.waiting().add(amount, bytes) {
            return Err(messages);
        }
        let credit = Credit { shared: Arc::clone(&self.shared), messages: amount, bytes };
        // Before they can be seen. Where the node has gone, nobody looks at the count any more.
        self.shared.count(Count::Received, amount);
        let delivery = FromGateway::Delivery(Delivery { gateway: self.gateway, messages, _credit: credit });
        match self.send(delivery) {
            Err(SendError(FromGateway::Delivery(mut delivery))) => Err(delivery.take()),
            _ => Ok(()),
        }
    }

    /// Hands messages to the node; where there is no room they are dropped and counted, as datagrams may be.
    pub fn deliver_or_drop(&self, messages: Vec<Inbound>) {
        if let Err(dropped) = self.deliver(messages) {
            self.shared.count(Count::QueueFull, dropped.len());
        }
    }

    /// From now on at most so many messages wait for the node, instead of [`MAX_PENDING`].
    ///
    /// For a gateway that queues what the node sends for its own thread: all that waits may be answered before that
    /// thread looks into the queue, which should then have room for the answers.
    pub fn set_room(&self, messages: usize) {
        self.shared.waiting().room = messages;
    }

    /// Counts a message that the outbox took and that could not be sent, and tells the node if it waits for an answer.
    ///
    /// `request` is what [`Envelope::own_request`](crate::Envelope::own_request) gives: of what answers or is passed on,
    /// the node wants to know nothing, and others, who choose those tags, could have it do much work for nothing.
    pub fn unsent(&self, request: Option<Tag>, reason: UnsentReason) {
        match request {
            None => self.shared.tally.add_unsent(reason),
            Some(tag) => {
                self.shared.count_told(reason);
                // The node has gone when this fails, and with it the interest in the message.
                self.send(FromGateway::Unsent { gateway: self.gateway, tag, reason }).ok();
            }
        }
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
        self.shared.tally.read()
    }
}

impl Drop for LinkHost {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use crossbeam::channel::{RecvTimeoutError, unbounded};

    use super::*;
    use crate::count::UnsentCounts;
    use crate::{Body, Envelope, Message, NetworkId, Request};

    const DEADLINE: Duration = Duration::from_secs(10);

    fn messages(amount: usize) -> Vec<Inbound> {
        let body = Body::Request(Request::Ping);
        let message = Message { network: NetworkId(1), tag: Tag(1), sender: None, also: Vec::new(), body };
        vec![Inbound::new("/memory/1".parse().unwrap(), Envelope::Direct(message)); amount]
    }

    fn link() -> (Link, LinkHost, Receiver<FromGateway>) {
        let (to_node, events) = unbounded();
        let (link, host) = Link::new(7, to_node);
        (link, host, events)
    }

    /// What the link's waker tells.
    fn wakes(link: &Link) -> Receiver<()> {
        let (wake, woken) = unbounded();
        link.on_wake(move || {
            wake.send(()).ok();
        });
        woken
    }

    #[test]
    fn no_more_waits_than_there_is_room_for() {
        let (link, host, events) = link();
        for _ in 0..MAX_PENDING {
            link.deliver(messages(1)).unwrap();
        }
        assert_eq!(link.deliver(messages(1)).unwrap_err().len(), 1);
        link.deliver_or_drop(messages(3));
        link.deliver(Vec::new()).unwrap();
        let expected = LinkCounts { received: MAX_PENDING as u64, queue_full: 3, ..LinkCounts::default() };
        assert_eq!(host.counts(), expected);
        assert_eq!(events.len(), MAX_PENDING);
    }

    #[test]
    fn a_delivery_keeps_its_room_until_it_is_dropped() {
        let (link, _host, events) = link();
        link.deliver(messages(MAX_PENDING)).unwrap();
        let Ok(FromGateway::Delivery(mut delivery)) = events.recv() else { panic!("it is the delivery") };
        assert_eq!((delivery.gateway(), delivery.take().len()), (7, MAX_PENDING));
        link.deliver(messages(1)).unwrap_err();
        drop(delivery);
        link.deliver(messages(1)).unwrap();
    }

    #[test]
    fn a_batch_beyond_all_room_passes_when_nothing_waits() {
        let (link, _host, events) = link();
        link.deliver(messages(MAX_PENDING + 1)).unwrap();
        link.deliver(messages(1)).unwrap_err();
        drop(events.recv());
        link.deliver(messages(1)).unwrap();
    }

    #[test]
    fn large_messages_take_more_room() {
        let (link, _host, events) = link();
        let woken = wakes(&link);
        let large = || {
            let mut messages = messages(1);
            messages[0].bytes = MAX_PENDING_BYTES / 4;
            messages
        };
        for _ in 0..4 {
            link.deliver(large()).unwrap();
        }
        link.deliver(messages(1)).unwrap_err();
        drop(events.recv());
        assert!(woken.is_empty(), "half of it is not free");
        drop(events.recv());
        assert_eq!(woken.len(), 1);
        link.deliver(large()).unwrap();
        events.try_iter().for_each(drop);
        let mut beyond = large();
        beyond[0].bytes = usize::MAX;
        link.deliver(beyond).unwrap();
        link.deliver(messages(1)).unwrap_err();
        drop(events.recv());
        link.deliver(messages(1)).unwrap();
    }

    #[test]
    fn a_gateway_can_do_with_less_room() {
        let (link, _host, events) = link();
        let woken = wakes(&link);
        link.set_room(4);
        link.deliver(messages(2)).unwrap();
        link.deliver(messages(2)).unwrap();
        link.deliver(messages(1)).unwrap_err();
        drop(events.recv());
        assert_eq!(woken.len(), 1, "half is free");
        link.deliver(messages(2)).unwrap();
    }

    #[test]
    fn who_was_refused_is_woken_when_half_is_free_and_nobody_else_is() {
        let (link, _host, events) = link();
        let woken = wakes(&link);
        for _ in 0..4 {
            link.deliver(messages(MAX_PENDING / 4)).unwrap();
        }
        drop(events.recv());
        drop(events.recv());
        assert!(woken.is_empty(), "it was not refused");
        link.deliver(messages(MAX_PENDING / 2)).unwrap();
        link.deliver(messages(1)).unwrap_err();
        drop(events.recv());
        assert!(woken.is_empty(), "not for each message");
        drop(events.recv());
        assert_eq!(woken.len(), 1);
        drop(events.recv());
        assert_eq!(woken.len(), 1);
    }

    #[test]
    fn no_wake_up_gets_lost_between_threads() {
        let (link, _host, events) = link();
        let woken = wakes(&link);
        let reader = thread::spawn(move || events.iter().map(|_| 1).sum::<usize>());
        for _ in 0..2000 {
            let mut batch = messages(MAX_PENDING);
            while let Err(back) = link.deliver(batch) {
                batch = back;
                woken.recv_timeout(DEADLINE).expect("a wake-up for each refusal");
            }
        }
        drop(link);
        assert_eq!(reader.join().unwrap(), 2000);
    }

    #[test]
    fn stopping_wakes_by_the_waker_and_by_the_channel() {
        let (link, mut host, _events) = link();
        let woken = wakes(&link);
        assert!(!link.stopping());
        host.stop();
        assert!(link.stopping());
        assert_eq!(woken.len(), 1);
        assert_eq!(link.stop_signal().recv_timeout(DEADLINE), Err(RecvTimeoutError::Disconnected));
        assert_eq!(wakes(&link).len(), 1, "at once, for one who comes late");
    }

    #[test]
    fn a_waker_that_panics_is_no_matter_of_the_node() {
        let (link, mut host, events) = link();
        link.on_wake(|| panic!("not now"));
        link.deliver(messages(MAX_PENDING)).unwrap();
        link.deliver(messages(1)).unwrap_err();
        drop(events.recv());
        host.stop();
        assert!(link.stopping());
    }

    #[test]
    fn a_host_that_goes_stops_the_gateway() {
        let (link, host, _events) = link();
        drop(host);
        assert!(link.stopping());
    }

    #[test]
    fn when_the_node_has_gone_messages_come_back() {
        let (link, _host, events) = link();
        drop(events);
        assert_eq!(link.deliver(messages(2)).unwrap_err().len(), 2);
        link.unsent(Some(Tag(1)), UnsentReason::Unreachable);
    }

    #[test]
    fn what_could_not_be_sent_is_counted_and_requests_are_told() {
        let (link, host, events) = link();
        link.unsent(None, UnsentReason::Unreachable);
        link.unsent(Some(Tag(5)), UnsentReason::QueueFull);
        let Ok(FromGateway::Unsent { gateway: 7, tag: Tag(5), reason: UnsentReason::QueueFull }) = events.recv() else {
            panic!("it is told");
        };
        assert_eq!(host.counts().unsent, UnsentCounts { queue_full: 1, unreachable: 1, ..UnsentCounts::default() });
        assert!(events.is_empty());
    }

    #[test]
    fn a_nested_link_has_its_own_room_and_the_outer_counts() {
        let (outer, host, _events) = link();
        let (to_outer, from_inner) = unbounded();
        let (inner, mut inner_host) = outer.nested(to_outer);
        inner.deliver(messages(MAX_PENDING)).unwrap();
        inner.unsent(Some(Tag(1)), UnsentReason::QueueFull);
        inner.unsent(None, UnsentReason::Unreachable);
        inner.deliver_or_drop(messages(2));
        inner.count(Count::Malformed);
        let unsent = UnsentCounts { unreachable: 1, ..UnsentCounts::default() };
        let expected = LinkCounts { malformed: 1, queue_full: 2, unsent, ..LinkCounts::default() };
        assert_eq!(host.counts(), expected, "what is passed on counts when it is");
        assert_eq!(from_inner.len(), 2);
        outer.deliver(messages(1)).unwrap();
        inner_host.stop();
        assert!(inner.stopping() && !outer.stopping());
    }
}
