//! The messages of the protocol, as types. How they look on a wire is the matter of a gateway.

use std::fmt;

use multiaddr::Multiaddr;
use serde::{Deserialize, Serialize};

use crate::contact::{Contact, Peer};
use crate::id::Id;
use crate::record::{Author, Record, Version};

/// Which network a message belongs to; a node drops what comes from another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct NetworkId(pub u32);

/// Names one request of one node: 64 random bits, which its reply echoes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tag(pub u64);

/// Shows whoever gave it that it comes from the address that it was given to. With that of a holder one may store one key
/// and be sent large records under it, as in BEP 5. With that of a relay one has an allowance of one's own there. Opaque
/// to all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Token(pub u64);

/// One message between two nodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound(
    serialize = "P: Serialize, P::Addr: Serialize",
    deserialize = "P: Deserialize<'de>, P::Addr: Deserialize<'de>"
))]
pub struct Message<P: Peer = Contact> {
    /// The network it belongs to.
    pub network: NetworkId,
    /// Pairs a reply with its request.
    pub tag: Tag,
    /// The sender's id; a node in client mode, which nobody should keep as a contact, sends none.
    pub sender: Option<Id>,
    /// In a reply: further addresses on which the sender listens, besides the one it is seen at.
    pub also: Vec<P::Addr>,
    /// What it asks or answers.
    pub body: Body<P>,
}

/// What a message asks or answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound(serialize = "P: Serialize", deserialize = "P: Deserialize<'de>"))]
pub enum Body<P: Peer = Contact> {
    /// A question.
    Request(Request),
    /// The answer to one.
    Reply(Reply<P>),
}

/// The four requests of Kademlia (paper, section 2.3).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Are you there? Answered by [`Reply::Pong`].
    Ping,
    /// Which contacts do you know nearest to `target`? Answered by [`Reply::Found`] without a record.
    FindNode {
        /// The id that is looked for.
        target: Id,
    },
    /// The records under `key` that you hold, and the contacts nearest to it. Answered by [`Reply::Found`].
    FindValue {
        /// The key that is looked for.
        key: Id,
        /// Only records of authors after this one: an answer said that there are more than it had room for.
        after: Option<Author>,
        /// The token that came with a [`Found`] for this key: shows that who asks is at the address it asks from.
        /// Without it, a large record is told of but not sent to an address that anyone could have written there.
        proof: Option<Token>,
    },
    /// Keep this record. Answered by [`Reply::Stored`] or [`Reply::Refused`].
    Store {
        /// The key to keep it under.
        key: Id,
        /// What to keep.
        record: Record,
        /// The token that came with a [`Found`] for this key.
        token: Token,
        /// What must be held already for the record to be taken.
        expect: Expect,
    },
}

/// What a holder must hold already to take a record: the condition of a compare-and-swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expect {
    /// Whatever is held, if it is not newer.
    Anything,
    /// No value (a deleted one is none).
    Absent,
    /// Nothing newer than this version.
    Version(Version),
}

/// The answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound(serialize = "P: Serialize", deserialize = "P: Deserialize<'de>"))]
pub enum Reply<P: Peer = Contact> {
    /// To a ping.
    Pong,
    /// To a find request.
    Found(Found<P>),
    /// The record is kept.
    Stored,
    /// The request is not served.
    Refused(Refusal),
}

/// The answer to a find request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound(serialize = "P: Serialize", deserialize = "P: Deserialize<'de>"))]
pub struct Found<P: Peer = Contact> {
    /// To [`Request::FindValue`]: the records that the answering node holds, in the order of their authors, as far as they
    /// may be, and can be, sent that way.
    pub records: Vec<Record>,
    /// Whether it holds more of them than those.
    pub more: bool,
    /// The version of the record of [`Author::Any`] that is held, also where the record itself was not asked for.
    pub held: Option<Version>,
    /// The contacts that the answering node knows nearest to the target, nearest first.
    pub contacts: Vec<P>,
    /// The right of the asking address to store under this key.
    pub token: Token,
}

/// Why a request is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The token is wrong, expired, or another's.
    #[error("the write token is not valid any more; look the key up again")]
    Token,
    /// A newer record is held.
    #[error("a newer version, {held}, is held")]
    Older {
        /// The version that is held.
        held: Version,
    },
    /// The condition of a compare-and-swap does not hold.
    #[error("the version held is {}, not the expected one", show_version(*held))]
    Conflict {
        /// The version that is held, if any.
        held: Option<Version>,
    },
    /// The store has no room for it.
    #[error("the node's store is full")]
    Full,
    /// The value is larger than this node, or the way to it, can take.
    #[error("the record is larger than the {limit} bytes that fit")]
    TooLarge {
        /// The most bytes that fit.
        limit: u32,
    },
    /// The record's lifetime is over.
    #[error("the record's lifetime is over")]
    Expired,
    /// This source asks too much.
    #[error("the node limits this source")]
    Limited,
    /// Its signature, or its hash, is not what it must be.
    #[error("the record does not prove that it belongs under this key")]
    Forged,
    /// The key has another owner.
    #[error("the key belongs to another")]
    Taken,
    /// The owner may no longer write.
    #[error("the owner's time to write is over")]
    Late,
    /// The node has no rule for the namespace of the record.
    #[error("the node knows no rule for the namespace of the record")]
    NoRule,
    /// The rule for its namespace refuses the record.
    #[error("the rule of its namespace refuses the record, for reason {code}")]
    Rule {
        /// Why: what it means is up to the rule.
        code: u32,
    },
}

fn show_version(version: Option<Version>) -> String {
    version.map_or_else(|| "none".to_owned(), |version| version.to_string())
}

/// What crosses a wire: a message for the receiver itself, or one to be passed on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Envelope {
    /// From its sender straight to the receiver.
    Direct(Message),
    /// Through relays. See [`Circuit`].
    Relayed(Box<Circuit>),
}

impl Envelope {
    /// The message inside.
    pub fn message(&self) -> &Message {
        match self {
            Envelope::Direct(message) => message,
            Envelope::Relayed(circuit) => &circuit.message,
        }
    }

    /// The message inside, to be changed.
    pub fn message_mut(&mut self) -> &mut Message {
        match self {
            Envelope::Direct(message) => message,
            Envelope::Relayed(circuit) => &mut circuit.message,
        }
    }

    /// The tag, if the node that sends this waits for an answer to it: it asks something, and does not pass the question
    /// on for another. All other tags are those of other nodes.
    pub fn own_request(&self) -> Option<Tag> {
        let passed_on = matches!(self, Envelope::Relayed(circuit) if circuit.from.is_some());
        let message = self.message();
        (message.is_request() && !passed_on).then_some(message.tag)
    }
}

/// A message on its way through relays, which keep no state: the way on and the way back are both in it.
///
/// At every hop the relay takes the first address off `to` and puts the address that it saw the message come from
/// in front of `from`. Where `to` is empty, the receiver is the destination and `from` is the way back, seen from
/// the last relay. The inner message cannot itself be relayed: the types allow no nesting.
///
/// A relay limits each sender, and all together of whom it does not know that they are where they seem to be. When they
/// have used up what they may, it sends back a circuit without `to` and `from`, in which `proof` is what to show it from
/// then on. The message is a refusal, and its tag the proof that was shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Circuit {
    /// The way that remains, as seen by the receiver of this envelope.
    pub to: Option<Multiaddr>,
    /// The way already gone, as seen by the sender of this envelope.
    pub from: Option<Multiaddr>,
    /// Shows the receiver, if it is a relay that has asked for that, that the sender is where it seems to be.
    pub proof: Token,
    /// What is carried.
    pub message: Message,
}

impl<P: Peer> Message<P> {
    /// Whether it asks something.
    pub fn is_request(&self) -> bool {
        matches!(self.body, Body::Request(_))
    }

    /// A short name of what the message is, for logs.
    pub fn name(&self) -> &'static str {
        match &self.body {
            Body::Request(request) => request.name(),
            Body::Reply(Reply::Pong) => "PONG",
            Body::Reply(Reply::Found(_)) => "FOUND",
            Body::Reply(Reply::Stored) => "STORED",
            Body::Reply(Reply::Refused(_)) => "REFUSED",
        }
    }
}

impl Request {
    /// The request's name in the Kademlia paper.
    pub fn name(&self) -> &'static str {
        match self {
            Request::Ping => "PING",
            Request::FindNode { .. } => "FIND_NODE",
            Request::FindValue { .. } => "FIND_VALUE",
            Request::Store { .. } => "STORE",
        }
    }
}

impl<P: Peer> fmt::Display for Message<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:016x}", self.name(), self.tag.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_request_that_is_passed_on_another_node_waits_for_the_answer() {
        let message = |body| Message { network: NetworkId(1), tag: Tag(7), sender: None, also: Vec::new(), body };
        let relayed = |from, message| Envelope::Relayed(Box::new(Circuit { to: None, from, proof: Token(0), message }));
        let back = || Some("/memory/1".parse().unwrap());
        let ping = || message(Body::Request(Request::Ping));
        assert_eq!(Envelope::Direct(ping()).own_request(), Some(Tag(7)));
        assert_eq!(relayed(None, ping()).own_request(), Some(Tag(7)));
        assert_eq!(relayed(back(), ping()).own_request(), None);
        assert_eq!(Envelope::Direct(message(Body::Reply(Reply::Pong))).own_request(), None);
    }
}
