//! What the API shows of the inside of a node, and of its disk.

use kademlia_dht::Status;
use serde::Serialize;
use utoipa::ToSchema;

use super::metrics::Figures;
use super::state::Api;

/// What a node keeps on disk.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct PersistenceBody {
    /// Whether all is well.
    durable: bool,
}

/// What is kept on disk.
pub(super) fn persistence(_status: &Status) -> Option<PersistenceBody> {
    None
}

/// Waits until all that has happened is on disk, and tells whether it is.
pub(super) async fn flush(_api: &Api) -> bool {
    false
}

/// Figures of what is kept on disk.
pub(super) fn count_persistence(_figures: &mut Figures<'_>, _status: &Status) {}
