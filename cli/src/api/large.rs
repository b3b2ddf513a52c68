//! Large values, which come and go in pieces: the library reads and writes them on the thread of whoever does, so that
//! each transfer has a thread while it runs. There are only so many places for them.

use std::io::{self, Read, Seek, SeekFrom, Write};

use axum::body::Body;
use axum::http::StatusCode;
use bytes::Bytes;
use futures_util::stream;
use kademlia_dht::Receipt;
use kademlia_dht::large::{Place, StreamError, StreamOptions, ValueReader};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::body::Incoming;
use super::errors::ApiError;
use super::state::Api;

/// Pieces that wait for the other side.
const WAITING: usize = 4;

/// The bytes of a piece.
const PIECE_BYTES: usize = 64 << 10;

/// How values are carried.
pub(super) fn options() -> StreamOptions {
    StreamOptions { tries: 4, ..StreamOptions::default() }
}

/// Gives the bytes from the first to before the second offset while they come. What goes wrong with the first of them is
/// told as an error; later the answer ends early.
pub(super) async fn read(
    mut reader: ValueReader,
    (start, end): (u64, u64),
    place: OwnedSemaphorePermit,
) -> Result<Body, ApiError> {
    let (sender, mut pieces) = mpsc::channel::<io::Result<Bytes>>(WAITING);
    tokio::task::spawn_blocking(move || {
        let _place = place;
        let mut left = end - start;
        let mut seek = reader.seek(SeekFrom::Start(start)).map(|_| ());
        while left > 0 {
            let mut piece = vec![0; PIECE_BYTES.min(usize::try_from(left).unwrap_or(PIECE_BYTES))];
            let read = std::mem::replace(&mut seek, Ok(())).and_then(|()| reader.read(&mut piece));
            let piece = match read {
                Ok(0) => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
                Ok(size) => {
                    piece.truncate(size);
                    left -= size as u64;
                    Ok(piece.into())
                }
                Err(error) => Err(error),
            };
            let is_last = piece.is_err();
            // Fails when nobody wants it any more.
            if sender.blocking_send(piece).is_err() || is_last {
                return;
            }
        }
    });
    match pieces.recv().await {
        Some(Err(error)) => Err(failure(&error)),
        first => {
            let rest = stream::unfold((first, pieces), |(next, mut pieces)| async move {
                let piece = match next {
                    Some(piece) => piece,
                    None => pieces.recv().await?,
                };
                Some((piece, (None, pieces)))
            });
            Ok(Body::from_stream(rest))
        }
    }
}

/// Saves what has come of a body and what is still to come. The value is in its place when all of it has been saved.
pub(super) async fn save(api: &Api, place: Place, start: Vec<u8>, mut incoming: Incoming) -> Result<Receipt, ApiError> {
    let permit = api.transfer()?;
    let service = api.service().clone();
    let (sender, mut pieces) = mpsc::channel::<Option<Bytes>>(WAITING);
    let saving = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let mut writer = service.value_writer(place, options());
        writer.write_all(&start)?;
        loop {
            match pieces.blocking_recv() {
                Some(Some(piece)) => writer.write_all(&piece)?,
                Some(None) => return writer.finish(),
                // The body has not come to its end.
                None => return Err(StreamError::Cancelled.into()),
            }
        }
    });
    loop {
        let piece = incoming.piece().await?;
        let is_last = piece.is_none();
        // Where nobody takes it, saving has failed.
        if sender.send(piece).await.is_err() || is_last {
            break;
        }
    }
    let saved = saving.await.map_err(|error| ApiError::internal(error.to_string()))?;
    saved.map_err(|error| failure(&error))
}

/// Why a large value was not read or not saved.
fn failure(error: &io::Error) -> ApiError {
    let message = error.to_string();
    match error.get_ref().and_then(|inner| inner.downcast_ref::<StreamError>()) {
        Some(StreamError::Operation { error, .. }) => ApiError::from(error.clone()),
        // There was a value, but it has come to its end, or those who held it are gone.
        Some(StreamError::Lost { .. }) => ApiError::new(StatusCode::NOT_FOUND, "lost", message),
        Some(StreamError::NoKey | StreamError::WrongKey) => ApiError::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "encrypted",
            "the value is encrypted, and this API has no keys",
        ),
        Some(StreamError::Wrong { .. } | StreamError::NoRoot) => {
            ApiError::new(StatusCode::BAD_GATEWAY, "unreadable", message)
        }
        _ => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not_stored", message),
    }
}
