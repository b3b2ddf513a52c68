//! The node: its state, and what can be seen of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kademlia_gateways::{Id, Peer, Record, Version};

use super::admission::{Admission, Policy, admits};
use super::count::Counts;
use super::io::{Counters, OperationId};
use super::journal::Journal;
use super::lost::Lost;
use super::maintenance::{Job, MAX_JOBS, MAX_NEWCOMERS, MAX_UNHEARD, Publication};
use super::params::Params;
use super::requests::Requests;
use super::returning::Returning;
use super::rng::Rng;
use super::store::{Slot, Store};
use super::table::Table;
use super::task::Task;
use super::time::Time;
use super::token::Tokens;

/// Deadlines and records that are dealt with in one tick; the rest wait for the next one, which is due at once.
pub(super) const BATCH: usize = 64;

/// How much waits in a queue of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// What waits in it.
    pub name: &'static str,
    /// How much does.
    pub len: usize,
    /// How much can.
    pub most: usize,
}

/// One node of a network, as a pure state machine.
///
/// ```
/// use kademlia_dht::core::{Command, Input, Node, OperationId, Output, Params, Time};
/// use kademlia_dht::gateway::{Contact, Id, KeySpace};
///
/// let params = Params::new(KeySpace::new(20).unwrap());
/// let mut node: Node<Contact> = Node::new(Id::from_prefix(&[7; 20]), params, [0; 16], Time::ZERO);
/// let mut out = Vec::new();
/// let address = "/ip4/127.0.0.1/udp/4001".parse().unwrap();
/// node.handle(Time::ZERO, Input::Start { operation: OperationId(1), command: Command::Join { address } }, &mut out);
/// assert!(matches!(&out[..], [Output::Send { message, .. }] if message.name() == "PING"));
/// ```
#[derive(Debug)]
pub struct Node<P: Peer> {
    pub(super) id: Id,
    pub(super) params: Arc<Params>,
    /// That of the parameters with jitter, so that nodes started together do not refresh together.
    pub(super) refresh_interval: Duration,
    /// The driver's time at which the node was made. Inside, time starts there.
    start: Time,
    pub(super) now: Time,
    pub(super) rng: Rng,
    /// Who may stand in the table.
    pub(super) admission: Policy<P>,
    pub(super) table: Table<P>,
    pub(super) lost: Lost<P>,
    pub(super) store: Store,
    pub(super) tokens: Tokens,
    pub(super) requests: Requests<P>,
    pub(super) counts: Counts,
    pub(super) tasks: BTreeMap<u64, Task<P>>,
    pub(super) next_task: u64,
    pub(super) task_deadlines: BTreeSet<(Time, u64)>,
    pub(super) operations: BTreeMap<OperationId, u64>,
    pub(super) jobs: VecDeque<Job<P>>,
    /// Who is to be offered which record, and since when.
    pub(super) unheard: VecDeque<(P, Id, Record, Time)>,
    /// Jobs are being started: one that ends at once must not start the next from within.
    pub(super) starting_jobs: bool,
    pub(super) published: BTreeMap<Slot, Publication>,
    pub(super) published_due: BTreeSet<(Time, Slot)>,
    /// Contacts new in the table, and how far the records have been gone through for what is theirs.
    pub(super) newcomers: VecDeque<(P, Option<Slot>)>,
    /// Addresses that are being asked whether anyone is there.
    pub(super) probed: BTreeSet<P::Addr>,
    pub(super) maintenance_due: Time,
    pub(super) had_contacts: bool,
    pub(super) last_version: Version,
    /// Where the parameters ask for one.
    pub(super) journal: Option<Box<Journal>>,
    /// Those who are to be asked after a restart.
    pub(super) returning: Option<Box<Returning<P>>>,
}

/// Getters.
impl<P: Peer> Node<P> {
    /// A node that knows nobody yet. All its randomness follows from `seed`, which nobody else must know.
    ///
    /// Many nodes can share one `Arc<Params>`.
    pub fn new(id: Id, params: impl Into<Arc<Params>>, seed: [u8; 16], now: Time) -> Self {
        let params = params.into();
        let mut rng = Rng::new(seed);
        let secret = (rng.next_u64(), rng.next_u64());
        Node {
            id,
            start: now,
            now: Time::ZERO,
            refresh_interval: rng.jitter(params.refresh_interval),
            table: Table::new(id, params.k, params.max_missed),
            lost: Lost::new(params.k.saturating_mul(2)),
            store: Store::new(Arc::clone(&params)),
            tokens: Tokens::new(secret, params.token_interval),
            requests: Requests::new(params.request_timeout, params.request_timeout_floor),
            counts: Counts::default(),
            tasks: BTreeMap::new(),
            next_task: 0,
            task_deadlines: BTreeSet::new(),
            operations: BTreeMap::new(),
            jobs: VecDeque::new(),
            unheard: VecDeque::new(),
            starting_jobs: false,
            published: BTreeMap::new(),
            published_due: BTreeSet::new(),
            newcomers: VecDeque::new(),
            probed: BTreeSet::new(),
            maintenance_due: Time::NEVER,
            had_contacts: false,
            last_version: Version::default(),
            journal: params.journal.then(Box::default),
            returning: None,
            admission: None,
            rng,
            params,
        }
    }

    /// The node, with a policy of who may stand in its routing table.
    #[must_use]
    pub fn admitting(self, admission: Arc<dyn Admission<P>>) -> Self {
        Node { admission: Some(admission), ..self }
    }

    /// Whether somebody may stand in the table, and be given records.
    pub(super) fn admits(&self, peer: &P) -> bool {
        admits(&self.admission, peer)
    }

    /// The node's id.
    pub fn id(&self) -> Id {
        self.id
    }

    /// What it was told when it started.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The contacts in its routing table, bucket by bucket.
    pub fn contacts(&self) -> impl Iterator<Item = &P> {
        self.table.entries().map(|entry| &entry.peer)
    }

    /// How many contacts are in its routing table.
    pub fn contact_count(&self) -> usize {
        self.table.len()
    }

    /// The contacts that wait for a place in a full bucket, bucket by bucket.
    pub fn waiting_contacts(&self) -> impl Iterator<Item = &P> {
        self.table.buckets().flat_map(|(_, bucket)| bucket.waiting())
    }

    /// The `count` contacts nearest to `target`, nearest first.
    pub fn closest(&self, target: &Id, count: usize) -> Vec<&P> {
        self.table.closest(target, count, |_, _| true)
    }

    /// The record of [`Author::Any`](kademlia_gateways::Author::Any) that it holds for the network under `key`, as of the last input.
    pub fn record(&self, key: &Id) -> Option<Record> {
        self.store.common(self.now, key)
    }

    /// All records that it holds for the network under `key`, in the order of their authors.
    pub fn records_under(&self, key: &Id) -> impl Iterator<Item = Record> {
        self.store.under(self.now, key, None)
    }

    /// The records that it holds for the network at the time `now`, in the order of their keys: what
    /// [`Input::Restore`](super::Input::Restore) gives back to a node that was restarted.
    pub fn records(&self, now: Time) -> impl Iterator<Item = (Id, Record)> {
        self.store.all(self.now.max(self.inside(now)))
    }

    /// How many records it holds for the network.
    pub fn record_count(&self) -> usize {
        self.store.len()
    }

    /// How many bytes the values of these records have.
    pub fn record_bytes(&self) -> usize {
        self.store.bytes()
    }

    /// How many records of its own it keeps alive in the network.
    pub fn published_count(&self) -> usize {
        self.published.len()
    }

    /// How many requests wait for their answers.
    pub fn requests_in_flight(&self) -> usize {
        self.requests.len()
    }

    /// How many operations and lookups of maintenance are under way.
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// What waits in it to be done.
    pub fn queues(&self) -> [Queue; 4] {
        let queue = |name, len, most| Queue { name, len, most };
        [
            queue("jobs of maintenance", self.jobs.len(), MAX_JOBS),
            queue("records to be offered to who was not heard", self.unheard.len(), MAX_UNHEARD),
            queue("newcomers to hand records over to", self.newcomers.len(), MAX_NEWCOMERS),
            queue("lost neighbours", self.lost.peers().count(), self.params.k.saturating_mul(2)),
        ]
    }

    /// What it has counted.
    pub fn counters(&self) -> Counters {
        self.counts.view()
    }

    /// When [`Input::Tick`](super::Input::Tick) is due next, if ever.
    pub fn next_wake(&self) -> Option<Time> {
        let at_once = (!self.newcomers.is_empty() && self.has_job_room()).then_some(self.now);
        let records = self.store.next_due().into_iter().chain(self.published_due.first().map(|(time, _)| *time));
        records
            .filter(|_| self.has_job_room())
            .chain(self.requests.next_deadline())
            .chain(self.task_deadlines.first().map(|(time, _)| *time))
            .chain(Some(self.maintenance_due).filter(|due| *due != Time::NEVER))
            .chain(at_once)
            .chain(self.returning.as_ref().and_then(|returning| returning.next_due()))
            .min()
            .map(|time| self.start + time.since(Time::ZERO))
    }

    /// A driver's time, as it is inside.
    pub(super) fn inside(&self, time: Time) -> Time {
        Time::ZERO + time.since(self.start)
    }
}
