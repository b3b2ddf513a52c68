//! What happens in a network, and what follows from it.

use std::time::Duration;

use kademlia_dht::core::{Command, OperationId, Outcome, Time};
use kademlia_dht::gateway::{Expect, Id, Peer};

use super::{Alarm, Network, Purpose};
use crate::churn::Departure;
use crate::handle::Handle;
use crate::oracle::{Acknowledged, Explanation};
use crate::world::Ended;

/// How long a node waits before it tries to join through another one.
const JOIN_AGAIN: Duration = Duration::from_secs(1);

/// How often the tables are looked at.
pub(super) const SAMPLE: Duration = Duration::from_secs(600);

/// Alarms.
impl Network<'_> {
    pub(super) fn ring(&mut self, alarm: Alarm) {
        match alarm {
            Alarm::Arrive => {
                self.arriving = self.arriving.saturating_sub(1);
                self.arrive();
                if self.arriving > 0 {
                    // One in a hundred seconds for each that is there: each has time to settle among the others.
                    let there = self.members.len().max(10) as u32;
                    self.world.alarm(Duration::from_secs(100) / there, Alarm::Arrive);
                }
            }
            Alarm::Leave(node, session) => {
                if self.sessions.get(&node) == Some(&session) && self.churn.is_some() {
                    self.leave(node);
                }
            }
            Alarm::Return(node) => self.come_back(node),
            Alarm::Join(node) => self.join(node),
            Alarm::Lookup => {
                self.plan(self.workload.lookups, alarm);
                self.look_up();
            }
            Alarm::Get => {
                self.plan(self.workload.gets, alarm);
                if let (Some(key), Some(node)) = (self.some_key(), self.some_member()) {
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
                if let (Some(key), Some(node)) = (self.some_key(), self.some_member()) {
                    self.save(node, key, self.workload.value_bytes);
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
            let wait = self.working.exponential(Duration::from_secs_f64(1.0 / rate));
            self.world.alarm(wait, alarm);
        }
    }

    fn some_member(&mut self) -> Option<Handle> {
        self.working.pick(&self.members).copied()
    }

    fn some_key(&mut self) -> Option<Id> {
        self.working.pick(&self.keys).copied()
    }
}

/// Coming and going.
impl Network<'_> {
    /// A new node comes and joins.
    pub(super) fn arrive(&mut self) {
        let node = self.world.spawn();
        self.joining += 1;
        self.join(node);
        if self.churn.is_some() {
            self.begin_session(node);
        }
    }

    pub(super) fn begin_session(&mut self, node: Handle) {
        if let Some(churn) = self.churn {
            let session = self.sessions.get(&node).map_or(0, |session| session + 1);
            self.sessions.insert(node, session);
            self.world.alarm(churn.sessions.draw(&mut self.coming), Alarm::Leave(node, session));
        }
    }

    fn join(&mut self, node: Handle) {
        if !self.world.is_alive(node) {
            self.joining = self.joining.saturating_sub(1);
            return;
        }
        match self.coming.pick(&self.members).copied() {
            None => self.add_member(node), // The first of all.
            Some(through) => {
                let operation = self.world.start(node, Command::Join { address: through.number() });
                self.purposes.insert(operation, Purpose::Join);
            }
        }
    }

    fn add_member(&mut self, node: Handle) {
        self.joining = self.joining.saturating_sub(1);
        self.places.insert(node, self.members.len());
        self.ids.insert(node.id(), node);
        self.members.push(node);
    }

    /// Takes a node out of the network. Gives what was in its store.
    pub(super) fn remove(&mut self, node: Handle) -> Vec<(Id, kademlia_dht::gateway::Record)> {
        match self.places.remove(&node) {
            Some(place) => {
                self.members.swap_remove(place);
                if let Some(moved) = self.members.get(place) {
                    self.places.insert(*moved, place);
                }
                self.ids.remove(&node.id());
            }
            None => self.joining = self.joining.saturating_sub(1),
        }
        let open: Vec<OperationId> = self.world.operations_of(node).collect();
        for operation in open {
            match self.purposes.remove(&operation) {
                Some(Purpose::Save { .. }) => self.saving -= 1,
                Some(Purpose::Get { .. }) => self.getting -= 1,
                _ => {}
            }
        }
        self.world.kill(node)
    }

    fn leave(&mut self, node: Handle) {
        if !self.world.is_alive(node) {
            return;
        }
        let records = self.remove(node);
        match self.churn.map(|churn| churn.departure) {
            Some(Departure::Replaced) => self.arrive(),
            Some(Departure::Returns { after, with_store }) => {
                let kept = if with_store { records } else { Vec::new() };
                self.down.insert(node, (self.world.now(), kept));
                self.world.alarm(after, Alarm::Return(node));
            }
            Some(Departure::Gone) | None => {}
        }
    }

    fn come_back(&mut self, node: Handle) {
        let Some((since, records)) = self.down.remove(&node) else { return };
        let away = self.world.now().since(since);
        let records = records.into_iter().map(|(key, record)| (key, record.aged(away))).collect();
        self.world.restart(node, records);
        self.joining += 1;
        self.join(node);
        self.begin_session(node);
    }
}

/// Operations.
impl Network<'_> {
    fn look_up(&mut self) {
        let target = self.working.key();
        if let Some(node) = self.some_member() {
            let operation = self.world.start(node, Command::Lookup { target });
            self.purposes.insert(operation, Purpose::Lookup { target });
        }
    }

    pub(super) fn get(&mut self, node: Handle, key: Id) {
        if let Some(expected) = self.world.oracle.expected(&key) {
            let operation = self.world.start(node, Command::Query { key });
            self.purposes.insert(operation, Purpose::Get { key, since: self.world.now(), expected });
            self.getting += 1;
        }
    }

    pub(super) fn save(&mut self, node: Handle, key: Id, bytes: usize) {
        let value = Some(self.world.oracle.payload(key, bytes));
        let unix_milliseconds = self.world.unix_milliseconds(node);
        let command = Command::Save { key, value, expect: Expect::Anything, unix_milliseconds };
        let operation = self.world.start(node, command);
        self.purposes.insert(operation, Purpose::Save { key });
        self.saving += 1;
    }

    pub(super) fn ended(&mut self, node: Handle, operation: OperationId, ended: Ended) {
        match self.purposes.remove(&operation) {
            Some(Purpose::Join) => match ended {
                Ok(_) => {
                    self.measured.joins += 1;
                    self.add_member(node);
                }
                Err(_) => {
                    self.measured.joins_failed += 1;
                    self.world.alarm(JOIN_AGAIN, Alarm::Join(node));
                }
            },
            Some(Purpose::Lookup { target }) => self.lookup_ended(node, &target, &ended),
            Some(Purpose::Get { key, since, expected }) => {
                self.getting -= 1;
                self.get_ended(node, key, since, expected, &ended);
            }
            Some(Purpose::Save { key }) => {
                self.saving -= 1;
                self.measured.saves += 1;
                match ended {
                    Ok(Outcome::Saved(receipt)) => {
                        if self.world.oracle.expected(&key).is_none() {
                            self.keys.push(key);
                        }
                        self.world.oracle.acknowledged(self.world.now(), key, receipt.version);
                        self.measured.save_efforts.add(&receipt.effort);
                    }
                    _ => self.measured.saves_failed += 1,
                }
            }
            None => {}
        }
    }

    fn lookup_ended(&mut self, node: Handle, target: &Id, ended: &Ended) {
        self.measured.lookups += 1;
        let Ok(Outcome::LookedUp(report)) = ended else { return };
        let k = self.params().k;
        let truth = self.closest(target, k + 1).into_iter().filter(|other| *other != node).take(k);
        self.measured.exact += u64::from(truth.eq(report.closest.iter().copied()));
        self.measured.lookup_efforts.add(&report.effort);
    }

    fn get_ended(&mut self, node: Handle, key: Id, since: Time, expected: Acknowledged, ended: &Ended) {
        self.measured.gets += 1;
        let now = self.world.now();
        let mut outdated = false;
        if let Ok(Outcome::Queried(report)) = ended {
            self.measured.get_efforts.add(&report.effort);
            if let Some(found) = &report.found {
                if self.world.oracle.key_of(&found.record.value) != Some(key) {
                    let what = format_args!("{node:?} found a value under {key} that nobody saved there");
                    self.world.oracle.violation(now, what);
                }
                if found.record.version >= expected.version {
                    self.measured.found += 1;
                    return;
                }
                outdated = true;
            }
        }
        self.measured.outdated += u64::from(outdated);
        let why = self.world.oracle.explain(since, now, node, &key, expected, &self.world.links);
        *self.measured.misses.entry(why).or_default() += 1;
        if why == Explanation::None {
            let what = if outdated { "found an older version of" } else { "did not find" };
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
