//! What observers are told.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, TrySendError, bounded};
use kademlia_gateways::{Contact, Id, Multiaddr};

use super::host::GatewayId;

/// Something that happened in a service.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// Something about contacts and records.
    Node(crate::core::Event<Contact>),
    /// A query ended without a value.
    NotFound {
        /// The key's id.
        key: Id,
        /// How many nodes were asked.
        asked: usize,
    },
    /// A gateway was registered and runs.
    GatewayRegistered {
        /// Its number.
        gateway: GatewayId,
        /// Its name.
        name: String,
        /// Where it listens.
        addresses: Vec<Multiaddr>,
    },
    /// A gateway was removed. Its addresses are free, or will be when its thread has ended, if it was one of the service's
    /// own threads that removed it.
    GatewayRemoved {
        /// Its number.
        gateway: GatewayId,
    },
    /// A gateway has ended, of its own accord or because it cannot be reopened. Its addresses are free.
    GatewayEnded {
        /// Its number.
        gateway: GatewayId,
    },
    /// A gateway has failed. [`Event::GatewayRestarted`] or [`Event::GatewayEnded`] follows.
    GatewayFailed {
        /// Its number.
        gateway: GatewayId,
        /// What went wrong.
        cause: String,
    },
    /// A gateway that had failed runs again.
    GatewayRestarted {
        /// Its number.
        gateway: GatewayId,
    },
    /// The node's state cannot be kept: what happens from now on is in memory alone, until
    /// [`Event::PersistenceRestored`]. Said again where the cause is another.
    PersistenceFailed {
        /// What went wrong.
        cause: String,
    },
    /// The node's state is kept again, with all that had happened meanwhile.
    PersistenceRestored,
    /// The service has stopped of its own accord, which no input should bring it to. It is the last event.
    Failed {
        /// What went wrong.
        cause: String,
    },
    /// This subscriber was too slow: so many events were left out here.
    Lagged {
        /// How many.
        missed: u64,
    },
}

/// Why there is no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EventsError {
    /// None has come yet, or in time.
    #[error("no event has come yet")]
    NoneYet,
    /// The service has stopped, and all events before that were received.
    #[error("the service has stopped; no more events will come")]
    Stopped,
}

/// The events of a service from the moment of [`DHTService::events`](super::DHTService::events) on.
///
/// It is an iterator that waits for each event and ends when the service has stopped.
#[derive(Debug)]
pub struct Events {
    queue: Receiver<Event>,
    missed: Arc<AtomicU64>,
}

impl Events {
    /// Waits for the next event.
    ///
    /// # Errors
    ///
    /// [`EventsError::Stopped`] when the service has stopped.
    pub fn recv(&self) -> Result<Event, EventsError> {
        match self.try_recv() {
            Err(EventsError::NoneYet) => self.queue.recv().or_else(|_| self.lagged().ok_or(EventsError::Stopped)),
            ready => ready,
        }
    }

    /// Waits for the next event at most so long.
    ///
    /// # Errors
    ///
    /// [`EventsError::NoneYet`] when none has come by then, [`EventsError::Stopped`] when the service has stopped.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Event, EventsError> {
        match self.try_recv() {
            Err(EventsError::NoneYet) => self.queue.recv_timeout(timeout).or_else(|error| match error {
                RecvTimeoutError::Timeout => Err(EventsError::NoneYet),
                RecvTimeoutError::Disconnected => self.lagged().ok_or(EventsError::Stopped),
            }),
            ready => ready,
        }
    }

    /// The next event, if it is there.
    ///
    /// # Errors
    ///
    /// [`EventsError::NoneYet`] when there is none now, [`EventsError::Stopped`] when the service has stopped.
    pub fn try_recv(&self) -> Result<Event, EventsError> {
        match self.queue.try_recv() {
            Ok(event) => Ok(event),
            Err(TryRecvError::Empty) => self.lagged().ok_or(EventsError::NoneYet),
            Err(TryRecvError::Disconnected) => self.lagged().ok_or(EventsError::Stopped),
        }
    }

    /// Waits at most so long for an event that `wanted` makes something of; passes over all others.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use kademlia_dht::{Config, DHTService, Event};
    /// # let service = DHTService::start(Config::default()).unwrap();
    /// # let events = service.events();
    /// # service.stop();
    /// let failed = events.wait_for(Duration::from_secs(5), |event| match event {
    ///     Event::GatewayFailed { cause, .. } => Some(cause),
    ///     _ => None,
    /// });
    /// # assert!(failed.is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// [`EventsError::NoneYet`] when none has come by then, [`EventsError::Stopped`] when the service has stopped.
    pub fn wait_for<T>(&self, timeout: Duration, mut wanted: impl FnMut(Event) -> Option<T>) -> Result<T, EventsError> {
        let start = Instant::now();
        loop {
            let event = self.recv_timeout(timeout.saturating_sub(start.elapsed()))?;
            if let Some(found) = wanted(event) {
                return Ok(found);
            }
        }
    }

    fn lagged(&self) -> Option<Event> {
        match self.missed.swap(0, Ordering::AcqRel) {
            0 => None,
            missed => Some(Event::Lagged { missed }),
        }
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.recv().ok()
    }
}

/// Hands events to all subscribers. Never blocks.
#[derive(Debug)]
pub(super) struct Publisher {
    capacity: usize,
    /// `None` when the service has stopped.
    subscribers: Mutex<Option<Vec<Subscriber>>>,
}

#[derive(Debug)]
struct Subscriber {
    queue: Sender<Event>,
    missed: Arc<AtomicU64>,
}

impl Subscriber {
    /// Whether the subscriber is still there.
    fn offer(&self, event: Event) -> bool {
        let missed = self.missed.swap(0, Ordering::AcqRel);
        if missed > 0 && self.queue.try_send(Event::Lagged { missed }).is_err() {
            self.missed.fetch_add(missed, Ordering::AcqRel);
        }
        match self.queue.try_send(event) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.missed.fetch_add(1, Ordering::AcqRel);
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    }
}

impl Publisher {
    pub(super) fn new(capacity: usize) -> Self {
        Publisher { capacity, subscribers: Mutex::new(Some(Vec::new())) }
    }

    pub(super) fn subscribe(&self) -> Events {
        let (sender, queue) = bounded(self.capacity);
        let missed = Arc::new(AtomicU64::new(0));
        if let Some(subscribers) = &mut *self.lock() {
            subscribers.push(Subscriber { queue: sender, missed: Arc::clone(&missed) });
        }
        Events { queue, missed }
    }

    pub(super) fn publish(&self, event: &Event) {
        if let Some(subscribers) = &mut *self.lock() {
            subscribers.retain(|subscriber| subscriber.offer(event.clone()));
        }
    }

    /// Ends the events of all subscribers.
    pub(super) fn close(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Subscriber>>> {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(asked: usize) -> Event {
        Event::NotFound { key: Id::ZERO, asked }
    }

    #[test]
    fn every_subscriber_gets_every_event_from_then_on() {
        let publisher = Publisher::new(10);
        publisher.publish(&event(0));
        let (first, second) = (publisher.subscribe(), publisher.subscribe());
        publisher.publish(&event(1));
        assert_eq!(first.recv(), Ok(event(1)));
        assert_eq!(second.recv_timeout(Duration::ZERO), Ok(event(1)));
        assert_eq!(second.try_recv(), Err(EventsError::NoneYet));
        publisher.publish(&event(2));
        publisher.close();
        assert_eq!(first.collect::<Vec<_>>(), [event(2)]);
        assert_eq!(publisher.subscribe().recv(), Err(EventsError::Stopped));
    }

    #[test]
    fn who_is_slow_learns_how_much_was_missed() {
        let publisher = Publisher::new(2);
        let events = publisher.subscribe();
        for asked in 0..5 {
            publisher.publish(&event(asked));
        }
        assert_eq!((events.recv(), events.recv()), (Ok(event(0)), Ok(event(1))));
        assert_eq!(events.recv(), Ok(Event::Lagged { missed: 3 }));
        for asked in 5..8 {
            publisher.publish(&event(asked));
        }
        assert_eq!((events.recv(), events.recv()), (Ok(event(5)), Ok(event(6))));
        publisher.publish(&event(8));
        assert_eq!((events.recv(), events.recv()), (Ok(Event::Lagged { missed: 1 }), Ok(event(8))));
    }

    #[test]
    fn who_has_gone_is_forgotten() {
        let publisher = Publisher::new(1);
        drop(publisher.subscribe());
        publisher.publish(&event(1));
        assert_eq!(publisher.lock().as_ref().unwrap().len(), 0);
    }

    #[test]
    fn waiting_for_one_kind_passes_over_the_others() {
        let publisher = Publisher::new(10);
        let events = publisher.subscribe();
        publisher.publish(&event(1));
        publisher.publish(&Event::GatewayRemoved { gateway: GatewayId(7) });
        let wanted = |event| if let Event::GatewayRemoved { gateway } = event { Some(gateway) } else { None };
        assert_eq!(events.wait_for(Duration::from_secs(1), wanted), Ok(GatewayId(7)));
        assert_eq!(events.wait_for(Duration::ZERO, wanted), Err(EventsError::NoneYet));
    }
}
