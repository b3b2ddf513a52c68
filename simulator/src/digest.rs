//! What messages, commands and results say, each as one number, for the trace.

use kademlia_dht::core::{Command, Content, Outcome};
use kademlia_dht::gateway::{Body, Found, Id, Message, Record, Reply, Request};

use crate::handle::{Handle, mix};
use crate::world::Ended;

/// Numbers, one after the other.
struct Digest(u64);

impl Digest {
    fn of(name: &str) -> Self {
        Digest(name.bytes().fold(0, |digest, letter| mix(digest ^ u64::from(letter))))
    }

    #[must_use]
    fn number(self, number: u64) -> Self {
        Digest(mix(self.0 ^ number))
    }

    #[must_use]
    fn id(self, id: &Id) -> Self {
        self.number(start_of(id))
    }

    #[must_use]
    fn record(self, record: Option<&Record>) -> Self {
        let Some(record) = record else { return self.number(0) };
        let life = u64::from(record.renewal) << 32 | u64::from(record.remaining);
        let value = record.value.first_chunk().map_or(0, |start| u64::from_le_bytes(*start));
        self.number(record.version.0).number(life).number(value).number(record.value.len() as u64)
    }

    #[must_use]
    fn nodes(self, nodes: &[Handle]) -> Self {
        nodes.iter().fold(self, |digest, node| digest.number(node.number().into()))
    }
}

/// What tells an id from others: its first eight bytes.
pub(crate) fn start_of(id: &Id) -> u64 {
    id.as_bytes().first_chunk().map_or(0, |start| u64::from_be_bytes(*start))
}

/// `size` is that of the message.
pub(crate) fn of_message(message: &Message<Handle>, size: usize) -> u64 {
    let digest = Digest::of(message.name()).number(size as u64).number(message.tag.0);
    let digest = match &message.body {
        Body::Request(Request::FindNode { target }) => digest.id(target),
        Body::Request(Request::FindValue { key, .. }) => digest.id(key),
        Body::Request(Request::Store { key, record, token, .. }) => digest.id(key).record(Some(record)).number(token.0),
        Body::Reply(Reply::Found(Found { records, more, held, contacts, token })) => {
            let held = held.map_or(0, |held| held.0);
            let digest = records.iter().fold(digest, |digest, record| digest.record(Some(record)));
            digest.number((*more).into()).number(held).nodes(contacts).number(token.0)
        }
        Body::Request(Request::Ping) | Body::Reply(Reply::Pong | Reply::Stored | Reply::Refused(_)) => digest,
    };
    digest.0
}

pub(crate) fn of_command(command: &Command<Handle>) -> u64 {
    let digest = match command {
        Command::Join { address } => Digest::of("join").number((*address).into()),
        Command::Save { key, content, unix_milliseconds, .. } => {
            let start = match content {
                Content::Value(value) => value.first_chunk(),
                // What else is written is in the messages that carry it.
                Content::Delete | Content::Record(_) | Content::Unkept(_) | Content::Written(_) => None,
            };
            let value = start.map_or(u64::MAX, |start| u64::from_le_bytes(*start));
            Digest::of("save").id(key).number(value).number(*unix_milliseconds)
        }
        Command::Query { key } | Command::QueryOf { key, .. } | Command::QueryImmutable { key } => {
            Digest::of("query").id(key)
        }
        Command::Lookup { target } => Digest::of("lookup").id(target),
        // No simulated user does these.
        Command::Keep { .. } | Command::Forget { .. } | Command::Ledger => Digest(0),
        Command::Neighbours | Command::Closest { .. } | Command::Dump | Command::Trace { .. } => Digest(0),
        Command::Contacts | Command::Introduce { .. } => Digest(0),
        Command::Ping { .. } | Command::FindNode { .. } | Command::FindValue { .. } | Command::Store { .. } => {
            Digest(0)
        }
    };
    digest.0
}

pub(crate) fn of_result(ended: &Ended) -> u64 {
    let digest = match ended {
        Ok(Outcome::Saved(receipt)) => Digest::of("saved").number(receipt.version.0).nodes(&receipt.accepted),
        Ok(Outcome::Queried(report)) => {
            let deleted = report.deleted.map_or(0, |deleted| deleted.0);
            Digest::of("queried").record(report.found.as_ref().map(|found| &found.record)).number(deleted)
        }
        Ok(Outcome::LookedUp(report)) => Digest::of("looked up").nodes(&report.closest),
        Ok(_) => Digest::of("ended"),
        Err(_) => Digest::of("failed"),
    };
    digest.0
}
