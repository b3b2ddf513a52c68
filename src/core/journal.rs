//! What has changed since the driver last asked: so a driver that keeps a node's state on a disk writes what is new, and
//! not all of it.
//!
//! Only places are noted, never values: however often a record changes before it is written, it is written once.

use std::collections::BTreeSet;
use std::time::Duration;

use kademlia_gateways::{Author, Id, Peer, Record};

use super::io::Published;
use super::node::Node;
use super::store::Slot;
use super::time::Time;

/// A record that a node holds for the network, with what a restart must not change.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldRecord {
    /// Its key.
    pub key: Id,
    /// The record, with the lifetime that remains.
    pub record: Record,
    /// Where it came from, as [`Peer::source`] tells it; `None` if from this node itself.
    pub source: Option<u64>,
    /// How long another owner who says that it wrote earlier is still believed; zero if the owner is firm.
    pub firm_in: Duration,
}

/// Somebody whom a node knows, or did.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownPeer<P> {
    /// Who it is, and where.
    pub peer: P,
    /// Whether it stands in the routing table and answered when it was last asked.
    pub verified: bool,
    /// How long ago it last answered.
    pub seen: Duration,
}

/// What is at one place now.
#[derive(Debug, Clone, PartialEq)]
pub struct Changed<T> {
    /// The key.
    pub key: Id,
    /// Whose place it is, of several under that key.
    pub author: Author,
    /// What is there; `None` if nothing is any more.
    pub now: Option<T>,
}

/// What has changed in a node.
#[derive(Debug, Clone, PartialEq)]
pub struct Changes<P> {
    /// Whether this is all that the node has: what was written before and is not in here is gone.
    pub whole: bool,
    /// Records held for the network.
    pub records: Vec<Changed<HeldRecord>>,
    /// Records that the node keeps alive.
    pub published: Vec<Changed<Published>>,
    /// All whom the node knows, those first who are surest to be there, if that was asked for.
    pub contacts: Option<Vec<KnownPeer<P>>>,
}

/// What may be new about the contacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum ContactNews {
    /// Nothing.
    #[default]
    None,
    /// Some of them have answered again.
    Seen,
    /// Some have come, gone, or moved.
    Changed,
}

/// The places that have changed.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    published: BTreeSet<Slot>,
    contacts: ContactNews,
    /// So much has changed, or been lost, that all is to be written.
    whole: bool,
}

/// What a driver writes down.
impl<P: Peer> Node<P> {
    /// How many records have changed and were not taken. Always 0 where [`Params::journal`](super::Params::journal) is off.
    pub fn changes(&self) -> usize {
        match &self.journal {
            None => 0,
            Some(journal) if journal.whole => (self.store.len() + self.published.len()).max(1),
            Some(journal) => journal.published.len() + self.store.changes(),
        }
    }

    /// What is new about the contacts since they were last taken.
    pub fn contact_news(&self) -> ContactNews {
        self.journal.as_ref().map_or(ContactNews::None, |journal| journal.contacts)
    }

    /// Takes what has changed, at most about `most` records at once (or all, if all must be written), as it is at the
    /// time `now`. With `contacts` all whom the node knows are in it.
    pub fn take_changes(&mut self, now: Time, most: usize, contacts: bool) -> Changes<P> {
        let now = self.now.max(self.inside(now));
        let known = contacts.then(|| self.known_peers(now));
        let Some(journal) = &mut self.journal else {
            return Changes { whole: false, records: Vec::new(), published: Vec::new(), contacts: known };
        };
        if contacts {
            journal.contacts = ContactNews::None;
        }
        let whole = std::mem::take(&mut journal.whole);
        let (records, published): (Vec<Slot>, Vec<Slot>) = if whole {
            journal.published.clear();
            self.store.take_changes(usize::MAX);
            (self.store.slots_after(None, usize::MAX), self.published.keys().copied().collect())
        } else {
            let records = self.store.take_changes(most);
            let room = most.saturating_sub(records.len());
            (records, take_first(&mut journal.published, room))
        };
        let records = records.into_iter().map(|slot| changed(slot, self.store.held(now, &slot))).collect();
        let published = published.into_iter().map(|slot| changed(slot, self.publication(now, &slot))).collect();
        Changes { whole, records, published, contacts: known }
    }

    /// These places count as changed again: they could not be written.
    pub fn change_again(
        &mut self,
        records: impl IntoIterator<Item = (Id, Author)>,
        published: impl IntoIterator<Item = (Id, Author)>,
        contacts: bool,
    ) {
        records.into_iter().for_each(|(key, author)| self.store.note(Slot { key, author }));
        published.into_iter().for_each(|(key, author)| self.note_published(&Slot { key, author }));
        if contacts {
            self.note_contacts(ContactNews::Changed);
        }
    }

    /// All counts as changed: nothing of what was written is there any more.
    pub fn change_all(&mut self) {
        if let Some(journal) = &mut self.journal {
            (journal.whole, journal.contacts) = (true, ContactNews::Changed);
        }
    }

    /// What has changed until now is written already.
    pub fn forget_changes(&mut self) {
        if let Some(journal) = &mut self.journal {
            **journal = Journal::default();
            self.store.take_changes(usize::MAX);
        }
    }

    /// Whether there is a record at this place.
    pub fn holds(&self, key: Id, author: Author) -> bool {
        self.store.get(self.now, &Slot { key, author }).is_some()
    }

    /// Whether the record of this place is kept alive.
    pub fn publishes(&self, key: Id, author: Author) -> bool {
        self.published.contains_key(&Slot { key, author })
    }

    /// All whom the node knows: those in the routing table that answered when they were last asked, those in it that did
    /// not, and those that were lost or that have not been asked yet; of each those first that answered last.
    pub fn known_peers(&self, now: Time) -> Vec<KnownPeer<P>> {
        let table = self.table.entries().map(|entry| KnownPeer {
            peer: entry.peer.clone(),
            verified: entry.missed == 0,
            seen: now.since(entry.last_seen()),
        });
        let lost = self.lost.known(now);
        let former = self.returning.iter().flat_map(|returning| returning.known(now));
        let mut known: Vec<_> = table.collect();
        // Of one id what stands in the table.
        let mut ids: BTreeSet<Id> = known.iter().map(|known| known.peer.id()).collect();
        known.extend(lost.chain(former).filter(|known| ids.insert(known.peer.id())));
        known.sort_by_key(|known| (!known.verified, known.seen));
        known
    }

    pub(super) fn note_published(&mut self, slot: &Slot) {
        if let Some(journal) = self.journal.as_mut().filter(|journal| !journal.whole) {
            journal.published.insert(*slot);
        }
    }

    pub(super) fn note_contacts(&mut self, news: ContactNews) {
        if let Some(journal) = &mut self.journal {
            journal.contacts = journal.contacts.max(news);
        }
    }

    /// Where places have come and gone for so long that nothing could be written, writing all is less.
    pub(super) fn bound_journal(&mut self) {
        let Some(journal) = &mut self.journal else { return };
        let limits = &self.params.limits;
        let most = limits.records.saturating_add(limits.published).saturating_mul(2);
        if journal.whole || journal.published.len() + self.store.changes() > most {
            journal.whole = true;
            journal.published = BTreeSet::new();
            self.store.take_changes(usize::MAX);
        }
    }
}

fn changed<T>(slot: Slot, now: Option<T>) -> Changed<T> {
    Changed { key: slot.key, author: slot.author, now }
}

/// Takes the first places out of a set.
pub(crate) fn take_first(slots: &mut BTreeSet<Slot>, most: usize) -> Vec<Slot> {
    if slots.len() <= most {
        return std::mem::take(slots).into_iter().collect();
    }
    std::iter::from_fn(|| slots.pop_first()).take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::super::io::{Command, Content, Input, OperationId};
    use super::super::params::{Limits, Params};
    use super::super::testing::Handle;
    use super::*;
    use crate::signing::owned::{Claim, OwnerKey};
    use kademlia_gateways::{Expect, KeySpace, Owned, OwnedMode, RecordKind, Seal, Version};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const HOUR: Duration = Duration::from_secs(3600);

    fn node(journal: bool, limits: Limits) -> Node<Handle> {
        let params = Params { journal, limits, ..Params::new(KeySpace::new(20).unwrap()) };
        Node::new(Id::from_prefix(&[9; 20]), params, [1; 16], Time::ZERO)
    }

    fn held(n: u8, version: u64) -> HeldRecord {
        let record = Record::plain(vec![n], Version(version), HOUR);
        HeldRecord { key: Id::from_prefix(&[n]), record, source: Some(u64::from(n)), firm_in: Duration::ZERO }
    }

    fn save(node: &mut Node<Handle>, now: Time, operation: u64, n: u8) {
        let content = Content::Value(vec![n].into());
        let key = Id::from_prefix(&[n]);
        let command = Command::Save { key, content, expect: Expect::Anything, unix_milliseconds: operation };
        node.handle(now, Input::Start { operation: OperationId(operation), command }, &mut Vec::new());
    }

    #[test]
    fn nothing_is_noted_where_nobody_asks_for_it() {
        let mut node = node(false, Limits::default());
        save(&mut node, Time::ZERO, 1, 1);
        assert_eq!((node.record_count(), node.published_count(), node.changes()), (1, 1, 0));
        assert_eq!(node.contact_news(), ContactNews::None);
        assert!(node.take_changes(Time::ZERO, 9, false).records.is_empty());
    }

    #[test]
    fn what_comes_again_as_it_is_held_is_no_change() {
        let mut node = node(true, Limits::default());
        node.handle(Time::ZERO, Input::ResumeRecord(held(1, 1)), &mut Vec::new());
        assert_eq!(node.take_changes(Time::ZERO, 9, false).records[0].now, Some(held(1, 1)));
        for (record, changes) in [(held(1, 1).record, 0), (Record { renewal: 1, ..held(1, 1).record }, 1)] {
            node.handle(Time::ZERO, Input::Restore { key: held(1, 1).key, record }, &mut Vec::new());
            assert_eq!(node.changes(), changes);
        }
    }

    #[test]
    fn an_owner_who_was_firm_is_firm_after_a_restart_and_no_other_one_is() {
        let late = Version::at(2_000_000_000_000);
        let record = |owner: &OwnerKey, since: Version| {
            let claim = Claim { key: b"name", data: b"value", expiry: None, mode: OwnedMode::Secured };
            let signature = owner.sign(&claim);
            let owned = Owned {
                name: b"name"[..].into(),
                owner: *owner.public_key().as_bytes(),
                mode: OwnedMode::Secured,
                expiry: None,
                signature: signature.0,
                since,
                seal: Some(Seal(owner.seal(&signature, since, since).0)),
            };
            Record::new(RecordKind::Owned(Box::new(owned)), b"value"[..].to_vec(), since, HOUR)
        };
        let owners = [1, 2].map(|n| OwnerKey::from_bytes(&[n; 32]).unwrap());
        for (firm_in, taken) in [(Duration::ZERO, false), (HOUR, true)] {
            let mut node = node(true, Limits::default());
            let key = node.params().rules.hash(b"name");
            let first = HeldRecord { key, record: record(&owners[0], late), source: None, firm_in };
            node.handle(Time::ZERO, Input::ResumeRecord(first), &mut Vec::new());
            // Another one says that they were there before.
            let restore = Input::Restore { key, record: record(&owners[1], Version(1)) };
            node.handle(Time::ZERO, restore, &mut Vec::new());
            let held = node.record(&key).unwrap();
            assert_eq!(held.version == Version(1), taken, "{firm_in:?}");
        }
    }

    #[test]
    fn when_more_has_gone_than_can_be_held_all_is_written() {
        let limits = Limits { records: 4, published: 0, ..Limits::default() };
        let mut node = node(true, limits);
        for n in 0..20 {
            let now = Time::ZERO + HOUR * u32::from(n);
            node.handle(now, Input::Tick, &mut Vec::new());
            node.handle(now, Input::ResumeRecord(held(n, 1)), &mut Vec::new());
        }
        let now = Time::ZERO + HOUR * 19;
        node.handle(now, Input::Tick, &mut Vec::new());
        let changes = node.take_changes(now, 1, true);
        assert!(changes.whole && changes.records.len() == 1, "{changes:?}");
        assert_eq!((node.changes(), node.take_changes(now, 9, false).whole), (0, false));
        node.change_all();
        assert!(node.take_changes(now, 9, false).whole);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Hold(u8, u64),
        Save(u8),
        Forget(u8),
        Wait(u32),
        /// At most so many changes are taken; and written, or not.
        Take(usize, bool),
        Lose,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u8..12, 0u64..6).prop_map(|(n, version)| Step::Hold(n, version)),
            2 => (0u8..12).prop_map(Step::Save),
            1 => (0u8..12).prop_map(Step::Forget),
            2 => (1u32..2400).prop_map(Step::Wait),
            3 => (1usize..9, any::<bool>()).prop_map(|(most, works)| Step::Take(most, works)),
            1 => Just(Step::Lose),
        ]
    }

    /// What somebody has who writes down all changes.
    #[derive(Default)]
    struct Written {
        records: BTreeMap<(Id, Author), (Record, Time)>,
        published: BTreeMap<(Id, Author), Record>,
    }

    impl Written {
        fn write(&mut self, now: Time, changes: &Changes<Handle>) {
            if changes.whole {
                *self = Written::default();
            }
            for Changed { key, author, now: held } in &changes.records {
                self.records.remove(&(*key, *author));
                self.records.extend(held.clone().map(|held| ((*key, *author), (held.record, now))));
            }
            for Changed { key, author, now } in &changes.published {
                self.published.remove(&(*key, *author));
                self.published.extend(now.clone().map(|published| ((*key, *author), published.record)));
            }
        }
    }

    proptest! {
        #[test]
        fn who_writes_down_all_changes_has_what_the_node_has(steps in prop::collection::vec(step(), 1..120)) {
            let (mut node, mut written, mut now) = (node(true, Limits::default()), Written::default(), Time::ZERO);
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Hold(n, version) => node.handle(now, Input::ResumeRecord(held(n, version)), &mut Vec::new()),
                    Step::Save(n) => save(&mut node, now, number as u64, n),
                    Step::Forget(n) => {
                        let command = Command::Forget { key: Id::from_prefix(&[n]) };
                        let operation = OperationId(number as u64);
                        node.handle(now, Input::Start { operation, command }, &mut Vec::new());
                    }
                    Step::Wait(seconds) => {
                        now = now + Duration::from_secs(seconds.into());
                        node.handle(now, Input::Tick, &mut Vec::new());
                    }
                    Step::Take(most, works) => {
                        let changes = node.take_changes(now, most, false);
                        prop_assert!(changes.whole || changes.records.len() + changes.published.len() <= most);
                        if works {
                            written.write(now, &changes);
                        } else {
                            let records = changes.records.iter().map(|change| (change.key, change.author));
                            let published = changes.published.iter().map(|change| (change.key, change.author));
                            node.change_again(records, published, false);
                            if changes.whole {
                                node.change_all();
                            }
                        }
                    }
                    Step::Lose => {
                        written = Written::default();
                        node.change_all();
                    }
                }
            }
            while node.changes() > 0 {
                let changes = node.take_changes(now, 5, false);
                written.write(now, &changes);
            }
            let aged = |(place, (record, then)): (_, (Record, Time))| (place, record.aged(now.since(then)));
            let records: BTreeMap<_, _> = written.records.into_iter().map(aged).filter(|(_, left)| left.remaining > 0).collect();
            let held = node.records(now).map(|(key, record)| ((key, record.author()), record)).collect();
            prop_assert_eq!(records, held);
            let published = node.published().map(|entry| ((entry.key, entry.record.author()), entry.record));
            prop_assert_eq!(written.published, published.collect());
        }
    }
}
