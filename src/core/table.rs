//! The routing table: a bucket for each number of leading bits shared with the own id.

use std::collections::BTreeSet;

use kademlia_gateways::{Id, Peer};

use super::bucket::{Bucket, Change, Entry};
use super::time::{Lapse, Time};

/// The most relays that are in doubt at once.
const MAX_SUSPECTS: usize = 64;

/// All contacts that have answered, in k-buckets (paper, section 2.2 and 2.4).
///
/// Only buckets up to the deepest one with a contact exist, so that an empty table costs nothing.
#[derive(Debug)]
pub(crate) struct Table<P: Peer> {
    own: Id,
    k: usize,
    max_missed: u8,
    buckets: Vec<Bucket<P>>,
    len: usize,
    /// Whether anyone behind a relay has ever answered. Most networks have none, and need not search for them.
    relayed: bool,
    /// Relays that did not answer: whoever is behind them is in doubt.
    suspects: BTreeSet<P::Addr>,
}

impl<P: Peer> Table<P> {
    pub(crate) fn new(own: Id, k: usize, max_missed: u8) -> Self {
        Table { own, k, max_missed, buckets: Vec::new(), len: 0, relayed: false, suspects: BTreeSet::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn buckets(&self) -> impl DoubleEndedIterator<Item = (usize, &Bucket<P>)> {
        self.buckets.iter().enumerate()
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry<P>> {
        self.buckets.iter().flat_map(|bucket| &bucket.entries)
    }

    pub(crate) fn get(&self, id: &Id) -> Option<&Entry<P>> {
        self.buckets.get(self.own.common_prefix_len(id))?.get(id)
    }

    /// The `count` contacts nearest to `target` among those that `wanted` lets through, by entry and id, nearest first.
    ///
    /// Exact: goes through the buckets in the order of their distance from the target and stops when it has enough.
    pub(crate) fn closest(&self, target: &Id, count: usize, wanted: impl Fn(&Entry<P>, &Id) -> bool) -> Vec<&P> {
        let mut found: Vec<&P> = Vec::with_capacity(count.min(self.len));
        // The start of a distance decides nearly always, and moves faster than all of it.
        let mut batch: Vec<(u64, &P)> = Vec::with_capacity(self.k.min(self.len));
        for index in self.outward(target) {
            if found.len() >= count {
                break;
            }
            let Some(bucket) = self.buckets.get(index) else { continue };
            batch.clear();
            batch.extend(bucket.entries.iter().filter_map(|entry| {
                let id = entry.peer.id();
                wanted(entry, &id).then(|| (id.distance(target).prefix(), &entry.peer))
            }));
            let distance = |peer: &P| peer.id().distance(target);
            batch.sort_unstable_by(|(a, a_peer), (b, b_peer)| {
                a.cmp(b).then_with(|| distance(a_peer).cmp(&distance(b_peer)))
            });
            let room = count - found.len();
            found.extend(batch.iter().take(room).map(|(_, peer)| *peer));
        }
        found
    }

    /// The indices of the buckets, those nearest to `target` first.
    ///
    /// Let d be the distance from the own id to the target. Going from the own id into bucket i flips bit i of the
    /// distance to the target and leaves the bits before it: where bit i of d is set, all of the bucket is nearer than
    /// the own id, the more so the smaller i is; where it is not set, all of the bucket is farther, the more so the
    /// smaller i is.
    fn outward(&self, target: &Id) -> impl Iterator<Item = usize> {
        let own = self.own;
        let target = *target;
        let differs = move |index: &usize| own.bit(*index) != target.bit(*index);
        let count = self.buckets.len();
        (0..count).filter(differs).chain((0..count).rev().filter(move |index| !differs(index)))
    }

    /// `peer` answered a request that went to its address.
    pub(crate) fn answered(&mut self, now: Time, peer: P, round_trip: Lapse) -> Change<P> {
        let id = peer.id();
        if id == self.own {
            return Change::Nothing;
        }
        self.trust(peer.address());
        self.relayed = self.relayed || P::relays(peer.address()) > 0;
        let k = self.k;
        let Some(bucket) = self.bucket_of(now, &id) else { return Change::Nothing };
        let change = bucket.answered(now, &id, peer, round_trip, k);
        if change == Change::Added {
            self.len += 1;
        }
        change
    }

    /// The bucket in which `id` has its place.
    fn bucket_of(&mut self, now: Time, id: &Id) -> Option<&mut Bucket<P>> {
        let index = self.own.common_prefix_len(id);
        if let Some(more) = (index + 1).checked_sub(self.buckets.len()) {
            self.buckets.reserve_exact(more);
            self.buckets.resize_with(index + 1, || Bucket::new(now));
        }
        self.buckets.get_mut(index)
    }

    /// The contact `id` did not answer at `address`.
    pub(crate) fn missed(&mut self, now: Time, id: &Id, address: &P::Addr) -> Change<P> {
        let Some(bucket) = self.buckets.get_mut(self.own.common_prefix_len(id)) else { return Change::Nothing };
        let change = bucket.missed(now, id, address, self.max_missed);
        if matches!(change, Change::Dropped { replacement: None, .. }) {
            self.len = self.len.saturating_sub(1);
            // Or whoever once had an id next to ours would have us look after a hundred empty buckets.
            while self.buckets.last().is_some_and(|bucket| bucket.entries.is_empty()) {
                self.buckets.pop();
            }
        }
        change
    }

    /// The own id is another one from now on: each contact gets the place that it has as seen from there, or waits for one.
    /// Gives those that have no place any more.
    pub(crate) fn move_to(&mut self, now: Time, own: Id) -> Vec<P> {
        self.own = own;
        self.len = 0;
        let (k, mut displaced) = (self.k, Vec::new());
        for bucket in std::mem::take(&mut self.buckets) {
            for entry in bucket.entries {
                let id = entry.peer.id();
                if id == own {
                    displaced.push(entry.peer);
                } else if let Some(bucket) = self.bucket_of(now, &id) {
                    let without = bucket.adopt(entry, &id, k);
                    self.len += usize::from(without.is_none());
                    displaced.extend(without);
                }
            }
        }
        displaced
    }

    /// The contact `id` is being asked whether it is there.
    pub(crate) fn asked(&mut self, now: Time, id: &Id) {
        let bucket = self.buckets.get_mut(self.own.common_prefix_len(id));
        if let Some(entry) = bucket.and_then(|bucket| bucket.get_mut(id)) {
            entry.asked(now);
        }
    }

    /// Whether a contact answered when it was last asked, and is not behind a relay that is in doubt.
    pub(crate) fn is_fresh(&self, entry: &Entry<P>) -> bool {
        let in_doubt = |relay| self.suspects.contains(&relay);
        entry.missed == 0 && (self.suspects.is_empty() || !P::relay(entry.peer.address()).is_some_and(in_doubt))
    }

    /// Whether a contact is reached through `address`.
    pub(crate) fn is_relay(&self, address: &P::Addr) -> bool {
        self.relayed && self.entries().any(|entry| P::relay(entry.peer.address()).as_ref() == Some(address))
    }

    /// Nobody answered at `address`: whoever is reached through it is in doubt.
    pub(crate) fn doubt(&mut self, address: &P::Addr) {
        if self.is_relay(address) && self.suspects.len() < MAX_SUSPECTS {
            self.suspects.insert(address.clone());
        }
    }

    /// Someone answered at `address`: it works, and the relay that it leads through.
    fn trust(&mut self, address: &P::Addr) {
        if !self.suspects.is_empty() {
            self.suspects.remove(address);
            if let Some(relay) = P::relay(address) {
                self.suspects.remove(&relay);
            }
        }
    }

    /// How many buckets are looked after: those up to the one of the k-th nearest neighbour. What is deeper is seen by
    /// every lookup of the own id.
    pub(crate) fn depth(&self) -> usize {
        let (mut depth, mut neighbours) = (0, 0);
        for (index, bucket) in self.buckets().rev().filter(|(_, bucket)| !bucket.entries.is_empty()) {
            if neighbours >= self.k {
                break;
            }
            depth = index + 1;
            neighbours += bucket.entries.len();
        }
        depth
    }

    /// Whether it is worth asking whether `id` answers at `address`: it is unknown and would get a place, or it is
    /// known by another address and does not answer there.
    pub(crate) fn wants(&self, id: &Id, address: &P::Addr) -> bool {
        if *id == self.own {
            return false;
        }
        match self.buckets.get(self.own.common_prefix_len(id)) {
            None => true,
            Some(bucket) => match bucket.get(id) {
                Some(entry) => entry.missed > 0 && entry.peer.address() != address,
                None => bucket.has_room(id, self.k),
            },
        }
    }

    /// Something in the range of the bucket of `target` is being looked up.
    pub(crate) fn looked_up(&mut self, now: Time, target: &Id) {
        let index = self.own.common_prefix_len(target);
        if let Some(bucket) = self.buckets.get_mut(index) {
            bucket.looked_up = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::core::testing::Handle;
    use proptest::prelude::*;
    const OWN: Id = Id::ZERO;

    fn table(k: usize) -> Table<Handle> {
        Table::new(OWN, k, 5)
    }

    fn trip() -> Lapse {
        Lapse::of(Duration::from_millis(20))
    }

    fn at(seconds: u64) -> Time {
        Time::from_micros(seconds * 1_000_000)
    }

    /// The `n`th id of the bucket of ids that share no bit with the own one.
    fn far(n: u8) -> Handle {
        Handle { id: Id::from_prefix(&[0x80, n]), address: u32::from(n) }
    }

    proptest! {
        #[test]
        fn closest_is_what_a_sort_of_all_gives(
            own: [u8; 32], target: [u8; 32], ids in prop::collection::vec(any::<[u8; 32]>(), 0..200),
            near in prop::collection::vec((0usize..256, any::<u8>()), 0..50), k in 1usize..30, count in 0usize..60,
        ) {
            let (own, target) = (Id::new(own), Id::new(target));
            let mut table = Table::new(own, k, 5);
            let near = near.into_iter().map(|(bit, noise)| {
                let mut bytes = *own.as_bytes();
                bytes[bit / 8] ^= 0x80 >> (bit % 8);
                bytes[31] ^= noise;
                bytes
            });
            for (address, bytes) in ids.into_iter().chain(near).enumerate() {
                table.answered(Time::ZERO, Handle { id: Id::new(bytes), address: address as u32 }, trip());
            }
            let mut all: Vec<&Handle> = table.entries().map(|entry| &entry.peer).collect();
            prop_assert_eq!(all.len(), table.len());
            all.sort_by_key(|peer| peer.id.distance(&target));
            all.truncate(count);
            prop_assert_eq!(table.closest(&target, count, |_, _| true), all);
        }

        #[test]
        fn with_another_id_each_contact_stands_where_it_is_seen_from_there(
            own: [u8; 32], ids in prop::collection::btree_set(any::<[u8; 2]>(), 0..120), k in 1usize..30, contact: bool,
        ) {
            let mut table = table(k);
            for (second, bytes) in ids.iter().enumerate() {
                let peer = Handle { id: Id::from_prefix(bytes), address: second as u32 };
                table.answered(at(second as u64), peer, trip());
            }
            let had: BTreeSet<Id> = table.entries().map(|entry| entry.peer.id).collect();
            let own = had.iter().next().copied().filter(|_| contact).unwrap_or(Id::new(own));
            let displaced: BTreeSet<Id> = table.move_to(at(500), own).into_iter().map(|peer| peer.id).collect();
            let has: BTreeSet<Id> = table.entries().map(|entry| entry.peer.id).collect();
            prop_assert_eq!((table.own, table.len(), has.contains(&own)), (own, has.len(), false));
            prop_assert!(has.is_disjoint(&displaced));
            prop_assert_eq!(has.union(&displaced).copied().collect::<BTreeSet<Id>>(), had);
            for (index, bucket) in table.buckets() {
                prop_assert!(bucket.entries.len() <= k && bucket.waiting().count() <= k);
                prop_assert!(bucket.entries.is_sorted_by_key(Entry::last_seen));
                prop_assert!(bucket.waiting().count() == 0 || bucket.entries.len() == k, "one waits for a free place");
                let stands_here = |entry: &Entry<Handle>| own.common_prefix_len(&entry.peer.id) == index;
                prop_assert!(bucket.entries.iter().all(stands_here));
            }
            prop_assert!(table.buckets().last().is_none_or(|(_, bucket)| !bucket.entries.is_empty()));
        }

        #[test]
        fn buckets_keep_their_bounds(steps in prop::collection::vec((any::<[u8; 2]>(), 0u32..3, any::<bool>()), 0..500)) {
            let k = 4;
            let mut table = table(k);
            for (second, (id, address, answers)) in steps.into_iter().enumerate() {
                let peer = Handle { id: Id::from_prefix(&id), address };
                if answers {
                    table.answered(at(second as u64), peer, trip());
                } else {
                    table.missed(at(0), &peer.id, &address);
                }
                let mut ids = BTreeSet::new();
                for (index, bucket) in table.buckets() {
                    prop_assert!(bucket.entries.len() <= k && bucket.waiting().count() <= k);
                    prop_assert!(bucket.entries.is_sorted_by_key(Entry::last_seen));
                    for entry in &bucket.entries {
                        prop_assert_eq!(OWN.common_prefix_len(&entry.peer.id), index);
                        prop_assert!(ids.insert(entry.peer.id), "an id stands twice");
                    }
                }
                prop_assert_eq!(ids.len(), table.len());
                prop_assert!(!ids.contains(&OWN));
            }
        }
    }

    #[test]
    fn a_full_bucket_asks_for_its_oldest_and_keeps_it_while_it_answers() {
        let mut table = table(2);
        assert_eq!(table.answered(at(1), far(1), trip()), Change::Added);
        assert_eq!(table.answered(at(2), far(2), trip()), Change::Added);
        assert_eq!(table.answered(at(3), far(3), trip()), Change::Nothing, "the oldest was heard of just now");
        assert!(!table.wants(&far(3).id, &3), "it waits already");
        assert_eq!(table.answered(at(70), far(3), trip()), Change::Check(far(1)));
        assert_eq!(table.answered(at(71), far(1), trip()), Change::Nothing);
        assert!(table.get(&far(1).id).is_some() && table.get(&far(3).id).is_none());
        assert_eq!(table.answered(at(72), far(3), trip()), Change::Check(far(2)), "the oldest is another one now");
        let dropped = Change::Dropped { dropped: far(2), replacement: Some(far(3)) };
        assert_eq!(table.missed(at(0), &far(2).id, &2), dropped);
        assert!(table.get(&far(3).id).is_some());
    }

    #[test]
    fn without_a_replacement_a_contact_is_dropped_after_five_misses_in_a_row() {
        let mut table = table(2);
        table.answered(at(1), far(1), trip());
        for _ in 0..4 {
            assert_eq!(table.missed(at(0), &far(1).id, &1), Change::Nothing);
        }
        table.answered(at(2), far(1), trip());
        for _ in 0..4 {
            assert_eq!(table.missed(at(0), &far(1).id, &1), Change::Nothing);
        }
        assert_eq!(table.missed(at(0), &far(1).id, &1), Change::Dropped { dropped: far(1), replacement: None });
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn an_address_changes_only_when_the_old_one_is_silent() {
        let mut table = table(2);
        table.answered(at(1), far(1), trip());
        let thief = Handle { id: far(1).id, address: 99 };
        assert_eq!(table.answered(at(2), thief, trip()), Change::Check(far(1)));
        assert_eq!(table.get(&far(1).id).unwrap().peer.address, 1);
        let moved = Change::Dropped { dropped: far(1), replacement: Some(thief) };
        assert_eq!(table.missed(at(0), &far(1).id, &1), moved);
        assert_eq!(table.get(&far(1).id).unwrap().peer.address, 99);
    }

    #[test]
    fn a_miss_at_another_address_is_no_miss() {
        let mut table = table(2);
        table.answered(at(1), far(1), trip());
        for _ in 0..10 {
            table.missed(at(0), &far(1).id, &77);
        }
        assert!(table.get(&far(1).id).is_some_and(|entry| entry.missed == 0));
    }

    #[test]
    fn the_own_id_never_enters() {
        let mut table = table(2);
        assert_eq!(table.answered(at(1), Handle { id: OWN, address: 1 }, trip()), Change::Nothing);
        assert_eq!(table.len(), 0);
        assert!(!table.wants(&OWN, &1));
    }
}
