//! The `dht` program.
//!
//! What it finds out goes to standard output; what it has to say on the way goes to standard error.

mod args;
mod interrupt;
mod records;
mod report;
mod testnet;

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use args::Task;
use testnet::Failure;

/// Exit statuses besides 0.
const FAILED: u8 = 1;
const USAGE: u8 = 2;
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    env_logger::init();
    let result = match args::parse() {
        Task::Testnet(plan) => testnet::run(&plan),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(failure) => {
            say(format_args!("error: {failure}"));
            ExitCode::from(match failure {
                Failure::Interrupted => INTERRUPTED,
                Failure::Records(_) => USAGE,
                _ => FAILED,
            })
        }
    }
}

/// Says something on standard error. If nobody listens there, nothing is lost.
fn say(what: impl Display) {
    writeln!(std::io::stderr(), "{what}").ok();
}
