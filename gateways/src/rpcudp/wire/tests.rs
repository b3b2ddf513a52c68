//! The translation alone, without sockets and clocks: a node, and whoever speaks to it.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::super::codec::{Call, Found, Reply};
use super::*;
use crate::gateway::{Inbound, ReplyPath};
use crate::message::{Body as MessageBody, Expect, Reply as NodeReply};
use crate::record::Author;

const NODE: WireId = [9; 20];
const OTHER: WireId = [3; 20];
const KEY: WireId = [5; 20];

fn other() -> SocketAddr {
    "127.0.0.1:1".parse().unwrap()
}

struct World {
    wire: RpcUdp,
    start: Instant,
    passed: Duration,
    out: Effects,
}

impl World {
    fn new() -> Self {
        World { wire: RpcUdp::new(), start: Instant::now(), passed: Duration::ZERO, out: Effects::default() }
    }

    fn now(&self) -> Now {
        let passed = u64::try_from(self.passed.as_millis()).unwrap();
        Now { instant: self.start + self.passed, unix_milliseconds: 1_000_000 + passed }
    }

    fn wait(&mut self, time: Duration) {
        self.passed += time;
        let now = self.now();
        self.wire.tick(now, &mut self.out);
    }

    fn send(
        &mut self,
        to: SocketAddr,
        path: Option<ReplyPath>,
        tag: Tag,
        body: MessageBody,
    ) -> Result<(), UnsentReason> {
        let envelope = self.wire.message(tag, Some(NODE), body);
        let outbound = Outbound { path, ..Outbound::new(at(to), envelope) };
        let now = self.now();
        self.wire.send(now, to, &outbound, &mut self.out)
    }

    fn ask(&mut self, tag: u64, request: Request) -> Result<(), UnsentReason> {
        self.send(other(), None, Tag(tag), MessageBody::Request(request))
    }

    fn answer(&mut self, inbound: &Inbound, reply: NodeReply) -> Result<(), UnsentReason> {
        let to = address::socket_addr(&inbound.from).unwrap().0;
        self.send(to, Some(inbound.path), inbound.envelope.message().tag, MessageBody::Reply(reply))
    }

    fn receive(&mut self, from: SocketAddr, datagram: &[u8]) {
        let now = self.now();
        self.wire.receive(now, from, datagram, &mut self.out);
    }

    fn called(&mut self, call: &Call) {
        self.receive(other(), &codec::encode_request(&[1; 20], call));
    }

    /// The calls that go to the other node, with their ids.
    fn calls(&mut self) -> Vec<(WireId, Call)> {
        let read = |(to, datagram): (SocketAddr, Vec<u8>)| match codec::decode(&datagram).unwrap() {
            Datagram { id, body: Body::Request(call) } if to == other() => (id, call),
            _ => panic!("no call to the other node: {datagram:?}"),
        };
        self.out.datagrams.drain(..).map(read).collect()
    }

    fn replied(&mut self, id: WireId, reply: &Reply<'_>) {
        self.receive(other(), &codec::encode_reply(&id, reply));
    }

    /// The one reply that goes to the other node.
    fn reply(&mut self) -> Vec<u8> {
        let datagrams = std::mem::take(&mut self.out.datagrams);
        let [(to, datagram)] = datagrams.as_slice() else { panic!("one datagram: {datagrams:?}") };
        assert_eq!((*to, datagram[0]), (other(), 1));
        datagram.clone()
    }

    fn delivered(&mut self) -> Vec<Inbound> {
        std::mem::take(&mut self.out.deliveries)
    }

    fn counts(&mut self) -> Vec<Count> {
        std::mem::take(&mut self.out.counts)
    }

    /// The other node has answered a ping.
    fn meet(&mut self) {
        self.ask(77, Request::Ping).unwrap();
        let [(id, Call::Ping { node: NODE })] = self.calls()[..] else { panic!("a ping") };
        self.replied(id, &Reply::Pong(OTHER));
        let [pong] = &self.delivered()[..] else { panic!("a pong") };
        assert_eq!(pong.envelope, self.wire.message(Tag(77), Some(OTHER), MessageBody::Reply(NodeReply::Pong)));
    }
}

fn found_with(records: Vec<Record>, contacts: u8, token: u64) -> NodeReply {
    let contact =
        |n: u8| Contact::new(Id::from_prefix(&[n; 20]), format!("/ip4/127.0.0.1/udp/100{n:02}").parse().unwrap());
    NodeReply::Found(message::Found {
        held: records.first().map(|record| record.version),
        records,
        more: false,
        contacts: (0..contacts).map(contact).collect(),
        token: Token(token),
    })
}

fn plain(value: &Value, version: Version) -> Record {
    Record::plain(value.to_bytes(), version, READ_LIFETIME)
}

fn store(value: impl Into<Bytes>, version: Version) -> Request {
    let record = Record::plain(value, version, READ_LIFETIME);
    Request::Store { key: Id::from_prefix(&KEY), record, token: Token(7), expect: Expect::Anything }
}

fn find_value() -> Request {
    Request::FindValue { key: Id::from_prefix(&KEY), after: None, proof: None }
}

fn request(inbound: &Inbound) -> &Request {
    match &inbound.envelope.message().body {
        MessageBody::Request(request) => request,
        MessageBody::Reply(reply) => panic!("{reply:?} is no request"),
    }
}

#[test]
fn who_answers_is_known_from_a_ping_alone() {
    let mut world = World::new();
    world.ask(1, Request::FindNode { target: Id::from_prefix(&KEY) }).unwrap();
    let calls = world.calls();
    let [(find, Call::FindNode { node: NODE, key: KEY }), (ping, Call::Ping { node: NODE })] = calls[..] else {
        panic!("it is asked, and asked who it is: {calls:?}")
    };
    let contact = WireContact { id: [8; 20], socket: "127.0.0.1:8".parse().unwrap() };
    world.replied(find, &Reply::Contacts(&[contact]));
    assert!(world.delivered().is_empty(), "nobody knows whose answer that is");
    world.replied(ping, &Reply::Pong(OTHER));
    let [inbound] = &world.delivered()[..] else { panic!("the answer") };
    let message = inbound.envelope.message();
    assert_eq!((message.sender, message.tag), (Some(Id::from_prefix(&OTHER)), Tag(1)));
    let MessageBody::Reply(NodeReply::Found(found)) = &message.body else { panic!("{message:?}") };
    assert_eq!(found.contacts, [Contact::new(Id::from_prefix(&[8; 20]), at(contact.socket))]);

    // From now on it is known, until somebody says to be another one there.
    world.ask(2, find_value()).unwrap();
    let [(find, Call::FindValue { .. })] = world.calls()[..] else { panic!("no ping") };
    world.called(&Call::Ping { node: [4; 20] });
    world.replied(find, &Reply::Found(&Value::from(5)));
    let [(ping, Call::Ping { .. })] = world.calls()[..] else { panic!("it is asked once more") };
    world.delivered();
    world.replied(ping, &Reply::Pong([4; 20]));
    let [inbound] = &world.delivered()[..] else { panic!("the answer") };
    let record = plain(&Value::from(5), READ_VERSION);
    assert_eq!(inbound.envelope.message().sender, Some(Id::from_prefix(&[4; 20])));
    assert_eq!(inbound.envelope.message().body, MessageBody::Reply(found_with(vec![record], 0, 0)));
    assert!(world.counts().is_empty());
}

#[test]
fn a_reply_counts_once_and_only_from_who_was_asked() {
    let mut world = World::new();
    world.meet();
    world.ask(1, find_value()).unwrap();
    let [(id, _)] = world.calls()[..] else { panic!("a call") };
    let reply = codec::encode_reply(&id, &Reply::Found(&Value::from(5)));
    world.receive("127.0.0.1:2".parse().unwrap(), &reply);
    world.receive(other(), &codec::encode_reply(&[0; 20], &Reply::Found(&Value::from(5))));
    assert_eq!((world.counts(), world.delivered().len()), (vec![Count::Unasked; 2], 0));
    world.receive(other(), &reply);
    world.receive(other(), &reply);
    assert_eq!((world.counts(), world.delivered().len()), (vec![Count::Unasked], 1));
    world.ask(2, Request::Ping).unwrap();
    let [(id, _)] = world.calls()[..] else { panic!("a call") };
    world.replied(id, &Reply::Stored(true));
    assert_eq!((world.counts(), world.delivered().len()), (vec![Count::Malformed], 0), "it was no answer to that");
    world.ask(3, Request::Ping).unwrap();
    let [(id, _)] = world.calls()[..] else { panic!("a call") };
    world.wait(ASKED_LASTS);
    world.replied(id, &Reply::Pong(OTHER));
    assert_eq!((world.counts(), world.delivered().len()), (vec![Count::Unasked], 0), "it is too late");
}

#[test]
fn an_answer_of_somebody_unknown_is_given_up_in_time() {
    let mut world = World::new();
    world.ask(1, find_value()).unwrap();
    let [(id, _), _] = world.calls()[..] else { panic!("a call and a ping") };
    world.replied(id, &Reply::Contacts(&[]));
    assert_eq!(world.wire.due(), Some(world.start + WAIT));
    world.wait(WAIT);
    assert_eq!((world.counts(), world.wire.due()), (vec![Count::Unfinished], None));
}

#[test]
fn what_the_wire_has_no_form_for_is_not_sent() {
    let mut world = World::new();
    let key = Id::from_prefix(&KEY);
    let with = |record, expect| Request::Store { key, record, token: Token(0), expect };
    let value = || Record::plain("value", Version(1), READ_LIFETIME);
    for request in [
        with(Record::tombstone(Version(1), READ_LIFETIME), Expect::Anything),
        with(Record { kind: RecordKind::Immutable, ..value() }, Expect::Anything),
        with(value(), Expect::Absent),
        with(value(), Expect::Version(Version(1))),
        with(Record::plain(vec![0xc1, 0xc0], Version(1), READ_LIFETIME), Expect::Anything),
        Request::FindValue { key, after: Some(Author::Any), proof: None },
        Request::FindNode { target: Id::new([1; 32]) },
    ] {
        assert_eq!(world.ask(1, request), Err(UnsentReason::Inexpressible));
    }
    // The request has 50 bytes and 5 for the length beside the value.
    assert_eq!(world.ask(1, store(vec![1; 8138], Version(1))), Err(UnsentReason::TooLarge { limit: 8192 }));
    assert!(world.calls().is_empty());
    world.ask(1, store(vec![1; 8137], Version(1))).unwrap();
    world.wire.set_network(NetworkId(5));
    let foreign = Message {
        network: NetworkId(6),
        ..world.wire.message(Tag(1), None, MessageBody::Request(Request::Ping)).message().clone()
    };
    let outbound = Outbound::new(at(other()), Envelope::Direct(foreign));
    let now = world.now();
    assert_eq!(world.wire.send(now, other(), &outbound, &mut world.out), Err(UnsentReason::Inexpressible));
}

#[test]
fn a_store_takes_the_token_on_its_way() {
    let mut world = World::new();
    world.meet();
    world.called(&Call::Store { node: OTHER, key: KEY, value: Some(Value::from(2.5)) });
    let [first] = &world.delivered()[..] else { panic!("a question") };
    assert_eq!((request(first), first.envelope.message().sender), (&find_value(), None));
    world.answer(first, found_with(Vec::new(), 3, 99)).unwrap();
    assert!(world.calls().is_empty(), "that is no answer for anybody");
    let [second] = &world.delivered()[..] else { panic!("the store") };
    let expected = Request::Store {
        key: Id::from_prefix(&KEY),
        record: Record::plain(Value::from(2.5).to_bytes(), Version::at(1_000_000), STORED_LIFETIME),
        token: Token(99),
        expect: Expect::Anything,
    };
    assert_eq!((request(second), second.envelope.message().sender), (&expected, Some(Id::from_prefix(&OTHER))));
    world.answer(second, NodeReply::Stored).unwrap();
    assert_eq!(world.reply(), codec::encode_reply(&[1; 20], &Reply::Stored(true)));
    assert_eq!(world.answer(second, NodeReply::Stored), Err(UnsentReason::Inexpressible), "each is answered once");
}

#[test]
fn a_store_is_newer_than_what_is_held_unless_it_is_the_same() {
    let stored = |held: Record| {
        let mut world = World::new();
        world.meet();
        world.called(&Call::Store { node: OTHER, key: KEY, value: Some(Value::from(1)) });
        let first = world.delivered().remove(0);
        world.answer(&first, found_with(vec![held], 0, 0)).unwrap();
        match request(&world.delivered()[0]) {
            Request::Store { record, .. } => record.version,
            other => panic!("{other:?}"),
        }
    };
    let ahead = Version::at(2_000_000);
    assert_eq!(stored(plain(&Value::from(2), Version(1))), Version::at(1_000_000));
    assert_eq!(stored(plain(&Value::from(2), ahead)), ahead.next());
    assert_eq!(stored(plain(&Value::from(1), ahead)), ahead);
    assert_eq!(stored(plain(&Value::from(1), Version(1))), Version(1));
    assert_eq!(stored(Record::tombstone(ahead, READ_LIFETIME)), ahead.next());
}

#[test]
fn nothing_is_stored_for_who_does_not_answer_or_stores_too_much() {
    let mut world = World::new();
    world.wire.set_store_limit(1, 2);
    let call = Call::Store { node: OTHER, key: KEY, value: Some(Value::from(1)) };
    let ask = |world: &mut World| {
        world.called(&call);
        let first = world.delivered().remove(0);
        world.answer(&first, found_with(Vec::new(), 0, 0)).unwrap();
    };
    ask(&mut world);
    let [(_, Call::Ping { node: NODE })] = world.calls()[..] else { panic!("a ping") };
    world.wait(WAIT);
    assert_eq!((world.counts(), world.delivered().len()), (vec![Count::Unfinished], 0));
    ask(&mut world);
    let [(ping, Call::Ping { .. })] = world.calls()[..] else { panic!("a ping") };
    world.replied(ping, &Reply::Pong(OTHER));
    assert!(matches!(request(&world.delivered()[0]), Request::Store { .. }));
    ask(&mut world);
    assert_eq!(world.delivered().len(), 1);
    ask(&mut world);
    assert_eq!((world.counts(), world.delivered().len()), (vec![Count::Limited], 0));
    assert_eq!(world.reply(), codec::encode_reply(&[1; 20], &Reply::Stored(false)));
    world.called(&Call::Store { node: OTHER, key: KEY, value: None });
    assert_eq!((world.counts(), world.delivered().len()), (vec![Count::Unserved], 0));
    assert_eq!(world.reply(), codec::encode_reply(&[1; 20], &Reply::Stored(false)));
}

#[test]
fn a_long_answer_waits_for_the_proof_of_the_address() {
    for answers in [true, false] {
        let mut world = World::new();
        world.called(&Call::FindValue { node: OTHER, key: KEY });
        let inbound = world.delivered().remove(0);
        let value = Value::from([7; 8000].as_slice());
        world.answer(&inbound, found_with(vec![plain(&value, Version(1))], 20, 0)).unwrap();
        let [(ping, Call::Ping { node: NODE })] = world.calls()[..] else { panic!("a ping") };
        if answers {
            world.replied(ping, &Reply::Pong(OTHER));
            assert_eq!(world.reply(), codec::encode_reply(&[1; 20], &Reply::Found(&value)));
        } else {
            world.wait(WAIT);
            let reply = world.reply();
            let Body::Reply(answer) = codec::decode(&reply).unwrap().body else { panic!("a reply") };
            assert_eq!(answer.contacts().unwrap().len(), 1, "and nearer ones, as many as may be");
        }
    }
}

#[test]
fn what_cannot_be_told_here_is_left_out() {
    let reply = |records, contacts: Vec<Contact>, to: &str| {
        let mut world = World::new();
        let to: SocketAddr = to.parse().unwrap();
        world.wire.proved.insert(world.start, to, ());
        world.receive(to, &codec::encode_request(&[1; 20], &Call::FindValue { node: OTHER, key: KEY }));
        let NodeReply::Found(found) = found_with(records, 0, 0) else { panic!("found") };
        let inbound = world.delivered().remove(0);
        world.answer(&inbound, NodeReply::Found(message::Found { contacts, ..found })).unwrap();
        let datagram = world.out.datagrams.remove(0).1;
        let Body::Reply(answer) = codec::decode(&datagram).unwrap().body else { panic!("a reply") };
        answer.found().unwrap()
    };
    let contact = |n: u8, address: &str| Contact::new(Id::from_prefix(&[n; 20]), address.parse().unwrap());
    let contacts = || {
        vec![
            contact(1, "/ip4/127.0.0.1/udp/1"),
            contact(2, "/ip4/10.0.0.1/tcp/1"),
            contact(3, "/ip4/10.0.0.1/udp/1/p2p-circuit/ip4/10.0.0.2/udp/2"),
            contact(4, "/ip6/2001:db8::1/udp/4"),
            Contact::new(Id::new([5; 32]), "/ip4/10.0.0.1/udp/5".parse().unwrap()),
            Contact::with_others(
                Id::from_prefix(&[6; 20]),
                "/memory/6".parse().unwrap(),
                vec!["/ip4/10.0.0.1/udp/6".parse().unwrap()],
            ),
        ]
    };
    let named = |found| match found {
        Found::Contacts(contacts) => contacts.iter().map(|contact| contact.id[0]).collect::<Vec<_>>(),
        Found::Value(value) => panic!("{value:?}"),
    };
    assert_eq!(named(reply(vec![], contacts(), "127.0.0.1:9")), [1, 4, 6]);
    assert_eq!(named(reply(vec![], contacts(), "10.0.0.9:9")), [4, 6]);
    for record in [
        Record::tombstone(Version(1), READ_LIFETIME),
        Record { kind: RecordKind::Immutable, ..plain(&Value::from(1), Version(1)) },
        Record::plain(vec![0xc1, 0xc0], Version(1), READ_LIFETIME),
        Record::plain(vec![1; 8190], Version(1), READ_LIFETIME),
    ] {
        assert_eq!(named(reply(vec![record], contacts(), "127.0.0.1:9")), [1, 4, 6]);
    }
}

#[test]
fn what_a_reader_believes_overwrites_nothing_that_it_has_read() {
    let mut world = World::new();
    world.meet();
    world.ask(1, find_value()).unwrap();
    let [(id, _)] = world.calls()[..] else { panic!("a call") };
    world.replied(id, &Reply::Found(&Value::from(5)));
    world.wait(Duration::from_secs(1));
    for older in [READ_VERSION, Version::at(999_999)] {
        assert_eq!(world.ask(2, store("value", older)), Err(UnsentReason::Inexpressible));
    }
    world.ask(2, store("value", Version::at(1_000_000))).unwrap();
    world.wait(SEEN_LASTS);
    world.ask(2, store("value", READ_VERSION)).unwrap();
}

#[test]
fn a_node_that_asks_itself_hears_its_own_tag() {
    let mut world = World::new();
    world.ask(5, Request::Ping).unwrap();
    let (_, datagram) = world.out.datagrams.remove(0);
    world.receive(other(), &datagram);
    let message = world.delivered().remove(0).envelope.message().clone();
    assert_eq!((message.tag, message.sender), (Tag(5), Some(Id::from_prefix(&NODE))));
}

/// What a stranger sends, or the node answers.
#[derive(Debug, Clone)]
enum Step {
    Call(u8, Call),
    Noise(u8, Vec<u8>),
    /// Answers the oldest request with so many contacts and a value of so many bytes, and pings whoever asked, twice.
    Answer(u8, Option<usize>),
    Wait(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let call = prop_oneof![
        Just(Call::Stun),
        Just(Call::Ping { node: OTHER }),
        Just(Call::FindNode { node: OTHER, key: KEY }),
        Just(Call::FindValue { node: OTHER, key: KEY }),
        (0..600_usize).prop_map(|size| Call::Store {
            node: OTHER,
            key: KEY,
            value: Some(Value::from(vec![1; size].as_slice()))
        }),
        Just(Call::Store { node: OTHER, key: KEY, value: None }),
    ];
    prop_oneof![
        4 => (0..3_u8, call).prop_map(|(from, call)| Step::Call(from, call)),
        1 => (0..3_u8, prop::collection::vec(any::<u8>(), 0..60)).prop_map(|(from, noise)| Step::Noise(from, noise)),
        4 => (0..40_u8, prop::option::of(0..9000_usize)).prop_map(|(contacts, size)| Step::Answer(contacts, size)),
        1 => (0..3000_u64).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Whoever never answers is sent at most three times what came from there, whatever comes and whatever the node says.
    #[test]
    fn nothing_is_multiplied(steps in prop::collection::vec(any_step(), 1..60)) {
        let mut world = World::new();
        let mut bytes: BTreeMap<SocketAddr, (usize, usize)> = BTreeMap::new();
        let mut open: Vec<Inbound> = Vec::new();
        let stranger = |n: u8| SocketAddr::from(([127, 0, 0, 1], 100 + u16::from(n)));
        for step in steps {
            match step {
                Step::Call(from, call) => {
                    let datagram = codec::encode_request(&[from; 20], &call);
                    bytes.entry(stranger(from)).or_default().0 += datagram.len();
                    world.receive(stranger(from), &datagram);
                }
                Step::Noise(from, noise) => {
                    bytes.entry(stranger(from)).or_default().0 += noise.len();
                    world.receive(stranger(from), &noise);
                }
                Step::Answer(contacts, size) if !open.is_empty() => {
                    let inbound = open.remove(0);
                    let to = address::socket_addr(&inbound.from).unwrap().0;
                    let asks_in_a_name = inbound.envelope.message().sender.is_some();
                    let reply = match request(&inbound) {
                        Request::Ping => NodeReply::Pong,
                        Request::Store { .. } => NodeReply::Stored,
                        Request::FindNode { .. } => found_with(Vec::new(), contacts, 0),
                        Request::FindValue { .. } => {
                            let record = size.map(|size| plain(&Value::from(vec![1; size].as_slice()), Version(1)));
                            found_with(record.into_iter().collect(), contacts, 0)
                        }
                    };
                    // It can be too late for that.
                    world.answer(&inbound, reply).ok();
                    for _ in 0..if asks_in_a_name { 2 } else { 0 } {
                        world.send(to, None, Tag(1), MessageBody::Request(Request::Ping)).unwrap();
                    }
                }
                Step::Answer(..) => {}
                Step::Wait(milliseconds) => world.wait(Duration::from_millis(milliseconds)),
            }
            open.extend(world.delivered());
            for (to, datagram) in world.out.datagrams.drain(..) {
                bytes.entry(to).or_default().1 += datagram.len();
            }
            for (stranger, (came, went)) in &bytes {
                prop_assert!(*went <= 3 * came, "{came} bytes from {stranger}, {went} to it");
            }
        }
    }
}
