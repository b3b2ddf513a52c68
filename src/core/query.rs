//! What a query makes of the answers: when they are enough, which is the newest, and whom to repair.

use std::cmp::Ordering;

use kademlia_gateways::{Expect, Peer, Record, Request};

use super::io::{FoundRecord, OperationError, Outcome, Output, QueryReport};
use super::lookup::Lookup;
use super::node::Node;
use super::requests::Purpose;
use super::search::nobody;
use super::task::{Task, Work};

impl<P: Peer> Node<P> {
    /// Whether enough of the nearest nodes agree on the newest record for the lookup to end early.
    ///
    /// Only the nearest count, without a gap: those are the nodes that every save reaches, whereas copies cached along
    /// the way can be old. A single old copy among them sends the lookup on to all of the k closest.
    pub(super) fn query_is_settled(&self, id: u64) -> bool {
        let Some(Task { work: Work::Looking(lookup, _), .. }) = self.tasks.get(&id) else { return false };
        let own = self.store.get(self.now, &lookup.target()).filter(|_| lookup.rank(&self.id) < self.params.k);
        let mut records = lookup.nearest_answers().filter_map(|(_, answer)| answer.record.as_ref()).chain(own.as_ref());
        let Some(first) = records.next() else { return false };
        let mut agreeing = 1;
        for record in records {
            if record.newness(first) != Ordering::Equal {
                return false;
            }
            agreeing += 1;
        }
        let newer_elsewhere = lookup.answers().any(|(_, answer)| answer.held.is_some_and(|held| held > first.version));
        agreeing >= self.params.read_quorum && !newer_elsewhere
    }

    pub(super) fn finish_query(&mut self, id: u64, lookup: &Lookup<P>, out: &mut Vec<Output<P>>) {
        let key = lookup.target();
        let own = self.store.get(self.now, &key);
        let newest = self.newest(lookup);
        let held = lookup.answers().filter_map(|(_, answer)| answer.held).max();
        if let Some(held) = held.filter(|held| newest.as_ref().is_none_or(|newest| *held > newest.version)) {
            return self.end_task(id, Err(OperationError::Unreadable { held }), out);
        }
        let mut effort = self.effort(id);
        let Some(newest) = newest else {
            let result = if lookup.answers().next().is_some() || !self.had_contacts {
                Ok(Outcome::Queried(QueryReport { key, found: None, deleted: None, effort }))
            } else {
                Err(nobody(lookup))
            };
            return self.end_task(id, result, out);
        };
        let same = |record: &Record| record.newness(&newest) == Ordering::Equal;
        let held_here = own.as_ref().is_some_and(same);
        let holders: Vec<P> = lookup
            .answers()
            .filter(|(_, answer)| answer.record.as_ref().is_some_and(same))
            .map(|(peer, _)| peer.clone())
            .collect();
        let mut copy = newest.clone();
        self.age(id, &mut copy);
        if held_here {
            effort.hops = 0;
        } else if own.is_some() {
            // Fails only if something newer came meanwhile.
            self.keep_record(key, copy.clone(), Expect::Anything, None, out).ok();
        }
        self.repair(lookup, &copy, out);
        let deleted = newest.is_tombstone().then_some(newest.version);
        let found = deleted.is_none().then_some(FoundRecord { record: newest, held_here, holders });
        self.end_task(id, Ok(Outcome::Queried(QueryReport { key, found, deleted, effort })), out);
    }

    /// The newest record that this node or anyone who answered holds, and of its copies the one that lives longest.
    pub(super) fn newest(&self, lookup: &Lookup<P>) -> Option<Record> {
        lookup
            .answers()
            .filter_map(|(_, answer)| answer.record.clone())
            .chain(self.store.get(self.now, &lookup.target()))
            .max_by(|a, b| a.newness(b).then((a.remaining, a.renewal).cmp(&(b.remaining, b.renewal))))
    }

    /// Takes off the lifetime of a record what has passed since the task that carries it began. A copy of a copy must
    /// not outlive the first one.
    pub(super) fn age(&self, id: u64, record: &mut Record) {
        *record = record.clone().aged(self.effort(id).elapsed);
    }

    /// Gives the newest record to those who had an older one, and to the nearest one that had none (paper, section
    /// 2.3), there with a lifetime that halves with each place beyond the k closest.
    fn repair(&mut self, lookup: &Lookup<P>, newest: &Record, out: &mut Vec<Output<P>>) {
        let k = self.params.k;
        let mut without = false;
        let mut repairs = Vec::new();
        for (peer, answer) in lookup.answers() {
            let needed = match &answer.record {
                Some(record) => record.newness(newest) == Ordering::Less,
                None => !std::mem::replace(&mut without, true),
            };
            let beyond = (lookup.rank(&peer.id()) + 1).saturating_sub(k);
            let remaining = newest.remaining.checked_shr(u32::try_from(beyond).unwrap_or(u32::MAX)).unwrap_or(0);
            if needed && remaining > 0 {
                repairs.push((peer.clone(), answer.token, Record { remaining, ..newest.clone() }));
            }
        }
        for (peer, token, record) in repairs {
            let store = Request::Store { key: lookup.target(), record, token, expect: Expect::Anything };
            self.request(peer.address().clone(), Some(peer.id()), store, Purpose::Repair, out);
        }
    }
}
