//! From the arguments of `dht simulate` to what the simulator is told.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use kademlia_simulator::experiment::{self, ExperimentError, Findings, Plan, Watch};
use kademlia_simulator::{Churn, Clocks, Departure, Latency, Loss, Sessions, Setup, Slow, Wire};
use serde::Serialize;

use super::{Coming, Command, Common, Faults, Kind, SimulateArgs};

/// An experiment.
type Run = fn(&Plan, Watch<'_>) -> Result<Findings, ExperimentError>;

/// What was asked for, as far as the result repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Options {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hours: Option<f64>,
    /// In percent: what is killed, on one side, or lies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) share: Option<f64>,
    /// In percent.
    pub(crate) loss: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) session_min: Option<f64>,
    pub(crate) k: usize,
    pub(crate) alpha: usize,
}

/// `dht simulate`, with all arguments sound.
#[derive(Debug)]
pub(crate) struct SimulatePlan {
    pub(crate) run: Run,
    pub(crate) plan: Plan,
    pub(crate) options: Options,
    pub(crate) out: Option<PathBuf>,
    pub(crate) json: bool,
    /// The command line that repeats it.
    pub(crate) repeat: String,
}

impl SimulateArgs {
    /// `arguments` are those of the program, as they were given.
    pub(in crate::args) fn plan(self, arguments: impl Iterator<Item = OsString>) -> SimulatePlan {
        let common = self.command.common();
        let mut plan = common.plan();
        let run: Run = match &self.command {
            Command::Lookups { lookups, .. } => {
                plan.lookups = lookups.lookups;
                experiment::lookups
            }
            Command::Churn { gets, crowd, .. } => {
                (plan.gets, plan.crowd) = (*gets, *crowd);
                experiment::churn
            }
            Command::Maintenance { .. } => experiment::maintenance,
            Command::Partition { share, .. } => {
                plan.share = share / 100.0;
                experiment::partition
            }
            Command::Kill { share, .. } => {
                plan.share = share / 100.0;
                experiment::kill
            }
            Command::Liars { share, queries, .. } => {
                (plan.setup.liars, plan.queries) = (share / 100.0, *queries);
                experiment::liars
            }
            Command::Sweep { lookups, .. } => {
                plan.lookups = lookups.lookups;
                experiment::sweep
            }
        };
        let options = Options {
            hours: common.hours,
            share: self.command.share(),
            loss: common.faults.loss,
            session_min: common.coming.median(),
            k: common.nodes_are.k,
            alpha: common.nodes_are.alpha,
        };
        let repeat = repeat(arguments, common);
        let (out, json) = (common.out.clone(), common.json);
        SimulatePlan { run, plan, options, out, json, repeat }
    }
}

impl Command {
    fn common(&self) -> &Common {
        match self {
            Command::Lookups { common, .. }
            | Command::Churn { common, .. }
            | Command::Maintenance { common, .. }
            | Command::Partition { common, .. }
            | Command::Kill { common, .. }
            | Command::Liars { common, .. }
            | Command::Sweep { common, .. } => common,
        }
    }

    fn share(&self) -> Option<f64> {
        match self {
            Command::Partition { share, .. } | Command::Kill { share, .. } | Command::Liars { share, .. } => {
                Some(*share)
            }
            _ => None,
        }
    }
}

impl Coming {
    fn median(&self) -> Option<f64> {
        let is_wanted = self.sessions != Kind::Exponential || self.returns.is_some();
        self.session.or(is_wanted.then_some(60.0))
    }

    fn churn(&self) -> Option<Churn> {
        let median = minutes(self.median()?);
        let sessions = match self.sessions {
            Kind::Exponential => Sessions::Exponential { median },
            Kind::Weibull(shape) => Sessions::Weibull { shape, median },
        };
        let departure = match self.returns {
            Some(after) => Departure::Returns { after: minutes(after), with_store: self.keeps_store },
            None => Departure::Replaced,
        };
        Some(Churn { sessions, departure })
    }
}

impl Common {
    fn plan(&self) -> Plan {
        let mut setup = Setup { wire: self.wire(), seed: self.seed, ..Setup::default() };
        setup.clocks = Clocks { skew: Duration::from_secs_f64(self.faults.clock_skew), drift: self.faults.clock_drift };
        let params = &mut setup.params;
        (params.k, params.alpha) = (self.nodes_are.k, self.nodes_are.alpha);
        params.read_quorum = params.read_quorum.min(params.k);
        params.replicate_interval = minutes(self.nodes_are.replicate);
        params.refresh_interval = minutes(self.nodes_are.refresh);
        Plan {
            setup,
            nodes: self.nodes,
            churn: self.coming.churn(),
            time: self.hours.map(|hours| Duration::from_secs_f64(hours * 3600.0)),
            records: self.records,
            series: self.out.is_some(),
            ..Plan::default()
        }
    }

    fn wire(&self) -> Wire {
        let Faults { loss, burst_loss, duplicates, jitter, one_way, asymmetry, slow, slow_by, .. } = self.faults;
        let median = Duration::from_secs_f64(self.wire.latency / 1000.0);
        let sigma = self.wire.sigma;
        Wire {
            latency: if sigma > 0.0 { Latency::LogNormal { median, sigma } } else { Latency::Constant(median) },
            loss: match burst_loss.map(Duration::from_secs_f64) {
                Some(length) => Loss::Bursts { share: loss / 100.0, length },
                None => Loss::Independent(loss / 100.0),
            },
            duplicates: duplicates / 100.0,
            jitter: jitter / 100.0,
            asymmetry: asymmetry / 100.0,
            one_way: one_way / 100.0,
            slow: Slow { share: slow / 100.0, delay: Duration::from_secs_f64(slow_by / 1000.0) },
        }
    }
}

fn minutes(minutes: f64) -> Duration {
    Duration::from_secs_f64(minutes * 60.0)
}

/// The command line that repeats a run: what was given, and what the run follows from if it was not given.
fn repeat(arguments: impl Iterator<Item = OsString>, common: &Common) -> String {
    let mut words: Vec<String> = arguments.map(|argument| argument.to_string_lossy().into_owned()).collect();
    for (option, value) in [("--nodes", common.nodes.to_string()), ("--seed", common.seed.to_string())] {
        let is_given = |word: &String| word.split('=').next() == Some(option);
        if !words.iter().any(is_given) {
            words.extend([option.to_owned(), value]);
        }
    }
    ["dht".to_owned()].into_iter().chain(words.iter().map(|word| quoted(word))).collect::<Vec<_>>().join(" ")
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_=./:,%+@".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{self, Cli};

    fn plan(arguments: &[&str]) -> Result<SimulatePlan, String> {
        let words = || ["simulate"].iter().chain(arguments);
        let cli = Cli::try_parse_from(["dht"].iter().chain(words())).map_err(|error| error.to_string())?;
        let args::Command::Simulate(args) = cli.command else { return Err("another command".to_owned()) };
        Ok(args.plan(words().map(OsString::from)))
    }

    #[test]
    fn defaults() {
        let weibull = plan(&["churn", "--sessions", "weibull:0.6"]).unwrap();
        assert!(matches!(weibull.plan.churn, Some(Churn { sessions: Sessions::Weibull { .. }, .. })));
        let churn = plan(&["churn"]).unwrap();
        assert_eq!((churn.plan.nodes, churn.plan.setup.seed, churn.plan.series), (1000, 1, false));
        assert_eq!((churn.plan.time, churn.plan.gets), (Some(Duration::from_secs(24 * 3600)), 0.5));
        let options = Options { hours: Some(24.0), share: None, loss: 0.0, session_min: Some(60.0), k: 20, alpha: 3 };
        assert_eq!(churn.options, options);
        let sessions = Sessions::Exponential { median: Duration::from_secs(3600) };
        assert_eq!(churn.plan.churn, Some(Churn { sessions, departure: Departure::Replaced }));
        let slow = Slow { share: 0.0, delay: Duration::from_secs(1) };
        assert_eq!(churn.plan.setup.wire, Wire { slow, ..Wire::default() });
        let params = |setup: &Setup| format!("{:?}", setup.params);
        assert_eq!(params(&churn.plan.setup), params(&Setup::default()));
        let sweep = plan(&["sweep"]).unwrap();
        assert_eq!((sweep.plan.nodes, sweep.plan.records, sweep.plan.lookups), (500, 200, 2000));
        let liars = plan(&["liars"]).unwrap();
        assert_eq!((liars.plan.setup.liars, liars.plan.queries, liars.plan.churn), (0.5, 100_000, None));
        let few = plan(&["liars", "--share", "25%", "--queries", "7"]).unwrap();
        assert_eq!((few.plan.setup.liars, few.plan.queries, few.options.share), (0.25, 7, Some(25.0)));
        let lookups = plan(&["lookups"]).unwrap();
        for coming in [["--session", "60"], ["--sessions", "weibull:0.5"], ["--returns", "60"]] {
            let kill = plan(&[&["kill"], &coming[..]].concat()).unwrap();
            assert!(kill.plan.churn.is_some() && kill.options.session_min == Some(60.0));
        }
        assert_eq!((lookups.options.hours, lookups.plan.churn, lookups.plan.lookups), (None, None, 10_000));
    }

    #[test]
    fn what_is_given_reaches_the_plan() {
        let faults = "--loss 5% --burst-loss 2 --duplicates 1 --jitter 50 --one-way 3 --clock-skew 30 --clock-drift 50 \
            --asymmetry 40 --slow 10 --slow-by 500";
        let rest = "churn --hours 0.5 --sessions weibull:0.5 --session 30 --returns 10 --keeps-store --k 2 --alpha 5 \
            --replicate 30 --refresh 90 --latency 100 --sigma 0 --records 10 --gets 2 --seed 7 --out here";
        let words: Vec<&str> = rest.split_whitespace().chain(faults.split_whitespace()).collect();
        let SimulatePlan { plan, options, out, .. } = plan(&words).unwrap();
        let wire = Wire {
            latency: Latency::Constant(Duration::from_millis(100)),
            loss: Loss::Bursts { share: 0.05, length: Duration::from_secs(2) },
            duplicates: 0.01,
            jitter: 0.5,
            one_way: 0.03,
            asymmetry: 0.4,
            slow: Slow { share: 0.1, delay: Duration::from_millis(500) },
        };
        assert_eq!(plan.setup.wire, wire);
        assert_eq!(plan.setup.clocks, Clocks { skew: Duration::from_secs(30), drift: 50 });
        let sessions = Sessions::Weibull { shape: 0.5, median: Duration::from_secs(1800) };
        let departure = Departure::Returns { after: Duration::from_secs(600), with_store: true };
        assert_eq!(plan.churn, Some(Churn { sessions, departure }));
        let params = &plan.setup.params;
        assert_eq!((params.k, params.alpha, params.read_quorum), (2, 5, 2));
        let intervals = [params.replicate_interval, params.refresh_interval].map(|interval| interval.as_secs());
        assert_eq!(intervals, [1800, 5400]);
        assert_eq!((plan.records, plan.gets, plan.setup.seed, plan.series), (10, 2.0, 7, true));
        assert_eq!((options.loss, options.hours, out), (5.0, Some(0.5), Some("here".into())));
    }

    #[test]
    fn wrong_values_are_told_what_is_allowed() {
        let cases: [(&[&str], &str); 10] = [
            (&["churn", "--loss", "31"], "not a number of percent from 0 to 30"),
            (&["churn", "--hours", "0"], "not a number from 0.01 to 8760"),
            (&["churn", "--sessions", "weibull"], "neither `exponential` nor `weibull:SHAPE`"),
            (&["churn", "--sessions", "weibull:0"], "the shape is not a number from 0.1 to 10"),
            (&["churn", "--keeps-store"], "--returns"),
            (&["churn", "--burst-loss", "1"], "--loss"),
            (&["kill", "--share", "100"], "not a number of percent from 1 to 99"),
            (&["liars", "--share", "91"], "not a number of percent from 0 to 90"),
            (&["lookups", "--gets", "1"], "unexpected argument"),
            (&["lookups", "--nodes", "1"], "not a number from 2 to 1000000"),
        ];
        for (arguments, expected) in cases {
            let error = plan(arguments).unwrap_err();
            assert!(error.contains(expected), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn the_repeat_command_has_all_that_was_given() {
        let repeat = |arguments: &[&str]| plan(arguments).unwrap().repeat;
        assert_eq!(repeat(&["kill"]), "dht simulate kill --nodes 1000 --seed 1");
        let given = ["churn", "--seed=3", "--loss", "5%", "--out", "it's here", "--nodes", "50"];
        assert_eq!(repeat(&given), r"dht simulate churn --seed=3 --loss 5% --out 'it'\''s here' --nodes 50");
    }
}
