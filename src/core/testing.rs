//! What the core's own tests share.

use kademlia_gateways::{Id, Peer};

/// A peer whose address is a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Handle {
    pub(crate) id: Id,
    pub(crate) address: u32,
}

impl Peer for Handle {
    type Addr = u32;

    fn new(id: Id, address: u32, _others: Vec<u32>) -> Self {
        Handle { id, address }
    }

    fn id(&self) -> Id {
        self.id
    }

    fn address(&self) -> &u32 {
        &self.address
    }
}
