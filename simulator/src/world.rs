//! The world: nodes, the wire between them, and one virtual time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kademlia_dht::core::{Command, Event, Input, Node, OperationError, OperationId, Outcome, Output, Params, Time};
use kademlia_dht::gateway::{Id, Peer, Record, ReplyPath};

use crate::clock::{Clock, Clocks};
use crate::handle::{Handle, mix};
use crate::lies::Lies;
use crate::oracle::Oracle;
use crate::queue::{Delivery, Next, Queue};
use crate::random::Random;
use crate::size::size_of;
use crate::trace::Trace;
use crate::traffic::Traffic;
use crate::wire::{Links, Wire};

/// What a network is made of: with the seed, all that a run follows from.
#[derive(Debug, Clone)]
pub struct Setup {
    /// What every node is configured with. The key space is always that of simulated ids.
    pub params: Params,
    /// The wire.
    pub wire: Wire,
    /// The clocks.
    pub clocks: Clocks,
    /// The share of nodes that lie about values: as holders they give others than they were given, or none. Users are
    /// honest nodes. Plain values have no defence against it; see [`liars`](crate::experiment::liars) for those that have.
    pub liars: f64,
    /// What all randomness follows from.
    pub seed: u64,
}

impl Default for Setup {
    fn default() -> Self {
        let params = Params::new(crate::handle::KEY_SPACE);
        Setup { params, wire: Wire::default(), clocks: Clocks::default(), liars: 0.0, seed: 1 }
    }
}

/// How an operation ended.
pub(crate) type Ended = Result<Outcome<Handle>, OperationError<Handle>>;

/// What the owner of a world is told.
#[derive(Debug)]
pub(crate) enum Happening<A> {
    /// An operation has ended.
    Done { node: Handle, operation: OperationId, since: Time, ended: Box<Ended> },
    /// The time of an alarm has come.
    Alarm(A),
    /// So many events have been dealt with as were asked for.
    Paused,
}

/// What a node leaves behind when it dies.
#[derive(Debug, Default)]
pub(crate) struct Remains {
    /// What was in its store.
    pub(crate) records: Vec<(Id, Record)>,
    /// What it had not ended.
    pub(crate) operations: Vec<OperationId>,
}

/// A living node.
#[derive(Debug)]
struct Host {
    node: Node<Handle>,
    clock: Clock,
    born: Time,
    /// When it will be woken next.
    wake: Time,
}

/// A world whose owner plans alarms of the type `A`.
#[derive(Debug)]
pub(crate) struct World<A> {
    params: Arc<Params>,
    clocks: Clocks,
    seed: u64,
    pub(crate) links: Links,
    pub(crate) oracle: Oracle,
    lies: Lies,
    random: Random,
    queue: Queue<A>,
    now: Time,
    /// By index, the number without that of the first node.
    hosts: Vec<Option<Box<Host>>>,
    first: u32,
    /// By node, so that those of a node end with it.
    operations: BTreeMap<(u32, OperationId), Time>,
    next_operation: u64,
    outputs: Vec<Output<Handle>>,
    done: VecDeque<Happening<A>>,
    trace: Trace,
    events: u64,
    /// The counters of living nodes are not in it yet.
    traffic: Traffic,
    living: u64,
    /// Until when the time that nodes live is counted.
    counted: Time,
}

impl<A: Ord> World<A> {
    pub(crate) fn new(setup: &Setup) -> Self {
        let params = Params { key_space: crate::handle::KEY_SPACE, ..setup.params.clone() };
        let lies = Lies::new(setup.liars, setup.seed);
        World {
            links: Links::new(setup.wire.clone(), setup.seed),
            oracle: Oracle::new(&params, setup.clocks, lies.owner()),
            lies,
            params: Arc::new(params),
            clocks: setup.clocks,
            seed: setup.seed,
            random: Random::new(setup.seed, "nodes"),
            queue: Queue::new(),
            now: Time::ZERO,
            hosts: Vec::new(),
            first: mix(setup.seed) as u32,
            operations: BTreeMap::new(),
            next_operation: 0,
            outputs: Vec::new(),
            done: VecDeque::new(),
            trace: Trace::new(),
            events: 0,
            traffic: Traffic::default(),
            living: 0,
            counted: Time::ZERO,
        }
    }

    pub(crate) fn now(&self) -> Time {
        self.now
    }

    pub(crate) fn params(&self) -> &Params {
        &self.params
    }

    /// Messages, wakes, alarms and commands dealt with.
    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    /// A hash of everything that has happened, in its order.
    pub(crate) fn trace_hash(&self) -> u64 {
        self.trace.hash()
    }

    pub(crate) fn traffic(&mut self) -> Traffic {
        self.count_time();
        let mut traffic = Traffic { lies: self.lies.told(), ..self.traffic };
        self.nodes().for_each(|(_, node)| traffic.count(&node.counters()));
        traffic
    }

    pub(crate) fn node(&self, node: Handle) -> Option<&Node<Handle>> {
        self.host(node).map(|host| &host.node)
    }

    pub(crate) fn is_alive(&self, node: Handle) -> bool {
        self.node(node).is_some()
    }

    /// Whether a node lies about values.
    pub(crate) fn is_liar(&self, node: Handle) -> bool {
        self.lies.is_liar(node)
    }

    /// Since when a node is alive.
    pub(crate) fn born(&self, node: Handle) -> Option<Time> {
        self.host(node).map(|host| host.born)
    }

    /// All living nodes.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (Handle, &Node<Handle>)> {
        let living = self.hosts.iter().enumerate().filter_map(|(index, host)| Some((index, &host.as_ref()?.node)));
        living.map(|(index, node)| (Handle::of(self.first.wrapping_add(index as u32)), node))
    }

    /// What a user's clock at this node shows, in milliseconds since 1970.
    pub(crate) fn unix_milliseconds(&self, node: Handle) -> u64 {
        self.host(node).map(|host| host.clock).unwrap_or_default().unix_milliseconds(self.now)
    }

    /// Operations that have not ended, and since when.
    pub(crate) fn operations(&self) -> impl Iterator<Item = (Handle, OperationId, Time)> {
        self.operations.iter().map(|((number, operation), since)| (Handle::of(*number), *operation, *since))
    }

    fn index(&self, node: Handle) -> usize {
        node.number().wrapping_sub(self.first) as usize
    }

    fn host(&self, node: Handle) -> Option<&Host> {
        self.hosts.get(self.index(node))?.as_deref()
    }

    fn count_time(&mut self) {
        let passed = self.now.as_micros() - self.counted.as_micros();
        self.traffic.node_micros += passed * self.living;
        self.counted = self.now;
    }

    /// A new node, which knows nobody.
    pub(crate) fn spawn(&mut self) -> Handle {
        let node = Handle::of(self.first.wrapping_add(self.hosts.len() as u32));
        self.hosts.push(None);
        self.boot(node);
        node
    }

    /// Starts a node that was killed again, with the records that it had on disk.
    pub(crate) fn restart(&mut self, node: Handle, records: Vec<(Id, Record)>) {
        self.boot(node);
        for (key, record) in records {
            self.input(node.number(), Input::Restore { key, record: record.clone() });
            self.oracle.bind(self.now, node, key, &record);
        }
    }

    fn boot(&mut self, handle: Handle) {
        self.count_time();
        let clock = Clock::of(self.clocks, self.seed, handle);
        let params = Arc::clone(&self.params);
        let node = Node::new(handle.id(), params, self.random.seed(), clock.local(self.now));
        let index = self.index(handle);
        if let Some(host) = self.hosts.get_mut(index) {
            *host = Some(Box::new(Host { node, clock, born: self.now, wake: Time::NEVER }));
            self.living += 1;
            self.trace.born(self.now, handle.number());
            self.oracle.born(self.now, handle);
        }
    }

    /// Ends a node from one moment to the next, as a crash does.
    pub(crate) fn kill(&mut self, node: Handle) -> Remains {
        self.count_time();
        let index = self.index(node);
        let Some(host) = self.hosts.get_mut(index).and_then(Option::take) else { return Remains::default() };
        self.living -= 1;
        self.traffic.count(&host.node.counters());
        let records = host.node.records(host.clock.local(self.now)).collect();
        self.oracle.died(node);
        let number = node.number();
        let all = (number, OperationId(0))..=(number, OperationId(u64::MAX));
        let operations: Vec<OperationId> = self.operations.range(all).map(|((_, operation), _)| *operation).collect();
        for operation in &operations {
            self.operations.remove(&(number, *operation));
        }
        self.trace.died(self.now, number);
        Remains { records, operations }
    }

    /// Has a living node do something. How it ends is a happening, unless the node dies before.
    pub(crate) fn start(&mut self, node: Handle, command: Command<Handle>) -> Option<OperationId> {
        if !self.is_alive(node) {
            return None;
        }
        let operation = OperationId(self.next_operation);
        self.next_operation += 1;
        self.operations.insert((node.number(), operation), self.now);
        self.trace.started(self.now, node.number(), operation, &command);
        self.events += 1;
        self.input(node.number(), Input::Start { operation, command });
        Some(operation)
    }

    /// Has the owner told when so much time has passed.
    pub(crate) fn alarm(&mut self, after: Duration, alarm: A) {
        self.queue.alarm(self.now + after, alarm);
    }

    /// Goes on until something happens that the owner is told of, or until `end`, or until so many events.
    pub(crate) fn next(&mut self, end: Time, events: u64) -> Option<Happening<A>> {
        loop {
            if let Some(done) = self.done.pop_front() {
                return Some(done);
            }
            if self.events >= events {
                return Some(Happening::Paused);
            }
            let Some((time, next)) = self.queue.pop(end) else {
                self.now = self.now.max(end);
                return None;
            };
            self.now = time;
            match next {
                Next::Delivery(delivery) => self.deliver(delivery),
                Next::Wake(number) => self.wake(number),
                Next::Alarm(alarm) => {
                    self.events += 1;
                    return Some(Happening::Alarm(alarm));
                }
            }
        }
    }

    fn deliver(&mut self, delivery: Delivery) {
        if !self.is_alive(Handle::of(delivery.to)) {
            self.traffic.in_vain += 1;
            return;
        }
        self.events += 1;
        self.traffic.delivered += 1;
        self.traffic.received_bytes += size_of(&delivery.message) as u64;
        self.trace.delivered(self.now, &delivery);
        self.oracle.arrived(&delivery.message);
        let Delivery { from, to, mut message } = delivery;
        if self.is_liar(Handle::of(to)) {
            self.lies.hear(&mut message);
        }
        self.input(to, Input::Message { from, path: ReplyPath::default(), proved: false, message });
    }

    fn wake(&mut self, number: u32) {
        let (index, now) = (self.index(Handle::of(number)), self.now);
        let Some(host) = self.hosts.get_mut(index).and_then(Option::as_mut) else { return };
        if host.wake != now {
            return; // It was set to an earlier time meanwhile, or is another life's.
        }
        host.wake = Time::NEVER;
        let due = host.node.next_wake().is_some_and(|wake| wake <= host.clock.local(now));
        if due {
            self.events += 1;
            self.trace.woken(self.now, number);
            self.input(number, Input::Tick);
        } else {
            self.set_wake(number);
        }
    }

    fn set_wake(&mut self, number: u32) {
        let index = self.index(Handle::of(number));
        let Some(host) = self.hosts.get_mut(index).and_then(Option::as_mut) else { return };
        let Some(next) = host.node.next_wake() else { return };
        let next = host.clock.global(next).max(self.now);
        if next < host.wake {
            host.wake = next;
            self.queue.wake(next, number);
        }
    }

    fn input(&mut self, number: u32, input: Input<Handle>) {
        let index = self.index(Handle::of(number));
        let Some(host) = self.hosts.get_mut(index).and_then(Option::as_mut) else { return };
        let mut outputs = std::mem::take(&mut self.outputs);
        host.node.handle(host.clock.local(self.now), input, &mut outputs);
        for output in outputs.drain(..) {
            match output {
                Output::Send { to, message, .. } => self.send(Delivery { from: number, to, message }),
                Output::Done { operation, result } => self.finish(number, operation, result),
                Output::Event(event) => self.observe(number, &event),
            }
        }
        self.outputs = outputs;
        self.set_wake(number);
    }

    fn send(&mut self, mut delivery: Delivery) {
        let Delivery { from, to, message } = &mut delivery;
        // What liars say is no fault of the core.
        if self.lies.is_liar(Handle::of(*from)) {
            self.lies.tell(message);
        } else {
            self.oracle.sent(self.now, *from, message);
        }
        let size = size_of(message);
        self.traffic.sent += 1;
        self.traffic.sent_bytes += size as u64;
        let arrivals = self.links.carry(self.now, *from, *to);
        self.trace.sent(self.now, &delivery, size, arrivals);
        let [Some(first), second] = arrivals else {
            self.traffic.lost += 1;
            return;
        };
        if let Some(second) = second {
            self.queue.deliver(self.now + second, delivery.clone());
        }
        self.queue.deliver(self.now + first, delivery);
    }

    fn finish(&mut self, number: u32, operation: OperationId, ended: Ended) {
        let node = Handle::of(number);
        self.trace.ended(self.now, number, operation, &ended);
        let Some(since) = self.operations.remove(&(number, operation)) else {
            return self.oracle.violation(self.now, format_args!("{operation:?} of {node:?} ended twice, or was none"));
        };
        self.done.push_back(Happening::Done { node, operation, since, ended: Box::new(ended) });
    }

    fn observe(&mut self, number: u32, event: &Event<Handle>) {
        let node = Handle::of(number);
        match event {
            Event::RecordKept { key, version } => {
                self.trace.kept(self.now, number, key, *version);
                self.oracle.kept(self.now, node, *key, *version);
            }
            Event::RecordExpired { key } => {
                self.trace.expired(self.now, number, key);
                self.oracle.expired(self.now, node, *key);
            }
            _ => {}
        }
    }
}
