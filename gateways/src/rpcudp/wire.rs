//! [`RpcUdp`]: from messages to the calls of the package, and back.
//!
//! What the package does not say is found out or remembered here: who answers ([`RpcUdp::greet`]), who is where they seem
//! to be ([`RpcUdp::reply`]), and how a store without a token becomes one with a token ([`RpcUdp::admit`]).

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::codec::{self, Body, Call, Datagram, DecodeError, Found, MAX_DATAGRAM_BYTES, Reply, WireContact, WireId};
use super::value::Value;
use crate::address::{self, IpTransport};
use crate::codec::SizeLimits;
use crate::contact::Contact;
use crate::count::Count;
use crate::foreign::{Effects, Now, Rate, Recent, Waiting, Wire, allowance};
use crate::gateway::{Inbound, Outbound, ReplyPath, UnsentReason};
use crate::id::{Id, KeySpace};
use crate::message::{self, Envelope, Expect, Message, NetworkId, Refusal, Request, Tag, Token};
use crate::record::{Author, Record, RecordKind, Version};

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

/// What this node asks.
impl RpcUdp {
    fn ask(
        &mut self,
        now: Now,
        to: SocketAddr,
        tag: Tag,
        request: &Request,
        out: &mut Effects,
    ) -> Result<(), UnsentReason> {
        let node = self.node();
        let (call, what) = match request {
            Request::Ping => (Call::Ping { node }, Question::Ping),
            Request::FindNode { target } => (Call::FindNode { node, key: wire_id(target)? }, Question::FindNode),
            Request::FindValue { key, after: None, .. } => {
                let key = wire_id(key)?;
                (Call::FindValue { node, key }, Question::FindValue(key))
            }
            Request::Store { key, record, expect: Expect::Anything, .. } if record.kind == RecordKind::Plain => {
                let key = wire_id(key)?;
                // It has shown a value since this record was written, and nobody can say which of them is newer. What a
                // reader believes must not overwrite what others may have written meanwhile.
                if self.seen.get(now.instant, &(to, key)).is_some_and(|seen| record.version < Version::at(*seen)) {
                    return Err(UnsentReason::Inexpressible);
                }
                let value = Value::from_bytes(&record.value).map_err(|_| UnsentReason::Inexpressible)?;
                (Call::Store { node, key, value: Some(value) }, Question::Store)
            }
            Request::FindValue { .. } | Request::Store { .. } => return Err(UnsentReason::Inexpressible),
        };
        self.call(now, to, Some(tag), &call, what, out)?;
        if what != Question::Ping && self.names.get(now.instant, &to).is_none() {
            self.greet(now, to, out);
        }
        Ok(())
    }

    fn call(
        &mut self,
        now: Now,
        to: SocketAddr,
        tag: Option<Tag>,
        call: &Call,
        what: Question,
        out: &mut Effects,
    ) -> Result<(), UnsentReason> {
        let id = self.fresh_id();
        let datagram = codec::encode_request(&id, call);
        if datagram.len() > MAX_DATAGRAM_BYTES {
            return Err(UnsentReason::TooLarge { limit: u32::try_from(codec::MAX_BODY_BYTES).unwrap_or(u32::MAX) });
        }
        self.asked.insert(now.instant, id, Asked { to, tag, what });
        out.datagrams.push((to, datagram));
        Ok(())
    }

    /// Pings an address to learn who is there: of all answers only that to a ping tells.
    fn greet(&mut self, now: Now, to: SocketAddr, out: &mut Effects) {
        if self.greeted.get(now.instant, &to).is_none() {
            self.greeted.insert(now.instant, to, ());
            // A ping is never too large.
            self.call(now, to, None, &Call::Ping { node: self.node() }, Question::Ping, out).ok();
        }
    }

    /// Takes a reply. It counts only if its request is open and went to that address, and once.
    fn answered(&mut self, now: Now, from: SocketAddr, id: &WireId, answer: codec::Answer<'_>, out: &mut Effects) {
        if self.asked.get(now.instant, id).is_none_or(|asked| asked.to != from) {
            return out.counts.push(Count::Unasked);
        }
        let Some(Asked { tag, what, .. }) = self.asked.take(now.instant, id) else { return };
        self.proved.insert(now.instant, from, ());
        let reply = match what {
            Question::Ping => answer.pong().map(|node| self.named(now, from, node, out)),
            Question::FindNode => answer.contacts().map(|contacts| found(contacts, None)),
            Question::FindValue(key) => answer.found().map(|answer| self.shown(now, from, key, answer, out)),
            Question::Store => answer.stored().map(|kept| match kept {
                true => message::Reply::Stored,
                // The package never says so, and other nodes of ours do not say why.
                false => message::Reply::Refused(Refusal::Limited),
            }),
        };
        match (reply, tag) {
            (Ok(reply), Some(tag)) => self.deliver_reply(now, from, tag, reply, out),
            (Ok(_), None) => {}
            (Err(error), _) => out.counts.push(count_of(error)),
        }
        for unproved in self.unproved.release(&from) {
            match unproved {
                Unproved::Reply { whole, .. } => out.datagrams.push((from, whole)),
                Unproved::Store { served, node, request } => self.store(now, served, node, request, out),
            }
        }
    }

    /// Somebody has said who they are.
    fn named(&mut self, now: Now, from: SocketAddr, node: WireId, out: &mut Effects) -> message::Reply {
        self.names.insert(now.instant, from, node);
        for (tag, reply) in self.unnamed.release(&from) {
            self.deliver_reply(now, from, tag, reply, out);
        }
        message::Reply::Pong
    }

    /// Somebody has shown a value, or named others.
    fn shown(&mut self, now: Now, from: SocketAddr, key: WireId, answer: Found, out: &mut Effects) -> message::Reply {
        let value = match answer {
            Found::Contacts(contacts) => return found(contacts, None),
            Found::Value(value) => value,
        };
        self.seen.insert(now.instant, (from, key), now.unix_milliseconds);
        if value.is_none() {
            out.counts.push(Count::Unserved);
        }
        found(Vec::new(), value.map(|value| Record::plain(value.to_bytes(), READ_VERSION, READ_LIFETIME)))
    }

    fn deliver_reply(&mut self, now: Now, from: SocketAddr, tag: Tag, reply: message::Reply, out: &mut Effects) {
        let Some(node) = self.names.get(now.instant, &from).copied() else {
            let bytes = match &reply {
                message::Reply::Found(found) => {
                    found.contacts.len() * 128 + found.records.iter().map(Record::bytes).sum::<usize>()
                }
                _ => 0,
            };
            let displaced = self.unnamed.push(now.instant, from, bytes, (tag, reply));
            out.counts.extend(displaced.iter().map(|_| Count::Unfinished));
            return self.greet(now, from, out);
        };
        let envelope = self.message(tag, Some(node), message::Body::Reply(reply));
        out.deliveries.push(Inbound { proved: true, ..Inbound::new(at(from), envelope) });
    }
}

/// What others ask.
impl RpcUdp {
    fn serve(&mut self, now: Now, from: SocketAddr, id: WireId, bytes: usize, call: Call, out: &mut Effects) {
        let served = |what| Served { to: from, id, bytes, what };
        let (node, request, served) = match call {
            // No matter of the node's. The answer has less than twice the bytes of the question.
            Call::Stun => return out.datagrams.push((from, codec::encode_reply(&id, &Reply::Address(from)))),
            Call::Store { value: None, .. } => {
                out.counts.push(Count::Unserved);
                return out.datagrams.push((from, codec::encode_reply(&id, &Reply::Stored(false))));
            }
            Call::Store { node, key, value: Some(value) } => {
                let number = self.next_number();
                let admission = Admission { served: served(Service::Store), node, key, value };
                self.admissions.insert(now.instant, number, admission);
                let request = Request::FindValue { key: Id::from_prefix(&key), after: None, proof: None };
                // In nobody's name, as it is not they who ask that: so they are not pinged for it.
                return self.deliver_request(from, number, Tag(number), None, request, out);
            }
            // The node of a client answers nobody, and who does not answer a ping is told little. So it has an answer to
            // a ping, but of another id each time: nobody takes it for a contact.
            Call::Ping { .. } if self.is_client => {
                let pong = Reply::Pong(self.fresh_id());
                return out.datagrams.push((from, codec::encode_reply(&id, &pong)));
            }
            Call::Ping { node } => (node, Request::Ping, served(Service::Ping)),
            Call::FindNode { node, key } => {
                (node, Request::FindNode { target: Id::from_prefix(&key) }, served(Service::Find))
            }
            Call::FindValue { node, key } => {
                let request = Request::FindValue { key: Id::from_prefix(&key), after: None, proof: None };
                (node, request, served(Service::Find))
            }
        };
        // Anybody could have written that address: nobody is given another name for that, but asked again for the own one.
        if self.names.get(now.instant, &from).is_some_and(|known| *known != node) {
            self.names.take(now.instant, &from);
        }
        let number = self.next_number();
        // A node that asks itself recognises its own tag.
        let tag = self.asked.get(now.instant, &id).and_then(|asked| asked.tag).unwrap_or(Tag(number));
        self.served.insert(now.instant, number, served);
        self.deliver_request(from, number, tag, Some(node), request, out);
    }

    fn next_number(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    /// To the node every address counts as proved: what is too much for one that is not waits here for its proof.
    fn deliver_request(
        &mut self,
        from: SocketAddr,
        number: u64,
        tag: Tag,
        sender: Option<WireId>,
        request: Request,
        out: &mut Effects,
    ) {
        let envelope = self.message(tag, sender, message::Body::Request(request));
        let inbound = Inbound { path: ReplyPath(number), proved: true, ..Inbound::new(at(from), envelope) };
        out.deliveries.push(inbound);
    }

    fn answer(
        &mut self,
        now: Now,
        path: Option<ReplyPath>,
        reply: &message::Reply,
        out: &mut Effects,
    ) -> Result<(), UnsentReason> {
        // An answer without its question has no form, as it has no id.
        let ReplyPath(number) = path.ok_or(UnsentReason::Inexpressible)?;
        if let Some(admission) = self.admissions.take(now.instant, &number) {
            return self.admit(now, admission, reply, out);
        }
        let served = self.served.take(now.instant, &number).ok_or(UnsentReason::Inexpressible)?;
        let id = served.id;
        let no_contacts: &[WireContact] = &[];
        match (served.what, reply) {
            (Service::Ping, message::Reply::Pong) => {
                let datagram = codec::encode_reply(&id, &Reply::Pong(self.node()));
                self.reply(now, &served, datagram, no_contacts, out);
            }
            (Service::Store, message::Reply::Stored | message::Reply::Refused(_)) => {
                let kept = *reply == message::Reply::Stored;
                self.reply(now, &served, codec::encode_reply(&id, &Reply::Stored(kept)), no_contacts, out);
            }
            (Service::Find, message::Reply::Found(found)) => {
                let contacts = nameable(&found.contacts, served.to);
                let value = found.records.iter().find_map(value_of);
                let with_value = value.map(|value| codec::encode_reply(&id, &Reply::Found(&value)));
                let datagram = with_value
                    .filter(|datagram| datagram.len() <= MAX_DATAGRAM_BYTES)
                    .unwrap_or_else(|| codec::encode_contacts(&id, &contacts, MAX_DATAGRAM_BYTES));
                self.reply(now, &served, datagram, &contacts, out);
            }
            _ => return Err(UnsentReason::Inexpressible),
        }
        Ok(())
    }

    /// Answers. What is too long for an address that is not proved waits until it has answered a ping; if it does not, as
    /// many contacts as may be are all that it gets.
    fn reply(&mut self, now: Now, served: &Served, whole: Vec<u8>, contacts: &[WireContact], out: &mut Effects) {
        let is_proved = self.proved.get(now.instant, &served.to).is_some();
        if is_proved || whole.len() <= allowance(served.bytes, PROBES_BYTES) {
            return out.datagrams.push((served.to, whole));
        }
        let most = allowance(served.bytes, PROBES_BYTES + PING_BYTES);
        let short = codec::encode_contacts(&served.id, contacts, most);
        let bytes = whole.len() + short.len();
        let displaced = self.unproved.push(now.instant, served.to, bytes, Unproved::Reply { whole, short });
        self.greet(now, served.to, out);
        displaced.into_iter().for_each(|(to, displaced)| give_up(to, displaced, out));
    }

    /// The node has said what it holds under a key that somebody wants to store, and given its leave, the token. This is no
    /// answer for anybody: the store itself follows, once the address is proved.
    fn admit(
        &mut self,
        now: Now,
        admission: Admission,
        reply: &message::Reply,
        out: &mut Effects,
    ) -> Result<(), UnsentReason> {
        let Admission { served, node, key, value } = admission;
        let message::Reply::Found(found) = reply else { return Err(UnsentReason::Inexpressible) };
        let value = value.to_bytes();
        let is_same = |record: &&Record| record.author() == Author::Any && record.value == value;
        let held = found.records.iter().filter(|record| record.kind == RecordKind::Plain).find(is_same);
        // The last writer wins here, whatever the clocks say. What is held already is not written, but lives longer.
        let written = || Version::at(now.unix_milliseconds).max(found.held.map_or(Version(0), Version::next));
        let version = held.map_or_else(written, |held| held.version);
        let record = Record::plain(value, version, STORED_LIFETIME);
        let bytes = record.bytes();
        let request =
            Request::Store { key: Id::from_prefix(&key), record, token: found.token, expect: Expect::Anything };
        if self.proved.get(now.instant, &served.to).is_some() {
            self.store(now, served, node, request, out);
        } else {
            let to = served.to;
            let waits = Unproved::Store { served, node, request };
            let displaced = self.unproved.push(now.instant, to, bytes, waits);
            self.greet(now, to, out);
            displaced.into_iter().for_each(|(to, displaced)| give_up(to, displaced, out));
        }
        Ok(())
    }

    fn store(&mut self, now: Now, served: Served, node: WireId, request: Request, out: &mut Effects) {
        if !self.stores.allow(now.instant, served.to.ip()) {
            out.counts.push(Count::Limited);
            return out.datagrams.push((served.to, codec::encode_reply(&served.id, &Reply::Stored(false))));
        }
        let (number, to) = (self.next_number(), served.to);
        self.served.insert(now.instant, number, served);
        self.deliver_request(to, number, Tag(number), Some(node), request, out);
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
#[path = "wire_tests.rs"]
mod tests;
