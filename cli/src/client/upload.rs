//! A value on its way to a node, with a bar that shows how far it is.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::mpsc;

use super::Failure;
use crate::args::Value;

/// How much is read at once.
const PIECE_BYTES: usize = 64 << 10;

/// Pieces that wait to be sent.
const WAITING: usize = 2;

/// A value on its way.
#[derive(Debug, Default)]
pub(super) struct Upload {
    pub(super) body: Body,
    /// How long it is, if that is known.
    pub(super) length: Option<u64>,
}

/// The body of a request that saves the value.
pub(super) fn body(value: &Value) -> Result<Upload, Failure> {
    match value {
        Value::Text(text) => Ok(Upload { body: Body::from(text.clone()), length: Some(text.len() as u64) }),
        Value::Input => Ok(Upload { body: streamed(io::stdin(), None), length: None }),
        Value::File(path) => {
            let (file, length) = open(path).map_err(|error| Failure::Read { path: path.clone(), error })?;
            Ok(Upload { body: streamed(file, Some(bar(length))), length: Some(length) })
        }
    }
}

fn open(path: &Path) -> io::Result<(impl Read + Send + use<>, u64)> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    // As much as was promised, though it grows meanwhile.
    Ok((file.take(length), length))
}

/// What a reader gives, while it gives it: read on a thread of its own, as it can wait.
fn streamed(mut reader: impl Read + Send + 'static, bar: Option<ProgressBar>) -> Body {
    let (sender, pieces) = mpsc::channel::<io::Result<Bytes>>(WAITING);
    tokio::task::spawn_blocking(move || {
        loop {
            let mut piece = vec![0; PIECE_BYTES];
            let piece = match reader.read(&mut piece) {
                Ok(0) => break,
                Ok(size) => {
                    piece.truncate(size);
                    Ok(piece.into())
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            if let (Some(bar), Ok(piece)) = (&bar, &piece) {
                let piece: &Bytes = piece;
                bar.inc(piece.len() as u64);
            }
            let is_last = piece.is_err();
            if sender.blocking_send(piece).is_err() || is_last {
                break;
            }
        }
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
    });
    Body::from_stream(stream::unfold(pieces, |mut pieces| async move { Some((pieces.recv().await?, pieces)) }))
}

/// A bar on standard error; none if that is no terminal.
fn bar(length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length);
    match ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
