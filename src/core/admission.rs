//! Who may stand in the routing table.

use std::fmt::Debug;
use std::sync::Arc;

use kademlia_gateways::Peer;

/// Says who may stand in a node's routing table and be given records to keep. There are networks in which ids follow from
/// something: whoever has another one could have chosen its place.
///
/// All others are asked in lookups, and what they answer counts, so that nobody is out of reach who is known to them alone.
/// But they never enter the table, nor are records stored there; and a lookup waits for no more than k of them.
pub trait Admission<P: Peer>: Debug + Send + Sync {
    /// Whether this peer, with this id at this address, may.
    fn admits(&self, peer: &P) -> bool;
}

/// The policy of a node; without one, anybody may.
pub(crate) type Policy<P> = Option<Arc<dyn Admission<P>>>;

/// Whether a policy admits somebody.
pub(crate) fn admits<P: Peer>(policy: &Policy<P>, peer: &P) -> bool {
    policy.as_ref().is_none_or(|policy| policy.admits(peer))
}
