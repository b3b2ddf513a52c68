//! The tree of hashes above the chunks of a large value: how it is built while chunks come, and written down.
//!
//! A value is cut into leaves, each saved under its hash. The hashes of many leaves, one after the other, make a branch,
//! which is saved under its hash as well, and so on until the hashes that are left fit the root. The root is the record
//! that is looked up.

use kademlia_gateways::Id;

/// What a root begins with. No text does, and hardly anything else.
const MAGIC: [u8; 8] = *b"\xd7dhtree\x01";

/// The most bytes of a root, so that it fits a signed record and a datagram.
const MAX_ROOT_BYTES: usize = 960;

/// What a root has besides hashes.
const HEAD_BYTES: usize = MAGIC.len() + 3 + 4 + 8 + SALT_BYTES;

/// The bytes of what tells one encrypted value from another of the same key.
pub(super) const SALT_BYTES: usize = 16;

/// No tree is higher: with branches of one kibibyte it would have more leaves than can be counted.
const MAX_DEPTH: u8 = 12;

/// The least bytes of a chunk: a branch must have room for some hashes.
pub(super) const MIN_CHUNK_BYTES: usize = 512;

/// The most bytes of a chunk.
pub(super) const MAX_CHUNK_BYTES: usize = 48 * 1024;

/// How a value is cut up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// The bytes of each leaf, as it is saved, but for the last one.
    pub(super) chunk_bytes: usize,
    /// How many of them are not of the value: those of the cipher.
    pub(super) overhead: usize,
    /// The bytes of a hash.
    pub(super) id_bytes: usize,
}

impl Layout {
    /// How many bytes of the value a leaf has.
    pub(super) fn leaf_bytes(&self) -> usize {
        self.chunk_bytes - self.overhead
    }

    /// How many hashes a branch has.
    pub(super) fn fan(&self) -> usize {
        self.chunk_bytes / self.id_bytes
    }

    /// How many hashes the root has at the most.
    fn root_fan(&self) -> usize {
        (MAX_ROOT_BYTES - HEAD_BYTES) / self.id_bytes
    }

    /// How many leaves there are at the most below one child at a level, of which those of leaves are 0.
    pub(super) fn leaves_below(&self, level: u8) -> u64 {
        (self.fan() as u64).saturating_pow(level.into())
    }

    /// How many leaves these hashes stand for, by level, that are in no branch yet; `None` if there can be no such.
    pub(super) fn leaves_in(&self, levels: &[Vec<Id>]) -> Option<u64> {
        levels.iter().zip(0..).try_fold(0_u64, |all, (ids, level)| {
            let leaves = self.leaves_below(level).checked_mul(ids.len() as u64).filter(|_| ids.len() < self.fan())?;
            all.checked_add(leaves)
        })
    }

    /// The number of leaves of a value of this length. An encrypted one has a leaf though it is empty, so that nobody else can
    /// make it so.
    pub(super) fn leaves(&self, length: u64) -> u64 {
        length.div_ceil(self.leaf_bytes() as u64).max(u64::from(self.overhead > 0))
    }
}

/// The root of a large value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Root {
    pub(super) layout: Layout,
    /// The bytes of the value.
    pub(super) length: u64,
    /// Tells it from other values that are encrypted with the same key.
    pub(super) salt: [u8; SALT_BYTES],
    /// The level of its children: 0 if they are leaves.
    pub(super) level: u8,
    pub(super) children: Vec<Id>,
}

impl Root {
    /// Whether a value says that it is a root.
    pub(super) fn is_one(value: &[u8]) -> bool {
        value.starts_with(&MAGIC)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([self.level, self.layout.id_bytes as u8, self.layout.overhead as u8]);
        bytes.extend((self.layout.chunk_bytes as u32).to_be_bytes());
        bytes.extend(self.length.to_be_bytes());
        bytes.extend(self.salt);
        bytes.extend(hashes(&self.children, self.layout.id_bytes));
        bytes
    }

    /// Reads a root. `None` if it is none, or one that cannot be: then nothing was ever asked for by it.
    pub(super) fn decode(value: &[u8], id_bytes: usize) -> Option<Root> {
        let rest = value.strip_prefix(&MAGIC)?;
        let ([level, ids, overhead], rest) = rest.split_first_chunk()?;
        let (chunk_bytes, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (salt, rest) = rest.split_first_chunk()?;
        let (chunk_bytes, overhead) = (usize::try_from(u32::from_be_bytes(*chunk_bytes)).ok()?, usize::from(*overhead));
        let is_possible = usize::from(*ids) == id_bytes
            && *level <= MAX_DEPTH
            && (MIN_CHUNK_BYTES..=MAX_CHUNK_BYTES).contains(&chunk_bytes)
            && overhead < MIN_CHUNK_BYTES;
        if !is_possible {
            return None;
        }
        let layout = Layout { chunk_bytes, overhead, id_bytes };
        let root = Root {
            layout,
            length: u64::from_be_bytes(*length),
            salt: *salt,
            level: *level,
            children: ids_in(rest, id_bytes)?,
        };
        let leaves = root.layout.leaves(root.length);
        let children = leaves.div_ceil(root.layout.leaves_below(root.level).max(1));
        (children == root.children.len() as u64 && value.len() <= MAX_ROOT_BYTES).then_some(root)
    }
}

/// Hashes, one after the other.
pub(super) fn hashes(ids: &[Id], id_bytes: usize) -> Vec<u8> {
    ids.iter().flat_map(|id| id.as_bytes().iter().take(id_bytes).copied()).collect()
}

/// The hashes in a branch, if it is nothing but hashes.
pub(super) fn ids_in(bytes: &[u8], id_bytes: usize) -> Option<Vec<Id>> {
    (bytes.len().is_multiple_of(id_bytes)).then(|| bytes.chunks(id_bytes).map(Id::from_prefix).collect())
}

/// A tree to which leaves are added from left to right. What is complete is given away to be saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Growing {
    layout: Layout,
    /// At each level, the hashes that are in no branch yet.
    pub(super) levels: Vec<Vec<Id>>,
}

impl Growing {
    pub(super) fn new(layout: Layout) -> Self {
        Growing { layout, levels: Vec::new() }
    }

    /// Goes on where one stopped.
    pub(super) fn at(layout: Layout, levels: Vec<Vec<Id>>) -> Self {
        Growing { layout, levels }
    }

    /// Adds the hash of a leaf. `hash` is told each branch that is complete, and gives its hash.
    pub(super) fn add(&mut self, leaf: Id, mut hash: impl FnMut(Vec<u8>) -> Id) {
        let mut id = leaf;
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            let Some(ids) = self.levels.get_mut(level) else { return };
            ids.push(id);
            if ids.len() < self.layout.fan() {
                return;
            }
            id = hash(hashes(&std::mem::take(ids), self.layout.id_bytes));
        }
    }

    /// Ends with the root of a value of this length.
    pub(super) fn finish(self, length: u64, salt: [u8; SALT_BYTES], mut hash: impl FnMut(Vec<u8>) -> Id) -> Root {
        let (layout, mut level) = (self.layout, 0);
        let mut above = self.levels.into_iter().peekable();
        let mut children: Vec<Id> = above.next().unwrap_or_default();
        // Up, until nothing is above and all fits the root.
        while above.peek().is_some() || children.len() > layout.root_fan() {
            let mut next = above.next().unwrap_or_default();
            for ids in children.chunks(layout.fan()) {
                next.push(hash(hashes(ids, layout.id_bytes)));
            }
            (children, level) = (next, level + 1);
        }
        Root { layout, length, salt, level, children }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use sha1::{Digest, Sha1};

    use super::*;

    fn layout(chunk_bytes: usize) -> Layout {
        Layout { chunk_bytes, overhead: 0, id_bytes: 20 }
    }

    fn leaf(n: u64) -> Id {
        Id::from_prefix(&Sha1::digest(n.to_be_bytes()))
    }

    /// The leaves below, from left to right.
    fn walk(id: Id, level: u8, saved: &BTreeMap<Id, Vec<u8>>, layout: &Layout, out: &mut Vec<Id>) {
        if level == 0 {
            return out.push(id);
        }
        for child in ids_in(&saved[&id], layout.id_bytes).unwrap() {
            walk(child, level - 1, saved, layout, out);
        }
    }

    proptest! {
        #[test]
        fn all_leaves_are_found_again_in_their_order(leaves in 0_u64..3000, stop in 0_u64..3000, chunk in 512_usize..700) {
            let layout = layout(chunk);
            let mut saved = BTreeMap::new();
            let mut save = |branch: Vec<u8>| {
                let id = Id::from_prefix(&Sha1::digest(&branch));
                saved.insert(id, branch);
                id
            };
            let mut tree = Growing::new(layout);
            for n in 0..leaves {
                if n == stop {
                    tree = Growing::at(layout, tree.levels.clone());
                }
                tree.add(leaf(n), &mut save);
            }
            let length = leaves * chunk as u64;
            let root = tree.finish(length, [3; 16], &mut save);
            let encoded = root.encode();
            prop_assert!(encoded.len() <= MAX_ROOT_BYTES);
            let decoded = Root::decode(&encoded, 20);
            prop_assert_eq!(decoded.as_ref(), Some(&root));
            let mut found = Vec::new();
            root.children.iter().for_each(|child| walk(*child, root.level, &saved, &layout, &mut found));
            prop_assert_eq!(found, (0..leaves).map(leaf).collect::<Vec<_>>());
        }

        #[test]
        fn no_root_panics(
            level in 0_u8..14, ids in 19_u8..22, overhead in any::<u8>(), chunk in 0_u32..60_000, length in 0_u64..100_000,
            bytes in prop::collection::vec(any::<u8>(), 0..200)
        ) {
            let head = [&MAGIC[..], &[level, ids, overhead], &chunk.to_be_bytes(), &length.to_be_bytes(), &[0; 16]].concat();
            let bytes = [head, bytes].concat();
            if let Some(root) = Root::decode(&bytes, 20) {
                prop_assert_eq!(root.encode(), bytes);
            }
        }
    }

    #[test]
    fn roots_that_cannot_be_are_none() {
        let whole = Growing::new(layout(512)).finish(0, [0; 16], |_| Id::ZERO).encode();
        assert!(Root::is_one(&whole) && Root::decode(&whole, 20).is_some());
        assert_eq!(Root::decode(&whole, 32), None, "of another network");
        assert_eq!(Root::decode(&whole[..whole.len() - 1], 20), None);
        assert_eq!(Root::decode(b"", 20), None);
        let mut tree = Growing::new(layout(512));
        (0..3).for_each(|n| tree.add(leaf(n), |_| Id::ZERO));
        let root = tree.finish(3 * 512, [0; 16], |_| Id::ZERO);
        let decode = |root: Root| Root::decode(&root.encode(), 20);
        assert!(decode(root.clone()).is_some());
        assert_eq!(decode(Root { length: 3 * 512 + 1, ..root.clone() }), None, "a leaf is missing");
        assert_eq!(decode(Root { length: 2 * 512, ..root.clone() }), None, "a leaf too many");
        assert_eq!(decode(Root { level: MAX_DEPTH + 1, ..root.clone() }), None);
        assert_eq!(decode(Root { layout: Layout { chunk_bytes: 511, ..root.layout }, ..root }), None);
    }
}
