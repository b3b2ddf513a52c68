//! The oracle: knows every acknowledged record and who holds it, and judges what the network answers.

mod payloads;
mod truth;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use kademlia_dht::core::{Effort, Params, Time};
use kademlia_dht::gateway::{Body, Found, Id, Message, Record, Reply, Request, Version};

use crate::clock::{Clocks, FOREVER};
use crate::handle::Handle;
use crate::ledger::Ledger;
use crate::wire::Links;
use payloads::Payloads;
use truth::{Holding, Truth};

/// Of what went wrong, so much is told word for word.
const TOLD: usize = 20;

/// With fewer contacts in a bucket than this a lookup can end beside its target though nobody died: each node that it
/// asks names too few others. Measured: of 300 nodes with sessions of an hour, 4 and 5 missed in one run of four, 6 to 8 in
/// none of eight.
const SURE_K: usize = 6;

/// Why a query did not give the newest acknowledged record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Explanation {
    /// Those who were bound to keep it have died, and nobody else holds it.
    HoldersFailed,
    /// Its lifetime is over.
    Expired,
    /// All who hold it are cut off from the node that asked, or it was cut off itself while it asked.
    Unreachable,
    /// Nobody could be counted on to lead there: see [`Oracle::is_out_of_reach`].
    OutOfReach,
    /// It was written on the other side of a partition, and the network has not grown together yet.
    Healing,
    /// There is none: it should have been found.
    None,
}

/// A save that was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    /// What was saved; a tombstone if it was a delete.
    pub(crate) record: Record,
    pub(crate) by: Handle,
    /// When it began and when it was acknowledged.
    pub(crate) begun: Time,
    pub(crate) since: Time,
    /// Those who said that they keep it.
    pub(crate) holders: Vec<Handle>,
}

/// A record that a node is asked to store.
#[derive(Debug, Clone, Copy)]
struct Offer {
    key: Id,
    version: Version,
    remaining: u32,
}

/// What is true, for comparison with what nodes say.
#[derive(Debug)]
pub(crate) struct Oracle {
    k: usize,
    lifetime: Duration,
    refresh: Duration,
    /// By how much a life can be shorter than a node said: it travels in whole seconds, and clocks drift.
    slack: Duration,
    /// By how much it can be longer than its publisher said: each copy of a copy adds the time that a message took.
    creep: Duration,
    keys: BTreeMap<Id, Truth>,
    /// Since when each node lives.
    births: BTreeMap<u32, Time>,
    held: BTreeMap<u32, BTreeSet<Id>>,
    payloads: Payloads,
    /// What was written that proves its author. Of its keys nothing else is known here: several authors can have records
    /// under one, and nodes tell of versions only.
    pub(crate) ledger: Ledger,
    /// What the message that a node is dealing with asks it to store.
    offer: Option<Offer>,
    /// The key for whose records it asks.
    asked: Option<Id>,
    violations: u64,
    told: Vec<String>,
}

impl Oracle {
    pub(crate) fn new(params: &Params, clocks: Clocks, liars: [u8; 33]) -> Self {
        let lifetime = params.record_lifetime.min(FOREVER);
        let drift = clocks.longest(lifetime).saturating_sub(lifetime);
        Oracle {
            k: params.k,
            lifetime,
            refresh: params.refresh_interval.min(FOREVER),
            slack: Duration::from_secs(30) + drift * 2,
            creep: Duration::from_secs(30) + drift * 2 + lifetime / 100,
            keys: BTreeMap::new(),
            births: BTreeMap::new(),
            held: BTreeMap::new(),
            payloads: Payloads::default(),
            ledger: Ledger::new(liars),
            offer: None,
            asked: None,
            violations: 0,
            told: Vec::new(),
        }
    }

    /// A value of this many bytes (at least eight) for a key, unlike every other.
    pub(crate) fn payload(&mut self, key: Id, bytes: usize) -> Bytes {
        self.payloads.make(key, bytes)
    }

    /// Whether somebody saved the value of a record under this key and version.
    pub(crate) fn is_genuine(&mut self, key: &Id, record: &Record) -> bool {
        self.payloads.fits(key, record)
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
                truth.died(node.number());
            }
        }
    }

    pub(crate) fn kept(&mut self, now: Time, node: Handle, key: Id, version: Version) {
        if self.ledger.has(&key) {
            return;
        }
        let before = self.keys.entry(key).or_default().kept(now, node.number(), version);
        self.held.entry(node.number()).or_default().insert(key);
        if let Some(before) = before.filter(|before| *before > version) {
            self.violation(now, format_args!("{node:?} replaced version {before} of {key} by the older {version}"));
        }
    }

    /// A node says that the life of a record is over.
    pub(crate) fn expired(&mut self, now: Time, node: Handle, key: Id) {
        if let Some(holding) = self.let_go(node, key).filter(|holding| self.surely(holding.until) > now) {
            let Holding { version, until } = holding;
            self.violation(now, format_args!("{node:?} was to keep version {version} of {key} until {until}"));
        }
    }

    fn let_go(&mut self, node: Handle, key: Id) -> Option<Holding> {
        if let Some(held) = self.held.get_mut(&node.number()) {
            held.remove(&key);
        }
        self.keys.get_mut(&key)?.holders.remove(&node.number())
    }

    /// What a living node is bound to hold, and goes on to be for longer than clocks can differ.
    pub(crate) fn bonds(&self, now: Time, node: Handle) -> impl Iterator<Item = (Id, Version)> {
        let held = self.held.get(&node.number()).into_iter().flatten();
        held.filter_map(move |key| {
            let holding = self.keys.get(key)?.holders.get(&node.number())?;
            (self.surely(holding.until) > now).then_some((*key, holding.version))
        })
    }

    /// A node does not hold what it is bound to.
    pub(crate) fn lost(&mut self, now: Time, node: Handle, key: Id) {
        self.let_go(node, key);
        self.violation(now, format_args!("{node:?} has lost its record of {key}"));
    }

    /// A node has said that it keeps a record, or kept it while it was down: it is bound to.
    pub(crate) fn bind(&mut self, now: Time, node: Handle, key: Id, record: &Record) {
        self.bind_until(now, node, Offer { key, version: record.version, remaining: record.remaining });
    }

    fn bind_until(&mut self, now: Time, node: Handle, Offer { key, version, remaining }: Offer) {
        if self.ledger.has(&key) {
            return;
        }
        let until = now + Duration::from_secs(remaining.into());
        if remaining > 0 && !self.keys.entry(key).or_default().bind(node.number(), version, until) {
            self.violation(now, format_args!("{node:?} was to keep version {version} of {key}, and does not"));
        }
    }

    /// A message arrives at a node, which is to deal with it now.
    pub(crate) fn arrived(&mut self, message: &Message<Handle>) {
        self.offer = match &message.body {
            Body::Request(Request::Store { key, record, .. }) => {
                Some(Offer { key: *key, version: record.version, remaining: record.remaining })
            }
            _ => None,
        };
        self.asked = match &message.body {
            Body::Request(Request::FindValue { key, .. }) => Some(*key),
            _ => None,
        };
    }

    /// A message leaves a node: a record in it must be what somebody saved and what the node holds, and must not live
    /// longer than its publisher said. Who says that it has stored a record must keep it.
    pub(crate) fn sent(&mut self, now: Time, from: u32, message: &Message<Handle>) {
        match &message.body {
            Body::Request(Request::Store { key, record, .. }) => self.check_record(now, from, *key, record),
            Body::Reply(Reply::Found(Found { records, .. })) => {
                if let Some(key) = self.asked.filter(|key| self.ledger.has(key)) {
                    return records.iter().for_each(|record| self.check_author(now, from, key, record));
                }
                for record in records.iter().filter(|record| !record.is_tombstone()) {
                    match self.payloads.key_of(&record.value) {
                        Some(key) => {
                            self.check_record(now, from, key, record);
                            self.check_served(now, from, key, record);
                        }
                        None => self.violation(now, format_args!("node {from} serves a value that nobody saved")),
                    }
                }
            }
            Body::Reply(Reply::Stored) => {
                if let Some(offer) = self.offer.take() {
                    self.bind_until(now, Handle::of(from), offer);
                }
            }
            _ => {}
        }
    }

    /// What proves its author and is passed on by a node that does not lie must be what that author wrote.
    fn check_author(&mut self, now: Time, from: u32, key: Id, record: &Record) {
        if record.kind.is_authentic() && !self.ledger.is_genuine(&key, record) {
            let version = record.version;
            self.violation(now, format_args!("node {from} passes on a forged record of {key} as version {version}"));
        }
    }

    fn check_record(&mut self, now: Time, from: u32, key: Id, record: &Record) {
        if self.ledger.has(&key) {
            return self.check_author(now, from, key, record);
        }
        if !record.is_tombstone() && !self.payloads.fits(&key, record) {
            let version = record.version;
            self.violation(now, format_args!("node {from} has another value for version {version} of {key}"));
        }
        let until = now + Duration::from_secs(record.remaining.into());
        let (latest, creep) = (now + self.lifetime, self.creep);
        let fault = self.keys.entry(key).or_default().sent(from, record, until, latest, creep);
        if let Err(fault) = fault {
            self.violation(now, format_args!("node {from} {fault} ({key})"));
        }
    }

    fn check_served(&mut self, now: Time, from: u32, key: Id, record: &Record) {
        let held = self.keys.get(&key).and_then(|truth| truth.holders.get(&from)).map(|held| held.version);
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
        let Acknowledged { ref record, by, begun, since, .. } = acknowledged;
        self.check_record(begun, by.number(), key, record);
        if acknowledged.holders.contains(&by) {
            // It tells nobody else of its own copy. Its life began after the save did.
            self.bind_until(begun, by, Offer { key, version: record.version, remaining: record.remaining });
        }
        let lapses: Vec<String> = self.lapses(&key, &acknowledged).collect();
        self.add_violations(since, lapses);
        let truth = self.keys.entry(key).or_default();
        if truth.acknowledged.as_ref().is_none_or(|before| before.record.version < acknowledged.record.version) {
            truth.acknowledged = Some(acknowledged);
        }
    }

    /// Who is said to keep a record and does not, though it has lived since.
    fn lapses(&self, key: &Id, acknowledged: &Acknowledged) -> impl Iterator<Item = String> {
        let (version, begun) = (acknowledged.record.version, acknowledged.begun);
        let truth = self.keys.get(key);
        acknowledged.holders.iter().filter_map(move |node| {
            let held = truth.and_then(|truth| truth.holders.get(&node.number())).map(|held| held.version);
            let has_lapsed = self.has_lived(*node, begun) && held < Some(version);
            let held = held.map(|held| held.0);
            has_lapsed.then(|| format!("{node:?} is said to keep version {version} of {key}, but holds {held:?}"))
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

    /// Whether the life of a version, and of all newer ones, is over.
    pub(crate) fn is_over(&self, now: Time, key: &Id, version: Version) -> bool {
        let until = self.keys.get(key).and_then(|truth| truth.bound_until(version));
        until.is_some_and(|until| self.surely(until) <= now)
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
        let version = expected.record.version;
        let mut holders = self.holders(key, version).peekable();
        if self.is_over(now, key, version) {
            Explanation::Expired
        } else if holders.peek().is_none() {
            // Who lives and was to keep it has broken its word, which explains nothing.
            let died = self.keys.get(key).is_some_and(|truth| truth.has_fallen(now, version));
            if died { Explanation::HoldersFailed } else { Explanation::None }
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

    /// Whether a query with this effort could miss a version for which there is no other reason: with so small a k that
    /// lookups are not sure to arrive; or where nearly all have died. Then three of four copies at least are gone, and
    /// three of four that the query asked were silent, so that those who answered named it hardly anyone who lives.
    pub(crate) fn is_out_of_reach(&self, key: &Id, version: Version, effort: Option<&Effort>) -> bool {
        let few_copies = || self.holders(key, version).count() * 4 < self.k;
        let is_silent = |effort: &Effort| effort.answered * 4 < effort.asked;
        self.k < SURE_K || (few_copies() && effort.is_some_and(is_silent))
    }

    /// The living nodes that hold at least this version.
    pub(crate) fn holders(&self, key: &Id, version: Version) -> impl Iterator<Item = u32> {
        let holders = self.keys.get(key).map(|truth| &truth.holders).into_iter().flatten();
        holders.filter(move |(_, held)| held.version >= version).map(|(node, _)| *node)
    }

    /// The newest version of each key that should live at `now`.
    pub(crate) fn living(&self, now: Time) -> impl Iterator<Item = (Id, Version)> {
        self.keys.iter().filter_map(move |(key, truth)| {
            let version = truth.acknowledged.as_ref()?.record.version;
            (!self.is_over(now, key, version)).then_some((*key, version))
        })
    }

    /// Whether a node holds an older version than the acknowledged one.
    pub(crate) fn is_outdated(&self, node: Handle, key: &Id) -> bool {
        let Some(truth) = self.keys.get(key) else { return false };
        let held = truth.holders.get(&node.number());
        truth.acknowledged.as_ref().zip(held).is_some_and(|(newest, held)| held.version < newest.record.version)
    }

    /// A moment until which what lives until then surely does.
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
    const DAY: Duration = Duration::from_secs(86_400);

    fn at(seconds: u64) -> Time {
        Time::from_micros(seconds * 1_000_000)
    }

    fn message(body: Body<Handle>) -> Message<Handle> {
        Message { network: NetworkId::default(), tag: Tag(1), sender: None, also: Vec::new(), body }
    }

    /// An oracle, a key of which it has heard nothing, and the nodes of these tests.
    struct World {
        oracle: Oracle,
        key: Id,
    }

    impl World {
        fn new() -> Self {
            let mut oracle = Oracle::new(&Params::new(crate::handle::KEY_SPACE), Clocks::default(), [2; 33]);
            oracle.born(Time::ZERO, NODE);
            oracle.born(Time::ZERO, SAVER);
            World { oracle, key: Id::from_prefix(&[9]) }
        }

        fn record(&mut self, version: u64) -> Record {
            Record::plain(self.oracle.payload(self.key, 100), Version(version), DAY)
        }

        /// A node has another one store a record, which says that it keeps it.
        fn store(&mut self, now: Time, from: Handle, record: &Record) {
            let (key, version) = (self.key, record.version);
            let (token, expect) = (Token(0), Expect::Anything);
            let store = message(Body::Request(Request::Store { key, record: record.clone(), token, expect }));
            self.oracle.sent(now, from.number(), &store);
            if self.oracle.holders(&key, version).next().is_none() {
                self.oracle.kept(now, NODE, key, version);
            }
            self.oracle.arrived(&store);
            self.oracle.sent(now, NODE.number(), &message(Body::Reply(Reply::Stored)));
        }

        fn serve(&mut self, now: Time, from: Handle, record: &Record) {
            let (record, token) = (Some(record.clone()), Token(0));
            let found = Found { records: Vec::from_iter(record), more: false, held: None, contacts: Vec::new(), token };
            self.oracle.sent(now, from.number(), &message(Body::Reply(Reply::Found(found))));
        }

        /// Saves a record, which one node keeps.
        fn save(&mut self, now: Time, version: u64) -> Acknowledged {
            let record = self.record(version);
            self.store(now, SAVER, &record);
            let saved = Acknowledged { record, by: SAVER, begun: now, since: now, holders: vec![NODE] };
            self.oracle.acknowledged(self.key, saved.clone());
            saved
        }

        fn why(&self, links: &Links, now: Time, asker: Handle, expected: &Acknowledged) -> Explanation {
            self.oracle.explain(now, now, asker, &self.key, expected, links)
        }

        #[track_caller]
        fn assert_violations(&self, expected: u64, why: &str) {
            assert_eq!(self.oracle.violations().0, expected, "{why}: {:?}", self.oracle.told);
        }
    }

    #[test]
    fn a_miss_is_explained_by_the_truth() {
        let mut world = World::new();
        let saved = world.save(at(0), 5);
        let mut links = Links::new(Wire::default(), 1);
        let asker = Handle::of(4);
        assert_eq!(world.why(&links, at(1), asker, &saved), Explanation::None);
        assert_eq!(world.why(&links, at(86_400), asker, &saved), Explanation::Expired);
        world.store(at(80_000), SAVER, &Record { renewal: 1, ..saved.record.clone() });
        assert_eq!(world.why(&links, at(86_400), asker, &saved), Explanation::None, "it was published again");
        links.split(Time::ZERO, 0.5);
        let other = (0..100).find(|n| links.side(*n, 0.5) != links.side(3, 0.5)).map(Handle::of).unwrap();
        let far = (0..100).find(|n| links.side(*n, 0.5) != links.side(SAVER.number(), 0.5)).map(Handle::of).unwrap();
        assert_eq!(world.why(&links, at(1), other, &saved), Explanation::Unreachable);
        links.heal(at(2));
        assert_eq!(world.why(&links, at(3), far, &saved), Explanation::Healing);
        assert_eq!(world.why(&links, at(3), SAVER, &saved), Explanation::None, "written on its own side");
        assert_eq!(world.why(&links, at(7203), far, &saved), Explanation::None);
        world.oracle.died(NODE);
        assert_eq!(world.why(&links, at(1), asker, &saved), Explanation::HoldersFailed);
        world.assert_violations(0, "nobody did anything wrong");
    }

    #[test]
    fn only_where_nearly_all_died_or_k_is_small_a_record_is_out_of_reach() {
        let mut world = World::new();
        world.save(at(0), 5);
        let key = world.key;
        let is_out_of_reach = |world: &World, asked, answered| {
            let effort = Effort { asked, answered, ..Effort::default() };
            world.oracle.is_out_of_reach(&key, Version(5), Some(&effort))
        };
        assert!(is_out_of_reach(&world, 180, 20), "one copy, and hardly anybody answered");
        assert!(!is_out_of_reach(&world, 180, 90), "half of those asked live");
        assert!(!world.oracle.is_out_of_reach(&key, Version(5), None), "nothing is known of its effort");
        (10..14).for_each(|node| world.oracle.kept(at(1), Handle::of(node), key, Version(5)));
        assert!(!is_out_of_reach(&world, 180, 20), "five copies of twenty");
        world.oracle.k = SURE_K - 1;
        assert!(is_out_of_reach(&world, 3, 3), "so few contacts");
    }

    #[test]
    fn a_holder_that_lets_go_of_a_record_explains_nothing() {
        let mut world = World::new();
        let saved = world.save(at(0), 5);
        let (links, key) = (Links::new(Wire::default(), 1), world.key);
        world.oracle.expired(at(9), NODE, key);
        world.assert_violations(1, "long before its time");
        assert_eq!(world.why(&links, at(9), Handle::of(4), &saved), Explanation::None);
        // Nor does one that is said to keep a record and does not.
        world.oracle.acknowledged(key, Acknowledged { begun: at(10), since: at(11), ..saved.clone() });
        world.assert_violations(2, "said to keep it");
        // One that died and came back without it is another matter.
        world.oracle.died(NODE);
        world.oracle.born(at(20), NODE);
        world.oracle.acknowledged(key, Acknowledged { begun: at(10), since: at(21), ..saved });
        world.assert_violations(2, "it came back without it");
    }

    #[test]
    fn a_renewal_binds_its_holders_as_the_first_copy_did() {
        let mut world = World::new();
        let saved = world.save(at(0), 5);
        let renewed = Record { renewal: 1, ..saved.record };
        world.store(at(80_000), SAVER, &renewed);
        world.oracle.expired(at(86_400), NODE, world.key);
        world.assert_violations(1, "it said that it keeps the renewed one");
    }

    #[test]
    fn a_copy_with_a_short_life_binds_no_longer_than_that() {
        let mut world = World::new();
        let record = world.record(5);
        world.store(at(0), SAVER, &Record { remaining: 600, ..record });
        let bonds = |world: &World, now| world.oracle.bonds(now, NODE).count();
        assert_eq!((bonds(&world, at(1)), bonds(&world, at(600))), (1, 0));
        world.oracle.expired(at(600), NODE, world.key);
        world.assert_violations(0, "it said no more");
    }

    #[test]
    fn what_was_on_disk_must_be_held_again() {
        let mut world = World::new();
        let saved = world.save(at(0), 5);
        world.oracle.died(NODE);
        world.oracle.born(at(10), NODE);
        world.oracle.bind(at(10), NODE, world.key, &Record { remaining: 0, ..saved.record.clone() });
        world.assert_violations(0, "its life was over");
        world.oracle.bind(at(10), NODE, world.key, &saved.record);
        world.assert_violations(1, "it has lost its disk");
        world.oracle.kept(at(10), NODE, world.key, Version(5));
        world.oracle.bind(at(10), NODE, world.key, &saved.record);
        world.assert_violations(1, "it has not");
    }

    #[test]
    fn an_older_copy_does_not_count_as_one() {
        let mut world = World::new();
        let key = world.key;
        world.save(at(0), 5);
        let (record, older) = (world.record(6), world.record(4));
        let saved = |record| Acknowledged { record, by: SAVER, begun: at(1), since: at(1), holders: Vec::new() };
        world.oracle.acknowledged(key, saved(record));
        world.oracle.acknowledged(key, saved(older));
        assert_eq!(world.oracle.expected(&key).unwrap().record.version, Version(6));
        assert_eq!(world.oracle.living(at(2)).collect::<Vec<_>>(), [(key, Version(6))]);
        assert_eq!(world.oracle.holders(&key, Version(6)).count(), 0);
        assert!(world.oracle.is_outdated(NODE, &key) && !world.oracle.is_outdated(Handle::of(4), &key));
    }

    #[test]
    fn what_no_node_may_do_is_noticed() {
        let mut world = World::new();
        let Acknowledged { record, .. } = world.save(at(0), 5);
        world.serve(at(100), NODE, &Record { remaining: 86_300, ..record.clone() });
        world.assert_violations(0, "what it holds");
        world.serve(at(2000), SAVER, &record);
        world.assert_violations(2, "what it does not hold, with a life that it does not have");
        world.store(at(300), NODE, &Record { renewal: 1, ..record.clone() });
        world.assert_violations(3, "a renewal by one who did not write it");
        world.store(at(300), SAVER, &Record { renewal: 2, remaining: 90_000, ..record.clone() });
        world.assert_violations(4, "a life longer than any");
        world.oracle.kept(at(400), NODE, world.key, Version(4));
        world.assert_violations(5, "replaced by an older one");
        world.oracle.lost(at(500), NODE, world.key);
        world.assert_violations(6, "not there any more");
        assert_eq!(world.oracle.bonds(at(500), NODE).count(), 0, "it is told once");
    }

    #[test]
    fn a_value_belongs_to_its_version() {
        let mut world = World::new();
        let old = world.save(at(0), 5).record;
        let new = world.save(at(10), 6).record;
        world.assert_violations(0, "one after the other");
        world.serve(at(12), NODE, &Record { version: new.version, remaining: 9, ..old.clone() });
        world.assert_violations(1, "the old value under the new version");
        world.serve(at(12), NODE, &Record { value: "value".into(), ..new });
        world.assert_violations(2, "a value that nobody saved");
        world.store(at(13), SAVER, &Record { remaining: 9, ..Record::tombstone(new.version, DAY) });
        world.assert_violations(3, "a delete of a version that is none");
    }
}
