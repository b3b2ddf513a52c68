//! A listening Unix socket, and its file: how it comes to be, replaces a stale one, and goes.

use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use mio::net::{UnixListener, UnixStream};

/// How often another process may get in between before it is an error.
const ATTEMPTS: u32 = 8;

/// A listening socket, whose file is removed with it.
#[derive(Debug)]
pub(super) struct SocketFile {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode: tells our file from one that took its place.
    identity: (u64, u64),
}

impl SocketFile {
    /// Listens at `path`, in place of a socket on which nobody listens any more.
    ///
    /// The socket is bound in a folder that only its owner can enter, gets its mode there, and is then linked to its
    /// path: so it never has another mode there, and never takes the place of something else. (The umask would do for
    /// the mode, but belongs to the whole process.)
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        SocketAddr::from_pathname(path)?;
        // Between processes `remove_stale` does what can be done; between threads it can be certain.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let scratch = Scratch::beside(path)?;
        let bound = scratch.0.join("s");
        let listener = UnixListener::bind(&bound).map_err(|error| match error.kind() {
            ErrorKind::InvalidInput => io::Error::new(
                ErrorKind::InvalidInput,
                "the folder's path is too long to make a socket in it: some 95 bytes fit everywhere",
            ),
            _ => error,
        })?;
        fs::set_permissions(&bound, Permissions::from_mode(0o600))?;
        let identity = identity(&fs::symlink_metadata(&bound)?);
        for _ in 0..ATTEMPTS {
            match fs::hard_link(&bound, path) {
                Ok(()) => return Ok(SocketFile { listener, path: path.to_owned(), identity }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => remove_stale(path, &scratch)?,
                Err(error) => return Err(error),
            }
        }
        Err(in_use())
    }

    pub(super) fn listener(&self) -> &UnixListener {
        &self.listener
    }

    pub(super) fn listener_mut(&mut self) -> &mut UnixListener {
        &mut self.listener
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| identity(&found) == self.identity) {
            fs::remove_file(&self.path).ok();
        }
    }
}

/// Whether a socket can be reached by this path: socket addresses take some hundred bytes.
pub(super) fn fits_socket_address(path: &Path) -> bool {
    SocketAddr::from_pathname(path).is_ok()
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn in_use() -> io::Error {
    io::Error::new(ErrorKind::AddrInUse, "another process listens there")
}

/// Removes the socket at `path` if nobody listens on it.
fn remove_stale(path: &Path, scratch: &Scratch) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(ErrorKind::AlreadyExists, "something that is not a socket is there"));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
        // Its backlog is full: somebody listens, however slowly.
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(in_use()),
        Err(error) => return Err(error),
        Ok(_) => return Err(in_use()),
    }
    // Another process may have put its own socket there since. Moved away first, it can be looked at and put back.
    let moved = scratch.0.join("old");
    match fs::rename(path, &moved) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        result => result?,
    }
    if identity(&fs::symlink_metadata(&moved)?) != identity(&found) {
        fs::hard_link(&moved, path).ok();
    }
    fs::remove_file(&moved)
}

/// A folder beside the socket that only we can enter, and that goes when this is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn beside(path: &Path) -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let parent = path.parent().ok_or(ErrorKind::InvalidInput)?;
        // Names left behind by a process that crashed, with our number, are passed over.
        for _ in 0..1000 {
            // Short, for it is part of a socket address.
            let unique = NEXT.fetch_add(1, Ordering::Relaxed);
            let folder = parent.join(format!(".{:x}.{unique:x}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&folder) {
                Ok(()) => return Ok(Scratch(folder)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(ErrorKind::AlreadyExists.into())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for name in ["s", "old"] {
            fs::remove_file(self.0.join(name)).ok();
        }
        fs::remove_dir(&self.0).ok();
    }
}
