//! A value on its way to a node, with a bar that shows how far it is.

use std::fs::File;
use std::io::{self, Read};

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::{mpsc, watch};

use super::Failure;
use super::patience::{Turn, theirs};
use crate::args::Value;

/// How much is read at once.
const PIECE_BYTES: usize = 64 << 10;

/// Pieces that wait to be sent.
const WAITING: usize = 2;

/// A value on its way.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) body: Body,
    /// How long it is, if that is known.
    pub(super) length: Option<u64>,
    /// Who is waited for while it is sent.
    pub(super) turn: watch::Receiver<Turn>,
}

impl Default for Upload {
    /// Nothing.
    fn default() -> Self {
        Upload { body: Body::empty(), length: None, turn: theirs() }
    }
}

/// The body of a request that saves the value.
pub(super) fn body(value: &Value) -> Result<Upload, Failure> {
    match value {
        Value::Text(text) => {
            Ok(Upload { body: Body::from(text.clone()), length: Some(text.len() as u64), ..Upload::default() })
        }
        Value::Input => Ok(streamed(io::stdin(), None, None)),
        Value::File(path) => {
            let failed = |error| Failure::Read { path: path.clone(), error };
            let file = File::open(path).map_err(failed)?;
            let about = file.metadata().map_err(failed)?;
            if about.is_dir() {
                return Err(failed(io::ErrorKind::IsADirectory.into()));
            }
            // A pipe does not know how much is to come, nor do files that are made as they are read.
            let length = Some(about.len()).filter(|length| about.is_file() && *length > 0);
            Ok(match length {
                // As much as was promised, though it grows meanwhile.
                Some(bytes) => streamed(file.take(bytes), length, Some(bar(bytes))),
                None => streamed(file, None, None),
            })
        }
    }
}

/// What a reader gives, while it gives it: read on a thread of its own, as it can wait.
fn streamed(mut reader: impl Read + Send + 'static, length: Option<u64>, bar: Option<ProgressBar>) -> Upload {
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
    let (turns, turn) = watch::channel(Turn::Theirs);
    let body = stream::unfold((pieces, turns), |(mut pieces, turns)| async move {
        turns.send_replace(Turn::Ours);
        let piece = pieces.recv().await;
        turns.send_replace(Turn::Theirs);
        piece.map(|piece| (piece, (pieces, turns)))
    });
    Upload { body: Body::from_stream(body), length, turn }
}

/// A bar on standard error; none if that is no terminal.
fn bar(length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length);
    match ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
