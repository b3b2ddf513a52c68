//! `dht simulate`: which experiment, in which world.

mod plan;

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};

use super::value::{percent, within};

pub(crate) use plan::{Options, SimulatePlan};

/// Run networks of many nodes in virtual time, and see what they find and what it costs.
///
/// The nodes are those of the library; only time and the wire are imitated. Everything follows from the seed: the same
/// arguments give the same run, event by event, on every machine. An oracle explains each miss; one that it cannot
/// explain makes the run fail, and so does an error that is logged.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Exit status: 0 if the run was sound, 1 if not (an unexplained miss, a value that its author did not write, something \
that must never happen, or an error that was logged), 2 if the arguments are wrong or the folder cannot be created, 3 if there is no result (not all nodes could \
join) or it cannot be printed or written, 130 if it was interrupted, 141 if nobody reads the output to its end.

Examples:
  dht simulate lookups --nodes 10000
  dht simulate churn --session 30 --loss 5% --out results
  dht simulate churn --sessions weibull:0.5 --returns 20 --keeps-store
  dht simulate kill --share 75 --json
  dht simulate liars --share 25 --queries 10000")]
pub(super) struct SimulateArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What a lookup costs where nobody comes or goes, and whether it finds the true k closest nodes.
    Lookups {
        #[command(flatten)]
        lookups: LookupsArgs,
        #[command(flatten)]
        common: Common,
    },
    /// Whether records are found while nodes come and go, and what that costs.
    #[command(mut_arg("hours", |arg| arg.default_value("24")))]
    #[command(mut_arg("session", |arg| arg.default_value("60")))]
    Churn {
        /// Queries in a second on average, in the whole network.
        #[arg(long, value_name = "NUMBER", default_value_t = 0.5, value_parser = within(0.001..=10_000.0))]
        gets: f64,
        /// Nodes that come at one moment, when half of the time is over.
        #[arg(long, value_name = "NUMBER", default_value_t = 0, value_parser = within(0_usize..=1_000_000))]
        crowd: usize,
        #[command(flatten)]
        common: Common,
    },
    /// What keeping records alive costs while nodes come and go and nobody asks for anything.
    #[command(mut_arg("hours", |arg| arg.default_value("24")))]
    #[command(mut_arg("session", |arg| arg.default_value("60")))]
    Maintenance {
        #[command(flatten)]
        common: Common,
    },
    /// What both sides find after a partition in which both wrote, and how soon.
    #[command(mut_arg("hours", |arg| arg.default_value("1")))]
    Partition {
        /// Nodes on the first side.
        #[arg(long, value_name = "PERCENT", default_value_t = 50.0, value_parser = percent(1.0..=99.0))]
        share: f64,
        #[command(flatten)]
        common: Common,
    },
    /// What is found after many nodes died at one moment, and how many copies there are one replication later.
    Kill {
        /// Nodes that die. With --out, also 25, 50, 75 and 90 %.
        #[arg(long, value_name = "PERCENT", default_value_t = 50.0, value_parser = percent(1.0..=99.0))]
        share: f64,
        #[command(flatten)]
        common: Common,
    },
    /// Whether anybody is made to believe what an author did not write, where many nodes lie about values.
    ///
    /// Of records that prove their authors: immutable, signed and owned ones.
    Liars {
        /// Nodes that lie. With --out, also 0, 10, 25 and 50 %.
        #[arg(long, value_name = "PERCENT", default_value_t = 50.0, value_parser = percent(0.0..=90.0))]
        share: f64,
        /// So many queries; and one in ten times as many by users who do not know the owner of a key.
        #[arg(long, value_name = "NUMBER", default_value_t = 100_000, value_parser = within(1_usize..=10_000_000))]
        queries: usize,
        #[command(flatten)]
        common: Common,
    },
    /// What alpha and k are good for: runs with several of either, in a network that loses nodes.
    // Fourteen runs: each a smaller one than in other experiments.
    #[command(mut_arg("nodes", |arg| arg.default_value("500")))]
    #[command(mut_arg("records", |arg| arg.default_value("200")))]
    #[command(mut_arg("lookups", |arg| arg.default_value("2000")))]
    #[command(mut_arg("hours", |arg| arg.default_value("2")))]
    #[command(mut_arg("session", |arg| arg.default_value("60")))]
    Sweep {
        #[command(flatten)]
        lookups: LookupsArgs,
        #[command(flatten)]
        common: Common,
    },
}

/// What all experiments take.
#[derive(Debug, Args)]
struct Common {
    /// Nodes in the network.
    #[arg(long, value_name = "NUMBER", default_value_t = 1000, value_parser = within(2_usize..=1_000_000))]
    nodes: usize,

    /// What all randomness follows from: the same seed, the same run.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = within(0..=u64::MAX))]
    seed: u64,

    /// Hours of virtual time, such as 24 or 0.5.
    ///
    /// In churn, maintenance and sweep: how long is measured. In partition: how long the network is split. In lookups, kill
    /// and liars: how long it lives before.
    #[arg(long, value_name = "HOURS", value_parser = within(0.01..=8760.0))]
    hours: Option<f64>,

    /// Records that are saved first.
    ///
    /// A node keeps at most 16384 records of others. Where there are too few nodes for so many, those that no node took
    /// are counted apart, as not saved.
    #[arg(long, value_name = "NUMBER", default_value_t = 1000, value_parser = within(1_usize..=1_000_000))]
    records: usize,

    /// Write all figures (JSON, CSV) and pictures (SVG) to this folder.
    ///
    /// What can be drawn only with further runs is run as well: smaller networks in `lookups`, other shares in `kill`
    /// and `liars`.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,

    /// Print one JSON object instead of tables.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    coming: Coming,
    #[command(flatten)]
    nodes_are: Nodes,
    #[command(flatten)]
    wire: Network,
    #[command(flatten)]
    faults: Faults,
}

#[derive(Debug, Args)]
struct LookupsArgs {
    /// About so many lookups of random targets, in `sweep` for each run.
    ///
    /// They begin at random moments, of which a few more or less fall into the time.
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000, value_parser = within(1_usize..=10_000_000))]
    lookups: usize,
}

/// How nodes come and go.
#[derive(Debug, Args)]
#[command(next_help_heading = "Coming and going")]
struct Coming {
    /// Half of the nodes leave within so many minutes.
    ///
    /// In lookups, partition, kill and liars nodes stay, unless this or another of these is given; then the median is 60.
    #[arg(long, value_name = "MINUTES", value_parser = within(0.1..=525_600.0))]
    session: Option<f64>,

    /// How sessions differ: exponential, or weibull:SHAPE.
    ///
    /// Real networks show shapes of 0.4 to 0.6: many leave soon, and a few stay very long.
    #[arg(long, value_name = "KIND", default_value = "exponential")]
    sessions: Kind,

    /// Who left comes back after so many minutes.
    ///
    /// Without it, another node comes at once in its place.
    #[arg(long, value_name = "MINUTES", value_parser = within(0.01..=525_600.0))]
    returns: Option<f64>,

    /// Those that come back still have their records.
    #[arg(long, requires = "returns")]
    keeps_store: bool,
}

/// How the nodes are configured.
#[derive(Debug, Args)]
#[command(next_help_heading = "Nodes")]
struct Nodes {
    /// Contacts in a bucket, contacts in a reply, and holders of a record.
    ///
    /// Below 6, lookups can end beside their target; such a miss is counted as out of reach.
    #[arg(long, value_name = "NUMBER", default_value_t = 20, value_parser = within(1_usize..=100))]
    k: usize,

    /// Requests that a lookup keeps in flight.
    #[arg(long, value_name = "NUMBER", default_value_t = 3, value_parser = within(1_usize..=64))]
    alpha: usize,

    /// Minutes after which holders give records to the nodes now closest.
    #[arg(long, value_name = "MINUTES", default_value_t = 60.0, value_parser = within(1.0..=1440.0))]
    replicate: f64,

    /// Minutes after which unused buckets are refreshed.
    #[arg(long, value_name = "MINUTES", default_value_t = 60.0, value_parser = within(1.0..=1440.0))]
    refresh: f64,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
struct Network {
    /// The median round trip between two nodes, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 80.0, value_parser = within(0.1..=10_000.0))]
    latency: f64,

    /// How much round trips differ; 0 if they are all alike.
    ///
    /// The standard deviation of their logarithm.
    #[arg(long, value_name = "NUMBER", default_value_t = 0.5, value_parser = within(0.0..=3.0))]
    sigma: f64,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Faults")]
struct Faults {
    /// Messages that are lost, in percent: 5 and 5% are the same.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent(0.0..=30.0))]
    loss: f64,

    /// They are lost in bursts: a connection fails for so many seconds.
    #[arg(long, value_name = "SECONDS", requires = "loss", value_parser = within(0.01..=3600.0))]
    burst_loss: Option<f64>,

    /// Messages that arrive twice.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent(0.0..=50.0))]
    duplicates: f64,

    /// Each message takes longer by up to this, another each time.
    ///
    /// So messages overtake each other.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent(0.0..=1000.0))]
    jitter: f64,

    /// Pairs of nodes of which only one hears the other.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent(0.0..=50.0))]
    one_way: f64,

    /// The part of a round trip by which one way can be longer than the other.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent(0.0..=100.0))]
    asymmetry: f64,

    /// Nodes that are slow to deal with what arrives.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent(0.0..=100.0))]
    slow: f64,

    /// How much longer it takes at a slow node, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 1000.0, value_parser = within(0.1..=60_000.0))]
    slow_by: f64,

    /// Clocks are wrong by at most so many seconds, either way.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, value_parser = within(0.0..=86_400.0))]
    clock_skew: f64,

    /// Clocks are too fast or too slow by at most so many millionths.
    ///
    /// A cheap quartz has 50.
    #[arg(long, value_name = "PPM", default_value_t = 0, value_parser = within(0_u32..=100_000))]
    clock_drift: u32,
}

/// A kind of sessions, without their median.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Exponential,
    Weibull(f64),
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shape = |text| within(0.1..=10.0)(text).map_err(|error| format!("the shape is {error}"));
        match (text, text.strip_prefix("weibull:")) {
            ("exponential", _) => Ok(Kind::Exponential),
            (_, Some(text)) => shape(text).map(Kind::Weibull),
            _ => Err("neither `exponential` nor `weibull:SHAPE`, such as weibull:0.5".to_owned()),
        }
    }
}
