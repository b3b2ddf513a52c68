//! What the router and the core send together, whatever comes and from whomever: nothing is multiplied.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use kademlia_gateways::{
    Expect, Id, KeySpace, Multiaddr, NetworkId, Record, RecordKind, Request, SizeLimits, Version, parts,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::tests::facts;
use super::*;
use crate::core::{Command, Input, Node, OperationId, Output, Params};

const NETWORK: NetworkId = NetworkId(7);

/// Where the node listens. By UDP nothing is proved; the others are connections.
const OWN: [&str; 4] = ["/ip4/1.0.0.1/udp/1", "/ip6/2001:db8::1/udp/1", "/ip4/1.0.0.1/tcp/1", "/unix/%2Fown"];

/// Those who send what they like, and answer nothing.
const STRANGERS: [&str; 7] = [
    "/ip4/2.0.0.1/udp/1",
    "/ip4/2.0.0.2/udp/65535",
    "/ip6/2001:db8:ffff:ffff:ffff:ffff:ffff:ffff/udp/65535",
    "/ip4/127.0.0.1/udp/9",
    "/ip4/2.0.0.1/tcp/1",
    "/unix/%2Fa",
    "/unix/%2Frun%2Fa%2Fpath%2Fthat%2Fis%2Fmuch%2Flonger%2Fthan%2Fany%2Faddress%2Fof%2Fa%2Fsocket.sock",
];

fn parse(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

fn is_proved(from: &Multiaddr) -> bool {
    !address::transport(from).contains(&"udp")
}

/// The messages that were sent: where to, and their bytes.
type Sent = Arc<Mutex<Vec<(Multiaddr, usize)>>>;

/// Encodes as the gateways do.
struct Wire {
    kind: Vec<&'static str>,
    limits: SizeLimits,
    sent: Sent,
}

impl Outbox for Wire {
    fn dials(&self, address: &Multiaddr) -> bool {
        address::transport(address) == self.kind
    }

    fn limits(&self) -> SizeLimits {
        self.limits
    }

    fn send(&mut self, mut outbound: Outbound) -> Result<(), Unsent> {
        let (mut limits, mut bytes) = (outbound.limits(self.limits), Vec::new());
        let is_datagrams = self.limits == SizeLimits::PARTS;
        if let Some(most) = outbound.at_most.filter(|_| is_datagrams) {
            limits.largest = parts::largest_within(most);
        }
        match codec::encode_fitting(&mut outbound.envelope, limits, &mut bytes) {
            Ok(()) => {
                let size = if is_datagrams { parts::bytes_on_the_wire(bytes.len()) } else { bytes.len() };
                self.sent.lock().unwrap().push((outbound.to, size));
                Ok(())
            }
            Err(error) => Err(Unsent::new(outbound, error.into())),
        }
    }
}

/// A node with records and contacts, and how many bytes came from whom and went to them.
struct Whole {
    node: Node<Contact>,
    router: Router,
    now: Time,
    sent: Sent,
    bytes: BTreeMap<Multiaddr, (usize, usize)>,
    /// How much was relayed and answered.
    relayed: usize,
    answered: usize,
}

fn id(n: u16) -> Id {
    let [a, b] = n.to_be_bytes();
    Id::from_prefix(&[&[b, a][..], &[7; 18]].concat())
}

/// The size of the record that is held under a key.
const HELD: [usize; 6] = [0, 100, 512, 513, 1000, 5000];

fn record(bytes: usize) -> Record {
    Record { kind: RecordKind::Plain, ..Record::plain(vec![1; bytes], Version(u64::MAX), Duration::from_secs(3600)) }
}

impl Whole {
    fn new(policy: RelayPolicy, contacts: u16) -> Self {
        let day = Duration::from_secs(86_400);
        let params = Params {
            network: NETWORK,
            // Only those who are asked for something are sent anything.
            peer_timeout: day,
            refresh_interval: day,
            replicate_interval: day,
            ..Params::new(KeySpace::new(20).unwrap())
        };
        let node = Node::new(id(0xffff), params, [1; 16], Time::ZERO);
        let mut router = Router::new(policy, false, Arc::new(Publisher::new(10)));
        let sent = Sent::default();
        for (number, own) in OWN.iter().map(|own| parse(own)).enumerate() {
            let limits = if is_proved(&own) { SizeLimits::STREAM } else { SizeLimits::PARTS };
            let wire = Wire { kind: address::transport(&own), limits, sent: Arc::clone(&sent) };
            router.open(facts(GatewayId(number as u64), own), Box::new(wire));
        }
        let (bytes, relayed, answered) = Default::default();
        let mut whole = Whole { node, router, now: Time::ZERO, sent, bytes, relayed, answered };
        for (number, size) in HELD.into_iter().enumerate() {
            whole.feed(Input::Restore { key: id(number as u16), record: record(size) });
        }
        for number in 0..contacts {
            whole.meet(number);
        }
        whole.bytes.clear();
        whole
    }

    /// Makes a contact known, by a ping that it answers.
    fn meet(&mut self, number: u16) {
        // With the longest addresses that IP has an answer is as long as it may be.
        let to = match number % 4 {
            0 => parse(&format!("/ip4/10.0.0.{number}/udp/4001")),
            _ => parse(&format!("/ip6/2001:db8::10:{number}/udp/4001")),
        };
        let (operation, command) = (OperationId(number.into()), Command::Ping { address: to.clone() });
        let mut out = Vec::new();
        self.node.handle(self.now, Input::Start { operation, command }, &mut out);
        let tag = out.iter().find_map(|output| match output {
            Output::Send { message, .. } => Some(message.tag),
            _ => None,
        });
        let sender = Some(id(number.wrapping_mul(1021)));
        let message =
            Message { network: NETWORK, tag: tag.unwrap(), sender, also: Vec::new(), body: Body::Reply(Reply::Pong) };
        self.feed(Input::Message { from: to, path: ReplyPath(0), proved: false, message });
    }

    fn feed(&mut self, input: Input<Contact>) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut out = Vec::new();
            self.node.handle(self.now, input, &mut out);
            for output in out {
                let Output::Send { to, path, proved, message } = output else { continue };
                let (tag, is_request) = (message.tag, message.is_request());
                match self.router.send(&to, path, proved, message) {
                    Err(reason) if is_request => inputs.push(Input::Unsent { tag, reason }),
                    _ => {}
                }
            }
        }
        for (to, bytes) in self.take_sent() {
            self.answered += 1;
            self.bytes.entry(to).or_default().1 += bytes;
        }
    }

    fn take_sent(&self) -> Vec<(Multiaddr, usize)> {
        std::mem::take(&mut *self.sent.lock().unwrap())
    }

    /// Takes what a stranger sent.
    fn receive(&mut self, from: &Multiaddr, bytes: &[u8]) {
        let size = if is_proved(from) { bytes.len() } else { parts::bytes_on_the_wire(bytes.len()) };
        self.bytes.entry(from.clone()).or_default().0 += size;
        let envelope = codec::decode(bytes).unwrap();
        let kind = address::transport(from);
        let gateway = OWN.iter().position(|own| address::transport(&parse(own)) == kind).unwrap();
        let inbound = Inbound { proved: is_proved(from), ..Inbound::datagram(from.clone(), size, envelope) };
        let received = self.router.receive(self.now, GatewayId(gateway as u64), inbound);
        let relayed = self.take_sent();
        assert!(relayed.len() <= usize::from(received.is_none()));
        // The address of a Unix socket can be long, and only this host's own sockets have one.
        let more = if is_proved(from) && address::ip(from).is_none() { from.len() } else { 0 };
        // What came by a connection, or with less in it whole, can go on in parts.
        let most = parts::bytes_on_the_wire(bytes.len() + more);
        for (to, went) in relayed {
            self.relayed += 1;
            assert!(went <= most, "{size} bytes from {from}, {went} to {to}");
        }
        if let Some(Received { from, path, proved, message }) = received {
            self.feed(Input::Message { from, path, proved, message });
        }
    }

    fn wait(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(wake) = self.node.next_wake().filter(|wake| *wake <= end) {
            self.now = self.now.max(wake);
            self.feed(Input::Tick);
        }
        self.now = end;
    }

    fn check(&self) {
        for (address, (came, went)) in &self.bytes {
            let is_stranger = STRANGERS.iter().any(|stranger| parse(stranger) == *address);
            if is_stranger && !is_proved(address) {
                assert!(*went <= came * MAX_AMPLIFICATION, "{came} bytes from {address}, {went} to it");
            }
        }
    }
}

/// What happens.
#[derive(Debug, Clone)]
enum Step {
    Send { from: Multiaddr, envelope: Box<Envelope>, filled: bool },
    Wait(Duration),
}

fn any_stranger() -> impl Strategy<Value = Multiaddr> {
    // Most by UDP, where they are not proved.
    prop_oneof![4 => 0..4_usize, 1 => 4..STRANGERS.len()].prop_map(|n| parse(STRANGERS[n]))
}

/// None, or a way of several addresses: of strangers, of contacts, of the node itself, of others on its host.
fn any_way() -> impl Strategy<Value = Option<Multiaddr>> {
    let known = ["/ip4/10.0.0.4/udp/4001", OWN[0], "/unix/%2Fb", "/memory/1", "/ip4/127.0.0.1/tcp/2"];
    let address = prop_oneof![4 => any_stranger(), 1 => prop::sample::select(known.map(parse).to_vec())];
    let ways = prop::collection::vec(address, 0..4);
    ways.prop_map(|ways| address::join(&ways))
}

fn any_id() -> impl Strategy<Value = Id> {
    prop_oneof![
        4 => (0..HELD.len() as u16).prop_map(id),
        1 => any::<[u8; 20]>().prop_map(|bytes| Id::from_prefix(&bytes)),
        1 => Just(id(1021)),
        1 => Just(Id::new([9; 32])),
    ]
}

fn any_body() -> impl Strategy<Value = Body> {
    let proof = prop::option::of(any::<u64>().prop_map(Token));
    let store = (any_id(), prop_oneof![3 => 0..1200_usize, 1 => 1200..6000_usize], any::<u64>()).prop_map(
        |(key, bytes, token)| {
            let expect = [Expect::Anything, Expect::Absent, Expect::Version(Version(3))][bytes % 3];
            Request::Store { key, record: record(bytes), token: Token(token), expect }
        },
    );
    let request = prop_oneof![
        2 => Just(Request::Ping),
        2 => any_id().prop_map(|target| Request::FindNode { target }),
        3 => (any_id(), proof).prop_map(|(key, proof)| Request::FindValue { key, after: None, proof }),
        1 => store,
    ];
    let contacts = prop::collection::vec((any_id(), any_stranger()), 0..20);
    let found =
        (contacts, prop::option::of(prop_oneof![0..1000_usize, 1000..6000_usize])).prop_map(|(contacts, bytes)| {
            let contacts = contacts.into_iter().map(|(id, address)| Contact::new(id, address)).collect();
            Reply::Found(Found {
                records: Vec::from_iter(bytes.map(record)),
                more: false,
                held: None,
                contacts,
                token: Token(5),
            })
        });
    let refused = Just(Reply::Refused(Refusal::Limited));
    let reply = prop_oneof![Just(Reply::Pong), Just(Reply::Stored), refused, found];
    prop_oneof![4 => request.prop_map(Body::Request), 1 => reply.prop_map(Body::Reply)]
}

fn any_envelope() -> impl Strategy<Value = Envelope> {
    let number = || prop_oneof![Just(1), any::<u64>()];
    let message = (number(), prop::option::of(any_id()), any_body()).prop_map(|(tag, sender, body)| Message {
        network: NETWORK,
        tag: Tag(tag),
        sender,
        also: Vec::new(),
        body,
    });
    let ways = prop::option::of((any_way(), any_way(), number()));
    (message, ways).prop_map(|(message, ways)| match ways {
        None => Envelope::Direct(message),
        Some((to, from, proof)) => Envelope::Relayed(Box::new(Circuit { to, from, proof: Token(proof), message })),
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    let send = (any_stranger(), any_envelope(), prop::bool::weighted(0.7));
    prop_oneof![
        8 => send.prop_map(|(from, envelope, filled)| Step::Send { from, envelope: Box::new(envelope), filled }),
        1 => (0..5000_u64).prop_map(|milliseconds| Step::Wait(Duration::from_millis(milliseconds))),
    ]
}

/// The encoding, with or without what it is filled up with.
fn encoded(envelope: &Envelope, filled: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode(envelope, &mut bytes).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let bare = (used..bytes.len()).find(|end| codec::decode(&bytes[..*end]).is_ok());
    bytes.truncate(bare.filter(|_| !filled).unwrap_or(bytes.len()));
    bytes
}

fn run(policy: RelayPolicy, contacts: u16, steps: &[Step]) -> Whole {
    let mut whole = Whole::new(policy, contacts);
    for step in steps {
        match step {
            Step::Send { from, envelope, filled } => whole.receive(from, &encoded(envelope, *filled)),
            Step::Wait(duration) => whole.wait(*duration),
        }
        whole.check();
    }
    whole.wait(Duration::from_secs(60));
    whole.check();
    whole
}

const UNLIMITED: RelayPolicy = RelayPolicy { mode: RelayMode::On, rate: 1_000_000, burst: 1_000_000 };

#[test]
fn much_is_answered_and_relayed() {
    let strategy = prop::collection::vec(any_step(), 2000);
    let mut runner = TestRunner::deterministic();
    let steps = strategy.new_tree(&mut runner).unwrap().current();
    let whole = run(UNLIMITED, 100, &steps);
    assert!(whole.answered > 200 && whole.relayed > 100, "{} answered, {} relayed", whole.answered, whole.relayed);
    assert!(whole.node.contact_count() > 50);
}

proptest! {
    #[test]
    fn nothing_is_multiplied(
        limited: bool,
        contacts in prop::sample::select(vec![0, 3, 60]),
        steps in prop::collection::vec(any_step(), 1..40),
    ) {
        let limited = RelayPolicy { mode: RelayMode::On, rate: 1, burst: if limited { 4 } else { 1_000_000 } };
        run(limited, contacts, &steps);
    }
}
