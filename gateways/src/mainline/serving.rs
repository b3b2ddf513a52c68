//! What others ask this node, and what it answers.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use sha1::{Digest, Sha1};

use super::compact::Node;
use super::krpc::{self, Body, Failure, Item, Message, Mutable, Query, Samples, Want, code};
use super::peers::Sample;
use super::wire::MainlineWire;
use crate::address::{self, IpTransport};
use crate::count::Count;
use crate::foreign::{Effects, Now};
use crate::gateway::{Inbound, UnsentReason};
use crate::id::Id;
use crate::message::{self, Expect, Found, Refusal, Reply, Request, Tag, Token};
use crate::record::{Record, RecordKind, Signed, Version};

/// Nodes in an answer (BEP 5).
const K: usize = 8;

/// The longest salt (BEP 44).
const MAX_SALT_BYTES: usize = 64;

/// How long an item is kept that nobody writes again (BEP 44).
const ITEMS_LAST: Duration = Duration::from_secs(2 * 60 * 60);

/// The most peers, and the most keys of peers, in an answer.
const MAX_PEERS: usize = 50;
const MAX_SAMPLES: usize = 20;

/// A query of another node that this one is to answer.
#[derive(Debug)]
pub(super) struct Served {
    from: SocketAddr,
    transaction: Bytes,
    /// The most bytes of the answer.
    limit: usize,
    what: What,
}

#[derive(Debug)]
enum What {
    /// Nothing but who answers.
    Name,
    Nodes(Want),
    Peers(Id, Want),
    Item {
        newer_than: Option<i64>,
        want: Want,
    },
    Samples(Want),
}

impl MainlineWire {
    /// Has the node answer a query. `pings` have been sent to its address already.
    pub(super) fn serve(
        &mut self,
        now: Now,
        from: SocketAddr,
        bytes: usize,
        pings: usize,
        message: Message,
        out: &mut Effects,
    ) {
        let Message { transaction, read_only, body, .. } = message;
        let Body::Query { sender, query } = body else { return };
        // Who is not to be in a table is not named to the core, which would ask it back.
        let sender = Some(sender).filter(|_| !read_only);
        let pings = pings + if sender.is_some() { 2 } else { 0 };
        let limit = self.limit(now, &from, bytes, pings);
        let (what, request) = match self.understand(now, from, query) {
            Ok(understood) => understood,
            Err((code, text)) => {
                out.counts.push(if code == code::SERVER { Count::Limited } else { Count::Unserved });
                let failure = Failure { code, text: text.to_owned() };
                self.refuse(from, limit, transaction, failure, out);
                return;
            }
        };
        let tag = Tag(self.next_random());
        self.served.insert(now.instant, tag, Served { from, transaction, limit, what });
        let envelope = self.message(tag, sender, message::Body::Request(request));
        let mut inbound = Inbound::new(address::ip_address(from, IpTransport::Udp), envelope);
        inbound.proved = self.is_proved(now, &from);
        out.deliveries.push(inbound);
    }

    /// What the node is asked for that, or why it is not.
    fn understand(&mut self, now: Now, from: SocketAddr, query: Query) -> Result<(What, Request), (i64, &'static str)> {
        Ok(match query {
            Query::Ping => (What::Name, Request::Ping),
            Query::FindNode { target, want } => (What::Nodes(want), Request::FindNode { target }),
            Query::GetPeers { info_hash, want } => {
                (What::Peers(info_hash, want), Request::FindNode { target: info_hash })
            }
            Query::AnnouncePeer { info_hash, port, token } => {
                if !self.tokens.is_good(now.instant, from.ip(), &info_hash, &token) {
                    return Err((code::PROTOCOL, "bad token"));
                }
                self.allow_store(now, from)?;
                let port = port.unwrap_or(from.port());
                self.handle.announced_here(now.instant, info_hash, SocketAddr::new(from.ip(), port));
                (What::Name, Request::Ping)
            }
            Query::Get { target, sequence, want } => {
                let request = Request::FindValue { key: target, after: None, proof: None };
                (What::Item { newer_than: sequence, want }, request)
            }
            Query::Put { token, item, expected, .. } => {
                self.allow_store(now, from)?;
                (What::Name, store(&token, item, expected)?)
            }
            Query::SampleInfohashes { target, want } => (What::Samples(want), Request::FindNode { target }),
        })
    }

    fn allow_store(&mut self, now: Now, from: SocketAddr) -> Result<(), (i64, &'static str)> {
        if self.stores.allow(now.instant, from.ip()) { Ok(()) } else { Err((code::SERVER, "too many at once")) }
    }

    /// The bytes of this node's answer.
    pub(super) fn reply(&mut self, now: Now, tag: Tag, own: Id, reply: &Reply) -> Result<Vec<u8>, UnsentReason> {
        let served = self.served.take(now.instant, &tag).ok_or(UnsentReason::Inexpressible)?;
        let Served { from, transaction, limit, what } = served;
        let found = match reply {
            Reply::Refused(refusal) => {
                let mut out = Effects::default();
                self.refuse(from, limit, transaction, failure_of(*refusal), &mut out);
                let datagram = out.datagrams.pop().map(|(_, bytes)| bytes);
                return datagram.ok_or(UnsentReason::TooLarge { limit: limit as u32 });
            }
            Reply::Found(found) => Some(found),
            Reply::Pong | Reply::Stored => None,
        };
        let mut response = self.respond(now, from, own, &what, found);
        loop {
            let bytes = self.answer(now, from, transaction.clone(), response.clone());
            let bytes = bytes.ok_or(UnsentReason::Inexpressible)?;
            if bytes.len() <= limit {
                return Ok(bytes);
            }
            // The farthest nodes are the least loss.
            let is_less = response.nodes.pop().is_some()
                || response.peers.pop().is_some()
                || response.samples.as_mut().is_some_and(|samples| samples.info_hashes.pop().is_some())
                || response.item.take().is_some();
            if !is_less {
                return Err(UnsentReason::TooLarge { limit: limit as u32 });
            }
        }
    }

    fn respond(&self, now: Now, to: SocketAddr, own: Id, what: &What, found: Option<&Found>) -> krpc::Response {
        let mut response = krpc::Response::of(own);
        let Some(found) = found else { return response };
        let mut nodes = |want| response.nodes = nodes_of(found, want, to.is_ipv4());
        match *what {
            What::Name => {}
            What::Nodes(want) => nodes(want),
            What::Peers(info_hash, want) => {
                nodes(want);
                response.token = Some(Bytes::copy_from_slice(&self.tokens.make(now.instant, to.ip(), &info_hash)));
                response.peers = self.handle.known_peers(now.instant, &info_hash, MAX_PEERS);
            }
            What::Item { newer_than, want } => {
                nodes(want);
                response.token = Some(Bytes::copy_from_slice(&found.token.0.to_be_bytes()));
                let item = found.records.iter().find_map(item_of);
                response.sequence = item.as_ref().and_then(|item| Some(item.mutable.as_ref()?.sequence));
                // An immutable one has no number to compare.
                response.item = item.filter(|_| response.sequence.is_none() || newer_than < response.sequence);
            }
            What::Samples(want) => {
                nodes(want);
                let Sample { keys, total, lasts } = self.handle.sample(now.instant, MAX_SAMPLES);
                let interval = u32::try_from(lasts.as_secs()).unwrap_or(u32::MAX);
                response.samples = Some(Samples { interval, total: total as u64, info_hashes: keys });
            }
        }
        response
    }
}

/// The contacts in an answer that are of the kinds that are wanted; if nothing was said, of that of whoever asks.
fn nodes_of(found: &Found, want: Want, is_v4: bool) -> Vec<Node> {
    let want = if want == Want::default() { Want { v4: is_v4, v6: !is_v4 } } else { want };
    let node = |contact: &crate::contact::Contact| {
        let (address, transport) = address::socket_addr(contact.address())?;
        let is_wanted = if address.is_ipv4() { want.v4 } else { want.v6 };
        (is_wanted && transport == IpTransport::Udp).then_some((contact.id(), address))
    };
    found.contacts.iter().filter_map(node).take(K).collect()
}

fn item_of(record: &Record) -> Option<Item> {
    let mutable = match &record.kind {
        RecordKind::Immutable => None,
        RecordKind::Signed(signed) => Some(Mutable {
            public_key: signed.public_key,
            salt: Bytes::new(),
            sequence: i64::try_from(record.version.0).ok()?,
            signature: signed.signature,
        }),
        _ => return None,
    };
    Some(Item { value: record.value.clone(), mutable })
}

/// The request that has an item kept.
fn store(token: &[u8], item: Item, expected: Option<i64>) -> Result<Request, (i64, &'static str)> {
    let token = Token(u64::from_be_bytes(token.try_into().map_err(|_| (code::PROTOCOL, "bad token"))?));
    let version_of =
        |sequence: i64| u64::try_from(sequence).map(Version).map_err(|_| (code::PROTOCOL, "negative number"));
    let (key, version, kind) = match item.mutable {
        None => (hash(&[&item.value]), Version::default(), RecordKind::Immutable),
        Some(Mutable { salt, .. }) if salt.len() > MAX_SALT_BYTES => {
            return Err((code::SALT_TOO_LARGE, "salt too large"));
        }
        Some(Mutable { public_key, salt, sequence, signature }) => {
            let key = hash(&[&public_key, &salt]);
            (key, version_of(sequence)?, RecordKind::Signed(Box::new(Signed { public_key, salt, signature })))
        }
    };
    let expect = match expected {
        Some(expected) => Expect::Version(version_of(expected)?),
        None => Expect::Anything,
    };
    let record = Record::new(kind, item.value, version, ITEMS_LAST);
    Ok(Request::Store { key, record, token, expect })
}

fn hash(parts: &[&[u8]]) -> Id {
    let mut hasher = Sha1::new();
    parts.iter().for_each(|part| hasher.update(part));
    Id::from_prefix(&hasher.finalize())
}

fn failure_of(refusal: Refusal) -> Failure {
    let code = match refusal {
        Refusal::Token | Refusal::Expired | Refusal::Late => code::PROTOCOL,
        Refusal::Older { .. } => code::SEQUENCE_TOO_LOW,
        Refusal::Conflict { .. } => code::OTHER_EXPECTED,
        Refusal::TooLarge { .. } => code::VALUE_TOO_LARGE,
        Refusal::Forged | Refusal::Taken => code::BAD_SIGNATURE,
        Refusal::Full | Refusal::Limited | Refusal::NoRule | Refusal::Rule { .. } => code::SERVER,
    };
    Failure { code, text: refusal.to_string() }
}
