//! The values that users save: each is unlike every other, so that it tells where it belongs.

use bytes::Bytes;
use kademlia_dht::gateway::{Id, Record, Version};

/// A value that was made.
#[derive(Debug)]
struct Made {
    key: Id,
    /// Under which version it was seen first.
    version: Option<Version>,
}

/// All values that were made, by their serial numbers.
#[derive(Debug, Default)]
pub(super) struct Payloads(Vec<Made>);

impl Payloads {
    /// A value of this many bytes (at least eight) for a key.
    pub(super) fn make(&mut self, key: Id, bytes: usize) -> Bytes {
        let serial = self.0.len() as u64;
        self.0.push(Made { key, version: None });
        let words = std::iter::repeat(serial.to_le_bytes()).flatten();
        words.take(bytes.max(8)).collect()
    }

    /// The key that a value was made for; `None` if it was changed, or never made.
    pub(super) fn key_of(&self, value: &Bytes) -> Option<Id> {
        Some(self.0.get(place(value)?)?.key)
    }

    /// Whether the value of a record was made for this key, and was never under another version.
    pub(super) fn fits(&mut self, key: &Id, record: &Record) -> bool {
        let Some(made) = place(&record.value).and_then(|place| self.0.get_mut(place)) else { return false };
        made.key == *key && *made.version.get_or_insert(record.version) == record.version
    }
}

/// Where a value stands, if nobody changed it.
fn place(value: &Bytes) -> Option<usize> {
    let serial = value.first_chunk()?;
    let intact = value.iter().zip(serial.iter().cycle()).all(|(byte, made)| byte == made);
    usize::try_from(u64::from_le_bytes(*serial)).ok().filter(|_| intact)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_value_belongs_to_one_key_and_one_version() {
        let mut payloads = Payloads::default();
        let (key, other) = (Id::from_prefix(&[1]), Id::from_prefix(&[2]));
        let (value, next) = (payloads.make(key, 100), payloads.make(key, 0));
        assert_eq!((value.len(), next.len(), payloads.key_of(&value)), (100, 8, Some(key)));
        let record = |value: &Bytes, version| Record::plain(value.clone(), Version(version), Duration::from_secs(9));
        assert!(payloads.fits(&key, &record(&value, 1)) && payloads.fits(&key, &record(&value, 1)));
        assert!(!payloads.fits(&key, &record(&value, 2)), "the old value under a new version");
        assert!(!payloads.fits(&other, &record(&next, 3)));
        assert!(payloads.fits(&key, &record(&next, 3)));
    }

    #[test]
    fn a_value_that_was_changed_is_nobodys() {
        let mut payloads = Payloads::default();
        let mut value = payloads.make(Id::ZERO, 20).to_vec();
        value[19] ^= 1;
        assert_eq!(payloads.key_of(&value.into()), None);
        assert_eq!(payloads.key_of(&Bytes::from_static(&[9; 20])), None);
    }
}
