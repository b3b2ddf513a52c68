//! Records: replication, handover, republishing, expiry, caching, and that nothing old ever comes back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support {
    pub(crate) mod world;
}

use std::time::Duration;

use kademlia_dht::core::{Command, Content, Event, OperationError, Outcome, Params, Rejection};
use kademlia_dht::gateway::{Expect, Id, Refusal, Version};
use support::world::{World, delete, save};

const HOUR: Duration = Duration::from_secs(3600);

fn params() -> Params {
    Params { k: 6, ..World::sha1_params() }
}

#[test]
fn replication_brings_the_copies_back_to_k_after_half_of_the_holders_died() {
    let mut world = World::joined(params(), 60, 1);
    let key = world.random_id();
    let version = world.save(3, key, "value");
    assert!(world.holders(&key, version) >= 6);
    for address in world.nearest(&key, 3) {
        world.kill(address);
    }
    world.run_for(HOUR * 3 / 2);
    let holding = world.nearest(&key, 6).iter().filter(|n| world.nodes[n].record(&key).is_some()).count();
    assert_eq!(holding, 6);
}

#[test]
fn a_newcomer_that_answers_is_given_what_it_is_closest_to_and_one_that_does_not_is_not() {
    let mut world = World::joined(params(), 40, 2);
    let key = world.random_id();
    world.save(3, key, "value");
    // A silent newcomer: it announces itself, but is gone before it can answer.
    let mut silent = *key.as_bytes();
    silent[19] ^= 2;
    world.add_with(100, Id::new(silent), params());
    world.start(100, Command::Join { address: 0 });
    world.kill(100);
    let before = world.sent.get("STORE").copied();
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.sent.get("STORE").copied(), before, "nobody stores at whoever has not answered");
    let mut near = *key.as_bytes();
    near[19] ^= 1;
    world.add_with(101, Id::new(near), params());
    world.run(101, Command::Join { address: 0 }).unwrap();
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.nodes[&101].record(&key).unwrap().value, "value");
}

#[test]
fn a_record_expires_everywhere_when_its_publisher_is_gone_and_lives_while_it_is_there() {
    let mut world = World::joined(params(), 30, 3);
    let (dying, living) = (world.random_id(), world.random_id());
    world.save(3, dying, "dying");
    world.save(4, living, "living");
    world.kill(3);
    world.run_for(HOUR * 30);
    assert_eq!(world.query(7, dying), None);
    assert_eq!(world.nodes.values().filter(|node| node.record(&dying).is_some()).count(), 0);
    assert_eq!(world.query(7, living), Some(b"living".to_vec()));
    assert!(world.events.iter().any(|(_, event)| *event == Event::RecordExpired { key: dying }));
}

#[test]
fn an_overwritten_value_stays_overwritten_though_old_publishers_republish_and_old_holders_return() {
    let mut world = World::joined(params(), 40, 4);
    let key = world.random_id();
    for (writer, value) in [(1, "1"), (2, "2"), (3, "3"), (4, "4"), (5, "5")] {
        world.save(writer, key, value);
        // A third of the network starts again, empty and with other ids.
        for address in (10..40).skip(writer as usize).step_by(9) {
            world.kill(address);
            world.add(address);
            world.start(address, Command::Join { address: 0 });
        }
        world.run_for(HOUR);
    }
    world.run_for(HOUR * 26);
    for reader in 0..40 {
        assert_eq!(world.query(reader, key).as_deref(), Some(&b"5"[..]), "at {reader}");
    }
    let superseded = world.events.iter().filter(|(_, event)| matches!(event, Event::Superseded { .. })).count();
    assert!(superseded >= 4, "each old publisher learned that it was replaced");
}

#[test]
fn a_deleted_value_stays_deleted_though_its_publisher_republishes() {
    let mut world = World::joined(params(), 30, 5);
    let key = world.random_id();
    world.save(1, key, "value");
    world.run(2, delete(key, world.now)).unwrap();
    for _ in 0..5 {
        world.run_for(HOUR * 5);
        for reader in [0, 1, 9, 20] {
            assert_eq!(world.query(reader, key), None);
        }
    }
}

#[test]
fn a_writer_whose_clock_is_slow_still_writes_the_newest_version() {
    let mut world = World::joined(params(), 30, 6);
    let key = world.random_id();
    world.save(1, key, "first");
    let slow =
        Command::Save { key, content: Content::Value("second".into()), expect: Expect::Anything, unix_milliseconds: 5 };
    world.run(2, slow).unwrap();
    assert_eq!(world.query(9, key), Some(b"second".to_vec()));
}

#[test]
fn compare_and_swap_goes_by_the_version_held() {
    let mut world = World::joined(params(), 30, 7);
    let key = world.random_id();
    let swap = |expect, value: &'static str| Command::Save {
        key,
        content: Content::Value(value.into()),
        expect,
        unix_milliseconds: 1_700_000_000_000,
    };
    let Ok(Outcome::Saved(first)) = world.run(1, swap(Expect::Absent, "a")) else { panic!() };
    let conflict = world.run(2, swap(Expect::Absent, "b"));
    assert_eq!(conflict, Err(OperationError::Conflict { held: Some(first.version) }));
    let Ok(Outcome::Saved(second)) = world.run(2, swap(Expect::Version(first.version), "b")) else { panic!() };
    let late = world.run(3, swap(Expect::Version(first.version), "c"));
    assert_eq!(late, Err(OperationError::Conflict { held: Some(second.version) }));
    assert_eq!(world.query(9, key), Some(b"b".to_vec()));
    let never_held = world.run(3, swap(Expect::Version(Version(u64::MAX)), "d"));
    assert_eq!(never_held, Err(OperationError::Conflict { held: Some(second.version) }));
    world.run(4, delete(key, world.now)).unwrap();
    let deleted = world.run(5, swap(Expect::Version(second.version), "e"));
    assert!(matches!(deleted, Err(OperationError::Conflict { .. })), "{deleted:?}");
    world.run(6, swap(Expect::Absent, "f")).unwrap();
    assert_eq!(world.query(9, key), Some(b"f".to_vec()));
}

#[test]
fn of_many_swaps_at_once_at_most_one_is_told_that_it_won() {
    let mut world = World::joined(params(), 30, 8);
    let key = world.random_id();
    let version = world.save(0, key, "start");
    let operations: Vec<_> = (1..9)
        .map(|n| {
            let content = Content::Value(format!("{n}").into());
            let expect = Expect::Version(version);
            world.start(n, Command::Save { key, content, expect, unix_milliseconds: 1_800_000_000_000 + u64::from(n) })
        })
        .collect();
    world.run_for(Duration::from_secs(60));
    let won = operations.iter().filter(|operation| world.outcomes[operation].is_ok()).count();
    assert!(won <= 1, "{won} swaps were told that they won");
}

#[test]
fn a_query_repairs_old_copies_and_caches_at_the_nearest_node_without_one() {
    let mut world = World::joined(params(), 40, 9);
    let key = world.random_id();
    let version = world.save(3, key, "value");
    let nearest = world.nearest(&key, 6);
    // One of the nearest starts again and has lost its copy.
    let (lost, id) = (nearest[1], world.id(nearest[1]));
    world.kill(lost);
    world.add_with(lost, id, params());
    assert!(world.holders(&key, version) >= 5);
    assert!(world.nodes[&lost].record(&key).is_none());
    assert_eq!(world.query(20, key), Some(b"value".to_vec()));
    world.run_for(Duration::from_secs(5));
    assert!(world.nodes[&lost].record(&key).is_some_and(|record| record.version == version));
}

#[test]
fn a_lonely_node_keeps_its_own_and_says_so() {
    let mut world = World::new(params(), 10);
    world.add(0);
    let key = world.random_id();
    let Ok(Outcome::Saved(receipt)) = world.run(0, save(key, "value", world.now)) else { panic!() };
    assert!(receipt.kept_here && receipt.accepted.is_empty() && receipt.refused.is_empty());
    assert_eq!(world.query(0, key), Some(b"value".to_vec()));
    let missing = world.random_id();
    assert_eq!(world.query(0, missing), None);
}

#[test]
fn of_a_key_of_the_user_only_what_is_in_the_key_space_counts() {
    let mut world = World::new(params(), 10);
    world.add(0);
    let space = params().key_space;
    let key = Id::new([7; 32]);
    assert!(!space.contains(&key));
    let Ok(Outcome::Saved(receipt)) = world.run(0, save(key, "value", world.now)) else { panic!() };
    assert_eq!(receipt.key, space.fit(&key));
    assert_eq!(world.query(0, key), Some(b"value".to_vec()));
    assert!(world.nodes[&0].record(&space.fit(&key)).is_some() && world.nodes[&0].record(&key).is_none());
}

#[test]
fn a_node_whose_peers_are_all_dead_says_that_nobody_answered_and_later_that_all_are_gone() {
    let mut world = World::joined(params(), 10, 11);
    (1..10).for_each(|address| world.kill(address));
    let key = world.random_id();
    let saved = world.run(0, save(key, "value", world.now));
    assert!(matches!(saved, Err(OperationError::NobodyAnswered { asked }) if asked > 0), "{saved:?}");
    let begun = world.now;
    let found = world.run(0, Command::Query { key });
    assert!(matches!(found, Err(OperationError::NobodyAnswered { asked }) if asked > 0), "{found:?}");
    assert!(world.now.since(begun) <= world.params.lookup_timeout);
    world.run_for(HOUR * 3);
    assert_eq!(world.nodes[&0].contact_count(), 0);
    // Its neighbours may come back.
    let found = world.run(0, Command::Query { key });
    assert!(matches!(found, Err(OperationError::NobodyAnswered { asked: 9 })), "{found:?}");
    world.run_for(world.params.record_lifetime);
    assert_eq!(world.run(0, save(key, "value", world.now)), Err(OperationError::NoPeers));
    assert_eq!(world.run(0, Command::Query { key }), Err(OperationError::NoPeers));
}

#[test]
fn a_save_that_everybody_refuses_is_an_error_that_names_them() {
    let full = kademlia_dht::core::Limits { records: 0, ..Default::default() };
    let mut world = World::joined(Params { limits: full, ..params() }, 10, 12);
    let key = world.random_id();
    match world.run(1, save(key, "value", world.now)) {
        Err(OperationError::NotStored { refused }) => {
            assert_eq!(refused.len(), 6);
            assert!(refused.iter().all(|(_, reason)| *reason == Rejection::Refused(Refusal::Full)));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_node_that_is_alone_and_full_says_so_and_keeps_alive_what_it_had() {
    let full = kademlia_dht::core::Limits { record_bytes: 10, ..Default::default() };
    let mut world = World::joined(Params { limits: full, ..params() }, 1, 19);
    let key = world.random_id();
    let version = world.save(0, key, "value");
    let refused = world.run(0, save(key, "far too much", world.now));
    assert_eq!(refused, Err(OperationError::Refused(Refusal::Full)));
    assert_eq!(refused.unwrap_err().to_string(), "the request was refused: the node's store is full");
    let Ok(Outcome::Ledger(ledger)) = world.run(0, Command::Ledger) else { panic!() };
    assert_eq!(ledger.iter().map(|published| published.record.version).collect::<Vec<_>>(), [version]);
}

#[test]
fn a_client_saves_and_queries_and_is_in_nobodys_table() {
    let mut world = World::joined(params(), 20, 13);
    let id = world.random_id();
    world.add_with(50, id, Params { client: true, ..params() });
    world.run(50, Command::Join { address: 3 }).unwrap();
    let key = world.random_id();
    let Ok(Outcome::Saved(receipt)) = world.run(50, save(key, "value", world.now)) else { panic!() };
    assert!(!receipt.kept_here && receipt.accepted.len() == 6);
    assert_eq!(world.query(50, key), Some(b"value".to_vec()));
    assert!(world.nodes.values().all(|node| node.contacts().all(|peer| peer.id != id)));
}

#[test]
fn a_larger_remaining_lifetime_is_never_taken_from_a_copy() {
    let mut world = World::joined(params(), 20, 14);
    let key = world.random_id();
    let version = world.save(1, key, "value");
    world.kill(1);
    for _ in 0..23 {
        world.run_for(HOUR);
        world.query(7, key);
    }
    assert!(world.holders(&key, version) > 0);
    world.tick_all();
    let longest = world.nodes.values().filter_map(|node| node.record(&key)).map(|record| record.remaining).max();
    assert!(longest.unwrap() <= 3600, "{longest:?}");
    world.run_for(HOUR * 2);
    assert_eq!(world.holders(&key, version), 0);
}

#[test]
fn versions_of_one_writer_always_rise() {
    let mut world = World::joined(params(), 10, 15);
    let key = world.random_id();
    let mut last = Version(0);
    for _ in 0..5 {
        let fixed =
            Command::Save { key, content: Content::Value("v".into()), expect: Expect::Anything, unix_milliseconds: 9 };
        let Ok(Outcome::Saved(receipt)) = world.run(1, fixed) else { panic!() };
        assert!(receipt.version > last);
        last = receipt.version;
    }
}
