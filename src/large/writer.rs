//! [`ValueWriter`]: takes a value of any size, and saves it chunk by chunk.

use std::io::{self, Write};

use bytes::Bytes;
use kademlia_gateways::Id;
use serde::{Deserialize, Serialize};

use super::cipher::{self, ChunkPlace};
use super::saving::{Saving, patiently};
use super::tree::{Growing, Layout, Root, SALT_BYTES};
use super::{Place, StreamError, StreamOptions, ValueKey, usual_chunk};
use crate::service::{DHTService, Error, Receipt};

/// Where saving a value stopped, and can go on: see [`ValueWriter::resume`]. With serde it can be kept in a file meanwhile; it
/// holds no key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// How many bytes of the value have been saved. It goes on with the next one.
    pub offset: u64,
    levels: Vec<Vec<Id>>,
    chunk_bytes: usize,
    /// Of an encrypted value: which key it is, and what tells the value from others.
    cipher: Option<([u8; 8], [u8; SALT_BYTES])>,
}

/// Takes a value of any size as a file does. What was written is saved while more comes; it is found under its key when
/// [`finish`](ValueWriter::finish) was called and has ended well, and not before.
///
/// Writing waits, on the thread of whoever writes, while enough is under way. It holds
/// [`window`](StreamOptions::window) chunks in memory.
///
/// ```
/// use std::io::{Read, Write};
/// use kademlia_dht::gateway::MemoryGateway;
/// use kademlia_dht::large::{Place, Source, StreamOptions};
/// use kademlia_dht::{Config, DHTService};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let service = DHTService::start(Config::default())?;
/// service.register_gateway(MemoryGateway::bind("/memory/0".parse()?)?)?;
/// let value: Vec<u8> = (0..1_000_000_u32).map(|n| (n / 7) as u8).collect();
///
/// let mut writer = service.value_writer(Place::Plain(b"film".to_vec()), StreamOptions::default());
/// writer.write_all(&value)?;
/// writer.finish()?;
///
/// let found = service.query_stream(Source::Any(b"film".to_vec()), StreamOptions::default());
/// let mut reader = found.wait()?.ok_or("not found")?;
/// let mut read = Vec::new();
/// reader.read_to_end(&mut read)?;
/// assert_eq!(read, value);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ValueWriter {
    service: DHTService,
    place: Place,
    options: StreamOptions,
    layout: Layout,
    tree: Growing,
    /// What has come and makes no whole chunk.
    buffer: Vec<u8>,
    /// How many chunks were begun.
    leaves: u64,
    /// How many bytes have come.
    length: u64,
    under_way: Saving<Option<Checkpoint>>,
    /// As far as all has been saved: up to which byte, and the tree there.
    saved: Checkpoint,
    /// Tells the value from others of the same key; `None` if there were no random numbers for it.
    salt: Option<[u8; SALT_BYTES]>,
    /// Something could not be saved: the value would have a hole.
    failed: bool,
}

impl ValueWriter {
    pub(super) fn new(service: DHTService, place: Place, options: StreamOptions) -> Self {
        let overhead = if options.key.is_some() { cipher::OVERHEAD } else { 0 };
        let id_bytes = service.key_space().bytes();
        let chunk_bytes = options.chunk_bytes.unwrap_or_else(|| usual_chunk(&service));
        let layout = Layout { chunk_bytes, overhead, id_bytes };
        let under_way = Saving::new(service.clone(), &options);
        let salt = options.key.as_ref().map_or(Some([0; SALT_BYTES]), ValueKey::salt);
        let cipher = options.key.as_ref().map(|key| (key.fingerprint(), salt.unwrap_or_default()));
        let saved = Checkpoint { offset: 0, levels: Vec::new(), chunk_bytes, cipher };
        ValueWriter {
            service,
            place,
            options,
            layout,
            tree: Growing::new(layout),
            buffer: Vec::new(),
            leaves: 0,
            length: 0,
            under_way,
            saved,
            salt,
            failed: false,
        }
    }

    /// Goes on where another writer stopped, which had the same options. The next byte to be written is the one at
    /// [`Checkpoint::offset`].
    ///
    /// If it was begun with chunks of another size, or with another key, or is damaged, it begins anew: the offset to go on from is that of
    /// [`checkpoint`](ValueWriter::checkpoint).
    #[must_use]
    pub fn resume(mut self, checkpoint: Checkpoint) -> Self {
        let leaf_bytes = self.layout.leaf_bytes() as u64;
        let key = |checkpoint: &Checkpoint| checkpoint.cipher.map(|(key, _)| key);
        let is_alike = checkpoint.chunk_bytes == self.layout.chunk_bytes && key(&checkpoint) == key(&self.saved);
        let is_whole = checkpoint.offset.is_multiple_of(leaf_bytes)
            && self.layout.leaves_in(&checkpoint.levels) == Some(checkpoint.offset / leaf_bytes);
        if is_alike && is_whole {
            self.salt = checkpoint.cipher.map_or(self.salt, |(_, salt)| Some(salt));
            self.tree = Growing::at(self.layout, checkpoint.levels.clone());
            (self.length, self.leaves) = (checkpoint.offset, checkpoint.offset / leaf_bytes);
            self.saved = checkpoint;
        }
        self
    }

    /// How far the value has been saved for good.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.saved
    }

    /// Saves what has not been saved yet, waits for all of it, and puts the value into its place. A value that fits one
    /// record is that record.
    ///
    /// # Errors
    ///
    /// A [`StreamError`] inside of an [`io::Error`]: what could not be saved, and why.
    pub fn finish(mut self) -> io::Result<Receipt> {
        self.finish_within(&|| false)
    }

    /// The same, unless it is cancelled before the value would be in its place.
    pub(super) fn finish_within(&mut self, is_cancelled: &dyn Fn() -> bool) -> io::Result<Receipt> {
        self.check_whole()?;
        if is_cancelled() {
            return Err(StreamError::Cancelled.into());
        }
        if self.leaves == 0 && self.options.key.is_none() && self.fits_the_place() {
            return self.put(&self.buffer);
        }
        if !self.buffer.is_empty() || (self.leaves == 0 && self.options.key.is_some()) {
            self.end_chunk(true)?;
        }
        let mut branches = Vec::new();
        let tree = std::mem::replace(&mut self.tree, Growing::new(self.layout));
        let salt = self.salt.ok_or(StreamError::Entropy)?;
        let root = tree.finish(self.length, salt, |branch| keep(&self.service, &mut branches, branch));
        for branch in branches {
            self.save(branch, None)?;
        }
        loop {
            let ended = self.under_way.end_first();
            if !self.note(ended)? {
                break;
            }
        }
        if is_cancelled() {
            return Err(StreamError::Cancelled.into());
        }
        self.put(&root.encode())
    }

    fn fits_the_place(&self) -> bool {
        let limit = match &self.place {
            Place::Signed { .. } => 900,
            Place::Plain(_) | Place::PlainIf { .. } | Place::Immutable | Place::Owned { .. } => self.layout.chunk_bytes,
        };
        // What begins like a root would be taken for one.
        self.buffer.len() <= limit && !Root::is_one(&self.buffer)
    }

    /// Saves the record that is looked up.
    fn put(&self, value: &[u8]) -> io::Result<Receipt> {
        let service = &self.service;
        let put = || match &self.place {
            Place::Plain(key) => service.save(key, value),
            Place::PlainIf { key, expected } => service.save_if(key, *expected, value),
            Place::Immutable => service.put_immutable(value),
            Place::Signed { key, salt } => service.put_signed(key, salt, value, None),
            Place::Owned { owner, key, mode } => service.put_owned(owner, key, *mode, value, None),
        };
        // What was not answered may have been done, and would be a conflict with itself.
        let tries = if matches!(self.place, Place::PlainIf { .. }) { 1 } else { self.options.tries };
        let receipt = patiently(tries, put(), put);
        Ok(receipt.map_err(|error| StreamError::Operation { offset: self.length, error })?)
    }

    /// An error if a part of the value could not be saved.
    fn check_whole(&self) -> io::Result<()> {
        if self.failed { Err(StreamError::Broken { offset: self.saved.offset }.into()) } else { Ok(()) }
    }

    /// Saves what has come as a chunk.
    fn end_chunk(&mut self, is_last: bool) -> io::Result<()> {
        self.check_whole()?;
        // Until it has ended well.
        self.failed = true;
        let ended = self.save_buffer(is_last);
        self.failed = ended.is_err();
        ended
    }

    fn save_buffer(&mut self, is_last: bool) -> io::Result<()> {
        let plain = std::mem::take(&mut self.buffer);
        let chunk: Bytes = match &self.options.key {
            Some(key) => {
                let salt = self.salt.ok_or(StreamError::Entropy)?;
                let place = ChunkPlace { salt, index: self.leaves, is_last };
                key.seal(&place, &plain).ok_or(StreamError::Entropy)?.into()
            }
            None => plain.into(),
        };
        self.leaves += 1;
        let mut branches = Vec::new();
        self.tree.add(self.service.content_key(&chunk), |branch| keep(&self.service, &mut branches, branch));
        for branch in branches {
            self.save(branch, None)?;
        }
        let (offset, levels) = (self.length, self.tree.levels.clone());
        let whole = offset.is_multiple_of(self.layout.leaf_bytes() as u64);
        let then = whole.then_some(Checkpoint {
            offset,
            levels,
            chunk_bytes: self.layout.chunk_bytes,
            cipher: self.saved.cipher,
        });
        self.save(chunk, then)
    }

    /// Begins to save a chunk, when there is room for it. `then` is what has been saved when it and all before it have been.
    fn save(&mut self, value: Bytes, then: Option<Checkpoint>) -> io::Result<()> {
        let ended = self.under_way.begin(value, then);
        self.note(ended).map(|_| ())
    }

    /// Notes what has been saved with the chunk that has ended. Whether one has.
    fn note(&mut self, ended: Result<Option<Option<Checkpoint>>, Error>) -> io::Result<bool> {
        let ended = ended.map_err(|error| StreamError::Operation { offset: self.saved.offset, error })?;
        let any = ended.is_some();
        if let Some(then) = ended.flatten() {
            self.saved = then;
        }
        Ok(any)
    }
}

/// Notes a branch that is to be saved, and gives its hash.
fn keep(service: &DHTService, branches: &mut Vec<Bytes>, branch: Vec<u8>) -> Id {
    let id = service.content_key(&branch);
    branches.push(branch.into());
    id
}

impl Write for ValueWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let leaf = self.layout.leaf_bytes();
        // A whole chunk waits for what follows: it may be all there is.
        if self.buffer.len() == leaf {
            self.end_chunk(false)?;
        }
        self.check_whole()?;
        let (taken, _) = bytes.split_at(bytes.len().min(leaf - self.buffer.len()));
        self.buffer.extend_from_slice(taken);
        self.length += taken.len() as u64;
        Ok(taken.len())
    }

    /// Does nothing: what is no whole chunk waits for more.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
