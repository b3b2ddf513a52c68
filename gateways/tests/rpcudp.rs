//! The gateway to the nodes of the Python package passes those checks of the suite that do not compare what arrives with
//! what was sent.
#![cfg(all(feature = "rpcudp", feature = "conformance"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "it is a test")]

use std::net::UdpSocket;

use kademlia_gateways::address::socket_addr;
use kademlia_gateways::conformance::{Check, Transport};
use kademlia_gateways::{Multiaddr, NetworkId, RpcUdpGateway};

fn transport() -> Transport {
    let bind = |wanted: Option<&Multiaddr>| {
        let free = || "/ip4/127.0.0.1/udp/0".parse().unwrap();
        // The network of the suite's messages.
        RpcUdpGateway::bind(wanted.cloned().unwrap_or_else(free)).map(|gateway| gateway.with_network(NetworkId(1)))
    };
    Transport::lossy("rpcudp", bind).with_deadline(std::time::Duration::from_secs(3)).with_datagrams(|to| {
        let (socket, to) = (UdpSocket::bind("127.0.0.1:0")?, socket_addr(to).unwrap().0);
        Ok(move |bytes: &[u8]| socket.send_to(bytes, to).map(drop))
    })
}

#[test]
fn explore() {
    for check in Check::ALL {
        eprintln!("{check:?}: {:?}", check.run(&transport()));
    }
}
