//! A day's worth of small worlds: nodes come and go, messages are lost, and all is found.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use kademlia_simulator::{Churn, Clocks, Departure, Loss, Network, Report, Sessions, Setup, Wire, Workload};

const SEEDS: u64 = 20;

/// 200 nodes in six hours.
fn run(seed: u64) -> Report {
    let wire = Wire { loss: Loss::Independent(0.05), duplicates: 0.01, jitter: 0.5, ..Wire::default() };
    let clocks = Clocks { skew: Duration::from_secs(30), drift: 50 };
    let mut network = Network::new(&Setup { wire, clocks, seed, ..Setup::default() });
    network.grow(200);
    let sessions = Sessions::Exponential { median: Duration::from_secs(3600) };
    network.churn(Churn { sessions, departure: Departure::Replaced });
    network.save_records(100, 100);
    network.measure();
    network.work(Workload { gets: 0.1, rewrites: 0.005, deletes: 0.001, value_bytes: 100, ..Workload::default() });
    network.run_for(Duration::from_secs(6 * 3600));
    network.report()
}

#[test]
fn twice_each() {
    let next = AtomicU64::new(1);
    let work = || {
        let mut reports = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > SEEDS {
                return reports;
            }
            let (first, second) = (run(seed), run(seed));
            assert_eq!(first, second, "seed {seed}");
            reports.push(first);
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let reports: Vec<Report> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert_eq!(reports.len() as u64, SEEDS);
    let mut missed = 0;
    for report in &reports {
        assert!(report.is_sound(), "{report:#?}");
        assert!(report.gets + report.deleted > 2000 && report.joins > 600, "{report:#?}");
        assert_eq!(report.saves_failed, 0, "{report:#?}");
        missed += ((1.0 - report.get_success.unwrap()) * report.gets as f64).round() as u64;
    }
    assert_eq!(missed, 0, "every record is found");
}
