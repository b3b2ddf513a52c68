//! How a network comes to be.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use super::files::Reservation;
use super::mix::{Mix, Transports};
use super::random::Random;
use super::{Configure, Joining, TestNetwork, TestNetworkError, TestNode};
use crate::service::{Config, network_named};

/// How far a network has come. Shown after each node of each stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// Nodes that have come through it.
    pub done: usize,
    /// All nodes.
    pub nodes: usize,
}

/// What is done with each node, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// It is started and its gateways are opened.
    Start,
    /// It joins the others.
    Join,
    /// It looks once more for its neighbours, now that all are there.
    Settle,
}

/// Builds a [`TestNetwork`].
pub struct Builder {
    mix: Mix,
    seed: u64,
    at_once: usize,
    configure: Configure,
    progress: Box<dyn FnMut(Progress) -> ControlFlow<()>>,
}

/// Makes the networks of this process strangers to each other, though one may get a port that another has given up.
static NETWORKS: AtomicU64 = AtomicU64::new(0);

impl Builder {
    pub(super) fn new(mix: Mix) -> Self {
        let configure: Configure = Box::new(|_, _| Config::default());
        Builder { mix, seed: 0, at_once: 8, configure, progress: Box::new(|_| ControlFlow::Continue(())) }
    }

    /// What all choices follow from: ids, who joins through whom, who is killed. 0 if not set.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How many nodes join at once: 8 if not set.
    #[must_use]
    pub fn joins_at_once(mut self, nodes: usize) -> Self {
        self.at_once = nodes.max(1);
        self
    }

    /// The settings of each node, from its number and its transports: the defaults if not set.
    ///
    /// A node without an id gets one that follows from the seed; a network of the default's name gets one of its own.
    #[must_use]
    pub fn configure(mut self, configure: impl Fn(usize, Transports) -> Config + Send + Sync + 'static) -> Self {
        self.configure = Box::new(configure);
        self
    }

    /// Is called as the network comes up, and can end that, which gives [`TestNetworkError::Interrupted`].
    #[must_use]
    pub fn progress(mut self, progress: impl FnMut(Progress) -> ControlFlow<()> + 'static) -> Self {
        self.progress = Box::new(progress);
        self
    }

    /// Starts all nodes and joins them. When this returns, each has looked for its neighbours after all were there.
    ///
    /// # Errors
    ///
    /// What went wrong first. Nothing of the network is left then.
    pub fn start(self) -> Result<TestNetwork, TestNetworkError> {
        let Builder { mix, seed, at_once, configure, progress } = self;
        let mut random = Random::new(seed);
        let order = order(&mix, &mut random);
        let sockets = tempfile::Builder::new().prefix("dht-").tempdir().map_err(TestNetworkError::Sockets)?;
        let network = TestNetwork {
            nodes: Vec::with_capacity(order.len()),
            sockets,
            reservation: Reservation::default(),
            random,
            configure: of_a_network_of_its_own(configure),
        };
        let mut building = Building { network, at_once, progress };
        building.start(&order)?;
        building.join()?;
        building.settle()?;
        Ok(building.network)
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("mix", &self.mix).field("seed", &self.seed).finish_non_exhaustive()
    }
}

fn of_a_network_of_its_own(configure: Configure) -> Configure {
    let number = NETWORKS.fetch_add(1, Ordering::Relaxed);
    let own = network_named(&format!("test network {number} of process {}", process::id()));
    Box::new(move |index, transports| {
        let config = configure(index, transports);
        let network = if config.network == Config::default().network { own } else { config.network };
        Config { network, ..config }
    })
}

/// The order in which nodes join: first those that join transports, each with one in common with those before it, so
/// that every other finds somebody to join through.
fn order(mix: &Mix, random: &mut Random) -> Vec<Transports> {
    let all = mix.parts().iter().flat_map(|(transports, count)| std::iter::repeat_n(*transports, *count));
    let (mut joints, mut others): (Vec<_>, Vec<_>) = all.partition(|transports| transports.count() > 1);
    random.shuffle(&mut joints);
    random.shuffle(&mut others);
    let mut waiting: VecDeque<Transports> = joints.into();
    let mut order = Vec::with_capacity(mix.nodes());
    let mut joined: Option<Transports> = None;
    // A mix does not fall apart, so one of those that wait always has something in common with those before it.
    while let Some(next) = waiting.iter().position(|next| joined.is_none_or(|all| all.shared_with(*next).is_some())) {
        let Some(next) = waiting.remove(next) else { break };
        joined = Some(joined.map_or(next, |all| all.and(next)));
        order.push(next);
    }
    order.append(&mut others);
    order
}

struct Building {
    network: TestNetwork,
    at_once: usize,
    progress: Box<dyn FnMut(Progress) -> ControlFlow<()>>,
}

impl Building {
    fn tell(&mut self, stage: Stage, done: usize, nodes: usize) -> Result<(), TestNetworkError> {
        match (self.progress)(Progress { stage, done, nodes }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(TestNetworkError::Interrupted),
        }
    }

    fn start(&mut self, order: &[Transports]) -> Result<(), TestNetworkError> {
        // At once, so that the first nodes too know how many connections each may have.
        let connections = self.network.reserve(order)?;
        log::debug!("each gateway may have {connections} connections");
        for (index, transports) in order.iter().enumerate() {
            let node = self.network.start(index, *transports, connections)?;
            self.network.nodes.push(node);
            self.tell(Stage::Start, index + 1, order.len())?;
        }
        Ok(())
    }

    /// Joins the nodes in waves, each through the nodes of earlier waves, so that who joins through whom does not hang
    /// on who was faster. A node that joins transports is a wave of its own: the next one may need it.
    fn join(&mut self) -> Result<(), TestNetworkError> {
        let nodes = self.network.nodes.len();
        let mut joined = 1;
        self.tell(Stage::Join, joined, nodes)?;
        while joined < nodes {
            let joints = self.network.nodes.iter().skip(joined).take_while(|node| node.transports.count() > 1).count();
            let wave = if joints > 0 { 1 } else { self.at_once.min(nodes - joined) };
            let earlier: Vec<usize> = (0..joined).collect();
            let mut joins = Vec::with_capacity(wave);
            for index in joined..joined + wave {
                joins.extend(self.connect(index, &earlier).transpose()?);
            }
            for joining in joins {
                joining.wait()?;
                joined += 1;
                self.tell(Stage::Join, joined, nodes)?;
            }
        }
        Ok(())
    }

    /// Has every node look for its neighbours again: the early ones could not find those that came later.
    fn settle(&mut self) -> Result<(), TestNetworkError> {
        let nodes = self.network.nodes.len();
        if nodes < 2 {
            return self.tell(Stage::Settle, nodes, nodes);
        }
        let mut under_way: VecDeque<Joining> = VecDeque::with_capacity(self.at_once);
        let mut done = 0;
        for index in 0..nodes {
            let others: Vec<usize> = (0..nodes).filter(|other| *other != index).collect();
            under_way.extend(self.connect(index, &others).transpose()?);
            if under_way.len() < self.at_once && index + 1 < nodes {
                continue;
            }
            let left = if index + 1 < nodes { self.at_once - 1 } else { 0 };
            while under_way.len() > left {
                let Some(joining) = under_way.pop_front() else { break };
                joining.wait()?;
                done += 1;
                self.tell(Stage::Settle, done, nodes)?;
            }
        }
        Ok(())
    }

    fn connect(&mut self, index: usize, others: &[usize]) -> Option<Result<Joining, TestNetworkError>> {
        let node = self.network.nodes.get(index)?;
        let (transports, service) = (node.transports(), TestNode::service(node).clone());
        Some(self.network.join_through(index, transports, &service, others))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_finds_somebody_before_it_to_join_through() {
        let mixes = ["udp=9,unix=2,memory=2,udp+tcp=2,tcp+tcp6=1,tcp6+unix=1,unix+memory=3,udp+tcp+udp6=1", "udp=3"];
        for mix in mixes {
            let mix: Mix = mix.parse().unwrap();
            for seed in 0..100 {
                let order = order(&mix, &mut Random::new(seed));
                assert_eq!(order.len(), mix.nodes());
                for (index, node) in order.iter().enumerate().skip(1) {
                    let earlier = &order[..index];
                    assert!(earlier.iter().any(|other| other.shared_with(*node).is_some()), "{order:?}");
                }
            }
        }
    }
}
