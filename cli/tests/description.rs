//! The OpenAPI document and the server say the same: a program that makes requests of the one finds nothing in the other that
//! breaks it, and no answer of 500 or above.
//!
//! It is schemathesis, of Python, which is installed into the target folder.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "it is a test")]

#[path = "node/http.rs"]
#[allow(dead_code, reason = "others need more of it")]
mod http;
#[path = "node/process.rs"]
#[allow(dead_code, reason = "others need more of it")]
mod process;
#[path = "page/python.rs"]
mod python;

use std::process::Command;

use process::Node;

const PACKAGE: &str = "schemathesis==4.32.5";

/// Has the server of a node compared with its description, as far as that is wanted.
fn compare(node: &Node, wanted: &[&str], operations: usize) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(python::python(PACKAGE));
    command.current_dir(folder.path()).args(["-m", "schemathesis.cli", "run"]);
    command.arg(format!("http://{}/openapi.json", node.http));
    // That a key is no id, or a condition does not hold, is not in the document.
    command.args(wanted).args(["--exclude-checks", "positive_data_acceptance"]);
    command.args(["--max-examples", "30", "--seed", "1", "--request-timeout", "30", "--no-color"]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    // It has not passed for want of anything to do.
    assert!(said.contains(&format!("Tested: {operations}\n")), "{said}");
    assert_eq!(node.get("/healthz").status, 200);
}

#[test]
fn the_server_does_what_its_description_says() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&format!("--data-dir {} --lookup-timeout 10s", folder.path().display()));
    let other = Node::start(&format!("{} --lookup-timeout 10s", node.connect()));
    // Events have no end.
    compare(&node, &["--exclude-path", "/events"], 16);
    assert_eq!(other.get("/healthz").status, 200);
}

#[test]
fn so_does_that_of_a_node_of_bittorrents_dht() {
    let node = Node::start("--network mainline --lookup-timeout 10s");
    let _other = Node::start(&format!("--network mainline {}", node.connect()));
    compare(&node, &["--include-path-regex", "^/(peers|dht)/"], 7);
}
