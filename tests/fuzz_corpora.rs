//! Every input that fuzzing has found worth keeping, among them all that ever failed, goes through what the fuzz targets
//! do with it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::print_stderr)]

use std::path::Path;

/// The library of the fuzz targets, which is no crate of this workspace: `fuzz/` needs more than stable Rust.
#[path = "../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "public for the fuzz targets")]
mod fuzz;

/// Runs every file of a corpus. A failure names the file before it.
fn run_all(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    for file in files {
        eprintln!("{}", file.display());
        run(&std::fs::read(&file).unwrap());
    }
}

#[test]
fn datagrams() {
    run_all("datagram", fuzz::datagram::run);
}

#[test]
fn streams() {
    run_all("stream", fuzz::stream::run);
}

#[test]
fn parts() {
    run_all("parts", fuzz::parts::run);
}

#[test]
fn addresses() {
    run_all("address", fuzz::address::run);
}

#[test]
fn records() {
    run_all("records", fuzz::records::run);
}

#[test]
fn nodes() {
    run_all("node", fuzz::node::run);
}

#[test]
fn rpcudp() {
    run_all("rpcudp", fuzz::rpcudp::run);
}

#[test]
fn krpc() {
    run_all("krpc", fuzz::krpc::run);
}
