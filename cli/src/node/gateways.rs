//! The gateways of a node: one for each address on which it listens.

use kademlia_dht::gateway::address::{IpTransport, socket_addr, split_first, transport, unix_path};
use kademlia_dht::gateway::mainline::MainlineGateway;
use kademlia_dht::gateway::{Gateway, RpcUdpGateway, TcpGateway, UdpGateway};
use kademlia_dht::{Config, DHTService, Multiaddr};

use super::{Failure, Running};
use crate::args::{Entrance, Network, WayPlan};

/// Where a node listens that was not told.
const USUAL: &str = "/ip4/127.0.0.1/udp/0";

/// Starts a service by `start`, and listens on every address of the plan.
pub(super) fn register(
    plan: &WayPlan,
    start: impl FnOnce(Config) -> Result<Running, Failure>,
) -> Result<Running, Failure> {
    let addresses = if plan.listen.is_empty() { usual(&plan.entrances) } else { plan.listen.clone() };
    if plan.network == Network::Mainline {
        return mainline(plan, &addresses, start);
    }
    let running = start(plan.config.clone())?;
    for address in addresses {
        listen(running.service(), plan, address)?;
    }
    Ok(running)
}

/// A node of BitTorrent's DHT shares with its gateway what the messages have not, and so has one of them.
fn mainline(
    plan: &WayPlan,
    addresses: &[Multiaddr],
    start: impl FnOnce(Config) -> Result<Running, Failure>,
) -> Result<Running, Failure> {
    let [address] = addresses else { return Err(Failure::OneAddress) };
    if !matches!(socket_addr(address), Some((_, IpTransport::Udp))) {
        return Err(Failure::NotUdp { address: address.clone(), network: plan.network.name() });
    }
    let gateway = MainlineGateway::bind(address.clone())?.with_network(plan.config.network);
    let running = start(Config { mainline: Some(gateway.handle()), ..plan.config.clone() })?;
    add(running.service(), address, gateway)?;
    Ok(running)
}

fn listen(service: &DHTService, plan: &WayPlan, address: Multiaddr) -> Result<(), Failure> {
    let transport = socket_addr(&address).map(|(_, transport)| transport);
    match (plan.network, transport) {
        (Network::Native, Some(IpTransport::Udp)) => add(service, &address, UdpGateway::bind(address.clone())?),
        (Network::Native, Some(IpTransport::Tcp)) => add(service, &address, TcpGateway::bind(address.clone())?),
        #[cfg(unix)]
        (Network::Native, None) if unix_path(&address).is_some() => {
            add(service, &address, kademlia_dht::gateway::UnixGateway::bind(address.clone())?)
        }
        (Network::Rpcudp, Some(IpTransport::Udp)) => {
            let gateway = RpcUdpGateway::bind(address.clone())?.with_network(plan.config.network);
            add(service, &address, gateway)
        }
        (Network::Rpcudp | Network::Mainline, _) => Err(Failure::NotUdp { address, network: plan.network.name() }),
        (Network::Native, None) => Err(Failure::Address { address }),
    }
}

fn add<G: Gateway>(service: &DHTService, address: &Multiaddr, gateway: G) -> Result<(), Failure> {
    let registered = service.register_gateway(gateway);
    registered.map(|_| ()).map_err(|error| Failure::Gateway { address: address.clone(), cause: error.to_string() })
}

/// Where a node listens that was told only whom to join: on any port by each transport that leads there. On the loopback
/// interface where it stays on this host, or else on all.
fn usual(entrances: &[Entrance]) -> Vec<Multiaddr> {
    let all = entrances.iter().flat_map(Entrance::addresses);
    let mut addresses: Vec<Multiaddr> = all.filter_map(|address| usual_for(&split_first(&address).0)).collect();
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() {
        addresses.extend(USUAL.parse::<Multiaddr>());
    }
    addresses
}

fn usual_for(address: &Multiaddr) -> Option<Multiaddr> {
    if unix_path(address).is_some() {
        // Nobody connects to a socket of a process that has ended: this one may take its name.
        let name = format!("dht-{}.sock", std::process::id());
        return kademlia_dht::gateway::address::unix_address(std::env::temp_dir().join(name)).ok();
    }
    // What a name stands for changes, and may not be known yet.
    match transport(address)[..] {
        ["dns" | "dns4", transport @ ("udp" | "tcp")] => return format!("/ip4/0.0.0.0/{transport}/0").parse().ok(),
        ["dns6", transport @ ("udp" | "tcp")] => return format!("/ip6/::/{transport}/0").parse().ok(),
        _ => {}
    }
    let (socket, transport) = socket_addr(address)?;
    let ip = match (socket.ip().is_loopback(), socket.is_ipv4()) {
        (true, true) => "/ip4/127.0.0.1",
        (true, false) => "/ip6/::1",
        (false, true) => "/ip4/0.0.0.0",
        (false, false) => "/ip6/::",
    };
    let transport = match transport {
        IpTransport::Udp => "udp",
        IpTransport::Tcp => "tcp",
    };
    format!("{ip}/{transport}/0").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_told_whom_to_join_listens_where_that_is_possible() {
        let usual = |connect: &[&str]| -> Vec<String> {
            let entrances: Vec<_> = connect.iter().map(|address| Entrance::Address(address.parse().unwrap())).collect();
            usual(&entrances).iter().map(ToString::to_string).collect()
        };
        assert_eq!(usual(&[]), [USUAL]);
        assert_eq!(usual(&["/ip4/127.0.0.1/tcp/7", "/ip4/127.0.0.2/tcp/8"]), ["/ip4/127.0.0.1/tcp/0"]);
        assert_eq!(usual(&["/ip4/192.0.2.1/udp/7", "/ip6/::1/tcp/8"]), ["/ip4/0.0.0.0/udp/0", "/ip6/::1/tcp/0"]);
        assert_eq!(usual(&["/ip4/192.0.2.1/udp/7/p2p-circuit/memory/3"]), ["/ip4/0.0.0.0/udp/0"]);
        assert_eq!(super::usual(&[Entrance::PublicRouters])[..], ["/ip4/0.0.0.0/udp/0".parse().unwrap()]);
        let names = ["/dns/example.org/udp/7", "/dns4/example.org/tcp/7", "/dns6/example.org/udp/7"];
        assert_eq!(usual(&names), ["/ip4/0.0.0.0/tcp/0", "/ip4/0.0.0.0/udp/0", "/ip6/::/udp/0"]);
        assert!(usual(&["/unix/%2Frun%2Fdht.sock"])[0].starts_with("/unix/%2F"));
    }
}
