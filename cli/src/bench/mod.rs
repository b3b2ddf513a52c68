//! `dht bench`: what this machine does with nodes of this library.

mod crowd;
mod echo;
mod figures;
mod find_node;
mod load;
mod network;
mod server;
mod system;
mod table;

use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use kademlia_simulator::Random;
use serde::Serialize;

use self::figures::Figures;
use self::find_node::NodeError;
use crate::args::BenchPlan;
use crate::interrupt::Interrupt;
use crate::network::NetworkFailure;
use crate::say;
use crate::signals::SignalsError;

/// How the names of all threads of a node begin.
const NODE_THREADS: &str = "dht-";

/// Of what went wrong, so much is listed.
const LISTED: usize = 20;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Network(#[from] NetworkFailure),
    #[error(transparent)]
    Signals(#[from] SignalsError),
    #[error("cannot print the result: {0}")]
    Print(#[from] io::Error),
}

impl Failure {
    /// Whether the user wanted no more.
    pub(crate) fn is_interruption(&self) -> bool {
        matches!(self, Failure::Node(NodeError::Interrupted) | Failure::Network(NetworkFailure::Interrupted))
    }
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Scale {
    /// Bursts of each kind of request that are measured.
    turns: usize,
    /// Requests in a burst.
    burst: usize,
    saves: usize,
    queries: usize,
    queries_at_once: usize,
    /// Until the network is idle.
    settle: Duration,
    idle: Duration,
}

impl Scale {
    const FULL: Scale = Scale {
        turns: 20,
        burst: 4096,
        saves: 500,
        queries: 1000,
        queries_at_once: 5000,
        settle: Duration::from_secs(3),
        idle: Duration::from_secs(10),
    };

    const QUICK: Scale = Scale {
        turns: 3,
        burst: 256,
        saves: 20,
        queries: 20,
        queries_at_once: 64,
        settle: Duration::from_millis(100),
        idle: Duration::from_millis(500),
    };
}

/// All that was measured, as JSON.
#[derive(Debug, Serialize)]
struct Summary {
    version: &'static str,
    nodes: usize,
    runs: usize,
    seed: u64,
    quick: bool,
    /// Without optimization the figures mean little.
    optimized: bool,
    cores: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    processor: Option<String>,
    system: &'static str,
    #[serde(flatten)]
    figures: Figures,
}

/// Measures, and prints the figures. Whether all that was saved was found.
pub(crate) fn run(plan: &BenchPlan) -> Result<bool, Failure> {
    let interrupt = Interrupt::listen()?;
    if cfg!(debug_assertions) {
        say("this program was built without optimization: run `cargo run --release -- bench` for figures that count");
    }
    let scale = if plan.quick { Scale::QUICK } else { Scale::FULL };
    let (mut runs, mut wrong) = (Vec::with_capacity(plan.runs), Vec::new());
    for number in 0..plan.runs {
        if plan.runs > 1 {
            say(format_args!("run {} of {}", number + 1, plan.runs));
        }
        let mut random = Random::new(plan.seed.wrapping_add(number as u64), "bench");
        // First, while no memory has been used and given back.
        let found = network::measure(&plan.mix, plan.seed, &scale, number == 0, &interrupt, &mut random)?;
        let mut figures = find_node::measure(&scale, &interrupt, &mut random)?;
        figures.append(found.figures);
        runs.push(figures);
        wrong.extend(found.wrong);
    }
    print(plan, Figures::median(&runs))?;
    for wrong in wrong.iter().take(LISTED) {
        say(wrong);
    }
    if wrong.len() > LISTED {
        say(format_args!("... and {} more", wrong.len() - LISTED));
    }
    Ok(wrong.is_empty())
}

fn print(plan: &BenchPlan, figures: Figures) -> Result<(), Failure> {
    if figures.get(&figures::ECHO_CPU).is_none() {
        say("this system does not tell the processor time of single threads: those figures are left out");
    }
    let summary = Summary {
        version: env!("CARGO_PKG_VERSION"),
        nodes: plan.mix.nodes(),
        runs: plan.runs,
        seed: plan.seed,
        quick: plan.quick,
        optimized: !cfg!(debug_assertions),
        cores: thread::available_parallelism().map_or(1, usize::from),
        processor: system::processor(),
        system: std::env::consts::OS,
        figures,
    };
    let mut out = io::stdout();
    if plan.json {
        writeln!(out, "{}", serde_json::to_string(&summary).map_err(io::Error::from)?)?;
    } else {
        writeln!(out, "{}\n{}", table::title(&summary), table::table(&summary))?;
    }
    Ok(())
}
