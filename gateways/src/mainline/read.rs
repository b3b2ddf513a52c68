//! From bytes to messages, as the clients out there write them: keys in any order, and others than are known here.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bt_bencode::value::Number;
use bt_bencode::{ByteString, Value};
use bytes::Bytes;

use super::compact;
use super::krpc::{Body, Failure, Item, Message, Mutable, Query, Response, Samples, Want, code};
use crate::bencode;
use crate::id::Id;

/// The longest transaction that is repeated. Clients have 2 to 8 bytes.
const MAX_TRANSACTION_BYTES: usize = 32;

/// The longest text of a failure that is kept.
const MAX_FAILURE_CHARS: usize = 200;

type Dictionary = BTreeMap<ByteString, Value>;

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReadError {
    #[error("not bencoded")]
    NotBencoded,
    #[error("no dictionary of a message with its transaction and kind")]
    NoMessage,
    #[error("an answer without {0}")]
    Answer(&'static str),
    /// Whoever asked can be told.
    #[error("a query that cannot be answered: {}", .failure.text)]
    Query { transaction: Bytes, failure: Failure },
}

/// Reads a message.
pub(super) fn read(bytes: &[u8]) -> Result<Message, ReadError> {
    // The parser goes as deep as the bytes lead it.
    if !bencode::is_flat(bytes) {
        return Err(ReadError::NotBencoded);
    }
    let all: Dictionary = match bt_bencode::from_slice(bytes) {
        Ok(Value::Dict(all)) => all,
        Ok(_) => return Err(ReadError::NoMessage),
        Err(_) => return Err(ReadError::NotBencoded),
    };
    let transaction = bytes_of(&all, "t").filter(|it| it.len() <= MAX_TRANSACTION_BYTES);
    let transaction = Bytes::copy_from_slice(transaction.ok_or(ReadError::NoMessage)?);
    let body = match bytes_of(&all, "y") {
        Some(b"q") => read_query(&all).map_err(|(code, text)| {
            let failure = Failure { code, text: text.to_owned() };
            ReadError::Query { transaction: transaction.clone(), failure }
        })?,
        Some(b"r") => Body::Response(read_response(&all)?),
        Some(b"e") => Body::Failure(read_failure(&all)),
        _ => return Err(ReadError::NoMessage),
    };
    Ok(Message {
        transaction,
        version: bytes_of(&all, "v").map(Bytes::copy_from_slice),
        read_only: number_of(&all, "ro") == Some(1),
        seen_at: bytes_of(&all, "ip").and_then(compact::address),
        body,
    })
}

fn bytes_of<'a>(of: &'a Dictionary, key: &str) -> Option<&'a [u8]> {
    of.get(key.as_bytes())?.as_byte_str().map(|bytes| bytes.as_slice())
}

fn number_of(of: &Dictionary, key: &str) -> Option<i64> {
    number(of.get(key.as_bytes())?)
}

fn number(value: &Value) -> Option<i64> {
    match value.as_number()? {
        Number::Signed(number) => Some(*number),
        Number::Unsigned(number) => i64::try_from(*number).ok(),
    }
}

fn dictionary_of<'a>(of: &'a Dictionary, key: &str) -> Option<&'a Dictionary> {
    of.get(key.as_bytes())?.as_dict()
}

fn id_of(of: &Dictionary, key: &str) -> Option<Id> {
    compact::id(bytes_of(of, key)?)
}

/// Why a query cannot be answered: a code, and words.
type Unanswerable = (i64, &'static str);

fn read_query(all: &Dictionary) -> Result<Body, Unanswerable> {
    let wrong = |text| (code::PROTOCOL, text);
    let arguments = dictionary_of(all, "a").ok_or(wrong("no arguments"))?;
    let sender = id_of(arguments, "id").ok_or(wrong("no id of 20 bytes"))?;
    let target = || id_of(arguments, "target").ok_or(wrong("no target of 20 bytes"));
    let info_hash = || id_of(arguments, "info_hash").ok_or(wrong("no info_hash of 20 bytes"));
    let token = || bytes_of(arguments, "token").map(Bytes::copy_from_slice).ok_or(wrong("no token"));
    let want = want_of(arguments);
    let query = match bytes_of(all, "q").ok_or(wrong("no method"))? {
        b"ping" => Query::Ping,
        b"find_node" => Query::FindNode { target: target()?, want },
        b"get_peers" => Query::GetPeers { info_hash: info_hash()?, want },
        b"announce_peer" => {
            let is_implied = number_of(arguments, "implied_port").is_some_and(|implied| implied != 0);
            let port = number_of(arguments, "port").and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
            if port.is_none() && !is_implied {
                return Err(wrong("no port"));
            }
            Query::AnnouncePeer { info_hash: info_hash()?, port: port.filter(|_| !is_implied), token: token()? }
        }
        b"get" => Query::Get { target: target()?, sequence: number_of(arguments, "seq"), want },
        b"put" => Query::Put {
            target: id_of(arguments, "target"),
            token: token()?,
            item: read_item(arguments)?,
            expected: number_of(arguments, "cas"),
        },
        b"sample_infohashes" => Query::SampleInfohashes { target: target()?, want },
        // A method of later days that is about a place: whoever is near it can go on.
        _ => match target().or_else(|_| info_hash()) {
            Ok(target) => Query::FindNode { target, want },
            Err(_) => return Err((code::UNKNOWN_METHOD, "unknown method")),
        },
    };
    Ok(Body::Query { sender, query })
}

fn want_of(arguments: &Dictionary) -> Want {
    let wanted = arguments.get(b"want".as_slice()).and_then(Value::as_list);
    let names = |name: &str| wanted.is_some_and(|wanted| wanted.iter().any(|value| value.as_str() == Some(name)));
    Want { v4: names("n4"), v6: names("n6") }
}

fn read_item(from: &Dictionary) -> Result<Item, Unanswerable> {
    let wrong = |text| (code::PROTOCOL, text);
    let value = from.get(b"v".as_slice()).ok_or(wrong("no value"))?;
    let value = Bytes::from(bt_bencode::to_vec(value).map_err(|_| wrong("no value"))?);
    let Some(public_key) = bytes_of(from, "k") else { return Ok(Item { value, mutable: None }) };
    Ok(Item {
        value,
        mutable: Some(Mutable {
            public_key: public_key.try_into().map_err(|_| wrong("no key of 32 bytes"))?,
            salt: Bytes::copy_from_slice(bytes_of(from, "salt").unwrap_or_default()),
            sequence: number_of(from, "seq").ok_or(wrong("no sequence number"))?,
            signature: bytes_of(from, "sig")
                .and_then(|signature| signature.try_into().ok())
                .ok_or(wrong("no signature of 64 bytes"))?,
        }),
    })
}

fn read_response(all: &Dictionary) -> Result<Response, ReadError> {
    let results = dictionary_of(all, "r").ok_or(ReadError::Answer("results"))?;
    let nodes = |key, bytes| compact::nodes(bytes_of(results, key).unwrap_or_default(), bytes);
    Ok(Response {
        sender: id_of(results, "id").ok_or(ReadError::Answer("an id of 20 bytes"))?,
        nodes: nodes("nodes", 6).chain(nodes("nodes6", 18)).collect(),
        token: bytes_of(results, "token").map(Bytes::copy_from_slice),
        peers: peers_of(results),
        // An item that is not whole is none: the rest of the answer is good.
        item: read_item(results).ok(),
        sequence: number_of(results, "seq"),
        samples: samples_of(results),
    })
}

/// Who cannot be at an address is left out.
fn peers_of(results: &Dictionary) -> Vec<SocketAddr> {
    let values = results.get(b"values".as_slice()).and_then(Value::as_list).into_iter().flatten();
    let peers = values.filter_map(|value| compact::address(value.as_byte_str()?.as_slice()));
    peers.filter(|peer| peer.port() != 0).collect()
}

fn samples_of(results: &Dictionary) -> Option<Samples> {
    let info_hashes = bytes_of(results, "samples")?.chunks_exact(compact::ID_BYTES).filter_map(compact::id).collect();
    let count = |key| number_of(results, key).unwrap_or_default();
    Some(Samples {
        interval: u32::try_from(count("interval")).unwrap_or_default(),
        total: u64::try_from(count("num")).unwrap_or_default(),
        info_hashes,
    })
}

/// What clients write here differs; a failure it is in any case.
fn read_failure(all: &Dictionary) -> Failure {
    let parts = all.get(b"e".as_slice()).and_then(Value::as_list).map(Vec::as_slice).unwrap_or_default();
    let code = parts.iter().find_map(number).unwrap_or(code::GENERIC);
    let text = parts.iter().find_map(Value::as_byte_str).map(|text| text.as_slice()).unwrap_or_default();
    let text = String::from_utf8_lossy(text).chars().take(MAX_FAILURE_CHARS).collect();
    Failure { code, text }
}
