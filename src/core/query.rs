//! What a query makes of the answers: when they are enough, which records are the newest, and whom to repair.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use kademlia_gateways::{Author, Expect, Peer, Record, RecordKind, Request, Version};

use super::io::{FoundRecord, OperationError, Outcome, Output, QueryReport};
use super::lookup::{Answer, Lookup};
use super::node::Node;
use super::requests::Purpose;
use super::search::nobody;
use super::store::{Slot, owner_of};
use super::task::{Goal, Task, Wanted, Work};
use crate::rules::{Meeting, Rules};

impl<P: Peer> Node<P> {
    /// Whether enough of the nearest nodes agree on the newest records for the lookup to end early.
    ///
    /// Only the nearest count, without a gap: those are the nodes that every save reaches, whereas copies cached along
    /// the way can be old. A single old copy among them sends the lookup on to all of the k closest. An immutable value
    /// can be no other, whoever has it.
    pub(super) fn query_is_settled(&self, id: u64) -> bool {
        let Some(Task { work: Work::Looking(lookup, goal), .. }) = self.tasks.get(&id) else { return false };
        let key = lookup.target();
        let own: Vec<Record> = self.store.under(self.now, &key, None).filter(|record| goal.wants(record)).collect();
        if matches!(goal, Goal::Query { of: Wanted::Immutable, .. }) {
            return !own.is_empty() || lookup.answers().any(|(_, answer)| !answer.records.is_empty());
        }
        let own = (!own.is_empty() && lookup.rank(&self.id) < self.params.k).then_some(&own);
        let nearest = lookup.nearest_answers().map(|(_, answer)| &answer.records).filter(|records| !records.is_empty());
        let mut sets = nearest.chain(own);
        let Some(first) = sets.next() else { return false };
        let mut agreeing = 1;
        for set in sets {
            if set.len() != first.len() || !set.iter().zip(first).all(|(one, other)| one.newness(other).is_eq()) {
                return false;
            }
            agreeing += 1;
        }
        agreeing >= self.params.read_quorum && newer_told(lookup, first.first()).is_none()
    }

    pub(super) fn finish_query(&mut self, id: u64, lookup: &Lookup<P>, goal: &Goal<P>, out: &mut Vec<Output<P>>) {
        let key = lookup.target();
        let newest = self.newest(lookup, goal);
        let is_of_all = matches!(goal, Goal::Query { of: Wanted::All, .. });
        if let Some(held) = newer_told(lookup, newest.first()).filter(|_| is_of_all) {
            return self.end_task(id, Err(OperationError::Unreadable { held }), out);
        }
        if newest.is_empty() && lookup.answers().next().is_none() && self.had_contacts {
            return self.end_task(id, Err(nobody(lookup)), out);
        }
        let mut effort = self.effort(id);
        let (mut found, mut deleted, mut immutable, mut of_owners) = (None, None, None, Vec::new());
        for record in newest {
            let author = record.author();
            let own = self.store.get(self.now, &Slot { key, author });
            let held_here = own.as_ref().is_some_and(|own| own.newness(&record).is_eq());
            let mut copy = record.clone();
            self.age(id, &mut copy);
            self.check_superseded(&key, &record, out);
            if held_here {
                effort.hops = 0;
            } else if own.is_some() {
                // Fails only if something newer came meanwhile.
                self.keep_record(key, copy.clone(), Expect::Anything, None, out).ok();
            }
            self.repair(lookup, &copy, out);
            if matches!(goal, Goal::Query { keep: true, .. }) && self.has_room_to_publish(&Slot { key, author }) {
                self.keep_alive(key, &record, out);
            }
            let version = record.version;
            let holders = lookup.answers().filter(|(_, answer)| holds(answer, &record)).map(|(peer, _)| peer.clone());
            let whole = FoundRecord { holders: holders.collect(), record, held_here };
            match (author, whole.record.is_tombstone()) {
                (Author::Any, true) => deleted = Some(version),
                (Author::Any, false) => found = Some(whole),
                (Author::Content, _) => immutable = Some(whole),
                (Author::Owner(_), true) => {}
                (Author::Owner(_), false) => of_owners.push(whole),
            }
        }
        self.end_task(id, Ok(Outcome::Queried(QueryReport { key, found, deleted, immutable, of_owners, effort })), out);
    }

    /// The newest records that this node or anyone who answered holds, in the order of their authors, and of the copies of
    /// each the one that lives longest.
    pub(super) fn newest(&self, lookup: &Lookup<P>, goal: &Goal<P>) -> Vec<Record> {
        let key = lookup.target();
        let own: Vec<Record> = self.store.under(self.now, &key, None).filter(|record| goal.wants(record)).collect();
        let holders = lookup.answers().map(|(_, answer)| answer.records.as_slice());
        let holders: Vec<&[Record]> = holders.chain([own.as_slice()]).collect();
        let owner = owner_of_most(&holders);
        let mut newest: BTreeMap<Author, Record> = BTreeMap::new();
        for record in holders.into_iter().flatten() {
            if owner_of(record).is_some_and(|other| Some(other) != owner) {
                continue;
            }
            match newest.get_mut(&record.author()) {
                Some(known) => meet(&self.params.rules, known, record),
                None => {
                    newest.insert(record.author(), record.clone());
                }
            }
        }
        // Where the key is somebody's, others have nothing to say.
        let is_owned = newest.get(&Author::Any).is_some_and(|record| record.kind.is_authentic());
        newest.retain(|author, _| !is_owned || !matches!(author, Author::Owner(_)));
        newest.into_values().collect()
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
        for (peer, answer) in lookup.answers().filter(|(peer, _)| self.admits(peer)) {
            let needed = match answer.records.iter().find(|record| record.author() == newest.author()) {
                Some(record) => !record.newness(newest).is_eq(),
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

fn holds(answer: &Answer, record: &Record) -> bool {
    answer.records.iter().any(|held| held.newness(record).is_eq())
}

/// The newest version that someone says to hold and has not shown, if it is newer than `newest`. Where a record proves its
/// author nobody is believed to hold another one without showing it.
fn newer_told<P: Peer>(lookup: &Lookup<P>, newest: Option<&Record>) -> Option<Version> {
    if newest.is_some_and(|record| record.kind.is_authentic()) {
        return None;
    }
    let told = lookup.answers().filter_map(|(_, answer)| answer.held).max()?;
    newest.is_none_or(|newest| told > newest.version).then_some(told)
}

/// Of two records of one author the one that counts, or what both make together.
fn meet(rules: &Rules, known: &mut Record, record: &Record) {
    match rules.meet(record, known) {
        Meeting::Same => {
            let life = |record: &Record| (record.remaining, record.renewal);
            if record.newness(known).is_eq() && life(record) > life(known) {
                *known = record.clone();
            }
        }
        Meeting::Refused(_) => {}
        Meeting::Replaced => *known = record.clone(),
        Meeting::Merged(merged) => *known = merged,
    }
}

/// Of those who say that the key is theirs alone, the one of whom most holders have a record; `None` if as many have records
/// of owners who share the key. Holders know who was first.
fn owner_of_most<'a>(holders: &[&'a [Record]]) -> Option<&'a [u8; 33]> {
    // For each owner, how many holders there are, and since when the key is said to be theirs.
    let mut owners: BTreeMap<&[u8; 33], (usize, Version)> = BTreeMap::new();
    for record in holders.iter().copied().flatten() {
        if let Some(owner) = owner_of(record) {
            let (count, oldest) = owners.entry(owner).or_insert((0, Version(u64::MAX)));
            (*count, *oldest) = (*count + 1, since(record).min(*oldest));
        }
    }
    let is_shared = |records: &&&[Record]| records.iter().any(|record| matches!(record.author(), Author::Owner(_)));
    let sharing = holders.iter().filter(is_shared).count();
    let most = owners.into_iter().max_by_key(|(_, (count, oldest))| (*count, Reverse(*oldest)));
    most.filter(|(_, (count, _))| *count > sharing).map(|(owner, _)| owner)
}

fn since(record: &Record) -> Version {
    match &record.kind {
        RecordKind::Owned(owned) => owned.since,
        _ => record.version,
    }
}
