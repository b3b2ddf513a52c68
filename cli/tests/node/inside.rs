//! What a node shows of its inside: whom it knows, what it holds and does, and how it finds what it finds.

use std::fs;

use serde_json::{Value, json};

use super::process::{DEADLINE, Node, run, text, two};

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("{value}"))
}

#[test]
fn neighbours() {
    let (first, second) = two();
    let json = first.json("/neighbours");
    assert_eq!((&json["id"], list(&json["neighbours"]).len()), (&json!(first.id), 1));
    let neighbour = &json["neighbours"][0];
    assert_eq!((&neighbour["id"], &neighbour["addresses"]), (&json!(second.id), &json!(second.listening)));
    let digits = |id: &str| u128::from_str_radix(&id[..32], 16).unwrap();
    let distance = digits(&first.id) ^ digits(&second.id);
    assert_eq!(digits(neighbour["distance"].as_str().unwrap()), distance);
    assert_eq!(neighbour["bucket"], distance.leading_zeros());
    assert!(neighbour["round_trip_ms"].as_f64().unwrap() > 0.0 && neighbour["missed"] == 0, "{neighbour}");
    assert!(
        neighbour["age_s"].as_f64() <= Some(60.0) && neighbour["last_seen_s"].as_f64() <= Some(60.0),
        "{neighbour}"
    );
}

#[test]
fn a_dump_as_json_and_as_pictures() {
    let (first, second) = two();
    let saved = first.ask("PUT", "/dht/key", "", b"value").json();
    let dump = first.json("/dump");
    assert_eq!(dump["id"], first.id);
    let contacts: Vec<&Value> = list(&dump["buckets"]).iter().flat_map(|bucket| list(&bucket["contacts"])).collect();
    assert_eq!((contacts.len(), &contacts[0]["id"]), (1, &json!(second.id)));
    for (name, records) in [("records", 1), ("published", 1)] {
        assert_eq!(list(&dump[name]).len(), records, "{dump}");
        let record = &dump[name][0];
        assert_eq!(
            (&record["key"], &record["version"], &record["bytes"]),
            (&saved["key"], &saved["version"], &json!(5))
        );
        assert_eq!(record["kind"], "plain");
    }
    assert_eq!((&dump["published"][0]["last"]["accepted"], &dump["records_left_out"]), (&json!(2), &json!(0)));
    assert!(list(&dump["queues"]).iter().all(|queue| queue["length"].as_u64() <= queue["most"].as_u64()), "{dump}");
    for (format, start, end) in [("plantuml", "@startuml\n", "\n@enduml\n"), ("dot", "digraph dht {\n", "\n}\n")] {
        let answer = first.get(&format!("/dump?format={format}"));
        let picture = text(&answer.body);
        assert!(answer.status == 200 && picture.starts_with(start) && picture.ends_with(end), "{picture}");
        for shown in [&first.id, &second.id, &second.listening[0], saved["key"].as_str().unwrap()] {
            assert!(picture.contains(shown), "{shown}: {picture}");
        }
    }
    assert_eq!(first.get("/dump?format=png").code(), "bad_query");
}

#[test]
fn a_trace_tells_of_each_request() {
    let (first, second) = two();
    let third = Node::start(&second.connect());
    let saved = third.ask("PUT", "/dht/key", "", b"value").json();
    let client = Node::start(&format!("--client {}", first.connect()));
    for (path, is_there) in [("/trace/key", true), ("/trace/nothing", false)] {
        let trace = client.json(path);
        let requests = list(&trace["requests"]);
        assert!(!requests.is_empty() && trace["effort"]["asked"] == requests.len(), "{trace}");
        let asked: Vec<&Value> = requests.iter().map(|request| &request["id"]).collect();
        assert!(asked.iter().all(|id| [&first, &second, &third].iter().any(|node| **id == node.id)), "{trace}");
        for request in requests {
            assert_eq!(request["told_by"].is_null(), request["hop"] == 1, "{trace}");
            assert_eq!(request["distance"].as_str().unwrap().len(), 40);
        }
        let answers: Vec<&str> = requests.iter().map(|request| request["answer"]["kind"].as_str().unwrap()).collect();
        assert_eq!(answers.contains(&"value"), is_there, "{trace}");
        if is_there {
            assert_eq!((&trace["target"], &trace["found"]["version"]), (&saved["key"], &saved["version"]));
            assert_eq!((&trace["found"]["kind"], &trace["found"]["bytes"]), (&json!("plain"), &json!(5)));
        } else {
            assert!(trace["found"].is_null());
        }
    }
    let id = saved["key"].as_str().unwrap();
    assert_eq!(client.json(&format!("/trace/{id}?as=id"))["target"], id);
    // As commands.
    let way = format!("--node {}", client.http);
    let table = run(&format!("trace key {way}"));
    assert_eq!(table.status.code(), Some(0));
    assert!(text(&table.stdout).contains("round trip ms") && text(&table.stdout).contains("found: plain"));
    let missing = run(&format!("trace nothing {way} --json"));
    assert_eq!(missing.status.code(), Some(1));
    assert!(serde_json::from_slice::<Value>(&missing.stdout).unwrap()["found"].is_null());
    let own = run(&format!("trace key {}", first.connect()));
    assert_eq!(own.status.code(), Some(0), "{}", text(&own.stderr));
    let dump = run(&format!("dump {way}"));
    assert_eq!(serde_json::from_slice::<Value>(&dump.stdout).unwrap()["id"], client.id);
    assert!(text(&run(&format!("dump --format dot {way}")).stdout).starts_with("digraph"));
    let quoted = run(&format!("dump --format plantuml --json {way}"));
    assert!(serde_json::from_slice::<Value>(&quoted.stdout).unwrap()["plantuml"].is_string());
}

/// A text of contacts of one node makes another one a member of the network.
#[test]
fn contacts_as_a_text() {
    let (first, second) = two();
    let answer = first.get("/contacts");
    assert_eq!(answer.status, 200);
    let contacts = text(&answer.body);
    assert!(contacts.contains(&second.listening[0]), "{contacts}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("contacts");
    fs::write(&file, &contacts).unwrap();
    let third = Node::start(&format!("--contacts {}", file.display()));
    let (fourth, fifth) = (Node::start(""), Node::start(""));
    let told = fourth.ask("POST", "/contacts", "Content-Type: text/plain\r\n", contacts.as_bytes());
    assert_eq!((told.status, told.json()), (200, json!({ "introduced": 1, "left_out": 0 })));
    for node in [&third, &fourth] {
        let start = std::time::Instant::now();
        while node.json("/status")["known_peers"] == 0 {
            assert!(start.elapsed() < DEADLINE);
        }
    }
    // Of a network for documents: nobody is there.
    let many: String = (1..=1100).map(|port| format!("/ip4/192.0.2.1/udp/{port}\n")).collect();
    let told = fifth.ask("POST", "/contacts", "", many.as_bytes()).json();
    assert_eq!((&told["introduced"], &told["left_out"]), (&json!(1024), &json!(76)));
    fs::write(&file, &many).unwrap();
    let sixth = Node::start(&format!("--contacts {}", file.display()));
    sixth.signal("TERM");
    let (_, _, words) = sixth.end();
    assert!(words.contains("76 of the 1100 nodes in ") && words.contains("are left out"), "{words}");
    let wrong = fourth.ask("POST", "/contacts", "", b"/ip4/127.0.0.1/udp/1\nnowhere\n");
    assert_eq!((wrong.status, wrong.code().as_str()), (400, "bad_contacts"));
    fs::write(&file, "nowhere\n").unwrap();
    let output = run(&format!("node --contacts {}", file.display()));
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("contacts, line 1 is no multiaddr"), "{}", text(&output.stderr));
}
