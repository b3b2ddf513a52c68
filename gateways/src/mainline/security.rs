//! Node ids that follow from the node's address: [BEP 42](https://www.bittorrent.org/beps/bep_0042.html). Whoever wants to stand
//! at a place of their choice needs an address for it.

use std::net::IpAddr;

use crc::{CRC_32_ISCSI, Crc};

use super::compact::ID_BYTES;
use crate::id::Id;

const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// The bits of an IP that count: of a network, not of each of its hosts.
const MASK_V4: [u8; 4] = [0x03, 0x0f, 0x3f, 0xff];
const MASK_V6: [u8; 8] = [0x01, 0x03, 0x07, 0x0f, 0x1f, 0x3f, 0x7f, 0xff];

/// How many bits at the front of an id follow from the address.
const BITS: usize = 21;

/// An id for a node at `ip`; what does not follow from that is taken from `random`.
pub(super) fn id_for(ip: IpAddr, random: [u8; ID_BYTES]) -> Id {
    let last = random.last().copied().unwrap_or_default();
    let [a, b, c, _] = checksum(ip, last).to_be_bytes();
    let mut id = random;
    let [first, second, third, ..] = &mut id;
    (*first, *second, *third) = (a, b, (c & 0xf8) | (*third & 0x07));
    Id::from_prefix(&id)
}

/// Whether a node with this id may be at `ip`. In local networks, where addresses are anybody's, any id may.
pub(super) fn is_sound(id: &Id, ip: IpAddr) -> bool {
    let last = id.as_bytes().get(ID_BYTES - 1).copied().unwrap_or_default();
    is_local(ip) || Id::from_prefix(&checksum(ip, last).to_be_bytes()).common_prefix_len(id) >= BITS
}

/// Whether no node far away can be at `ip`.
pub(super) fn is_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unique_local() || ip.is_unspecified(),
    }
}

fn checksum(ip: IpAddr, random: u8) -> u32 {
    let mut bytes: Vec<u8> = match ip.to_canonical() {
        IpAddr::V4(ip) => masked(&ip.octets(), &MASK_V4),
        IpAddr::V6(ip) => masked(&ip.octets(), &MASK_V6),
    };
    if let Some(first) = bytes.first_mut() {
        *first |= (random & 0x07) << 5;
    }
    CRC32C.checksum(&bytes)
}

fn masked(ip: &[u8], mask: &[u8]) -> Vec<u8> {
    ip.iter().zip(mask).map(|(ip, mask)| ip & mask).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_the_specification() {
        let examples = [
            ("124.31.75.21", 1, [0x5f, 0xbf, 0xbf]),
            ("21.75.31.124", 86, [0x5a, 0x3c, 0xe9]),
            ("65.23.51.170", 22, [0xa5, 0xd4, 0x32]),
            ("84.124.73.14", 65, [0x1b, 0x03, 0x21]),
            ("43.213.53.83", 90, [0xe5, 0x6f, 0x6c]),
        ];
        for (ip, random, start) in examples {
            let ip: IpAddr = ip.parse().unwrap();
            let mut whole = [0; ID_BYTES];
            (whole[2], whole[19]) = (start[2], random);
            let id = id_for(ip, whole);
            assert_eq!((&id.as_bytes()[..3], id.as_bytes()[19]), (&start[..], random), "{ip}");
            assert!(is_sound(&id, ip));
            for bit in 0..BITS {
                let mut other = *id.as_bytes();
                other[bit / 8] ^= 0x80 >> (bit % 8);
                assert!(!is_sound(&Id::new(other), ip), "{ip}, bit {bit}");
            }
        }
    }

    #[test]
    fn any_id_is_sound_in_a_local_network() {
        for ip in ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.1.1", "::1", "fe80::1", "fd00::1"] {
            assert!(is_sound(&Id::ZERO, ip.parse().unwrap()), "{ip}");
        }
        assert!(!is_sound(&Id::ZERO, "8.8.8.8".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn what_is_made_for_an_address_is_sound_there(ip in any::<IpAddr>(), random in any::<[u8; ID_BYTES]>()) {
            let id = id_for(ip, random);
            prop_assert!(is_sound(&id, ip));
            prop_assert_eq!(&id.as_bytes()[3..ID_BYTES], &random[3..]);
        }
    }
}
