//! `/openapi.json`: what this API is, for programs.

use axum::response::{IntoResponse, Response};
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::answer::Answer;
use super::{address_book, dump, events, key, lookups, metrics, neighbours, status, trace, values};

/// What is made of the resources.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "dht node",
        description = "The HTTP API of one node of a Kademlia DHT. Errors are JSON: `{\"error\": {\"code\", \"message\"}}`.",
        license(name = "MIT OR Apache-2.0"),
    ),
    paths(
        values::get, values::put, values::post, values::delete,
        status::get, status::health, metrics::get, events::get,
        neighbours::get, address_book::get, address_book::post, dump::get, lookups::closest, trace::get,
        get,
    ),
    tags(
        (name = "values", description = "What is saved in the network"),
        (name = "node", description = "What this node is and does"),
        (name = "inside", description = "What this node knows of others"),
    ),
    components(schemas(key::AsWhat, dump::DumpForm)),
    modifiers(&Token),
)]
struct Api;

/// The bearer token of writes.
struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut Document) {
        let components = document.components.get_or_insert_default();
        let scheme =
            HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("Of writes, where the node has one"));
        components.add_security_scheme("token", SecurityScheme::Http(scheme.build()));
    }
}

/// The document.
pub(crate) fn document() -> Document {
    Api::openapi()
}

/// This document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "node",
    responses((status = 200, description = "The OpenAPI document of this API", content_type = "application/json", body = Object))
)]
pub(super) async fn get() -> Response {
    Answer(document()).into_response()
}
