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
    /// No living node holds it any more.
    HoldersFailed,
    /// Its lifetime is over.
    Expired,
    /// All who hold it are cut off from the node that asked, or it was cut off itself while it asked.
    Unreachable,
    /// It was written before a partition was healed, and the network has not grown together yet.
    Healing,
    /// There is none: it should have been found.
    None,
}

/// The newest acknowledged record of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    pub(crate) version: Version,
    /// When it was acknowledged.
    pub(crate) since: Time,
    /// Until then it must be found.
    pub(crate) expires: Time,
}

/// All that is known of a key.
#[derive(Debug, Default)]
struct Truth {
    acknowledged: Option<Acknowledged>,
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
    pub(crate) fn born(&mut self, node: Handle) {
        self.held.remove(&node.number());
    }

    pub(crate) fn died(&mut self, node: Handle) {
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
            Body::Request(Request::Store { key, record, .. }) => self.check_lifetime(now, from, *key, record),
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
    /// A save was acknowledged.
    pub(crate) fn acknowledged(&mut self, now: Time, key: Id, version: Version) {
        let until = (now + self.lifetime).as_micros().saturating_sub(self.slack.as_micros() as u64);
        let truth = self.keys.entry(key).or_default();
        if truth.acknowledged.is_none_or(|before| before.version < version) {
            truth.acknowledged = Some(Acknowledged { version, since: now, expires: Time::from_micros(until) });
        }
    }

    /// What a query that starts now must give.
    pub(crate) fn expected(&self, key: &Id) -> Option<Acknowledged> {
        self.keys.get(key)?.acknowledged
    }

    /// Why a query from `asker`, which began at `since`, did not give what was expected.
    pub(crate) fn explain(
        &self,
        since: Time,
        now: Time,
        asker: Handle,
        key: &Id,
        expected: Acknowledged,
        links: &Links,
    ) -> Explanation {
        let asker = asker.number();
        let mut holders = self.holders(key, expected.version).peekable();
        if now >= expected.expires {
            Explanation::Expired
        } else if holders.peek().is_none() {
            Explanation::HoldersFailed
        } else if links.failed_between(since, now, asker)
            || !holders.any(|holder| links.is_open(asker, holder) && links.is_open(holder, asker))
        {
            Explanation::Unreachable
        } else if links.healed().is_some_and(|at| expected.since <= at && now < at + self.refresh * 2) {
            Explanation::Healing
        } else {
            Explanation::None
        }
    }

    /// The living nodes that hold at least this version.
    fn holders(&self, key: &Id, version: Version) -> impl Iterator<Item = u32> {
        let holders = self.keys.get(key).map(|truth| &truth.holders).into_iter().flatten();
        holders.filter(move |(_, held)| **held >= version).map(|(node, _)| *node)
    }

    /// For each key whose acknowledged record should live at `now`, how many living nodes hold it.
    pub(crate) fn copies(&self, now: Time) -> impl Iterator<Item = (Id, usize)> {
        let living = move |truth: &Truth| truth.acknowledged.filter(|acknowledged| acknowledged.expires > now);
        self.keys
            .iter()
            .filter_map(move |(key, truth)| Some((*key, living(truth)?.version)))
            .map(|(key, version)| (key, self.holders(&key, version).count()))
    }

    /// Whether a node holds an older version than the acknowledged one.
    pub(crate) fn is_outdated(&self, node: Handle, key: &Id) -> bool {
        let Some(truth) = self.keys.get(key) else { return false };
        let held = truth.holders.get(&node.number());
        truth.acknowledged.zip(held).is_some_and(|(newest, held)| *held < newest.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Wire;

    const NODE: Handle = Handle::of(3);

    fn oracle() -> (Oracle, Id) {
        let mut oracle = Oracle::new(&Params::new(crate::handle::KEY_SPACE), Clocks::default());
        let key = Id::from_prefix(&[9]);
        oracle.kept(Time::ZERO, NODE, key, Version(5));
        oracle.acknowledged(Time::ZERO, key, Version(5));
        (oracle, key)
    }

    fn at(seconds: u64) -> Time {
        Time::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_miss_is_explained_by_the_truth() {
        let (mut oracle, key) = oracle();
        let mut links = Links::new(Wire::default(), 1);
        let expected = oracle.expected(&key).unwrap();
        let why = |oracle: &Oracle, links: &Links, now, asker| {
            oracle.explain(now, now, Handle::of(asker), &key, expected, links)
        };
        assert_eq!(why(&oracle, &links, at(1), 4), Explanation::None);
        assert_eq!(why(&oracle, &links, at(86_400), 4), Explanation::Expired);
        links.split(0.5);
        let other = (0..100).find(|n| links.side(*n, 0.5) != links.side(3, 0.5)).unwrap();
        assert_eq!(why(&oracle, &links, at(1), other), Explanation::Unreachable);
        links.heal(at(2));
        assert_eq!(why(&oracle, &links, at(3), other), Explanation::Healing);
        assert_eq!(why(&oracle, &links, at(7203), other), Explanation::None);
        oracle.died(NODE);
        assert_eq!(why(&oracle, &links, at(1), 4), Explanation::HoldersFailed);
    }

    #[test]
    fn an_older_copy_does_not_count_as_one() {
        let (mut oracle, key) = oracle();
        oracle.acknowledged(at(1), key, Version(6));
        oracle.acknowledged(at(2), key, Version(4));
        assert_eq!(oracle.expected(&key).unwrap().version, Version(6));
        assert_eq!(oracle.copies(at(2)).collect::<Vec<_>>(), [(key, 0)]);
        assert!(oracle.is_outdated(NODE, &key) && !oracle.is_outdated(Handle::of(4), &key));
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
