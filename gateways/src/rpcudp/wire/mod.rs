//! [`RpcUdp`]: from messages to the calls of the package, and back.
//!
//! What the package does not say is found out or remembered here: who answers ([`RpcUdp::greet`]), who is where they seem
//! to be ([`Unproved`]), and how a store without a token becomes one with a token ([`Admission`]).

mod asking;
mod serving;

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::codec::{self, Body, Datagram, DecodeError, MAX_DATAGRAM_BYTES, WireContact, WireId};
use super::value::Value;
use crate::address::{self, IpTransport};
use crate::codec::SizeLimits;
use crate::contact::Contact;
use crate::count::Count;
use crate::foreign::{Effects, Now, Rate, Recent, Waiting, Wire};
use crate::gateway::{Outbound, UnsentReason};
use crate::id::{Id, KeySpace};
use crate::message::{self, Envelope, Message, NetworkId, Request, Tag, Token};
use crate::record::{Record, RecordKind, Version};

/// The version of all that is read from others, as the wire has none. Any version that is not made up is newer.
const READ_VERSION: Version = Version(1);

/// How long what is read may be kept elsewhere. The wire does not say how long it has left.
const READ_LIFETIME: Duration = Duration::from_secs(3600);

/// How long the package keeps what is stored. A node keeps nothing for longer than its own `record_lifetime`.
const STORED_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);

/// A request may take so long at most, whatever a node has been told.
const ASKED_LASTS: Duration = Duration::from_secs(60);
/// A node answers at once or never.
const SERVED_LASTS: Duration = Duration::from_secs(10);
/// How long an answer shows who is at an address.
const PROOF_LASTS: Duration = Duration::from_secs(20 * 60);
/// A gateway's own ping is not repeated within this time.
const GREETING_LASTS: Duration = Duration::from_millis(100);
/// How long something waits for an answer to a ping. The package itself waits five seconds for an answer.
const WAIT: Duration = Duration::from_secs(2);
/// How long it is remembered that a node has shown what it holds.
const SEEN_LASTS: Duration = Duration::from_secs(600);

/// How many requests, answers and addresses are remembered at most.
const MAX_REMEMBERED: usize = 8192;
/// How many values wait for the node's leave to be stored.
const MAX_ADMISSIONS: usize = 512;

/// The bytes of a ping on this wire.
pub(super) const PING_BYTES: usize = 50;

/// What a node may send because of one request, beyond the answer: two pings to whoever shows an id.
const PROBES_BYTES: usize = 2 * PING_BYTES;

/// A request of this node that is open.
#[derive(Debug)]
struct Asked {
    to: SocketAddr,
    /// `None` for a ping of the gateway's own.
    tag: Option<Tag>,
    what: Question,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Question {
    Ping,
    FindNode,
    FindValue(WireId),
    Store,
}

/// A request of another node that the node has not answered yet.
#[derive(Debug)]
struct Served {
    to: SocketAddr,
    id: WireId,
    /// How many bytes it had.
    bytes: usize,
    what: Service,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Service {
    Ping,
    Find,
    Store,
}

/// A value that another node wants stored.
#[derive(Debug)]
struct Admission {
    served: Served,
    node: WireId,
    key: WireId,
    value: Value,
}

/// What waits until an address has shown that somebody is there.
#[derive(Debug)]
enum Unproved {
    /// An answer, and what is left of it for an address that is not proved.
    Reply { whole: Vec<u8>, short: Vec<u8> },
    /// A store.
    Store { served: Served, node: WireId, request: Request },
}

/// The state of the translation.
#[derive(Debug)]
pub(super) struct RpcUdp {
    network: NetworkId,
    /// The node's id, once it has shown it.
    node: Option<WireId>,
    /// What stands for it until then, and always if it is a client: the wire has no message without an id.
    spare: WireId,
    is_client: bool,
    random: RandomState,
    made: u64,
    asked: Recent<WireId, Asked>,
    served: Recent<u64, Served>,
    admissions: Recent<u64, Admission>,
    /// Who answered a ping at an address.
    names: Recent<SocketAddr, WireId>,
    /// Where somebody answered.
    proved: Recent<SocketAddr, ()>,
    /// Where a ping of the gateway's own is on its way.
    greeted: Recent<SocketAddr, ()>,
    unproved: Waiting<Unproved>,
    /// Answers of those of whom it is not known who they are.
    unnamed: Waiting<(Tag, message::Reply)>,
    /// When somebody showed the value that they hold, in milliseconds since 1970.
    seen: Recent<(SocketAddr, WireId), u64>,
    stores: Rate,
}

impl RpcUdp {
    pub(super) fn new() -> Self {
        let mut wire = RpcUdp {
            network: NetworkId::default(),
            node: None,
            spare: [0; codec::ID_BYTES],
            is_client: false,
            random: RandomState::new(),
            made: 0,
            asked: Recent::new(MAX_REMEMBERED, ASKED_LASTS),
            served: Recent::new(MAX_REMEMBERED, SERVED_LASTS),
            admissions: Recent::new(MAX_ADMISSIONS, SERVED_LASTS),
            names: Recent::new(MAX_REMEMBERED, PROOF_LASTS),
            proved: Recent::new(MAX_REMEMBERED, PROOF_LASTS),
            greeted: Recent::new(MAX_REMEMBERED, GREETING_LASTS),
            unproved: Waiting::new(WAIT),
            unnamed: Waiting::new(WAIT),
            seen: Recent::new(MAX_REMEMBERED, SEEN_LASTS),
            stores: Rate::new(super::STORES_PER_SECOND, super::STORES_AT_ONCE),
        };
        wire.spare = wire.fresh_id();
        wire
    }

    pub(super) fn set_network(&mut self, network: NetworkId) {
        self.network = network;
    }

    pub(super) fn set_store_limit(&mut self, per_second: u32, at_once: u32) {
        self.stores = Rate::new(per_second, at_once);
    }

    /// An id that nobody else has and nobody can guess.
    fn fresh_id(&mut self) -> WireId {
        let mut id = [0; codec::ID_BYTES];
        for part in id.chunks_mut(8) {
            self.made += 1;
            let random = self.random.hash_one(self.made).to_le_bytes();
            part.iter_mut().zip(random).for_each(|(byte, random)| *byte = random);
        }
        id
    }

    fn node(&self) -> WireId {
        self.node.unwrap_or(self.spare)
    }

    fn message(&self, tag: Tag, sender: Option<WireId>, body: message::Body) -> Envelope {
        let sender = sender.map(|id| Id::from_prefix(&id));
        Envelope::Direct(Message { network: self.network, tag, sender, also: Vec::new(), body })
    }
}

impl Wire for RpcUdp {
    const NAME: &'static str = "rpcudp";
    const RECEIVE_BYTES: usize = MAX_DATAGRAM_BYTES + 1;
    const LIMITS: SizeLimits = SizeLimits { preferred: codec::MAX_BODY_BYTES, largest: codec::MAX_BODY_BYTES };

    fn send(&mut self, now: Now, to: SocketAddr, outbound: &Outbound, out: &mut Effects) -> Result<(), UnsentReason> {
        let message = match &outbound.envelope {
            Envelope::Direct(message) if message.network == self.network => message,
            _ => return Err(UnsentReason::Inexpressible),
        };
        match &message.sender {
            Some(id) => self.node = Some(wire_id(id)?),
            None => self.is_client = true,
        }
        match &message.body {
            message::Body::Request(request) => self.ask(now, to, message.tag, request, out),
            message::Body::Reply(reply) => self.answer(now, outbound.path, reply, out),
        }
    }

    fn receive(&mut self, now: Now, from: SocketAddr, datagram: &[u8], out: &mut Effects) {
        match codec::decode(datagram) {
            Ok(Datagram { id, body: Body::Request(call) }) => self.serve(now, from, id, datagram.len(), call, out),
            Ok(Datagram { id, body: Body::Reply(answer) }) => self.answered(now, from, &id, answer, out),
            Err(error) => {
                log::trace!("from {from}: {error}");
                out.counts.push(count_of(error));
            }
        }
    }

    fn due(&self) -> Option<Instant> {
        self.unproved.due().into_iter().chain(self.unnamed.due()).min()
    }

    fn tick(&mut self, now: Now, out: &mut Effects) {
        for (to, unproved) in self.unproved.expire(now.instant) {
            give_up(to, unproved, out);
        }
        let unnamed = self.unnamed.expire(now.instant);
        out.counts.extend(unnamed.iter().map(|_| Count::Unfinished));
    }
}

/// An address has not answered in time, or another has taken its place.
fn give_up(to: SocketAddr, unproved: Unproved, out: &mut Effects) {
    match unproved {
        Unproved::Reply { short, .. } => out.datagrams.push((to, short)),
        Unproved::Store { .. } => out.counts.push(Count::Unfinished),
    }
}

fn count_of(error: DecodeError) -> Count {
    match error {
        DecodeError::TooLarge => Count::Oversized,
        DecodeError::Kind(_) => Count::OtherVersion,
        DecodeError::UnknownCall => Count::Unserved,
        _ => Count::Malformed,
    }
}

fn at(socket: SocketAddr) -> crate::Multiaddr {
    address::ip_address(socket, IpTransport::Udp)
}

/// The id as it is on this wire, if it has no more than 20 bytes.
fn wire_id(id: &Id) -> Result<WireId, UnsentReason> {
    let first = id.as_bytes().first_chunk().filter(|_| KeySpace::SHA1.contains(id));
    first.copied().ok_or(UnsentReason::Inexpressible)
}

/// An answer of another node, as the node would have it. It has no use for tokens.
fn found(contacts: Vec<WireContact>, record: Option<Record>) -> message::Reply {
    let contact = |contact: WireContact| Contact::new(Id::from_prefix(&contact.id), at(contact.socket));
    message::Reply::Found(message::Found {
        held: record.as_ref().map(|record| record.version),
        records: record.into_iter().collect(),
        more: false,
        contacts: contacts.into_iter().map(contact).collect(),
        token: Token(0),
    })
}

/// The contacts that can be named on this wire, where an address is an IP and a port. What is on this host alone is named
/// only to who is on it.
fn nameable(contacts: &[Contact], to: SocketAddr) -> Vec<WireContact> {
    let named = |contact: &Contact| {
        let id = wire_id(&contact.id()).ok()?;
        let sockets = contact.addresses().filter_map(address::socket_addr);
        let means_something = |socket: &SocketAddr| to.ip().is_loopback() || !socket.ip().is_loopback();
        let mut sockets = sockets.filter(|(socket, kind)| *kind == IpTransport::Udp && means_something(socket));
        sockets.next().map(|(socket, _)| WireContact { id, socket })
    };
    contacts.iter().filter_map(named).collect()
}

/// The value of a plain record, if it is one of the package's types.
fn value_of(record: &Record) -> Option<Value> {
    let plain = Some(record).filter(|record| record.kind == RecordKind::Plain)?;
    Value::from_bytes(&plain.value).ok()
}

#[cfg(test)]
mod tests;
