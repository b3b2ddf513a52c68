//! How every command ends if there is no result, or nobody can be told of it.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::fs;
use std::process::{Command, Output, Stdio};

/// Each command, where it does not take long.
const COMMANDS: [&str; 4] = [
    "testnet --mix memory=3",
    "bench --quick --nodes 2",
    "simulate lookups --nodes 9 --lookups 9 --records 9",
    "simulate lookups --nodes 9 --lookups 9 --records 9 --json",
];

fn dht(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dht"));
    command.env_remove("RUST_LOG").args(arguments.split(' '));
    command
}

fn words(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn nobody_reads_the_output() {
    for arguments in COMMANDS {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let child = dht(arguments).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(141), "{arguments}: {}", words(&output));
        assert!(!words(&output).contains("error"), "{arguments}: {}", words(&output));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn there_is_no_room_for_the_output() {
    for arguments in COMMANDS {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = dht(arguments).stdout(full).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{arguments}: {}", words(&output));
        assert!(words(&output).contains("error: cannot print the result: "), "{arguments}: {}", words(&output));
    }
}

#[test]
fn a_file_that_cannot_be_written_and_a_table_that_can_be_printed() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("lookups.csv")).unwrap();
    let out = directory.path().to_str().unwrap();
    let output = dht(&format!("{} --out {out}", COMMANDS[2])).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", words(&output));
    assert!(words(&output).contains(&format!("error: cannot write {out}/lookups.csv: ")), "{}", words(&output));
    assert!(String::from_utf8(output.stdout).unwrap().contains("exactly the k closest"));
}

#[test]
fn files_are_written_where_nobody_reads_the_output() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().to_str().unwrap();
    // Closed before anything can be written to it.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = dht(&format!("{} --out {out}", COMMANDS[2])).stdout(writer).stderr(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(141));
    assert!(directory.path().join("lookups.json").exists() && directory.path().join("lookups-cost.svg").exists());
}

#[test]
fn a_network_that_nobody_can_join_is_no_result() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("results");
    let arguments = format!("simulate churn --nodes 9 --slow 100 --out {}", out.to_str().unwrap());
    let output = dht(&arguments).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(3), 0), "{}", words(&output));
    assert!(words(&output).starts_with("error: nobody joined the first of 9 nodes: "), "{}", words(&output));
    assert!(!out.exists());
}

#[test]
fn every_help_tells_all_of_them() {
    for command in ["testnet", "bench", "simulate"] {
        let output = dht(&format!("{command} --help")).output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        let told = help.split_once("Exit status: ").unwrap().1;
        for status in ["0 if", "1 if not", "2 if", "3 if", "130 if", "141 if"] {
            assert!(told.contains(status), "{command}: {status}: {told}");
        }
    }
}
