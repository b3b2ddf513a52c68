//! The routing table against outages, lies, silent relays and neighbours that are too near.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support {
    pub(crate) mod script;
    pub(crate) mod world;
}

use std::time::Duration;

use kademlia_dht::core::{Command, Input, Node, Output, Params, Time};
use kademlia_dht::gateway::{
    Body, Contact, Found, Id, KeySpace, Message, Multiaddr, NetworkId, Reply, ReplyPath, Request, Tag, Token,
    UnsentReason,
};
use support::script::{Script, peer};
use support::world::{Handle, World};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_plain_question_waits_as_long_as_it_says() {
    let mut script = Script::new(4, 3);
    for n in 1..10 {
        script.now = script.now + Duration::from_millis(1);
        script.meet(peer(n));
    }
    script.start(1, Command::Ping { address: 200 });
    script.wait(Duration::from_millis(1900));
    assert!(!script.done.contains_key(&kademlia_dht::core::OperationId(1)));
    script.answer(peer(200), Reply::Pong);
    assert!(script.done[&kademlia_dht::core::OperationId(1)].is_ok());
}

#[test]
fn an_outage_of_our_own_network_does_not_empty_the_table() {
    for reason in [UnsentReason::Unreachable, UnsentReason::NoNetwork] {
        let mut script = Script::new(20, 3);
        for n in 0..1000_u32 {
            let id = Id::from_prefix(&n.wrapping_mul(0x9E37_79B1).to_be_bytes());
            script.meet(Handle { id, address: 1000 + n });
        }
        let before = script.node.contact_count();
        script.sent.clear();
        script.now = script.now + Duration::from_secs(20 * 60);
        while script.node.next_wake().is_some_and(|wake| wake <= script.now) {
            script.input(Input::Tick);
            while let Some((_, message)) = script.sent.pop() {
                script.input(Input::Unsent { tag: message.tag, reason });
            }
        }
        assert_eq!(script.node.contact_count(), before);
    }
}

#[test]
fn a_dead_contact_is_noticed_though_nobody_else_is_there() {
    let mut world = World::new(World::sha1_params(), 7);
    world.add(0);
    world.add(1);
    world.run(1, Command::Join { address: 0 }).unwrap();
    world.run_for(Duration::from_secs(16 * 60));
    world.kill(0);
    let begun = world.now;
    while world.nodes[&1].contact_count() > 0 && world.now.since(begun) < HOUR * 10 {
        world.run_for(Duration::from_secs(60));
    }
    assert!(world.now.since(begun) < HOUR / 2, "{:?}", world.now.since(begun));
}

#[test]
fn a_neighbour_that_chose_its_id_next_to_ours_costs_nothing() {
    let an_hour = |near: bool| {
        let mut world = World::joined(Params { k: 4, ..World::sha1_params() }, 20, 9);
        if near {
            let mut id = *world.id(0).as_bytes();
            id[19] ^= 1;
            world.add_with(66, Id::new(id), world.params.clone());
            world.run(66, Command::Join { address: 0 }).unwrap();
        }
        world.run_for(HOUR * 2);
        let asked = |world: &World| world.nodes[&0].counters().requests_sent.get("FIND_NODE").copied().unwrap_or(0);
        let before = asked(&world);
        world.run_for(HOUR * 10);
        (asked(&world) - before) / 10
    };
    let (quiet, near) = (an_hour(false), an_hour(true));
    assert!(near <= quiet * 2, "FIND_NODE an hour: {quiet} without it, {near} with it");
}

/// A node with real contacts, which the test plays.
struct Relayed {
    node: Node<Contact>,
    now: Time,
    sent: Vec<(Multiaddr, Message)>,
}

const RELAY: &str = "/ip4/1.0.0.1/udp/1";
const BEHIND: &str = "/ip4/1.0.0.1/udp/1/p2p-circuit/ip4/2.0.0.2/tcp/2";

fn id(n: u8) -> Id {
    Id::from_prefix(&[n])
}

impl Relayed {
    /// It knows a relay, and one contact behind that.
    fn new() -> Self {
        let params = Params { k: 4, ..Params::new(KeySpace::new(20).unwrap()) };
        let node = Node::new(Id::from_prefix(&[0xff; 20]), params, [1; 16], Time::ZERO);
        let mut this = Relayed { node, now: Time::ZERO, sent: Vec::new() };
        this.ping(1, RELAY, vec![]);
        this.ping(2, BEHIND, vec![]);
        this
    }

    fn input(&mut self, input: Input<Contact>) {
        let mut out = Vec::new();
        self.node.handle(self.now, input, &mut out);
        for output in out {
            if let Output::Send { to, message, .. } = output {
                self.sent.push((to, message));
            }
        }
    }

    /// Pings an address, where `n` answers and names its other addresses.
    fn ping(&mut self, n: u8, address: &str, also: Vec<Multiaddr>) {
        let address: Multiaddr = address.parse().unwrap();
        let operation = kademlia_dht::core::OperationId(u64::from(n) + 100 * self.now.as_micros());
        self.input(Input::Start { operation, command: Command::Ping { address: address.clone() } });
        self.answer(n, &address, also);
    }

    fn answer(&mut self, n: u8, address: &Multiaddr, also: Vec<Multiaddr>) {
        let place = self.sent.iter().rposition(|(to, _)| to == address).unwrap();
        let tag = self.sent.remove(place).1.tag;
        let body = Body::Reply(Reply::Pong);
        let message = Message { network: NetworkId::default(), tag, sender: Some(id(n)), also, body };
        self.input(Input::Message { from: address.clone(), path: ReplyPath::default(), proved: false, message });
    }

    fn wait(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(wake) = self.node.next_wake().filter(|wake| *wake <= end) {
            self.now = self.now.max(wake);
            self.input(Input::Tick);
        }
        self.now = end;
    }

    /// The ids that it names to others.
    fn named(&mut self) -> Vec<Id> {
        let body = Body::Request(Request::FindNode { target: Id::ZERO });
        let message = Message { network: NetworkId::default(), tag: Tag(1), sender: None, also: vec![], body };
        let from = "/ip4/9.9.9.9/udp/9".parse().unwrap();
        self.input(Input::Message { from, path: ReplyPath::default(), proved: false, message });
        match self.sent.pop().unwrap().1.body {
            Body::Reply(Reply::Found(Found { contacts, token: Token(_), .. })) => {
                contacts.iter().map(Contact::id).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    fn address_of(&self, n: u8) -> String {
        self.node.contacts().find(|contact| contact.id() == id(n)).unwrap().address().to_string()
    }
}

#[test]
fn whoever_is_behind_a_silent_relay_is_in_doubt_until_the_relay_answers() {
    let mut this = Relayed::new();
    assert_eq!(this.named(), [id(1), id(2)]);
    // One exchange with the relay is lost.
    let operation = kademlia_dht::core::OperationId(7);
    this.input(Input::Start { operation, command: Command::Query { key: Id::ZERO } });
    this.answer_find(2, BEHIND);
    this.wait(Duration::from_secs(5));
    assert!(!this.named().contains(&id(2)), "in doubt");
    this.ping(1, RELAY, vec![]);
    assert_eq!(this.named(), [id(1), id(2)], "and trusted again");
    assert_eq!(this.node.contact_count(), 2);
}

#[test]
fn a_forged_ping_does_not_put_a_relay_in_doubt() {
    let mut this = Relayed::new();
    // As if it came from the relay, and from one whom the node does not know.
    let message = Message {
        network: NetworkId::default(),
        tag: Tag(5),
        sender: Some(id(0x42)),
        also: vec![],
        body: Body::Request(Request::Ping),
    };
    let from: Multiaddr = RELAY.parse().unwrap();
    this.input(Input::Message { from: from.clone(), path: ReplyPath::default(), proved: false, message });
    for _ in 0..5 {
        // The relay answers whatever it is asked, as itself.
        while this.sent.iter().any(|(to, message)| *to == from && message.is_request()) {
            this.answer(1, &from, vec![]);
        }
        this.wait(Duration::from_secs(1));
    }
    assert_eq!(this.named(), [id(1), id(2)]);
}

impl Relayed {
    fn answer_find(&mut self, n: u8, address: &str) {
        let address: Multiaddr = address.parse().unwrap();
        let place = self.sent.iter().rposition(|(to, _)| *to == address).unwrap();
        let tag = self.sent.remove(place).1.tag;
        let found = Found { records: Vec::new(), more: false, held: None, contacts: vec![], token: Token(0) };
        let body = Body::Reply(Reply::Found(found));
        let message = Message { network: NetworkId::default(), tag, sender: Some(id(n)), also: vec![], body };
        self.input(Input::Message { from: address, path: ReplyPath::default(), proved: false, message });
    }
}

#[test]
fn a_relay_that_nobody_is_known_behind_is_not_asked_whether_it_is_there() {
    let mut this = Relayed::new();
    let stranger = "/ip4/6.6.6.6/udp/6/p2p-circuit/ip4/3.0.0.3/tcp/3";
    let message = Message {
        network: NetworkId::default(),
        tag: Tag(1),
        sender: Some(id(3)),
        also: vec![],
        body: Body::Request(Request::Ping),
    };
    let from = stranger.parse().unwrap();
    this.input(Input::Message { from, path: ReplyPath::default(), proved: false, message });
    this.wait(Duration::from_secs(60));
    let there = this.sent.iter().filter(|(to, _)| to.to_string().starts_with("/ip4/6.6.6.6"));
    let there: Vec<_> = there.map(|(to, message)| (to.to_string(), message.name())).collect();
    // Anyone can have written that address, and all that goes there counts against what came from there.
    assert_eq!(there, ["PONG", "PING", "PING"].map(|name| (stranger.to_owned(), name)));
}

#[test]
fn a_stranger_with_its_id_does_not_take_the_place_of_a_contact_behind_a_relay() {
    let mut this = Relayed::new();
    this.ping(2, "/ip4/6.6.6.6/udp/6", vec![]);
    assert_eq!(this.address_of(2), BEHIND, "which is asked first");
    assert!(this.sent.iter().any(|(to, message)| to.to_string() == BEHIND && message.name() == "PING"));
}

#[test]
fn a_shorter_way_that_a_contact_itself_tells_of_is_tried_and_taken() {
    let mut this = Relayed::new();
    let direct = "/ip4/3.0.0.3/udp/3";
    this.now = this.now + Duration::from_secs(1);
    this.ping(3, "/ip4/1.0.0.1/udp/1/p2p-circuit/ip4/3.0.0.3/tcp/3", vec![direct.parse().unwrap()]);
    this.answer(3, &direct.parse().unwrap(), vec![]);
    assert_eq!(this.address_of(3), direct);
}
