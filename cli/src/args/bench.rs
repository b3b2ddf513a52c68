//! `dht bench`: how large a network, and how often.

use clap::Args;
use kademlia_dht::testnet::Mix;

use super::value::within;

/// Measure what nodes cost on this machine.
///
/// What a whole node with a full routing table takes to serve FIND_NODE over UDP, TCP and a Unix socket, beside a bare
/// echo of datagrams; what saving and finding 100 bytes takes in a network of real nodes over UDP; what that network
/// costs while it is idle; and the memory of a node. All of it over loopback, in half a minute. What each figure means
/// is told in docs/benchmarks.md.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Processor time of single threads, which the first figures need, and memory are known on Linux only; elsewhere these \
figures are left out.

Exit status: 0 if all that was saved was found unchanged, 1 if not, 2 if the arguments are wrong, 3 if something could \
not be measured or the result cannot be printed, 130 if it was interrupted, 141 if nobody reads the output to its end.

Examples:
  dht bench
  dht bench --runs 5 --json
  dht bench --nodes 200")]
pub(super) struct BenchArgs {
    /// Nodes in the network in which is saved and queried.
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = within(2_usize..=1000))]
    nodes: usize,

    /// Measure all of it so often, and give the median of each figure.
    ///
    /// Memory is measured in the first run only: what one network gave back, the next one takes again unseen.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = within(1_usize..=100))]
    runs: usize,

    /// What random choices follow from: ids, keys, and who asks whom.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,

    /// Measure briefly: to see that it works, not for the figures.
    #[arg(long)]
    quick: bool,

    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// `dht bench`, with all arguments sound.
#[derive(Debug)]
pub(crate) struct BenchPlan {
    /// Nodes over UDP.
    pub(crate) mix: Mix,
    pub(crate) runs: usize,
    pub(crate) seed: u64,
    pub(crate) quick: bool,
    pub(crate) json: bool,
}

impl BenchArgs {
    pub(super) fn plan(&self) -> Result<BenchPlan, String> {
        let BenchArgs { nodes, runs, seed, quick, json } = *self;
        let mix = format!("udp={nodes}").parse().map_err(|error| format!("--nodes {nodes}: {error}"))?;
        Ok(BenchPlan { mix, runs, seed, quick, json })
    }
}
