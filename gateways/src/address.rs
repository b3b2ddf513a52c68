//! Multiaddrs as this network uses them: socket addresses, names, Unix paths, host scope, and circuits through relays.

mod names;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use multiaddr::{Multiaddr, Protocol};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

pub use names::{ResolveError, resolve};

/// What stands for itself in the path of a `/unix/…` address; all else, the slash above all, is percent-encoded.
const UNIX_PATH_ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Why a path cannot become a `/unix/…` address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnixPathError {
    /// Multiaddrs are text.
    #[error("the socket path {0:?} is not UTF-8, which a multiaddr needs")]
    NotUtf8(PathBuf),
    /// A relative path would name another socket in each process.
    #[error("the socket path {0:?} is not absolute")]
    Relative(PathBuf),
}

/// The `/unix/…` address of an absolute path, which stands in it as one percent-encoded component.
///
/// ```
/// use kademlia_gateways::address::{unix_address, unix_path};
/// let address = unix_address("/tmp/a b.sock").unwrap();
/// assert_eq!(address.to_string(), "/unix/%2Ftmp%2Fa%20b.sock");
/// assert_eq!(unix_path(&address).unwrap().to_str(), Some("/tmp/a b.sock"));
/// ```
///
/// # Errors
///
/// When the path is relative or not UTF-8.
pub fn unix_address(path: impl AsRef<Path>) -> Result<Multiaddr, UnixPathError> {
    let path = path.as_ref();
    let text = path.to_str().ok_or_else(|| UnixPathError::NotUtf8(path.to_owned()))?;
    if !path.is_absolute() {
        return Err(UnixPathError::Relative(path.to_owned()));
    }
    let encoded = utf8_percent_encode(text, UNIX_PATH_ENCODED).to_string();
    Ok(Multiaddr::from(Protocol::Unix(encoded.into())))
}

/// The path that a `/unix/…` address of one component names; `None` for any other address.
pub fn unix_path(address: &Multiaddr) -> Option<PathBuf> {
    let mut parts = address.iter();
    match (parts.next()?, parts.next()) {
        (Protocol::Unix(encoded), None) => {
            let path = percent_decode_str(&encoded).decode_utf8().ok()?;
            (path.starts_with('/') && !path.contains('\0')).then(|| PathBuf::from(path.as_ref()))
        }
        _ => None,
    }
}

/// The transport protocol of an address with an IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IpTransport {
    /// `/udp/…`
    Udp,
    /// `/tcp/…`
    Tcp,
}

/// The socket address that exactly `/ip4|ip6/…/udp|tcp/…` names; `None` for any other address.
///
/// Nearly all addresses are such, and each is looked at several times in each message that names it. So its bytes are
/// read as they stand, where parsing each part and its value takes ten times as long.
pub fn socket_addr(address: &Multiaddr) -> Option<(SocketAddr, IpTransport)> {
    // The numbers of the protocols, as variable-length integers: https://github.com/multiformats/multicodec
    const IP4: u8 = 4;
    const IP6: u8 = 41;
    const TCP: u8 = 6;
    const UDP: [u8; 2] = [0x91, 0x02];
    let (protocol, rest) = address.as_ref().split_first()?;
    let (ip, rest) = match *protocol {
        IP4 => rest.split_first_chunk().map(|(ip, rest)| (IpAddr::from(*ip as [u8; 4]), rest))?,
        IP6 => rest.split_first_chunk().map(|(ip, rest)| (IpAddr::from(*ip as [u8; 16]), rest))?,
        _ => return None,
    };
    let (transport, port) = match *rest {
        [a, b, high, low] if [a, b] == UDP => (IpTransport::Udp, [high, low]),
        [TCP, high, low] => (IpTransport::Tcp, [high, low]),
        _ => return None,
    };
    Some((SocketAddr::new(ip, u16::from_be_bytes(port)), transport))
}

/// The address of a socket.
pub fn ip_address(socket: SocketAddr, transport: IpTransport) -> Multiaddr {
    let port = match transport {
        IpTransport::Udp => Protocol::Udp(socket.port()),
        IpTransport::Tcp => Protocol::Tcp(socket.port()),
    };
    [Protocol::from(socket.ip()), port].into_iter().collect()
}

/// The IP at the front of an address, if it starts with one.
pub fn ip(address: &Multiaddr) -> Option<IpAddr> {
    if let Some((socket, _)) = socket_addr(address) {
        return Some(socket.ip());
    }
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
        Protocol::Ip6(ip) => Some(IpAddr::V6(ip)),
        _ => None,
    }
}

/// What counts as one host where somebody is limited: whoever has one address of IPv6 has the 2^64 of its network. IPv4 in
/// IPv6 is IPv4.
///
/// ```
/// use kademlia_gateways::address::host;
/// assert_eq!(host("2001:db8::1:2:3:4".parse().unwrap()).to_string(), "2001:db8::");
/// assert_eq!(host("::ffff:1.2.3.4".parse().unwrap()).to_string(), "1.2.3.4");
/// ```
pub fn host(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (!0 << 64)).into(),
        ip => ip,
    }
}

/// `address` with the IP at its front replaced by `ip`, where both are of one family.
pub fn with_ip(address: &Multiaddr, ip: IpAddr) -> Option<Multiaddr> {
    address.replace(0, |first| match (first, ip) {
        (Protocol::Ip4(_), IpAddr::V4(ip)) => Some(Protocol::Ip4(ip)),
        (Protocol::Ip6(_), IpAddr::V6(ip)) => Some(Protocol::Ip6(ip)),
        _ => None,
    })
}

/// Whether the address means something on one host only: loopback, `/unix/…` and `/memory/…`, and circuits all of
/// whose parts do.
pub fn is_host_scoped(address: &Multiaddr) -> bool {
    let scoped = |segment: &Multiaddr| match segment.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.is_loopback(),
        Some(Protocol::Ip6(ip)) => ip.is_loopback(),
        Some(Protocol::Unix(_) | Protocol::Memory(_)) => true,
        _ => false,
    };
    match socket_addr(address) {
        Some((socket, _)) => socket.ip().is_loopback(),
        None => segments(address).iter().all(scoped),
    }
}

/// Whether the address starts with an unspecified IP (`0.0.0.0`, `::`), which names no host.
pub fn is_unspecified(address: &Multiaddr) -> bool {
    ip(address).is_some_and(|ip| ip.is_unspecified())
}

/// The protocols of an address without their values, such as `["ip4", "udp"]`: its kind of transport.
pub fn transport(address: &Multiaddr) -> Vec<&'static str> {
    address.protocol_stack().collect()
}

/// How many relays a message to `address` passes through.
pub fn relays(address: &Multiaddr) -> usize {
    if socket_addr(address).is_some() {
        return 0;
    }
    address.iter().filter(|part| matches!(part, Protocol::P2pCircuit)).count()
}

/// The parts between `/p2p-circuit`: the relays in order, then the destination. A direct address is its own one
/// segment.
///
/// ```
/// use kademlia_gateways::address::{join, segments};
/// let circuit = "/ip4/127.0.0.1/udp/1/p2p-circuit/memory/7".parse().unwrap();
/// let parts = segments(&circuit);
/// assert_eq!(parts.len(), 2);
/// assert_eq!(join(&parts), Some(circuit));
/// ```
pub fn segments(address: &Multiaddr) -> Vec<Multiaddr> {
    if relays(address) == 0 {
        return vec![address.clone()];
    }
    let mut segments = Vec::with_capacity(1);
    let mut current = Multiaddr::empty();
    for part in address {
        if matches!(part, Protocol::P2pCircuit) {
            segments.push(std::mem::replace(&mut current, Multiaddr::empty()));
        } else {
            current.push(part);
        }
    }
    segments.push(current);
    segments
}

/// The circuit address with these segments; `None` if there are none or one is empty.
pub fn join(segments: &[Multiaddr]) -> Option<Multiaddr> {
    let (first, rest) = segments.split_first()?;
    if segments.iter().any(Multiaddr::is_empty) {
        return None;
    }
    let mut address = first.clone();
    for segment in rest {
        address.push(Protocol::P2pCircuit);
        for part in segment {
            address.push(part);
        }
    }
    Some(address)
}

/// The first segment of an address and, if it is a circuit, the rest.
pub fn split_first(address: &Multiaddr) -> (Multiaddr, Option<Multiaddr>) {
    if relays(address) == 0 {
        return (address.clone(), None);
    }
    let segments = segments(address);
    match segments.split_first() {
        Some((first, rest)) => (first.clone(), join(rest)),
        None => (address.clone(), None),
    }
}

/// The address that reaches `destination` from behind `relay`.
pub fn through(relay: &Multiaddr, destination: &Multiaddr) -> Multiaddr {
    destination.iter().fold(relay.clone().with(Protocol::P2pCircuit), |address, part| address.with(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_unix_path_survives_its_text_and_its_bytes() {
        let address = unix_address("/run/α/%2F/x.sock").unwrap();
        assert_eq!(parse(&address.to_string()), address);
        assert_eq!(Multiaddr::try_from(address.to_vec()).unwrap(), address);
        assert_eq!(unix_path(&address).unwrap(), Path::new("/run/α/%2F/x.sock"));
        assert!(unix_address("relative").is_err());
        assert_eq!(unix_path(&parse("/unix/relative")), None);
        assert_eq!(unix_path(&parse("/unix/%2Fa%00b")), None);
    }

    #[test]
    fn socket_addresses_both_ways() {
        for (text, transport) in [("/ip4/127.0.0.1/udp/1", IpTransport::Udp), ("/ip6/::1/tcp/65535", IpTransport::Tcp)]
        {
            let (socket, found) = socket_addr(&parse(text)).unwrap();
            assert_eq!(found, transport);
            assert_eq!(ip_address(socket, found).to_string(), text);
        }
        for text in ["/ip4/1.2.3.4", "/memory/1", "/ip4/1.2.3.4/tcp/1/http", "/dns4/a/tcp/1"] {
            assert_eq!(socket_addr(&parse(text)), None, "{text}");
        }
    }

    #[test]
    fn scope() {
        for text in ["/ip4/127.0.0.1/tcp/1", "/memory/1", "/ip6/::1/udp/2", "/memory/1/p2p-circuit/unix/%2Fa"] {
            assert!(is_host_scoped(&parse(text)), "{text}");
        }
        for text in ["/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/1/p2p-circuit/memory/1", "/dns4/localhost/tcp/1"] {
            assert!(!is_host_scoped(&parse(text)), "{text}");
        }
    }

    #[test]
    fn an_unspecified_ip_takes_the_observed_one() {
        let listen = parse("/ip4/0.0.0.0/tcp/4001");
        assert!(is_unspecified(&listen));
        assert_eq!(with_ip(&listen, [1, 2, 3, 4].into()), Some(parse("/ip4/1.2.3.4/tcp/4001")));
        assert_eq!(with_ip(&listen, Ipv6Addr::LOCALHOST.into()), None);
    }

    #[test]
    fn circuits_split_and_join() {
        let circuit = parse("/ip4/1.1.1.1/udp/1/p2p-circuit/ip4/2.2.2.2/tcp/2/p2p-circuit/unix/%2Fa");
        assert_eq!(relays(&circuit), 2);
        assert_eq!(join(&segments(&circuit)), Some(circuit.clone()));
        let (first, rest) = split_first(&circuit);
        assert_eq!(through(&first, &rest.unwrap()), circuit);
        assert_eq!(join(&segments(&parse("/p2p-circuit/memory/1"))), None);
    }

    /// What `socket_addr` gives, read part by part.
    fn by_parts(address: &Multiaddr) -> Option<(SocketAddr, IpTransport)> {
        let parts: Vec<_> = address.iter().collect();
        let (ip, end) = match parts.as_slice() {
            [Protocol::Ip4(ip), end] => (IpAddr::V4(*ip), end),
            [Protocol::Ip6(ip), end] => (IpAddr::V6(*ip), end),
            _ => return None,
        };
        match end {
            Protocol::Udp(port) => Some((SocketAddr::new(ip, *port), IpTransport::Udp)),
            Protocol::Tcp(port) => Some((SocketAddr::new(ip, *port), IpTransport::Tcp)),
            _ => None,
        }
    }

    fn part() -> impl Strategy<Value = Protocol<'static>> {
        prop_oneof![
            any::<[u8; 4]>().prop_map(|ip| Protocol::Ip4(ip.into())),
            any::<[u8; 16]>().prop_map(|ip| Protocol::Ip6(ip.into())),
            any::<u16>().prop_map(Protocol::Udp),
            any::<u16>().prop_map(Protocol::Tcp),
            any::<u16>().prop_map(Protocol::Dccp),
            any::<u64>().prop_map(Protocol::Memory),
            Just(Protocol::P2pCircuit),
            Just(Protocol::QuicV1),
        ]
    }

    proptest! {
        #[test]
        fn the_bytes_say_what_the_parts_say(parts in prop::collection::vec(part(), 0..5)) {
            let address: Multiaddr = parts.into_iter().collect();
            prop_assert_eq!(socket_addr(&address), by_parts(&address));
            if let Some((socket, transport)) = socket_addr(&address) {
                prop_assert_eq!(ip_address(socket, transport), address);
            }
        }

        #[test]
        fn any_path_survives(path in "/[^\0]{0,100}") {
            let address = unix_address(&path).unwrap();
            prop_assert_eq!(unix_path(&parse(&address.to_string())), Some(PathBuf::from(path)));
        }
    }
}
