//! What gateways over connections do with peers of every kind, beyond what the suite for all gateways checks: those
//! that lie, that are no peers, that are too many, and that do not read.
#![cfg(all(unix, feature = "tcp", feature = "unix"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "it is a test")]
#![allow(clippy::print_stdout, reason = "it is a test")]

#[path = "../common/mod.rs"]
mod common;
mod peer;

use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::*;
use kademlia_gateways::address::{IpTransport, ip_address};
use kademlia_gateways::*;
use peer::{Peer, Wire, encoded, every_wire, framed};

#[test]
fn what_is_no_hello_closes_the_connection() {
    every_wire(|wire| {
        let node = wire.start();
        let mut hello = vec![codec::WIRE_VERSION];
        hello.extend(wire.somewhere().as_ref());
        let mut version = hello.clone();
        version[0] += 1;
        let mut foreign = vec![codec::WIRE_VERSION];
        foreign.extend(address("/memory/1").as_ref());
        let mut circuit = hello.clone();
        circuit.extend(address("/p2p-circuit/memory/1").as_ref());
        let wrong = [&[][..], b"GET / HTTP/1.1\r\n\r\n", &version, &foreign, &circuit, &encoded(&request(1))];
        for (n, wrong) in (1..).zip(wrong) {
            let mut peer = wire.connect(&node.address());
            peer.stream.write_all(&framed(wrong)).unwrap();
            peer.assert_closed();
            node.wait_for_counts("each is counted", |counts| counts.greeting_wrong == n);
        }
        let mut peer = wire.connect(&node.address());
        peer.stream.write_all(&513_u32.to_be_bytes()).unwrap();
        peer.assert_closed();
        node.wait_for_counts("too long", |counts| counts.greeting_wrong == wrong.len() as u64 + 1);
    });
}

#[test]
fn a_hello_that_does_not_come_closes_the_connection() {
    every_wire(|wire| {
        let config = StreamConfig { hello_timeout: Duration::from_millis(50), ..StreamConfig::default() };
        let mut node = wire.start_with(config);
        let mut silent = wire.connect(&node.address());
        silent.assert_closed();
        node.wait_for_counts("it is counted", |counts| counts.greeting_late == 1);

        // The same for a connection that the gateway dialled.
        let (listener, to) = wire.listen();
        node.send(&to, request(1)).unwrap();
        let mut silent = listener.accept();
        silent.receive_hello();
        assert_eq!(silent.receive_frame(), None, "no message goes to one who does not say hello");
        node.wait_for_counts("it is counted", |counts| counts.greeting_late == 2);
        assert_eq!(node.next_unsent(), (1, UnsentReason::Unreachable));

        // One that said hello may be silent as long as it likes.
        let mut peer = wire.greet(&node.address(), &wire.somewhere());
        node.assert_quiet();
        peer.send(&request(2));
        assert_eq!(node.next().envelope, request(2));
        node.wait_for_idleness("no timer is left");
    });
}

#[test]
fn a_service_that_says_no_hello_gets_no_message() {
    every_wire(|wire| {
        let mut node = wire.start();
        for wrong in [&b"220 mail.example.org ready\r\n"[..], &framed(b"no hello"), b""] {
            let (listener, to) = wire.listen();
            for n in 0..10 {
                node.send(&to, store(n, 50_000)).unwrap();
            }
            let mut service = listener.accept();
            service.receive_hello();
            if wrong.is_empty() {
                // What waits for the hello waits in bounded memory.
                let mut n = 10;
                let full = loop {
                    node.send_patiently(&to, &store(n, 60_000));
                    n += 1;
                    if let Some(reason) = node.unsent_so_far() {
                        break reason;
                    }
                };
                assert_eq!(full.1, UnsentReason::QueueFull);
                drop(service);
                while node.next_unsent() != (0, UnsentReason::Unreachable) {}
                continue;
            }
            service.stream.write_all(wrong).unwrap();
            assert_eq!(service.receive_frame(), None, "the connection is closed, and nothing came by it");
            for n in 0..10 {
                assert_eq!(node.next_unsent(), (n, UnsentReason::Unreachable));
            }
        }
    });
}

#[test]
fn nobody_receives_what_is_meant_for_another_by_claiming_its_address() {
    every_wire(|wire| {
        let (mut node, mut victim) = (wire.start(), wire.start());
        let mut attacker = wire.greet(&node.address(), &victim.address());
        attacker.send(&request(1));
        let asked = node.next();
        assert_eq!(asked.from, victim.address(), "that is what it claims");

        node.send(&asked.from, request(2)).unwrap();
        let arrived = victim.next();
        assert_eq!(arrived.envelope, request(2), "a request goes by a connection to the address itself");

        node.answer(&asked, reply(1)).unwrap();
        assert_eq!(attacker.receive(), reply(1), "the answer goes to who asked");
        victim.assert_quiet();

        // Not even when there is no connection to the victim any more.
        let address = victim.address();
        victim.stop();
        node.wait_for_idleness("the end of the connection is seen");
        assert_eq!(node.why_unsent(&address, request(3)), UnsentReason::Unreachable);
        node.answer(&asked, reply(4)).unwrap();
        assert_eq!(attacker.receive(), reply(4), "and no request came before it");
    });
}

#[test]
fn an_answer_finds_its_way_when_the_connection_has_gone() {
    every_wire(|wire| {
        let mut node = wire.start();
        let (listener, own) = wire.listen();
        let mut peer = wire.greet(&node.address(), &own);
        peer.send(&request(1));
        let asked = node.next();
        drop(peer);
        // Until the end of the connection has come through, the answer may still leave by it.
        node.wait_for_idleness("the end of the connection is seen");
        node.answer(&asked, reply(1)).unwrap();
        let mut dialled = listener.greet(&own);
        assert_eq!(dialled.receive(), reply(1), "by a connection to where the peer listens");
        dialled.send(&request(2));
        let asked_again = node.next();
        assert_eq!(asked_again.from, own);
        assert!(asked_again.path.0 > asked.path.0, "no connection ever has the number of another");
    });
}

#[test]
fn what_comes_by_a_dialled_connection_comes_from_the_dialled_address() {
    every_wire(|wire| {
        let mut node = wire.start();
        let (listener, to) = wire.listen();
        node.send(&to, request(1)).unwrap();
        let mut peer = listener.accept();
        assert_eq!(peer.receive_hello(), node.address(), "so that the other can call back");
        peer.send_hello(&wire.somewhere());
        assert_eq!(peer.receive(), request(1));
        peer.send(&reply(1));
        let inbound = node.next();
        assert_eq!((inbound.from, inbound.envelope), (to, reply(1)));
    });
}

#[test]
fn over_tcp_the_ip_that_is_seen_counts() {
    let mut node = Node::start(TcpGateway::bind(address("/ip4/0.0.0.0/tcp/0")).unwrap());
    let to = address::with_ip(&node.address(), [127, 0, 0, 1].into()).unwrap();
    for claimed in ["/ip4/0.0.0.0/tcp/4001", "/ip4/192.0.2.7/tcp/4001"] {
        let mut peer = Wire::Tcp.greet(&to, &address(claimed));
        peer.send(&request(1));
        assert_eq!(node.next().from, address("/ip4/127.0.0.1/tcp/4001"));
    }
    for (n, claimed) in (1..).zip(["/ip6/::1/tcp/4001", "/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/4001"]) {
        let mut peer = Wire::Tcp.connect(&to);
        peer.send_hello(&address(claimed));
        peer.assert_closed();
        node.wait_for_counts("it is counted", |counts| counts.greeting_wrong == n);
    }
    // A node bound to one of several addresses is seen at that one.
    let mut other = Node::start(TcpGateway::bind(address("/ip4/127.0.0.9/tcp/0")).unwrap());
    other.send(&to, request(2)).unwrap();
    assert_eq!(node.next().from, other.address());
    other.stop();
}

#[test]
fn a_peer_that_does_not_read_fills_its_own_buffer_only() {
    every_wire(|wire| {
        let (mut node, mut other) = (wire.start(), wire.start());
        let (listener, to) = wire.listen();
        node.send(&to, request(0)).unwrap();
        let mut slow = listener.greet(&to);
        // Until its hello has come, nothing is written, and the buffer would be full for that reason.
        assert_eq!(slow.receive(), request(0));
        let mut tag = 0;
        let deadline = Instant::now() + DEADLINE;
        let refused = loop {
            tag += 1;
            assert!(Instant::now() < deadline, "its buffer is full in the end");
            node.send_patiently(&to, &store(tag, 60_000));
            if let Some(refused) = node.unsent_so_far() {
                break refused;
            }
        };
        assert_eq!(refused.1, UnsentReason::QueueFull);
        // Others do not notice.
        node.send_patiently(&other.address(), &request(1_000_000));
        assert_eq!(other.next().envelope, request(1_000_000));

        // All that has not gone out to it is reported when it goes.
        drop(slow);
        let deadline = Instant::now() + DEADLINE;
        loop {
            assert!(Instant::now() < deadline);
            match node.next_unsent() {
                (_, UnsentReason::QueueFull) => {}
                (_, reason) => break assert_eq!(reason, UnsentReason::Unreachable),
            }
        }
    });
}

#[test]
fn of_answers_that_do_not_go_out_the_node_is_told_nothing() {
    every_wire(|wire| {
        let mut node = wire.start();
        let mut peer = wire.greet(&node.address(), &wire.somewhere());
        peer.send(&request(1));
        let asked = node.next();
        // Its buffer is full in the end, and the rest of the answers goes with the connection.
        let deadline = Instant::now() + DEADLINE;
        while node.host.counts().unsent.queue_full == 0 {
            assert!(Instant::now() < deadline, "its buffer is full in the end");
            node.answer(&asked, found(1, 200)).ok();
        }
        drop(peer);
        node.wait_for_counts("all are counted", |counts| counts.unsent.unreachable > 0);
        node.assert_quiet();
    });
}

/// Nobody may take long over a message.
fn hasty() -> StreamConfig {
    StreamConfig { stall_timeout: Duration::from_millis(100), ..StreamConfig::default() }
}

#[test]
fn a_message_that_does_not_come_to_its_end_closes_the_connection() {
    every_wire(|wire| {
        let mut node = wire.start_with(hasty());
        let mut halting = wire.greet(&node.address(), &wire.somewhere());
        let message = framed(&encoded(&store(1, 60_000)));
        halting.stream.write_all(&message[..message.len() / 2]).unwrap();
        halting.assert_closed();
        node.wait_for_counts("it is counted", |counts| counts.stalled == 1);

        // Nor does it help to send a byte now and then. All of them would take a minute.
        let mut trickling = wire.greet(&node.address(), &wire.somewhere());
        let sent = message.iter().take_while(|byte| {
            a_moment();
            trickling.stream.write_all(&[**byte]).is_ok()
        });
        assert!(sent.count() < message.len());
        node.wait_for_counts("it is counted", |counts| counts.stalled == 2);

        // The same for a connection that the gateway dialled.
        let (listener, to) = wire.listen();
        node.send(&to, request(1)).unwrap();
        let mut dialled = listener.greet(&to);
        assert_eq!(dialled.receive(), request(1));
        dialled.stream.write_all(&message[..4]).unwrap();
        dialled.assert_closed();
        node.wait_for_counts("it is counted", |counts| counts.stalled == 3);

        // Between two messages a peer may be silent as long as it likes.
        let mut peer = wire.greet(&node.address(), &wire.somewhere());
        for n in 0..2 {
            peer.send(&request(n));
            assert_eq!(node.next().envelope, request(n));
            node.wait_for_idleness("no timer is left");
        }
    });
}

#[test]
fn who_reads_nothing_of_what_waits_is_closed() {
    every_wire(|wire| {
        let mut node = wire.start_with(hasty());
        let mut silent = wire.greet(&node.address(), &wire.somewhere());
        silent.send(&request(1));
        let asked = node.next();
        // The system takes some before anything waits.
        let deadline = Instant::now() + DEADLINE;
        while node.host.counts().stalled == 0 {
            assert!(Instant::now() < deadline);
            node.answer(&asked, found(1, 200)).ok();
        }

        // The same for a connection that the gateway dialled: all that waits is told.
        let (listener, to) = wire.listen();
        node.send(&to, request(0)).unwrap();
        let mut deaf = listener.greet(&to);
        assert_eq!(deaf.receive(), request(0));
        let mut sent = 0;
        let first = loop {
            sent += 1;
            node.send_patiently(&to, &store(sent, 60_000));
            if let Some((tag, UnsentReason::Unreachable)) = node.unsent_so_far() {
                break tag;
            }
            assert!(Instant::now() < deadline);
        };
        assert!(first > 1, "the first ones went out");
        node.wait_for_counts("it is counted", |counts| counts.stalled == 2);
        deaf.assert_closed();
    });
}

#[test]
fn many_who_take_much_memory_are_closed_and_others_are_heard() {
    every_wire(|wire| {
        let config = StreamConfig { max_buffered_bytes: 512 * 1024, ..StreamConfig::default() };
        let mut node = wire.start_with(config);
        let mut peer = wire.greet(&node.address(), &wire.somewhere());
        let message = framed(&encoded(&store(1, 60_000)));
        let halting: Vec<Peer> = (0..50)
            .map(|n| {
                let mut halting = wire.greet(&node.address(), &wire.somewhere());
                halting.stream.write_all(&message[..message.len() - 1]).unwrap();
                peer.send(&store(n, 60_000));
                assert_eq!(node.next().envelope, store(n, 60_000));
                halting
            })
            .collect();
        node.wait_for_counts("most are closed", |counts| counts.displaced > 40);
        peer.send(&request(1));
        assert_eq!(node.next().envelope, request(1));
        drop(halting);
    });
}

#[test]
fn beyond_the_limit_the_idlest_connection_is_closed() {
    every_wire(|wire| {
        let config = StreamConfig { max_connections: 3, ..StreamConfig::default() };
        let mut node = wire.start_with(config);
        let greet = || wire.greet(&node.address(), &wire.somewhere());
        let (mut one, mut two, mut three) = (greet(), greet(), greet());
        // In this order, which is not that of their coming.
        for (n, peer) in (1..).zip([&mut two, &mut three, &mut one]) {
            peer.send(&request(n));
            assert_eq!(node.next().envelope, request(n));
        }
        let mut four = wire.greet(&node.address(), &wire.somewhere());
        two.assert_closed();
        for (n, peer) in (4..).zip([&mut three, &mut one, &mut four]) {
            peer.send(&request(n));
            assert_eq!(node.next().envelope, request(n));
        }
        // To dial takes room as well.
        let (listener, to) = wire.listen();
        node.send(&to, request(7)).unwrap();
        assert_eq!(listener.greet(&to).receive(), request(7));
        three.assert_closed();
        node.wait_for_counts("each is counted", |counts| counts.displaced == 2);
    });
}

#[test]
fn silent_strangers_do_not_drive_out_peers() {
    every_wire(|wire| {
        let config = StreamConfig { max_connections: 8, ..StreamConfig::default() };
        let mut node = wire.start_with(config);
        let mut peers: Vec<Peer> = (0..5).map(|_| wire.greet(&node.address(), &wire.somewhere())).collect();
        for (n, peer) in (0..).zip(&mut peers) {
            peer.send(&request(n));
            node.next();
        }
        let strangers: Vec<Peer> = (0..40).map(|_| wire.connect(&node.address())).collect();
        node.wait_for_counts("most are closed", |counts| counts.displaced == 40 - 3);
        for (n, peer) in (10..).zip(&mut peers) {
            peer.send(&request(n));
            assert_eq!(node.next().envelope, request(n), "it is still connected");
        }
        drop(strangers);
    });
}

#[test]
fn a_connection_that_does_not_come_about_is_given_up() {
    // A listener whose backlog is full answers no more.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    full.listen(0).unwrap();
    let to = full.local_addr().unwrap().as_socket().unwrap();
    let mut fillers = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&to, Duration::from_millis(200)) {
        fillers.push(stream);
        assert!(fillers.len() < 100, "the backlog is full");
    }
    let config = StreamConfig { connect_timeout: Duration::from_millis(50), ..StreamConfig::default() };
    let mut node = Wire::Tcp.start_with(config);
    for n in 0..3 {
        node.send(&ip_address(to, IpTransport::Tcp), request(n)).unwrap();
    }
    for n in 0..3 {
        assert_eq!(node.next_unsent(), (n, UnsentReason::Unreachable));
    }
    node.wait_for_idleness("no timer is left");
}

#[test]
fn stopping_closes_all_connections() {
    every_wire(|wire| {
        let mut node = wire.start();
        let mut accepted = wire.greet(&node.address(), &wire.somewhere());
        let (listener, to) = wire.listen();
        node.send(&to, request(1)).unwrap();
        let mut dialled = listener.greet(&to);
        node.stop();
        accepted.assert_closed();
        dialled.assert_closed();
    });
}

#[test]
fn a_connection_is_dialled_anew_after_it_was_closed() {
    every_wire(|wire| {
        let mut node = wire.start();
        let (listener, to) = wire.listen();
        for n in 0..3 {
            node.send(&to, request(n)).unwrap();
            let mut peer = listener.greet(&to);
            assert_eq!(peer.receive(), request(n));
            drop(peer);
            node.wait_for_idleness("the end of the connection is seen");
        }
    });
}

#[test]
fn many_nodes_talk_at_once() {
    every_wire(|wire| {
        let mut hub = wire.start();
        let mut nodes: Vec<Node> = (0..40).map(|_| wire.start()).collect();
        for (n, node) in (0..).zip(&mut nodes) {
            for m in 0..25 {
                node.send_patiently(&hub.address(), &request(n * 25 + m));
            }
        }
        for _ in 0..40 * 25 {
            let asked = hub.next();
            let tag = tag(&asked.envelope);
            assert_eq!(asked.from, nodes[tag as usize / 25].address());
            hub.answer(&asked, reply(tag)).unwrap();
        }
        for (n, node) in (0..).zip(&mut nodes) {
            for m in 0..25 {
                assert_eq!(node.next().envelope, reply(n * 25 + m));
            }
        }
    });
}
