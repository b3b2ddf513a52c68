//! `dht testnet` as others run it: what it prints where, and with which status it ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::fs;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn dht(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dht"));
    command.env_remove("RUST_LOG").args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The one object that it prints.
fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn sum(pairs: &Value, what: &str) -> u64 {
    pairs.as_array().unwrap().iter().map(|pair| pair[what].as_u64().unwrap()).sum()
}

#[test]
fn every_pair_of_transports_finds_everything() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("records");
    let lines: String = (0..40).map(|number| format!("key {number}\tvalue {number}\n")).collect();
    fs::write(&file, lines).unwrap();
    let file = file.to_str().unwrap();
    let mix = "udp=3,tcp=3,unix=3,udp+tcp=1,tcp+unix=1";
    let result = json(&dht(&["testnet", "--mix", mix, "--nodes", "11", "--load", file, "--seed", "3", "--json"]));
    // Each record is asked for at each of the five kinds of nodes.
    let counts = ["nodes", "records", "asked", "found"].map(|name| result[name].as_u64().unwrap());
    assert_eq!(counts, [11, 40, 200, 200]);
    let pairs = &result["pairs"];
    assert_eq!((sum(pairs, "asked"), sum(pairs, "found")), (200, 200));
    for pair in pairs.as_array().unwrap() {
        for name in ["from", "to"] {
            assert!(mix.contains(&format!("{}=", pair[name].as_str().unwrap())), "{pair}");
        }
        assert!(["p50_ms", "p99_ms", "hops", "messages"].iter().all(|name| pair[name].is_number()), "{pair}");
        assert!(pair["p50_ms"].as_f64() <= pair["p99_ms"].as_f64(), "{pair}");
    }
    assert!(result.get("after_kill").is_none());
}

#[test]
fn after_some_were_killed_everything_is_still_found() {
    let result = json(&dht(&["testnet", "--mix", "memory=8,unix=3,memory+unix=2", "--kill", "30", "--json"]));
    assert_eq!(result["asked"], result["found"]);
    let after = &result["after_kill"];
    assert_eq!((&after["killed"], &after["asked"]), (&4.into(), &after["found"]));
    assert_eq!(result["asked"].as_u64().unwrap(), sum(&result["pairs"], "asked"));
    assert!(after["asked"].as_u64().unwrap() >= result["records"].as_u64().unwrap());
}

#[test]
fn without_json_there_is_a_table_and_words_go_elsewhere() {
    let output = dht(&["testnet", "--mix", "memory=4"]);
    assert!(output.status.success());
    let (table, words) = (text(&output.stdout), text(&output.stderr));
    assert!(table.starts_with("4 nodes\n") && table.contains("saved on"), "{table}");
    assert!(words.contains("4 nodes (memory=4, seed 1) joined"), "{words}");
}

#[test]
fn wrong_arguments_end_with_status_2_and_say_why() {
    let cases: [(&[&str], &str); 8] = [
        (&[], "Usage: dht <COMMAND>"),
        (&["testnet", "--nodes", "7", "--mix", "udp=3"], "--nodes 7 and --mix udp=3 do not agree: the mix has 3 nodes"),
        (&["testnet", "--nodes", "0"], "0 nodes are too few for a mix of 5 kinds"),
        (&["testnet", "--mix", "udp=3,tcp=3"], "no node joins udp with tcp"),
        (&["testnet", "--mix", "carrier+pigeon=3"], "there is no transport `carrier`"),
        (&["testnet", "--kill", "100"], "percent from 0 to 99"),
        (&["testnet", "--load", "/does/not/exist"], "cannot read /does/not/exist: "),
        (&["tesnet"], "similar"),
    ];
    for (arguments, expected) in cases {
        let output = dht(arguments);
        let words = text(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{arguments:?}: {words}");
        assert!(words.contains(expected), "{arguments:?}: {words}");
    }
}

#[test]
fn a_bad_line_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("records");
    fs::write(&file, "a\t1\nb 2\n").unwrap();
    let output = dht(&["testnet", "--load", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("records, line 2: there is no tab between key and value"));
}

/// What cannot be found is listed, and the status says so: of some records all twenty holders are dead.
#[test]
fn what_is_not_found_is_listed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("records");
    let lines: String = (0..40).map(|number| format!("key {number}\tvalue {number}\n")).collect();
    fs::write(&file, lines).unwrap();
    let file = file.to_str().unwrap();
    let output = dht(&["testnet", "--mix", "memory=100", "--load", file, "--kill", "95", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    let (asked, found) = (&result["after_kill"]["asked"], result["after_kill"]["found"].as_u64().unwrap());
    assert!(*asked == 40 && (1..40).contains(&found), "{found} of {asked}");
    assert_eq!((&result["asked"], result["found"].as_u64()), (&80.into(), Some(40 + found)));
    let words = text(&output.stderr);
    assert!(words.lines().any(|line| line.starts_with("key ") && line.contains(": not found")), "{words}");
}

#[cfg(unix)]
#[test]
fn an_interrupted_one_leaves_no_sockets() {
    use std::io::{BufRead, BufReader};

    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_dht"))
        .args(["testnet", "--mix", "unix=12", "--kill", "50"])
        .env("TMPDIR", directory.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut words = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    words.read_line(&mut line).unwrap();
    assert!(line.contains("12 nodes"), "{line}");
    assert!(fs::read_dir(directory.path()).unwrap().next().is_some(), "the sockets are elsewhere");
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(fs::read_dir(directory.path()).unwrap().next().is_none(), "something is left");
}
