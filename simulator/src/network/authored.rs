//! What users do with records that prove their authors.

use std::sync::Arc;

use bytes::Bytes;
use kademlia_dht::core::{Command, Content, OperationId, Outcome, Time};
use kademlia_dht::gateway::{Expect, Id, OwnedMode};

use super::bulk::{GET_PAUSE, SAVE_PAUSE};
use super::{Network, Purpose};
use crate::handle::Handle;
use crate::ledger::{Answer, Work};
use crate::pen::{Draft, Pen};
use crate::world::Ended;

/// Owners that have a record each under a key that several can have one under.
const OWNERS: usize = 3;

/// After so many records the kinds begin anew.
const ROUND: usize = 3 + OWNERS;

/// What sets these values apart from plain ones.
const AUTHORED: u64 = 1 << 63;

/// Records that prove their authors.
impl Network<'_> {
    /// Saves so many records in rotation: an immutable value, a signed one, one that has one owner, and one of several; each
    /// at a random member that does not lie, ten in a second. Waits until all have ended.
    pub fn save_authored(&mut self, count: usize, value_bytes: usize) {
        self.stage("save");
        let begun: Vec<usize> = (0..count).map(|index| self.begin_work(index, value_bytes)).collect();
        self.for_each(&begun, SAVE_PAUSE, |network, work| network.write_work(work, 0));
        let is_unsaved = |work: &&Work| work.acknowledged.is_none();
        self.unsaved += self.world.oracle.ledger.works().map(|(_, work)| work).filter(is_unsaved).count() as u64;
    }

    /// Saves a new value of each signed and each owned record, and then of every second one yet another.
    pub fn rewrite_authored(&mut self, value_bytes: usize) {
        self.stage("update");
        let can_change = |work: &Work| !matches!(work.pen, Pen::Immutable) && work.acknowledged.is_some();
        let works = self.world.oracle.ledger.works();
        let works: Vec<usize> = works.filter(|(_, work)| can_change(work)).map(|(number, _)| number).collect();
        let again: Vec<usize> = works.iter().copied().step_by(2).collect();
        for works in [works, again] {
            self.for_each(&works, SAVE_PAUSE, |network, work| network.rewrite_work(work, value_bytes));
        }
    }

    /// Asks so many times for a record that was acknowledged, one after the other, each at a random member that does not
    /// lie, fifty in a second, and waits until all have ended. Who asks for an owned one knows the owner.
    pub fn get_authored(&mut self, count: usize) {
        self.ask(count, |_| true, true);
    }

    /// The same for the keys that have one owner, by users who do not know who that is.
    pub fn get_unpinned(&mut self, count: usize) {
        self.ask(count, |pen| matches!(pen, Pen::Owned { mode: OwnedMode::Secured, .. }), false);
    }

    /// Whether a node lies about values.
    pub fn is_liar(&self, node: Handle) -> bool {
        self.world.is_liar(node)
    }

    fn ask(&mut self, count: usize, wanted: impl Fn(&Pen) -> bool, pinned: bool) {
        let works = self.world.oracle.ledger.works();
        let works = works.filter(|(_, work)| work.acknowledged.is_some() && wanted(&work.pen));
        let works: Vec<usize> = works.map(|(number, _)| number).collect();
        let asked: Vec<usize> = works.iter().copied().cycle().take(count).collect();
        self.for_each(&asked, GET_PAUSE, |network, work| network.read_work(work, pinned));
    }

    /// A new work of the kind whose turn it is. All owners of one round have the same name, and so the same key.
    fn begin_work(&mut self, index: usize, value_bytes: usize) -> usize {
        let serial = self.world.oracle.ledger.works().count() as u64;
        let round = (index / ROUND) as u64;
        let name = |kind: u64| Bytes::copy_from_slice(&(round << 8 | kind).to_le_bytes());
        let pen = match index % ROUND {
            0 => Pen::Immutable,
            1 => Pen::signed(&mut self.working),
            2 => Pen::owned(&mut self.working, name(2), OwnedMode::Secured),
            _ => Pen::owned(&mut self.working, name(3), OwnedMode::Controlled),
        };
        let value = pen.form(value(serial, 0, value_bytes));
        let key = pen.key(&self.params().rules, &value);
        self.world.oracle.ledger.begin(key, pen, value)
    }

    fn rewrite_work(&mut self, work: usize, value_bytes: usize) -> Option<OperationId> {
        let ledger = &mut self.world.oracle.ledger;
        let (pen, place) = ledger.work(work).map(|known| (known.pen.clone(), known.len()))?;
        ledger.go_on(work, pen.form(value(work as u64, place as u64, value_bytes)))?;
        self.write_work(work, place)
    }

    /// Has some member save a value of a work.
    fn write_work(&mut self, work: usize, place: usize) -> Option<OperationId> {
        let node = self.some_member()?;
        let known = self.world.oracle.ledger.work(work)?;
        let (key, value) = (known.key, known.value(place)?.clone());
        let content = Content::Written(Arc::new(Draft { pen: known.pen.clone(), value }));
        let unix_milliseconds = self.world.unix_milliseconds(node);
        let command = Command::Save { key, content, expect: Expect::Anything, unix_milliseconds };
        self.start(node, command, Purpose::Write { work, place })
    }

    /// Has some member ask for a work.
    fn read_work(&mut self, work: usize, pinned: bool) -> Option<OperationId> {
        let node = self.some_member()?;
        let known = self.world.oracle.ledger.work(work)?;
        let (key, expected) = (known.key, known.acknowledged?);
        let command = match known.pen.owner().filter(|_| pinned) {
            Some(owner) => Command::QueryOf { key, owner: *owner.as_bytes() },
            None if matches!(known.pen, Pen::Immutable) => Command::QueryImmutable { key },
            None => Command::Query { key },
        };
        self.start(node, command, Purpose::Read { work, expected, pinned })
    }

    pub(super) fn write_ended(&mut self, work: usize, place: usize, since: Time, ended: &Ended) {
        let took = self.world.now().since(since);
        self.measured.saves += 1;
        match ended {
            Ok(Outcome::Saved(receipt)) => {
                self.world.oracle.ledger.acknowledge(work, place);
                self.measured.save_efforts.add(took, Some(&receipt.effort));
            }
            _ => {
                self.measured.saves_failed += 1;
                self.measured.save_efforts.add(took, None);
            }
        }
    }

    pub(super) fn read_ended(
        &mut self,
        node: Handle,
        work: usize,
        (expected, pinned): (usize, bool),
        since: Time,
        ended: &Ended,
    ) {
        let report = match ended {
            Ok(Outcome::Queried(report)) => Some(report),
            _ => None,
        };
        let answer = report.map_or(Answer::Missed, |report| self.world.oracle.ledger.judge(work, expected, report));
        let is_wrong = answer == Answer::Wrong || (answer == Answer::Liars && pinned);
        if is_wrong {
            self.measured.wrong += 1;
            let key = self.world.oracle.ledger.work(work).map(|work| work.key).unwrap_or(Id::ZERO);
            let now = self.world.now();
            self.world
                .oracle
                .unexplained(now, format_args!("{node:?} found under {key} what its author did not write"));
        }
        if !pinned {
            self.measured.unpinned += 1;
            self.measured.deceived += u64::from(answer == Answer::Liars);
            return;
        }
        let took = self.world.now().since(since);
        self.measured.get_efforts.add(took, report.map(|report| &report.effort));
        self.measured.gets += 1;
        self.measured.found += u64::from(answer == Answer::Right);
        self.measured.outdated += u64::from(answer == Answer::Outdated);
        self.measured.missed += u64::from(answer == Answer::Missed);
    }
}

/// A value unlike every other, and from its first bytes on.
fn value(work: u64, place: u64, bytes: usize) -> Bytes {
    let serial = AUTHORED | work << 16 | place;
    std::iter::repeat(serial.to_le_bytes()).flatten().take(bytes.max(16)).collect()
}
