//! A stream whose other end must not dawdle: what is written must be taken in time; and who is refused while still sending
//! is listened to for a moment.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// After the last answer, how long and how much of what still comes is read. A connection that is closed over unread bytes
/// is reset, and whoever is sending would see that in place of the answer.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 64 << 20;

/// What is read at once meanwhile.
const LINGER_STEP: usize = 16 << 10;

/// A stream that fails when nothing of what is to be written was taken for so long.
#[derive(Debug)]
pub(super) struct Patient<S> {
    stream: S,
    patience: Duration,
    /// Until when something must be taken; `None` while nothing waits.
    due: Option<Pin<Box<Sleep>>>,
    /// Since all was written: until when what still comes is read, and how much of it.
    lingering: Option<(Pin<Box<Sleep>>, usize)>,
    /// What it counts as: first as a connection, and then, while what still comes is read, as one of these.
    place: Option<OwnedSemaphorePermit>,
    lingerers: Arc<Semaphore>,
    /// Whether the server ends, which waits for nobody.
    ended: watch::Receiver<bool>,
}

impl<S> Patient<S> {
    pub(super) fn new(
        stream: S,
        patience: Duration,
        ended: watch::Receiver<bool>,
        place: OwnedSemaphorePermit,
        lingerers: Arc<Semaphore>,
    ) -> Self {
        Patient { stream, patience, due: None, lingering: None, place: Some(place), lingerers, ended }
    }

    /// What a try to write came to, which ends in an error where the time is up.
    fn judge<T>(&mut self, written: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.due = None;
            return written;
        }
        let patience = self.patience;
        let due = self.due.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + patience)));
        ready!(due.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.judge(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    /// Says that nothing more is written, and then reads what still comes for a moment, if there is a place for that.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            // Before the other end is told: who then comes again finds the place free.
            self.place = None;
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
            self.place = Arc::clone(&self.lingerers).try_acquire_owned().ok();
            let bytes = if self.place.is_some() { LINGER_BYTES } else { 0 };
            self.lingering = Some((Box::pin(sleep(LINGER)), bytes));
        }
        self.poll_linger(context).map(Ok)
    }
}

impl<S: AsyncRead + Unpin> Patient<S> {
    /// Reads until the other end has closed, or has sent too much or taken too long.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some((until, left)) = &mut self.lingering else { return Poll::Ready(()) };
        let mut space = [0; LINGER_STEP];
        while *left > 0 && !*self.ended.borrow() && until.as_mut().poll(context).is_pending() {
            let mut buffer = ReadBuf::new(&mut space);
            let read = ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                break;
            }
            *left = left.saturating_sub(buffer.filled().len());
        }
        Poll::Ready(())
    }
}
