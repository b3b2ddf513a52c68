//! From messages to bytes: bencoded in the one right form, keys in their order.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bt_bencode::{ByteString, Value};

use super::compact::{self, id_bytes, nodes_string};
use super::krpc::{Body, Failure, Item, Message, Mutable, Query, Response, Samples, Want};

/// A dictionary: its keys stand in order, each once.
#[derive(Default)]
struct Dictionary(BTreeMap<ByteString, Value>);

impl Dictionary {
    fn set(&mut self, key: &str, value: impl Into<Value>) -> &mut Self {
        self.0.insert(ByteString::from(key), value.into());
        self
    }

    fn bytes(&mut self, key: &str, bytes: &[u8]) -> &mut Self {
        self.set(key, string(bytes))
    }
}

fn string(bytes: &[u8]) -> Value {
    Value::ByteStr(ByteString::from(bytes))
}

/// The bytes of a message; `None` if its item is not bencoded.
pub(super) fn write(message: &Message) -> Option<Vec<u8>> {
    let mut all = Dictionary::default();
    all.bytes("t", &message.transaction);
    if let Some(version) = &message.version {
        all.bytes("v", version);
    }
    if message.read_only {
        all.set("ro", 1);
    }
    if let Some(address) = message.seen_at {
        all.bytes("ip", &compact_address(address));
    }
    match &message.body {
        Body::Query { sender, query } => {
            let mut arguments = Dictionary::default();
            arguments.bytes("id", id_bytes(sender));
            let method = write_query(query, &mut arguments)?;
            all.set("y", "q").set("q", method).set("a", Value::Dict(arguments.0));
        }
        Body::Response(response) => {
            let mut results = Dictionary::default();
            write_response(response, &mut results)?;
            all.set("y", "r").set("r", Value::Dict(results.0));
        }
        Body::Failure(Failure { code, text }) => {
            all.set("y", "e").set("e", vec![Value::from(*code), Value::from(text.as_str())]);
        }
    }
    bt_bencode::to_vec(&Value::Dict(all.0)).ok()
}

fn compact_address(address: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(18);
    compact::push_address(address, &mut bytes);
    bytes
}

/// Gives the name of the method.
fn write_query(query: &Query, to: &mut Dictionary) -> Option<&'static str> {
    Some(match query {
        Query::Ping => "ping",
        Query::FindNode { target, want } => {
            write_want(*want, to.bytes("target", id_bytes(target)));
            "find_node"
        }
        Query::GetPeers { info_hash, want } => {
            write_want(*want, to.bytes("info_hash", id_bytes(info_hash)));
            "get_peers"
        }
        Query::AnnouncePeer { info_hash, port, token } => {
            // Clients that do not know the second one take the first, so there is always one.
            to.bytes("info_hash", id_bytes(info_hash)).set("port", port.unwrap_or(1)).bytes("token", token);
            to.set("implied_port", i64::from(port.is_none()));
            "announce_peer"
        }
        Query::Get { target, sequence, want } => {
            write_want(*want, to.bytes("target", id_bytes(target)));
            if let Some(sequence) = sequence {
                to.set("seq", *sequence);
            }
            "get"
        }
        Query::Put { target, token, item, expected } => {
            if let Some(target) = target {
                to.bytes("target", id_bytes(target));
            }
            write_item(item, to.bytes("token", token))?;
            if let Some(expected) = expected {
                to.set("cas", *expected);
            }
            "put"
        }
        Query::SampleInfohashes { target, want } => {
            write_want(*want, to.bytes("target", id_bytes(target)));
            "sample_infohashes"
        }
    })
}

fn write_want(want: Want, to: &mut Dictionary) {
    let wanted: Vec<Value> =
        [(want.v4, "n4"), (want.v6, "n6")].into_iter().filter(|(is, _)| *is).map(|(_, name)| name.into()).collect();
    if !wanted.is_empty() {
        to.set("want", wanted);
    }
}

fn write_item(item: &Item, to: &mut Dictionary) -> Option<()> {
    let value: Value = bt_bencode::from_slice(&item.value).ok()?;
    to.set("v", value);
    if let Some(Mutable { public_key, salt, sequence, signature }) = &item.mutable {
        to.bytes("k", public_key).set("seq", *sequence).bytes("sig", signature);
        if !salt.is_empty() {
            to.bytes("salt", salt);
        }
    }
    Some(())
}

fn write_response(response: &Response, to: &mut Dictionary) -> Option<()> {
    let Response { sender, nodes, token, peers, item, sequence, samples } = response;
    to.bytes("id", id_bytes(sender));
    for (key, is_v4) in [("nodes", true), ("nodes6", false)] {
        let of_family = nodes_string(nodes.iter().filter(|(_, address)| address.is_ipv4() == is_v4));
        if !of_family.is_empty() {
            to.bytes(key, &of_family);
        }
    }
    if let Some(token) = token {
        to.bytes("token", token);
    }
    if !peers.is_empty() {
        let peers: Vec<Value> = peers.iter().map(|peer| string(&compact_address(*peer))).collect();
        to.set("values", peers);
    }
    if let Some(sequence) = sequence {
        to.set("seq", *sequence);
    }
    if let Some(Samples { interval, total, info_hashes }) = samples {
        let samples: Vec<u8> = info_hashes.iter().flat_map(|hash| id_bytes(hash).iter().copied()).collect();
        to.set("interval", i64::from(*interval)).set("num", *total).bytes("samples", &samples);
    }
    match item {
        Some(item) => write_item(item, to),
        None => Some(()),
    }
}
