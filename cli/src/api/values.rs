//! `/dht/{key}`: values, as they are.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use kademlia_dht::gateway::Expect;
use kademlia_dht::large::{self, Place};
use kademlia_dht::{Receipt, Record, RecordKind, Version, value_of};

use super::body::{AnyBytes, Incoming};
use super::errors::{ApiError, ErrorBody, NotWritten, Unanswered};
use super::key::{Key, KeyPath, KeyQuery, query};
use super::owned::{OwnedOrMany, OwnedRequest};
use super::receipt::{self, ReceiptBody};
use super::state::{Api, Wanted};
use super::stored::{self, Stored};
use super::typed::{self, TypeQuery};
use super::{large as transfers, owned};
use crate::args::ValueType;

/// What must be so for a value to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    None,
    /// There is no value.
    Absent,
    /// There is a value.
    Present,
    /// This is the newest version.
    Version(Version),
}

/// The headers of a condition, for the description of the API.
#[derive(Debug, utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it is for the description alone")]
struct Conditions {
    /// A version in quotes, which must be the newest; * for any
    #[param(rename = "If-Match", pattern = r#"^("[0-9]{1,19}"|\*)$"#)]
    matches: Option<String>,
    /// *: there must be no value
    #[param(rename = "If-None-Match", pattern = r"^\*$")]
    matches_none: Option<String>,
}

/// Find the value of a key.
///
/// A plain, immutable, signed or ruled value comes as it was saved, or the part of it that is asked for; one that has another
/// type than bytes comes as text. Owned records come as JSON: one, if the key is somebody's; or a list, if everybody has one of
/// their own there.
#[utoipa::path(
    get, path = "/dht/{key}", operation_id = "value", tag = "values",
    params(
        KeyPath,
        KeyQuery,
        ("Range" = Option<String>, Header, description = "A part of a value, such as bytes=0-1023"),
        ("If-None-Match" = Option<String>, Header, description = "A version in quotes: 304 if it is still the newest"),
    ),
    responses(
        (status = 200, description = "The value, or the owned record, or a list of those", content(
            (AnyBytes = "application/octet-stream"), (OwnedOrMany = "application/json"),
        ), headers(
            ("ETag" = String, description = "The version, in quotes"),
            ("Value-Type" = Option<ValueType>, description = "The type of the value, where values have types"),
        )),
        (status = 206, description = "The part that was asked for", content_type = "application/octet-stream", body = AnyBytes),
        (status = 304, description = "The newest version is the one that is known"),
        (status = 400, description = "The request is wrong", body = ErrorBody),
        (status = 404, description = "There is no value, or a part of it is lost", body = ErrorBody),
        (status = 416, description = "The value has no such part", content_type = "application/octet-stream", body = AnyBytes),
        (status = 422, description = "The value is encrypted", body = ErrorBody),
        (status = 502, description = "The value is too large for the way, or not what its root says", body = ErrorBody),
        Unanswered,
    )
)]
pub(super) async fn get(State(api): State<Api>, key: Key, request: Request) -> Result<Response, ApiError> {
    let report = Wanted::result(api.service().get(key.target(&api)?)).await?;
    let is_value = |record: &Record| !record.is_tombstone();
    let owners: Vec<&Record> = report.of_owners.iter().map(|found| &found.record).filter(|own| is_value(own)).collect();
    if !owners.is_empty() {
        return Ok(owned::list(&owners));
    }
    let found = report.found.or(report.immutable).map(|found| found.record).filter(is_value);
    let Some(record) = found else { return Err(ApiError::not_found(&report.effort, report.deleted)) };
    if let RecordKind::Owned(claim) = &record.kind
        && !large::is_root(&record.value)
    {
        return Ok(stored::unchanged(request.headers(), record.version).unwrap_or_else(|| owned::one(&record, claim)));
    }
    let version = record.version;
    stored::answer(&api, request.method(), request.headers(), Stored { version, value: value_of(record) }).await
}

/// Save a value under a key.
#[utoipa::path(
    put, path = "/dht/{key}", operation_id = "save", tag = "values", security((), ("token" = [])),
    params(KeyPath, TypeQuery, Conditions),
    request_body(content = AnyBytes, content_type = "application/octet-stream", description = "The value"),
    responses(
        (status = 200, description = "Who has it now", body = ReceiptBody, headers(("ETag" = String, description = "The version, in quotes"))),
        NotWritten,
    )
)]
pub(super) async fn put(State(api): State<Api>, key: Key, request: Request) -> Result<Response, ApiError> {
    write(&api, &key, request).await
}

/// Save a value under a key, or, as `application/json`, an owned record.
#[utoipa::path(
    post, path = "/dht/{key}", operation_id = "save_or_own", tag = "values", security((), ("token" = [])),
    params(KeyPath, TypeQuery, Conditions),
    request_body(content((OwnedRequest = "application/json"), (AnyBytes = "application/octet-stream"), (String = "application/x-www-form-urlencoded")), description = "The value, as it is; or, as JSON, an owned record"),
    responses(
        (status = 200, description = "Who has it now", body = ReceiptBody, headers(("ETag" = String, description = "The version, in quotes"))),
        NotWritten,
    )
)]
pub(super) async fn post(State(api): State<Api>, key: Key, request: Request) -> Result<Response, ApiError> {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    // A value that is said to have a type is a value.
    if essence.eq_ignore_ascii_case("application/json") && query(request.uri(), "type").is_none() {
        return owned::post(&api, key.to_write()?, request).await;
    }
    write(&api, &key, request).await
}

async fn write(api: &Api, key: &Key, request: Request) -> Result<Response, ApiError> {
    let name = key.to_write()?.to_vec();
    let (parts, body) = request.into_parts();
    let condition = condition(&parts.headers)?;
    let kind = typed::asked(api, &parts.uri)?;
    let mut incoming = Incoming::new(api, &parts.headers, body)?;
    let most = api.settings().value_bytes;
    let (start, is_all) = incoming.up_to(most).await?;
    let takes_large = api.settings().takes_large;
    let is_small = is_all && start.len() <= most && !(takes_large && large::is_root(&start));
    let start = if is_small { typed::packed(kind, start)? } else { start };
    let expect = expectation(api, key, condition).await?;
    let receipt = if is_small {
        let pending = match expect {
            Expect::Anything => api.service().save(&name, &start),
            Expect::Absent => api.service().save_if(&name, None, &start),
            Expect::Version(version) => api.service().save_if(&name, Some(version), &start),
        };
        pending.await?
    } else if takes_large {
        let place = match expect {
            Expect::Anything => Place::Plain(name),
            Expect::Absent => Place::PlainIf { key: name, expected: None },
            Expect::Version(version) => Place::PlainIf { key: name, expected: Some(version) },
        };
        transfers::save(api, place, start, incoming).await?
    } else {
        return Err(ApiError::too_large(most as u64));
    };
    Ok(receipt::answer(api, receipt).await)
}

/// Delete the value of a key.
#[utoipa::path(
    delete, path = "/dht/{key}", operation_id = "delete", tag = "values", security((), ("token" = [])),
    params(KeyPath, Conditions),
    responses(
        (status = 200, description = "Who has it now", body = ReceiptBody, headers(("ETag" = String, description = "The version, in quotes"))),
        NotWritten,
    )
)]
pub(super) async fn delete(State(api): State<Api>, key: Key, request: Request) -> Result<Response, ApiError> {
    let name = key.to_write()?;
    let expect = expectation(&api, &key, condition(request.headers())?).await?;
    let receipt: Receipt = match expect {
        Expect::Anything => api.service().delete(name).await?,
        Expect::Absent => return Err(ApiError::bad_request("bad_condition", "what is not there cannot be deleted")),
        Expect::Version(version) => api.service().delete_if(name, version).await?,
    };
    Ok(receipt::answer(&api, receipt).await)
}

/// What the library is to expect.
async fn expectation(api: &Api, key: &Key, condition: Condition) -> Result<Expect, ApiError> {
    match condition {
        Condition::None => Ok(Expect::Anything),
        Condition::Absent => Ok(Expect::Absent),
        Condition::Version(version) => Ok(Expect::Version(version)),
        Condition::Present => {
            let report = Wanted::result(api.service().get(key.target(api)?)).await?;
            let found = report.found.map(|found| found.record).filter(|record| !record.is_tombstone());
            found.map(|record| Expect::Version(record.version)).ok_or_else(|| ApiError::conflict(None))
        }
    }
}

/// Reads `If-Match` and `If-None-Match` of a write.
fn condition(headers: &HeaderMap) -> Result<Condition, ApiError> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default().trim());
    match (text(header::IF_MATCH), text(header::IF_NONE_MATCH)) {
        (None, None) => Ok(Condition::None),
        (Some("*"), None) => Ok(Condition::Present),
        (Some(tag), None) => {
            let version = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).and_then(|tag| tag.parse().ok());
            let words = "`If-Match` has one version in quotes, such as \"116812345678901234\", or *";
            version.map(|version| Condition::Version(Version(version))).ok_or_else(|| bad_condition(words))
        }
        (None, Some("*")) => Ok(Condition::Absent),
        (None, Some(_)) => Err(bad_condition("`If-None-Match` of a write can only be *")),
        (Some(_), Some(_)) => Err(bad_condition("`If-Match` and `If-None-Match` exclude each other")),
    }
}

fn bad_condition(words: &str) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "bad_condition", words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions() {
        let of = |name: &'static str, value: &str| {
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
            condition(&headers).map_err(|error| format!("{error:?}"))
        };
        assert_eq!(condition(&HeaderMap::new()).unwrap(), Condition::None);
        assert_eq!(of("if-match", "\"12\""), Ok(Condition::Version(Version(12))));
        assert_eq!(of("if-match", "*"), Ok(Condition::Present));
        assert_eq!(of("if-none-match", "*"), Ok(Condition::Absent));
        for wrong in ["12", "W/\"12\"", "\"12\", \"13\"", "\"-1\"", "\"\"", "", "\"99999999999999999999\""] {
            assert!(of("if-match", wrong).is_err(), "{wrong}");
        }
        assert!(of("if-none-match", "\"12\"").is_err());
    }
}
