//! How keys become ids.

use std::fmt;

use kademlia_gateways::{Id, KeySpace};
use sha1::{Digest, Sha1};
use sha2::Sha256;

/// Turns keys into ids. All nodes of a network must use the same hasher.
///
/// It is called on the thread of whoever calls the service.
///
/// ```
/// use kademlia_dht::{Id, KeyHasher, KeySpace};
///
/// /// A checksum of two bytes: enough for a test network.
/// struct Sum16;
///
/// impl KeyHasher for Sum16 {
///     fn key_space(&self) -> KeySpace {
///         KeySpace::new(2).unwrap()
///     }
///     fn hash(&self, key: &[u8]) -> Id {
///         let sum = key.iter().fold(0_u16, |sum, byte| sum.wrapping_mul(31).wrapping_add(u16::from(*byte)));
///         Id::from_prefix(&sum.to_be_bytes())
///     }
/// }
/// ```
pub trait KeyHasher: Send + Sync {
    /// How many bytes of an id count. It must always be the same.
    fn key_space(&self) -> KeySpace;

    /// The id of a key. What goes beyond the key space is ignored.
    fn hash(&self, key: &[u8]) -> Id;
}

impl fmt::Debug for dyn KeyHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHasher")
    }
}

/// SHA-1: ids of 20 bytes, as in the Kademlia paper. The default.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sha1Hasher;

impl KeyHasher for Sha1Hasher {
    fn key_space(&self) -> KeySpace {
        bytes::<20>()
    }

    fn hash(&self, key: &[u8]) -> Id {
        Id::from_prefix(&Sha1::digest(key))
    }
}

/// SHA-256: ids of 32 bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sha256Hasher;

impl KeyHasher for Sha256Hasher {
    fn key_space(&self) -> KeySpace {
        bytes::<32>()
    }

    fn hash(&self, key: &[u8]) -> Id {
        Id::from_prefix(&Sha256::digest(key))
    }
}

/// The key space of `N` bytes, which is checked when this is compiled.
#[allow(clippy::panic)]
const fn bytes<const N: usize>() -> KeySpace {
    const {
        match KeySpace::new(N) {
            Some(space) => space,
            None => panic!("a key space has 1 to 32 bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_digests() {
        assert_eq!(Sha1Hasher.hash(b"abc").to_string(), "a9993e364706816aba3e25717850c26c9cd0d89d");
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Sha256Hasher.hash(b"abc").to_string(), sha256);
    }

    #[test]
    fn digests_fill_their_key_space() {
        assert_eq!(Sha1Hasher.key_space().bytes(), 20);
        assert_eq!(Sha256Hasher.key_space().bytes(), 32);
        assert!(Sha1Hasher.key_space().contains(&Sha1Hasher.hash(b"")));
    }
}
