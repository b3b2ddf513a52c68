//! The control socket: a Unix socket in the node's folder, for the node's user alone.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener as StdListener, UnixStream};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use super::server::ServerError;

/// The file of a socket, which goes when the node does.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}

/// The longest path of a socket on every system.
const MAX_PATH_BYTES: usize = 103;

/// Listens there, if the path is no longer than that of a socket can be. What a node left that did not end well is removed;
/// one that runs is left alone.
pub(super) fn listen(path: PathBuf) -> Result<Option<(UnixListener, SocketFile)>, ServerError> {
    if path.as_os_str().len() > MAX_PATH_BYTES {
        let shown = path.display();
        log::warn!(
            "{shown} is too long for the path of a socket: commands reach this node by --node URL and not by --data-dir"
        );
        return Ok(None);
    }
    if UnixStream::connect(&path).is_ok() {
        return Err(ServerError::InUse { path });
    }
    let bound = bind(&path).and_then(|listener| {
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    });
    match bound {
        Ok(listener) => Ok(Some((listener, SocketFile(path)))),
        Err(error) => Err(ServerError::Control { path, error }),
    }
}

fn bind(path: &Path) -> io::Result<StdListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = StdListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}
