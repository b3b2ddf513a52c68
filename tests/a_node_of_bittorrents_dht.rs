//! A network of our own nodes on the wire of BitTorrent's DHT.

#![cfg(feature = "mainline")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kademlia_dht::gateway::address::socket_addr;
use kademlia_dht::gateway::mainline::MainlineGateway;
use kademlia_dht::large::{Place, Source, StreamOptions};
use kademlia_dht::signing::signed::{Salt, SigningKey};
use kademlia_dht::{
    Admission, Config, Contact, DHTService, Error, Id, Multiaddr, OwnedMode, Pending, RegisterCause, UnsentReason,
    Version,
};

const LONG: Duration = Duration::from_secs(60);

fn done<T>(pending: Pending<T>) -> Result<T, Error> {
    pending.wait_timeout(LONG).unwrap_or_else(|_| panic!("nothing within {LONG:?}"))
}

fn node() -> DHTService {
    node_with(|_| {})
}

fn node_with(change: impl FnOnce(&mut Config)) -> DHTService {
    node_at("/ip4/127.0.0.1/udp/0", change)
}

fn node_at(address: &str, change: impl FnOnce(&mut Config)) -> DHTService {
    let gateway = MainlineGateway::bind(address.parse().unwrap()).unwrap();
    let mut config = Config::mainline(gateway.handle());
    change(&mut config);
    let service = DHTService::start(config).unwrap();
    service.register_gateway(gateway).unwrap();
    service
}

/// So many nodes that know each other.
fn network(nodes: usize) -> Vec<DHTService> {
    let all: Vec<DHTService> = (0..nodes).map(|_| node()).collect();
    let first = all[0].listen_addresses()[0].clone();
    for service in &all[1..] {
        done(service.connect(first.clone())).unwrap();
    }
    all
}

#[test]
fn values_are_saved_and_found_in_the_forms_of_that_network() {
    let nodes = network(12);
    let (ours, others) = (&nodes[1], &nodes[9]);

    let key = done(ours.put_immutable("for ever")).unwrap().key;
    assert_eq!(key, ours.key_id("8:for ever"));
    assert_eq!(done(others.get_immutable(key)).unwrap().unwrap(), b"for ever");

    let (owner, salt) = (SigningKey::generate().unwrap(), Salt::new("profile").unwrap());
    for (number, expected) in [(1, None), (2, Some(1)), (3, Some(2))] {
        let receipt = done(ours.put_signed(&owner, &salt, format!("value {number}"), expected)).unwrap();
        assert_eq!(receipt.version, Version(number));
        let found = done(others.get_signed(&owner.public_key(), &salt)).unwrap().unwrap();
        assert_eq!((found.value, found.sequence), (format!("value {number}").into_bytes(), number as i64));
    }
    assert!(matches!(done(others.put_signed(&owner, &salt, "late", Some(1))), Err(Error::Conflict { .. })));

    done(ours.save("greeting", "hello")).unwrap();
    let found = done(others.query("greeting")).unwrap().unwrap();
    assert_eq!(found.value, b"hello");
    done(others.save_if("greeting", Some(found.version), "hello again")).unwrap();
    assert_eq!(done(nodes[5].query("greeting")).unwrap().unwrap().value, b"hello again");
    done(ours.delete("greeting")).unwrap();
    assert_eq!(done(others.query("greeting")).unwrap(), None);
}

#[test]
fn what_that_network_has_no_form_for_is_refused_by_name() {
    let nodes = network(3);
    let inexpressible = |error: Error| match error {
        Error::Unsent(reason) => reason == UnsentReason::Inexpressible,
        Error::NotStored { refused } => refused.iter().all(|(_, why)| why.to_string().contains("no form")),
        _ => false,
    };
    assert!(inexpressible(done(nodes[1].save_if("key", None, "value")).unwrap_err()));
    let owner = kademlia_dht::signing::owned::OwnerKey::generate().unwrap();
    let owned = nodes[1].put_owned(&owner, "key", OwnedMode::Secured, "value", None);
    assert!(inexpressible(done(owned).unwrap_err()));
    let large = done(nodes[1].save("key", vec![0; 1000])).unwrap_err();
    assert_eq!(large, Error::TooLarge { size: 1005, limit: 1000 });

    let native = DHTService::start(Config::default()).unwrap();
    assert!(inexpressible(done(native.announce(Id::ZERO, None)).unwrap_err()));
    let mut peers = native.peers(Id::ZERO);
    assert!(peers.next().is_none() && inexpressible(peers.failure().unwrap().clone()));
}

#[test]
fn peers_are_announced_and_found() {
    let nodes = network(12);
    let info_hash = nodes[0].key_id("a film");
    assert_eq!(nodes[3].peers(info_hash).count(), 0);
    let port = |service: &DHTService| socket_addr(&service.listen_addresses()[0]).unwrap().0.port();
    done(nodes[1].announce(info_hash, Some(1234))).unwrap();
    done(nodes[2].announce(info_hash, None)).unwrap();
    let mut found: Vec<SocketAddr> = nodes[7].peers(info_hash).collect();
    found.sort();
    let mut expected = [1234, port(&nodes[2])].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!(done(nodes[1].withdraw(info_hash)).unwrap(), 1);
}

#[test]
fn peers_announced_at_a_node_are_found_by_itself() {
    let info_hash = Id::from_prefix(&[7; 20]);
    let here = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let nodes = network(2);
    done(nodes[0].announce(info_hash, Some(1234))).unwrap();
    assert_eq!(nodes[1].peers(info_hash).collect::<Vec<_>>(), [here(1234)], "it was announced there");
    assert_eq!(nodes[0].peers(info_hash).collect::<Vec<_>>(), [here(1234)], "it is known to who announced it");
    done(nodes[1].announce(info_hash, Some(5678))).unwrap();
    for node in &nodes {
        let mut found: Vec<SocketAddr> = node.peers(info_hash).collect();
        found.sort();
        assert_eq!(found, [here(1234), here(5678)]);
    }
    // Nobody is asked.
    let alone = node();
    assert_eq!(alone.peers(info_hash).count(), 0);
    done(alone.announce(info_hash, Some(99))).unwrap();
    assert_eq!(alone.peers(info_hash).collect::<Vec<_>>(), [here(99)]);
    // Who comes later is told of it.
    let late = node();
    done(late.connect(alone.listen_addresses()[0].clone())).unwrap();
    assert_eq!(late.peers(info_hash).collect::<Vec<_>>(), [here(99)]);
}

/// Does not admit whoever is at this address.
#[derive(Debug)]
struct AllBut(Multiaddr);

impl Admission<Contact> for AllBut {
    fn admits(&self, contact: &Contact) -> bool {
        *contact.address() != self.0
    }
}

#[test]
fn who_joins_through_a_node_that_may_not_stand_in_its_table_finds_the_others() {
    let nodes = network(10);
    let first = nodes[0].listen_addresses()[0].clone();
    let policy: Arc<dyn Admission<Contact>> = Arc::new(AllBut(first.clone()));
    let new = node_with(|config| config.admission = Some(Arc::clone(&policy)));
    let joined = done(new.connect(first.clone())).unwrap();
    assert!(joined.through == nodes[0].id() && joined.contacts >= 8, "{joined:?}");
    let receipt = done(new.put_immutable("kept by others")).unwrap();
    assert!(receipt.accepted.len() == 8 && receipt.accepted.iter().all(|contact| *contact.address() != first));
    assert_eq!(done(nodes[0].get_immutable(receipt.key)).unwrap().unwrap(), b"kept by others");
}

#[test]
fn an_announcement_that_reaches_nobody_is_taken_back() {
    let info_hash = Id::from_prefix(&[7; 20]);
    let nodes = network(2);
    assert_eq!(done(nodes[0].announce(info_hash, Some(0))).unwrap_err(), Error::NoPort);
    assert_eq!(nodes[0].peers(info_hash).count(), 0);
    // Longer ones are cut to those of this network.
    done(nodes[0].announce(Id::new([7; 32]), Some(80))).unwrap();
    assert_eq!(nodes[1].peers(Id::new([7; 32])).count(), 1);
    done(nodes[0].withdraw(Id::new([7; 32]))).unwrap();
    let other = Id::from_prefix(&[8; 20]);
    nodes[1].stop();
    assert!(done(nodes[0].announce(other, Some(80))).is_err());
    assert_eq!(nodes[0].peers(other).count(), 0);
}

#[test]
fn settings_that_network_has_not_are_refused_by_name() {
    let refused = |change: fn(&mut Config)| {
        let mut config = Config::mainline(Default::default());
        change(&mut config);
        config.check().map_err(|error| error.field)
    };
    assert_eq!(refused(|_| {}), Ok(()));
    assert_eq!(refused(|config| config.hasher = Arc::new(kademlia_dht::Sha256Hasher)), Err("hasher"));
    assert_eq!(refused(|config| config.limits.value_bytes = 1001), Err("limits.value_bytes"));
    assert_eq!(refused(|config| config.record_lifetime = Duration::from_secs(7199)), Err("record_lifetime"));
    let (service, gateway) = (node(), MainlineGateway::bind("/ip4/127.0.0.1/udp/0".parse().unwrap()).unwrap());
    let error = service.register_gateway(gateway).unwrap_err();
    assert!(matches!(error.cause(), RegisterCause::OnlyOne(name) if name == "mainline"));
}

#[test]
fn one_node_is_asked_for_what_all_are_asked_for() {
    let nodes = network(3);
    let address = nodes[1].listen_addresses()[0].clone();
    let version = done(nodes[0].store(address.clone(), "greeting", "hello")).unwrap();
    let reply = done(nodes[0].find_value(address, "greeting")).unwrap();
    assert_eq!((reply.records[0].version, &reply.records[0].value[..]), (version, &b"5:hello"[..]));
    assert_eq!(done(nodes[2].query("greeting")).unwrap().unwrap().value, b"hello");
    done(nodes[2].save("greeting", "hello again")).unwrap();
    assert_eq!(done(nodes[0].query("greeting")).unwrap().unwrap().value, b"hello again");
}

#[test]
fn all_of_it_goes_over_ipv6_too() {
    let nodes: Vec<DHTService> = (0..10).map(|_| node_at("/ip6/::1/udp/0", |_| {})).collect();
    for service in &nodes[1..] {
        done(service.connect(nodes[0].listen_addresses()[0].clone())).unwrap();
    }
    let key = done(nodes[1].put_immutable([7; 900])).unwrap().key;
    assert_eq!(done(nodes[8].get_immutable(key)).unwrap().unwrap(), [7; 900]);
    let (owner, salt) = (SigningKey::generate().unwrap(), Salt::default());
    done(nodes[2].put_signed(&owner, &salt, [8; 900], None)).unwrap();
    assert_eq!(done(nodes[7].get_signed(&owner.public_key(), &salt)).unwrap().unwrap().value, [8; 900]);
    done(nodes[3].announce(key, Some(80))).unwrap();
    let found: Vec<SocketAddr> = nodes[6].peers(key).collect();
    assert_eq!(found, ["[::1]:80".parse().unwrap()]);
}

#[test]
fn a_client_reads_and_writes_and_holds_nothing() {
    let nodes = network(10);
    let client = node_with(|config| config.client = true);
    done(client.connect(nodes[0].listen_addresses()[0].clone())).unwrap();
    let key = done(client.put_immutable("of a client")).unwrap().key;
    assert_eq!(done(nodes[4].get_immutable(key)).unwrap().unwrap(), b"of a client");
    assert_eq!(done(client.get_immutable(key)).unwrap().unwrap(), b"of a client");
    done(client.announce(key, Some(80))).unwrap();
    assert_eq!(nodes[5].peers(key).count(), 1);
    assert_eq!(client.status().records, 0);
}

#[test]
fn all_copies_of_a_large_value_are_kept_in_a_small_network() {
    let nodes = network(10);
    let value: Vec<u8> = (0..1_000_000_u32).map(|n| (n.wrapping_mul(n) >> 3) as u8).collect();
    let mut writer = nodes[1].value_writer(Place::Plain(b"film".to_vec()), StreamOptions::default());
    writer.write_all(&value).unwrap();
    writer.finish().unwrap();
    let copies: usize = nodes.iter().map(|service| service.status().records).sum();
    // Chunks of less than 1,000 bytes, each at the eight nodes that are nearest.
    assert!(copies >= 8 * value.len() / 1000, "{copies} copies");
    let limited: u64 = nodes.iter().map(|service| service.status().gateways[0].link.limited).sum();
    assert_eq!(limited, 0);
    let source = Source::Any(b"film".to_vec());
    let mut reader = done(nodes[8].query_stream(source, StreamOptions::default())).unwrap().unwrap();
    let mut read = Vec::new();
    reader.read_to_end(&mut read).unwrap();
    assert!(read == value);
}

#[test]
fn large_values_are_in_small_chunks() {
    let nodes = network(10);
    let value: Vec<u8> = (0..50_000_u32).map(|n| ((n * n) >> 3) as u8).collect();
    let mut writer = nodes[1].value_writer(Place::Plain(b"film".to_vec()), StreamOptions::default());
    writer.write_all(&value).unwrap();
    writer.finish().unwrap();
    let source = Source::Any(b"film".to_vec());
    let mut reader = done(nodes[8].query_stream(source, StreamOptions::default())).unwrap().unwrap();
    let mut read = Vec::new();
    reader.read_to_end(&mut read).unwrap();
    assert!(read == value);
}
