//! `dht bench` as others run it: what it prints, and with which status it ends. How fast this machine is, is not tested.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn dht(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dht"));
    command.env_remove("RUST_LOG").arg("bench").args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What every Unix system tells.
const ALWAYS: &str = "echo_per_s find_node_per_s find_node_tcp_per_s find_node_unix_per_s save_p50_ms save_p99_ms \
    save_cpu_ms query_p50_ms query_p99_ms query_cpu_ms query_per_s_16";

/// What Linux tells besides, nearly everywhere.
const ON_LINUX: &str = "echo_cpu_us find_node_cpu_us find_node_ratio find_node_tcp_cpu_us find_node_unix_cpu_us";

#[test]
#[cfg(unix)]
fn a_quick_run_has_every_figure() {
    let output = dht(&["--quick", "--nodes", "6", "--runs", "2", "--seed", "3", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&result["nodes"], &result["runs"], &result["seed"]), (&6.into(), &2.into(), &3.into()));
    assert_eq!((&result["quick"], &result["version"]), (&true.into(), &env!("CARGO_PKG_VERSION").into()));
    assert!(result["cores"].as_u64().unwrap() >= 1);
    let tells_threads = std::path::Path::new("/proc/self/schedstat").exists();
    let linux = if tells_threads { ON_LINUX } else { "" };
    for key in ALWAYS.split(' ').chain(linux.split_whitespace()) {
        assert!(result[key].as_f64().is_some_and(|figure| figure > 0.0), "{key}: {result}");
    }
    assert!(result["idle_cpu_s_per_10s"].as_f64().is_some_and(|figure| figure >= 0.0), "{result}");
    if cfg!(target_os = "linux") {
        assert!(result["rss_kib_per_node"].as_f64().is_some_and(|figure| figure >= 0.0), "{result}");
    }
    let ordered =
        |figure: &str| result[format!("{figure}_p50_ms")].as_f64() <= result[format!("{figure}_p99_ms")].as_f64();
    assert!(ordered("save") && ordered("query"), "{result}");
}

#[test]
fn without_json_there_is_a_table() {
    let output = dht(&["--quick", "--nodes", "2"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    assert!(table.starts_with("dht ") && table.contains("2 nodes, seed 1"), "{table}");
    for row in ["FIND_NODE over UDP", "save: median", "a second, 16 in flight", "idle"] {
        assert!(table.contains(row), "{row}: {table}");
    }
    assert!(table.lines().skip(1).all(|line| line.chars().count() <= 100), "{table}");
}

#[test]
fn wrong_arguments_are_told() {
    for (arguments, told) in [
        (&["--nodes", "1"][..], "not a number from 2 to 1000"),
        (&["--runs", "0"], "not a number from 1 to 100"),
        (&["--seed", "x"], "--seed"),
        (&["--figures"], "--figures"),
    ] {
        let output = dht(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(
            text(&output.stderr).contains(told) && output.stdout.is_empty(),
            "{arguments:?}: {}",
            text(&output.stderr)
        );
    }
}

#[test]
fn the_help_tells_what_is_measured_and_how_it_ends() {
    let output = dht(&["--help"]);
    assert!(output.status.success());
    let help = text(&output.stdout);
    for word in ["--nodes", "--runs", "--seed", "--quick", "--json", "Exit status: 0", "docs/benchmarks.md"] {
        assert!(help.contains(word), "{word}: {help}");
    }
}

#[test]
#[cfg(unix)]
fn an_interrupted_one_ends_soon() {
    use std::io::{BufRead, BufReader};

    let mut child = Command::new(env!("CARGO_BIN_EXE_dht"))
        .args(["bench", "--nodes", "4", "--runs", "100", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let words = BufReader::new(child.stderr.take().unwrap());
    let mut joined = words.lines().map(Result::unwrap).skip_while(|line| !line.contains("4 nodes"));
    assert!(joined.next().is_some(), "no network");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert!(joined.any(|line| line == "error: interrupted"));
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(130), 0));
}
