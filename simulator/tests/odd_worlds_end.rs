//! Settings that make no sense make no panic and no endless run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::ops::ControlFlow;
use std::time::Duration;

use kademlia_dht::core::Params;
use kademlia_simulator::experiment::{ExperimentError, Findings, Plan, Watch, churn, kill, liars, lookups, sweep};
use kademlia_simulator::{
    Churn, Clocks, Departure, KEY_SPACE, Latency, Loss, Network, Progress, Sessions, Setup, Slow, Wire, Workload,
};

fn go_on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// A minute of ten nodes.
fn minute(setup: &Setup, workload: Workload) {
    let mut network = Network::new(setup);
    network.grow(10);
    network.save_records(2, 0);
    network.work(workload);
    network.partition(0.5);
    network.run_for(Duration::from_secs(60));
    network.heal();
    network.get_records(|_, _| true);
    network.report();
}

#[test]
fn wires() {
    let wires = [
        Wire { latency: Latency::Constant(Duration::ZERO), ..Wire::default() },
        Wire { latency: Latency::Matrix(Vec::new()), ..Wire::default() },
        Wire { latency: Latency::Matrix(vec![Vec::new()]), ..Wire::default() },
        Wire { latency: Latency::LogNormal { median: Duration::MAX, sigma: 0.0 }, ..Wire::default() },
        Wire { latency: Latency::LogNormal { median: Duration::from_millis(80), sigma: f64::NAN }, ..Wire::default() },
        Wire { asymmetry: 1.5, jitter: -3.0, duplicates: 2.0, one_way: -1.0, ..Wire::default() },
        Wire { loss: Loss::Bursts { share: 7.0, length: Duration::ZERO }, ..Wire::default() },
        Wire { slow: Slow { share: 1.0, delay: Duration::from_secs(1_000_000) }, ..Wire::default() },
    ];
    for wire in wires {
        minute(&Setup { wire, ..Setup::default() }, Workload::default());
    }
}

#[test]
fn workloads_clocks_and_parameters() {
    let rates = [1e-30, f64::NAN, -1.0, f64::MIN_POSITIVE];
    for rate in rates {
        let workload =
            Workload { lookups: rate, gets: rate, saves: rate, rewrites: rate, deletes: rate, value_bytes: 0 };
        minute(&Setup::default(), workload);
    }
    let clocks = Clocks { skew: Duration::MAX, drift: u32::MAX };
    minute(&Setup { clocks, ..Setup::default() }, Workload::default());
    for params in [
        Params { k: usize::MAX, alpha: usize::MAX, ..Params::new(KEY_SPACE) },
        Params { k: 1, alpha: 1, read_quorum: 1, ..Params::new(KEY_SPACE) },
        Params { record_lifetime: Duration::MAX, ..Params::new(KEY_SPACE) },
        Params { lookup_timeout: Duration::MAX, request_timeout: Duration::MAX, ..Params::new(KEY_SPACE) },
        Params {
            refresh_interval: Duration::MAX,
            replicate_interval: Duration::MAX,
            republish_interval: Duration::MAX,
            ..Params::new(KEY_SPACE)
        },
        Params { peer_timeout: Duration::MAX, token_interval: Duration::MAX, ..Params::new(KEY_SPACE) },
    ] {
        for drift in [0, 2] {
            let clocks = Clocks { drift, ..Clocks::default() };
            minute(&Setup { params: params.clone(), clocks, ..Setup::default() }, Workload::default());
        }
    }
}

#[test]
fn sessions_of_no_length_and_of_no_shape() {
    for sessions in [
        Sessions::Weibull { shape: 0.0, median: Duration::from_secs(60) },
        Sessions::Weibull { shape: f64::NAN, median: Duration::from_secs(60) },
        Sessions::Weibull { shape: f64::INFINITY, median: Duration::from_secs(60) },
        Sessions::Exponential { median: Duration::from_millis(500) },
        Sessions::Exponential { median: Duration::MAX },
    ] {
        let mut network = Network::new(&Setup::default());
        network.grow(5);
        network.churn(Churn {
            sessions,
            departure: Departure::Returns { after: Duration::from_millis(1), with_store: true },
        });
        network.run_for(Duration::from_secs(60));
        network.kill_share(f64::INFINITY);
        network.kill_share(f64::NAN);
        network.report();
    }
}

#[test]
fn experiments_without_nodes_or_time() {
    let plan = Plan { nodes: 0, records: 0, lookups: 0, time: Some(Duration::ZERO), ..Plan::default() };
    lookups(&plan, &mut go_on).unwrap();
    kill(&plan, &mut go_on).unwrap();
    sweep(&plan, &mut go_on).unwrap();
    liars(&plan, &mut go_on).unwrap();
}

#[test]
fn shares_of_liars() {
    // Where all lie there are no users.
    for (share, gets) in [(-1.0, 10), (f64::NAN, 10), (1.0, 0), (7.0, 0)] {
        let setup = Setup { liars: share, ..Setup::default() };
        let plan = Plan { setup, nodes: 5, records: 6, queries: 10, ..Plan::default() };
        let report = liars(&plan, &mut go_on).unwrap().report;
        assert_eq!((report.saves > 0, report.gets), (gets > 0, gets), "{share}");
    }
}

#[test]
fn every_run_of_an_experiment_is_told_of() {
    type Experiment = fn(&Plan, Watch<'_>) -> Result<Findings, ExperimentError>;
    let cases: [(Experiment, bool, f64, f64, usize); 9] = [
        (lookups, false, 0.5, 0.0, 1),
        (lookups, true, 0.5, 0.0, 2),
        (churn, false, 0.5, 0.0, 1),
        (kill, false, 0.5, 0.0, 2),
        (kill, true, 0.5, 0.0, 8),
        (kill, true, 0.3, 0.0, 10),
        (liars, false, 0.5, 0.5, 1),
        (liars, true, 0.5, 0.5, 4),
        (liars, true, 0.5, 0.3, 5),
    ];
    for (experiment, series, share, lying, runs) in cases {
        let time = Some(Duration::from_secs(60));
        let mut plan = Plan { nodes: 110, records: 1, lookups: 1, queries: 1, time, series, share, ..Plan::default() };
        plan.setup.liars = lying;
        let mut told = Vec::new();
        let mut joined = Vec::new();
        experiment(&plan, &mut |progress| {
            told.push((progress.run, progress.runs));
            joined.extend(progress.nodes_end.filter(|_| progress.run == runs));
            ControlFlow::Continue(())
        })
        .unwrap();
        told.dedup();
        assert_eq!(told, (1..=runs).map(|run| (run, runs)).collect::<Vec<_>>());
        assert!(!joined.is_empty() && joined.iter().all(|nodes| *nodes == 110), "{joined:?}");
    }
    let mut told = Vec::new();
    for (k, runs) in [(20, 14), (5, 15)] {
        let mut plan = Plan { nodes: 3, records: 1, lookups: 1, time: Some(Duration::ZERO), ..Plan::default() };
        plan.setup.params.k = k;
        sweep(&plan, &mut |progress| {
            told.push((progress.run, progress.runs));
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(told.last(), Some(&(runs, runs)));
    }
}

#[test]
fn a_network_that_cannot_grow_says_so() {
    let wire = Wire { loss: Loss::Independent(1.0), ..Wire::default() };
    let mut network = Network::new(&Setup { wire, ..Setup::default() });
    network.grow(3);
    let report = network.report();
    assert!(!report.is_sound() && report.joining == 2, "{report:#?}");
}

/// Well before a day, and with a word about why.
#[test]
fn an_experiment_in_which_nobody_can_join_ends_soon() {
    let mut plan = Plan { nodes: 20, time: Some(Duration::from_secs(24 * 3600)), ..Plan::default() };
    plan.setup.wire.slow = Slow { share: 1.0, delay: Duration::from_secs(1) };
    let mut passed = Duration::ZERO;
    let error = churn(&plan, &mut |progress| {
        passed = progress.now;
        ControlFlow::Continue(())
    });
    let error = error.unwrap_err();
    let timeout = Duration::from_secs(2);
    assert_eq!(error, ExperimentError::NotJoined { joined: 1, nodes: 20, timeout, slow: true });
    let told = "nobody joined the first of 20 nodes: requests time out after 2s, before slow nodes answer";
    assert_eq!(error.to_string(), told);
    assert!(passed < Duration::from_secs(2 * 3600), "{passed:?}");

    // Those that are not slow join, as the first one is not.
    plan.setup.seed = 2;
    plan.setup.wire.slow = Slow { share: 0.2, delay: Duration::from_secs(60) };
    let told = kill(&plan, &mut go_on).unwrap_err().to_string();
    assert!(told.starts_with("only ") && told.contains(" of 20 nodes joined: "), "{told}");
    plan.setup.wire = Wire { loss: Loss::Independent(1.0), ..Wire::default() };
    let told = lookups(&plan, &mut go_on).unwrap_err().to_string();
    assert!(told.ends_with("requests time out after 2s, before they are answered"), "{told}");
}

#[test]
fn what_others_do_is_not_waited_for() {
    let mut network = Network::new(&Setup::default());
    network.grow(60);
    network.save_records(20, 100);
    let sessions = Sessions::Exponential { median: Duration::from_secs(300) };
    network.churn(Churn { sessions, departure: Departure::Replaced });
    network.work(Workload { gets: 100.0, ..Workload::default() });
    let start = network.now();
    network.save_records(5, 100);
    network.grow(65);
    assert!(network.now() - start < Duration::from_secs(120), "{:?}", network.now() - start);
}

#[test]
fn queries_from_nodes_that_have_died_are_not_waited_for() {
    let mut network = Network::new(&Setup::default());
    network.grow(60);
    network.save_records(100, 100);
    let sessions = Sessions::Exponential { median: Duration::from_secs(120) };
    network.churn(Churn { sessions, departure: Departure::Replaced });
    let start = network.now();
    network.get_records(|_, _| true);
    assert!(network.now() - start < Duration::from_secs(120), "{:?}", network.now() - start);
}
