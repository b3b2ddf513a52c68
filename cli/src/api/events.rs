//! `/events`: what happens in the node, while it happens.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use kademlia_dht::core::Event as NodeEvent;
use kademlia_dht::{Contact, Event};
use serde_json::{Value as Json, json};
use tokio::sync::broadcast::error::RecvError;

use super::contacts::Node;
use super::errors::ApiError;
use super::state::Api;

/// So often something is sent where nothing happens, so that nobody on the way takes the connection for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What happens in the node from now on.
///
/// Each has a name (`event`) and an object (`data`): `following` when it has begun; `contact_added`, `contact_removed`,
/// `contact_moved`: a node; `record_kept`, `record_expired`, `superseded`, `not_found`: a key; `gateway_registered`,
/// `gateway_removed`, `gateway_failed`, `gateway_restarted`, `gateway_ended`; `persistence_failed`,
/// `persistence_restored`; `lagged`, where so many were left out as they were read too slowly; `failed`, when the node has stopped of its own accord.
#[utoipa::path(
    get, path = "/events", operation_id = "events", tag = "node",
    responses(
        (status = 200, description = "Server-sent events, without end", content_type = "text/event-stream", body = String),
        (status = 503, description = "As many as can be follow already", body = super::errors::ErrorBody),
    )
)]
pub(super) async fn get(State(api): State<Api>) -> Result<Response, ApiError> {
    let (place, events) = api.follow()?;
    let first = sent("following", &json!({ "id": api.hex(&api.service().id()) }));
    let follow = stream::unfold((Some(first), events, place), move |(first, mut events, place)| {
        let api = api.clone();
        async move {
            let event = match first {
                Some(first) => first,
                None => match events.recv().await {
                    Ok(Some(event)) => described(&api, &event),
                    Err(RecvError::Lagged(missed)) => sent("lagged", &json!({ "missed": missed })),
                    Ok(None) | Err(RecvError::Closed) => return None,
                },
            };
            Some((Ok::<_, Infallible>(event), (None, events, place)))
        }
    });
    Ok(Sse::new(follow).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

fn sent(name: &str, data: &Json) -> Sent {
    Sent::default().event(name).data(data.to_string())
}

fn described(api: &Api, event: &Event) -> Sent {
    let node = |contact: &Contact| serde_json::to_value(Node::new(api, contact)).unwrap_or_default();
    match event {
        Event::Node(NodeEvent::ContactAdded(contact)) => sent("contact_added", &node(contact)),
        Event::Node(NodeEvent::ContactRemoved(contact)) => sent("contact_removed", &node(contact)),
        Event::Node(NodeEvent::ContactMoved(contact)) => sent("contact_moved", &node(contact)),
        Event::Node(NodeEvent::RecordKept { key, version }) => {
            sent("record_kept", &json!({ "key": api.hex(key), "version": version.to_string() }))
        }
        Event::Node(NodeEvent::RecordExpired { key }) => sent("record_expired", &json!({ "key": api.hex(key) })),
        Event::Node(NodeEvent::Superseded { key, by }) => {
            sent("superseded", &json!({ "key": api.hex(key), "by": by.to_string() }))
        }
        Event::NotFound { key, asked } => sent("not_found", &json!({ "key": api.hex(key), "asked": asked })),
        Event::GatewayRegistered { gateway, name, addresses } => {
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            sent("gateway_registered", &json!({ "gateway": gateway.to_string(), "name": name, "addresses": addresses }))
        }
        Event::GatewayRemoved { gateway } => sent("gateway_removed", &json!({ "gateway": gateway.to_string() })),
        Event::GatewayEnded { gateway } => sent("gateway_ended", &json!({ "gateway": gateway.to_string() })),
        Event::GatewayFailed { gateway, cause } => {
            sent("gateway_failed", &json!({ "gateway": gateway.to_string(), "cause": cause }))
        }
        Event::GatewayRestarted { gateway } => sent("gateway_restarted", &json!({ "gateway": gateway.to_string() })),
        Event::PersistenceFailed { cause } => sent("persistence_failed", &json!({ "cause": cause })),
        Event::PersistenceRestored => sent("persistence_restored", &json!({})),
        Event::Failed { cause } => sent("failed", &json!({ "cause": cause })),
        Event::Lagged { missed } => sent("lagged", &json!({ "missed": missed })),
        other => sent("other", &json!({ "text": format!("{other:?}") })),
    }
}
