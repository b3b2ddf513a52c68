//! Owned records as JSON: whose a key is, and who else may write there.

use serde_json::{Value, json};

use kademlia_dht::OwnedMode;
use kademlia_dht::signing::owned::{Claim, OwnerKey};

use super::http::Answer;
use super::process::{Node, two};

const KEY: &str = "0224d2079e86e937224f08aa37a857ca6116546868edde549d0bd6b8536af9d554";
const SIGNATURE: &str = "d3f1d0cfeb6e9913ffe1759e9a5a331a65dade83f53ca6ef60f2c588238c4cc2\
                         497d6f48b1968e31e98fc749d1887d6bb546718f2676a3308f9701a6b399c2c1";

/// A record that another program has signed.
fn known() -> Value {
    json!({
        "data": "string_payload",
        "persist_mode": "SECURED",
        "authorization": { "pub_key": { "key": KEY, "exp_time": null }, "sign": SIGNATURE },
    })
}

fn post(node: &Node, key: &str, record: &Value) -> Answer {
    let json = record.to_string();
    node.ask("POST", &format!("/dht/{key}"), "Content-Type: application/json; charset=utf-8\r\n", json.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn signed(owner: &OwnerKey, key: &str, data: &str, mode: OwnedMode, expiry: Option<u64>) -> Value {
    let claim = Claim { key: key.as_bytes(), data: data.as_bytes(), expiry, mode };
    let mode = if mode == OwnedMode::Secured { "SECURED" } else { "CONTROLLED" };
    let public = hex(owner.public_key().as_bytes());
    json!({
        "data": data,
        "persist_mode": mode,
        "authorization": { "pub_key": { "key": public, "exp_time": expiry }, "sign": hex(&owner.sign(&claim).0) },
    })
}

#[test]
fn a_record_of_another_program_is_taken_and_no_other_in_its_place() {
    let (first, second) = two();
    let taken = post(&first, "test_id", &known());
    assert_eq!(taken.status, 200, "{taken:?}");
    assert_eq!(second.json("/dht/test_id"), known());
    // Whoever has it is not given it again.
    let found = |tag: &str| second.ask("GET", "/dht/test_id", &format!("If-None-Match: {tag}\r\n"), b"");
    let unchanged = found(taken.etag());
    assert_eq!((unchanged.status, unchanged.body.len(), unchanged.etag()), (304, 0, taken.etag()));
    assert_eq!(found("\"1\"").json(), known());

    let mut changed = known();
    changed["data"] = "string_payloae".into();
    let changed = post(&second, "test_id", &changed);
    assert_eq!((changed.status, changed.code().as_str()), (401, "bad_signature"));
    // As every 401 must: RFC 9110, section 15.5.2.
    assert_eq!(changed.headers["www-authenticate"], "Bearer");

    let mut without = known();
    without.as_object_mut().unwrap().remove("authorization");
    assert_eq!(post(&second, "test_id", &without).status, 400);

    let stranger = OwnerKey::generate().unwrap();
    for mode in [OwnedMode::Secured, OwnedMode::Controlled] {
        let refused = post(&second, "test_id", &signed(&stranger, "test_id", "mine", mode, None));
        assert_eq!((refused.status, refused.code().as_str()), (401, "another_owner"));
    }
    for (method, body) in [("PUT", &b"plain"[..]), ("DELETE", b"")] {
        assert_eq!(second.ask(method, "/dht/test_id", "", body).status, 401, "{method}");
    }
    // The owner goes on.
    assert_eq!(post(&second, "test_id", &known()).status, 200);
    assert_eq!(first.json("/dht/test_id"), known());
}

#[test]
fn everybody_has_a_record_of_their_own_under_a_controlled_key() {
    let (first, second) = two();
    let mut records: Vec<Value> = Vec::new();
    for data in ["one", "two", "three"] {
        let owner = OwnerKey::generate().unwrap();
        let record = signed(&owner, "guests", data, OwnedMode::Controlled, Some(9_999_999_999));
        assert_eq!(post(&first, "guests", &record).status, 200);
        records.push(record);
    }
    let found = second.json("/dht/guests");
    let found = found.as_array().unwrap();
    assert_eq!(found.len(), 3);
    assert!(records.iter().all(|record| found.contains(record)), "{found:?}");
}

#[test]
fn what_is_malformed_is_told_from_what_is_not_allowed() {
    let node = Node::start("");
    let change = |path: &str, value: Value| {
        let mut record = known();
        *record.pointer_mut(path).unwrap() = value;
        let answer = post(&node, "test_id", &record);
        (answer.status, answer.code())
    };
    for (path, value, code) in [
        ("/data", json!(7), "bad_json"),
        ("/data", json!(null), "bad_json"),
        ("/persist_mode", json!("OPEN"), "bad_json"),
        ("/authorization", json!("none"), "bad_json"),
        ("/authorization", json!([[KEY, null], SIGNATURE]), "bad_json"),
        ("/authorization/pub_key", json!([KEY, null]), "bad_json"),
        ("/authorization/pub_key/key", json!(format!("05{}", &KEY[2..])), "bad_key"),
        ("/authorization/pub_key/key", json!("zz"), "bad_hex"),
        ("/authorization/pub_key/key", json!("ff".repeat(33)), "bad_key"),
        ("/authorization/pub_key/exp_time", json!("never"), "bad_json"),
        ("/authorization/sign", json!(SIGNATURE.replace('d', "g")), "bad_hex"),
        ("/authorization/sign", json!(&SIGNATURE[2..]), "bad_hex"),
    ] {
        assert_eq!(change(path, value.clone()), (400, code.to_owned()), "{path} {value}");
    }
    for (path, value) in [
        ("/persist_mode", json!("CONTROLLED")),
        ("/authorization/pub_key/exp_time", json!(9_999_999_999_u64)),
        ("/authorization/sign", json!("11".repeat(64))),
    ] {
        assert_eq!(change(path, value.clone()), (401, "bad_signature".to_owned()), "{path} {value}");
    }
    for body in [&b""[..], b"{", b"[]", b"\xff"] {
        let answer = node.ask("POST", "/dht/test_id", "Content-Type: application/json\r\n", body);
        assert_eq!((answer.status, answer.code().as_str()), (400, "bad_json"));
    }
    let owner = OwnerKey::generate().unwrap();
    let late = post(&node, "late", &signed(&owner, "late", "data", OwnedMode::Secured, Some(1_500_000_000)));
    assert_eq!((late.status, late.code().as_str()), (401, "expired"));
    let never = post(&node, "late", &signed(&owner, "late", "data", OwnedMode::Secured, Some(7)));
    assert_eq!((never.status, never.code().as_str()), (401, "expired"));
    let far = post(&node, "late", &signed(&owner, "late", "data", OwnedMode::Secured, Some(10_000_000_000)));
    assert_eq!((far.status, far.code().as_str()), (400, "bad_expiry"));
    let long = "k".repeat(513);
    let named = post(&node, &long, &signed(&owner, &long, "data", OwnedMode::Secured, None));
    assert_eq!((named.status, named.code().as_str()), (400, "name_too_long"));
    let large = "x".repeat(70_000);
    let large = post(&node, "large", &signed(&owner, "large", &large, OwnedMode::Secured, None));
    assert_eq!((large.status, large.code().as_str()), (413, "too_large"));
}
