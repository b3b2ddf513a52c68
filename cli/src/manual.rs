//! `dht completions` and `dht man`: what is made of the definition of the arguments.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap_complete::Shell;

use crate::args;

/// Why there are no manual pages.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the manual into {}: {error}", .folder.display())]
pub(crate) struct NoPages {
    folder: PathBuf,
    error: io::Error,
}

/// Prints what a shell needs.
pub(crate) fn completions(shell: Shell) -> io::Result<bool> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::command(), "dht", &mut script);
    let mut out = io::stdout().lock();
    out.write_all(&script)?;
    out.flush()?;
    Ok(true)
}

/// Writes a page for the program and for each of its commands.
pub(crate) fn pages(folder: &Path) -> Result<bool, NoPages> {
    let written = fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(args::command(), folder));
    written.map(|()| true).map_err(|error| NoPages { folder: folder.to_owned(), error })
}
