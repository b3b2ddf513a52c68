//! What goes into the core and what comes out of it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kademlia_gateways::{
    Author, Expect, Id, KeySpace, Message, Peer, Record, Refusal, ReplyPath, Tag, UnsentReason, Version,
};

use super::journal::{HeldRecord, KnownPeer};
use super::trace::Trace;
use super::view::{Dump, Neighbour};

/// Names an operation from its [`Input::Start`] to its [`Output::Done`]. The driver chooses it, each once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(pub u64);

/// Everything that can happen to a node.
#[derive(Debug, Clone)]
pub enum Input<P: Peer> {
    /// A message came in.
    Message {
        /// The address that a request to its sender would go to.
        from: P::Addr,
        /// How an answer gets back.
        path: ReplyPath,
        /// Whether the sender is known to be at that address, as by the handshake of a connection.
        proved: bool,
        /// What came.
        message: Message<P>,
    },
    /// A message that was to be sent was certainly not sent.
    Unsent {
        /// Its tag.
        tag: Tag,
        /// Why.
        reason: UnsentReason,
    },
    /// The user wants something.
    Start {
        /// The name under which its end will be told.
        operation: OperationId,
        /// What is wanted.
        command: Command<P>,
    },
    /// The user does not want it any more.
    Cancel {
        /// What was started.
        operation: OperationId,
    },
    /// A record comes back from where the driver kept it while the node was down.
    Restore {
        /// Its key.
        key: Id,
        /// The record, with the lifetime that remains.
        record: Record,
    },
    /// The node has another id from now on, which is in its key space: in some networks ids follow from addresses, and nobody
    /// knows theirs before others have told it.
    ChangeId {
        /// The new one.
        id: Id,
    },
    /// The same, with all that a restart must not change: what [`Node::take_changes`](super::Node::take_changes) gave.
    ResumeRecord(HeldRecord),
    /// A record that the node kept alive before it was restarted.
    ResumePublished(Published),
    /// Somebody who was known before a restart. They are asked whether they are there when it is their turn.
    ResumeContact(KnownPeer<P>),
    /// The time that [`Node::next_wake`](super::Node::next_wake) named has come.
    Tick,
}

/// What a user can ask of a node.
#[derive(Debug, Clone)]
pub enum Command<P: Peer> {
    /// Join the network of the node at this address: ping it, then look up the own id.
    Join {
        /// Where it is.
        address: P::Addr,
    },
    /// Store a record at the k nodes closest to the key, and keep it alive.
    Save {
        /// The key.
        key: Id,
        /// What is saved.
        content: Content,
        /// What must be held already.
        expect: Expect,
        /// The time of the user's clock, in milliseconds since 1970, from which the version is made.
        unix_milliseconds: u64,
    },
    /// Find the newest record, or that of each owner.
    Query {
        /// The key.
        key: Id,
    },
    /// Find the newest record of one owner, whoever else says that the key is theirs.
    QueryOf {
        /// The key.
        key: Id,
        /// The owner's public key, as in [`Owned`](kademlia_gateways::Owned).
        owner: [u8; 33],
    },
    /// Find the value whose hash is the key.
    QueryImmutable {
        /// The key.
        key: Id,
    },
    /// Find what is under the key, and keep it alive from now on as if this node had published it.
    Keep {
        /// The key.
        key: Id,
    },
    /// Keep alive no longer what this node has published under the key, or keeps alive there.
    Forget {
        /// The key.
        key: Id,
    },
    /// Tell what this node keeps alive.
    Ledger,
    /// Tell of all contacts in the routing table. Like the other looks at what is there, it is never refused as busy.
    Neighbours,
    /// Tell of the k contacts in the routing table that are nearest to `target`, without asking anybody.
    Closest {
        /// What they are near to.
        target: Id,
    },
    /// Tell all that this node knows and does.
    Dump,
    /// Tell whom this node knows.
    Contacts,
    /// Ask at these addresses, one after the other, whether anyone is there.
    Introduce {
        /// Where.
        addresses: Vec<P::Addr>,
    },
    /// As [`Command::Query`], and tell of each request that it takes.
    Trace {
        /// The key.
        key: Id,
    },
    /// Find the k nodes closest to `target`.
    Lookup {
        /// What is looked for.
        target: Id,
    },
    /// Ask one node whether it is there.
    Ping {
        /// Where it is.
        address: P::Addr,
    },
    /// Ask one node for the contacts it knows nearest to `target`.
    FindNode {
        /// Where it is.
        address: P::Addr,
        /// What is looked for.
        target: Id,
    },
    /// Ask one node for its record under `key`.
    FindValue {
        /// Where it is.
        address: P::Addr,
        /// What is looked for.
        key: Id,
    },
    /// Have one node keep a record (after asking it for a write token).
    Store {
        /// Where it is.
        address: P::Addr,
        /// The key.
        key: Id,
        /// The record.
        record: Record,
        /// What it must hold already.
        expect: Expect,
    },
}

/// What is saved under a key.
#[derive(Debug, Clone)]
pub enum Content {
    /// A plain value, which anyone may replace.
    Value(Bytes),
    /// The mark that deletes a plain value.
    Delete,
    /// This record, as it is.
    Record(Record),
    /// This record, as it is, which this node does not keep alive: others hold it until its lifetime is over.
    Unkept(Record),
    /// The record that this writes when it is known what is there already.
    Written(Arc<dyn Writer>),
}

/// Writes a record whose version, or more of it, depends on what is there already.
///
/// It is asked within [`Node::handle`](super::Node::handle), when the nodes closest to the key have answered.
pub trait Writer: Debug + Send + Sync {
    /// Whose the record will be.
    fn author(&self) -> Author;

    /// The public key of its owner, if it will be an owned record.
    fn owner(&self) -> Option<[u8; 33]> {
        None
    }

    /// The record. `newest` is the newest one in the place of this author that was found and proves who wrote it: if it is
    /// the author's own, the record must be newer. `version` follows the clock of the user, and is newer than all that was
    /// saved by this node; what others say they hold does not raise it.
    ///
    /// # Errors
    ///
    /// Why there can be none: the user is told.
    fn write(&self, newest: Option<&Record>, version: Version, lifetime: Duration) -> Result<Record, Refusal>;
}

/// A plain value; `None` deletes it.
impl From<Option<Bytes>> for Content {
    fn from(value: Option<Bytes>) -> Self {
        value.map_or(Content::Delete, Content::Value)
    }
}

impl Content {
    /// The owner of the record, if it will be an owned one.
    pub(crate) fn owner(&self) -> Option<[u8; 33]> {
        match self {
            Content::Written(writer) => writer.owner(),
            Content::Value(_) | Content::Delete | Content::Record(_) | Content::Unkept(_) => None,
        }
    }

    /// Whose the record will be.
    pub(crate) fn author(&self) -> Author {
        match self {
            Content::Value(_) | Content::Delete => Author::Any,
            Content::Record(record) | Content::Unkept(record) => record.author(),
            Content::Written(writer) => writer.author(),
        }
    }
}

impl<P: Peer> Command<P> {
    /// The same, with ids of this key space: what goes beyond it is ignored, as in hashed keys.
    pub(crate) fn within(mut self, space: KeySpace) -> Self {
        match &mut self {
            Command::Join { .. } | Command::Ping { .. } | Command::Introduce { .. } => {}
            Command::Ledger | Command::Neighbours | Command::Dump | Command::Contacts => {}
            Command::Save { key, .. }
            | Command::Query { key }
            | Command::QueryOf { key, .. }
            | Command::QueryImmutable { key }
            | Command::Keep { key }
            | Command::Forget { key }
            | Command::FindValue { key, .. }
            | Command::Store { key, .. }
            | Command::Trace { key }
            | Command::Closest { target: key }
            | Command::Lookup { target: key }
            | Command::FindNode { target: key, .. } => *key = space.fit(key),
        }
        self
    }

    /// Whether it is answered at once with what is there.
    pub(crate) fn is_look(&self) -> bool {
        matches!(self, Command::Ledger | Command::Neighbours | Command::Closest { .. } | Command::Dump)
    }
}

/// What a node wants done, in the order in which it must be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output<P: Peer> {
    /// Send a message.
    Send {
        /// Where to.
        to: P::Addr,
        /// For an answer: how what it answers came in.
        path: Option<ReplyPath>,
        /// Whether who asked is known to be at that address: else the answer must not be much larger than the request.
        proved: bool,
        /// What to send.
        message: Message<P>,
    },
    /// An operation has ended. Said exactly once for each that was started.
    Done {
        /// What was started.
        operation: OperationId,
        /// How it ended.
        result: Result<Outcome<P>, OperationError<P>>,
    },
    /// Something that an observer may want to know.
    Event(Event<P>),
}

/// How an operation ended well.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome<P: Peer> {
    /// Of [`Command::Join`].
    Joined(Joined),
    /// Of [`Command::Save`].
    Saved(Receipt<P>),
    /// Of [`Command::Query`], [`Command::QueryOf`], [`Command::QueryImmutable`] and [`Command::Keep`].
    Queried(QueryReport<P>),
    /// Of [`Command::Forget`]: how many records were kept alive.
    Forgotten(usize),
    /// Of [`Command::Ledger`], in the order of the keys.
    Ledger(Vec<Published>),
    /// Of [`Command::Neighbours`] and [`Command::Closest`], nearest first.
    Neighbours(Vec<Neighbour<P>>),
    /// Of [`Command::Dump`].
    Dumped(Box<Dump<P>>),
    /// Of [`Command::Trace`].
    Traced(Box<Trace<P>>),
    /// Of [`Command::Contacts`]: those first who are surest to be there.
    Contacts(Vec<KnownPeer<P>>),
    /// Of [`Command::Introduce`]: how many are going to be asked.
    Introduced(usize),
    /// Of [`Command::Lookup`].
    LookedUp(LookupReport<P>),
    /// Of [`Command::Ping`].
    Pong(Pong),
    /// Of [`Command::FindNode`]: contacts, nearest first.
    Nodes(Vec<P>),
    /// Of [`Command::FindValue`].
    Value(ValueReply<P>),
    /// Of [`Command::Store`]: the record is kept.
    Stored,
}

/// A record that this node keeps alive in the network.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// Its key.
    pub key: Id,
    /// The record, as it was published last.
    pub record: Record,
    /// How long until it is published again.
    pub due: Duration,
    /// How long the copies live that were published last, if it is not published again.
    pub ends: Duration,
    /// How it was published last; `None` if nobody has been asked yet, or nobody has answered.
    pub last: Option<Publishing>,
}

/// How a record was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publishing {
    /// How long ago.
    pub ago: Duration,
    /// The nodes that took it, this one included.
    pub accepted: usize,
    /// Those that did not.
    pub refused: usize,
}

/// What became of a join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The id of the node that was joined through.
    pub through: Id,
    /// Contacts in the routing table now.
    pub contacts: usize,
    /// What the lookup of the own id took.
    pub effort: Effort,
}

/// What an operation took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Effort {
    /// Nodes that were asked.
    pub asked: usize,
    /// Nodes that answered.
    pub answered: usize,
    /// Messages sent and received.
    pub messages: usize,
    /// Steps from this node's own contacts (1) to whoever had what was looked for; 0 if this node had it itself.
    pub hops: usize,
    /// From the start of the operation to its end.
    pub elapsed: Duration,
}

impl Effort {
    pub(crate) fn count_answer(&mut self) {
        self.answered += 1;
        self.messages += 1;
    }
}

/// Who has a record now.
#[derive(Debug, Clone, PartialEq)]
pub struct Receipt<P: Peer> {
    /// The key's id.
    pub key: Id,
    /// The version that was saved.
    pub version: Version,
    /// Whether this node keeps a copy, being one of the closest to the key.
    pub kept_here: bool,
    /// The other nodes that keep it. Empty if this node is alone in its network.
    pub accepted: Vec<P>,
    /// Those that did not take it, and why.
    pub refused: Vec<(P, Rejection)>,
    /// What it took.
    pub effort: Effort,
}

/// Why a node did not do what it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// It said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It did not answer.
    #[error("it did not answer")]
    Silent,
    /// The message could not be sent.
    #[error(transparent)]
    Unsent(#[from] UnsentReason),
}

/// What a query found.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryReport<P: Peer> {
    /// The key's id.
    pub key: Id,
    /// The newest record; `None` if nobody had one, or it was deleted, or each record there has another owner.
    pub found: Option<FoundRecord<P>>,
    /// The value whose hash is the key, if there is one.
    pub immutable: Option<FoundRecord<P>>,
    /// The newest record of each owner, where everybody has one of their own under the key, in the order of the owners.
    pub of_owners: Vec<FoundRecord<P>>,
    /// The version of the delete, if that is the newest that was found.
    pub deleted: Option<Version>,
    /// What it took.
    pub effort: Effort,
}

/// A record and who had it.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundRecord<P: Peer> {
    /// The record.
    pub record: Record,
    /// Whether this node itself holds it.
    pub held_here: bool,
    /// The others who had this version.
    pub holders: Vec<P>,
}

/// Who is closest to a target.
#[derive(Debug, Clone, PartialEq)]
pub struct LookupReport<P: Peer> {
    /// The k nodes closest to it that answered, nearest first. This node itself is not among them.
    pub closest: Vec<P>,
    /// What it took.
    pub effort: Effort,
}

/// The answer to a ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pong {
    /// Who answered.
    pub id: Id,
    /// From the request to its answer.
    pub round_trip: Duration,
}

/// What one node answered to a [`Command::FindValue`].
#[derive(Debug, Clone, PartialEq)]
pub struct ValueReply<P: Peer> {
    /// Its records, each of another author (tombstones included). Nobody has checked them.
    pub records: Vec<Record>,
    /// Whether it has more, for which there was no room.
    pub more: bool,
    /// The contacts it knows nearest to the key, nearest first.
    pub contacts: Vec<P>,
}

/// How an operation failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OperationError<P: Peer> {
    /// As many operations as can be are under way.
    #[error("as many operations as the limits allow are under way; try again when one has ended")]
    Busy,
    /// It was cancelled.
    #[error("the operation was cancelled")]
    Cancelled,
    /// The service has stopped.
    #[error("the service has stopped")]
    Stopped,
    /// Nothing came back in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The request could not be sent.
    #[error("the request could not be sent: {0}")]
    Unsent(#[from] UnsentReason),
    /// The node said no.
    #[error("the request was refused: {0}")]
    Refused(#[from] Refusal),
    /// The address is this node's own.
    #[error("the address leads to this node itself")]
    Itself,
    /// The node once had contacts and has lost them all.
    #[error("all known nodes are gone; connect to the network again")]
    NoPeers,
    /// There are contacts, but none answered.
    #[error("none of the {asked} nodes that were asked answered")]
    NobodyAnswered {
        /// How many were asked.
        asked: usize,
    },
    /// Nodes answered, but none kept the record.
    #[error("none of {} nodes kept the record{}", .refused.len(), first_reason(.refused))]
    NotStored {
        /// Each node and its reason.
        refused: Vec<(P, Rejection)>,
    },
    /// The condition of a compare-and-swap does not hold.
    #[error("the version held is not the expected one, but {}", .held.map_or_else(|| "none".to_owned(), |v| v.to_string()))]
    Conflict {
        /// The newest version found.
        held: Option<Version>,
    },
    /// A peer was to be announced at port 0.
    #[error("nobody can be at port 0")]
    NoPort,
    /// The value is too large.
    #[error("the value has {size} bytes; the most is {limit}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The most bytes.
        limit: usize,
    },
    /// The name of a record is too long.
    #[error("the name has {size} bytes; the most is {limit}")]
    NameTooLong {
        /// Its size in bytes.
        size: usize,
        /// The most bytes.
        limit: usize,
    },
    /// An owner's right to write cannot end then: see [`DHTService::put_owned`](crate::DHTService::put_owned).
    #[error(
        "{expiry} is no time at which an owner's right can end; it is in Unix seconds, from 1000000000 to 9999999999"
    )]
    BadExpiry {
        /// What was given.
        expiry: u64,
    },
    /// A record exists, but is too large for the way to this node. Older ones are not given in its place.
    #[error("a record of version {held} exists, but is too large for the way to this node")]
    Unreadable {
        /// The version of that record.
        held: Version,
    },
    /// The node publishes as many records as it may.
    #[error("this node publishes {0} records already, the most it may")]
    PublishedFull(usize),
}

fn first_reason<P>(refused: &[(P, Rejection)]) -> String {
    refused.first().map_or_else(String::new, |(_, reason)| format!("; the closest one: {reason}"))
}

/// Something that an observer may want to know.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event<P: Peer> {
    /// A contact answered for the first time and is in the routing table now.
    ContactAdded(P),
    /// A contact left the routing table: it did not answer any more.
    ContactRemoved(P),
    /// A contact is known by another address now.
    ContactMoved(P),
    /// A record of the network is kept here now, or a newer version of it.
    RecordKept {
        /// Its key.
        key: Id,
        /// Its version.
        version: Version,
    },
    /// The lifetime of a record that was kept here is over.
    RecordExpired {
        /// Its key.
        key: Id,
    },
    /// A record that this node published was replaced by another's newer one, and is not published any more.
    Superseded {
        /// Its key.
        key: Id,
        /// The newer version.
        by: Version,
    },
}

/// What a node has counted since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests sent, by name; repetitions included.
    pub requests_sent: BTreeMap<&'static str, u64>,
    /// Requests answered, by name.
    pub requests_served: BTreeMap<&'static str, u64>,
    /// Requests refused, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Messages dropped, by cause.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Replies that counted.
    pub replies: u64,
    /// Requests without an answer.
    pub unanswered: u64,
}
