//! Without file descriptors nothing can be accepted or dialled. The gateway waits for better times, and does not spin.
//!
//! Alone in its process, for the limit is the process's.
#![cfg(all(target_os = "linux", feature = "tcp"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "it is a test")]

mod common;

use std::time::{Duration, Instant};

use common::*;
use kademlia_gateways::address::socket_addr;
use kademlia_gateways::*;
use rlimit::Resource;
use socket2::{Domain, Socket, Type};

#[test]
fn a_gateway_without_descriptors_waits_for_some() {
    let start = || Node::start(TcpGateway::bind(address("/ip4/127.0.0.1/tcp/0")).unwrap());
    let (mut node, mut other) = (start(), start());
    let to = socket_addr(&node.address()).unwrap().0;
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    node.wait_for_idleness("all is set up");
    let (soft, hard) = Resource::NOFILE.get().unwrap();
    Resource::NOFILE.set(3, hard).unwrap();

    // The kernel makes the connection; to accept it takes a descriptor.
    socket.connect(&to.into()).unwrap();
    let reason = other.why_unsent(&node.address(), request(1));
    assert_eq!(reason, UnsentReason::QueueFull, "a lack of ours says nothing about the address");
    let (started, before) = (Instant::now(), node.activity().unwrap());
    while started.elapsed() < Duration::from_secs(1) {
        node.assert_quiet();
    }
    let after = node.activity().unwrap();
    assert!(after.sleeps - before.sleeps < 10, "it tries again a few times");
    assert!(after.ran_nanoseconds - before.ran_nanoseconds < 100_000_000, "it does not spin");

    Resource::NOFILE.set(soft, hard).unwrap();
    other.send(&node.address(), request(2)).unwrap();
    assert_eq!(node.next().envelope, request(2));
    drop(socket);
    node.wait_for_idleness("nothing is tried again any more");
    node.stop();
}
