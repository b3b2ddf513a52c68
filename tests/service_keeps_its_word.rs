//! What the service promises to who embeds it: nothing blocks, everything ends, and errors say what happened.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support {
    pub(crate) mod one_datagram;
}

use std::sync::Arc;
use std::time::{Duration, Instant};

use kademlia_dht::gateway::{Gateway, MemoryGateway, TcpGateway, UdpGateway, UnixGateway, address};
use kademlia_dht::{
    Config, Contact, DHTService, Error, Event, Id, KeyHasher, KeySpace, Limits, Multiaddr, Pending, Sha256Hasher,
    UnsentReason, core,
};

use support::one_datagram::OneDatagram;

const LONG: Duration = Duration::from_secs(30);

fn done<T>(pending: Pending<T>) -> Result<T, Error> {
    pending.wait_timeout(LONG).unwrap_or_else(|_| panic!("nothing within {LONG:?}"))
}

fn node(config: Config, gateway: impl Gateway) -> (DHTService, Multiaddr) {
    let service = DHTService::start(config).unwrap();
    service.register_gateway(gateway).unwrap();
    let address = service.listen_addresses()[0].clone();
    (service, address)
}

fn memory(config: Config) -> (DHTService, Multiaddr) {
    node(config, MemoryGateway::bind("/memory/0".parse().unwrap()).unwrap())
}

/// Two nodes that know each other: the first takes the second for a contact when it has answered, which may be later
/// than the second has connected.
fn pair(config: &Config) -> (DHTService, Multiaddr, DHTService, Multiaddr) {
    let (a, at_a) = memory(config.clone());
    let (b, at_b) = memory(config.clone());
    let events = a.events();
    assert_eq!(done(b.connect(at_a.clone())).unwrap().contacts, 1);
    let added = |event| matches!(event, Event::Node(core::Event::ContactAdded(_))).then_some(());
    assert_eq!(events.wait_for(LONG, added), Ok(()));
    (a, at_a, b, at_b)
}

/// Fails at once, and keeps a silent node from holding a test up.
fn quick() -> Config {
    Config { request_timeout: Duration::from_secs(2), lookup_timeout: Duration::from_secs(4), ..Config::default() }
}

#[test]
fn a_service_is_cheap_to_share() {
    fn shared<T: Send + Sync + Clone + 'static>() {}
    fn sent<T: Send + 'static>() {}
    shared::<DHTService>();
    sent::<Pending<()>>();
    sent::<Error>();
}

#[test]
fn what_one_saves_the_other_finds_over_every_transport() {
    let sockets = tempfile::tempdir().unwrap();
    let unix = |name: &str| UnixGateway::bind(address::unix_address(sockets.path().join(name)).unwrap()).unwrap();
    let udp = |at: &str| UdpGateway::bind(at.parse().unwrap()).unwrap();
    let tcp = |at: &str| TcpGateway::bind(at.parse().unwrap()).unwrap();
    let start = || Config::default();
    let pairs = [
        (node(start(), udp("/ip4/127.0.0.1/udp/0")), node(start(), udp("/ip4/127.0.0.1/udp/0"))),
        (node(start(), udp("/ip6/::1/udp/0")), node(start(), udp("/ip6/::1/udp/0"))),
        (node(start(), tcp("/ip4/127.0.0.1/tcp/0")), node(start(), tcp("/ip4/127.0.0.1/tcp/0"))),
        (node(start(), tcp("/ip6/::1/tcp/0")), node(start(), tcp("/ip6/::1/tcp/0"))),
        (node(start(), unix("a")), node(start(), unix("b"))),
        (memory(start()), memory(start())),
    ];
    for ((a, at_a), (b, _)) in pairs {
        let joined = done(b.connect(at_a.clone())).unwrap();
        assert_eq!((joined.through, joined.contacts), (a.id(), 1), "{at_a}");
        let receipt = done(b.save(b"key", b"value")).unwrap();
        assert_eq!(receipt.accepted.len(), 1, "{at_a}");
        assert!(receipt.refused.is_empty());
        let found = done(a.query("key")).unwrap().unwrap();
        assert_eq!((&found.value[..], found.version), (&b"value"[..], receipt.version), "{at_a}");
    }
}

#[test]
fn a_node_alone_keeps_its_own_and_says_so() {
    let service = DHTService::start(Config::default()).unwrap();
    let receipt = done(service.save("key", String::from("value"))).unwrap();
    assert!(receipt.accepted.is_empty() && receipt.kept_here);
    let found = done(service.query(String::from("key"))).unwrap().unwrap();
    assert!(found.held_here && found.holders.is_empty());
    assert_eq!(found.value, b"value");
    done(service.delete("key")).unwrap();
    assert_eq!(done(service.query("key")).unwrap(), None);
}

#[test]
fn when_all_others_are_dead_a_save_fails_and_a_query_ends() {
    let config = quick();
    let (a, _, b, _) = pair(&config);
    a.stop();
    let error = done(b.save("key", "value")).unwrap_err();
    assert!(matches!(error, Error::NobodyAnswered { .. } | Error::NotStored { .. } | Error::NoPeers), "{error}");
    let start = Instant::now();
    let _ = done(b.query("key"));
    assert!(start.elapsed() < config.lookup_timeout + Duration::from_secs(1));
}

#[test]
fn a_search_in_vain_says_how_many_were_asked() {
    let (_a, _, b, _) = pair(&quick());
    let events = b.events();
    // This is no search in vain.
    let content = done(b.put_immutable("content")).unwrap().key;
    assert!(done(b.get_immutable(content)).unwrap().is_some());
    assert_eq!(done(b.query("nothing")).unwrap(), None);
    let in_vain = events.wait_for(LONG, |event| match event {
        Event::NotFound { key, asked } => Some((key, asked)),
        _ => None,
    });
    assert_eq!(in_vain, Ok((b.key_id("nothing"), 1)));
    let report = done(b.query_report("nothing")).unwrap();
    assert_eq!((report.found, report.effort.asked, report.effort.answered), (None, 1, 1));
}

#[test]
fn the_status_is_as_new_as_what_was_waited_for() {
    let (a, _) = memory(Config::default());
    let at_a = a.listen_addresses()[0].clone();
    for _ in 0..50 {
        let (b, _) = memory(Config::default());
        done(b.connect(at_a.clone())).unwrap();
        assert!(b.status().known_peers >= 1);
        done(b.save("key", "value")).unwrap();
        let status = b.status();
        assert_eq!((status.published, status.operations), (1, 0));
        assert!(status.gateways[0].sent > 0 && status.gateways[0].link.received > 0);
    }
}

#[test]
fn a_lookup_finds_the_others_and_not_itself() {
    let (a, _, b, _) = pair(&Config::default());
    let report = done(a.lookup(a.id())).unwrap();
    assert_eq!(report.closest.iter().map(Contact::id).collect::<Vec<_>>(), [b.id()]);
    assert_eq!(report.effort.answered, 1);
    let (alone, _) = memory(Config::default());
    assert!(done(alone.lookup(b.id())).unwrap().closest.is_empty());
}

#[test]
fn the_plain_calls_speak_to_one_node() {
    let (a, at_a, b, _) = pair(&quick());
    assert_eq!(done(b.ping(at_a.clone())).unwrap().id, a.id());
    let version = done(b.store(at_a.clone(), "key", "value")).unwrap();
    let reply = done(b.find_value(at_a.clone(), "key")).unwrap();
    let record = reply.records.into_iter().next().unwrap();
    assert_eq!((&record.value[..], record.version), (&b"value"[..], version));
    assert!(done(a.find_node(b.listen_addresses()[0].clone(), Id::ZERO)).unwrap().is_empty());
    assert!(a.status().records == 1 && b.status().records == 0);
}

#[test]
fn the_status_tells_what_was_not_sent_and_why() {
    let (node, own) = memory(quick());
    assert_eq!(done(node.ping("/ip4/127.0.0.1/udp/1".parse().unwrap())), Err(Error::Unsent(UnsentReason::NotDialable)));
    assert_eq!(done(node.ping("/memory/65000".parse().unwrap())), Err(Error::Unsent(UnsentReason::Unreachable)));
    let far = address::through(&own, &"/memory/65000".parse().unwrap());
    done(node.ping(far)).unwrap_err();
    let status = node.status();
    assert_eq!((status.unroutable, status.gateways[0].refused.unreachable), (1, 1));
    assert_eq!(status.gateways[0].refused.total(), 1);
    // Once for each time that it was tried.
    assert!(status.gateways[0].dropped["relaying is off"] > 0);
}

#[test]
fn compare_and_swap() {
    let (a, _, b, _) = pair(&quick());
    let first = done(b.save_if("key", None, "1")).unwrap().version;
    assert!(matches!(done(a.save_if("key", None, "2")), Err(Error::Conflict { held: Some(held) }) if held == first));
    let second = done(a.save_if("key", Some(first), "2")).unwrap().version;
    assert!(second > first);
    assert!(matches!(done(b.save_if("key", Some(first), "3")), Err(Error::Conflict { .. })));
    assert_eq!(done(b.query("key")).unwrap().unwrap().value, b"2");
}

#[test]
fn what_cannot_be_done_fails_at_once_and_says_why() {
    let (service, _) = memory(Config { limits: Limits { value_bytes: 4, ..Limits::default() }, ..quick() });
    let mut pending = service.save("key", "12345");
    assert_eq!(pending.try_take(), Some(Err(Error::TooLarge { size: 5, limit: 4 })));
    assert_eq!(
        done(service.store("/memory/1".parse().unwrap(), "key", "12345")).unwrap_err().to_string(),
        "the value has 5 bytes; the most is 4"
    );
    let nobody = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
    assert_eq!(done(service.ping(nobody)), Err(Error::Unsent(UnsentReason::NotDialable)));
    assert_eq!(done(service.ping("/memory/9999999".parse().unwrap())), Err(Error::Unsent(UnsentReason::Unreachable)));
}

fn one_datagram() -> OneDatagram {
    OneDatagram::bind()
}

fn udp() -> UdpGateway {
    UdpGateway::bind("/ip4/127.0.0.1/udp/0".parse().unwrap()).unwrap()
}

fn tcp() -> TcpGateway {
    TcpGateway::bind("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap()
}

#[test]
fn what_is_too_large_for_a_way_is_named_so() {
    let (both, at_datagram) = node(quick(), one_datagram());
    both.register_gateway(tcp()).unwrap();
    let (by_tcp, _) = node(quick(), tcp());
    let (by_datagram, _) = node(quick(), one_datagram());
    done(by_tcp.connect(both.listen_addresses()[1].clone())).unwrap();

    // A stream takes the largest value there is.
    let value = vec![7; 64 << 10];
    assert_eq!(done(by_tcp.save("large", &value)).unwrap().accepted.len(), 1);
    assert_eq!(done(both.query("large")).unwrap().unwrap().value, value);
    // A datagram does not, in neither direction, and relays pass the reason on.
    let error =
        done(by_datagram.connect(at_datagram.clone()).wait().map(|_| by_datagram.query("large")).unwrap()).unwrap_err();
    assert!(matches!(error, Error::Unreadable { .. }), "{error}");
    let error = done(by_datagram.store(at_datagram, "larger", &value)).unwrap_err();
    assert!(matches!(error, Error::Unsent(UnsentReason::TooLarge { limit }) if limit < 2000), "{error}");
}

#[test]
fn nodes_on_udp_alone_save_and_find_the_largest_values() {
    let few = Config { k: 3, ..quick() };
    let nodes: Vec<DHTService> = (0..8).map(|_| node(few.clone(), udp()).0).collect();
    for node in &nodes[1..] {
        done(node.connect(nodes[0].listen_addresses()[0].clone())).unwrap();
    }
    let value = |n: usize| (0..[1453, 16 << 10, 64 << 10][n % 3]).map(|at| (at % 251 + n) as u8).collect::<Vec<u8>>();
    for (n, node) in nodes.iter().enumerate() {
        let receipt = done(node.save(format!("key {n}"), value(n))).unwrap();
        assert!(!receipt.accepted.is_empty(), "{receipt:?}");
    }
    for (n, node) in nodes.iter().enumerate() {
        for key in 0..nodes.len() {
            let found = done(node.query(format!("key {key}"))).unwrap();
            assert!(found.unwrap().value == value(key), "node {n} finds another value of {key}");
        }
    }
    let status = nodes.iter().map(DHTService::status);
    assert!(status.map(|status| status.gateways[0].link.unreadable()).sum::<u64>() == 0);
}

#[test]
fn a_node_does_not_join_itself() {
    let (service, address) = memory(quick());
    let error = done(service.connect(address)).unwrap_err();
    assert_eq!(error, Error::Itself);
    assert_eq!(service.status().known_peers, 0);
}

#[test]
fn an_operation_can_be_cancelled() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address: Multiaddr = format!("/ip4/127.0.0.1/udp/{}", silent.local_addr().unwrap().port()).parse().unwrap();
    let config = Config { lookup_timeout: LONG * 2, request_timeout: LONG * 2, ..Config::default() };
    let (service, _) = node(config, UdpGateway::bind("/ip4/127.0.0.1/udp/0".parse().unwrap()).unwrap());
    let pending = service.ping(address.clone());
    pending.wait_timeout(Duration::from_millis(20)).unwrap_err().cancel();
    // The next command comes after the cancellation.
    assert!(done(service.query("key")).unwrap().is_none());
    assert_eq!(service.status().operations, 0);
}

#[test]
fn the_queue_of_commands_is_bounded() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address: Multiaddr = format!("/ip4/127.0.0.1/udp/{}", silent.local_addr().unwrap().port()).parse().unwrap();
    let limits = Limits { operations: 10, ..Limits::default() };
    let config = Config { lookup_timeout: LONG * 2, request_timeout: LONG * 2, limits, ..Config::default() };
    let (service, _) = node(config, UdpGateway::bind("/ip4/127.0.0.1/udp/0".parse().unwrap()).unwrap());
    let mut open: Vec<_> = (0..5000).map(|_| service.ping(address.clone())).collect();
    let refused = open.split_off(10);
    assert!(refused.into_iter().all(|pending| done(pending) == Err(Error::Busy)));
    assert!(open.iter().all(|pending| !pending.is_ready()));
}

#[test]
fn results_can_be_awaited_on_any_executor() {
    let (a, _, b, _) = pair(&quick());
    smol::block_on(async {
        let saves: Vec<_> = (0..100).map(|n| a.save(format!("{n}"), [n])).collect();
        for save in saves {
            save.await.unwrap();
        }
        let queries: Vec<_> = (0..100_u8).map(|n| (n, b.query(format!("{n}")))).collect();
        for (n, query) in queries {
            assert_eq!(query.await.unwrap().unwrap().value, [n]);
        }
    });
}

/// A key space of two bytes.
struct Sum16;

impl KeyHasher for Sum16 {
    fn key_space(&self) -> KeySpace {
        KeySpace::new(2).unwrap()
    }

    fn hash(&self, key: &[u8]) -> Id {
        assert!(!key.is_empty(), "no keys without bytes, please");
        // More bytes than the key space has, which must not matter.
        Id::new([key.iter().fold(0_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(*byte)); 32])
    }
}

#[test]
fn hashers_of_all_sizes() {
    for hasher in [Arc::new(Sha256Hasher) as Arc<dyn KeyHasher>, Arc::new(Sum16)] {
        let space = hasher.key_space();
        let (a, _, b, _) = pair(&Config { hasher, ..quick() });
        assert!(space.contains(&a.id()) && space.contains(&a.key_id("key")));
        done(a.save("key", "value")).unwrap();
        assert_eq!(done(b.query("key")).unwrap().unwrap().value, b"value");
    }
}

#[test]
fn a_panic_of_a_hasher_is_its_callers_alone() {
    let (a, _, _b, _) = pair(&Config { hasher: Arc::new(Sum16), ..quick() });
    let caller = a.clone();
    let caught = std::thread::spawn(move || caller.query("").wait()).join();
    assert!(caught.is_err());
    done(a.save("key", "value")).unwrap();
}

#[test]
fn a_fixed_id_and_wrong_settings() {
    let id = Id::from_prefix(&[7; 20]);
    assert_eq!(DHTService::start(Config { id: Some(id), ..Config::default() }).unwrap().id(), id);
    let error = DHTService::start(Config { alpha: 0, ..Config::default() }).unwrap_err();
    assert_eq!(error.to_string(), "Config::alpha must be 1 to 64, but is 0");
}

#[test]
fn networks_do_not_mix() {
    let (_a, at_a) = memory(quick());
    let (b, _) = memory(Config { network: kademlia_dht::network_named("another"), ..quick() });
    assert!(matches!(done(b.connect(at_a)), Err(Error::TimedOut(_))));
}

#[test]
fn a_client_asks_but_is_nobodys_contact() {
    let (a, at_a) = memory(quick());
    let (client, at_client) = memory(Config { client: true, ..quick() });
    assert_eq!(done(client.connect(at_a)).unwrap().contacts, 1);
    assert_eq!(done(client.save("key", "value")).unwrap().accepted.len(), 1);
    assert_eq!(done(client.query("key")).unwrap().unwrap().value, b"value");
    assert!(done(a.ping(at_client)).is_err());
    assert_eq!(a.status().known_peers, 0);
}

#[test]
fn a_peer_with_two_transports_is_still_there_when_one_gateway_is_gone() {
    let (one, other) = (DHTService::start(quick()).unwrap(), DHTService::start(quick()).unwrap());
    let by_udp = one.register_gateway(udp()).unwrap();
    one.register_gateway(tcp()).unwrap();
    other.register_gateway(udp()).unwrap();
    other.register_gateway(tcp()).unwrap();
    done(one.connect(other.listen_addresses()[0].clone())).unwrap();
    one.remove_gateway(by_udp).unwrap();
    let receipt = done(one.save("key", "value")).unwrap();
    assert_eq!(receipt.accepted[0].id(), other.id());
    assert_eq!(*receipt.accepted[0].address(), other.listen_addresses()[1]);
}

#[test]
fn what_is_too_large_for_the_way_in_use_goes_by_another() {
    let (one, other) = (DHTService::start(quick()).unwrap(), DHTService::start(quick()).unwrap());
    for service in [&one, &other] {
        service.register_gateway(one_datagram()).unwrap();
        service.register_gateway(tcp()).unwrap();
    }
    let (only_datagrams, _) = node(quick(), one_datagram());
    let by_datagram = other.listen_addresses()[0].clone();
    done(one.connect(by_datagram.clone())).unwrap();
    done(only_datagrams.connect(by_datagram)).unwrap();
    let value = vec![7; 60_000];
    let receipt = done(one.save("large", &value)).unwrap();
    assert_eq!(receipt.accepted[0].id(), other.id());
    assert_eq!(done(other.query("large")).unwrap().unwrap().value, value);
}

#[test]
fn storing_at_one_node_twice_in_a_row_stores_twice() {
    let ((one, _), (other, at)) = (memory(quick()), memory(quick()));
    for value in ["z", "a"].repeat(50) {
        let version = done(one.store(at.clone(), "key", value)).unwrap();
        let held = done(one.find_value(at.clone(), "key")).unwrap().records.remove(0);
        assert_eq!((held.version, &held.value[..]), (version, value.as_bytes()));
    }
    drop(other);
}
