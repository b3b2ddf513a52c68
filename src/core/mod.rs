//! All of Kademlia, without any I/O.
//!
//! A [`Node`] is one node of a network as a pure state machine. It has one door, [`Node::handle`]: what happened and
//! what time it is go in; messages to send, ended operations and events come out. It knows no clock, no socket, no
//! thread and no randomness but its seed, so that a run can be replayed from its inputs, in production and in a
//! simulator alike.

// `clippy.toml` lists what has no place here: clocks, threads, sockets, entropy, and maps without an order.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod admission;
mod bucket;
mod candidate;
mod contacts;
mod count;
mod inputs;
mod io;
mod journal;
mod lookup;
mod lost;
mod maintenance;
mod node;
mod params;
mod query;
mod question;
mod requests;
mod respond;
mod returning;
mod rng;
mod search;
mod settle;
mod store;
mod table;
mod task;
#[cfg(test)]
mod testing;
mod time;
mod token;
mod trace;
mod view;
mod write;

pub use admission::Admission;
pub use io::{
    Command, Content, Counters, Effort, Event, FoundRecord, Input, Joined, LookupReport, OperationError, OperationId,
    Outcome, Output, Pong, Published, Publishing, QueryReport, Receipt, Rejection, ValueReply, Writer,
};
pub use journal::{Changed, Changes, ContactNews, HeldRecord, KnownPeer};
pub use node::{Node, Queue};
pub use params::{Limits, Params};
pub(crate) use returning::MAX_FORMER;
pub use time::Time;
pub(crate) use token::Tokens;
pub use trace::{Trace, TracedAnswer, TracedRequest};
pub use view::{BucketView, Dump, Neighbour, OperationView, RecordView, RequestView};
