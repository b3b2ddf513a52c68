//! Values that have types: those of a network of the Python package `kademlia`. Clients give and get them as text.

use axum::http::{HeaderName, HeaderValue, StatusCode, Uri};
use clap::ValueEnum;
use kademlia_dht::gateway::rpcudp::{Integer, Value};
use utoipa::IntoParams;

use super::errors::ApiError;
use super::key::query;
use super::state::Api;
use crate::args::ValueType;

/// Says of which type a value is, where values have types.
pub(super) const VALUE_TYPE: HeaderName = HeaderName::from_static("value-type");

/// The type of what is saved, for the description of the API.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is for the description alone")]
pub(super) struct TypeQuery {
    /// The type of the value, where values have types (a network of rpcudp): bytes if it is not said
    #[param(rename = "type")]
    kind: Option<ValueType>,
}

/// What a client sends, as a value of this type.
fn read(kind: ValueType, sent: &[u8]) -> Option<Value> {
    let text = || std::str::from_utf8(sent).ok();
    Some(match kind {
        ValueType::Bytes => Value::from(sent),
        ValueType::Str => Value::from(text()?),
        ValueType::Int => Value::Int(Integer::try_from(text()?.trim().parse::<i128>().ok()?).ok()?),
        ValueType::Float => Value::Float(text()?.trim().parse().ok()?),
        ValueType::Bool => match text()?.trim() {
            "true" | "True" => Value::Bool(true),
            "false" | "False" => Value::Bool(false),
            _ => return None,
        },
    })
}

/// Of which type a client says that its value is; `None` where values have none.
pub(super) fn asked(api: &Api, uri: &Uri) -> Result<Option<ValueType>, ApiError> {
    let asked = match query(uri, "type") {
        None => None,
        Some(name) => {
            let wrong = |_| ApiError::bad_request("bad_query", "`type` is `bytes`, `str`, `int`, `float` or `bool`");
            Some(ValueType::from_str(name, false).map_err(wrong)?)
        }
    };
    match (api.settings().has_types, asked) {
        (true, asked) => Ok(Some(asked.unwrap_or(ValueType::Bytes))),
        (false, None) => Ok(None),
        (false, Some(_)) => {
            let words = format!("values have no types in a network of {}", api.settings().network);
            Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "inexpressible", words))
        }
    }
}

/// What is saved for what a client has sent.
pub(super) fn packed(kind: Option<ValueType>, sent: Vec<u8>) -> Result<Vec<u8>, ApiError> {
    let Some(kind) = kind else { return Ok(sent) };
    let value = read(kind, &sent);
    let wrong = || ApiError::bad_request("bad_value", format!("the body is no {} in text", kind.name()));
    value.map(|value| value.to_bytes().into()).ok_or_else(wrong)
}

/// What a client gets of what is saved, and of which type it is. Bytes that are no value of a type are given as they are.
pub(super) fn unpacked(api: &Api, saved: Vec<u8>) -> (Vec<u8>, Option<HeaderValue>) {
    if !api.settings().has_types {
        return (saved, None);
    }
    let (shown, kind) = match Value::from_bytes(&saved) {
        Ok(Value::Bytes(bytes)) => (bytes.into(), ValueType::Bytes),
        Ok(Value::Text(text)) => (text.into_bytes(), ValueType::Str),
        Ok(value @ Value::Int(_)) => (value.to_string().into_bytes(), ValueType::Int),
        Ok(value @ Value::Float(_)) => (value.to_string().into_bytes(), ValueType::Float),
        Ok(value @ Value::Bool(_)) => (value.to_string().into_bytes(), ValueType::Bool),
        Err(_) => return (saved, None),
    };
    (shown, Some(HeaderValue::from_static(kind.name())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_each_type() {
        for (kind, text, value) in [
            (ValueType::Bytes, "\u{0}5", Value::from(b"\x005")),
            (ValueType::Str, "five ☃\n", Value::from("five ☃\n")),
            (ValueType::Int, "-5", Value::from(-5)),
            (ValueType::Int, "18446744073709551615\n", Value::from(u64::MAX)),
            (ValueType::Float, "2.5", Value::from(2.5)),
            (ValueType::Float, "3", Value::from(3.0)),
            (ValueType::Float, "-inf", Value::from(f64::NEG_INFINITY)),
            (ValueType::Bool, "True", Value::from(true)),
            (ValueType::Bool, "false", Value::from(false)),
        ] {
            assert_eq!(read(kind, text.as_bytes()), Some(value), "{text}");
        }
        for (kind, wrong) in [
            (ValueType::Str, &b"\xff"[..]),
            (ValueType::Int, b"2.5"),
            (ValueType::Int, b"18446744073709551616"),
            (ValueType::Int, b""),
            (ValueType::Float, b"much"),
            (ValueType::Bool, b"1"),
        ] {
            assert_eq!(read(kind, wrong), None, "{wrong:?}");
        }
    }
}
