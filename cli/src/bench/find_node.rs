//! What one whole node takes to serve FIND_NODE, over each transport, beside a bare echo under the same load.

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use indicatif::ProgressBar;
use kademlia_dht::gateway::{
    Body, Envelope, Gateway, GatewayError, Message, Reply, Request as Question, Tag, TcpGateway, UdpGateway, address,
    codec,
};
use kademlia_dht::{Config, DHTService, Error, Id, Multiaddr, NetworkId, RemoveError, StartError, network_named};
use kademlia_simulator::Random;

use super::Scale;
use super::crowd::{Crowd, K, id_in_bucket};
use super::echo::{self, Echo};
use super::figures::{self, Figures, median, microseconds};
use super::load::{self, Datagrams, Frames, LoadError, Replies, Request, Wire};
use super::system::Threads;
use crate::interrupt::Interrupt;
use crate::network::bar;

/// How the names of all threads of a node begin.
const NODE_THREADS: &str = "dht-";

/// After a burst the threads need so long to fall asleep, when their processor time has been counted.
const REST: Duration = Duration::from_millis(5);

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

/// What serves, its processor time, and the client that asks it.
struct Server<W> {
    wire: W,
    /// How the names of its threads begin.
    threads: &'static str,
    ask: Ask,
    replies: Replies,
    cpu: Vec<f64>,
    rates: Vec<f64>,
}

/// What the requests are.
#[derive(Debug, Clone, Copy)]
enum Ask {
    Echo,
    FindNode { network: NetworkId, sender: Id },
}

impl Ask {
    /// A burst of requests, for random targets.
    fn requests(&self, amount: usize, random: &mut Random) -> Result<Vec<Request>, NodeError> {
        (0..amount)
            .map(|_| {
                let tag = random.bits();
                let Ask::FindNode { network, sender } = *self else { return Ok(echo::request(tag)) };
                let body = Body::Request(Question::FindNode { target: random.key() });
                let message = Message { network, tag: Tag(tag), sender: Some(sender), also: Vec::new(), body };
                let mut bytes = Vec::new();
                codec::encode(&Envelope::Direct(message), &mut bytes)?;
                Ok(Request { tag, bytes })
            })
            .collect()
    }

    fn tag_of(&self, reply: &[u8]) -> Option<u64> {
        match self {
            Ask::Echo => echo::tag_of(reply),
            Ask::FindNode { .. } => Some(codec::decode(reply).ok()?.message().tag.0),
        }
    }

    /// Whether a reply has all that it must have.
    fn is_whole(&self, reply: &[u8]) -> bool {
        let Ask::FindNode { .. } = self else { return true };
        codec::decode(reply).is_ok_and(|envelope| match &envelope.message().body {
            Body::Reply(Reply::Found(found)) => found.contacts.len() == K,
            _ => false,
        })
    }
}

impl<W: Wire> Server<W> {
    fn new(wire: W, threads: &'static str, ask: Ask) -> Self {
        Server { wire, threads, ask, replies: Replies::default(), cpu: Vec::new(), rates: Vec::new() }
    }

    /// Two bursts that do not count.
    fn warm_up(&mut self, scale: &Scale, random: &mut Random) -> Result<(), NodeError> {
        for _ in 0..2 {
            self.burst(scale.burst, None, random)?;
        }
        (self.cpu, self.rates) = Default::default();
        Ok(())
    }

    /// The threads of the server, which has served already; `None` where the system does not tell their time.
    fn threads(&self) -> Result<Option<Threads>, NodeError> {
        match Threads::named(self.threads) {
            Some(threads) if threads.len() == 0 => Err(NodeError::NoThreads(self.threads)),
            threads => Ok(threads),
        }
    }

    /// One burst of requests, and what it took.
    fn burst(&mut self, amount: usize, threads: Option<&Threads>, random: &mut Random) -> Result<(), NodeError> {
        let requests = self.ask.requests(amount, random)?;
        thread::sleep(REST);
        let before = threads.and_then(Threads::time);
        let elapsed = load::burst(&mut self.wire, &requests, &mut self.replies, |reply| self.ask.tag_of(reply))?;
        thread::sleep(REST);
        let after = threads.and_then(Threads::time);
        let replies = self.replies.iter().count();
        let short = self.replies.iter().filter(|reply| !self.ask.is_whole(reply)).count();
        if short > 0 {
            return Err(NodeError::Short { short, replies });
        }
        let taken = before.zip(after).map(|(before, after)| microseconds(after.saturating_sub(before)));
        self.cpu.extend(taken.map(|taken| taken / replies.max(1) as f64));
        self.rates.push(replies as f64 / elapsed.as_secs_f64().max(1e-9));
        Ok(())
    }

    /// The median of all bursts: processor time in microseconds a round trip, and round trips a second.
    fn result(&self) -> (Option<f64>, Option<f64>) {
        (median(self.cpu.iter().copied()), median(self.rates.iter().copied()))
    }
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

fn register<G: Gateway>(service: &DHTService, gateway: G) -> Result<kademlia_dht::GatewayId, NodeError> {
    service.register_gateway(gateway).map_err(|error| NodeError::Register(error.to_string()))
}

fn socket_address(address: &Multiaddr) -> Result<SocketAddr, NodeError> {
    let address_and_transport = address::socket_addr(address);
    address_and_transport.map(|(address, _)| address).ok_or_else(|| NodeError::Address(address.clone()))
}

/// Measures the echo and the node, over each transport in turn.
pub(super) fn measure(scale: &Scale, interrupt: &Interrupt, random: &mut Random) -> Result<Figures, NodeError> {
    let bar = bar("fill table", 3 * scale.turns);
    let result = FullNode::start(interrupt, random).and_then(|node| {
        let mut figures = over_udp(&node, scale, interrupt, &bar, random)?;
        figures.append(over_tcp(&node, scale, interrupt, &bar, random)?);
        figures.append(over_unix(&node, scale, interrupt, &bar, random)?);
        node.check()?;
        Ok(figures)
    });
    bar.finish_and_clear();
    if interrupt.is_wanted() { Err(NodeError::Interrupted) } else { result }
}

/// The echo and the node by turns, so that what else the machine does strikes both.
fn over_udp(
    node: &FullNode,
    scale: &Scale,
    interrupt: &Interrupt,
    bar: &ProgressBar,
    random: &mut Random,
) -> Result<Figures, NodeError> {
    bar.set_message("udp");
    let server = Echo::start()?;
    let mut echo = Server::new(Datagrams::connect(server.address())?, echo::THREAD, Ask::Echo);
    let mut find = Server::new(Datagrams::connect(socket_address(&node.udp)?)?, NODE_THREADS, node.ask);
    echo.warm_up(scale, random)?;
    find.warm_up(scale, random)?;
    let (echo_threads, node_threads) = (echo.threads()?, find.threads()?);
    for _ in 0..scale.turns {
        stop_if_wanted(interrupt)?;
        echo.burst(scale.burst, echo_threads.as_ref(), random)?;
        find.burst(scale.burst, node_threads.as_ref(), random)?;
        bar.inc(1);
    }
    let ((echo_cpu, echo_rate), (cpu, rate)) = (echo.result(), find.result());
    let mut figures = Figures::default();
    figures.add(&figures::ECHO_CPU, echo_cpu);
    figures.add(&figures::ECHO_RATE, echo_rate);
    figures.add(&figures::FIND_NODE_CPU, cpu);
    figures.add(&figures::FIND_NODE_RATIO, cpu.zip(echo_cpu).map(|(cpu, echo)| cpu / echo));
    figures.add(&figures::FIND_NODE_RATE, rate);
    Ok(figures)
}

fn over_tcp(
    node: &FullNode,
    scale: &Scale,
    interrupt: &Interrupt,
    bar: &ProgressBar,
    random: &mut Random,
) -> Result<Figures, NodeError> {
    bar.set_message("tcp");
    let gateway = TcpGateway::bind(loopback("tcp")?)?;
    let to = gateway.address().clone();
    let registered = register(&node.service, gateway)?;
    // Where the client would listen if it did; nobody has a reason to call there.
    let wire = Frames::connect_tcp(socket_address(&to)?, &to)?;
    let (cpu, rate) = over(Server::new(wire, NODE_THREADS, node.ask), scale, interrupt, bar, random)?;
    node.service.remove_gateway(registered)?;
    let mut figures = Figures::default();
    figures.add(&figures::FIND_NODE_TCP_CPU, cpu);
    figures.add(&figures::FIND_NODE_TCP_RATE, rate);
    Ok(figures)
}

#[cfg(unix)]
fn over_unix(
    node: &FullNode,
    scale: &Scale,
    interrupt: &Interrupt,
    bar: &ProgressBar,
    random: &mut Random,
) -> Result<Figures, NodeError> {
    bar.set_message("unix");
    let folder = tempfile::Builder::new().prefix("dht-").tempdir().map_err(NodeError::Folder)?;
    let path = folder.path().join("node.sock");
    let gateway = kademlia_dht::gateway::UnixGateway::bind_path(path.clone())?;
    let own = gateway.address().clone();
    let registered = register(&node.service, gateway)?;
    let wire = Frames::connect_unix(&path, &own)?;
    let (cpu, rate) = over(Server::new(wire, NODE_THREADS, node.ask), scale, interrupt, bar, random)?;
    node.service.remove_gateway(registered)?;
    let mut figures = Figures::default();
    figures.add(&figures::FIND_NODE_UNIX_CPU, cpu);
    figures.add(&figures::FIND_NODE_UNIX_RATE, rate);
    Ok(figures)
}

/// This system has no such sockets.
#[cfg(not(unix))]
fn over_unix(_: &FullNode, _: &Scale, _: &Interrupt, _: &ProgressBar, _: &mut Random) -> Result<Figures, NodeError> {
    Ok(Figures::default())
}

/// Processor time in microseconds a round trip, and round trips a second.
fn over(
    mut server: Server<impl Wire>,
    scale: &Scale,
    interrupt: &Interrupt,
    bar: &ProgressBar,
    random: &mut Random,
) -> Result<(Option<f64>, Option<f64>), NodeError> {
    server.warm_up(scale, random)?;
    let threads = server.threads()?;
    for _ in 0..scale.turns {
        stop_if_wanted(interrupt)?;
        server.burst(scale.burst, threads.as_ref(), random)?;
        bar.inc(1);
    }
    Ok(server.result())
}

fn stop_if_wanted(interrupt: &Interrupt) -> Result<(), NodeError> {
    if interrupt.is_wanted() { Err(NodeError::Interrupted) } else { Ok(()) }
}
