//! `/contacts`: whom the node knows, as a text that another node can be given.

use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use kademlia_dht::persist::{read_contacts, write_contacts};
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::{Answer, NOT_KEPT};
use super::body::Incoming;
use super::errors::{ApiError, ErrorBody, NotAllowed};
use super::state::{Api, Wanted};

/// The most bytes of a list.
const MOST_BYTES: usize = 1 << 20;

/// How many addresses are going to be asked.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Introduced {
    introduced: usize,
    /// How many are not: 1,024 wait at once.
    left_out: usize,
}

/// All whom the node knows, as a text: a multiaddr a line.
#[utoipa::path(
    get, path = "/contacts", operation_id = "contacts", tag = "inside",
    responses(
        (status = 200, description = "A multiaddr a line, `#` before words", content_type = "text/plain", body = String),
        (status = 503, description = "The node has stopped", body = ErrorBody),
    )
)]
pub(super) async fn get(State(api): State<Api>) -> Result<Response, ApiError> {
    let contacts = Wanted::result(api.service().contacts()).await?;
    let mut text = Vec::new();
    write_contacts(&mut text, &contacts).map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (NOT_KEPT.0, "no-store")], text).into_response())
}

/// Ask all these addresses whether anyone is there. Who answers becomes a contact.
#[utoipa::path(
    post, path = "/contacts", operation_id = "introduce", tag = "inside", security((), ("token" = [])),
    request_body(content = String, content_type = "text/plain", description = "A multiaddr a line, `#` before words"),
    responses(
        (status = 200, description = "How many are going to be asked", body = Introduced),
        (status = 400, description = "A line is no multiaddr", body = ErrorBody),
        NotAllowed,
        (status = 408, description = "The body came too slowly", body = ErrorBody),
        (status = 413, description = "The list is too long", body = ErrorBody),
        (status = 503, description = "Busy, or the node has stopped", body = ErrorBody),
    )
)]
pub(super) async fn post(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let (text, is_all) = Incoming::new(&api, &parts.headers, body)?.up_to(MOST_BYTES).await?;
    if !is_all {
        return Err(ApiError::too_large(MOST_BYTES as u64));
    }
    let addresses =
        read_contacts(&text[..]).map_err(|error| ApiError::bad_request("bad_contacts", error.to_string()))?;
    if text.is_empty() {
        return Err(ApiError::bad_request("bad_contacts", "there is no address: one multiaddr a line is expected"));
    }
    let all = addresses.len();
    let introduced = api.service().introduce(addresses).await?;
    Ok(Answer(Introduced { introduced, left_out: all.saturating_sub(introduced) }).into_response())
}
