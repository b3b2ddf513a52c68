//! From messages to bytes: bencoded in the one right form, keys in their order. The value of an item is written as it came.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::compact::{self, id_bytes, nodes_string};
use super::krpc::{Body, Failure, Item, Message, Mutable, Query, Response, Samples, Want};
use crate::bencode;

/// A dictionary of values that are bencoded already: its keys stand in order, each once.
#[derive(Default)]
struct Dictionary(BTreeMap<&'static str, Vec<u8>>);

impl Dictionary {
    fn set(&mut self, key: &'static str, value: Vec<u8>) -> &mut Self {
        self.0.insert(key, value);
        self
    }

    fn bytes(&mut self, key: &'static str, bytes: &[u8]) -> &mut Self {
        self.set(key, string(bytes))
    }

    fn number(&mut self, key: &'static str, number: impl Into<i128>) -> &mut Self {
        self.set(key, integer(number))
    }

    fn bencoded(&self) -> Vec<u8> {
        let mut bytes = vec![b'd'];
        for (key, value) in &self.0 {
            bytes.extend(string(key.as_bytes()));
            bytes.extend(value);
        }
        bytes.push(b'e');
        bytes
    }
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [bytes.len().to_string().as_bytes(), b":", bytes].concat()
}

fn integer(number: impl Into<i128>) -> Vec<u8> {
    format!("i{}e", number.into()).into_bytes()
}

fn list(values: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut bytes = vec![b'l'];
    values.into_iter().for_each(|value| bytes.extend(value));
    bytes.push(b'e');
    bytes
}

/// The bytes of a message; `None` if its item is not bencoded.
pub(super) fn write(message: &Message) -> Option<Vec<u8>> {
    let mut all = Dictionary::default();
    all.bytes("t", &message.transaction);
    if let Some(version) = &message.version {
        all.bytes("v", version);
    }
    if message.read_only {
        all.number("ro", 1);
    }
    if let Some(address) = message.seen_at {
        all.bytes("ip", &compact_address(address));
    }
    match &message.body {
        Body::Query { sender, query } => {
            let mut arguments = Dictionary::default();
            arguments.bytes("id", id_bytes(sender));
            let method = write_query(query, &mut arguments)?;
            all.bytes("y", b"q").bytes("q", method.as_bytes()).set("a", arguments.bencoded());
        }
        Body::Response(response) => {
            let mut results = Dictionary::default();
            write_response(response, &mut results)?;
            all.bytes("y", b"r").set("r", results.bencoded());
        }
        Body::Failure(Failure { code, text }) => {
            all.bytes("y", b"e").set("e", list([integer(*code), string(text.as_bytes())]));
        }
    }
    Some(all.bencoded())
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
            to.bytes("info_hash", id_bytes(info_hash)).number("port", port.unwrap_or(1)).bytes("token", token);
            to.number("implied_port", i64::from(port.is_none()));
            "announce_peer"
        }
        Query::Get { target, sequence, want } => {
            write_want(*want, to.bytes("target", id_bytes(target)));
            if let Some(sequence) = sequence {
                to.number("seq", *sequence);
            }
            "get"
        }
        Query::Put { target, token, item, expected } => {
            if let Some(target) = target {
                to.bytes("target", id_bytes(target));
            }
            write_item(item, to.bytes("token", token))?;
            if let Some(expected) = expected {
                to.number("cas", *expected);
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
    let wanted: Vec<Vec<u8>> =
        [(want.v4, b"n4"), (want.v6, b"n6")].into_iter().filter(|(is, _)| *is).map(|(_, name)| string(name)).collect();
    if !wanted.is_empty() {
        to.set("want", list(wanted));
    }
}

fn write_item(item: &Item, to: &mut Dictionary) -> Option<()> {
    if !bencode::is_one_careless_value(&item.value) {
        return None;
    }
    to.set("v", item.value.to_vec());
    if let Some(Mutable { public_key, salt, sequence, signature }) = &item.mutable {
        to.bytes("k", public_key).number("seq", *sequence).bytes("sig", signature);
        if !salt.is_empty() {
            to.bytes("salt", salt);
        }
    }
    Some(())
}

fn write_response(response: &Response, to: &mut Dictionary) -> Option<()> {
    let Response { sender, nodes, token, peers, item, sequence, samples } = response;
    to.bytes("id", id_bytes(sender));
    for (key, nodes) in [("nodes", &nodes.v4), ("nodes6", &nodes.v6)] {
        if let Some(nodes) = nodes {
            to.bytes(key, &nodes_string(nodes));
        }
    }
    if let Some(token) = token {
        to.bytes("token", token);
    }
    if !peers.is_empty() {
        to.set("values", list(peers.iter().map(|peer| string(&compact_address(*peer)))));
    }
    if let Some(sequence) = sequence {
        to.number("seq", *sequence);
    }
    if let Some(Samples { interval, total, info_hashes }) = samples {
        let samples: Vec<u8> = info_hashes.iter().flat_map(|hash| id_bytes(hash).iter().copied()).collect();
        to.number("interval", *interval).number("num", *total).bytes("samples", &samples);
    }
    match item {
        Some(item) => write_item(item, to),
        None => Some(()),
    }
}
