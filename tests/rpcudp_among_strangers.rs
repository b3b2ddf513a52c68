//! Over `rpcudp` our nodes find each other, answer a node that is not ours as its own kind would, and bear whatever
//! strangers throw at them: it changes nothing, and brings nobody more than three times what they sent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "it is a test")]
#![allow(
    clippy::redundant_closure_for_method_calls,
    reason = "a method by its name reads answers of one lifetime alone"
)]

mod support {
    pub(crate) mod changed_datagrams;
}

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use kademlia_dht::gateway::rpcudp::Value;
use kademlia_dht::gateway::rpcudp::codec::{self, Body, Call, Datagram, Found, Reply, WireId};
use kademlia_dht::gateway::{RpcUdpGateway, address};
use kademlia_dht::{Config, DHTService, Id, Multiaddr, network_named};
use support::changed_datagrams::{bombard, recorded};

const DEADLINE: Duration = Duration::from_secs(20);

fn start(config: Config) -> (DHTService, Multiaddr) {
    start_at("/ip4/127.0.0.1/udp/0", config)
}

fn start_at(address: &str, config: Config) -> (DHTService, Multiaddr) {
    let network = config.network;
    let service = DHTService::start(config).unwrap();
    let gateway = RpcUdpGateway::bind(address.parse().unwrap()).unwrap().with_network(network);
    let address = gateway.address().clone();
    service.register_gateway(gateway).unwrap();
    (service, address)
}

fn wire_id(id: Id) -> WireId {
    id.as_bytes()[..20].try_into().unwrap()
}

/// A node that is not ours.
struct Fake {
    socket: UdpSocket,
    to: SocketAddr,
    id: WireId,
    asked: u32,
}

impl Fake {
    fn new(to: &Multiaddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Fake { socket, to: address::socket_addr(to).unwrap().0, id: [3; 20], asked: 0 }
    }

    /// Asks, and reads the answer. Answers pings meanwhile, as any node does.
    fn ask<T>(&mut self, call: &Call, read: impl FnOnce(codec::Answer<'_>) -> T) -> T {
        self.asked += 1;
        let own = std::array::from_fn(|n| self.asked.to_be_bytes()[n % 4]);
        self.socket.send_to(&codec::encode_request(&own, call), self.to).unwrap();
        let mut buffer = [0; codec::MAX_DATAGRAM_BYTES];
        loop {
            let (size, from) = self.socket.recv_from(&mut buffer).expect("an answer in time");
            match codec::decode(&buffer[..size]).unwrap() {
                Datagram { id, body: Body::Reply(answer) } if id == own => return read(answer),
                Datagram { id, body: Body::Request(Call::Ping { .. }) } => {
                    self.socket.send_to(&codec::encode_reply(&id, &Reply::Pong(self.id)), from).unwrap();
                }
                _ => {}
            }
        }
    }
}

#[test]
fn our_nodes_find_each_other() {
    ["/ip4/127.0.0.1/udp/0", "/ip6/::1/udp/0"].into_iter().for_each(find_each_other);
}

/// Two nodes and a client, in a network of their own.
fn find_each_other(at: &str) {
    let network = network_named("rpcudp");
    let (one, address) = start_at(at, Config { network, ..Config::default() });
    let (two, _) = start_at(at, Config { network, ..Config::default() });
    let (client, _) = start_at(at, Config { network, client: true, ..Config::default() });
    two.connect(address.clone()).wait().unwrap();
    client.connect(address).wait().unwrap();
    for value in [Value::from(5), Value::from("text"), Value::from([1; 8000].as_slice())] {
        let receipt = one.save("key", value.to_bytes()).wait().unwrap();
        assert!(receipt.refused.is_empty(), "{receipt:?}");
        for service in [&one, &two, &client] {
            let found = service.query("key").wait().unwrap().unwrap();
            assert_eq!(Value::from_bytes(&found.value).unwrap(), value);
        }
    }
    let again = two.save("key", Value::from(6).to_bytes()).wait().unwrap();
    assert_eq!(Value::from_bytes(&one.query("key").wait().unwrap().unwrap().value).unwrap(), Value::from(6));
    assert!(again.refused.is_empty(), "{again:?}");
}

#[test]
fn another_node_is_answered_as_by_its_own_kind() {
    let (service, to) = start(Config::default());
    let mut fake = Fake::new(&to);
    let (node, own) = (fake.id, fake.socket.local_addr().unwrap());
    let seen = fake.ask(&Call::Stun, |answer| format!("{answer:?}"));
    let expected = codec::encode_reply(&[0; 20], &Reply::Address(own));
    assert_eq!(seen, format!("Answer({:?})", &expected[codec::HEADER_BYTES..]));
    assert_eq!(fake.ask(&Call::Ping { node }, |answer| answer.pong()), Ok(wire_id(service.id())));

    let key = wire_id(service.key_id("key"));
    for value in [
        Value::from(4242),
        Value::from(2.5),
        Value::from(true),
        Value::from("my awesome value"),
        Value::from(b"\x00\xff"),
        Value::from([7; 8000].as_slice()),
    ] {
        let store = Call::Store { node, key, value: Some(value.clone()) };
        assert_eq!(fake.ask(&store, |answer| answer.stored()), Ok(true), "{value}");
        let found = fake.ask(&Call::FindValue { node, key }, |answer| answer.found());
        assert_eq!(found, Ok(Found::Value(Some(value.clone()))));
        assert_eq!(service.query("key").wait().unwrap().unwrap().value, value.to_bytes());
    }
    let nothing = Call::Store { node, key, value: None };
    assert_eq!(fake.ask(&nothing, |answer| answer.stored()), Ok(false));

    let (other, other_address) = start(Config::default());
    other.connect(to).wait().unwrap();
    let socket = address::socket_addr(&other_address).unwrap().0;
    let named = fake.ask(&Call::FindNode { node, key }, |answer| answer.contacts()).unwrap();
    assert_eq!(named, [codec::WireContact { id: wire_id(other.id()), socket }]);
    let named = fake.ask(&Call::FindValue { node, key: [1; 20] }, |answer| answer.found()).unwrap();
    assert_eq!(named, Found::Contacts(vec![codec::WireContact { id: wire_id(other.id()), socket }]));
}

#[test]
fn no_datagram_breaks_a_node_or_is_multiplied() {
    let (service, to) = start(Config::default());
    let (other, _) = start(Config::default());
    other.connect(to.clone()).wait().unwrap();
    service.save("held", [7; 600]).wait().unwrap();
    let before = service.status();

    let mut fence = Fake::new(&to);
    let (node, held) = ([8; 20], wire_id(service.key_id("held")));
    let mut good = recorded(include_str!("data/rpcudp/datagrams.txt"));
    good.push(codec::encode_request(&node, &Call::FindNode { node, key: held }));
    good.push(codec::encode_request(&node, &Call::FindValue { node, key: held }));
    good.push(codec::encode_request(&node, &Call::Store { node, key: held, value: Some(Value::from(5)) }));
    bombard(fence.to, &good, || fence.ask(&Call::Stun, |_| ()));

    let after = service.status();
    assert_eq!(after.failure, None);
    assert_eq!((after.known_peers, after.records), (before.known_peers, before.records));
    let counts = after.gateways[0].link;
    assert!(counts.malformed > 1000 && counts.unasked > 1000 && counts.unserved > 100, "{counts:?}");
    assert_eq!(service.query("held").wait().unwrap().unwrap().value, [7; 600]);
}
