//! `/peers/{info_hash}`: who has a torrent, in BitTorrent's DHT.

use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use kademlia_dht::Id;
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::Answer;
use super::errors::{ApiError, ErrorBody, NotAllowed, Unanswered};
use super::key::query;
use super::receipt::{self, ReceiptBody};
use super::state::{Api, Wanted};

/// The most peers that one search gives.
const MOST: usize = 4096;

/// The info hash in a path, for the description of the API.
#[derive(Debug, utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it is for the description alone")]
struct InfoHash {
    /// 40 hexadecimal digits
    #[param(pattern = r"^[0-9a-fA-F]{40}$")]
    info_hash: String,
}

/// Who has what an info hash stands for.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct PeersBody {
    /// In hexadecimal.
    info_hash: String,
    /// As `IP:PORT`, in the order in which they were found.
    peers: Vec<String>,
}

/// What is announced no longer.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Withdrawn {
    /// In hexadecimal.
    info_hash: String,
    /// Whether it was announced.
    withdrawn: bool,
}

/// Find who has what an info hash stands for.
#[utoipa::path(
    get, path = "/peers/{info_hash}", operation_id = "peers", tag = "values",
    params(InfoHash),
    responses(
        (status = 200, description = "All who were found", body = PeersBody),
        (status = 400, description = "It is no info hash, or this is no node of BitTorrent's DHT", body = ErrorBody),
        Unanswered,
    )
)]
pub(super) async fn get(State(api): State<Api>, uri: Uri) -> Result<Response, ApiError> {
    let info_hash = info_hash(&api, &uri)?;
    let place = api.transfer()?;
    let (peers, failure) = api
        .aside(move |service| {
            let _place = place;
            let mut found = service.peers(info_hash);
            let peers: Vec<String> = found.by_ref().take(MOST).map(|peer| peer.to_string()).collect();
            (peers, found.failure().cloned())
        })
        .await?;
    match failure {
        Some(error) if peers.is_empty() => Err(error.into()),
        _ => Ok(Answer(PeersBody { info_hash: api.hex(&info_hash), peers }).into_response()),
    }
}

/// Announce that this host has what an info hash stands for, as long as this node runs.
#[utoipa::path(
    put, path = "/peers/{info_hash}", operation_id = "announce", tag = "values", security((), ("token" = [])),
    params(
        InfoHash,
        ("port" = Option<u16>, Query, description = "The port there; without it, that of this node", minimum = 1, maximum = 65535),
    ),
    responses(
        (status = 200, description = "Who has been told", body = ReceiptBody, headers(("ETag" = String, description = "The version, in quotes"))),
        (status = 400, description = "It is no info hash or no port, or this is no node of BitTorrent's DHT", body = ErrorBody),
        NotAllowed,
        (status = 503, description = "Nobody took it", body = ErrorBody),
        (status = 504, description = "No answer in time", body = ErrorBody),
    )
)]
pub(super) async fn put(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let info_hash = info_hash(&api, request.uri())?;
    let port = match query(request.uri(), "port").map(str::parse::<u16>) {
        None => None,
        Some(Ok(port)) if port > 0 => Some(port),
        Some(_) => return Err(ApiError::bad_request("bad_port", "a port is a number from 1 to 65535")),
    };
    let receipt = api.service().announce(info_hash, port).await?;
    Ok(receipt::answer(&api, receipt).await)
}

/// Announce it no longer. Others forget it within half an hour.
#[utoipa::path(
    delete, path = "/peers/{info_hash}", operation_id = "withdraw", tag = "values", security((), ("token" = [])),
    params(InfoHash),
    responses(
        (status = 200, description = "Whether it was announced", body = Withdrawn),
        (status = 400, description = "It is no info hash, or this is no node of BitTorrent's DHT", body = ErrorBody),
        NotAllowed,
        (status = 503, description = "Busy", body = ErrorBody),
    )
)]
pub(super) async fn delete(State(api): State<Api>, uri: Uri) -> Result<Response, ApiError> {
    let info_hash = info_hash(&api, &uri)?;
    let withdrawn = Wanted::result(api.service().withdraw(info_hash)).await? > 0;
    Ok(Answer(Withdrawn { info_hash: api.hex(&info_hash), withdrawn }).into_response())
}

/// The last part of the path.
fn info_hash(api: &Api, uri: &Uri) -> Result<Id, ApiError> {
    if !api.settings().has_peers {
        let words = "peers are found in BitTorrent's DHT alone (dht node --network mainline)";
        return Err(ApiError::bad_request("not_in_this_network", words));
    }
    let text = uri.path().rsplit('/').next().unwrap_or_default();
    let id = text.parse::<Id>().ok().filter(|_| text.len() == 40);
    id.ok_or_else(|| ApiError::new(StatusCode::BAD_REQUEST, "bad_info_hash", "an info hash is 40 hexadecimal digits"))
}
