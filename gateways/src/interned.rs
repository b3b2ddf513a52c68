//! The addresses that a thread has read lately, each kept once.
//!
//! A node reads the same few hundred addresses again and again: each reply to a lookup names twenty contacts. To check one and
//! to allocate it twice, for its bytes and for the count of who shares them, takes longer than to find it here.

use std::cell::RefCell;
use std::fmt;
use std::hash::{DefaultHasher, Hasher};

use multiaddr::Multiaddr;
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

/// So many addresses a thread keeps, each at the place that its bytes name.
const PLACES: usize = 256;

/// Longer addresses are rare, and strangers choose them: they are not kept.
const LONGEST: usize = 64;

thread_local! {
    static KEPT: RefCell<Vec<Multiaddr>> = const { RefCell::new(Vec::new()) };
}

/// Reads an address.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Multiaddr, D::Error> {
    if deserializer.is_human_readable() {
        Multiaddr::deserialize(deserializer)
    } else {
        deserializer.deserialize_bytes(Read)
    }
}

struct Read;

impl Visitor<'_> for Read {
    type Value = Multiaddr;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the bytes of a multiaddr")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Multiaddr, E> {
        let read = || Multiaddr::try_from(bytes.to_vec()).map_err(E::custom);
        if bytes.len() > LONGEST {
            return read();
        }
        KEPT.with_borrow_mut(|kept| {
            if kept.is_empty() {
                kept.resize(PLACES, Multiaddr::empty());
            }
            match kept.get_mut(place(bytes)) {
                Some(known) if known.as_ref() == bytes => Ok(known.clone()),
                Some(other) => {
                    *other = read()?;
                    Ok(other.clone())
                }
                None => read(),
            }
        })
    }
}

fn place(bytes: &[u8]) -> usize {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    // The remainder is below 256.
    (hasher.finish() % PLACES as u64) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::value::Error;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Multiaddr, Error> {
        Read.visit_bytes(bytes)
    }

    #[test]
    fn an_address_is_kept_once() {
        let address: Multiaddr = "/ip4/10.1.2.3/udp/4567".parse().unwrap();
        let (first, second) = (read(address.as_ref()).unwrap(), read(address.as_ref()).unwrap());
        assert_eq!((&first, &second), (&address, &address));
        assert_eq!(first.as_ref().as_ptr(), second.as_ref().as_ptr());
    }

    #[test]
    fn what_is_no_address_is_refused_each_time() {
        for _ in 0..2 {
            assert!(read(&[4, 127, 0, 0]).is_err());
        }
        assert_eq!(read(&[]).unwrap(), Multiaddr::empty());
    }

    #[test]
    fn long_addresses_are_read_and_not_kept() {
        let address: Multiaddr = format!("/unix/{}", "a".repeat(LONGEST)).parse().unwrap();
        let (first, second) = (read(address.as_ref()).unwrap(), read(address.as_ref()).unwrap());
        assert_eq!((&first, &second), (&address, &address));
        assert_ne!(first.as_ref().as_ptr(), second.as_ref().as_ptr());
    }

    proptest! {
        /// Far more addresses than places, so that many share one.
        #[test]
        fn what_is_read_is_what_was_written(ports in prop::collection::vec(0..2000_u16, 1..2000)) {
            for port in ports {
                let address: Multiaddr = format!("/ip4/10.0.0.1/udp/{port}").parse().unwrap();
                prop_assert_eq!(read(address.as_ref()).unwrap(), address);
            }
        }
    }
}
