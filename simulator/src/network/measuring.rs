//! What is measured in a network, and what is true of it.

use std::collections::BTreeSet;

use kademlia_dht::gateway::{Id, Peer};

use super::Network;
use crate::handle::Handle;
use crate::measure::Measured;
use crate::report::Report;
use crate::traffic::Traffic;

/// Measuring.
impl Network<'_> {
    /// Begins to measure: what was counted before does not count any more.
    pub fn measure(&mut self) {
        self.measured = Measured { since: self.world.now(), ..Measured::default() };
        self.before = self.measured.clone();
        self.traffic = self.world.traffic();
        self.lap_traffic = self.traffic;
    }

    /// What was measured since the last lap, or since the measuring began.
    pub fn lap(&mut self) -> Report {
        let next = Measured { since: self.world.now(), ..Measured::default() };
        let lap = std::mem::replace(&mut self.measured, next);
        self.before.merge(&lap);
        let traffic = self.world.traffic();
        let since = std::mem::replace(&mut self.lap_traffic, traffic);
        self.report_of(&lap, &traffic.since(&since))
    }

    /// What was measured since the measuring began.
    pub fn report(&mut self) -> Report {
        self.check();
        let mut all = self.before.clone();
        all.merge(&self.measured);
        let traffic = self.world.traffic().since(&self.traffic);
        self.report_of(&all, &traffic)
    }

    fn report_of(&self, measured: &Measured, traffic: &Traffic) -> Report {
        let (violations, told) = self.world.oracle.violations();
        let copies = self.copies();
        Report {
            nodes: self.members.len(),
            joining: self.joining.len() as u64,
            seed: self.setup.seed,
            unsaved: self.unsaved,
            records: copies.len() as u64,
            lost: copies.iter().filter(|copies| **copies == 0).count() as u64,
            violations,
            told: told.to_vec(),
            events: self.world.events(),
            trace_hash: format!("{:016x}", self.world.trace_hash()),
            ..Report::of(measured, traffic, self.world.now())
        }
    }
}

/// The truth, which no node knows.
impl Network<'_> {
    /// How many living nodes hold the newest version of each acknowledged record.
    pub fn copies(&self) -> Vec<usize> {
        let living = self.world.oracle.living(self.world.now());
        living.map(|(key, version)| self.world.oracle.holders(&key, version).count()).collect()
    }

    /// The living nodes that hold the newest acknowledged version under a key, or a newer one.
    pub fn holders(&self, key: &Id) -> Vec<Handle> {
        let expected = self.world.oracle.expected(key);
        let holders = expected.map(|expected| self.world.oracle.holders(key, expected.record.version));
        holders.into_iter().flatten().map(Handle::of).collect()
    }

    /// How many acknowledged records are held, in their newest version, by each of the k closest members, and how many
    /// there are.
    pub fn full_copies(&self) -> (u64, u64) {
        let k = self.params().k;
        let (mut full, mut all) = (0_u64, 0_u64);
        for (key, version) in self.world.oracle.living(self.world.now()) {
            let holders: BTreeSet<u32> = self.world.oracle.holders(&key, version).collect();
            full += u64::from(self.closest(&key, k).iter().all(|node| holders.contains(&node.number())));
            all += 1;
        }
        (full, all)
    }

    /// How many of the k closest members to each acknowledged record hold an older version of it, over all records.
    pub fn outdated_copies(&self) -> usize {
        let k = self.params().k;
        let outdated = |key: &Id| {
            let closest = self.closest(key, k);
            closest.into_iter().filter(|node| self.world.oracle.is_outdated(*node, key)).count()
        };
        self.keys.iter().map(outdated).sum()
    }

    /// The `count` members closest to `target`, closest first.
    pub fn closest(&self, target: &Id, count: usize) -> Vec<Handle> {
        let mut prefix = self.ids.len().checked_ilog2().unwrap_or(0) as usize;
        loop {
            let mut found: Vec<Handle> = self.ids.range(range(target, prefix)).map(|(_, node)| *node).collect();
            if found.len() >= count || prefix == 0 {
                found.sort_by_cached_key(|node| node.id().distance(target));
                found.truncate(count);
                return found;
            }
            prefix -= 1;
        }
    }
}

/// The ids that share so many leading bits with `target`.
fn range(target: &Id, prefix: usize) -> std::ops::RangeInclusive<Id> {
    let (mut low, mut high) = (*target.as_bytes(), *target.as_bytes());
    for (index, (low, high)) in low.iter_mut().zip(&mut high).enumerate() {
        let kept = prefix.saturating_sub(index * 8).min(8);
        let free = 0xff_u16.wrapping_shr(kept as u32) as u8;
        *low &= !free;
        *high |= free;
    }
    Id::new(low)..=Id::new(high)
}
