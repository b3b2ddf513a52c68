//! What every gateway does, whatever its transport.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "it is a test")]

mod common;

use common::*;
use kademlia_gateways::*;

/// Makes gateways of one transport on free addresses.
type Make = fn() -> Box<dyn Gateway>;

/// A path for a socket that nobody has.
#[cfg(all(unix, feature = "unix"))]
fn socket_path() -> std::path::PathBuf {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());
    static NEXT: AtomicU64 = AtomicU64::new(0);
    FOLDER.path().join(NEXT.fetch_add(1, Ordering::Relaxed).to_string())
}

fn every_gateway(test: fn(&str, Make)) {
    #[cfg(feature = "udp")]
    test("udp, IPv4", || Box::new(UdpGateway::bind(address("/ip4/127.0.0.1/udp/0")).unwrap()));
    #[cfg(feature = "udp")]
    test("udp, IPv6", || Box::new(UdpGateway::bind(address("/ip6/::1/udp/0")).unwrap()));
    #[cfg(feature = "tcp")]
    test("tcp, IPv4", || Box::new(TcpGateway::bind(address("/ip4/127.0.0.1/tcp/0")).unwrap()));
    #[cfg(feature = "tcp")]
    test("tcp, IPv4, other loopback", || Box::new(TcpGateway::bind(address("/ip4/127.0.0.9/tcp/0")).unwrap()));
    #[cfg(feature = "tcp")]
    test("tcp, IPv6", || Box::new(TcpGateway::bind(address("/ip6/::1/tcp/0")).unwrap()));
    #[cfg(all(unix, feature = "unix"))]
    test("unix", || Box::new(UnixGateway::bind_path(socket_path()).unwrap()));
    #[cfg(all(feature = "memory", feature = "fault"))]
    test("memory without faults", || {
        let inner = MemoryGateway::bind(address("/memory/0")).unwrap();
        Box::new(FaultGateway::new(inner, FaultConfig::default()).unwrap())
    });
    #[cfg(all(feature = "tcp", feature = "fault"))]
    test("tcp without faults", || {
        let inner = TcpGateway::bind(address("/ip4/127.0.0.1/tcp/0")).unwrap();
        Box::new(FaultGateway::new(inner, FaultConfig::default()).unwrap())
    });
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
