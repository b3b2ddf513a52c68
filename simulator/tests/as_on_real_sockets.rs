//! The simulator and a network of real sockets agree on what an operation costs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::time::Duration;

use kademlia_dht::core::OperationId;
use kademlia_dht::testnet::TestNetwork;
use kademlia_simulator::{Handle, Latency, Network, Random, Setup, Wire};

const NODES: usize = 60;
const RECORDS: usize = 150;

/// What operations of one kind cost, in messages each.
#[derive(Default)]
struct Costs {
    saves: Vec<f64>,
    queries: Vec<f64>,
    lookups: Vec<f64>,
}

/// The median: a busy machine makes some of the real nodes repeat themselves.
fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

fn on_sockets() -> Costs {
    let mut network = TestNetwork::builder(format!("udp={NODES}").parse().unwrap()).seed(1).start().unwrap();
    let mut costs = Costs::default();
    let key = |number: usize| format!("key {number}");
    for number in 0..RECORDS {
        let node = network.pick(|_| true).unwrap();
        costs.saves.push(node.service().save(key(number), [7; 100]).wait().unwrap().effort.messages as f64);
    }
    for number in 0..RECORDS {
        let node = network.pick(|_| true).unwrap();
        let report = node.service().query_report(key(number)).wait().unwrap();
        assert!(report.found.is_some());
        costs.queries.push(report.effort.messages as f64);
        let target = Random::new(number as u64, "targets").key();
        costs.lookups.push(node.service().lookup(target).wait().unwrap().effort.messages as f64);
    }
    network.stop().unwrap();
    costs
}

fn simulated() -> Costs {
    let wire = Wire { latency: Latency::Constant(Duration::from_millis(1)), ..Wire::default() };
    let mut network = Network::new(&Setup { wire, ..Setup::default() });
    network.grow(NODES);
    network.run_for(Duration::from_secs(60));
    let mut random = Random::new(1, "askers");
    let mut one = |act: &mut dyn FnMut(&mut Network<'_>, Handle) -> Option<OperationId>| {
        let node = *random.pick(network.members()).unwrap();
        network.measure();
        act(&mut network, node).unwrap();
        network.run_for(Duration::from_secs(10));
        network.report()
    };
    let mut costs = Costs::default();
    for number in 0..RECORDS {
        let key = Random::new(number as u64, "keys").key();
        let saved = one(&mut |network, node| network.save(node, key, 100));
        costs.saves.push(saved.messages_per_save.unwrap());
    }
    for number in 0..RECORDS {
        let key = Random::new(number as u64, "keys").key();
        let found = one(&mut |network, node| network.get(node, key));
        assert_eq!(found.get_success, Some(1.0));
        costs.queries.push(found.messages_per_get.unwrap());
        let target = Random::new(number as u64, "targets").key();
        let looked_up = one(&mut |network, node| network.look_up(node, target));
        costs.lookups.push(looked_up.messages_per_lookup.unwrap());
    }
    costs
}

#[test]
fn on_messages_of_a_save_of_a_query_and_of_a_lookup() {
    let (mut real, mut simulated) = (on_sockets(), simulated());
    for (what, real, simulated) in [
        ("save", &mut real.saves, &mut simulated.saves),
        ("query", &mut real.queries, &mut simulated.queries),
        ("lookup", &mut real.lookups, &mut simulated.lookups),
    ] {
        let (real, simulated) = (median(real), median(simulated));
        let ratio = simulated / real;
        assert!((0.8..=1.2).contains(&ratio), "messages of a {what}: {real:.1} on sockets, {simulated:.1} simulated");
    }
}
