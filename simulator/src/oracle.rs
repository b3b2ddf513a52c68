//! The oracle: knows every acknowledged record and who holds it, and judges what the network answers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use kademlia_dht::core::{Params, Time};
use kademlia_dht::gateway::{Body, Id, Message, Record, Reply, Request, Version};

use crate::clock::Clocks;
use crate::handle::Handle;
use crate::wire::Links;

/// Of what went wrong, so much is told word for word.
const TOLD: usize = 20;

/// Why a query did not give the newest acknowledged record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Explanation {
    /// All who acknowledged it have died since, and nobody else holds it.
    HoldersFailed,
    /// Its lifetime is over.
    Expired,
    /// All who hold it are cut off from the node that asked, or it was cut off itself while it asked.
    Unreachable,
    /// It was written on the other side of a partition, and the network has not grown together yet.
    Healing,
    /// There is none: it should have been found.
    None,
}

/// A save that was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    pub(crate) version: Version,
    /// Whether it was a delete: then nothing must be found.
    pub(crate) deleted: bool,
    pub(crate) by: Handle,
    /// When it began and when it was acknowledged.
    pub(crate) begun: Time,
    pub(crate) since: Time,
    /// Those who said that they keep it.
    pub(crate) holders: Vec<Handle>,
}

/// All that is known of a key.
#[derive(Debug, Default)]
struct Truth {
    acknowledged: Option<Acknowledged>,
    /// The newest version that deletes, of which anybody was told: it counts even if its writer died over it.
    deleted: Option<Version>,
    /// The living nodes that hold a record, and the newest version of each.
    holders: BTreeMap<u32, Version>,
    /// For each version its last renewal and until when that one lives.
    deadlines: BTreeMap<Version, (u32, Time)>,
}

/// What is true, for comparison with what nodes say.
#[derive(Debug)]
pub(crate) struct Oracle {
    lifetime: Duration,
    refresh: Duration,
    /// What clocks that drift, and lifetimes in whole seconds, add up to.
    slack: Duration,
    keys: BTreeMap<Id, Truth>,
    /// Since when each node lives.
    births: BTreeMap<u32, Time>,
    held: BTreeMap<u32, BTreeSet<Id>>,
    /// The key of each payload, by its serial number.
    serials: Vec<Id>,
    violations: u64,
    told: Vec<String>,
}

impl Oracle {
    pub(crate) fn new(params: &Params, clocks: Clocks) -> Self {
        let drift = params.record_lifetime * clocks.drift / 1_000_000;
        Oracle {
            lifetime: params.record_lifetime,
            refresh: params.refresh_interval,
            slack: Duration::from_secs(30) + drift * 2,
            keys: BTreeMap::new(),
            births: BTreeMap::new(),
            held: BTreeMap::new(),
            serials: Vec::new(),
            violations: 0,
            told: Vec::new(),
        }
    }

    /// A value of this many bytes (at least eight) for a key, unlike every other.
    pub(crate) fn payload(&mut self, key: Id, bytes: usize) -> Bytes {
        let serial = self.serials.len() as u64;
        self.serials.push(key);
        let words = std::iter::repeat(serial.to_le_bytes()).flatten();
        words.take(bytes.max(8)).collect()
    }

    /// The key that a value was made for; `None` if it was changed, or never made.
    pub(crate) fn key_of(&self, value: &Bytes) -> Option<Id> {
        let serial = u64::from_le_bytes(*value.first_chunk()?);
        let intact = value.iter().zip(serial.to_le_bytes().iter().cycle()).all(|(byte, made)| byte == made);
        self.serials.get(usize::try_from(serial).ok()?).filter(|_| intact).copied()
    }

    /// Something happened that must never happen.
    pub(crate) fn violation(&mut self, now: Time, what: impl fmt::Display) {
        self.violations += 1;
        self.unexplained(now, what);
    }

    /// Several such things happened.
    pub(crate) fn add_violations(&mut self, now: Time, all: Vec<String>) {
        for what in all {
            self.violation(now, what);
        }
    }

    /// A query missed without a reason.
    pub(crate) fn unexplained(&mut self, now: Time, what: impl fmt::Display) {
        if self.told.len() < TOLD {
            self.told.push(format!("at {now}: {what}"));
        }
    }

    /// How often something happened that must never happen, and the first of these.
    pub(crate) fn violations(&self) -> (u64, &[String]) {
        (self.violations, &self.told)
    }
}

/// What nodes do.
impl Oracle {
    pub(crate) fn born(&mut self, now: Time, node: Handle) {
        self.births.insert(node.number(), now);
    }

    pub(crate) fn died(&mut self, node: Handle) {
        self.births.remove(&node.number());
        for key in self.held.remove(&node.number()).unwrap_or_default() {
            if let Some(truth) = self.keys.get_mut(&key) {
                truth.holders.remove(&node.number());
            }
        }
    }

    pub(crate) fn kept(&mut self, now: Time, node: Handle, key: Id, version: Version) {
        let truth = self.keys.entry(key).or_default();
        let before = truth.holders.insert(node.number(), version);
        self.held.entry(node.number()).or_default().insert(key);
        if let Some(before) = before.filter(|before| *before > version) {
            self.violation(now, format_args!("{node:?} replaced version {before} of {key} by the older {version}"));
        }
    }

    pub(crate) fn expired(&mut self, node: Handle, key: Id) {
        if let Some(truth) = self.keys.get_mut(&key) {
            truth.holders.remove(&node.number());
        }
        if let Some(held) = self.held.get_mut(&node.number()) {
            held.remove(&key);
        }
    }

    /// A message leaves a node: a record in it must be what the node holds, and must not live longer than its publisher
    /// said.
    pub(crate) fn sent(&mut self, now: Time, from: u32, message: &Message<Handle>) {
        match &message.body {
            Body::Request(Request::Store { key, record, .. }) => {
                self.check_lifetime(now, from, *key, record);
                if record.is_tombstone() {
                    self.deleted(*key, record.version);
                }
            }
            Body::Reply(Reply::Found(found)) => {
                if let Some(record) = &found.record
                    && let Some(key) = self.key_of(&record.value)
                {
                    self.check_lifetime(now, from, key, record);
                    self.check_served(now, from, key, record);
                }
            }
            _ => {}
        }
    }

    fn deleted(&mut self, key: Id, version: Version) {
        let truth = self.keys.entry(key).or_default();
        truth.deleted = truth.deleted.max(Some(version));
    }

    fn check_lifetime(&mut self, now: Time, from: u32, key: Id, record: &Record) {
        let until = now + Duration::from_secs(record.remaining.into());
        let slack = self.slack;
        let deadlines = &mut self.keys.entry(key).or_default().deadlines;
        let (renewal, deadline) = deadlines.entry(record.version).or_insert((record.renewal, until));
        if record.renewal > *renewal {
            (*renewal, *deadline) = (record.renewal, until);
        } else if until > *deadline + slack {
            let deadline = *deadline;
            let version = record.version;
            self.violation(
                now,
                format_args!("node {from} gives version {version} of {key} a life until {until}, not {deadline}"),
            );
        }
    }

    fn check_served(&mut self, now: Time, from: u32, key: Id, record: &Record) {
        let held = self.keys.get(&key).and_then(|truth| truth.holders.get(&from)).copied();
        if held != Some(record.version) {
            let (version, held) = (record.version, held.map(|held| held.0));
            self.violation(now, format_args!("node {from} serves version {version} of {key}, but holds {held:?}"));
        }
    }
}

/// What users are told.
impl Oracle {
    /// A save was acknowledged: those who are said to keep the record must do so.
    pub(crate) fn acknowledged(&mut self, key: Id, acknowledged: Acknowledged) {
        let lapses: Vec<String> = self.lapses(&key, &acknowledged).collect();
        self.add_violations(acknowledged.since, lapses);
        if acknowledged.deleted {
            self.deleted(key, acknowledged.version);
        }
        let truth = self.keys.entry(key).or_default();
        if truth.acknowledged.as_ref().is_none_or(|before| before.version < acknowledged.version) {
            truth.acknowledged = Some(acknowledged);
        }
    }

    /// Checks that nobody who said that it keeps a record has let it go before its time.
    pub(crate) fn check_kept(&mut self, now: Time) {
        let acknowledged = self.keys.iter().filter_map(|(key, truth)| Some((key, truth.acknowledged.as_ref()?)));
        let living = acknowledged.filter(|(_, acknowledged)| self.first_deadline(acknowledged) > now);
        let lapses: Vec<String> = living.flat_map(|(key, acknowledged)| self.lapses(key, acknowledged)).collect();
        self.add_violations(now, lapses);
    }

    /// Who said that it keeps a record and does not, though it has lived since.
    fn lapses(&self, key: &Id, acknowledged: &Acknowledged) -> impl Iterator<Item = String> {
        let Acknowledged { version, begun, .. } = *acknowledged;
        let truth = self.keys.get(key);
        acknowledged.holders.iter().filter_map(move |node| {
            let held = truth.and_then(|truth| truth.holders.get(&node.number())).copied();
            let has_lapsed = self.has_lived(*node, begun) && held < Some(version);
            let held = held.map(|held| held.0);
            has_lapsed.then(|| format!("{node:?} was to keep version {version} of {key}, but holds {held:?}"))
        })
    }

    /// Whether a node lives and has done so since `begun`.
    fn has_lived(&self, node: Handle, begun: Time) -> bool {
        self.births.get(&node.number()).is_some_and(|born| *born <= begun)
    }

    /// What a query that starts now must give.
    pub(crate) fn expected(&self, key: &Id) -> Option<&Acknowledged> {
        self.keys.get(key)?.acknowledged.as_ref()
    }

    /// Whether nothing may be found where `expected` was: it deletes, or a newer delete went out.
    pub(crate) fn may_be_gone(&self, key: &Id, expected: &Acknowledged) -> bool {
        self.keys.get(key).is_some_and(|truth| truth.deleted >= Some(expected.version))
    }

    /// Why a query from `asker`, which began at `since`, did not give what was expected.
    pub(crate) fn explain(
        &self,
        since: Time,
        now: Time,
        asker: Handle,
        key: &Id,
        expected: &Acknowledged,
        links: &Links,
    ) -> Explanation {
        let hear_each_other = |a: u32, b: u32| links.is_open(a, b) && links.is_open(b, a);
        let mut holders = self.holders(key, expected.version).peekable();
        let truth = self.keys.get(key);
        if truth.and_then(|truth| self.deadline(truth, expected.version)) <= Some(now) {
            Explanation::Expired
        } else if holders.peek().is_none() {
            let renewed = self.first_deadline(expected) <= now;
            let failed = !expected.holders.iter().any(|holder| self.has_lived(*holder, expected.begun));
            if failed || renewed { Explanation::HoldersFailed } else { Explanation::None }
        } else if links.failed_between(since, now, asker.number())
            || !holders.any(|holder| hear_each_other(asker.number(), holder))
        {
            Explanation::Unreachable
        } else if links.split_between(expected.since, asker.number(), expected.by.number())
            && links.healed().is_some_and(|healed| now < healed + self.refresh * 2)
        {
            Explanation::Healing
        } else {
            Explanation::None
        }
    }

    /// The living nodes that hold at least this version.
    pub(crate) fn holders(&self, key: &Id, version: Version) -> impl Iterator<Item = u32> {
        let holders = self.keys.get(key).map(|truth| &truth.holders).into_iter().flatten();
        holders.filter(move |(_, held)| **held >= version).map(|(node, _)| *node)
    }

    /// The newest version of each key that should live at `now`.
    pub(crate) fn living(&self, now: Time) -> impl Iterator<Item = (Id, Version)> {
        self.keys.iter().filter_map(move |(key, truth)| {
            let version = truth.acknowledged.as_ref()?.version;
            (self.deadline(truth, version)? > now).then_some((*key, version))
        })
    }

    /// Whether a node holds an older version than the acknowledged one.
    pub(crate) fn is_outdated(&self, node: Handle, key: &Id) -> bool {
        let Some(truth) = self.keys.get(key) else { return false };
        let held = truth.holders.get(&node.number());
        truth.acknowledged.as_ref().zip(held).is_some_and(|(newest, held)| *held < newest.version)
    }

    /// Until when a version lives, as its publisher said last.
    fn deadline(&self, truth: &Truth, version: Version) -> Option<Time> {
        truth.deadlines.get(&version).map(|(_, until)| self.surely(*until))
    }

    /// Until when a record lives at those who acknowledged it, if it is not published again.
    fn first_deadline(&self, acknowledged: &Acknowledged) -> Time {
        self.surely(acknowledged.begun + self.lifetime)
    }

    fn surely(&self, until: Time) -> Time {
        Time::from_micros(until.as_micros().saturating_sub(self.slack.as_micros() as u64))
    }
}

#[cfg(test)]
mod tests {
    use kademlia_dht::gateway::{Expect, NetworkId, Tag, Token};

    use super::*;
    use crate::wire::Wire;

    const NODE: Handle = Handle::of(3);
    const SAVER: Handle = Handle::of(2);

    fn saved(version: u64, seconds: u64) -> Acknowledged {
        let (version, since) = (Version(version), at(seconds));
        Acknowledged { version, deleted: false, by: SAVER, begun: since, since, holders: vec![NODE] }
    }

    fn stored(version: u64) -> Record {
        Record::plain("value", Version(version), Duration::from_secs(86_400))
    }

    /// A record that a node keeps.
    fn oracle() -> (Oracle, Id) {
        let mut oracle = Oracle::new(&Params::new(crate::handle::KEY_SPACE), Clocks::default());
        let key = Id::from_prefix(&[9]);
        oracle.born(Time::ZERO, NODE);
        oracle.check_lifetime(Time::ZERO, 2, key, &stored(5));
        oracle.kept(Time::ZERO, NODE, key, Version(5));
        oracle.acknowledged(key, saved(5, 0));
        assert_eq!(oracle.violations().0, 0);
        (oracle, key)
    }

    fn at(seconds: u64) -> Time {
        Time::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_miss_is_explained_by_the_truth() {
        let (mut oracle, key) = oracle();
        let mut links = Links::new(Wire::default(), 1);
        let expected = oracle.expected(&key).unwrap().clone();
        let why = |oracle: &Oracle, links: &Links, now, asker| {
            oracle.explain(now, now, Handle::of(asker), &key, &expected, links)
        };
        assert_eq!(why(&oracle, &links, at(1), 4), Explanation::None);
        assert_eq!(why(&oracle, &links, at(86_400), 4), Explanation::Expired);
        oracle.check_lifetime(at(80_000), 2, key, &Record { renewal: 1, ..stored(5) });
        assert_eq!(why(&oracle, &links, at(86_400), 4), Explanation::None, "it was published again");
        links.split(Time::ZERO, 0.5);
        let other = (0..100).find(|n| links.side(*n, 0.5) != links.side(3, 0.5)).unwrap();
        let far = (0..100).find(|n| links.side(*n, 0.5) != links.side(SAVER.number(), 0.5)).unwrap();
        assert_eq!(why(&oracle, &links, at(1), other), Explanation::Unreachable);
        links.heal(at(2));
        assert_eq!(why(&oracle, &links, at(3), far), Explanation::Healing);
        assert_eq!(why(&oracle, &links, at(3), SAVER.number()), Explanation::None, "written on its own side");
        assert_eq!(why(&oracle, &links, at(7203), far), Explanation::None);
        oracle.died(NODE);
        assert_eq!(why(&oracle, &links, at(1), 4), Explanation::HoldersFailed);
    }

    #[test]
    fn a_holder_that_lets_go_of_a_record_explains_nothing() {
        let (mut oracle, key) = oracle();
        let links = Links::new(Wire::default(), 1);
        let expected = oracle.expected(&key).unwrap().clone();
        oracle.expired(NODE, key);
        assert_eq!(oracle.explain(at(9), at(9), Handle::of(4), &key, &expected, &links), Explanation::None);
        oracle.check_kept(at(9));
        assert_eq!(oracle.violations().0, 1);
        // Nor does one that said it keeps a record and did not.
        oracle.acknowledged(key, saved(6, 10));
        assert_eq!(oracle.violations().0, 2);
        // One that died and came back without it is another matter.
        oracle.died(NODE);
        oracle.born(at(20), NODE);
        oracle.check_kept(at(30));
        assert_eq!(oracle.violations().0, 2);
    }

    #[test]
    fn an_older_copy_does_not_count_as_one() {
        let (mut oracle, key) = oracle();
        oracle.check_lifetime(at(1), 2, key, &stored(6));
        oracle.acknowledged(key, Acknowledged { holders: vec![], ..saved(6, 1) });
        oracle.acknowledged(key, Acknowledged { holders: vec![], ..saved(4, 2) });
        assert_eq!(oracle.expected(&key).unwrap().version, Version(6));
        assert_eq!(oracle.living(at(2)).collect::<Vec<_>>(), [(key, Version(6))]);
        assert_eq!(oracle.holders(&key, Version(6)).count(), 0);
        assert!(oracle.is_outdated(NODE, &key) && !oracle.is_outdated(Handle::of(4), &key));
    }

    #[test]
    fn a_delete_counts_from_when_it_goes_out_even_if_nobody_acknowledges_it() {
        let (mut oracle, key) = oracle();
        let expected = oracle.expected(&key).unwrap().clone();
        let mut store = |record: Record| {
            let store = Request::Store { key, record, token: Token(0), expect: Expect::Anything };
            let (network, tag, body) = (NetworkId::default(), Tag(1), Body::Request(store));
            let message = Message { network, tag, sender: None, also: Vec::new(), body };
            oracle.sent(at(1), 7, &message);
            oracle.may_be_gone(&key, &expected)
        };
        assert!(!store(stored(8)), "a newer value");
        assert!(!store(Record::tombstone(Version(4), Duration::from_secs(9))), "an older delete");
        assert!(store(Record::tombstone(Version(9), Duration::from_secs(9))), "its writer may die now");
        let again = saved(10, 2);
        oracle.acknowledged(key, again.clone());
        assert!(!oracle.may_be_gone(&key, &again), "it was saved again since");
        oracle.acknowledged(key, Acknowledged { deleted: true, ..saved(11, 3) });
        assert!(oracle.may_be_gone(&key, &again));
    }

    #[test]
    fn what_no_node_may_do_is_noticed() {
        let (mut oracle, key) = oracle();
        oracle.kept(at(1), NODE, key, Version(4));
        assert_eq!(oracle.violations().0, 1, "replaced by an older one");
        let value = oracle.payload(key, 100);
        assert_eq!((value.len(), oracle.key_of(&value)), (100, Some(key)));
        let record = Record::plain(value, Version(5), Duration::from_secs(100));
        oracle.check_served(at(1), 4, key, &record);
        assert_eq!(oracle.violations().0, 2, "served by one that does not hold it");
        let record = Record { version: Version(7), ..record };
        oracle.check_lifetime(at(0), 3, key, &record);
        oracle.check_lifetime(at(100), 3, key, &Record { renewal: 1, ..record.clone() });
        assert_eq!(oracle.violations().0, 2);
        oracle.check_lifetime(at(200), 3, key, &Record { renewal: 1, ..record });
        assert_eq!(oracle.violations().0, 3, "a copy that lives longer than its publisher said");
        assert_eq!(oracle.violations().1.len(), 3);
    }

    #[test]
    fn a_value_that_was_changed_is_nobodys() {
        let (mut oracle, key) = oracle();
        let mut value = oracle.payload(key, 20).to_vec();
        value[19] ^= 1;
        assert_eq!(oracle.key_of(&value.into()), None);
        assert_eq!(oracle.key_of(&Bytes::from_static(&[9; 20])), None);
    }
}
