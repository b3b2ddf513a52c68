//! Nodes of BitTorrent's DHT, and the commands that ask them.

use super::process::{Node, run, text};

const INFO_HASH: &str = "0123456789abcdef0123456789abcdef01234567";

/// How a command ended.
struct Ended {
    status: i32,
    out: String,
    err: String,
}

fn dht(arguments: &str) -> Ended {
    let output = run(arguments);
    Ended { status: output.status.code().unwrap(), out: text(&output.stdout), err: text(&output.stderr) }
}

/// So many nodes that know each other.
fn network(nodes: usize) -> Vec<Node> {
    let mut all = vec![Node::start("--network mainline")];
    for _ in 1..nodes {
        all.push(Node::start(&format!("--network mainline {}", all[0].connect())));
    }
    all
}

#[test]
fn values_and_peers_by_each_way_to_a_node() {
    let nodes = network(10);
    let by = |node: &Node| format!("--node {}", node.http);
    let own = format!("--network mainline {}", nodes[3].connect());

    assert_eq!(dht(&format!("put greeting hello {}", by(&nodes[1]))).status, 0);
    for way in [by(&nodes[8]), own.clone()] {
        let found = dht(&format!("get greeting {way}"));
        assert_eq!((found.status, &found.out[..]), (0, "hello"), "{way}: {}", found.err);
    }
    assert_eq!(dht(&format!("put greeting again {own}")).status, 0);
    assert_eq!(dht(&format!("get greeting {}", by(&nodes[2]))).out, "again");
    assert_eq!(nodes[5].json("/status")["network"], "mainline");
    assert_eq!(dht(&format!("delete greeting {}", by(&nodes[1]))).status, 0);
    assert_eq!(dht(&format!("get greeting {}", by(&nodes[2]))).status, 1);

    let none = dht(&format!("peers {INFO_HASH} {}", by(&nodes[4])));
    assert_eq!((none.status, &none.out[..]), (1, ""), "{}", none.err);
    let announced = dht(&format!("announce {INFO_HASH} --port 5555 {}", by(&nodes[1])));
    assert_eq!(announced.status, 0, "{}", announced.err);
    let announced = dht(&format!("announce {INFO_HASH} --port 6666 {own}"));
    assert_eq!(announced.status, 0, "{}", announced.err);
    for way in [by(&nodes[7]), own] {
        let found = dht(&format!("peers {INFO_HASH} {way}"));
        let mut peers: Vec<&str> = found.out.lines().collect();
        peers.sort_unstable();
        assert_eq!(peers, ["127.0.0.1:5555", "127.0.0.1:6666"], "{way}: {}", found.err);
    }
}

#[test]
fn what_is_wrong_is_said() {
    let node = Node::start("--network mainline");
    let native = Node::start("");
    let wrong = [
        (format!("peers 0123 --node {}", node.http), 2, "40 hexadecimal digits"),
        (format!("announce {INFO_HASH} --port 0 --node {}", node.http), 2, "1 to 65535"),
        (format!("peers {INFO_HASH} --node {}", native.http), 2, "BitTorrent's DHT alone"),
        (format!("announce {INFO_HASH} --network mainline {}", node.connect()), 2, "--port"),
        ("node --network mainline --listen /ip4/127.0.0.1/tcp/0".to_owned(), 2, "over UDP alone"),
        ("node --network mainline --listen /ip4/127.0.0.1/udp/0 --listen /ip6/::1/udp/0".to_owned(), 2, "one address"),
        ("node --network mainline --hash sha256".to_owned(), 2, "--hash must be sha1"),
    ];
    for (arguments, status, words) in wrong {
        let ended = dht(&arguments);
        assert_eq!(ended.status, status, "{arguments}: {}", ended.err);
        assert!(ended.err.contains(words), "{arguments}: {}", ended.err);
    }
}
