//! Experiments: what networks of many nodes do in situations that have a name.
//!
//! Each is a function of a [`Plan`] and of whoever watches. It gives [`Findings`]: one [`Report`] that stands for the
//! whole, and series of further ones for tables and pictures.

use std::ops::ControlFlow;
use std::time::Duration;

use kademlia_dht::gateway::Id;
use serde::Serialize;

use crate::clock::FOREVER;
use crate::report::{interval_of, share_of};
use crate::stopwatch::Stopwatch;
use crate::{Churn, Handle, Network, Progress, Report, Setup, Workload};

/// What all experiments are told.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The nodes, the wire, the clocks and the seed.
    pub setup: Setup,
    /// Nodes.
    pub nodes: usize,
    /// How nodes come and go, once all have joined; if at all.
    pub churn: Option<Churn>,
    /// For how long is measured in [`churn()`] and [`maintenance`] (24 hours if nothing is said) and [`sweep`] (2
    /// hours); how long the network is split in [`partition`] (1 hour); how long it lives before in [`lookups`],
    /// [`kill`] and [`liars`] (a minute).
    pub time: Option<Duration>,
    /// Records that are saved first.
    pub records: usize,
    /// Bytes of each value.
    pub value_bytes: usize,
    /// Lookups, in [`lookups`] and [`sweep`].
    pub lookups: usize,
    /// Queries, in [`liars`].
    pub queries: usize,
    /// Queries in a second, in [`churn`].
    pub gets: f64,
    /// Nodes that come at one moment when half of the time is over, in [`churn()`].
    pub crowd: usize,
    /// The share of nodes that is killed, in [`kill`], and that is on one side, in [`partition`].
    pub share: f64,
    /// Whether to run also what is only drawn: smaller networks in [`lookups`], other shares in [`kill`] and [`liars`].
    pub series: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Plan {
            setup: Setup::default(),
            nodes: 1000,
            churn: None,
            time: None,
            records: 1000,
            value_bytes: 100,
            lookups: 10_000,
            queries: 100_000,
            gets: 0.5,
            crowd: 0,
            share: 0.5,
            series: false,
        }
    }
}

/// One point of a series.
#[derive(Debug, Clone, Serialize)]
pub struct Point {
    /// Where on the axis.
    pub at: f64,
    /// What was found there.
    pub report: Report,
}

/// Reports along an axis.
#[derive(Debug, Clone, Serialize)]
pub struct Series {
    /// What differs from point to point, such as `nodes`.
    pub axis: &'static str,
    /// The points, in the order of their places.
    pub points: Vec<Point>,
}

/// What an experiment has found.
#[derive(Debug, Clone, Serialize)]
pub struct Findings {
    /// The name of the experiment.
    pub experiment: &'static str,
    /// What stands for the whole.
    #[serde(flatten)]
    pub report: Report,
    /// What else there is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub series: Vec<Series>,
}

/// Why an experiment has found nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExperimentError {
    /// Whoever watched it broke it off.
    #[error("the experiment was broken off")]
    BrokenOff,
    /// There is no network to experiment with.
    #[error("{}", not_joined(*joined, *nodes, *timeout, *slow))]
    NotJoined {
        /// Nodes that were there in the end, the first of all among them.
        joined: usize,
        /// Nodes that were to be there.
        nodes: usize,
        /// The longest that a node waits for an answer.
        timeout: Duration,
        /// Whether there are slow nodes.
        slow: bool,
    },
}

fn not_joined(joined: usize, nodes: usize, timeout: Duration, slow: bool) -> String {
    let who = match joined {
        0 | 1 => format!("nobody joined the first of {nodes} nodes"),
        _ => format!("only {joined} of {nodes} nodes joined"),
    };
    let before = if slow { "slow nodes answer" } else { "they are answered" };
    format!("{who}: requests time out after {timeout:?}, before {before}")
}

/// Is told how far an experiment is, and may break it off.
pub type Watch<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;

/// What is tried in [`sweep`]: for alpha, and for k.
const ALPHAS: [usize; 7] = [1, 2, 3, 4, 6, 8, 10];
const SIZES: [usize; 7] = [4, 6, 8, 12, 16, 20, 30];

/// After the healing of a partition is looked at so many times, besides at the moment itself.
const HEALING: u32 = 12;

/// Tells whoever watches which run it is, of how many.
struct Runs<'a> {
    watch: Watch<'a>,
    /// Those that have begun.
    begun: usize,
    all: usize,
}

impl<'a> Runs<'a> {
    fn new(all: usize, watch: Watch<'a>) -> Self {
        Runs { watch, begun: 0, all }
    }

    /// Begins the next one.
    fn watch_next(&mut self) -> impl FnMut(Progress) -> ControlFlow<()> {
        self.begun += 1;
        let (run, runs) = (self.begun, self.all);
        move |progress| (self.watch)(Progress { run, runs, ..progress })
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// What a lookup costs in a network in which nobody comes or goes, and whether it finds the true k closest.
///
/// Series `nodes`: the same for 100, 1,000 and so on up to the number of nodes.
///
/// # Errors
///
/// If it was broken off, or not all nodes could join.
pub fn lookups(plan: &Plan, watch: Watch<'_>) -> Result<Findings, ExperimentError> {
    let mut points = Vec::new();
    let smaller = std::iter::successors(Some(100), |nodes: &usize| nodes.checked_mul(10));
    let smaller: Vec<usize> = smaller.take_while(|nodes| *nodes < plan.nodes).filter(|_| plan.series).collect();
    let mut runs = Runs::new(smaller.len() + 1, watch);
    for nodes in smaller {
        points.push(Point { at: nodes as f64, report: look_up(plan, nodes, &mut runs)? });
    }
    let report = look_up(plan, plan.nodes, &mut runs)?;
    points.push(Point { at: plan.nodes as f64, report: report.clone() });
    Ok(Findings { experiment: "lookups", report, series: vec![Series { axis: "nodes", points }] })
}

fn look_up(plan: &Plan, nodes: usize, runs: &mut Runs<'_>) -> Result<Report, ExperimentError> {
    let stopwatch = Stopwatch::start();
    let mut network = settled(plan, nodes, runs)?;
    network.save_records(plan.records, plan.value_bytes);
    network.measure();
    network.stage("look up");
    let looking = Stopwatch::start();
    let rate = (nodes as f64 / 20.0).max(20.0);
    network.work(Workload { lookups: rate, ..Workload::default() });
    network.run_for(Duration::from_secs_f64(plan.lookups as f64 / rate));
    finish_work(&mut network);
    let delivered = network.lap().delivered as f64;
    let seconds = looking.seconds();
    network.stage("query");
    network.get_records(|_, _| true);
    let report = report(&mut network, &stopwatch)?;
    Ok(Report { delivered_per_s: Some((delivered / seconds).round()), ..report })
}

/// Whether records are found while nodes come and go, and what it costs.
///
/// In an hour one record in ten is saved anew, and one in a hundred deleted, each by a random node. Series `hours`:
/// each hour.
///
/// # Errors
///
/// If it was broken off, or not all nodes could join.
pub fn churn(plan: &Plan, watch: Watch<'_>) -> Result<Findings, ExperimentError> {
    let workload = Workload {
        gets: plan.gets,
        rewrites: plan.records as f64 / 10.0 / 3600.0,
        deletes: plan.records as f64 / 100.0 / 3600.0,
        value_bytes: plan.value_bytes,
        ..Workload::default()
    };
    live("churn", plan, workload, watch)
}

/// Nodes come and go while users work, and each hour is a point.
fn live(
    experiment: &'static str,
    plan: &Plan,
    workload: Workload,
    watch: Watch<'_>,
) -> Result<Findings, ExperimentError> {
    let stopwatch = Stopwatch::start();
    let time = plan.time.unwrap_or(HOUR * 24);
    let mut runs = Runs::new(1, watch);
    let mut network = network(plan, plan.nodes, &mut runs)?;
    network.save_records(plan.records, plan.value_bytes);
    network.measure();
    network.stage("churn");
    network.work(workload);
    let mut points = Vec::new();
    network.stage_ends(time);
    let mut left = time;
    let half = time / 2;
    while !left.is_zero() && !network.is_broken_off() {
        if plan.crowd > 0 && left == half {
            network.crowd(plan.crowd);
        }
        let until = if plan.crowd > 0 && left > half { half } else { Duration::ZERO };
        let lap = HOUR.min(left - until);
        network.pass(lap);
        left -= lap;
        points.push(Point { at: (time - left).as_secs_f64() / 3600.0, report: network.lap() });
    }
    finish_work(&mut network);
    let report = report(&mut network, &stopwatch)?;
    Ok(Findings { experiment, report, series: vec![Series { axis: "hours", points }] })
}

/// What keeping records alive costs while nodes come and go, when nobody asks for anything.
///
/// Series `hours`: each hour.
///
/// # Errors
///
/// If it was broken off, or not all nodes could join.
pub fn maintenance(plan: &Plan, watch: Watch<'_>) -> Result<Findings, ExperimentError> {
    live("maintenance", plan, Workload::default(), watch)
}

/// What is left after a partition in which both sides wrote, and how soon.
///
/// All records are written anew on one side and then on the other while the network is split, each time over a quarter of
/// the time. Series `minutes`: after the healing, how many older copies there are, and what queries from both sides find.
///
/// # Errors
///
/// If it was broken off, or not all nodes could join.
pub fn partition(plan: &Plan, watch: Watch<'_>) -> Result<Findings, ExperimentError> {
    let stopwatch = Stopwatch::start();
    let mut runs = Runs::new(1, watch);
    let mut network = network(plan, plan.nodes, &mut runs)?;
    network.run_for(MINUTE);
    network.save_records(plan.records, plan.value_bytes);
    network.stage("split");
    let (share, split) = (plan.share, plan.time.unwrap_or(HOUR));
    let start = network.now();
    network.partition(share);
    let sides = [true, false]
        .map(|side| move |network: &Network<'_>, node: Handle| network.is_on_first_side(node, share) == side);
    network.run_for(split / 4);
    for side in sides {
        network.rewrite_records(plan.value_bytes, split / 4, side);
    }
    network.run_for((start + split).saturating_sub(network.now()));
    network.heal();
    let healed = network.now();
    let span = network.params().refresh_interval.min(FOREVER) * 2;
    let mut points = Vec::new();
    for step in 0..=HEALING {
        network.stage("heal");
        network.run_for((healed + span * step / HEALING).saturating_sub(network.now()));
        network.measure();
        network.stage("query");
        let at = (network.now() - healed).as_secs_f64() / 60.0;
        let outdated_copies = Some(network.outdated_copies() as u64);
        let keys = asked_after_healing(&network, step);
        for side in sides {
            network.get_records_of(&keys, side);
        }
        points.push(Point { at, report: Report { outdated_copies, ..network.report() } });
    }
    finished(&network)?;
    let last = points.last().map(|point| point.report.clone()).unwrap_or_default();
    let unexplained = points.iter().map(|point| point.report.unexplained).sum();
    Ok(Findings {
        experiment: "partition",
        report: stopwatch.stop(Report { unexplained, ..last }),
        series: vec![Series { axis: "minutes", points }],
    })
}

/// The keys of the records that are asked for at a step after the healing. A query repairs what it finds: each step has
/// records of its own, and only the last one all, half of which nobody has asked for until then.
fn asked_after_healing(network: &Network<'_>, step: u32) -> Vec<Id> {
    let steps = HEALING as usize;
    let is_asked = |place: usize| step == HEALING || place % (2 * steps) == step as usize;
    let all = network.keys().iter().enumerate();
    all.filter(|(place, _)| is_asked(*place)).map(|(_, key)| *key).collect()
}

/// What is found after a share of the nodes died at one moment, and whether there are k copies again one replication
/// interval later.
///
/// Series `killed`: for 25, 50, 75 and 90 %.
///
/// # Errors
///
/// If it was broken off, or not all nodes could join.
pub fn kill(plan: &Plan, watch: Watch<'_>) -> Result<Findings, ExperimentError> {
    let mut points = Vec::new();
    let shares: &[f64] = if plan.series { &[0.25, 0.5, 0.75, 0.9] } else { &[] };
    let networks = shares.len() + usize::from(!shares.contains(&plan.share));
    let mut runs = Runs::new(networks * 2, watch);
    for share in shares {
        points.push(Point { at: *share, report: kill_share(plan, *share, &mut runs)? });
    }
    let report = match report_at(&points, plan.share) {
        Some(report) => report,
        None => kill_share(plan, plan.share, &mut runs)?,
    };
    if points.is_empty() {
        points.push(Point { at: plan.share, report: report.clone() });
    }
    Ok(Findings { experiment: "kill", report, series: vec![Series { axis: "killed", points }] })
}

/// Queries repair what they find. So the copies are counted in a network of its own, where nobody asks.
fn kill_share(plan: &Plan, share: f64, runs: &mut Runs<'_>) -> Result<Report, ExperimentError> {
    let stopwatch = Stopwatch::start();
    let mut asked = after_a_kill(plan, share, runs)?;
    asked.stage("query");
    asked.get_records(|_, _| true);
    let queries = asked.report();
    finished(&asked)?;
    drop(asked);
    let mut left_alone = after_a_kill(plan, share, runs)?;
    left_alone.stage("replicate");
    left_alone.run_for(left_alone.params().replicate_interval);
    let copies = left_alone.report();
    finished(&left_alone)?;
    let fewest_copies = left_alone.copies().into_iter().min().map(|copies| copies as u64);
    let (full, all) = left_alone.full_copies();
    let report = Report {
        nodes: copies.nodes,
        records: copies.records,
        lost: copies.lost,
        stale: copies.stale,
        timeouts: copies.timeouts,
        bytes_per_node_s: copies.bytes_per_node_s,
        events: queries.events + copies.events,
        fewest_copies,
        full_copies: share_of(full, all),
        full_copies_interval: interval_of(full, all),
        measured_s: copies.measured_s,
        virtual_s: copies.virtual_s,
        ..queries.with_faults_of(&copies)
    };
    Ok(stopwatch.stop(report))
}

/// A network with records right after a share of its nodes died.
fn after_a_kill<'a>(plan: &Plan, share: f64, runs: &'a mut Runs<'_>) -> Result<Network<'a>, ExperimentError> {
    let mut network = settled(plan, plan.nodes, runs)?;
    network.save_records(plan.records, plan.value_bytes);
    // Not all at the same age: the first are due for replication soon, the last were saved just now.
    network.kill_share(share);
    network.measure();
    Ok(network)
}

/// Whether anybody is made to believe what an author did not write, in a network in which a share of the nodes
/// ([`Setup::liars`]) lies about values.
///
/// Records of all kinds that prove their authors are saved: immutable values, signed ones, and owned ones of one owner and
/// of several. All that can change are saved anew, half of them twice. Then users ask for them; and one in ten times as
/// often besides, without knowing the owner, for a key that has one. Series `liars`: for 0, 10, 25 and 50 %.
///
/// # Errors
///
/// If it was broken off, or not all nodes could join.
pub fn liars(plan: &Plan, watch: Watch<'_>) -> Result<Findings, ExperimentError> {
    let shares: &[f64] = if plan.series { &[0.0, 0.1, 0.25, 0.5] } else { &[] };
    let asked_for = plan.setup.liars;
    let mut runs = Runs::new(shares.len() + usize::from(!shares.contains(&asked_for)), watch);
    let mut points = Vec::new();
    for share in shares {
        points.push(Point { at: *share, report: among_liars(plan, *share, &mut runs)? });
    }
    let report = match report_at(&points, asked_for) {
        Some(report) => report,
        None => among_liars(plan, asked_for, &mut runs)?,
    };
    if points.is_empty() {
        points.push(Point { at: asked_for, report: report.clone() });
    }
    Ok(Findings { experiment: "liars", report, series: vec![Series { axis: "liars", points }] })
}

fn among_liars(plan: &Plan, share: f64, runs: &mut Runs<'_>) -> Result<Report, ExperimentError> {
    let stopwatch = Stopwatch::start();
    let plan = Plan { setup: Setup { liars: share, ..plan.setup.clone() }, ..plan.clone() };
    let mut network = settled(&plan, plan.nodes, runs)?;
    network.measure();
    network.save_authored(plan.records, plan.value_bytes);
    network.rewrite_authored(plan.value_bytes);
    network.stage("query");
    network.get_authored(plan.queries);
    network.stage("query without the owner");
    network.get_unpinned(plan.queries / 10);
    report(&mut network, &stopwatch)
}

/// What alpha and k are good for: lookups and queries in a network that loses messages and nodes.
///
/// Series `alpha`, with the k of the plan, and `k`, with the alpha of the plan.
///
/// # Errors
///
/// If it was broken off, or not all nodes could join.
pub fn sweep(plan: &Plan, watch: Watch<'_>) -> Result<Findings, ExperimentError> {
    let (k, alpha) = (plan.setup.params.k, plan.setup.params.alpha);
    let mut runs = Runs::new(ALPHAS.len() + SIZES.len() + usize::from(!SIZES.contains(&k)), watch);
    let mut run = |k: usize, alpha: usize| {
        let mut plan = plan.clone();
        let params = &mut plan.setup.params;
        (params.k, params.alpha, params.read_quorum) = (k, alpha, params.read_quorum.min(k));
        sweep_one(&plan, &mut runs)
    };
    let mut alphas = Vec::new();
    for alpha in ALPHAS {
        alphas.push(Point { at: alpha as f64, report: run(k, alpha)? });
    }
    let mut sizes = Vec::new();
    for k in SIZES {
        sizes.push(Point { at: k as f64, report: run(k, alpha)? });
    }
    let report = match report_at(&sizes, k as f64) {
        Some(report) => report,
        None => run(k, alpha)?,
    };
    let series = vec![Series { axis: "alpha", points: alphas }, Series { axis: "k", points: sizes }];
    Ok(Findings { experiment: "sweep", report, series })
}

/// Some hours of churn, in which users look up and query.
fn sweep_one(plan: &Plan, runs: &mut Runs<'_>) -> Result<Report, ExperimentError> {
    let stopwatch = Stopwatch::start();
    let time = plan.time.unwrap_or(HOUR * 2);
    let mut network = network(plan, plan.nodes, runs)?;
    network.save_records(plan.records, plan.value_bytes);
    network.measure();
    network.stage("sweep");
    let rate = plan.lookups as f64 / time.as_secs_f64().max(1.0);
    network.work(Workload { lookups: rate, gets: rate, value_bytes: plan.value_bytes, ..Workload::default() });
    network.run_for(time);
    finish_work(&mut network);
    report(&mut network, &stopwatch)
}

/// A network in which all have joined, and from then on come and go as planned.
fn network<'a>(plan: &Plan, nodes: usize, runs: &'a mut Runs<'_>) -> Result<Network<'a>, ExperimentError> {
    let mut network = Network::new(&plan.setup);
    network.watch(runs.watch_next());
    network.grow(nodes);
    finished(&network)?;
    let joined = network.members().len();
    if joined < nodes {
        let (timeout, slow) = (network.params().request_timeout, plan.setup.wire.slow.share > 0.0);
        return Err(ExperimentError::NotJoined { joined, nodes, timeout, slow });
    }
    if let Some(churn) = plan.churn {
        network.churn(churn);
    }
    Ok(network)
}

/// Such a network after it has lived for a while.
fn settled<'a>(plan: &Plan, nodes: usize, runs: &'a mut Runs<'_>) -> Result<Network<'a>, ExperimentError> {
    let mut network = network(plan, nodes, runs)?;
    network.stage("settle");
    network.run_for(plan.time.unwrap_or(MINUTE));
    Ok(network)
}

/// Ends the work of users, and waits until what they began has ended.
fn finish_work(network: &mut Network<'_>) {
    network.work(Workload::default());
    network.run_for(network.params().lookup_timeout.min(HOUR));
}

/// What was measured, and what it took.
fn report(network: &mut Network<'_>, stopwatch: &Stopwatch) -> Result<Report, ExperimentError> {
    finished(network)?;
    Ok(stopwatch.stop(network.report()))
}

/// An error if the run was broken off.
fn finished(network: &Network<'_>) -> Result<(), ExperimentError> {
    if network.is_broken_off() { Err(ExperimentError::BrokenOff) } else { Ok(()) }
}

/// What was found at a place of a series, if it is one of its points.
fn report_at(points: &[Point], at: f64) -> Option<Report> {
    points.iter().find(|point| point.at == at).map(|point| point.report.clone())
}
