//! The file that a value is written to: it has its name when the value is whole.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A value on its way to a file.
#[derive(Debug)]
pub(super) enum Output {
    /// A file beside that of the name, which it takes in the end. It is removed if it comes to no end.
    Beside(NamedTempFile, PathBuf),
    /// A device or a pipe, whose place nothing can take.
    Straight(File),
}

impl Output {
    pub(super) fn begin(path: &Path) -> io::Result<Self> {
        // A link goes on leading where it does.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let there = fs::metadata(&path).ok();
        if there.as_ref().is_some_and(|there| !there.is_file()) {
            return Ok(Output::Straight(File::options().write(true).open(path)?));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut builder = tempfile::Builder::new();
        builder.prefix(".dht-get-");
        #[cfg(unix)]
        builder.permissions(there.map_or_else(usual, |there| there.permissions()));
        Ok(Output::Beside(builder.tempfile_in(folder)?, path))
    }

    /// What is to be removed if the value comes to no end.
    pub(super) fn unfinished(&self) -> Option<&Path> {
        match self {
            Output::Beside(file, _) => Some(file.path()),
            Output::Straight(_) => None,
        }
    }

    pub(super) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        match self {
            Output::Beside(file, _) => file.write_all(piece),
            Output::Straight(file) => file.write_all(piece),
        }
    }

    /// The value is whole.
    pub(super) fn end(self) -> io::Result<()> {
        match self {
            Output::Beside(file, path) => file.persist(path).map(|_| ()).map_err(|failed| failed.error),
            Output::Straight(_) => Ok(()),
        }
    }
}

/// What a new file has, as far as the user's mask lets it.
#[cfg(unix)]
fn usual() -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o666)
}
