//! The commands that talk to a node: by HTTP, through the socket in its folder, or as a node of their own for the moment.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use super::process::{DEADLINE, Node, dht, run, text};

/// What it printed, if it ended with this status.
fn printed(arguments: &str, status: i32) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(status), "{arguments}: {}", text(&output.stderr));
    assert_eq!(output.stderr.is_empty(), status == 0, "{arguments}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn parsed(arguments: &str, status: i32) -> Value {
    serde_json::from_str(&printed(arguments, status)).unwrap()
}

#[test]
fn values_by_each_way_to_a_node() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&format!("--data-dir {}", folder.path().display()));
    let second = Node::start(&node.connect());
    let ways = [
        format!("--node http://{}", node.http),
        format!("--node {}", second.http),
        format!("--data-dir {}", folder.path().display()),
        node.connect(),
    ];
    for (n, way) in ways.iter().enumerate() {
        let key = format!("key%{n}/?");
        assert_eq!(printed(&format!("get {key} {way}"), 1), "");
        let receipt = parsed(&format!("put {key} first {way} --json"), 0);
        assert!(receipt["version"].is_string(), "{receipt}");
        let words = printed(&format!("put {key} value {way}"), 0);
        assert!(words.starts_with("version ") && words.contains(" node"), "{words}");
        for other in &ways {
            assert_eq!(printed(&format!("get {key} {other}"), 0), "value");
        }
        let found = parsed(&format!("get {key} {way} --json"), 0);
        assert_eq!((&found["key"], &found["value"], &found["bytes"]), (&json!(key), &json!("value"), &json!(5)));
        let old = receipt["version"].as_str().unwrap();
        assert_eq!(printed(&format!("put {key} other {way} --if-version {old}"), 1), "");
        let refused = parsed(&format!("put {key} other {way} --if-absent --json"), 1);
        assert_eq!(refused["error"]["code"], "conflict");
        let newest = found["version"].as_str().unwrap();
        printed(&format!("put {key} newer {way} --if-version {newest}"), 0);
        printed(&format!("delete {key} {way}"), 0);
        assert_eq!(parsed(&format!("get {key} {way} --json"), 1)["error"]["code"], "not_found");
    }
}

#[test]
fn values_from_files_and_from_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start("");
    let way = format!("--node {}", node.http);
    let value: Vec<u8> = (0..300_000_u32).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    fs::write(&from, &value).unwrap();
    printed(&format!("put file --file {} {way}", from.display()), 0);
    assert_eq!(printed(&format!("get file --output {} {way}", to.display()), 0), "");
    assert!(fs::read(&to).unwrap() == value);

    let mut child = dht(&format!("put input - {way}")).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&value).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(node.get("/dht/input").body == value);

    // Bytes that are no text.
    fs::write(&from, b"\xff\x00").unwrap();
    printed(&format!("put bytes --file {} {way}", from.display()), 0);
    assert_eq!(parsed(&format!("get bytes --json {way}"), 0)["value_hex"], "ff00");
    // One that looks like an option.
    assert!(dht(&format!("put minus -1 {way}")).stdout(Stdio::null()).status().unwrap().success());
    assert_eq!(node.get("/dht/minus").body, b"-1");
}

#[test]
fn a_value_of_no_bytes() {
    let node = Node::start("");
    let saved = dht(&format!("put empty --node {}", node.http)).arg("").stdin(Stdio::null()).output().unwrap();
    assert_eq!((saved.status.code(), text(&saved.stderr).as_str()), (Some(0), ""));
    assert_eq!((node.get("/dht/empty").status, node.get("/dht/empty").body.len()), (200, 0));
    assert_eq!(printed(&format!("get empty --node {}", node.http), 0), "");
}

#[test]
fn the_state_of_a_node() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&format!("--data-dir {}", folder.path().display()));
    let way = format!("--data-dir {}", folder.path().display());
    let words = printed(&format!("status {way}"), 0);
    assert!(words.starts_with("id ") && words.contains(&node.id) && words.contains(&node.listening[0]), "{words}");
    assert!(words.contains("\nstate on disk      durable\n"), "{words}");
    assert_eq!(parsed(&format!("status {way} --json"), 0)["id"], node.id);
    let alone = Node::start("--connect /ip4/127.0.0.1/udp/9 --request-timeout 100ms");
    for (way, status, word) in [(way, 0, "ok"), (format!("--node {}", alone.http), 1, "isolated")] {
        let output = run(&format!("status --healthy {way}"));
        let words = (text(&output.stdout), text(&output.stderr));
        assert_eq!((output.status.code(), words), (Some(status), (format!("{word}, knows 0 others\n"), String::new())));
        let json = run(&format!("status --healthy --json {way}"));
        assert_eq!(
            (json.status.code(), &serde_json::from_slice::<Value>(&json.stdout).unwrap()["status"]),
            (Some(status), &json!(word))
        );
    }
}

#[test]
fn who_is_not_there_is_no_result() {
    let folder = tempfile::tempdir().unwrap();
    for way in [
        "--node 127.0.0.1:9".to_owned(),
        format!("--data-dir {}", folder.path().display()),
        "--connect /ip4/127.0.0.1/udp/9 --request-timeout 200ms".to_owned(),
    ] {
        assert_eq!(printed(&format!("get key {way}"), 3), "");
    }
}

/// A node for the moment leaves no socket behind.
#[test]
fn one_that_is_interrupted_cleans_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().replace('/', "%2F");
    let node = Node::start(&format!("--listen /unix/{}", path("node")));
    let own = folder.path().join("own");
    let arguments = format!("put key - {} --listen /unix/{}", node.connect(), path("own"));
    let mut child = dht(&arguments).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let start = std::time::Instant::now();
    // It waits for its input, which waiting for its end would close: then it could end well before it is interrupted.
    let _input = child.stdin.take();
    while node.json("/status")["gateways"][0]["received"].as_u64() < Some(2) || !own.exists() {
        assert!(start.elapsed() < DEADLINE);
    }
    let interrupted = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!own.exists());
}

/// What it waits for fails as its own node stops, which is not how it ends.
#[test]
fn one_that_is_interrupted_tells_of_no_failure() {
    let times = "--request-timeout 60s --lookup-timeout 60s";
    for _ in 0..10 {
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        silent.set_read_timeout(Some(DEADLINE)).unwrap();
        let port = silent.local_addr().unwrap().port();
        let mut command = dht(&format!("get key --connect /ip4/127.0.0.1/udp/{port} {times}"));
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // It is listened for signals before anybody is asked.
        let process = child.id().to_string();
        silent.recv(&mut [0; 2000]).unwrap();
        assert!(std::process::Command::new("kill").args(["-INT", &process]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(130), ""));
    }
}

#[test]
fn nobody_reads_what_is_printed() {
    let node = Node::start("");
    node.ask("PUT", "/dht/key", "", b"value");
    for arguments in ["get key", "get key --json", "status", "put key other"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output =
            dht(&format!("{arguments} --node {}", node.http)).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(141), "{arguments}: {}", text(&output.stderr));
        assert!(output.stderr.is_empty(), "{arguments}: {}", text(&output.stderr));
    }
}

#[test]
fn shells_and_manuals() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = printed(&format!("completions {shell}"), 0);
        assert!(script.contains("data-dir") && script.contains("testnet"), "{shell}");
    }
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    printed(&format!("man {}", pages.display()), 0);
    for name in ["dht.1", "dht-node.1", "dht-get.1", "dht-simulate-churn.1"] {
        let page = fs::read_to_string(pages.join(name)).unwrap();
        assert!(page.contains(".TH"), "{name}");
    }
    assert_eq!(printed("man /dev/null/x", 3), "");
}

#[test]
fn a_value_from_a_pipe_that_does_not_know_how_long_it_is() {
    let node = Node::start("");
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let writer = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::write(pipe, "through a pipe").unwrap()
    });
    printed(&format!("put piped --file {} --node {}", pipe.display(), node.http), 0);
    writer.join().unwrap();
    assert_eq!(printed(&format!("get piped --node {}", node.http), 0), "through a pipe");
    printed(&format!("put piped --file {} --node {}", folder.path().display(), node.http), 2);
}
