//! A look at a service from outside.

use std::collections::BTreeMap;
use std::time::Duration;

use kademlia_gateways::{Id, LinkCounts, Multiaddr, UnsentCounts};

use super::host::GatewayId;
use crate::core::Counters;

/// What a service is and does at one moment.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Status {
    /// The node's id.
    pub id: Id,
    /// Whether the service has stopped.
    pub stopped: bool,
    /// Why the service has stopped of its own accord: something in it, or in what was given to it, panicked.
    pub failure: Option<String>,
    /// Since the service started.
    pub uptime: Duration,
    /// Contacts in the routing table.
    pub known_peers: usize,
    /// Records held for the network.
    pub records: usize,
    /// Bytes of their values.
    pub record_bytes: usize,
    /// Records of its own that the node keeps alive in the network.
    pub published: usize,
    /// Requests that wait for their answers.
    pub requests_in_flight: usize,
    /// Operations of the user under way.
    pub operations: usize,
    /// Messages passed on between others.
    pub relayed: u64,
    /// Messages of this node that no gateway was there for, or none that dials the address.
    pub unroutable: u64,
    /// What the node has counted: who sent it, by which gateway, is of no matter there.
    pub counters: Counters,
    /// How the node's state is kept; `None` if the service was started without a store for it.
    pub persistence: Option<PersistenceStatus>,
    /// The gateways, in order of registration.
    pub gateways: Vec<GatewayStatus>,
}

/// How the state of a node is kept over a restart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PersistenceStatus {
    /// Whether the last batch could be kept. Otherwise the node goes on from memory, and tries again.
    pub durable: bool,
    /// Why it could not.
    pub failure: Option<String>,
    /// Batches that were kept since the service started.
    pub commits: u64,
    /// Batches that could not be kept. What was in them is tried again.
    pub failed_commits: u64,
    /// Records that have changed and are not kept yet.
    pub pending: usize,
    /// What was found when the state was loaded, such as that a damaged file was put aside.
    pub notices: Vec<String>,
}

/// What a gateway is and does at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GatewayStatus {
    /// Its number.
    pub id: GatewayId,
    /// Its name, such as `udp`.
    pub name: String,
    /// Where it listens.
    pub addresses: Vec<Multiaddr>,
    /// Whether it runs.
    pub state: GatewayState,
    /// Messages handed to it to be sent.
    pub sent: u64,
    /// Messages that it did not take, by reason.
    pub refused: UnsentCounts,
    /// Messages, and contacts in them, that came in by it and were dropped before they reached the node or the next
    /// relay, by cause.
    pub dropped: BTreeMap<&'static str, u64>,
    /// What came in and what was dropped on the way, and messages that it took and could not send after all.
    pub link: LinkCounts,
}

/// Whether a gateway runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GatewayState {
    /// It runs.
    Running,
    /// It has failed and is tried again.
    Restarting {
        /// What went wrong.
        cause: String,
    },
    /// It has failed for good. Its addresses are free.
    Failed {
        /// What went wrong.
        cause: String,
    },
    /// It has ended of its own accord. Its addresses are free.
    Ended,
}

/// What the manager says of itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Snapshot {
    pub(super) failure: Option<String>,
    pub(super) known_peers: usize,
    pub(super) records: usize,
    pub(super) record_bytes: usize,
    pub(super) published: usize,
    pub(super) requests_in_flight: usize,
    pub(super) operations: usize,
    pub(super) relayed: u64,
    pub(super) unroutable: u64,
    pub(super) counters: Counters,
    pub(super) persistence: Option<PersistenceStatus>,
}
