//! The page of a node, in a browser: Chromium, which does what people do, against nodes that run.
//!
//! It needs `chromium` and `chromedriver`, and fails where they are not. `clicks.py` has what is done; Selenium, of Python,
//! which drives the browser, is installed into the target folder.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "it is a test")]

mod python;

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// `docs/screenshots.sh` takes it from here.
const SELENIUM: &str = "selenium==4.51.0";

/// Plays one scene.
fn play(scene: &str) {
    // A browser takes many processes. One at a time is enough for a small machine.
    static PLAYING: Mutex<()> = Mutex::new(());
    let _playing = PLAYING.lock().unwrap_or_else(PoisonError::into_inner);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page/clicks.py");
    let mut command = Command::new(python::python(SELENIUM));
    // Nothing is left beside the script.
    command.arg("-B").arg(script).args([env!("CARGO_BIN_EXE_dht"), scene]).env_remove("RUST_LOG");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn save_query_trace_delete() {
    play("clicks");
}

#[test]
fn who_has_a_torrent() {
    play("torrents");
}

#[test]
fn values_of_all_kinds() {
    play("values");
}

#[test]
fn states_of_a_node() {
    play("states");
}

#[test]
fn troubles_of_a_node() {
    play("troubles");
}

#[test]
fn on_a_phone_and_in_the_dark() {
    play("looks");
}

#[test]
fn without_a_mouse() {
    play("keyboard");
}
