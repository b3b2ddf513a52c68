//! Real networks on this host, as commands start them.

use std::io;
use std::ops::ControlFlow;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use kademlia_dht::testnet::{Mix, Progress, Stage, TestNetwork, TestNetworkError};

use crate::interrupt::Interrupt;
use crate::say;

/// Why nothing came of a network, or of what was to be done with it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkFailure {
    #[error(transparent)]
    Network(TestNetworkError),
    #[error("cannot start a thread: {0}")]
    Threads(#[source] io::Error),
    #[error("interrupted")]
    Interrupted,
}

impl From<TestNetworkError> for NetworkFailure {
    fn from(error: TestNetworkError) -> Self {
        match error {
            TestNetworkError::Interrupted => NetworkFailure::Interrupted,
            error => NetworkFailure::Network(error),
        }
    }
}

/// Starts and joins the nodes, and shows how far it is. An interruption stops them.
pub(crate) fn start(mix: &Mix, seed: u64, interrupt: &Interrupt) -> Result<TestNetwork, NetworkFailure> {
    let start = Instant::now();
    let bar = bar("start", mix.nodes());
    let (wanted, shown) = (interrupt.clone(), bar.clone());
    let network = TestNetwork::builder(mix.clone()).seed(seed).progress(move |progress: Progress| {
        shown.set_message(match progress.stage {
            Stage::Start => "start",
            Stage::Join => "join",
            Stage::Settle => "settle",
        });
        shown.set_position(progress.done as u64);
        if wanted.is_wanted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let network = network.start();
    bar.finish_and_clear();
    let network = network?;
    say(format_args!(
        "{} nodes ({mix}, seed {seed}) joined in {:.1} s",
        network.nodes().len(),
        start.elapsed().as_secs_f64()
    ));
    interrupt.stops(network.nodes().iter().map(|node| node.service().clone()));
    Ok(network)
}

/// A bar on standard error; none if that is no terminal.
pub(crate) fn bar(message: &'static str, length: usize) -> ProgressBar {
    let bar = ProgressBar::new(length as u64).with_message(message);
    match ProgressStyle::with_template("{msg:11} {bar:20} {pos}/{len} {elapsed}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
