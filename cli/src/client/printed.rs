//! What a node has answered, in words.

use std::fmt::Write;

use serde_json::{Value as Json, json};

use crate::tables::empty_table;

/// A text as it is, a number as it is written, and nothing as a line.
fn plain(value: &Json) -> String {
    match value {
        Json::Null => "-".to_owned(),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn list(value: &Json) -> &[Json] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Of `dht put` and `dht delete`.
pub(super) fn receipt(json: &Json) -> String {
    let (accepted, refused) = (list(&json["accepted"]).len(), list(&json["refused"]));
    let here = match (json["kept_here"] == true, json["durable"] == true) {
        (false, _) => "",
        (true, false) => " and here",
        (true, true) => " and here, on disk",
    };
    let nodes = if accepted == 1 { "node" } else { "nodes" };
    let mut text = format!("version {} at {accepted} {nodes}{here}", plain(&json["version"]));
    for node in refused {
        write!(text, "\nnot at {}: {}", plain(&node["id"]), plain(&node["reason"])).ok();
    }
    text
}

/// Of `dht get --json`. Where values have types, `kind` is that of this one.
pub(super) fn value(key: &str, version: Option<&str>, kind: Option<&str>, value: &[u8], is_json: bool) -> Json {
    let owned = if is_json { serde_json::from_slice::<Json>(value).ok() } else { None };
    let (name, shown) = match (owned, std::str::from_utf8(value)) {
        (Some(record), _) => ("owned", record),
        (None, Ok(text)) => ("value", text.into()),
        (None, Err(_)) => ("value_hex", value.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()),
    };
    let mut json = json!({ "key": key, "version": version, "bytes": value.len(), name: shown });
    if let (Some(fields), Some(kind)) = (json.as_object_mut(), kind) {
        fields.insert("type".to_owned(), kind.into());
    }
    json
}

/// Of `dht peers`: one a line.
pub(super) fn peers(json: &Json) -> String {
    list(&json["peers"]).iter().map(plain).collect::<Vec<_>>().join("\n")
}

/// Whether peers were found.
pub(super) fn has_peers(json: &Json) -> bool {
    !list(&json["peers"]).is_empty()
}

/// Of `dht status`.
pub(super) fn status(json: &Json) -> String {
    let mut text = String::new();
    for (name, field) in [
        ("id", "id"),
        ("network", "network"),
        ("running for s", "uptime_s"),
        ("known peers", "known_peers"),
        ("isolated", "isolated"),
        ("records", "records"),
        ("bytes of records", "record_bytes"),
        ("published", "published"),
        ("requests in flight", "requests_in_flight"),
        ("operations", "operations"),
    ] {
        writeln!(text, "{name:18} {}", plain(&json[field])).ok();
    }
    let kept = &json["persistence"];
    writeln!(text, "{:18} {}", "state on disk", persistence(kept)).ok();
    for notice in list(&kept["notices"]) {
        writeln!(text, "{:18} {}", "notice", plain(notice)).ok();
    }
    for gateway in list(&json["gateways"]) {
        let addresses: Vec<String> = list(&gateway["addresses"]).iter().map(plain).collect();
        let (name, state, addresses) = (plain(&gateway["name"]), plain(&gateway["state"]), addresses.join(" "));
        let (sent, received) = (plain(&gateway["sent"]), plain(&gateway["received"]));
        writeln!(text, "{:18} {state} at {addresses}: {sent} sent, {received} received", format!("gateway {name}"))
            .ok();
    }
    text.trim_end().to_owned()
}

/// How the state of a node is kept.
fn persistence(json: &Json) -> String {
    if json.is_null() {
        "none: it has no data directory".to_owned()
    } else if json["durable"] == true {
        "durable".to_owned()
    } else {
        let (failure, pending) = (plain(&json["failure"]), plain(&json["pending"]));
        format!("failing: {failure}; {pending} changed records are in memory only")
    }
}

/// Of `dht status --healthy`.
pub(super) fn health(json: &Json) -> String {
    let (known, others) = (&json["known_peers"], if json["known_peers"] == 1 { "other" } else { "others" });
    format!("{}, knows {} {others}", plain(&json["status"]), plain(known))
}

/// Of `dht trace`.
pub(super) fn trace(json: &Json) -> String {
    let header = ["hop", "node", "address", "distance", "told by", "from ms", "round trip ms", "answer"];
    let mut table = empty_table(header, usize::MAX);
    for request in list(&json["requests"]) {
        // The first digits tell nodes apart.
        let short = |id: &Json| plain(id).chars().take(12).collect::<String>();
        table.add_row([
            plain(&request["hop"]),
            short(&request["id"]),
            plain(&request["address"]),
            short(&request["distance"]),
            short(&request["told_by"]),
            plain(&request["started_ms"]),
            plain(&request["round_trip_ms"]),
            answer(&request["answer"]),
        ]);
    }
    let found = &json["found"];
    let words = match json["error"].as_str() {
        Some(error) => error.to_owned(),
        None if found.is_null() => "not found".to_owned(),
        None => {
            let here = if found["held_here"] == true { " and here" } else { "" };
            let (kind, version, bytes) = (plain(&found["kind"]), plain(&found["version"]), plain(&found["bytes"]));
            let holders = list(&found["holders"]).len();
            format!("found: {kind}, version {version}, {bytes} bytes, at {holders} of those asked{here}")
        }
    };
    format!("target {}\n{table}\n{words}", plain(&json["target"]))
}

/// Whether a trace has found something.
pub(super) fn has_found(json: &Json) -> bool {
    !json["found"].is_null()
}

/// What came of a request.
fn answer(answer: &Json) -> String {
    match answer["kind"].as_str() {
        Some("value") => format!("version {}", plain(&answer["version"])),
        Some("contacts") => format!("{} contacts", plain(&answer["count"])),
        Some("failed") => plain(&answer["reason"]),
        _ => "not awaited".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_in_words() {
        let json = json!({
            "version": "7", "kept_here": true, "accepted": [{ "id": "ab" }],
            "refused": [{ "id": "cd", "reason": "it did not answer" }],
        });
        assert_eq!(receipt(&json), "version 7 at 1 node and here\nnot at cd: it did not answer");
        let durable = json!({ "version": "8", "accepted": [{}, {}], "kept_here": true, "durable": true });
        assert_eq!(receipt(&durable), "version 8 at 2 nodes and here, on disk");
    }

    #[test]
    fn how_the_state_is_kept_in_words() {
        let of = |persistence: Json| status(&json!({ "persistence": persistence }));
        assert!(of(Json::Null).ends_with("\nstate on disk      none: it has no data directory"));
        let well = json!({ "durable": true, "failure": null, "pending": 3, "notices": ["one", "two"] });
        assert!(of(well).ends_with("\nstate on disk      durable\nnotice             one\nnotice             two"));
        let failing = json!({ "durable": false, "failure": "no room", "pending": 3, "notices": [] });
        let expected = "\nstate on disk      failing: no room; 3 changed records are in memory only";
        assert!(of(failing).ends_with(expected));
    }

    #[test]
    fn values_as_json() {
        let of = |bytes: &[u8], is_json| value("k", Some("7"), None, bytes, is_json);
        assert_eq!(of(b"hi", false), json!({ "key": "k", "version": "7", "bytes": 2, "value": "hi" }));
        assert_eq!(of(b"\xff\x00", false)["value_hex"], "ff00");
        assert_eq!(of(b"[1]", true)["owned"], json!([1]));
        assert_eq!(value("k", None, Some("int"), b"5", false)["type"], "int");
    }
}
