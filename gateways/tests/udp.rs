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

    // Parts: cut short, of none, beyond their end, of too many, of a wrong size, of another number than before, and again.
    let parts = datagrams_of(&store(1, 3000));
    let with = |index: u8, count: u8| [&parts[0][..9], &[index, count], &parts[0][11..]].concat();
    socket.send_to(&parts[0], to).unwrap();
    for bad in [parts[0][..10].to_vec(), with(0, 0), with(3, 3), parts[0][..1199].to_vec(), with(1, 4)] {
        socket.send_to(&bad, to).unwrap();
    }
    for (index, count) in [(0, 64), (0, 255)] {
        socket.send_to(&with(index, count), to).unwrap();
    }
    socket.send_to(&parts[0], to).unwrap();
    node.wait_for_counts("each is counted", |counts| {
        (counts.malformed, counts.oversized, counts.repeated) == (3 + 5, 3 + 2, 1)
    });
    for part in &parts[1..] {
        socket.send_to(part, to).unwrap();
    }
    assert_eq!(node.next().envelope, store(1, 3000), "it is whole all the same");

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
fn what_no_datagram_has_room_for_goes_in_parts() {
    let mut node = start("/ip4/127.0.0.1/udp/0");
    let (socket, _) = stranger(&node);
    let to = ip_address(socket.local_addr().unwrap(), IpTransport::Udp);
    let mut buffer = [0; 2000];
    let largest = 1452 - (encoded(&store(1, 1400)).len() - 1400);
    node.send(&to, store(1, largest)).unwrap();
    assert_eq!(socket.recv(&mut buffer).unwrap(), 1452);
    assert_eq!(buffer[..1452], encoded(&store(1, largest)));

    for (tag, value) in [(2, largest + 1), (3, 16 << 10), (4, 64 << 10)] {
        node.send(&to, store(tag, value)).unwrap();
        let (expected, mut message, mut numbers) = (encoded(&store(tag, value)), Vec::new(), Vec::new());
        let count = expected.len().div_ceil(1189);
        for index in 0..count {
            let size = socket.recv(&mut buffer).unwrap();
            assert!(size == 1200 || index + 1 == count && size < 1200, "{size}");
            assert_eq!((buffer[0], buffer[9], buffer[10]), (b'p', index as u8, count as u8));
            numbers.push(buffer[1..9].to_vec());
            message.extend_from_slice(&buffer[11..size]);
        }
        assert!(message == expected, "{value}");
        assert!(numbers.iter().all(|number| *number == numbers[0] && number[..4] != [0; 4]), "{numbers:?}");
    }
}

#[test]
fn parts_keep_to_the_bytes_that_they_may_have_together() {
    let mut node = start("/ip4/127.0.0.1/udp/0");
    let (socket, _) = stranger(&node);
    let to = ip_address(socket.local_addr().unwrap(), IpTransport::Udp);
    let mut buffer = [0; 2000];
    let message = encoded(&store(1, 5000)).len();
    let bytes = parts::bytes_on_the_wire(message);
    assert_eq!(bytes, message + 5 * 11);
    let send = |node: &mut Node, at_most| {
        node.outbox.send(Outbound { at_most: Some(at_most), ..Outbound::new(to.clone(), store(1, 5000)) })
    };
    let unsent = send(&mut node, bytes - 1).unwrap_err();
    assert_eq!(unsent.reason, UnsentReason::TooLarge { limit: message as u32 - 1 });
    assert_eq!(unsent.outbound.envelope, store(1, 5000));
    send(&mut node, bytes).unwrap();
    let received: usize = (0..5).map(|_| socket.recv(&mut buffer).unwrap()).sum();
    assert_eq!(received, bytes);
}

#[test]
fn what_is_never_finished_is_counted_and_does_not_wake_the_gateway() {
    let mut node = start("/ip4/127.0.0.1/udp/0");
    let (socket, to) = stranger(&node);
    for n in 0..50 {
        socket.send_to(&datagrams_of(&store(n, 3000))[1], to).unwrap();
    }
    socket.send_to(&encoded(&request(1)), to).unwrap();
    assert_eq!(node.next().envelope, request(1));
    if cfg!(target_os = "linux") {
        node.wait_for_idleness("though parts are missing");
    }
    // It is seen at the next datagram after two seconds.
    node.wait_for_counts("they are given up", |counts| {
        socket.send_to(&encoded(&request(2)), to).unwrap();
        counts.unfinished == 50
    });
    assert_eq!(node.host.counts().dropped() - node.host.counts().queue_full, 50);
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
