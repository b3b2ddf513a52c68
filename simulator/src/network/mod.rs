//! A network: nodes that join, leave, save and ask, over one virtual time.

mod authored;
mod bulk;
mod happenings;
mod invariants;
mod measuring;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;
use kademlia_dht::core::{Node, OperationId, Params, Time};
use kademlia_dht::gateway::{Id, Record};

use crate::churn::Churn;
use crate::handle::Handle;
use crate::measure::Measured;
use crate::oracle::Acknowledged;
use crate::random::Random;
use crate::traffic::Traffic;
use crate::wire::Loss;
use crate::world::{Happening, Setup, World};

/// After so many events, whoever watches is told.
const WATCH: u64 = 1 << 14;

/// When nobody has joined for so long, nobody will.
const PATIENCE: Duration = Duration::from_secs(3600);

/// What users do, as a stream of operations at random nodes. Each kind has its own rate for the whole network.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Workload {
    /// Lookups of random targets in a second.
    pub lookups: f64,
    /// Queries for random records that were acknowledged, in a second.
    pub gets: f64,
    /// Saves of new records, in a second.
    pub saves: f64,
    /// Saves of new versions of old records, in a second.
    pub rewrites: f64,
    /// Deletes of old records, in a second.
    pub deletes: f64,
    /// Bytes of each value.
    pub value_bytes: usize,
}

/// How far a run is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Which run of an experiment it is, from 1, and how many there are: 1 of 1 for a network by itself.
    pub run: usize,
    /// See `run`.
    pub runs: usize,
    /// What is being done.
    pub stage: &'static str,
    /// The virtual time that has passed since the start.
    pub now: Duration,
    /// The virtual time at which the stage ends, if it is known.
    pub end: Option<Duration>,
    /// Nodes that have joined and are alive.
    pub nodes: usize,
    /// How many these are when the stage ends, if it is one in which nodes join.
    pub nodes_end: Option<usize>,
    /// What was dealt with since the start: messages, wakes, alarms, commands.
    pub events: u64,
}

/// Whoever watches a run, and may break it off.
type Watch<'a> = Box<dyn FnMut(Progress) -> ControlFlow<()> + 'a>;

/// A network in virtual time.
///
/// ```
/// use std::time::Duration;
/// use kademlia_simulator::{Churn, Departure, Network, Sessions, Setup, Workload};
///
/// let mut network = Network::new(&Setup::default());
/// network.grow(50);
/// network.save_records(20, 100);
/// let sessions = Sessions::Exponential { median: Duration::from_secs(3600) };
/// network.churn(Churn { sessions, departure: Departure::Replaced });
/// network.measure();
/// network.work(Workload { gets: 0.1, ..Workload::default() });
/// network.run_for(Duration::from_secs(3600));
/// let report = network.report();
/// assert!(report.gets > 300 && report.unexplained == 0, "{report:?}");
/// ```
pub struct Network<'a> {
    world: World<Alarm>,
    setup: Setup,
    members: Vec<Handle>,
    /// The members by id, to know who is closest.
    ids: BTreeMap<Id, Handle>,
    /// Where in `members` each is.
    places: BTreeMap<Handle, usize>,
    /// Nodes still to come in a growing network, those of them that are joining, and all that are joining.
    arriving: usize,
    growing: BTreeSet<Handle>,
    joining: BTreeSet<Handle>,
    /// Which of its sessions each node is in.
    sessions: BTreeMap<Handle, u32>,
    churn: Option<Churn>,
    /// Nodes that can come back: since when they are away, and what is on their disks.
    down: BTreeMap<Handle, (Time, Vec<(Id, Record)>)>,
    workload: Workload,
    purposes: BTreeMap<OperationId, Purpose>,
    /// Keys of acknowledged records.
    keys: Vec<Id>,
    /// Of many records that were saved one after the other, those that nobody acknowledged.
    unsaved: u64,
    /// From which the churn is drawn, and from which the work of users is.
    coming: Random,
    working: Random,
    /// What was measured in this lap, and in the laps before.
    measured: Measured,
    before: Measured,
    /// The traffic when the measuring and when the lap began.
    traffic: Traffic,
    lap_traffic: Traffic,
    stage: &'static str,
    /// When the stage ends, if that is known.
    end: Option<Time>,
    /// When a node joined last, or when the joining began.
    joined: Time,
    /// How many nodes are to be there when the stage ends, if they are joining.
    nodes_end: Option<usize>,
    watch: Option<Watch<'a>>,
    /// The events when whoever watches was last told.
    watched: u64,
    broken_off: bool,
}

/// What is planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Alarm {
    /// The next node of a growing network comes.
    Arrive,
    /// The session of a node is over. The number tells its sessions apart.
    Leave(Handle, u32),
    /// A node that left comes back, with its store or without.
    Return(Handle, bool),
    /// A node that could not join tries again, if it still lives the life that began then.
    Join(Handle, Time),
    Lookup,
    Get,
    Save,
    Rewrite,
    Delete,
    Sample,
}

/// What an operation is for.
#[derive(Debug, Clone)]
enum Purpose {
    Join,
    Lookup {
        target: Id,
    },
    Get {
        key: Id,
        expected: Acknowledged,
    },
    /// `None` deletes.
    Save {
        key: Id,
        value: Option<Bytes>,
    },
    /// Of this value of a work.
    Write {
        work: usize,
        place: usize,
    },
    /// Of a work of which this value was the newest acknowledged one, by somebody who knows its owner or not.
    Read {
        work: usize,
        expected: usize,
        pinned: bool,
    },
}

impl fmt::Debug for Network<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network")
            .field("now", &self.world.now())
            .field("nodes", &self.members.len())
            .finish_non_exhaustive()
    }
}

/// Looking.
impl<'a> Network<'a> {
    /// A network without nodes.
    pub fn new(setup: &Setup) -> Self {
        let mut world = World::new(setup);
        world.alarm(happenings::SAMPLE, Alarm::Sample);
        Network {
            world,
            setup: setup.clone(),
            members: Vec::new(),
            ids: BTreeMap::new(),
            places: BTreeMap::new(),
            arriving: 0,
            growing: BTreeSet::new(),
            joining: BTreeSet::new(),
            sessions: BTreeMap::new(),
            churn: None,
            down: BTreeMap::new(),
            workload: Workload::default(),
            purposes: BTreeMap::new(),
            keys: Vec::new(),
            unsaved: 0,
            coming: Random::new(setup.seed, "churn"),
            working: Random::new(setup.seed, "workload"),
            measured: Measured::default(),
            before: Measured::default(),
            traffic: Traffic::default(),
            lap_traffic: Traffic::default(),
            stage: "",
            end: None,
            joined: Time::ZERO,
            nodes_end: None,
            watch: None,
            watched: 0,
            broken_off: false,
        }
    }

    /// Tells `watch` from time to time how far the run is. It may break the run off: then nothing happens any more.
    pub fn watch(&mut self, watch: impl FnMut(Progress) -> ControlFlow<()> + 'a) {
        self.watch = Some(Box::new(watch));
    }

    /// Whether the run was broken off.
    pub fn is_broken_off(&self) -> bool {
        self.broken_off
    }

    /// The time since the start.
    pub fn now(&self) -> Duration {
        self.world.now().since(Time::ZERO)
    }

    /// The nodes that have joined and are alive.
    pub fn members(&self) -> &[Handle] {
        &self.members
    }

    /// The keys of all records that were ever acknowledged.
    pub fn keys(&self) -> &[Id] {
        &self.keys
    }

    /// A node, if it is alive.
    pub fn node(&self, node: Handle) -> Option<&Node<Handle>> {
        self.world.node(node)
    }

    /// What every node is configured with.
    pub fn params(&self) -> &Params {
        self.world.params()
    }

    /// Messages, wakes, alarms and commands that were dealt with.
    pub fn events(&self) -> u64 {
        self.world.events()
    }

    /// A hash of everything that has happened, in its order: the same for the same seed, on every machine.
    pub fn trace_hash(&self) -> u64 {
        self.world.trace_hash()
    }

    /// What went over the wire since the start.
    pub fn traffic(&mut self) -> Traffic {
        self.world.traffic()
    }

    /// On which side of a partition into these shares a node is.
    pub fn is_on_first_side(&self, node: Handle, share: f64) -> bool {
        self.world.links.side(node.number(), share)
    }
}

/// What happens to the network.
impl Network<'_> {
    /// Names what is being done, for whoever watches.
    pub fn stage(&mut self, stage: &'static str) {
        self.stage = stage;
    }

    /// Lets nodes come, one after the other and more at a time as there are more, until there are `count` and all that
    /// came have joined or died. If they cannot, that ends after a while, and is something that must never happen.
    pub fn grow(&mut self, count: usize) {
        self.stage("join");
        self.joined = self.world.now();
        self.arriving = count.saturating_sub(self.members.len() + self.joining.len());
        if self.arriving > 0 {
            self.world.alarm(Duration::ZERO, Alarm::Arrive);
        }
        self.nodes_end = Some(count);
        self.tell();
        self.run_until(|network| network.has_grown() || network.is_stuck());
        self.nodes_end = None;
        if !self.broken_off && !self.has_grown() && self.is_stuck() {
            let now = self.world.now();
            self.world.oracle.violation(now, format_args!("no node has joined for {:?}", self.patience()));
        }
    }

    fn has_grown(&self) -> bool {
        self.arriving == 0 && self.growing.is_empty()
    }

    /// Whether those that are joining will never have joined.
    fn is_stuck(&self) -> bool {
        self.world.now().since(self.joined) > self.patience()
    }

    /// A single join may take as long as any lookup, and bursts may take a connection away several times in a row.
    fn patience(&self) -> Duration {
        let bursts = match self.setup.wire.loss {
            Loss::Bursts { length, .. } => length.saturating_mul(24),
            Loss::Independent(_) => Duration::ZERO,
        };
        PATIENCE.saturating_add(self.params().lookup_timeout).saturating_add(bursts)
    }

    /// Lets so many nodes come at once. Gives them.
    pub fn crowd(&mut self, count: usize) -> Vec<Handle> {
        (0..count).map(|_| self.arrive()).collect()
    }

    /// From now on nodes come and go.
    pub fn churn(&mut self, churn: Churn) {
        self.churn = Some(churn);
        let living: Vec<Handle> = self.world.nodes().map(|(node, _)| node).collect();
        for node in living {
            self.begin_session(node);
        }
    }

    /// Ends a node from one moment to the next, as a crash does. False if it is not alive.
    ///
    /// ```
    /// use std::time::Duration;
    /// use kademlia_simulator::{Network, Setup};
    ///
    /// let mut network = Network::new(&Setup::default());
    /// network.grow(50);
    /// network.save_records(1, 100);
    /// let key = network.keys()[0];
    /// let holders = network.holders(&key);
    /// assert!(holders.iter().all(|holder| network.kill(*holder)));
    /// network.run_for(Duration::from_secs(60));
    /// let asker = network.members()[0];
    /// network.measure();
    /// network.get(asker, key);
    /// network.run_for(Duration::from_secs(60));
    /// assert_eq!(network.report().holders_failed, 1);
    ///
    /// assert!(holders.iter().all(|holder| network.restart(*holder, true)));
    /// network.measure();
    /// network.get(asker, key);
    /// network.run_for(Duration::from_secs(60));
    /// assert_eq!(network.report().get_success, Some(1.0));
    /// ```
    pub fn kill(&mut self, node: Handle) -> bool {
        if !self.world.is_alive(node) {
            return false;
        }
        let records = self.remove(node);
        self.down.insert(node, (self.world.now(), records));
        true
    }

    /// Starts a node again that was killed or left, with what was in its store or without, and has it join. False if it
    /// is alive, or will never come back.
    pub fn restart(&mut self, node: Handle, with_store: bool) -> bool {
        let Some((since, records)) = self.down.remove(&node) else { return false };
        let away = self.world.now().since(since);
        let records = records.into_iter().filter(|_| with_store).map(|(key, record)| (key, record.aged(away)));
        self.world.restart(node, records.collect());
        self.joining.insert(node);
        self.join(node);
        self.begin_session(node);
        true
    }

    /// Kills a share of the members at one moment, for good. Gives how many.
    pub fn kill_share(&mut self, share: f64) -> usize {
        let count = (self.members.len() as f64 * share.clamp(0.0, 1.0)).round() as usize;
        for _ in 0..count {
            if let Some(node) = self.coming.pick(&self.members).copied() {
                self.remove(node);
            }
        }
        count
    }

    /// Splits the network: this share of the nodes does not hear from the others any more.
    pub fn partition(&mut self, share: f64) {
        let now = self.world.now();
        self.world.links.split(now, share);
    }

    /// Heals the partition.
    pub fn heal(&mut self) {
        let now = self.world.now();
        self.world.links.heal(now);
    }

    /// From now on users work like this.
    pub fn work(&mut self, workload: Workload) {
        let planned = |rate: f64, alarm: Alarm, before: f64| (rate > 0.0 && before <= 0.0).then_some((rate, alarm));
        let before = std::mem::replace(&mut self.workload, workload);
        let streams = [
            planned(workload.lookups, Alarm::Lookup, before.lookups),
            planned(workload.gets, Alarm::Get, before.gets),
            planned(workload.saves, Alarm::Save, before.saves),
            planned(workload.rewrites, Alarm::Rewrite, before.rewrites),
            planned(workload.deletes, Alarm::Delete, before.deletes),
        ];
        for (rate, alarm) in streams.into_iter().flatten() {
            self.plan(rate, alarm);
        }
    }

    /// Lets so much time pass.
    pub fn run_for(&mut self, time: Duration) {
        self.stage_ends(time);
        self.pass(time);
        self.end = None;
    }

    /// Says that the stage ends after so much time, however many steps it has.
    pub fn stage_ends(&mut self, after: Duration) {
        self.end = Some(self.world.now() + after);
        self.tell();
    }

    /// Lets time pass within a stage.
    pub fn pass(&mut self, time: Duration) {
        let end = self.world.now() + time;
        self.run(end, |_| false);
    }

    /// Lets time pass until `reached`, at most for a day.
    fn run_until(&mut self, reached: impl Fn(&Network<'_>) -> bool) {
        let end = self.world.now() + Duration::from_secs(24 * 3600);
        self.run(end, &reached);
        if !self.broken_off && !reached(self) {
            let what = format!("the stage `{}` has not ended within a day", self.stage);
            self.world.oracle.violation(end, what);
        }
    }

    fn run(&mut self, end: Time, reached: impl Fn(&Network<'_>) -> bool) {
        while !self.broken_off && !reached(self) {
            match self.world.next(end, self.watched + WATCH) {
                None => return,
                Some(Happening::Paused) => self.tell(),
                Some(Happening::Done { node, operation, since, ended }) => self.ended(node, operation, since, &ended),
                Some(Happening::Alarm(alarm)) => self.ring(alarm),
            }
        }
    }

    /// Tells whoever watches.
    fn tell(&mut self) {
        self.watched = self.world.events();
        let progress = Progress {
            run: 1,
            runs: 1,
            stage: self.stage,
            now: self.now(),
            end: self.end.map(|end| end.since(Time::ZERO)),
            nodes: self.members.len(),
            nodes_end: self.nodes_end,
            events: self.watched,
        };
        if let Some(watch) = &mut self.watch {
            self.broken_off = watch(progress).is_break();
        }
    }
}
