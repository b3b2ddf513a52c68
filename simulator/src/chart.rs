//! Pictures of findings, as SVG: one for each thing that they say.

mod axis;
mod picture;

use axis::{Axis, Unit};
use picture::{Drawing, Line, Panel, Span};

use crate::Report;
use crate::experiment::{Findings, Plan, Series};

/// A picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// What it shows, in a word or two that can be the name of a file, such as `churn-success`.
    pub name: String,
    /// The picture.
    pub svg: String,
}

/// A picture cannot be drawn.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot draw the picture \"{title}\": {error}")]
pub struct ChartError {
    title: &'static str,
    error: String,
}

/// Draws what an experiment has found that was planned so. What there are no figures for is left out.
///
/// # Errors
///
/// If the library that draws fails.
pub fn draw(findings: &Findings, plan: &Plan) -> Result<Vec<Picture>, ChartError> {
    let mut pictures = Vec::new();
    for series in findings.series.iter().filter(|series| !series.points.is_empty()) {
        for (name, mut drawing) in drawings(findings.experiment, series) {
            drawing.subtitle = plan.summary_of(findings.experiment, series);
            pictures.extend(drawing.svg()?.map(|svg| Picture { name: name.to_owned(), svg }));
        }
    }
    Ok(pictures)
}

fn drawings(experiment: &str, series: &Series) -> Vec<(&'static str, Drawing)> {
    match (experiment, series.axis) {
        ("lookups", _) => of_lookups(series),
        ("churn", _) => of_churn(series),
        ("maintenance", _) => of_maintenance(series),
        ("partition", _) => of_partition(series),
        ("kill", _) => of_kill(series),
        ("liars", _) => of_liars(series),
        ("sweep", "alpha") => of_sweep(series, "sweep-alpha", "What more requests in flight are good for", "alpha"),
        ("sweep", _) => of_sweep(series, "sweep-k", "What more contacts and copies are good for", "k"),
        _ => Vec::new(),
    }
}

fn of_lookups(series: &Series) -> Vec<(&'static str, Drawing)> {
    let axis = || Axis::of_points(&places(series), Unit::Number, true);
    let steps = line(series, "steps from contact to contact, on average", |report| report.hops);
    let cost = vec![requests(series), numbers("steps", [steps])];
    let times = [
        line(series, "half take at most", |report| report.p50_ms),
        line(series, "90 % take at most", |report| report.p90_ms),
        line(series, "99 % take at most", |report| report.p99_ms),
    ];
    let nodes = "nodes in the network (logarithmic)";
    vec![
        ("lookups-cost", drawing("What a lookup costs as networks grow", nodes, axis(), cost)),
        (
            "lookups-latency",
            drawing("How long lookups take as networks grow", nodes, axis(), vec![milliseconds(times)]),
        ),
    ]
}

fn of_churn(series: &Series) -> Vec<(&'static str, Drawing)> {
    let label = "virtual time (hours)";
    let times = [
        line(series, "half take at most", |report| report.p50_ms),
        line(series, "99 % take at most", |report| report.p99_ms),
    ];
    let stale = line(series, "contacts that are dead nodes", |report| report.stale);
    let timeouts = line(series, "requests that nobody answered", |report| report.timeouts);
    let stale = Panel { label: "share", unit: Unit::Share, span: Span::FromZero, lines: vec![stale, timeouts] };
    vec![
        (
            "churn-success",
            drawing("What queries find while nodes come and go", label, hours(series), vec![found(series)]),
        ),
        (
            "churn-latency",
            drawing("How long queries take while nodes come and go", label, hours(series), vec![milliseconds(times)]),
        ),
        (
            "churn-stale",
            drawing("Dead nodes in routing tables, and requests to them", label, hours(series), vec![stale]),
        ),
    ]
}

fn of_maintenance(series: &Series) -> Vec<(&'static str, Drawing)> {
    let bytes = line(series, "sent and received, with headers", |report| report.bytes_per_node_s);
    let panel = numbers("bytes per node and second", [bytes]);
    let title = "What it costs to keep records alive, hour by hour";
    vec![("maintenance-bytes", drawing(title, "virtual time (hours)", hours(series), vec![panel]))]
}

fn of_partition(series: &Series) -> Vec<(&'static str, Drawing)> {
    let axis = from_zero(series, Unit::Minutes);
    let copies = line(series, "copies of older versions", |report| report.outdated_copies.map(|copies| copies as f64));
    let panels = vec![found(series), numbers("copies left", [copies])];
    let title = "After a partition in which both sides wrote";
    vec![("partition", drawing(title, "minutes after the healing", axis, panels))]
}

fn of_kill(series: &Series) -> Vec<(&'static str, Drawing)> {
    let axis = Axis::of_points(&places(series), Unit::Share, false);
    let at_once = line_of_success(series, "found right after");
    let later = line_with_bounds(series, "at all k closest one replication later", |report| {
        (report.full_copies, report.full_copies_interval)
    });
    let lines = vec![at_once, later];
    let panel = Panel { label: "share of records", unit: Unit::Share, span: Span::UpToAll, lines };
    let title = "What is left after many nodes died at one moment";
    vec![("kill", drawing(title, "share of nodes that died", axis, vec![panel]))]
}

fn of_liars(series: &Series) -> Vec<(&'static str, Drawing)> {
    let axis = Axis::of_points(&places(series), Unit::Share, false);
    let right = line_of_success(series, "newest value of the author");
    let deceived = line_with_bounds(series, "believed liars (owner unknown)", |report| {
        (report.deceived, report.deceived_interval)
    });
    let lines = vec![right, deceived];
    let panel = Panel { label: "share of queries", unit: Unit::Share, span: Span::FromZero, lines };
    vec![("liars", drawing("What queries find among liars", "share of nodes that lie", axis, vec![panel]))]
}

fn of_sweep(
    series: &Series,
    name: &'static str,
    title: &'static str,
    label: &'static str,
) -> Vec<(&'static str, Drawing)> {
    let times = milliseconds([line(series, "half of the lookups take at most", |report| report.p50_ms)]);
    let axis = Axis::of_points(&places(series), Unit::Number, false);
    vec![(name, drawing(title, label, axis, vec![requests(series), times, found(series)]))]
}

fn drawing(title: &'static str, label: &'static str, axis: Axis, panels: Vec<Panel>) -> Drawing {
    Drawing { title, subtitle: String::new(), label, axis, panels }
}

fn found(series: &Series) -> Panel {
    let line = line_of_success(series, "queries that gave the newest version");
    Panel { label: "share of queries", unit: Unit::Share, span: Span::UpToAll, lines: vec![line] }
}

fn requests(series: &Series) -> Panel {
    numbers("requests", [line(series, "requests in a lookup, on average", |report| report.requests_per_lookup)])
}

fn milliseconds<const N: usize>(lines: [Line; N]) -> Panel {
    numbers("milliseconds", lines)
}

fn numbers<const N: usize>(label: &'static str, lines: [Line; N]) -> Panel {
    Panel { label, unit: Unit::Number, span: Span::FromZero, lines: lines.into() }
}

fn hours(series: &Series) -> Axis {
    from_zero(series, Unit::Hours)
}

/// From zero to the last point.
fn from_zero(series: &Series, unit: Unit) -> Axis {
    Axis::round(0.0, places(series).into_iter().fold(0.0, f64::max), unit)
}

fn places(series: &Series) -> Vec<f64> {
    series.points.iter().map(|point| point.at).collect()
}

fn line(series: &Series, name: &'static str, figure: impl Fn(&Report) -> Option<f64>) -> Line {
    let points = series.points.iter().filter_map(|point| Some((point.at, figure(&point.report)?))).collect();
    Line { name, points, bounds: Vec::new() }
}

fn line_of_success(series: &Series, name: &'static str) -> Line {
    line_with_bounds(series, name, |report| (report.get_success, report.get_success_interval))
}

/// `figure` gives a share and its interval.
fn line_with_bounds(
    series: &Series,
    name: &'static str,
    figure: impl Fn(&Report) -> (Option<f64>, Option<(f64, f64)>),
) -> Line {
    let bounds = series.points.iter().filter_map(|point| Some((point.at, figure(&point.report).1?))).collect();
    Line { bounds, ..line(series, name, |report| figure(report).0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::Point;

    fn findings(experiment: &'static str, axes: &[&'static str], points: usize) -> Findings {
        let report = |at: f64| Report {
            requests_per_lookup: Some(20.0 + at),
            hops: Some(2.0),
            p50_ms: Some(100.0 * at),
            p99_ms: Some(1300.0),
            get_success: Some(0.999),
            get_success_interval: Some((0.997, 0.9995)),
            stale: Some(0.1),
            bytes_per_node_s: Some(1234.5),
            outdated_copies: Some(3),
            full_copies: Some(0.75),
            deceived: Some(0.01),
            deceived_interval: Some((0.005, 0.02)),
            ..Report::default()
        };
        let point = |at: usize| Point { at: at as f64, report: report(at as f64) };
        let series = |axis: &&'static str| Series { axis, points: (1..=points).map(point).collect() };
        Findings { experiment, report: report(1.0), series: axes.iter().map(series).collect() }
    }

    #[test]
    fn every_experiment_has_its_pictures() {
        let cases: [(&str, &[&str], &[&str]); 7] = [
            ("lookups", &["nodes"], &["lookups-cost", "lookups-latency"]),
            ("churn", &["hours"], &["churn-success", "churn-latency", "churn-stale"]),
            ("maintenance", &["hours"], &["maintenance-bytes"]),
            ("partition", &["minutes"], &["partition"]),
            ("kill", &["killed"], &["kill"]),
            ("liars", &["liars"], &["liars"]),
            ("sweep", &["alpha", "k"], &["sweep-alpha", "sweep-k"]),
        ];
        for (experiment, axes, expected) in cases {
            // One point is enough, and none is not an error.
            for points in [5, 1] {
                let pictures = draw(&findings(experiment, axes, points), &Plan::default()).unwrap();
                assert_eq!(pictures.iter().map(|picture| picture.name.as_str()).collect::<Vec<_>>(), expected);
                for picture in pictures {
                    assert!(picture.svg.starts_with("<svg") && picture.svg.trim_end().ends_with("</svg>"));
                    assert!(
                        picture.svg.contains("1,000 nodes, ") && picture.svg.contains(", seed 1"),
                        "{}",
                        picture.svg
                    );
                    assert!(!picture.svg.contains("NaN") && !picture.svg.contains("inf"), "{}", picture.name);
                }
            }
            assert_eq!(draw(&findings(experiment, axes, 0), &Plan::default()).unwrap(), []);
        }
    }

    #[test]
    fn every_legend_has_room() {
        for (experiment, axis) in [
            ("lookups", "nodes"),
            ("churn", "hours"),
            ("maintenance", "hours"),
            ("partition", "minutes"),
            ("kill", "killed"),
            ("liars", "liars"),
            ("sweep", "alpha"),
            ("sweep", "k"),
        ] {
            let mut findings = findings(experiment, &[axis], 2);
            findings.series[0].points[0].report.full_copies_interval = Some((0.5, 0.9));
            for (name, drawing) in drawings(experiment, &findings.series[0]) {
                assert!(drawing.panels.iter().all(Panel::has_room_for_legend), "{name}");
            }
        }
    }

    #[test]
    fn what_has_no_figures_is_not_drawn() {
        let mut findings = findings("churn", &["hours"], 3);
        findings.series[0].points.iter_mut().for_each(|point| point.report.get_success = None);
        let names: Vec<String> =
            draw(&findings, &Plan::default()).unwrap().into_iter().map(|picture| picture.name).collect();
        assert_eq!(names, ["churn-latency", "churn-stale"]);
    }
}
