//! What `--out` writes.

use std::fs;
use std::path::{Path, PathBuf};

use kademlia_simulator::experiment::Findings;
use kademlia_simulator::{chart, csv};
use serde::Serialize;

use super::Failure;
use crate::args::{Options, SimulatePlan};
use crate::say;

/// All figures, as JSON.
#[derive(Serialize)]
struct Everything<'a> {
    command: &'a str,
    #[serde(flatten)]
    options: Options,
    #[serde(flatten)]
    findings: &'a Findings,
}

/// The folder for the files.
pub(super) struct Folder {
    path: PathBuf,
    /// What had to be created for it, itself first.
    created: Vec<PathBuf>,
}

impl Folder {
    /// Creates it, before anything takes long.
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        let named = path.ancestors().filter(|folder| !folder.as_os_str().is_empty());
        let created = named.take_while(|folder| !folder.exists()).map(Path::to_owned).collect();
        let folder = Folder { path: path.to_owned(), created };
        fs::create_dir_all(path).map_err(|source| Failure::Folder { path: path.to_owned(), source })?;
        Ok(folder)
    }

    /// Writes the files, and says which.
    pub(super) fn write(&self, plan: &SimulatePlan, findings: &Findings) -> Result<(), Failure> {
        let everything = Everything { command: &plan.repeat, options: plan.options, findings };
        let json = serde_json::to_string_pretty(&everything).map_err(std::io::Error::from)? + "\n";
        let name = findings.experiment;
        let mut files = vec![(format!("{name}.json"), json), (format!("{name}.csv"), csv(findings))];
        let pictures = chart::draw(findings, &plan.plan)?;
        files.extend(pictures.into_iter().map(|picture| (format!("{}.svg", picture.name), picture.svg)));
        for (name, text) in &files {
            let path = self.path.join(name);
            fs::write(&path, text).map_err(|source| Failure::Write { path, source })?;
        }
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        say(format_args!("written to {}: {}", self.path.display(), names.join(", ")));
        Ok(())
    }
}

/// What was created and is still empty, as the run was interrupted, is removed again.
impl Drop for Folder {
    fn drop(&mut self) {
        for folder in &self.created {
            // Of one that is not empty this fails, and so do all above it.
            fs::remove_dir(folder).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_created_and_stays_empty_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let (first, second) = (directory.path().join("first"), directory.path().join("first").join("second"));
        drop(Folder::create(&second).unwrap());
        assert!(directory.path().exists() && !first.exists());

        fs::create_dir(&first).unwrap();
        drop(Folder::create(&first).unwrap());
        assert!(first.exists(), "it was there before");
        drop(Folder::create(&second).unwrap());
        assert!(first.exists() && !second.exists(), "only one of them was there before");

        let folder = Folder::create(&second).unwrap();
        fs::write(second.join("file"), "text").unwrap();
        drop(folder);
        assert!(second.join("file").exists());
    }

    #[test]
    fn what_was_created_on_the_way_to_a_folder_that_cannot_be_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "text").unwrap();
        assert!(Folder::create(&file.join("folder")).is_err() && file.exists());
    }
}
