//! Mistakes that other Kademlia implementations were found to make, each with the test that shows it absent here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support {
    pub(crate) mod script;
    pub(crate) mod world;
}

use std::net::UdpSocket;
use std::time::Duration;

use kademlia_dht::core::{Command, Event, Node, OperationId, Outcome, Params};
use kademlia_dht::gateway::codec::{decode, encode};
use kademlia_dht::gateway::{
    Body, Envelope, Found, GatewayError, Id, Message, Reply, Request, Tag, TcpGateway, Token, UdpGateway, address,
};
use kademlia_dht::{Config, DHTService};
use support::script::{Script, found, peer, record};
use support::world::{Handle, World};

#[test]
fn an_id_of_a_wrong_length_from_the_wire_is_dropped_and_not_asserted() {
    let service = DHTService::start(Config::default()).unwrap();
    let gateway = UdpGateway::bind("/ip4/127.0.0.1/udp/0".parse().unwrap()).unwrap();
    let (address, _) = address::socket_addr(gateway.address()).unwrap();
    service.register_gateway(gateway).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let ping = |sender: Id| {
        let body = Body::Request(Request::Ping);
        let network = Config::default().network;
        let message = Message { network, tag: Tag(7), sender: Some(sender), also: Vec::new(), body };
        let mut bytes = Vec::new();
        encode(&Envelope::Direct(message), &mut bytes).unwrap();
        bytes
    };
    let good = ping(Id::from_prefix(&[9; 20]));
    // 21 to 32 bytes fit an id but not the key space; the length byte set to 33 and to 255 fits nothing.
    for length in 21..=32 {
        socket.send_to(&ping(Id::from_prefix(&vec![9; length])), address).unwrap();
    }
    let place = good.iter().position(|byte| *byte == 20).unwrap();
    for length in [33, 250, 255] {
        let mut wrong = good.clone();
        wrong[place] = length;
        socket.send_to(&wrong, address).unwrap();
    }
    socket.send_to(&good, address).unwrap();
    let mut buffer = [0; 2000];
    let size = socket.recv(&mut buffer).unwrap();
    let reply = decode(&buffer[..size]).unwrap();
    assert_eq!((reply.message().name(), reply.message().tag), ("PONG", Tag(7)), "only the good one is answered");
}

#[test]
fn a_pong_echoes_the_tag_of_its_ping_so_that_live_contacts_stay() {
    let mut script = Script::new(2, 3);
    script.receive(peer(1), Tag(4242), Body::Request(Request::Ping));
    assert_eq!((script.replies[0].tag, &script.replies[0].body), (Tag(4242), &Body::Reply(Reply::Pong)));
    // And in a network whose buckets are full and checked all the time, nobody who lives is dropped.
    let mut world = World::joined(Params { k: 4, ..World::sha1_params() }, 40, 1);
    world.run_for(Duration::from_secs(4 * 3600));
    let removed = world.events.iter().filter(|(_, event)| matches!(event, Event::ContactRemoved(_))).count();
    assert_eq!(removed, 0);
}

#[test]
fn a_reply_counts_only_from_whom_was_asked() {
    let mut script = Script::new(4, 3);
    script.start(1, Command::FindNode { address: 5, target: Id::ZERO });
    let tag = script.sent[0].1.tag;
    script.receive(peer(6), tag, Body::Reply(found(vec![peer(66)])));
    assert!(script.done.is_empty() && script.node.contact_count() == 0);
    script.receive(peer(5), tag, Body::Reply(found(vec![peer(55)])));
    assert_eq!(script.done[&OperationId(1)], Ok(Outcome::Nodes(vec![peer(55)])));
    script.receive(peer(5), tag, Body::Reply(found(vec![peer(77)])));
    assert_eq!(script.node.contact_count(), 1, "it counts once");
}

#[test]
fn a_lookup_goes_on_when_the_first_reply_brings_no_news_while_others_are_in_flight() {
    let mut script = Script::new(3, 2);
    script.meet(peer(8));
    script.meet(peer(9));
    script.start(1, Command::Query { key: Id::ZERO });
    assert_eq!(script.asked(), [8, 9]);
    script.answer(peer(8), found(vec![]));
    assert!(!script.done.contains_key(&OperationId(1)), "9 can still bring news");
    script.answer(peer(9), found(vec![peer(1)]));
    let reply =
        Found { records: vec![record(1, "value", 1000)], more: false, held: None, contacts: vec![], token: Token(1) };
    script.answer(peer(1), Reply::Found(reply));
    let Ok(Outcome::Queried(report)) = &script.done[&OperationId(1)] else { panic!() };
    assert_eq!(report.found.as_ref().unwrap().record.value, "value");
}

#[test]
fn two_lookups_for_one_key_both_end() {
    let mut script = Script::new(3, 2);
    script.meet(peer(8));
    script.start(1, Command::Query { key: Id::ZERO });
    script.start(2, Command::Query { key: Id::ZERO });
    script.answer(peer(8), found(vec![]));
    script.answer(peer(8), found(vec![]));
    assert!(script.done.contains_key(&OperationId(1)) && script.done.contains_key(&OperationId(2)));
}

#[test]
fn each_of_many_answers_reaches_the_one_who_asked_for_it() {
    let service = DHTService::start(Config::default()).unwrap();
    let keys: Vec<String> = (0..200).map(|n| format!("key {n}")).collect();
    let saves: Vec<_> = keys.iter().map(|key| service.save(key, key.as_bytes())).collect();
    saves.into_iter().for_each(|save| drop(save.wait().unwrap()));
    let queries: Vec<_> = keys.iter().map(|key| service.query(key)).collect();
    for (key, query) in keys.iter().zip(queries).rev() {
        assert_eq!(query.wait().unwrap().unwrap().value, key.as_bytes());
    }
}

#[test]
fn a_change_of_the_table_does_not_refresh_the_buckets() {
    let mut script = Script::new(20, 3);
    for n in 1..60 {
        script.meet(peer(n));
    }
    assert!(script.sent.is_empty(), "{:?}", script.sent);
    // Nor do idle networks chatter: what an hour costs is a few lookups and pings, however full the buckets are.
    let mut world = World::joined(Params { k: 4, ..World::sha1_params() }, 40, 2);
    world.run_for(Duration::from_secs(3600));
    let before: u64 = world.sent.values().sum();
    world.run_for(Duration::from_secs(4 * 3600));
    let an_hour = (world.sent.values().sum::<u64>() - before) / 4 / 40;
    assert!(an_hour < 400, "{an_hour} messages a node an hour");
}

#[test]
fn a_shortlist_whose_first_contacts_are_dead_is_refilled_and_a_save_that_nobody_took_is_no_success() {
    let mut world = World::joined(Params { k: 4, ..World::sha1_params() }, 40, 3);
    let key = world.random_id();
    let known: Vec<u32> = world.nodes[&0].closest(&key, 8).iter().map(|peer| peer.address).collect();
    known.into_iter().for_each(|address| world.kill(address));
    let Outcome::Saved(receipt) =
        world.run(0, support::world::save(key, "value", world.now)).expect("there are others in the table")
    else {
        panic!()
    };
    assert_eq!(receipt.accepted.len(), 4);
    let all: Vec<u32> = world.nodes.keys().copied().filter(|address| *address != 0).collect();
    all.into_iter().for_each(|address| world.kill(address));
    assert!(world.run(0, support::world::save(key, "again", world.now)).is_err());
}

#[test]
fn a_republished_record_stays_under_its_key() {
    let mut world = World::joined(Params { k: 4, ..World::sha1_params() }, 20, 4);
    let key = world.random_id();
    world.save(1, key, "value");
    world.run_for(Duration::from_secs(60 * 3600));
    assert_eq!(world.query(7, key), Some(b"value".to_vec()));
    let stored = |world: &World| -> usize { world.nodes.values().map(Node::record_count).sum() };
    assert!(stored(&world) <= 20, "one record, and no other under the hash of its hash");
    assert_eq!(world.nodes.values().filter(|node| node.record(&key).is_some()).count(), stored(&world));
}

#[test]
fn a_newcomer_is_handed_records_only_after_it_has_answered() {
    let mut script = Script::new(4, 3);
    script.meet(peer(200));
    let token = {
        script.receive(peer(200), Tag(1), Body::Request(Request::FindNode { target: Id::ZERO }));
        match &script.replies[0].body {
            Body::Reply(Reply::Found(found)) => found.token,
            other => panic!("{other:?}"),
        }
    };
    let store = Request::Store {
        key: Id::ZERO,
        record: record(1, "value", 1000),
        token,
        expect: kademlia_dht::gateway::Expect::Anything,
    };
    script.receive(peer(200), Tag(2), Body::Request(store));
    assert_eq!(script.node.record_count(), 1);
    // A spoofed request with an id next to the key: it is asked whether it is there, and given nothing.
    script.receive(peer(1), Tag(3), Body::Request(Request::Ping));
    script.wait(Duration::from_secs(10));
    assert!(script.sent.iter().all(|(to, message)| *to != 1 || message.name() == "PING"), "{:?}", script.sent);
}

#[test]
fn a_cached_copy_lives_the_shorter_the_farther_it_is() {
    let lifetimes: Vec<u32> = [1, 2, 3].into_iter().map(lifetime_behind_holders).collect();
    assert_eq!(lifetimes, [500, 125, 31], "with each place beyond the k closest half of it");
}

/// The lifetime of the copy that a query leaves at the one node without the record, when it knows `pairs` times two
/// contacts nearer to the key (with k = 2), all of which have the record.
fn lifetime_behind_holders(pairs: u8) -> u32 {
    let mut script = Script::new(2, 1);
    let without = peer(64);
    script.meet(without);
    script.start(1, Command::Query { key: Id::ZERO });
    let pair = |n: u8| if n == 0 { vec![] } else { vec![peer(2 * n), peer(2 * n + 1)] };
    script.answer(without, found(pair(pairs)));
    while !script.done.contains_key(&OperationId(1)) {
        let to = peer(script.sent.last().unwrap().0 as u8);
        let contacts = pair((to.address as u8 / 2).saturating_sub(1));
        let reply =
            Found { records: vec![record(1, "value", 1000)], more: false, held: None, contacts, token: Token(1) };
        script.answer(to, Reply::Found(reply));
    }
    match script.request_to(without).map(|message| message.body) {
        Some(Body::Request(Request::Store { record, .. })) => record.remaining,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_bind_that_fails_says_which_address_and_why() {
    let taken = UdpGateway::bind("/ip4/127.0.0.1/udp/0".parse().unwrap()).unwrap();
    let error = UdpGateway::bind(taken.address().clone()).unwrap_err();
    assert!(error.to_string().contains(&taken.address().to_string()), "{error}");
    let GatewayError::Bind { source, .. } = error else { panic!("{error}") };
    assert_eq!(source.kind(), std::io::ErrorKind::AddrInUse);
    assert!(TcpGateway::bind("/memory/1".parse().unwrap()).is_err());
}

#[test]
fn stop_joins_every_thread_and_frees_every_port() {
    let service = DHTService::start(Config::default()).unwrap();
    let gateway = TcpGateway::bind("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    let address = gateway.address().clone();
    service.register_gateway(gateway).unwrap();
    service.stop();
    TcpGateway::bind(address).unwrap();
}

#[test]
fn a_bad_datagram_does_not_end_the_receiver() {
    let (one, other) = (DHTService::start(Config::default()).unwrap(), DHTService::start(Config::default()).unwrap());
    let bind = || UdpGateway::bind("/ip4/127.0.0.1/udp/0".parse().unwrap()).unwrap();
    let (gateway, address) = {
        let gateway = bind();
        let address = gateway.address().clone();
        (gateway, address)
    };
    one.register_gateway(gateway).unwrap();
    other.register_gateway(bind()).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (target, _) = address::socket_addr(&address).unwrap();
    for size in [0, 1, 7, 100, 1400, 9000] {
        socket.send_to(&vec![0xff; size], target).unwrap();
    }
    // Nobody listens here any more: what comes back from the kernel is an error on the socket.
    drop(socket);
    assert_eq!(other.ping(address).wait().unwrap().id, one.id());
}

#[test]
fn the_closest_contacts_are_those_of_the_whole_table_and_not_the_first_that_come() {
    let mut script = Script::new(20, 3);
    for n in (1..=250).rev().filter(|n| n % 5 == 0) {
        script.meet(peer(n));
    }
    let closest: Vec<u32> = script.node.closest(&Id::ZERO, 7).iter().map(|peer| peer.address).collect();
    let mut all: Vec<&Handle> = script.node.contacts().collect();
    all.sort_by_key(|peer| peer.id.distance(&Id::ZERO));
    assert_eq!(closest, all.iter().take(7).map(|peer| peer.address).collect::<Vec<_>>());
}

#[test]
fn storing_a_record_again_does_not_prolong_its_life() {
    let mut world = World::joined(Params { k: 4, ..World::sha1_params() }, 20, 5);
    let key = world.random_id();
    world.save(1, key, "value");
    world.kill(1);
    world.run_for(Duration::from_secs(25 * 3600));
    assert_eq!(world.nodes.values().filter(|node| node.record(&key).is_some()).count(), 0);
}
