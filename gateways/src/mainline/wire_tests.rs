//! The translation alone, without sockets and clocks.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;

use super::krpc::{Body, Failure, Item, Message, Mutable, Nodes, Query, Response, Want, code};
use super::proved::Proved;
use super::putting::key_of;
use super::read::read;
use super::security;
use super::wire::{ITEMS_LAST, MainlineWire};
use super::write::write;
use crate::address::{self, IpTransport};
use crate::contact::Contact;
use crate::count::Count;
use crate::foreign::{Effects, Now, Wire};
use crate::gateway::{Inbound, Outbound, UnsentReason};
use crate::id::Id;
use crate::message::{Body as MessageBody, Expect, Found, Refusal, Reply, Request, Tag, Token};
use crate::record::{Record, RecordKind, Signed, Version};

const NODE: [u8; 20] = [9; 20];
const KEY: [u8; 20] = [5; 20];

/// Far away, where not everybody may have any id.
fn other() -> SocketAddr {
    "8.8.8.8:1".parse().unwrap()
}

fn sound() -> Id {
    security::id_for(other().ip(), [3; 20])
}

fn key() -> Id {
    Id::from_prefix(&KEY)
}

struct World {
    wire: MainlineWire,
    now: Instant,
    out: Effects,
}

impl World {
    fn new() -> Self {
        World { wire: MainlineWire::new(true), now: Instant::now(), out: Effects::default() }
    }

    fn now(&self) -> Now {
        Now { instant: self.now, unix_milliseconds: 0 }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.wire.tick(self.now(), &mut self.out);
    }

    fn receive(&mut self, from: SocketAddr, message: &Message) -> usize {
        let (bytes, now) = (write(message).unwrap(), self.now());
        self.wire.receive(now, from, &bytes, &mut self.out);
        bytes.len()
    }

    fn send_as(&mut self, sender: Option<Id>, tag: Tag, body: MessageBody) -> Result<(), UnsentReason> {
        let envelope = self.wire.message(tag, sender, body);
        let outbound = Outbound::new(address::ip_address(other(), IpTransport::Udp), envelope);
        let now = self.now();
        self.wire.send(now, other(), &outbound, &mut self.out)
    }

    fn send(&mut self, tag: Tag, body: MessageBody) -> Result<(), UnsentReason> {
        self.send_as(Some(Id::from_prefix(&NODE)), tag, body)
    }

    /// The one message that is sent.
    fn sent(&mut self) -> Message {
        let datagrams = std::mem::take(&mut self.out.datagrams);
        let [(to, datagram)] = datagrams.as_slice() else { panic!("one datagram: {datagrams:?}") };
        assert_eq!(*to, other());
        read(datagram).unwrap()
    }

    fn delivered(&mut self) -> Vec<Inbound> {
        std::mem::take(&mut self.out.deliveries)
    }

    fn reply(&mut self) -> (Option<Id>, Reply) {
        let [inbound] = &self.delivered()[..] else { panic!("one message") };
        let message = inbound.envelope.message();
        let MessageBody::Reply(reply) = &message.body else { panic!("a reply") };
        (message.sender, reply.clone())
    }

    fn answer(&mut self, from: SocketAddr, to: &Message, response: Response) {
        let seen_at = Some("1.2.3.4:5".parse().unwrap());
        let body = Body::Response(response);
        self.receive(from, &Message { body, seen_at, ..to.clone() });
    }

    /// The other one has answered.
    fn prove(&mut self) {
        self.send(Tag(1), MessageBody::Request(Request::Ping)).unwrap();
        let ping = self.sent();
        self.answer(other(), &ping, Response::of(sound()));
        assert_eq!(self.reply(), (Some(sound()), Reply::Pong));
    }

    /// Has the node answer all that it was asked, with as much as it can. Whom it would ask itself has shown to be there.
    fn serve(&mut self) {
        for inbound in self.delivered() {
            let message = inbound.envelope.message();
            let MessageBody::Request(request) = &message.body else { continue };
            let reply = match request {
                Request::Ping => Reply::Pong,
                Request::Store { .. } => Reply::Refused(Refusal::Token),
                Request::FindNode { .. } | Request::FindValue { .. } => Reply::Found(much()),
            };
            // Where it is too large, nothing goes.
            self.send(message.tag, MessageBody::Reply(reply)).ok();
            assert!(message.sender.is_none() || inbound.proved);
        }
    }
}

fn much() -> Found {
    let contact = |n: u8| Contact::new(Id::from_prefix(&[n; 20]), format!("/ip4/9.9.9.{n}/udp/1").parse().unwrap());
    let value = Bytes::from([b"900:", &[7; 900][..]].concat());
    Found {
        records: vec![Record::new(RecordKind::Immutable, value, Version::default(), Duration::from_secs(9))],
        held: Some(Version::default()),
        more: false,
        contacts: (0..20).map(contact).collect(),
        token: Token(7),
    }
}

fn query(sender: Id, transaction: &[u8], read_only: bool, query: Query) -> Message {
    let transaction = Bytes::copy_from_slice(transaction);
    Message { transaction, version: None, read_only, seen_at: None, body: Body::Query { sender, query } }
}

fn item() -> Item {
    Item { value: Bytes::from_static(b"1:x"), mutable: None }
}

fn signed(sequence: i64) -> Item {
    let mutable = Mutable { public_key: [1; 32], salt: Bytes::new(), sequence, signature: [2; 64] };
    Item { mutable: Some(mutable), ..item() }
}

fn all_queries() -> Vec<Query> {
    let want = Want { v4: true, v6: true };
    let token = Bytes::from_static(b"12345678");
    vec![
        Query::Ping,
        Query::FindNode { target: key(), want: Want::default() },
        Query::FindNode { target: key(), want },
        Query::GetPeers { info_hash: key(), want: Want::default() },
        Query::AnnouncePeer { info_hash: key(), port: None, token: token.clone() },
        Query::AnnouncePeer { info_hash: key(), port: Some(1), token: Bytes::new() },
        Query::Get { target: key(), sequence: None, want: Want::default() },
        Query::Get { target: key(), sequence: Some(1), want },
        Query::Put { target: None, token: token.clone(), item: item(), expected: None },
        Query::Put { target: Some(key()), token: Bytes::new(), item: item(), expected: Some(1) },
        Query::Put { target: None, token: Bytes::from_static(b"12345678"), item: signed(2), expected: Some(1) },
        Query::SampleInfohashes { target: key(), want: Want::default() },
    ]
}

#[test]
fn who_is_not_proved_gets_at_most_three_times_as_much_whatever_it_asks() {
    for ask in all_queries() {
        for (sender, read_only, transaction) in
            [(sound(), false, &b""[..]), (sound(), true, b""), (Id::ZERO, false, b"aaaa"), (Id::ZERO, true, &[7; 64])]
        {
            // Each alone, and several at once, of which the last ones displace the first.
            for times in [1, 3, 3000] {
                let mut world = World::new();
                let message = query(sender, transaction, read_only, ask.clone());
                let mut came = 0;
                for _ in 0..times {
                    came += world.receive(other(), &message);
                    world.serve();
                }
                world.wait(Duration::from_secs(1));
                world.serve();
                let went: usize = world.out.datagrams.iter().map(|(_, bytes)| bytes.len()).sum();
                assert!(went <= came * 3, "{came} bytes came, {went} went: {message:?}");
                assert!(went > 0, "something is said: {message:?}");
                // Nor does any one of them bring more.
                let largest = world.out.datagrams.iter().map(|(_, bytes)| bytes.len()).max().unwrap();
                assert!(largest <= came / times * 3, "{message:?}");
                assert_eq!(world.wire.due(), None);
            }
        }
    }
}

#[test]
fn who_is_proved_gets_all_of_it_and_at_once() {
    for ask in all_queries() {
        let mut world = World::new();
        world.prove();
        world.receive(other(), &query(sound(), b"aa", false, ask.clone()));
        world.serve();
        let sent = world.sent();
        assert_eq!(sent.transaction, "aa");
        match (ask, sent.body) {
            (Query::Get { .. }, Body::Response(response)) => {
                assert!(response.item.is_some());
                assert_eq!(response.nodes.v4.map(|nodes| nodes.len()), Some(8));
            }
            (Query::Put { .. } | Query::AnnouncePeer { .. }, Body::Failure(Failure { code, .. })) => {
                assert!(matches!(code, code::PROTOCOL | code::OTHER_EXPECTED));
            }
            (_, Body::Response(_)) => assert_eq!(sent.seen_at, Some(other())),
            (ask, other) => panic!("{ask:?}: {other:?}"),
        }
    }
}

#[test]
fn who_shows_that_it_is_there_is_served_what_waited() {
    let mut world = World::new();
    let ask = Query::Get { target: key(), sequence: None, want: Want::default() };
    world.receive(other(), &query(sound(), b"aa", false, ask));
    assert!(world.delivered().is_empty() && world.wire.due().is_some());
    let ping = world.sent();
    assert!(matches!(ping.body, Body::Query { query: Query::Ping, .. }));
    world.answer(other(), &ping, Response::of(sound()));
    let [inbound] = &world.delivered()[..] else { panic!("the question") };
    assert!(inbound.proved && inbound.envelope.message().sender == Some(sound()));
    assert_eq!(world.wire.due(), None);
}

#[test]
fn who_asks_is_named_if_it_answers_under_that_id() {
    let mut world = World::new();
    let asked_by = |world: &mut World, id: Id, read_only: bool| {
        world.receive(other(), &query(id, b"aa", read_only, Query::Ping));
        let [inbound] = &world.delivered()[..] else { panic!("the question") };
        let is_asked_back = !world.out.datagrams.is_empty();
        (inbound.envelope.message().sender, is_asked_back)
    };
    assert_eq!(asked_by(&mut world, key(), false), (None, true));
    let ping = world.sent();
    assert_eq!(asked_by(&mut world, key(), false), (None, false), "it was asked back just now");
    world.answer(other(), &ping, Response::of(sound()));
    let [introduced] = &world.delivered()[..] else { panic!("who answered") };
    let introduced = introduced.envelope.message();
    assert_eq!(introduced.sender, Some(sound()));
    world.send(introduced.tag, MessageBody::Reply(Reply::Pong)).unwrap();
    assert!(world.out.datagrams.is_empty(), "nobody has asked for that");
    assert_eq!(asked_by(&mut world, sound(), false), (Some(sound()), false));
    assert_eq!(asked_by(&mut world, sound(), true), (None, false), "who is read-only answers nothing");
    // It may have become another one.
    world.wait(Duration::from_secs(2));
    assert_eq!(asked_by(&mut world, key(), false), (None, true));
    let ping = world.sent();
    world.answer(other(), &ping, Response::of(key()));
    assert_eq!(world.delivered().len(), 1);
    assert_eq!(asked_by(&mut world, key(), false), (Some(key()), false));
    // Who answers under its own id whatever it asks under is introduced once.
    world.wait(Duration::from_secs(2));
    assert_eq!(asked_by(&mut world, sound(), false), (None, true));
    let ping = world.sent();
    world.answer(other(), &ping, Response::of(key()));
    assert!(world.delivered().is_empty());
}

#[test]
fn what_answers_nothing_is_counted_and_dropped() {
    let mut world = World::new();
    let nothing = query(sound(), b"none", false, Query::Ping);
    world.answer(other(), &nothing, Response::of(sound()));
    world.send(Tag(1), MessageBody::Request(Request::Ping)).unwrap();
    let ping = world.sent();
    world.answer("8.8.8.8:2".parse().unwrap(), &ping, Response::of(sound()));
    assert!(world.delivered().is_empty() && world.out.counts == [Count::Unasked; 2]);
    world.answer(other(), &ping, Response::of(sound()));
    assert_eq!(world.reply(), (Some(sound()), Reply::Pong));
    world.answer(other(), &ping, Response::of(sound()));
    let failure = Body::Failure(Failure { code: code::GENERIC, text: String::new() });
    world.receive(other(), &Message { body: failure, ..ping });
    assert!(world.delivered().is_empty() && world.out.counts == [Count::Unasked; 4]);
    // Too late.
    world.send(Tag(2), MessageBody::Request(Request::Ping)).unwrap();
    let ping = world.sent();
    world.wait(Duration::from_secs(21));
    world.answer(other(), &ping, Response::of(sound()));
    assert!(world.delivered().is_empty() && world.out.counts == [Count::Unasked; 5]);
}

#[test]
fn a_client_answers_nobody() {
    let mut world = World::new();
    world.send_as(None, Tag(1), MessageBody::Request(Request::Ping)).unwrap();
    assert!(world.sent().read_only);
    for ask in all_queries() {
        world.receive(other(), &query(sound(), b"aa", false, ask));
    }
    world.wait(Duration::from_secs(1));
    assert!(world.out.datagrams.is_empty() && world.delivered().is_empty());
}

/// The answers of so many, each in another network, and what they say of where this node is.
fn vote(world: &mut World, asks_back: bool, id_of: impl Fn(SocketAddr) -> Id) {
    for n in 1..=5_u8 {
        let voter = SocketAddr::from(([8, n, 8, 8], 1));
        if asks_back {
            let ask = Query::FindNode { target: key(), want: Want::default() };
            world.receive(voter, &query(id_of(voter), b"aa", false, ask));
        } else {
            let envelope = world.wire.message(Tag(1), Some(sound()), MessageBody::Request(Request::Ping));
            let outbound = Outbound::new(address::ip_address(voter, IpTransport::Udp), envelope);
            let now = world.now();
            world.wire.send(now, voter, &outbound, &mut world.out).unwrap();
        }
        let (_, bytes) = world.out.datagrams.pop().unwrap();
        world.answer(voter, &read(&bytes).unwrap(), Response::of(id_of(voter)));
    }
}

#[test]
fn who_answers_the_node_says_where_it_sees_it() {
    let sound_at = |voter: SocketAddr| security::id_for(voter.ip(), [3; 20]);
    let elected = |asks_back, id_of: &dyn Fn(SocketAddr) -> Id| {
        let mut world = World::new();
        vote(&mut world, asks_back, id_of);
        world.wire.handle.external_address()
    };
    assert_eq!(elected(false, &sound_at), Some([1, 2, 3, 4].into()));
    assert_eq!(elected(false, &|_| Id::ZERO), None, "whoever may not be there has no vote");
    assert_eq!(elected(true, &sound_at), None, "nor has whoever asked to be asked");
}

#[test]
fn the_gateway_knows_whom_it_serves_before_that_has_said_anything() {
    let mut world = World::new();
    world.wire.handle.set_node(key(), false);
    let ask = Query::FindNode { target: key(), want: Want::default() };
    world.receive(other(), &query(sound(), b"aa", false, ask.clone()));
    assert!(matches!(world.sent().body, Body::Query { sender, .. } if sender == key()));
    world.wire.handle.set_node(key(), true);
    world.receive(other(), &query(sound(), b"aa", false, ask));
    assert!(world.out.datagrams.is_empty(), "a client answers nobody");
}

fn store() -> MessageBody {
    let record = Record::new(RecordKind::Immutable, item().value, Version::default(), ITEMS_LAST);
    MessageBody::Request(Request::Store { key: key(), record, token: Token(1), expect: Expect::Anything })
}

#[test]
fn what_is_to_be_stored_without_a_token_asks_for_one() {
    let mut world = World::new();
    world.send(Tag(5), store()).unwrap();
    let get = world.sent();
    assert!(matches!(get.body, Body::Query { query: Query::Get { .. }, .. }));
    let token = Bytes::from_static(b"theirs");
    world.answer(other(), &get, Response { token: Some(token.clone()), ..Response::of(sound()) });
    let put = world.sent();
    let expected = Query::Put { target: Some(key()), token, item: item(), expected: None };
    assert_eq!(put.body, Body::Query { sender: Id::from_prefix(&NODE), query: expected });
    world.answer(other(), &put, Response::of(sound()));
    assert_eq!(world.reply(), (Some(sound()), Reply::Stored));
    // Who gives none takes none.
    world.send(Tag(6), store()).unwrap();
    let get = world.sent();
    world.answer(other(), &get, Response::of(sound()));
    assert_eq!(world.reply(), (Some(sound()), Reply::Refused(Refusal::Token)));
}

#[test]
fn a_token_that_came_with_an_answer_is_used_with_whom_it_is_of() {
    let mut world = World::new();
    let find = Request::FindValue { key: key(), after: None, proof: None };
    world.send(Tag(5), MessageBody::Request(find)).unwrap();
    let get = world.sent();
    world.answer(other(), &get, Response { token: Some(Bytes::from_static(b"theirs")), ..Response::of(sound()) });
    let (_, Reply::Found(found)) = world.reply() else { panic!("what was found") };
    let MessageBody::Request(Request::Store { record, .. }) = store() else { panic!("a store") };
    let request = Request::Store { key: key(), record, token: found.token, expect: Expect::Anything };
    world.send(Tag(6), MessageBody::Request(request)).unwrap();
    assert!(matches!(world.sent().body, Body::Query { query: Query::Put { token, .. }, .. } if token == "theirs"));
}

/// What a node that has shown nothing is answered to `get`, where an item of so many bytes is held.
fn unproved_answer(bytes: usize) -> Response {
    let mut world = World::new();
    let ask = Query::Get { target: key(), sequence: None, want: Want::default() };
    world.receive(other(), &query(sound(), b"aaaa", true, ask));
    let [inbound] = &world.delivered()[..] else { panic!("the question") };
    let value = Bytes::from([bytes.to_string().as_bytes(), b":", &vec![7; bytes]].concat());
    let kind = RecordKind::Signed(Box::new(Signed { public_key: [1; 32], salt: Bytes::new(), signature: [2; 64] }));
    let records = vec![Record::new(kind, value, Version(3), ITEMS_LAST)];
    let reply = Reply::Found(Found { records, ..much() });
    world.send(inbound.envelope.message().tag, MessageBody::Reply(reply)).unwrap();
    let Body::Response(response) = world.sent().body else { panic!("an answer") };
    response
}

#[test]
fn an_item_that_is_too_large_makes_room_for_nodes_and_leaves_no_trace() {
    let large = unproved_answer(500);
    assert!(large.item.is_none() && large.sequence.is_none() && large.token.is_some());
    assert!(large.nodes.len() >= 6, "{large:?}");
    let small = unproved_answer(10);
    assert!(small.item.is_some() && small.sequence == Some(3) && small.nodes.v4.is_some());
}

/// The answer that the node gives to a query, with what it was asked for that.
fn ask(world: &mut World, ask: Query, replies: &[Reply]) -> (Vec<Request>, Message) {
    world.receive(other(), &query(sound(), b"aa", false, ask));
    let mut asked = Vec::new();
    for reply in replies {
        let [inbound] = &world.delivered()[..] else { panic!("one question") };
        let message = inbound.envelope.message();
        let MessageBody::Request(request) = &message.body else { panic!("a request") };
        asked.push(request.clone());
        world.send(message.tag, MessageBody::Reply(reply.clone())).unwrap();
    }
    (asked, world.sent())
}

/// A put with a good token.
fn put(world: &World, item: Item, expected: Option<i64>) -> Query {
    let token = world.wire.tokens.make(world.now, other().ip(), &key_of(&item));
    Query::Put { target: None, token: Bytes::copy_from_slice(&token), item, expected }
}

fn holding(held: Option<u64>) -> Reply {
    Reply::Found(Found { records: Vec::new(), held: held.map(Version), ..much() })
}

#[test]
fn a_number_that_is_to_be_replaced_is_compared_and_not_only_bounded() {
    let mut world = World::new();
    world.prove();
    for (held, item, expected, is_stored) in [
        (Some(5), signed(9), Some(5), true),
        (Some(5), signed(9), Some(4), false),
        (Some(5), signed(9), Some(6), false),
        (Some(5), signed(9), None, true),
        // With nothing held there is nothing to compare; what is under its own hash has no number.
        (None, signed(9), Some(5), true),
        (Some(0), item(), Some(5), true),
    ] {
        let query = put(&world, item, expected);
        let replies = [holding(held), Reply::Stored];
        let (asked, answer) = ask(&mut world, query, if is_stored { &replies } else { &replies[..1] });
        assert!(matches!(asked[0], Request::FindValue { .. }));
        if is_stored {
            // With the node's own token.
            assert!(matches!(asked[1], Request::Store { expect: Expect::Anything, token: Token(7), .. }));
            assert!(matches!(answer.body, Body::Response(_)));
        } else {
            assert!(matches!(answer.body, Body::Failure(Failure { code: code::OTHER_EXPECTED, .. })));
        }
    }
}

#[test]
fn nobody_uses_up_what_another_may_have_kept() {
    let mut world = World::new();
    world.prove();
    // Forged ones, with tokens that are none.
    for _ in 0..3000 {
        let forged = Query::Put { target: None, token: Bytes::from_static(b"12345678"), item: item(), expected: None };
        let (_, answer) = ask(&mut world, forged, &[]);
        assert!(matches!(answer.body, Body::Failure(Failure { code: code::PROTOCOL, .. })));
    }
    let good = put(&world, item(), None);
    for _ in 0..2000 {
        let (_, answer) = ask(&mut world, good.clone(), &[holding(None), Reply::Stored]);
        assert!(matches!(answer.body, Body::Response(_)));
    }
    let (_, answer) = ask(&mut world, good, &[]);
    assert!(matches!(answer.body, Body::Failure(Failure { code: code::SERVER, .. })), "now it has had enough");
}

#[test]
fn a_good_token_shows_that_somebody_is_there() {
    // Without an answer to any ping: who is read-only gives none. It is one for all that is to be kept under a key.
    let token_of =
        |world: &World, key: &Id| Bytes::copy_from_slice(&world.wire.tokens.make(world.now, other().ip(), key));
    let bad = Bytes::from_static(b"12345678");
    for is_good in [true, false] {
        let mut world = World::new();
        let announced = if is_good { token_of(&world, &key()) } else { bad.clone() };
        let stored = if is_good { token_of(&world, &key_of(&item())) } else { bad.clone() };
        for ask in [
            Query::AnnouncePeer { info_hash: key(), port: Some(1), token: announced },
            Query::Put { target: None, token: stored, item: item(), expected: None },
        ] {
            world.wire.proved = Proved::new();
            world.receive(other(), &query(sound(), b"aa", true, ask));
            assert_eq!(world.wire.proved.contains(world.now, &other()), is_good);
        }
    }
    let mut world = World::new();
    let mut told = |ask: Query| {
        world.receive(other(), &query(sound(), b"aa", true, ask));
        world.serve();
        let Body::Response(response) = world.sent().body else { panic!("an answer") };
        response.token.unwrap()
    };
    let of_peers = told(Query::GetPeers { info_hash: key(), want: Want::default() });
    assert_eq!(of_peers, told(Query::Get { target: key(), sequence: None, want: Want::default() }));
}

#[test]
fn who_asks_is_told_where_it_is_if_there_is_room() {
    let mut world = World::new();
    world.receive(other(), &query(sound(), b"aa", true, Query::FindNode { target: key(), want: Want::default() }));
    world.serve();
    let answer = world.sent();
    assert!(answer.seen_at == Some(other()) && answer.version.is_some());
    world.receive(
        other(),
        &query(sound(), b"aa", true, Query::AnnouncePeer { info_hash: key(), port: None, token: Bytes::new() }),
    );
    let failure = world.sent();
    assert!(matches!(failure.body, Body::Failure(_)) && failure.seen_at == Some(other()) && failure.version.is_some());
}

#[test]
fn nodes_are_named_as_they_are_wanted_also_if_there_are_none() {
    let mut world = World::new();
    world.prove();
    let nothing = Reply::Found(Found { records: Vec::new(), held: None, contacts: Vec::new(), ..much() });
    for (want, v4, v6) in [
        (Want::default(), true, false),
        (Want { v4: true, v6: true }, true, true),
        (Want { v4: false, v6: true }, false, true),
    ] {
        for query in [
            Query::FindNode { target: key(), want },
            Query::GetPeers { info_hash: key(), want },
            Query::Get { target: key(), sequence: None, want },
            Query::SampleInfohashes { target: key(), want },
        ] {
            let (_, answer) = ask(&mut world, query, std::slice::from_ref(&nothing));
            let Body::Response(Response { nodes, .. }) = answer.body else { panic!("an answer") };
            assert_eq!(nodes, Nodes { v4: v4.then(Vec::new), v6: v6.then(Vec::new) });
        }
    }
}

#[test]
fn what_has_lived_for_a_while_is_not_written_anew() {
    let mut world = World::new();
    let store = |seconds| {
        let MessageBody::Request(Request::Store { key, record, token, expect }) = store() else { panic!("a store") };
        MessageBody::Request(Request::Store {
            key,
            record: record.lasting(Duration::from_secs(seconds)),
            token,
            expect,
        })
    };
    assert_eq!(world.send(Tag(1), store(6479)), Err(UnsentReason::Inexpressible));
    assert_eq!(world.send(Tag(2), store(6480)), Ok(()));
    // Nor is what was read.
    let get = world.sent();
    let response = Response { item: Some(item()), token: Some(Bytes::from_static(b"t")), ..Response::of(sound()) };
    world.answer(other(), &get, response.clone());
    let find = Request::FindValue { key: key(), after: None, proof: None };
    world.out.datagrams.clear();
    world.send(Tag(3), MessageBody::Request(find)).unwrap();
    let get = world.sent();
    world.answer(other(), &get, response);
    let (_, Reply::Found(found)) = world.reply() else { panic!("what was found") };
    let (record, token) = (found.records[0].clone(), found.token);
    let again = Request::Store { key: key(), record, token, expect: Expect::Anything };
    assert_eq!(world.send(Tag(4), MessageBody::Request(again)), Err(UnsentReason::Inexpressible));
}

#[test]
fn an_id_that_is_too_long_has_no_form() {
    let mut world = World::new();
    let long = Id::new([1; 32]);
    let find = |target| MessageBody::Request(Request::FindNode { target });
    assert_eq!(world.send(Tag(1), find(long)), Err(UnsentReason::Inexpressible));
    assert_eq!(world.send_as(Some(long), Tag(1), find(key())), Err(UnsentReason::Inexpressible));
    assert_eq!(world.send(Tag(1), find(key())), Ok(()));
}

#[test]
fn who_asks_much_drives_out_nothing_that_the_node_asks() {
    let mut world = World::new();
    world.send(Tag(1), MessageBody::Request(Request::Ping)).unwrap();
    let ping = world.sent();
    for n in 0..10_000_u32 {
        let [_, a, b, c] = n.to_be_bytes();
        let ask = Query::FindNode { target: key(), want: Want::default() };
        world.receive(SocketAddr::from(([9, a, b, c], 1)), &query(sound(), b"aa", false, ask));
    }
    world.delivered();
    world.answer(other(), &ping, Response::of(sound()));
    assert_eq!(world.reply(), (Some(sound()), Reply::Pong));
}

#[test]
fn nobody_far_away_leads_into_a_local_network() {
    let place = |ip: [u8; 4]| SocketAddr::from((ip, 1));
    let all = [[10, 0, 0, 1], [127, 0, 0, 1], [100, 64, 0, 1], [9, 9, 9, 9]].map(place);
    let told = |informant: SocketAddr| {
        let mut world = World::new();
        let watch = world.wire.handle.watch(key());
        let find = Request::FindValue { key: key(), after: None, proof: None };
        let envelope = world.wire.message(Tag(1), Some(sound()), MessageBody::Request(find));
        let now = world.now();
        let outbound = Outbound::new(address::ip_address(informant, IpTransport::Udp), envelope);
        world.wire.send(now, informant, &outbound, &mut world.out).unwrap();
        let (_, bytes) = world.out.datagrams.pop().unwrap();
        let nodes = all.iter().enumerate().map(|(n, place)| (Id::from_prefix(&[n as u8 + 1; 20]), *place)).collect();
        let nodes = Nodes { v4: Some(nodes), v6: None };
        let response = Response { nodes, peers: all.to_vec(), ..Response::of(sound()) };
        world.answer(informant, &read(&bytes).unwrap(), response);
        let (_, Reply::Found(found)) = world.reply() else { panic!("what was found") };
        let misplaced = world.out.counts.iter().filter(|count| **count == Count::Misplaced).count();
        (found.contacts.len(), watch.found().try_iter().count(), misplaced)
    };
    assert_eq!(told(other()), (1, 1, 6));
    assert_eq!(told(place([192, 168, 0, 1])), (4, 4, 0));
}

#[test]
fn a_failure_is_an_answer() {
    let failure = |code| Body::Failure(Failure { code, text: String::new() });
    let mut world = World::new();
    world.prove();
    world.send(Tag(2), MessageBody::Request(Request::FindNode { target: key() })).unwrap();
    let find = world.sent();
    world.receive(other(), &Message { body: failure(code::SERVER), ..find });
    assert_eq!(world.reply(), (Some(sound()), Reply::Refused(Refusal::Limited)), "the node is told at once");
    // What waits for a sign of life goes on.
    let mut world = World::new();
    world.receive(other(), &query(sound(), b"aa", false, Query::FindNode { target: key(), want: Want::default() }));
    let ping = world.sent();
    world.receive(other(), &Message { body: failure(code::UNKNOWN_METHOD), ..ping });
    let [inbound] = &world.delivered()[..] else { panic!("the question") };
    assert!(inbound.proved);
}

#[test]
fn the_datagrams_of_other_programs_are_read() {
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    };
    let all = include_str!("../../../tests/data/mainline/datagrams.txt");
    for line in all.lines().filter(|line| !line.starts_with('#')) {
        let (what, bytes) = line.rsplit_once(": ").unwrap();
        let message = read(&hex(bytes)).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(read(&write(&message).unwrap()), Ok(message.clone()), "{what}");
        let fits = match message.body {
            Body::Query { query, .. } => match query {
                Query::Ping => what.ends_with("pings"),
                Query::FindNode { .. } => what.ends_with("asks for nodes"),
                Query::GetPeers { .. } => what.ends_with("asks for peers"),
                Query::AnnouncePeer { port, .. } => {
                    what.contains("announces") && port.is_none() == what.ends_with("port of the datagram")
                }
                Query::Get { .. } => what.ends_with("asks for an item"),
                Query::Put { item, expected, .. } => {
                    what.contains("puts")
                        && item.mutable.is_some() == what.contains(" mutable")
                        && expected.is_some() == what.contains("if another")
                }
                Query::SampleInfohashes { .. } => what.ends_with("asks for samples"),
            },
            Body::Response(response) => {
                let mutable = response.item.as_ref().map(|item| item.mutable.is_some());
                assert_eq!(mutable, what.contains("item").then_some(what.contains(" mutable")), "{what}");
                assert_eq!(response.peers.is_empty(), !what.contains("get_peers"), "{what}");
                what.contains("answers") && message.seen_at.is_some()
            }
            Body::Failure(failure) => what.contains("refuses") && failure.code == code::OTHER_EXPECTED,
        };
        assert!(fits, "{what}");
    }
}

#[test]
fn a_failure_that_is_no_text_is_read_alike_when_it_is_written() {
    let bytes = [&b"d1:eli201e100:"[..], &[0xff; 100], b"e1:t2:aa1:y1:ee"].concat();
    assert_eq!(super::fuzzing::survives(&bytes), Some(true));
}

proptest! {
    #[test]
    fn nothing_that_comes_is_multiplied(
        steps in prop::collection::vec((0..11_usize, any::<bool>(), any::<bool>(), 0..400_u64, 0..33_usize), 1..60)
    ) {
        let (mut world, mut came, queries) = (World::new(), 0, all_queries());
        for (which, is_sound, read_only, after, transaction) in steps {
            world.wait(Duration::from_millis(after));
            let sender = if is_sound { sound() } else { Id::ZERO };
            came += world.receive(other(), &query(sender, &vec![7; transaction], read_only, queries[which].clone()));
            world.serve();
            let went: usize = world.out.datagrams.iter().map(|(_, bytes)| bytes.len()).sum();
            prop_assert!(went <= came * 3);
        }
        world.wait(Duration::from_secs(1));
        world.serve();
        let went: usize = world.out.datagrams.iter().map(|(_, bytes)| bytes.len()).sum();
        prop_assert!(went <= came * 3 && world.wire.due().is_none());
    }
}
