//! What is measured in a run.

use std::collections::BTreeMap;
use std::time::Duration;

use kademlia_dht::core::{Effort, Time};

use crate::oracle::Explanation;

/// Times and efforts of operations of one kind.
#[derive(Debug, Clone, Default)]
pub(crate) struct Efforts {
    /// In microseconds.
    latencies: Vec<u32>,
    pub(crate) failed: u64,
    messages: u64,
    requests: u64,
    hops: u64,
}

impl Efforts {
    /// An operation ended after so long. Of one that failed no effort is known, only its time counts.
    pub(crate) fn add(&mut self, took: Duration, effort: Option<&Effort>) {
        self.latencies.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        let Some(effort) = effort else {
            self.failed += 1;
            return;
        };
        self.messages += effort.messages as u64;
        self.requests += (effort.messages - effort.answered.min(effort.messages)) as u64;
        self.hops += effort.hops as u64;
    }

    fn merge(&mut self, other: &Efforts) {
        self.failed += other.failed;
        self.latencies.extend(&other.latencies);
        self.messages += other.messages;
        self.requests += other.requests;
        self.hops += other.hops;
    }

    pub(crate) fn count(&self) -> u64 {
        self.latencies.len() as u64
    }

    /// Messages of one operation, on average, sent and received.
    pub(crate) fn messages(&self) -> Option<f64> {
        self.mean(self.messages)
    }

    /// Requests sent by one operation, on average, repetitions included.
    pub(crate) fn requests(&self) -> Option<f64> {
        self.mean(self.requests)
    }

    pub(crate) fn hops(&self) -> Option<f64> {
        self.mean(self.hops)
    }

    fn mean(&self, sum: u64) -> Option<f64> {
        let ended_well = self.count() - self.failed;
        (ended_well > 0).then(|| sum as f64 / ended_well as f64)
    }

    /// For each of `percents`, the smallest time that so many percent of the operations do not exceed.
    pub(crate) fn percentiles<const N: usize>(&self, percents: [u64; N]) -> [Option<Duration>; N] {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        percents.map(|percent| {
            let rank = (self.count() * percent).div_ceil(100).max(1) - 1;
            sorted.get(usize::try_from(rank).ok()?).map(|micros| Duration::from_micros((*micros).into()))
        })
    }
}

/// What came of operations and samples since the measuring began.
#[derive(Debug, Clone, Default)]
pub(crate) struct Measured {
    pub(crate) since: Time,
    /// Lookups that ended, and how many of them gave exactly the true k closest.
    pub(crate) lookups: u64,
    pub(crate) exact: u64,
    pub(crate) lookup_efforts: Efforts,
    /// Queries for acknowledged records that ended, and how many gave the newest value or a newer one.
    pub(crate) gets: u64,
    pub(crate) found: u64,
    /// Queries that rightly gave nothing, as the record was deleted. They are not among `gets`.
    pub(crate) deleted: u64,
    /// Queries that gave an older version than the newest acknowledged one.
    pub(crate) outdated: u64,
    pub(crate) get_efforts: Efforts,
    /// Queries for records that prove their authors that gave nothing, and those that gave what its author did not write.
    pub(crate) missed: u64,
    pub(crate) wrong: u64,
    /// Queries by users who did not know the owner of a key, and those that gave what liars say that they own.
    pub(crate) unpinned: u64,
    pub(crate) deceived: u64,
    pub(crate) misses: BTreeMap<Explanation, u64>,
    pub(crate) saves: u64,
    pub(crate) saves_failed: u64,
    pub(crate) save_efforts: Efforts,
    /// Operations that ended with the node that they were begun at.
    pub(crate) abandoned: u64,
    pub(crate) joins: u64,
    pub(crate) joins_failed: u64,
    /// Contacts looked at in routing tables, and how many of them were dead.
    pub(crate) contacts: u64,
    pub(crate) stale: u64,
}

impl Measured {
    /// Adds what was measured right after this.
    pub(crate) fn merge(&mut self, other: &Measured) {
        self.lookups += other.lookups;
        self.exact += other.exact;
        self.lookup_efforts.merge(&other.lookup_efforts);
        self.gets += other.gets;
        self.found += other.found;
        self.deleted += other.deleted;
        self.outdated += other.outdated;
        self.get_efforts.merge(&other.get_efforts);
        self.missed += other.missed;
        self.wrong += other.wrong;
        self.unpinned += other.unpinned;
        self.deceived += other.deceived;
        for (why, count) in &other.misses {
            *self.misses.entry(*why).or_default() += count;
        }
        self.saves += other.saves;
        self.saves_failed += other.saves_failed;
        self.save_efforts.merge(&other.save_efforts);
        self.abandoned += other.abandoned;
        self.joins += other.joins;
        self.joins_failed += other.joins_failed;
        self.contacts += other.contacts;
        self.stale += other.stale;
    }
}

/// The interval in which the true share lies with 95 % confidence, when `hits` of `all` were counted (Wilson).
///
/// ```
/// let (low, high) = kademlia_simulator::wilson(999, 1000);
/// assert!(low > 0.994 && high < 0.9999);
/// ```
pub fn wilson(hits: u64, all: u64) -> (f64, f64) {
    if all == 0 {
        return (0.0, 1.0);
    }
    const Z: f64 = 1.959_964;
    let (n, share) = (all as f64, hits as f64 / all as f64);
    let middle = share + Z * Z / (2.0 * n);
    let spread = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    (((middle - spread) / scale).max(0.0), ((middle + spread) / scale).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let mut efforts = Efforts::default();
        for milliseconds in (1..=200).rev() {
            let effort = Effort { messages: 10, answered: 4, hops: 2, ..Effort::default() };
            efforts.add(Duration::from_millis(milliseconds), Some(&effort));
        }
        assert_eq!(efforts.percentiles([50, 99]), [100, 198].map(|ms| Some(Duration::from_millis(ms))));
        assert_eq!((efforts.messages(), efforts.requests(), efforts.hops()), (Some(10.0), Some(6.0), Some(2.0)));
        assert_eq!(Efforts::default().percentiles([50]), [None]);
        assert_eq!(Efforts::default().hops(), None);
    }

    #[test]
    fn intervals_by_wilson() {
        let near = |(low, high): (f64, f64), (l, h): (f64, f64)| (low - l).abs() < 1e-3 && (high - h).abs() < 1e-3;
        // Newcombe 1998, table I.
        assert!(near(wilson(81, 263), (0.2553, 0.3662)));
        assert!(near(wilson(15, 148), (0.0624, 0.1605)));
        assert!(near(wilson(0, 20), (0.0, 0.1611)));
        assert!(near(wilson(29, 29), (0.8830, 1.0)));
    }
}
