//! What must not be lost when networks split, die, crowd, and lose messages.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::ops::ControlFlow;
use std::time::Duration;

use kademlia_dht::core::Params;
use kademlia_simulator::experiment::{Findings, Plan, churn, kill, partition};
use kademlia_simulator::{
    Churn, Clocks, Departure, KEY_SPACE, Latency, Loss, Network, Progress, Report, Sessions, Setup, Slow, Wire,
    Workload,
};

const HOUR: Duration = Duration::from_secs(3600);

fn go_on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn plan(nodes: usize, seed: u64) -> Plan {
    Plan { nodes, records: 100, setup: Setup { seed, ..Setup::default() }, ..Plan::default() }
}

/// Two hours in which 80 nodes come and go over this wire.
fn two_hours(wire: Wire, clocks: Clocks, departure: Departure) -> Report {
    let mut network = Network::new(&Setup { wire, clocks, seed: 5, ..Setup::default() });
    network.grow(80);
    network.churn(Churn { sessions: Sessions::Exponential { median: HOUR }, departure });
    network.save_records(40, 100);
    network.measure();
    network.work(Workload { gets: 0.2, rewrites: 0.01, deletes: 0.002, value_bytes: 100, ..Workload::default() });
    network.run_for(HOUR * 2);
    let report = network.report();
    assert!(report.is_sound(), "{report:#?}");
    assert!(report.gets > 1000 && report.saves > 50 && report.get_success >= Some(0.99), "{report:#?}");
    report
}

fn lossy(share: f64) -> Wire {
    Wire { loss: Loss::Independent(share), ..Wire::default() }
}

#[test]
fn two_halves_grow_together_again() {
    for seed in [1, 2] {
        let Findings { report, series, .. } = partition(&plan(150, seed), &mut go_on).unwrap();
        assert!(report.is_sound(), "{report:#?}");
        assert_eq!((report.get_success, report.outdated_copies), (Some(1.0), Some(0)), "{report:#?}");
        let (apart, last) = (&series[0].points[0].report, &series[0].points[12].report);
        assert!(apart.outdated_copies > Some(500), "right after the healing either side holds what it wrote");
        assert!(apart.gets > 0 && apart.healing * 3 > apart.gets, "and gives that, {apart:#?}");
        assert_eq!((last.gets, series[0].points[12].at), (200, 120.0));
    }
}

#[test]
fn a_split_lasts_as_long_as_was_asked_for() {
    let brief = Plan { time: Some(Duration::from_secs(36)), ..plan(100, 1) };
    let Findings { report, .. } = partition(&brief, &mut go_on).unwrap();
    assert!(report.is_sound() && report.get_success == Some(1.0), "{report:#?}");
    let all = Duration::from_secs_f64(report.virtual_s);
    let without = partition(&Plan { time: Some(HOUR), ..brief }, &mut go_on).unwrap().report.virtual_s;
    assert!((without - all.as_secs_f64() - 3564.0).abs() < 10.0, "{without} {all:?}");
}

#[test]
fn a_small_side_grows_together_with_a_large_one() {
    let report = partition(&Plan { share: 0.1, ..plan(150, 3) }, &mut go_on).unwrap().report;
    assert!(report.is_sound() && report.get_success == Some(1.0), "{report:#?}");
}

#[test]
fn the_copies_come_back_after_half_of_the_nodes_died() {
    let report = kill(&plan(200, 1), &mut go_on).unwrap().report;
    assert_eq!((report.get_success, report.lost), (Some(1.0), 0), "{report:#?}");
    assert!(report.fewest_copies >= Some(20) && report.full_copies == Some(1.0), "{report:#?}");
}

/// The queries right after the kill leave copies with a short life at nodes that are now among the closest.
#[test]
fn copies_left_in_passing_do_not_keep_full_ones_out() {
    let report = kill(&Plan { records: 1000, ..plan(1000, 2) }, &mut go_on).unwrap().report;
    assert!(report.is_sound() && report.full_copies == Some(1.0), "{report:#?}");
}

#[test]
fn of_a_tenth_what_it_holds_is_found() {
    let report = kill(&Plan { share: 0.9, ..plan(300, 2) }, &mut go_on).unwrap().report;
    assert!(report.is_sound() && report.holders_failed > 0, "{report:#?}");
    assert_eq!(report.holders_failed + (report.get_success.unwrap() * report.gets as f64).round() as u64, report.gets);
}

#[test]
fn every_node_joins_though_messages_are_lost() {
    for loss in [Loss::Independent(0.3), Loss::Bursts { share: 0.1, length: Duration::from_secs(5) }] {
        let mut network = Network::new(&Setup { wire: Wire { loss, ..Wire::default() }, ..Setup::default() });
        network.grow(60);
        network.run_for(Duration::from_secs(300));
        assert_eq!(network.members().len(), 60);
        let fewest = network
            .members()
            .iter()
            .filter_map(|node| network.node(*node))
            .map(kademlia_dht::core::Node::contact_count)
            .min();
        assert!(fewest >= Some(20), "a node that joined knows only {fewest:?} others");
    }
}

#[test]
fn a_crowd_finds_its_places() {
    let mut network = Network::new(&Setup::default());
    network.grow(50);
    network.save_records(50, 100);
    network.crowd(200);
    network.run_for(Duration::from_secs(120));
    assert_eq!(network.members().len(), 250);
    network.measure();
    network.get_records(|_, _| true);
    network.work(Workload { lookups: 5.0, ..Workload::default() });
    network.run_for(Duration::from_secs(100));
    let report = network.report();
    assert!(report.get_success == Some(1.0) && report.exact >= Some(0.99), "{report:#?}");
}

#[test]
fn a_crowd_that_comes_while_nodes_come_and_go_changes_nothing_of_what_is_found() {
    let churning = Churn { sessions: Sessions::Exponential { median: HOUR }, departure: Departure::Replaced };
    let plan = Plan { churn: Some(churning), crowd: 120, time: Some(HOUR + HOUR / 2), ..plan(60, 1) };
    let Findings { report, series, .. } = churn(&plan, &mut go_on).unwrap();
    assert!(report.is_sound() && report.get_success == Some(1.0), "{report:#?}");
    let nodes: Vec<(f64, usize)> = series[0].points.iter().map(|point| (point.at, point.report.nodes)).collect();
    assert!(nodes.len() == 2 && nodes[0] < (0.75, 61) && nodes[1] > (1.0, 170), "{nodes:?}");
}

#[test]
fn while_three_messages_of_ten_are_lost() {
    two_hours(lossy(0.3), Clocks::default(), Departure::Replaced);
}

#[test]
fn while_connections_fail_for_ten_seconds_at_a_time() {
    let loss = Loss::Bursts { share: 0.05, length: Duration::from_secs(10) };
    two_hours(Wire { loss, ..Wire::default() }, Clocks::default(), Departure::Replaced);
}

#[test]
fn while_messages_overtake_each_other_and_arrive_twice() {
    two_hours(Wire { jitter: 3.0, duplicates: 0.05, ..lossy(0.05) }, Clocks::default(), Departure::Replaced);
}

#[test]
fn while_some_hear_but_are_not_heard() {
    two_hours(Wire { one_way: 0.05, asymmetry: 1.0, ..lossy(0.02) }, Clocks::default(), Departure::Replaced);
}

#[test]
fn while_some_are_slow() {
    let slow = Slow { share: 0.1, delay: Duration::from_millis(1500) };
    two_hours(Wire { slow, ..lossy(0.02) }, Clocks::default(), Departure::Replaced);
}

#[test]
fn while_clocks_are_wrong() {
    two_hours(lossy(0.02), Clocks { skew: Duration::from_secs(600), drift: 1000 }, Departure::Replaced);
}

#[test]
fn between_three_places_far_from_each_other() {
    let ms = Duration::from_millis;
    let rows = vec![vec![ms(20), ms(150), ms(250)], vec![ms(150), ms(20), ms(120)], vec![ms(250), ms(120), ms(20)]];
    let wire = Wire { latency: Latency::Matrix(rows), ..lossy(0.02) };
    two_hours(wire, Clocks::default(), Departure::Replaced);
}

#[test]
fn while_nodes_crash_and_come_back() {
    for with_store in [true, false] {
        let departure = Departure::Returns { after: Duration::from_secs(300), with_store };
        let report = two_hours(lossy(0.02), Clocks::default(), departure);
        assert!(report.joins > 50, "{report:#?}");
    }
}

#[test]
fn disks_bring_back_what_nobody_else_has() {
    let mut network = Network::new(&Setup { seed: 5, ..Setup::default() });
    network.grow(40);
    network.save_records(40, 100);
    let all = network.members().to_vec();
    // One at least stays to be joined through.
    let (stays, others) = all.split_first().unwrap();
    others.iter().for_each(|node| assert!(network.kill(*node)));
    network.run_for(Duration::from_secs(1200));
    others.iter().for_each(|node| assert!(network.restart(*node, true)));
    network.run_for(Duration::from_secs(60));
    assert!(network.kill(*stays));
    network.measure();
    network.get_records(|_, _| true);
    let report = network.report();
    assert!(report.is_sound() && report.get_success == Some(1.0) && report.lost == 0, "{report:#?}");
}

#[test]
fn times_are_true_however_wrong_clocks_are() {
    let latency = Latency::Constant(Duration::from_millis(100));
    let median = |drift| {
        let wire = Wire { latency: latency.clone(), ..Wire::default() };
        let mut network =
            Network::new(&Setup { wire, clocks: Clocks { drift, ..Clocks::default() }, ..Setup::default() });
        network.grow(100);
        network.measure();
        network.work(Workload { lookups: 5.0, ..Workload::default() });
        network.run_for(Duration::from_secs(60));
        network.report().p50_ms
    };
    assert_eq!(median(100_000), median(0));
}

#[test]
fn a_node_that_comes_back_at_once_has_one_join_under_way() {
    let mut network = Network::new(&Setup { wire: lossy(1.0), ..Setup::default() });
    network.grow(1);
    let node = network.crowd(1)[0];
    while network.report().joins_failed == 0 {
        network.run_for(Duration::from_millis(100));
    }
    // It was about to try again.
    assert!(network.kill(node) && network.restart(node, false));
    network.measure();
    network.run_for(Duration::from_secs(300));
    // An attempt takes two seconds, and the pause after it one.
    let failed = network.report().joins_failed;
    assert!((95..=100).contains(&failed), "{failed}");
}

#[test]
fn records_expire_and_are_not_served_after_that() {
    let params = Params { record_lifetime: HOUR, republish_interval: HOUR * 20, ..Params::new(KEY_SPACE) };
    let mut network = Network::new(&Setup { params, ..Setup::default() });
    network.grow(40);
    network.save_records(20, 100);
    network.run_for(HOUR + Duration::from_secs(60));
    network.measure();
    network.get_records(|_, _| true);
    let report = network.report();
    assert_eq!((report.expired, report.get_success, report.records), (20, Some(0.0), 0), "{report:#?}");
    assert!(report.is_sound(), "{report:#?}");
}

#[test]
fn what_was_overwritten_is_not_found_again() {
    let mut network = Network::new(&Setup::default());
    network.grow(80);
    network.save_records(40, 100);
    network.rewrite_records(100, Duration::from_secs(4), |_, _| true);
    network.measure();
    network.get_records(|_, _| true);
    let report = network.report();
    assert!(report.is_sound() && report.get_success == Some(1.0), "{report:#?}");
}

#[test]
fn a_node_alone_keeps_what_it_saves() {
    let mut network = Network::new(&Setup::default());
    network.grow(1);
    network.save_records(5, 100);
    assert_eq!(network.copies(), [1; 5]);
    let report = network.report();
    assert!(report.is_sound() && report.records == 5, "{report:#?}");
}

#[test]
fn publishers_that_stay_keep_their_records_alive() {
    let mut network = Network::new(&Setup::default());
    network.grow(40);
    network.save_records(20, 100);
    network.run_for(HOUR * 40);
    network.measure();
    network.get_records(|_, _| true);
    let report = network.report();
    assert!(report.is_sound() && report.get_success == Some(1.0), "{report:#?}");
}
