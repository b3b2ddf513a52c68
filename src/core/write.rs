//! Writing a record to the nodes closest to its key: saves, republishing, replication.

use std::sync::Arc;

use kademlia_gateways::{Author, Expect, Id, Peer, Record, Refusal, Request, Token, UnsentReason, Version};

use super::io::{Content, Event, OperationError, Outcome, Output, Receipt, Rejection, Writer};
use super::lookup::{Answer, Lookup};
use super::maintenance::Job;
use super::node::Node;
use super::requests::{Open, Purpose};
use super::search::nobody;
use super::settle::Swap;
use super::store::{Slot, owner_of};
use super::task::{Goal, Task, Wanted, Work};
use super::time::Time;

/// What a user wants saved.
#[derive(Debug)]
pub(crate) struct SaveOrder {
    pub(super) content: Content,
    pub(super) expect: Expect,
    pub(super) unix_milliseconds: u64,
}

/// A record on its way to the nodes closest to its key.
#[derive(Debug)]
pub(crate) struct Writing<P: Peer> {
    pub(super) key: Id,
    pub(super) record: Record,
    pub(super) expect: Expect,
    /// When the record's lifetime began, as far as this node gives it one.
    since: Time,
    purpose: WritePurpose,
    /// Whether this node is one of the closest itself.
    keep_here: bool,
    pub(super) pending: usize,
    pub(super) accepted: Vec<P>,
    pub(super) refused: Vec<(P, Rejection)>,
    /// Nodes as close that did not answer the lookup: dead, or not heard.
    silent: Vec<P>,
    /// If it is one.
    pub(super) swap: Option<Swap<P>>,
}

impl<P: Peer> Writing<P> {
    /// The closest nodes that did not answer.
    fn take_unheard(&mut self) -> Vec<P> {
        let mut unheard = std::mem::take(&mut self.silent);
        let refused = self.refused.iter().filter(|(_, reason)| *reason == Rejection::Silent);
        unheard.extend(refused.map(|(peer, _)| peer.clone()));
        unheard
    }
}

impl<P: Peer> Writing<P> {
    /// What is done, for who looks.
    pub(super) fn name(&self) -> &'static str {
        match self.purpose {
            WritePurpose::Save { .. } => "save",
            WritePurpose::Republish => "republish",
            WritePurpose::Replicate => "replicate",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WritePurpose {
    /// And whether this node keeps the record alive from then on.
    Save {
        keep: bool,
    },
    Republish,
    Replicate,
}

/// Saves.
impl<P: Peer> Node<P> {
    pub(super) fn check_save(&self, key: &Id, order: &SaveOrder) -> Result<(), OperationError<P>> {
        let size = match &order.content {
            Content::Value(value) => value.len(),
            Content::Record(record) | Content::Unkept(record) => record.value.len(),
            Content::Delete | Content::Written(_) => 0,
        };
        let limits = &self.params.limits;
        if size > limits.value_bytes {
            return Err(OperationError::TooLarge { size, limit: limits.value_bytes });
        }
        if let Content::Record(record) | Content::Unkept(record) = &order.content {
            self.params.rules.check(key, record)?;
        }
        if matches!(order.content, Content::Unkept(_)) {
            return Ok(());
        }
        let slot = Slot { key: *key, author: order.content.author() };
        if !self.has_room_to_publish(&slot) {
            return Err(OperationError::PublishedFull(limits.published));
        }
        Ok(())
    }

    /// Whether one more record can be kept alive, or this one is already.
    pub(super) fn has_room_to_publish(&self, slot: &Slot) -> bool {
        self.published.len() < self.params.limits.published || self.published.contains_key(slot)
    }

    pub(super) fn start_save(&mut self, id: u64, lookup: &Lookup<P>, order: &SaveOrder, out: &mut Vec<Output<P>>) {
        let (key, author) = (lookup.target(), order.content.author());
        let mut newest = self.newest(lookup, &Goal::Query { of: Wanted::All, keep: false });
        let is_alone = |record: &&Record| record.author() == Author::Any && record.kind.is_authentic();
        let owner = newest.first().filter(is_alone).filter(|record| self.is_believed(lookup, record)).cloned();
        let is_shared = self.most_hold(lookup, |record| is_another_owners(record, order.content.owner()));
        // Of an owner its own, whoever else says that the key is theirs.
        if let Some(own) = order.content.owner() {
            newest = self.newest(lookup, &Goal::Query { of: Wanted::Owner(Box::new(own)), keep: false });
        }
        newest.retain(|record| record.author() == author);
        // Whoever proves what they write need not care for what others say who prove nothing.
        let proves = matches!(order.content, Content::Written(_));
        let newest = newest.pop().filter(|record| !proves || record.kind.is_authentic());
        let newest_held = match &newest {
            Some(record) if record.kind.is_authentic() => Some(record.version),
            _ if proves => None,
            _ if author != Author::Any => None,
            _ => lookup.answers().filter_map(|(_, answer)| answer.held).chain(self.store.version(self.now, &key)).max(),
        };
        let expected = match order.expect {
            Expect::Anything => true,
            // A value of which only the version came is one that is too large for its way.
            Expect::Absent => newest
                .as_ref()
                .map_or(newest_held.is_none(), |record| record.is_tombstone() && newest_held <= Some(record.version)),
            Expect::Version(version) => newest_held == Some(version),
        };
        if !expected {
            return self.end_task(id, Err(OperationError::Conflict { held: newest_held }), out);
        }
        if self.holders(lookup).next().is_none() && (self.had_contacts || self.params.client) {
            return self.end_task(id, Err(nobody(lookup)), out);
        }
        // What others say they hold raises this version only, not those of all saves to come.
        // Its last bits are random: two writers in one millisecond must not make one version of two values.
        let random = self.rng.next_u64() & 0xffff;
        self.last_version = Version(Version::at(order.unix_milliseconds).0 | random).max(self.last_version.next());
        let above = newest_held.map_or(Version::default(), |held| Version(held.0.saturating_add(1 + random)));
        let version = self.last_version.max(above);
        let lifetime = self.params.record_lifetime;
        let record = match &order.content {
            Content::Value(value) => Ok(Record::plain(value.clone(), version, lifetime)),
            Content::Delete => Ok(Record::tombstone(version, lifetime)),
            // It is kept alive, as what is made here.
            Content::Record(record) => Ok(Record { renewal: 0, ..record.clone().lasting(lifetime) }),
            Content::Unkept(record) => Ok(Record { renewal: 0, ..record.clone() }),
            Content::Written(writer) => writer
                .write(newest.as_ref(), self.last_version, lifetime)
                .and_then(|record| self.params.rules.check(&key, &record).map(|()| record)),
        };
        let record = record.and_then(|record| match owner {
            // Who comes first has a key alone, and other owners have been there.
            _ if is_shared && owner_of(&record).is_some() => Err(Refusal::Taken),
            Some(owner) if is_anothers(&record, &owner) => Err(Refusal::Taken),
            _ => Ok(record),
        });
        let keep = !matches!(order.content, Content::Unkept(_));
        match record {
            Ok(record) => {
                let writer = match &order.content {
                    Content::Written(writer) => Some(Arc::clone(writer)),
                    _ => None,
                };
                self.write(id, lookup, record, (order.expect, writer), WritePurpose::Save { keep }, out);
            }
            Err(refusal) => self.end_task(id, Err(OperationError::Refused(refusal)), out),
        }
    }

    /// Whether a key is taken by a record that is said to be its owner's: most of the nodes closest to the key say so, or this
    /// one. Anybody can say that they were first; holders know who was, and refuse what others write.
    fn is_believed(&self, lookup: &Lookup<P>, record: &Record) -> bool {
        let Some(owner) = owner_of(record) else { return true };
        self.most_hold(lookup, |record| owner_of(record) == Some(owner))
    }

    /// Whether most of the nodes closest to a key hold such a record there, or this one does.
    fn most_hold(&self, lookup: &Lookup<P>, is_such: impl Fn(&Record) -> bool) -> bool {
        let closest: Vec<_> = lookup.answers().take(self.params.k).collect();
        let holders = closest.iter().filter(|(_, answer)| answer.records.iter().any(&is_such)).count();
        holders * 2 > closest.len() || self.store.under(self.now, &lookup.target(), None).any(|own| is_such(&own))
    }

    pub(super) fn start_republish(&mut self, id: u64, lookup: &Lookup<P>, record: Record, out: &mut Vec<Output<P>>) {
        match newer_held(lookup, &record) {
            // Not to be spread again: readers who meet the newer one's holders restarted would go by it.
            Some(by) => {
                self.superseded(&Slot::of(lookup.target(), &record), by, out);
                self.end_task(id, Err(OperationError::Cancelled), out);
            }
            None => self.write(id, lookup, record, (Expect::Anything, None), WritePurpose::Republish, out),
        }
    }

    pub(super) fn start_replicate(&mut self, id: u64, lookup: &Lookup<P>, record: Record, out: &mut Vec<Output<P>>) {
        if newer_held(lookup, &record).is_some() {
            // Ours is old: get the newer one instead of spreading what was overwritten.
            self.push_job(Job::Update(lookup.target()), out);
            return self.end_task(id, Err(OperationError::Cancelled), out);
        }
        self.write(id, lookup, record, (Expect::Anything, None), WritePurpose::Replicate, out);
    }

    /// Those who answered and may be given records, nearest first.
    fn holders<'a>(&'a self, lookup: &'a Lookup<P>) -> impl Iterator<Item = (&'a P, &'a Answer)> {
        lookup.answers().filter(|(peer, _)| self.admits(peer))
    }

    /// Sends the record to the k closest nodes that answered. With a condition goes what can write the record anew.
    fn write(
        &mut self,
        id: u64,
        lookup: &Lookup<P>,
        mut record: Record,
        (expect, writer): (Expect, Option<Arc<dyn Writer>>),
        purpose: WritePurpose,
        out: &mut Vec<Output<P>>,
    ) {
        let (key, k) = (lookup.target(), self.params.k);
        if purpose == WritePurpose::Replicate {
            self.age(id, &mut record);
        }
        // All who swap write to the same nodes, themselves among them, so that each hears of the others.
        let is_swap = expect != Expect::Anything;
        let reach = k + usize::from(is_swap);
        let keep_here = !self.params.client && lookup.rank(&self.id) < reach;
        let others = if is_swap && keep_here { k } else { reach };
        let targets: Vec<_> =
            self.holders(lookup).take(others).map(|(peer, answer)| (peer.clone(), answer.token)).collect();
        let pending = targets.len();
        let writing = Writing {
            key,
            record: record.clone(),
            expect,
            since: self.now,
            purpose,
            keep_here,
            pending,
            accepted: Vec::new(),
            refused: Vec::new(),
            silent: lookup.silent().cloned().collect(),
            swap: is_swap.then(|| Swap::new(targets.clone(), writer)),
        };
        if let Some(task) = self.tasks.get_mut(&id) {
            task.work = Work::Writing(writing);
        }
        for (peer, token) in targets {
            self.send_store(id, peer, Request::Store { key, record: record.clone(), token, expect }, out);
        }
        if pending == 0 {
            self.finish_write(id, out);
        }
    }

    /// A record did not fit the way to a node: asks it for a token by the next of its other addresses. False if there
    /// is none.
    pub(super) fn write_elsewhere(&mut self, id: u64, open: &Open<P>, out: &mut Vec<Output<P>>) -> bool {
        let Some(Task { work: Work::Writing(Writing { key, .. }), .. }) = self.tasks.get(&id) else { return false };
        let Some(entry) = open.expect.and_then(|peer| self.table.get(&peer)) else { return false };
        let others = entry.peer.others();
        let tried = others.iter().position(|other| *other == open.to).map_or(0, |place| place + 1);
        let Some(other) = others.get(tried).cloned() else { return false };
        self.request(other, open.expect, Request::FindNode { target: *key }, Purpose::Write(id), out)
    }

    /// The node gave a token by another of its addresses: sends it the record there.
    pub(super) fn write_on(&mut self, id: u64, peer: P, token: Token, out: &mut Vec<Output<P>>) {
        let Some(Task { work: Work::Writing(writing), .. }) = self.tasks.get(&id) else { return };
        let (key, expect) = (writing.key, writing.expect);
        let store = Request::Store { key, record: writing.record.clone(), token, expect };
        self.send_store(id, peer, store, out);
    }

    /// Asks one of the nodes to keep the record.
    pub(super) fn send_store(&mut self, id: u64, peer: P, store: Request, out: &mut Vec<Output<P>>) {
        if !self.request(peer.address().clone(), Some(peer.id()), store, Purpose::Write(id), out) {
            self.write_ended(id, peer, Err(Rejection::Unsent(UnsentReason::QueueFull)), out);
        }
    }

    /// One of the closest nodes has kept the record, or will not.
    pub(super) fn write_ended(&mut self, id: u64, peer: P, outcome: Result<(), Rejection>, out: &mut Vec<Output<P>>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let Work::Writing(writing) = &mut task.work else { return };
        if !matches!(outcome, Err(Rejection::Silent | Rejection::Unsent(_))) {
            task.effort.count_answer();
        }
        match outcome {
            Ok(()) => writing.accepted.push(peer),
            Err(reason) => writing.refused.push((peer, reason)),
        }
        writing.pending = writing.pending.saturating_sub(1);
        if writing.pending == 0 {
            self.finish_write(id, out);
        }
    }

    /// Ends a write whose time is over with what was accepted until then. False if the task is not writing.
    pub(super) fn end_late_write(&mut self, id: u64, out: &mut Vec<Output<P>>) -> bool {
        let Some(Task { work: Work::Writing(writing), .. }) = self.tasks.get_mut(&id) else { return false };
        writing.swap.iter_mut().for_each(Swap::give_up);
        self.finish_write(id, out);
        true
    }

    fn finish_write(&mut self, id: u64, out: &mut Vec<Output<P>>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let Work::Writing(writing) = std::mem::replace(&mut task.work, Work::Between) else { return };
        let Some(mut writing) = self.settle(id, writing, out) else { return };
        match writing.purpose {
            WritePurpose::Save { .. } => {
                let (key, record, unheard) = (writing.key, self.lived(&writing), writing.take_unheard());
                let result = self.finish_save(id, writing, out);
                let saved = result.is_ok();
                self.end_task(id, result, out);
                // Dead, or only not heard: then they would go on serving what they hold.
                if saved {
                    self.offer_to_unheard(key, &record, unheard, out);
                }
            }
            WritePurpose::Republish => {
                self.finish_republish(&writing, out);
                self.end_task(id, Ok(Outcome::Stored), out);
            }
            WritePurpose::Replicate => self.end_task(id, Ok(Outcome::Stored), out),
        }
    }

    fn finish_save(
        &mut self,
        id: u64,
        mut writing: Writing<P>,
        out: &mut Vec<Output<P>>,
    ) -> Result<Outcome<P>, OperationError<P>> {
        let key = writing.key;
        writing.refused.sort_by_key(|(peer, _)| peer.id().distance(&key));
        writing.accepted.sort_by_key(|peer| peer.id().distance(&key));
        let conflicts = writing.refused.iter().filter_map(|(_, reason)| match reason {
            Rejection::Refused(Refusal::Conflict { held }) => Some(*held),
            _ => None,
        });
        let (accepted, refused) = (writing.accepted.len(), writing.refused.len());
        if writing.expect != Expect::Anything && accepted <= refused && accepted + refused > 0 {
            // Of two swaps at once at most one can have more than half of the same holders.
            return Err(match conflicts.clone().next() {
                Some(_) => OperationError::Conflict { held: conflicts.flatten().max() },
                None => OperationError::NotStored { refused: writing.refused },
            });
        }
        if writing.accepted.is_empty() && !writing.refused.is_empty() {
            return Err(OperationError::NotStored { refused: writing.refused });
        }
        // What was published here before is replaced by this record, and not by another's.
        let slot = Slot::of(key, &writing.record);
        // Nor does saving it once more end that it is kept alive.
        let keeps = writing.purpose == (WritePurpose::Save { keep: true });
        let before = keeps.then(|| self.unpublish(&slot)).flatten().filter(|_| writing.accepted.is_empty());
        let kept = writing.keep_here.then(|| self.keep_record(key, self.lived(&writing), writing.expect, None, out));
        let kept_here = matches!(kept, Some(Ok(())));
        if writing.accepted.is_empty() && !kept_here {
            // What was saved before is still all there is.
            before.into_iter().for_each(|before| self.publish(key, before.record, None));
            return Err(match kept {
                Some(Err(Refusal::Conflict { held })) => OperationError::Conflict { held },
                // Nobody else was asked.
                Some(Err(refusal)) => OperationError::Refused(refusal),
                _ => OperationError::NotStored { refused: writing.refused },
            });
        }
        let version = writing.record.version;
        if keeps {
            let accepted = writing.accepted.len() + usize::from(kept_here);
            self.publish(key, writing.record, Some((accepted, writing.refused.len())));
        }
        let effort = self.effort(id);
        let Writing { accepted, refused, .. } = writing;
        Ok(Outcome::Saved(Receipt { key, version, kept_here, accepted, refused, effort }))
    }

    /// The record with what is left of its lifetime: writing it took some.
    fn lived(&self, writing: &Writing<P>) -> Record {
        writing.record.clone().aged(self.now.since(writing.since))
    }

    fn finish_republish(&mut self, writing: &Writing<P>, out: &mut Vec<Output<P>>) {
        let newer = writing.refused.iter().filter_map(|(_, reason)| match reason {
            Rejection::Refused(Refusal::Older { held }) => Some(*held),
            // The key is another's by now, or the rule is against it: it would be refused for ever.
            Rejection::Refused(Refusal::Taken | Refusal::Late | Refusal::Rule { .. }) => Some(writing.record.version),
            _ => None,
        });
        let slot = Slot::of(writing.key, &writing.record);
        match newer.max() {
            // Nobody is believed to hold something newer who need not show it.
            Some(_) if writing.record.kind.is_authentic() => self.push_job(Job::Update(writing.key), out),
            Some(by) => return self.superseded(&slot, by, out),
            None => {}
        }
        if writing.accepted.is_empty() && self.had_contacts {
            return; // Nobody has it. It is due again soon.
        }
        self.published_well(&slot, writing.accepted.len(), writing.refused.len());
        if writing.keep_here {
            // Refused only if a newer one is held, of which `keep_record` tells.
            self.keep_record(writing.key, self.lived(writing), Expect::Anything, None, out).ok();
        }
    }

    /// Ends the publishing of a record that a newer one has replaced.
    pub(super) fn superseded(&mut self, slot: &Slot, by: Version, out: &mut Vec<Output<P>>) {
        if self.unpublish(slot).is_some() {
            out.push(Output::Event(Event::Superseded { key: slot.key, by }));
        }
    }
}

/// Whether a record is of one of several owners of its key, and not of this one.
fn is_another_owners(record: &Record, own: Option<[u8; 33]>) -> bool {
    matches!(record.author(), Author::Owner(owner) if Some(owner) != own)
}

/// Whether a record must not take the place of that of a key's owner. An honest writer does not even try where the other one
/// proves less and could be driven out.
fn is_anothers(record: &Record, owner: &Record) -> bool {
    let owners = (owner_of(record), owner_of(owner));
    if record.author() == Author::Content {
        return false;
    }
    owner.author() != record.author()
        || record.is_outranked_by(owner)
        || matches!(owners, (Some(own), Some(other)) if own != other)
}

/// The newest version that someone who answered holds, if it is newer than `record`. Nobody is believed to hold a newer one
/// of what proves its author.
fn newer_held<P: Peer>(lookup: &Lookup<P>, record: &Record) -> Option<Version> {
    if record.kind.is_authentic() {
        return None;
    }
    lookup.answers().filter_map(|(_, answer)| answer.held).filter(|held| *held > record.version).max()
}
