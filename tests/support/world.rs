//! A small network of cores in virtual time: an event queue, constant latency, seeded loss.

#![allow(dead_code)] // Each test binary uses its own part of it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use kademlia_dht::core::{
    Command, Content, Event, Input, Node, OperationError, OperationId, Outcome, Output, Params, Time,
};
use kademlia_dht::gateway::{Id, KeySpace, Message, Peer, ReplyPath, Version};

/// A peer whose address is a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Handle {
    pub(crate) id: Id,
    pub(crate) address: u32,
}

impl Peer for Handle {
    type Addr = u32;

    fn new(id: Id, address: u32, _others: Vec<u32>) -> Self {
        Handle { id, address }
    }

    fn id(&self) -> Id {
        self.id
    }

    fn address(&self) -> &u32 {
        &self.address
    }
}

pub(crate) type Outcomes = BTreeMap<OperationId, Result<Outcome<Handle>, OperationError<Handle>>>;

/// What is to happen at some time.
enum Happening {
    Message { from: u32, to: u32, message: Message<Handle> },
    Wake { at: u32 },
}

pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) params: Params,
    pub(crate) latency: Duration,
    /// Messages lost, in thousandths.
    pub(crate) loss: u64,
    pub(crate) nodes: BTreeMap<u32, Node<Handle>>,
    pub(crate) outcomes: Outcomes,
    pub(crate) events: Vec<(u32, Event<Handle>)>,
    /// Messages sent, by name.
    pub(crate) sent: BTreeMap<&'static str, u64>,
    queue: BinaryHeap<Reverse<(Time, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    woken: BTreeMap<u32, Time>,
    next_happening: u64,
    next_operation: u64,
    random: u64,
}

impl World {
    pub(crate) fn new(params: Params, seed: u64) -> Self {
        World {
            now: Time::ZERO,
            params,
            latency: Duration::from_millis(20),
            loss: 0,
            nodes: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            events: Vec::new(),
            sent: BTreeMap::new(),
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            woken: BTreeMap::new(),
            next_happening: 0,
            next_operation: 0,
            random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
        }
    }

    pub(crate) fn sha1_params() -> Params {
        Params::new(KeySpace::new(20).unwrap())
    }

    /// A network of `count` nodes that have joined through each other, one after the other.
    pub(crate) fn joined(params: Params, count: u32, seed: u64) -> Self {
        let mut world = World::new(params, seed);
        for address in 0..count {
            world.add(address);
            if address > 0 {
                let through = world.random(u64::from(address)) as u32;
                world.start(address, Command::Join { address: through });
                world.run_for(Duration::from_secs(1));
            }
        }
        world.run_for(Duration::from_secs(60));
        world
    }

    pub(crate) fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below.max(1)
    }

    pub(crate) fn random_id(&mut self) -> Id {
        let mut bytes = [0; 20];
        bytes.iter_mut().for_each(|byte| *byte = self.random(256) as u8);
        self.params.key_space.fit(&Id::from_prefix(&bytes))
    }

    /// Starts a node with an id of its own and an empty store.
    pub(crate) fn add(&mut self, address: u32) {
        let id = self.random_id();
        self.add_with(address, id, self.params.clone());
    }

    pub(crate) fn add_with(&mut self, address: u32, id: Id, params: Params) {
        let mut seed = [0; 16];
        seed.iter_mut().for_each(|byte| *byte = self.random(256) as u8);
        self.nodes.insert(address, Node::new(id, params, seed, self.now));
        self.woken.remove(&address);
    }

    pub(crate) fn kill(&mut self, address: u32) {
        self.nodes.remove(&address);
        self.woken.remove(&address);
    }

    pub(crate) fn id(&self, address: u32) -> Id {
        self.nodes[&address].id()
    }

    pub(crate) fn start(&mut self, address: u32, command: Command<Handle>) -> OperationId {
        let operation = OperationId(self.next_operation);
        self.next_operation += 1;
        self.input(address, Input::Start { operation, command });
        operation
    }

    /// Starts an operation and runs until it has ended.
    pub(crate) fn run(
        &mut self,
        address: u32,
        command: Command<Handle>,
    ) -> Result<Outcome<Handle>, OperationError<Handle>> {
        let operation = self.start(address, command);
        let end = self.now + Duration::from_secs(120);
        while !self.outcomes.contains_key(&operation) {
            assert!(self.now < end && self.step(end), "the operation never ended");
        }
        self.outcomes.remove(&operation).unwrap()
    }

    pub(crate) fn save(&mut self, address: u32, key: Id, value: &'static str) -> Version {
        match self.run(address, save(key, value, self.now)).unwrap() {
            Outcome::Saved(receipt) => receipt.version,
            other => panic!("{other:?}"),
        }
    }

    /// The value that a query from `address` finds.
    pub(crate) fn query(&mut self, address: u32, key: Id) -> Option<Vec<u8>> {
        match self.run(address, Command::Query { key }).unwrap() {
            Outcome::Queried(report) => report.found.map(|found| found.record.value.to_vec()),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn input(&mut self, address: u32, input: Input<Handle>) {
        let mut out = Vec::new();
        let Some(node) = self.nodes.get_mut(&address) else { return };
        node.handle(self.now, input, &mut out);
        for output in out {
            match output {
                Output::Send { to, message, .. } => self.send(address, to, message),
                Output::Done { operation, result } => {
                    let before = self.outcomes.insert(operation, result);
                    assert!(before.is_none(), "{operation:?} ended twice");
                }
                Output::Event(event) => self.events.push((address, event)),
            }
        }
        self.set_wake(address);
    }

    fn send(&mut self, from: u32, to: u32, message: Message<Handle>) {
        *self.sent.entry(message.name()).or_default() += 1;
        if self.random(1000) >= self.loss {
            self.happen(self.now + self.latency, Happening::Message { from, to, message });
        }
    }

    fn set_wake(&mut self, address: u32) {
        let Some(wake) = self.nodes[&address].next_wake() else { return };
        if self.woken.get(&address).is_none_or(|set| wake < *set || *set < self.now) {
            self.woken.insert(address, wake);
            self.happen(wake.max(self.now), Happening::Wake { at: address });
        }
    }

    fn happen(&mut self, time: Time, happening: Happening) {
        self.queue.push(Reverse((time, self.next_happening)));
        self.happenings.insert(self.next_happening, happening);
        self.next_happening += 1;
    }

    /// Lets the next thing happen, if it does before `end`.
    fn step(&mut self, end: Time) -> bool {
        let Some(Reverse((time, index))) = self.queue.peek().copied() else { return false };
        if time > end {
            return false;
        }
        self.queue.pop();
        self.now = self.now.max(time);
        match self.happenings.remove(&index) {
            Some(Happening::Message { from, to, message }) => {
                self.input(to, Input::Message { from, path: ReplyPath::default(), proved: false, message });
            }
            Some(Happening::Wake { at }) => {
                self.woken.remove(&at);
                if self.nodes.get(&at).is_some_and(|node| node.next_wake().is_some_and(|wake| wake <= self.now)) {
                    self.input(at, Input::Tick);
                } else if self.nodes.contains_key(&at) {
                    self.set_wake(at);
                }
            }
            None => {}
        }
        true
    }

    pub(crate) fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.step(end) {}
        self.now = end;
    }

    /// Tells every node what time it is.
    pub(crate) fn tick_all(&mut self) {
        let all: Vec<u32> = self.nodes.keys().copied().collect();
        all.into_iter().for_each(|address| self.input(address, Input::Tick));
    }

    /// The addresses of the `count` nodes nearest to `key`, nearest first.
    pub(crate) fn nearest(&self, key: &Id, count: usize) -> Vec<u32> {
        let mut all: Vec<(u32, Id)> = self.nodes.iter().map(|(address, node)| (*address, node.id())).collect();
        all.sort_by_key(|(_, id)| id.distance(key));
        all.into_iter().take(count).map(|(address, _)| address).collect()
    }

    /// How many nodes hold a record under `key` of this version.
    pub(crate) fn holders(&self, key: &Id, version: Version) -> usize {
        self.nodes.values().filter(|node| node.record(key).is_some_and(|record| record.version == version)).count()
    }
}

pub(crate) fn save(key: Id, value: &'static str, now: Time) -> Command<Handle> {
    Command::Save {
        key,
        content: Content::Value(value.into()),
        expect: kademlia_dht::gateway::Expect::Anything,
        unix_milliseconds: 1_700_000_000_000 + now.as_micros() / 1000,
    }
}

pub(crate) fn delete(key: Id, now: Time) -> Command<Handle> {
    match save(key, "", now) {
        Command::Save { key, expect, unix_milliseconds, .. } => {
            Command::Save { key, content: Content::Delete, expect, unix_milliseconds }
        }
        other => other,
    }
}
