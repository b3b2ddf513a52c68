//! The HTTP API of a node: what each resource gives is told by the OpenAPI document that is made of this code.
//!
//! The same API is served over TCP, over the control socket in the node's folder, and to commands that have a node of
//! their own, without any socket.

mod address_book;
mod answer;
mod body;
mod connection;
mod contacts;
#[cfg(unix)]
mod control;
mod doorman;
mod dump;
mod errors;
mod events;
mod guard;
mod key;
mod large;
mod lookups;
mod metrics;
mod neighbours;
mod openapi;
mod owned;
mod page;
mod peers;
mod persistence;
mod pictures;
mod ranges;
mod receipt;
mod renewing;
mod server;
mod state;
mod status;
mod stored;
mod trace;
mod typed;
mod values;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;

pub(crate) use guard::Access;
pub(crate) use server::{Server, ServerError};
pub(crate) use state::{Api, Settings, read_token};

use errors::ApiError;

/// All resources, for requests that came in with this access.
pub(crate) fn router(api: &Api, access: Access) -> Router {
    let value = get(values::get).put(values::put).post(values::post).delete(values::delete);
    Router::new()
        .route("/", get(page::get))
        .route("/dht/{key}", value)
        .route("/peers/{info_hash}", get(peers::get).put(peers::put).delete(peers::delete))
        .route("/status", get(status::get))
        .route("/healthz", get(status::health))
        .route("/metrics", get(metrics::get))
        .route("/events", get(events::get))
        .route("/openapi.json", get(openapi::get))
        .route("/neighbours", get(neighbours::get))
        .route("/contacts", get(address_book::get).post(address_book::post))
        .route("/dump", get(dump::get))
        .route("/dump/closest/{key}", get(lookups::closest))
        .route("/trace/{key}", get(trace::get))
        .fallback(|| async { ApiError::new(StatusCode::NOT_FOUND, "no_such_resource", "there is no such resource") })
        .method_not_allowed_fallback(|| async {
            let words = "this resource does not take such requests; the header `Allow` has those that it takes";
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", words)
        })
        .layer(from_fn_with_state((api.clone(), access), guard::check))
        .layer(from_fn_with_state(api.clone(), metrics::count))
        .layer(from_fn(guard::note_sniffers))
        .with_state(api.clone())
}
