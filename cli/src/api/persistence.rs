//! What of the node is on its disk.

use std::time::Duration;

use kademlia_dht::{PersistenceStatus, Status};
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::metrics::Figures;
use super::state::Api;

/// The longest that an answer waits for the disk. The value is saved in the network meanwhile.
const LONGEST_FLUSH: Duration = Duration::from_secs(5);

/// How the node's state is kept over a restart.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct PersistenceBody {
    /// Whether all is well. Otherwise the node serves on from memory, and tries again.
    durable: bool,
    /// Why not.
    failure: Option<String>,
    /// Batches that were kept since the node was started.
    commits: u64,
    /// Batches that could not be kept.
    failed_commits: u64,
    /// Records that have changed and are not kept yet.
    pending: usize,
    /// What was found when the node was started, such as that a damaged file was put aside.
    notices: Vec<String>,
}

impl From<PersistenceStatus> for PersistenceBody {
    fn from(status: PersistenceStatus) -> Self {
        PersistenceBody {
            durable: status.durable,
            failure: status.failure,
            commits: status.commits,
            failed_commits: status.failed_commits,
            pending: status.pending,
            notices: status.notices,
        }
    }
}

/// Waits until all that has happened is on disk, and tells whether it is.
pub(super) async fn flush(api: &Api) -> bool {
    matches!(timeout(LONGEST_FLUSH, api.service().flush()).await, Ok(Ok(true)))
}

/// Figures of what is kept on disk, where something is.
pub(super) fn count(figures: &mut Figures<'_>, status: &Status) {
    let Some(persistence) = &status.persistence else { return };
    figures.gauge("persistence_durable", "1 where the node's state is kept on disk", persistence.durable.into());
    figures.gauge("persistence_pending", "Records that have changed and are not kept yet", persistence.pending);
    figures.counter("persistence_commits", "Batches that were kept", persistence.commits);
    figures.counter("persistence_failed_commits", "Batches that could not be kept", persistence.failed_commits);
}
