//! What became of a write.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use kademlia_dht::Receipt;
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::Answer;
use super::contacts::Node;
use super::state::Api;

/// Who has a record now.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct ReceiptBody {
    /// The id of the key, in hexadecimal.
    key: String,
    /// The version that was saved: a number of up to 64 bits, and so in a string.
    version: String,
    /// Whether this node has a copy, being one of the closest to the key.
    kept_here: bool,
    /// The other nodes that have it; none where this node is alone.
    accepted: Vec<Node>,
    /// Those that did not take it.
    refused: Vec<RefusedNode>,
    /// Nodes that were asked.
    asked: usize,
    /// Answers that came, to the lookup and to the stores. A node gives one to each, so that these can be more than `asked`.
    answered: usize,
    /// Messages sent and received.
    messages: usize,
    /// How long it took.
    elapsed_ms: f64,
    /// Whether it is on this node's disk, and so survives an end of the process at any moment.
    durable: bool,
}

/// A node that did not take a record.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct RefusedNode {
    #[serde(flatten)]
    node: Node,
    /// Why, in words.
    reason: String,
}

impl ReceiptBody {
    fn new(api: &Api, receipt: &Receipt, durable: bool) -> Self {
        let refused = receipt
            .refused
            .iter()
            .map(|(contact, rejection)| RefusedNode { node: Node::new(api, contact), reason: rejection.to_string() });
        ReceiptBody {
            key: api.hex(&receipt.key),
            version: receipt.version.to_string(),
            kept_here: receipt.kept_here,
            accepted: receipt.accepted.iter().map(|contact| Node::new(api, contact)).collect(),
            refused: refused.collect(),
            asked: receipt.effort.asked,
            answered: receipt.effort.answered,
            messages: receipt.effort.messages,
            elapsed_ms: milliseconds(receipt.effort.elapsed),
            durable,
        }
    }
}

/// The answer to a write: the receipt, when what can be on disk is there.
pub(super) async fn answer(api: &Api, receipt: Receipt) -> Response {
    let durable = super::persistence::flush(api).await;
    let body = ReceiptBody::new(api, &receipt, durable);
    ([(header::ETAG, etag(receipt.version))], Answer(body)).into_response()
}

/// A version, as headers have it.
pub(super) fn etag(version: kademlia_dht::Version) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{version}\"")).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

/// A time in seconds, to three digits behind the point.
pub(super) fn seconds(time: std::time::Duration) -> f64 {
    crate::report::round(time.as_secs_f64())
}

/// A time in milliseconds, to three digits behind the point.
pub(super) fn milliseconds(time: std::time::Duration) -> f64 {
    crate::report::round(time.as_secs_f64() * 1000.0)
}
