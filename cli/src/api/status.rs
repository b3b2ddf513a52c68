//! `/status` and `/healthz`: what the node is and does, and whether it is well.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use kademlia_dht::gateway::LinkCounts;
use kademlia_dht::{GatewayState, GatewayStatus, Status};
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::Answer;
use super::errors::ApiError;
use super::persistence::PersistenceBody;
use super::receipt::seconds;
use super::state::Api;

/// What a node is and does.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct StatusBody {
    /// Its id, in hexadecimal.
    id: String,
    /// The version of the program.
    version: &'static str,
    /// The protocol of its network.
    network: &'static str,
    uptime_s: f64,
    /// Where it listens, as multiaddrs.
    listening: Vec<String>,
    gateways: Vec<GatewayBody>,
    /// Contacts in its routing table.
    known_peers: usize,
    /// Records that it holds for the network.
    records: usize,
    /// Bytes of their values.
    record_bytes: usize,
    /// Records of its own that it keeps alive.
    published: usize,
    /// Requests that wait for their answers.
    requests_in_flight: usize,
    /// Operations of its users under way.
    operations: usize,
    /// Messages passed on between others.
    relayed: u64,
    /// Messages that no gateway was there for.
    unroutable: u64,
    counters: CountersBody,
    /// What is kept on disk; `null` if nothing is.
    persistence: Option<PersistenceBody>,
    /// Whether it knows nobody, though it was told whom to join or once knew others.
    isolated: bool,
    /// Why it has stopped, if it has of its own accord.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
}

/// What a gateway is and does.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct GatewayBody {
    name: String,
    /// Where it listens, as multiaddrs.
    addresses: Vec<String>,
    /// `running`, `restarting`, `failed` or `ended`.
    state: &'static str,
    /// Why it does not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    /// Messages handed to it to be sent.
    sent: u64,
    /// Messages that came in by it.
    received: u64,
    /// Messages that it did not take, or could not send.
    unsent: u64,
    /// What came in and was dropped, by cause.
    dropped: BTreeMap<String, u64>,
}

/// What the node has counted since it started.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct CountersBody {
    /// Requests sent, by name.
    requests_sent: BTreeMap<&'static str, u64>,
    /// Requests answered, by name.
    requests_served: BTreeMap<&'static str, u64>,
    /// Requests refused, by reason.
    refused: BTreeMap<&'static str, u64>,
    /// Messages dropped, by cause.
    dropped: BTreeMap<&'static str, u64>,
    /// Replies that counted.
    replies: u64,
    /// Requests without an answer.
    unanswered: u64,
}

/// Whether a node is well.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok`, or what is wrong: `isolated`, `deaf` or `stopped`.
    status: &'static str,
    /// Contacts in its routing table.
    known_peers: usize,
}

/// What the node is and does.
#[utoipa::path(get, path = "/status", operation_id = "status", tag = "node", responses((status = 200, description = "What it is and does", body = StatusBody)))]
pub(super) async fn get(State(api): State<Api>) -> Result<Response, ApiError> {
    let status = api.aside(kademlia_dht::DHTService::status).await?;
    Ok(Answer(body(&api, status)).into_response())
}

/// Whether the node is well: 200, or 503 when it has stopped, knows nobody though it should, or none of its gateways runs.
#[utoipa::path(
    get, path = "/healthz", operation_id = "health", tag = "node",
    responses(
        (status = 200, description = "It is well", body = Health),
        (status = 503, description = "It has stopped, is isolated, or none of its gateways runs", body = Health),
    )
)]
pub(super) async fn health(State(api): State<Api>) -> Result<Response, ApiError> {
    let status = api.aside(kademlia_dht::DHTService::status).await?;
    let runs = |gateway: &GatewayStatus| gateway.state == GatewayState::Running;
    let (code, word) = match &status {
        status if status.stopped => (StatusCode::SERVICE_UNAVAILABLE, "stopped"),
        status if !status.gateways.iter().any(runs) => (StatusCode::SERVICE_UNAVAILABLE, "deaf"),
        status if is_isolated(&api, status) => (StatusCode::SERVICE_UNAVAILABLE, "isolated"),
        _ => (StatusCode::OK, "ok"),
    };
    Ok((code, Answer(Health { status: word, known_peers: status.known_peers })).into_response())
}

/// Whether a node knows nobody though it should: the first one of a network need not.
pub(super) fn is_isolated(api: &Api, status: &Status) -> bool {
    status.known_peers == 0 && (api.settings().joins || status.counters.replies > 0)
}

fn body(api: &Api, status: Status) -> StatusBody {
    let isolated = is_isolated(api, &status);
    let counters = status.counters.clone();
    StatusBody {
        id: api.hex(&status.id),
        version: env!("CARGO_PKG_VERSION"),
        network: api.settings().network,
        uptime_s: seconds(status.uptime),
        listening: api.service().listen_addresses().iter().map(ToString::to_string).collect(),
        persistence: status.persistence.clone().map(PersistenceBody::from),
        gateways: status.gateways.iter().map(gateway).collect(),
        known_peers: status.known_peers,
        records: status.records,
        record_bytes: status.record_bytes,
        published: status.published,
        requests_in_flight: status.requests_in_flight,
        operations: status.operations,
        relayed: status.relayed,
        unroutable: status.unroutable,
        counters: CountersBody {
            requests_sent: counters.requests_sent,
            requests_served: counters.requests_served,
            refused: counters.refused,
            dropped: counters.dropped,
            replies: counters.replies,
            unanswered: counters.unanswered,
        },
        isolated,
        failure: status.failure,
    }
}

fn gateway(status: &GatewayStatus) -> GatewayBody {
    let (state, cause) = state_of(status);
    GatewayBody {
        name: status.name.clone(),
        addresses: status.addresses.iter().map(ToString::to_string).collect(),
        state,
        cause,
        sent: status.sent,
        received: status.link.received,
        unsent: status.refused.total() + status.link.unsent.total(),
        dropped: dropped(status),
    }
}

/// The state of a gateway in a word, and why.
pub(super) fn state_of(status: &GatewayStatus) -> (&'static str, Option<String>) {
    match &status.state {
        GatewayState::Running => ("running", None),
        GatewayState::Restarting { cause } => ("restarting", Some(cause.clone())),
        GatewayState::Failed { cause } => ("failed", Some(cause.clone())),
        GatewayState::Ended => ("ended", None),
    }
}

/// All that came in by a gateway and was dropped, or made it close a connection, by cause.
pub(super) fn dropped(status: &GatewayStatus) -> BTreeMap<String, u64> {
    let link: &LinkCounts = &status.link;
    let counts = [
        ("malformed", link.malformed),
        ("of another version", link.other_version),
        ("too large", link.oversized),
        ("unfinished", link.unfinished),
        ("repeated part", link.repeated),
        ("queue full", link.queue_full),
        ("connection displaced", link.displaced),
        ("greeting late", link.greeting_late),
        ("greeting wrong", link.greeting_wrong),
        ("connection stalled", link.stalled),
        ("socket error", link.socket_errors),
        ("reply to nothing asked", link.unasked),
        ("request of a kind not served", link.unserved),
        ("source over its limit", link.limited),
    ];
    let counted = counts.into_iter().filter(|(_, count)| *count > 0).map(|(name, count)| (name.to_owned(), count));
    counted.chain(status.dropped.iter().map(|(cause, count)| ((*cause).to_owned(), *count))).collect()
}
