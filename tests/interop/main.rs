//! Nodes of the Python package `kademlia` and nodes of ours are one network: what one side stores the other reads, with its
//! type, whoever joined through whom, and though some of them die.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "it is a test")]

mod mainline_dht;
mod python;

use std::time::Duration;

use kademlia_dht::gateway::RpcUdpGateway;
use kademlia_dht::gateway::rpcudp::Value;
use kademlia_dht::{Config, DHTService, Error, Id, Rejection, UnsentReason, core};
use python::{Call, Python, address, from_json, hex, to_json};
use serde_json::json;

const PACKAGES: [&str; 3] = ["kademlia==2.2.3", "rpcudp==5.0.1", "u-msgpack-python==2.8.0"];

const DEADLINE: Duration = Duration::from_secs(60);

/// With so few holders of a value it matters which nodes are found.
const K: usize = 5;

fn service(k: usize, id: Option<Id>) -> (DHTService, u16) {
    let service = DHTService::start(Config { id, k, ..Config::default() }).unwrap();
    let gateway = RpcUdpGateway::bind(address(0)).unwrap();
    let (socket, _) = kademlia_dht::gateway::address::socket_addr(gateway.address()).unwrap();
    service.register_gateway(gateway).unwrap();
    (service, socket.port())
}

/// One of each type, some of them at the edge of what their types have.
fn values() -> Vec<Value> {
    vec![
        Value::from(0),
        Value::from(-4242),
        Value::from(i64::MIN),
        Value::from(u64::MAX),
        Value::from(2.5),
        Value::from(-0.1),
        Value::from(true),
        Value::from(false),
        Value::from(""),
        Value::from("naïve ☃ text"),
        Value::from(b""),
        Value::from(b"\xc1\x00\xff"),
        Value::from([7; 7000].as_slice()),
    ]
}

struct Network {
    python: Python,
    /// The numbers of the nodes that live, and the ids of all there were.
    pythons: Vec<usize>,
    ids: Vec<Id>,
    ours: Vec<DHTService>,
}

impl Network {
    /// So many of each. All but the first two join through a node of the other side.
    fn new(k: usize, of_each: usize) -> Self {
        let mut python = Python::start("nodes.py", &PACKAGES);
        let (first, id) = python.node(0, k, None);
        let (service_0, port) = service(k, None);
        let mut ids = vec![id.parse().unwrap()];
        service_0.connect(address(first)).wait().unwrap();
        let (mut ours, mut our_ports, mut their_ports) = (vec![service_0], vec![port], vec![first]);
        for n in 1..of_each {
            let (port, id) = python.node(n, k, None);
            ids.push(id.parse().unwrap());
            let found = python.call("bootstrap", n, json!({ "ports": [our_ports[n - 1]] }));
            assert_ne!(found, json!(0), "node {n} has joined through one of ours");
            their_ports.push(port);
            let (service, port) = service(k, None);
            service.connect(address(their_ports[n])).wait().unwrap();
            ours.push(service);
            our_ports.push(port);
        }
        Network { python, pythons: (0..of_each).collect(), ids, ours }
    }

    /// A node of Python's, this one if it can be, that keeps what it writes under the key: one that is farther from it than
    /// all others keeps nothing, not even in the place of what others gave it before.
    fn writer(&self, key: &str, node: usize) -> usize {
        let key = self.ours[0].key_id(key);
        let farthest = self.ids.iter().copied().chain(self.ours.iter().map(DHTService::id));
        let farthest = farthest.max_by_key(|id| id.distance(&key)).unwrap();
        if self.ids[node] == farthest { (node + 1) % self.ids.len() } else { node }
    }

    /// Every node reads every value.
    fn read_all(&mut self, expected: &[(String, Value)]) {
        for (key, value) in expected {
            let calls: Vec<(usize, Call)> = self
                .pythons
                .iter()
                .map(|node| (*node, self.python.begin("get_value", *node, json!({ "key": key }))))
                .collect();
            let queries: Vec<_> = self.ours.iter().map(|service| service.query(key)).collect();
            for (n, query) in queries.into_iter().enumerate() {
                let found = query.wait_timeout(DEADLINE).unwrap().unwrap();
                let found = found.unwrap_or_else(|| panic!("our node {n} finds {key}"));
                assert_eq!(Value::from_bytes(&found.value).unwrap(), *value, "{key} at our node {n}");
            }
            for (node, call) in calls {
                let found = from_json(&self.python.end(call));
                assert_eq!(found.as_ref(), Some(value), "{key} at Python's node {node}");
            }
        }
    }
}

#[test]
fn both_sides_read_what_either_wrote_also_when_nodes_die() {
    let mut network = Network::new(K, 8);
    let mut expected = Vec::new();
    for (n, value) in values().into_iter().enumerate() {
        let key = format!("of Python {n}");
        let set = network.python.call("set_value", n % 8, json!({ "key": key, "value": to_json(&value) }));
        assert_eq!(set, json!(true), "{key}");
        expected.push((key, value.clone()));
        let key = format!("of ours {n}");
        let receipt = network.ours[(n + 3) % 8].save(&key, value.to_bytes()).wait().unwrap();
        assert!(receipt.refused.is_empty(), "{key}: {receipt:?}");
        expected.push((key, value));
    }

    network.read_all(&expected);

    for node in [1, 3, 5, 7] {
        network.python.call("kill", node, json!({}));
    }
    network.pythons.retain(|node| node % 2 == 0);
    network.read_all(&expected);
    for service in &network.ours {
        service.stop();
    }
}

/// Where every node holds every value, that is. Else copies of the one before stay at those that were near for one writer
/// and not for the next, as in the package itself.
#[test]
fn the_last_one_who_writes_wins_on_either_side() {
    let mut network = Network::new(20, 4);
    let mut expected = Vec::new();
    for (first, key) in ["overwritten by us", "overwritten by Python"].into_iter().enumerate() {
        let writings: Vec<Value> = (0..4).map(|turn| Value::from(format!("{key}: {turn}").as_str())).collect();
        for (turn, value) in writings.iter().enumerate() {
            if (first + turn) % 2 == 0 {
                let writer = network.writer(key, turn);
                let set = network.python.call("set_value", writer, json!({ "key": key, "value": to_json(value) }));
                assert_eq!(set, json!(true), "{key}");
            } else {
                network.ours[turn].save(key, value.to_bytes()).wait().unwrap();
            }
        }
        expected.push((key.to_owned(), writings[3].clone()));
    }
    network.read_all(&expected);
}

#[test]
fn a_newcomer_is_handed_what_it_should_hold() {
    let mut python = Python::start("nodes.py", &PACKAGES);
    let (service, port) = service(K, None);
    // The package looks for who is near the digest of the digest.
    let key = service.key_id("handed over");
    let near = service.key_id(&key.as_bytes()[..20]);
    let beside = |change: u8| {
        let mut id = *near.as_bytes();
        id[19] ^= change;
        Id::new(id)
    };
    let (first, _) = python.node(0, K, Some(&hex(&beside(1).as_bytes()[..20])));
    for n in 1..4 {
        python.node(n, K, None);
        python.call("bootstrap", n, json!({ "ports": [first] }));
    }
    let value = Value::from("handed over");
    let set = python.call("set_value", 1, json!({ "key": "handed over", "value": to_json(&value) }));
    assert_eq!(set, json!(true));
    let held = python.call("held", 0, json!({ "key": hex(&key.as_bytes()[..20]) }));
    assert_eq!(from_json(&held), Some(value.clone()));
    service.stop();

    let (newcomer, newcomer_port) = self::service(K, Some(beside(2)));
    let events = newcomer.events();
    newcomer.connect(address(first)).wait().unwrap();
    let is_kept = |event| match event {
        kademlia_dht::Event::Node(core::Event::RecordKept { key: kept, .. }) if kept == key => Some(()),
        _ => None,
    };
    events.wait_for(DEADLINE, is_kept).expect("it keeps what it is handed");
    let found = newcomer.query("handed over").wait().unwrap().unwrap();
    assert!(found.held_here);
    assert_eq!(Value::from_bytes(&found.value), Ok(value));
    assert_ne!(port, newcomer_port);
}

#[test]
fn small_things_are_answered_as_the_package_answers_them() {
    let mut python = Python::start("nodes.py", &PACKAGES);
    let (port, id) = python.node(0, K, None);
    let (service, own) = service(K, None);
    assert_eq!(python.call("ping", 0, json!({ "port": own })), json!(hex(&service.id().as_bytes()[..20])));
    assert_eq!(python.call("stun", 0, json!({ "port": own })), json!(["127.0.0.1", port]));
    let pong = service.ping(address(port)).wait().unwrap();
    assert_eq!(hex(&pong.id.as_bytes()[..20]), id);
}

#[test]
fn what_the_wire_has_no_form_for_is_refused_by_name() {
    let mut python = Python::start("nodes.py", &PACKAGES);
    let (port, _) = python.node(0, K, None);
    let (service, _) = service(K, None);
    service.connect(address(port)).wait().unwrap();
    service.save("key", "value").wait().unwrap();
    let reasons = |result: Result<kademlia_dht::Receipt, Error>| -> Vec<Rejection> {
        match result {
            Ok(receipt) => receipt.refused.into_iter().map(|(_, reason)| reason).collect(),
            Err(Error::NotStored { refused }) => refused.into_iter().map(|(_, reason)| reason).collect(),
            Err(error) => panic!("{error:?}"),
        }
    };
    let inexpressible: Vec<_> = vec![Rejection::Unsent(UnsentReason::Inexpressible)];
    assert_eq!(reasons(service.delete("key").wait()), inexpressible);
    assert_eq!(reasons(service.put_immutable("value").wait()), inexpressible);
    let too_large = vec![Rejection::Unsent(UnsentReason::TooLarge { limit: 8192 })];
    assert_eq!(reasons(service.save("large", vec![7; 8150]).wait()), too_large);
    assert_eq!(from_json(&python.call("get_value", 0, json!({ "key": "key" }))), Some(Value::from(b"value")));
}
