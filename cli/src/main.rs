//! The `dht` program.
//!
//! What it finds out goes to standard output; what it has to say on the way goes to standard error.

mod args;
mod at_once;
mod bench;
mod interrupt;
mod logger;
mod network;
mod records;
mod report;
mod simulate;
mod tables;
mod testnet;

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use args::Task;
use network::NetworkFailure;

/// Exit statuses besides 0.
const FAILED: u8 = 1;
const USAGE: u8 = 2;
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    if let Err(error) = logger::install() {
        say(format_args!("cannot log: {error}"));
    }
    match args::parse() {
        Task::Testnet(plan) => ended(testnet::run(&plan), |failure| match failure {
            testnet::Failure::Network(NetworkFailure::Interrupted) => INTERRUPTED,
            testnet::Failure::Records(_) => USAGE,
            _ => FAILED,
        }),
        Task::Simulate(plan) => ended(simulate::run(&plan), |failure| match failure {
            simulate::Failure::Interrupted => INTERRUPTED,
            simulate::Failure::Folder { .. } => USAGE,
            _ => FAILED,
        }),
        Task::Bench(plan) => {
            ended(bench::run(&plan), |failure| if failure.is_interruption() { INTERRUPTED } else { FAILED })
        }
    }
}

/// The exit status. Says why, if there is no result.
fn ended<E: Display>(result: Result<bool, E>, status: impl FnOnce(&E) -> u8) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(failure) => {
            say(format_args!("error: {failure}"));
            ExitCode::from(status(&failure))
        }
    }
}

/// Says something on standard error. If nobody listens there, nothing is lost.
fn say(what: impl Display) {
    writeln!(std::io::stderr(), "{what}").ok();
}
