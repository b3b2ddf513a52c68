//! What this node asks others, and what they answer.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::compact::Node;
use super::krpc::{self, Failure, Item, Mutable, Query, Want};
use super::putting::refusal_of;
use super::security::{is_global, is_sound};
use super::wire::{ITEMS_LAST, MainlineWire};
use crate::address::{self, IpTransport};
use crate::contact::Contact;
use crate::count::Count;
use crate::foreign::{Effects, Now, Recent};
use crate::gateway::{Inbound, UnsentReason};
use crate::id::Id;
use crate::message::{self, Expect, Found, Refusal, Reply, Request, Tag, Token};
use crate::record::{Record, RecordKind, Signed, Version};

/// An item that was read may be kept so long: nobody tells how much of its time it has left.
const READ_LASTS: Duration = Duration::from_secs(60 * 60);

/// The most contacts that are taken from one answer. Eight is what all give.
const MAX_NODES: usize = 32;

/// How many tokens of others are remembered, and for how long.
const MAX_TOKENS: usize = 16_384;
const TOKENS_LAST: Duration = Duration::from_secs(15 * 60);

/// A query of the node that waits for its answer.
#[derive(Debug)]
pub(super) struct Asked {
    to: SocketAddr,
    tag: Tag,
    what: What,
}

#[derive(Debug)]
enum What {
    Ping,
    Nodes,
    Peers(Id),
    Item(Id),
    /// A token, to write this with.
    Permission(Box<Query>),
    /// With the id of whoever gave the token, as a refusal does not tell who refuses.
    Write(Id),
}

/// What another node gave with an answer.
#[derive(Debug)]
struct TheirToken {
    from: SocketAddr,
    owner: Id,
    token: Bytes,
}

/// The tokens of others, by the numbers that the node has for them.
#[derive(Debug)]
pub(super) struct Theirs(Recent<u64, TheirToken>);

impl Theirs {
    pub(super) fn new() -> Self {
        Theirs(Recent::new(MAX_TOKENS, TOKENS_LAST))
    }
}

impl MainlineWire {
    /// The bytes of a request of this node.
    pub(super) fn request(
        &mut self,
        now: Now,
        to: SocketAddr,
        tag: Tag,
        request: &Request,
    ) -> Result<Vec<u8>, UnsentReason> {
        let (what, query) = match request {
            Request::Ping => (What::Ping, Query::Ping),
            Request::FindNode { target } => (What::Nodes, Query::FindNode { target: *target, want: self.wanted() }),
            Request::FindValue { after: Some(_), .. } => return Err(UnsentReason::Inexpressible),
            Request::FindValue { key, .. } if self.handle.is_of_peers(key) => (What::Peers(*key), self.find_query(key)),
            Request::FindValue { key, .. } => (What::Item(*key), self.find_query(key)),
            Request::Store { key, record, token, expect } => {
                let theirs = self.theirs.0.get(now.instant, &token.0).filter(|theirs| theirs.from == to);
                let with = |token: &Bytes| self.write_query(key, record, *expect, token.clone());
                match theirs {
                    Some(TheirToken { owner, token, .. }) => (What::Write(*owner), with(token)?),
                    // Who is asked for nodes alone gives none.
                    None => (What::Permission(Box::new(with(&Bytes::new())?)), self.find_query(key)),
                }
            }
        };
        self.ask(now, to, Asked { to, tag, what }, query).ok_or(UnsentReason::Inexpressible)
    }

    fn wanted(&self) -> Want {
        Want { v4: self.is_v4, v6: !self.is_v4 }
    }

    /// The query for what is under a key.
    fn find_query(&self, key: &Id) -> Query {
        let want = self.wanted();
        if self.handle.is_of_peers(key) {
            Query::GetPeers { info_hash: *key, want }
        } else {
            Query::Get { target: *key, sequence: None, want }
        }
    }

    /// The query that has a record kept.
    fn write_query(&self, key: &Id, record: &Record, expect: Expect, token: Bytes) -> Result<Query, UnsentReason> {
        let mutable = match &record.kind {
            RecordKind::Plain => {
                let port = self.handle.announced(key).ok_or(UnsentReason::Inexpressible)?;
                return Ok(Query::AnnouncePeer { info_hash: *key, port, token });
            }
            RecordKind::Immutable => None,
            RecordKind::Signed(signed) => Some(Mutable {
                public_key: signed.public_key,
                salt: signed.salt.clone(),
                sequence: i64::try_from(record.version.0).map_err(|_| UnsentReason::Inexpressible)?,
                signature: signed.signature,
            }),
            _ => return Err(UnsentReason::Inexpressible),
        };
        // It would live there for as long again: and nobody passes on what others have written, or nothing would ever end.
        if u64::from(record.remaining) * 10 < ITEMS_LAST.as_secs() * 9 {
            return Err(UnsentReason::Inexpressible);
        }
        let expected = match expect {
            Expect::Anything => None,
            Expect::Version(version) if mutable.is_some() => i64::try_from(version.0).ok(),
            _ => return Err(UnsentReason::Inexpressible),
        };
        Ok(Query::Put { target: Some(*key), token, item: Item { value: record.value.clone(), mutable }, expected })
    }

    /// The open query that an answer is to, if it came from whom it went to.
    fn answered(&mut self, now: Now, from: SocketAddr, transaction: &[u8]) -> Option<Asked> {
        let transaction = transaction.try_into().ok()?;
        self.asked.get(now.instant, &transaction).filter(|asked| asked.to == from)?;
        self.asked.take(now.instant, &transaction)
    }

    /// Takes an answer.
    pub(super) fn response(
        &mut self,
        now: Now,
        from: SocketAddr,
        transaction: &[u8],
        seen_at: Option<SocketAddr>,
        response: krpc::Response,
        out: &mut Effects,
    ) {
        let sender = response.sender;
        if self.was_asked_back(now, from, transaction) {
            let is_known = self.proved.id(now.instant, &from) == Some(sender);
            let is_named = self.prove(now, from, Some(sender), out);
            if !is_known && !is_named {
                self.introduce(now, from, sender, out);
            }
            return;
        }
        let Some(Asked { tag, what, .. }) = self.answered(now, from, transaction) else {
            return out.counts.push(Count::Unasked);
        };
        self.prove(now, from, Some(sender), out);
        // Whom the gateway asks back by itself has chosen to be asked, and would have as many votes as it likes.
        let seen_at = seen_at.filter(|seen_at| seen_at.is_ipv4() == self.is_v4 && is_sound(&sender, from.ip()));
        if let Some(seen_at) = seen_at {
            out.deferred.extend(self.handle.vote(now.instant, from.ip(), seen_at.ip()));
        }
        let reply = match what {
            What::Permission(query) => match response.token {
                Some(token) => {
                    let asked = Asked { to: from, tag, what: What::Write(sender) };
                    let bytes = self.ask(now, from, asked, with_token(*query, token));
                    return out.datagrams.extend(bytes.map(|bytes| (from, bytes)));
                }
                None => Reply::Refused(Refusal::Token),
            },
            What::Ping => Reply::Pong,
            What::Write(_) => Reply::Stored,
            What::Nodes => Reply::Found(self.found(now, from, None, response, out)),
            What::Item(key) => {
                let record = response.item.clone().and_then(|item| self.record(&key, item));
                Reply::Found(self.found(now, from, record, response, out))
            }
            What::Peers(info_hash) => {
                let peers: Vec<_> = response.peers.iter().copied().filter(|peer| is_placed(from, *peer, out)).collect();
                self.handle.found(&info_hash, &peers);
                Reply::Found(self.found(now, from, None, response, out))
            }
        };
        self.deliver_reply(from, tag, sender, reply, out);
    }

    /// Takes a failure, which shows that somebody is there as an answer does. The node is told at once, if it is known whom it
    /// has asked: a failure does not say that.
    pub(super) fn failure(
        &mut self,
        now: Now,
        from: SocketAddr,
        transaction: &[u8],
        failure: &Failure,
        out: &mut Effects,
    ) {
        log::trace!("{from} says {}: {}", failure.code, failure.text);
        if self.was_asked_back(now, from, transaction) {
            self.prove(now, from, None, out);
            return;
        }
        let Some(Asked { tag, what, .. }) = self.answered(now, from, transaction) else {
            return out.counts.push(Count::Unasked);
        };
        self.prove(now, from, None, out);
        let (owner, refusal) = match what {
            What::Write(owner) => (Some(owner), refusal_of(failure.code)),
            _ => (self.proved.id(now.instant, &from), Refusal::Limited),
        };
        if let Some(owner) = owner {
            self.deliver_reply(from, tag, owner, Reply::Refused(refusal), out);
        }
    }

    /// Whether this answers by what the gateway asked back whoever is there.
    fn was_asked_back(&mut self, now: Now, from: SocketAddr, transaction: &[u8]) -> bool {
        let Ok(transaction) = transaction.try_into() else { return false };
        let is_answer = self.asked_back.get(now.instant, &transaction).is_some_and(|to| *to == from);
        is_answer && self.asked_back.take(now.instant, &transaction).is_some()
    }

    fn deliver_reply(&self, from: SocketAddr, tag: Tag, sender: Id, reply: Reply, out: &mut Effects) {
        let envelope = self.message(tag, Some(sender), message::Body::Reply(reply));
        let mut inbound = Inbound::new(address::ip_address(from, IpTransport::Udp), envelope);
        inbound.proved = true;
        out.deliveries.push(inbound);
    }

    /// What an answer says of a key, with a number for its token.
    fn found(
        &mut self,
        now: Now,
        from: SocketAddr,
        record: Option<Record>,
        response: krpc::Response,
        out: &mut Effects,
    ) -> Found {
        let number = self.next_random();
        if let Some(token) = response.token {
            self.theirs.0.insert(now.instant, number, TheirToken { from, owner: response.sender, token });
        }
        let mut is_usable = |(id, address): &&Node| {
            address.is_ipv4() == self.is_v4 && *id != self.own && is_placed(from, *address, out)
        };
        let nodes = response.nodes.iter().take(MAX_NODES).filter(|node| is_usable(node));
        let contact = |(id, address): &Node| Contact::new(*id, address::ip_address(*address, IpTransport::Udp));
        Found {
            held: record.as_ref().map(|record| record.version),
            records: record.into_iter().collect(),
            more: false,
            contacts: nodes.map(contact).collect(),
            token: Token(number),
        }
    }

    /// The record that an item is under this key. That it may be there is checked by whoever reads it.
    fn record(&self, key: &Id, item: Item) -> Option<Record> {
        let Some(mutable) = item.mutable else {
            return Some(Record::new(RecordKind::Immutable, item.value, Version::default(), READ_LASTS));
        };
        let version = Version(u64::try_from(mutable.sequence).ok()?);
        let salt = self.handle.salt(key).unwrap_or_default();
        let signed = Signed { public_key: mutable.public_key, salt, signature: mutable.signature };
        Some(Record::new(RecordKind::Signed(Box::new(signed)), item.value, version, READ_LASTS))
    }
}

/// Whether somebody can be at an address that was named from another one. Who is far away knows nobody in a local network here,
/// and could have any host there asked.
fn is_placed(informant: SocketAddr, named: SocketAddr, out: &mut Effects) -> bool {
    let is_placed = is_global(named.ip()) || !is_global(informant.ip());
    if !is_placed {
        out.counts.push(Count::Misplaced);
    }
    is_placed
}

/// What waited for a token.
fn with_token(mut query: Query, given: Bytes) -> Query {
    if let Query::AnnouncePeer { token, .. } | Query::Put { token, .. } = &mut query {
        *token = given;
    }
    query
}
