//! [`MainlineGateway`].

use std::net::IpAddr;

use multiaddr::Multiaddr;

use super::handle::MainlineHandle;
use super::security;
use super::wire::MainlineWire;
use crate::address;
use crate::foreign::ForeignUdp;
use crate::gateway::{Gateway, GatewayError, Outbox};
use crate::id::Id;
use crate::link::Link;
use crate::message::NetworkId;

/// Makes a node one of BitTorrent's DHT: `/ip4/…/udp/…` or `/ip6/…/udp/…`.
///
/// The node must have ids of 20 bytes, hash by SHA-1, and have k = 8. Of its records immutable and signed ones can be kept by
/// others, and what it says in the [`handle`](MainlineGateway::handle) stands for peers. Tombstones, plain and owned records, and
/// records that have lived for more than twelve minutes cannot be expressed on this wire.
///
/// IPv4 and IPv6 are two networks: a gateway speaks one of them, and its handle is of it alone.
///
/// Whoever asks from an address that has not answered lately is asked back first, and gets at most three times the bytes that
/// it sent if it does not answer that.
///
/// ```
/// use kademlia_gateways::Gateway;
/// use kademlia_gateways::mainline::MainlineGateway;
/// let gateway = MainlineGateway::bind("/ip4/127.0.0.1/udp/0".parse().unwrap()).unwrap();
/// assert_eq!(gateway.name(), "mainline");
/// ```
#[derive(Debug)]
pub struct MainlineGateway {
    udp: ForeignUdp<MainlineWire>,
    handle: MainlineHandle,
}

impl MainlineGateway {
    /// Binds the address; port 0 takes a free one. 6881 is usual.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Address`] if it is not an address of UDP, [`GatewayError::Bind`] with the cause if it cannot
    /// be bound.
    pub fn bind(address: Multiaddr) -> Result<Self, GatewayError> {
        let is_v4 = !matches!(address::ip(&address), Some(IpAddr::V6(_)));
        let wire = MainlineWire::new(is_v4);
        let handle = wire.handle.clone();
        let udp = ForeignUdp::bind("MainlineGateway", address, wire)?;
        handle.bound(address::socket_addr(udp.address()).map(|(bound, _)| bound));
        Ok(MainlineGateway { udp, handle })
    }

    /// For a service of this network, where it is not the default one. The wire does not know of networks, and the service
    /// drops what belongs to another.
    #[must_use]
    pub fn with_network(mut self, network: NetworkId) -> Self {
        self.udp.configure(|wire| wire.network = network);
        self
    }

    /// The address that was bound, with its real port.
    pub fn address(&self) -> &Multiaddr {
        self.udp.address()
    }

    /// What it shares with whoever uses it.
    pub fn handle(&self) -> MainlineHandle {
        self.handle.clone()
    }

    /// An id that a node at `ip` may have (BEP 42); what does not follow from that is taken from `random`.
    pub fn id_for(ip: IpAddr, random: [u8; 20]) -> Id {
        security::id_for(ip, random)
    }

    /// Whether a node at `ip` may have this id (BEP 42). In local networks it may have any.
    pub fn may_have(ip: IpAddr, id: &Id) -> bool {
        security::is_sound(id, ip)
    }
}

impl Gateway for MainlineGateway {
    fn name(&self) -> String {
        self.udp.name()
    }

    fn addresses(&self) -> Vec<Multiaddr> {
        self.udp.addresses()
    }

    fn outbox(&mut self) -> Result<Box<dyn Outbox>, GatewayError> {
        self.udp.outbox()
    }

    fn run(&mut self, link: &Link) -> Result<(), GatewayError> {
        self.udp.run(link)
    }

    fn reopen(&mut self) -> Result<(), GatewayError> {
        self.udp.reopen()
    }

    fn lends_thread(&self) -> bool {
        self.udp.lends_thread()
    }
}
