//! A gateway that carries no message larger than a datagram.

use kademlia_dht::Multiaddr;
use kademlia_dht::gateway::{Gateway, GatewayError, Link, Outbound, Outbox, SizeLimits, UdpGateway, Unsent};

/// UDP without parts, as a gateway for datagrams can be that somebody else wrote.
pub(crate) struct OneDatagram(UdpGateway);

impl OneDatagram {
    pub(crate) fn bind() -> Self {
        OneDatagram(UdpGateway::bind("/ip4/127.0.0.1/udp/0".parse().unwrap()).unwrap())
    }
}

impl Gateway for OneDatagram {
    fn name(&self) -> String {
        "one datagram".to_owned()
    }

    fn addresses(&self) -> Vec<Multiaddr> {
        self.0.addresses()
    }

    fn outbox(&mut self) -> Result<Box<dyn Outbox>, GatewayError> {
        Ok(Box::new(OneDatagramOutbox(self.0.outbox()?)))
    }

    fn run(&mut self, link: &Link) -> Result<(), GatewayError> {
        self.0.run(link)
    }
}

struct OneDatagramOutbox(Box<dyn Outbox>);

impl Outbox for OneDatagramOutbox {
    fn dials(&self, address: &Multiaddr) -> bool {
        self.0.dials(address)
    }

    fn limits(&self) -> SizeLimits {
        SizeLimits::DATAGRAM
    }

    fn send(&mut self, outbound: Outbound) -> Result<(), Unsent> {
        let at_most = Some(outbound.limits(SizeLimits::DATAGRAM).largest);
        self.0.send(Outbound { at_most, ..outbound })
    }
}
