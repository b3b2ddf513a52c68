//! `/neighbours`: whom the node knows.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use kademlia_dht::Neighbour;
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::Answer;
use super::contacts::Node;
use super::errors::{ApiError, ErrorBody};
use super::receipt::{milliseconds, seconds};
use super::state::{Api, Wanted};

/// Whom the node knows.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Neighbours {
    /// The node's own id, in hexadecimal.
    id: String,
    /// The contacts in its routing table, nearest first.
    neighbours: Vec<NeighbourBody>,
}

/// A contact in the routing table.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct NeighbourBody {
    #[serde(flatten)]
    node: Node,
    /// The bits by which its id differs from the node's, in hexadecimal.
    distance: String,
    /// How many leading bits of the two ids are alike.
    bucket: usize,
    /// How long it took to answer last.
    round_trip_ms: f64,
    /// Since when it is in the table.
    age_s: f64,
    /// How long ago it answered last.
    last_seen_s: f64,
    /// Requests in a row that it has not answered since.
    missed: u8,
}

impl NeighbourBody {
    pub(super) fn new(api: &Api, neighbour: &Neighbour) -> Self {
        let own = api.service().id();
        NeighbourBody {
            node: Node::new(api, &neighbour.contact),
            distance: api.distance(&own, &neighbour.contact.id()),
            bucket: neighbour.bucket,
            round_trip_ms: milliseconds(neighbour.round_trip),
            age_s: seconds(neighbour.age),
            last_seen_s: seconds(neighbour.last_seen),
            missed: neighbour.missed,
        }
    }
}

impl NeighbourBody {
    /// Who it is, and where.
    pub(super) fn line(&self) -> (String, String) {
        (self.node.id.clone(), self.node.addresses.first().cloned().unwrap_or_default())
    }
}

/// The contacts in the node's routing table, nearest to it first.
#[utoipa::path(
    get, path = "/neighbours", operation_id = "neighbours", tag = "inside",
    responses(
        (status = 200, description = "The contacts", body = Neighbours),
        (status = 503, description = "The node has stopped", body = ErrorBody),
    )
)]
pub(super) async fn get(State(api): State<Api>) -> Result<Response, ApiError> {
    let neighbours = Wanted::result(api.service().neighbours()).await?;
    let neighbours = neighbours.iter().map(|neighbour| NeighbourBody::new(&api, neighbour)).collect();
    Ok(Answer(Neighbours { id: api.hex(&api.service().id()), neighbours }).into_response())
}
