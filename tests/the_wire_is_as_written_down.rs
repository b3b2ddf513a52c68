//! The bytes in `docs/wire-format.md` are those that nodes send and read. Whoever changes the wire sees it here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "it is a test")]

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use kademlia_dht::gateway::codec::{self, LEAST_FIND_BYTES, LEAST_REQUEST_BYTES};
use kademlia_dht::gateway::{
    Body, Circuit, Envelope, Expect, Found, Message, Reply, Request, Tag, Token, UdpGateway, frame, parts,
};
use kademlia_dht::{
    Config, Contact, DHTService, Id, KeyHasher, Multiaddr, NetworkId, Record, Refusal, Sha1Hasher, Version,
};

const TEXT: &str = include_str!("../docs/wire-format.md");

/// Where the tag stands in a direct message whose network is 0: behind version, kind and network, and one byte that says
/// that it has eight.
const TAG: std::ops::Range<usize> = 4..12;

/// The bytes in the block that follows `<!-- bytes: NAME -->`: in each line those before two spaces, where `00 x 41` are so
/// many of them.
fn written(name: &str) -> Vec<u8> {
    let (_, rest) = TEXT.split_once(&format!("<!-- bytes: {name} -->\n\n```text\n")).expect(name);
    let (block, _) = rest.split_once("```").expect(name);
    let mut bytes = Vec::new();
    for line in block.lines() {
        let (line, _) = line.split_once("  ").unwrap_or((line, ""));
        let (digits, times) =
            line.split_once(" x ").map_or((line, 1), |(one, times)| (one, times.parse().expect(line)));
        let line: Vec<u8> = digits.split_whitespace().map(|two| u8::from_str_radix(two, 16).expect(line)).collect();
        bytes.extend(line.repeat(times));
    }
    bytes
}

fn address(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

fn id(first: u8) -> Id {
    Id::from_prefix(&std::array::from_fn::<u8, 20, _>(|place| first + place as u8))
}

fn tag() -> Tag {
    Tag(0x1122_3344_5566_7788)
}

fn message(body: Body) -> Message {
    Message { network: NetworkId(0), tag: tag(), sender: Some(id(0x10)), also: Vec::new(), body }
}

fn key() -> Id {
    Sha1Hasher.hash(b"one")
}

fn record() -> Record {
    Record::plain(&b"hi there"[..], Version(116_812_345_678_901_234), Duration::from_secs(86_400))
}

/// Every message of the document, by its name there.
fn messages() -> Vec<(&'static str, Envelope)> {
    let direct = |body| Envelope::Direct(message(body));
    let token = Token(0x0102_0304_0506_0708);
    let contacts = vec![Contact::new(id(0x40), address("/ip4/192.0.2.7/udp/4222"))];
    let found = Found { records: vec![record()], more: false, held: Some(record().version), contacts, token };
    let pong = Message { also: vec![address("/ip4/192.0.2.7/tcp/4222")], ..message(Body::Reply(Reply::Pong)) };
    let circuit = Circuit {
        to: Some(address("/memory/7")),
        from: None,
        proof: Token(0),
        message: message(Body::Request(Request::Ping)),
    };
    vec![
        ("ping", direct(Body::Request(Request::Ping))),
        ("pong", Envelope::Direct(pong)),
        ("find_value", direct(Body::Request(Request::FindValue { key: key(), after: None, proof: None }))),
        ("found", direct(Body::Reply(Reply::Found(found)))),
        (
            "store",
            direct(Body::Request(Request::Store { key: key(), record: record(), token, expect: Expect::Anything })),
        ),
        ("refused", direct(Body::Reply(Reply::Refused(Refusal::Older { held: Version(300) })))),
        ("circuit", Envelope::Relayed(Box::new(circuit))),
    ]
}

fn shown(bytes: &[u8]) -> String {
    let lines = bytes.chunks(16).map(|line| line.iter().map(|byte| format!("{byte:02x} ")).collect::<String>());
    lines.collect::<Vec<String>>().join("\n")
}

#[test]
fn messages_are_written_and_read_as_the_document_says() {
    for (name, envelope) in messages() {
        let mut bytes = Vec::new();
        codec::encode(&envelope, &mut bytes).unwrap();
        let expected = written(name);
        assert!(bytes == expected, "{name} is\n{}\nand not\n{}", shown(&bytes), shown(&expected));
        assert_eq!(codec::decode(&expected).unwrap(), envelope, "{name}");
    }
    assert_eq!(written("ping").len(), LEAST_REQUEST_BYTES);
    assert_eq!(written("find_value").len(), LEAST_FIND_BYTES);
}

#[test]
fn a_hello_and_a_part_are_as_the_document_says() {
    let mut hello = Vec::new();
    let filled: Result<(), std::convert::Infallible> = frame::append(&mut hello, |bytes| {
        bytes.push(codec::WIRE_VERSION);
        bytes.extend(address("/ip4/192.0.2.7/tcp/4222").as_ref());
        Ok(())
    });
    filled.unwrap();
    assert_eq!(shown(&hello), shown(&written("hello")));

    // A message of 3,000 bytes goes in three parts.
    let mut buffer = vec![0xaa; parts::HEADER_BYTES + 3000];
    let mut sizes = Vec::new();
    let mut second = Vec::new();
    let sent: Result<(), ()> = parts::send(0x1122_3344_5566_7788, &mut buffer, |datagram| {
        if sizes.len() == 1 {
            second = datagram[..parts::HEADER_BYTES].to_vec();
        }
        sizes.push(datagram.len());
        Ok(())
    });
    sent.unwrap();
    assert_eq!(sizes, [1200, 1200, 633]);
    assert_eq!(shown(&second), shown(&written("part")));
}

/// The next datagram that a service sends, with the tag of the document.
fn next(socket: &UdpSocket, size: usize) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 1500];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        if length == size {
            let mut bytes = buffer[..length].to_vec();
            // In the document's example all eight bytes of it count, as they do but once in four thousand million times.
            assert_eq!(bytes[TAG.start - 1], 0xfd);
            bytes[TAG].copy_from_slice(&tag().0.to_le_bytes());
            return (bytes, from);
        }
    }
}

/// A whole node asks with the very bytes of the document, and answers to them.
#[test]
fn a_node_sends_what_the_document_says_and_answers_to_it() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let to = address(&format!("/ip4/127.0.0.1/udp/{}", socket.local_addr().unwrap().port()));
    let service = DHTService::start(Config { id: Some(id(0x10)), ..Config::default() }).unwrap();
    service.register_gateway(UdpGateway::bind(address("/ip4/127.0.0.1/udp/0")).unwrap()).unwrap();

    let pending = service.ping(to.clone());
    let (ping, from) = next(&socket, LEAST_REQUEST_BYTES);
    assert_eq!(shown(&ping), shown(&written("ping")));
    pending.cancel();
    let pending = service.find_value(to, "one");
    let (find, _) = next(&socket, LEAST_FIND_BYTES);
    assert_eq!(shown(&find), shown(&written("find_value")));
    pending.cancel();

    // Somebody else asks: the id is another one, as a node does not talk to itself.
    let mut asked = written("ping");
    let own = asked.windows(20).position(|window| window == &id(0x10).as_bytes()[..20]).unwrap();
    asked[own..own + 20].copy_from_slice(&id(0x40).as_bytes()[..20]);
    socket.send_to(&asked, from).unwrap();
    let mut buffer = [0; 1500];
    let answer = loop {
        let (length, _) = socket.recv_from(&mut buffer).unwrap();
        let envelope = codec::decode(&buffer[..length]).unwrap();
        if !envelope.message().is_request() {
            break envelope;
        }
    };
    assert_eq!(answer, Envelope::Direct(message(Body::Reply(Reply::Pong))));
    service.stop();
}
