//! [`Handle`]: a peer of four bytes.

use kademlia_dht::gateway::{Id, KeySpace, Peer};

/// The key space of all simulated ids.
pub const KEY_SPACE: KeySpace = KeySpace::SHA1;

/// A simulated peer: a number, which is its address and from which its id follows.
///
/// A routing table of a million nodes with addresses and ids in it would not fit any machine. A number of four bytes
/// does, and mixing an id out of it costs less than a look into a table that no cache holds.
///
/// ```
/// use kademlia_dht::gateway::Peer;
/// use kademlia_simulator::Handle;
///
/// assert_eq!(size_of::<Handle>(), 4);
/// assert_eq!(Handle::of(7).id(), Handle::of(7).id());
/// assert_ne!(Handle::of(7).id(), Handle::of(8).id());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(u32);

impl Handle {
    /// The peer with this number.
    pub const fn of(number: u32) -> Self {
        Handle(number)
    }

    /// Its number.
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl Peer for Handle {
    type Addr = u32;

    fn new(_id: Id, address: u32, _others: Vec<u32>) -> Self {
        Handle(address)
    }

    #[inline]
    fn id(&self) -> Id {
        id_of(u64::from(self.0))
    }

    fn address(&self) -> &u32 {
        &self.0
    }
}

/// The id that follows from a number. It is made anew each time that it is looked at, so it must be quick.
#[inline]
fn id_of(number: u64) -> Id {
    let (first, second) = (mix(number), mix(number ^ (1 << 40)));
    let front = u128::from(first) << 64 | u128::from(second);
    let back = u128::from((first ^ second) as u32) << 96;
    let mut bytes = [0; 32];
    let (to_front, to_back) = bytes.split_at_mut(16);
    to_front.copy_from_slice(&front.to_be_bytes());
    to_back.copy_from_slice(&back.to_be_bytes());
    Id::new(bytes)
}

/// The finalizer of SplitMix64: a bijection in which each bit of the input changes half of the output's.
#[inline]
pub(crate) const fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_lie_evenly_in_the_key_space() {
        let mut firsts = [0usize; 16];
        for number in 0..16_000 {
            let id = Handle::of(number).id();
            assert!(KEY_SPACE.contains(&id));
            firsts[usize::from(id.as_bytes()[0] >> 4)] += 1;
        }
        assert!(firsts.iter().all(|count| (850..1150).contains(count)), "{firsts:?}");
    }
}
