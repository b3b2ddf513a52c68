//! The messages of BitTorrent's DHT: KRPC, as in BEP 5, 32, 42, 43, 44 and 51.

use std::net::SocketAddr;

use bytes::Bytes;

use super::compact::Node;
use crate::id::Id;

/// A message.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Message {
    /// What an answer repeats.
    pub(super) transaction: Bytes,
    /// The client and its version, as it says.
    pub(super) version: Option<Bytes>,
    /// The sender answers no queries, and is to be in nobody's table (BEP 43).
    pub(super) read_only: bool,
    /// Where the sender of an answer sees whoever asked (BEP 42).
    pub(super) seen_at: Option<SocketAddr>,
    pub(super) body: Body,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Body {
    Query { sender: Id, query: Query },
    Response(Response),
    Failure(Failure),
}

/// The kinds of nodes that an answer is to name (BEP 32); neither where nothing was said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Want {
    pub(super) v4: bool,
    pub(super) v6: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Query {
    Ping,
    FindNode {
        target: Id,
        want: Want,
    },
    GetPeers {
        info_hash: Id,
        want: Want,
    },
    AnnouncePeer {
        info_hash: Id,
        /// `None`: that which the query came from.
        port: Option<u16>,
        token: Bytes,
    },
    Get {
        target: Id,
        /// Only what is newer is of interest.
        sequence: Option<i64>,
        want: Want,
    },
    Put {
        /// Follows from the item; there are nodes that want it all the same.
        target: Option<Id>,
        token: Bytes,
        item: Item,
        /// The number that what is there must have.
        expected: Option<i64>,
    },
    SampleInfohashes {
        target: Id,
        want: Want,
    },
}

/// What is kept by `put` (BEP 44).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Item {
    /// Bencoded.
    pub(super) value: Bytes,
    /// `None` if it is under its own hash.
    pub(super) mutable: Option<Mutable>,
}

/// What shows who wrote an item.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mutable {
    pub(super) public_key: [u8; 32],
    /// Empty in answers, which do not tell it.
    pub(super) salt: Bytes,
    pub(super) sequence: i64,
    pub(super) signature: [u8; 64],
}

/// What a query is answered by. Of most fields an answer has but a few.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Response {
    pub(super) sender: Id,
    pub(super) nodes: Nodes,
    pub(super) token: Option<Bytes>,
    /// Where those are who have what was asked for.
    pub(super) peers: Vec<SocketAddr>,
    pub(super) item: Option<Item>,
    /// The number of an item that is not sent, as it is no newer than what the query said.
    pub(super) sequence: Option<i64>,
    pub(super) samples: Option<Samples>,
}

impl Response {
    /// An answer that says no more than who gives it.
    pub(super) fn of(sender: Id) -> Self {
        let (nodes, peers) = (Nodes::default(), Vec::new());
        Response { sender, nodes, token: None, peers, item: None, sequence: None, samples: None }
    }
}

/// The nodes of each family, where they are named, nearest first. Whoever wants some is told that there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Nodes {
    pub(super) v4: Option<Vec<Node>>,
    pub(super) v6: Option<Vec<Node>>,
}

impl Nodes {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Node> {
        self.v4.iter().chain(&self.v6).flatten()
    }

    pub(super) fn len(&self) -> usize {
        self.iter().count()
    }

    /// Leaves out one of the farthest. Whether there was one.
    pub(super) fn pop(&mut self) -> bool {
        let longest = [&mut self.v4, &mut self.v6].into_iter().flatten().max_by_key(|nodes| nodes.len());
        longest.and_then(Vec::pop).is_some()
    }
}

/// Some of the keys that peers were announced under (BEP 51).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Samples {
    /// After so many seconds there may be others.
    pub(super) interval: u32,
    /// How many there are in all.
    pub(super) total: u64,
    pub(super) info_hashes: Vec<Id>,
}

/// Why a query was not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) code: i64,
    pub(super) text: String,
}

/// Codes of failures.
pub(super) mod code {
    pub(in super::super) const GENERIC: i64 = 201;
    pub(in super::super) const SERVER: i64 = 202;
    pub(in super::super) const PROTOCOL: i64 = 203;
    pub(in super::super) const UNKNOWN_METHOD: i64 = 204;
    pub(in super::super) const VALUE_TOO_LARGE: i64 = 205;
    pub(in super::super) const BAD_SIGNATURE: i64 = 206;
    pub(in super::super) const SALT_TOO_LARGE: i64 = 207;
    pub(in super::super) const OTHER_EXPECTED: i64 = 301;
    pub(in super::super) const SEQUENCE_TOO_LOW: i64 = 302;
}
