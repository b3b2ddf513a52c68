//! [`Pending`]: a result that comes later.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use kademlia_gateways::Contact;

use super::Error;
use super::bell::Post;
use super::manager::Control;
use crate::core::{OperationId, Outcome};

/// The result of an operation, which may still be under way.
///
/// Wait for it on this thread, look whether it is there, or `.await` it on any executor. It always comes: when the
/// service stops, as [`Error::Stopped`]. Dropping it does not cancel the operation; [`cancel`](Pending::cancel) does.
#[must_use = "the operation goes on without it, but its result is lost"]
pub struct Pending<T> {
    slot: Arc<Slot<T>>,
    canceller: Option<Canceller>,
}

/// Tells the manager that nobody waits any more.
pub(super) struct Canceller {
    pub(super) control: Post<Control>,
    pub(super) operation: OperationId,
}

struct Slot<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    result: Option<Result<T, Error>>,
    resolved: bool,
    cancelled: bool,
    waker: Option<Waker>,
}

impl<T> Slot<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Pending<T> {
    /// A pending result, and what resolves it.
    pub(super) fn new() -> (Self, Resolver<T>) {
        let state = State { result: None, resolved: false, cancelled: false, waker: None };
        let slot = Arc::new(Slot { state: Mutex::new(state), changed: Condvar::new() });
        (Pending { slot: Arc::clone(&slot), canceller: None }, Resolver { slot })
    }

    /// One that has failed already.
    pub(super) fn failed(error: Error) -> Self {
        let (pending, resolver) = Pending::new();
        resolver.resolve(Err(error));
        pending
    }

    pub(super) fn with_canceller(mut self, canceller: Canceller) -> Self {
        self.canceller = Some(canceller);
        self
    }

    /// Waits for the result.
    ///
    /// # Errors
    ///
    /// Why the operation failed.
    pub fn wait(self) -> Result<T, Error> {
        let mut state = self.slot.lock();
        while !state.resolved {
            state = self.slot.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        taken(&mut state)
    }

    /// Waits for the result at most so long.
    ///
    /// # Errors
    ///
    /// If the time is up first, the pending result is handed back, and the operation goes on.
    pub fn wait_timeout(self, timeout: Duration) -> Result<Result<T, Error>, Pending<T>> {
        let start = Instant::now();
        let mut state = self.slot.lock();
        while !state.resolved {
            let Some(left) = timeout.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) else {
                drop(state);
                return Err(self);
            };
            (state, _) = self.slot.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(taken(&mut state))
    }

    /// The result, if it is there. It is given out once: later calls find nothing, and later waits
    /// [`Error::Stopped`].
    pub fn try_take(&mut self) -> Option<Result<T, Error>> {
        self.slot.lock().result.take()
    }

    /// Whether the result is there (or was taken already).
    pub fn is_ready(&self) -> bool {
        self.slot.lock().resolved
    }

    /// Ends the operation. What it has done so far, such as a copy stored at some node, is not undone.
    pub fn cancel(self) {
        let mut state = self.slot.lock();
        if state.resolved {
            return;
        }
        state.cancelled = true;
        drop(state);
        if let Some(canceller) = &self.canceller {
            // The service has stopped if this fails, and the operation with it.
            canceller.control.send(Control::Cancel(canceller.operation)).ok();
        }
    }
}

fn taken<T>(state: &mut State<T>) -> Result<T, Error> {
    state.result.take().unwrap_or(Err(Error::Stopped))
}

impl<T> Future for Pending<T> {
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.slot.lock();
        if state.resolved {
            return Poll::Ready(taken(&mut state));
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("ready", &self.is_ready()).finish_non_exhaustive()
    }
}

/// Resolves a [`Pending`]: to [`Error::Stopped`] if nothing else has come when it is dropped, so that none is lost.
pub(super) struct Resolver<T> {
    slot: Arc<Slot<T>>,
}

impl<T> Resolver<T> {
    pub(super) fn resolve(self, result: Result<T, Error>) {
        self.set(result);
    }

    fn set(&self, result: Result<T, Error>) {
        let mut state = self.slot.lock();
        if state.resolved {
            return;
        }
        state.resolved = true;
        state.result = Some(result);
        let waker = state.waker.take();
        drop(state);
        self.slot.changed.notify_all();
        if let Some(waker) = waker {
            // The executor's code runs here, on a thread of the service, which must survive it.
            catch_unwind(AssertUnwindSafe(|| waker.wake())).ok();
        }
    }
}

impl<T> Drop for Resolver<T> {
    fn drop(&mut self) {
        self.set(Err(Error::Stopped));
    }
}

/// Who waits for the outcome of an operation, whatever type it turns the outcome into.
pub(super) trait Complete: Send {
    /// Passes the outcome on.
    fn complete(self: Box<Self>, result: Result<Outcome<Contact>, Error>);

    /// Whether nobody waits any more.
    fn is_cancelled(&self) -> bool;
}

/// A resolver and what makes its type of an outcome.
pub(super) struct Completion<T, F> {
    pub(super) resolver: Resolver<T>,
    pub(super) extract: F,
}

impl<T: Send, F: FnOnce(Outcome<Contact>) -> Option<T> + Send> Complete for Completion<T, F> {
    fn complete(self: Box<Self>, result: Result<Outcome<Contact>, Error>) {
        // The core ends each command with the outcome of its kind, so that there is always something to extract.
        let Completion { resolver, extract } = *self;
        resolver.resolve(result.and_then(|outcome| extract(outcome).ok_or(Error::Stopped)));
    }

    fn is_cancelled(&self) -> bool {
        self.resolver.slot.lock().cancelled
    }
}

#[cfg(test)]
mod tests {
    use super::super::bell::Bell;
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;
    use std::thread;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    struct Panics;

    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("an executor's mistake");
        }
    }

    #[test]
    fn waits_across_threads() {
        let (pending, resolver) = Pending::new();
        let waiting = thread::spawn(|| pending.wait());
        resolver.resolve(Ok(7));
        assert_eq!(waiting.join().unwrap(), Ok(7));
    }

    #[test]
    fn a_timeout_hands_it_back() {
        let (pending, resolver) = Pending::new();
        let pending = pending.wait_timeout(Duration::from_millis(1)).unwrap_err();
        let pending = pending.wait_timeout(Duration::ZERO).unwrap_err();
        resolver.resolve(Ok(7));
        assert_eq!(pending.wait_timeout(Duration::ZERO).unwrap(), Ok(7));
    }

    #[test]
    fn a_lost_resolver_means_stopped() {
        let (pending, resolver) = Pending::<()>::new();
        drop(resolver);
        assert_eq!(pending.wait(), Err(Error::Stopped));
    }

    #[test]
    fn a_result_is_given_out_once() {
        let (mut pending, resolver) = Pending::new();
        assert!(!pending.is_ready());
        assert_eq!(pending.try_take(), None);
        resolver.resolve(Ok(7));
        assert_eq!(pending.try_take(), Some(Ok(7)));
        assert_eq!(pending.try_take(), None);
        assert!(pending.is_ready());
        assert_eq!(pending.wait(), Err(Error::Stopped));
    }

    #[test]
    fn a_future_wakes_whoever_polled_last() {
        let (mut pending, resolver) = Pending::new();
        let (first, second) = (Arc::new(Counter::default()), Arc::new(Counter::default()));
        for counter in [&first, &second] {
            let waker = Waker::from(Arc::clone(counter));
            assert_eq!(Pin::new(&mut pending).poll(&mut Context::from_waker(&waker)), Poll::Pending);
        }
        resolver.resolve(Ok(7));
        assert_eq!((first.0.load(Ordering::SeqCst), second.0.load(Ordering::SeqCst)), (0, 1));
        assert_eq!(Pin::new(&mut pending).poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(7)));
    }

    #[test]
    fn a_panic_in_a_waker_is_not_passed_on() {
        let (mut pending, resolver) = Pending::new();
        let waker = Waker::from(Arc::new(Panics));
        assert_eq!(Pin::new(&mut pending).poll(&mut Context::from_waker(&waker)), Poll::Pending);
        resolver.resolve(Ok(7));
        assert_eq!(pending.wait(), Ok(7));
    }

    #[test]
    fn cancelling_tells_the_manager_once_and_only_while_it_matters() {
        let (control, told) = crossbeam::channel::unbounded();
        let control = Post::new(control, &Bell::default());
        let canceller = |operation| Canceller { control: control.clone(), operation: OperationId(operation) };
        let (pending, resolver) = Pending::<()>::new();
        let completion = Completion { resolver, extract: |_| None };
        assert!(!completion.is_cancelled());
        pending.with_canceller(canceller(1)).cancel();
        assert!(completion.is_cancelled());
        assert!(matches!(told.try_recv(), Ok(Control::Cancel(OperationId(1)))));
        Pending::<()>::failed(Error::Busy).with_canceller(canceller(2)).cancel();
        assert!(told.try_recv().is_err());
    }
}
