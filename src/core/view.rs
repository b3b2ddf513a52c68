//! What can be seen of a node from outside: its routing table, its records, and what it is doing.

use std::cmp::Reverse;
use std::time::Duration;

use kademlia_gateways::{Author, Distance, Id, Peer, Version};

use super::bucket::{Bucket, Entry};
use super::io::{Effort, Outcome, Published};
use super::node::{Node, Queue};
use super::requests::{Open, Purpose};
use super::task::{Goal, Question, Task, Work};

/// So many records of each sort are in a dump. It is made at once, while nothing else is done.
const MAX_RECORDS: usize = 10_000;

/// A contact in the routing table.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Neighbour<P: Peer> {
    /// Who it is, by the address at which it has answered.
    pub contact: P,
    /// From this node's own id, or from the target that it was asked for.
    pub distance: Distance,
    /// Its bucket: how many leading bits it shares with this node.
    pub bucket: usize,
    /// How long it took to answer last, to within a two-thousandth.
    pub round_trip: Duration,
    /// Since when it is in the table: so long ago, to within a quarter of a second.
    pub age: Duration,
    /// When it answered last: so long ago, to within a quarter of a second.
    pub last_seen: Duration,
    /// Requests in a row that it has not answered since.
    pub missed: u8,
}

/// All that a node knows and does at one moment.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Dump<P: Peer> {
    /// The node's id.
    pub id: Id,
    /// The routing table, up to the bucket of the contact nearest to the node: bucket 0 has those farthest away.
    pub buckets: Vec<BucketView<P>>,
    /// Neighbours that have fallen silent, and are asked now and then whether they are back.
    pub lost: Vec<P>,
    /// The records held for the network, without their values, in the order of their keys: the first 10,000.
    pub records: Vec<RecordView>,
    /// How many more there are.
    pub records_left_out: usize,
    /// The records that the node keeps alive in the network, in the order of their keys: the first 10,000.
    pub published: Vec<Published>,
    /// How many more there are.
    pub published_left_out: usize,
    /// The requests that wait for their answers, the oldest first.
    pub requests: Vec<RequestView<P>>,
    /// The operations and lookups under way, the oldest first.
    pub operations: Vec<OperationView>,
    /// What waits to be done.
    pub queues: Vec<Queue>,
}

/// A bucket of the routing table.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct BucketView<P: Peer> {
    /// How many leading bits its contacts share with the node.
    pub index: usize,
    /// Its contacts, at most k, the one that answered last at the end.
    pub contacts: Vec<Neighbour<P>>,
    /// Who has answered and waits for a place, at most k, the one that answered last at the end.
    pub waiting: Vec<P>,
    /// When something in its range was last looked up: so long ago.
    pub looked_up: Duration,
}

/// A record that a node holds for the network.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordView {
    /// Its key.
    pub key: Id,
    /// Whose it is, of several under one key.
    pub author: Author,
    /// The name of its kind, as [`RecordKind::name`](kademlia_gateways::RecordKind::name) gives it.
    pub kind: &'static str,
    /// Its version.
    pub version: Version,
    /// How many bytes its value has.
    pub bytes: usize,
    /// How long it lives, if it is not published again.
    pub remaining: Duration,
    /// When it is given to the nodes that are closest to it then, unless one of them does that before: in so long.
    pub replicated_in: Duration,
    /// Whether it came from this node itself.
    pub is_own: bool,
}

/// A request that waits for its answer.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RequestView<P: Peer> {
    /// Its name, such as `FIND_NODE`.
    pub name: &'static str,
    /// What it is for: `lookup`, `write`, `question` (of one node), `probe` (whether a contact is there) or `repair`.
    pub purpose: &'static str,
    /// Where it went.
    pub to: P::Addr,
    /// Who is to answer; `None` if only the address is known.
    pub peer: Option<Id>,
    /// When it was first sent: so long ago.
    pub age: Duration,
    /// How often it was sent.
    pub sent: u8,
    /// Whether it counts as unanswered already: an answer would show only that the contact lives.
    pub is_late: bool,
}

/// An operation of the user, or a lookup of maintenance, that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OperationView {
    /// What it is, such as `query`.
    pub name: &'static str,
    /// The key or id that it is about; `None` if it is about an address.
    pub target: Option<Id>,
    /// When it began: so long ago.
    pub age: Duration,
    /// Whether the node does it by itself.
    pub is_maintenance: bool,
    /// What it has taken up to now.
    pub effort: Effort,
}

impl<P: Peer> Node<P> {
    pub(super) fn neighbours(&self) -> Outcome<P> {
        Outcome::Neighbours(self.nearest(&self.id, usize::MAX))
    }

    pub(super) fn closest_known(&self, target: &Id) -> Outcome<P> {
        Outcome::Neighbours(self.nearest(target, self.params.k))
    }

    pub(super) fn ledger(&self) -> Outcome<P> {
        Outcome::Ledger(self.published().collect())
    }

    /// At most so many contacts of the routing table, those nearest to a target, nearest first.
    fn nearest(&self, target: &Id, most: usize) -> Vec<Neighbour<P>> {
        let closest = self.table.closest(target, most, |_, _| true).into_iter();
        closest.filter_map(|peer| Some(self.neighbour(self.table.get(&peer.id())?, target))).collect()
    }

    fn neighbour(&self, entry: &Entry<P>, target: &Id) -> Neighbour<P> {
        let id = entry.peer.id();
        Neighbour {
            contact: entry.peer.clone(),
            distance: id.distance(target),
            bucket: self.id.common_prefix_len(&id),
            round_trip: entry.round_trip(),
            age: self.now.since(entry.since()),
            last_seen: self.now.since(entry.last_seen()),
            missed: entry.missed,
        }
    }

    pub(super) fn dump(&self) -> Outcome<P> {
        let bucket = |(index, bucket): (usize, &Bucket<P>)| BucketView {
            index,
            contacts: bucket.entries.iter().map(|entry| self.neighbour(entry, &self.id)).collect(),
            waiting: bucket.waiting().cloned().collect(),
            looked_up: self.now.since(bucket.looked_up),
        };
        let mut requests: Vec<_> = self.requests.all().map(|open| self.request_view(open)).collect();
        requests.sort_by_key(|request| Reverse(request.age));
        Outcome::Dumped(Box::new(Dump {
            id: self.id,
            buckets: self.table.buckets().map(bucket).collect(),
            lost: self.lost.peers().cloned().collect(),
            records: self.store.views(self.now).take(MAX_RECORDS).collect(),
            records_left_out: self.store.len().saturating_sub(MAX_RECORDS),
            published: self.published().take(MAX_RECORDS).collect(),
            published_left_out: self.published.len().saturating_sub(MAX_RECORDS),
            requests,
            // In the order in which they began.
            operations: self.tasks.values().map(|task| self.operation_view(task)).collect(),
            queues: self.queues().to_vec(),
        }))
    }

    fn request_view(&self, open: &Open<P>) -> RequestView<P> {
        RequestView {
            name: open.request.name(),
            purpose: match open.purpose {
                Purpose::Lookup { .. } => "lookup",
                Purpose::Write(_) => "write",
                Purpose::Single(_) => "question",
                Purpose::Probe => "probe",
                Purpose::Repair => "repair",
            },
            to: open.to.clone(),
            peer: open.expect,
            age: self.now.since(open.sent),
            sent: open.tries(),
            is_late: open.is_late(),
        }
    }

    fn operation_view(&self, task: &Task<P>) -> OperationView {
        let (name, target) = match &task.work {
            Work::Asking(question) => question_view(question),
            Work::Looking(lookup, goal) => (goal_name(goal, task.trace.is_some()), Some(lookup.target())),
            Work::Writing(writing) => (writing.name(), Some(writing.key)),
            Work::Between => ("between two steps", None),
        };
        let age = self.now.since(task.started);
        let effort = Effort { elapsed: age, ..task.effort };
        OperationView { name, target, age, is_maintenance: task.operation.is_none(), effort }
    }
}

fn question_view(question: &Question) -> (&'static str, Option<Id>) {
    match question {
        Question::Join => ("join", None),
        Question::Ping => ("ping", None),
        Question::FindNode => ("find_node", None),
        Question::FindValue => ("find_value", None),
        Question::Store { key, .. } => ("store", Some(*key)),
        Question::Stored => ("store", None),
    }
}

fn goal_name<P>(goal: &Goal<P>, is_traced: bool) -> &'static str {
    match goal {
        Goal::Join { .. } => "join",
        Goal::Refresh => "refresh",
        Goal::Lookup => "lookup",
        Goal::Query { .. } if is_traced => "trace",
        Goal::Query { keep: true, .. } => "keep",
        Goal::Query { .. } => "query",
        Goal::Save(_) => "save",
        Goal::Replicate { .. } => "replicate",
        Goal::Republish { .. } => "republish",
    }
}
