//! What keeps a network alive by itself: refreshing buckets, checking silent contacts, handing records over,
//! replicating, republishing, and letting records expire.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use kademlia_gateways::{Expect, Id, Peer, Record, Request};

use super::bucket::Entry;
use super::io::{Event, Output, Published, Publishing};
use super::node::{BATCH, Node};
use super::store::{Due, Slot};
use super::task::{Goal, Question, Wanted};
use super::time::Time;
use crate::rules::Meeting;

/// Jobs that wait for their turn.
pub(super) const MAX_JOBS: usize = 1024;

/// How long after an attempt to publish again the next one is due, unless the first one succeeds.
const REPUBLISH_RETRY: Duration = Duration::from_secs(300);

/// Newcomers for whom the records have not been gone through yet. Hourly replication serves whoever is left out.
pub(super) const MAX_NEWCOMERS: usize = 64;

/// Nodes to which a record that was saved is still to be offered, as they were not heard.
pub(super) const MAX_UNHEARD: usize = 64;

/// How many of the nodes closest to a key hand it over to a newcomer: one more than would do, as nobody knows whether the
/// closest is still alive. The second one finds that the newcomer has it.
const HANDERS: usize = 2;

/// A piece of maintenance that takes a lookup or a question to another node.
#[derive(Debug, PartialEq)]
pub(crate) enum Job<P> {
    /// Look up a random id in the range of a bucket.
    Refresh(usize),
    /// Look up the own id.
    Neighbours,
    /// Give a record to the nodes that are closest to its key now.
    Replicate(Slot),
    /// Publish a record of our own again.
    Republish(Slot),
    /// Get the newer version of a record, which others hold.
    Update(Id),
    /// Give a record to a contact that has become one of the closest to its key.
    Handover(P, Slot),
}

/// A record that this node has published and keeps alive.
#[derive(Debug)]
pub(crate) struct Publication {
    pub(super) record: Record,
    pub(super) due: Time,
    /// How it was published last, as of then.
    pub(super) last: Option<(Time, Publishing)>,
}

/// Jobs.
impl<P: Peer> Node<P> {
    pub(super) fn has_job_room(&self) -> bool {
        self.jobs.len() < MAX_JOBS
    }

    pub(super) fn push_job(&mut self, job: Job<P>, out: &mut Vec<Output<P>>) {
        if self.has_job_room() && !self.jobs.contains(&job) {
            self.jobs.push_back(job);
        }
        self.start_jobs(out);
    }

    /// Starts waiting jobs as far as the limit of those under way allows.
    pub(super) fn start_jobs(&mut self, out: &mut Vec<Output<P>>) {
        if std::mem::replace(&mut self.starting_jobs, true) {
            return;
        }
        while self.tasks.len() - self.operations.len() < self.params.limits.background {
            let Some(job) = self.jobs.pop_front() else { break };
            self.start_job(job, out);
        }
        if self.jobs.is_empty() {
            self.jobs = VecDeque::new(); // An empty queue keeps what it has allocated.
        }
        // Most of these are dead, and each takes as long as a request may: one at a time, when there is nothing better to do.
        while self.tasks.len() == self.operations.len() {
            let Some((peer, key, record, since)) = self.unheard.pop_front() else { break };
            if !self.lost.holds(&peer.id()) {
                self.offer(&peer, key, record.aged(self.now.since(since)), out);
            }
        }
        if self.unheard.is_empty() {
            self.unheard = VecDeque::new();
        }
        self.starting_jobs = false;
    }

    fn start_job(&mut self, job: Job<P>, out: &mut Vec<Output<P>>) {
        match job {
            Job::Refresh(bucket) => {
                let target = self.rng.id_in_bucket(&self.id, bucket, self.params.key_space);
                self.look(None, target, Goal::Refresh, out);
            }
            Job::Neighbours => self.look(None, self.id, Goal::Refresh, out),
            Job::Replicate(slot) => {
                let key = slot.key;
                let Some(record) = self.store.get(self.now, &slot) else { return };
                if self.is_among_closest(&key) {
                    return self.look(None, key, Goal::Replicate { record }, out);
                }
                // That others are closer does not mean that they have it: who came while nobody near was heard has not.
                let nearest =
                    self.table.closest(&key, 1, |entry, _| self.table.is_fresh(entry)).first().copied().cloned();
                if let Some(nearest) = nearest {
                    self.offer(&nearest, key, record, out);
                }
            }
            Job::Republish(slot) => {
                if let Some(publication) = self.published.get_mut(&slot) {
                    publication.record.renewal = publication.record.renewal.saturating_add(1);
                    let record = publication.record.clone();
                    self.look(None, slot.key, Goal::Republish { record }, out);
                }
            }
            Job::Update(key) => self.look(None, key, Goal::Query { of: Wanted::All, keep: false }, out),
            Job::Handover(peer, slot) => {
                if let Some(record) = self.store.get(self.now, &slot) {
                    self.offer(&peer, slot.key, record, out);
                }
            }
        }
    }

    /// Gives one node a record, unless it holds that one or a newer one.
    fn offer(&mut self, peer: &P, key: Id, record: Record, out: &mut Vec<Output<P>>) {
        let question = Question::Store { key, record, expect: Expect::Anything, unless_newer: true };
        let request = Request::FindNode { target: key };
        self.ask(None, peer.address().clone(), Some(peer.id()), request, question, out);
    }

    /// Has a record that was saved just now offered to those of the closest nodes that were not heard.
    pub(super) fn offer_to_unheard(&mut self, key: Id, record: &Record, peers: Vec<P>, out: &mut Vec<Output<P>>) {
        let room = MAX_UNHEARD.saturating_sub(self.unheard.len());
        let since = self.now;
        self.unheard.extend(peers.into_iter().take(room).map(|peer| (peer, key, record.clone(), since)));
        self.start_jobs(out);
    }

    /// Whether fewer than k known contacts are closer to `key` than this node.
    fn is_among_closest(&self, key: &Id) -> bool {
        let own = self.id.distance(key);
        let closest = self.table.closest(key, self.params.k, |entry, _| self.table.is_fresh(entry));
        closest.len() < self.params.k || closest.last().is_some_and(|last| own < last.id().distance(key))
    }
}

/// What is due.
impl<P: Peer> Node<P> {
    /// A contact is new in the table.
    pub(super) fn welcome(&mut self, peer: P, out: &mut Vec<Output<P>>) {
        self.had_contacts = true;
        let checked = self.now + self.rng.jitter(self.params.peer_timeout.min(self.refresh_interval));
        self.maintenance_due = self.maintenance_due.min(checked);
        if self.is_newcomer(out) && self.store.len() > 0 && self.newcomers.len() < MAX_NEWCOMERS {
            self.newcomers.push_back((peer.clone(), None));
        }
        out.push(Output::Event(Event::ContactAdded(peer)));
    }

    /// After a join: refreshes every bucket that is farther away than the nearest neighbour (paper, section 2.3).
    pub(super) fn schedule_refreshes(&mut self, out: &mut Vec<Output<P>>) {
        // The deepest of them has just been looked through.
        for bucket in 0..self.table.depth().saturating_sub(1) {
            self.push_job(Job::Refresh(bucket), out);
        }
    }

    /// Sees to it that the table is looked after at `time` at the latest.
    pub(super) fn maintain_by(&mut self, time: Time) {
        self.maintenance_due = self.maintenance_due.min(time);
    }

    /// How long a contact that did not answer is left alone.
    pub(super) fn contact_pause(&self) -> Duration {
        self.params.peer_timeout / 32
    }

    pub(super) fn maintain(&mut self, out: &mut Vec<Output<P>>) {
        // First what only this node can do.
        self.maintain_published(out);
        self.maintain_records(out);
        self.hand_over(out);
        if self.maintenance_due <= self.now {
            self.maintain_table(out);
        }
    }

    fn maintain_records(&mut self, out: &mut Vec<Output<P>>) {
        for _ in 0..BATCH {
            if !self.has_job_room() {
                return;
            }
            let again = self.rng.jitter(self.params.replicate_interval);
            match self.store.pop_due(self.now, again) {
                None => return,
                Some((slot, Due::Expired)) => out.push(Output::Event(Event::RecordExpired { key: slot.key })),
                Some((slot, Due::Replicate)) => self.push_job(Job::Replicate(slot), out),
            }
        }
    }

    fn maintain_published(&mut self, out: &mut Vec<Output<P>>) {
        for _ in 0..BATCH {
            match self.published_due.first().copied() {
                Some((due, slot)) if due <= self.now && self.has_job_room() => {
                    self.published_due.remove(&(due, slot));
                    let retry = REPUBLISH_RETRY.min(self.params.republish_interval);
                    let next = self.now + self.rng.jitter(retry);
                    let Some(publication) = self.published.get_mut(&slot) else { continue };
                    publication.due = next;
                    self.published_due.insert((next, slot));
                    self.push_job(Job::Republish(slot), out);
                }
                _ => return,
            }
        }
    }

    /// Keeps a record of our own alive from now on. A deleted one needs no publisher: its tombstone lives as long as
    /// any copy of what it deletes.
    pub(super) fn publish(&mut self, key: Id, record: Record, last: Option<(usize, usize)>) {
        let last = last.map(|(accepted, refused)| (self.now, Publishing { ago: Duration::ZERO, accepted, refused }));
        let slot = Slot::of(key, &record);
        self.unpublish(&slot);
        // Others could put back what an author has deleted, once the mark of that is gone.
        if !record.is_tombstone() || record.kind.is_authentic() {
            let due = self.now + self.rng.jitter(self.params.republish_interval);
            self.published_due.insert((due, slot));
            self.published.insert(slot, Publication { record, due, last });
            self.note_published(&slot);
        }
    }

    /// A record that was kept alive before a restart is so again.
    pub(super) fn resume_published(&mut self, before: Published) {
        let slot = Slot::of(before.key, &before.record);
        let is_allowed = self.params.key_space.contains(&before.key) && self.has_room_to_publish(&slot);
        if !is_allowed || self.params.rules.check(&before.key, &before.record).is_err() {
            return;
        }
        self.publish(before.key, before.record, None);
        let due = self.now + self.spread(before.due);
        let last = before.last.map(|last| (self.now, last));
        if let Some(publication) = self.published.get_mut(&slot) {
            self.published_due.remove(&(publication.due, slot));
            publication.due = due;
            publication.last = last;
            self.published_due.insert((due, slot));
        }
    }

    /// Keeps a record that was found alive from now on, and publishes it at once: nobody knows how long it still lives.
    pub(super) fn keep_alive(&mut self, key: Id, record: &Record, out: &mut Vec<Output<P>>) {
        let slot = Slot::of(key, record);
        if !record.is_tombstone() && !self.published.contains_key(&slot) {
            self.publish(key, record.clone().lasting(self.params.record_lifetime), None);
            // When there is room for it.
            if let Some(publication) = self.published.get_mut(&slot) {
                self.published_due.remove(&(publication.due, slot));
                publication.due = self.now;
                self.published_due.insert((self.now, slot));
            }
            self.maintain_published(out);
        }
    }

    /// Keeps a record of our own alive no longer.
    pub(super) fn unpublish(&mut self, slot: &Slot) -> Option<Publication> {
        let publication = self.published.remove(slot)?;
        self.note_published(slot);
        self.published_due.remove(&(publication.due, *slot));
        if self.published.is_empty() {
            self.published = BTreeMap::new();
            self.published_due = BTreeSet::new();
        }
        Some(publication)
    }

    /// A record of our own was published again: that is not due for a while.
    pub(super) fn published_well(&mut self, slot: &Slot, accepted: usize, refused: usize) {
        if let Some(Publication { record, .. }) = self.unpublish(slot) {
            self.publish(slot.key, record, Some((accepted, refused)));
        }
    }

    /// Keeps nothing alive any more under this key. Gives how many records that were.
    pub(super) fn forget(&mut self, key: &Id) -> usize {
        let slots: Vec<Slot> = self.published.range(Slot::under(*key)).map(|(slot, _)| *slot).collect();
        slots.iter().filter_map(|slot| self.unpublish(slot)).count()
    }

    /// What is kept alive.
    pub(super) fn published(&self) -> impl Iterator<Item = Published> {
        self.published.iter().map(|(slot, publication)| self.entry(self.now, slot, publication))
    }

    /// What is kept alive at one place.
    pub(super) fn publication(&self, now: Time, slot: &Slot) -> Option<Published> {
        self.published.get(slot).map(|publication| self.entry(now, slot, publication))
    }

    fn entry(&self, now: Time, slot: &Slot, publication: &Publication) -> Published {
        let Publication { record, due, last } = publication;
        let last = last.map(|(time, last)| Publishing { ago: last.ago + now.since(time), ..last });
        let lifetime = self.params.record_lifetime;
        let ends = last.map_or(Duration::ZERO, |last| lifetime.saturating_sub(last.ago));
        Published { key: slot.key, record: record.clone(), due: due.since(now), ends, last }
    }

    /// A record came in: if it is newer than what we publish under its key, ours is not published any more.
    pub(super) fn check_superseded(&mut self, key: &Id, record: &Record, out: &mut Vec<Output<P>>) {
        let slot = Slot::of(*key, record);
        let newer = |publication: &Publication| match self.params.rules.meet(record, &publication.record) {
            Meeting::Replaced => true,
            // What was published is in it.
            Meeting::Merged(_) | Meeting::Same | Meeting::Refused(_) => false,
        };
        if self.published.get(&slot).is_some_and(newer) {
            self.superseded(&slot, record.version, out);
        }
    }

    /// Goes through the records for those that a new contact should hold, a batch at a time.
    ///
    /// Only those closest to a key hand it over, so that a newcomer does not get it k times.
    fn hand_over(&mut self, out: &mut Vec<Output<P>>) {
        if !self.has_job_room() {
            return;
        }
        let Some((peer, after)) = self.newcomers.pop_front() else { return };
        let slots = self.store.slots_after(after, BATCH);
        if slots.len() == BATCH {
            self.newcomers.push_front((peer.clone(), slots.last().copied()));
        } else if self.newcomers.is_empty() {
            self.newcomers = VecDeque::new();
        }
        for slot in slots {
            let key = slot.key;
            let others = |entry: &Entry<P>, id: &Id| self.table.is_fresh(entry) && *id != peer.id();
            let closest = self.table.closest(&key, self.params.k, others);
            let own = self.id.distance(&key);
            let nearer = closest.iter().take_while(|other| other.id().distance(&key) < own).count();
            let theirs = peer.id().distance(&key);
            let belongs =
                closest.len() < self.params.k || closest.last().is_some_and(|last| theirs < last.id().distance(&key));
            if nearer < HANDERS && belongs {
                self.push_job(Job::Handover(peer.clone(), slot), out);
            }
        }
    }

    /// Refreshes what was not looked up for long, and asks contacts that were not heard of for long, or were lost.
    fn maintain_table(&mut self, out: &mut Vec<Output<P>>) {
        let (now, refresh, silence, pause) =
            (self.now, self.refresh_interval, self.params.peer_timeout, self.contact_pause());
        let depth = self.table.depth();
        let stale: Vec<usize> = self
            .table
            .buckets()
            .take(depth)
            .filter(|(_, bucket)| bucket.looked_up + refresh <= now)
            .map(|(index, _)| index)
            .collect();
        for index in stale {
            if self.has_job_room() {
                let target = self.rng.id_in_bucket(&self.id, index, self.params.key_space);
                self.table.looked_up(now, &target);
                self.push_job(if index + 1 == depth { Job::Neighbours } else { Job::Refresh(index) }, out);
            }
        }
        // One that was asked is asked again after a pause, however long it has been silent.
        let due = |entry: &Entry<P>| (entry.last_seen() + silence).max(entry.last_asked() + pause);
        let silent: Vec<P> = self
            .table
            .entries()
            .filter(|entry| due(entry) <= now && !self.probed.contains(entry.peer.address()))
            .take(BATCH)
            .map(|entry| entry.peer.clone())
            .collect();
        let more = silent.len() == BATCH;
        for peer in silent {
            self.table.asked(now, &peer.id());
            self.probe(Some(peer.id()), peer.address(), out);
        }
        // A node that has lost everybody does not wait.
        let patience = if self.table.len() == 0 { pause * 2 } else { refresh / 2 };
        for peer in self.lost.due(now, patience, self.params.record_lifetime) {
            self.probe(Some(peer.id()), peer.address(), out);
        }
        let buckets = self.table.buckets().take(depth).map(|(_, bucket)| bucket.looked_up + refresh);
        // Those that are being asked are due again when that has ended.
        let contacts = self.table.entries().filter(|entry| !self.probed.contains(entry.peer.address())).map(due);
        // Contacts due at about the same time are asked in one wake.
        let earliest = if more { now } else { now + pause.min(refresh / 16) };
        let lost = self.lost.next_due(patience);
        self.maintenance_due = buckets.chain(contacts).chain(lost).min().map_or(Time::NEVER, |next| next.max(earliest));
    }
}
