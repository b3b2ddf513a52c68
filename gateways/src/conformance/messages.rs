//! Messages to send in tests of gateways.

use std::time::Duration;

use bytes::Bytes;
use multiaddr::{Multiaddr, Protocol};

use crate::contact::Contact;
use crate::gateway::{Outbound, ReplyPath};
use crate::id::Id;
use crate::message::{Body, Envelope, Expect, Found, Message, NetworkId, Refusal, Reply, Request, Tag, Token};
use crate::record::{Author, Owned, OwnedMode, Record, RecordKind, Ruled, Seal, Signed, Version};

/// A ping.
pub fn request(tag: u64) -> Envelope {
    message(tag, Body::Request(Request::Ping))
}

/// The answer to a ping.
pub fn reply(tag: u64) -> Envelope {
    message(tag, Body::Reply(Reply::Pong))
}

/// A store request with a value of `bytes` bytes.
pub fn store(tag: u64, bytes: usize) -> Envelope {
    let record = Record::plain(vec![7; bytes], Version(1), Duration::from_secs(60));
    let key = Id::from_prefix(&[1; 20]);
    message(tag, Body::Request(Request::Store { key, record, token: Token(1), expect: Expect::Anything }))
}

/// A reply with `contacts` contacts.
pub fn found(tag: u64, contacts: u8) -> Envelope {
    let address = Multiaddr::from(std::net::Ipv4Addr::new(192, 0, 2, 1)).with(Protocol::Udp(4000));
    let contacts = (1..=contacts).map(|n| Contact::new(Id::from_prefix(&[n; 20]), address.clone())).collect();
    message(
        tag,
        Body::Reply(Reply::Found(Found { records: Vec::new(), more: false, held: None, contacts, token: Token(1) })),
    )
}

/// Requests of every kind, with every kind of record.
pub fn requests() -> Vec<Envelope> {
    let (key, token) = (Id::from_prefix(&[1; 20]), Token(1));
    let authors = [None, Some(Author::Any), Some(Author::Content), Some(Author::Owner([2; 33]))];
    let finds = authors.into_iter().zip([None, Some(token)].into_iter().cycle());
    let finds = finds.map(|(after, proof)| Request::FindValue { key, after, proof });
    let expected = [Expect::Anything, Expect::Absent, Expect::Version(Version(3))].into_iter().cycle();
    let stores = records().into_iter().zip(expected);
    let stores = stores.map(|(record, expect)| Request::Store { key, record, token, expect });
    let all = [Request::Ping, Request::FindNode { target: key }].into_iter().chain(finds).chain(stores);
    all.zip(0..).map(|(request, tag)| message(tag, Body::Request(request))).collect()
}

/// Replies of every kind, with every kind of record.
pub fn replies() -> Vec<Envelope> {
    let version = Version(7);
    let refusals = [
        Refusal::Token,
        Refusal::Older { held: version },
        Refusal::Conflict { held: None },
        Refusal::Conflict { held: Some(version) },
        Refusal::Full,
        Refusal::TooLarge { limit: 1000 },
        Refusal::Expired,
        Refusal::Limited,
        Refusal::Forged,
        Refusal::Taken,
        Refusal::Late,
        Refusal::NoRule,
        Refusal::Rule { code: 3 },
    ];
    let found = |records| Found { records, more: true, held: Some(version), contacts: Vec::new(), token: Token(1) };
    let found = records().into_iter().map(|record| Reply::Found(found(vec![record])));
    let all = [Reply::Pong, Reply::Stored].into_iter().chain(refusals.map(Reply::Refused)).chain(found);
    all.zip(0..).map(|(reply, tag)| message(tag, Body::Reply(reply))).collect()
}

/// A record of each kind. Nothing in them is signed: that is no matter of a gateway.
fn records() -> Vec<Record> {
    let bytes = |length: usize| Bytes::from(vec![5; length]);
    let owned = |mode, expiry, seal| {
        let (name, owner, signature, since) = (bytes(9), [2; 33], [3; 64], Version(1));
        RecordKind::Owned(Box::new(Owned { name, owner, mode, expiry, signature, since, seal }))
    };
    let kinds = [
        RecordKind::Plain,
        RecordKind::Immutable,
        RecordKind::Signed(Box::new(Signed { public_key: [1; 32], salt: bytes(64), signature: [2; 64] })),
        owned(OwnedMode::Secured, None, None),
        owned(OwnedMode::Controlled, Some(4_000_000_000), Some(Seal([4; 64]))),
        RecordKind::Ruled(Box::new(Ruled { namespace: "rules".to_owned(), name: bytes(7) })),
    ];
    let lifetime = Duration::from_secs(60);
    let records = kinds.into_iter().map(|kind| Record::new(kind, bytes(100), Version(2), lifetime));
    records.chain([Record::tombstone(Version(2), lifetime)]).collect()
}

/// A message with this body.
pub fn message(tag: u64, body: Body) -> Envelope {
    let sender = Some(Id::from_prefix(&[9; 20]));
    Envelope::Direct(Message { network: NetworkId(1), tag: Tag(tag), sender, also: Vec::new(), body })
}

/// What an outbox is given to send.
pub(super) fn outbound(to: &Multiaddr, path: Option<ReplyPath>, envelope: Envelope) -> Outbound {
    Outbound { path, ..Outbound::new(to.clone(), envelope) }
}

/// The contacts in a reply.
pub(super) fn contacts(envelope: &Envelope) -> Option<&[Contact]> {
    match &envelope.message().body {
        Body::Reply(Reply::Found(found)) => Some(&found.contacts),
        _ => None,
    }
}
