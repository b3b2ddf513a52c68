//! Nodes of libtorrent, of the crate `mainline` and ours are one network.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use kademlia_dht::gateway::address::socket_addr;
use kademlia_dht::gateway::mainline::MainlineGateway;
use kademlia_dht::signing::signed::{Salt, SigningKey, sign};
use kademlia_dht::{Config, DHTService, Error, Id, Pending};
use mainline::{Dht, MutableItem};
use serde_json::{Value as Json, json};

use super::python::{Python, address, hex};

const PACKAGES: [&str; 1] = ["libtorrent==2.1.1"];
const DEADLINE: Duration = Duration::from_secs(60);

fn done<T>(pending: Pending<T>) -> Result<T, Error> {
    pending.wait_timeout(DEADLINE).unwrap_or_else(|_| panic!("nothing within {DEADLINE:?}"))
}

/// Nodes of libtorrent, of the crate `mainline`, and ours.
struct Network {
    torrents: Python,
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
    fn new(of_each: usize) -> Self {
        let mut torrents = Python::start("torrents.py", &PACKAGES);
        let mut torrent_ports: Vec<u16> = Vec::new();
        for n in 0..of_each {
            torrent_ports.push(torrents.call("start", n, json!({}))["port"].as_u64().unwrap() as u16);
        }
        let mut ours: Vec<DHTService> = Vec::new();
        for n in 0..of_each {
            let gateway = MainlineGateway::bind("/ip4/127.0.0.1/udp/0".parse().unwrap()).unwrap();
            let service = DHTService::start(Config::mainline(gateway.handle())).unwrap();
            service.register_gateway(gateway).unwrap();
            ours.push(service);
            // Through theirs, and theirs through ours.
            done(ours[n].connect(address(torrent_ports[0]))).unwrap();
            torrents.call("bootstrap", n, json!({ "ports": [port_of(&ours[n]), port_of(&ours[0])] }));
        }
        let crates = (0..of_each)
            .map(|n| {
                let known = [port_of(&ours[n]), torrent_ports[n]].map(|port| format!("127.0.0.1:{port}"));
                let mut builder = Dht::builder();
                builder.bind_address(Ipv4Addr::LOCALHOST).port(0).bootstrap(&known).server_mode().build().unwrap()
            })
            .collect();
        let mut network = Network { torrents, crates, ours };
        network.wait_until_all_are_known();
        network
    }

    fn wait_until_all_are_known(&mut self) {
        let until = Instant::now() + DEADLINE;
        let least = self.ours.len();
        for n in 0..self.ours.len() {
            while self.torrents.call("table", n, json!({})).as_array().unwrap().len() < least {
                assert!(Instant::now() < until, "node {n} of libtorrent knows too few");
                done(self.ours[n].lookup(self.ours[n].key_id([n as u8]))).unwrap();
            }
        }
        assert!(self.crates.iter().all(Dht::bootstrapped));
    }
}

#[test]
fn what_is_put_on_one_side_is_got_on_the_other() {
    let mut network = Network::new(10);
    // Immutable, each way.
    for n in 0..4 {
        let value = format!("immutable of ours {n}");
        let key = done(network.ours[n].put_immutable(&value)).unwrap().key;
        let target = hex(&key.as_bytes()[..20]);
        let got = network.torrents.call("get_immutable", (n + 3) % 10, json!({ "target": target }));
        assert_eq!(got, json!(hex(value.as_bytes())), "{value}");
        let got = network.crates[n + 2].get_immutable(their_id(&key));
        assert_eq!(got.as_deref(), Some(value.as_bytes()), "{value}");
        let value = format!("immutable of the crate {n}");
        let key = our_id(network.crates[n].put_immutable(value.as_bytes()).unwrap());
        assert_eq!(done(network.ours[n + 4].get_immutable(key)).unwrap().as_deref(), Some(value.as_bytes()));
        let got = network.torrents.call("get_immutable", n + 5, json!({ "target": hex(&key.as_bytes()[..20]) }));
        assert_eq!(got, json!(hex(value.as_bytes())), "{value}");
        let value = format!("immutable of libtorrent {n}");
        let put = network.torrents.call("put_immutable", n, json!({ "value": hex(value.as_bytes()) }));
        assert!(put["success"].as_u64().unwrap() >= 5, "{put}");
        let key: Id = put["target"].as_str().unwrap().parse().unwrap();
        let got = done(network.ours[(n + 5) % 10].get_immutable(key)).unwrap();
        assert_eq!(got.as_deref(), Some(value.as_bytes()));
        assert_eq!(network.crates[n].get_immutable(their_id(&key)).as_deref(), Some(value.as_bytes()));
    }
    // Mutable, with and without salt, by turns.
    for (n, salt) in [&b""[..], b"a salt"].into_iter().enumerate() {
        let seed = [n as u8 + 1; 32];
        let (key, salt) = (SigningKey::from_bytes(&seed), Salt::new(salt.to_vec()).unwrap());
        let public = hex(&key.public_key().0);
        let with = |more: Json| {
            let mut arguments = json!({ "public": public, "salt": hex(salt.as_bytes()) });
            arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            arguments
        };
        done(network.ours[n].put_signed(&key, &salt, "first", None)).unwrap();
        let got = network.torrents.call("get_mutable", 7, with(json!({})));
        assert_eq!((&got["item"], &got["seq"]), (&json!(hex(b"first")), &json!(1)), "{got}");
        let put = with(json!({ "seed": hex(&seed), "value": hex(b"second") }));
        let put = network.torrents.call("put_mutable", 2, put);
        assert!(put["success"].as_u64().unwrap() >= 5, "{put}");
        let found = done(network.ours[8].get_signed(&key.public_key(), &salt)).unwrap().unwrap();
        assert_eq!((&found.value[..], found.sequence), (&b"second"[..], 2));
        done(network.ours[3].put_signed(&key, &salt, "third", Some(2))).unwrap();
        let got = network.torrents.call("get_mutable", 9, with(json!({})));
        assert_eq!((&got["item"], &got["seq"]), (&json!(hex(b"third")), &json!(3)), "{got}");
        let their_salt = Some(salt.as_bytes()).filter(|salt| !salt.is_empty());
        let got = network.crates[1].get_mutable_most_recent(&key.public_key().0, their_salt).unwrap();
        assert_eq!((got.value(), got.seq()), (&b"third"[..], 3));
        let signature = sign(&key, &salt, 4, b"6:fourth").0;
        let item = MutableItem::new_signed_unchecked(key.public_key().0, signature, b"fourth", 4, their_salt);
        network.crates[5].put_mutable(item, Some(3)).unwrap();
        let found = done(network.ours[6].get_signed(&key.public_key(), &salt)).unwrap().unwrap();
        assert_eq!((&found.value[..], found.sequence), (&b"fourth"[..], 4));
        let got = network.torrents.call("get_mutable", 0, with(json!({})));
        assert_eq!((&got["item"], &got["seq"]), (&json!(hex(b"fourth")), &json!(4)), "{got}");
    }
}

#[test]
fn peers_announced_on_one_side_are_found_on_the_other() {
    let mut network = Network::new(10);
    let info_hash = network.ours[0].key_id("a torrent");
    let text = hex(&info_hash.as_bytes()[..20]);
    done(network.ours[4].announce(info_hash, Some(4444))).unwrap();
    let found = network.torrents.call("get_peers", 6, json!({ "info_hash": text }));
    assert_eq!(found, json!([["127.0.0.1", 4444]]));
    let of_crate: Vec<SocketAddrV4> = network.crates[3].get_peers(their_id(&info_hash)).flatten().collect();
    assert!(of_crate.contains(&SocketAddrV4::new(Ipv4Addr::LOCALHOST, 4444)), "{of_crate:?}");
    network.crates[7].announce_peer(their_id(&info_hash), Some(6666)).unwrap();
    let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, 6666));
    assert!(network.ours[9].peers(info_hash).any(|peer| peer == wanted));
    let found = network.torrents.call("get_peers", 8, json!({ "info_hash": text }));
    assert!(found.as_array().unwrap().iter().any(|peer| *peer == json!(["127.0.0.1", 6666])), "{found}");
    network.torrents.call("announce", 5, json!({ "info_hash": text, "port": 5555 }));
    // It says nothing of when it has done that.
    let (until, wanted) = (Instant::now() + DEADLINE, SocketAddr::from(([127, 0, 0, 1], 5555)));
    while !network.ours[2].peers(info_hash).any(|peer| peer == wanted) {
        assert!(Instant::now() < until, "what libtorrent has announced is not found");
    }
    // One of ours that holds some tells of it.
    let samples: Vec<Json> = (0..10)
        .map(|n| {
            let port = port_of(&network.ours[n]);
            network.torrents.call("sample", 1, json!({ "port": port, "target": text }))
        })
        .collect();
    assert!(samples.iter().any(|sample| sample["samples"].as_array().unwrap().contains(&json!(text))), "{samples:?}");
}

#[test]
fn libtorrent_keeps_ours_in_its_table() {
    let mut network = Network::new(10);
    let mut all = BTreeSet::new();
    let ours: BTreeSet<u64> = network.ours.iter().map(|service| port_of(service).into()).collect();
    for n in 0..10 {
        let table = network.torrents.call("table", n, json!({}));
        let known: BTreeSet<u64> = table.as_array().unwrap().iter().map(|port| port.as_u64().unwrap()).collect();
        assert!(!known.is_disjoint(&ours), "node {n} knows {known:?}, ours are {ours:?}");
        all.extend(known);
    }
    assert!(ours.is_subset(&all), "ours are {ours:?}, known are {all:?}");
}
