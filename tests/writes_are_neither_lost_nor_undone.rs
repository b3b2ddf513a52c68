//! Compare-and-swap, republishing and the lifetimes of copies, in the corners: lost answers, even splits, short copies,
//! newer values that cannot be read, outages.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support {
    pub(crate) mod script;
    pub(crate) mod world;
}

use std::time::Duration;

use kademlia_dht::core::{Command, Content, Event, Input, OperationError, OperationId, Outcome, Params};
use kademlia_dht::gateway::{Body, Expect, Id, Refusal, Reply, Request, Token, Version};
use support::script::{Script, found, held, peer, record, with};
use support::world::{World, delete};

const HOUR: Duration = Duration::from_secs(3600);
const KEY: Id = Id::ZERO;

fn swap(key: Id, expect: Expect, value: impl Into<Vec<u8>>) -> Command<support::world::Handle> {
    Command::Save { key, content: Content::Value(value.into().into()), expect, unix_milliseconds: 1_700_000_000_000 }
}

#[test]
fn a_swap_that_is_repeated_because_its_answer_was_lost_meets_no_conflict() {
    let mut script = Script::new(4, 3);
    script.meet(peer(1));
    for _ in 0..2 {
        let answer = script.store(peer(1), KEY, record(5, "v", 1000), Expect::Absent);
        assert_eq!(answer, Body::Reply(Reply::Stored));
    }
    for seed in 0..30 {
        let mut world = World::joined(Params { k: 4, ..World::sha1_params() }, 12, seed);
        world.loss = 250;
        let key = world.random_id();
        let swapped = world.run(1, swap(key, Expect::Absent, "x"));
        assert!(!matches!(swapped, Err(OperationError::Conflict { .. })), "seed {seed}: nobody else writes");
    }
}

#[test]
fn half_of_the_holders_are_no_majority() {
    let mut script = Script::new(2, 3);
    script.meet(peer(1));
    script.meet(peer(2));
    script.start(1, swap(KEY, Expect::Version(Version(7)), "x"));
    script.answer(peer(1), held(7));
    script.answer(peer(2), held(7));
    script.answer(peer(1), Reply::Stored);
    script.answer(peer(2), Reply::Refused(Refusal::Conflict { held: Some(Version(8)) }));
    assert_eq!(script.done[&OperationId(1)], Err(OperationError::Conflict { held: Some(Version(8)) }));
}

#[test]
fn of_swaps_at_once_at_most_one_wins_and_two_of_one_value_are_still_two() {
    let mut winners = 0;
    for seed in 0..20 {
        let mut world = World::joined(Params { k: 6, ..World::sha1_params() }, 20, seed);
        let key = world.random_id();
        let version = world.save(0, key, "start");
        let swaps: Vec<_> =
            (1..5).map(|node| world.start(node, swap(key, Expect::Version(version), "the same"))).collect();
        world.run_for(Duration::from_secs(60));
        let won = swaps.iter().filter(|operation| world.outcomes[operation].is_ok()).count();
        assert!(won <= 1, "seed {seed}: {won} won");
        winners += won;
    }
    assert!(winners >= 10, "in {winners} of 20 networks somebody won");
}

#[test]
fn who_lost_a_swap_is_not_read_in_place_of_who_won() {
    let (mut won, mut contended) = (0, 0);
    for seed in 0..40 {
        let mut world = World::joined(Params { k: 6, ..World::sha1_params() }, 20, seed);
        let key = world.random_id();
        let version = world.save(0, key, "start");
        let value = |node: u32| format!("of node {node}").into_bytes();
        let swaps: Vec<_> =
            (1..4).map(|node| (node, world.start(node, swap(key, Expect::Version(version), value(node))))).collect();
        world.run_for(Duration::from_secs(60));
        let winner = swaps.iter().find_map(|(node, operation)| match &world.outcomes[operation] {
            Ok(Outcome::Saved(receipt)) => Some((*node, receipt.version, receipt.accepted.len())),
            _ => None,
        });
        let Some((node, version, accepted)) = winner else { continue };
        won += 1;
        contended += usize::from(accepted < 6);
        for reader in 5..12 {
            assert_eq!(world.query(reader, key), Some(value(node)), "seed {seed}, at node {reader}");
        }
        assert!(world.holders(&key, version) >= 6, "seed {seed}");
        // It can be gone on from.
        world.run(15, swap(key, Expect::Version(version), "next")).unwrap();
        assert_eq!(world.query(16, key), Some(b"next".to_vec()), "seed {seed}");
    }
    assert!(won >= 20, "in {won} of 40 networks somebody won, {contended} not at once");
}

#[test]
fn a_copy_with_less_life_shortens_no_other() {
    let mut script = Script::new(4, 3);
    script.meet(peer(1));
    for seconds in [86_000, 5] {
        script.store(peer(1), KEY, record(5, "v", seconds), Expect::Anything);
    }
    assert!(script.node.record(&KEY).unwrap().remaining > 80_000);
}

#[test]
fn however_often_it_is_replicated_a_record_lives_as_long_as_its_publisher_said() {
    let params = Params {
        k: 6,
        replicate_interval: Duration::from_secs(1),
        record_lifetime: Duration::from_secs(600),
        republish_interval: Duration::from_secs(550),
        ..World::sha1_params()
    };
    let mut world = World::joined(params, 20, 3);
    let key = world.random_id();
    let version = world.save(1, key, "v");
    for second in 0..1500 {
        world.run_for(Duration::from_secs(1));
        assert!(world.holders(&key, version) > 0, "gone after {second} s, and its publisher lives");
    }
}

#[test]
fn a_reader_repairs_with_the_longest_lifetime_that_it_saw() {
    let mut script = Script::new(3, 3);
    (1..4).for_each(|n| script.meet(peer(n)));
    script.start(1, Command::Query { key: KEY });
    script.answer(peer(1), found(vec![]));
    script.answer(peer(2), with(record(5, "v", 80_000)));
    script.answer(peer(3), with(record(5, "v", 10)));
    let body = script.request_to(peer(1)).unwrap().body;
    let Body::Request(Request::Store { record, .. }) = body else { panic!("{body:?}") };
    assert!(record.remaining > 70_000);
}

#[test]
fn no_older_value_is_given_in_place_of_one_that_is_too_large_for_the_way() {
    let mut script = Script::new(2, 3);
    script.meet(peer(1));
    script.meet(peer(2));
    script.start(1, Command::Query { key: KEY });
    script.answer(peer(1), held(9));
    script.answer(peer(2), with(record(1, "old", 1000)));
    let proved = script.request_to(peer(1)).unwrap();
    let proof = Some(Token(1));
    assert_eq!(
        proved.body,
        Body::Request(Request::FindValue { key: KEY, after: None, proof }),
        "it was not proved that we are here"
    );
    script.receive(peer(1), proved.tag, Body::Reply(held(9)));
    assert_eq!(script.done[&OperationId(1)], Err(OperationError::Unreadable { held: Version(9) }));
    // Nor is it taken for absent.
    script.start(2, swap(KEY, Expect::Absent, "x"));
    for n in [1, 2, 1, 2] {
        script.answer(peer(n), held(9)); // The second time as it was asked with the token of the first.
    }
    assert_eq!(script.done[&OperationId(2)], Err(OperationError::Conflict { held: Some(Version(9)) }));
}

/// Plays three peers: `mute` says nothing about the key, and `newer` holds something newer. Counts the stores.
fn play(script: &mut Script, mute: bool, newer: Option<u32>) -> usize {
    let mut stores = 0;
    while let Some((to, message)) = script.sent.pop() {
        let Body::Request(request) = &message.body else { continue };
        let about_key = !matches!(request, Request::FindNode { target } if *target != KEY) && *request != Request::Ping;
        if mute && about_key {
            continue;
        }
        let has_newer = newer == Some(to);
        stores += usize::from(matches!(request, Request::Store { .. }));
        let reply = match request {
            Request::Ping => Reply::Pong,
            Request::FindNode { .. } if about_key && has_newer => held(u64::MAX),
            Request::Store { .. } if has_newer => Reply::Refused(Refusal::Older { held: Version(u64::MAX) }),
            Request::Store { .. } => Reply::Stored,
            _ => found(vec![]),
        };
        script.receive(peer(to as u8), message.tag, Body::Reply(reply));
    }
    stores
}

/// A publisher that has just asked who is closest to its key, to publish again.
fn republishing() -> Script {
    let mut script = Script::new(3, 3);
    (1..4).for_each(|n| script.meet(peer(n)));
    script.start(1, swap(KEY, Expect::Anything, "old"));
    play(&mut script, false, None);
    loop {
        script.now = script.now.max(script.node.next_wake().unwrap());
        script.input(Input::Tick);
        let asks = |body: &Body<_>| matches!(body, Body::Request(Request::FindNode { target }) if *target == KEY);
        if script.sent.iter().any(|(_, message)| asks(&message.body)) {
            return script;
        }
        play(&mut script, false, None);
    }
}

#[test]
fn a_publisher_that_sees_a_newer_value_spreads_its_own_no_more() {
    let mut script = republishing();
    assert_eq!(play(&mut script, false, Some(3)), 0, "stores of a value that is known to be overwritten");
    assert!(script.events.iter().any(|event| matches!(event, Event::Superseded { .. })));
}

#[test]
fn a_republish_that_met_an_outage_is_tried_again_soon() {
    let mut script = republishing();
    let begun = script.now;
    let mut stores = 0;
    while script.now.since(begun) < HOUR / 2 {
        let out = script.now.since(begun) < Duration::from_secs(60);
        stores += play(&mut script, out, None);
        script.now = script.now.max(script.node.next_wake().unwrap());
        script.input(Input::Tick);
    }
    assert!(stores > 0);
}

#[test]
fn saving_again_is_not_being_superseded() {
    let mut script = Script::new(4, 3);
    script.start(1, swap(KEY, Expect::Anything, "a"));
    script.start(2, swap(KEY, Expect::Anything, "b"));
    assert!(!script.events.iter().any(|event| matches!(event, Event::Superseded { .. })));
    assert_eq!(script.node.published_count(), 1);
}

#[test]
fn a_query_whose_time_is_over_gives_what_it_found() {
    let mut script = Script::with(Params { k: 2, lookup_timeout: Duration::from_secs(2), ..World::sha1_params() });
    script.meet(peer(100));
    script.meet(peer(101));
    script.now = script.now + Duration::from_secs(1);
    script.start(1, Command::Query { key: KEY });
    let Reply::Found(mut reply) = with(record(1, "v", 1000)) else { panic!() };
    reply.contacts = (10..18).map(peer).collect();
    script.answer(peer(100), Reply::Found(reply));
    script.answer(peer(101), with(record(1, "v", 1000)));
    script.wait(Duration::from_secs(3));
    assert!(script.done[&OperationId(1)].is_ok());
}

#[test]
fn what_was_deleted_stays_deleted_beyond_the_life_of_its_tombstone() {
    for seed in 0..4 {
        let mut world = World::joined(Params { k: 4, ..World::sha1_params() }, 30, seed);
        let key = world.random_id();
        world.save(1, key, "v");
        world.run_for(HOUR);
        world.run(2, delete(key, world.now)).unwrap();
        for _ in 0..24 {
            world.run_for(HOUR * 3);
            assert_eq!(world.query(20, key), None, "seed {seed}");
        }
    }
}
