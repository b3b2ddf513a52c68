//! One node of a test network.

use kademlia_gateways::{GatewayError, Id, MemoryGateway, Multiaddr, StreamConfig, TcpGateway, UdpGateway};
use tempfile::TempDir;

use super::TestNetworkError;
use super::mix::{Transport, Transports};
use crate::service::{Config, DHTService};

/// One node of a test network.
#[derive(Debug)]
pub struct TestNode {
    pub(super) index: usize,
    pub(super) transports: Transports,
    pub(super) service: DHTService,
    pub(super) addresses: Vec<(Transport, Multiaddr)>,
    pub(super) alive: bool,
}

impl TestNode {
    /// Its number: nodes are numbered from 0, and keep their numbers when others die.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The transports it is on.
    pub fn transports(&self) -> Transports {
        self.transports
    }

    /// Its service, which has stopped if the node was killed.
    pub fn service(&self) -> &DHTService {
        &self.service
    }

    /// Where it listens on a transport, if it is on it.
    pub fn address(&self, transport: Transport) -> Option<&Multiaddr> {
        self.addresses.iter().find(|(of, _)| *of == transport).map(|(_, address)| address)
    }

    /// Whether it was not killed.
    pub fn is_alive(&self) -> bool {
        self.alive
    }
}

/// What a node is started from.
pub(super) struct Plan<'a> {
    pub(super) index: usize,
    pub(super) transports: Transports,
    pub(super) config: Config,
    /// Where it listened before, if it is started again.
    pub(super) addresses: Vec<(Transport, Multiaddr)>,
    pub(super) sockets: &'a TempDir,
    pub(super) connections: usize,
}

impl Plan<'_> {
    pub(super) fn start(self) -> Result<TestNode, TestNetworkError> {
        let node = self.index;
        let service =
            DHTService::start(self.config.clone()).map_err(|source| TestNetworkError::Start { node, source })?;
        let mut addresses = Vec::with_capacity(self.transports.count());
        for transport in self.transports.iter() {
            let address = self.register(&service, transport)?;
            addresses.push((transport, address));
        }
        Ok(TestNode { index: node, transports: self.transports, service, addresses, alive: true })
    }

    /// Opens a gateway and gives its address.
    fn register(&self, service: &DHTService, transport: Transport) -> Result<Multiaddr, TestNetworkError> {
        let node = self.index;
        let bind = |source: GatewayError| TestNetworkError::Gateway { node, transport, cause: source.to_string() };
        let streams = StreamConfig { max_connections: self.connections, ..StreamConfig::default() };
        let wanted = self.wanted(transport)?;
        macro_rules! register {
            ($gateway:expr) => {{
                let gateway = $gateway.map_err(bind)?;
                let address = gateway.address().clone();
                match service.register_gateway(gateway) {
                    Ok(_) => Ok(address),
                    Err(error) => Err(TestNetworkError::Gateway { node, transport, cause: error.cause().to_string() }),
                }
            }};
        }
        match transport {
            Transport::Udp | Transport::Udp6 => register!(UdpGateway::bind(wanted)),
            Transport::Tcp | Transport::Tcp6 => register!(TcpGateway::bind_with(wanted, streams)),
            Transport::Memory => register!(MemoryGateway::bind(wanted)),
            #[cfg(unix)]
            Transport::Unix => register!(kademlia_gateways::UnixGateway::bind_with(wanted, streams)),
            #[cfg(not(unix))]
            Transport::Unix => {
                drop((wanted, streams));
                Err(TestNetworkError::Gateway { node, transport, cause: "this system has none".to_owned() })
            }
        }
    }

    /// The address to listen on: that of before, or any free one of this host.
    fn wanted(&self, transport: Transport) -> Result<Multiaddr, TestNetworkError> {
        if let Some((_, address)) = self.addresses.iter().find(|(of, _)| *of == transport) {
            return Ok(address.clone());
        }
        let wrong = |cause: String| TestNetworkError::Gateway { node: self.index, transport, cause };
        let text = match transport {
            Transport::Udp => "/ip4/127.0.0.1/udp/0",
            Transport::Udp6 => "/ip6/::1/udp/0",
            Transport::Tcp => "/ip4/127.0.0.1/tcp/0",
            Transport::Tcp6 => "/ip6/::1/tcp/0",
            Transport::Memory => "/memory/0",
            Transport::Unix => {
                let path = self.sockets.path().join(format!("{}.sock", self.index));
                return kademlia_gateways::address::unix_address(path).map_err(|error| wrong(error.to_string()));
            }
        };
        text.parse().map_err(|error: multiaddr::Error| wrong(error.to_string()))
    }
}

/// The config of a node with an id of its own choosing, in the hasher's key space.
pub(super) fn with_id(mut config: Config, mut draw: impl FnMut() -> Id, taken: impl Fn(&Id) -> bool) -> Config {
    if config.id.is_none() {
        let space = config.hasher.key_space();
        // A key space that is nearly full would keep this from ending; then two nodes share an id, as is their fate.
        let free = (0..1_000).map(|_| space.fit(&draw())).find(|id| !taken(id));
        config.id = Some(free.unwrap_or_else(|| space.fit(&draw())));
    }
    config
}
