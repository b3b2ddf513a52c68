//! Messages to send in tests of gateways.

use std::time::Duration;

use multiaddr::{Multiaddr, Protocol};

use crate::contact::Contact;
use crate::gateway::{Outbound, ReplyPath};
use crate::id::Id;
use crate::message::{Body, Envelope, Expect, Found, Message, NetworkId, Reply, Request, Tag, Token};
use crate::record::{Record, Version};

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
