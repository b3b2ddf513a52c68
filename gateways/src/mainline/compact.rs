//! Addresses and nodes in the compact form of [BEP 5](https://www.bittorrent.org/beps/bep_0005.html) and
//! [BEP 32](https://www.bittorrent.org/beps/bep_0032.html): the bytes of the IP, then those of the port.

use std::net::{IpAddr, SocketAddr};

use crate::id::Id;

/// Bytes of an id.
pub(super) const ID_BYTES: usize = 20;

/// A node: its id and where it is.
pub(super) type Node = (Id, SocketAddr);

/// An id of exactly 20 bytes.
pub(super) fn id(bytes: &[u8]) -> Option<Id> {
    (bytes.len() == ID_BYTES).then(|| Id::from_prefix(bytes))
}

/// The 20 bytes of an id that count.
pub(super) fn id_bytes(id: &Id) -> &[u8] {
    id.as_bytes().get(..ID_BYTES).unwrap_or_default()
}

/// An address of 6 or 18 bytes; `None` for any other length.
pub(super) fn address(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = bytes.split_at_checked(bytes.len().checked_sub(2)?)?;
    let ip = match ip.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(ip).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(ip).ok()?),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(port.try_into().ok()?)))
}

/// Appends an address.
pub(super) fn push_address(address: SocketAddr, to: &mut Vec<u8>) {
    match address.ip() {
        IpAddr::V4(ip) => to.extend(ip.octets()),
        IpAddr::V6(ip) => to.extend(ip.octets()),
    }
    to.extend(address.port().to_be_bytes());
}

/// The nodes of a `nodes` or `nodes6` string. What is left at its end, where a client has cut it off, is left out; so is
/// whoever is said to be at port 0, where nobody can be.
pub(super) fn nodes(bytes: &[u8], address_bytes: usize) -> impl Iterator<Item = Node> {
    bytes.chunks_exact(ID_BYTES + address_bytes).filter_map(|node| {
        let (name, place) = node.split_at_checked(ID_BYTES)?;
        Some((id(name)?, address(place).filter(|place| place.port() != 0)?))
    })
}

/// A `nodes` string of those of one family.
pub(super) fn nodes_string<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (id, address) in nodes {
        bytes.extend(id_bytes(id));
        push_address(*address, &mut bytes);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_forms_of_the_specification() {
        let place: SocketAddr = "10.1.2.3:6881".parse().unwrap();
        let mut bytes = Vec::new();
        push_address(place, &mut bytes);
        assert_eq!(bytes, [10, 1, 2, 3, 0x1a, 0xe1]);
        assert_eq!(address(&bytes), Some(place));
        assert_eq!((address(&bytes[..5]), address(&[]), address(&[1])), (None, None, None));
    }

    #[test]
    fn a_list_that_was_cut_off_gives_what_is_whole() {
        let node = |n: u8| (Id::from_prefix(&[n; 20]), SocketAddr::from(([10, 0, 0, n], u16::from(n))));
        let bytes = nodes_string([&node(1), &node(0), &node(2)]);
        assert_eq!(bytes.len(), 3 * 26);
        assert_eq!(nodes(&bytes, 6).collect::<Vec<_>>(), [node(1), node(2)]);
        assert_eq!(nodes(&bytes[..77], 6).collect::<Vec<_>>(), [node(1)]);
    }

    proptest! {
        #[test]
        fn nodes_survive(all in prop::collection::vec((any::<[u8; 20]>(), any::<[u8; 16]>(), 1..=u16::MAX), 0..20)) {
            let all: Vec<Node> =
                all.iter().map(|(id, ip, port)| (Id::from_prefix(id), SocketAddr::from((*ip, *port)))).collect();
            prop_assert_eq!(nodes(&nodes_string(&all), 18).collect::<Vec<_>>(), all);
        }
    }
}
