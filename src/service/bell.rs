//! How the manager is woken: it sleeps beside its channels, not in them.
//!
//! A `select!` of crossbeam spins for a while before it sleeps, registers with each channel, and makes a channel for each
//! timer. At one message a turn, as in a node that is asked now and then, that takes as long as the message itself.

use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::Duration;

use crossbeam::channel::{SendError, Sender};

/// Wakes one thread. What rings while that thread is awake keeps it from sleeping the next time.
#[derive(Debug, Clone, Default)]
pub(super) struct Bell(Arc<OnceLock<Thread>>);

impl Bell {
    /// Wakes this thread from now on.
    pub(super) fn wakes_me(&self) {
        self.0.set(thread::current()).ok();
    }

    pub(super) fn ring(&self) {
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }

    /// Sleeps until the bell rings, or for so long; it can also wake for no reason.
    pub(super) fn sleep(time: Option<Duration>) {
        match time {
            Some(time) => thread::park_timeout(time),
            None => thread::park(),
        }
    }
}

/// The sending half of a channel to whom the bell wakes.
#[derive(Debug)]
pub(super) struct Post<T> {
    sender: Sender<T>,
    bell: Bell,
}

impl<T> Post<T> {
    pub(super) fn new(sender: Sender<T>, bell: &Bell) -> Self {
        Post { sender, bell: bell.clone() }
    }

    /// Sends, and wakes the receiver.
    ///
    /// # Errors
    ///
    /// When the receiver has gone.
    pub(super) fn send(&self, message: T) -> Result<(), SendError<T>> {
        self.sender.send(message)?;
        self.bell.ring();
        Ok(())
    }
}

impl<T> Clone for Post<T> {
    fn clone(&self) -> Self {
        Post { sender: self.sender.clone(), bell: self.bell.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam::channel::unbounded;

    #[test]
    fn nothing_that_is_sent_is_slept_over() {
        let bell = Bell::default();
        let (sender, receiver) = unbounded();
        let post = Post::new(sender, &bell);
        let reader = thread::spawn(move || {
            bell.wakes_me();
            let mut read = 0_u32;
            while read < 10_000 {
                match receiver.try_recv() {
                    Ok(number) => {
                        assert_eq!(number, read);
                        read += 1;
                    }
                    Err(_) => Bell::sleep(None),
                }
            }
        });
        (0..10_000).for_each(|number| post.send(number).unwrap());
        reader.join().unwrap();
    }
}
