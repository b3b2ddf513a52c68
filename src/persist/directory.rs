//! The state of a node in a folder: one file, which is whole after any crash, and a lock.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use redb::Database;

use super::file::{builder, commit, load, schema_of};
use super::rows::SCHEMA;
use super::unusable::{Unusable, calmly};
use super::{Batch, Lost, SavedState, StateError, StateStore};

const FILE: &str = "state.redb";
const FRESH_FILE: &str = "state.redb.new";
const SCHEMA_FILE: &str = "schema";
const LOCK: &str = "lock";

/// After an error the file is opened again when this many times the time has passed that the last opening took: all of it is
/// read for that, and a disk can be full for days.
const REST: u32 = 10;

/// Why a folder cannot hold the state of a node.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PersistError {
    /// The folder, or the lock in it, cannot be made or used.
    #[error("the data directory {path} cannot be used: {source}")]
    Directory {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another node uses the folder.
    #[error("the data directory {path} is in use by another node; stop that one, or choose another directory")]
    InUse {
        /// Which one.
        path: PathBuf,
    },
    /// A later version of this library has written the file. It is as it was.
    #[error("{path} has schema {found}, and this version knows schemas up to {known}: use the version that wrote it")]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// The number that it has.
        found: u32,
        /// The highest number that can be read.
        known: u32,
    },
    /// The file cannot be read or written, though it may be well.
    #[error("{path} cannot be used: {cause}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: StateError,
    },
}

/// A folder that keeps the state of one node: what was committed is there after a crash at any moment.
///
/// In it are `state.redb`, in the format of the crate `redb`; `schema`, a number that says what is in it; and `lock`, which is
/// locked as long as this lives. A file that
/// is damaged is kept under another name, `state.redb.damaged-` and the time in Unix seconds, and a new one is begun; that
/// is among the [`notices`](SavedState::notices) when the state is loaded.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    /// `None` while it could not be opened again, after an error.
    file: Option<Database>,
    /// How long it took to open it.
    opening: Duration,
    /// What was wrong last, and until when the file is not opened again for that.
    rest: Option<(String, Instant)>,
    notices: Vec<String>,
    /// Nothing of what was committed is in the file.
    lost: Option<String>,
    /// Last, so that the file is closed before the next one can open it.
    _lock: Lock,
}

/// A file that is locked as long as this lives.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // To close it would not do: a process that is just being started from this one has it open, too, for a moment. If it
        // cannot be unlocked, it is when that is over.
        self.0.unlock().ok();
    }
}

impl DataDirectory {
    /// Opens a folder, and makes it if it is not there: on Unix for its owner alone.
    ///
    /// The file is read once, to see whether it is whole.
    ///
    /// # Errors
    ///
    /// When another node uses it, it cannot be used, or a later version of this library has written it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, PersistError> {
        let path = path.as_ref().to_path_buf();
        let lock = lock(&path)?;
        let notices = open_to_others(&path).into_iter().collect();
        let (file, opening, rest, lost) = Default::default();
        let mut directory = DataDirectory { path, file, opening, rest, notices, lost, _lock: lock };
        match directory.reopen() {
            Ok(()) => {}
            // There is nothing to be lost by going on in memory.
            Err(error) if error.is_full() && matches!(directory.file_path().try_exists(), Ok(false)) => {
                directory.notices.push(format!("{} cannot be made: {error}", directory.file_path().display()));
            }
            Err(Unusable::Newer(found)) => {
                return Err(PersistError::NewerSchema { path: directory.file_path(), found, known: SCHEMA });
            }
            Err(error) => return Err(PersistError::File { path: directory.file_path(), cause: error.into() }),
        }
        // Nothing was loaded yet: whatever is there now is what the node starts from.
        directory.lost = None;
        Ok(directory)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn file_path(&self) -> PathBuf {
        self.path.join(FILE)
    }

    /// Opens the file if it is not open: a new one if there is none or it is damaged.
    fn reopen(&mut self) -> Result<(), Unusable> {
        if self.file.is_some() {
            return Ok(());
        }
        let start = Instant::now();
        let opened = self.find_or_begin();
        self.opening = start.elapsed();
        opened
    }

    fn find_or_begin(&mut self) -> Result<(), Unusable> {
        let path = self.file_path();
        // What cannot be looked for must not be taken for missing, and be written over.
        if path.try_exists()? {
            match calmly(|| open(&self.path, &path)) {
                Ok(file) => {
                    self.file = Some(file);
                    return Ok(());
                }
                Err(Unusable::Damaged(cause)) => self.put_aside(&path, &cause)?,
                Err(error) => return Err(error),
            }
        }
        self.file = Some(calmly(|| begin(&self.path))?);
        self.lost.get_or_insert_with(|| format!("{} was gone; a new one is begun", path.display()));
        Ok(())
    }

    /// Keeps a damaged file under another name.
    fn put_aside(&mut self, path: &Path, cause: &str) -> Result<(), Unusable> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let name = |number: u64| self.path.join(format!("{FILE}.damaged-{}", now.saturating_add(number)));
        let aside = (0..).map(name).find(|name| !name.exists()).unwrap_or_else(|| name(0));
        fs::rename(path, &aside)?;
        let notice =
            format!("{} is damaged ({cause}) and was kept as {}; a new one is begun", path.display(), aside.display());
        self.lost = Some(notice.clone());
        self.notices.push(notice);
        Ok(())
    }

    /// After an error of the disk the file must be opened again, which looks whether it is whole.
    fn close(&mut self, error: &Unusable) {
        let file = self.file.take();
        catch_unwind(AssertUnwindSafe(|| drop(file))).ok();
        self.rest = Some((error.to_string(), Instant::now() + self.opening * REST));
    }
}

impl StateStore for DataDirectory {
    fn load(&mut self) -> Result<SavedState, StateError> {
        let notices = std::mem::take(&mut self.notices);
        let mut state = match &self.file {
            Some(file) => calmly(|| load(file))?,
            None => SavedState::default(),
        };
        state.notices.splice(0..0, notices);
        Ok(state)
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StateError> {
        if let Some((cause, until)) = &self.rest
            && self.file.is_none()
            && Instant::now() < *until
        {
            return Err(cause.as_str().into());
        }
        if let Err(error) = self.reopen() {
            self.close(&error);
            return Err(error.into());
        }
        // What was opened anew is empty.
        if let Some(lost) = self.lost.take().filter(|_| !batch.whole) {
            return Err(Lost(lost).into());
        }
        let Some(file) = &self.file else { return Err("the file is not open".into()) };
        let committed = calmly(|| commit(file, batch));
        if let Err(error) = &committed {
            self.close(error);
        }
        Ok(committed?)
    }
}

fn lock(path: &Path) -> Result<Lock, PersistError> {
    let unusable = |source| PersistError::Directory { path: path.to_path_buf(), source };
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path).map_err(unusable)?;
    let file = private().create(true).truncate(false).open(path.join(LOCK)).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(PersistError::InUse { path: path.to_path_buf() }),
        Err(TryLockError::Error(source)) => Err(unusable(source)),
    }
}

/// What opens a file for writing, and makes it for its owner alone.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// A warning, where others can put a file of theirs in the place of the node's.
#[cfg(unix)]
fn open_to_others(path: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o7777;
    let path = path.display();
    let words = format!("others can write in the data directory {path} (mode {mode:o}): chmod go-w {path}");
    (mode & 0o022 != 0).then_some(words)
}

#[cfg(not(unix))]
fn open_to_others(_: &Path) -> Option<String> {
    None
}

fn open(directory: &Path, path: &Path) -> Result<Database, Unusable> {
    // To open the file changes it. So what it is of stands beside it, too.
    let beside = fs::read_to_string(directory.join(SCHEMA_FILE)).ok().and_then(|text| text.trim().parse().ok());
    if let Some(found) = beside.filter(|found| *found > SCHEMA) {
        return Err(Unusable::Newer(found));
    }
    let file = builder().open(path)?;
    match schema_of(&file)? {
        Some(SCHEMA) => Ok(file),
        Some(found) if found > SCHEMA => Err(Unusable::Newer(found)),
        _ => Err(Unusable::Damaged("it has no schema".to_owned())),
    }
}

/// Makes a new file. It has its name only when it is whole, so that none that was begun passes for a damaged one.
fn begin(directory: &Path) -> Result<Database, Unusable> {
    let (fresh, path) = (directory.join(FRESH_FILE), directory.join(FILE));
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    drop(private().create_new(true).read(true).open(&fresh)?);
    writeln!(private().create(true).truncate(true).open(directory.join(SCHEMA_FILE))?, "{SCHEMA}")?;
    let file = builder().create(&fresh)?;
    commit(&file, &Batch { whole: true, ..Batch::default() })?;
    fs::rename(&fresh, &path)?;
    #[cfg(unix)]
    File::open(directory)?.sync_all()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_free_though_a_child_process_has_its_files_open() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataDirectory::open(folder.path()).unwrap();
        let of_child = first._lock.0.try_clone().unwrap();
        assert!(matches!(DataDirectory::open(folder.path()), Err(PersistError::InUse { .. })));
        drop(first);
        DataDirectory::open(folder.path()).unwrap();
        drop(of_child);
    }

    #[test]
    fn after_an_error_the_file_is_not_read_again_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut directory = DataDirectory::open(folder.path()).unwrap();
        directory.commit(&Batch::default()).unwrap();
        let full = || Unusable::Io(io::ErrorKind::StorageFull.into());
        directory.opening = Duration::from_secs(3600);
        directory.close(&full());
        // Whoever opens it now sees that it is not whole.
        fs::write(directory.file_path(), "nonsense").unwrap();
        for _ in 0..2 {
            let error = directory.commit(&Batch::default()).unwrap_err();
            assert_eq!((error.to_string(), directory.notices.len()), (full().to_string(), 0));
        }
        directory.opening = Duration::ZERO;
        directory.close(&full());
        assert!(directory.commit(&Batch::default()).unwrap_err().is::<Lost>());
        assert_eq!(directory.notices.len(), 1);
        directory.commit(&Batch { whole: true, ..Batch::default() }).unwrap();
    }
}
