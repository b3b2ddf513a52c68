//! The records that this node holds for the network.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kademlia_gateways::{Expect, Id, Record, Refusal, Version};

use super::params::Params;
use super::time::Time;

/// A record that is held.
#[derive(Debug)]
struct Held {
    /// Its `remaining` is what it was when it came.
    record: Record,
    expires: Time,
    replicate: Time,
    source: Option<u64>,
}

impl Held {
    fn due(&self) -> Time {
        self.expires.min(self.replicate)
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Usage {
    records: usize,
    bytes: usize,
}

/// What became of a record that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It is new here.
    New,
    /// It was held already.
    Again,
}

/// What is due at a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Its lifetime was over; it is gone.
    Expired,
    /// Give it to the nodes that are closest to it now.
    Replicate,
}

/// Records by key, bounded in number and bytes, in all and by source, each with its lifetime.
#[derive(Debug)]
pub(crate) struct Store {
    params: Arc<Params>,
    records: BTreeMap<Id, Held>,
    due: BTreeSet<(Time, Id)>,
    usage: Usage,
    sources: BTreeMap<Option<u64>, Usage>,
}

impl Store {
    pub(crate) fn new(params: Arc<Params>) -> Self {
        Store {
            params,
            records: BTreeMap::new(),
            due: BTreeSet::new(),
            usage: Usage::default(),
            sources: BTreeMap::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.usage.bytes
    }

    /// The record under `key` with the lifetime that remains, rounded down to seconds.
    pub(crate) fn get(&self, now: Time, key: &Id) -> Option<Record> {
        let held = self.records.get(key)?;
        let remaining = held.expires.since(now).as_secs();
        let record = Record { remaining: u32::try_from(remaining).unwrap_or(u32::MAX), ..held.record.clone() };
        (record.remaining > 0).then_some(record)
    }

    /// All records, in the order of their keys.
    pub(crate) fn all(&self, now: Time) -> impl Iterator<Item = (Id, Record)> {
        self.records.keys().filter_map(move |key| Some((*key, self.get(now, key)?)))
    }

    /// The version under `key`, while [`get`](Store::get) gives the record.
    pub(crate) fn version(&self, now: Time, key: &Id) -> Option<Version> {
        let held = self.records.get(key)?;
        (held.expires.since(now).as_secs() > 0).then_some(held.record.version)
    }

    /// The first keys after `after`, at most `count`.
    pub(crate) fn keys_after(&self, after: Option<Id>, count: usize) -> Vec<Id> {
        use std::ops::Bound;
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.records.range((start, Bound::Unbounded)).take(count).map(|(key, _)| *key).collect()
    }

    /// Keeps `record` if it is not older than what is held. `replicate_in` is when it is due to be replicated, if
    /// nobody stores it here before that. `source` is where it comes from; `None` if from this node itself, which only the
    /// limits of the whole store bound.
    pub(crate) fn put(
        &mut self,
        now: Time,
        key: Id,
        record: Record,
        expect: Expect,
        source: Option<u64>,
        replicate_in: Duration,
    ) -> Result<Kept, Refusal> {
        let limit = if record.is_tombstone() { 0 } else { self.params.limits.value_bytes };
        if record.value.len() > limit {
            return Err(Refusal::TooLarge { limit: u32::try_from(limit).unwrap_or(u32::MAX) });
        }
        if record.remaining == 0 {
            return Err(Refusal::Expired);
        }
        let life = Duration::from_secs(record.remaining.into()).min(self.params.record_lifetime);
        let mut fresh = Held { record, expires: now + life, replicate: now + replicate_in, source };
        let mut kept = Kept::New;
        if let Some(held) = self.records.get(&key).filter(|held| held.expires > now) {
            let newness = fresh.record.newness(&held.record);
            if newness != Ordering::Equal {
                // The same record again meets no condition: it is what met the condition before.
                check(&held.record, expect)?;
            }
            match newness {
                Ordering::Less => return Err(Refusal::Older { held: held.record.version }),
                Ordering::Greater => {}
                Ordering::Equal => {
                    // Copies age wherever they are, so that the longest life of any is what the publisher said. Others
                    // were given less, as those that are cached along the way: such a one must not keep a full one out.
                    fresh.expires = fresh.expires.max(held.expires);
                    fresh.record.renewal = fresh.record.renewal.max(held.record.renewal);
                    fresh.source = held.source;
                    kept = Kept::Again;
                }
            }
        } else if let Expect::Version(expected) = expect
            && expected > fresh.record.version
        {
            return Err(Refusal::Conflict { held: None });
        }
        self.check_room(&key, &fresh)?;
        self.remove(&key);
        self.insert(key, fresh);
        Ok(kept)
    }

    fn check_room(&self, key: &Id, fresh: &Held) -> Result<(), Refusal> {
        let limits = &self.params.limits;
        let old = self.records.get(key);
        let bytes = fresh.record.value.len();
        let freed = |held: &&Held| Usage { records: 1, bytes: held.record.value.len() };
        let here = old.as_ref().map(freed).unwrap_or_default();
        let from_source = old.as_ref().filter(|held| held.source == fresh.source).map(freed).unwrap_or_default();
        let source = self.sources.get(&fresh.source).copied().unwrap_or_default();
        if self.usage.records - here.records >= limits.records
            || self.usage.bytes - here.bytes + bytes > limits.record_bytes
        {
            return Err(Refusal::Full);
        }
        let is_beyond = source.records - from_source.records >= limits.records_per_source
            || source.bytes - from_source.bytes + bytes > limits.record_bytes_per_source;
        if fresh.source.is_some() && is_beyond {
            return Err(Refusal::Limited);
        }
        Ok(())
    }

    fn insert(&mut self, key: Id, held: Held) {
        let bytes = held.record.value.len();
        let source = self.sources.entry(held.source).or_default();
        source.records += 1;
        source.bytes += bytes;
        self.usage.records += 1;
        self.usage.bytes += bytes;
        self.due.insert((held.due(), key));
        self.records.insert(key, held);
    }

    fn remove(&mut self, key: &Id) {
        let Some(held) = self.records.remove(key) else { return };
        self.due.remove(&(held.due(), *key));
        let bytes = held.record.value.len();
        self.usage.records -= 1;
        self.usage.bytes -= bytes;
        if let Some(source) = self.sources.get_mut(&held.source) {
            source.records -= 1;
            source.bytes -= bytes;
            if source.records == 0 {
                self.sources.remove(&held.source);
            }
        }
        if self.records.is_empty() {
            // Empty maps keep what they have allocated.
            self.records = BTreeMap::new();
            self.due = BTreeSet::new();
            self.sources = BTreeMap::new();
        }
    }

    /// When the next record is due.
    pub(crate) fn next_due(&self) -> Option<Time> {
        self.due.first().map(|(time, _)| *time)
    }

    /// The next record that is due at `now`. One to be replicated is due again after `replicate_in`.
    pub(crate) fn pop_due(&mut self, now: Time, replicate_in: Duration) -> Option<(Id, Due)> {
        let (time, key) = *self.due.first()?;
        if time > now {
            return None;
        }
        self.due.remove(&(time, key));
        let held = self.records.get_mut(&key)?;
        if held.expires <= now {
            self.remove(&key);
            return Some((key, Due::Expired));
        }
        held.replicate = now + replicate_in;
        self.due.insert((held.due(), key));
        Some((key, Due::Replicate))
    }
}

/// Whether what is held meets the condition of a compare-and-swap.
fn check(held: &Record, expect: Expect) -> Result<(), Refusal> {
    let value = (!held.is_tombstone()).then_some(held.version);
    let holds = match expect {
        Expect::Anything => true,
        Expect::Absent => value.is_none(),
        Expect::Version(expected) => held.version <= expected,
    };
    if holds { Ok(()) } else { Err(Refusal::Conflict { held: value }) }
}

#[cfg(test)]
mod tests {
    use super::super::params::Limits;
    use super::*;
    use kademlia_gateways::KeySpace;
    use proptest::prelude::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn at(seconds: u64) -> Time {
        Time::from_micros(seconds * 1_000_000)
    }

    fn key(n: u8) -> Id {
        Id::from_prefix(&[n])
    }

    fn store_with(limits: Limits) -> Store {
        let space = KeySpace::new(20).unwrap();
        Store::new(Arc::new(Params { limits, record_lifetime: DAY, ..Params::new(space) }))
    }

    fn store() -> Store {
        store_with(Limits::default())
    }

    fn put(store: &mut Store, now: Time, record: Record, expect: Expect) -> Result<Kept, Refusal> {
        store.put(now, key(1), record, expect, None, HOUR)
    }

    fn plain(value: &'static str, version: u64) -> Record {
        Record::plain(value, Version(version), DAY)
    }

    #[test]
    fn the_newest_wins_in_any_order_and_ties_are_broken_alike() {
        let records = [plain("a", 1), plain("b", 2), plain("c", 2), Record::tombstone(Version(2), DAY)];
        let newest = records.iter().max_by(|a, b| a.newness(b)).unwrap().clone();
        assert!(newest.is_tombstone());
        for start in 0..records.len() {
            let mut store = store();
            for offset in 0..records.len() {
                put(&mut store, at(0), records[(start + offset) % records.len()].clone(), Expect::Anything).ok();
            }
            assert_eq!(store.get(at(0), &key(1)).unwrap().newness(&newest), Ordering::Equal);
        }
    }

    #[test]
    fn copies_handed_to_and_fro_do_not_outlive_what_the_publisher_said_but_a_renewal_does() {
        let (mut one, mut other) = (store(), store());
        let record = Record::plain("v", Version(1), HOUR);
        put(&mut one, at(0), record.clone(), Expect::Anything).unwrap();
        put(&mut other, at(1), one.get(at(1), &key(1)).unwrap(), Expect::Anything).unwrap();
        for second in 2..3600 {
            let copy = one.get(at(second), &key(1)).unwrap();
            assert_eq!(put(&mut other, at(second), copy, Expect::Anything), Ok(Kept::Again));
            std::mem::swap(&mut one, &mut other);
        }
        assert_eq!(one.get(at(3599), &key(1)).unwrap().remaining, 1);
        assert_eq!([&one, &other].map(|store| store.get(at(3600), &key(1))), [None, None]);
        let renewed = Record { renewal: 1, remaining: 7200, ..record };
        put(&mut one, at(3599), renewed, Expect::Anything).unwrap();
        assert_eq!(one.get(at(3600), &key(1)).unwrap().remaining, 7199);
    }

    #[test]
    fn of_a_short_lived_copy_and_a_full_one_the_full_one_stays() {
        let full = plain("v", 1);
        let short = Record { remaining: 60, ..full.clone() };
        let renewed = Record { renewal: 1, ..short.clone() };
        for copies in [[&full, &short], [&short, &full], [&full, &renewed], [&renewed, &full]] {
            let mut store = store();
            for copy in copies {
                put(&mut store, at(0), copy.clone(), Expect::Anything).unwrap();
            }
            let kept = store.get(at(0), &key(1)).unwrap();
            assert_eq!(kept.remaining, full.remaining, "{copies:?}");
            assert_eq!(kept.renewal, copies.map(|copy| copy.renewal).into_iter().max().unwrap());
        }
    }

    #[test]
    fn compare_and_swap() {
        let mut store = store();
        assert_eq!(put(&mut store, at(0), plain("a", 1), Expect::Absent), Ok(Kept::New));
        let conflict = Err(Refusal::Conflict { held: Some(Version(1)) });
        assert_eq!(put(&mut store, at(0), plain("b", 2), Expect::Absent), conflict);
        assert_eq!(put(&mut store, at(0), plain("b", 2), Expect::Version(Version(1))), Ok(Kept::New));
        let conflict = Err(Refusal::Conflict { held: Some(Version(2)) });
        assert_eq!(put(&mut store, at(0), plain("c", 3), Expect::Version(Version(1))), conflict);
        put(&mut store, at(0), Record::tombstone(Version(4), DAY), Expect::Anything).unwrap();
        let conflict = Err(Refusal::Conflict { held: None });
        assert_eq!(put(&mut store, at(0), plain("d", 5), Expect::Version(Version(2))), conflict, "it was deleted");
        assert_eq!(put(&mut store, at(0), plain("d", 5), Expect::Absent), Ok(Kept::New));
    }

    #[test]
    fn a_tombstone_keeps_older_versions_out() {
        let mut store = store();
        put(&mut store, at(0), Record::tombstone(Version(4), DAY), Expect::Anything).unwrap();
        let refused = Err(Refusal::Older { held: Version(4) });
        assert_eq!(put(&mut store, at(1), plain("old", 3), Expect::Anything), refused);
    }

    #[test]
    fn limits_name_themselves() {
        let limits = Limits {
            records: 3,
            record_bytes: 10,
            records_per_source: 2,
            record_bytes_per_source: 8,
            value_bytes: 9,
            ..Limits::default()
        };
        let mut store = store_with(limits);
        let mut put = |n: u8, value: &'static str, source| {
            store.put(at(0), key(n), plain(value, u64::from(n)), Expect::Anything, Some(source), HOUR)
        };
        assert_eq!(put(1, "0123456789", 1), Err(Refusal::TooLarge { limit: 9 }));
        assert_eq!(put(1, "012345678", 1), Err(Refusal::Limited));
        assert_eq!(put(1, "1", 1), Ok(Kept::New));
        assert_eq!(put(2, "2", 1), Ok(Kept::New));
        assert_eq!(put(3, "3", 1), Err(Refusal::Limited));
        assert_eq!(put(3, "3", 2), Ok(Kept::New));
        assert_eq!(put(4, "4", 3), Err(Refusal::Full));
        assert_eq!(put(3, "33", 2), Ok(Kept::New), "a tie is replaced in place when the store is full");
    }

    #[test]
    fn a_record_is_due_for_replication_and_in_the_end_expires() {
        let mut store = store();
        put(&mut store, at(0), Record::plain("v", Version(1), HOUR * 2), Expect::Anything).unwrap();
        assert_eq!(store.pop_due(at(3599), HOUR), None);
        assert_eq!(store.pop_due(at(3600), HOUR * 3), Some((key(1), Due::Replicate)));
        assert_eq!(store.pop_due(at(3600), HOUR), None);
        assert_eq!(store.next_due(), Some(at(7200)));
        assert_eq!(store.pop_due(at(7200), HOUR), Some((key(1), Due::Expired)));
        assert_eq!((store.len(), store.bytes(), store.next_due()), (0, 0, None));
        assert!(store.sources.is_empty());
    }

    proptest! {
        #[test]
        fn any_order_of_writes_ends_with_the_newest(
            writes in prop::collection::vec((0u8..4, 0u64..6, any::<bool>(), 1u32..9000, 0u64..3), 1..60)
        ) {
            let mut store = store();
            let mut newest: BTreeMap<Id, Record> = BTreeMap::new();
            for (n, version, delete, remaining, source) in writes {
                let mut record =
                    if delete { Record::tombstone(Version(version), DAY) } else { plain("value", version) };
                record.remaining = remaining;
                let id = key(n);
                store.put(at(0), id, record.clone(), Expect::Anything, Some(source), HOUR).ok();
                let known = newest.entry(id).or_insert_with(|| record.clone());
                if record.newness(known) == Ordering::Greater {
                    *known = record;
                }
            }
            for (id, record) in &newest {
                prop_assert_eq!(store.get(at(0), id).unwrap().newness(record), Ordering::Equal);
            }
            let bytes: usize = newest.values().map(|record| record.value.len()).sum();
            prop_assert_eq!((store.len(), store.bytes(), store.due.len()), (newest.len(), bytes, newest.len()));
            let by_source: usize = store.sources.values().map(|usage| usage.records).sum();
            prop_assert_eq!(by_source, newest.len());
        }
    }
}
