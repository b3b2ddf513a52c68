//! Nodes that share no transport are one network all the same.
//!
//! Without care such a network splits silently: the nodes closest to a key differ by who is asking, and what one side
//! saved the other never finds. Here nodes on UDP, on TCP and on Unix sockets, joined by few that have two of them,
//! save and find each other's values, through two relays in a row where it must be.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::net::UdpSocket;
use std::time::Duration;

use kademlia_dht::gateway::{
    Body, Circuit, Envelope, Message, Request, Tag, TcpGateway, Token, UdpGateway, UnixGateway, address, codec,
};
use kademlia_dht::{Config, DHTService, Multiaddr, RelayMode, RelayPolicy};

const LONG: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq)]
enum On {
    Udp,
    Tcp,
    Unix,
}

struct Network {
    sockets: tempfile::TempDir,
    nodes: Vec<(Vec<On>, DHTService)>,
}

impl Network {
    fn new() -> Self {
        Network { sockets: tempfile::tempdir().unwrap(), nodes: Vec::new() }
    }

    fn add(&mut self, on: &[On], config: Config) -> &DHTService {
        let service = DHTService::start(config).unwrap();
        for transport in on {
            match transport {
                On::Udp => {
                    let gateway = UdpGateway::bind("/ip4/127.0.0.1/udp/0".parse().unwrap()).unwrap();
                    service.register_gateway(gateway).unwrap();
                }
                On::Tcp => {
                    let gateway = TcpGateway::bind("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
                    service.register_gateway(gateway).unwrap();
                }
                On::Unix => {
                    let path = self.sockets.path().join(format!("{}.sock", self.nodes.len()));
                    let gateway = UnixGateway::bind(address::unix_address(path).unwrap()).unwrap();
                    service.register_gateway(gateway).unwrap();
                }
            }
        }
        // Through the first node that shares a transport.
        let known = self.nodes.iter().find_map(|(theirs, node)| {
            let index = theirs.iter().position(|transport| on.contains(transport))?;
            node.listen_addresses().get(index).cloned()
        });
        if let Some(address) = known {
            service.connect(address).wait_timeout(LONG).unwrap().unwrap();
        }
        self.nodes.push((on.to_vec(), service));
        &self.nodes.last().unwrap().1
    }

    /// Saves a value from every node and queries each from every other one.
    fn everyone_finds_everything(&self) {
        for (index, (on, node)) in self.nodes.iter().enumerate() {
            let receipt = node.save(format!("key {index}"), format!("value {index}")).wait_timeout(LONG).unwrap();
            assert!(!receipt.unwrap().accepted.is_empty(), "{on:?}");
        }
        for (from, (on, node)) in self.nodes.iter().enumerate() {
            for index in 0..self.nodes.len() {
                let found = node.query(format!("key {index}")).wait_timeout(LONG).unwrap().unwrap();
                let found = found.unwrap_or_else(|| panic!("node {from} on {on:?} does not find key {index}"));
                assert_eq!(found.value, format!("value {index}").as_bytes());
            }
        }
    }
}

fn small() -> Config {
    // Few holders for each key, so that most are on another transport than most askers.
    Config { k: 4, ..Config::default() }
}

#[test]
fn one_relay_joins_two_transports() {
    let mut network = Network::new();
    network.add(&[On::Udp, On::Tcp], small());
    for _ in 0..6 {
        network.add(&[On::Udp], small());
        network.add(&[On::Tcp], small());
    }
    network.everyone_finds_everything();
    assert!(network.nodes[0].1.status().relayed > 0);
}

#[test]
fn no_node_has_both_udp_and_unix() {
    let mut network = Network::new();
    network.add(&[On::Udp, On::Tcp], small());
    network.add(&[On::Tcp, On::Unix], small());
    for _ in 0..4 {
        network.add(&[On::Udp], small());
        network.add(&[On::Tcp], small());
        network.add(&[On::Unix], small());
    }
    network.everyone_finds_everything();
}

#[test]
fn who_must_not_relay_does_not() {
    let mut network = Network::new();
    let relay = RelayPolicy { mode: RelayMode::Off, ..RelayPolicy::default() };
    let joint = network.add(&[On::Udp, On::Tcp], Config { relay, ..small() }).clone();
    let udp = network.add(&[On::Udp], small()).clone();
    let tcp = network.add(&[On::Tcp], small()).clone();
    let far = address::through(&joint.listen_addresses()[0], &tcp.listen_addresses()[0]);
    assert!(udp.ping(far).wait_timeout(LONG).unwrap().is_err());
    assert_eq!(joint.status().relayed, 0);
    // It came to the gateway for UDP.
    assert!(joint.status().gateways[0].dropped["relaying is off"] > 0);
}

#[test]
fn who_shows_that_they_are_there_are_relayed_whatever_strangers_send() {
    let mut network = Network::new();
    let relay = RelayPolicy { rate: 1, burst: 100, ..RelayPolicy::default() };
    let joint = network.add(&[On::Udp, On::Tcp], Config { relay, ..small() }).clone();
    let tcp = network.add(&[On::Tcp], small()).clone();
    let udp = network.add(&[On::Udp], small()).clone();
    let [at, end] = [&joint, &tcp].map(|node| node.listen_addresses()[0].clone());
    let flood = || {
        let body = Body::Request(Request::Ping);
        let message = Message { network: small().network, tag: Tag(1), sender: None, also: Vec::new(), body };
        let circuit = Circuit { to: Some(end.clone()), from: None, proof: Token(1), message };
        let mut bytes = Vec::new();
        codec::encode(&Envelope::Relayed(Box::new(circuit)), &mut bytes).unwrap();
        for _ in 0..20 {
            let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
            stranger.send_to(&bytes, address::socket_addr(&at).unwrap().0).unwrap();
        }
    };
    for _ in 0..20 {
        flood();
        udp.ping(address::through(&at, &end)).wait_timeout(LONG).unwrap().unwrap();
    }
    assert!(joint.status().gateways[0].dropped["relaying is limited"] > 100);
}

#[test]
fn a_circuit_can_be_dialled_by_hand() {
    let mut network = Network::new();
    let joint = network.add(&[On::Udp, On::Tcp], small()).clone();
    let tcp = network.add(&[On::Tcp], small()).clone();
    let lone = network.add(&[On::Udp], small()).clone();
    let far: Multiaddr = address::through(&joint.listen_addresses()[0], &tcp.listen_addresses()[0]);
    let pong = lone.ping(far.clone()).wait_timeout(LONG).unwrap().unwrap();
    assert_eq!(pong.id, tcp.id());
    lone.store(far.clone(), "by hand", "value").wait_timeout(LONG).unwrap().unwrap();
    let reply = lone.find_value(far, "by hand").wait_timeout(LONG).unwrap().unwrap();
    assert_eq!(&reply.records.into_iter().next().unwrap().value[..], b"value");
}
