//! The thread that keeps the state of a node: writes what has changed, in batches, and takes its time for it.
//!
//! The manager hands over one batch at a time. What changes meanwhile is noted in the core by its place alone, so that a
//! slow disk makes batches larger, and neither the node slower nor a queue longer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};

use super::bell::Post;
use super::manager::{Control, Place};
use super::pending::Resolver;
use super::threads::calmly;
use crate::persist::{Batch, Lost, StateStore};

/// After a batch the next one waits so long, unless somebody waits for it: each costs two waits for the disk.
const PACE: Duration = Duration::from_secs(1);

/// After a batch that could not be written the next one waits so long, and each time twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Somebody who waits until all that has happened is written.
pub(super) struct Flush {
    pub(super) resolver: Resolver<bool>,
    pub(super) place: Place,
}

impl Flush {
    fn end(self, durable: bool) {
        drop(self.place);
        self.resolver.resolve(Ok(durable));
    }
}

/// What the manager wants of the keeper.
pub(super) enum Order {
    /// Write this, and tell those who wait for it. The last one is the last thing that is done.
    Commit { batch: Arc<Batch>, flushes: Vec<Flush>, last: bool },
    /// Tell those who wait: there is nothing to be written, or nothing can be.
    Tell { flushes: Vec<Flush>, durable: bool },
}

/// What became of a batch.
pub(super) struct Kept {
    pub(super) batch: Arc<Batch>,
    pub(super) failure: Option<Failure>,
}

/// Why a batch could not be written.
pub(super) struct Failure {
    pub(super) cause: String,
    /// What was written before is gone as well.
    pub(super) lost: bool,
}

/// The thread.
pub(super) struct Keeper {
    pub(super) store: Box<dyn StateStore>,
    pub(super) orders: Receiver<Order>,
    pub(super) control: Post<Control>,
}

impl Keeper {
    /// Works until the manager has gone.
    pub(super) fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        let mut next = self.orders.recv().ok();
        while let Some(order) = next.take() {
            let (batch, flushes, last) = match order {
                Order::Tell { flushes, durable } => {
                    flushes.into_iter().for_each(|flush| flush.end(durable));
                    next = self.orders.recv().ok();
                    continue;
                }
                Order::Commit { batch, flushes, last } => (batch, flushes, last),
            };
            let failure = self.commit(&batch);
            let durable = failure.is_none();
            if let Some(failure) = failure.as_ref().filter(|_| last) {
                log::warn!("what changed last in the node could not be kept: {}", failure.cause);
            }
            let rest = if durable { PACE } else { pause };
            pause = if durable { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
            self.control.send(Control::Kept(Kept { batch, failure })).ok();
            flushes.into_iter().for_each(|flush| flush.end(durable));
            if last {
                break;
            }
            next = self.rest(rest);
        }
    }

    fn commit(&mut self, batch: &Batch) -> Option<Failure> {
        match calmly(|| self.store.commit(batch)) {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(Failure { lost: error.is::<Lost>(), cause: error.to_string() }),
            Err(panic) => Some(Failure { lost: false, cause: panic }),
        }
    }

    /// Waits for the next batch; after a while it says that there can be one. Gives what comes then.
    fn rest(&self, time: Duration) -> Option<Order> {
        let start = Instant::now();
        loop {
            match self.orders.recv_timeout(time.saturating_sub(start.elapsed())) {
                Ok(Order::Tell { flushes, durable }) => flushes.into_iter().for_each(|flush| flush.end(durable)),
                Ok(commit) => return Some(commit),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {
                    self.control.send(Control::Rested).ok();
                    return self.orders.recv().ok();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use crossbeam::channel::{Sender, unbounded};

    use super::super::bell::Bell;
    use super::super::pending::Pending;
    use super::*;
    use crate::persist::{SavedState, StateError};

    const LONG: Duration = Duration::from_secs(30);

    /// Keeps all, or nothing.
    struct Disk(bool);

    impl StateStore for Disk {
        fn load(&mut self) -> Result<SavedState, StateError> {
            Ok(SavedState::default())
        }
        fn commit(&mut self, _: &Batch) -> Result<(), StateError> {
            if self.0 { Ok(()) } else { Err("it is full".into()) }
        }
    }

    fn keeper(works: bool) -> (Sender<Order>, Receiver<Control>, thread::JoinHandle<()>) {
        let (orders, receiver) = unbounded();
        let (control, told) = unbounded();
        let control = Post::new(control, &Bell::default());
        let keeper = Keeper { store: Box::new(Disk(works)), orders: receiver, control };
        (orders, told, thread::spawn(|| keeper.run()))
    }

    fn flush() -> (Pending<bool>, Vec<Flush>) {
        let (pending, resolver) = Pending::new();
        (pending, vec![Flush { resolver, place: Place::take(&Arc::default()).unwrap() }])
    }

    fn commit(flushes: Vec<Flush>, last: bool) -> Order {
        Order::Commit { batch: Arc::default(), flushes, last }
    }

    #[test]
    fn who_presses_is_served_while_it_rests_and_the_last_batch_is_the_end() {
        let (orders, told, thread) = keeper(true);
        for _ in 0..3 {
            let (pending, flushes) = flush();
            orders.send(commit(flushes, false)).unwrap();
            assert_eq!(pending.wait(), Ok(true));
            assert!(matches!(told.recv_timeout(LONG), Ok(Control::Kept(Kept { failure: None, .. }))));
        }
        assert!(matches!(told.recv_timeout(LONG), Ok(Control::Rested)), "it says when it has rested, and once");
        let (pending, flushes) = flush();
        orders.send(commit(flushes, true)).unwrap();
        thread.join().unwrap();
        assert_eq!((pending.wait(), told.try_iter().count()), (Ok(true), 1));
    }

    #[test]
    fn a_failure_is_told_with_its_batch_and_whoever_comes_meanwhile_is_told_too() {
        let (orders, told, thread) = keeper(false);
        let (pending, flushes) = flush();
        orders.send(commit(flushes, false)).unwrap();
        assert_eq!(pending.wait(), Ok(false));
        let Ok(Control::Kept(Kept { failure: Some(failure), .. })) = told.recv_timeout(LONG) else {
            panic!("it fails")
        };
        assert_eq!((failure.cause.as_str(), failure.lost), ("it is full", false));
        let (pending, flushes) = flush();
        orders.send(Order::Tell { flushes, durable: false }).unwrap();
        assert_eq!(pending.wait(), Ok(false));
        // Who has gone needs nobody who keeps for them.
        drop(orders);
        thread.join().unwrap();
    }
}
