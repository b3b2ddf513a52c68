//! What a command clears away before it ends, if it is interrupted.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::{fmt, process};

use crate::INTERRUPTED;
use crate::signals::{self, SignalsError};

type Work = Box<dyn FnOnce() + Send>;

/// What is to be done then. Until there is something, a signal ends the command as it ends any program.
#[derive(Clone, Default)]
pub(super) struct Cleanup {
    works: Arc<Mutex<Vec<Work>>>,
    is_ending: Arc<AtomicBool>,
}

impl Cleanup {
    /// Has this done as well. Whoever else waits, such as for standard input, is not waited for.
    pub(super) fn on_interrupt(&self, work: impl FnOnce() + Send + 'static) -> Result<(), SignalsError> {
        let mut all = self.works.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Box::new(work));
        if all.len() > 1 {
            return Ok(());
        }
        let (all, is_ending) = (Arc::clone(&self.works), Arc::clone(&self.is_ending));
        signals::listen(move || {
            is_ending.store(true, Ordering::SeqCst);
            // It stays locked, so that nobody adds what would not be done.
            let mut works = all.lock().unwrap_or_else(PoisonError::into_inner);
            works.drain(..).for_each(|work| work());
            process::exit(INTERRUPTED.into());
        })
    }

    /// Does this, until there is an interrupt: from then on nothing more. What fails because it is cleared away is no
    /// failure to tell of, and another exit status.
    pub(super) async fn unless_interrupted<T>(&self, command: impl Future<Output = T>) -> T {
        let mut command = pin!(command);
        let is_ending = || self.is_ending.load(Ordering::SeqCst);
        poll_fn(|context| {
            if is_ending() {
                return Poll::Pending;
            }
            let polled = command.as_mut().poll(context);
            if is_ending() { Poll::Pending } else { polled }
        })
        .await
    }
}

impl fmt::Debug for Cleanup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cleanup").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn what_fails_by_an_interrupt_is_not_told() {
        let cleanup = Cleanup::default();
        assert_eq!(cleanup.unless_interrupted(async { 1 }).now_or_never(), Some(1));
        let fails = async { cleanup.is_ending.store(true, Ordering::SeqCst) };
        assert_eq!(cleanup.unless_interrupted(fails).now_or_never(), None);
        let goes_on = async { panic!("it goes on") };
        assert_eq!(cleanup.unless_interrupted(goes_on).now_or_never(), None::<()>);
    }
}
