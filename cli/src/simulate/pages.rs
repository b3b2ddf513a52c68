//! Large pages of memory for what is simulated.
//!
//! Each message of a large network is about a node that no cache holds, and with pages of 4 KiB the processor must find out
//! first where the page is: with pages of 2 MiB 20,000 nodes are simulated a sixth faster. The C library of GNU asks the
//! kernel for them, if it is told to by the time that a process starts; so the program starts itself anew.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::{env, fs};

/// What the C library is told by.
const TUNABLES: &str = "GLIBC_TUNABLES";
const LARGE_PAGES: &str = "glibc.malloc.hugetlb=1";

/// Starts the program anew, in the same process, unless it has been told already: by itself, or by the user, who may say
/// otherwise. Where that fails it goes on as it is.
pub(super) fn ask_for() {
    if env::var_os(TUNABLES).is_none() {
        let error = anew();
        log::debug!("goes on with small pages of memory: {error}");
    }
}

/// Returns only if it fails.
fn anew() -> io::Error {
    // The file that runs: by the name that it was called by another one may be found, or none.
    let program = match fs::canonicalize("/proc/self/exe") {
        Ok(program) => program,
        Err(error) => return error,
    };
    let mut arguments = env::args_os();
    let name = arguments.next().unwrap_or_else(|| OsString::from("dht"));
    Command::new(program).arg0(name).args(arguments).env(TUNABLES, LARGE_PAGES).exec()
}
