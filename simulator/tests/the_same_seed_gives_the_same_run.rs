//! A run follows from its seed alone: on every machine, optimized or not, watched or not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::ops::ControlFlow;
use std::time::Duration;

use kademlia_simulator::{Churn, Clocks, Departure, Latency, Loss, Network, Report, Sessions, Setup, Wire, Workload};

/// Everything that draws from the seed at once.
fn setup(seed: u64) -> Setup {
    let wire = Wire {
        jitter: 0.5,
        asymmetry: 0.3,
        loss: Loss::Independent(0.05),
        duplicates: 0.05,
        one_way: 0.02,
        ..Wire::default()
    };
    let clocks = Clocks { skew: Duration::from_secs(10), drift: 100 };
    Setup { wire, clocks, seed, ..Setup::default() }
}

fn run(network: &mut Network<'_>) -> Report {
    network.grow(60);
    let sessions = Sessions::Weibull { shape: 0.6, median: Duration::from_secs(1800) };
    network.churn(Churn { sessions, departure: Departure::Replaced });
    network.save_records(20, 100);
    network.measure();
    network.work(Workload { lookups: 0.1, gets: 0.1, rewrites: 0.01, value_bytes: 100, ..Workload::default() });
    network.run_for(Duration::from_secs(1800));
    network.report()
}

#[test]
fn twice_the_same_and_another_seed_another() {
    let [first, again, other] = [7, 7, 8].map(|seed| run(&mut Network::new(&setup(seed))));
    assert_eq!(first, again);
    assert_ne!(first.trace_hash, other.trace_hash);
    assert!(first.lookups > 100 && first.gets > 100 && first.joins > 5, "{first:?}");
}

/// The hash stands here, so that a build that differs in anything (a platform, an optimization, a dependency) shows. A
/// change of the core changes it as well: then write the new one.
#[test]
fn on_every_machine() {
    let report = run(&mut Network::new(&setup(1)));
    assert_eq!(report.trace_hash, "4c1519cb33de209c", "{report:?}");
}

#[test]
fn whoever_watches_changes_nothing() {
    let mut looks = 0;
    let mut watch = |_| {
        looks += 1;
        ControlFlow::Continue(())
    };
    let mut watched = Network::new(&setup(7));
    watched.watch(&mut watch);
    let report = run(&mut watched);
    drop(watched);
    assert_eq!(report, run(&mut Network::new(&setup(7))));
    assert!(looks > 0);
}

#[test]
fn a_run_can_be_broken_off() {
    let mut network = Network::new(&setup(7));
    network.watch(|progress| if progress.nodes > 30 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) });
    run(&mut network);
    assert!(network.is_broken_off() && network.now() < Duration::from_secs(1800), "{:?}", network.now());
}

#[test]
fn more_queries_leave_the_churn_as_it_was() {
    let joined = |gets: f64| {
        let mut network = Network::new(&Setup { wire: quiet(), ..setup(3) });
        network.grow(30);
        let sessions = Sessions::Exponential { median: Duration::from_secs(600) };
        network.churn(Churn { sessions, departure: Departure::Gone });
        network.save_records(5, 100);
        network.work(Workload { gets, ..Workload::default() });
        network.run_for(Duration::from_secs(900));
        network.members().to_vec()
    };
    assert_eq!(joined(0.0), joined(1.0));
}

fn quiet() -> Wire {
    Wire { latency: Latency::Constant(Duration::from_millis(80)), ..Wire::default() }
}
