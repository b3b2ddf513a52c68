//! What goes wrong with a request: the status, and a JSON object that says what to do about it.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use kademlia_dht::{Contact, Error, Refusal, Rejection, UnsentReason};
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

use super::answer::Answer;

/// What every answer to a request has that failed.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct ErrorBody {
    error: ErrorDetail,
}

/// What went wrong.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
struct ErrorDetail {
    /// One word for programs, such as `not_found`.
    code: &'static str,
    /// Words for people.
    message: String,
    /// Of a conflict: the newest version, if there is any. Of a value that was deleted: the version of the delete.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// How many nodes were asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    asked: Option<usize>,
    /// How many of them answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    answered: Option<usize>,
    /// The most that is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
}

/// What becomes of a request for which others are asked, if it fails: for the description of the API.
#[derive(Debug, IntoResponses)]
#[expect(dead_code, reason = "it is for the description alone")]
pub(super) enum Unanswered {
    #[response(status = 503, description = "Busy, or nobody answered")]
    Busy(ErrorBody),
    #[response(status = 504, description = "No answer in time")]
    Late(ErrorBody),
}

/// Who may not write: for the description of the API.
#[derive(Debug, IntoResponses)]
#[expect(dead_code, reason = "it is for the description alone")]
pub(super) enum NotAllowed {
    #[response(status = 401, description = "The token is missing or wrong")]
    Unauthorized(ErrorBody),
    #[response(status = 403, description = "Writes are not taken from here")]
    Forbidden(ErrorBody),
}

/// What becomes of a write to a key, if it fails: for the description of the API.
#[derive(Debug, IntoResponses)]
#[expect(dead_code, reason = "it is for the description alone")]
pub(super) enum NotWritten {
    #[response(status = 400, description = "The request is wrong")]
    Wrong(ErrorBody),
    #[response(
        status = 401,
        description = "The token is missing or wrong, the record not signed by who owns the key, or the key another's"
    )]
    Unauthorized(ErrorBody),
    #[response(status = 403, description = "Writes are not taken from here")]
    Forbidden(ErrorBody),
    #[response(status = 408, description = "The body came too slowly")]
    Slow(ErrorBody),
    #[response(status = 412, description = "The newest version is another")]
    Conflict(ErrorBody),
    #[response(status = 413, description = "The value is too large")]
    Large(ErrorBody),
    #[response(status = 422, description = "The network of this node has no form for it")]
    Inexpressible(ErrorBody),
    #[response(
        status = 503,
        description = "Nobody took it, as there is no room or too much has come from one source; or this node publishes as \
                       many records as it may, is busy, or ends"
    )]
    Untaken(ErrorBody),
    #[response(status = 504, description = "No answer in time")]
    Late(ErrorBody),
}

/// A request that failed.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    status: StatusCode,
    detail: ErrorDetail,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        ApiError { status, detail: ErrorDetail { code, message: message.into(), ..ErrorDetail::default() } }
    }

    pub(super) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(super) fn unauthorized(code: &'static str, message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::UNAUTHORIZED, code, message)
    }

    pub(super) fn forbidden(code: &'static str, message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::FORBIDDEN, code, message)
    }

    pub(super) fn busy(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
    }

    pub(super) fn internal(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    pub(super) fn too_large(limit: u64) -> Self {
        let message = format!("the body is too large; the most is {limit} bytes");
        let mut error = ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message);
        error.detail.limit = Some(limit);
        error
    }

    /// There is no value, though so many were asked. `deleted` is the version of its delete.
    pub(super) fn not_found(effort: &kademlia_dht::Effort, deleted: Option<kademlia_dht::Version>) -> Self {
        let (asked, answered) = (effort.asked, effort.answered);
        let message = match deleted {
            Some(_) => format!("the value was deleted; {answered} of {asked} nodes that were asked answered"),
            None => format!("not found; {answered} of {asked} nodes that were asked answered"),
        };
        let mut error = ApiError::new(StatusCode::NOT_FOUND, "not_found", message);
        error.detail.version = deleted.map(|version| version.to_string());
        (error.detail.asked, error.detail.answered) = (Some(asked), Some(answered));
        error
    }

    /// The condition does not hold; `held` is the newest version.
    pub(super) fn conflict(held: Option<kademlia_dht::Version>) -> Self {
        let held = held.map(|version| version.to_string());
        let message = match &held {
            Some(held) => format!("the newest version is {held}, and not the expected one"),
            None => "there is no value, and so not the expected version".to_owned(),
        };
        let mut error = ApiError::new(StatusCode::PRECONDITION_FAILED, "conflict", message);
        error.detail.version = held;
        error
    }
}

/// What the network of the node has no form for.
const INEXPRESSIBLE: (StatusCode, &str) = (StatusCode::UNPROCESSABLE_ENTITY, "inexpressible");

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        let (status, code) = match &error {
            Error::Conflict { held } => return ApiError::conflict(*held),
            Error::TooLarge { limit, .. } => return ApiError::too_large(*limit as u64),
            Error::NameTooLong { .. } => (StatusCode::BAD_REQUEST, "name_too_long"),
            Error::BadExpiry { .. } => (StatusCode::BAD_REQUEST, "bad_expiry"),
            Error::Refused(refusal) => of_refusal(refusal),
            Error::NotStored { refused } => of_refused(refused),
            Error::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            Error::NoPeers => (StatusCode::SERVICE_UNAVAILABLE, "no_peers"),
            Error::NobodyAnswered { .. } => (StatusCode::SERVICE_UNAVAILABLE, "nobody_answered"),
            Error::PublishedFull(_) => (StatusCode::SERVICE_UNAVAILABLE, "published_full"),
            Error::Unsent(UnsentReason::Inexpressible) => INEXPRESSIBLE,
            Error::Unsent(_) => (StatusCode::SERVICE_UNAVAILABLE, "unsent"),
            Error::Cancelled | Error::Stopped => (StatusCode::SERVICE_UNAVAILABLE, "stopped"),
            Error::TimedOut(_) => (StatusCode::GATEWAY_TIMEOUT, "timed_out"),
            Error::Unreadable { .. } => (StatusCode::BAD_GATEWAY, "unreadable"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        ApiError::new(status, code, message)
    }
}

/// Of a record that nobody took: if some say that it is another's, that is why.
fn of_refused(refused: &[(Contact, Rejection)]) -> (StatusCode, &'static str) {
    let owners = refused.iter().find_map(|(_, rejection)| match rejection {
        Rejection::Refused(refusal @ (Refusal::Taken | Refusal::Forged | Refusal::Late)) => Some(refusal),
        _ => None,
    });
    let is_inexpressible = |rejection: &Rejection| *rejection == Rejection::Unsent(UnsentReason::Inexpressible);
    match owners {
        Some(refusal) => of_refusal(refusal),
        None if !refused.is_empty() && refused.iter().all(|(_, rejection)| is_inexpressible(rejection)) => {
            INEXPRESSIBLE
        }
        None => (StatusCode::SERVICE_UNAVAILABLE, "not_stored"),
    }
}

fn of_refusal(refusal: &Refusal) -> (StatusCode, &'static str) {
    match refusal {
        Refusal::Taken => (StatusCode::UNAUTHORIZED, "another_owner"),
        Refusal::Forged => (StatusCode::UNAUTHORIZED, "bad_signature"),
        Refusal::Late => (StatusCode::UNAUTHORIZED, "expired"),
        Refusal::Older { .. } | Refusal::Conflict { .. } => (StatusCode::PRECONDITION_FAILED, "conflict"),
        Refusal::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "not_stored"),
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Answer(ErrorBody { error: self.detail })).into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The status and the code of what the library says.
    fn told(error: Error) -> (u16, &'static str) {
        let error = ApiError::from(error);
        (error.status.as_u16(), error.detail.code)
    }

    #[test]
    fn what_is_full_is_no_mistake_of_the_client() {
        assert_eq!(told(Error::PublishedFull(65_536)), (503, "published_full"));
        assert_eq!(told(Error::Refused(Refusal::Full)), (503, "not_stored"));
        let contact = Contact::new(kademlia_dht::Id::ZERO, "/ip4/192.0.2.1/udp/1".parse().unwrap());
        for refusal in [Refusal::Full, Refusal::Limited] {
            let refused = vec![(contact.clone(), Rejection::Refused(refusal))];
            assert_eq!(told(Error::NotStored { refused }), (503, "not_stored"));
        }
    }

    #[test]
    fn what_http_wants_of_a_status_is_there() {
        let header = |error: Error, name| ApiError::from(error).into_response().headers().get(name).cloned();
        assert_eq!(header(Error::PublishedFull(1), header::RETRY_AFTER).unwrap(), "1");
        for refusal in [Refusal::Taken, Refusal::Forged, Refusal::Late] {
            assert_eq!(header(Error::Refused(refusal), header::WWW_AUTHENTICATE).unwrap(), "Bearer");
        }
    }
}
