//! `/dump`: all that the node knows and does, as JSON or as a picture.

use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use kademlia_dht::{Author, Dump};
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::Answer;
use super::contacts::Node;
use super::errors::{ApiError, ErrorBody};
use super::key::query;
use super::neighbours::NeighbourBody;
use super::pictures;
use super::receipt::{milliseconds, seconds};
use super::state::{Api, Wanted};
use super::trace::EffortBody;

/// The form of a dump.
#[derive(Debug, Clone, Copy, ToSchema)]
#[schema(rename_all = "lowercase")]
pub(super) enum DumpForm {
    /// All of it.
    Json,
    /// A picture, for PlantUML.
    Plantuml,
    /// A picture, for Graphviz.
    Dot,
}

/// All that a node knows and does.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct DumpBody {
    /// Its id, in hexadecimal.
    pub(super) id: String,
    /// The routing table: bucket 0 has the contacts farthest away.
    pub(super) buckets: Vec<BucketBody>,
    /// Neighbours that have fallen silent, and are asked now and then whether they are back.
    lost: Vec<Node>,
    /// Records held for the network, without their values: the first 10,000.
    pub(super) records: Vec<RecordBody>,
    /// How many more there are.
    pub(super) records_left_out: usize,
    /// Records that the node keeps alive: the first 10,000.
    pub(super) published: Vec<PublishedBody>,
    /// How many more there are.
    published_left_out: usize,
    /// Requests that wait for their answers.
    pub(super) requests: Vec<InFlight>,
    /// Operations and lookups under way.
    operations: Vec<OperationBody>,
    /// What waits to be done.
    queues: Vec<QueueBody>,
}

/// A bucket of the routing table.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct BucketBody {
    /// How many leading bits its contacts share with the node.
    pub(super) index: usize,
    pub(super) contacts: Vec<NeighbourBody>,
    /// Who has answered and waits for a place.
    waiting: Vec<Node>,
    /// How long ago something in its range was last looked up.
    looked_up_s: f64,
}

/// A record that the node holds for the network.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct RecordBody {
    /// Its key, in hexadecimal.
    pub(super) key: String,
    /// Such as `plain`.
    pub(super) kind: &'static str,
    /// Whose it is, of several under one key: a public key in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    pub(super) version: String,
    /// How many bytes its value has.
    pub(super) bytes: usize,
    /// How long it lives, if it is not published again.
    remaining_s: f64,
    /// In how long it is given to the nodes closest to it then.
    replicated_in_s: f64,
    /// Whether it came from this node itself.
    own: bool,
}

/// A record that the node keeps alive.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct PublishedBody {
    /// Its key, in hexadecimal.
    pub(super) key: String,
    /// Such as `plain`.
    pub(super) kind: &'static str,
    pub(super) version: String,
    /// How many bytes its value has.
    pub(super) bytes: usize,
    /// In how long it is published again.
    due_s: f64,
    /// How long the copies live that were published last.
    ends_s: f64,
    /// How it was published last; `null` if it was not yet.
    last: Option<PublishingBody>,
}

/// How a record was published.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct PublishingBody {
    ago_s: f64,
    /// Nodes that took it, this one included.
    accepted: usize,
    refused: usize,
}

/// A request that waits for its answer.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct InFlight {
    /// Such as `FIND_NODE`.
    pub(super) name: &'static str,
    /// What it is for.
    purpose: &'static str,
    /// Where it went, as a multiaddr.
    pub(super) to: String,
    /// Who is to answer; `null` if only the address is known.
    pub(super) id: Option<String>,
    /// How long ago it was first sent.
    age_ms: f64,
    /// How often it was sent.
    sent: u8,
    /// Whether it counts as unanswered already.
    late: bool,
}

/// An operation, or a lookup of maintenance, that is under way.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct OperationBody {
    name: &'static str,
    /// What it is about, in hexadecimal.
    target: Option<String>,
    age_ms: f64,
    /// Whether the node does it by itself.
    maintenance: bool,
    effort: EffortBody,
}

/// What waits to be done.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct QueueBody {
    name: &'static str,
    /// How much waits.
    length: usize,
    /// How much can.
    most: usize,
}

/// All that the node knows and does at this moment.
#[utoipa::path(
    get, path = "/dump", operation_id = "dump", tag = "inside",
    params(("format" = Option<DumpForm>, Query, description = "`json` (the default), or a picture for `plantuml` or Graphviz (`dot`)")),
    responses(
        (status = 200, description = "All of it, or a picture", content(
            (DumpBody = "application/json"), (String = "text/plain"), (String = "text/vnd.graphviz"),
        )),
        (status = 400, description = "The request is wrong", body = ErrorBody),
        (status = 503, description = "The node has stopped", body = ErrorBody),
    )
)]
pub(super) async fn get(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = match query(request.uri(), "format") {
        None | Some("json") => DumpForm::Json,
        Some("plantuml") => DumpForm::Plantuml,
        Some("dot") => DumpForm::Dot,
        Some(_) => return Err(ApiError::bad_request("bad_query", "`format` is `json`, `plantuml` or `dot`")),
    };
    let dump = body(&api, &Wanted::result(api.service().dump()).await?);
    let picture = |content_type, text| ([(header::CONTENT_TYPE, content_type)], text).into_response();
    Ok(match form {
        DumpForm::Json => Answer(dump).into_response(),
        DumpForm::Plantuml => picture("text/plain; charset=utf-8", pictures::plantuml(&dump)),
        DumpForm::Dot => picture("text/vnd.graphviz; charset=utf-8", pictures::dot(&dump)),
    })
}

fn body(api: &Api, dump: &Dump) -> DumpBody {
    let nodes = |contacts: &[_]| contacts.iter().map(|contact| Node::new(api, contact)).collect();
    let buckets = dump.buckets.iter().map(|bucket| BucketBody {
        index: bucket.index,
        contacts: bucket.contacts.iter().map(|contact| NeighbourBody::new(api, contact)).collect(),
        waiting: nodes(&bucket.waiting),
        looked_up_s: seconds(bucket.looked_up),
    });
    DumpBody {
        id: api.hex(&dump.id),
        buckets: buckets.collect(),
        lost: nodes(&dump.lost),
        records: records(api, dump),
        records_left_out: dump.records_left_out,
        published: published(api, dump),
        published_left_out: dump.published_left_out,
        requests: requests(api, dump),
        operations: operations(api, dump),
        queues: dump.queues.iter().map(|q| QueueBody { name: q.name, length: q.len, most: q.most }).collect(),
    }
}

fn records(api: &Api, dump: &Dump) -> Vec<RecordBody> {
    let records = dump.records.iter().map(|record| RecordBody {
        key: api.hex(&record.key),
        kind: record.kind,
        owner: match &record.author {
            Author::Owner(owner) => Some(owner.iter().map(|byte| format!("{byte:02x}")).collect()),
            Author::Any | Author::Content => None,
        },
        version: record.version.to_string(),
        bytes: record.bytes,
        remaining_s: seconds(record.remaining),
        replicated_in_s: seconds(record.replicated_in),
        own: record.is_own,
    });
    records.collect()
}

fn published(api: &Api, dump: &Dump) -> Vec<PublishedBody> {
    let published = dump.published.iter().map(|published| PublishedBody {
        key: api.hex(&published.key),
        kind: published.record.kind.name(),
        version: published.record.version.to_string(),
        bytes: published.record.value.len(),
        due_s: seconds(published.due),
        ends_s: seconds(published.ends),
        last: published.last.map(|last| PublishingBody {
            ago_s: seconds(last.ago),
            accepted: last.accepted,
            refused: last.refused,
        }),
    });
    published.collect()
}

fn requests(api: &Api, dump: &Dump) -> Vec<InFlight> {
    let requests = dump.requests.iter().map(|request| InFlight {
        name: request.name,
        purpose: request.purpose,
        to: request.to.to_string(),
        id: request.peer.map(|id| api.hex(&id)),
        age_ms: milliseconds(request.age),
        sent: request.sent,
        late: request.is_late,
    });
    requests.collect()
}

fn operations(api: &Api, dump: &Dump) -> Vec<OperationBody> {
    let operations = dump.operations.iter().map(|operation| OperationBody {
        name: operation.name,
        target: operation.target.map(|id| api.hex(&id)),
        age_ms: milliseconds(operation.age),
        maintenance: operation.is_maintenance,
        effort: operation.effort.into(),
    });
    operations.collect()
}
