//! What `--out` writes.

use std::fs;
use std::path::Path;

use kademlia_simulator::experiment::Findings;
use kademlia_simulator::{chart, csv};
use serde::Serialize;

use super::Failure;
use crate::args::{Options, SimulatePlan};

/// All figures, as JSON.
#[derive(Serialize)]
struct Everything<'a> {
    #[serde(flatten)]
    options: Options,
    #[serde(flatten)]
    findings: &'a Findings,
}

/// Creates the folder, before anything takes long.
pub(super) fn prepare(folder: &Path) -> Result<(), Failure> {
    fs::create_dir_all(folder).map_err(|source| Failure::Folder { path: folder.to_owned(), source })
}

/// Writes the files. Gives their names.
pub(super) fn write(folder: &Path, plan: &SimulatePlan, findings: &Findings) -> Result<Vec<String>, Failure> {
    let everything = Everything { options: plan.options, findings };
    let json = serde_json::to_string_pretty(&everything).map_err(std::io::Error::from)? + "\n";
    let name = findings.experiment;
    let mut files = vec![(format!("{name}.json"), json), (format!("{name}.csv"), csv(findings))];
    let pictures = chart::draw(findings, &plan.plan)?;
    files.extend(pictures.into_iter().map(|picture| (format!("{}.svg", picture.name), picture.svg)));
    for (name, text) in &files {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|source| Failure::Write { path, source })?;
    }
    Ok(files.into_iter().map(|(name, _)| name).collect())
}
