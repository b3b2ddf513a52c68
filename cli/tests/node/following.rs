//! Figures, events, and the description of the API.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::time::Instant;

use serde_json::{Value, json};

use super::http::connection;
use super::process::{DEADLINE, Node, two};

#[test]
fn events_come_while_they_happen() {
    let first = Node::start("");
    let mut stream = connection(&first.http);
    stream.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let mut next = |wanted: &str| -> Value {
        let start = Instant::now();
        let name = format!("event: {wanted}");
        assert!(lines.by_ref().any(|line| line == name), "no {wanted}");
        assert!(start.elapsed() < DEADLINE);
        let data = lines.next().unwrap();
        serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap()
    };
    assert_eq!(next("following")["id"], first.id);
    let second = Node::start(&first.connect());
    assert_eq!(next("contact_added"), json!({ "id": second.id, "addresses": second.listening }));
    let saved = second.ask("PUT", "/dht/key", "", b"value").json();
    assert_eq!(next("record_kept"), json!({ "key": saved["key"], "version": saved["version"] }));
    assert_eq!(first.get("/dht/nothing").status, 404);
    assert_eq!(next("not_found")["asked"], 1);
    // They end with the node, and do not hold it up.
    first.signal("TERM");
    let (status, took, words) = first.end();
    assert!(status.success() && took.as_secs() < 2, "{took:?}: {words}");
    assert_eq!(lines.filter(|line| line.starts_with("event: ")).count(), 0);
}

#[test]
fn figures_are_what_was_done() {
    let (first, second) = two();
    for n in 0..3 {
        first.ask("PUT", &format!("/dht/{n}"), "", b"value");
        second.get(&format!("/dht/{n}"));
    }
    second.get("/dht/nothing");
    let answer = second.get("/metrics");
    assert!(answer.headers["content-type"].starts_with("application/openmetrics-text; version=1.0.0"));
    let text = String::from_utf8(answer.body).unwrap();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let value = |series: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in {text}")).parse().unwrap()
    };
    assert!((value("dht_known_peers"), value("dht_records"), value("dht_isolated")) == (1.0, 3.0, 0.0));
    assert!(value("dht_record_bytes") == 15.0 && value("dht_uptime_seconds") > 0.0);
    assert!(value(r#"dht_requests_served_total{request="STORE"}"#) == 3.0);
    assert!(value(r#"dht_http_requests_total{method="GET",resource="/dht/{key}",status="200"}"#) == 3.0);
    assert!(value(r#"dht_http_requests_total{method="GET",resource="/dht/{key}",status="404"}"#) == 1.0);
    assert!(value(r#"dht_http_request_duration_seconds_count{resource="/dht/{key}"}"#) == 4.0);
    let gateway = format!(r#"{{gateway="udp",address="{}"}}"#, second.listening[0]);
    assert!(value(&format!("dht_gateway_up{gateway}")) == 1.0);
    assert!(value(&format!("dht_gateway_received_messages_total{gateway}")) > 3.0);
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.starts_with("dht_") && line.rsplit_once(' ').unwrap().1.parse::<f64>().is_ok(), "{line}");
    }
}

/// Every resource is in the document, and what it refers to as well.
#[test]
fn the_description_is_whole() {
    let node = Node::start("");
    let document = node.json("/openapi.json");
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{document}");
    let paths = document["paths"].as_object().unwrap();
    let mut names = BTreeSet::new();
    for (path, methods) in [
        ("/dht/{key}", &["get", "put", "post", "delete"][..]),
        ("/status", &["get"]),
        ("/healthz", &["get"]),
        ("/metrics", &["get"]),
        ("/events", &["get"]),
        ("/openapi.json", &["get"]),
        ("/dump/closest/{key}", &["get"]),
        ("/neighbours", &["get"]),
        ("/contacts", &["get", "post"]),
        ("/dump", &["get"]),
        ("/trace/{key}", &["get"]),
    ] {
        for method in methods {
            assert!(paths[path][method]["responses"].is_object(), "{method} {path}");
            assert!(names.insert(paths[path][method]["operationId"].as_str().unwrap()), "{method} {path}");
        }
    }
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}
