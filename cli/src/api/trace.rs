//! `/trace/{key}`: a lookup, request by request.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use kademlia_dht::{Effort, QueryReport, Trace, TracedAnswer, TracedRequest};
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::Answer;
use super::contacts::Node;
use super::errors::{ApiError, ErrorBody};
use super::key::{Key, KeyPath, KeyQuery};
use super::receipt::milliseconds;
use super::state::{Api, Wanted};

/// A lookup of a value, request by request.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct TraceBody {
    /// The id of the key, in hexadecimal.
    target: String,
    /// What was found; `null` if nothing was.
    found: Option<FoundBody>,
    /// Why the lookup failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// In the order in which they were sent.
    requests: Vec<RequestBody>,
    effort: EffortBody,
}

/// A record that was found.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct FoundBody {
    version: String,
    /// Such as `plain`.
    kind: &'static str,
    /// How many bytes its value has.
    bytes: usize,
    /// Whether this node itself holds it.
    held_here: bool,
    /// The others who had it.
    holders: Vec<Node>,
}

/// A request of a lookup.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct RequestBody {
    /// Who was asked, in hexadecimal.
    id: String,
    /// Where, as a multiaddr.
    address: String,
    /// Steps from this node: 1 for its own contacts.
    hop: usize,
    /// How far it is from the key, in hexadecimal.
    distance: String,
    /// Who named it; `null` if it was a contact of this node.
    told_by: Option<String>,
    /// When it was asked, from the start of the lookup.
    started_ms: f64,
    /// When it had answered, or was given up.
    ended_ms: f64,
    /// How long it took; `null` without an answer.
    round_trip_ms: Option<f64>,
    answer: AnswerBody,
}

/// What came of a request.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum AnswerBody {
    /// It has what is looked for.
    Value { version: String, records: usize, contacts: usize },
    /// It named so many contacts.
    Contacts { count: usize },
    /// It gave no answer of use.
    Failed { reason: String },
    /// The lookup ended before it had answered.
    NotAwaited,
}

/// What an operation took.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct EffortBody {
    /// Nodes that were asked.
    asked: usize,
    /// Answers that came. Of a write they can be more than `asked`, as a node gives one to the lookup and one to the store.
    answered: usize,
    /// Messages sent and received.
    messages: usize,
    /// Steps from this node's contacts to whoever had it.
    hops: usize,
    elapsed_ms: f64,
}

impl From<Effort> for EffortBody {
    fn from(effort: Effort) -> Self {
        let Effort { asked, answered, messages, hops, elapsed } = effort;
        EffortBody { asked, answered, messages, hops, elapsed_ms: milliseconds(elapsed) }
    }
}

/// Look up a key, and tell of each request that it takes.
#[utoipa::path(
    get, path = "/trace/{key}", operation_id = "trace", tag = "inside",
    params(KeyPath, KeyQuery),
    responses(
        (status = 200, description = "The lookup, whether it has found something or not", body = TraceBody),
        (status = 400, description = "The request is wrong", body = ErrorBody),
        (status = 503, description = "Busy, or the node has stopped", body = ErrorBody),
    )
)]
pub(super) async fn get(State(api): State<Api>, key: Key) -> Result<Response, ApiError> {
    let trace = Wanted::result(api.service().trace_id(key.target(&api)?)).await?;
    Ok(Answer(body(&api, trace)).into_response())
}

fn body(api: &Api, trace: Trace) -> TraceBody {
    let (found, error) = match trace.result {
        Ok(report) => (found(api, report), None),
        Err(error) => (None, Some(error.to_string())),
    };
    TraceBody {
        target: api.hex(&trace.target),
        found,
        error,
        requests: trace.requests.iter().map(|request| self::request(api, request, &trace.target)).collect(),
        effort: trace.effort.into(),
    }
}

/// The newest record, or the first of those that have several owners.
fn found(api: &Api, report: QueryReport) -> Option<FoundBody> {
    let found = report.found.or(report.immutable).or(report.of_owners.into_iter().next())?;
    Some(FoundBody {
        version: found.record.version.to_string(),
        kind: found.record.kind.name(),
        bytes: found.record.value.len(),
        held_here: found.held_here,
        holders: found.holders.iter().map(|contact| Node::new(api, contact)).collect(),
    })
}

fn request(api: &Api, request: &TracedRequest, target: &kademlia_dht::Id) -> RequestBody {
    RequestBody {
        id: api.hex(&request.peer.id()),
        address: request.peer.address().to_string(),
        hop: request.hop,
        distance: api.distance(&request.peer.id(), target),
        told_by: request.told_by.map(|id| api.hex(&id)),
        started_ms: milliseconds(request.started),
        ended_ms: milliseconds(request.ended),
        round_trip_ms: request.round_trip.map(milliseconds),
        answer: match &request.answer {
            TracedAnswer::Value { version, records, contacts } => {
                AnswerBody::Value { version: version.to_string(), records: *records, contacts: *contacts }
            }
            TracedAnswer::Contacts { count } => AnswerBody::Contacts { count: *count },
            TracedAnswer::Failed(rejection) => AnswerBody::Failed { reason: rejection.to_string() },
            TracedAnswer::NotAwaited => AnswerBody::NotAwaited,
        },
    }
}
