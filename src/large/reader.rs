//! [`ValueReader`]: gives a value of any size while it comes.

use std::collections::VecDeque;
use std::io::{self, Read, Seek, SeekFrom};

use bytes::Bytes;
use kademlia_gateways::Id;

use super::cipher::ChunkPlace;
use super::saving::{Saving, is_passing, pause};
use super::tree::{Root, ids_in};
use super::{StreamError, StreamOptions};
use crate::service::{DHTService, Pending};

/// Gives a value of any size as a file does: it can be read from any place on.
///
/// Every chunk is checked before any byte of it is given. Reading waits, on the thread of whoever reads, and asks for some
/// chunks ahead; it holds [`window`](StreamOptions::window) chunks in memory. A value whose rest is lost ends with an
/// error, never early.
#[derive(Debug)]
pub struct ValueReader {
    service: DHTService,
    options: StreamOptions,
    value: Value,
    /// The next byte that is given.
    position: u64,
    /// The leaf that is being given, and its place among all.
    leaf: Option<(u64, Vec<u8>)>,
    /// Leaves that are asked for, in their order.
    ahead: VecDeque<Asked>,
    /// From the root's children down: the branches that lead to the leaf that was asked for last.
    path: Vec<Branch>,
    /// Branches that were fetched and are to be saved again, if they are.
    renewed: Option<Vec<Bytes>>,
}

#[derive(Debug)]
enum Value {
    /// It is all in one record.
    Whole(Vec<u8>),
    /// It is in chunks.
    Tree(Root),
    /// It is in a form that this node does not know.
    Unknown,
}

/// A leaf that was asked for: its place among all, its key, and its bytes when they come.
type Asked = (u64, Id, Pending<Option<Vec<u8>>>);

/// A branch, and which of all on its level it is.
#[derive(Debug)]
struct Branch {
    number: u64,
    children: Vec<Id>,
}

impl ValueReader {
    pub(super) fn new(service: DHTService, options: StreamOptions, value: Vec<u8>) -> Self {
        let value = match Root::decode(&value, service.key_space().bytes()) {
            Some(root) => Value::Tree(root),
            None if Root::is_one(&value) => Value::Unknown,
            None => Value::Whole(value),
        };
        let (leaf, ahead, path) = Default::default();
        ValueReader { service, options, value, position: 0, leaf, ahead, path, renewed: None }
    }

    /// The bytes of the whole value.
    pub fn len(&self) -> u64 {
        match &self.value {
            Value::Whole(value) => value.len() as u64,
            Value::Tree(root) => root.length,
            Value::Unknown => 0,
        }
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes have been given, or were passed over.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Whether the value can be read with this key, or without one. Anybody can put something else in its place.
    fn check_key(&self) -> Result<(), StreamError> {
        match &self.value {
            Value::Unknown => Err(StreamError::NoRoot),
            Value::Tree(root) if root.layout.overhead > 0 && self.options.key.is_none() => Err(StreamError::NoKey),
            Value::Tree(root) if root.layout.overhead > 0 => Ok(()),
            Value::Tree(_) | Value::Whole(_) if self.options.key.is_some() => Err(StreamError::WrongKey),
            Value::Tree(_) | Value::Whole(_) => Ok(()),
        }
    }

    /// The leaf at the position, and where in it the position is.
    fn at_position(&mut self) -> io::Result<(&[u8], usize)> {
        let Value::Tree(root) = &self.value else { return Ok((&[], 0)) };
        let (leaf_bytes, length) = (root.layout.leaf_bytes() as u64, root.length);
        let index = self.position / leaf_bytes;
        if self.leaf.as_ref().is_none_or(|(at, _)| *at != index) {
            self.leaf = None;
            let leaf = self.fetch_leaf(index)?;
            let expected = leaf_bytes.min(length - index * leaf_bytes);
            let (key, chunk) = leaf;
            if chunk.len() as u64 != expected {
                return Err(StreamError::Wrong { offset: index * leaf_bytes, key }.into());
            }
            self.leaf = Some((index, chunk));
        }
        let within = usize::try_from(self.position % leaf_bytes).unwrap_or(usize::MAX);
        Ok((self.leaf.as_ref().map_or(&[], |(_, leaf)| leaf), within))
    }

    /// Saves all chunks again, so that they live for one more record lifetime, and gives how many these were. Nothing is
    /// decrypted: that takes no key.
    ///
    /// The record that is looked up is not among them: that is kept alive by who saved it, or by
    /// [`keep`](DHTService::keep).
    ///
    /// # Errors
    ///
    /// The first chunk that was not found, or not saved.
    pub fn renew(mut self) -> io::Result<u64> {
        self.renewed = Some(Vec::new());
        let leaves = match &self.value {
            Value::Whole(_) => 0,
            Value::Tree(root) => root.layout.leaves(root.length),
            Value::Unknown => return Err(StreamError::NoRoot.into()),
        };
        let (mut renewed, mut saving) = (0, Saving::new(self.service.clone(), &self.options));
        let offset = self.position;
        let failed = |error| StreamError::Operation { offset, error };
        for index in 0..leaves {
            let (_, chunk) = self.fetch_chunk(index)?;
            let branches = self.renewed.as_mut().map(std::mem::take).unwrap_or_default();
            for chunk in branches.into_iter().chain([chunk.into()]) {
                saving.begin(chunk, ()).map_err(failed)?;
                renewed += 1;
            }
        }
        while saving.end_first().map_err(failed)?.is_some() {}
        Ok(renewed)
    }

    /// Waits for a leaf, and has the next ones asked for meanwhile.
    fn fetch_leaf(&mut self, index: u64) -> io::Result<(Id, Vec<u8>)> {
        let (key, chunk) = self.fetch_chunk(index)?;
        let chunk = match &self.options.key {
            Some(cipher) => {
                let Value::Tree(root) = &self.value else { return Err(StreamError::NoRoot.into()) };
                let is_last = index + 1 == root.layout.leaves(root.length);
                let place = ChunkPlace { salt: root.salt, index, is_last };
                cipher.open(&place, &chunk).ok_or(StreamError::WrongKey)?
            }
            None => chunk,
        };
        Ok((key, chunk))
    }

    /// The same, as it was saved.
    fn fetch_chunk(&mut self, index: u64) -> io::Result<(Id, Vec<u8>)> {
        // After a jump what was asked for is of no use.
        if self.ahead.front().is_some_and(|(first, ..)| *first != index) {
            self.ahead.drain(..).for_each(|(.., pending)| pending.cancel());
        }
        self.ask_ahead(index)?;
        let Some((_, key, pending)) = self.ahead.pop_front() else {
            return Err(StreamError::NoRoot.into());
        };
        Ok((key, self.wait_for(key, pending)?))
    }

    /// Asks for leaves from this one on, as many as may be under way.
    fn ask_ahead(&mut self, index: u64) -> io::Result<()> {
        let Value::Tree(root) = &self.value else { return Ok(()) };
        let leaves = root.layout.leaves(root.length);
        let mut next = self.ahead.back().map_or(index, |(last, ..)| last + 1);
        while self.ahead.len() < self.options.window && next < leaves {
            let key = self.key_of_leaf(next)?;
            self.ahead.push_back((next, key, self.service.get_immutable(key)));
            next += 1;
        }
        Ok(())
    }

    /// The hash of a leaf: in the root, or in a branch, which is fetched if it is not at hand.
    fn key_of_leaf(&mut self, index: u64) -> io::Result<Id> {
        let Value::Tree(root) = &self.value else { return Err(StreamError::NoRoot.into()) };
        let (layout, top, leaves) = (root.layout, root.level, root.layout.leaves(root.length));
        let child =
            |children: &[Id], place: u64| usize::try_from(place).ok().and_then(|place| children.get(place).copied());
        let mut id = child(&root.children, index / layout.leaves_below(top).max(1)).ok_or(StreamError::NoRoot)?;
        for (depth, level) in (0..top).rev().enumerate() {
            let (above, below) = (layout.leaves_below(level + 1).max(1), layout.leaves_below(level).max(1));
            let number = index / above;
            if self.path.get(depth).is_none_or(|branch| branch.number != number) {
                self.path.truncate(depth);
                let pending = self.service.get_immutable(id);
                let bytes = self.wait_for(id, pending)?;
                // How many leaves are below it, and so how many children it has.
                let expected = above.min(leaves - number * above).div_ceil(below);
                let children = ids_in(&bytes, layout.id_bytes).filter(|ids| ids.len() as u64 == expected);
                let children = children.ok_or(StreamError::Wrong { offset: self.position, key: id })?;
                if let Some(renewed) = &mut self.renewed {
                    renewed.push(bytes.into());
                }
                self.path.push(Branch { number, children });
            }
            let branch = self.path.get(depth).ok_or(StreamError::NoRoot)?;
            id = child(&branch.children, index % above / below).ok_or(StreamError::NoRoot)?;
        }
        Ok(id)
    }

    /// Waits for a chunk, and asks for it again where it was not found.
    fn wait_for(&self, key: Id, mut pending: Pending<Option<Vec<u8>>>) -> io::Result<Vec<u8>> {
        let offset = self.position;
        for tries in 1.. {
            let error = match pending.wait() {
                Ok(Some(chunk)) => return Ok(chunk),
                Ok(None) => StreamError::Lost { offset, key },
                Err(error) if is_passing(&error) => StreamError::Operation { offset, error },
                Err(error) => return Err(StreamError::Operation { offset, error }.into()),
            };
            if tries >= self.options.tries {
                return Err(error.into());
            }
            pause(tries);
            pending = self.service.get_immutable(key);
        }
        Err(StreamError::Lost { offset, key }.into())
    }
}

impl Read for ValueReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.check_key()?;
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.position >= self.len() {
            // That it is empty is not to be believed of anybody.
            if matches!(&self.value, Value::Tree(root) if root.length == 0 && root.layout.overhead > 0) {
                self.position = 0;
                self.at_position()?;
            }
            return Ok(0);
        }
        let position = self.position;
        let rest = match &self.value {
            Value::Whole(value) => usize::try_from(position).ok().and_then(|at| value.get(at..)).unwrap_or_default(),
            Value::Tree(_) | Value::Unknown => {
                let (leaf, within) = self.at_position()?;
                leaf.get(within..).unwrap_or_default()
            }
        };
        let size = rest.len().min(buffer.len());
        buffer.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        self.position += size as u64;
        Ok(size)
    }
}

impl Seek for ValueReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.len().checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

impl Drop for ValueReader {
    fn drop(&mut self) {
        self.ahead.drain(..).for_each(|(.., pending)| pending.cancel());
    }
}
