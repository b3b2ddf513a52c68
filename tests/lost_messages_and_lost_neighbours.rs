//! What is only not heard is not taken for dead: joins, saves and neighbours outlive lost messages and split networks.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support {
    pub(crate) mod script;
    pub(crate) mod world;
}

use std::time::Duration;

use kademlia_dht::core::{Command, Content, Input, Node, OperationError, OperationId, Outcome, Output, Params, Time};
use kademlia_dht::gateway::{Body, Expect, Id, Reply, Request};
use support::script::{Script, found, held, peer, record};
use support::world::{Handle, World};

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

/// Takes the requests that wait, each as the address that it went to and its name.
fn requests(script: &mut Script) -> Vec<(u32, &'static str)> {
    script.sent.drain(..).map(|(to, message)| (to, message.name())).collect()
}

#[test]
fn a_join_asks_again_when_the_answer_to_its_lookup_is_lost() {
    let mut script = Script::new(4, 3);
    script.start(1, Command::Join { address: 5 });
    script.answer(peer(5), Reply::Pong);
    assert_eq!(requests(&mut script), [(5, "FIND_NODE")]);
    script.wait(SECONDS(1)); // It and its repetition were not heard.
    assert!(script.done.is_empty(), "{:?}", script.done);
    script.answer(peer(5), found(vec![peer(6)]));
    script.answer(peer(6), found(vec![]));
    let Ok(Outcome::Joined(joined)) = &script.done[&OperationId(1)] else { panic!("{:?}", script.done) };
    assert_eq!(joined.contacts, 2);
}

#[test]
fn a_join_through_a_node_that_has_died_since_ends_with_an_error() {
    let mut script = Script::new(4, 3);
    script.start(1, Command::Join { address: 5 });
    script.answer(peer(5), Reply::Pong);
    script.wait(SECONDS(31));
    assert!(matches!(script.done[&OperationId(1)], Err(OperationError::NobodyAnswered { .. })), "{:?}", script.done);
    assert_eq!(script.node.tasks(), 0);
}

#[test]
fn at_the_target_the_rest_of_the_k_closest_are_asked_at_once() {
    let mut script = Script::new(8, 2);
    script.meet(peer(90));
    script.start(1, Command::Lookup { target: Id::ZERO });
    script.answer(peer(90), found((10..20).map(peer).collect()));
    assert_eq!(script.asked(), [10, 11], "alpha on the way");
    script.answer(peer(10), found(vec![peer(1)]));
    assert_eq!(script.asked(), [11, 1], "a nearer one was named");
    script.answer(peer(1), found((2..9).map(peer).collect()));
    assert_eq!(script.asked(), [11, 2, 3, 4, 5, 6, 7, 8], "the nearest has answered: all of the window");
    for n in 2..9 {
        script.answer(peer(n), found(vec![]));
    }
    let Ok(Outcome::LookedUp(report)) = &script.done[&OperationId(1)] else { panic!("{:?}", script.done) };
    assert_eq!(report.closest, (1..9).map(peer).collect::<Vec<_>>());
}

#[test]
fn who_looks_for_the_nodes_themselves_asks_each_three_times() {
    let asked = |command| {
        let mut script = Script::new(4, 3);
        script.meet(peer(5));
        script.start(1, command);
        script.wait(SECONDS(2));
        assert!(script.done.contains_key(&OperationId(1)));
        requests(&mut script).into_iter().filter(|(_, name)| name.starts_with("FIND")).count()
    };
    assert_eq!(asked(Command::Lookup { target: Id::ZERO }), 3);
    assert_eq!(asked(Command::Query { key: Id::ZERO }), 2);
}

#[test]
fn a_query_that_finds_records_does_not_ask_all() {
    let mut script = Script::with(Params { k: 8, alpha: 2, read_quorum: 3, ..World::sha1_params() });
    (1..9).for_each(|n| script.meet(peer(n)));
    script.start(1, Command::Query { key: Id::ZERO });
    script.answer(peer(1), support::script::with(record(5, "value", 1000)));
    assert_eq!(script.asked(), [2, 3]);
}

#[test]
fn who_was_silent_during_a_save_is_handed_the_record_afterwards() {
    let mut script = Script::new(4, 4);
    (1..5).for_each(|n| script.meet(peer(n)));
    let key = Id::ZERO;
    let save =
        Command::Save { key, content: Content::Value("new".into()), expect: Expect::Anything, unix_milliseconds: 1 };
    script.start(1, save);
    for n in 2..5 {
        script.answer(peer(n), held(0));
    }
    script.wait(SECONDS(1)); // The nearest was not heard.
    for n in 2..5 {
        script.answer(peer(n), Reply::Stored);
    }
    let Ok(Outcome::Saved(receipt)) = &script.done[&OperationId(1)] else { panic!("{:?}", script.done) };
    assert_eq!(receipt.accepted.len(), 3);
    let version = receipt.version;
    script.answer(peer(1), held(0)); // For a token.
    let message = script.request_to(peer(1)).unwrap();
    let Body::Request(Request::Store { record, .. }) = message.body else { panic!("{message}") };
    assert_eq!((record.version, &record.value[..]), (version, &b"new"[..]));
}

#[test]
fn a_neighbour_that_fell_silent_is_asked_again_and_comes_back() {
    let mut script = Script::new(4, 3);
    script.meet(peer(5));
    let (refresh, lifetime) = (script.node.params().refresh_interval, script.node.params().record_lifetime);
    script.wait(refresh); // Nobody answers for an hour.
    assert_eq!(script.node.contact_count(), 0);
    requests(&mut script);
    script.wait(refresh);
    assert!(requests(&mut script).contains(&(5, "PING")));
    while script.sent.is_empty() {
        script.wait(SECONDS(1));
    }
    script.answer(peer(5), Reply::Pong);
    assert_eq!(script.node.contact_count(), 1);
    // Not for ever.
    script.wait(refresh + lifetime);
    requests(&mut script);
    script.wait(lifetime);
    assert_eq!(requests(&mut script), []);
    assert_eq!(script.node.next_wake(), None);
}

#[test]
fn a_node_that_has_lost_everybody_asks_its_lost_neighbours_when_it_is_used() {
    let mut script = Script::new(4, 3);
    script.meet(peer(5));
    script.wait(SECONDS(3600));
    requests(&mut script);
    assert_eq!(script.node.contact_count(), 0);
    script.start(1, Command::Query { key: Id::ZERO });
    script.answer(peer(5), support::script::with(record(5, "value", 1000)));
    let Ok(Outcome::Queried(report)) = &script.done[&OperationId(1)] else { panic!("{:?}", script.done) };
    assert_eq!(report.found.as_ref().unwrap().record.value, "value");
}

#[test]
fn a_record_that_is_restored_is_served_with_what_is_left_of_its_life() {
    let mut script = Script::new(4, 3);
    let key = Id::from_prefix(&[7]);
    script.input(Input::Restore { key, record: record(3, "value", 100) });
    script.wait(SECONDS(40));
    let records: Vec<_> = script.node.records(script.now).collect();
    assert_eq!(records, [(key, record(3, "value", 60))]);
    script.wait(SECONDS(61));
    assert_eq!(script.node.records(script.now).count(), 0);
    script.input(Input::Restore { key, record: record(3, "value", 0) });
    assert_eq!(script.node.record_count(), 0, "its life is over");
}

#[test]
fn a_restored_store_is_bounded_only_as_a_whole() {
    let limits = kademlia_dht::core::Limits { records: 30, records_per_source: 10, ..Default::default() };
    let mut script = Script::with(Params { limits, ..World::sha1_params() });
    for n in 1..=40 {
        script.input(Input::Restore { key: Id::from_prefix(&[n]), record: record(1, "value", 100) });
    }
    assert_eq!(script.node.record_count(), 30);
    let outside = Id::new([7; 32]);
    let mut script = Script::new(4, 3);
    script.input(Input::Restore { key: outside, record: record(1, "value", 100) });
    assert_eq!(script.node.record_count(), 0, "no key of this key space");
}

#[test]
fn a_deleted_record_is_taken_from_who_was_not_heard_as_well() {
    let mut script = Script::new(2, 2);
    (1..3).for_each(|n| script.meet(peer(n)));
    let key = Id::ZERO;
    script.start(1, Command::Save { key, content: Content::Delete, expect: Expect::Anything, unix_milliseconds: 1 });
    script.answer(peer(2), held(5));
    script.wait(SECONDS(1)); // The nearest was not heard.
    script.answer(peer(2), Reply::Stored);
    assert!(script.done[&OperationId(1)].is_ok());
    script.answer(peer(1), held(5)); // For a token.
    let Body::Request(Request::Store { record, .. }) = script.request_to(peer(1)).unwrap().body else { panic!() };
    assert!(record.is_tombstone());
}

#[test]
fn many_silent_nodes_do_not_hold_up_what_only_this_node_can_do() {
    let lifetime = SECONDS(60);
    let mut script = Script::with(Params { k: 20, record_lifetime: lifetime, ..World::sha1_params() });
    (1..60).for_each(|n| script.meet(peer(n)));
    script.input(Input::Restore { key: Id::from_prefix(&[9]), record: record(1, "value", 20) });
    for operation in 1..30 {
        let save = Command::Save {
            key: Id::ZERO,
            content: Content::Value("new".into()),
            expect: Expect::Anything,
            unix_milliseconds: 1,
        };
        script.start(operation, save);
        script.wait(SECONDS(1));
    }
    script.wait(SECONDS(2));
    assert_eq!(script.node.record(&Id::from_prefix(&[9])), None, "it expired in time");
}

#[test]
fn time_may_start_anywhere() {
    let unix = Time::from_micros(1_700_000_000_000_000);
    let wakes = |start: Time| {
        let params = Params { k: 20, ..World::sha1_params() };
        let mut node: Node<Handle> = Node::new(Id::from_prefix(&[0xff; 20]), params, [1; 16], start);
        let (mut out, mut wakes) = (Vec::new(), Vec::new());
        for n in 1..=100_u8 {
            let at = start + Duration::from_millis(n.into());
            node.handle(
                at,
                Input::Start { operation: OperationId(n.into()), command: Command::Ping { address: n.into() } },
                &mut out,
            );
            let Some(Output::Send { message, .. }) = out.pop() else { panic!() };
            let pong = support::script::message(message.tag, peer(n), Body::Reply(Reply::Pong));
            node.handle(
                at,
                Input::Message { from: n.into(), path: Default::default(), proved: false, message: pong },
                &mut out,
            );
            out.clear();
        }
        while let Some(wake) = node.next_wake().filter(|wake| wake.since(start) < SECONDS(7200)) {
            node.handle(wake, Input::Tick, &mut out);
            wakes.push(wake.since(start));
        }
        wakes
    };
    assert_eq!(wakes(Time::ZERO), wakes(unix));
    assert!(wakes(unix).len() < 5000, "{}", wakes(unix).len());
}

#[test]
fn a_holder_that_others_have_outrun_offers_its_record_to_the_nearest() {
    let mut script = Script::new(3, 3);
    let key = Id::ZERO;
    script.meet(peer(200));
    let copy = record(5, "value", 80_000);
    assert_eq!(script.store(peer(200), key, copy, Expect::Anything), Body::Reply(Reply::Stored));
    (1..5).for_each(|n| script.meet(peer(n))); // Closer to the key than this node, each of them.
    requests(&mut script);
    let replicate = script.node.params().replicate_interval;
    let mut offered = false;
    for _ in 0..replicate.as_secs() + 10 {
        script.wait(SECONDS(1));
        for (to, message) in std::mem::take(&mut script.sent) {
            let who = peer(u8::try_from(to).unwrap());
            let reply = match &message.body {
                Body::Request(Request::Ping) => Reply::Pong,
                Body::Request(Request::Store { record, .. }) => {
                    assert_eq!((to, record.version.0), (1, 5));
                    offered = true;
                    Reply::Stored
                }
                _ => found(vec![]),
            };
            script.receive(who, message.tag, Body::Reply(reply));
        }
    }
    assert!(offered);
}
