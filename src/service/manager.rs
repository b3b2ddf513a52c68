//! The manager: feeds the core with what happens, and does what the core wants done.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::vec;

use crossbeam::channel::{Receiver, Sender};
use kademlia_gateways::{Contact, Delivery, FromGateway, Id, Inbound, Outbox};

use super::events::{Event, Publisher};
use super::host::{Facts, GatewayId};
use super::keeper::{Flush, Kept};
use super::pending::Complete;
use super::router::{Received, Router};
use super::saver::Saver;
use super::status::{GatewayState, Snapshot};
use super::{Error, threads};
use crate::core::{Command, Input, Node, OperationId, Outcome, Output, Time};

/// An operation that the user wants.
pub(super) struct Start {
    pub(super) operation: OperationId,
    pub(super) command: Command<Contact>,
    pub(super) completion: Box<dyn Complete>,
    pub(super) place: Place,
}

/// A place in the queue of commands, free again when this is dropped.
pub(super) struct Place(Arc<AtomicUsize>);

impl Place {
    /// How many commands can wait for the manager.
    const ALL: usize = 1024;

    /// A place, if one is free. `taken` counts the others.
    pub(super) fn take(taken: &Arc<AtomicUsize>) -> Option<Self> {
        let place = Place(Arc::clone(taken));
        (taken.fetch_add(1, Ordering::Relaxed) < Self::ALL).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the manager is told by its own service. Comes before all else.
pub(super) enum Control {
    /// The gateway can be sent to from now on.
    Open { facts: Arc<Facts>, outbox: Box<dyn Outbox>, done: Sender<()> },
    /// Drop the gateway's outbox.
    Close { gateway: GatewayId, forget: bool, done: Sender<()> },
    /// Show the state to the outside.
    Show { done: Sender<()> },
    /// Nobody waits for the operation any more.
    Cancel(OperationId),
    /// The node has another id from now on.
    ChangeId(Id),
    /// Tell when all is written that has happened.
    Flush(Flush),
    /// The keeper has done with a batch.
    Kept(Kept),
    /// The keeper can take the next one.
    Rested,
    /// Answer every open operation, and return.
    Stop,
}

/// What comes to the manager, by kind.
pub(super) struct Inputs {
    pub(super) control: Receiver<Control>,
    pub(super) commands: Receiver<Start>,
    pub(super) inbound: Receiver<FromGateway>,
}

/// What one turn takes at most from each channel, so that all of them, and the timers, come to their turn.
const COMMANDS_A_TURN: usize = 64;
const MESSAGES_A_TURN: usize = 256;

/// How an operation ended.
type Ended = Result<Outcome<Contact>, Error>;

/// How a turn of the manager went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// There may be more to do.
    Busy,
    /// There is nothing to do.
    Idle,
    /// The manager was told to stop.
    Last,
}

/// A delivery of which some messages wait for another turn: it can be larger than one may be.
struct Unread {
    gateway: GatewayId,
    messages: vec::IntoIter<Inbound>,
    /// Keeps its place until all are read.
    _delivery: Delivery,
}

impl Unread {
    fn new(mut delivery: Delivery) -> Self {
        let messages = delivery.take().into_iter();
        Unread { gateway: GatewayId(delivery.gateway()), messages, _delivery: delivery }
    }

    fn next(&mut self) -> Option<(GatewayId, Inbound)> {
        Some((self.gateway, self.messages.next()?))
    }
}

/// All that a node is and knows: the core, the gateways, and who waits for what.
pub(super) struct Manager {
    /// Dropped first: who is answered as the rest is dropped finds that there is nobody any more.
    inputs: Inputs,
    unread: Option<Unread>,
    node: Node<Contact>,
    router: Router,
    start: Instant,
    open: HashMap<OperationId, Box<dyn Complete>>,
    outputs: Vec<Output<Contact>>,
    finished: Vec<Finished>,
    publisher: Arc<Publisher>,
    snapshot: Arc<Mutex<Snapshot>>,
    /// If the node's state is kept.
    saver: Option<Saver>,
}

impl Manager {
    pub(super) fn new(
        inputs: Inputs,
        node: Node<Contact>,
        router: Router,
        start: Instant,
        publisher: Arc<Publisher>,
        snapshot: Arc<Mutex<Snapshot>>,
    ) -> Self {
        let (open, outputs, finished) = (HashMap::new(), Vec::new(), Vec::new());
        let saver = None;
        Manager { inputs, unread: None, node, router, start, open, outputs, finished, publisher, snapshot, saver }
    }

    /// Keeps the node's state from now on.
    pub(super) fn with_saver(mut self, saver: Option<Saver>) -> Self {
        self.saver = saver;
        self
    }

    fn save(&mut self) {
        let now = self.now();
        if let Some(saver) = &mut self.saver {
            saver.save(&mut self.node, now);
        }
    }

    /// Takes some of what waits at each channel, and does what is due.
    pub(super) fn turn(&mut self) -> Turn {
        let mut turn = Turn::Idle;
        while let Ok(message) = self.inputs.control.try_recv() {
            turn = Turn::Busy;
            if !self.control(message) {
                let now = self.now();
                self.saver.iter_mut().for_each(|saver| saver.save_last(&mut self.node, now));
                self.show();
                return Turn::Last;
            }
        }
        for _ in 0..COMMANDS_A_TURN {
            let Ok(start) = self.inputs.commands.try_recv() else { break };
            turn = Turn::Busy;
            self.begin(start);
        }
        // First what is due: messages may come without an end.
        let due = self.tick();
        if self.receive() > 0 || due {
            turn = Turn::Busy;
        }
        self.save();
        self.show_what_finished();
        turn
    }

    /// Does what has come by the gateways, and leaves the rest to whole turns.
    pub(super) fn short_turn(&mut self) -> Turn {
        let messages = self.receive();
        self.tick();
        self.save();
        self.show_what_finished();
        if messages < MESSAGES_A_TURN { Turn::Idle } else { Turn::Busy }
    }

    /// When a turn is due though nothing comes.
    pub(super) fn next_wake(&self) -> Option<Time> {
        self.node.next_wake()
    }

    /// How long until then.
    pub(super) fn sleeps(&self) -> Option<Duration> {
        Some(self.next_wake()?.since(self.now()))
    }

    /// Whether anything was due.
    fn tick(&mut self) -> bool {
        let due = self.next_wake().is_some_and(|wake| wake <= self.now());
        if due {
            self.feed(Input::Tick);
        }
        due
    }

    /// Takes messages that came by the gateways. Gives how many.
    fn receive(&mut self) -> usize {
        let mut messages = 0;
        while messages < MESSAGES_A_TURN && self.receive_one() {
            messages += 1;
        }
        messages
    }

    /// Whether there was one.
    fn receive_one(&mut self) -> bool {
        if let Some((gateway, inbound)) = self.unread.as_mut().and_then(Unread::next) {
            self.take_one(gateway, inbound);
            return true;
        }
        // Makes room for as many more.
        self.unread = None;
        let Ok(received) = self.inputs.inbound.try_recv() else { return false };
        match received {
            FromGateway::Delivery(delivery) => {
                self.unread = Some(Unread::new(delivery));
                self.receive_one()
            }
            FromGateway::Unsent { tag, reason, .. } => {
                self.feed(Input::Unsent { tag, reason });
                true
            }
        }
    }

    fn now(&self) -> Time {
        Time::ZERO + self.start.elapsed()
    }

    /// Whether to go on.
    fn control(&mut self, message: Control) -> bool {
        match message {
            Control::Open { facts, outbox, done } => {
                if facts.is_stopping() {
                    // Its last `Close` may have come before. Dropping the question refuses.
                    threads::calmly(|| drop(outbox)).ok();
                } else {
                    self.router.open(facts, outbox);
                    done.send(()).ok();
                    self.introduce_former();
                }
            }
            Control::Close { gateway, forget, done } => {
                self.router.close(gateway, forget);
                done.send(()).ok();
            }
            Control::Show { done } => {
                self.show();
                done.send(()).ok();
            }
            Control::Cancel(operation) => {
                if self.open.contains_key(&operation) {
                    self.feed(Input::Cancel { operation });
                }
            }
            Control::ChangeId(id) => {
                self.feed(Input::ChangeId { id });
                self.saver.iter_mut().for_each(|saver| saver.id_changed(id));
            }
            Control::Flush(flush) => {
                if let Some(saver) = &mut self.saver {
                    saver.flush(flush);
                }
            }
            Control::Kept(kept) => {
                if let Some(saver) = &mut self.saver {
                    saver.kept(&mut self.node, kept);
                }
            }
            Control::Rested => self.saver.iter_mut().for_each(Saver::rested),
            Control::Stop => return false,
        }
        true
    }

    /// Has those asked who were known before a restart.
    fn introduce_former(&mut self) {
        let former: Vec<_> = self.saver.iter_mut().flat_map(Saver::take_former).collect();
        former.into_iter().for_each(|input| self.feed(input));
    }

    fn begin(&mut self, start: Start) {
        let Start { operation, command, completion, place } = start;
        drop(place);
        if !completion.is_cancelled() {
            self.open.insert(operation, completion);
            self.feed(Input::Start { operation, command });
        }
    }

    fn take_one(&mut self, gateway: GatewayId, inbound: Inbound) {
        let now = self.now();
        if let Some(Received { from, path, proved, message }) = self.router.receive(now, gateway, inbound) {
            self.feed(Input::Message { from, path, proved, message });
        }
    }

    /// Gives the core an input and does what follows, until nothing follows any more.
    fn feed(&mut self, input: Input<Contact>) {
        let (mut next, mut inputs) = (Some(input), VecDeque::new());
        while let Some(input) = next {
            let now = self.now();
            self.node.handle(now, input, &mut self.outputs);
            let mut outputs = std::mem::take(&mut self.outputs);
            for output in outputs.drain(..) {
                match output {
                    Output::Send { to, path, proved, message } => {
                        let (tag, is_request) = (message.tag, message.is_request());
                        // The tag of an answer is another node's, and none of the core's.
                        match self.router.send(&to, path, proved, message) {
                            Err(reason) if is_request => inputs.push_back(Input::Unsent { tag, reason }),
                            _ => {}
                        }
                    }
                    Output::Done { operation, result } => self.finish(operation, result),
                    Output::Event(event) => self.publisher.publish(&Event::Node(event)),
                }
            }
            self.outputs = outputs;
            next = inputs.pop_front();
        }
    }

    fn finish(&mut self, operation: OperationId, result: Ended) {
        // What is immutable, or each owner's own, was found as well.
        if let Ok(Outcome::Queried(report)) = &result
            && report.found.is_none()
            && report.immutable.is_none()
            && report.of_owners.is_empty()
        {
            self.publisher.publish(&Event::NotFound { key: report.key, asked: report.effort.asked });
        }
        if let Some(completion) = self.open.remove(&operation) {
            self.finished.push(Finished { completion, result });
        }
    }

    /// Shows the state before anybody is told of the end of an operation: who then looks at it sees what was done.
    fn show_what_finished(&self) {
        if !self.finished.is_empty() {
            self.show();
        }
    }

    /// The operations that have ended: who waits for them is still to be told, which runs code of the user.
    pub(super) fn take_finished(&mut self) -> Vec<Finished> {
        std::mem::take(&mut self.finished)
    }

    /// Tells everybody that the node can do no more.
    pub(super) fn fail(&self, cause: &str) {
        lock(&self.snapshot).failure = Some(cause.to_owned());
        self.publisher.publish(&Event::Failed { cause: cause.to_owned() });
        self.publisher.close();
        for facts in self.router.gateways() {
            facts.set_state(GatewayState::Failed { cause: "the node has failed".to_owned() });
            facts.stop();
        }
    }

    /// Shows the state to the outside. Not in every turn: a turn can be as short as one datagram.
    fn show(&self) {
        let snapshot = Snapshot {
            failure: None,
            known_peers: self.node.contact_count(),
            records: self.node.record_count(),
            record_bytes: self.node.record_bytes(),
            published: self.node.published_count(),
            requests_in_flight: self.node.requests_in_flight(),
            operations: self.open.len(),
            relayed: self.router.relayed(),
            unroutable: self.router.unroutable(),
            counters: self.node.counters(),
            persistence: self.saver.as_ref().map(|saver| saver.status(&self.node)),
        };
        *lock(&self.snapshot) = snapshot;
    }
}

/// An operation that has ended, and how.
pub(super) struct Finished {
    completion: Box<dyn Complete>,
    result: Ended,
}

impl Finished {
    /// Tells whoever waits for it.
    pub(super) fn tell(self) {
        self.completion.complete(self.result);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::config::Config;
    use super::*;
    use crate::core::Counters;
    use crossbeam::channel::{bounded, never, unbounded};
    use kademlia_gateways::{Body, Envelope, Id, Link, Message, Request, Tag};

    /// A manager of a node that knows nobody and has no gateway, and the state that it shows.
    fn manager(inbound: Receiver<FromGateway>) -> (Manager, Arc<Mutex<Snapshot>>) {
        let config = Config { request_timeout: Duration::from_millis(1), ..Config::default() };
        let node = Node::new(Id::ZERO, config.params(config.hasher.key_space()), [1; 16], Time::ZERO);
        let publisher = Arc::new(Publisher::new(1));
        let router = Router::new(config.relay, false, Arc::clone(&publisher));
        let snapshot = Arc::new(Mutex::new(Snapshot::default()));
        let inputs = Inputs { control: never(), commands: never(), inbound };
        (Manager::new(inputs, node, router, Instant::now(), publisher, Arc::clone(&snapshot)), snapshot)
    }

    fn message(body: Body) -> Inbound {
        let network = Config::default().network;
        let message = Message { network, tag: Tag(1), sender: None, also: Vec::new(), body };
        Inbound::new("/memory/1".parse().unwrap(), Envelope::Direct(message))
    }

    #[test]
    fn the_state_is_shown_when_somebody_looks_and_not_for_every_message() {
        let (mut manager, snapshot) = manager(never());
        manager.take_one(GatewayId(1), message(Body::Request(Request::Ping)));
        manager.show_what_finished();
        let shown = || snapshot.lock().unwrap().counters.clone();
        assert_eq!(shown(), Counters::default());
        let (done, _shown) = bounded(1);
        manager.control(Control::Show { done });
        assert_ne!(shown(), Counters::default());
    }

    #[test]
    fn a_turn_takes_a_part_of_a_large_delivery_and_what_is_due_comes_first() {
        let (to_manager, inbound) = unbounded();
        let (mut manager, _) = manager(inbound);
        let (link, host) = Link::new(1, to_manager);
        link.deliver((0..MESSAGES_A_TURN + 1).map(|_| message(Body::Request(Request::Ping))).collect()).unwrap();
        // A request that nobody will answer.
        let command = Command::Ping { address: "/memory/2".parse().unwrap() };
        manager.node.handle(Time::ZERO, Input::Start { operation: OperationId(1), command }, &mut Vec::new());
        let due = manager.next_wake().unwrap();
        while manager.now() < due {
            std::hint::spin_loop();
        }
        assert_eq!(manager.turn(), Turn::Busy);
        assert!(manager.next_wake().is_none_or(|next| next > due), "it has looked at the time");
        assert_eq!(host.counts().received, MESSAGES_A_TURN as u64 + 1);
        let read = |manager: &Manager| {
            let Counters { requests_served, refused, .. } = manager.node.counters();
            requests_served.values().chain(refused.values()).sum::<u64>()
        };
        assert_eq!(read(&manager), MESSAGES_A_TURN as u64);
        assert_eq!(manager.short_turn(), Turn::Idle);
        assert_eq!(read(&manager), MESSAGES_A_TURN as u64 + 1);
    }
}
