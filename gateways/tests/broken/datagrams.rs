//! A receiver of datagrams with one flaw, good enough for the checks with raw datagrams. It sends nothing.

use std::net::UdpSocket;
use std::time::Duration;

use kademlia_gateways::address::{IpTransport, ip_address, socket_addr};
use kademlia_gateways::conformance::Transport;
use kademlia_gateways::*;

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum DatagramFlaw {
    None,
    PanicsOnGarbage,
    CountsNoGarbage,
    CutsShort,
    BelievesSources,
}

pub(crate) fn datagrams(flaw: DatagramFlaw) -> Transport {
    let bind = move |_: Option<&Multiaddr>| {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        // It looks again and again whether it must stop, which is a flaw that does not matter here.
        socket.set_read_timeout(Some(Duration::from_millis(5)))?;
        Ok(Datagrams { flaw, socket })
    };
    let open = |to: &Multiaddr| {
        let (to, socket) = (socket_addr(to).unwrap().0, UdpSocket::bind("127.0.0.1:0")?);
        Ok(move |bytes: &[u8]| socket.send_to(bytes, to).map(drop))
    };
    Transport::lossy("broken datagrams", bind).with_datagrams(open)
}

struct Datagrams {
    flaw: DatagramFlaw,
    socket: UdpSocket,
}

impl Gateway for Datagrams {
    fn name(&self) -> String {
        "broken datagrams".to_owned()
    }

    fn addresses(&self) -> Vec<Multiaddr> {
        vec![ip_address(self.socket.local_addr().unwrap(), IpTransport::Udp)]
    }

    fn outbox(&mut self) -> Result<Box<dyn Outbox>, GatewayError> {
        Ok(Box::new(Queue::new(1, SizeLimits::DATAGRAM, |_| false).0))
    }

    fn run(&mut self, link: &Link) -> Result<(), GatewayError> {
        let largest = SizeLimits::DATAGRAM.largest;
        let mut buffer = vec![0; if self.flaw == DatagramFlaw::CutsShort { largest } else { largest + 1 }];
        while !link.stopping() {
            let Ok((size, from)) = self.socket.recv_from(&mut buffer) else { continue };
            match codec::decode(&buffer[..size]) {
                _ if size > largest => link.count(Count::Oversized),
                Ok(envelope) => {
                    let mut inbound = Inbound::new(ip_address(from, IpTransport::Udp), envelope);
                    inbound.proved = self.flaw == DatagramFlaw::BelievesSources;
                    link.deliver_or_drop(vec![inbound]);
                }
                Err(error) if self.flaw == DatagramFlaw::PanicsOnGarbage => panic!("{error}"),
                Err(_) if self.flaw == DatagramFlaw::CountsNoGarbage => {}
                Err(_) => link.count(Count::Malformed),
            }
        }
        Ok(())
    }
}
