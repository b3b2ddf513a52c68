//! The gateway to the nodes of the Python package passes what of the suite is no matter of our own messages, frees and takes
//! its address again, sleeps, and counts what it cannot read.
#![cfg(feature = "rpcudp")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "it is a test")]

use std::net::UdpSocket;

use kademlia_gateways::address::socket_addr;
use kademlia_gateways::conformance::{Check, Outcome, TestNode, Transport, messages};
use kademlia_gateways::rpcudp::codec::{self, Call};
use kademlia_gateways::{Body, Gateway, Inbound, Multiaddr, NetworkId, Request, RpcUdpGateway};

/// All others wait for a message with the tag, the token or the bytes that it had where it was sent, which this wire does
/// not carry: there each request has an id of this gateway's own, and its size is that of another encoding. What they check
/// is checked here, in the unit tests of the translation, and among services.
const CHECKS: &[Check] = &[
    Check::ReachesItself,
    Check::DialsOnlyItsOwn,
    Check::HandsBackWhenFull,
    Check::RefusesForeignAddresses,
    Check::NamesAddressInUse,
    Check::ClosesItsOutbox,
    Check::StopsBeforeItRuns,
    Check::StopsWhileBusy,
    Check::StopsUnread,
    Check::StopsWhenRemoved,
];

fn bind(wanted: Option<&Multiaddr>) -> RpcUdpGateway {
    try_bind(wanted).unwrap()
}

fn try_bind(wanted: Option<&Multiaddr>) -> Result<RpcUdpGateway, kademlia_gateways::GatewayError> {
    let free = || "/ip4/127.0.0.1/udp/0".parse().unwrap();
    // The network of the suite's messages.
    RpcUdpGateway::bind(wanted.cloned().unwrap_or_else(free)).map(|gateway| gateway.with_network(NetworkId(1)))
}

#[test]
fn it_passes_the_checks_that_are_for_every_wire() {
    let transport = Transport::lossy("rpcudp", try_bind);
    for check in CHECKS {
        let outcome = check.run(&transport);
        assert!(matches!(outcome, Outcome::Passed), "{check}: {outcome:?}");
    }
}

fn is_ping(inbound: &Inbound) -> bool {
    matches!(inbound.envelope.message().body, Body::Request(Request::Ping))
}

#[test]
fn it_frees_its_address_and_runs_there_again() {
    let mut other = TestNode::start(bind(None)).unwrap();
    let mut address = None;
    for _ in 0..3 {
        let mut one = TestNode::start(bind(address.as_ref())).unwrap();
        other.send(&one.address(), messages::request(1)).unwrap();
        assert!(is_ping(&one.next().unwrap()));
        address = Some(one.address());
        let mut gateway = one.stop().unwrap();
        assert!(gateway.outbox().is_err(), "it has ended");
        gateway.reopen().unwrap();
        let mut one = TestNode::start(gateway).unwrap();
        other.send(&one.address(), messages::request(2)).unwrap();
        assert!(is_ping(&one.next().unwrap()));
        one.stop().unwrap();
    }
}

#[test]
fn it_counts_what_it_cannot_read_and_goes_on() {
    let mut one = TestNode::start(bind(None)).unwrap();
    let (socket, to) = (UdpSocket::bind("127.0.0.1:0").unwrap(), socket_addr(&one.address()).unwrap().0);
    let ping = codec::encode_request(&[1; 20], &Call::Ping { node: [2; 20] });
    let unknown = [&[0; codec::HEADER_BYTES][..], b"\x92\xa5heart\x90"].concat();
    let unasked = [&[1; codec::HEADER_BYTES][..], b"\xc3"].concat();
    let wrong: [&[u8]; 7] = [&[], &[0xff; 100], &ping[..ping.len() - 1], &[2; 30], &unknown, &unasked, &[0; 60_000]];
    for datagram in wrong {
        socket.send_to(datagram, to).unwrap();
    }
    socket.send_to(&ping, to).unwrap();
    assert!(is_ping(&one.next().unwrap()), "after all of them");
    let counts = one.host.counts();
    let told = (counts.malformed, counts.other_version, counts.unserved, counts.unasked, counts.oversized);
    assert_eq!(told, (2, 2, 1, 1, 1));
    assert_eq!((counts.received, counts.dropped()), (1, 7));
}
