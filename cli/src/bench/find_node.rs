//! What one whole node takes to serve FIND_NODE, over each transport, beside a bare echo under the same load.

use std::io;
use std::net::SocketAddr;

use indicatif::ProgressBar;
use kademlia_dht::gateway::{Gateway, GatewayError, TcpGateway, UdpGateway, address, codec};
use kademlia_dht::{Config, DHTService, Error, GatewayId, Multiaddr, RemoveError, StartError, network_named};
use kademlia_simulator::Random;

use super::crowd::{Crowd, K, id_in_bucket};
use super::echo::{self, Echo};
use super::figures::{self, Figure, Figures};
use super::load::{Datagrams, Frames, LoadError, Wire};
use super::server::{Ask, Server};
use super::system::Threads;
use super::{NODE_THREADS, Scale};
use crate::interrupt::Interrupt;
use crate::network::bar;

/// So many bursts do not count.
const WARM_UP: usize = 2;

/// Why a node could not be measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    #[error("the node does not start: {0}")]
    Start(#[from] StartError),
    #[error("the node has no gateway: {0}")]
    Gateway(#[from] GatewayError),
    #[error("the node does not take the gateway: {0}")]
    Register(String),
    #[error("the node does not give the gateway back: {0}")]
    Remove(#[from] RemoveError),
    #[error("the peers that fill the node's table cannot be started: {0}")]
    Crowd(#[source] io::Error),
    #[error("a peer that is to fill the node's table does not answer it: {0}")]
    Ping(#[source] Error),
    #[error("the node's routing table is not full: {known} contacts instead of {wanted}")]
    TableNotFull { known: usize, wanted: usize },
    #[error("{short} of {replies} replies had fewer than {K} contacts")]
    Short { short: usize, replies: usize },
    #[error("there is no thread whose name begins with {0}")]
    NoThreads(&'static str),
    #[error("a request cannot be encoded: {0}")]
    Encode(#[from] codec::EncodeError),
    #[error("no folder for a Unix socket can be made: {0}")]
    Folder(#[source] io::Error),
    #[error("an address is not what was bound: {0}")]
    Address(Multiaddr),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("interrupted")]
    Interrupted,
}

/// A real node with a full table.
struct FullNode {
    service: DHTService,
    udp: Multiaddr,
    ask: Ask,
    crowd: Crowd,
}

impl FullNode {
    fn start(interrupt: &Interrupt, random: &mut Random) -> Result<Self, NodeError> {
        let own = random.key();
        let network = network_named(&format!("dht bench, process {}", std::process::id()));
        let service = DHTService::start(Config { id: Some(own), network, ..Config::default() })?;
        interrupt.stops([service.clone()].into_iter());
        let gateway = UdpGateway::bind(loopback("udp")?)?;
        let udp = gateway.address().clone();
        register(&service, gateway)?;
        let crowd = Crowd::start(&own, network, random)?;
        crowd.meet(&service, interrupt)?;
        // In the first bucket, as half of all who ask are, and with no place left for it there.
        let ask = Ask::FindNode { network, sender: id_in_bucket(&own, 0, random) };
        let node = FullNode { service, udp, ask, crowd };
        node.check()?;
        Ok(node)
    }

    /// Whether the table is as it should be.
    fn check(&self) -> Result<(), NodeError> {
        let (known, wanted) = (self.service.status().known_peers, self.crowd.contacts());
        if known == wanted { Ok(()) } else { Err(NodeError::TableNotFull { known, wanted }) }
    }
}

impl Drop for FullNode {
    fn drop(&mut self) {
        // Others hold handles.
        self.service.stop();
    }
}

/// Any free port of this host.
fn loopback(transport: &str) -> Result<Multiaddr, NodeError> {
    format!("/ip4/127.0.0.1/{transport}/0").parse().map_err(|error| NodeError::Register(format!("{error}")))
}

fn register<G: Gateway>(service: &DHTService, gateway: G) -> Result<GatewayId, NodeError> {
    service.register_gateway(gateway).map_err(|error| NodeError::Register(error.to_string()))
}

fn socket_address(address: &Multiaddr) -> Result<SocketAddr, NodeError> {
    let address_and_transport = address::socket_addr(address);
    address_and_transport.map(|(address, _)| address).ok_or_else(|| NodeError::Address(address.clone()))
}

/// A node under measurement, and how.
struct Measured<'a> {
    node: FullNode,
    scale: &'a Scale,
    interrupt: &'a Interrupt,
    random: &'a mut Random,
    bar: &'a ProgressBar,
}

/// Measures the echo and the node, over each transport in turn.
pub(super) fn measure(scale: &Scale, interrupt: &Interrupt, random: &mut Random) -> Result<Figures, NodeError> {
    let bar = bar("fill table", 3 * scale.turns);
    let result = FullNode::start(interrupt, random).and_then(|node| {
        let mut measured = Measured { node, scale, interrupt, random, bar: &bar };
        let mut figures = measured.over_udp()?;
        figures.append(measured.over_tcp()?);
        figures.append(measured.over_unix()?);
        measured.node.check()?;
        Ok(figures)
    });
    bar.finish_and_clear();
    // Whatever failed then, failed because the node was stopped.
    if interrupt.is_wanted() { Err(NodeError::Interrupted) } else { result }
}

impl Measured<'_> {
    /// The echo and the node by turns, so that what else the machine does strikes both.
    fn over_udp(&mut self) -> Result<Figures, NodeError> {
        let server = Echo::start()?;
        let mut echo = Server::new(Datagrams::connect(server.address())?, echo::THREAD, Ask::Echo);
        let node = Datagrams::connect(socket_address(&self.node.udp)?)?;
        let mut node = Server::new(node, NODE_THREADS, self.node.ask);
        self.warm_up("udp", &mut echo)?;
        self.warm_up("udp", &mut node)?;
        let (echo_threads, node_threads) = (echo.threads()?, node.threads()?);
        for _ in 0..self.scale.turns {
            self.burst(&mut echo, echo_threads.as_ref())?;
            self.burst(&mut node, node_threads.as_ref())?;
            self.bar.inc(1);
        }
        let ((echo_cpu, echo_rate), (cpu, rate)) = (echo.result(), node.result());
        let mut figures = Figures::default();
        figures.add(&figures::ECHO_CPU, echo_cpu);
        figures.add(&figures::ECHO_RATE, echo_rate);
        figures.add(&figures::FIND_NODE_CPU, cpu);
        figures.add(&figures::FIND_NODE_RATIO, cpu.zip(echo_cpu).map(|(cpu, echo)| cpu / echo));
        figures.add(&figures::FIND_NODE_RATE, rate);
        Ok(figures)
    }

    fn over_tcp(&mut self) -> Result<Figures, NodeError> {
        let gateway = TcpGateway::bind(loopback("tcp")?)?;
        let to = gateway.address().clone();
        // The client says that it listens there too: nobody has a reason to call it.
        let connect = || Frames::connect_tcp(socket_address(&to)?, &to).map_err(NodeError::Load);
        self.over("tcp", gateway, connect, &figures::FIND_NODE_TCP_CPU, &figures::FIND_NODE_TCP_RATE)
    }

    #[cfg(unix)]
    fn over_unix(&mut self) -> Result<Figures, NodeError> {
        let folder = tempfile::Builder::new().prefix("dht-").tempdir().map_err(NodeError::Folder)?;
        let path = folder.path().join("node.sock");
        let gateway = kademlia_dht::gateway::UnixGateway::bind_path(path.clone())?;
        let own = gateway.address().clone();
        let connect = || Frames::connect_unix(&path, &own).map_err(NodeError::Load);
        self.over("unix", gateway, connect, &figures::FIND_NODE_UNIX_CPU, &figures::FIND_NODE_UNIX_RATE)
    }

    /// This system has no such sockets.
    #[cfg(not(unix))]
    fn over_unix(&mut self) -> Result<Figures, NodeError> {
        Ok(Figures::default())
    }

    /// The same node by a further gateway, which it has only for so long.
    fn over<W: Wire>(
        &mut self,
        name: &'static str,
        gateway: impl Gateway,
        connect: impl FnOnce() -> Result<W, NodeError>,
        cpu_figure: &'static Figure,
        rate_figure: &'static Figure,
    ) -> Result<Figures, NodeError> {
        let registered = register(&self.node.service, gateway)?;
        let mut node = Server::new(connect()?, NODE_THREADS, self.node.ask);
        self.warm_up(name, &mut node)?;
        let threads = node.threads()?;
        for _ in 0..self.scale.turns {
            self.burst(&mut node, threads.as_ref())?;
            self.bar.inc(1);
        }
        self.node.service.remove_gateway(registered)?;
        let (cpu, rate) = node.result();
        let mut figures = Figures::default();
        figures.add(cpu_figure, cpu);
        figures.add(rate_figure, rate);
        Ok(figures)
    }

    /// Bursts that do not count.
    fn warm_up(&mut self, name: &'static str, server: &mut Server<impl Wire>) -> Result<(), NodeError> {
        self.bar.set_message(name);
        for _ in 0..WARM_UP {
            self.burst(server, None)?;
        }
        server.forget();
        Ok(())
    }

    fn burst(&mut self, server: &mut Server<impl Wire>, threads: Option<&Threads>) -> Result<(), NodeError> {
        if self.interrupt.is_wanted() {
            return Err(NodeError::Interrupted);
        }
        server.burst(self.scale.burst, threads, self.random)
    }
}
