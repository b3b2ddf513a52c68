//! What this node asks others, and what they answer.

use std::net::SocketAddr;

use bytes::Bytes;

use super::compact::Node;
use super::krpc::{self, Failure, Item, Mutable, Query, Want, code};
use super::security::is_sound;
use super::wire::{MainlineWire, TheirToken};
use crate::address::{self, IpTransport};
use crate::contact::Contact;
use crate::count::Count;
use crate::foreign::{Effects, Now};
use crate::gateway::{Inbound, UnsentReason};
use crate::id::Id;
use crate::message::{self, Expect, Found, Refusal, Reply, Request, Tag, Token};
use crate::record::{Record, RecordKind, Signed, Version};

/// What another node holds lasts so long, unless it is written again (BEP 44).
const ITEMS_LAST: std::time::Duration = std::time::Duration::from_secs(2 * 60 * 60);

/// The most contacts that are taken from one answer. Eight is what all give.
const MAX_NODES: usize = 32;

/// A query that waits for its answer.
#[derive(Debug)]
pub(super) struct Asked {
    to: SocketAddr,
    /// `None` for what the gateway asks by itself.
    tag: Option<Tag>,
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

impl Asked {
    /// A ping by which whoever asks shows where it is.
    pub(super) fn own_ping(to: SocketAddr) -> Self {
        Asked { to, tag: None, what: What::Ping }
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
                let theirs = self.theirs.get(now.instant, &token.0).filter(|theirs| theirs.from == to);
                let with = |token: &Bytes| self.write_query(key, record, *expect, token.clone());
                match theirs {
                    Some(TheirToken { owner, token, .. }) => (What::Write(*owner), with(token)?),
                    // Who is asked for nodes alone gives none.
                    None => (What::Permission(Box::new(with(&Bytes::new())?)), self.find_query(key)),
                }
            }
        };
        self.ask(now, to, Asked { to, tag: Some(tag), what }, query).ok_or(UnsentReason::Inexpressible)
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

    /// Takes an answer. Whether it was one.
    pub(super) fn response(
        &mut self,
        now: Now,
        from: SocketAddr,
        transaction: &[u8],
        seen_at: Option<SocketAddr>,
        response: krpc::Response,
        out: &mut Effects,
    ) -> bool {
        let Some(asked) = self.answered(now, from, transaction) else {
            out.counts.push(Count::Unasked);
            return false;
        };
        self.proved.insert(now.instant, from, ());
        // Whom the gateway asks back by itself has chosen to be asked, and would have as many votes as it likes.
        let Some(tag) = asked.tag else { return true };
        let seen_at = seen_at.filter(|seen_at| seen_at.is_ipv4() == self.is_v4);
        if let Some(seen_at) = seen_at.filter(|_| is_sound(&response.sender, from.ip())) {
            out.deferred.extend(self.handle.vote(now.instant, from.ip(), seen_at.ip()));
        }
        let sender = response.sender;
        let reply = match asked.what {
            What::Permission(query) => match response.token {
                Some(token) => {
                    let asked = Asked { to: from, tag: Some(tag), what: What::Write(sender) };
                    let bytes = self.ask(now, from, asked, with_token(*query, token));
                    out.datagrams.extend(bytes.map(|bytes| (from, bytes)));
                    return true;
                }
                None => Reply::Refused(Refusal::Token),
            },
            What::Ping => Reply::Pong,
            What::Write(_) => Reply::Stored,
            What::Nodes => Reply::Found(self.found(now, from, None, response)),
            What::Item(key) => {
                let record = response.item.clone().and_then(|item| self.record(&key, item));
                Reply::Found(self.found(now, from, record, response))
            }
            What::Peers(info_hash) => {
                self.handle.found(&info_hash, &response.peers);
                Reply::Found(self.found(now, from, None, response))
            }
        };
        self.deliver_reply(from, tag, sender, reply, out);
        true
    }

    /// Takes a failure: of what was to be kept it says why, of all else no more than silence does.
    pub(super) fn failure(
        &mut self,
        now: Now,
        from: SocketAddr,
        transaction: &[u8],
        failure: &Failure,
        out: &mut Effects,
    ) {
        let Some(asked) = self.answered(now, from, transaction) else { return out.counts.push(Count::Unasked) };
        log::trace!("{from} says {}: {}", failure.code, failure.text);
        if let (What::Write(owner), Some(tag)) = (asked.what, asked.tag) {
            let refusal = match failure.code {
                code::PROTOCOL => Refusal::Token,
                code::VALUE_TOO_LARGE => Refusal::TooLarge { limit: 1000 },
                code::BAD_SIGNATURE | code::SALT_TOO_LARGE => Refusal::Forged,
                code::OTHER_EXPECTED => Refusal::Conflict { held: None },
                code::SEQUENCE_TOO_LOW => Refusal::Older { held: Version::default() },
                _ => Refusal::Limited,
            };
            self.deliver_reply(from, tag, owner, Reply::Refused(refusal), out);
        }
    }

    fn deliver_reply(&self, from: SocketAddr, tag: Tag, sender: Id, reply: Reply, out: &mut Effects) {
        let envelope = self.message(tag, Some(sender), message::Body::Reply(reply));
        let mut inbound = Inbound::new(address::ip_address(from, IpTransport::Udp), envelope);
        inbound.proved = true;
        out.deliveries.push(inbound);
    }

    /// What an answer says of a key, with a number for its token.
    fn found(&mut self, now: Now, from: SocketAddr, record: Option<Record>, response: krpc::Response) -> Found {
        let number = self.next_random();
        if let Some(token) = response.token {
            self.theirs.insert(now.instant, number, TheirToken { from, owner: response.sender, token });
        }
        let is_usable =
            |(id, address): &&Node| address.is_ipv4() == self.is_v4 && *id != self.own;
        let nodes = response.nodes.iter().filter(is_usable).take(MAX_NODES);
        Found {
            held: record.as_ref().map(|record| record.version),
            records: record.into_iter().collect(),
            more: false,
            contacts: nodes
                .map(|(id, address)| Contact::new(*id, address::ip_address(*address, IpTransport::Udp)))
                .collect(),
            token: Token(number),
        }
    }

    /// The record that an item is under this key. That it may be there is checked by whoever reads it.
    fn record(&self, key: &Id, item: Item) -> Option<Record> {
        let Some(mutable) = item.mutable else {
            return Some(Record::new(RecordKind::Immutable, item.value, Version::default(), ITEMS_LAST));
        };
        let version = Version(u64::try_from(mutable.sequence).ok()?);
        let salt = self.handle.salt(key).unwrap_or_default();
        let signed = Signed { public_key: mutable.public_key, salt, signature: mutable.signature };
        Some(Record::new(RecordKind::Signed(Box::new(signed)), item.value, version, ITEMS_LAST))
    }
}

/// What waited for a token.
fn with_token(mut query: Query, given: Bytes) -> Query {
    if let Query::AnnouncePeer { token, .. } | Query::Put { token, .. } = &mut query {
        *token = given;
    }
    query
}
