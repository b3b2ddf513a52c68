//! How what is saved is written in the file: rows of bincode, which [`SCHEMA`] numbers.

use bincode::config::{self, Configuration, Limit, LittleEndian, Varint};
use kademlia_gateways::{Author, Id};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The number of this way of writing. What changes the types of the rows, or bincode, raises it.
pub(super) const SCHEMA: u32 = 1;

/// What decoding a row may claim to read: a value of 64 KiB, and what goes around it. The decoder counts eight bytes for
/// a number that takes one.
const MAX_CLAIMED_BYTES: usize = 1 << 20;

fn format() -> Configuration<LittleEndian, Varint, Limit<MAX_CLAIMED_BYTES>> {
    config::standard().with_limit::<MAX_CLAIMED_BYTES>()
}

pub(super) fn encode(row: &impl Serialize) -> Result<Vec<u8>, bincode::error::EncodeError> {
    bincode::serde::encode_to_vec(row, format())
}

/// `None` if it is no such row.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (row, read) = bincode::serde::decode_from_slice(bytes, format()).ok()?;
    (read == bytes.len()).then_some(row)
}

/// What the row of a place is found by.
pub(super) fn place(key: &Id, author: &Author) -> Vec<u8> {
    let mut place = key.as_bytes().to_vec();
    match author {
        Author::Any => place.push(0),
        Author::Content => place.push(1),
        Author::Owner(owner) => {
            place.push(2);
            place.extend_from_slice(owner);
        }
    }
    place
}

/// The number of a schema with its complement, so that damage passes for no number.
pub(super) fn schema_row(schema: u32) -> [u8; 8] {
    (u64::from(schema) << 32 | u64::from(!schema)).to_be_bytes()
}

pub(super) fn schema_in(row: &[u8]) -> Option<u32> {
    let row = u64::from_be_bytes(row.try_into().ok()?);
    let schema = u32::try_from(row >> 32).ok()?;
    (schema_row(schema) == row.to_be_bytes()).then_some(schema)
}

#[cfg(test)]
mod tests {
    use super::super::{Identity, SavedContact, SavedPublication, SavedRecord};
    use super::*;
    use kademlia_gateways::{NetworkId, Record, RecordKind, Version};
    use proptest::prelude::*;
    use std::time::Duration;

    fn saved() -> SavedRecord {
        let record = Record::plain("value", Version(300), Duration::from_secs(60));
        SavedRecord { key: Id::from_prefix(&[1, 2]), record, expires: 1_800_000_000_000, source: Some(7), firm: 0 }
    }

    /// If this fails, files of users can no longer be read: raise the schema, and read both.
    #[test]
    fn rows_are_written_as_schema_1_says() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(&encode(&saved()).unwrap()), ROW);
        let identity = Identity { id: Id::from_prefix(&[7; 20]), network: NetworkId(5), key_bytes: 20 };
        assert_eq!(hex(&encode(&identity).unwrap()), format!("14{}0514", "07".repeat(20)));
        assert_eq!(hex(&schema_row(SCHEMA)), "00000001fffffffe");
    }
    const ROW: &str = "0201020576616c7565fb2c01003c00fd00505c18a3010000010700";

    #[test]
    fn the_largest_row_of_all_is_read_and_what_is_longer_or_cut_is_not() {
        let record = Record::new(RecordKind::Immutable, vec![9; 64 << 10], Version(u64::MAX), Duration::MAX);
        let row = SavedRecord { record, ..saved() };
        let mut bytes = encode(&row).unwrap();
        assert_eq!(decode(&bytes), Some(row));
        bytes.push(0);
        assert_eq!(decode::<SavedRecord>(&bytes), None);
        assert_eq!(decode::<SavedRecord>(&bytes[..bytes.len() - 2]), None);
    }

    proptest! {
        #[test]
        fn no_row_makes_reading_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            decode::<SavedRecord>(&bytes);
            decode::<SavedPublication>(&bytes);
            decode::<SavedContact>(&bytes);
        }
    }

    #[test]
    fn places_differ_as_slots_do_and_a_damaged_schema_is_none() {
        let authors = [Author::Any, Author::Content, Author::Owner([0; 33]), Author::Owner([1; 33])];
        let mut places: Vec<_> = authors.iter().map(|author| place(&Id::ZERO, author)).collect();
        places.dedup();
        assert_eq!(places.len(), authors.len());
        assert_eq!(schema_in(&schema_row(77)), Some(77));
        for bit in 0..64 {
            let mut row = schema_row(SCHEMA);
            row[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(schema_in(&row), None);
        }
    }
}
