//! A node from its first line to its end.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::process::{Node, dht, run, text, two};

#[test]
fn it_prints_what_it_is_and_where() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("a b.sock").to_str().unwrap().replace('/', "%2F").replace(' ', "%20");
    let id = "0123456789abcdef0123456789abcdef01234500";
    let node = Node::start(&format!(
        "--id {id} --listen /ip4/127.0.0.1/udp/0 --listen /ip4/127.0.0.1/tcp/0 --listen /ip6/::1/udp/0 --listen /unix/{socket}"
    ));
    assert_eq!(node.id, id);
    let kinds: Vec<String> =
        node.listening.iter().map(|address| address.replace(|c: char| c.is_ascii_digit(), "")).collect();
    assert_eq!(kinds[..2], ["/ip/.../udp/", "/ip/.../tcp/"]);
    assert_eq!((node.listening.len(), node.listening[3].clone()), (4, format!("/unix/{socket}")));
    assert!(node.listening.iter().all(|address| !address.ends_with("/0")));
    // Each of them leads to it.
    for address in &node.listening {
        let other = Node::start(&format!("--connect {address}"));
        assert_eq!(other.json("/status")["known_peers"], 1, "{address}");
    }
}

#[test]
fn a_signal_ends_it_well_and_in_time() {
    for name in ["INT", "TERM"] {
        let (first, second) = two();
        let first_http = first.http.clone();
        first.ask("PUT", "/dht/key", "", b"value");
        // Somebody who stays on the line does not hold it up.
        let _idle = super::http::connection(&first.http);
        first.signal(name);
        let (status, took, words) = first.end();
        assert_eq!(status.code(), Some(0), "{words}");
        assert!(took < Duration::from_secs(2), "{took:?}: {words}");
        assert!(std::net::TcpStream::connect(first_http).is_err());
        assert_eq!(second.get("/dht/key").body, b"value");
    }
}

/// A signal that comes while the node still tries to join ends it as well; so does a second one, at once.
#[test]
fn a_signal_counts_from_the_first_moment_and_a_second_one_at_once() {
    let mut node = Node::spawn("--connect /ip4/127.0.0.1/udp/9 --request-timeout 60s --lookup-timeout 60s");
    assert!(node.line().starts_with("id "));
    node.signal("TERM");
    node.signal("INT");
    let (status, took, words) = node.end();
    assert!(matches!(status.code(), Some(0 | 130)), "{status}: {words}");
    assert!(took < Duration::from_secs(2), "{took:?}");
}

/// To read what was saved can take long.
#[test]
fn a_signal_ends_a_node_that_still_starts() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("schema");
    std::fs::write(folder.path().join("state.redb"), "").unwrap();
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let node = Node::spawn(&format!("--data-dir {}", folder.path().display()));
    // It reads this before the state, and so waits until all of it is written.
    let (sender, opened) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(std::fs::File::options().write(true).open(pipe)));
    let _unwritten = opened.recv_timeout(super::process::DEADLINE).unwrap().unwrap();
    node.signal("TERM");
    let (status, took, words) = node.end();
    assert_eq!(status.code(), Some(0), "{words}");
    assert!(took < Duration::from_secs(2), "{took:?}: {words}");
}

/// As `nohup` starts it, and as a terminal does.
#[test]
#[cfg(target_os = "linux")]
fn the_end_of_a_terminal_ends_only_who_does_not_ignore_it() {
    let node = |how: &str| {
        let mut command = Command::new("env");
        command.args([how, env!("CARGO_BIN_EXE_dht"), "node", "--http", "127.0.0.1:0"]).env_remove("RUST_LOG");
        Node::spawned_by(command).made_ready()
    };
    let kept = node("--ignore-signal=HUP");
    kept.signal("HUP");
    let status = std::fs::read_to_string(format!("/proc/{}/status", kept.process())).unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap().trim();
    assert_eq!(u64::from_str_radix(ignored, 16).unwrap() & 1, 1, "{status}");
    assert_eq!(kept.get("/status").status, 200);
    let ended = node("--default-signal=HUP");
    // The kernel tells of it, and then the shell, which is no second wish.
    ended.signal("HUP");
    ended.signal("HUP");
    ended.signal("HUP");
    let (status, _, words) = ended.end();
    assert_eq!(status.code(), Some(0), "{words}");
}

#[test]
fn who_cannot_join_yet_runs_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("later.sock").to_str().unwrap().replace('/', "%2F");
    let node = Node::start(&format!("--connect /unix/{socket} --listen /ip4/127.0.0.1/udp/0 --listen /unix/{socket}2"));
    let health = node.get("/healthz");
    assert_eq!((health.status, &health.json()["status"]), (503, &"isolated".into()));
    assert_eq!(node.json("/status")["isolated"], true);
    // Whom it waits for comes: it joins by itself.
    let _other = Node::start(&format!("--listen /unix/{socket}"));
    let start = std::time::Instant::now();
    while node.get("/healthz").status != 200 {
        assert!(start.elapsed() < super::process::DEADLINE);
        std::thread::yield_now();
    }
    node.signal("TERM");
    let (_, _, words) = node.end();
    assert!(words.contains("cannot join through"), "{words}");
}

#[test]
fn a_name_leads_to_a_network_as_its_addresses_do() {
    let first = Node::start("");
    let port = first.listening[0].rsplit('/').next().unwrap().to_owned();
    let second = Node::start(&format!("--connect /dns4/localhost/udp/{port} --connect /dns4/a..b/udp/{port}"));
    assert_eq!(second.json("/status")["known_peers"], 1);
    let put = run(&format!("put key value --connect /dns/localhost/udp/{port} --connect /dns4/a..b/udp/{port}"));
    assert_eq!(put.status.code(), Some(0), "{}", text(&put.stderr));
    assert_eq!(second.get("/dht/key").body, b"value");
    let none = run(&format!("get key --connect /dns4/a..b/udp/{port}"));
    assert_eq!(none.status.code(), Some(3));
    assert!(text(&none.stderr).contains("cannot resolve a..b"), "{}", text(&none.stderr));
    second.signal("TERM");
    let (_, _, words) = second.end();
    assert_eq!(count(&words, "cannot join through /dns4/a..b/udp/"), 1, "{words}");
}

#[test]
fn what_a_network_has_not_is_no_setting_of_it() {
    for (arguments, expected) in [
        ("node --public", "--public must be set only with the network mainline, but is set with native"),
        ("get key --public --network rpcudp", "--public must be set only with the network mainline"),
        ("get key --public --node http://127.0.0.1:1", "cannot be used with"),
        ("node --network rpcudp --network-name x", "--network-name must be left out: a network of rpcudp has no name"),
        ("node --network-name=", "a value is required for '--network-name <NAME>'"),
    ] {
        let ended = run(arguments);
        let words = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(2), "{words}");
        assert!(words.contains(expected), "{words}");
    }
}

fn count(words: &str, what: &str) -> usize {
    words.matches(what).count()
}

#[test]
fn what_goes_on_is_said_once() {
    let node = Node::start("--connect /ip4/127.0.0.1/udp/9 --request-timeout 50ms --lookup-timeout 100ms");
    let sent = || {
        let counters = &node.json("/status")["counters"]["requests_sent"];
        counters.as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum::<u64>()
    };
    // When the third try has begun the second one has failed.
    let (of_one, start) = (sent(), std::time::Instant::now());
    while sent() <= 2 * of_one {
        assert!(start.elapsed() < super::process::DEADLINE);
        std::thread::yield_now();
    }
    node.signal("TERM");
    let (_, _, words) = node.end();
    assert_eq!(count(&words, "cannot join through /ip4/127.0.0.1/udp/9 yet"), 1, "{words}");
}

#[test]
fn that_all_others_are_lost_is_said_once() {
    let others: Vec<Node> = (0..3).map(|_| Node::start("")).collect();
    let ways: Vec<String> = others.iter().map(Node::connect).collect();
    let node = Node::start(&format!("--peer-timeout 100ms --request-timeout 50ms {}", ways.join(" ")));
    let mut stream = super::http::connection(&node.http);
    stream.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    assert!(lines.by_ref().any(|line| line == "event: following"));
    drop(others);
    // What is to be said of each has been said when it is told to those who follow.
    assert_eq!(lines.by_ref().filter(|line| line == "event: contact_removed").take(3).count(), 3);
    assert_eq!(node.json("/status")["known_peers"], 0);
    node.signal("TERM");
    let (_, _, words) = node.end();
    assert_eq!(count(&words, "has lost all others"), 1, "{words}");
}

#[test]
fn lines_as_json() {
    let mut node = Node::spawn("--json --http :0");
    let lines: Vec<serde_json::Value> = (0..4).map(|_| serde_json::from_str(&node.line()).unwrap()).collect();
    assert_eq!(lines[0]["id"].as_str().unwrap().len(), 40);
    assert!(lines[1]["listening"].as_str().unwrap().starts_with("/ip4/127.0.0.1/udp/"));
    assert!(lines[2]["http"].as_str().unwrap().starts_with("http://127.0.0.1:"));
    assert_eq!(lines[3]["ready"], true);
}

#[test]
fn what_is_in_use_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().display();
    let node = Node::start(&format!("--data-dir {folder}"));
    for (arguments, words) in [
        (format!("--http {}", node.http), format!("error: cannot serve HTTP at {}: ", node.http)),
        (format!("--listen {}", node.listening[0]), node.listening[0].clone()),
        (format!("--data-dir {folder}"), "is in use by another node".to_owned()),
        ("--data-dir /dev/null/x".to_owned(), "error: the data directory /dev/null/x cannot be used: ".to_owned()),
    ] {
        let output = run(&format!("node {arguments}"));
        assert_eq!(output.status.code(), Some(3), "{arguments}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(&words), "{arguments}: {}", text(&output.stderr));
    }
    assert_eq!(node.get("/status").status, 200);
}

/// What a node left that was killed does not keep the next one from its folder.
#[test]
fn a_killed_node_leaves_nothing_in_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = format!("--data-dir {}", folder.path().display());
    drop(Node::start(&arguments));
    let socket = folder.path().join("control.sock");
    assert!(socket.exists());
    let node = Node::start(&arguments);
    assert!(run(&format!("status {arguments}")).status.success());
    node.signal("TERM");
    assert_eq!(node.end().0.code(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn nobody_reads_its_lines() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = dht("node").stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    let mut words = String::new();
    child.stderr.take().unwrap().read_to_string(&mut words).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(141), "{words}");
    assert!(!words.contains("error"), "{words}");
}

#[test]
fn networks_of_other_names_and_protocols_are_apart() {
    let first = Node::start("--network-name ours --hash sha256");
    assert_eq!(first.id.len(), 64);
    let other = Node::start(&format!("{} --request-timeout 200ms --hash sha256", first.connect()));
    assert_eq!(other.json("/status")["known_peers"], 0);
    let ours = Node::start(&format!("{} --network-name ours --hash sha256", first.connect()));
    assert_eq!(ours.json("/status")["known_peers"], 1);

    let first = Node::start("--network rpcudp");
    let second = Node::start(&format!("--network rpcudp {}", first.connect()));
    assert_eq!(second.json("/status")["network"], "rpcudp");
    assert_eq!(first.ask("PUT", "/dht/key", "", b"value").status, 200);
    assert_eq!(second.get("/dht/key").body, b"value");
    let large = first.ask("PUT", "/dht/key", "", &[7; 9000]);
    assert_eq!((large.status, large.code().as_str()), (413, "too_large"));
}

#[test]
fn values_of_the_python_package_have_types() {
    let first = Node::start("--network rpcudp");
    let second = Node::start(&format!("--network rpcudp {}", first.connect()));
    let by = |node: &Node| format!("--node {}", node.http);
    for (kind, sent, got) in [("str", "hi", "hi"), ("int", "-5", "-5"), ("float", "3", "3.0"), ("bool", "True", "true")]
    {
        let put = run(&format!("put {kind} {sent} --type {kind} {}", by(&first)));
        assert_eq!(put.status.code(), Some(0), "{}", text(&put.stderr));
        let found = second.get(&format!("/dht/{kind}"));
        assert_eq!((&found.body[..], &found.headers["value-type"][..]), (got.as_bytes(), kind));
        let shown = text(&run(&format!("get {kind} --json {}", by(&second))).stdout);
        assert!(
            shown.contains(&format!("\"type\":\"{kind}\"")) && shown.contains(&format!("\"value\":\"{got}\"")),
            "{shown}"
        );
    }
    // Bytes are what they are, also where a value of a type would begin so.
    assert_eq!(first.ask("PUT", "/dht/bytes", "", b"\xc1\x05").status, 200);
    let found = second.get("/dht/bytes");
    assert_eq!((&found.body[..], &found.headers["value-type"][..]), (&b"\xc1\x05"[..], "bytes"));
    let root = b"\xd7dhtree\x01 and so on";
    assert_eq!(first.ask("PUT", "/dht/bytes", "", root).status, 200);
    assert_eq!(second.get("/dht/bytes").body, root);
    let json = first.ask("POST", "/dht/json?type=str", "Content-Type: application/json\r\n", b"{\"a\": 1}");
    assert_eq!(json.status, 200);
    assert_eq!(second.get("/dht/json").body, b"{\"a\": 1}");
    let wrong = first.ask("PUT", "/dht/int?type=int", "", b"five");
    assert_eq!((wrong.status, wrong.code().as_str()), (400, "bad_value"));
    assert_eq!(first.ask("PUT", "/dht/int?type=list", "", b"5").code(), "bad_query");
    let untyped = Node::start("").ask("PUT", "/dht/int?type=int", "", b"5");
    assert_eq!((untyped.status, untyped.code().as_str()), (422, "inexpressible"));
}
