//! `/openapi.json`: what this API is, for programs.

use axum::response::{IntoResponse, Response};
use utoipa::openapi::schema::{SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi as Document, RefOr, Schema};
use utoipa::{Modify, OpenApi};

use super::answer::Answer;
use super::{address_book, dump, events, key, lookups, metrics, neighbours, peers, status, trace, values};
use crate::args::ValueType;

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
        peers::get, peers::put, peers::delete,
        status::get, status::health, metrics::get, events::get,
        neighbours::get, address_book::get, address_book::post, dump::get, lookups::closest, trace::get,
        get,
    ),
    tags(
        (name = "values", description = "What is saved in the network"),
        (name = "node", description = "What this node is and does"),
        (name = "inside", description = "What this node knows of others"),
    ),
    components(schemas(key::AsWhat, dump::DumpForm, ValueType)),
    modifiers(&Token, &Parameters),
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

/// What can be left out of a request cannot be null for that.
struct Parameters;

impl Modify for Parameters {
    fn modify(&self, document: &mut Document) {
        for path in document.paths.paths.values_mut() {
            let operations = [&mut path.get, &mut path.put, &mut path.post, &mut path.delete];
            for parameter in
                operations.into_iter().flatten().flat_map(|operation| operation.parameters.iter_mut().flatten())
            {
                if let RefOr::T(parameter) = parameter
                    && let Some(RefOr::T(Schema::Object(schema))) = &mut parameter.schema
                    && let SchemaType::Array(types) = &mut schema.schema_type
                {
                    types.retain(|name| *name != Type::Null);
                }
            }
        }
    }
}

/// The document.
pub(crate) fn document() -> Document {
    Api::openapi()
}

/// This document.
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "openapi", tag = "node",
    responses((status = 200, description = "The OpenAPI document of this API", content_type = "application/json", body = Object))
)]
pub(super) async fn get() -> Response {
    Answer(document()).into_response()
}
