//! [`Value`]: what a Python program stores, with its type, and the bytes of a record that stand for it.

use std::fmt;

use bytes::Bytes;

use super::codec::DecodeError;
use super::pack::{Item, Reader, Writer};

/// The first byte of a record that holds anything but plain bytes. MessagePack never uses it.
const MARKER: u8 = 0xc1;

/// A value of the package `kademlia`, which keeps the type of what it stores.
///
/// A record has bytes. Bytes stand for themselves: what is saved as bytes is bytes in Python. Anything else is written as a
/// byte `0xC1` and then as MessagePack; bytes that begin with `0xC1` themselves, too. Each value has one form, and
/// each form one value.
///
/// ```
/// use kademlia_gateways::rpcudp::Value;
/// assert_eq!(Value::from(b"abc").to_bytes(), "abc");
/// // What `service.save("key", Value::from(5).to_bytes())` saves is the int 5 in Python.
/// assert_eq!(Value::from(5).to_bytes(), &[0xc1, 5][..]);
/// assert_eq!(Value::from_bytes(&[0xc1, 5]).unwrap(), Value::from(5));
/// assert_eq!(Value::from_bytes(&[0xc1, 0xc3]).unwrap(), Value::Bool(true));
/// let big = Value::from(u64::MAX);
/// assert_eq!(Value::from_bytes(&big.to_bytes()).unwrap(), big);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// An `int`.
    Int(Integer),
    /// A `float`.
    Float(f64),
    /// A `bool`.
    Bool(bool),
    /// A `str`.
    Text(String),
    /// `bytes`.
    Bytes(Bytes),
}

/// A number that MessagePack has: one of `i64` or of `u64`.
///
/// ```
/// use kademlia_gateways::rpcudp::Integer;
/// assert_eq!(i128::from(Integer::from(-5_i64)), -5);
/// assert!(Integer::try_from(1_i128 << 64).is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Integer(i128);

/// The number is below the least `i64` or above the greatest `u64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is beyond the numbers that MessagePack has")]
pub struct OutOfRange(pub i128);

/// Why the bytes of a record are no [`Value`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Behind the marker there is no MessagePack.
    #[error("what follows the marker cannot be read: {0}")]
    Malformed(#[from] DecodeError),
    /// It is MessagePack of another type: nothing, a list, a map.
    #[error("it is neither int, float, bool, str nor bytes")]
    OtherType,
    /// It is written otherwise than [`Value::to_bytes`] writes it.
    #[error("it is not in the one form that the value has")]
    NotCanonical,
}

impl Value {
    /// The bytes of the record that stands for the value.
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Value::Bytes(bytes) if bytes.first() != Some(&MARKER) => bytes.clone(),
            value => {
                let mut buffer = vec![MARKER];
                value.write(&mut buffer);
                buffer.into()
            }
        }
    }

    /// The value that the bytes of a record stand for.
    ///
    /// # Errors
    ///
    /// When they begin with the marker `0xC1` and are not what [`to_bytes`](Value::to_bytes) gives. So the bytes of any
    /// record that was saved without a thought of types are a value, unless they begin with that byte.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ValueError> {
        let Some((&MARKER, packed)) = bytes.split_first() else {
            return Ok(Value::Bytes(Bytes::copy_from_slice(bytes)));
        };
        let mut reader = Reader::new(packed);
        let item = reader.next()?;
        let value = Value::read(item).ok_or(ValueError::OtherType)?;
        if value.to_bytes() == bytes { Ok(value) } else { Err(ValueError::NotCanonical) }
    }

    /// The value of an item; `None` if it is of another type.
    pub(super) fn read(item: Item<'_>) -> Option<Self> {
        match item {
            Item::Bool(value) => Some(Value::Bool(value)),
            Item::Int(value) => Some(Value::Int(Integer(value))),
            Item::Float(value) => Some(Value::Float(value)),
            Item::Text(value) => Some(Value::Text(value.to_owned())),
            Item::Bytes(value) => Some(Value::Bytes(Bytes::copy_from_slice(value))),
            Item::Nil | Item::Array(_) | Item::Map(_) | Item::Extension => None,
        }
    }

    /// Appends it as MessagePack.
    pub(super) fn write(&self, buffer: &mut Vec<u8>) {
        let mut writer = Writer(buffer);
        match self {
            Value::Int(value) => writer.int(value.0),
            Value::Float(value) => writer.float(*value),
            Value::Bool(value) => writer.bool(*value),
            Value::Text(value) => writer.text(value),
            Value::Bytes(value) => writer.bytes(value),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Int(value) => write!(f, "{}", value.0),
            Value::Float(value) => write!(f, "{value:?}"),
            Value::Bool(value) => write!(f, "{value}"),
            Value::Text(value) => write!(f, "{value:?}"),
            Value::Bytes(value) => write!(f, "{value:?}"),
        }
    }
}

impl From<Integer> for i128 {
    fn from(value: Integer) -> i128 {
        value.0
    }
}

impl TryFrom<i128> for Integer {
    type Error = OutOfRange;

    fn try_from(value: i128) -> Result<Self, OutOfRange> {
        let fits = (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&value);
        if fits { Ok(Integer(value)) } else { Err(OutOfRange(value)) }
    }
}

macro_rules! from_integers {
    ($($integer:ty),+) => {
        $(
            impl From<$integer> for Integer {
                fn from(value: $integer) -> Self {
                    Integer(value.into())
                }
            }

            impl From<$integer> for Value {
                fn from(value: $integer) -> Self {
                    Value::Int(value.into())
                }
            }
        )+
    };
}

from_integers!(i32, i64, u32, u64);

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Value::Float(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Bool(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Value::Text(value.to_owned())
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Value::Bytes(Bytes::copy_from_slice(value))
    }
}

impl<const N: usize> From<&[u8; N]> for Value {
    fn from(value: &[u8; N]) -> Self {
        Value::from(value.as_slice())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in crate::rpcudp) fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-300_i64..300).prop_map(Value::from),
            any::<f64>().prop_map(Value::Float),
            any::<bool>().prop_map(Value::Bool),
            ".{0,40}".prop_map(|text| Value::from(text.as_str())),
            prop::collection::vec(any::<u8>(), 0..400).prop_map(|bytes| Value::from(bytes.as_slice())),
            prop::collection::vec(any::<u8>(), 0..9)
                .prop_map(|rest| Value::from([&[MARKER][..], &rest].concat().as_slice())),
        ]
    }

    #[test]
    fn each_type_has_its_bytes() {
        for (value, bytes) in [
            (Value::from(b""), &b""[..]),
            (Value::from(b"\x02\x00"), b"\x02\x00"),
            (Value::from(b"\xc1"), b"\xc1\xc4\x01\xc1"),
            (Value::from("text"), b"\xc1\xa4text"),
            (Value::from(-1), b"\xc1\xff"),
            (Value::from(4242), b"\xc1\xcd\x10\x92"),
            (Value::from(2.5), b"\xc1\xcb\x40\x04\0\0\0\0\0\0"),
            (Value::from(false), b"\xc1\xc2"),
        ] {
            assert_eq!(value.to_bytes(), bytes, "{value}");
            assert_eq!(Value::from_bytes(bytes), Ok(value));
        }
    }

    #[test]
    fn no_value_has_two_forms() {
        use ValueError::{Malformed, NotCanonical, OtherType};
        for (bytes, error) in [
            (&b"\xc1"[..], Malformed(DecodeError::CutShort)),
            (b"\xc1\xc1", Malformed(DecodeError::NotMessagePack)),
            (b"\xc1\xa1\xff", Malformed(DecodeError::NotText)),
            (b"\xc1\xc0", OtherType),
            (b"\xc1\x90", OtherType),
            (b"\xc1\x80", OtherType),
            (b"\xc1\xd4\x01\x01", OtherType),
            // A number in more bytes than it needs, a short float, bytes that need no marker, something behind the value.
            (b"\xc1\xcc\x05", NotCanonical),
            (b"\xc1\xd0\x05", NotCanonical),
            (b"\xc1\xca\0\0\0\0", NotCanonical),
            (b"\xc1\xc4\x01a", NotCanonical),
            (b"\xc1\x05\x05", NotCanonical),
        ] {
            assert_eq!(Value::from_bytes(bytes), Err(error), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn every_value_comes_back(value in any_value()) {
            prop_assert_eq!(Value::from_bytes(&value.to_bytes()).unwrap(), value);
        }

        #[test]
        fn what_is_a_value_has_these_bytes(bytes in prop::collection::vec(any::<u8>(), 0..12), marked: bool) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut().filter(|_| marked) {
                *first = MARKER;
            }
            if let Ok(value) = Value::from_bytes(&bytes) {
                prop_assert_eq!(value.to_bytes(), bytes);
            }
        }
    }
}
