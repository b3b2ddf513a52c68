//! A node with a folder goes on where it was, and says what is safe there.

use std::fs;
use std::time::Instant;

use serde_json::json;

use super::process::{DEADLINE, Node, dht};

#[test]
fn what_was_said_to_be_durable_is_there_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = format!("--data-dir {}", folder.path().display());
    let node = Node::start(&arguments);
    let (id, mut versions) = (node.id.clone(), Vec::new());
    for n in 0..20 {
        let saved = node.ask("PUT", &format!("/dht/{n}"), "", format!("value {n}").as_bytes()).json();
        assert_eq!(saved["durable"], true);
        versions.push(saved["version"].clone());
    }
    let persistence = &node.json("/status")["persistence"];
    assert_eq!((&persistence["durable"], &persistence["pending"]), (&json!(true), &json!(0)));
    assert!(text_of(&node, "/metrics").contains("\ndht_persistence_durable 1\n"));
    // Killed, at once.
    drop(node);
    let node = Node::start(&arguments);
    assert_eq!(node.id, id);
    for (n, version) in versions.iter().enumerate() {
        let found = node.get(&format!("/dht/{n}"));
        assert_eq!(found.body, format!("value {n}").as_bytes());
        assert_eq!(json!(found.etag().trim_matches('"')), *version);
    }
    assert_eq!(node.json("/status")["published"], 20);
}

/// Its chunks are renewed, after a restart as well; those of one that was replaced are not.
#[test]
fn a_large_value_lives_as_long_as_the_node_that_saved_it() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = format!("--data-dir {} --record-lifetime 8s --republish-interval 2s", folder.path().display());
    let node = Node::start(&arguments);
    let first: Vec<u8> = (0..100_000).map(|n| (n >> 8) as u8).collect();
    let second = vec![7; 100_000];
    assert_eq!(node.ask("PUT", "/dht/film", "", &first).status, 200);
    assert_eq!(node.ask("PUT", "/dht/film", "", &second).status, 200);
    assert!(node.json("/status")["records"].as_u64().unwrap() > 3);
    drop(node);
    let node = Node::start(&arguments);
    while node.json("/status")["uptime_s"].as_f64().unwrap() < 12.0 {
        let found = node.get("/dht/film");
        assert!(found.status == 200 && found.body == second, "{found:?}");
    }
    // What is all alike has one leaf for many, and a last one that is shorter; and there is the root.
    let start = Instant::now();
    while node.json("/status")["records"] != 3 {
        assert!(start.elapsed() < DEADLINE, "{}", node.json("/status")["records"]);
    }
}

/// Holders let records live as long as they themselves see fit.
#[test]
fn a_large_value_lives_where_records_live_less_long_than_its_publisher_says() {
    let holder = Node::start("--record-lifetime 8s --republish-interval 2s");
    let publisher =
        Node::start(&format!("--client --record-lifetime 60s --republish-interval 2s {}", holder.connect()));
    let value: Vec<u8> = (0..100_000).map(|n| (n >> 8) as u8).collect();
    for key in ["film", "copy"] {
        assert_eq!(publisher.ask("PUT", &format!("/dht/{key}"), "", &value).status, 200);
    }
    while publisher.json("/status")["uptime_s"].as_f64().unwrap() < 12.0 {
        let found = publisher.get("/dht/film");
        assert!(found.status == 200 && found.body == value, "{found:?}");
    }
}

/// Of what is lost it is said which value it is, and not again and again.
#[test]
fn a_large_value_that_is_lost_is_named_once() {
    let holder = Node::start("");
    let arguments = "--client --record-lifetime 60s --republish-interval 200ms --request-timeout 100ms";
    let mut command = dht(&format!("node --http 127.0.0.1:0 {arguments} {}", holder.connect()));
    command.env("RUST_LOG", "warn,dht::api::renewing=debug");
    let publisher = Node::spawned_by(command).made_ready();
    let saved = publisher.ask("PUT", "/dht/film", "", &[7; 100_000]);
    assert_eq!(saved.status, 200);
    drop(holder);
    publisher.wait_for_words("cannot be kept alive", 3);
    publisher.signal("TERM");
    let words = publisher.end().2;
    let key = saved.json()["key"].as_str().unwrap().to_owned();
    let told: Vec<&str> = words.lines().filter(|line| line.contains("cannot be kept alive")).collect();
    assert!(told.len() > 1 && told.iter().all(|line| line.contains(&key)), "{words}");
    assert_eq!(told.iter().filter(|line| line.contains("WARN")).count(), 1, "{words}");
}

fn text_of(node: &Node, path: &str) -> String {
    String::from_utf8(node.get(path).body).unwrap()
}

#[test]
fn nothing_is_durable_without_a_folder() {
    let node = Node::start("");
    assert_eq!(node.ask("PUT", "/dht/key", "", b"value").json()["durable"], false);
    assert!(node.json("/status")["persistence"].is_null());
    assert!(!text_of(&node, "/metrics").contains("dht_persistence"));
}

/// It knows whom it knew, and joins by itself.
#[test]
fn a_node_that_comes_back_finds_its_network() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = format!("--data-dir {}", folder.path().display());
    let first = Node::start("");
    let second = Node::start(&format!("{} {arguments}", first.connect()));
    first.ask("PUT", "/dht/key", "", b"value");
    second.signal("TERM");
    assert_eq!(second.end().0.code(), Some(0));
    let second = Node::start(&arguments);
    let start = Instant::now();
    while second.json("/status")["known_peers"] != 1 {
        assert!(start.elapsed() < DEADLINE);
    }
    assert_eq!(second.get("/dht/key").body, b"value");
}

#[test]
fn a_damaged_file_is_put_aside_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = format!("--data-dir {}", folder.path().display());
    fs::write(folder.path().join("state.redb"), vec![7; 100_000]).unwrap();
    let node = Node::start(&arguments);
    let persistence = &node.json("/status")["persistence"];
    let notice = persistence["notices"][0].as_str().unwrap();
    assert!(notice.contains("state.redb.damaged-"), "{notice}");
    assert_eq!(node.ask("PUT", "/dht/key", "", b"value").json()["durable"], true);
    node.signal("TERM");
    let (status, _, words) = node.end();
    assert!(status.success(), "{words}");
    assert_eq!(words.matches("state.redb.damaged-").count(), 1, "{words}");
}
