//! [`DHTService`]: the handle that programs hold.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use kademlia_gateways::{Contact, Expect, Gateway, Id, KeySpace, Multiaddr, Record, RecordKind, Version};

use super::config::{Config, ConfigError};
use super::events::Events;
use super::host::{GatewayId, RegisterError, RemoveError};
use super::inner::{Inner, StartError};
use super::pending::Pending;
use super::status::Status;
use super::{Error, LookupReport, QueryReport, Receipt};
use crate::core::{Command, Content, Effort, Joined, Outcome, Published};
use crate::persist::StateStore;
use crate::signing::signed;

/// A value that a query found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The key's id.
    pub key: Id,
    /// What was saved.
    pub value: Vec<u8>,
    /// Its version, for [`DHTService::save_if`].
    pub version: Version,
    /// Who may have written it. Of a plain value nobody knows: anyone may.
    pub kind: RecordKind,
    /// Whether this node itself holds it.
    pub held_here: bool,
    /// The other nodes that had this version.
    pub holders: Vec<Contact>,
    /// What it took to find it.
    pub effort: Effort,
}

/// One node of one network.
///
/// It is a handle: cloning it is cheap, and threads can share it. The node stops with [`stop`](DHTService::stop), or
/// when the last handle is dropped. No call but the synchronous [`register_gateway`](DHTService::register_gateway),
/// [`remove_gateway`](DHTService::remove_gateway) and [`stop`](DHTService::stop) waits for anything to
/// be done, and [`status`](DHTService::status) for a look; what takes time gives a [`Pending`].
///
/// ```
/// use kademlia_dht::gateway::MemoryGateway;
/// use kademlia_dht::{Config, DHTService};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let service = DHTService::start(Config::default())?;
/// service.register_gateway(MemoryGateway::bind("/memory/0".parse()?)?)?;
/// let receipt = service.save("key", "value").wait()?;
/// assert!(receipt.accepted.is_empty()); // This node is alone: nobody else has it.
/// let found = service.query("key").wait()?.ok_or("not found")?;
/// assert_eq!(found.value, b"value");
/// service.stop();
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct DHTService {
    pub(super) inner: Arc<Inner>,
}

impl DHTService {
    /// Starts a node. It knows nobody and is reached by nobody until a gateway is registered.
    ///
    /// # Errors
    ///
    /// When a setting is out of its bounds, or the system gives no random numbers or no thread.
    #[allow(clippy::needless_pass_by_value, reason = "reads as the handing over that it is")]
    pub fn start(config: Config) -> Result<Self, StartError> {
        Self::start_inner(&config, None)
    }

    /// Starts a node that goes on where it was: with the contacts, the records and all that it kept alive of what `state`
    /// has kept, and under the same id unless [`Config::id`] says another. What changes from now on is kept there, and the id
    /// of a new node before this returns; see [`persist`](crate::persist).
    ///
    /// The contacts are asked whether they are there, a few a second, once a gateway is registered.
    ///
    /// # Errors
    ///
    /// As of [`start`](DHTService::start); and when the state cannot be read, or is that of a node of another network.
    #[allow(clippy::needless_pass_by_value, reason = "reads as the handing over that it is")]
    pub fn start_with(config: Config, state: Box<dyn StateStore>) -> Result<Self, StartError> {
        Self::start_inner(&config, Some(state))
    }

    fn start_inner(config: &Config, state: Option<Box<dyn StateStore>>) -> Result<Self, StartError> {
        let inner = Arc::new(Inner::start(config, state)?);
        #[cfg(feature = "mainline")]
        if let Some(handle) = inner.mainline.as_ref().filter(|_| config.id.is_none()) {
            super::mainline::follow_address(handle, &inner);
        }
        Ok(DHTService { inner })
    }

    /// The node's id.
    pub fn id(&self) -> Id {
        self.inner.id()
    }

    /// Gives the node another id: its contacts stay, at the places that they have as seen from there, and it looks for its new
    /// neighbours. What it holds goes to those that are near it now as records are replicated.
    ///
    /// For networks in which ids follow from addresses, which a node learns from others. Where there is no need, an id is
    /// best kept.
    ///
    /// # Errors
    ///
    /// If the id is not in the hasher's key space.
    pub fn change_id(&self, id: Id) -> Result<(), ConfigError> {
        self.inner.change_id(id)
    }

    /// The id of a key in this network.
    pub fn key_id(&self, key: impl AsRef<[u8]>) -> Id {
        self.inner.rules.hash(key.as_ref())
    }

    /// The id under which [`save`](DHTService::save) puts the value of a key: [`key_id`](DHTService::key_id), but another one in
    /// a network without plain values, such as BitTorrent's DHT.
    pub fn plain_id(&self, key: impl AsRef<[u8]>) -> Id {
        #[cfg(feature = "mainline")]
        if self.bencodes() {
            let pair = super::mainline::key_pair_of(key.as_ref());
            return self.key_id(pair.public_key().key(&signed::Salt::default()));
        }
        self.key_id(key)
    }

    /// Starts a gateway on a thread of its own. When this returns, the gateway is in use.
    ///
    /// Where several gateways can dial an address, the one that was registered first does.
    ///
    /// # Errors
    ///
    /// When the service has stopped, the gateway gives no outbox, or the system no thread. The gateway is in the
    /// error.
    pub fn register_gateway<G: Gateway>(&self, gateway: G) -> Result<GatewayId, RegisterError<G>> {
        self.inner.gateways.register(gateway)
    }

    /// Stops a gateway and waits until it has stopped: then its addresses are free.
    ///
    /// Called by code that runs on a thread of this very service, such as one of its gateways, it does not wait: the
    /// gateway stops soon after.
    ///
    /// # Errors
    ///
    /// When there is no such gateway, or the service has stopped.
    pub fn remove_gateway(&self, gateway: GatewayId) -> Result<(), RemoveError> {
        self.inner.gateways.remove(gateway)
    }

    /// The addresses on which the gateways listen.
    pub fn listen_addresses(&self) -> Vec<Multiaddr> {
        self.inner.gateways.addresses()
    }

    /// Joins the network of the node at `address`: pings it, then looks up this node's own id.
    ///
    /// An address with a name in it is first to be [resolved](crate::gateway::address::resolve), which blocks.
    pub fn connect(&self, address: Multiaddr) -> Pending<Joined> {
        self.inner.begin(Command::Join { address }, |outcome| match outcome {
            Outcome::Joined(joined) => Some(joined),
            _ => None,
        })
    }

    /// Finds the newest value of a key: `None` if there is none or it was deleted, or each value there has another owner:
    /// then see [`get`](DHTService::get).
    ///
    /// Unless [`Found::kind`] says so, nothing proves who wrote it.
    ///
    /// How many nodes were asked in vain, [`query_report`](DHTService::query_report) tells.
    pub fn query(&self, key: impl AsRef<[u8]>) -> Pending<Option<Found>> {
        self.inner.begin(Command::Query { key: self.plain_id(key) }, |outcome| match outcome {
            Outcome::Queried(report) => Some(found(report)),
            _ => None,
        })
    }

    /// As [`query`](DHTService::query), but tells also of a search in vain what it took.
    pub fn query_report(&self, key: impl AsRef<[u8]>) -> Pending<QueryReport> {
        self.inner.begin(Command::Query { key: self.plain_id(key) }, |outcome| match outcome {
            Outcome::Queried(report) => Some(report),
            _ => None,
        })
    }

    /// Saves a value at the k nodes closest to its key, and keeps it alive as long as this service runs.
    ///
    /// It replaces whatever is saved under the key.
    pub fn save(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Pending<Receipt> {
        self.write(key.as_ref(), Some(value.as_ref()), Expect::Anything)
    }

    /// Saves a value if the newest version is the expected one (`None`: if there is no value).
    ///
    /// Otherwise it fails with [`Error::Conflict`](crate::core::OperationError::Conflict).
    pub fn save_if(
        &self,
        key: impl AsRef<[u8]>,
        expected: Option<Version>,
        value: impl AsRef<[u8]>,
    ) -> Pending<Receipt> {
        let expect = expected.map_or(Expect::Absent, Expect::Version);
        self.write(key.as_ref(), Some(value.as_ref()), expect)
    }

    /// Deletes the value of a key: puts in its place a mark, which lives as long as a record, so that no older copy
    /// comes back.
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Pending<Receipt> {
        self.write(key.as_ref(), None, Expect::Anything)
    }

    /// Deletes the value of a key if the newest version is the expected one.
    ///
    /// Otherwise it fails with [`Error::Conflict`](crate::core::OperationError::Conflict).
    pub fn delete_if(&self, key: impl AsRef<[u8]>, expected: Version) -> Pending<Receipt> {
        self.write(key.as_ref(), None, Expect::Version(expected))
    }

    /// Finds what is under a key, whoever has saved it, and keeps it alive as long as this service runs, or until it is told
    /// to [`forget`](DHTService::forget) it.
    ///
    /// This node need not be able to write it.
    pub fn keep(&self, key: Id) -> Pending<QueryReport> {
        self.begin(Command::Keep { key: self.fit(&key) }, |outcome| match outcome {
            Outcome::Queried(report) => Some(report),
            _ => None,
        })
    }

    /// Keeps what is under a key alive no longer. It is not deleted: others hold it until its lifetime is over. Gives how
    /// many records were kept alive.
    pub fn forget(&self, key: Id) -> Pending<usize> {
        self.begin(Command::Forget { key: self.fit(&key) }, |outcome| match outcome {
            Outcome::Forgotten(records) => Some(records),
            _ => None,
        })
    }

    /// All that this node keeps alive: what it saved, and what it was told to [`keep`](DHTService::keep).
    pub fn ledger(&self) -> Pending<Vec<Published>> {
        self.begin(Command::Ledger, |outcome| match outcome {
            Outcome::Ledger(published) => Some(published),
            _ => None,
        })
    }

    /// Has all records kept that had changed before, here and in what this node keeps alive: true when they are safe from a
    /// crash. False if they cannot be kept now, or the service was not started
    /// [`with`](DHTService::start_with) a store: the node goes on from memory, and tries again by itself.
    ///
    /// Contacts are hints, and are written a few times a minute at most, and when the service stops.
    pub fn flush(&self) -> Pending<bool> {
        self.inner.flush()
    }

    /// All whom this node knows: those first that answered when they were last asked, and then those that answered last.
    pub fn contacts(&self) -> Pending<Vec<Contact>> {
        self.begin(Command::Contacts, |outcome| match outcome {
            Outcome::Contacts(known) => Some(known.into_iter().map(|known| known.peer).collect()),
            _ => None,
        })
    }

    /// Has all these addresses asked whether anyone is there, a few a second; who answers becomes a contact. Gives how many
    /// are going to be asked: at most 1,024 wait at once.
    ///
    /// For a list of nodes that was written down, as by [`write_contacts`](crate::persist::write_contacts). Whoever wants to
    /// know what came of one address uses [`connect`](DHTService::connect).
    pub fn introduce(&self, addresses: Vec<Multiaddr>) -> Pending<usize> {
        self.begin(Command::Introduce { addresses }, |outcome| match outcome {
            Outcome::Introduced(introduced) => Some(introduced),
            _ => None,
        })
    }

    /// Finds the k nodes closest to `target`. This node itself is not among them.
    pub fn lookup(&self, target: Id) -> Pending<LookupReport> {
        let target = self.inner.key_space.fit(&target);
        self.inner.begin(Command::Lookup { target }, |outcome| match outcome {
            Outcome::LookedUp(report) => Some(report),
            _ => None,
        })
    }

    /// What the node is and does. It is up to date with every [`Pending`] that is ready, and also with all else unless
    /// the management thread is held up: it is asked, but waited for no more than a moment.
    pub fn status(&self) -> Status {
        self.inner.status()
    }

    /// What happens from now on.
    pub fn events(&self) -> Events {
        self.inner.publisher.subscribe()
    }

    /// Stops the node: every open [`Pending`] fails with [`Error::Stopped`](crate::core::OperationError::Stopped), and
    /// when this returns, every thread has ended and every address is free. Once is enough. What is still to be kept of the
    /// node's state is kept first; only for a disk that takes more than five seconds for that it does not wait.
    ///
    /// Called by code that runs on a thread of this very service, such as one of its gateways, it does not wait for
    /// the threads.
    pub fn stop(&self) {
        self.inner.stop();
    }

    fn write(&self, key: &[u8], value: Option<&[u8]>, expect: Expect) -> Pending<Receipt> {
        #[cfg(feature = "mainline")]
        if self.bencodes() {
            return self.write_signed(key, value.unwrap_or_default(), expect);
        }
        let value = match value.map(|value| self.checked(value)).transpose() {
            Ok(value) => value,
            Err(error) => return Pending::failed(error),
        };
        self.save_content(self.key_id(key), value.into(), expect)
    }

    pub(crate) fn save_content(&self, key: Id, content: Content, expect: Expect) -> Pending<Receipt> {
        self.save_and(key, content, expect, || {})
    }

    /// Saves, and calls something if that has succeeded; if not, it is dropped.
    pub(super) fn save_and(
        &self,
        key: Id,
        content: Content,
        expect: Expect,
        saved: impl FnOnce() + Send + 'static,
    ) -> Pending<Receipt> {
        let command = Command::Save { key, content, expect, unix_milliseconds: unix_milliseconds() };
        self.begin(command, |outcome| match outcome {
            Outcome::Saved(receipt) => {
                saved();
                Some(receipt)
            }
            _ => None,
        })
    }

    pub(super) fn begin<T: Send + 'static>(
        &self,
        command: Command<Contact>,
        extract: impl FnOnce(Outcome<Contact>) -> Option<T> + Send + 'static,
    ) -> Pending<T> {
        self.inner.begin(command, extract)
    }

    /// The bytes of the largest message that all gateways carry; `None` if there is no gateway.
    pub(crate) fn largest_message(&self) -> Option<usize> {
        self.inner.gateways.largest_message()
    }

    /// The bytes of the largest value that a record may have.
    pub(crate) fn largest_value(&self) -> usize {
        self.inner.value_bytes
    }

    /// How many bytes of an id count.
    pub(crate) fn key_space(&self) -> KeySpace {
        self.inner.key_space
    }

    /// Whether the network's values are bencoded.
    pub(crate) fn bencodes(&self) -> bool {
        #[cfg(feature = "mainline")]
        let bencodes = self.mainline().is_some();
        #[cfg(not(feature = "mainline"))]
        let bencodes = false;
        bencodes
    }

    #[cfg(feature = "mainline")]
    pub(super) fn mainline(&self) -> Option<&kademlia_gateways::mainline::MainlineHandle> {
        self.inner.mainline.as_ref()
    }

    /// The key that a value is under which nobody can change.
    pub(crate) fn content_key(&self, value: &[u8]) -> Id {
        if self.bencodes() { self.key_id(signed::bencoded_string(value)) } else { self.key_id(value) }
    }

    /// A record of such a value.
    pub(crate) fn immutable(&self, value: Bytes) -> Record {
        let value = if self.bencodes() { signed::bencoded_string(&value) } else { value };
        Record::new(RecordKind::Immutable, value, Version::default(), self.inner.record_lifetime)
    }

    /// The id, cut to the key space.
    pub(crate) fn fit(&self, id: &Id) -> Id {
        self.inner.key_space.fit(id)
    }

    pub(super) fn checked(&self, value: &[u8]) -> Result<Bytes, Error> {
        let (size, limit) = (value.len(), self.inner.value_bytes);
        if size > limit {
            return Err(Error::TooLarge { size, limit });
        }
        Ok(Bytes::copy_from_slice(value))
    }
}

fn found(report: QueryReport) -> Option<Found> {
    let found = report.found.filter(|found| !found.record.is_tombstone())?;
    Some(Found {
        key: report.key,
        version: found.record.version,
        kind: found.record.kind.clone(),
        value: value_of(found.record),
        held_here: found.held_here,
        holders: found.holders,
        effort: report.effort,
    })
}

/// What a user saved: the value of a record that was found, a signed one without its bencoding.
pub fn value_of(record: Record) -> Vec<u8> {
    match &record.kind {
        RecordKind::Signed(_) => signed::string_in(&record.value).unwrap_or(&record.value).to_vec(),
        _ => record.value.into(),
    }
}

/// The user's clock, from which versions are made.
pub(super) fn unix_milliseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
