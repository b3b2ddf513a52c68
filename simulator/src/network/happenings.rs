//! What happens in a network, and what follows from it.

use std::time::Duration;

use bytes::Bytes;
use kademlia_dht::core::{Command, Content, OperationId, Outcome, Time};
use kademlia_dht::gateway::{Expect, Id, Peer, Record};

use super::{Alarm, Network, Purpose};
use crate::churn::Departure;
use crate::handle::Handle;
use crate::oracle::{Acknowledged, Explanation};
use crate::world::{Ended, Remains};

/// How long a node waits before it tries to join through another one.
const JOIN_AGAIN: Duration = Duration::from_secs(1);

/// How often the tables are looked at.
pub(super) const SAMPLE: Duration = Duration::from_secs(600);

/// Alarms.
impl Network<'_> {
    pub(super) fn ring(&mut self, alarm: Alarm) {
        match alarm {
            Alarm::Arrive => self.next_arrives(),
            Alarm::Leave(node, session) => {
                if self.sessions.get(&node) == Some(&session) {
                    self.leave(node);
                }
            }
            Alarm::Return(node, with_store) => {
                self.restart(node, with_store);
            }
            Alarm::Join(node, since) => {
                if self.world.born(node) == Some(since) {
                    self.join(node);
                }
            }
            Alarm::Lookup => {
                self.plan(self.workload.lookups, alarm);
                let target = self.working.key();
                if let Some(node) = self.some_member() {
                    self.look_up(node, target);
                }
            }
            Alarm::Get => {
                self.plan(self.workload.gets, alarm);
                if let Some((key, node)) = self.some_key_and_member() {
                    self.get(node, key);
                }
            }
            Alarm::Save => {
                self.plan(self.workload.saves, alarm);
                let key = self.working.key();
                if let Some(node) = self.some_member() {
                    self.save(node, key, self.workload.value_bytes);
                }
            }
            Alarm::Rewrite => {
                self.plan(self.workload.rewrites, alarm);
                if let Some((key, node)) = self.some_key_and_member() {
                    self.save(node, key, self.workload.value_bytes);
                }
            }
            Alarm::Delete => {
                self.plan(self.workload.deletes, alarm);
                if let Some((key, node)) = self.some_key_and_member() {
                    self.delete(node, key);
                }
            }
            Alarm::Sample => {
                self.world.alarm(SAMPLE, Alarm::Sample);
                self.check();
                self.sample();
            }
        }
    }

    /// Plans the next of a stream of operations.
    pub(super) fn plan(&mut self, rate: f64, alarm: Alarm) {
        if rate > 0.0 {
            // Once in a thousand years is never, and more than a million in a second would not end.
            let mean = Duration::from_secs_f64(1.0 / rate.clamp(3e-11, 1e6));
            let wait = self.working.exponential(mean);
            self.world.alarm(wait, alarm);
        }
    }

    /// A random member that does not lie: liars are no users. Of so many one does not, unless hardly anybody is honest.
    pub(super) fn some_member(&mut self) -> Option<Handle> {
        (0..64).map_while(|_| self.working.pick(&self.members).copied()).find(|node| !self.world.is_liar(*node))
    }

    /// Draws both, whether or not there is a key, so that what follows in the stream is the same.
    fn some_key_and_member(&mut self) -> Option<(Id, Handle)> {
        let key = self.working.pick(&self.keys).copied();
        key.zip(self.some_member())
    }
}

/// Coming and going.
impl Network<'_> {
    /// The next node of a growing network comes, and the one after it is planned.
    fn next_arrives(&mut self) {
        self.arriving = self.arriving.saturating_sub(1);
        let node = self.arrive();
        if self.joining.contains(&node) {
            self.growing.insert(node);
        }
        if self.arriving > 0 {
            // One in a hundred seconds for each that is there: each has time to settle among the others.
            let there = self.members.len().max(10) as u32;
            self.world.alarm(Duration::from_secs(100) / there, Alarm::Arrive);
        }
    }

    /// A new node comes and joins.
    pub(super) fn arrive(&mut self) -> Handle {
        let node = self.world.spawn();
        self.joining.insert(node);
        self.join(node);
        if self.churn.is_some() {
            self.begin_session(node);
        }
        node
    }

    pub(super) fn begin_session(&mut self, node: Handle) {
        if let Some(churn) = self.churn {
            let session = self.sessions.get(&node).map_or(0, |session| session + 1);
            self.sessions.insert(node, session);
            self.world.alarm(churn.sessions.draw(&mut self.coming), Alarm::Leave(node, session));
        }
    }

    pub(super) fn join(&mut self, node: Handle) {
        if !self.joining.contains(&node) {
            return; // It has died, or joined otherwise.
        }
        match self.coming.pick(&self.members).copied() {
            None => self.add_member(node), // The first of all.
            Some(through) => {
                let command = Command::Join { address: through.number() };
                self.start(node, command, Purpose::Join);
            }
        }
    }

    fn add_member(&mut self, node: Handle) {
        if !self.joining.remove(&node) {
            return;
        }
        self.growing.remove(&node);
        self.joined = self.world.now();
        self.places.insert(node, self.members.len());
        self.ids.insert(node.id(), node);
        self.members.push(node);
    }

    /// Takes a node out of the network. Gives what was in its store.
    pub(super) fn remove(&mut self, node: Handle) -> Vec<(Id, Record)> {
        match self.places.remove(&node) {
            Some(place) => {
                self.members.swap_remove(place);
                if let Some(moved) = self.members.get(place) {
                    self.places.insert(*moved, place);
                }
                self.ids.remove(&node.id());
            }
            None => {
                self.joining.remove(&node);
                self.growing.remove(&node);
            }
        }
        let Remains { records, operations } = self.world.kill(node);
        for operation in operations {
            let purpose = self.purposes.remove(&operation);
            self.measured.abandoned += u64::from(!matches!(purpose, None | Some(Purpose::Join)));
        }
        records
    }

    fn leave(&mut self, node: Handle) {
        if !self.world.is_alive(node) {
            return;
        }
        match self.churn.map(|churn| churn.departure) {
            Some(Departure::Replaced) => {
                self.remove(node);
                self.arrive();
            }
            Some(Departure::Returns { after, with_store }) => {
                self.kill(node);
                self.world.alarm(after, Alarm::Return(node, with_store));
            }
            Some(Departure::Gone) | None => {
                self.remove(node);
            }
        }
    }
}

/// Operations.
impl Network<'_> {
    pub(super) fn start(&mut self, node: Handle, command: Command<Handle>, purpose: Purpose) -> Option<OperationId> {
        let operation = self.world.start(node, command)?;
        self.purposes.insert(operation, purpose);
        Some(operation)
    }

    /// Has a living node look for the k nodes closest to a target. `None` if it is not alive.
    pub fn look_up(&mut self, node: Handle, target: Id) -> Option<OperationId> {
        self.start(node, Command::Lookup { target }, Purpose::Lookup { target })
    }

    /// Has a living node ask for a record that was acknowledged. What it finds is judged and counted when the query ends;
    /// `None` if it does not begin.
    pub fn get(&mut self, node: Handle, key: Id) -> Option<OperationId> {
        let expected = self.world.oracle.expected(&key).cloned()?;
        self.start(node, Command::Query { key }, Purpose::Get { key, expected })
    }

    /// Has a living node save a new value of so many bytes (at least eight). `None` if it is not alive.
    pub fn save(&mut self, node: Handle, key: Id, bytes: usize) -> Option<OperationId> {
        let value = self.world.oracle.payload(key, bytes);
        self.write(node, key, Some(value))
    }

    /// Has a living node delete a record. `None` if it is not alive.
    pub fn delete(&mut self, node: Handle, key: Id) -> Option<OperationId> {
        self.write(node, key, None)
    }

    fn write(&mut self, node: Handle, key: Id, value: Option<Bytes>) -> Option<OperationId> {
        let unix_milliseconds = self.world.unix_milliseconds(node);
        let content = Content::from(value.clone());
        let command = Command::Save { key, content, expect: Expect::Anything, unix_milliseconds };
        self.start(node, command, Purpose::Save { key, value })
    }

    pub(super) fn ended(&mut self, node: Handle, operation: OperationId, since: Time, ended: &Ended) {
        let took = self.world.now().since(since);
        match self.purposes.remove(&operation) {
            Some(Purpose::Join) => {
                if ended.is_ok() {
                    self.measured.joins += 1;
                    self.add_member(node);
                } else {
                    self.measured.joins_failed += 1;
                    let since = self.world.born(node).unwrap_or_default();
                    self.world.alarm(JOIN_AGAIN, Alarm::Join(node, since));
                }
            }
            Some(Purpose::Lookup { target }) => self.lookup_ended(node, &target, took, ended),
            Some(Purpose::Get { key, expected }) => self.get_ended(node, key, &expected, since, ended),
            Some(Purpose::Save { key, value }) => self.save_ended(node, key, value, since, ended),
            Some(Purpose::Write { work, place }) => self.write_ended(work, place, since, ended),
            Some(Purpose::Read { work, expected, pinned }) => {
                self.read_ended(node, work, (expected, pinned), since, ended);
            }
            None => {}
        }
    }

    fn lookup_ended(&mut self, node: Handle, target: &Id, took: Duration, ended: &Ended) {
        self.measured.lookups += 1;
        let Ok(Outcome::LookedUp(report)) = ended else {
            return self.measured.lookup_efforts.add(took, None);
        };
        let k = self.params().k;
        let truth = self.closest(target, k + 1).into_iter().filter(|other| *other != node).take(k);
        self.measured.exact += u64::from(truth.eq(report.closest.iter().copied()));
        self.measured.lookup_efforts.add(took, Some(&report.effort));
    }

    fn save_ended(&mut self, node: Handle, key: Id, value: Option<Bytes>, since: Time, ended: &Ended) {
        self.measured.saves += 1;
        let now = self.world.now();
        let Ok(Outcome::Saved(receipt)) = ended else {
            self.measured.saves_failed += 1;
            return self.measured.save_efforts.add(now.since(since), None);
        };
        if self.world.oracle.expected(&key).is_none() {
            self.keys.push(key);
        }
        let mut holders = receipt.accepted.clone();
        holders.retain(|holder| !self.world.is_liar(*holder));
        holders.extend(receipt.kept_here.then_some(node));
        let (version, lifetime) = (receipt.version, self.params().record_lifetime);
        let record = match value {
            Some(value) => Record::plain(value, version, lifetime),
            None => Record::tombstone(version, lifetime),
        };
        let acknowledged = Acknowledged { record, by: node, begun: since, since: now, holders };
        self.world.oracle.acknowledged(key, acknowledged);
        self.measured.save_efforts.add(now.since(since), Some(&receipt.effort));
    }

    fn get_ended(&mut self, node: Handle, key: Id, expected: &Acknowledged, since: Time, ended: &Ended) {
        let now = self.world.now();
        let report = match ended {
            Ok(Outcome::Queried(report)) => Some(report),
            _ => None,
        };
        self.measured.get_efforts.add(now.since(since), report.map(|report| &report.effort));
        let found = report.and_then(|report| report.found.as_ref()).map(|found| &found.record);
        let deleted = report.and_then(|report| report.deleted);
        if found.is_some_and(|record| !self.world.oracle.is_genuine(&key, record)) {
            let what =
                format_args!("{node:?} found a value under {key} that nobody saved there, or not in this version");
            self.world.oracle.violation(now, what);
        }
        let version = expected.record.version;
        // Nothing is right only where a delete says so, or did until its own life was over.
        let is_forgotten =
            || report.is_some() && expected.record.is_tombstone() && self.world.oracle.is_over(now, &key, version);
        if deleted >= Some(version) || (found.is_none() && is_forgotten()) {
            self.measured.deleted += 1;
            return;
        }
        self.measured.gets += 1;
        if found.is_some_and(|record| record.version >= version) {
            self.measured.found += 1;
            return;
        }
        self.measured.outdated += u64::from(found.is_some());
        let mut why = self.world.oracle.explain(since, now, node, &key, expected, &self.world.links);
        let effort = report.map(|report| &report.effort);
        if why == Explanation::None && self.world.oracle.is_out_of_reach(&key, version, effort) {
            why = Explanation::OutOfReach;
        }
        *self.measured.misses.entry(why).or_default() += 1;
        if why == Explanation::None {
            let what = if found.is_some() { "found an older version of" } else { "did not find" };
            let error = ended.as_ref().err().map(|error| format!(" ({error})")).unwrap_or_default();
            self.world.oracle.unexplained(now, format_args!("{node:?} {what} {key}{error}"));
        }
    }

    /// Looks how many contacts of all tables are dead.
    fn sample(&mut self) {
        for (_, node) in self.world.nodes() {
            for contact in node.contacts() {
                self.measured.contacts += 1;
                self.measured.stale += u64::from(!self.world.is_alive(*contact));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kademlia_dht::core::{Effort, QueryReport};

    use super::*;
    use crate::Setup;

    /// Thirty nodes with one record, of whose copies so many are left.
    fn network(k: usize, copies: usize) -> Network<'static> {
        let mut setup = Setup::default();
        (setup.params.k, setup.params.read_quorum) = (k, 3.min(k));
        let mut network = Network::new(&setup);
        network.grow(30);
        network.save_records(1, 100);
        network.run_for(Duration::from_secs(60));
        let holders = network.holders(&network.keys()[0]);
        assert!(holders.len() >= copies, "{holders:?}");
        holders.iter().skip(copies).for_each(|holder| assert!(network.kill(*holder)));
        network.measure();
        network
    }

    /// What is said of a query that found nothing, by a core that has asked so many of whom so many answered: how often
    /// it was out of reach, and how often there was no explanation.
    fn missed(network: &mut Network<'_>, asked: usize, answered: usize) -> (u64, u64) {
        let key = network.keys()[0];
        let (node, now) = (network.members()[0], network.world.now());
        network.measure();
        let operation = network.get(node, key).unwrap();
        let effort = Effort { asked, answered, ..Effort::default() };
        network.ended(
            node,
            operation,
            now,
            &Ok(Outcome::Queried(QueryReport {
                key,
                found: None,
                deleted: None,
                immutable: None,
                of_owners: Vec::new(),
                effort,
            })),
        );
        let report = network.report();
        (report.out_of_reach, report.unexplained)
    }

    const OUT_OF_REACH: (u64, u64) = (1, 0);
    const UNEXPLAINED: (u64, u64) = (0, 1);

    #[test]
    fn a_core_that_overlooks_what_is_in_reach_has_no_excuse() {
        assert_eq!(missed(&mut network(20, 20), 20, 20), UNEXPLAINED);
        assert_eq!(missed(&mut network(20, 20), 180, 20), UNEXPLAINED, "most are silent, but all copies are there");
        assert_eq!(missed(&mut network(20, 5), 180, 20), UNEXPLAINED, "a quarter of the copies");
        assert_eq!(missed(&mut network(20, 4), 20, 20), UNEXPLAINED, "few copies, but all answer");
        assert_eq!(missed(&mut network(20, 4), 180, 45), UNEXPLAINED, "few copies, but a quarter answers");
        assert_eq!(missed(&mut network(6, 6), 6, 6), UNEXPLAINED, "k is just large enough");
    }

    #[test]
    fn where_hardly_anybody_is_left_or_k_is_small_a_miss_is_out_of_reach() {
        assert_eq!(missed(&mut network(20, 4), 180, 44), OUT_OF_REACH);
        assert_eq!(missed(&mut network(20, 1), 180, 1), OUT_OF_REACH);
        assert_eq!(missed(&mut network(6, 1), 180, 44), OUT_OF_REACH);
        assert_eq!(missed(&mut network(5, 5), 5, 5), OUT_OF_REACH, "so small a k");
    }

    #[test]
    fn a_reason_that_is_sure_comes_before_out_of_reach() {
        let mut network = network(5, 0);
        let holders_failed = |network: &mut Network<'_>| (missed(network, 5, 5), network.report().holders_failed);
        assert_eq!(holders_failed(&mut network), ((0, 0), 1));
    }
}
