//! Names of hosts in multiaddrs.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use multiaddr::{Multiaddr, Protocol};

/// Why the name at the front of an address leads nowhere.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The system's resolver does not know it, or cannot ask.
    #[error("cannot resolve {name}: {error}")]
    Resolver {
        /// The name.
        name: String,
        /// What the resolver says.
        #[source]
        error: io::Error,
    },
    /// The host has no address of the family that is asked for.
    #[error("{name} has no address of {family}")]
    Family {
        /// The name.
        name: String,
        /// `IPv4`, `IPv6` or `any family`.
        family: &'static str,
    },
    /// `/dnsaddr` names a text record that holds multiaddrs, for which the system has no resolver.
    #[error("{address} is a /dnsaddr, which is not resolved here; give /dns, /dns4 or /dns6, with transport and port")]
    TextRecord {
        /// The address.
        address: Multiaddr,
    },
}

/// The addresses that `/dns/…`, `/dns4/…` or `/dns6/…` stands for: with each IP of the host in the place of its name. Any
/// other address stands for itself.
///
/// It blocks until the system's resolver has answered, which can take many seconds.
///
/// ```
/// use kademlia_gateways::address::resolve;
/// let addresses = resolve(&"/dns4/localhost/udp/4222".parse().unwrap())?;
/// assert_eq!(addresses[0].to_string(), "/ip4/127.0.0.1/udp/4222");
/// # Ok::<(), kademlia_gateways::address::ResolveError>(())
/// ```
///
/// # Errors
///
/// See [`ResolveError`].
pub fn resolve(address: &Multiaddr) -> Result<Vec<Multiaddr>, ResolveError> {
    let (name, is_wanted, family): (_, fn(&IpAddr) -> bool, _) = match address.iter().next() {
        Some(Protocol::Dns(name)) => (name, |_| true, "any family"),
        Some(Protocol::Dns4(name)) => (name, IpAddr::is_ipv4, "IPv4"),
        Some(Protocol::Dns6(name)) => (name, IpAddr::is_ipv6, "IPv6"),
        Some(Protocol::Dnsaddr(_)) => return Err(ResolveError::TextRecord { address: address.clone() }),
        _ => return Ok(vec![address.clone()]),
    };
    let name = name.into_owned();
    // The port is that of the multiaddr.
    let sockets = match (name.as_str(), 0).to_socket_addrs() {
        Ok(sockets) => sockets,
        Err(error) => return Err(ResolveError::Resolver { name, error }),
    };
    let mut resolved: Vec<Multiaddr> = Vec::new();
    for ip in sockets.map(|socket: SocketAddr| socket.ip().to_canonical()).filter(is_wanted) {
        // The resolver tells an address once for each kind of socket.
        resolved.extend(address.replace(0, |_| Some(ip.into())).filter(|address| !resolved.contains(address)));
    }
    if resolved.is_empty() { Err(ResolveError::Family { name, family }) } else { Ok(resolved) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(address: &str) -> Vec<String> {
        resolve(&address.parse().unwrap()).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_name_stands_for_the_addresses_of_its_host() {
        assert_eq!(texts("/dns4/localhost/tcp/7"), ["/ip4/127.0.0.1/tcp/7"]);
        assert!(texts("/dns/localhost/udp/7").contains(&"/ip4/127.0.0.1/udp/7".to_owned()));
        // The resolver reads addresses too.
        assert_eq!(texts("/dns/::1/udp/7"), ["/ip6/::1/udp/7"]);
        let circuit = "/p2p-circuit/memory/3";
        assert_eq!(texts(&format!("/dns4/localhost/udp/7{circuit}")), [format!("/ip4/127.0.0.1/udp/7{circuit}")]);
    }

    #[test]
    fn any_other_address_stands_for_itself() {
        for address in ["/ip4/1.2.3.4/udp/7", "/unix/%2Fa", "/memory/1", "/memory/1/p2p-circuit/dns4/localhost/udp/1"] {
            assert_eq!(texts(address), [address]);
        }
    }

    #[test]
    fn what_leads_nowhere_is_told_by_name() {
        let error = |address: &str| resolve(&address.parse().unwrap()).unwrap_err();
        // No host has a name with an empty part (RFC 1035, 2.3.1), so nobody is asked for it.
        assert!(matches!(error("/dns4/a..b/udp/7"), ResolveError::Resolver { name, .. } if name == "a..b"));
        assert!(matches!(error("/dns6/127.0.0.1/udp/7"), ResolveError::Family { family: "IPv6", .. }));
        assert!(matches!(error("/dnsaddr/localhost"), ResolveError::TextRecord { .. }));
    }
}
