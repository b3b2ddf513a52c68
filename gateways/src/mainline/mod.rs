//! BitTorrent's DHT, the largest there is: [`MainlineGateway`].
//!
//! Spoken are [BEP 5](https://www.bittorrent.org/beps/bep_0005.html) (peers),
//! [BEP 32](https://www.bittorrent.org/beps/bep_0032.html) (IPv6), [BEP 42](https://www.bittorrent.org/beps/bep_0042.html) (ids
//! that follow from addresses), [BEP 43](https://www.bittorrent.org/beps/bep_0043.html) (read-only nodes),
//! [BEP 44](https://www.bittorrent.org/beps/bep_0044.html) (items) and
//! [BEP 51](https://www.bittorrent.org/beps/bep_0051.html) (samples of the keys of peers).

mod answering;
mod asking;
mod compact;
#[doc(hidden)] // Public for fuzzing alone.
pub mod fuzzing;
mod gateway;
mod handle;
mod krpc;
mod latest;
mod peers;
mod proved;
mod putting;
mod read;
mod security;
mod serving;
#[cfg(test)]
mod tests;
mod tokens;
mod votes;
mod wire;
#[cfg(test)]
mod wire_tests;
mod write;

pub use gateway::MainlineGateway;
pub use handle::{MainlineHandle, Watch};

/// Nodes by which everybody comes into the public network, each run by makers of a well-known client. They are joined through as
/// through any other, once [`resolve`](crate::address::resolve) has found where they are.
///
/// ```
/// use kademlia_gateways::{Multiaddr, mainline::PUBLIC_ROUTERS};
/// let routers: Vec<Multiaddr> = PUBLIC_ROUTERS.iter().filter_map(|address| address.parse().ok()).collect();
/// assert_eq!(routers.len(), PUBLIC_ROUTERS.len());
/// ```
pub const PUBLIC_ROUTERS: [&str; 4] = [
    "/dns/router.bittorrent.com/udp/6881",
    "/dns/router.utorrent.com/udp/6881",
    "/dns/dht.transmissionbt.com/udp/6881",
    "/dns/dht.libtorrent.org/udp/25401",
];
