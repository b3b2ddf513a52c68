//! What UDP and TCP share: which addresses are bound and dialled, and the making of sockets.

use std::io;
use std::net::{IpAddr, SocketAddr};

use multiaddr::Multiaddr;
use socket2::{Domain, Protocol, Socket, Type};

use crate::address::{self, IpTransport};
use crate::gateway::GatewayError;

/// What an address of the transport looks like, for errors.
fn expected(transport: IpTransport) -> (&'static str, &'static str) {
    match transport {
        IpTransport::Udp => ("UdpGateway", "/ip4/0.0.0.0/udp/4000 or /ip6/::/udp/4000"),
        IpTransport::Tcp => ("TcpGateway", "/ip4/0.0.0.0/tcp/4000 or /ip6/::/tcp/4000"),
    }
}

/// The socket address to bind.
pub(crate) fn bindable(address: &Multiaddr, transport: IpTransport) -> Result<SocketAddr, GatewayError> {
    match address::socket_addr(address) {
        Some((socket, found)) if found == transport => Ok(socket),
        _ => {
            let (gateway, expected) = expected(transport);
            Err(GatewayError::Address { gateway, address: address.clone(), expected })
        }
    }
}

/// The socket address behind `address`, if a gateway bound to `own` dials it.
pub(crate) fn dialled(own: IpAddr, transport: IpTransport, address: &Multiaddr) -> Option<SocketAddr> {
    let (socket, found) = address::socket_addr(address)?;
    let ip = socket.ip();
    let same_family = ip.is_ipv4() == own.is_ipv4();
    // From a loopback address nothing leaves the host.
    let in_reach = !own.is_loopback() || ip.is_loopback();
    (found == transport && socket.port() != 0 && same_family && in_reach && names_a_host(ip)).then_some(socket)
}

/// Whether the IP is that of one host, which a socket of its own family can reach.
fn names_a_host(ip: IpAddr) -> bool {
    let mapped = matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !(ip.is_unspecified() || ip.is_multicast() || broadcast || mapped)
}

/// A nonblocking socket of the family of `address`. One for IPv6 leaves IPv4 alone, so that both can have a port.
pub(crate) fn open(address: SocketAddr, transport: IpTransport) -> io::Result<Socket> {
    let (kind, protocol) = match transport {
        IpTransport::Udp => (Type::DGRAM, Protocol::UDP),
        IpTransport::Tcp => (Type::STREAM, Protocol::TCP),
    };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dialled() {
        let dials = |own: &str, address: &str| {
            dialled(own.parse().unwrap(), IpTransport::Udp, &address.parse().unwrap()).is_some()
        };
        for (own, address) in [
            ("0.0.0.0", "/ip4/127.0.0.1/udp/1"),
            ("0.0.0.0", "/ip4/10.0.0.1/udp/1"),
            ("10.0.0.2", "/ip4/10.0.0.1/udp/1"),
            ("127.0.0.1", "/ip4/127.0.0.2/udp/1"),
            ("::", "/ip6/::1/udp/1"),
            ("::1", "/ip6/::1/udp/65535"),
        ] {
            assert!(dials(own, address), "{own} {address}");
        }
        for (own, address) in [
            ("0.0.0.0", "/ip6/::1/udp/1"),
            ("::", "/ip4/127.0.0.1/udp/1"),
            ("::", "/ip6/::ffff:1.2.3.4/udp/1"),
            ("127.0.0.1", "/ip4/10.0.0.1/udp/1"),
            ("::1", "/ip6/2001:db8::1/udp/1"),
            ("0.0.0.0", "/ip4/0.0.0.0/udp/1"),
            ("0.0.0.0", "/ip4/10.0.0.1/udp/0"),
            ("0.0.0.0", "/ip4/10.0.0.1/tcp/1"),
            ("0.0.0.0", "/ip4/224.0.0.1/udp/1"),
            ("0.0.0.0", "/ip4/255.255.255.255/udp/1"),
            ("0.0.0.0", "/ip4/10.0.0.1/udp/1/quic-v1"),
            ("0.0.0.0", "/ip4/10.0.0.1/udp/1/p2p-circuit/ip4/10.0.0.1/udp/1"),
            ("0.0.0.0", "/memory/1"),
        ] {
            assert!(!dials(own, address), "{own} {address}");
        }
    }
}
