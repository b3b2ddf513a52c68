//! How many bytes a message has on a wire.

use kademlia_dht::gateway::codec::{LEAST_FIND_BYTES, LEAST_REQUEST_BYTES};
use kademlia_dht::gateway::{Author, Body, Expect, Message, Record, RecordKind, Reply, Request, Version};

use crate::handle::{Handle, KEY_SPACE};

/// The headers of IPv4 and UDP.
pub const HEADER_BYTES: usize = 28;

/// An id: its length and its bytes.
const ID: usize = 1 + KEY_SPACE.bytes();

/// A contact at `/ip4/…/udp/…`: its id, the length and the nine bytes of the address, and the count of others.
const CONTACT: usize = ID + 1 + 9 + 1;

/// Wire version, envelope, network, tag, sender, the count of further addresses, and whether it is a request.
const FRAME: usize = 1 + 1 + NETWORK + RANDOM + 1 + ID + 1 + 1;

/// The encoding of numbers is shorter for small ones. Tags, tokens and versions are large.
const RANDOM: usize = 9;

/// The id of a network that was given a name.
const NETWORK: usize = 5;

/// The bytes of a message between two nodes on IPv4 and UDP, in the native encoding, with the headers of both.
///
/// It does not encode anything, which would cost more than all else, but adds up what the encoder would write.
pub fn size_of(message: &Message<Handle>) -> usize {
    let sender = if message.sender.is_some() { 0 } else { ID };
    let (body, least) = match &message.body {
        Body::Request(request) => (1 + size_of_request(request), least_size(request)),
        Body::Reply(reply) => (1 + size_of_reply(reply), 0),
    };
    HEADER_BYTES + (FRAME - sender + body).max(least)
}

fn least_size(request: &Request) -> usize {
    match request {
        Request::FindNode { .. } | Request::FindValue { .. } => LEAST_FIND_BYTES,
        Request::Ping | Request::Store { .. } => LEAST_REQUEST_BYTES,
    }
}

fn size_of_request(request: &Request) -> usize {
    match request {
        Request::Ping => 0,
        Request::FindNode { .. } => ID,
        Request::FindValue { after, proof, .. } => {
            ID + after.map_or(1, |author| 1 + size_of_author(author)) + proof.map_or(1, |_| 1 + RANDOM)
        }
        Request::Store { record, expect, .. } => {
            let expect = match expect {
                Expect::Anything | Expect::Absent => 1,
                Expect::Version(version) => 1 + size_of_version(*version),
            };
            ID + size_of_record(record) + RANDOM + expect
        }
    }
}

fn size_of_reply(reply: &Reply<Handle>) -> usize {
    match reply {
        Reply::Pong | Reply::Stored => 0,
        Reply::Refused(_) => 1 + RANDOM,
        Reply::Found(found) => {
            let records: usize = found.records.iter().map(size_of_record).sum();
            let held = found.held.map_or(1, |held| 1 + size_of_version(held));
            1 + records + 1 + held + 1 + found.contacts.len() * CONTACT + RANDOM
        }
    }
}

fn size_of_author(author: Author) -> usize {
    match author {
        Author::Any => 1,
        Author::Content => 1,
        Author::Owner(owner) => 1 + owner.len(),
    }
}

fn size_of_record(record: &Record) -> usize {
    size_of_bytes(record.value.len())
        + size_of_version(record.version)
        + size_of_number(record.renewal as usize)
        + size_of_number(record.remaining as usize)
        + size_of_kind(&record.kind)
}

fn size_of_kind(kind: &RecordKind) -> usize {
    let proof = match kind {
        RecordKind::Signed(signed) => {
            signed.public_key.len() + size_of_bytes(signed.salt.len()) + signed.signature.len()
        }
        RecordKind::Owned(owned) => {
            let expiry = owned.expiry.map_or(1, |expiry| 1 + size_of_version(Version(expiry)));
            let seal = owned.seal.map_or(1, |seal| 1 + seal.0.len());
            let (name, since) = (size_of_bytes(owned.name.len()), size_of_version(owned.since));
            name + owned.owner.len() + 1 + expiry + owned.signature.len() + since + seal
        }
        RecordKind::Ruled(ruled) => size_of_bytes(ruled.namespace.len()) + size_of_bytes(ruled.name.len()),
        // Of others nothing but the kind is known.
        _ => 0,
    };
    1 + proof
}

/// So many bytes, and how many they are.
fn size_of_bytes(count: usize) -> usize {
    size_of_number(count) + count
}

fn size_of_number(number: usize) -> usize {
    match number {
        0..=250 => 1,
        251..=65_535 => 3,
        _ => 5,
    }
}

fn size_of_version(version: Version) -> usize {
    match version.0 {
        0..=250 => 1,
        251..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => RANDOM,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kademlia_dht::gateway::codec;
    use kademlia_dht::gateway::{
        Contact, Envelope, Found, Id, NetworkId, Owned, OwnedMode, Peer, Ruled, Seal, Signed, Tag, Token,
    };

    const LARGE: u64 = u64::MAX - 7;

    fn record() -> Record {
        Record::plain(vec![7; 100], Version(LARGE), std::time::Duration::from_secs(86_400))
    }

    fn contact(handle: &Handle) -> Contact {
        Contact::new(handle.id(), "/ip4/10.20.30.40/udp/4001".parse().unwrap())
    }

    /// The same message as it goes on a real wire.
    fn real(message: &Message<Handle>) -> Message {
        let body = match message.body.clone() {
            Body::Request(request) => Body::Request(request),
            Body::Reply(Reply::Found(Found { records, more, held, contacts, token })) => {
                let contacts = contacts.iter().map(contact).collect();
                Body::Reply(Reply::Found(Found { records, more, held, contacts, token }))
            }
            Body::Reply(Reply::Pong) => Body::Reply(Reply::Pong),
            Body::Reply(Reply::Stored) => Body::Reply(Reply::Stored),
            Body::Reply(Reply::Refused(refusal)) => Body::Reply(Reply::Refused(refusal)),
        };
        let Message { network, tag, sender, .. } = message.clone();
        Message { network, tag, sender, also: Vec::new(), body }
    }

    #[test]
    fn it_is_what_the_real_encoder_writes() {
        let key = Handle::of(1).id();
        let token = Token(LARGE);
        let contacts: Vec<Handle> = (0..20).map(Handle::of).collect();
        let found = |record: Option<Record>, held| Found {
            records: Vec::from_iter(record),
            more: false,
            held,
            contacts: contacts.clone(),
            token,
        };
        let store = |expect| Body::Request(Request::Store { key, record: record(), token, expect });
        let proved = |kind: RecordKind| Body::Reply(Reply::Found(found(Some(Record { kind, ..record() }), None)));
        let signed = Signed { public_key: [7; 32], salt: "salt".into(), signature: [7; 64] };
        let owned = |expiry, seal| Owned {
            name: "name".into(),
            owner: [2; 33],
            mode: OwnedMode::Secured,
            expiry,
            signature: [7; 64],
            since: Version(1),
            seal,
        };
        let ruled = Ruled { namespace: "namespace".to_owned(), name: "name".into() };
        let after = |author| Body::Request(Request::FindValue { key, after: Some(author), proof: None });
        let bodies = [
            after(Author::Any),
            after(Author::Owner([2; 33])),
            proved(RecordKind::Immutable),
            proved(RecordKind::Signed(Box::new(signed))),
            proved(RecordKind::Owned(Box::new(owned(None, Some(Seal([7; 64])))))),
            proved(RecordKind::Owned(Box::new(owned(Some(2_000_000_000), None)))),
            proved(RecordKind::Ruled(Box::new(ruled))),
            Body::Request(Request::Ping),
            Body::Request(Request::FindNode { target: key }),
            Body::Request(Request::FindValue { key, after: None, proof: None }),
            Body::Request(Request::FindValue { key, after: None, proof: Some(token) }),
            store(Expect::Anything),
            store(Expect::Version(Version(LARGE))),
            Body::Reply(Reply::Pong),
            Body::Reply(Reply::Stored),
            Body::Reply(Reply::Found(found(None, None))),
            Body::Reply(Reply::Found(found(Some(record()), Some(Version(LARGE))))),
        ];
        for body in bodies {
            for sender in [None, Some(Id::from_prefix(&[1; 20]))] {
                let message = Message {
                    network: NetworkId(0xdead_beef),
                    tag: Tag(LARGE),
                    sender,
                    also: Vec::new(),
                    body: body.clone(),
                };
                let mut bytes = Vec::new();
                codec::encode(&Envelope::Direct(real(&message)), &mut bytes).unwrap();
                assert_eq!(size_of(&message), HEADER_BYTES + bytes.len(), "{message:?}");
            }
        }
    }
}
