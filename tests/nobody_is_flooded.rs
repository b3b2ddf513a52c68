//! A node multiplies nothing: an address that is not proved is sent at most three times the bytes that came from there,
//! whatever is asked, on whatever way, and whatever the node holds; and no large record at all. To others a relay sends no
//! more than what came.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use kademlia_dht::gateway::{
    Body, Circuit, Envelope, Expect, Found, Id, Message, Multiaddr, NetworkId, Record, Reply, Request, Tag, Token,
    UdpGateway, Version, address, codec, parts,
};
use kademlia_dht::{Config, DHTService, RelayMode, RelayPolicy};

/// After this long without an answer the node pings no more.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(400);

/// A value that fits a datagram, and one whose message goes in parts.
const FITS: usize = 1000;
const IN_PARTS: usize = 5000;

/// The largest value that there is.
const LARGEST: usize = 64 << 10;

fn id(n: u16) -> Id {
    let [a, b] = n.to_be_bytes();
    Id::from_prefix(&[&[b, a][..], &[7; 18]].concat())
}

fn start() -> (DHTService, SocketAddr) {
    // So much is relayed that nothing is left out here.
    let relay = RelayPolicy { mode: RelayMode::On, rate: 1_000_000, burst: 1_000_000 };
    let config = Config { request_timeout: REQUEST_TIMEOUT, relay, ..Config::default() };
    let service = DHTService::start(config).unwrap();
    service.register_gateway(UdpGateway::bind("/ip4/127.0.0.1/udp/0".parse().unwrap()).unwrap()).unwrap();
    let (socket, _) = address::socket_addr(&service.listen_addresses()[0]).unwrap();
    (service, socket)
}

/// Someone with a socket, who speaks the protocol by hand.
struct Stranger {
    socket: UdpSocket,
    /// The way on from whom the socket is connected to.
    way: Option<Multiaddr>,
    sent: usize,
}

impl Stranger {
    fn new(to: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(to).unwrap();
        Stranger { socket, way: None, sent: 0 }
    }

    /// Sends a message with so many bytes of what the encoder fills it up with.
    fn send(&mut self, sender: Option<Id>, tag: u64, body: Body, filling: Filling) {
        let bytes = encoded(sender, tag, body, self.way.clone());
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        let bytes = match filling {
            Filling::All => &bytes[..],
            // The last parts of a message can be zeros as well.
            Filling::None => (used..).map(|end| &bytes[..end]).find(|part| codec::decode(part).is_ok()).unwrap(),
        };
        let mut buffer = [&[0; parts::HEADER_BYTES], bytes].concat();
        let sent: std::io::Result<()> = parts::send(tag ^ 0x5555, &mut buffer, |datagram| {
            self.sent += datagram.len();
            self.socket.send(datagram).map(drop)
        });
        sent.unwrap();
    }

    fn receive_datagram(&self, within: Duration) -> Option<Vec<u8>> {
        self.socket.set_nonblocking(within.is_zero()).unwrap();
        self.socket.set_read_timeout(Some(within).filter(|within| !within.is_zero())).unwrap();
        let mut buffer = [0; 2000];
        let size = self.socket.recv(&mut buffer).ok()?;
        Some(buffer[..size].to_vec())
    }

    /// The next message, in however many datagrams it comes.
    fn receive(&self, within: Duration) -> Option<Message> {
        let mut assembler = parts::Assembler::default();
        // From whomever, as the socket is connected, or known to one node alone.
        let from = SocketAddr::from(([127, 0, 0, 1], 1));
        loop {
            let mut message = self.receive_datagram(within)?;
            if parts::is_part(&message) {
                let Some(whole) = assembler.accept(Instant::now(), from, &message).unwrap() else { continue };
                message = whole.message;
            }
            return Some(codec::decode(&message).unwrap().message().clone());
        }
    }

    /// All bytes that come until nothing has come for a while.
    fn received(&self, pause: Duration) -> usize {
        std::iter::from_fn(|| self.receive_datagram(pause)).map(|datagram| datagram.len()).sum()
    }

    /// Asks, and gives the answer.
    fn ask(&mut self, tag: u64, request: Request) -> Option<Message> {
        self.send(None, tag, Body::Request(request), Filling::All);
        let mut answers = std::iter::from_fn(|| self.receive(Duration::from_secs(2)));
        answers.find(|message| message.tag == Tag(tag))
    }

    fn found(&mut self, tag: u64, key: Id, proof: Option<Token>) -> Found {
        match self.ask(tag, Request::FindValue { key, after: None, proof }).map(|message| message.body) {
            Some(Body::Reply(Reply::Found(found))) => found,
            other => panic!("{other:?}"),
        }
    }
}

/// Whether requests are filled up as they should be.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Filling {
    All,
    None,
}

fn encoded(sender: Option<Id>, tag: u64, body: Body, way: Option<Multiaddr>) -> Vec<u8> {
    let network = Config::default().network;
    let message = Message { network, tag: Tag(tag), sender, also: Vec::new(), body };
    let envelope = match way {
        None => Envelope::Direct(message),
        Some(way) => Envelope::Relayed(Box::new(Circuit { to: Some(way), from: None, proof: Token(1), message })),
    };
    let mut bytes = Vec::new();
    codec::encode(&envelope, &mut bytes).unwrap();
    bytes
}

/// Contacts that answer every ping until all of them are known.
fn fill_the_table(service: &DHTService, at: SocketAddr) {
    let mut peers: Vec<(Id, Stranger)> = (0..60).map(|n| (id(n * 1021), Stranger::new(at))).collect();
    for (id, peer) in &mut peers {
        peer.send(Some(*id), 1, Body::Request(Request::Ping), Filling::All);
        while let Some(message) = peer.receive(Duration::from_secs(2)) {
            if message.is_request() {
                peer.send(Some(*id), message.tag.0, Body::Reply(Reply::Pong), Filling::All);
                break;
            }
        }
    }
    // What was answered before this is known.
    assert!(Stranger::new(at).ask(1, Request::Ping).is_some());
    let known = service.status().known_peers;
    assert!(known >= 30, "{known}");
}

#[test]
fn an_unproved_address_gets_at_most_three_times_what_it_sent() {
    let (service, at) = start();
    let (near, near_at) = start();
    let (far, _) = start();
    let node = service.listen_addresses()[0].clone();
    let ways = [
        ("directly", at, None),
        ("through a relay", near_at, Some(node.clone())),
        ("through two relays", near_at, Some(address::through(&far.listen_addresses()[0], &node))),
    ];
    for state in ["new", "holding", "full"] {
        match state {
            "holding" => {
                for (n, bytes) in [(1, 0), (2, 100), (3, 512), (4, 513), (5, FITS), (6, IN_PARTS), (7, LARGEST)] {
                    hold(at, id(n), bytes);
                }
                assert_eq!(service.status().records, 7);
            }
            "full" => fill_the_table(&service, at),
            _ => {}
        }
        for (how, first, way) in &ways {
            let mut answered = 0;
            // The last one is pinged last, and pinged again: then nothing more comes for anyone.
            let mut pause = REQUEST_TIMEOUT * 2;
            for (what, stranger) in every_request(*first, || way.clone()).into_iter().rev() {
                let received = stranger.received(pause);
                pause = Duration::ZERO;
                let sent = stranger.sent;
                assert!(received <= sent * 3, "{state}, {how}: {what}: {sent} bytes sent, {received} received");
                answered += usize::from(received > 0);
            }
            assert!(answered > 20, "{state}, {how}: {answered}");
        }
    }
    assert!(near.status().relayed > far.status().relayed && far.status().relayed > 0);
}

#[test]
fn what_is_relayed_to_others_is_not_more_than_what_came() {
    let (relay, at) = start();
    let mut others = Vec::new();
    let mut way = || {
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = address::ip_address(other.local_addr().unwrap(), address::IpTransport::Udp);
        others.push(Stranger { socket: other, way: None, sent: 0 });
        Some(address)
    };
    let asked = every_request(at, &mut way);
    let mut relayed = 0;
    // The last one is the last that something comes for, if it does.
    let mut pause = Duration::from_secs(1);
    for ((what, stranger), other) in asked.iter().zip(&others).rev() {
        let received = other.received(pause);
        pause = Duration::ZERO;
        assert!(received <= stranger.sent, "{what}: {} bytes sent, {received} relayed", stranger.sent);
        relayed += usize::from(received > 0);
    }
    assert!(relayed > 20, "{relayed}: {:?}", relay.status());
}

/// Has the node keep a record, as anyone may who shows its token.
fn hold(at: SocketAddr, key: Id, bytes: usize) {
    let mut publisher = Stranger::new(at);
    let token = publisher.found(1, key, None).token;
    let record = Record::plain(vec![1; bytes], Version(1), Duration::from_secs(3600));
    let store = Request::Store { key, record, token, expect: Expect::Anything };
    assert!(matches!(publisher.ask(2, store).unwrap().body, Body::Reply(Reply::Stored)));
}

/// Each request with and without an id, filled up and bare, by someone who never answers.
fn every_request(at: SocketAddr, mut way: impl FnMut() -> Option<Multiaddr>) -> Vec<(String, Stranger)> {
    let mut requests = vec![Request::Ping];
    for n in 0..8 {
        let key = id(n);
        requests.push(Request::FindNode { target: key });
        requests.extend([None, Some(Token(5))].map(|proof| Request::FindValue { key, after: None, proof }));
        for bytes in [0, FITS, IN_PARTS] {
            let record = Record::plain(vec![2; bytes], Version(u64::MAX), Duration::from_secs(9));
            let expect = [Expect::Anything, Expect::Absent, Expect::Version(Version(3))][usize::from(n) % 3];
            requests.push(Request::Store { key, record, token: Token(9), expect });
        }
    }
    let mut asked = Vec::new();
    for (number, request) in requests.into_iter().enumerate() {
        for (sender, tag) in
            [(None, 1), (None, u64::MAX), (Some(id(900 + number as u16)), 1), (Some(Id::new([3; 32])), 7)]
        {
            for filling in [Filling::All, Filling::None] {
                let mut stranger = Stranger { way: way(), ..Stranger::new(at) };
                stranger.send(sender, tag, Body::Request(request.clone()), filling);
                asked.push((format!("{request:?} from {sender:?}, {filling:?}"), stranger));
            }
        }
    }
    asked
}

#[test]
fn a_large_record_goes_only_to_an_address_that_is_proved() {
    let (service, at) = start();
    hold(at, id(1), LARGEST);
    let mut reader = Stranger::new(at);
    let unproved = reader.found(1, id(1), None);
    assert_eq!((unproved.records, unproved.held), (vec![], Some(Version(1))));
    let forged = reader.found(2, id(1), Some(Token(unproved.token.0 ^ 1)));
    assert_eq!(forged.records, []);
    let elsewhere = Stranger::new(at).found(3, id(1), Some(unproved.token));
    assert_eq!(elsewhere.records, [], "it is the token of another address");
    let proved = reader.found(4, id(1), Some(unproved.token));
    assert_eq!(proved.records[0].value.len(), LARGEST);

    // Who asks as the library does notices nothing of it.
    let (other, _) = start();
    other.connect(service.listen_addresses()[0].clone()).wait().unwrap();
    let value = vec![9; LARGEST];
    other.store(service.listen_addresses()[0].clone(), "large", &value).wait().unwrap();
    assert_eq!(other.query("large").wait().unwrap().unwrap().value, value);
    let reply = other.find_value(service.listen_addresses()[0].clone(), "large").wait().unwrap();
    assert_eq!(reply.records.into_iter().next().unwrap().value, value);
}

#[test]
fn a_request_of_another_network_is_not_answered_at_all() {
    let (service, at) = start();
    let mut stranger = Stranger::new(at);
    let message = Message {
        network: NetworkId(99),
        tag: Tag(1),
        sender: Some(id(1)),
        also: Vec::new(),
        body: Body::Request(Request::Ping),
    };
    let mut bytes = Vec::new();
    codec::encode(&Envelope::Direct(message), &mut bytes).unwrap();
    stranger.socket.send(&bytes).unwrap();
    // What comes after it is answered, so that it has been dealt with.
    assert!(stranger.ask(2, Request::Ping).is_some());
    assert_eq!(service.status().counters.dropped.values().sum::<u64>(), 1, "{:?}", service.status());
}
