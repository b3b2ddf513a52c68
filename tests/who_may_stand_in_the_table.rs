//! Where a policy says who may stand in the routing table, nobody else does, nor are records stored at them. They are asked all
//! the same, so that nobody is out of reach who is known to them alone; and however many they are, they hide nobody.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support {
    pub(crate) mod script;
    pub(crate) mod world;
}

use std::sync::Arc;

use kademlia_dht::core::{Admission, Command, Content, Input, Node, OperationId, Outcome, Params, Time};
use kademlia_dht::gateway::{Body, Expect, Id, Reply, Request, Tag};
use support::script::{Script, found, peer, record, with};
use support::world::{Handle, World};

/// Those with an even address may.
#[derive(Debug)]
struct Even;

impl Admission<Handle> for Even {
    fn admits(&self, peer: &Handle) -> bool {
        peer.address.is_multiple_of(2)
    }
}

fn script(k: usize) -> Script {
    let mut script = Script::new(k, 3);
    let params = Params { k, alpha: 3, ..World::sha1_params() };
    script.node = Node::new(Id::from_prefix(&[0xff; 20]), params, [1; 16], Time::ZERO).admitting(Arc::new(Even));
    script
}

fn table(script: &Script) -> Vec<u32> {
    let mut table: Vec<u32> = script.node.contacts().map(|peer| peer.address).collect();
    table.sort_unstable();
    table
}

/// Answers all requests for nodes. Gives who was asked to store.
fn answer_all(script: &mut Script, reply: impl Fn(u32) -> Reply<Handle>) -> Vec<u32> {
    let mut stored = Vec::new();
    while let Some((to, message)) = script.sent.pop() {
        let from = peer(u8::try_from(to).unwrap());
        let reply = match &message.body {
            Body::Request(Request::Ping) => Reply::Pong,
            Body::Request(Request::Store { .. }) => {
                stored.push(to);
                Reply::Stored
            }
            _ => reply(to),
        };
        script.receive(from, message.tag, Body::Reply(reply));
    }
    stored.sort_unstable();
    stored
}

#[test]
fn who_may_not_stand_there_is_asked_and_leads_to_others() {
    let mut script = script(4);
    script.start(1, Command::Join { address: 1 });
    script.answer(peer(1), Reply::Pong);
    answer_all(&mut script, |to| found(if to == 1 { vec![peer(2), peer(3), peer(4)] } else { vec![peer(6)] }));
    let Ok(Outcome::Joined(joined)) = &script.done[&OperationId(1)] else { panic!("{:?}", script.done) };
    assert_eq!((joined.through, joined.contacts), (peer(1).id, 3));
    assert_eq!(table(&script), [2, 4, 6]);
    // Who asks is not asked back for it.
    script.receive(peer(9), Tag(1), Body::Request(Request::Ping));
    script.receive(peer(8), Tag(2), Body::Request(Request::Ping));
    assert_eq!(script.asked(), [8]);
}

#[test]
fn no_record_is_stored_there_however_near_they_are() {
    let mut script = script(4);
    [40, 42, 44, 46, 48].into_iter().for_each(|n| script.meet(peer(n)));
    // They are nearer than all others, and name one another.
    let near: Vec<Handle> = (0..16).map(|n| peer(2 * n + 1)).collect();
    let content = Content::Value("value".into());
    let save = Command::Save { key: Id::ZERO, content, expect: Expect::Anything, unix_milliseconds: 1 };
    script.start(1, save);
    let all: Vec<Handle> = near.iter().copied().chain([peer(50)]).collect();
    let stored = answer_all(&mut script, |to| found(all.iter().skip(to as usize % 5).take(4).copied().collect()));
    assert_eq!(stored, [40, 42, 44, 46], "the nearest of those who may keep it");
    assert!(script.done[&OperationId(1)].is_ok());
    assert!(table(&script).iter().all(|address| address.is_multiple_of(2)));
}

#[test]
fn what_they_have_is_found_and_they_are_given_nothing() {
    let mut script = script(4);
    [40, 42].into_iter().for_each(|n| script.meet(peer(n)));
    script.start(1, Command::Query { key: Id::ZERO });
    let stored = answer_all(&mut script, |to| match to {
        1 => with(record(7, "value", 600)),
        3 => with(record(6, "old", 600)),
        _ => found(vec![peer(1), peer(3)]),
    });
    let Ok(Outcome::Queried(report)) = &script.done[&OperationId(1)] else { panic!("{:?}", script.done) };
    assert_eq!(report.found.as_ref().unwrap().record.value, "value");
    assert_eq!(stored, [40], "the nearest one without it that may keep it");
}

#[test]
fn a_contact_does_not_move_to_where_it_may_not_be() {
    let mut script = script(4);
    script.meet(peer(2));
    let elsewhere = Handle { address: 99, ..peer(2) };
    script.start(1, Command::Ping { address: 99 });
    script.answer(elsewhere, Reply::Pong);
    script.input(Input::Tick);
    assert_eq!(table(&script), [2]);
}
