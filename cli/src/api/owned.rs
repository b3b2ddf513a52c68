//! Owned records as JSON: values that their owners have signed elsewhere.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::Request;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use kademlia_dht::signing::owned::{Claim, OwnerId, OwnerSignature};
use kademlia_dht::{Owned, OwnedMode, Record, RecordKind};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answer::Answer;
use super::body::Incoming;
use super::errors::ApiError;
use super::receipt::{self, etag};
use super::state::Api;

/// An owned record that is to be saved.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub(super) struct OwnedRequest {
    /// The value.
    data: String,
    /// Who else may write under the key.
    persist_mode: PersistMode,
    /// Who has signed it.
    authorization: Authorization,
}

/// Reads a request. A list in the order of the fields is none, though the library would take it for an object.
fn parse(json: &[u8]) -> Result<OwnedRequest, ApiError> {
    let wrong = |error: serde_json::Error| ApiError::bad_request("bad_json", error.to_string());
    let shape: serde_json::Value = serde_json::from_slice(json).map_err(wrong)?;
    for (pointer, name) in
        [("", "the body"), ("/authorization", "authorization"), ("/authorization/pub_key", "authorization.pub_key")]
    {
        if shape.pointer(pointer).is_some_and(|value| !value.is_object()) {
            return Err(ApiError::bad_request("bad_json", format!("{name} is no JSON object")));
        }
    }
    serde_json::from_slice(json).map_err(wrong)
}

/// What is under a key with owned records.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum OwnedOrMany {
    /// The key is somebody's.
    One(OwnedRecord),
    /// Everybody has a record of their own there.
    Many(Vec<OwnedRecord>),
}

/// An owned record.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct OwnedRecord {
    /// Who has signed it.
    authorization: Authorization,
    /// Who else may write under the key.
    persist_mode: PersistMode,
    /// The value. One that is no text, as other programs can save it, is in `data_hex` instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    /// The value in hexadecimal, where it is no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    data_hex: Option<String>,
}

/// What shows who has written a record.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
struct Authorization {
    pub_key: PublicKey,
    /// The signature, in hexadecimal: ECDSA, 64 bytes, with the lower `s`.
    sign: String,
}

/// An owner.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
struct PublicKey {
    /// The secp256k1 public key, compressed, in hexadecimal.
    key: String,
    /// When the owner may no longer write, in Unix seconds of ten digits; `null` for never.
    #[serde(default)]
    exp_time: Option<u64>,
}

/// Who else may write under a key.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
enum PersistMode {
    /// Nobody: the key belongs to whoever wrote there first.
    Secured,
    /// Everybody has a record of their own.
    Controlled,
}

/// The most bytes of a request: of a value of which each character is written as `\u0000`, and what is around it.
fn most_bytes(api: &Api) -> usize {
    api.settings().value_bytes * 6 + 4096
}

/// Saves an owned record.
pub(super) async fn post(api: &Api, key: &[u8], request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    if parts.headers.contains_key(header::IF_MATCH) || parts.headers.contains_key(header::IF_NONE_MATCH) {
        return Err(ApiError::bad_request("bad_condition", "owned records have no conditions"));
    }
    let mut incoming = Incoming::new(api, &parts.headers, body)?;
    let (json, is_all) = incoming.up_to(most_bytes(api)).await?;
    if !is_all {
        return Err(ApiError::too_large(api.settings().value_bytes as u64));
    }
    let record = parse(&json)?;
    let owner: [u8; 33] = bytes_of("authorization.pub_key.key", &record.authorization.pub_key.key)?;
    let owner = OwnerId::try_from(&owner[..])
        .map_err(|error| ApiError::bad_request("bad_key", format!("authorization.pub_key.key: {error}")))?;
    let signature = OwnerSignature(bytes_of("authorization.sign", &record.authorization.sign)?);
    let expiry = record.authorization.pub_key.exp_time;
    let mode = match record.persist_mode {
        PersistMode::Secured => OwnedMode::Secured,
        PersistMode::Controlled => OwnedMode::Controlled,
    };
    let claim = Claim { key, data: record.data.as_bytes(), expiry, mode };
    if owner.verify(&claim, &signature).is_err() {
        let words = "the signature is not this owner's, of this key, value, expiry and mode";
        return Err(ApiError::unauthorized("bad_signature", words));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if expiry.is_some_and(|expiry| expiry < now) {
        return Err(ApiError::unauthorized("expired", "the time is over in which this owner may write"));
    }
    let receipt = api.service().put_owned_signed(&owner, &claim, &signature).await?;
    Ok(receipt::answer(api, receipt).await)
}

/// The bytes of hexadecimal digits, which must be so many.
fn bytes_of<const N: usize>(field: &str, text: &str) -> Result<[u8; N], ApiError> {
    let wrong = || ApiError::bad_request("bad_hex", format!("{field}: {} hexadecimal digits are expected", 2 * N));
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
    }
    Ok(bytes)
}

/// The record of a key that is somebody's.
pub(super) fn one(record: &Record, claim: &Owned) -> Response {
    ([(header::ETAG, etag(record.version))], Answer(OwnedOrMany::One(written(record, claim)))).into_response()
}

/// The records of a key where everybody has one of their own.
pub(super) fn list(records: &[&Record]) -> Response {
    let claims = records.iter().filter_map(|record| match &record.kind {
        RecordKind::Owned(claim) => Some(written(record, claim)),
        _ => None,
    });
    Answer(OwnedOrMany::Many(claims.collect())).into_response()
}

fn written(record: &Record, claim: &Owned) -> OwnedRecord {
    let data = std::str::from_utf8(&record.value).ok().map(str::to_owned);
    OwnedRecord {
        authorization: Authorization {
            pub_key: PublicKey { key: hex(&claim.owner), exp_time: claim.expiry },
            sign: hex(&claim.signature),
        },
        persist_mode: match claim.mode {
            OwnedMode::Secured => PersistMode::Secured,
            OwnedMode::Controlled => PersistMode::Controlled,
        },
        data_hex: data.is_none().then(|| hex(&record.value)),
        data,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
