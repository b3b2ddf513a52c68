//! Keeping what a node knows over a restart: its id, its contacts, the records that it holds, and what it keeps alive.
//!
//! A node that is started with a [`StateStore`] ([`DHTService::start_with`](crate::DHTService::start_with)) goes on where it
//! was. What changes is written in batches by a thread of its own, so that no slow or full disk holds the node up:
//! [`DHTService::flush`](crate::DHTService::flush) tells when it is there. With the feature `persist`, `DataDirectory` is
//! such a store, in a folder; or write one of your own.
//!
//! ```
//! # #[cfg(feature = "persist")] {
//! use kademlia_dht::persist::DataDirectory;
//! use kademlia_dht::{Config, DHTService};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("node");
//! let service = DHTService::start_with(Config::default(), Box::new(DataDirectory::open(&path)?))?;
//! let id = service.id();
//! service.save("key", "value").wait()?;
//! assert!(service.flush().wait()?); // From now on not even a power cut takes it away.
//! service.stop();
//!
//! let service = DHTService::start_with(Config::default(), Box::new(DataDirectory::open(&path)?))?;
//! assert_eq!(service.id(), id);
//! assert_eq!(service.query("key").wait()?.ok_or("not found")?.value, b"value");
//! # service.stop();
//! # Ok(())
//! # }
//! # main().unwrap();
//! # }
//! ```

mod contacts;
#[cfg(feature = "persist")]
mod directory;
#[cfg(feature = "persist")]
mod file;
#[cfg(feature = "persist")]
mod rows;
#[cfg(feature = "persist")]
mod unusable;

use std::error::Error;
use std::time::Duration;

use kademlia_gateways::{Author, Contact, Id, KeySpace, NetworkId, Record};
use serde::{Deserialize, Serialize};

use crate::core::{Changed, Changes, HeldRecord, KnownPeer, Published, Publishing};

pub use contacts::{ReadContactsError, read_contacts, write_contacts};
#[cfg(feature = "persist")]
pub use directory::{DataDirectory, PersistError};

/// What a [`StateStore`] fails with.
pub type StateError = Box<dyn Error + Send + Sync>;

/// Where the state of a node is kept. Only one node uses it, and only from one thread at a time.
///
/// ```
/// use kademlia_dht::persist::{Batch, SavedState, StateError, StateStore};
/// use kademlia_dht::{Config, DHTService};
///
/// /// Keeps nothing but the id.
/// struct OnlyTheId(Option<kademlia_dht::persist::Identity>);
///
/// impl StateStore for OnlyTheId {
///     fn load(&mut self) -> Result<SavedState, StateError> {
///         Ok(SavedState { identity: self.0, ..SavedState::default() })
///     }
///     fn commit(&mut self, batch: &Batch) -> Result<(), StateError> {
///         self.0 = batch.identity.or(self.0);
///         Ok(())
///     }
/// }
///
/// let service = DHTService::start_with(Config::default(), Box::new(OnlyTheId(None))).unwrap();
/// # service.stop();
/// ```
pub trait StateStore: Send {
    /// What was committed last. Called once, before anything is committed.
    ///
    /// # Errors
    ///
    /// When it cannot be read: then the node does not start.
    fn load(&mut self) -> Result<SavedState, StateError>;

    /// Keeps what has changed: all of it or, if this fails, none of it. When this returns, it must be safe from a power cut.
    ///
    /// It is called on a thread of its own, and may take its time; but the first time, with the id of a node that is new, it is
    /// called before the node starts. What could not be kept is part of a later batch.
    ///
    /// # Errors
    ///
    /// Why it cannot be kept. The node goes on from memory, says so, and tries again. With [`Lost`] the next batch has all
    /// that the node holds.
    fn commit(&mut self, batch: &Batch) -> Result<(), StateError>;
}

/// What was kept before is gone: the next batch must have all that the node holds. See [`StateStore::commit`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("what was saved before is lost: {0}")]
pub struct Lost(pub String);

/// Whose state it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The node's id.
    pub id: Id,
    /// The network that it belongs to.
    pub network: NetworkId,
    /// How many bytes of an id count.
    pub key_bytes: u8,
}

impl Identity {
    pub(crate) fn new(id: Id, network: NetworkId, space: KeySpace) -> Self {
        Identity { id, network, key_bytes: u8::try_from(space.bytes()).unwrap_or(u8::MAX) }
    }
}

/// What a [`StateStore`] had kept.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SavedState {
    /// Whose it is; `None` if nothing was kept before.
    pub identity: Option<Identity>,
    /// The contacts, in the order in which they are to be asked.
    pub contacts: Vec<SavedContact>,
    /// Records that the node held for the network.
    pub records: Vec<SavedRecord>,
    /// Records that it kept alive.
    pub published: Vec<SavedPublication>,
    /// What the user should know, such as that a damaged file was put aside.
    pub notices: Vec<String>,
}

/// What has changed since the last batch.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Batch {
    /// Whether this is all: what was kept before and is not in here is to be forgotten.
    pub whole: bool,
    /// Whose state it is, if that has changed.
    pub identity: Option<Identity>,
    /// All contacts, if any of them has changed, in the order in which they are to be asked.
    pub contacts: Option<Vec<SavedContact>>,
    /// Records that the node holds for the network.
    pub records: Vec<Change<SavedRecord>>,
    /// Records that it keeps alive.
    pub published: Vec<Change<SavedPublication>>,
}

/// What is at one place from now on.
#[derive(Debug, Clone, PartialEq)]
pub struct Change<T> {
    /// The key.
    pub key: Id,
    /// Whose place it is, of several under that key.
    pub author: Author,
    /// What is there; `None` if nothing is any more.
    pub now: Option<T>,
}

/// Somebody whom the node knows, or did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedContact {
    /// Who it is, and where.
    pub contact: Contact,
    /// Whether it stood in the routing table and had answered when it was last asked.
    pub verified: bool,
    /// When it last answered, in Unix seconds.
    pub seen: u64,
}

/// A record that the node holds for the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedRecord {
    /// Its key.
    pub key: Id,
    /// The record, with the lifetime that remained when it was written down. However clocks are set, it has no more.
    pub record: Record,
    /// When its lifetime is over, in Unix milliseconds.
    pub expires: u64,
    /// Where it came from, as the node counts what each source stores here.
    pub source: Option<u64>,
    /// From when on nobody else is believed to own the key, in Unix milliseconds.
    pub firm: u64,
}

/// A record that the node keeps alive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedPublication {
    /// Its key.
    pub key: Id,
    /// The record, as it was published last.
    pub record: Record,
    /// When it is to be published again, in Unix milliseconds.
    pub due: u64,
    /// When it was published last, in Unix milliseconds, how many nodes took it then, and how many did not.
    pub last: Option<(u64, u64, u64)>,
}

/// A moment of the system's clock, in Unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wall(pub(crate) u64);

impl Wall {
    fn after(self, time: Duration) -> u64 {
        self.0.saturating_add(milliseconds(time))
    }

    fn before(self, time: Duration) -> u64 {
        self.0.saturating_sub(milliseconds(time))
    }

    /// How long until then.
    fn until(self, then: u64) -> Duration {
        Duration::from_millis(then.saturating_sub(self.0))
    }

    fn since(self, then: u64) -> Duration {
        Duration::from_millis(self.0.saturating_sub(then))
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl SavedContact {
    pub(crate) fn new(now: Wall, known: KnownPeer<Contact>) -> Self {
        SavedContact { contact: known.peer, verified: known.verified, seen: now.before(known.seen) / 1000 }
    }

    pub(crate) fn resumed(self, now: Wall) -> KnownPeer<Contact> {
        KnownPeer { peer: self.contact, verified: false, seen: now.since(self.seen.saturating_mul(1000)) }
    }
}

impl SavedRecord {
    pub(crate) fn new(now: Wall, held: HeldRecord) -> Self {
        let HeldRecord { key, record, source, firm_in } = held;
        let expires = now.after(Duration::from_secs(record.remaining.into()));
        SavedRecord { key, record, expires, source, firm: now.after(firm_in) }
    }

    /// What is left of it; `None` if its lifetime is over.
    pub(crate) fn lived(mut self, now: Wall) -> Option<HeldRecord> {
        let left = u32::try_from(now.until(self.expires).as_secs()).unwrap_or(u32::MAX);
        self.record.remaining = self.record.remaining.min(left);
        let SavedRecord { key, record, source, firm, .. } = self;
        (record.remaining > 0).then(|| HeldRecord { key, record, source, firm_in: now.until(firm) })
    }
}

impl SavedPublication {
    pub(crate) fn new(now: Wall, published: Published) -> Self {
        let Published { key, record, due, last, .. } = published;
        let count = |nodes: usize| u64::try_from(nodes).unwrap_or(u64::MAX);
        let last = last.map(|last| (now.before(last.ago), count(last.accepted), count(last.refused)));
        SavedPublication { key, record, due: now.after(due), last }
    }

    pub(crate) fn resumed(self, now: Wall) -> Published {
        let count = |nodes: u64| usize::try_from(nodes).unwrap_or(usize::MAX);
        let last = self.last.map(|(then, accepted, refused)| Publishing {
            ago: now.since(then),
            accepted: count(accepted),
            refused: count(refused),
        });
        Published { key: self.key, record: self.record, due: now.until(self.due), ends: Duration::ZERO, last }
    }
}

impl Batch {
    pub(crate) fn new(now: Wall, identity: Option<Identity>, changes: Changes<Contact>) -> Self {
        let Changes { whole, records, published, contacts } = changes;
        Batch {
            whole,
            identity,
            contacts: contacts.map(|known| known.into_iter().map(|known| SavedContact::new(now, known)).collect()),
            records: records.into_iter().map(|change| saved(change, |held| SavedRecord::new(now, held))).collect(),
            published: published
                .into_iter()
                .map(|change| saved(change, |published| SavedPublication::new(now, published)))
                .collect(),
        }
    }

    /// How many records are in it.
    pub fn len(&self) -> usize {
        self.records.len() + self.published.len()
    }

    /// Whether there is nothing to be kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && !self.whole && self.identity.is_none() && self.contacts.is_none()
    }
}

fn saved<T, S>(changed: Changed<T>, save: impl FnOnce(T) -> S) -> Change<S> {
    Change { key: changed.key, author: changed.author, now: changed.now.map(save) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kademlia_gateways::Version;

    const NOW: Wall = Wall(1_800_000_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn held() -> HeldRecord {
        let record = Record::plain("value", Version(1), HOUR);
        HeldRecord { key: Id::from_prefix(&[1]), record, source: Some(7), firm_in: HOUR / 6 }
    }

    #[test]
    fn a_record_goes_on_ageing_while_the_node_is_down_and_is_gone_in_the_end() {
        let saved = SavedRecord::new(NOW, held());
        let later = |time| saved.clone().lived(Wall(NOW.after(time)));
        assert_eq!(later(Duration::ZERO), Some(held()));
        let half = later(HOUR / 2).unwrap();
        assert_eq!((half.record.remaining, half.firm_in), (1800, Duration::ZERO));
        assert_eq!(later(HOUR), None);
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_record_live_longer() {
        let saved = SavedRecord::new(NOW, held());
        assert_eq!(saved.lived(Wall(NOW.before(HOUR * 1000))).unwrap().record.remaining, 3600);
    }

    #[test]
    fn what_is_published_is_due_when_it_was() {
        let last = Some(Publishing { ago: HOUR, accepted: 3, refused: 1 });
        let record = Record::plain("value", Version(1), HOUR);
        let published = Published { key: Id::ZERO, record, due: HOUR, ends: Duration::ZERO, last };
        let saved = SavedPublication::new(NOW, published.clone());
        assert_eq!(saved.clone().resumed(NOW), published);
        let later = saved.resumed(Wall(NOW.after(HOUR * 2)));
        assert_eq!((later.due, later.last.unwrap().ago), (Duration::ZERO, HOUR * 3));
    }
}
