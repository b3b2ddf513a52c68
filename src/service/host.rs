//! The gateways of a service: started, watched, started again, and joined.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crossbeam::channel::{Sender, bounded};
use kademlia_gateways::{FromGateway, Gateway, GatewayError, Link, LinkHost, Multiaddr, UnsentCounts, UnsentReason};

use super::bell::Post;
use super::events::{Event, Publisher};
use super::manager::Control;
use super::runner::Runner;
use super::status::{GatewayState, GatewayStatus};
use super::threads::Crew;
use super::turns::Turns;

/// Gateways of which a service has but one: what they share with it is of one.
const ALONE: [&str; 1] = ["mainline"];

/// Names a gateway of one service. No number is given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayId(pub(super) u64);

impl fmt::Display for GatewayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gateway {}", self.0)
    }
}

/// Why a gateway was not registered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterCause {
    /// The service has stopped.
    #[error("the service has stopped")]
    Stopped,
    /// There is one with this name already, and a service can have no other beside it.
    #[error("there is a gateway {0} already, and a service can have but one")]
    OnlyOne(String),
    /// The gateway gave no outbox.
    #[error("the gateway gives no outbox: {0}")]
    Outbox(#[source] GatewayError),
    /// Its thread could not be started.
    #[error("the gateway's thread cannot be started: {0}")]
    Thread(#[source] io::Error),
}

/// A gateway that was not registered, and why.
pub struct RegisterError<G> {
    cause: RegisterCause,
    /// The mutex is never locked; it makes the error `Sync` whatever the gateway is.
    gateway: Mutex<G>,
}

impl<G> RegisterError<G> {
    fn new(cause: RegisterCause, gateway: G) -> Self {
        RegisterError { cause, gateway: Mutex::new(gateway) }
    }

    /// Why it was not registered.
    pub fn cause(&self) -> &RegisterCause {
        &self.cause
    }

    /// The gateway, handed back.
    pub fn into_gateway(self) -> G {
        self.gateway.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<G> fmt::Debug for RegisterError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisterError").field("cause", &self.cause).finish_non_exhaustive()
    }
}

impl<G> fmt::Display for RegisterError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the gateway was not registered: {}", self.cause)
    }
}

impl<G> std::error::Error for RegisterError<G> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.cause)
    }
}

/// Why a gateway was not removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// The service has stopped, and its gateways with it.
    #[error("the service has stopped, and its gateways with it")]
    Stopped,
    /// There is no such gateway, or it was removed already.
    #[error("there is no {0}, or it was removed already")]
    Unknown(GatewayId),
}

/// What the gateway's thread, the manager and the service know of a gateway together.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) id: GatewayId,
    pub(super) name: String,
    addresses: Mutex<Vec<Multiaddr>>,
    state: Mutex<GatewayState>,
    sent: AtomicU64,
    refused: Mutex<UnsentCounts>,
    dropped: Mutex<BTreeMap<&'static str, u64>>,
    /// Its thread was told to end, and its outbox goes or has gone for ever.
    stopping: AtomicBool,
    link: Mutex<LinkHost>,
}

impl Facts {
    pub(super) fn new(id: GatewayId, name: String, addresses: Vec<Multiaddr>, link: LinkHost) -> Self {
        Facts {
            id,
            name,
            addresses: Mutex::new(addresses),
            state: Mutex::new(GatewayState::Running),
            sent: AtomicU64::new(0),
            refused: Mutex::default(),
            dropped: Mutex::default(),
            stopping: AtomicBool::new(false),
            link: Mutex::new(link),
        }
    }

    /// Tells the gateway's thread to end.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        lock(&self.link).stop();
    }

    /// Whether it was told to. It may be opening its transport again all the same; nobody would close that again.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Ends the gateway because its outbox, which the node calls, panicked.
    pub(super) fn fail(&self, cause: String, publisher: &Publisher) {
        log::error!("the outbox of {} ({}) has failed: {cause}", self.id, self.name);
        publisher.publish(&Event::GatewayFailed { gateway: self.id, cause: cause.clone() });
        self.set_state(GatewayState::Failed { cause });
        self.stop();
    }

    /// Counts a message that was handed to the gateway.
    pub(super) fn count_sent(&self, result: Result<(), UnsentReason>) {
        match result {
            Ok(()) => {
                self.sent.fetch_add(1, Ordering::Relaxed);
            }
            Err(reason) => lock(&self.refused).add(reason),
        }
    }

    /// Counts what came in by the gateway and went no further.
    pub(super) fn count_dropped(&self, cause: &'static str, amount: u64) {
        *lock(&self.dropped).entry(cause).or_default() += amount;
    }

    /// What came in by the gateway and went no further, by cause.
    pub(super) fn dropped(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.dropped).clone()
    }

    fn status(&self) -> GatewayStatus {
        GatewayStatus {
            id: self.id,
            name: self.name.clone(),
            addresses: self.addresses(),
            state: self.state(),
            sent: self.sent.load(Ordering::Relaxed),
            refused: *lock(&self.refused),
            dropped: self.dropped(),
            link: lock(&self.link).counts(),
        }
    }

    pub(super) fn addresses(&self) -> Vec<Multiaddr> {
        lock(&self.addresses).clone()
    }

    pub(super) fn set_addresses(&self, addresses: Vec<Multiaddr>) {
        *lock(&self.addresses) = addresses;
    }

    pub(super) fn state(&self) -> GatewayState {
        lock(&self.state).clone()
    }

    /// Failing is final: the thread may not know of it yet, and think that the gateway can be opened again.
    pub(super) fn set_state(&self, state: GatewayState) {
        let mut known = lock(&self.state);
        if !matches!(*known, GatewayState::Failed { .. }) {
            *known = state;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All gateways of a service.
pub(super) struct Gateways {
    crew: Crew,
    last: AtomicU64,
    entries: Mutex<Entries>,
    control: Post<Control>,
    to_manager: Sender<FromGateway>,
    turns: Arc<Turns>,
    publisher: Arc<Publisher>,
}

#[derive(Default)]
struct Entries {
    /// The service has stopped: no more are taken.
    stopped: bool,
    by_id: BTreeMap<GatewayId, Entry>,
}

struct Entry {
    facts: Arc<Facts>,
    thread: JoinHandle<()>,
    /// The bytes of the largest message that it carries.
    largest: usize,
}

impl Entry {
    fn join(self, crew: Crew) {
        self.facts.stop();
        if !crew.is_here() {
            // What a gateway's thread panics over was said in an event.
            self.thread.join().ok();
        }
    }
}

impl Gateways {
    pub(super) fn new(
        crew: Crew,
        control: Post<Control>,
        to_manager: Sender<FromGateway>,
        turns: Arc<Turns>,
        publisher: Arc<Publisher>,
    ) -> Self {
        Gateways { crew, last: AtomicU64::new(0), entries: Mutex::default(), control, to_manager, turns, publisher }
    }

    /// Starts a gateway. It is in use when this returns.
    pub(super) fn register<G: Gateway>(&self, mut gateway: G) -> Result<GatewayId, RegisterError<G>> {
        let name = gateway.name();
        if ALONE.contains(&name.as_str()) && self.has(&name) {
            return Err(RegisterError::new(RegisterCause::OnlyOne(name), gateway));
        }
        let outbox = match gateway.outbox() {
            Ok(outbox) => outbox,
            Err(error) => return Err(RegisterError::new(RegisterCause::Outbox(error), gateway)),
        };
        let largest = outbox.limits().largest;
        let id = GatewayId(self.last.fetch_add(1, Ordering::Relaxed) + 1);
        let (link, host) = Link::new(id.0, self.to_manager.clone());
        let (turns, lends_thread) = (Arc::clone(&self.turns), gateway.lends_thread());
        let link = link.with_wake(move || if lends_thread { turns.take() } else { turns.call() });
        let facts = Arc::new(Facts::new(id, name, gateway.addresses(), host));
        // The thread waits for its gateway, so that nothing comes in before the manager knows it, and so that the
        // gateway can be handed back as long as anything can go wrong.
        let (feed, fed) = bounded::<G>(1);
        let (control, publisher) = (self.control.clone(), Arc::clone(&self.publisher));
        let known = Arc::clone(&facts);
        let thread = self.crew.spawn(&facts.name, move || {
            if let Ok(gateway) = fed.recv() {
                Runner { gateway: Box::new(gateway), link, facts: known, control, publisher }.run();
            }
        });
        let thread = match thread {
            Ok(thread) => thread,
            Err(error) => return Err(RegisterError::new(RegisterCause::Thread(error), gateway)),
        };
        let entry = Entry { facts: Arc::clone(&facts), thread, largest };
        let refused = {
            let mut entries = lock(&self.entries);
            if entries.stopped { Some(entry) } else { entries.by_id.insert(id, entry) }
        };
        let opened = refused.is_none() && {
            let opening = Arc::clone(&facts);
            self.ask(|done| Control::Open { facts: opening, outbox, done })
        };
        if !opened {
            drop(feed);
            if let Some(entry) = refused.or_else(|| self.take(id)) {
                entry.join(self.crew);
            }
            return Err(RegisterError::new(RegisterCause::Stopped, gateway));
        }
        let addresses = facts.addresses();
        self.publisher.publish(&Event::GatewayRegistered { gateway: id, name: facts.name.clone(), addresses });
        // The thread waits for it, or has gone because the service stops.
        feed.send(gateway).ok();
        Ok(id)
    }

    /// Whether a gateway with this name is there.
    fn has(&self, name: &str) -> bool {
        let is_there = |entry: &Entry| {
            entry.facts.name == name
                && matches!(entry.facts.state(), GatewayState::Running | GatewayState::Restarting { .. })
        };
        lock(&self.entries).by_id.values().any(is_there)
    }

    /// Stops a gateway. Its addresses are free when this returns.
    pub(super) fn remove(&self, id: GatewayId) -> Result<(), RemoveError> {
        let stopped = lock(&self.entries).stopped;
        let unknown = if stopped { RemoveError::Stopped } else { RemoveError::Unknown(id) };
        let entry = self.take(id).ok_or(unknown)?;
        // Before its outbox goes, over which the gateway might end of its own accord.
        entry.facts.stop();
        self.ask(|done| Control::Close { gateway: id, forget: true, done });
        entry.join(self.crew);
        self.publisher.publish(&Event::GatewayRemoved { gateway: id });
        Ok(())
    }

    /// Stops all gateways, and takes no more. A thread of this service leaves them for another to join.
    pub(super) fn stop(&self) {
        let mut entries = lock(&self.entries);
        entries.stopped = true;
        entries.by_id.values().for_each(|entry| entry.facts.stop());
        if self.crew.is_here() {
            return;
        }
        let stopping = std::mem::take(&mut entries.by_id);
        drop(entries);
        stopping.into_values().for_each(|entry| entry.join(self.crew));
    }

    pub(super) fn statuses(&self) -> Vec<GatewayStatus> {
        lock(&self.entries).by_id.values().map(|entry| entry.facts.status()).collect()
    }

    pub(super) fn addresses(&self) -> Vec<Multiaddr> {
        let entries = lock(&self.entries);
        entries.by_id.values().flat_map(|entry| entry.facts.addresses()).collect()
    }

    /// The bytes of the largest message that all gateways carry; `None` if there is no gateway.
    pub(super) fn largest_message(&self) -> Option<usize> {
        lock(&self.entries).by_id.values().map(|entry| entry.largest).min()
    }

    fn take(&self, id: GatewayId) -> Option<Entry> {
        lock(&self.entries).by_id.remove(&id)
    }

    fn ask(&self, question: impl FnOnce(Sender<()>) -> Control) -> bool {
        if self.crew.is_at_work() {
            // Code of the user that the manager calls cannot wait for it.
            return self.control.send(question(bounded(1).0)).is_ok();
        }
        ask(&self.control, question)
    }
}

/// Tells the manager something and waits until it has done so; `false` if it has gone or refuses.
pub(super) fn ask(control: &Post<Control>, question: impl FnOnce(Sender<()>) -> Control) -> bool {
    let (done, answer) = bounded(1);
    control.send(question(done)).is_ok() && answer.recv().is_ok()
}
