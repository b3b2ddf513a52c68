//! `dht simulate` as others run it: what it prints, what it writes, and with which status it ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::fs;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn dht(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dht"));
    command.env_remove("RUST_LOG").arg("simulate").args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The one object that it prints.
fn json(arguments: &[&str]) -> Value {
    let output = dht(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn has(result: &Value, keys: &str) {
    for key in keys.split(' ') {
        assert!(!result[key].is_null(), "no {key}: {result}");
    }
}

const ALWAYS: &str = "experiment nodes seed loss k alpha unexplained lost bytes_per_node_s trace_hash events \
    events_per_s wall_s";

#[test]
fn lookups_repeat_themselves() {
    let run =
        |seed| json(&["lookups", "--nodes", "50", "--lookups", "200", "--records", "20", "--seed", seed, "--json"]);
    let (first, again, other) = (run("3"), run("3"), run("4"));
    has(&first, ALWAYS);
    has(&first, "lookups exact requests_per_lookup hops p50_ms p99_ms gets get_success");
    assert_eq!((&first["nodes"], &first["seed"], &first["experiment"]), (&50.into(), &3.into(), &"lookups".into()));
    assert!(first.get("hours").is_none() && first.get("session_min").is_none() && first.get("series").is_none());
    assert_eq!(first["trace_hash"], again["trace_hash"]);
    assert_eq!((&first["events"], &first["p99_ms"]), (&again["events"], &again["p99_ms"]));
    assert_ne!(first["trace_hash"], other["trace_hash"]);
}

#[test]
fn churn_and_maintenance_have_hours_and_sessions() {
    let world = ["--nodes", "40", "--hours", "0.2", "--records", "30", "--session", "30", "--loss", "2%", "--json"];
    let churn = json(&[&["churn", "--gets", "1"][..], &world].concat());
    has(&churn, ALWAYS);
    has(&churn, "hours session_min gets get_success p50_ms p99_ms hops stale");
    let options = ["hours", "session_min", "loss"].map(|name| churn[name].as_f64().unwrap());
    assert_eq!(options, [0.2, 30.0, 2.0]);
    let maintenance = json(&[&["maintenance"][..], &world].concat());
    has(&maintenance, ALWAYS);
    assert_eq!(maintenance["gets"], 0);
}

#[test]
fn what_is_written_can_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("new").join("results");
    let out = folder.to_str().unwrap();
    let output = dht(&["kill", "--nodes", "40", "--records", "20", "--replicate", "5", "--out", out]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let (table, words) = (text(&output.stdout), text(&output.stderr));
    assert!(
        table.starts_with("kill: 40 nodes, 50 % killed, k 20, alpha 3, seed 1\n")
            && table.contains("gave the newest version"),
        "{table}"
    );
    assert!(table.contains("killed") && table.contains("90 %"), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
    assert!(words.contains("written to") && words.contains("kill.json, kill.csv, kill.svg"), "{words}");
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let all: Value = serde_json::from_str(&read("kill.json")).unwrap();
    has(&all, ALWAYS);
    assert!(all["share"] == 50.0 && all["command"].as_str().unwrap().starts_with("dht simulate kill"), "{all}");
    let points = all["series"][0]["points"].as_array().unwrap();
    assert_eq!((&all["series"][0]["axis"], points.len()), (&"killed".into(), 4));
    let csv = read("kill.csv");
    let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert!(rows.len() == 5 && rows.iter().all(|row| row.len() == rows[0].len()), "{csv}");
    // A column for each figure, the intervals as two; and only what went wrong is left out.
    let figures = points[0]["report"].as_object().unwrap().iter().filter(|(name, _)| *name != "told");
    for (name, value) in figures {
        let columns =
            if value.is_array() { vec![format!("{name}_low"), format!("{name}_high")] } else { vec![name.clone()] };
        assert!(columns.iter().all(|column| rows[0].contains(&column.as_str())), "{name}: {csv}");
    }
    let svg = read("kill.svg");
    assert!(svg.contains("40 nodes, k 20, alpha 3, seed 1") && svg.trim_end().ends_with("</svg>"), "{svg}");
}

#[test]
fn partition_and_sweep_run() {
    let world = ["--nodes", "30", "--records", "10", "--refresh", "5", "--json"];
    // Whether a network heals is not for this test to say.
    let output = dht(&[&["partition", "--share", "30"][..], &world].concat());
    let partition: Value = serde_json::from_slice(&output.stdout).unwrap();
    has(&partition, "get_success outdated_copies");
    let (words, is_sound) = (text(&output.stderr), partition["unexplained"] == 0);
    assert_eq!(output.status.code(), Some(if is_sound { 0 } else { 1 }), "{words}");
    let repeat = "repeat with: dht simulate partition --share 30 --nodes 30 --records 10 --refresh 5 --json --seed 1";
    assert_eq!(words.contains(repeat), !is_sound, "{words}");
    let sweep = json(&[&["sweep", "--lookups", "50"][..], &world].concat());
    has(&sweep, "exact get_success session_min");
}

#[test]
fn liars_are_met_and_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().to_str().unwrap();
    let output = dht(&["liars", "--nodes", "40", "--records", "12", "--queries", "60", "--out", out]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let (table, words) = (text(&output.stdout), text(&output.stderr));
    assert!(table.starts_with("liars: 40 nodes, 50 % liars, k 20, alpha 3, seed 1\n"), "{table}");
    assert!(table.contains("lies told") && table.contains("did not write"), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
    assert!(words.contains("liars.json, liars.csv, liars.svg"), "{words}");
    let all: Value = serde_json::from_str(&fs::read_to_string(directory.path().join("liars.json")).unwrap()).unwrap();
    has(&all, "gets get_success get_success_interval wrong missed outdated lies unpinned deceived deceived_interval");
    let points = all["series"][0]["points"].as_array().unwrap();
    let places: Vec<f64> = points.iter().map(|point| point["at"].as_f64().unwrap()).collect();
    assert_eq!(places, [0.0, 0.1, 0.25, 0.5]);
    assert!(points[0]["report"]["lies"] == 0 && points[3]["report"]["lies"].as_u64().unwrap() > 0);
}

#[test]
fn wrong_arguments_end_with_status_2_and_say_what_is_allowed() {
    let cases: [(&[&str], &str); 7] = [
        (&[], "Usage: dht simulate <COMMAND>"),
        (&["lookups", "--nodes", "1"], "not a number from 2 to 1000000"),
        (&["lookups", "--gets", "1"], "unexpected argument '--gets'"),
        (&["churn", "--loss", "50"], "not a number of percent from 0 to 30"),
        (&["churn", "--sessions", "pareto"], "neither `exponential` nor `weibull:SHAPE`"),
        (&["churn", "--keeps-store"], "--returns <MINUTES>"),
        (&["lookups", "--nodes", "9", "--out", "/dev/null/folder"], "cannot create the folder /dev/null/folder: "),
    ];
    for (arguments, expected) in cases {
        let output = dht(arguments);
        let words = text(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{arguments:?}: {words}");
        assert!(words.contains(expected), "{arguments:?}: {words}");
    }
}

/// A long run that has begun: from when it has its folder, it listens to signals.
#[cfg(unix)]
fn begun(folder: &std::path::Path, tunables: Option<&str>) -> std::process::Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dht"));
    command.args(["simulate", "churn", "--nodes", "300", "--hours", "8000", "--out", folder.to_str().unwrap()]);
    match tunables {
        Some(tunables) => command.env("GLIBC_TUNABLES", tunables),
        None => command.env_remove("GLIBC_TUNABLES"),
    };
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !folder.exists() {
        assert!(std::time::Instant::now() < deadline, "it does not start");
        std::thread::yield_now();
    }
    child
}

#[cfg(unix)]
fn interrupt(mut child: std::process::Child) {
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[cfg(unix)]
#[test]
fn an_interrupted_one_ends_soon() {
    let directory = tempfile::tempdir().unwrap();
    interrupt(begun(&directory.path().join("new").join("results"), None));
    assert!(fs::read_dir(directory.path()).unwrap().next().is_none(), "a broken-off run leaves nothing");
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn large_pages_are_asked_for_unless_the_user_says_otherwise() {
    for (said, expected) in [
        (None, "GLIBC_TUNABLES=glibc.malloc.hugetlb=1"),
        (Some("glibc.malloc.hugetlb=0"), "GLIBC_TUNABLES=glibc.malloc.hugetlb=0"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let child = begun(&directory.path().join("results"), said);
        let environment = fs::read(format!("/proc/{}/environ", child.id())).unwrap();
        interrupt(child);
        assert!(environment.split(|byte| *byte == 0).any(|one| one == expected.as_bytes()));
    }
}
