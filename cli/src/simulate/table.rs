//! What was found, as tables.

use std::time::Duration;

use comfy_table::Table;
use kademlia_simulator::Report;
use kademlia_simulator::experiment::{Findings, Series};

use super::progress::brief;
use crate::args::SimulatePlan;
use crate::tables::empty_table;

/// What stands above the tables: which experiment in which network.
pub(super) fn title(plan: &SimulatePlan, findings: &Findings) -> String {
    format!("{}: {}", findings.experiment, plan.plan.summary(findings.experiment))
}

/// The figures that apply, with their intervals.
pub(super) fn whole(report: &Report) -> Table {
    let mut table = empty_table(["figure", "value", "95 % interval"], 1);
    let nodes = figure("nodes alive at the end", Some(count(report.nodes as u64)));
    let figures =
        [vec![nodes], of_lookups(report), of_queries(report), of_records(report), of_the_run(report)].concat();
    for Figure { name, value, bounds } in figures {
        if let Some(value) = value {
            table.add_row([name.to_owned(), value, bounds.map(interval).unwrap_or_default()]);
        }
    }
    table
}

/// A row of the whole; left out if it has no value.
#[derive(Clone)]
struct Figure {
    name: &'static str,
    value: Option<String>,
    bounds: Option<(f64, f64)>,
}

fn figure(name: &'static str, value: Option<String>) -> Figure {
    Figure { name, value, bounds: None }
}

/// A share and its interval.
fn share(name: &'static str, share: Option<f64>, bounds: Option<(f64, f64)>) -> Figure {
    Figure { name, value: share.map(percent), bounds }
}

/// A number that is left out if it is zero.
fn counted(name: &'static str, number: u64) -> Figure {
    figure(name, (number > 0).then(|| count(number)))
}

fn of_lookups(report: &Report) -> Vec<Figure> {
    // Where there are no lookups, these are figures of queries, which have rows of their own.
    let of_lookup = |figure: Option<f64>| figure.filter(|_| report.lookups > 0);
    vec![
        counted("lookups", report.lookups),
        counted("  that failed", report.lookups_failed),
        share("  exactly the k closest", report.exact, report.exact_interval),
        figure("  requests", report.requests_per_lookup.map(decimal)),
        figure("  steps", of_lookup(report.hops).map(decimal)),
        figure("  median within", of_lookup(report.p50_ms).map(milliseconds)),
        figure("  90 % within", of_lookup(report.p90_ms).map(milliseconds)),
        figure("  99 % within", of_lookup(report.p99_ms).map(milliseconds)),
    ]
}

fn of_queries(report: &Report) -> Vec<Figure> {
    let are_lies = report.lies > 0 || report.wrong > 0;
    vec![
        counted("queries", report.gets),
        counted("  that failed", report.gets_failed),
        share("  gave the newest version", report.get_success, report.get_success_interval),
        counted("queries that learned of a delete", report.deleted),
        counted("  gave an older version", report.outdated),
        counted("  missed, as all holders had left", report.holders_failed),
        counted("  missed, as the record had expired", report.expired),
        counted("  missed, as no living holder was in reach", report.out_of_reach),
        counted("  missed, as the holders were cut off", report.unreachable),
        counted("  missed, as two sides had not grown together yet", report.healing),
        figure("  unexplained misses", (report.gets > 0).then(|| count(report.unexplained))),
        counted("  gave nothing", report.missed),
        figure("  gave what its author did not write", are_lies.then(|| count(report.wrong))),
        figure("  messages", report.messages_per_get.map(decimal)),
        figure("  median within", report.get_p50_ms.map(milliseconds)),
        figure("  99 % within", report.get_p99_ms.map(milliseconds)),
        counted("queries without knowing the owner", report.unpinned),
        share("  believed liars", report.deceived, report.deceived_interval),
        counted("lies told", report.lies),
        counted("  records in them that were refused", report.refused_records),
    ]
}

/// Of saves, and of what became of the records.
fn of_records(report: &Report) -> Vec<Figure> {
    vec![
        counted("saves", report.saves),
        counted("  that nobody acknowledged", report.saves_failed),
        figure("  messages", report.messages_per_save.map(decimal)),
        counted("records that could not be saved", report.unsaved),
        counted("records that should be there", report.records),
        figure("  that nobody holds", (report.records > 0).then(|| count(report.lost))),
        figure("  fewest copies of one", report.fewest_copies.map(count)),
        share("  at all of the k closest nodes", report.full_copies, report.full_copies_interval),
        figure("  copies of older versions", report.outdated_copies.map(count)),
    ]
}

fn of_the_run(report: &Report) -> Vec<Figure> {
    vec![
        counted("operations that ended with their node", report.abandoned),
        counted("nodes that have not joined", report.joining),
        counted("joins", report.joins),
        counted("  that failed at first", report.joins_failed),
        figure("contacts that are dead nodes", report.stale.map(percent)),
        figure("requests that nobody answered", report.timeouts.map(percent)),
        figure("bytes per node and second", report.bytes_per_node_s.map(decimal)),
        counted("violations", report.violations),
        figure("events", Some(count(report.events))),
        figure("  in a second", report.events_per_s.map(|events| count(events as u64))),
        figure("virtual time", Some(brief(Duration::from_secs_f64(report.virtual_s.max(0.0))))),
        figure("real time", report.wall_s.map(|seconds| format!("{seconds:.1} s"))),
        figure("most memory", report.peak_rss_mib.map(|mebibytes| format!("{mebibytes} MiB"))),
        figure("hash of all that happened", Some(report.trace_hash.clone())),
    ]
}

type Column = (&'static str, fn(&Report) -> Option<String>);

const EXACT: Column = ("exact", |report| report.exact.map(percent));
const REQUESTS: Column = ("requests", |report| report.requests_per_lookup.map(decimal));
const STEPS: Column = ("steps", |report| report.hops.map(decimal));
const MEDIAN: Column = ("median ms", |report| report.p50_ms.map(decimal));
const P90: Column = ("90 % ms", |report| report.p90_ms.map(decimal));
const P99: Column = ("99 % ms", |report| report.p99_ms.map(decimal));
const QUERIES: Column = ("queries", |report| Some(count(report.gets)));
const NEWEST: Column = ("newest", |report| report.get_success.map(percent));
const INTERVAL: Column = ("95 % interval", |report| report.get_success_interval.map(interval));
const OLDER: Column = ("older", |report| Some(count(report.outdated)));
const MISSED: Column = ("nothing", |report| Some(count(report.missed)));
const WRONG: Column = ("wrong", |report| Some(count(report.wrong)));
const DECEIVED: Column = ("believed liars", |report| report.deceived.map(percent));
const OLD_COPIES: Column = ("old copies", |report| report.outdated_copies.map(count));
const STALE: Column = ("dead", |report| report.stale.map(percent));
const LOST: Column = ("lost", |report| Some(count(report.lost)));
const BYTES: Column = ("bytes/node/s", |report| report.bytes_per_node_s.map(decimal));
const JOINS: Column = ("joins", |report| Some(count(report.joins)));
const FEWEST: Column = ("fewest copies", |report| report.fewest_copies.map(count));
const FULL: Column = ("at all k closest", |report| report.full_copies.map(percent));

/// A row for each point, with what matters in this experiment.
pub(super) fn series(experiment: &str, series: &Series) -> Table {
    let columns: &[Column] = match experiment {
        "lookups" => &[EXACT, REQUESTS, STEPS, MEDIAN, P90, P99],
        "churn" => &[QUERIES, NEWEST, INTERVAL, MEDIAN, P99, STALE, LOST],
        "maintenance" => &[BYTES, JOINS, STALE, LOST],
        "partition" => &[QUERIES, NEWEST, INTERVAL, OLDER, OLD_COPIES],
        "liars" => &[QUERIES, NEWEST, INTERVAL, OLDER, MISSED, WRONG, DECEIVED],
        "kill" => &[QUERIES, NEWEST, INTERVAL, FEWEST, FULL, LOST],
        _ => &[REQUESTS, MEDIAN, P99, NEWEST, INTERVAL, STALE, BYTES],
    };
    let names = [series.axis].into_iter().chain(columns.iter().map(|(name, _)| *name));
    let mut table = empty_table(names, 0);
    for point in &series.points {
        let place = match series.axis {
            "killed" | "liars" => format!("{} %", (point.at * 1000.0).round() / 10.0),
            _ if point.at.fract() == 0.0 => count(point.at as u64),
            _ => format!("{:.2}", point.at),
        };
        let figures = columns.iter().map(|(_, figure)| figure(&point.report).unwrap_or_else(|| "-".to_owned()));
        table.add_row([place].into_iter().chain(figures));
    }
    table
}

/// Digits in groups of three.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// With three significant digits or more.
fn decimal(number: f64) -> String {
    match number.abs() {
        size if size >= 999.5 => count(number.round() as u64),
        size if size >= 99.95 => format!("{number:.0}"),
        size if size >= 9.995 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

fn milliseconds(number: f64) -> String {
    format!("{} ms", decimal(number))
}

/// A share as percent, with so many digits that all and almost all are told apart.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match format!("{percent:.3}").as_str() {
        _ if share == 0.0 || share == 1.0 => format!("{percent} %"),
        "100.000" | "0.000" => format!("{percent:.4} %"),
        text => format!("{text} %"),
    }
}

fn interval((low, high): (f64, f64)) -> String {
    format!("{} to {}", percent(low).trim_end_matches(" %"), percent(high))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kademlia_simulator::experiment::Point;

    #[test]
    fn numbers_are_for_people() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.5, 12.345, 123.45, 12_345.6].map(decimal), ["0.50", "12.3", "123", "12,346"]);
        assert_eq!(
            [1.0, 0.0, 0.99987, 0.999_999, 0.5].map(percent),
            ["100 %", "0 %", "99.987 %", "99.9999 %", "50.000 %"]
        );
    }

    #[test]
    fn tables_have_what_applies() {
        let report =
            Report { gets: 10, get_success: Some(0.9), get_success_interval: Some((0.6, 0.98)), ..Report::default() };
        let table = whole(&report).to_string();
        assert!(table.contains("60.000 to 98.000 %") && !table.contains("lookups"), "{table}");
        let points = vec![Point { at: 0.25, report }];
        let table = series("kill", &Series { axis: "killed", points }).to_string();
        assert!(table.contains("25 %") && table.contains("90.000 %"), "{table}");
        assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
        let report = Report { lies: 7, wrong: 2, deceived: Some(0.25), gets: 10, ..Report::default() };
        let table = whole(&report).to_string();
        assert!(table.contains("did not write") && table.contains("25.000 %"), "{table}");
        let points = vec![Point { at: 0.1, report }];
        let table = series("liars", &Series { axis: "liars", points }).to_string();
        assert!(table.contains("10 %") && table.contains("25.000 %"), "{table}");
        assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
    }
}
