//! Node ids, keys and the XOR distance between them.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The most bytes that an id can have.
pub const ID_BYTES: usize = 32;

/// A node id or a key: up to 32 bytes, compared by XOR distance.
///
/// Digests shorter than 32 bytes (SHA-1: 20) stand at the front with zeros behind. The XOR of zeros is zero, so
/// distances are those of the shorter ids. How many bytes count in one network is told by its [`KeySpace`].
///
/// ```
/// use kademlia_gateways::Id;
/// let a = Id::from_prefix(&[0b1000_0000]);
/// let b = Id::from_prefix(&[0b1010_0000]);
/// assert_eq!(a.distance(&b).leading_zeros(), 2);
/// assert_eq!(a.common_prefix_len(&b), 2);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id([u8; ID_BYTES]);

impl Id {
    /// The id of all zeros.
    pub const ZERO: Id = Id([0; ID_BYTES]);

    /// An id of 32 significant bytes.
    pub const fn new(bytes: [u8; ID_BYTES]) -> Self {
        Id(bytes)
    }

    /// The id that starts with `prefix` and goes on in zeros; what is beyond 32 bytes is left out.
    #[inline]
    pub fn from_prefix(prefix: &[u8]) -> Self {
        let mut bytes = [0; ID_BYTES];
        let length = prefix.len().min(ID_BYTES);
        if let (Some(to), Some(from)) = (bytes.get_mut(..length), prefix.get(..length)) {
            to.copy_from_slice(from);
        }
        Id(bytes)
    }

    /// All 32 bytes, the insignificant zeros of a narrower key space included.
    #[inline]
    pub const fn as_bytes(&self) -> &[u8; ID_BYTES] {
        &self.0
    }

    /// The XOR distance to `other` (Kademlia paper, section 2.1).
    #[inline]
    pub fn distance(&self, other: &Id) -> Distance {
        let ((own_high, own_low), (high, low)) = (self.halves(), other.halves());
        Distance { high: own_high ^ high, low: own_low ^ low }
    }

    /// The id as a number, in two halves.
    #[inline]
    fn halves(&self) -> (u128, u128) {
        let high = self.0.first_chunk().copied().unwrap_or_default();
        let low = self.0.last_chunk().copied().unwrap_or_default();
        (u128::from_be_bytes(high), u128::from_be_bytes(low))
    }

    /// How many leading bits the two ids share: 256 for equal ids.
    #[inline]
    pub fn common_prefix_len(&self, other: &Id) -> usize {
        self.distance(other).leading_zeros()
    }

    /// The bit at `index`, counted from the most significant; bits beyond the last are zero.
    #[inline]
    pub fn bit(&self, index: usize) -> bool {
        self.0.get(index / 8).is_some_and(|byte| byte & (0x80 >> (index % 8)) != 0)
    }

    /// The bytes up to the last one that is not zero: how an id travels.
    fn trimmed(&self) -> &[u8] {
        let zeros = self.0.iter().rev().take_while(|byte| **byte == 0).count();
        self.0.get(..ID_BYTES - zeros).unwrap_or_default()
    }
}

impl fmt::Display for Id {
    /// Hexadecimal without the trailing zero bytes (but at least 4 bytes).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.trimmed().len().max(4);
        self.0.iter().take(shown).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({self})")
    }
}

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an id is 1 to 32 bytes in hexadecimal, two digits a byte; got {0:?}")]
pub struct ParseIdError(String);

impl FromStr for Id {
    type Err = ParseIdError;

    /// Reads hexadecimal of at most 64 digits; missing bytes are zeros.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseIdError(text.to_owned());
        if text.is_empty() || !text.len().is_multiple_of(2) || text.len() > 2 * ID_BYTES || !text.is_ascii() {
            return Err(error());
        }
        let mut bytes = [0; ID_BYTES];
        for (to, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| error())?;
            if digits.starts_with('+') {
                return Err(error());
            }
            *to = u8::from_str_radix(digits, 16).map_err(|_| error())?;
        }
        Ok(Id(bytes))
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_bytes(self.trimmed())
        }
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdVisitor;

        impl Visitor<'_> for IdVisitor {
            type Value = Id;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {ID_BYTES} bytes, the last one not zero")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Id, E> {
                if bytes.len() > ID_BYTES || bytes.last() == Some(&0) {
                    return Err(E::invalid_length(bytes.len(), &self));
                }
                Ok(Id::from_prefix(bytes))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Id, E> {
                text.parse().map_err(E::custom)
            }
        }

        if deserializer.is_human_readable() {
            deserializer.deserialize_str(IdVisitor)
        } else {
            deserializer.deserialize_bytes(IdVisitor)
        }
    }
}

/// The XOR of two ids, ordered as an unsigned big-endian number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Distance {
    high: u128,
    low: u128,
}

impl Distance {
    /// How many bits are zero before the first one: 256 for the distance zero.
    #[inline]
    pub fn leading_zeros(&self) -> usize {
        let zeros = if self.high == 0 { 128 + self.low.leading_zeros() } else { self.high.leading_zeros() };
        zeros as usize
    }

    /// Big-endian: the XOR of the bytes of the two ids.
    pub fn to_bytes(&self) -> [u8; ID_BYTES] {
        let mut bytes = [0; ID_BYTES];
        let halves = self.high.to_be_bytes().into_iter().chain(self.low.to_be_bytes());
        bytes.iter_mut().zip(halves).for_each(|(to, byte)| *to = byte);
        bytes
    }

    /// The most significant 64 bits: enough to order nearly all distances by.
    #[inline]
    pub const fn prefix(&self) -> u64 {
        (self.high >> 64) as u64
    }
}

/// How many leading bytes of an [`Id`] count in a network: what its hasher gives.
///
/// ```
/// use kademlia_gateways::{Id, KeySpace};
/// let sha1 = KeySpace::SHA1;
/// assert_eq!((sha1, sha1.bits()), (KeySpace::new(20).unwrap(), 160));
/// assert!(sha1.contains(&Id::from_prefix(&[7; 20])));
/// assert!(!sha1.contains(&Id::from_prefix(&[7; 21])));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySpace {
    bytes: u8,
}

impl KeySpace {
    /// That of SHA-1: 160 bits.
    pub const SHA1: KeySpace = KeySpace { bytes: 20 };

    /// A key space of `bytes` significant bytes; `None` unless it is 1 to 32.
    pub const fn new(bytes: usize) -> Option<Self> {
        if bytes >= 1 && bytes <= ID_BYTES { Some(KeySpace { bytes: bytes as u8 }) } else { None }
    }

    /// Significant bytes: 1 to 32.
    pub const fn bytes(&self) -> usize {
        self.bytes as usize
    }

    /// Significant bits: 8 to 256.
    pub const fn bits(&self) -> usize {
        self.bytes as usize * 8
    }

    /// Whether `id` is zero beyond the significant bytes. Ids from the wire that are not are refused.
    #[inline]
    pub fn contains(&self, id: &Id) -> bool {
        id.as_bytes().iter().skip(self.bytes()).all(|byte| *byte == 0)
    }

    /// `id` with zeros beyond the significant bytes.
    pub fn fit(&self, id: &Id) -> Id {
        Id::from_prefix(id.as_bytes().get(..self.bytes()).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_round_trip_and_refusals() {
        let id = Id::from_prefix(&[0xab; 20]);
        assert_eq!(id.to_string().parse::<Id>().unwrap(), id);
        for wrong in ["", "a", "zz", "+1", "é0", &"0".repeat(66)] {
            assert!(wrong.parse::<Id>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn leading_zeros_of_equal_ids_is_every_bit() {
        assert_eq!(Id::ZERO.common_prefix_len(&Id::ZERO), 256);
    }

    proptest! {
        #[test]
        fn distance_is_a_metric(a: [u8; 32], b: [u8; 32], c: [u8; 32]) {
            let (a, b, c) = (Id::new(a), Id::new(b), Id::new(c));
            prop_assert_eq!(a.distance(&b), b.distance(&a));
            prop_assert_eq!(a.distance(&b).to_bytes(), std::array::from_fn(|n| a.as_bytes()[n] ^ b.as_bytes()[n]));
            prop_assert_eq!(a.distance(&b) == Id::ZERO.distance(&Id::ZERO), a == b);
            let prefix = a.common_prefix_len(&c);
            prop_assert!(prefix >= a.common_prefix_len(&b).min(b.common_prefix_len(&c)));
            if prefix < 256 {
                prop_assert_ne!(a.bit(prefix), c.bit(prefix));
            }
        }
    }
}
