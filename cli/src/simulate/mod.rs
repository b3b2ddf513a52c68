//! `dht simulate`: an experiment with a network in virtual time, and what it found.

mod files;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod pages;
mod progress;
mod table;

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;

use kademlia_simulator::chart::ChartError;
use kademlia_simulator::experiment::{ExperimentError, Findings};
use kademlia_simulator::{Progress, Report};
use serde::Serialize;

use self::files::Folder;
use crate::args::{Options, SimulatePlan};
use crate::interrupt::Interrupt;
use crate::signals::SignalsError;
use crate::{logger, say};

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("cannot create the folder {}: {source}", .path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("cannot write {}: {source}", .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Chart(#[from] ChartError),
    #[error(transparent)]
    Signals(#[from] SignalsError),
    #[error("cannot print the result: {0}")]
    Print(#[from] io::Error),
    #[error(transparent)]
    Experiment(ExperimentError),
    #[error("interrupted")]
    Interrupted,
}

impl From<ExperimentError> for Failure {
    fn from(error: ExperimentError) -> Self {
        match error {
            ExperimentError::BrokenOff => Failure::Interrupted,
            error => Failure::Experiment(error),
        }
    }
}

/// What stands for the whole run, as JSON.
#[derive(Serialize)]
struct Summary<'a> {
    experiment: &'static str,
    /// All that was asked for.
    command: &'a str,
    #[serde(flatten)]
    options: Options,
    #[serde(flatten)]
    report: &'a Report,
}

/// Runs it, prints the result and writes the files. Whether the run was sound.
pub(crate) fn run(plan: &SimulatePlan) -> Result<bool, Failure> {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    pages::ask_for();
    let interrupt = Interrupt::listen()?;
    let folder = plan.out.as_deref().map(Folder::create).transpose()?;
    let mut bar = progress::Bar::new();
    let mut watch = |progress: Progress| {
        bar.show(progress);
        if interrupt.is_wanted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let findings = (plan.run)(&plan.plan, &mut watch);
    bar.clear();
    let findings = findings?;

    // What cannot be printed may yet be written, and the other way round.
    let printed = print(plan, &findings);
    let written = folder.map_or(Ok(()), |folder| folder.write(plan, &findings));
    let is_sound = judge(plan, &findings, logger::errors());
    printed?;
    written?;
    Ok(is_sound)
}

fn print(plan: &SimulatePlan, findings: &Findings) -> Result<(), Failure> {
    let mut out = io::stdout();
    if plan.json {
        let summary = Summary {
            experiment: findings.experiment,
            command: &plan.repeat,
            options: plan.options,
            report: &findings.report,
        };
        writeln!(out, "{}", serde_json::to_string(&summary).map_err(io::Error::from)?)?;
    } else {
        writeln!(out, "{}\n{}", table::title(plan, findings), plan.repeat)?;
        writeln!(out, "{}", table::whole(&findings.report))?;
        for series in findings.series.iter().filter(|series| series.points.len() > 1) {
            writeln!(out, "{}", table::series(findings.experiment, series))?;
        }
    }
    Ok(())
}

/// Says what went wrong, if anything did, and how to repeat it.
fn judge(plan: &SimulatePlan, findings: &Findings, errors: usize) -> bool {
    let wrong = wrong(findings, errors);
    for wrong in &wrong {
        say(wrong);
    }
    if !wrong.is_empty() {
        say(format_args!("repeat with: {}", plan.repeat));
    }
    wrong.is_empty()
}

/// What went wrong, in words. A series can have runs of its own, which the whole does not count.
fn wrong(findings: &Findings, errors: usize) -> Vec<String> {
    let mut wrong = Vec::new();
    let points = findings.series.iter().flat_map(|series| {
        let name = |at: f64| format!("at {} {at}: ", series.axis);
        series.points.iter().map(move |point| (name(point.at), &point.report))
    });
    let whole = [(String::new(), &findings.report)].into_iter();
    for (place, report) in whole.chain(points).filter(|(_, report)| !report.is_sound()) {
        let Report { unexplained, wrong: false_ones, violations, told, .. } = report;
        if *unexplained > 0 {
            wrong.push(format!("{place}queries that missed without any reason: {unexplained}"));
        }
        if *false_ones > 0 {
            wrong.push(format!("{place}queries that gave what its author did not write: {false_ones}"));
        }
        if *violations > 0 {
            wrong.push(format!("{place}things happened that must never happen: {violations}"));
        }
        // Parts of one run tell the same.
        let told: Vec<String> =
            told.iter().map(|told| format!("  {told}")).filter(|told| !wrong.contains(told)).collect();
        wrong.extend(told);
    }
    if errors > 0 {
        wrong.push(format!("errors were logged: {errors}"));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use kademlia_simulator::experiment::{Point, Series};

    use super::*;

    #[test]
    fn what_went_wrong_is_told_with_its_place_and_in_words_once() {
        let bad = Report { unexplained: 2, told: vec!["a record vanished".to_owned()], ..Report::default() };
        let point = |at, report: &Report| Point { at, report: report.clone() };
        let findings = |whole: &Report, part: &Report| Findings {
            experiment: "lookups",
            report: whole.clone(),
            series: vec![Series { axis: "nodes", points: vec![point(100.0, part), point(200.0, whole)] }],
        };
        let good = Report::default();
        assert_eq!(wrong(&findings(&good, &good), 0), [""; 0]);
        assert_eq!(wrong(&findings(&good, &good), 1), ["errors were logged: 1"]);
        let unexplained = "queries that missed without any reason: 2";
        let (first, second) = (format!("at nodes 100: {unexplained}"), format!("at nodes 200: {unexplained}"));
        assert_eq!(wrong(&findings(&bad, &good), 0), [unexplained, "  a record vanished", second.as_str()]);
        assert_eq!(wrong(&findings(&good, &bad), 0), [first.as_str(), "  a record vanished"]);
        let deceived = Report { wrong: 3, ..Report::default() };
        let told = "queries that gave what its author did not write: 3";
        assert_eq!(wrong(&findings(&deceived, &good), 0), [told, format!("at nodes 200: {told}").as_str()]);
    }
}
