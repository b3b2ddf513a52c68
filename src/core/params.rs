//! What the core is told once, when it starts.

use std::sync::Arc;
use std::time::Duration;

use kademlia_gateways::{KeySpace, NetworkId};

use crate::rules::Rules;

/// The parameters of one node. [`Params::new`] gives the defaults; the service checks what users change.
#[derive(Debug, Clone)]
pub struct Params {
    /// How many bytes of an id count.
    pub key_space: KeySpace,
    /// What records are checked by.
    pub rules: Arc<Rules>,
    /// The network that the node belongs to.
    pub network: NetworkId,
    /// Contacts in a bucket, contacts in a reply, and holders of a record (paper: 20).
    pub k: usize,
    /// Requests that a lookup keeps in flight (paper: 3).
    pub alpha: usize,
    /// Holders that must agree before a query ends early.
    pub read_quorum: usize,
    /// Asks and stores, but serves nobody and is in nobody's table.
    pub client: bool,
    /// The longest that one request waits for its answer.
    pub request_timeout: Duration,
    /// The shortest that the adaptive timeout can become.
    pub request_timeout_floor: Duration,
    /// The longest that a lookup, with what follows from it, takes.
    pub lookup_timeout: Duration,
    /// A contact not heard of for this long is pinged, and dropped if it does not answer.
    pub peer_timeout: Duration,
    /// A contact is dropped after so many requests in a row without an answer (before that if another waits).
    pub max_missed: u8,
    /// A bucket in which nothing was looked up for this long is refreshed.
    pub refresh_interval: Duration,
    /// A holder gives its records to the nodes now closest to them this often.
    pub replicate_interval: Duration,
    /// A publisher publishes its records again this often.
    pub republish_interval: Duration,
    /// How long a record lives after its publisher last published it; also the longest that is taken from others.
    pub record_lifetime: Duration,
    /// For so long after the first owned record has come under a key, another owner who says that it wrote earlier is
    /// believed. Afterwards the key is the first one's for as long as it has a record there.
    pub claim_period: Duration,
    /// Write tokens change this often and are good for twice as long.
    pub token_interval: Duration,
    /// Whether the node notes what changes in it, for [`Node::take_changes`](super::Node::take_changes).
    pub journal: bool,
    /// The bounds of what the node holds and does at once.
    pub limits: Limits,
}

/// Bounds of what one node holds and does at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Operations of the user under way at once; one more is refused as busy.
    pub operations: usize,
    /// Lookups of maintenance under way at once; the others wait.
    pub background: usize,
    /// Records held for the network.
    pub records: usize,
    /// Bytes of values held for the network, with what shows who wrote them.
    pub record_bytes: usize,
    /// Records held under one key, each of another owner.
    pub records_per_key: usize,
    /// Bytes of these, with what shows who wrote them.
    pub record_bytes_per_key: usize,
    /// Records held that came from one source (an IP, or another host-like address).
    pub records_per_source: usize,
    /// Bytes of values held that came from one source.
    pub record_bytes_per_source: usize,
    /// Records that the node itself publishes and keeps alive.
    pub published: usize,
    /// The largest value, in bytes.
    pub value_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            operations: 256,
            background: 4,
            records: 65_536,
            record_bytes: 256 << 20,
            records_per_key: 256,
            record_bytes_per_key: 256 << 10,
            records_per_source: 16_384,
            record_bytes_per_source: 64 << 20,
            published: 65_536,
            value_bytes: 64 << 10,
        }
    }
}

impl Params {
    /// The defaults for a key space. Keys are hashed by SHA-1 where ids have 20 bytes, else by SHA-256.
    pub fn new(key_space: KeySpace) -> Self {
        let hour = Duration::from_secs(3600);
        Params {
            key_space,
            rules: Arc::new(Rules::of(key_space)),
            network: NetworkId::default(),
            k: 20,
            alpha: 3,
            read_quorum: 3,
            client: false,
            request_timeout: Duration::from_secs(2),
            request_timeout_floor: Duration::from_millis(200),
            lookup_timeout: Duration::from_secs(30),
            peer_timeout: Duration::from_secs(15 * 60),
            max_missed: 5,
            refresh_interval: hour,
            replicate_interval: hour,
            republish_interval: hour * 22,
            record_lifetime: hour * 24,
            claim_period: Duration::from_secs(10 * 60),
            token_interval: Duration::from_secs(5 * 60),
            journal: false,
            limits: Limits::default(),
        }
    }
}
