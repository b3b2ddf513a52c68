//! One k-bucket: the contacts that share a given number of leading bits with the node's own id.

use std::time::Duration;

use kademlia_gateways::{Id, Peer};

use super::time::Time;

/// A contact that answered within this time is not asked again for the sake of a newcomer: each answer of a newcomer
/// would otherwise cost a ping, which is itself a request that makes its receiver ask who sent it.
const CHECK_GAP: Duration = Duration::from_secs(60);

/// A contact in the routing table.
#[derive(Debug, Clone)]
pub(crate) struct Entry<P> {
    pub(crate) peer: P,
    /// When it last answered.
    pub(crate) last_seen: Time,
    /// Requests in a row that it did not answer.
    pub(crate) missed: u8,
    /// When it was last asked whether it is there, or did not answer.
    pub(crate) last_asked: Time,
}

impl<P> Entry<P> {
    fn new(now: Time, peer: P) -> Self {
        Entry { peer, last_seen: now, missed: 0, last_asked: Time::ZERO }
    }
}

/// Up to k contacts, the least recently seen first, and up to k others that wait for a place.
#[derive(Debug, Clone)]
pub(crate) struct Bucket<P> {
    pub(crate) entries: Vec<Entry<P>>,
    /// Contacts that answered while the bucket was full, the most recent last.
    replacements: Vec<Entry<P>>,
    /// When something in the range of this bucket was last looked up.
    pub(crate) looked_up: Time,
}

/// What an answer or a missing one changed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change<P> {
    /// Nothing that anyone need know.
    Nothing,
    /// The contact is new in the table.
    Added,
    /// The contact is known by another address now.
    Moved,
    /// The bucket is full: ping this contact, the least recently seen. If it fails, the newcomer takes its place.
    Check(P),
    /// A contact was dropped, and the one that waited, if any, took its place.
    Dropped { dropped: P, replacement: Option<P> },
}

impl<P: Peer> Bucket<P> {
    pub(crate) fn new(now: Time) -> Self {
        Bucket { entries: Vec::new(), replacements: Vec::new(), looked_up: now }
    }

    pub(crate) fn get(&self, id: &Id) -> Option<&Entry<P>> {
        self.entries.iter().find(|entry| entry.peer.id() == *id)
    }

    /// `peer` answered a request that went to its address.
    pub(crate) fn answered(&mut self, now: Time, peer: P, k: usize) -> Change<P> {
        let id = peer.id();
        if let Some(place) = self.entries.iter().position(|entry| entry.peer.id() == id) {
            return self.seen_again(now, place, peer, k);
        }
        let entry = Entry::new(now, peer);
        if self.entries.len() < k {
            self.replacements.retain(|waiting| waiting.peer.id() != id);
            self.entries.push(entry);
            return Change::Added;
        }
        if let Some(stale) = self.entries.iter().position(|entry| entry.missed > 0) {
            let replacement = entry.peer.clone();
            let dropped = self.entries.remove(stale).peer;
            self.replacements.retain(|waiting| waiting.peer.id() != id);
            self.entries.push(entry);
            return Change::Dropped { dropped, replacement: Some(replacement) };
        }
        self.wait(entry, k);
        match self.entries.first() {
            Some(oldest) if oldest.last_seen + CHECK_GAP <= now => Change::Check(oldest.peer.clone()),
            _ => Change::Nothing,
        }
    }

    /// A contact of the table answered, perhaps at another address.
    fn seen_again(&mut self, now: Time, place: usize, peer: P, k: usize) -> Change<P> {
        let mut entry = self.entries.remove(place);
        let same = entry.peer.address() == peer.address();
        // A shorter way to it, and it is itself that said so: anyone can claim an id.
        let nearer =
            P::relays(peer.address()) < P::relays(entry.peer.address()) && entry.peer.others().contains(peer.address());
        if same || nearer || entry.missed > 0 {
            self.replacements.retain(|waiting| waiting.peer.id() != peer.id());
            entry = Entry::new(now, peer);
            self.entries.push(entry);
            return if same { Change::Nothing } else { Change::Moved };
        }
        // Two addresses claim one id. Whoever has the place keeps it while it answers.
        let old = entry.peer.clone();
        self.entries.insert(place.min(self.entries.len()), entry);
        if P::relays(peer.address()) > P::relays(old.address()) {
            return Change::Nothing;
        }
        self.wait(Entry::new(now, peer), k);
        Change::Check(old)
    }

    fn wait(&mut self, entry: Entry<P>, k: usize) {
        self.replacements.retain(|waiting| waiting.peer.id() != entry.peer.id());
        if self.replacements.len() >= k && !self.replacements.is_empty() {
            self.replacements.remove(0);
        }
        self.replacements.push(entry);
    }

    /// The contact `id` did not answer at `address`.
    pub(crate) fn missed(&mut self, now: Time, id: &Id, address: &P::Addr, max_missed: u8) -> Change<P> {
        let Some(place) =
            self.entries.iter().position(|entry| entry.peer.id() == *id && entry.peer.address() == address)
        else {
            self.replacements.retain(|waiting| waiting.peer.id() != *id || waiting.peer.address() != address);
            return Change::Nothing;
        };
        let Some(entry) = self.entries.get_mut(place) else { return Change::Nothing };
        entry.missed = entry.missed.saturating_add(1);
        entry.last_asked = now;
        if entry.missed < max_missed && self.replacements.is_empty() {
            return Change::Nothing;
        }
        // The same id at a newer address comes first; else whoever was seen last.
        let waiting = self
            .replacements
            .iter()
            .position(|waiting| waiting.peer.id() == *id)
            .or_else(|| self.replacements.len().checked_sub(1))
            .map(|index| self.replacements.remove(index));
        let dropped = self.entries.remove(place).peer;
        let replacement = waiting.as_ref().map(|entry| entry.peer.clone());
        if let Some(entry) = waiting {
            let place = self.entries.partition_point(|other| other.last_seen <= entry.last_seen);
            self.entries.insert(place, entry);
        }
        Change::Dropped { dropped, replacement }
    }

    /// Whether a contact that neither stands in the bucket nor waits would be given a place, or a place to wait.
    pub(crate) fn has_room(&self, id: &Id, k: usize) -> bool {
        if self.replacements.iter().any(|waiting| waiting.peer.id() == *id) {
            return false;
        }
        self.entries.len() < k || self.replacements.len() < k || self.entries.iter().any(|entry| entry.missed > 0)
    }

    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.replacements.len()
    }
}
