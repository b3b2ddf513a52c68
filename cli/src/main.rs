//! The `dht` program.
//!
//! What it finds out goes to standard output; what it has to say on the way goes to standard error.

mod api;
mod args;
mod at_once;
mod bench;
mod client;
mod interrupt;
mod logger;
mod manual;
mod network;
mod node;
mod records;
mod report;
mod signals;
mod simulate;
mod tables;
mod testnet;

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use args::Task;
use network::NetworkFailure;

/// What a node logs where RUST_LOG does not say.
const NODE_LOG: &str = "warn,dht=info,kademlia_dht=info";

/// Exit statuses besides 0. There is a result, and it is not as it should be.
const FAILED: u8 = 1;
const USAGE: u8 = 2;
/// There is no result, or it cannot be printed or written.
const NO_RESULT: u8 = 3;
const INTERRUPTED: u8 = 130;
/// Whoever read what is printed has gone: what a shell says of a program that SIGPIPE has ended.
const UNREAD: u8 = 141;

fn main() -> ExitCode {
    let task = args::parse();
    if let Err(error) = logger::install(if matches!(task, Task::Node(_)) { NODE_LOG } else { "error" }) {
        say(format_args!("cannot log: {error}"));
    }
    match task {
        Task::Node(plan) => ended(node::run(&plan), |failure| match failure {
            node::Failure::Print(error) => unprinted(error),
            failure if failure.is_usage() => USAGE,
            _ => NO_RESULT,
        }),
        Task::Client(plan) => ended(client::run(*plan), |failure| match failure {
            client::Failure::Print(error) => unprinted(error),
            failure if failure.is_usage() => USAGE,
            _ => NO_RESULT,
        }),
        Task::Completions(shell) => ended(manual::completions(shell), unprinted),
        Task::Man(folder) => ended(manual::pages(&folder), |_| NO_RESULT),
        Task::Testnet(plan) => ended(testnet::run(&plan), |failure| match failure {
            testnet::Failure::Network(NetworkFailure::Interrupted) => INTERRUPTED,
            testnet::Failure::Records(_) => USAGE,
            testnet::Failure::Print(error) => unprinted(error),
            _ => NO_RESULT,
        }),
        Task::Simulate(plan) => ended(simulate::run(&plan), |failure| match failure {
            simulate::Failure::Interrupted => INTERRUPTED,
            simulate::Failure::Folder { .. } => USAGE,
            simulate::Failure::Print(error) => unprinted(error),
            _ => NO_RESULT,
        }),
        Task::Bench(plan) => ended(bench::run(&plan), |failure| match failure {
            bench::Failure::Print(error) => unprinted(error),
            failure if failure.is_interruption() => INTERRUPTED,
            _ => NO_RESULT,
        }),
    }
}

/// The exit status of a result that cannot be printed.
fn unprinted(error: &io::Error) -> u8 {
    if error.kind() == io::ErrorKind::BrokenPipe { UNREAD } else { NO_RESULT }
}

/// The exit status. Says why, if there is no result; but not where nobody wanted to read it to its end.
fn ended<E: Display>(result: Result<bool, E>, status: impl FnOnce(&E) -> u8) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(failure) => {
            let status = status(&failure);
            if status != UNREAD {
                say(format_args!("error: {failure}"));
            }
            ExitCode::from(status)
        }
    }
}

/// Says something on standard error. If nobody listens there, nothing is lost.
fn say(what: impl Display) {
    writeln!(io::stderr(), "{what}").ok();
}
