//! The simulator and a network of real sockets agree on what an operation costs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::time::Duration;

use kademlia_dht::testnet::TestNetwork;
use kademlia_simulator::{Latency, Network, Setup, Wire};

const NODES: usize = 60;
const RECORDS: usize = 150;

/// The median: a busy machine makes some of the real nodes repeat themselves.
fn median(numbers: &mut [usize]) -> f64 {
    numbers.sort_unstable();
    numbers[numbers.len() / 2] as f64
}

#[test]
fn on_messages_of_a_save_and_of_a_query() {
    let mut network = TestNetwork::builder(format!("udp={NODES}").parse().unwrap()).seed(1).start().unwrap();
    let (mut saves, mut queries) = (Vec::new(), Vec::new());
    let key = |number: usize| format!("key {number}");
    for number in 0..RECORDS {
        let node = network.pick(|_| true).unwrap();
        saves.push(node.service().save(key(number), [7; 100]).wait().unwrap().effort.messages);
    }
    for number in 0..RECORDS {
        let node = network.pick(|_| true).unwrap();
        let report = node.service().query_report(key(number)).wait().unwrap();
        assert!(report.found.is_some());
        queries.push(report.effort.messages);
    }
    network.stop().unwrap();

    let wire = Wire { latency: Latency::Constant(Duration::from_millis(1)), ..Wire::default() };
    let mut simulated = Network::new(&Setup { wire, ..Setup::default() });
    simulated.grow(NODES);
    simulated.run_for(Duration::from_secs(60));
    simulated.measure();
    simulated.save_records(RECORDS, 100);
    simulated.get_records(|_, _| true);
    let report = simulated.report();

    for (what, real, simulated) in [
        ("save", median(&mut saves), report.messages_per_save.unwrap()),
        ("query", median(&mut queries), report.messages_per_get.unwrap()),
    ] {
        let ratio = simulated / real;
        assert!((0.8..=1.2).contains(&ratio), "messages of a {what}: {real:.1} on sockets, {simulated:.1} simulated");
    }
}
