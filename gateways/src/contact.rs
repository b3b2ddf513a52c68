//! Contacts: an id and the addresses at which it can be reached.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;

use multiaddr::Multiaddr;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher24;

use crate::id::Id;

/// The most addresses that one contact carries.
pub const MAX_ADDRESSES: usize = 4;

/// The longest address that is taken from the wire, in bytes.
pub const MAX_ADDRESS_BYTES: usize = 512;

/// What the Kademlia core needs to know of a peer: who it is and where requests to it go.
///
/// Production uses [`Contact`]. A simulator can use a handle of four bytes instead.
pub trait Peer: Clone + fmt::Debug + PartialEq {
    /// Where a message goes to and comes from.
    type Addr: Clone + fmt::Debug + Eq + Ord + Hash;

    /// The peer `id`, seen at `address`, which says of itself that it can be reached at `others` as well.
    fn new(id: Id, address: Self::Addr, others: Vec<Self::Addr>) -> Self;

    /// Its id.
    fn id(&self) -> Id;

    /// The address that requests are sent to.
    fn address(&self) -> &Self::Addr;

    /// Further addresses that it is said to have.
    fn others(&self) -> &[Self::Addr] {
        &[]
    }

    /// How many relays a message to `address` passes through. Fewer is better.
    fn relays(_address: &Self::Addr) -> usize {
        0
    }

    /// The first relay on the way to `address`, if there is one.
    fn relay(_address: &Self::Addr) -> Option<Self::Addr> {
        None
    }

    /// What shares one allowance where a node limits what others may store: for a [`Contact`] the IP, or the whole
    /// address of another transport, and for a circuit those of its first relay, the rest being hearsay.
    fn source(_address: &Self::Addr) -> u64 {
        0
    }
}

/// A peer of a network: its id, the address that requests to it use, and others that it is said to have.
///
/// Only [`address`](Contact::address) has been proved by an answer where the contact stands in a routing table.
/// From the wire, all addresses are hearsay.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "RawContact")]
pub struct Contact {
    id: Id,
    address: Multiaddr,
    others: Vec<Multiaddr>,
}

impl Contact {
    /// A contact with one address.
    pub fn new(id: Id, address: Multiaddr) -> Self {
        Contact { id, address, others: Vec::new() }
    }

    /// A contact with several addresses: repeated ones, and those beyond [`MAX_ADDRESSES`], are left out.
    pub fn with_others(id: Id, address: Multiaddr, others: Vec<Multiaddr>) -> Self {
        let mut kept: Vec<Multiaddr> = Vec::with_capacity(others.len().min(MAX_ADDRESSES - 1));
        for other in others {
            if kept.len() < MAX_ADDRESSES - 1 && other != address && !kept.contains(&other) {
                kept.push(other);
            }
        }
        Contact { id, address, others: kept }
    }

    /// Its id.
    pub fn id(&self) -> Id {
        self.id
    }

    /// The address that requests are sent to.
    pub fn address(&self) -> &Multiaddr {
        &self.address
    }

    /// Further addresses, at most three.
    pub fn others(&self) -> &[Multiaddr] {
        &self.others
    }

    /// All addresses, the one in use first.
    pub fn addresses(&self) -> impl Iterator<Item = &Multiaddr> {
        std::iter::once(&self.address).chain(&self.others)
    }
}

impl fmt::Display for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.id, self.address)
    }
}

impl Peer for Contact {
    type Addr = Multiaddr;

    fn new(id: Id, address: Multiaddr, others: Vec<Multiaddr>) -> Self {
        Contact::with_others(id, address, others)
    }

    fn id(&self) -> Id {
        self.id
    }

    fn address(&self) -> &Multiaddr {
        &self.address
    }

    fn others(&self) -> &[Multiaddr] {
        &self.others
    }

    fn relays(address: &Multiaddr) -> usize {
        crate::address::relays(address)
    }

    fn relay(address: &Multiaddr) -> Option<Multiaddr> {
        let (first, rest) = crate::address::split_first(address);
        rest.map(|_| first)
    }

    fn source(address: &Multiaddr) -> u64 {
        let mut hasher = SipHasher24::new();
        match crate::address::ip(address) {
            // Whoever has one address of IPv6 has the 2^64 of its network.
            Some(IpAddr::V6(ip)) => (ip.to_bits() >> 64).hash(&mut hasher),
            Some(ip) => ip.hash(&mut hasher),
            None => crate::address::split_first(address).0.hash(&mut hasher),
        }
        hasher.finish()
    }
}

/// A contact as it comes from the wire, before its bounds are checked.
#[derive(Deserialize)]
struct RawContact {
    id: Id,
    #[serde(deserialize_with = "crate::interned::deserialize")]
    address: Multiaddr,
    others: Vec<Multiaddr>,
}

impl TryFrom<RawContact> for Contact {
    type Error = &'static str;

    fn try_from(raw: RawContact) -> Result<Self, Self::Error> {
        if raw.others.len() >= MAX_ADDRESSES {
            return Err("a contact has at most four addresses");
        }
        let contact = Contact { id: raw.id, address: raw.address, others: raw.others };
        if contact.addresses().any(|address| address.is_empty() || address.len() > MAX_ADDRESS_BYTES) {
            return Err("an address has 1 to 512 bytes");
        }
        Ok(contact)
    }
}
