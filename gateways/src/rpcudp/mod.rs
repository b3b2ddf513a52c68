//! [`RpcUdpGateway`]: a node among those of the Python package [`kademlia`](https://pypi.org/project/kademlia/) 2.2, which
//! speak `rpcudp` over UDP.

#[doc(hidden)] // Public for fuzzing alone.
pub mod codec;
mod pack;
mod value;
mod wire;

use multiaddr::Multiaddr;

pub use value::{Integer, OutOfRange, Value, ValueError};

pub use codec::DecodeError;

use crate::foreign::ForeignUdp;
use crate::gateway::{Gateway, GatewayError, Outbox};
use crate::link::Link;
use crate::message::NetworkId;

/// How many values of one host are stored a second, unless [`RpcUdpGateway::with_store_limit`] says otherwise.
const STORES_PER_SECOND: u32 = 200;

/// And at once.
const STORES_AT_ONCE: u32 = 4000;

/// Carries messages as the Python package `kademlia` 2.2 does: over UDP, at `/ip4/…/udp/…` or `/ip6/…/udp/…`.
///
/// A service with this gateway is a node of such a network: others find it, store at it and read from it, and it does so
/// with them. Its keys must be hashed by SHA-1, as they are by default. Values keep their types: see [`Value`].
///
/// The package's wire says less than ours:
///
/// * **It has no tokens.** So a store is taken only once its sender has answered a ping, and each host may store so many
///   values a second. That is all: anyone can overwrite any value.
/// * **It has no versions.** Who writes last wins. What others store here gets a version of this node's clock; what is
///   read from others has one low version, so that of two values the greater one in the order of bytes wins,
///   and what this node holds itself comes before both. As holders pass values on, an old one can come back, as it can in
///   the package.
/// * **It has no deletes, no conditions, and no records that prove their author.** A delete, a `save_if` and a record of
///   another kind than plain are not sent: [`UnsentReason::Inexpressible`](crate::UnsentReason::Inexpressible).
/// * **It has no lifetimes.** Each store begins a new one, and nothing ends while somebody passes it on.
/// * **A request has at most 8 KiB**, and is [`UnsentReason::TooLarge`](crate::UnsentReason::TooLarge) beyond.
/// * **Only a ping is answered with an id.** So whoever is asked something for the first time in twenty minutes is sent a
///   ping along with it.
/// * **An address is an IP and a port.** Contacts of other transports are not named to others.
///
/// No address that has not answered within twenty minutes is sent more than three times the bytes that came from it.
///
/// It dials the same addresses as [`UdpGateway`](crate::UdpGateway), so a service should not have both.
///
/// ```
/// use kademlia_gateways::{Gateway, RpcUdpGateway};
/// let gateway = RpcUdpGateway::bind("/ip4/127.0.0.1/udp/0".parse().unwrap()).unwrap();
/// assert_eq!(gateway.addresses(), [gateway.address().clone()]);
/// ```
#[derive(Debug)]
pub struct RpcUdpGateway(ForeignUdp<wire::RpcUdp>);

impl RpcUdpGateway {
    /// Binds the address; port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Address`] if it is not an address of UDP, [`GatewayError::Bind`] with the cause if it cannot
    /// be bound.
    pub fn bind(address: Multiaddr) -> Result<Self, GatewayError> {
        ForeignUdp::bind("RpcUdpGateway", address, wire::RpcUdp::new()).map(RpcUdpGateway)
    }

    /// For a service of this network, where it is not the default one. The wire does not know of networks, and the service
    /// drops what belongs to another.
    #[must_use]
    pub fn with_network(mut self, network: NetworkId) -> Self {
        self.0.configure(|wire| wire.set_network(network));
        self
    }

    /// One host (of IPv6, one network) may store `per_second` values a second, and `at_once` after a while in which it
    /// stored none. By default 200 and 4,000: a new node is handed all at once what is near to it.
    #[must_use]
    pub fn with_store_limit(mut self, per_second: u32, at_once: u32) -> Self {
        self.0.configure(|wire| wire.set_store_limit(per_second, at_once));
        self
    }

    /// The address that was bound, with its real port.
    pub fn address(&self) -> &Multiaddr {
        self.0.address()
    }
}

impl Gateway for RpcUdpGateway {
    fn name(&self) -> String {
        self.0.name()
    }

    fn addresses(&self) -> Vec<Multiaddr> {
        self.0.addresses()
    }

    fn outbox(&mut self) -> Result<Box<dyn Outbox>, GatewayError> {
        self.0.outbox()
    }

    fn run(&mut self, link: &Link) -> Result<(), GatewayError> {
        self.0.run(link)
    }

    fn reopen(&mut self) -> Result<(), GatewayError> {
        self.0.reopen()
    }

    fn lends_thread(&self) -> bool {
        self.0.lends_thread()
    }
}
