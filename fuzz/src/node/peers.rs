//! Those whom the node meets: more than its table has room for, at addresses of every transport.

use std::sync::LazyLock;

use kademlia_dht::gateway::address::{join, unix_address};
use kademlia_dht::gateway::{Contact, Id, Multiaddr};

/// The id of the node.
pub(super) const OWN: u16 = 0xA55A;

/// Contacts in a bucket.
pub(super) const K: usize = 4;

/// Bytes of an id that count.
pub(super) const KEY_BYTES: usize = 2;

/// Bits of an id that count, which is how many buckets there are.
pub(super) const BITS: usize = 8 * KEY_BYTES;

pub(super) fn id(number: u16) -> Id {
    Id::from_prefix(&number.to_be_bytes())
}

/// For each bucket as many peers as fit, and as many again.
pub(super) static PEERS: LazyLock<Vec<Contact>> = LazyLock::new(|| {
    let mut peers = Vec::new();
    for bucket in 0..BITS {
        let deeper = BITS - 1 - bucket;
        for low in (0_u16..).take((2 * K).min(1 << deeper)) {
            let differs = 1 << deeper | low;
            peers.push(Contact::new(id(OWN ^ differs), address(peers.len())));
        }
    }
    peers
});

/// Those that fill every bucket, and no more.
pub(super) fn table() -> Vec<Contact> {
    let mut room = [K; BITS];
    let fits = |peer: &&Contact| {
        let room = &mut room[peer.id().common_prefix_len(&id(OWN))];
        *room = room.wrapping_sub(1);
        *room < K
    };
    PEERS.iter().filter(fits).cloned().collect()
}

/// The peer at an address.
pub(super) fn at(address: &Multiaddr) -> Option<&'static Contact> {
    PEERS.iter().find(|peer| peer.address() == address)
}

/// The peers nearest to a target.
pub(super) fn nearest(target: &Id) -> Vec<Contact> {
    let mut peers = PEERS.clone();
    peers.sort_by_key(|peer| peer.id().distance(target));
    peers.truncate(K);
    peers
}

/// The address of the peer of this number.
fn address(number: usize) -> Multiaddr {
    let ip = |number: usize| format!("/ip4/10.0.{}.{}/udp/4001", number / 8, number % 8);
    let parse = |text: String| text.parse().expect("an address");
    match number % 8 {
        0..=3 => parse(ip(number)),
        4..=6 => unix_address(format!("/run/{number}.sock")).expect("an absolute path"),
        _ => join(&[parse(ip(number % 4)), parse(format!("/memory/{number}"))]).expect("two parts"),
    }
}
