//! `dht testnet`: a whole network, and whether every node finds what any other saved.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use kademlia_dht::testnet::{TestNetwork, TestNode, Transports};
use kademlia_dht::{Config, DHTService, Error, QueryReport, Receipt};

use crate::args::TestnetPlan;
use crate::at_once::each;
use crate::interrupt::Interrupt;
use crate::network::{self, NetworkFailure, bar};
use crate::records::{self, Record, RecordsError};
use crate::report::{Round, Summary, mean, percentile};
use crate::say;
use crate::signals::SignalsError;

/// Operations under way at once: enough to keep two cores busy, and few enough that none waits for the others.
const IN_FLIGHT: usize = 16;

/// Of what went wrong, so many are listed.
const LISTED: usize = 20;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Records(#[from] RecordsError),
    #[error(transparent)]
    Network(#[from] NetworkFailure),
    #[error(transparent)]
    Signals(#[from] SignalsError),
    #[error("cannot print the result: {0}")]
    Print(#[from] io::Error),
}

/// Runs it, and prints the result. Whether everything was found unchanged.
pub(crate) fn run(plan: &TestnetPlan) -> Result<bool, Failure> {
    let limit = Config::default().limits.value_bytes;
    let records = match &plan.load {
        Some(path) => records::of_file(path, limit)?,
        None => records::of_lock_file()?,
    };
    let interrupt = Interrupt::listen()?;
    let mut run = Run {
        network: network::start(&plan.mix, plan.seed, &interrupt)?,
        interrupt,
        records: Vec::new(),
        wrong: Vec::new(),
    };
    run.save(records)?;
    let first = run.query("query")?;
    let second = match plan.kill {
        Some(percent) => Some((run.kill(percent)?, run.query("query again")?)),
        None => None,
    };

    let nodes = run.network.nodes().len();
    let second = second.as_ref().map(|(killed, round)| (*killed, round));
    if plan.json {
        let summary = Summary::new(nodes, run.records.len(), &first, second);
        writeln!(io::stdout(), "{}", serde_json::to_string(&summary).map_err(io::Error::from)?)?;
    } else {
        writeln!(io::stdout(), "{nodes} nodes\n{}", first.table())?;
        if let Some((killed, round)) = second {
            writeln!(io::stdout(), "{killed} of {nodes} nodes killed\n{}", round.table())?;
        }
    }
    for wrong in run.wrong.iter().take(LISTED) {
        say(wrong);
    }
    if run.wrong.len() > LISTED {
        say(format_args!("... and {} more", run.wrong.len() - LISTED));
    }
    run.network.stop().map_err(NetworkFailure::from)?;
    Ok(run.wrong.is_empty())
}

/// A node, as the report names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    node: usize,
    transports: Transports,
}

impl Place {
    fn of(node: &TestNode) -> Self {
        Place { node: node.index(), transports: node.transports() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} on {}", self.node, self.transports)
    }
}

/// A record that was saved, and where.
#[derive(Debug, Clone)]
struct Saved {
    record: Record,
    saver: Place,
}

impl Saved {
    fn key(&self) -> String {
        String::from_utf8_lossy(&self.record.key).into_owned()
    }
}

struct Run {
    network: TestNetwork,
    interrupt: Interrupt,
    records: Vec<Saved>,
    /// What was not as it should be, in words.
    wrong: Vec<String>,
}

impl Run {
    /// Saves each record from a random node. What cannot be saved is asked for all the same.
    fn save(&mut self, records: Vec<Record>) -> Result<(), Failure> {
        let start = Instant::now();
        let mut tasks: Vec<(Saved, DHTService)> = Vec::with_capacity(records.len());
        for record in records {
            if let Some(node) = self.network.pick(|_| true) {
                let saver = Place::of(node);
                tasks.push((Saved { record, saver }, node.service().clone()));
            }
        }
        let (mut efforts, mut wrong) = (Vec::new(), Vec::new());
        let bar = bar("save", tasks.len());
        let save = |(saved, service): &(Saved, DHTService)| service.save(&saved.record.key, &saved.record.value);
        let mut done = Vec::with_capacity(tasks.len());
        let ended = each(&self.interrupt, IN_FLIGHT, tasks, save, |(saved, _), result: Result<Receipt, Error>| {
            bar.inc(1);
            match result {
                Ok(receipt) => efforts.push(receipt.effort),
                Err(error) => wrong.push(format!("{} cannot save {}: {error}", saved.saver, saved.key())),
            }
            done.push(saved);
        });
        bar.finish_and_clear();
        self.records = done;
        self.wrong.append(&mut wrong);
        ended?;
        let mut times: Vec<Duration> = efforts.iter().map(|effort| effort.elapsed).collect();
        times.sort_unstable();
        say(format_args!(
            "{} records saved in {:.1} s: median {:.1} ms, {:.1} messages each",
            efforts.len(),
            start.elapsed().as_secs_f64(),
            percentile(&times, 50).unwrap_or_default(),
            mean(efforts.iter().map(|effort| effort.messages)).unwrap_or_default(),
        ));
        Ok(())
    }

    /// Asks for each record at a random node of every kind, the node that saved it left out where there is another.
    fn query(&mut self, message: &'static str) -> Result<Round, Failure> {
        let start = Instant::now();
        let kinds: BTreeSet<Transports> = self.network.living().map(TestNode::transports).collect();
        let mut tasks: Vec<(Saved, Place, DHTService)> = Vec::with_capacity(self.records.len() * kinds.len());
        for saved in &self.records {
            for kind in &kinds {
                let other = |node: &TestNode| node.transports() == *kind && node.index() != saved.saver.node;
                let node = match self.network.pick(other).map(TestNode::index) {
                    Some(index) => self.network.nodes().get(index),
                    None => self.network.pick(|node| node.transports() == *kind),
                };
                tasks.extend(node.map(|node| (saved.clone(), Place::of(node), node.service().clone())));
            }
        }
        let (mut round, mut wrong) = (Round::default(), Vec::new());
        let bar = bar(message, tasks.len());
        let query = |(saved, _, service): &(Saved, Place, DHTService)| service.query_report(&saved.record.key);
        let ended = each(&self.interrupt, IN_FLIGHT, tasks, query, |(saved, asker, _), result| {
            bar.inc(1);
            let effort = result.as_ref().ok().map(|report| report.effort);
            let fault = fault(&saved.record, result);
            round.count(saved.saver.transports, asker.transports, fault.is_none(), effort);
            wrong.extend(fault.map(|fault| format!("{}: {fault} ({asker} asked, {} saved)", saved.key(), saved.saver)));
        });
        bar.finish_and_clear();
        self.wrong.append(&mut wrong);
        ended?;
        let (asked, found) = (round.asked(), round.found());
        say(format_args!("{found} of {asked} queries found in {:.1} s", start.elapsed().as_secs_f64()));
        Ok(round)
    }

    /// Kills a share of the nodes, and tells how many.
    fn kill(&mut self, percent: u8) -> Result<usize, Failure> {
        let wanted = (self.network.nodes().len() * usize::from(percent) + 50) / 100;
        let victims = self.network.victims(wanted);
        for victim in &victims {
            self.network.kill(*victim).map_err(NetworkFailure::from)?;
        }
        say(format_args!("{} of {} nodes killed", victims.len(), self.network.nodes().len()));
        if victims.len() < wanted {
            say(format_args!("({wanted} were to be killed, but the others would not reach each other any more)"));
        }
        Ok(victims.len())
    }
}

/// What is wrong with the answer to a query for a record, in words.
fn fault(record: &Record, result: Result<QueryReport, Error>) -> Option<String> {
    let report = match result {
        Ok(report) => report,
        Err(error) => return Some(format!("the query failed: {error}")),
    };
    let (asked, answered) = (report.effort.asked, report.effort.answered);
    match report.found {
        None => Some(format!("not found; {answered} of {asked} nodes answered")),
        Some(found) if found.record.is_tombstone() => Some("found deleted".to_owned()),
        Some(found) if found.record.value[..] != record.value[..] => Some("found with another value".to_owned()),
        Some(_) => None,
    }
}
