//! Whole networks of mixed transports in one process, on the loopback of this host.
//!
//! They are real networks: each node is a [`DHTService`](crate::DHTService) of its own with gateways of its own, and
//! knows of the others what they tell it.
//!
//! ```
//! use kademlia_dht::testnet::{Mix, TestNetwork};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mix: Mix = "udp=3,memory=3,udp+memory=1".parse()?;
//! let network = TestNetwork::builder(mix).seed(7).start()?;
//! let [first, .., last] = network.nodes() else { return Err("seven nodes".into()) };
//! first.service().save("key", "value").wait()?;
//! let found = last.service().query("key").wait()?.ok_or("not found")?;
//! assert_eq!(found.value, b"value");
//! # Ok(())
//! # }
//! ```

mod builder;
mod files;
mod mix;
mod node;
mod random;

use std::fmt;
use std::io;

use kademlia_gateways::{Id, Multiaddr};
use tempfile::TempDir;

pub use self::builder::{Builder, Progress, Stage};
use self::files::Reservation;
pub use self::mix::{Mix, MixError, Transport, Transports};
pub use self::node::TestNode;
use self::node::{Plan, with_id};
use self::random::Random;
use crate::core::Joined;
use crate::service::{Config, Error, Pending, StartError};

/// What gives each node its settings, from its number and its transports.
type Configure = Box<dyn Fn(usize, Transports) -> Config + Send + Sync>;

/// What went wrong with a test network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TestNetworkError {
    /// The limit of open files cannot be read or set.
    #[error("the limit of open files cannot be raised: {0}")]
    Limit(#[source] io::Error),
    /// The limit of open files is too low for the network.
    #[error(
        "the network needs {needed} open files, but the process may have {limit}; raise the hard limit (`ulimit -Hn`) or take fewer nodes"
    )]
    OpenFiles {
        /// How many it needs at least.
        needed: usize,
        /// How many the process may have.
        limit: u64,
    },
    /// There is no directory for the Unix sockets.
    #[error("no directory for the Unix sockets can be made: {0}")]
    Sockets(#[source] io::Error),
    /// A node did not start.
    #[error("node {node} does not start: {source}")]
    Start {
        /// Its number.
        node: usize,
        /// Why.
        source: StartError,
    },
    /// A gateway was not opened.
    #[error("node {node} has no gateway for {transport}: {cause}")]
    Gateway {
        /// The node's number.
        node: usize,
        /// The transport.
        transport: Transport,
        /// Why.
        cause: String,
    },
    /// A node did not join the others.
    #[error("node {node} on {transports} does not join through {through}: {source}")]
    Join {
        /// Its number.
        node: usize,
        /// Its transports.
        transports: Transports,
        /// The node that it wanted to join through.
        through: Multiaddr,
        /// Why it did not.
        source: Error,
    },
    /// No living node is on any of these transports.
    #[error("no living node is on {0}: there is none to join through")]
    Apart(Transports),
    /// There is no node with this number.
    #[error("there is no node {0}")]
    NoSuchNode(usize),
    /// The callback wanted no more.
    #[error("interrupted")]
    Interrupted,
}

/// A network in one process.
///
/// All choices follow from the seed, so that they can be repeated; when what happens is up to the machine. Dropping
/// the network stops all nodes and removes their sockets.
pub struct TestNetwork {
    // Before the directory: nodes remove their sockets themselves.
    nodes: Vec<TestNode>,
    sockets: TempDir,
    reservation: Reservation,
    random: Random,
    configure: Configure,
}

impl TestNetwork {
    /// What a network of these nodes is built with.
    pub fn builder(mix: Mix) -> Builder {
        Builder::new(mix)
    }

    /// All nodes, the killed ones too; each at the place of its number.
    pub fn nodes(&self) -> &[TestNode] {
        &self.nodes
    }

    /// The nodes that were not killed.
    pub fn living(&self) -> impl Iterator<Item = &TestNode> {
        self.nodes.iter().filter(|node| node.alive)
    }

    /// A living node that suits, chosen at random; `None` if none does.
    ///
    /// ```no_run
    /// # use kademlia_dht::testnet::{TestNetwork, Transport};
    /// # fn any_on_tcp(network: &mut TestNetwork) -> Option<&kademlia_dht::testnet::TestNode> {
    /// network.pick(|node| node.transports().contains(Transport::Tcp))
    /// # }
    /// ```
    pub fn pick(&mut self, suits: impl Fn(&TestNode) -> bool) -> Option<&TestNode> {
        let suiting = self.living().filter(|node| suits(node));
        let suiting: Vec<usize> = suiting.map(TestNode::index).collect();
        let chosen = self.random.choose(&suiting)?;
        self.nodes.get(chosen)
    }

    /// Adds a node on these transports and joins it through a living one. Gives its number.
    ///
    /// # Errors
    ///
    /// If it cannot be started, or no living node is on any of the transports, or the join fails.
    pub fn add(&mut self, transports: Transports) -> Result<usize, TestNetworkError> {
        let index = self.nodes.len();
        let connections = self.reserve(&[transports])?;
        let node = self.start(index, transports, connections)?;
        let joined = self.join(&node)?;
        self.nodes.push(node);
        joined.wait()?;
        Ok(index)
    }

    /// Stops a node without a word to the others. Whether it lived.
    ///
    /// # Errors
    ///
    /// If there is no such node.
    pub fn kill(&mut self, index: usize) -> Result<bool, TestNetworkError> {
        let node = self.nodes.get_mut(index).ok_or(TestNetworkError::NoSuchNode(index))?;
        node.service.stop();
        Ok(std::mem::replace(&mut node.alive, false))
    }

    /// Kills a node if it lives, and starts it again with its id and at its addresses, but without what it knew. Then
    /// it joins through another.
    ///
    /// # Errors
    ///
    /// As of [`kill`](TestNetwork::kill) and [`add`](TestNetwork::add).
    pub fn restart(&mut self, index: usize) -> Result<(), TestNetworkError> {
        self.kill(index)?;
        let old = self.nodes.get(index).ok_or(TestNetworkError::NoSuchNode(index))?;
        let config = Config { id: Some(old.service.id()), ..(self.configure)(index, old.transports) };
        let (transports, addresses) = (old.transports, old.addresses.clone());
        let connections = self.reserve(&[])?;
        let sockets = &self.sockets;
        let node = Plan { index, transports, config, addresses, sockets, connections }.start()?;
        let joined = self.join(&node)?;
        if let Some(old) = self.nodes.get_mut(index) {
            *old = node;
        }
        joined.wait()
    }

    /// Living nodes to kill, chosen at random: `count` of them, or fewer if more cannot die.
    ///
    /// What is left can still reach each other: the last node that joins two transports of the living is never chosen,
    /// nor is the last node of all.
    pub fn victims(&mut self, count: usize) -> Vec<usize> {
        let mut living: Vec<(usize, Transports)> = self.living().map(|node| (node.index, node.transports)).collect();
        self.random.shuffle(&mut living);
        choose_victims(&mut living, count)
    }

    /// Stops all nodes and removes their sockets. Dropping the network does the same.
    ///
    /// # Errors
    ///
    /// If the directory of the sockets cannot be removed.
    pub fn stop(mut self) -> Result<(), TestNetworkError> {
        self.stop_nodes();
        // The directory is empty; leaving its removal to `drop` would hide it if it was not.
        std::fs::remove_dir(self.sockets.path()).map_err(TestNetworkError::Sockets)
    }

    fn stop_nodes(&mut self) {
        for node in &mut self.nodes {
            // Handles that others hold must not keep it alive.
            node.service.stop();
            node.alive = false;
        }
    }

    /// Starts a node that knows nobody.
    fn start(
        &mut self,
        index: usize,
        transports: Transports,
        connections: usize,
    ) -> Result<TestNode, TestNetworkError> {
        let (nodes, random) = (&self.nodes, &mut self.random);
        let taken = |id: &Id| nodes.iter().any(|node| node.service.id() == *id);
        let config = with_id((self.configure)(index, transports), || random.id(), taken);
        let sockets = &self.sockets;
        Plan { index, transports, config, addresses: Vec::new(), sockets, connections }.start()
    }

    /// Sets aside the files for all nodes and for those to come. Gives the connections that a gateway may have.
    fn reserve(&mut self, more: &[Transports]) -> Result<usize, TestNetworkError> {
        let all = self.nodes.iter().map(|node| node.transports).chain(more.iter().copied());
        let gateways: Vec<Transport> = all.flat_map(Transports::iter).collect();
        self.reservation.grow_to(&gateways)
    }

    /// Begins to join a node through a living one.
    fn join(&mut self, node: &TestNode) -> Result<Joining, TestNetworkError> {
        let others: Vec<usize> = self.living().map(TestNode::index).filter(|index| *index != node.index).collect();
        self.join_through(node.index, node.transports, &node.service, &others)
    }

    /// Begins to join a node through one of `others`, whichever shares a transport with it.
    fn join_through(
        &mut self,
        node: usize,
        transports: Transports,
        service: &crate::DHTService,
        others: &[usize],
    ) -> Result<Joining, TestNetworkError> {
        let shared = |index: &usize| {
            let other = self.nodes.get(*index)?;
            Some((*index, other.transports.shared_with(transports)?))
        };
        let near: Vec<(usize, Transports)> = others.iter().filter_map(shared).collect();
        let apart = TestNetworkError::Apart(transports);
        let Some((through, shared)) = self.random.choose(&near) else { return Err(apart) };
        let shared: Vec<Transport> = shared.iter().collect();
        let transport = self.random.choose(&shared);
        let other = self.nodes.get(through);
        let address = transport.zip(other).and_then(|(transport, other)| other.address(transport));
        let through = address.cloned().ok_or(apart)?;
        let joined = service.connect(through.clone());
        Ok(Joining { node, transports, through, joined })
    }
}

/// A join under way.
struct Joining {
    node: usize,
    transports: Transports,
    through: Multiaddr,
    joined: Pending<Joined>,
}

impl Joining {
    fn wait(self) -> Result<(), TestNetworkError> {
        let Joining { node, transports, through, joined } = self;
        match joined.wait() {
            Ok(_) => Ok(()),
            Err(source) => Err(TestNetworkError::Join { node, transports, through, source }),
        }
    }
}

/// Takes those to kill out of `living`, the first ones first, such that the others still reach each other.
fn choose_victims(living: &mut Vec<(usize, Transports)>, count: usize) -> Vec<usize> {
    let mut victims = Vec::new();
    let mut place = 0;
    while victims.len() < count && living.len() > 1 && place < living.len() {
        let candidate = living.remove(place);
        if mix::split(living.iter().map(|(_, transports)| *transports)).is_none() {
            victims.push(candidate.0);
            // Who could not die before may now: perhaps it joined a transport that nobody is left on.
            place = 0;
        } else {
            living.insert(place, candidate);
            place += 1;
        }
    }
    victims
}

impl Drop for TestNetwork {
    fn drop(&mut self) {
        self.stop_nodes();
    }
}

impl fmt::Debug for TestNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestNetwork")
            .field("nodes", &self.nodes.len())
            .field("living", &self.living().count())
            .field("sockets", &self.sockets.path())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(mix: &str) -> Vec<(usize, Transports)> {
        let mix: Mix = mix.parse().unwrap();
        let all = mix.parts().iter().flat_map(|(transports, count)| std::iter::repeat_n(*transports, *count));
        all.enumerate().collect()
    }

    #[test]
    fn the_last_one_that_joins_two_transports_is_spared() {
        for seed in 0..50 {
            let mut living = nodes("udp=20,tcp=20,unix=14,udp+tcp=3,tcp+unix=3");
            Random::new(seed).shuffle(&mut living);
            let victims = choose_victims(&mut living, 50);
            assert_eq!((victims.len(), living.len()), (50, 10));
            assert_eq!(mix::split(living.iter().map(|(_, transports)| *transports)), None);
        }
    }

    #[test]
    fn a_joint_that_joins_nothing_any_more_can_die_and_the_last_node_cannot() {
        let mut living = nodes("udp+tcp=1,udp=1,tcp=2");
        // The joint comes first, but can die only when one side is gone.
        assert_eq!(choose_victims(&mut living.clone(), 1), [1]);
        assert_eq!(choose_victims(&mut living, 99).len(), 3);
        assert_eq!(living.len(), 1);
    }

    #[test]
    fn the_seed_decides_who_dies() {
        let victims = |seed| {
            let mut living = nodes("udp=50");
            Random::new(seed).shuffle(&mut living);
            choose_victims(&mut living, 10)
        };
        assert_eq!(victims(1), victims(1));
        assert_ne!(victims(1), victims(2));
    }
}
