//! The records that this node holds for the network.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;

use kademlia_gateways::{Author, Expect, Id, OwnedMode, Record, RecordKind, Refusal, Version};

use super::journal::{HeldRecord, take_first};
use super::params::Params;
use super::time::Time;
use super::view::RecordView;
use crate::rules::Meeting;

/// The place of one record: a key, and whose record it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot {
    pub(crate) key: Id,
    pub(crate) author: Author,
}

impl Slot {
    /// Where a record has its place.
    pub(crate) fn of(key: Id, record: &Record) -> Self {
        Slot { key, author: record.author() }
    }

    /// All places under a key.
    pub(crate) fn under(key: Id) -> RangeInclusive<Slot> {
        Slot { key, author: Author::Any }..=Slot { key, author: Author::Owner([u8::MAX; 33]) }
    }
}

/// A record that is held.
#[derive(Debug)]
struct Held {
    /// Its `remaining` is what it was when it came.
    record: Record,
    expires: Time,
    replicate: Time,
    source: Option<u64>,
    /// When its owner has been there for so long that nobody else is believed any more.
    firm: Time,
}

impl Held {
    fn due(&self) -> Time {
        self.expires.min(self.replicate)
    }

    /// Who owns the key, if anyone can and somebody does.
    fn owner(&self) -> Option<&[u8; 33]> {
        owner_of(&self.record)
    }
}

/// Who owns the key alone by this record.
pub(crate) fn owner_of(record: &Record) -> Option<&[u8; 33]> {
    match &record.kind {
        RecordKind::Owned(owned) if owned.mode == OwnedMode::Secured => Some(&owned.owner),
        _ => None,
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Usage {
    records: usize,
    bytes: usize,
}

impl Usage {
    fn add(&mut self, held: &Held) {
        self.records += 1;
        self.bytes += held.record.bytes();
    }

    fn subtract(&mut self, held: &Held) {
        self.records -= 1;
        self.bytes -= held.record.bytes();
    }
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

/// Records by key and author, bounded in number and bytes, in all and by source, each with its lifetime.
#[derive(Debug)]
pub(crate) struct Store {
    params: Arc<Params>,
    records: BTreeMap<Slot, Held>,
    due: BTreeSet<(Time, Slot)>,
    usage: Usage,
    sources: BTreeMap<Option<u64>, Usage>,
    /// The places that have changed, where that is noted.
    changed: Option<BTreeSet<Slot>>,
}

impl Store {
    pub(crate) fn new(params: Arc<Params>) -> Self {
        let changed = params.journal.then(BTreeSet::new);
        Store {
            params,
            changed,
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

    /// The record at its place, with the lifetime that remains, rounded down to seconds.
    pub(crate) fn get(&self, now: Time, slot: &Slot) -> Option<Record> {
        lived(now, self.records.get(slot)?)
    }

    /// The record under `key` of [`Author::Any`].
    pub(crate) fn common(&self, now: Time, key: &Id) -> Option<Record> {
        self.get(now, &Slot { key: *key, author: Author::Any })
    }

    /// The records under `key` of authors after this one, in their order.
    pub(crate) fn under(&self, now: Time, key: &Id, after: Option<Author>) -> impl Iterator<Item = Record> {
        let end = *Slot::under(*key).end();
        let start =
            after.map_or(Bound::Included(Author::Any), Bound::Excluded).map(|author| Slot { key: *key, author });
        let is_empty = matches!(start, Bound::Excluded(start) if start >= end);
        let range = (!is_empty).then(|| self.records.range((start, Bound::Included(end))));
        range.into_iter().flatten().filter_map(move |(_, held)| lived(now, held))
    }

    /// All records, in the order of their keys.
    pub(crate) fn all(&self, now: Time) -> impl Iterator<Item = (Id, Record)> {
        self.records.iter().filter_map(move |(slot, held)| Some((slot.key, lived(now, held)?)))
    }

    /// What can be seen of the records, in the order of their keys.
    pub(crate) fn views(&self, now: Time) -> impl Iterator<Item = RecordView> {
        let view = move |(slot, held): (&Slot, &Held)| RecordView {
            key: slot.key,
            author: slot.author,
            kind: held.record.kind.name(),
            version: held.record.version,
            bytes: held.record.value.len(),
            remaining: held.expires.since(now),
            replicated_in: held.replicate.since(now),
            is_own: held.source.is_none(),
        };
        self.records.iter().map(view)
    }

    /// The version of the record that [`common`](Store::common) gives.
    pub(crate) fn version(&self, now: Time, key: &Id) -> Option<Version> {
        let held = self.records.get(&Slot { key: *key, author: Author::Any })?;
        (held.expires.since(now).as_secs() > 0).then_some(held.record.version)
    }

    /// The first places after `after`, at most `count`.
    pub(crate) fn slots_after(&self, after: Option<Slot>, count: usize) -> Vec<Slot> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.records.range((start, Bound::Unbounded)).take(count).map(|(slot, _)| *slot).collect()
    }

    /// Keeps `record` if it may be under `key` and is not older than what is held. `replicate_in` is when it is due to be
    /// replicated, if nobody stores it here before that. `source` is where it comes from; `None` if from this node itself,
    /// which only the limits of the whole store bound.
    pub(crate) fn put(
        &mut self,
        now: Time,
        key: Id,
        record: Record,
        expect: Expect,
        source: Option<u64>,
        replicate_in: Duration,
    ) -> Result<Kept, Refusal> {
        let life = Duration::from_secs(record.remaining.into()).min(self.params.record_lifetime);
        let (expires, replicate, firm) = (now + life, now + replicate_in, now + self.params.claim_period);
        self.put_held(now, key, Held { record, expires, replicate, source, firm }, expect)
    }

    /// Keeps what was held before a restart.
    pub(crate) fn resume(&mut self, now: Time, before: HeldRecord, replicate_in: Duration) -> Result<Kept, Refusal> {
        let HeldRecord { key, record, source, firm_in } = before;
        let life = Duration::from_secs(record.remaining.into()).min(self.params.record_lifetime);
        let firm = now + firm_in.min(self.params.claim_period);
        let held = Held { record, expires: now + life, replicate: now + replicate_in, source, firm };
        self.put_held(now, key, held, Expect::Anything)
    }

    fn put_held(&mut self, now: Time, key: Id, mut fresh: Held, expect: Expect) -> Result<Kept, Refusal> {
        let record = &fresh.record;
        if record.value.len() > self.params.limits.value_bytes {
            return Err(Refusal::TooLarge { limit: u32::try_from(self.params.limits.value_bytes).unwrap_or(u32::MAX) });
        }
        if record.remaining == 0 {
            return Err(Refusal::Expired);
        }
        let slot = Slot::of(key, record);
        let (mut kept, mut is_news) = (Kept::New, true);
        match self.records.get(&slot).filter(|held| held.expires > now) {
            Some(held) if fresh.record.newness(&held.record).is_eq() => {
                // The same record again meets no condition: it is what met the condition before.
                fresh.join(held);
                kept = Kept::Again;
                is_news = (fresh.expires, fresh.record.renewal) != (held.expires, held.record.renewal);
            }
            held => {
                // What costs little comes first: the other is signatures.
                self.check_owner(now, &slot, &fresh.record)?;
                self.params.rules.check(&key, &fresh.record)?;
                // What proves less is as good as nothing.
                match held.filter(|held| !held.record.is_outranked_by(&fresh.record)) {
                    Some(held) => kept = replace(&self.params, &mut fresh, held, expect)?,
                    None => check_nothing_held(&fresh.record, expect)?,
                }
            }
        }
        let others = self.outranked(&slot, &fresh.record);
        self.check_room(&slot, &fresh, &others)?;
        others.iter().chain([&slot]).for_each(|slot| self.remove(slot));
        others.iter().copied().chain(is_news.then_some(slot)).for_each(|slot| self.note(slot));
        self.insert(slot, fresh);
        Ok(kept)
    }

    /// Checks that the key is not another's.
    fn check_owner(&self, now: Time, slot: &Slot, record: &Record) -> Result<(), Refusal> {
        let mut held = self.records.range(Slot::under(slot.key)).filter(|(_, held)| held.expires > now);
        let is_settled = |held: &Held| held.firm <= now;
        let is_taken = match (slot.author, owner_of(record)) {
            (Author::Owner(_), _) => {
                held.any(|(other, held)| other.author == Author::Any && held.record.kind.is_authentic())
            }
            (Author::Any, Some(owner)) => held.any(|(other, held)| match other.author {
                Author::Content => false,
                Author::Owner(_) => is_settled(held),
                Author::Any => held.owner().is_some_and(|other| other != owner) && is_settled(held),
            }),
            (Author::Any, None) | (Author::Content, _) => false,
        };
        if is_taken { Err(Refusal::Taken) } else { Ok(()) }
    }

    /// The records under the same key that must go when this one comes: where the key has one owner, or can have but one
    /// record, nobody else has a record.
    fn outranked(&self, slot: &Slot, record: &Record) -> Vec<Slot> {
        if slot.author != Author::Any || !record.kind.is_authentic() {
            return Vec::new();
        }
        let is_owners = |other: &Slot| matches!(other.author, Author::Owner(_));
        self.records.range(Slot::under(slot.key)).map(|(other, _)| *other).filter(is_owners).collect()
    }

    fn check_room(&self, slot: &Slot, fresh: &Held, others: &[Slot]) -> Result<(), Refusal> {
        let limits = &self.params.limits;
        let old = self.records.get(slot);
        if matches!(slot.author, Author::Owner(_)) {
            // However many owners there are, the one record of anybody has its place.
            let of_owners = self
                .records
                .range(Slot::under(slot.key))
                .filter(|(other, _)| matches!(other.author, Author::Owner(_)) && *other != slot);
            let (count, bytes) =
                of_owners.fold((0, 0), |(count, bytes), (_, held)| (count + 1, bytes + held.record.bytes()));
            if count >= limits.records_per_key || bytes + fresh.record.bytes() > limits.record_bytes_per_key {
                return Err(Refusal::Full);
            }
        }
        let bytes = fresh.record.bytes();
        let (mut here, mut from_source) = (Usage::default(), Usage::default());
        for held in old.into_iter().chain(others.iter().filter_map(|other| self.records.get(other))) {
            here.add(held);
            if held.source == fresh.source {
                from_source.add(held);
            }
        }
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

    fn insert(&mut self, slot: Slot, held: Held) {
        self.sources.entry(held.source).or_default().add(&held);
        self.usage.add(&held);
        self.due.insert((held.due(), slot));
        self.records.insert(slot, held);
    }

    fn remove(&mut self, slot: &Slot) {
        let Some(held) = self.records.remove(slot) else { return };
        self.due.remove(&(held.due(), *slot));
        self.usage.subtract(&held);
        if let Some(source) = self.sources.get_mut(&held.source) {
            source.subtract(&held);
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
    pub(crate) fn pop_due(&mut self, now: Time, replicate_in: Duration) -> Option<(Slot, Due)> {
        let (time, slot) = *self.due.first()?;
        if time > now {
            return None;
        }
        self.due.remove(&(time, slot));
        let held = self.records.get_mut(&slot)?;
        if held.expires <= now {
            self.remove(&slot);
            self.note(slot);
            return Some((slot, Due::Expired));
        }
        held.replicate = now + replicate_in;
        self.due.insert((held.due(), slot));
        Some((slot, Due::Replicate))
    }
}

/// What is written down.
impl Store {
    /// The record of this place has changed.
    pub(crate) fn note(&mut self, slot: Slot) {
        if let Some(changed) = &mut self.changed {
            changed.insert(slot);
        }
    }

    /// How many places have changed.
    pub(crate) fn changes(&self) -> usize {
        self.changed.as_ref().map_or(0, BTreeSet::len)
    }

    /// Takes at most so many of them.
    pub(crate) fn take_changes(&mut self, most: usize) -> Vec<Slot> {
        self.changed.as_mut().map(|changed| take_first(changed, most)).unwrap_or_default()
    }

    /// All that is known of the record at its place.
    pub(crate) fn held(&self, now: Time, slot: &Slot) -> Option<HeldRecord> {
        let held = self.records.get(slot)?;
        let record = lived(now, held)?;
        Some(HeldRecord { key: slot.key, record, source: held.source, firm_in: held.firm.since(now) })
    }
}

impl Held {
    /// This is another copy of what is held.
    fn join(&mut self, held: &Held) {
        // Copies age wherever they are, so that the longest life of any is what the publisher said. Others were given
        // less, as those that are cached along the way: such a one must not keep a full one out.
        self.expires = self.expires.max(held.expires);
        self.record.renewal = self.record.renewal.max(held.record.renewal);
        (self.source, self.firm) = (held.source, held.firm);
    }
}

/// The record with the lifetime that remains, if any does.
fn lived(now: Time, held: &Held) -> Option<Record> {
    let remaining = u32::try_from(held.expires.since(now).as_secs()).unwrap_or(u32::MAX);
    (remaining > 0).then(|| Record { remaining, ..held.record.clone() })
}

/// Makes of a record that came what is to be held in the place of another one, of the same author.
fn replace(params: &Params, fresh: &mut Held, held: &Held, expect: Expect) -> Result<Kept, Refusal> {
    check(&held.record, expect)?;
    if fresh.owner() == held.owner() {
        fresh.firm = held.firm;
    }
    match params.rules.meet(&fresh.record, &held.record) {
        Meeting::Refused(refusal) => return Err(refusal),
        Meeting::Replaced => {}
        Meeting::Merged(record) if record.value.len() > params.limits.value_bytes => return Err(Refusal::Full),
        Meeting::Merged(record) => {
            fresh.record = record;
            fresh.expires = fresh.expires.max(held.expires);
        }
        Meeting::Same => {
            fresh.join(held);
            fresh.record = held.record.clone();
            return Ok(Kept::Again);
        }
    }
    Ok(Kept::New)
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

/// Whether the condition is met where nothing is held.
fn check_nothing_held(fresh: &Record, expect: Expect) -> Result<(), Refusal> {
    match expect {
        Expect::Version(expected) if expected > fresh.version => Err(Refusal::Conflict { held: None }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::params::Limits;
    use super::*;
    use kademlia_gateways::KeySpace;
    use proptest::prelude::*;
    use std::cmp::Ordering;

    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn at(seconds: u64) -> Time {
        Time::from_micros(seconds * 1_000_000)
    }

    fn key(n: u8) -> Id {
        Id::from_prefix(&[n])
    }

    fn slot(n: u8) -> Slot {
        Slot { key: key(n), author: Author::Any }
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
            assert_eq!(store.common(at(0), &key(1)).unwrap().newness(&newest), Ordering::Equal);
        }
    }

    #[test]
    fn copies_handed_to_and_fro_do_not_outlive_what_the_publisher_said_but_a_renewal_does() {
        let (mut one, mut other) = (store(), store());
        let record = Record::plain("v", Version(1), HOUR);
        put(&mut one, at(0), record.clone(), Expect::Anything).unwrap();
        put(&mut other, at(1), one.common(at(1), &key(1)).unwrap(), Expect::Anything).unwrap();
        for second in 2..3600 {
            let copy = one.common(at(second), &key(1)).unwrap();
            assert_eq!(put(&mut other, at(second), copy, Expect::Anything), Ok(Kept::Again));
            std::mem::swap(&mut one, &mut other);
        }
        assert_eq!(one.common(at(3599), &key(1)).unwrap().remaining, 1);
        assert_eq!([&one, &other].map(|store| store.common(at(3600), &key(1))), [None, None]);
        let renewed = Record { renewal: 1, remaining: 7200, ..record };
        put(&mut one, at(3599), renewed, Expect::Anything).unwrap();
        assert_eq!(one.common(at(3600), &key(1)).unwrap().remaining, 7199);
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
            let kept = store.common(at(0), &key(1)).unwrap();
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
        assert_eq!(store.pop_due(at(3600), HOUR * 3), Some((slot(1), Due::Replicate)));
        assert_eq!(store.pop_due(at(3600), HOUR), None);
        assert_eq!(store.next_due(), Some(at(7200)));
        assert_eq!(store.pop_due(at(7200), HOUR), Some((slot(1), Due::Expired)));
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
                prop_assert_eq!(store.common(at(0), id).unwrap().newness(record), Ordering::Equal);
            }
            let bytes: usize = newest.values().map(|record| record.value.len()).sum();
            prop_assert_eq!((store.len(), store.bytes(), store.due.len()), (newest.len(), bytes, newest.len()));
            let by_source: usize = store.sources.values().map(|usage| usage.records).sum();
            prop_assert_eq!(by_source, newest.len());
        }
    }
}
