//! What every gateway does, whatever its transport.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "it is a test")]

mod common;

use common::*;
use kademlia_gateways::*;

/// Makes gateways of one transport on free addresses.
type Make = fn() -> Box<dyn Gateway>;

fn every_gateway(test: fn(&str, Make)) {
    #[cfg(feature = "udp")]
    test("udp, IPv4", || Box::new(UdpGateway::bind(address("/ip4/127.0.0.1/udp/0")).unwrap()));
    #[cfg(feature = "udp")]
    test("udp, IPv6", || Box::new(UdpGateway::bind(address("/ip6/::1/udp/0")).unwrap()));
    #[cfg(feature = "memory")]
    test("memory", || Box::new(MemoryGateway::bind(address("/memory/0")).unwrap()));
}

#[test]
fn messages_go_there_and_answers_come_back() {
    every_gateway(|name, make| {
        let (mut one, mut two) = (Node::start_boxed(make()), Node::start_boxed(make()));
        for n in 0..10 {
            one.send(&two.address(), request(n)).unwrap();
            let asked = two.next();
            assert_eq!(asked.envelope, request(n), "{name}");
            assert_eq!(asked.from, one.address(), "{name}: a request to it would reach the sender");
            two.answer(&asked, reply(n)).unwrap();
            let answered = one.next();
            assert_eq!(answered.envelope, reply(n), "{name}");
            assert_eq!(answered.from, two.address(), "{name}: from where it was asked");
        }
        assert_eq!(one.host.counts(), LinkCounts { received: 10, ..LinkCounts::default() }, "{name}");
        one.stop();
        two.stop();
    });
}
