//! What only the UDP gateway does: it takes what strangers throw at its socket, and goes on.
#![cfg(feature = "udp")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "it is a test")]

mod common;

use std::net::{SocketAddr, UdpSocket};

use common::*;
use kademlia_gateways::address::{IpTransport, ip_address, socket_addr};
use kademlia_gateways::*;

fn start(text: &str) -> Node {
    Node::start(UdpGateway::bind(address(text)).unwrap())
}

/// A socket of a stranger, and where the node is.
fn stranger(node: &Node) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    (socket, socket_addr(&node.address()).unwrap().0)
}

fn encoded(envelope: &Envelope) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode(envelope, &mut bytes).unwrap();
    bytes
}

#[test]
fn no_datagram_ends_the_receiver() {
    let mut node = start("/ip4/127.0.0.1/udp/0");
    let (socket, to) = stranger(&node);
    let good = encoded(&request(1));
    let mut trailing = good.clone();
    trailing.push(0);
    let mut version = good.clone();
    version[0] += 1;
    let wrong: Vec<Vec<u8>> = vec![vec![], vec![0xff; 1000], good[..good.len() - 1].to_vec(), trailing, version];
    for datagram in &wrong {
        socket.send_to(datagram, to).unwrap();
    }
    node.wait_for_counts("each is counted", |counts| (counts.malformed, counts.other_version) == (3, 2));
    for size in [SizeLimits::DATAGRAM.largest + 1, 20_000, 65_507] {
        socket.send_to(&vec![1; size], to).unwrap();
    }
    node.wait_for_counts("each is counted", |counts| counts.oversized == 3);

    socket.send_to(&good, to).unwrap();
    let inbound = node.next();
    assert_eq!(inbound.envelope, request(1));
    assert_eq!(inbound.from, ip_address(socket.local_addr().unwrap(), IpTransport::Udp));
    node.assert_quiet();
    node.stop();
}

#[test]
fn each_datagram_is_delivered_or_counted() {
    let (mut one, mut two) = (start("/ip4/127.0.0.1/udp/0"), start("/ip4/127.0.0.1/udp/0"));
    let amount = MAX_PENDING as u64 + 500;
    for n in 0..amount {
        one.send_patiently(&two.address(), &request(n));
        if n % 32 == 0 {
            // Datagrams pass only as fast as they are received: the kernel would drop them, and not count them.
            two.wait_for_counts("keeps up", |counts| counts.received + counts.queue_full > n);
        }
    }
    two.wait_for_counts("all are counted", |counts| counts.received + counts.queue_full == amount);
    assert!(two.host.counts().queue_full >= 400, "{:?}", two.host.counts());
    while two.arrived_so_far().is_some() {}
    one.send(&two.address(), request(amount)).unwrap();
    assert_eq!(tag(&two.next().envelope), amount, "there is room again");
}

#[test]
fn a_datagram_on_the_wire_is_the_codecs_bytes() {
    let mut node = start("/ip4/127.0.0.1/udp/0");
    let (socket, _) = stranger(&node);
    let to = ip_address(socket.local_addr().unwrap(), IpTransport::Udp);
    node.send(&to, request(7)).unwrap();
    let mut buffer = [0; 2000];
    let size = socket.recv(&mut buffer).unwrap();
    assert_eq!(buffer[..size], encoded(&request(7)));

    node.send(&to, found(8, 200)).unwrap();
    let size = socket.recv(&mut buffer).unwrap();
    assert!((1100..=SizeLimits::DATAGRAM.preferred).contains(&size), "as many contacts as fit, not more: {size}");
}

#[test]
fn a_port_that_nobody_listens_on_ends_nothing() {
    let (mut one, mut two) = (start("/ip4/127.0.0.1/udp/0"), start("/ip4/127.0.0.1/udp/0"));
    let nobody = start("/ip4/127.0.0.1/udp/0").address();
    for n in 0..100 {
        // Where the system tells of it, it may be told of the next message.
        one.send(&nobody, request(n)).ok();
    }
    while one.send(&two.address(), request(1)).is_err() {}
    let asked = two.next();
    two.answer(&asked, reply(1)).unwrap();
    assert_eq!(one.next().envelope, reply(1), "it still receives");
}

#[test]
fn both_families_share_a_port() {
    let mut four = start("/ip4/127.0.0.1/udp/0");
    let port = socket_addr(&four.address()).unwrap().0.port();
    let mut six = start(&format!("/ip6/::/udp/{port}"));
    let (mut from_four, mut from_six) = (start("/ip4/127.0.0.1/udp/0"), start("/ip6/::1/udp/0"));
    from_four.send(&four.address(), request(4)).unwrap();
    from_six.send(&address(&format!("/ip6/::1/udp/{port}")), request(6)).unwrap();
    assert_eq!(tag(&four.next().envelope), 4);
    assert_eq!(tag(&six.next().envelope), 6);
    assert!(!four.outbox.dials(&from_six.address()));
    assert!(!six.outbox.dials(&from_four.address()));
}

#[test]
fn bound_to_no_address_it_is_reached_at_any() {
    let mut node = start("/ip4/0.0.0.0/udp/0");
    let mut other = start("/ip4/127.0.0.1/udp/0");
    assert!(address::is_unspecified(&node.address()));
    let seen = address::with_ip(&node.address(), [127, 0, 0, 1].into()).unwrap();
    other.send(&seen, request(1)).unwrap();
    let asked = node.next();
    node.answer(&asked, reply(1)).unwrap();
    assert_eq!(other.next().from, seen);
    assert!(!other.outbox.dials(&node.address()), "the unspecified address names no host");
}

#[test]
fn an_address_that_is_not_ours_is_named_with_the_cause() {
    let error = UdpGateway::bind(address("/ip4/192.0.2.1/udp/4000")).unwrap_err();
    assert!(error.to_string().starts_with("cannot listen on /ip4/192.0.2.1/udp/4000: "), "{error}");
}
