//! Addresses, as bytes from the wire, as text from a user, and as made from paths, sockets and circuits.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use arbitrary::Unstructured;
use kademlia_dht::gateway::address::{
    self, IpTransport, ip_address, join, relays, segments, socket_addr, split_first, through, unix_address, unix_path,
};
use kademlia_dht::gateway::{Contact, Multiaddr, Peer};
use multiaddr::Protocol;

/// Takes the input as addresses of every kind.
pub fn run(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else { return };
    match kind % 4 {
        0 => {
            let Ok(address) = Multiaddr::try_from(rest.to_vec()) else { return };
            assert_eq!(address.to_vec(), rest);
            check(&address);
        }
        1 => {
            let Ok(text) = std::str::from_utf8(rest) else { return };
            path(text);
            if let Ok(address) = text.parse::<Multiaddr>() {
                assert_eq!(Multiaddr::try_from(address.to_vec()).ok().as_ref(), Some(&address));
                check(&address);
            }
        }
        2 => socket(&mut Unstructured::new(rest)),
        _ => circuit(&mut Unstructured::new(rest)),
    }
}

/// A path survives its address, and the address its text and its bytes.
fn path(text: &str) {
    let Ok(address) = unix_address(text) else {
        return assert!(!text.starts_with('/'));
    };
    let named = unix_path(&address);
    assert_eq!(named.as_ref().and_then(|path| path.to_str()), Some(text).filter(|text| !text.contains('\0')));
    check(&address);
}

fn socket(input: &mut Unstructured<'_>) {
    let v4 = input.arbitrary::<u32>().map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)));
    let v6 = |input: &mut Unstructured<'_>| input.arbitrary().map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits)));
    let ip = if input.ratio(1, 2).unwrap_or_default() { v4 } else { v6(input) };
    let (Ok(ip), Ok(port)) = (ip, input.arbitrary()) else { return };
    let socket = SocketAddr::new(ip, port);
    for transport in [IpTransport::Udp, IpTransport::Tcp] {
        let address = ip_address(socket, transport);
        assert_eq!(socket_addr(&address), Some((socket, transport)));
        check(&address);
    }
}

/// Several addresses, one behind the other.
fn circuit(input: &mut Unstructured<'_>) {
    let mut parts = Vec::new();
    while !input.is_empty() && parts.len() < 8 {
        let size = usize::from(input.arbitrary::<u8>().unwrap_or_default());
        let Ok(bytes) = input.bytes(size.min(input.len())) else { return };
        let Ok(part) = Multiaddr::try_from(bytes.to_vec()) else { return };
        parts.push(part);
    }
    let joined = join(&parts);
    assert_eq!(joined.is_some(), !parts.is_empty() && parts.iter().all(|part| !part.is_empty()));
    let Some(joined) = joined else { return };
    assert_eq!(relays(&joined), parts.len() - 1 + parts.iter().map(relays).sum::<usize>());
    check(&joined);
    if let Some((first, rest)) = parts.split_first()
        && let Some(rest) = join(rest)
    {
        assert_eq!(through(first, &rest), joined);
    }
}

/// What holds of every address.
fn check(address: &Multiaddr) {
    let text = address.to_string();
    if address.iter().all(|part| is_ours(&part)) {
        assert_eq!(text.parse().ok().as_ref(), Some(address), "{text}");
    }
    check_parts(address);
    if let Some(path) = unix_path(address) {
        let again = unix_address(&path).expect("a path that an address names is absolute and UTF-8");
        assert_eq!(unix_path(&again), Some(path));
        assert!(address::is_host_scoped(address));
    }
    if let Some((socket, transport)) = socket_addr(address) {
        assert_eq!(ip_address(socket, transport), *address);
    }
    for other in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
        let replaced = address::with_ip(address, other);
        assert_eq!(replaced.is_some(), address::ip(address).is_some_and(|ip| ip.is_ipv4() == other.is_ipv4()));
        let Some(replaced) = replaced else { continue };
        assert_eq!(address::ip(&replaced), Some(other));
        assert_eq!(address::is_unspecified(&replaced), other.is_unspecified());
        assert_eq!(address::transport(&replaced), address::transport(address));
        assert_eq!(address::ip(address).and_then(|ip| address::with_ip(&replaced, ip)).as_ref(), Some(address));
    }
}

/// What holds of the parts of a circuit.
fn check_parts(address: &Multiaddr) {
    let parts = segments(address);
    assert_eq!(parts.len(), relays(address) + 1);
    assert!(parts.iter().all(|part| relays(part) == 0));
    let whole = parts.iter().all(|part| !part.is_empty());
    assert_eq!(join(&parts), whole.then(|| address.clone()));
    let (first, rest) = split_first(address);
    assert_eq!(Some(&first), parts.first());
    assert_eq!(address::is_host_scoped(address), parts.iter().all(address::is_host_scoped));
    if let Some(rest) = &rest {
        assert_eq!(through(&first, rest), *address);
        assert_eq!(<Contact as Peer>::relay(address).as_ref(), Some(&first));
    }
    // Who is behind a relay shares the allowance of the relay: all else is hearsay.
    assert_eq!(<Contact as Peer>::source(address), <Contact as Peer>::source(&first));
}

/// Whether a part is of a kind that this network's gateways use, whose text can be read again.
fn is_ours(part: &Protocol<'_>) -> bool {
    match part {
        Protocol::Unix(path) => !path.is_empty() && !path.contains('/'),
        Protocol::Ip4(_) | Protocol::Ip6(_) | Protocol::Udp(_) | Protocol::Tcp(_) => true,
        Protocol::Memory(_) | Protocol::P2pCircuit => true,
        _ => false,
    }
}
