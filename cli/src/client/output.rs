//! The file that a value is written to: it has its name when the value is whole.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::NamedTempFile;

/// As many links as systems follow.
const MOST_LINKS: usize = 40;

/// The name of a file that is to be removed if its value comes to no end.
#[derive(Debug, Clone, Default)]
pub(super) struct Unfinished(Arc<Mutex<Option<PathBuf>>>);

impl Unfinished {
    /// Before the end of the process: none is made any more.
    pub(super) fn remove_for_good(&self) {
        let path = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = &*path {
            fs::remove_file(path).ok();
        }
        // It stays locked: whoever is about to make one waits until the process ends.
        std::mem::forget(path);
    }

    /// Makes such a file. Whoever is to remove it waits until it is there.
    fn make(&self, make: impl FnOnce() -> io::Result<NamedTempFile>) -> io::Result<NamedTempFile> {
        let mut path = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let file = make()?;
        *path = Some(file.path().to_owned());
        Ok(file)
    }
}

/// A value on its way to a file.
#[derive(Debug)]
pub(super) enum Output {
    /// A file beside that of the name, which it takes in the end, and what has the name now. It is removed if it comes
    /// to no end.
    Beside(NamedTempFile, PathBuf, Option<File>),
    /// A device or a pipe, whose place nothing can take, or a file whose folder takes no other.
    Straight(File),
}

impl Output {
    pub(super) fn begin(path: &Path, unfinished: &Unfinished) -> io::Result<Self> {
        // Whoever may not write to it is not to replace it either.
        let there = match File::options().write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let path = end_of_links(path);
                return Ok(Output::Beside(unfinished.make(|| beside(&path, None))?, path, None));
            }
            Err(error) => return Err(error),
        };
        let about = there.metadata()?;
        // A link goes on leading where it does. Those of /proc can lead to what has no name.
        let path = match fs::canonicalize(path) {
            Ok(path) if about.is_file() => path,
            _ => return Ok(Output::Straight(there)),
        };
        match unfinished.make(|| beside(&path, Some(about.permissions()))) {
            Ok(file) => Ok(Output::Beside(file, path, Some(there))),
            Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {
                there.set_len(0)?;
                Ok(Output::Straight(there))
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        match self {
            Output::Beside(file, ..) => file.write_all(piece),
            Output::Straight(file) => file.write_all(piece),
        }
    }

    /// The value is whole.
    pub(super) fn end(self) -> io::Result<()> {
        let Output::Beside(file, path, there) = self else { return Ok(()) };
        match (file.persist(path), there) {
            (Ok(_), _) => Ok(()),
            // Such as one that is mounted, or another's in a folder for all.
            (Err(failed), Some(mut there)) => {
                let mut file = failed.file;
                file.rewind()?;
                there.set_len(0)?;
                io::copy(&mut file, &mut there).map(|_| ())
            }
            (Err(failed), None) => Err(failed.error),
        }
    }
}

/// A file in the same folder, with these permissions or those of any new file.
fn beside(path: &Path, permissions: Option<Permissions>) -> io::Result<NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".dht-get-");
    #[cfg(unix)]
    if permissions.is_none() {
        // As far as the user's mask lets it.
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    }
    let file = builder.tempfile_in(folder)?;
    if let Some(permissions) = permissions {
        // The mask is for new files.
        file.as_file().set_permissions(permissions)?;
    }
    Ok(file)
}

/// Where a link leads though there is nothing.
fn end_of_links(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let Ok(next) = fs::read_link(&path) else { break };
        path = path.parent().unwrap_or(Path::new("")).join(next);
    }
    path
}
