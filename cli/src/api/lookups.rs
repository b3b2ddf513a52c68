//! `/dump/closest/{key}`: who in the network is closest to a key.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::Answer;
use super::contacts::Node;
use super::errors::{ApiError, ErrorBody, Unanswered};
use super::key::{Key, KeyPath, KeyQuery};
use super::state::{Api, Wanted};

/// The nodes closest to a key, of all in the network.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Closest {
    /// The id of the key, in hexadecimal.
    target: String,
    /// Nearest first. This node itself is not among them.
    found: Vec<Found>,
}

/// A node, and how far it is from a key.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct Found {
    node: Node,
    /// The bits by which the two ids differ, in hexadecimal.
    distance: String,
}

/// Look up the k nodes closest to a key.
#[utoipa::path(
    get, path = "/dump/closest/{key}", operation_id = "closest", tag = "inside",
    params(KeyPath, KeyQuery),
    responses(
        (status = 200, description = "The nodes, nearest first", body = Closest),
        (status = 400, description = "The request is wrong", body = ErrorBody),
        Unanswered,
    )
)]
pub(super) async fn closest(State(api): State<Api>, key: Key) -> Result<Response, ApiError> {
    let target = key.target(&api)?;
    let report = Wanted::result(api.service().lookup(target)).await?;
    let found = report
        .closest
        .iter()
        .map(|contact| Found { node: Node::new(&api, contact), distance: api.distance(&contact.id(), &target) });
    Ok(Answer(Closest { target: api.hex(&target), found: found.collect() }).into_response())
}
