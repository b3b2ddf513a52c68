//! What a look inside a node tells is what is there and what was done; and to look changes nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support {
    pub(crate) mod look;
    pub(crate) mod script;
    pub(crate) mod world;
}

use std::net::UdpSocket;
use std::time::Duration;

use kademlia_dht::core::{Command, Input, OperationError, OperationId, Outcome, Params};
use kademlia_dht::gateway::{Id, Multiaddr, Reply, UdpGateway};
use kademlia_dht::{Config, DHTService, Error, Limits, Pending, Rejection, TracedAnswer, Version};
use support::look::{check_dump, check_trace};
use support::script::{Script, found, held, peer, record, with};
use support::world::{Handle, World, save};

const LONG: Duration = Duration::from_secs(30);

fn done<T>(pending: Pending<T>) -> Result<T, Error> {
    pending.wait_timeout(LONG).unwrap_or_else(|_| panic!("nothing within {LONG:?}"))
}

fn node(config: Config) -> DHTService {
    let service = DHTService::start(config).unwrap();
    service.register_gateway(UdpGateway::bind("/ip4/127.0.0.1/udp/0".parse().unwrap()).unwrap()).unwrap();
    service
}

/// Nodes on UDP that have joined through the first one.
fn network(config: &Config, count: usize) -> Vec<DHTService> {
    let nodes: Vec<DHTService> = (0..count).map(|_| node(config.clone())).collect();
    let first = nodes[0].listen_addresses().remove(0);
    for other in &nodes[1..] {
        done(other.connect(first.clone())).unwrap();
    }
    nodes
}

/// An address at which nobody ever answers, as long as the socket is there.
fn silence() -> (UdpSocket, Multiaddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = format!("/ip4/127.0.0.1/udp/{}", socket.local_addr().unwrap().port());
    (socket, address.parse().unwrap())
}

#[test]
fn a_trace_shows_the_way_to_a_value_over_real_sockets() {
    let nodes = network(&Config { k: 6, alpha: 2, ..Config::default() }, 40);
    let receipt = done(nodes[7].save("key", "value")).unwrap();
    let (key, mut farthest) = (nodes[7].key_id("key"), 0);
    let holds = |node: &&DHTService| receipt.accepted.iter().any(|holder| holder.id() == node.id());
    for reader in nodes[8..].iter().filter(|node| !holds(node)).take(10) {
        let known = done(reader.closest(key)).unwrap();
        assert!(known.is_sorted_by_key(|neighbour| neighbour.distance) && known.len() <= 6);
        let trace = done(reader.trace_id(key)).unwrap();
        check_trace(&trace);
        assert_eq!(trace.target, key);
        // It begins with the nearest of the own contacts, and goes on to nearer ones.
        assert_eq!((trace.requests[0].peer.id(), trace.requests[0].hop), (known[0].contact.id(), 1));
        assert_eq!(trace.result.unwrap().found.unwrap().record.value, "value");
        let values = trace.requests.iter().filter(|request| {
            matches!(request.answer, TracedAnswer::Value { version, records: 1, .. } if version == receipt.version)
        });
        farthest = values.map(|request| request.hop).max().unwrap().max(farthest);
    }
    assert!(farthest > 1, "tables of buckets of six do not hold forty nodes");
}

#[test]
fn a_trace_names_those_who_did_not_answer_though_the_query_fails() {
    let config =
        Config { request_timeout: Duration::from_secs(1), lookup_timeout: Duration::from_secs(3), ..Config::default() };
    let nodes = network(&config, 3);
    let asker = &nodes[2];
    nodes[..2].iter().for_each(DHTService::stop);
    let trace = done(asker.trace("key")).unwrap();
    check_trace(&trace);
    assert!(!trace.requests.is_empty() && trace.effort.answered == 0);
    assert!(matches!(trace.result, Err(Error::NobodyAnswered { .. })), "{:?}", trace.result);
    let failed =
        |answer: &TracedAnswer| matches!(answer, TracedAnswer::Failed(Rejection::Silent | Rejection::Unsent(_)));
    assert!(trace.requests.iter().all(|request| failed(&request.answer) && request.round_trip.is_none()));
    let mut asked = trace.requests.iter().map(|request| request.peer.id());
    assert!(asked.clone().all(|id| id == nodes[0].id() || id == nodes[1].id()));
    assert!(asked.any(|id| id == nodes[0].id()), "by which it joined");
}

#[test]
fn a_dump_shows_all_that_a_node_knows_and_does() {
    let nodes = network(&Config::default(), 12);
    let node = &nodes[0];
    let events = node.events();
    while node.status().known_peers < 11 {
        events.recv_timeout(LONG).unwrap();
    }
    let receipt = done(node.save("key", "value")).unwrap();
    let deleted = done(node.delete("gone")).unwrap();
    let (_socket, silent) = silence();
    let ping = node.ping(silent.clone());
    let dump = done(node.dump()).unwrap();
    let neighbours = done(node.neighbours()).unwrap();
    assert_eq!((dump.id, neighbours.len()), (node.id(), 11));
    let contacts: Vec<_> =
        dump.buckets.iter().flat_map(|bucket| &bucket.contacts).map(|one| one.contact.clone()).collect();
    check_dump(&dump, contacts.iter());
    assert!(neighbours.is_sorted_by_key(|neighbour| neighbour.distance));
    for neighbour in &neighbours {
        assert!(nodes.iter().any(|node| {
            node.id() == neighbour.contact.id() && node.listen_addresses().contains(neighbour.contact.address())
        }));
        assert!(neighbour.missed == 0 && neighbour.last_seen <= LONG && neighbour.age <= LONG);
        assert!(neighbour.round_trip <= LONG && !neighbour.round_trip.is_zero());
    }
    let mut held: Vec<_> = dump.records.iter().map(|held| (held.key, held.kind, held.version, held.bytes)).collect();
    held.sort_by_key(|(_, kind, ..)| *kind);
    let expected = [(receipt.key, "plain", receipt.version, 5), (deleted.key, "tombstone", deleted.version, 0)];
    assert_eq!(held, expected);
    let published: Vec<Id> = dump.published.iter().map(|published| published.key).collect();
    assert_eq!((published, dump.records_left_out, dump.published_left_out), (vec![receipt.key], 0, 0));
    let request = dump.requests.iter().find(|request| request.to == silent).expect("the ping waits for its answer");
    assert_eq!((request.name, request.purpose, request.peer, request.is_late), ("PING", "question", None, false));
    assert!(dump.operations.iter().any(|operation| operation.name == "ping" && !operation.is_maintenance));
    ping.cancel();
}

#[test]
fn a_node_that_is_busy_can_still_be_looked_at() {
    let limits = Limits { operations: 1, ..Limits::default() };
    let config =
        Config { request_timeout: Duration::from_secs(60), lookup_timeout: LONG * 60, limits, ..Config::default() };
    let node = node(config);
    let (_socket, silent) = silence();
    let _busy = node.ping(silent);
    assert!(matches!(done(node.query("key")), Err(Error::Busy)));
    assert!(matches!(done(node.trace("key")), Err(Error::Busy)), "a trace is a query");
    let dump = done(node.dump()).unwrap();
    assert_eq!((dump.requests.len(), dump.operations.len()), (1, 1));
    assert!(done(node.neighbours()).unwrap().is_empty() && done(node.closest(node.id())).unwrap().is_empty());
    node.stop();
    assert!(matches!(done(node.dump()), Err(Error::Stopped)));
    assert!(matches!(done(node.trace("key")), Err(Error::Stopped)));
}

#[test]
fn a_traced_query_sends_what_any_other_sends_and_finds_the_same() {
    for loss in [0, 100] {
        let outcomes = [true, false].map(|is_traced| {
            let mut world = World::joined(Params { k: 4, ..World::sha1_params() }, 60, 11);
            let keys: Vec<Id> = (0..20).map(|_| world.random_id()).collect();
            for key in keys.iter().step_by(2) {
                world.save(3, *key, "value");
            }
            world.loss = loss;
            let ends: Vec<_> = keys
                .into_iter()
                .map(|key| {
                    let end = if is_traced {
                        match world.run(17, Command::Trace { key }) {
                            Ok(Outcome::Traced(trace)) => {
                                check_trace(&trace);
                                trace.result
                            }
                            other => panic!("{other:?}"),
                        }
                    } else {
                        world.run(17, Command::Query { key }).map(|outcome| match outcome {
                            Outcome::Queried(report) => report,
                            other => panic!("{other:?}"),
                        })
                    };
                    if is_traced {
                        let contacts: Vec<Handle> = world.nodes[&17].contacts().copied().collect();
                        match world.run(17, Command::Dump) {
                            Ok(Outcome::Dumped(dump)) => check_dump(&dump, contacts.iter()),
                            other => panic!("{other:?}"),
                        }
                    }
                    end
                })
                .collect();
            (ends, world.sent, world.now)
        });
        assert!(outcomes[0] == outcomes[1], "with {loss} in a thousand lost");
    }
}

#[test]
fn a_trace_tells_message_by_message_who_said_what() {
    let mut script = Script::new(3, 2);
    script.meet(peer(8));
    script.meet(peer(9));
    let key = Id::ZERO;
    script.start(1, Command::Trace { key });
    assert_eq!(script.asked(), [8, 9]);
    script.now = script.now + Duration::from_millis(30);
    script.answer(peer(8), found(vec![peer(1), peer(2)]));
    assert_eq!(script.asked(), [9, 1]);
    script.now = script.now + Duration::from_millis(20);
    script.answer(peer(1), with(record(7, "value", 1000)));
    assert_eq!(script.asked(), [9, 2]);
    script.wait(Duration::from_secs(4));
    let Ok(Outcome::Traced(trace)) = &script.done[&OperationId(1)] else { panic!("{:?}", script.done) };
    check_trace(trace);
    let milliseconds = |duration: Duration| duration.as_millis();
    let told: Vec<_> = trace
        .requests
        .iter()
        .take(3)
        .map(|request| {
            let times = (milliseconds(request.started), request.round_trip.map(milliseconds));
            (request.peer.address, request.hop, request.told_by, times, request.answer.clone())
        })
        .collect();
    let silent = TracedAnswer::Failed(Rejection::Silent);
    let value = TracedAnswer::Value { version: Version(7), records: 1, contacts: 0 };
    let expected = [
        (8, 1, None, (0, Some(30)), TracedAnswer::Contacts { count: 2 }),
        (9, 1, None, (0, None), silent),
        (1, 2, Some(peer(8).id), (30, Some(20)), value),
    ];
    assert_eq!(told, expected);
    assert_eq!(trace.result.as_ref().unwrap().found.as_ref().unwrap().holders, [peer(1)]);
    // A trace that is given up is no trace.
    script.start(2, Command::Trace { key });
    script.input(Input::Cancel { operation: OperationId(2) });
    assert_eq!(script.done[&OperationId(2)], Err(OperationError::Cancelled));
}

#[test]
fn contacts_tell_how_old_they_are_and_how_long_they_took() {
    let mut script = Script::new(3, 2);
    script.start(1001, Command::Ping { address: 8 });
    script.now = script.now + Duration::from_millis(45);
    script.answer(peer(8), Reply::Pong);
    script.wait(Duration::from_secs(60));
    script.start(1002, Command::Ping { address: 8 });
    script.now = script.now + Duration::from_millis(3);
    script.answer(peer(8), Reply::Pong);
    script.meet(peer(0xf0));
    script.wait(Duration::from_secs(10));
    script.start(1, Command::Neighbours);
    let Ok(Outcome::Neighbours(neighbours)) = &script.done[&OperationId(1)] else { panic!() };
    assert_eq!(neighbours.iter().map(|one| one.contact).collect::<Vec<_>>(), [peer(0xf0), peer(8)]);
    let known = &neighbours[1];
    let within = |duration: Duration, seconds: u64| duration.abs_diff(Duration::from_secs(seconds)).as_millis() <= 300;
    assert_eq!((known.bucket, known.round_trip), (0, Duration::from_millis(3)));
    assert!(within(known.age, 70) && within(known.last_seen, 10), "{known:?}");
    script.start(2, Command::Closest { target: peer(9).id });
    let Ok(Outcome::Neighbours(closest)) = &script.done[&OperationId(2)] else { panic!() };
    assert_eq!((closest[0].contact, closest[0].distance), (peer(8), peer(8).id.distance(&peer(9).id)));
}

#[test]
fn who_is_asked_for_what_its_answer_had_no_room_for_is_asked_once() {
    let mut script = Script::new(3, 2);
    script.meet(peer(1));
    script.start(1, Command::Trace { key: Id::ZERO });
    script.now = script.now + Duration::from_millis(30);
    // Before this node has shown that it is where it seems to be, only the version comes.
    script.answer(peer(1), held(7));
    script.now = script.now + Duration::from_millis(20);
    script.answer(peer(1), with(record(7, "value", 1000)));
    let Ok(Outcome::Traced(trace)) = &script.done[&OperationId(1)] else { panic!("{:?}", script.done) };
    check_trace(trace);
    let times = |milliseconds: u64| Duration::from_millis(milliseconds);
    let [request] = &trace.requests[..] else { panic!("{:?}", trace.requests) };
    assert_eq!((request.started, request.ended, request.round_trip), (times(0), times(50), Some(times(20))));
    assert!(matches!(request.answer, TracedAnswer::Value { records: 1, .. }));
}

#[test]
fn a_dump_of_very_many_records_has_the_first_ones_and_says_how_many_more_there_are() {
    let mut script = Script::with(World::sha1_params());
    let id = |n: u32| Id::from_prefix(&n.to_be_bytes());
    for n in 0..10_300 {
        script.input(Input::Restore { key: id(n), record: record(7, "value", 1000) });
    }
    for n in 0..10_020 {
        script.start(n.into(), save(id(20_000 + n), "own", script.now));
    }
    script.start(u64::MAX, Command::Dump);
    let Ok(Outcome::Dumped(dump)) = &script.done[&OperationId(u64::MAX)] else { panic!() };
    assert_eq!((dump.records.len(), dump.records_left_out), (10_000, 10_320));
    assert_eq!((dump.published.len(), dump.published_left_out), (10_000, 20));
    let first = &dump.records[0];
    assert_eq!((first.key, first.kind, first.bytes, first.is_own), (id(0), "plain", 5, true));
    assert!(first.remaining == Duration::from_secs(1000) && !first.replicated_in.is_zero());
    check_dump(dump, [].iter());
}
