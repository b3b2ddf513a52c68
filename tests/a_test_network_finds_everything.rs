//! What any node saved, nodes on every transport find: in networks of many mixes, on real sockets.
//!
//! A mixed network that splits does so silently: each side saves and finds, and only what crosses over is lost. So
//! here a node of each kind saves and a node of each kind asks: where two relays in a row stand between them, in a key
//! space of two bytes, in memory beside sockets, and after a third of the nodes has died without a word.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kademlia_dht::testnet::{Mix, TestNetwork, TestNetworkError, TestNode, Transport, Transports};
use kademlia_dht::{Config, Id, KeyHasher, KeySpace};

const LONG: Duration = Duration::from_secs(60);

/// Few holders for each key, so that most are on another transport than most who ask.
fn few_holders(_: usize, _: Transports) -> Config {
    Config { k: 4, ..Config::default() }
}

fn network(mix: &str, seed: u64) -> TestNetwork {
    let mix: Mix = mix.parse().unwrap();
    TestNetwork::builder(mix).seed(seed).configure(few_holders).start().unwrap()
}

fn kinds(network: &TestNetwork) -> BTreeSet<Transports> {
    network.living().map(TestNode::transports).collect()
}

/// Saves `each` records from nodes of every kind. Gives the keys.
fn save(network: &mut TestNetwork, each: usize) -> Vec<String> {
    let mut saved = Vec::new();
    for kind in kinds(network) {
        for number in 0..each {
            let key = format!("{kind} {number}");
            let saver = network.pick(|node| node.transports() == kind).unwrap();
            let receipt = saver.service().save(&key, format!("value of {key}")).wait_timeout(LONG).unwrap();
            let receipt = receipt.unwrap_or_else(|error| panic!("{kind} does not save {key}: {error}"));
            assert!(!receipt.accepted.is_empty(), "{receipt:?}");
            saved.push(key);
        }
    }
    saved
}

/// Asks nodes of every kind for every key.
fn find(network: &mut TestNetwork, keys: &[String]) {
    for kind in kinds(network) {
        for key in keys {
            let asker = network.pick(|node| node.transports() == kind).unwrap();
            let found = asker.service().query(key).wait_timeout(LONG).unwrap().unwrap();
            let found = found.unwrap_or_else(|| panic!("node {} on {kind} does not find {key}", asker.index()));
            assert_eq!(found.value, format!("value of {key}").as_bytes());
        }
    }
}

fn saves_and_finds(mix: &str) {
    let mut network = network(mix, 1);
    let keys = save(&mut network, 4);
    find(&mut network, &keys);
    network.stop().unwrap();
}

#[test]
fn udp_and_tcp() {
    saves_and_finds("udp=6,tcp=6,udp+tcp=1");
}

#[test]
fn two_relays_in_a_row() {
    saves_and_finds("udp=5,tcp=5,unix=5,udp+tcp=1,tcp+unix=1");
}

#[test]
fn two_relays_in_a_row_and_nobody_between_them() {
    saves_and_finds("udp=6,unix=6,udp+tcp=1,tcp+unix=1");
}

#[test]
fn memory_and_sockets() {
    saves_and_finds("memory=5,unix=5,udp=5,udp+memory=1,unix+memory=1");
}

#[test]
fn a_node_on_all_of_them() {
    saves_and_finds("udp=3,tcp=3,unix=3,memory=3,udp+tcp+unix+memory=1");
}

#[test]
fn ipv6_and_ipv4() {
    if std::net::UdpSocket::bind("[::1]:0").is_err() {
        return; // This host has no IPv6.
    }
    saves_and_finds("udp=4,udp6=4,tcp6=4,udp+udp6=1,udp6+tcp6=1");
}

#[test]
fn a_third_may_die() {
    for seed in 0..3 {
        let mut network = network("udp=8,tcp=8,unix=6,udp+tcp=3,tcp+unix=3", seed);
        // Of eight holders, some live.
        let keys = save(&mut network, 2);
        let victims = network.victims(8);
        assert_eq!(victims.len(), 8);
        // A record dies with its last holder; here is asked only for those that outlive this.
        let dead: Vec<Id> = victims.iter().map(|victim| network.nodes()[*victim].service().id()).collect();
        let outlive = |key: &String| {
            let asker = &network.nodes()[0];
            let found = asker.service().query(key).wait_timeout(LONG).unwrap().unwrap().unwrap();
            found.held_here && !dead.contains(&asker.service().id())
                || found.holders.iter().any(|holder| !dead.contains(&holder.id()))
        };
        let keys: Vec<String> = keys.into_iter().filter(outlive).collect();
        assert!(!keys.is_empty());
        for victim in victims {
            assert!(network.kill(victim).unwrap());
            assert!(!network.kill(victim).unwrap(), "it is dead already");
        }
        assert_eq!(network.living().count(), 20);
        find(&mut network, &keys);
    }
}

#[test]
fn nodes_come_later_and_come_back() {
    let mut network = network("udp=4,tcp=4,udp+tcp=1", 1);
    let keys = save(&mut network, 3);
    let unix = Transports::from(Transport::Unix);
    assert!(matches!(network.add(unix), Err(TestNetworkError::Apart(_))), "nobody is on Unix sockets yet");
    network.add(unix.and(Transport::Tcp)).unwrap();
    network.add(unix).unwrap();
    let restarted = network.pick(|node| node.transports() == Transport::Udp.into()).unwrap();
    let (index, id, address) =
        (restarted.index(), restarted.service().id(), restarted.address(Transport::Udp).cloned());
    network.restart(index).unwrap();
    assert_eq!(network.nodes()[index].service().id(), id);
    assert_eq!(network.nodes()[index].address(Transport::Udp).cloned(), address);
    find(&mut network, &keys);
    let keys = save(&mut network, 2);
    find(&mut network, &keys);
}

#[derive(Debug)]
struct TwoBytes;

impl KeyHasher for TwoBytes {
    fn key_space(&self) -> KeySpace {
        KeySpace::new(2).unwrap()
    }

    fn hash(&self, key: &[u8]) -> Id {
        let hash = key.iter().fold(5381_u16, |hash, byte| hash.wrapping_mul(33) ^ u16::from(*byte));
        Id::from_prefix(&hash.to_be_bytes())
    }
}

#[test]
fn a_key_space_of_two_bytes() {
    let mix: Mix = "udp=8,tcp=8,unix=4,udp+tcp=1,tcp+unix=1".parse().unwrap();
    let two_bytes = |_, _| Config { hasher: Arc::new(TwoBytes), k: 4, ..Config::default() };
    let mut network = TestNetwork::builder(mix).configure(two_bytes).start().unwrap();
    let ids: BTreeSet<Id> = network.nodes().iter().map(|node| node.service().id()).collect();
    assert_eq!(ids.len(), network.nodes().len());
    assert!(ids.iter().all(|id| TwoBytes.key_space().contains(id)));
    let keys = save(&mut network, 4);
    find(&mut network, &keys);
}

#[test]
fn the_seed_decides() {
    let ids = |seed| network("udp=3,tcp=3,udp+tcp=1", seed).nodes().iter().map(|node| node.service().id()).collect();
    let (one, again, other): (Vec<Id>, Vec<Id>, Vec<Id>) = (ids(1), ids(1), ids(2));
    assert_eq!(one, again);
    assert_ne!(one, other);
}

#[test]
fn nothing_is_left_of_a_network() {
    let network = network("unix=3,udp=2,udp+unix=1", 1);
    let unix = |node: &TestNode| node.address(Transport::Unix).cloned();
    let address = network.nodes().iter().find_map(unix).unwrap();
    let socket = kademlia_dht::gateway::address::unix_path(&address).unwrap();
    assert!(socket.exists());
    let handle = network.nodes()[0].service().clone();
    drop(network);
    assert!(!socket.exists() && !socket.parent().unwrap().exists());
    assert!(handle.status().stopped);
}
