//! One k-bucket: the contacts that share a given number of leading bits with the node's own id.

use std::time::Duration;

use kademlia_gateways::{Id, Peer};

use super::time::{Coarse, Lapse, Time};

/// A contact that answered within this time is not asked again for the sake of a newcomer: each answer of a newcomer
/// would otherwise cost a ping, which is itself a request that makes its receiver ask who sent it.
const CHECK_GAP: Duration = Duration::from_secs(60);

/// A contact in the routing table.
#[derive(Debug, Clone)]
pub(crate) struct Entry<P> {
    pub(crate) peer: P,
    /// Rounded down: rather asked too early than too late.
    last_seen: Coarse,
    /// Rounded up: rather left alone too long than asked again too soon.
    last_asked: Coarse,
    /// When it came into the table.
    since: Coarse,
    /// Of its last answer.
    round_trip: Lapse,
    fingerprint: u8,
    /// Requests in a row that it did not answer.
    pub(crate) missed: u8,
}

impl<P: Peer> Entry<P> {
    fn new(since: Coarse, answered: Waiting<P>) -> Self {
        let Waiting { peer, last_seen, round_trip, fingerprint } = answered;
        Entry { peer, last_seen, last_asked: Coarse::ZERO, since, round_trip, fingerprint, missed: 0 }
    }

    /// When it last answered.
    pub(crate) fn last_seen(&self) -> Time {
        self.last_seen.time()
    }

    /// When it was last asked whether it is there, or did not answer.
    pub(crate) fn last_asked(&self) -> Time {
        self.last_asked.time()
    }

    /// When it came into the table.
    pub(crate) fn since(&self) -> Time {
        self.since.time()
    }

    /// How long it took to answer last.
    pub(crate) fn round_trip(&self) -> Duration {
        self.round_trip.duration()
    }

    pub(crate) fn asked(&mut self, now: Time) {
        self.last_asked = Coarse::not_before(now);
    }

    fn is(&self, id: &Id, fingerprint: u8) -> bool {
        self.fingerprint == fingerprint && self.peer.id() == *id
    }
}

/// A contact that has answered, and waits for a place.
#[derive(Debug, Clone)]
struct Waiting<P> {
    peer: P,
    last_seen: Coarse,
    round_trip: Lapse,
    fingerprint: u8,
}

/// A few bits of an id, by which a bucket is searched: a peer may have to compute its id each time.
fn fingerprint(id: &Id) -> u8 {
    let (words, _) = id.as_bytes().as_chunks();
    let sum = words.iter().fold(0_u64, |sum, word| sum.rotate_left(21) ^ u64::from_le_bytes(*word));
    // The golden ratio mixes all bits into the upper ones.
    (sum.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
}

/// Places that a list grows by. Doubling would leave a third of all places of a full table empty.
const STEP: usize = 4;

fn push<T>(list: &mut Vec<T>, item: T, most: usize) {
    if list.len() == list.capacity() {
        list.reserve_exact(most.saturating_sub(list.len()).clamp(1, STEP));
    }
    list.push(item);
}

/// Up to k contacts, the least recently seen first, and up to k others that wait for a place.
#[derive(Debug, Clone)]
pub(crate) struct Bucket<P> {
    pub(crate) entries: Vec<Entry<P>>,
    /// Contacts that answered while the bucket was full, the most recent last.
    replacements: Vec<Waiting<P>>,
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
        let fingerprint = fingerprint(id);
        self.entries.iter().find(|entry| entry.is(id, fingerprint))
    }

    pub(crate) fn get_mut(&mut self, id: &Id) -> Option<&mut Entry<P>> {
        let fingerprint = fingerprint(id);
        self.entries.iter_mut().find(|entry| entry.is(id, fingerprint))
    }

    /// `peer`, which has this id, answered a request that went to its address.
    pub(crate) fn answered(&mut self, now: Time, id: &Id, peer: P, round_trip: Lapse, k: usize) -> Change<P> {
        let (fingerprint, last_seen) = (fingerprint(id), Coarse::not_after(now));
        let answered = Waiting { peer, last_seen, round_trip, fingerprint };
        if let Some(place) = self.entries.iter().position(|entry| entry.is(id, fingerprint)) {
            return self.seen_again(place, id, answered, k);
        }
        if self.entries.len() < k {
            self.wait_no_longer(id, fingerprint);
            push(&mut self.entries, Entry::new(last_seen, answered), k);
            return Change::Added;
        }
        if let Some(stale) = self.entries.iter().position(|entry| entry.missed > 0) {
            let replacement = answered.peer.clone();
            let dropped = self.entries.remove(stale).peer;
            self.wait_no_longer(id, fingerprint);
            self.entries.push(Entry::new(last_seen, answered));
            return Change::Dropped { dropped, replacement: Some(replacement) };
        }
        self.wait(answered, id, k);
        match self.entries.first() {
            Some(oldest) if oldest.last_seen() + CHECK_GAP <= now => Change::Check(oldest.peer.clone()),
            _ => Change::Nothing,
        }
    }

    /// A contact of the table answered, perhaps at another address.
    fn seen_again(&mut self, place: usize, id: &Id, answered: Waiting<P>, k: usize) -> Change<P> {
        let Some(from_place) = self.entries.get_mut(place..) else { return Change::Nothing };
        let Some(entry) = from_place.first_mut() else { return Change::Nothing };
        let (fingerprint, peer) = (answered.fingerprint, &answered.peer);
        let same = entry.peer.address() == peer.address();
        // A shorter way to it, and it is itself that said so: anyone can claim an id.
        let nearer = || {
            P::relays(peer.address()) < P::relays(entry.peer.address()) && entry.peer.others().contains(peer.address())
        };
        if same || entry.missed > 0 || nearer() {
            *entry = Entry::new(entry.since, answered);
            from_place.rotate_left(1);
            self.wait_no_longer(id, fingerprint);
            return if same { Change::Nothing } else { Change::Moved };
        }
        // Two addresses claim one id. Whoever has the place keeps it while it answers.
        if P::relays(peer.address()) > P::relays(entry.peer.address()) {
            return Change::Nothing;
        }
        let old = entry.peer.clone();
        self.wait(answered, id, k);
        Change::Check(old)
    }

    /// A contact comes from the bucket of another id. Where there is no place it waits for one, and is given back.
    pub(crate) fn adopt(&mut self, entry: Entry<P>, id: &Id, k: usize) -> Option<P> {
        if self.entries.len() < k {
            let place = self.entries.partition_point(|other| other.last_seen <= entry.last_seen);
            self.entries.insert(place, entry);
            return None;
        }
        let Entry { peer, last_seen, round_trip, fingerprint, .. } = entry;
        self.wait(Waiting { peer: peer.clone(), last_seen, round_trip, fingerprint }, id, k);
        Some(peer)
    }

    fn waiting_place(&self, id: &Id, fingerprint: u8) -> Option<usize> {
        self.replacements.iter().position(|waiting| waiting.fingerprint == fingerprint && waiting.peer.id() == *id)
    }

    fn wait_no_longer(&mut self, id: &Id, fingerprint: u8) {
        if let Some(place) = self.waiting_place(id, fingerprint) {
            self.replacements.remove(place);
        }
    }

    fn wait(&mut self, waiting: Waiting<P>, id: &Id, k: usize) {
        self.wait_no_longer(id, waiting.fingerprint);
        if self.replacements.len() >= k && !self.replacements.is_empty() {
            self.replacements.remove(0);
        }
        push(&mut self.replacements, waiting, k);
    }

    /// The contact `id` did not answer at `address`.
    pub(crate) fn missed(&mut self, now: Time, id: &Id, address: &P::Addr, max_missed: u8) -> Change<P> {
        let fingerprint = fingerprint(id);
        let at_address = |peer: &P| peer.address() == address;
        let same_id = self.waiting_place(id, fingerprint);
        let place = self.entries.iter().position(|entry| entry.is(id, fingerprint) && at_address(&entry.peer));
        let Some((place, entry)) = place.and_then(|place| Some((place, self.entries.get_mut(place)?))) else {
            if same_id.and_then(|place| self.replacements.get(place)).is_some_and(|waiting| at_address(&waiting.peer)) {
                self.wait_no_longer(id, fingerprint);
            }
            return Change::Nothing;
        };
        entry.missed = entry.missed.saturating_add(1);
        entry.asked(now);
        if entry.missed < max_missed && self.replacements.is_empty() {
            return Change::Nothing;
        }
        // The same id at a newer address comes first; else whoever was seen last.
        let waiting =
            same_id.or_else(|| self.replacements.len().checked_sub(1)).map(|index| self.replacements.remove(index));
        let dropped = self.entries.remove(place).peer;
        let replacement = waiting.as_ref().map(|waiting| waiting.peer.clone());
        if let Some(waiting) = waiting {
            let place = self.entries.partition_point(|other| other.last_seen <= waiting.last_seen);
            self.entries.insert(place, Entry::new(Coarse::not_after(now), waiting));
        }
        Change::Dropped { dropped, replacement }
    }

    /// Whether a contact that does not stand in the bucket, nor waits, would be given a place, or a place to wait.
    pub(crate) fn has_room(&self, id: &Id, k: usize) -> bool {
        let has_room =
            self.entries.len() < k || self.replacements.len() < k || self.entries.iter().any(|entry| entry.missed > 0);
        has_room && self.waiting_place(id, fingerprint(id)).is_none()
    }

    /// Who waits for a place, the most recent last.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &P> {
        self.replacements.iter().map(|waiting| &waiting.peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contact_of_a_simulation_takes_20_bytes_and_one_that_waits_12() {
        assert_eq!((size_of::<Entry<u32>>(), size_of::<Waiting<u32>>()), (20, 12));
    }
}
