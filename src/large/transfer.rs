//! [`Transfer`]: a value of any size that is saved on a thread of its own.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use super::StreamError;
use super::writer::{Checkpoint, ValueWriter};
use crate::service::Receipt;

/// How much is read at once.
const READ_BYTES: usize = 64 * 1024;

/// A value of any size that is being saved. Dropping it cancels that.
#[derive(Debug)]
#[must_use = "without it the transfer is cancelled"]
pub struct Transfer {
    state: Arc<State>,
    thread: Option<JoinHandle<(io::Result<Receipt>, Checkpoint)>>,
}

#[derive(Debug, Default)]
struct State {
    saved: AtomicU64,
    cancelled: AtomicBool,
}

impl Transfer {
    pub(super) fn start(writer: ValueWriter, reader: impl Read + Send + 'static) -> io::Result<Self> {
        let state = Arc::new(State::default());
        let told = Arc::clone(&state);
        let thread = thread::Builder::new().name("transfer".to_owned()).spawn(move || copy(writer, reader, &told))?;
        Ok(Transfer { state, thread: Some(thread) })
    }

    /// How many bytes have been saved for good.
    pub fn saved(&self) -> u64 {
        self.state.saved.load(Ordering::Relaxed)
    }

    /// Whether it has ended, well or not.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// Why it was not saved, and from where on saving it can go on: see [`ValueWriter::resume`].
    pub fn wait(mut self) -> Result<Receipt, (io::Error, Checkpoint)> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok((Ok(receipt), _))) => Ok(receipt),
            Some(Ok((Err(error), checkpoint))) => Err((error, checkpoint)),
            // The reader has panicked.
            Some(Err(_)) | None => {
                Err((io::Error::other("the reader of the value has panicked"), Checkpoint::default()))
            }
        }
    }

    /// Ends it at the next chunk.
    pub fn cancel(&self) {
        self.state.cancelled.store(true, Ordering::Relaxed);
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.cancel();
    }
}

fn copy(mut writer: ValueWriter, mut reader: impl Read, state: &State) -> (io::Result<Receipt>, Checkpoint) {
    let mut buffer = vec![0; READ_BYTES];
    let result = loop {
        if state.cancelled.load(Ordering::Relaxed) {
            break Err(StreamError::Cancelled.into());
        }
        let read = match reader.read(&mut buffer) {
            Ok(0) => break Ok(()),
            Ok(size) => buffer.get(..size).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => break Err(error),
        };
        if let Err(error) = writer.write_all(read) {
            break Err(error);
        }
        state.saved.store(writer.checkpoint().offset, Ordering::Relaxed);
    };
    let result = result.and_then(|()| writer.finish_within(&|| state.cancelled.load(Ordering::Relaxed)));
    (result, writer.checkpoint().clone())
}
