//! What a client sends: not more than is taken, and not slower.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};
use utoipa::ToSchema;

use super::errors::ApiError;
use super::state::Api;

/// Any bytes, for the description of the API.
#[derive(Debug, ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "it is for the description alone")]
pub(super) struct AnyBytes(Vec<u8>);

/// So many bytes must come in the time that the other end has for a step.
const STEP_BYTES: u64 = 64 << 10;

/// A body while it comes in.
#[derive(Debug)]
pub(super) struct Incoming {
    body: Body,
    limit: u64,
    taken: u64,
    timeout: Duration,
    /// Until when so many bytes must have come.
    due: (Instant, u64),
}

impl Incoming {
    /// Takes a body, unless its length is known to be too large.
    pub(super) fn new(api: &Api, headers: &HeaderMap, body: Body) -> Result<Self, ApiError> {
        let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        let limit = api.max_body();
        if length.is_some_and(|length| length > limit) {
            return Err(ApiError::too_large(limit));
        }
        let due = (Instant::now() + api.timeout(), STEP_BYTES);
        Ok(Incoming { body, limit, taken: 0, timeout: api.timeout(), due })
    }

    /// What comes next; `None` at the end.
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            let frame = timeout_at(self.due.0, self.body.frame()).await.map_err(|_| too_slow())?;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|error| {
                ApiError::bad_request("truncated", format!("the body ended before it was whole: {error}"))
            })?;
            // What else can come is of no use here.
            let Ok(data) = frame.into_data() else { continue };
            self.taken += data.len() as u64;
            if self.taken > self.limit {
                return Err(ApiError::too_large(self.limit));
            }
            if self.taken >= self.due.1 {
                self.due = (Instant::now() + self.timeout, self.taken + STEP_BYTES);
            }
            return Ok(Some(data));
        }
    }

    /// What comes until there is more than `most`, and whether that was all.
    pub(super) async fn up_to(&mut self, most: usize) -> Result<(Vec<u8>, bool), ApiError> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.piece().await? {
            bytes.extend_from_slice(&piece);
            if bytes.len() > most {
                return Ok((bytes, false));
            }
        }
        Ok((bytes, true))
    }
}

fn too_slow() -> ApiError {
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "too_slow", "the body came too slowly")
}
