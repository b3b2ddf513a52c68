//! From bytes to messages, as the clients out there write them: keys in any order, and others than are known here.

use std::net::SocketAddr;

use bytes::Bytes;

use super::compact;
use super::krpc::{Body, Failure, Item, Message, Mutable, Nodes, Query, Response, Samples, Want, code};
use crate::bencode::{Dictionary, integer_in, list_in, string_in};
use crate::id::Id;

/// The longest transaction that is repeated. Clients have 2 to 20 bytes.
const MAX_TRANSACTION_BYTES: usize = 64;

/// The longest text of a failure that is kept.
const MAX_FAILURE_CHARS: usize = 200;

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReadError {
    #[error("no bencoded dictionary")]
    NotBencoded,
    #[error("no message with its transaction and kind")]
    NoMessage,
    #[error("an answer without {0}")]
    Answer(&'static str),
    /// Whoever asked can be told.
    #[error("a query that cannot be answered: {}", .failure.text)]
    Query { transaction: Bytes, failure: Failure },
}

/// Reads a message. What follows it is not looked at.
pub(super) fn read(bytes: &[u8]) -> Result<Message, ReadError> {
    let all = Dictionary::read(bytes).ok_or(ReadError::NotBencoded)?;
    let string = |key| all.get(key).and_then(string_in);
    let transaction = string("t").filter(|it| it.len() <= MAX_TRANSACTION_BYTES).ok_or(ReadError::NoMessage)?;
    let transaction = Bytes::copy_from_slice(transaction);
    let body = match string("y") {
        Some(b"q") => {
            read_query(&all).map_err(|failure| ReadError::Query { transaction: transaction.clone(), failure })?
        }
        Some(b"r") => Body::Response(read_response(&all)?),
        Some(b"e") => Body::Failure(read_failure(&all)),
        _ => return Err(ReadError::NoMessage),
    };
    Ok(Message {
        transaction,
        version: string("v").map(Bytes::copy_from_slice),
        read_only: all.get("ro").and_then(integer_in) == Some(1),
        seen_at: string("ip").and_then(compact::address),
        body,
    })
}

fn wrong(text: impl Into<String>) -> Failure {
    Failure { code: code::PROTOCOL, text: text.into() }
}

/// The arguments of a query. Those that are known here must be what they are to be: whoever asks means something by them.
struct Arguments<'a>(Dictionary<'a>);

impl<'a> Arguments<'a> {
    fn read<T>(&self, key: &str, read: impl FnOnce(&'a [u8]) -> Option<T>) -> Result<Option<T>, Failure> {
        let read = |value| read(value).ok_or_else(|| wrong(format!("invalid {key}")));
        self.0.get(key).map(read).transpose()
    }

    fn needed<T>(&self, key: &str, read: impl FnOnce(&'a [u8]) -> Option<T>) -> Result<T, Failure> {
        self.read(key, read)?.ok_or_else(|| wrong(format!("no {key}")))
    }

    fn id(&self, key: &str) -> Result<Id, Failure> {
        self.needed(key, |value| compact::id(string_in(value)?))
    }

    fn token(&self) -> Result<Bytes, Failure> {
        self.needed("token", string_in).map(Bytes::copy_from_slice)
    }

    fn want(&self) -> Result<Want, Failure> {
        let names = self.read("want", list_in)?.unwrap_or_default();
        let has = |name: &[u8]| names.iter().any(|value| string_in(value) == Some(name));
        Ok(Want { v4: has(b"n4"), v6: has(b"n6") })
    }

    /// A number that is not negative.
    fn number(&self, key: &str) -> Result<Option<i64>, Failure> {
        self.read(key, |value| integer_in(value).filter(|number| *number >= 0))
    }

    /// The port that is announced; `None` for the one that the query came from.
    fn port(&self) -> Result<Option<u16>, Failure> {
        let is_implied = self.read("implied_port", integer_in)?.is_some_and(|implied| implied != 0);
        if is_implied {
            // What is written there then is anything.
            return Ok(None);
        }
        let port = |value| u16::try_from(integer_in(value)?).ok().filter(|port| *port > 0);
        self.needed("port", port).map(Some)
    }

    fn item(&self) -> Result<Item, Failure> {
        let value = Bytes::copy_from_slice(self.needed("v", Some)?);
        let Some(public_key) = self.read("k", |value| string_in(value)?.try_into().ok())? else {
            return Ok(Item { value, mutable: None });
        };
        let salt = self.read("salt", string_in)?.unwrap_or_default();
        Ok(Item {
            value,
            mutable: Some(Mutable {
                public_key,
                salt: Bytes::copy_from_slice(salt),
                sequence: self.number("seq")?.ok_or_else(|| wrong("no seq"))?,
                signature: self.needed("sig", |value| string_in(value)?.try_into().ok())?,
            }),
        })
    }
}

fn read_query(all: &Dictionary<'_>) -> Result<Body, Failure> {
    let arguments = Arguments(all.get("a").and_then(Dictionary::read).ok_or_else(|| wrong("no arguments"))?);
    let sender = arguments.id("id")?;
    let query = match all.get("q").and_then(string_in).ok_or_else(|| wrong("no method"))? {
        b"ping" => Query::Ping,
        b"find_node" => Query::FindNode { target: arguments.id("target")?, want: arguments.want()? },
        b"get_peers" => Query::GetPeers { info_hash: arguments.id("info_hash")?, want: arguments.want()? },
        b"announce_peer" => Query::AnnouncePeer {
            info_hash: arguments.id("info_hash")?,
            port: arguments.port()?,
            token: arguments.token()?,
        },
        b"get" => Query::Get {
            target: arguments.id("target")?,
            sequence: arguments.read("seq", integer_in)?,
            want: arguments.want()?,
        },
        b"put" => Query::Put {
            target: arguments.read("target", |value| compact::id(string_in(value)?))?,
            token: arguments.token()?,
            item: arguments.item()?,
            expected: arguments.number("cas")?,
        },
        b"sample_infohashes" => Query::SampleInfohashes { target: arguments.id("target")?, want: arguments.want()? },
        // A method of later days that is about a place: whoever is near it can go on.
        _ => match arguments.id("target").or_else(|_| arguments.id("info_hash")) {
            Ok(target) => Query::FindNode { target, want: arguments.want()? },
            Err(_) => return Err(Failure { code: code::UNKNOWN_METHOD, text: "unknown method".to_owned() }),
        },
    };
    Ok(Body::Query { sender, query })
}

/// Of an answer what can be read is good.
fn read_response(all: &Dictionary<'_>) -> Result<Response, ReadError> {
    let results = all.get("r").and_then(Dictionary::read).ok_or(ReadError::Answer("results"))?;
    let string = |key| results.get(key).and_then(string_in);
    let nodes = |key, bytes| string(key).map(|nodes| compact::nodes(nodes, bytes).collect());
    Ok(Response {
        sender: string("id").and_then(compact::id).ok_or(ReadError::Answer("an id of 20 bytes"))?,
        nodes: Nodes { v4: nodes("nodes", 6), v6: nodes("nodes6", 18) },
        token: string("token").map(Bytes::copy_from_slice),
        peers: peers_of(&results),
        sequence: results.get("seq").and_then(integer_in),
        samples: samples_of(&results),
        // An item that is not whole is none.
        item: Arguments(results).item().ok(),
    })
}

/// Who cannot be at an address is left out.
fn peers_of(results: &Dictionary<'_>) -> Vec<SocketAddr> {
    let values = results.get("values").and_then(list_in).unwrap_or_default();
    let peers = values.into_iter().filter_map(|value| compact::address(string_in(value)?));
    peers.filter(|peer| peer.port() != 0).collect()
}

fn samples_of(results: &Dictionary<'_>) -> Option<Samples> {
    let samples = results.get("samples").and_then(string_in)?;
    let info_hashes = samples.chunks_exact(compact::ID_BYTES).filter_map(compact::id).collect();
    let count = |key| results.get(key).and_then(integer_in).unwrap_or_default();
    Some(Samples {
        interval: u32::try_from(count("interval")).unwrap_or_default(),
        total: u64::try_from(count("num")).unwrap_or_default(),
        info_hashes,
    })
}

/// What clients write here differs; a failure it is in any case.
fn read_failure(all: &Dictionary<'_>) -> Failure {
    let parts = all.get("e").and_then(list_in).unwrap_or_default();
    let code = parts.iter().find_map(|part| integer_in(part)).unwrap_or(code::GENERIC);
    let text = parts.iter().find_map(|part| string_in(part)).unwrap_or_default();
    let text = String::from_utf8_lossy(text).chars().take(MAX_FAILURE_CHARS).collect();
    Failure { code, text }
}
