//! The key in the path of a request: any bytes, percent-encoded.

use axum::extract::FromRequestParts;
use axum::http::Uri;
use axum::http::request::Parts;
use kademlia_dht::Id;
use percent_encoding::percent_decode_str;
use utoipa::{IntoParams, ToSchema};

use super::errors::ApiError;
use super::state::Api;

/// What a key in a path is.
#[derive(Debug, Clone, Copy, ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "it is for the description alone")]
pub(super) enum AsWhat {
    /// A key, which is hashed.
    Key,
    /// An id.
    Id,
}

/// The key in a path, for the description of the API.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it is for the description alone")]
pub(super) struct KeyPath {
    /// The key, percent-encoded: any bytes
    key: String,
}

/// What a key is that is looked up, for the description of the API.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is for the description alone")]
pub(super) struct KeyQuery {
    /// What the key is: a key, which is hashed, or an id in hexadecimal
    #[param(rename = "as")]
    kind: Option<AsWhat>,
}

/// What stands last in the path.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) bytes: Vec<u8>,
    is_id: bool,
}

impl FromRequestParts<Api> for Key {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, ApiError> {
        let last = parts.uri.path().rsplit('/').next().unwrap_or_default();
        let is_id = match query(&parts.uri, "as") {
            None | Some("key") => false,
            Some("id") => true,
            Some(_) => return Err(ApiError::bad_request("bad_query", "`as` is `key` or `id`")),
        };
        Ok(Key { bytes: percent_decode_str(last).collect(), is_id })
    }
}

impl Key {
    /// Where it is in the key space: what it is hashed to, or, with `?as=id`, what it says.
    pub(super) fn target(&self, api: &Api) -> Result<Id, ApiError> {
        if !self.is_id {
            return Ok(api.service().plain_id(&self.bytes));
        }
        let wrong = || {
            let most = api.settings().key_bytes;
            ApiError::bad_request("bad_id", format!("an id is 1 to {most} bytes in hexadecimal, two digits a byte"))
        };
        let text = std::str::from_utf8(&self.bytes).map_err(|_| wrong())?;
        let id: Id = text.parse().map_err(|_| wrong())?;
        if id.as_bytes().iter().skip(api.settings().key_bytes).any(|byte| *byte != 0) { Err(wrong()) } else { Ok(id) }
    }

    /// The key of something that is to be written, of which the id alone is not enough.
    pub(super) fn to_write(&self) -> Result<&[u8], ApiError> {
        if self.is_id {
            return Err(ApiError::bad_request("bad_query", "with `as=id` one can only read"));
        }
        Ok(&self.bytes)
    }
}

/// The value of a word in the query of a request.
pub(super) fn query<'a>(uri: &'a Uri, name: &str) -> Option<&'a str> {
    let mut words = uri.query().unwrap_or_default().split('&');
    words.find_map(|word| word.split_once('=').filter(|(found, _)| *found == name).map(|(_, value)| value))
}
