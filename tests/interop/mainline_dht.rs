//! Nodes of libtorrent, of the crate `mainline` and ours are one network.

#![allow(
    deprecated,
    reason = "the crate would rather have its callers wait without blocking, for which there is no need here"
)]

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use kademlia_dht::gateway::address::socket_addr;
use kademlia_dht::gateway::mainline::MainlineGateway;
use kademlia_dht::signing::signed::{Salt, SigningKey, sign};
use kademlia_dht::{Config, Contact, DHTService, Error, Id, Pending};
use mainline::{Dht, MutableItem};
use serde_json::{Value as Json, json};

use super::python::{LIBTORRENT, Python, address, hex};

const DEADLINE: Duration = Duration::from_secs(60);

fn done<T>(pending: Pending<T>) -> Result<T, Error> {
    pending.wait_timeout(DEADLINE).unwrap_or_else(|_| panic!("nothing within {DEADLINE:?}"))
}

/// Nodes of libtorrent, of the crate `mainline`, and ours.
struct Network {
    torrents: Python,
    torrent_ports: Vec<u16>,
    crates: Vec<Dht>,
    ours: Vec<DHTService>,
}

fn our_id(id: mainline::Id) -> Id {
    Id::from_prefix(id.as_bytes())
}

fn their_id(id: &Id) -> mainline::Id {
    mainline::Id::from_bytes(&id.as_bytes()[..20]).unwrap()
}

fn port_of(service: &DHTService) -> u16 {
    socket_addr(&service.listen_addresses()[0]).unwrap().0.port()
}

impl Network {
    /// So many of ours, of libtorrent and of the crate.
    fn new(ours: usize, of_libtorrent: usize, of_crate: usize) -> Self {
        let mut torrents = Python::start("torrents.py", &[LIBTORRENT]);
        let start = |n| torrents.call("start", n, json!({}))["port"].as_u64().unwrap().try_into().unwrap();
        let torrent_ports: Vec<u16> = (0..of_libtorrent).map(start).collect();
        let ours: Vec<DHTService> = (0..ours)
            .map(|_| {
                let gateway = MainlineGateway::bind("/ip4/127.0.0.1/udp/0".parse().unwrap()).unwrap();
                let service = DHTService::start(Config::mainline(gateway.handle())).unwrap();
                service.register_gateway(gateway).unwrap();
                service
            })
            .collect();
        // Through theirs, and theirs through ours.
        for (n, service) in ours.iter().enumerate().skip(usize::from(of_libtorrent == 0)) {
            let known = torrent_ports.first().copied().unwrap_or_else(|| port_of(&ours[0]));
            done(service.connect(address(known))).unwrap();
            if n < of_libtorrent {
                torrents.call("bootstrap", n, json!({ "ports": [port_of(service), port_of(&ours[0])] }));
            }
        }
        let crates = (0..of_crate)
            .map(|n| {
                let known = [port_of(&ours[n % ours.len()]), port_of(&ours[0])].map(|port| format!("127.0.0.1:{port}"));
                let mut builder = Dht::builder();
                builder.bind_address(Ipv4Addr::LOCALHOST).port(0).bootstrap(&known).server_mode().build().unwrap()
            })
            .collect();
        let mut network = Network { torrents, torrent_ports, crates, ours };
        network.wait_until_all_are_known();
        network
    }

    fn wait_until_all_are_known(&mut self) {
        let until = Instant::now() + DEADLINE;
        for n in 0..self.torrent_ports.len() {
            while self.torrents.call("table", n, json!({})).as_array().unwrap().len() < self.ours.len() {
                assert!(Instant::now() < until, "node {n} of libtorrent knows too few");
                done(self.ours[n].lookup(self.ours[n].key_id([n as u8]))).unwrap();
            }
        }
        assert!(self.crates.iter().all(Dht::bootstrapped));
    }

    /// Waits until one of ours finds a peer at this port: libtorrent says nothing of when it has announced one.
    fn find_peer(&self, ours: usize, info_hash: Id, port: u16) {
        let (until, wanted) = (Instant::now() + DEADLINE, SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        while !self.ours[ours].peers(info_hash).any(|peer| peer == wanted) {
            assert!(Instant::now() < until, "what libtorrent has announced is not found");
        }
    }

    fn get_by_libtorrent(&mut self, node: usize, key: &Id, value: &str) {
        let got = self.torrents.call("get_immutable", node, json!({ "target": hex(&key.as_bytes()[..20]) }));
        assert_eq!(got, json!(hex(value.as_bytes())), "{value}");
    }

    fn get_by_crate(&self, node: usize, key: &Id, value: &str) {
        assert_eq!(self.crates[node].get_immutable(their_id(key)).as_deref(), Some(value.as_bytes()), "{value}");
    }

    fn get_by_ours(&self, node: usize, key: Id, value: &str) {
        assert_eq!(done(self.ours[node].get_immutable(key)).unwrap().as_deref(), Some(value.as_bytes()), "{value}");
    }
}

/// Without salt, and with one.
fn owners() -> [(SigningKey, Salt); 2] {
    [("", 1), ("a salt", 2)].map(|(salt, seed)| (SigningKey::from_bytes(&[seed; 32]), Salt::new(salt).unwrap()))
}

// In a network with nodes of the crate every search of libtorrent takes 15 seconds: the crate answers only who numbers
// its queries in four bytes, and libtorrent does so in two.

#[test]
fn what_libtorrent_puts_ours_get_and_the_other_way_round() {
    let mut network = Network::new(10, 8, 0);
    for n in 0..3 {
        let value = format!("immutable of ours {n}");
        let key = done(network.ours[n].put_immutable(&value)).unwrap().key;
        network.get_by_libtorrent(n + 3, &key, &value);
        let value = format!("immutable of libtorrent {n}");
        let put = network.torrents.call("put_immutable", n, json!({ "value": hex(value.as_bytes()) }));
        assert!(put["success"].as_u64().unwrap() >= 5, "{put}");
        network.get_by_ours(n + 4, put["target"].as_str().unwrap().parse().unwrap(), &value);
    }
    for (n, (key, salt)) in owners().into_iter().enumerate() {
        let with = |more: Json| {
            let mut arguments = json!({ "public": hex(&key.public_key().0), "salt": hex(salt.as_bytes()) });
            arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            arguments
        };
        done(network.ours[n].put_signed(&key, &salt, "first", None)).unwrap();
        let got = network.torrents.call("get_mutable", 4, with(json!({})));
        assert_eq!((&got["item"], &got["seq"]), (&json!(hex(b"first")), &json!(1)), "{got}");
        let put = with(json!({ "seed": hex(&[n as u8 + 1; 32]), "value": hex(b"second") }));
        let put = network.torrents.call("put_mutable", 2, put);
        assert!(put["success"].as_u64().unwrap() >= 5, "{put}");
        let found = done(network.ours[8].get_signed(&key.public_key(), &salt)).unwrap().unwrap();
        assert_eq!((&found.value[..], found.sequence), (&b"second"[..], 2));
        done(network.ours[3].put_signed(&key, &salt, "third", Some(2))).unwrap();
        let got = network.torrents.call("get_mutable", 7, with(json!({})));
        assert_eq!((&got["item"], &got["seq"]), (&json!(hex(b"third")), &json!(3)), "{got}");
    }
}

#[test]
fn what_the_crate_puts_ours_get_and_the_other_way_round() {
    let network = Network::new(10, 0, 8);
    let ours: Vec<u16> = network.ours.iter().map(port_of).collect();
    let port = |contact: &Contact| socket_addr(contact.address()).unwrap().0.port();
    // On a busy machine those who are to save may not have heard of the crate's nodes yet.
    for service in &network.ours[..3] {
        let events = service.events();
        while done(service.neighbours()).unwrap().iter().all(|neighbour| ours.contains(&port(&neighbour.contact))) {
            events.wait_for(DEADLINE, |_| Some(())).unwrap();
        }
    }
    let mut kept_by_crate = 0;
    for n in 0..3 {
        let value = format!("immutable of ours {n}");
        let receipt = done(network.ours[n].put_immutable(&value)).unwrap();
        assert!(receipt.refused.is_empty(), "{receipt:?}");
        kept_by_crate += receipt.accepted.iter().filter(|contact| !ours.contains(&port(contact))).count();
        network.get_by_crate(n + 2, &receipt.key, &value);
        let value = format!("immutable of the crate {n}");
        let key = our_id(network.crates[n].put_immutable(value.as_bytes()).unwrap());
        network.get_by_ours(n + 4, key, &value);
    }
    assert!(kept_by_crate > 0);
    for (n, (key, salt)) in owners().into_iter().enumerate() {
        let their_salt = Some(salt.as_bytes()).filter(|salt| !salt.is_empty());
        done(network.ours[n].put_signed(&key, &salt, "first", None)).unwrap();
        let got = network.crates[1].get_mutable_most_recent(&key.public_key().0, their_salt).unwrap();
        assert_eq!((got.value(), got.seq()), (&b"first"[..], 1));
        let signature = sign(&key, &salt, 2, b"6:second").0;
        let item = MutableItem::new_signed_unchecked(key.public_key().0, signature, b"second", 2, their_salt);
        network.crates[5].put_mutable(item, Some(1)).unwrap();
        let found = done(network.ours[6].get_signed(&key.public_key(), &salt)).unwrap().unwrap();
        assert_eq!((&found.value[..], found.sequence), (&b"second"[..], 2));
    }
}

#[test]
fn clients_of_the_crate_that_answer_nobody_read_and_write_at_ours() {
    let network = Network::new(10, 0, 0);
    let known = network.ours.iter().take(3).map(|service| format!("127.0.0.1:{}", port_of(service)));
    let known: Vec<String> = known.collect();
    let client = || Dht::builder().bind_address(Ipv4Addr::LOCALHOST).port(0).bootstrap(&known).build().unwrap();
    let (writer, reader) = (client(), client());
    // Who writes has a token, which shows that it is there.
    let large = vec![b'x'; 900];
    let key = our_id(writer.put_immutable(&large).unwrap());
    assert_eq!(done(network.ours[7].get_immutable(key)).unwrap().as_deref(), Some(&large[..]));
    let (owner, salt) = owners().into_iter().nth(1).unwrap();
    let public = owner.public_key().0;
    let value = [b"900:", &large[..]].concat();
    let signature = sign(&owner, &salt, 1, &value).0;
    let item = MutableItem::new_signed_unchecked(public, signature, &large, 1, Some(salt.as_bytes()));
    writer.put_mutable(item, None).unwrap();
    assert_eq!(writer.get_mutable_most_recent(&public, Some(salt.as_bytes())).unwrap().value(), large);
    let found = done(network.ours[6].get_signed(&owner.public_key(), &salt)).unwrap().unwrap();
    assert_eq!((found.value, found.sequence), (large, 1));
    // Who has shown nothing reads what is small.
    let key = done(network.ours[2].put_immutable("of ours")).unwrap().key;
    assert_eq!(reader.get_immutable(their_id(&key)).as_deref(), Some(&b"of ours"[..]));
    let info_hash = network.ours[0].key_id("a torrent");
    writer.announce_peer(their_id(&info_hash), Some(6666)).unwrap();
    network.find_peer(5, info_hash, 6666);
    let peers: Vec<SocketAddrV4> = reader.get_peers(their_id(&info_hash)).flatten().collect();
    assert!(peers.contains(&SocketAddrV4::new(Ipv4Addr::LOCALHOST, 6666)), "{peers:?}");
}

#[test]
fn all_three_are_one_network() {
    let mut network = Network::new(10, 10, 10);
    let key = done(network.ours[0].put_immutable("of ours")).unwrap().key;
    network.get_by_libtorrent(5, &key, "of ours");
    network.get_by_crate(5, &key, "of ours");
    let key = our_id(network.crates[0].put_immutable(b"of the crate").unwrap());
    network.get_by_libtorrent(4, &key, "of the crate");
    network.get_by_ours(4, key, "of the crate");
    let put = network.torrents.call("put_immutable", 3, json!({ "value": hex(b"of libtorrent") }));
    let key = put["target"].as_str().unwrap().parse().unwrap();
    network.get_by_ours(8, key, "of libtorrent");
    network.get_by_crate(8, &key, "of libtorrent");

    // Each writes what is signed, and each reads what the one before wrote.
    let (owner, salt) = (SigningKey::from_bytes(&[3; 32]), Salt::new("of all").unwrap());
    let public = owner.public_key().0;
    done(network.ours[7].put_signed(&owner, &salt, "first", None)).unwrap();
    let got = network.crates[7].get_mutable_most_recent(&public, Some(salt.as_bytes())).unwrap();
    assert_eq!((got.value(), got.seq()), (&b"first"[..], 1));
    let signature = sign(&owner, &salt, 2, b"6:second").0;
    let item = MutableItem::new_signed_unchecked(public, signature, b"second", 2, Some(salt.as_bytes()));
    network.crates[6].put_mutable(item, Some(1)).unwrap();
    let named = json!({ "public": hex(&public), "salt": hex(salt.as_bytes()) });
    let got = network.torrents.call("get_mutable", 6, named);
    assert_eq!((&got["item"], &got["seq"]), (&json!(hex(b"second")), &json!(2)), "{got}");
    let seed =
        json!({ "public": hex(&public), "salt": hex(salt.as_bytes()), "seed": hex(&[3; 32]), "value": hex(b"third") });
    network.torrents.call("put_mutable", 7, seed);
    let found = done(network.ours[9].get_signed(&owner.public_key(), &salt)).unwrap().unwrap();
    assert_eq!((&found.value[..], found.sequence), (&b"third"[..], 3));

    let info_hash = network.ours[0].key_id("a torrent");
    let text = hex(&info_hash.as_bytes()[..20]);
    done(network.ours[4].announce(info_hash, Some(4444))).unwrap();
    network.torrents.call("get_peers", 5, json!({ "info_hash": text, "port": 4444 }));
    let of_crate: Vec<SocketAddrV4> = network.crates[3].get_peers(their_id(&info_hash)).flatten().collect();
    assert!(of_crate.contains(&SocketAddrV4::new(Ipv4Addr::LOCALHOST, 4444)), "{of_crate:?}");
    network.crates[2].announce_peer(their_id(&info_hash), Some(6666)).unwrap();
    network.torrents.call("get_peers", 1, json!({ "info_hash": text, "port": 6666 }));
    network.find_peer(5, info_hash, 6666);
    network.torrents.call("announce", 2, json!({ "info_hash": text, "port": 5555 }));
    network.find_peer(6, info_hash, 5555);
    let of_crate: Vec<SocketAddrV4> = network.crates[4].get_peers(their_id(&info_hash)).flatten().collect();
    assert!(of_crate.contains(&SocketAddrV4::new(Ipv4Addr::LOCALHOST, 5555)), "{of_crate:?}");
}

#[test]
fn peers_that_libtorrent_announces_are_found_and_sampled() {
    let mut network = Network::new(10, 8, 0);
    let info_hash = network.ours[0].key_id("a torrent");
    let text = hex(&info_hash.as_bytes()[..20]);
    network.torrents.call("announce", 0, json!({ "info_hash": text, "port": 5555 }));
    network.find_peer(2, info_hash, 5555);
    // One of ours that holds some tells of it.
    let samples: Vec<Json> = (0..network.ours.len())
        .map(|n| {
            let port = port_of(&network.ours[n]);
            network.torrents.call("sample", 1, json!({ "port": port, "target": text }))
        })
        .collect();
    assert!(samples.iter().any(|sample| sample["samples"].as_array().unwrap().contains(&json!(text))), "{samples:?}");
    // What libtorrent announces on its own as it loads a torrent.
    let info_hash = network.ours[0].key_id("another torrent");
    network.torrents.call("add_torrent", 3, json!({ "info_hash": hex(&info_hash.as_bytes()[..20]) }));
    network.find_peer(1, info_hash, network.torrent_ports[3]);
}

#[test]
fn libtorrent_keeps_ours_in_its_table() {
    let mut network = Network::new(10, 8, 0);
    let mut all = BTreeSet::new();
    let ours: BTreeSet<u64> = network.ours.iter().map(|service| port_of(service).into()).collect();
    for n in 0..8 {
        let table = network.torrents.call("table", n, json!({}));
        let known: BTreeSet<u64> = table.as_array().unwrap().iter().map(|port| port.as_u64().unwrap()).collect();
        assert!(!known.is_disjoint(&ours), "node {n} knows {known:?}, ours are {ours:?}");
        all.extend(known);
    }
    assert!(ours.is_subset(&all), "ours are {ours:?}, known are {all:?}");
}
