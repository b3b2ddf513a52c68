//! The datagrams of `rpcudp`: a byte that says whether it is a request, an id of 20 bytes, and MessagePack.

use std::net::{IpAddr, SocketAddr};

use super::pack::{Item, Reader, Writer};
use super::value::Value;

/// The bytes of an id: of a node, a key or a request.
pub const ID_BYTES: usize = 20;

/// An id on this wire.
pub type WireId = [u8; ID_BYTES];

/// What comes before the MessagePack.
pub const HEADER_BYTES: usize = 1 + ID_BYTES;

/// The most MessagePack that a datagram has: the package sends no longer request.
pub const MAX_BODY_BYTES: usize = 8192;

/// The largest datagram.
pub const MAX_DATAGRAM_BYTES: usize = HEADER_BYTES + MAX_BODY_BYTES;

/// The most contacts that are read of one reply: the package names 20 unless it is told otherwise.
const MAX_CONTACTS: usize = 100;

/// Why a datagram cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It is shorter than any message, or ends within an item.
    #[error("it ends too early")]
    CutShort,
    /// It is larger than any message.
    #[error("it has more than {MAX_DATAGRAM_BYTES} bytes")]
    TooLarge,
    /// It is neither a request nor a reply.
    #[error("its first byte is {0}, and neither 0 nor 1")]
    Kind(u8),
    /// A byte that MessagePack does not use stands where an item should.
    #[error("it is not MessagePack")]
    NotMessagePack,
    /// Text that is not UTF-8.
    #[error("a text in it is not UTF-8")]
    NotText,
    /// Arrays and maps lie too deep in one another.
    #[error("its items lie too deep in one another")]
    TooDeep,
    /// Something follows the item.
    #[error("something follows its end")]
    Trailing,
    /// It is MessagePack, and not what belongs there.
    #[error("it is not made as its kind is")]
    Shape,
    /// It asks for something that a node does not offer.
    #[error("it asks for what is not offered")]
    UnknownCall,
}

/// One datagram.
#[derive(Debug, Clone, PartialEq)]
pub struct Datagram<'a> {
    /// Pairs a reply with its request.
    pub id: WireId,
    /// What it asks or answers.
    pub body: Body<'a>,
}

/// What a datagram asks or answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Body<'a> {
    /// A question.
    Request(Call),
    /// The answer to one: what it means depends on the question.
    Reply(Answer<'a>),
}

/// The calls that a node of the package answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// What address do I come from?
    Stun,
    /// Are you there?
    Ping {
        /// The asking node.
        node: WireId,
    },
    /// Keep this value.
    Store {
        /// The asking node.
        node: WireId,
        /// Under which key.
        key: WireId,
        /// The value; `None` if it is of a type that cannot be stored.
        value: Option<Value>,
    },
    /// Which nodes do you know nearest to `key`?
    FindNode {
        /// The asking node.
        node: WireId,
        /// The id that is looked for.
        key: WireId,
    },
    /// What is the value under `key`, or which nodes do you know nearest to it?
    FindValue {
        /// The asking node.
        node: WireId,
        /// The key that is looked for.
        key: WireId,
    },
}

/// A reply of which is known only that it is one item of MessagePack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<'a>(&'a [u8]);

/// A contact as this wire names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireContact {
    /// Its id.
    pub id: WireId,
    /// Where it is.
    pub socket: SocketAddr,
}

/// What a reply holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply<'a> {
    /// To a ping: who answers.
    Pong(WireId),
    /// To a store: whether the value is kept.
    Stored(bool),
    /// To a find request.
    Contacts(&'a [WireContact]),
    /// To a find request for a value that the node has.
    Found(&'a Value),
    /// To the question for the own address.
    Address(SocketAddr),
}

/// What an answer to `find_value` says.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// The value; `None` if it is of a type that cannot be stored.
    Value(Option<Value>),
    /// Nodes that are nearer.
    Contacts(Vec<WireContact>),
}

/// Reads one datagram, all of it.
///
/// # Errors
///
/// Whatever is wrong with it. Nothing that comes takes more memory than the value in it.
pub fn decode(datagram: &[u8]) -> Result<Datagram<'_>, DecodeError> {
    if datagram.len() > MAX_DATAGRAM_BYTES {
        return Err(DecodeError::TooLarge);
    }
    let (kind, rest) = datagram.split_first().ok_or(DecodeError::CutShort)?;
    if *kind > 1 {
        return Err(DecodeError::Kind(*kind));
    }
    let (id, body) = rest.split_first_chunk::<ID_BYTES>().ok_or(DecodeError::CutShort)?;
    let mut reader = Reader::new(body);
    let item = reader.next()?;
    reader.finish(item)?;
    if !reader.rest().is_empty() {
        return Err(DecodeError::Trailing);
    }
    let body = if *kind == 0 { Body::Request(read_call(body)?) } else { Body::Reply(Answer(body)) };
    Ok(Datagram { id: *id, body })
}

fn read_call(body: &[u8]) -> Result<Call, DecodeError> {
    let mut reader = Reader::new(body);
    let (Item::Array(2), Item::Text(name), Item::Array(count)) = (reader.next()?, reader.next()?, reader.next()?)
    else {
        return Err(DecodeError::Shape);
    };
    let mut id = || read_id(&mut reader);
    match (name, count) {
        ("stun", 0) => Ok(Call::Stun),
        ("ping", 1) => Ok(Call::Ping { node: id()? }),
        ("find_node", 2) => Ok(Call::FindNode { node: id()?, key: id()? }),
        ("find_value", 2) => Ok(Call::FindValue { node: id()?, key: id()? }),
        ("store", 3) => Ok(Call::Store { node: id()?, key: id()?, value: Value::read(reader.next()?) }),
        ("stun" | "ping" | "find_node" | "find_value" | "store", _) => Err(DecodeError::Shape),
        _ => Err(DecodeError::UnknownCall),
    }
}

fn read_id(reader: &mut Reader<'_>) -> Result<WireId, DecodeError> {
    match reader.next()? {
        Item::Bytes(bytes) => bytes.try_into().map_err(|_| DecodeError::Shape),
        _ => Err(DecodeError::Shape),
    }
}

impl Answer<'_> {
    /// As the answer to a ping: the id of who answers.
    ///
    /// # Errors
    ///
    /// When it is no id.
    pub fn pong(self) -> Result<WireId, DecodeError> {
        read_id(&mut Reader::new(self.0))
    }

    /// As the answer to a store: whether the value is kept.
    ///
    /// # Errors
    ///
    /// When it is neither true nor false.
    pub fn stored(self) -> Result<bool, DecodeError> {
        match Reader::new(self.0).next()? {
            Item::Bool(kept) => Ok(kept),
            _ => Err(DecodeError::Shape),
        }
    }

    /// As the answer to `find_node`. Contacts without an IP and a port are left out, and those beyond a hundred.
    ///
    /// # Errors
    ///
    /// When it is no list of contacts.
    pub fn contacts(self) -> Result<Vec<WireContact>, DecodeError> {
        let mut reader = Reader::new(self.0);
        let Item::Array(count) = reader.next()? else { return Err(DecodeError::Shape) };
        let mut contacts = Vec::new();
        for _ in 0..count {
            let (Item::Array(3), id) = (reader.next()?, read_id(&mut reader)?) else { return Err(DecodeError::Shape) };
            let (ip, port) = (reader.next()?, reader.next()?);
            let (Item::Text(ip), Item::Int(port)) = (ip, port) else { return Err(DecodeError::Shape) };
            let socket = ip.parse().ok().and_then(|ip: IpAddr| Some(SocketAddr::new(ip, port.try_into().ok()?)));
            let usable = socket.filter(|socket| socket.port() != 0 && contacts.len() < MAX_CONTACTS);
            contacts.extend(usable.map(|socket| WireContact { id, socket }));
        }
        Ok(contacts)
    }

    /// As the answer to `find_value`.
    ///
    /// # Errors
    ///
    /// When it is neither a value nor a list of contacts.
    pub fn found(self) -> Result<Found, DecodeError> {
        let mut reader = Reader::new(self.0);
        match reader.next()? {
            Item::Array(_) => self.contacts().map(Found::Contacts),
            Item::Map(1) => match reader.next()? {
                Item::Text("value") => Ok(Found::Value(Value::read(reader.next()?))),
                _ => Err(DecodeError::Shape),
            },
            _ => Err(DecodeError::Shape),
        }
    }
}

/// The datagram of a request. A store without a value is written as one of nothing, which nobody takes.
pub fn encode_request(id: &WireId, call: &Call) -> Vec<u8> {
    let mut buffer = header(0, id);
    let mut writer = Writer(&mut buffer);
    writer.array(2);
    let (name, ids): (_, &[&WireId]) = match call {
        Call::Stun => ("stun", &[]),
        Call::Ping { node } => ("ping", &[node]),
        Call::Store { node, key, .. } => ("store", &[node, key]),
        Call::FindNode { node, key } => ("find_node", &[node, key]),
        Call::FindValue { node, key } => ("find_value", &[node, key]),
    };
    writer.text(name);
    writer.array(ids.len() + usize::from(matches!(call, Call::Store { .. })));
    ids.iter().for_each(|id| writer.bytes(*id));
    match call {
        Call::Store { value: Some(value), .. } => value.write(&mut buffer),
        Call::Store { value: None, .. } => writer.nil(),
        _ => {}
    }
    buffer
}

/// The datagram of a reply.
pub fn encode_reply(id: &WireId, reply: &Reply<'_>) -> Vec<u8> {
    let mut buffer = header(1, id);
    let mut writer = Writer(&mut buffer);
    match reply {
        Reply::Pong(node) => writer.bytes(node),
        Reply::Stored(kept) => writer.bool(*kept),
        Reply::Contacts(contacts) => {
            writer.array(contacts.len());
            for contact in *contacts {
                writer.array(3);
                writer.bytes(&contact.id);
                writer.address(contact.socket);
            }
        }
        Reply::Found(value) => {
            writer.map(1);
            writer.text("value");
            value.write(&mut buffer);
        }
        Reply::Address(socket) => {
            writer.array(2);
            writer.address(*socket);
        }
    }
    buffer
}

/// A reply with as many of the contacts as fit so many bytes.
pub fn encode_contacts(id: &WireId, contacts: &[WireContact], most: usize) -> Vec<u8> {
    let mut kept = contacts;
    loop {
        let datagram = encode_reply(id, &Reply::Contacts(kept));
        match kept.split_last() {
            Some((_, fewer)) if datagram.len() > most => kept = fewer,
            _ => return datagram,
        }
    }
}

fn header(kind: u8, id: &WireId) -> Vec<u8> {
    let mut buffer = Vec::with_capacity(128);
    buffer.push(kind);
    buffer.extend(id);
    buffer
}

impl Writer<'_> {
    fn address(&mut self, socket: SocketAddr) {
        self.text(&socket.ip().to_string());
        self.int(socket.port().into());
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
