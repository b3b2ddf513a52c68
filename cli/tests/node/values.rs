//! Values go in at one node and come out at another.

use std::io::Write;

use kademlia_dht::gateway::UdpGateway;
use kademlia_dht::large::{Place, StreamOptions};
use kademlia_dht::{Config, DHTService};
use serde_json::json;

use super::http::chunked;
use super::process::{Node, two};

const CURL: &str = "User-Agent: curl/8.5.0\r\nAccept: */*\r\nContent-Type: application/x-www-form-urlencoded\r\n";

#[test]
fn the_classic_commands_work() {
    let (first, second) = two();
    // curl --data "hi there" http://localhost:8080/dht/one
    let saved = first.ask("POST", "/dht/one", CURL, b"hi there");
    assert_eq!(saved.status, 200, "{saved:?}");
    let receipt = saved.json();
    assert_eq!(receipt["key"], "fe05bcdcdc4928012781a5f1a2a77cbb5398e106");
    assert_eq!(receipt["accepted"][0]["id"], second.id);
    assert_eq!(receipt["accepted"][0]["addresses"], json!(second.listening));
    assert_eq!((&receipt["kept_here"], &receipt["refused"]), (&json!(true), &json!([])));
    // curl http://localhost:8080/dht/one
    for node in [&first, &second] {
        let found = node.get("/dht/one");
        assert_eq!((found.status, &found.body[..]), (200, &b"hi there"[..]));
        assert_eq!(found.etag().trim_matches('"'), receipt["version"]);
        assert_eq!(found.headers["content-type"], "application/octet-stream");
        assert_eq!(found.headers["x-content-type-options"], "nosniff");
    }
}

#[test]
fn keys_are_any_bytes_and_values_too() {
    let (first, second) = two();
    for (path, value) in [("a%20b", &b"\x00\xff"[..]), ("%FF%00", b""), ("a%2Fb", b"{}"), ("%E2%98%83", b"x")] {
        let path = format!("/dht/{path}");
        assert_eq!(first.ask("PUT", &path, "Content-Type: application/json\r\n", value).status, 200, "{path}");
        let found = second.get(&path);
        assert_eq!((found.status, &found.body[..]), (200, value), "{path}");
    }
    // The same key, written otherwise.
    assert_eq!(second.get("/dht/%61%20%62").body, b"\x00\xff");
    let id = first.ask("PUT", "/dht/by%20its%20id", "", b"value").json()["key"].as_str().unwrap().to_owned();
    assert_eq!(second.get(&format!("/dht/{id}?as=id")).body, b"value");
    assert_eq!(second.get("/dht/nonsense?as=id").code(), "bad_id");
    assert_eq!(second.get(&format!("/dht/{}?as=id", "ab".repeat(21))).code(), "bad_id");
    assert_eq!(first.ask("PUT", &format!("/dht/{id}?as=id"), "", b"value").code(), "bad_query");
}

#[test]
fn what_is_not_there_says_who_was_asked() {
    let (first, second) = two();
    let missing = second.get("/dht/nothing");
    assert_eq!((missing.status, missing.code().as_str()), (404, "not_found"));
    assert_eq!((&missing.json()["error"]["asked"], &missing.json()["error"]["answered"]), (&json!(1), &json!(1)));
    first.ask("PUT", "/dht/short", "", b"lived");
    let deleted = second.ask("DELETE", "/dht/short", "", b"");
    assert_eq!(deleted.status, 200, "{deleted:?}");
    let missing = first.get("/dht/short");
    assert_eq!((missing.status, &missing.json()["error"]["version"]), (404, &deleted.json()["version"]));
}

#[test]
fn conditions_are_compare_and_swap() {
    let (first, second) = two();
    let put = |headers: &str, value: &[u8]| first.ask("PUT", "/dht/swapped", headers, value);
    assert_eq!(put("If-Match: *\r\n", b"0").status, 412);
    let one = put("If-None-Match: *\r\n", b"1");
    assert_eq!(one.status, 200, "{one:?}");
    let again = put("If-None-Match: *\r\n", b"2");
    assert_eq!((again.status, again.code().as_str()), (412, "conflict"));
    assert_eq!(again.json()["error"]["version"], one.json()["version"]);
    let two = put(&format!("If-Match: {}\r\n", one.etag()), b"2");
    assert_eq!(two.status, 200);
    assert_eq!(put(&format!("If-Match: {}\r\n", one.etag()), b"3").status, 412);
    assert_eq!(put("If-Match: *\r\n", b"4").status, 200);
    let known = second.get("/dht/swapped");
    assert_eq!(known.body, b"4");
    let unchanged = second.ask("GET", "/dht/swapped", &format!("If-None-Match: {}\r\n", known.etag()), b"");
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
    let delete = |headers: &str| second.ask("DELETE", "/dht/swapped", headers, b"").status;
    assert_eq!(delete(&format!("If-Match: {}\r\n", two.etag())), 412);
    assert_eq!(delete(&format!("If-Match: {}\r\n", known.etag())), 200);
    assert_eq!(first.get("/dht/swapped").status, 404);
    for wrong in ["If-Match: 12\r\n", "If-None-Match: \"12\"\r\n", "If-Match: \"1\"\r\nIf-None-Match: *\r\n"] {
        assert_eq!(put(wrong, b"5").code(), "bad_condition", "{wrong}");
    }
}

/// Larger than any record: it goes in and comes out in pieces.
#[test]
fn large_values_and_their_parts() {
    let (first, second) = two();
    let value: Vec<u8> = (0..1_000_000_u32).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
    let saved = first.ask("PUT", "/dht/film", "", &value);
    assert_eq!(saved.status, 200, "{saved:?}");
    let whole = second.get("/dht/film");
    assert!(whole.status == 200 && whole.is_whole && whole.body == value);
    for (range, expected) in [
        ("bytes=0-9", 0..10),
        ("bytes=999990-", 999_990..1_000_000),
        ("bytes=-5", 999_995..1_000_000),
        ("bytes=16380-16390", 16_380..16_391),
        ("bytes=500000-2000000", 500_000..1_000_000),
    ] {
        let part = second.ask("GET", "/dht/film", &format!("Range: {range}\r\n"), b"");
        assert!(part.status == 206 && part.body == value[expected.clone()], "{range}");
        let told = format!("bytes {}-{}/1000000", expected.start, expected.end - 1);
        assert_eq!(part.headers["content-range"], told);
    }
    let beyond = second.ask("GET", "/dht/film", "Range: bytes=1000000-\r\n", b"");
    assert_eq!((beyond.status, beyond.headers["content-range"].as_str()), (416, "bytes */1000000"));
    let stale = second.ask("GET", "/dht/film", "Range: bytes=0-9\r\nIf-Range: \"1\"\r\n", b"");
    assert_eq!((stale.status, stale.body.len()), (200, value.len()));
    let head = second.ask("HEAD", "/dht/film", "", b"");
    assert_eq!((head.status, head.headers["content-length"].as_str()), (200, "1000000"));
    // In chunks of unknown number, and on condition.
    let chunked = chunked(&value);
    let headers = format!("Transfer-Encoding: chunked\r\nIf-Match: {}\r\n", saved.etag());
    let swapped = first.ask("PUT", "/dht/film", &headers, &chunked);
    assert_eq!(swapped.status, 200, "{swapped:?}");
    assert_eq!(first.ask("PUT", "/dht/film", &headers, &chunked).status, 412);
    assert!(second.get("/dht/film").body == value);
}

/// What begins like the root of a large value is a value like any other.
#[test]
fn no_value_is_taken_for_the_root_of_another() {
    let (first, second) = two();
    let value = b"\xd7dhtree\x01 and more";
    assert_eq!(first.ask("PUT", "/dht/root", "", value).status, 200);
    assert_eq!(second.get("/dht/root").body, value);
}

/// The root of a large value can be found when nobody has the rest any more: that is no mistake of the node's.
#[test]
fn of_a_large_value_that_is_lost_it_is_said() {
    let node = Node::start("");
    let (there, here) = (service(), service());
    let mut writer = there.value_writer(Place::Plain(b"film".to_vec()), StreamOptions::default());
    writer.write_all(&[7; 100_000]).unwrap();
    writer.finish().unwrap();
    let root = there.query("film").wait().unwrap().unwrap().value;
    there.stop();
    here.connect(node.listening[0].parse().unwrap()).wait().unwrap();
    here.save("film", &root).wait().unwrap();
    let found = node.get("/dht/film");
    assert_eq!((found.status, found.code().as_str()), (404, "lost"));
    here.stop();
}

/// A node within this process.
fn service() -> DHTService {
    let service = DHTService::start(Config::default()).unwrap();
    service.register_gateway(UdpGateway::bind("/ip4/127.0.0.1/udp/0".parse().unwrap()).unwrap()).unwrap();
    service
}

#[test]
fn a_node_that_is_alone_keeps_what_it_is_given() {
    let alone = Node::start("");
    let saved = alone.ask("PUT", "/dht/kept", "", b"here").json();
    assert_eq!((&saved["kept_here"], &saved["accepted"]), (&json!(true), &json!([])));
    assert_eq!(alone.get("/dht/kept").body, b"here");
    let health = alone.get("/healthz");
    assert_eq!((health.status, health.json()), (200, json!({ "status": "ok", "known_peers": 0 })));
}

#[test]
fn what_a_node_is_and_who_is_near() {
    let (first, second) = two();
    let status = second.json("/status");
    assert_eq!((&status["id"], &status["network"]), (&json!(second.id), &json!("native")));
    assert_eq!((&status["known_peers"], &status["listening"]), (&json!(1), &json!(second.listening)));
    assert_eq!((&status["isolated"], &status["gateways"][0]["state"]), (&json!(false), &json!("running")));
    let closest = second.json("/dump/closest/one");
    assert_eq!(closest["target"], "fe05bcdcdc4928012781a5f1a2a77cbb5398e106");
    assert_eq!((closest["found"].as_array().unwrap().len(), &closest["found"][0]["node"]["id"]), (1, &json!(first.id)));
    assert_eq!(closest["found"][0]["distance"].as_str().unwrap().len(), 40);
    for (method, path, status) in
        [("GET", "/nothing", 404), ("GET", "/dht/", 404), ("PATCH", "/dht/a", 405), ("PUT", "/status", 405)]
    {
        let answer = first.ask(method, path, "", b"");
        assert_eq!(answer.status, status, "{method} {path}");
        assert!(!answer.code().is_empty());
        assert_eq!(answer.headers.contains_key("allow"), status == 405);
    }
}
