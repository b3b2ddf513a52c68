//! A value that was found, as it is given to a client: all of it or a part, at once or while it comes.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use kademlia_dht::Version;
use kademlia_dht::large;

use super::errors::ApiError;
use super::ranges::{Part, part};
use super::receipt::etag;
use super::state::Api;
use super::typed::{self, VALUE_TYPE};

/// A value that was found.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) version: Version,
    /// What the record holds: the value, or the root of a large one.
    pub(super) value: Vec<u8>,
}

/// Gives it, as far as the client wants it.
pub(super) async fn answer(
    api: &Api,
    method: &Method,
    headers: &HeaderMap,
    stored: Stored,
) -> Result<Response, ApiError> {
    if let Some(unchanged) = unchanged(headers, stored.version) {
        return Ok(unchanged);
    }
    let tag = etag(stored.version);
    if !(api.settings().takes_large && large::is_root(&stored.value)) {
        let (value, kind) = typed::unpacked(api, stored.value);
        let length = value.len() as u64;
        let part = wanted(headers, &tag, length);
        let range = bounds(&part, length);
        let index = |offset| usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = value.get(index(range.0)..index(range.1)).unwrap_or_default().to_vec();
        let mut response = head(tag, &part, length, Body::from(bytes));
        response.headers_mut().extend(kind.map(|kind| (VALUE_TYPE, kind)));
        return Ok(response);
    }
    let place = api.transfer()?;
    let reader = api.service().value_reader(stored.value, super::large::options());
    let length = reader.len();
    let part = wanted(headers, &tag, length);
    let (start, end) = bounds(&part, length);
    let is_empty = method == Method::HEAD || start == end;
    let body = if is_empty { Body::empty() } else { super::large::read(reader, (start, end), place).await? };
    Ok(head(tag, &part, length, body))
}

/// What a client is told that has this version.
pub(super) fn unchanged(headers: &HeaderMap, version: Version) -> Option<Response> {
    let tag = etag(version);
    is_known(headers, &tag).then(|| (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response())
}

/// Whether the client has what this tag is of.
pub(super) fn is_known(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let tags = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok()).unwrap_or_default();
    let own = tag.to_str().unwrap_or_default();
    tags.split(',').map(|tag| tag.trim().trim_start_matches("W/")).any(|tag| tag == own || tag == "*")
}

/// What of the value is wanted. A part of another version is of no use to whoever has the rest of that.
fn wanted(headers: &HeaderMap, tag: &HeaderValue, length: u64) -> Part {
    if headers.get(header::IF_RANGE).is_some_and(|version| version != tag) {
        return Part::Whole;
    }
    part(headers.get(header::RANGE).and_then(|range| range.to_str().ok()), length)
}

/// From where to where.
fn bounds(part: &Part, length: u64) -> (u64, u64) {
    match part {
        Part::Whole => (0, length),
        Part::Of(range) => (range.start, range.end),
        Part::Beyond => (0, 0),
    }
}

fn head(tag: HeaderValue, part: &Part, length: u64, body: Body) -> Response {
    let (start, end) = bounds(part, length);
    let (status, content_range) = match part {
        Part::Whole => (StatusCode::OK, None),
        Part::Of(_) => (StatusCode::PARTIAL_CONTENT, Some(format!("bytes {start}-{}/{length}", end.saturating_sub(1)))),
        Part::Beyond => (StatusCode::RANGE_NOT_SATISFIABLE, Some(format!("bytes */{length}"))),
    };
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::ETAG, tag);
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    // Somebody else may write at any time.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // A value that is a page, too, is nobody's page.
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(end - start));
    if let Some(range) = content_range.and_then(|range| HeaderValue::from_str(&range).ok()) {
        headers.insert(header::CONTENT_RANGE, range);
    }
    response
}
