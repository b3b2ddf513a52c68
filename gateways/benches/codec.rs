//! What the native encoding costs, message by message: `cargo bench -p kademlia-gateways --bench codec`.
//!
//! The messages are those of a network over UDP: ids of 20 bytes, contacts of one address each, values of 100 bytes.

#![allow(missing_docs)] // The harness has no documentation.

use std::fmt;
use std::time::Duration;

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use kademlia_gateways::address::{IpTransport, ip_address};
use kademlia_gateways::{
    Body, Contact, Envelope, Expect, Found, Id, Message, NetworkId, Record, Refusal, Reply, Request, SizeLimits, Tag,
    Token, Version, codec,
};

/// Contacts in a full reply.
const K: u8 = 20;

/// Bytes of a value.
const VALUE_BYTES: usize = 100;

/// What a message is.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Ping,
    Pong,
    FindNode,
    FoundContacts,
    FindValue,
    FoundRecord,
    Store,
    Stored,
    Refused,
}

const ALL: [Kind; 9] = [
    Kind::Ping,
    Kind::Pong,
    Kind::FindNode,
    Kind::FoundContacts,
    Kind::FindValue,
    Kind::FoundRecord,
    Kind::Store,
    Kind::Stored,
    Kind::Refused,
];

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Ping => "PING",
            Kind::Pong => "PONG",
            Kind::FindNode => "FIND_NODE",
            Kind::FoundContacts => "FOUND, 20 contacts",
            Kind::FindValue => "FIND_VALUE",
            Kind::FoundRecord => "FOUND, a record",
            Kind::Store => "STORE",
            Kind::Stored => "STORED",
            Kind::Refused => "REFUSED",
        })
    }
}

fn id(number: u8) -> Id {
    Id::from_prefix(&[number.wrapping_mul(37) | 1; 20])
}

fn contact(number: u8) -> Contact {
    Contact::new(id(number), ip_address(([10, 0, 0, number], 4000).into(), IpTransport::Udp))
}

fn record() -> Record {
    Record::plain(vec![7; VALUE_BYTES], Version(1_700_000_000_000 << 16), Duration::from_secs(86_400))
}

/// An answer to a find request.
fn found(record: Option<Record>, contacts: u8) -> Reply {
    let held = record.as_ref().map(|record| record.version);
    Reply::Found(Found {
        records: record.into_iter().collect(),
        more: false,
        held,
        contacts: (0..contacts).map(contact).collect(),
        token: Token(u64::MAX / 3),
    })
}

fn envelope(kind: Kind) -> Envelope {
    let body = match kind {
        Kind::Ping => Body::Request(Request::Ping),
        Kind::FindNode => Body::Request(Request::FindNode { target: id(200) }),
        Kind::FindValue => Body::Request(Request::FindValue { key: id(200), after: None, proof: None }),
        Kind::Store => Body::Request(Request::Store {
            key: id(200),
            record: record(),
            token: Token(u64::MAX / 3),
            expect: Expect::Anything,
        }),
        Kind::Pong => Body::Reply(Reply::Pong),
        Kind::FoundContacts => Body::Reply(found(None, K)),
        Kind::FoundRecord => Body::Reply(found(Some(record()), 0)),
        Kind::Stored => Body::Reply(Reply::Stored),
        Kind::Refused => Body::Reply(Reply::Refused(Refusal::Older { held: Version(1_700_000_000_000 << 16) })),
    };
    let message = Message {
        network: NetworkId(0x1234_5678),
        tag: Tag(u64::MAX / 5),
        sender: Some(id(9)),
        also: Vec::new(),
        body,
    };
    Envelope::Direct(message)
}

/// An encoding, into a buffer that is used again, as gateways over datagrams do.
#[divan::bench(args = ALL)]
fn encode(bencher: Bencher, kind: Kind) {
    let (mut envelope, mut buffer) = (envelope(kind), Vec::new());
    codec::encode(&envelope, &mut buffer).ok();
    bencher.counter(BytesCount::new(buffer.len())).bench_local(move || {
        buffer.clear();
        let fitted = codec::encode_fitting(black_box(&mut envelope), SizeLimits::DATAGRAM, &mut buffer);
        black_box(buffer.len());
        fitted
    });
}

/// A decoding, up to the message that a node is given.
#[divan::bench(args = ALL)]
fn decode(bencher: Bencher, kind: Kind) {
    let mut bytes = Vec::new();
    codec::encode(&envelope(kind), &mut bytes).ok();
    bencher.counter(BytesCount::new(bytes.len())).bench_local(move || codec::decode(black_box(&bytes)));
}

fn main() {
    divan::main();
}
