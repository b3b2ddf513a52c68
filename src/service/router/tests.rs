use std::sync::Mutex;

use crossbeam::channel::unbounded;
use kademlia_gateways::{Id, Link, Multiaddr, NetworkId, Record, Request, SizeLimits, Version};
use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

fn message(body: Body) -> Message {
    Message { network: NetworkId(0), tag: Tag(7), sender: Some(Id::ZERO), also: Vec::new(), body }
}

fn ping() -> Message {
    message(Body::Request(Request::Ping))
}

fn pong() -> Message {
    message(Body::Reply(Reply::Pong))
}

fn found(value: &'static [u8], contacts: Vec<Contact>) -> Message {
    let record = Record::plain(value, Version(1), std::time::Duration::from_secs(60));
    message(Body::Reply(Reply::Found(Found {
        records: vec![record],
        more: false,
        held: None,
        contacts,
        token: Token(0),
    })))
}

type Sent = Arc<Mutex<Vec<Outbound>>>;

/// Dials what has the transport of its own address, and keeps what it is given.
struct Fake {
    kind: Vec<&'static str>,
    largest: usize,
    sent: Sent,
}

impl Outbox for Fake {
    fn dials(&self, address: &Multiaddr) -> bool {
        address::transport(address) == self.kind
    }

    fn limits(&self) -> SizeLimits {
        SizeLimits { preferred: self.largest, largest: self.largest }
    }

    fn send(&mut self, outbound: Outbound) -> Result<(), Unsent> {
        match &outbound.envelope.message().body {
            Body::Reply(Reply::Found(Found { records, .. }))
                if records.iter().any(|record| record.value.len() > self.largest) =>
            {
                Err(Unsent::new(outbound, UnsentReason::TooLarge { limit: self.largest as u32 }))
            }
            _ => {
                self.sent.lock().unwrap().push(outbound);
                Ok(())
            }
        }
    }
}

/// What is known of a gateway with this address.
pub(super) fn facts(id: GatewayId, address: Multiaddr) -> Arc<Facts> {
    Arc::new(Facts::new(id, "fake".to_owned(), vec![address], Link::new(id.0, unbounded().0).1))
}

/// A node: a router, and what it sent by each gateway.
struct Node {
    router: Router,
    gateways: Vec<(GatewayId, Multiaddr, Sent)>,
}

const NOW: Time = Time::ZERO;

impl Node {
    fn new(addresses: &[&str]) -> Self {
        Node::with(addresses, RelayMode::On, false)
    }

    fn with(addresses: &[&str], mode: RelayMode, client: bool) -> Self {
        let router = Router::new(RelayPolicy { mode, rate: 10, burst: 10 }, client, Arc::new(Publisher::new(10)));
        let mut node = Node { router, gateways: Vec::new() };
        for address in addresses {
            node.open(parse(address), 1000);
        }
        node
    }

    fn open(&mut self, address: Multiaddr, largest: usize) {
        let id = GatewayId(self.gateways.len() as u64 + 1);
        let sent = Sent::default();
        let fake = Fake { kind: address::transport(&address), largest, sent: Arc::clone(&sent) };
        self.router.open(facts(id, address.clone()), Box::new(fake));
        self.gateways.push((id, address, sent));
    }

    fn receive(&mut self, gateway: usize, from: &str, envelope: Envelope) -> Option<(Multiaddr, ReplyPath, Message)> {
        let inbound = Inbound::connected(parse(from), ReplyPath(99), 1000, envelope);
        let received = self.router.receive(NOW, self.gateways[gateway].0, inbound)?;
        Some((received.from, received.path, received.message))
    }

    fn sent(&self, gateway: usize) -> Vec<Outbound> {
        std::mem::take(&mut *self.gateways[gateway].2.lock().unwrap())
    }

    fn dropped(&self, cause: &str) -> u64 {
        self.router.ports.values().filter_map(|port| port.facts.dropped().get(cause).copied()).sum()
    }
}

fn relayed(to: Option<&str>, from: Option<&str>, message: Message) -> Envelope {
    Envelope::Relayed(Box::new(Circuit { to: to.map(parse), from: from.map(parse), proof: Token(u64::MAX), message }))
}

/// Carries everything on until nothing moves any more. Gives what arrived at each node.
fn carry(nodes: &mut [Node]) -> Vec<(usize, Multiaddr, ReplyPath, Message)> {
    let mut arrived = Vec::new();
    loop {
        let mut moved = Vec::new();
        for node in nodes.iter() {
            for (_, address, sent) in &node.gateways {
                let sent = std::mem::take(&mut *sent.lock().unwrap());
                moved.extend(sent.into_iter().map(|outbound| (address.clone(), outbound)));
            }
        }
        if moved.is_empty() {
            return arrived;
        }
        for (from, Outbound { to, envelope, .. }) in moved {
            let Some((index, gateway)) = nodes.iter().enumerate().find_map(|(index, node)| {
                let gateway = node.gateways.iter().find(|(_, address, _)| *address == to)?;
                Some((index, gateway.0))
            }) else {
                continue;
            };
            let inbound = Inbound::new(from, envelope);
            let received = nodes[index].router.receive(NOW, gateway, inbound);
            if let Some(Received { from, path, message, .. }) = received {
                arrived.push((index, from, path, message));
            }
        }
    }
}

#[test]
fn the_first_gateway_that_dials_an_address_does() {
    let mut node = Node::new(&["/ip4/1.1.1.1/tcp/1", "/ip4/1.1.1.1/udp/1", "/ip4/1.1.1.1/udp/2"]);
    node.router.send(&parse("/ip4/2.2.2.2/udp/9"), None, true, ping()).unwrap();
    assert_eq!((node.sent(0).len(), node.sent(1).len(), node.sent(2).len()), (0, 1, 0));
    assert_eq!(node.router.send(&parse("/memory/1"), None, true, ping()), Err(UnsentReason::NotDialable));
}

#[test]
fn a_gateway_that_is_down_is_not_used_but_known() {
    let mut node = Node::new(&["/ip4/1.1.1.1/udp/1", "/ip4/1.1.1.1/udp/2"]);
    let to = parse("/ip4/2.2.2.2/udp/9");
    node.router.close(GatewayId(1), false);
    node.router.send(&to, None, true, ping()).unwrap();
    assert_eq!(node.sent(1).len(), 1);
    node.router.close(GatewayId(2), true);
    assert_eq!(node.router.send(&to, None, true, ping()), Err(UnsentReason::Closed));
    node.router.close(GatewayId(1), true);
    assert_eq!(node.router.send(&to, None, true, ping()), Err(UnsentReason::NotDialable));
}

#[test]
fn an_answer_leaves_the_way_its_request_came_in() {
    let mut node = Node::new(&["/ip4/1.1.1.1/udp/1", "/ip4/1.1.1.1/udp/2"]);
    let (from, path, _) = node.receive(1, "/ip4/2.2.2.2/udp/9", Envelope::Direct(ping())).unwrap();
    node.router.send(&from, Some(path), true, pong()).unwrap();
    let sent = node.sent(1);
    assert_eq!((sent[0].path, &sent[0].to), (Some(ReplyPath(99)), &from));
    // Another message came in meanwhile, or the gateway has gone: any gateway that dials the address will do.
    node.receive(0, "/ip4/2.2.2.3/udp/9", Envelope::Direct(ping())).unwrap();
    node.router.send(&from, Some(path), true, pong()).unwrap();
    assert_eq!(node.sent(0)[0].path, None);
    let (from, path, _) = node.receive(1, "/ip4/2.2.2.2/udp/9", Envelope::Direct(ping())).unwrap();
    node.router.close(GatewayId(2), true);
    node.router.send(&from, Some(path), true, pong()).unwrap();
    assert_eq!(node.sent(0).len(), 1);
}

#[test]
fn a_reply_counts_only_by_the_gateway_of_its_request() {
    let mut node = Node::new(&["/ip4/1.1.1.1/udp/1", "/ip4/1.1.1.1/tcp/1"]);
    let from = "/ip4/2.2.2.2/udp/9";
    assert!(node.receive(1, from, Envelope::Direct(pong())).is_none());
    assert!(node.receive(1, from, relayed(None, Some("/memory/1"), pong())).is_none());
    assert_eq!(node.dropped("reply by another gateway"), 2);
    assert!(node.receive(0, from, Envelope::Direct(pong())).is_some());
    assert!(node.receive(0, from, relayed(None, Some("/memory/1"), pong())).is_some());
}

#[test]
fn answers_name_the_other_addresses_of_their_sender() {
    let mut node = Node::new(&["/ip4/1.1.1.1/udp/1", "/ip4/1.1.1.1/tcp/1", "/unix/%2Fa"]);
    let (from, path, _) = node.receive(0, "/ip4/2.2.2.2/udp/9", Envelope::Direct(ping())).unwrap();
    node.router.send(&from, Some(path), true, pong()).unwrap();
    assert_eq!(node.sent(0)[0].envelope.message().also, [parse("/ip4/1.1.1.1/tcp/1"), parse("/unix/%2Fa")]);
    // A client has no addresses for others, and a question names none, whatever its sender says.
    node.router.send(&from, None, true, Message { sender: None, ..pong() }).unwrap();
    node.router.send(&from, None, true, ping()).unwrap();
    assert!(node.sent(0).iter().all(|sent| sent.envelope.message().also.is_empty()));
    let request = Message { also: vec![parse("/ip4/3.3.3.3/tcp/1")], ..ping() };
    let (_, _, request) = node.receive(0, "/ip4/2.2.2.2/udp/9", Envelope::Direct(request)).unwrap();
    assert!(request.also.is_empty());
}

#[test]
fn a_record_that_does_not_fit_is_left_out_and_its_version_is_not() {
    let mut node = Node::new(&["/ip4/1.1.1.1/tcp/1"]);
    node.open(parse("/ip4/1.1.1.1/udp/1"), 3);
    let without_record = |sent: &Outbound| match &sent.envelope.message().body {
        Body::Reply(Reply::Found(found)) => found.records.is_empty() && found.more,
        _ => false,
    };
    node.router.send(&parse("/ip4/2.2.2.2/udp/9"), None, true, found(b"large", vec![])).unwrap();
    assert!(without_record(&node.sent(1)[0]));
    // The same for what it passes on.
    let envelope = relayed(Some("/ip4/2.2.2.2/udp/9"), None, found(b"large", vec![]));
    assert!(node.receive(0, "/ip4/3.3.3.3/tcp/1", envelope).is_none());
    assert!(without_record(&node.sent(1)[0]));
    assert_eq!(node.router.relayed(), 1);
}

#[test]
fn a_question_and_its_answer_pass_up_to_three_relays() {
    let ways = [
        "/ip4/1.0.0.1/udp/1/p2p-circuit/ip4/1.0.0.2/tcp/1",
        "/ip4/1.0.0.1/udp/1/p2p-circuit/ip4/1.0.0.2/tcp/1/p2p-circuit/unix/%2Fc",
        "/ip4/1.0.0.1/udp/1/p2p-circuit/ip4/1.0.0.2/tcp/1/p2p-circuit/unix/%2Fc/p2p-circuit/ip4/1.0.0.4/udp/1",
    ];
    for (index, way) in ways.into_iter().enumerate() {
        let mut nodes = [
            Node::new(&["/ip4/1.0.0.9/udp/1"]),
            Node::new(&["/ip4/1.0.0.1/udp/1", "/ip4/1.0.0.1/tcp/1"]),
            Node::new(&["/ip4/1.0.0.2/tcp/1", "/unix/%2Fb"]),
            Node::new(&["/unix/%2Fc", "/ip4/1.0.0.3/udp/1"]),
            Node::new(&["/ip4/1.0.0.4/udp/1"]),
        ];
        nodes[2].receive(1, "/unix/%2Fc", Envelope::Direct(ping())).unwrap();
        nodes[0].router.send(&parse(way), None, true, ping()).unwrap();
        let arrived = carry(&mut nodes);
        let [(at, from, path, request)] = arrived.as_slice() else { panic!("{arrived:?}") };
        assert_eq!((*at, request), (index + 2, &ping()));
        assert_eq!(address::relays(from), index + 1);
        nodes[*at].router.send(from, Some(*path), true, Message { sender: None, ..pong() }).unwrap();
        let arrived = carry(&mut nodes);
        let [(0, from, _, reply)] = arrived.as_slice() else { panic!("{arrived:?}") };
        assert_eq!(from, &parse(way), "the answer comes from where the question went");
        assert_eq!(reply, &Message { sender: None, ..pong() });
    }
}

#[test]
fn no_more_than_three_relays_and_no_loops() {
    let mut node = Node::new(&["/ip4/1.0.0.1/udp/1", "/ip4/1.0.0.1/tcp/1"]);
    let two = "/memory/1/p2p-circuit/memory/2";
    let next = "/ip4/1.0.0.2/tcp/1/p2p-circuit/memory/3";
    assert!(node.receive(0, "/ip4/1.0.0.9/udp/1", relayed(Some(next), Some(two), ping())).is_none());
    assert_eq!(node.dropped("too many relays"), 1);
    for (to, from) in [
        ("/ip4/1.0.0.9/udp/1", None),                               // back where it comes from
        ("/ip4/1.0.0.2/tcp/1", Some("/ip4/1.0.0.2/tcp/1")),         // and to its start
        ("/ip4/1.0.0.2/tcp/1/p2p-circuit/ip4/1.0.0.2/tcp/1", None), // twice in a row
        ("/ip4/1.0.0.1/tcp/1", None),                               // to the relay itself
        ("/ip4/1.0.0.2/tcp/1/p2p-circuit/ip4/1.0.0.1/tcp/1", None), // and back to it
    ] {
        assert!(node.receive(0, "/ip4/1.0.0.9/udp/1", relayed(Some(to), from, ping())).is_none());
        assert!(node.sent(0).is_empty() && node.sent(1).is_empty(), "{to}");
    }
    assert_eq!(node.dropped("relay loop"), 5);
    assert_eq!(node.router.relayed(), 0);
}

#[test]
fn who_relays() {
    let two = ["/ip4/1.0.0.1/udp/1", "/ip4/1.0.0.1/tcp/1"];
    for (mode, client, gateways, relays) in [
        (RelayMode::Off, false, 2, false),
        (RelayMode::On, false, 1, true),
        (RelayMode::Auto, false, 1, false),
        (RelayMode::Auto, false, 2, true),
        (RelayMode::Auto, true, 2, false),
    ] {
        let mut node = Node::with(&two[..gateways], mode, client);
        node.receive(0, "/ip4/1.0.0.9/udp/1", relayed(Some("/ip4/1.0.0.8/udp/1"), None, ping()));
        assert_eq!(node.router.relayed() == 1, relays, "{mode:?} {client} {gateways}");
        assert_eq!(node.dropped("relaying is off") == 0, relays);
    }
}

#[test]
fn a_circuit_that_is_not_filled_up_is_not_taken() {
    let find = |key| message(Body::Request(Request::FindValue { key, after: None, proof: None }));
    let (to, back) = (Some("/ip4/1.0.0.8/udp/1"), Some("/ip4/1.0.0.7/udp/1"));
    for message in [ping(), pong(), find(Id::ZERO), find(Id::new([7; 32])), found(b"value", vec![])] {
        for (to, back) in [(to, None), (to, back), (None, back)] {
            let envelope = relayed(to, back, message.clone());
            let whole = codec::encoded_size(&envelope).unwrap();
            for proved in [false, true] {
                let mut node = Node::new(&["/ip4/1.0.0.1/udp/1"]);
                let mut receive = |bytes| {
                    let inbound = Inbound::datagram(parse("/ip4/1.0.0.9/udp/1"), bytes, envelope.clone());
                    let taken = node.router.receive(NOW, node.gateways[0].0, Inbound { proved, ..inbound }).is_some();
                    (taken, node.router.relayed(), node.dropped("circuit too short"))
                };
                assert_eq!(receive(whole - 1), (false, 0, 1));
                assert_eq!(receive(whole), (to.is_none(), u64::from(to.is_some()), 1));
                let sent = node.sent(0);
                let bound = if proved { None } else { Some(whole) };
                assert!(sent.iter().all(|sent| sent.at_most == bound && size(sent) <= whole), "{sent:?}");
            }
        }
    }
}

fn size(outbound: &Outbound) -> usize {
    codec::encoded_size(&outbound.envelope).unwrap()
}

#[test]
fn an_answer_through_relays_leaves_room_for_the_pings_of_who_asked() {
    let mut node = Node::new(&["/ip4/1.0.0.1/udp/1"]);
    let way = "/memory/1/p2p-circuit/ip4/1.0.0.2/tcp/1";
    let largest =
        Message { network: NetworkId(u32::MAX), tag: Tag(u64::MAX), sender: Some(Id::new([7; 32])), ..ping() };
    for back in [None, Some("/memory/1"), Some(way)] {
        let request = match back {
            None => Envelope::Direct(ping()),
            Some(_) => relayed(None, back, ping()),
        };
        let bytes = codec::encoded_size(&request).unwrap();
        let inbound = Inbound::datagram(parse("/ip4/1.0.0.9/udp/1"), bytes, request);
        let received = node.router.receive(NOW, node.gateways[0].0, inbound).unwrap();
        node.router.send(&received.from, Some(received.path), false, Message { sender: None, ..pong() }).unwrap();
        node.router.send(&received.from, None, true, largest.clone()).unwrap();
        let [answer, ping] = &node.sent(0)[..] else { panic!() };
        assert_eq!(answer.at_most.unwrap() + 2 * size(ping), 3 * bytes);
        assert!(size(answer) <= answer.at_most.unwrap());
    }
}

#[test]
fn one_source_is_limited_and_others_are_not() {
    let mut node = Node::new(&["/ip4/1.0.0.1/udp/1"]);
    for _ in 0..15 {
        node.receive(0, "/ip4/1.0.0.9/udp/1", relayed(Some("/ip4/1.0.0.7/udp/1"), None, ping()));
    }
    assert_eq!((node.router.relayed(), node.dropped("relaying is limited")), (10, 5));
    node.receive(0, "/ip4/1.0.0.8/udp/1", relayed(Some("/ip4/1.0.0.7/udp/1"), None, ping()));
    assert_eq!(node.router.relayed(), 11);
}

/// Circuits under the address of `victim`, and under more addresses of others than a limiter remembers.
fn flood(relay: &mut Node, victim: &str) {
    let circuit = relayed(Some("/ip4/1.0.0.2/tcp/1"), None, ping());
    let others = (0..10_000).map(|n: u16| format!("/ip4/9.9.{}.{}/udp/1", n >> 8, n & 255));
    for from in std::iter::repeat_n(victim.to_owned(), 100).chain(others) {
        let inbound = Inbound::new(parse(&from), circuit.clone());
        relay.router.receive(NOW, relay.gateways[0].0, inbound);
    }
}

#[test]
fn a_flood_in_the_names_of_others_takes_nothing_from_them() {
    let honest = "/ip4/1.0.0.9/udp/1";
    let mut nodes = [
        Node::new(&[honest]),
        Node::new(&["/ip4/1.0.0.1/udp/1", "/ip4/1.0.0.1/tcp/1"]),
        Node::new(&["/ip4/1.0.0.2/tcp/1"]),
    ];
    let way = parse("/ip4/1.0.0.1/udp/1/p2p-circuit/ip4/1.0.0.2/tcp/1");
    let mut arrived = Vec::new();
    for number in 100..120 {
        flood(&mut nodes[1], honest);
        nodes[0].router.send(&way, None, true, Message { tag: Tag(number), ..ping() }).unwrap();
        let came = carry(&mut nodes).into_iter().map(|(_, _, _, message)| message.tag.0);
        arrived.extend(came.filter(|tag| *tag >= 100));
    }
    // The first one is lost: by its answer the sender learns how to show that it is there. Ten may pass at once.
    assert_eq!(arrived, (101..111).collect::<Vec<_>>());
}

/// Whether a node at a public UDP address, with Unix sockets besides, passes a message on.
fn passes(node: &mut Node, gateway: usize, from: &str, envelope: Envelope) -> bool {
    let before = node.router.relayed();
    node.receive(gateway, from, envelope);
    node.router.relayed() > before
}

#[test]
fn what_comes_from_elsewhere_is_passed_on_only_to_nodes_of_this_host() {
    let (stranger, local) = ("/ip4/2.0.0.9/udp/1", "/unix/%2Flocal");
    for to in ["/ip4/127.0.0.1/udp/53", "/unix/%2Frun%2Fservice.sock", "/unix/%2Fx/p2p-circuit/ip4/1.0.0.8/udp/1"] {
        for message in [ping(), pong()] {
            let mut node = Node::new(&["/ip4/1.0.0.1/udp/1", "/unix/%2Fown"]);
            let into = |back| relayed(Some(to), back, message.clone());
            assert!(!passes(&mut node, 0, stranger, into(None)));
            assert!(!passes(&mut node, 0, stranger, into(Some(local))), "whatever it says of where it comes from");
            assert!(!passes(&mut node, 1, local, into(Some(stranger))), "through another relay of this host");
            assert_eq!(node.dropped("stranger to this host"), 3);
            assert!(passes(&mut node, 1, local, into(None)));
            assert!(passes(&mut node, 1, local, into(Some("/ip4/127.0.0.1/udp/7"))));
            // Who has been heard of there is a node.
            let (there, _) = address::split_first(&parse(to));
            let gateway = usize::from(address::ip(&there).is_none());
            node.receive(gateway, &there.to_string(), Envelope::Direct(ping()));
            assert!(passes(&mut node, 0, stranger, into(None)));
        }
    }
}

#[test]
fn whom_a_node_of_this_host_names_others_may_reach() {
    let (stranger, local) = ("/ip4/2.0.0.9/udp/1", "/unix/%2Flocal");
    let contacts = || {
        let addresses =
            ["/unix/%2Fa/p2p-circuit/unix/%2Fb/p2p-circuit/ip4/2.0.0.1/tcp/1/p2p-circuit/unix/%2Fc", "/unix/%2Fd"];
        vec![Contact::with_others(Id::ZERO, parse("/ip4/127.0.0.1/udp/7"), addresses.map(parse).to_vec())]
    };
    let reachable = |node: &mut Node, stranger| {
        let all = ["/ip4/127.0.0.1/udp/7", "/unix/%2Fa", "/unix/%2Fb", "/unix/%2Fc", "/unix/%2Fd"];
        all.map(|to| passes(node, 0, stranger, relayed(Some(to), None, ping())))
    };
    let mut node = Node::new(&["/ip4/1.0.0.1/udp/1", "/unix/%2Fown"]);
    // Strangers name them to each other, or say that somebody of this host does.
    for from in [None, Some(local)] {
        assert!(passes(&mut node, 0, stranger, relayed(Some("/ip4/2.0.0.8/udp/1"), from, found(b"", contacts()))));
    }
    assert_eq!(reachable(&mut node, stranger), [false; 5]);
    assert!(passes(&mut node, 1, local, relayed(Some(stranger), None, found(b"", contacts()))));
    assert_eq!(reachable(&mut node, "/ip4/2.0.0.7/udp/1"), [true, true, true, false, true], "one is on another host");
}

#[test]
fn what_is_no_circuit_is_dropped() {
    let mut node = Node::new(&["/ip4/1.0.0.1/udp/1"]);
    let long = "/memory/1".to_owned() + &"/p2p-circuit/memory/1".repeat(4);
    for envelope in [
        relayed(None, None, ping()),
        relayed(Some("/p2p-circuit"), None, ping()),
        relayed(Some("/ip4/0.0.0.0/udp/1"), None, ping()),
        relayed(Some(&long), None, ping()),
        relayed(None, Some(&long), ping()),
        relayed(None, Some("/memory/1/p2p-circuit"), ping()),
    ] {
        assert!(node.receive(0, "/ip4/1.0.0.9/udp/1", envelope).is_none());
    }
    assert_eq!(node.dropped("malformed circuit"), 6);
    let three = "/memory/1/p2p-circuit/memory/2/p2p-circuit/memory/3/p2p-circuit/memory/4";
    assert!(node.receive(0, "/ip4/1.0.0.9/udp/1", relayed(None, Some(three), ping())).is_none());
    assert_eq!(node.dropped("malformed source"), 1);
}

#[test]
fn contacts_in_answers_become_ways_from_here() {
    let mut node = Node::new(&["/ip4/1.0.0.1/udp/1"]);
    let contacts = ["/ip4/1.0.0.2/tcp/1", "/ip4/1.0.0.3/udp/1", "/ip4/1.0.0.1/udp/1"]
        .map(|text| Contact::new(Id::ZERO, parse(text)))
        .to_vec();
    let envelope = Envelope::Direct(found(b"value", contacts));
    let (_, _, message) = node.receive(0, "/ip4/1.0.0.9/udp/1", envelope).unwrap();
    let Body::Reply(Reply::Found(found)) = message.body else { panic!() };
    let addresses: Vec<_> = found.contacts.iter().map(|contact| contact.address().to_string()).collect();
    assert_eq!(addresses, ["/ip4/1.0.0.9/udp/1/p2p-circuit/ip4/1.0.0.2/tcp/1", "/ip4/1.0.0.3/udp/1"]);
    assert_eq!(node.dropped("contact out of reach"), 1);
    assert_eq!(found.records.len(), 1);
}

proptest! {
    /// Whatever is asked of it, a relay sends at most one message for one, straight on and within the bounds.
    #[test]
    fn relaying_is_bounded(
        to in "(/memory/[1-4]|/ip4/1.0.0.[1-4]/udp/1|/p2p-circuit){0,7}",
        from in "(/memory/[1-4]|/ip4/1.0.0.[1-4]/udp/1|/p2p-circuit){0,7}",
        reply: bool,
    ) {
        let mut node = Node::new(&["/ip4/1.0.0.1/udp/1", "/memory/1"]);
        let address = |text: &str| if text.is_empty() { None } else { text.parse::<Multiaddr>().ok() };
        let message = if reply { pong() } else { ping() };
        let circuit = Circuit { to: address(&to), from: address(&from), proof: Token(0), message };
        let taken = node.receive(0, "/ip4/1.0.0.2/udp/1", Envelope::Relayed(Box::new(circuit)));
        let sent = [node.sent(0), node.sent(1)].concat();
        prop_assert_eq!(sent.len() as u64, node.router.relayed());
        prop_assert!(sent.len() <= 1 && (taken.is_none() || sent.is_empty()));
        for Outbound { to, envelope, .. } in sent {
            prop_assert_eq!(address::relays(&to), 0);
            let Envelope::Relayed(circuit) = envelope else { panic!() };
            let from = circuit.from.unwrap();
            let rest = circuit.to.map_or(0, |to| address::relays(&to) + 1);
            prop_assert!(address::relays(&from) + 1 + rest <= MAX_RELAYS);
        }
        if let Some((from, ..)) = taken {
            prop_assert!(address::relays(&from) <= MAX_RELAYS);
        }
    }
}
