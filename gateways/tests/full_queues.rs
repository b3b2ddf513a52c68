//! Every queue is bounded, and a full one hands the message back.
#![cfg(all(feature = "memory", feature = "tcp"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "it is a test")]

mod common;

use common::*;
use kademlia_gateways::*;

/// Sends until a message comes back, and gives how many were taken.
fn fill(outbox: &mut dyn Outbox, to: &Multiaddr) -> u64 {
    for n in 0..100_000 {
        let outbound = Outbound::new(to.clone(), request(n));
        if let Err(unsent) = outbox.send(outbound.clone()) {
            assert_eq!(unsent, Unsent::new(outbound, UnsentReason::QueueFull));
            return n;
        }
    }
    panic!("the queue has no bound");
}

#[test]
fn the_queue_to_a_gateway_over_connections() {
    let mut gateway = TcpGateway::bind(address("/ip4/127.0.0.1/tcp/0")).unwrap();
    let to = gateway.address().clone();
    let mut outbox = gateway.outbox().unwrap();
    assert_eq!(fill(&mut *outbox, &to), 1024, "nobody takes anything out: it does not run");
    drop(gateway);
    let outbound = Outbound::new(to, request(0));
    assert_eq!(outbox.send(outbound).unwrap_err().reason, UnsentReason::Closed);
}

#[test]
fn the_inbox_of_a_gateway_in_memory() {
    let mut sender = MemoryGateway::bind(address("/memory/0")).unwrap();
    let receiver = MemoryGateway::bind(address("/memory/0")).unwrap();
    let to = receiver.address().clone();
    let mut outbox = sender.outbox().unwrap();
    assert_eq!(fill(&mut *outbox, &to), 1024);
    let mut receiver = Node::start(receiver);
    for n in 0..1024 {
        assert_eq!(tag(&receiver.next().envelope), n);
    }
}
