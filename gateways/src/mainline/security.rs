//! Node ids that follow from the node's address: [BEP 42](https://www.bittorrent.org/beps/bep_0042.html). Whoever wants to stand
//! at a place of their choice needs an address for it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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

/// Whether hosts anywhere can be reached at `ip`: it is of no local network, and set aside for nothing else.
pub(super) fn is_global(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_global_v4(ip),
        IpAddr::V6(ip) => is_global_v6(ip),
    }
}

fn is_global_v4(ip: Ipv4Addr) -> bool {
    let is_special = match ip.octets() {
        // "This network", between carriers and their customers, protocols, benchmarks, multicast and what is reserved.
        [0 | 224.., ..] | [192, 0, 0, _] | [198, 18 | 19, ..] => true,
        [100, second, ..] => second & 0xc0 == 64,
        _ => ip.is_documentation(),
    };
    !is_special && !is_local(ip.into())
}

/// Of IPv6 only 2000::/3 is given out; within it some is set aside.
fn is_global_v6(ip: Ipv6Addr) -> bool {
    match ip.segments() {
        // Protocols, documentation, and addresses of IPv4 in those of IPv6, which lead wherever those do.
        [0x2001, ..0x0200, ..] | [0x2001, 0x0db8, ..] | [0x3fff, ..0x1000, ..] => false,
        [0x2002, high, low, ..] => is_global_v4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low))),
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

/// The network that has one voice where many are to agree: whoever has one address often has others beside it.
pub(super) fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() & (!0 << 16)).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (!0 << 96)).into(),
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

    #[test]
    fn what_is_global() {
        for ip in ["8.8.8.8", "1.1.1.1", "100.63.0.1", "100.128.0.1", "198.20.0.1", "223.255.255.255", "2a00::1"] {
            assert!(is_global(ip.parse().unwrap()), "{ip}");
        }
        let special = [
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.1.1",
            "172.16.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "ff02::1",
            "64:ff9b::1",
            "2001:db8::1",
            "2001::1",
            "2002:7f00:1::1",
            "::ffff:127.0.0.1",
        ];
        for ip in special {
            assert!(!is_global(ip.parse().unwrap()), "{ip}");
        }
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
