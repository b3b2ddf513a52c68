//! Values of any size: cut into chunks under a tree of hashes, of which a bounded part is in memory at a time.
//!
//! [`ValueWriter`] takes a value as a file does, and [`ValueReader`] gives it so; both work on the thread of whoever uses
//! them. Each chunk is an immutable record, so that it is saved and fetched by itself, several at a time, and nobody can
//! pass off another one for it. The root of the tree is a record of whichever kind, under a key of choice.
//!
//! Chunks live as long as records do, and holders replicate them; but this node does not hold a large value in memory to
//! publish it again. Who wants to keep one alive has it [renewed](ValueReader::renew) in time.

mod cipher;
mod reader;
mod saving;
mod transfer;
mod tree;
mod writer;

use std::io;

use kademlia_gateways::{Id, OwnedMode, RecordKind, Version};

use crate::service::{DHTService, Error, Pending};
use crate::signing::owned::{OwnerId, OwnerKey};
use crate::signing::signed::{PublicKey, Salt, SigningKey};

pub use cipher::ValueKey;
pub use reader::ValueReader;
pub use transfer::Transfer;
pub use writer::{Checkpoint, ValueWriter};

/// The bytes of a chunk where all gateways of the node carry so many.
pub const CHUNK_BYTES: usize = 16 * 1024;

/// The bytes of a chunk where some gateway does not carry more than a datagram.
pub const SMALL_CHUNK_BYTES: usize = 1000;

/// What the bencoding of a chunk adds.
const BENCODING_BYTES: usize = 5;

/// What a message has besides the chunk in it, at most.
const AROUND_CHUNK_BYTES: usize = 400;

/// Where a value of any size is saved, and who may replace it.
#[derive(Debug, Clone)]
pub enum Place {
    /// Under a key, where anyone may replace it.
    Plain(Vec<u8>),
    /// Under a key, if the newest version there is the expected one when all else has been saved (`None`: if there is no
    /// value). That is tried once.
    PlainIf {
        /// The key.
        key: Vec<u8>,
        /// The version that must be the newest.
        expected: Option<Version>,
    },
    /// Under its own hash, which is in the receipt.
    Immutable,
    /// Under the hash of a public key: see [`DHTService::put_signed`].
    Signed {
        /// Who may write there.
        key: SigningKey,
        /// Tells the values of one key apart.
        salt: Salt,
    },
    /// Under a key, as its owner: see [`DHTService::put_owned`].
    Owned {
        /// Who writes.
        owner: OwnerKey,
        /// The key.
        key: Vec<u8>,
        /// Who else may write there.
        mode: OwnedMode,
    },
}

/// Where a value of any size is looked for, and who must have written it.
#[derive(Debug, Clone)]
pub enum Source {
    /// Under a key, whoever has written it.
    Any(Vec<u8>),
    /// Under its own hash.
    Immutable(Id),
    /// Under the hash of this public key.
    Signed(PublicKey, Salt),
    /// Of this owner, under a key.
    Owned(OwnerId, Vec<u8>),
}

/// How a value of any size is cut up and carried.
#[derive(Debug, Clone)]
pub struct StreamOptions {
    /// The bytes of a chunk: 512 to 49,152. By default [`CHUNK_BYTES`], or [`SMALL_CHUNK_BYTES`] if this node has a gateway
    /// that does not carry those.
    pub chunk_bytes: Option<usize>,
    /// How many chunks are under way at once: 1 to 128, by default 16.
    pub window: usize,
    /// How often a chunk is tried before it counts as lost: 1 to 100, by default 6. Between two tries is a pause, which
    /// grows to some seconds.
    pub tries: u32,
    /// Encrypts the value with this key, or decrypts it.
    pub key: Option<ValueKey>,
}

impl Default for StreamOptions {
    fn default() -> Self {
        StreamOptions { chunk_bytes: None, window: 16, tries: 6, key: None }
    }
}

impl StreamOptions {
    /// With every setting within its bounds.
    fn bounded(mut self) -> Self {
        let bounds = |bytes: usize| bytes.clamp(tree::MIN_CHUNK_BYTES, tree::MAX_CHUNK_BYTES);
        self.chunk_bytes = self.chunk_bytes.map(bounds);
        self.window = self.window.clamp(1, 128);
        self.tries = self.tries.clamp(1, 100);
        self
    }
}

/// Why a value of any size was not saved or not read.
///
/// It comes inside of an [`io::Error`], of which `get_ref` and `downcast_ref` give it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// A record could not be saved or looked for.
    #[error("at byte {offset}: {error}")]
    Operation {
        /// Where in the value.
        offset: u64,
        /// Why.
        #[source]
        error: Error,
    },
    /// A chunk was not found, however often it was asked for.
    #[error("the chunk {key} at byte {offset} was not found")]
    Lost {
        /// Where in the value.
        offset: u64,
        /// The key of the chunk.
        key: Id,
    },
    /// A chunk is not what the tree says.
    #[error("the chunk {key} at byte {offset} is not what belongs there")]
    Wrong {
        /// Where in the value.
        offset: u64,
        /// The key of the chunk.
        key: Id,
    },
    /// It is encrypted, and no key was given.
    #[error("the value is encrypted, and no key was given")]
    NoKey,
    /// It was encrypted with another key, or not at all.
    #[error("the value does not open with this key")]
    WrongKey,
    /// It begins like the root of a large value, and is none.
    #[error("the record under the key is no root of a large value that this node can read")]
    NoRoot,
    /// The system gave no random numbers for the cipher.
    #[error("the operating system gives no random numbers")]
    Entropy,
    /// A part of the value could not be saved before. Saving can go on from the checkpoint, with another writer.
    #[error("the value could not be saved from byte {offset} on; resume from there")]
    Broken {
        /// Up to where it has been saved.
        offset: u64,
    },
    /// It was cancelled.
    #[error("the transfer was cancelled")]
    Cancelled,
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        let kind = match &error {
            StreamError::Lost { .. } => io::ErrorKind::NotFound,
            StreamError::Wrong { .. } | StreamError::NoRoot => io::ErrorKind::InvalidData,
            StreamError::NoKey | StreamError::WrongKey => io::ErrorKind::PermissionDenied,
            StreamError::Cancelled => io::ErrorKind::Interrupted,
            StreamError::Operation { .. } | StreamError::Entropy | StreamError::Broken { .. } => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

/// How large chunks are, if nobody has said so.
fn usual_chunk(service: &DHTService) -> usize {
    let carried = service.largest_message().unwrap_or(usize::MAX);
    let usual = if carried < CHUNK_BYTES + AROUND_CHUNK_BYTES { SMALL_CHUNK_BYTES } else { CHUNK_BYTES };
    let around = if service.bencodes() { BENCODING_BYTES } else { 0 };
    usual.min(service.largest_value()).saturating_sub(around).max(tree::MIN_CHUNK_BYTES)
}

/// Whether what a record holds says that it is the root of a large value, and must be read by a [`ValueReader`].
pub fn is_root(value: &[u8]) -> bool {
    tree::Root::is_one(value)
}

/// Of values of any size.
impl DHTService {
    /// Saves all that a reader gives under a key, on a thread of its own. Under it is nothing before all has been saved.
    ///
    /// See [`value_writer`](DHTService::value_writer) for other places than a key, and to save without a thread.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub fn save_stream(
        &self,
        place: Place,
        reader: impl io::Read + Send + 'static,
        options: StreamOptions,
    ) -> io::Result<Transfer> {
        Transfer::start(self.value_writer(place, options), reader)
    }

    /// Takes a value of any size, to be saved when it is [finished](ValueWriter::finish).
    pub fn value_writer(&self, place: Place, options: StreamOptions) -> ValueWriter {
        ValueWriter::new(self.clone(), place, options.bounded())
    }

    /// Reads a value of which the record has been found already: `value` is what that holds, and all of it where it is not
    /// the [root](is_root) of a large one.
    pub fn value_reader(&self, value: Vec<u8>, options: StreamOptions) -> ValueReader {
        ValueReader::new(self.clone(), options.bounded(), value)
    }

    /// Finds a value of any size; `None` if there is none. What it gives reads the value while it comes.
    pub fn query_stream(&self, source: Source, options: StreamOptions) -> Pending<Option<ValueReader>> {
        let (service, options) = (self.clone(), options.bounded());
        let read = move |value: Option<Vec<u8>>| value.map(|value| ValueReader::new(service, options, value));
        match source {
            Source::Any(key) => self.find(self.plain_id(&key), |report| {
                let found = report.found.map(|found| found.record);
                Some(read(found.map(crate::service::value_of)))
            }),
            Source::Immutable(key) => self.find_immutable(&key, read),
            Source::Signed(key, salt) => self.find(self.signed_key(&key, &salt), |report| {
                let found = report.found.filter(|found| matches!(found.record.kind, RecordKind::Signed(_)));
                Some(read(found.map(|found| crate::service::value_of(found.record))))
            }),
            Source::Owned(owner, key) => self.find_owned(&owner, &key, read),
        }
    }
}
