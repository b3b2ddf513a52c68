//! Small worlds over loss, churn and size: what a change of the core changes shows as a difference in the snapshot.
//!
//! When a change is wanted, look at the difference, and take it with `cargo insta accept`, or by renaming the file that
//! the failing test leaves beside the snapshot.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::fmt::Write;
use std::time::Duration;

use kademlia_simulator::{Churn, Departure, Loss, Network, Report, Sessions, Setup, Wire, Workload};

/// Half an hour.
fn run(nodes: usize, loss: f64, session: Option<u64>) -> Report {
    let wire = Wire { loss: Loss::Independent(loss), ..Wire::default() };
    let mut network = Network::new(&Setup { wire, seed: 1, ..Setup::default() });
    network.grow(nodes);
    if let Some(minutes) = session {
        let sessions = Sessions::Exponential { median: Duration::from_secs(minutes * 60) };
        network.churn(Churn { sessions, departure: Departure::Replaced });
    }
    network.save_records(20, 100);
    network.measure();
    network.work(Workload {
        lookups: 0.2,
        gets: 0.2,
        rewrites: 0.005,
        deletes: 0.001,
        value_bytes: 100,
        ..Workload::default()
    });
    network.run_for(Duration::from_secs(1800));
    network.report()
}

#[test]
fn loss_by_churn_by_size() {
    let mut table = String::from(
        "nodes  loss  session |  exact  requests  hops  p50 ms  p99 ms |  found  messages  p50 ms  p99 ms |  stale  bytes/s | trace\n",
    );
    let share = |share: Option<f64>| share.map_or("-".to_owned(), |share| format!("{:.1}%", share * 100.0));
    let number =
        |number: Option<f64>, digits: usize| number.map_or("-".to_owned(), |number| format!("{number:.digits$}"));
    for nodes in [10, 50, 200] {
        for loss in [0.0, 0.05, 0.2] {
            for session in [None, Some(60), Some(10)] {
                let report = run(nodes, loss, session);
                assert!(report.is_sound(), "{report:#?}");
                writeln!(
                    table,
                    "{nodes:5} {:>5} {:>8} | {:>6} {:>9} {:>5} {:>7} {:>7} | {:>6} {:>9} {:>7} {:>7} | {:>6} {:>8} | {}",
                    share(Some(loss)),
                    session.map_or("-".to_owned(), |minutes| format!("{minutes} min")),
                    share(report.exact),
                    number(report.requests_per_lookup, 2),
                    number(report.hops, 2),
                    number(report.p50_ms, 0),
                    number(report.p99_ms, 0),
                    share(report.get_success),
                    number(report.messages_per_get, 2),
                    number(report.get_p50_ms, 0),
                    number(report.get_p99_ms, 0),
                    share(report.stale),
                    number(report.bytes_per_node_s, 0),
                    report.trace_hash,
                )
                .unwrap();
            }
        }
    }
    insta::assert_snapshot!(table);
}
