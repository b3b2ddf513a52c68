//! What all handles of one service share, and the start and the end of it.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, bounded, unbounded};
use kademlia_gateways::{Contact, ID_BYTES, Id, KeySpace, Version};

use super::Error;
use super::bell::{Bell, Post};
use super::config::{Config, ConfigError, check_id};
use super::events::Publisher;
use super::host::Gateways;
use super::keeper::{Flush, Keeper};
use super::manager::{Control, Inputs, Manager, Place, Start};
use super::pending::{Canceller, Completion, Pending};
use super::restore::Restored;
use super::router::Router;
use super::saver::Saver;
use super::status::{Snapshot, Status};
use super::threads::{Crew, calmly};
use super::turns::Turns;
use crate::core::{Command, Node, OperationId, Outcome, Params, Time};
use crate::persist::{Batch, Identity, StateError, StateStore};
use crate::rules::Rules;

/// Why a service did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting is out of its bounds.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The operating system gave no random numbers.
    #[error("the operating system gives no random numbers: {0}")]
    Entropy(#[from] getrandom::Error),
    /// The management thread could not be started.
    #[error("the management thread cannot be started: {0}")]
    Thread(#[source] io::Error),
    /// The state that was kept cannot be read.
    #[error("the saved state of the node cannot be read: {0}")]
    State(#[source] StateError),
    /// The state that was kept is that of a node of another network, or one with another hasher.
    #[error(
        "the saved state is that of a node of another network, or one whose hasher is another; use a data directory of its own for each"
    )]
    OtherNetwork,
}

/// What all handles of one service share.
pub(super) struct Inner {
    id: Mutex<Id>,
    pub(super) rules: Arc<Rules>,
    pub(super) key_space: KeySpace,
    pub(super) record_lifetime: Duration,
    pub(super) value_bytes: usize,
    #[cfg(feature = "mainline")]
    pub(super) mainline: Option<kademlia_gateways::mainline::MainlineHandle>,
    #[cfg(feature = "mainline")]
    is_client: bool,
    start: Instant,
    crew: Crew,
    operations: AtomicU64,
    /// The last version that was given to a record for one node.
    last_version: AtomicU64,
    places: Arc<AtomicUsize>,
    commands: Post<Start>,
    control: Post<Control>,
    pub(super) gateways: Gateways,
    pub(super) publisher: Arc<Publisher>,
    snapshot: Arc<Mutex<Snapshot>>,
    manager: Mutex<Option<JoinHandle<()>>>,
    stopped: AtomicBool,
    keeper: Option<KeeperThread>,
}

/// The thread that keeps the state.
struct KeeperThread {
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Disconnected when it has ended.
    ended: Receiver<()>,
}

impl Inner {
    /// How long a look at the state waits for the manager, whose turns take milliseconds.
    const LOOK_TIMEOUT: Duration = Duration::from_millis(250);

    /// How long the end waits for what is still to be kept: a disk can hang.
    const KEEP_TIMEOUT: Duration = Duration::from_secs(5);

    pub(super) fn start(config: &Config, state: Option<Box<dyn StateStore>>) -> Result<Self, StartError> {
        config.check()?;
        let key_space = config.hasher.key_space();
        let mut restored = state.map(|store| Restored::load(store, config.network, key_space.bytes())).transpose()?;
        let id = match config.id.or(restored.as_ref().and_then(Restored::id)) {
            Some(id) => id,
            None => key_space.fit(&Id::new(random::<ID_BYTES>()?)),
        };
        restored.iter_mut().for_each(|restored| restored.compare(id));
        let seed = random()?;
        let (start, crew) = (Instant::now(), Crew::new());
        let publisher = Arc::new(Publisher::new(config.events_capacity));
        let snapshot = Arc::new(Mutex::new(Snapshot::default()));
        // Bounded by the number of places: a bounded channel of crossbeam keeps what is sent while its receiver is
        // dropped, and who waits for that would wait for ever. An unbounded one drops it.
        let (commands, commands_receiver) = unbounded();
        // Unbounded, but holds little more than what callers wait for and one cancellation for each operation.
        let (control, control_receiver) = unbounded();
        // Unbounded too: each gateway's link bounds what that gateway puts in.
        let (to_manager, inbound) = unbounded();
        let params = Params { journal: restored.is_some(), ..config.params(key_space) };
        let rules = Arc::clone(&params.rules);
        let node = Node::new(id, params, seed, Time::ZERO);
        let mut node = match &config.admission {
            Some(admission) => node.admitting(Arc::clone(admission)),
            None => node,
        };
        restored.iter_mut().for_each(|restored| restored.fill(&mut node));
        let router = Router::new(config.relay, config.client, Arc::clone(&publisher));
        let inputs = Inputs { control: control_receiver, commands: commands_receiver, inbound };
        let bell = Bell::default();
        let (commands, control) = (Post::new(commands, &bell), Post::new(control, &bell));
        let identity = Identity::new(id, config.network, key_space);
        let kept = restored.map(|restored| keep(crew, restored, identity, &control, &publisher)).transpose()?;
        let (saver, keeper) = kept.unzip();
        let manager =
            Manager::new(inputs, node, router, start, Arc::clone(&publisher), Arc::clone(&snapshot)).with_saver(saver);
        let turns = Arc::new(Turns::new(crew, manager, bell));
        let taken = Arc::clone(&turns);
        let thread = crew.spawn("manager", move || taken.run()).map_err(StartError::Thread)?;
        let gateways = Gateways::new(crew, control.clone(), to_manager, turns, Arc::clone(&publisher));
        let manager = Mutex::new(Some(thread));
        #[cfg(feature = "mainline")]
        if let Some(handle) = &config.mainline {
            handle.set_node(id, config.client);
        }
        Ok(Inner {
            id: Mutex::new(id),
            rules,
            key_space,
            record_lifetime: config.record_lifetime,
            value_bytes: config.limits.value_bytes,
            #[cfg(feature = "mainline")]
            mainline: config.mainline.clone(),
            #[cfg(feature = "mainline")]
            is_client: config.client,
            start,
            crew,
            operations: AtomicU64::new(0),
            last_version: AtomicU64::new(0),
            places: Arc::default(),
            commands,
            control,
            gateways,
            publisher,
            snapshot,
            manager,
            stopped: AtomicBool::new(false),
            keeper,
        })
    }

    /// A version of this time, above all that this has given before.
    pub(super) fn next_version(&self, unix_milliseconds: u64) -> Version {
        let next = |last| Version::at(unix_milliseconds).max(Version(last).next());
        let last = self.last_version.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last).0));
        // The closure never gives up, so there is always a last one.
        next(last.unwrap_or_default())
    }

    pub(super) fn id(&self) -> Id {
        *lock(&self.id)
    }

    /// Gives the node another id.
    pub(super) fn change_id(&self, id: Id) -> Result<(), ConfigError> {
        check_id(&id, self.key_space)?;
        let mut own = lock(&self.id);
        *own = id;
        #[cfg(feature = "mainline")]
        if let Some(handle) = &self.mainline {
            handle.set_node(id, self.is_client);
        }
        // Within the lock, so that of two the manager is told last of the one that stays. It has gone already if this fails.
        self.control.send(Control::ChangeId(id)).ok();
        Ok(())
    }

    /// Hands a command to the manager.
    pub(super) fn begin<T: Send + 'static>(
        &self,
        command: Command<Contact>,
        extract: impl FnOnce(Outcome<Contact>) -> Option<T> + Send + 'static,
    ) -> Pending<T> {
        let (pending, resolver) = Pending::new();
        let operation = OperationId(self.operations.fetch_add(1, Ordering::Relaxed));
        let Some(place) = Place::take(&self.places) else {
            resolver.resolve(Err(Error::Busy));
            return pending;
        };
        let completion = Box::new(Completion { resolver, extract });
        // If the manager has gone, what was to be resolved is dropped here, which resolves it to `Stopped`.
        self.commands.send(Start { operation, command, completion, place }).ok();
        pending.with_canceller(Canceller { control: self.control.clone(), operation })
    }

    /// Has all kept that has happened.
    pub(super) fn flush(&self) -> Pending<bool> {
        let (pending, resolver) = Pending::new();
        if self.keeper.is_none() {
            resolver.resolve(Ok(false));
            return pending;
        }
        let Some(place) = Place::take(&self.places) else {
            resolver.resolve(Err(Error::Busy));
            return pending;
        };
        // If the manager has gone, what is dropped here resolves to `Stopped`.
        self.control.send(Control::Flush(Flush { resolver, place })).ok();
        pending
    }

    pub(super) fn status(&self) -> Status {
        let snapshot = self.snapshot();
        let stopped = self.stopped.load(Ordering::Acquire) || snapshot.failure.is_some();
        Status {
            id: self.id(),
            stopped,
            failure: snapshot.failure,
            uptime: self.start.elapsed(),
            known_peers: snapshot.known_peers,
            records: snapshot.records,
            record_bytes: snapshot.record_bytes,
            published: snapshot.published,
            requests_in_flight: if stopped { 0 } else { snapshot.requests_in_flight },
            operations: if stopped { 0 } else { snapshot.operations },
            relayed: snapshot.relayed,
            unroutable: snapshot.unroutable,
            counters: snapshot.counters,
            persistence: snapshot.persistence,
            gateways: self.gateways.statuses(),
        }
    }

    /// What the manager shows: the end of every operation at once, and all else when it is asked.
    fn snapshot(&self) -> Snapshot {
        let (done, shown) = bounded(1);
        if !self.crew.is_at_work() && self.control.send(Control::Show { done }).is_ok() {
            // A foreign outbox can hold the manager up: then what was shown last must do.
            shown.recv_timeout(Self::LOOK_TIMEOUT).ok();
        }
        lock(&self.snapshot).clone()
    }

    /// Stops everything. Once is enough.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        // What gateways do from now on is no news.
        self.publisher.close();
        // The manager has gone already if this fails.
        self.control.send(Control::Stop).ok();
        if self.crew.is_here() {
            // Somebody may be waiting for this very thread below.
            self.gateways.stop();
            return;
        }
        // Those who stop it at the same time wait here until it has stopped.
        let mut manager = lock(&self.manager);
        // The manager first: it would see operations fail for want of a gateway.
        if let Some(manager) = manager.take() {
            manager.join().ok();
        }
        self.gateways.stop();
        if let Some(keeper) = &self.keeper {
            keeper.end(Self::KEEP_TIMEOUT);
        }
    }
}

impl KeeperThread {
    fn end(&self, timeout: Duration) {
        let Some(thread) = lock(&self.thread).take() else { return };
        match self.ended.recv_timeout(timeout) {
            Err(RecvTimeoutError::Disconnected) => drop(thread.join()),
            _ => log::warn!("the disk takes long for the node's state, which is being kept still"),
        }
    }
}

/// Starts the thread that keeps the state.
fn keep(
    crew: Crew,
    restored: Restored,
    identity: Identity,
    control: &Post<Control>,
    publisher: &Arc<Publisher>,
) -> Result<(Saver, KeeperThread), StartError> {
    let Restored { mut store, identity: mut saved, contacts, notices, .. } = restored;
    if saved != Some(identity) {
        // Whoever is told the id can rely on it. If it cannot be kept now, the keeper goes on trying, and says so.
        let batch = Batch { identity: Some(identity), ..Batch::default() };
        if matches!(calmly(|| store.commit(&batch)), Ok(Ok(()))) {
            saved = Some(identity);
        }
    }
    // At most one batch at a time, and who waits for it holds a place.
    let (orders, receiver) = unbounded();
    let (running, ended) = bounded::<()>(1);
    let keeper = Keeper { store, orders: receiver, control: control.clone() };
    let run = move || {
        let _running = running;
        keeper.run();
    };
    let thread = crew.spawn("keeper", run).map_err(StartError::Thread)?;
    let saver = Saver::new(orders, Arc::clone(publisher), identity, saved, contacts, notices);
    Ok((saver, KeeperThread { thread: Mutex::new(Some(thread)), ended }))
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("id", &self.id()).field("stopped", &self.stopped).finish_non_exhaustive()
    }
}

fn random<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
