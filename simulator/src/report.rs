//! What came of a run, in figures.

use std::time::Duration;

use kademlia_dht::core::Time;
use serde::Serialize;

use crate::measure::{Measured, wilson};
use crate::oracle::Explanation;
use crate::traffic::Traffic;

/// What came of a run. Shares are between 0 and 1, those of things that do not depend on each other with the bounds of their
/// 95 % confidence intervals (Wilson).
///
/// What does not apply to a run is `None`, and left out when it is serialized.
#[derive(Debug, Clone, Default, Serialize, PartialEq)]
pub struct Report {
    /// Nodes that have joined and are alive at the end.
    pub nodes: usize,
    /// What all randomness followed from.
    pub seed: u64,
    /// Lookups of random targets that ended.
    pub lookups: u64,
    /// Those of them that failed with an error. Their times count, but nothing is known of their requests and steps.
    pub lookups_failed: u64,
    /// The share of them that gave exactly the true k closest nodes, in their order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact: Option<f64>,
    /// Its interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact_interval: Option<(f64, f64)>,
    /// Requests sent in a lookup that ended well on average, repeated ones included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_lookup: Option<f64>,
    /// Messages sent and received in a lookup that ended well on average.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages_per_lookup: Option<f64>,
    /// Steps from the asking node's own contacts, which are one step away, to the farthest of those it found: of
    /// lookups on average, or where there were none, of queries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hops: Option<f64>,
    /// Half of the lookups (or, where there were none, queries) took at most so many milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    /// 90 % took at most so many milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p90_ms: Option<f64>,
    /// 99 % took at most so many milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
    /// Queries for acknowledged records that ended, but for those that rightly gave nothing.
    pub gets: u64,
    /// Those of them that failed with an error. Their times count, but nothing is known of their messages.
    pub gets_failed: u64,
    /// The share of them that gave the newest acknowledged value, or a newer one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub get_success: Option<f64>,
    /// Its interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub get_success_interval: Option<(f64, f64)>,
    /// Messages sent and received in a query that ended well on average.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages_per_get: Option<f64>,
    /// As above, of queries alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub get_p50_ms: Option<f64>,
    /// As above, of queries alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub get_p99_ms: Option<f64>,
    /// Queries that rightly gave nothing: the newest version is a delete, of which they learned.
    pub deleted: u64,
    /// Queries that gave an older version than the newest acknowledged one.
    pub outdated: u64,
    /// Queries that missed because no living node held the record any more.
    pub holders_failed: u64,
    /// Queries that missed because the record's lifetime was over.
    pub expired: u64,
    /// Queries that missed because all holders were cut off from the node that asked.
    pub unreachable: u64,
    /// Queries that missed where so few copies and contacts were left, or k was so small, that no lookup was sure to
    /// arrive.
    pub out_of_reach: u64,
    /// Queries that missed what was written before a partition was healed, which was less than two refresh intervals
    /// ago.
    pub healing: u64,
    /// Queries that missed without any reason. A run with one has failed.
    pub unexplained: u64,
    /// Queries for a record that proves its author, among liars, that gave nothing.
    pub missed: u64,
    /// Queries for such a record that gave a value or a delete that its author did not write. A run with one has failed.
    pub wrong: u64,
    /// Answers of liars that were lies.
    pub lies: u64,
    /// Records in answers that were found not to belong under their keys.
    pub refused_records: u64,
    /// Queries for an owned key, besides the others, by users who do not know its owner.
    pub unpinned: u64,
    /// The share of them that gave what liars say that they own. That is no fault: nothing but the holders tells who was
    /// first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deceived: Option<f64>,
    /// Its interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deceived_interval: Option<(f64, f64)>,
    /// Saves that ended.
    pub saves: u64,
    /// Saves that nobody acknowledged.
    pub saves_failed: u64,
    /// Messages sent and received in a save that ended well on average.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages_per_save: Option<f64>,
    /// Of the records that were saved first, those that nobody acknowledged: nobody asks for them.
    pub unsaved: u64,
    /// Acknowledged records within their lifetime at the end.
    pub records: u64,
    /// Acknowledged records within their lifetime that no living node holds at the end.
    pub lost: u64,
    /// The least copies of a record, when a kill was one replication interval ago.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fewest_copies: Option<u64>,
    /// The share of records that were then at each of the k closest nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_copies: Option<f64>,
    /// Its interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_copies_interval: Option<(f64, f64)>,
    /// Copies of older versions than the newest acknowledged one that the k closest nodes to each record hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outdated_copies: Option<u64>,
    /// Operations that ended with the node that they were begun at. They count nowhere else.
    pub abandoned: u64,
    /// Nodes that are alive at the end and have not joined yet.
    pub joining: u64,
    /// Joins that ended well.
    pub joins: u64,
    /// Joins that failed, and were tried again.
    pub joins_failed: u64,
    /// The share of dead nodes among the contacts of all routing tables, looked at every ten minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale: Option<f64>,
    /// The share of requests that nobody answered, though they were repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<f64>,
    /// Bytes sent and received by a node in a second, all traffic, with the headers of IPv4 and UDP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_node_s: Option<f64>,
    /// Messages that arrived.
    pub delivered: u64,
    /// Virtual time in which this was measured, in seconds.
    pub measured_s: f64,
    /// Virtual time from the start to the end, in seconds.
    pub virtual_s: f64,
    /// How often something happened that must never happen. A run with one has failed.
    pub violations: u64,
    /// A hash of everything that happened, in its order.
    pub trace_hash: String,
    /// Messages, wakes, alarms and commands dealt with since the start.
    pub events: u64,
    /// The same in a second of real time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events_per_s: Option<f64>,
    /// Messages that arrived in a second of real time while this was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivered_per_s: Option<f64>,
    /// Real time, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall_s: Option<f64>,
    /// The most memory that the process has had, in MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_rss_mib: Option<f64>,
    /// What went wrong, word for word; of much only the first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub told: Vec<String>,
}

impl Report {
    /// What was measured until `now`.
    pub(crate) fn of(measured: &Measured, traffic: &Traffic, now: Time) -> Self {
        let miss = |why: Explanation| measured.misses.get(&why).copied().unwrap_or(0);
        let ms = |time: Option<Duration>| time.map(|time| round(time.as_secs_f64() * 1000.0));
        let gets = &measured.get_efforts;
        let main = if measured.lookups > 0 { &measured.lookup_efforts } else { gets };
        let [p50, p90, p99] = main.percentiles([50, 90, 99]).map(ms);
        let [get_p50, get_p99] = gets.percentiles([50, 99]).map(ms);
        Report {
            lookups: measured.lookups,
            lookups_failed: measured.lookup_efforts.failed,
            exact: share_of(measured.exact, measured.lookups),
            exact_interval: interval_of(measured.exact, measured.lookups),
            requests_per_lookup: measured.lookup_efforts.requests().map(round),
            messages_per_lookup: measured.lookup_efforts.messages().map(round),
            hops: main.hops().map(round),
            p50_ms: p50,
            p90_ms: p90,
            p99_ms: p99,
            gets: measured.gets,
            gets_failed: gets.failed,
            get_success: share_of(measured.found, measured.gets),
            get_success_interval: interval_of(measured.found, measured.gets),
            messages_per_get: gets.messages().map(round),
            get_p50_ms: get_p50,
            get_p99_ms: get_p99,
            deleted: measured.deleted,
            outdated: measured.outdated,
            holders_failed: miss(Explanation::HoldersFailed),
            expired: miss(Explanation::Expired),
            unreachable: miss(Explanation::Unreachable),
            out_of_reach: miss(Explanation::OutOfReach),
            healing: miss(Explanation::Healing),
            unexplained: miss(Explanation::None),
            missed: measured.missed,
            wrong: measured.wrong,
            lies: traffic.lies,
            refused_records: traffic.refused_records,
            unpinned: measured.unpinned,
            deceived: share_of(measured.deceived, measured.unpinned),
            deceived_interval: interval_of(measured.deceived, measured.unpinned),
            saves: measured.saves,
            saves_failed: measured.saves_failed,
            messages_per_save: measured.save_efforts.messages().map(round),
            abandoned: measured.abandoned,
            joins: measured.joins,
            joins_failed: measured.joins_failed,
            stale: share_of(measured.stale, measured.contacts),
            timeouts: traffic.timeouts().map(round),
            bytes_per_node_s: traffic.bytes_per_node_second().map(round),
            delivered: traffic.delivered,
            measured_s: round(now.since(measured.since).as_secs_f64()),
            virtual_s: round(now.since(Time::ZERO).as_secs_f64()),
            ..Report::default()
        }
    }

    /// This, with what went wrong in another run besides.
    pub(crate) fn with_faults_of(mut self, other: &Report) -> Self {
        self.unexplained += other.unexplained;
        self.wrong += other.wrong;
        self.violations += other.violations;
        self.told.extend(other.told.iter().cloned());
        self
    }

    /// Whether nothing went wrong: every miss is explained, no author has another's words in their mouth, and nothing
    /// happened that must never happen.
    pub fn is_sound(&self) -> bool {
        self.unexplained == 0 && self.wrong == 0 && self.violations == 0
    }
}

/// A share, if it is one of anything.
pub(crate) fn share_of(hits: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| round(hits as f64 / all as f64))
}

/// Its interval.
pub(crate) fn interval_of(hits: u64, all: u64) -> Option<(f64, f64)> {
    (all > 0).then(|| wilson(hits, all)).map(|(low, high)| (round(low), round(high)))
}

/// A figure with six digits after the point: what is beyond is noise.
fn round(number: f64) -> f64 {
    (number * 1e6).round() / 1e6
}
