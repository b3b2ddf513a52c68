//! Every lookup returns exactly the k closest nodes, in a still network, under loss, and when many nodes are dead.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support {
    pub(crate) mod world;
}

use std::time::Duration;

use kademlia_dht::core::{Command, Content, Input, Outcome, Params};
use kademlia_dht::gateway::Expect;
use support::world::World;

fn params(k: usize) -> Params {
    Params { k, ..World::sha1_params() }
}

/// How many of `lookups` lookups gave exactly the k nearest nodes.
fn exact_lookups(world: &mut World, lookups: usize) -> usize {
    let k = world.params.k;
    let mut exact = 0;
    for _ in 0..lookups {
        let target = world.random_id();
        let from = world.random(world.nodes.len() as u64) as u32;
        let Ok(Outcome::LookedUp(report)) = world.run(from, Command::Lookup { target }) else { continue };
        let got: Vec<u32> = report.closest.iter().map(|peer| peer.address).collect();
        let expected: Vec<u32> = world.nearest(&target, k + 1).into_iter().filter(|n| *n != from).take(k).collect();
        exact += usize::from(got == expected);
    }
    exact
}

/// How many of `lookups` saves reached exactly the k nearest nodes.
fn exact_saves(world: &mut World, lookups: usize) -> usize {
    let k = world.params.k;
    let mut exact = 0;
    for _ in 0..lookups {
        let key = world.random_id();
        let addresses: Vec<u32> = world.nodes.keys().copied().collect();
        let from = addresses[world.random(addresses.len() as u64) as usize];
        let command = Command::Save {
            key,
            content: Content::Value("value".into()),
            expect: Expect::Anything,
            unix_milliseconds: 1_700_000_000_000,
        };
        let Ok(Outcome::Saved(receipt)) = world.run(from, command) else { continue };
        let mut got: Vec<u32> = receipt.accepted.iter().map(|peer| peer.address).collect();
        let expected: Vec<u32> = world.nearest(&key, k + 1).into_iter().filter(|n| *n != from).take(k).collect();
        got.truncate(k);
        exact += usize::from(got == expected);
    }
    exact
}

#[test]
fn in_a_still_network_of_more_nodes_than_a_table_holds() {
    let mut world = World::joined(params(8), 300, 1);
    assert_eq!(exact_saves(&mut world, 100), 100);
    assert_eq!(exact_lookups(&mut world, 100), 100);
}

#[test]
fn of_nodes_that_have_changed_their_ids() {
    let mut world = World::joined(params(8), 150, 3);
    for address in 0..75 {
        let id = world.random_id();
        world.input(address, Input::ChangeId { id });
        world.run_for(Duration::from_secs(2));
        assert_eq!(world.id(address), id);
    }
    // As long as it takes to see that nobody of the old ids is there any more.
    world.run_for(Duration::from_secs(4 * 3600));
    assert_eq!(exact_lookups(&mut world, 100), 100);
    assert_eq!(exact_saves(&mut world, 100), 100);
}

#[test]
fn with_every_twentieth_message_lost() {
    let mut world = World::joined(params(8), 150, 2);
    world.loss = 50;
    let exact = exact_saves(&mut world, 100);
    assert!(exact >= 85, "{exact} of 100");
}

#[test]
fn once_the_tables_have_recovered_from_the_death_of_half_of_the_nodes() {
    let mut world = World::joined(params(20), 120, 3);
    for address in (0..120).step_by(2) {
        world.kill(address);
    }
    world.run_for(world.params.peer_timeout * 3);
    let exact = exact_saves(&mut world, 50);
    assert!(exact >= 49, "{exact} of 50");
}

#[test]
fn two_for_one_key_run_side_by_side() {
    let mut world = World::joined(params(8), 60, 4);
    let key = world.random_id();
    world.save(5, key, "value");
    let operations: Vec<_> = (0..10).map(|_| world.start(9, Command::Query { key })).collect();
    world.run_for(Duration::from_secs(10));
    for operation in operations {
        let Some(Ok(Outcome::Queried(report))) = world.outcomes.remove(&operation) else { panic!("no answer") };
        assert_eq!(report.found.unwrap().record.value, "value");
    }
}

#[test]
fn in_a_key_space_of_two_bytes() {
    let two_bytes = kademlia_dht::gateway::KeySpace::new(2).unwrap();
    let mut world = World::joined(Params { k: 4, ..Params::new(two_bytes) }, 60, 5);
    assert!(exact_saves(&mut world, 50) >= 49);
}
