//! Python with packages of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::{env, fs};

fn run(command: &mut Command) {
    let shown = format!("{command:?}");
    let needs = "this test needs Python 3.11 or later with venv, and pip with access to a package index";
    match command.output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => panic!("{shown} failed ({needs}):\n{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => panic!("{shown} could not be run ({needs}): {error}"),
    }
}

/// The Python of a virtual environment with a package, which is made once and stays in the target folder.
pub(crate) fn python(package: &str) -> PathBuf {
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("venv-{package}"));
    if !folder.exists() {
        // Elsewhere first, so that no half of one is ever used. The packages do not mind that they move.
        let unfinished = folder.with_extension(format!("unfinished-{}", std::process::id()));
        run(Command::new("python3").args(["-m", "venv"]).arg(&unfinished));
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", package];
        run(Command::new(unfinished.join("bin/python3")).args(pip));
        if fs::rename(&unfinished, &folder).is_err() {
            fs::remove_dir_all(&unfinished).unwrap();
        }
    }
    folder.join("bin/python3")
}
