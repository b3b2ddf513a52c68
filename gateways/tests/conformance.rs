//! Every built-in gateway passes the suite that is there for all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "it is a test")]
#![allow(unused_imports, unused_macros, dead_code, reason = "there is a build without any gateway")]

mod common;

use std::collections::BTreeSet;
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use common::*;
use kademlia_gateways::address::{socket_addr, unix_path};
use kademlia_gateways::conformance::{self, Check, StreamWire, Transport};
use kademlia_gateways::*;

/// Long enough for a hello on a busy machine, and short enough to wait for its lack.
const HELLO_TIMEOUT: Duration = Duration::from_secs(2);

/// What may not apply to a gateway of each kind; nothing else may be left out.
const NOT_FOR_DATAGRAMS: &[Check] = &[
    Check::KeepsOrder,
    Check::TellsUnreachable,
    Check::BearsSlowPeers,
    Check::BearsLostPeers,
    Check::ClosesSilentPeers,
];
const NOT_FOR_STREAMS: &[Check] = &[Check::ProvesNoDatagram, Check::BearsLostParts];
const NOT_IN_MEMORY: &[Check] = &[
    Check::ProvesNoDatagram,
    Check::DropsGarbage,
    Check::DropsOversized,
    Check::BearsLostParts,
    Check::BearsSlowPeers,
    Check::BearsLostPeers,
    Check::ClosesSilentPeers,
];

fn passes(transport: &Transport, left_out: &[Check]) {
    let report = conformance::run(transport);
    assert!(report.has_passed(), "{report}");
    let not_made: BTreeSet<Check> = report.not_applicable().map(|(check, _)| check).collect();
    let on_linux_alone = |check: &Check| cfg!(target_os = "linux") || *check != Check::SleepsWhenIdle;
    let not_made: BTreeSet<Check> = not_made.into_iter().filter(on_linux_alone).collect();
    assert_eq!(not_made, left_out.iter().copied().collect());
}

/// The same for faults around a gateway, which do not lend the thread that it runs on.
#[cfg(feature = "fault")]
fn passes_faultless(transport: &Transport, left_out: &[Check]) {
    passes(transport, &[left_out, &[Check::SendsWhileItDelivers]].concat());
}

/// Faults around a gateway, all of them switched off.
#[cfg(feature = "fault")]
fn faultless<G: Gateway>(inner: G) -> FaultGateway<G> {
    FaultGateway::new(inner, FaultConfig::default()).unwrap()
}

#[cfg(any(feature = "tcp", all(unix, feature = "unix")))]
fn config() -> StreamConfig {
    StreamConfig { hello_timeout: HELLO_TIMEOUT, ..StreamConfig::default() }
}

fn wire_to_tcp() -> StreamWire {
    let connect = |to: &Multiaddr| {
        let stream = TcpStream::connect(socket_addr(to).unwrap().0)?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    StreamWire::new(connect).closes_silent_peers_after(HELLO_TIMEOUT)
}

fn datagrams_to(to: &Multiaddr) -> std::io::Result<impl FnMut(&[u8]) -> std::io::Result<()> + use<>> {
    let to = socket_addr(to).unwrap().0;
    let socket = UdpSocket::bind(if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" })?;
    Ok(move |bytes: &[u8]| socket.send_to(bytes, to).map(drop))
}

#[cfg(feature = "udp")]
fn bind_udp(wanted: Option<&Multiaddr>, free: &str) -> Result<UdpGateway, GatewayError> {
    UdpGateway::bind(wanted.cloned().unwrap_or_else(|| address(free)))
}

/// With a way past the gateway, and what a large message looks like there.
#[cfg(feature = "udp")]
fn in_parts(udp: Transport) -> Transport {
    udp.with_datagrams(datagrams_to).with_parts(parts::UNSPLIT_BYTES, datagrams_of)
}

#[test]
#[cfg(feature = "udp")]
fn udp_over_ipv4() {
    let udp = Transport::lossy("udp over IPv4", |wanted| bind_udp(wanted, "/ip4/127.0.0.1/udp/0"));
    passes(&in_parts(udp), NOT_FOR_DATAGRAMS);
}

#[test]
#[cfg(feature = "udp")]
fn udp_over_ipv6() {
    let udp = Transport::lossy("udp over IPv6", |wanted| bind_udp(wanted, "/ip6/::1/udp/0"));
    passes(&in_parts(udp), NOT_FOR_DATAGRAMS);
}

#[test]
#[cfg(all(feature = "udp", feature = "fault"))]
fn udp_without_faults() {
    let udp = Transport::lossy("udp without faults", |wanted| bind_udp(wanted, "/ip4/127.0.0.1/udp/0").map(faultless));
    passes_faultless(&in_parts(udp), NOT_FOR_DATAGRAMS);
}

#[cfg(feature = "tcp")]
fn bind_tcp(wanted: Option<&Multiaddr>, free: &str) -> Result<TcpGateway, GatewayError> {
    TcpGateway::bind_with(wanted.cloned().unwrap_or_else(|| address(free)), config())
}

#[test]
#[cfg(feature = "tcp")]
fn tcp_over_ipv4() {
    let tcp = Transport::reliable("tcp over IPv4", |wanted| bind_tcp(wanted, "/ip4/127.0.0.1/tcp/0"));
    passes(&tcp.with_streams(wire_to_tcp()), NOT_FOR_STREAMS);
}

#[test]
#[cfg(feature = "tcp")]
fn tcp_over_ipv6() {
    let tcp = Transport::reliable("tcp over IPv6", |wanted| bind_tcp(wanted, "/ip6/::1/tcp/0"));
    passes(&tcp.with_streams(wire_to_tcp()), NOT_FOR_STREAMS);
}

#[test]
#[cfg(all(feature = "tcp", feature = "fault"))]
fn tcp_without_faults() {
    let tcp =
        Transport::reliable("tcp without faults", |wanted| bind_tcp(wanted, "/ip4/127.0.0.1/tcp/0").map(faultless));
    passes_faultless(&tcp.with_streams(wire_to_tcp()), NOT_FOR_STREAMS);
}

/// A path for a socket that nobody has.
#[cfg(all(unix, feature = "unix"))]
fn socket_address() -> Multiaddr {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());
    static NEXT: AtomicU64 = AtomicU64::new(0);
    address::unix_address(FOLDER.path().join(NEXT.fetch_add(1, Ordering::Relaxed).to_string())).unwrap()
}

#[cfg(all(unix, feature = "unix"))]
fn bind_unix(wanted: Option<&Multiaddr>) -> Result<UnixGateway, GatewayError> {
    UnixGateway::bind_with(wanted.cloned().unwrap_or_else(socket_address), config())
}

#[cfg(all(unix, feature = "unix"))]
fn wire_to_unix() -> StreamWire {
    let connect = |to: &Multiaddr| std::os::unix::net::UnixStream::connect(unix_path(to).unwrap());
    StreamWire::new(connect).closes_silent_peers_after(HELLO_TIMEOUT)
}

#[test]
#[cfg(all(unix, feature = "unix"))]
fn unix_sockets() {
    passes(&Transport::reliable("unix", bind_unix).with_streams(wire_to_unix()), NOT_FOR_STREAMS);
}

#[test]
#[cfg(all(unix, feature = "unix", feature = "fault"))]
fn unix_sockets_without_faults() {
    let unix = Transport::reliable("unix without faults", |wanted| bind_unix(wanted).map(faultless));
    passes_faultless(&unix.with_streams(wire_to_unix()), NOT_FOR_STREAMS);
}

#[cfg(feature = "memory")]
fn bind_memory(wanted: Option<&Multiaddr>) -> Result<MemoryGateway, GatewayError> {
    MemoryGateway::bind(wanted.cloned().unwrap_or_else(|| address("/memory/0")))
}

#[test]
#[cfg(feature = "memory")]
fn memory() {
    passes(&Transport::reliable("memory", bind_memory), NOT_IN_MEMORY);
}

#[test]
#[cfg(all(feature = "memory", feature = "fault"))]
fn memory_without_faults() {
    let memory = Transport::reliable("memory without faults", |wanted| bind_memory(wanted).map(faultless));
    passes_faultless(&memory, NOT_IN_MEMORY);
}
