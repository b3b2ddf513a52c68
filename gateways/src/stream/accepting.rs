//! When connections are accepted.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Transport;
use crate::count::Count;
use crate::link::Link;

/// When accepting fails for lack of something: how long until it is tried again, if no connection closes before.
const PAUSE: Duration = Duration::from_millis(500);

/// Accepts connections as long as some wait, and pauses where the system lacks something.
#[derive(Debug, Default)]
pub(super) struct Accepting {
    /// There may be connections to accept.
    more: bool,
    /// It failed; when to try again.
    again: Option<Instant>,
}

impl Accepting {
    /// The listener says that connections wait.
    pub(super) fn wake(&mut self) {
        self.more = true;
    }

    /// A connection has closed, and with it a file descriptor is free.
    pub(super) fn resume(&mut self) {
        self.more |= self.again.take().is_some();
    }

    /// Tries again if it is time to.
    pub(super) fn resume_if_due(&mut self) {
        if self.again.is_some_and(|at| at <= Instant::now()) {
            self.resume();
        }
    }

    /// Whether connections may wait now.
    pub(super) fn has_more(&self) -> bool {
        self.more
    }

    /// When it goes on after a failure.
    pub(super) fn again_at(&self) -> Option<Instant> {
        self.again
    }

    /// Accepts a connection, and tells the address that it is seen to come from, if there is one.
    pub(super) fn attempt<T: Transport>(
        &mut self,
        listener: &T::Listener,
        link: &Link,
    ) -> Option<(T::Stream, Option<IpAddr>)> {
        let error = match T::accept(listener) {
            Ok(accepted) => return Some(accepted),
            Err(error) => error,
        };
        match error.kind() {
            ErrorKind::WouldBlock => self.more = false,
            ErrorKind::Interrupted | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset => {}
            // No file descriptors, most likely. Trying at once again would go round in circles.
            _ => {
                log::warn!("accepting a connection: {error}");
                link.count(Count::SocketError);
                self.more = false;
                self.again = Some(Instant::now() + PAUSE);
            }
        }
        None
    }
}
