//! What authors have written who prove it: by that queries for their records are judged.

use std::collections::BTreeMap;

use bytes::Bytes;
use kademlia_dht::core::QueryReport;
use kademlia_dht::gateway::{Id, Record, RecordKind};

use crate::handle::Handle;
use crate::pen::Pen;

/// What one author writes under one key.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) key: Id,
    pub(crate) pen: Pen,
    /// Its values, in the order in which they were written.
    values: Vec<Bytes>,
    /// The newest of them that was acknowledged.
    pub(crate) acknowledged: Option<usize>,
}

/// What came of a query for a record that proves its author.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The newest acknowledged value, or a newer one.
    Right,
    /// An older one of the same author.
    Outdated,
    /// Nothing, or what the reader knows to prove nothing.
    Missed,
    /// What liars say that they own, and prove to be theirs. A reader who knows the owner must not be given it.
    Liars,
    /// What no author wrote, or another one.
    Wrong,
}

/// All works.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    works: Vec<Work>,
    keys: BTreeMap<Id, Vec<usize>>,
    /// The public key that all liars have together.
    liars: Option<[u8; 33]>,
}

impl Ledger {
    /// An empty one, which knows the public key that all liars have together.
    pub(crate) fn new(liars: [u8; 33]) -> Self {
        Ledger { liars: Some(liars), ..Ledger::default() }
    }

    /// A new work, with its first value. Gives its number.
    pub(crate) fn begin(&mut self, key: Id, pen: Pen, value: Bytes) -> usize {
        let number = self.works.len();
        self.works.push(Work { key, pen, values: vec![value], acknowledged: None });
        self.keys.entry(key).or_default().push(number);
        number
    }

    /// The next value of a work. Gives its place among the values of that.
    pub(crate) fn go_on(&mut self, work: usize, value: Bytes) -> Option<usize> {
        let values = &mut self.works.get_mut(work)?.values;
        values.push(value);
        Some(values.len() - 1)
    }

    /// A value of a work was acknowledged.
    pub(crate) fn acknowledge(&mut self, work: usize, place: usize) {
        if let Some(work) = self.works.get_mut(work) {
            work.acknowledged = work.acknowledged.max(Some(place));
        }
    }

    pub(crate) fn work(&self, work: usize) -> Option<&Work> {
        self.works.get(work)
    }

    /// The works, each with its number.
    pub(crate) fn works(&self) -> impl Iterator<Item = (usize, &Work)> {
        self.works.iter().enumerate()
    }

    /// Whether there are works under a key.
    pub(crate) fn has(&self, key: &Id) -> bool {
        !self.keys.is_empty() && self.keys.contains_key(key)
    }

    /// Whether somebody wrote a record under this key who could: an author there, or liars in their own name.
    pub(crate) fn is_genuine(&self, key: &Id, record: &Record) -> bool {
        let mut works = self.keys.get(key).into_iter().flatten().filter_map(|work| self.works.get(*work));
        works.any(|work| work.place_of(record).is_some()) || self.is_of_liars(record)
    }

    fn is_of_liars(&self, record: &Record) -> bool {
        matches!(&record.kind, RecordKind::Owned(owned) if Some(owned.owner) == self.liars)
    }

    /// Judges what a query for a work gave that began when this value of it was the newest acknowledged one.
    pub(crate) fn judge(&self, work: usize, expected: usize, report: &QueryReport<Handle>) -> Answer {
        let Some(work) = self.works.get(work) else { return Answer::Missed };
        // Readers take no record of another kind for an answer, and an owner's own one for the first.
        let mut found =
            report.found.iter().chain(&report.immutable).chain(&report.of_owners).map(|found| &found.record);
        match found.find(|record| work.pen.is_of_kind(record)) {
            Some(record) => match work.place_of(record) {
                Some(place) if place >= expected => Answer::Right,
                Some(_) => Answer::Outdated,
                None if self.is_of_liars(record) => Answer::Liars,
                None => Answer::Wrong,
            },
            None if work.seems_deleted(report) => Answer::Wrong,
            None => Answer::Missed,
        }
    }
}

impl Work {
    /// How many values it has.
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn value(&self, place: usize) -> Option<&Bytes> {
        self.values.get(place)
    }

    /// Which of the values a record has, if it says that it is of this author.
    fn place_of(&self, record: &Record) -> Option<usize> {
        self.values.iter().position(|value| *value == record.value).filter(|_| self.pen.is_named_in(record))
    }

    /// Whether a query says that the author has deleted the record, which none does.
    fn seems_deleted(&self, report: &QueryReport<Handle>) -> bool {
        match self.pen {
            Pen::Immutable => false,
            // A version beyond all sequence numbers is none of a signed delete, but a plain one's, which proves nothing.
            Pen::Signed(_) => report.deleted.is_some_and(|deleted| i64::try_from(deleted.0).is_ok()),
            Pen::Owned { .. } => report.deleted.is_some(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use kademlia_dht::core::{Effort, FoundRecord};
    use kademlia_dht::gateway::{Author, Version};

    use super::*;
    use crate::pen::tests::{pens, written};

    /// What a query gives that has found this record.
    pub(crate) fn report(key: Id, record: Option<Record>) -> QueryReport<Handle> {
        let found = record.map(|record| FoundRecord { record, held_here: false, holders: Vec::new() });
        let (of_owners, found): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|found| found.record.author() != Author::Any);
        QueryReport {
            key,
            found: found.into_iter().next(),
            immutable: None,
            of_owners,
            deleted: None,
            effort: Effort::default(),
        }
    }

    #[test]
    fn only_what_the_author_wrote_is_right() {
        let key = Id::from_prefix(&[1]);
        for pen in pens() {
            let mut ledger = Ledger::default();
            let (first, second) = (written(&pen, "the first", None), written(&pen, "the second", None));
            let work = ledger.begin(key, pen.clone(), first.value.clone());
            assert_eq!(ledger.go_on(work, second.value.clone()), Some(1));
            let judge = |ledger: &Ledger, record: Option<&Record>| ledger.judge(work, 1, &report(key, record.cloned()));
            assert_eq!(judge(&ledger, Some(&second)), Answer::Right);
            assert_eq!(judge(&ledger, Some(&first)), Answer::Outdated);
            assert_eq!(judge(&ledger, None), Answer::Missed);
            let plain = Record { kind: RecordKind::Plain, ..second.clone() };
            assert_eq!(judge(&ledger, Some(&plain)), Answer::Missed, "it proves nothing");
            let forged = Record { value: "another".into(), ..second.clone() };
            assert_eq!(judge(&ledger, Some(&forged)), Answer::Wrong, "{pen:?}");
            assert!(ledger.is_genuine(&key, &first) && !ledger.is_genuine(&key, &forged));
            assert!(!ledger.is_genuine(&Id::from_prefix(&[2]), &first));
            let other = ledger.begin(key, Pen::signed(&mut crate::Random::new(9, "test")), second.value.clone());
            let is_signed = matches!(pen, Pen::Signed(_));
            let expected = if is_signed { Answer::Wrong } else { Answer::Missed };
            assert_eq!(ledger.judge(other, 0, &report(key, Some(second))), expected, "another's");
        }
    }

    #[test]
    fn what_liars_own_is_known_as_theirs() {
        let [_, _, owner, liar] = pens();
        let claim = written(&liar, "mine", None);
        let key = Id::from_prefix(&[1]);
        let mut ledger = Ledger::new(*liar.owner().unwrap().as_bytes());
        let work = ledger.begin(key, owner, "value".into());
        assert_eq!(ledger.judge(work, 0, &report(key, Some(claim.clone()))), Answer::Liars);
        assert!(ledger.is_genuine(&key, &claim));
    }

    #[test]
    fn a_delete_that_the_author_did_not_write_is_wrong() {
        let key = Id::from_prefix(&[1]);
        let deleted = |version| QueryReport { deleted: Some(Version(version)), ..report(key, None) };
        let answers = pens().map(|pen| {
            let mut ledger = Ledger::default();
            let work = ledger.begin(key, pen, "value".into());
            [2, u64::MAX].map(|version| ledger.judge(work, 0, &deleted(version)))
        });
        let [missed, wrong] = [Answer::Missed, Answer::Wrong];
        assert_eq!(answers, [[missed; 2], [wrong, missed], [wrong; 2], [wrong; 2]]);
    }
}
