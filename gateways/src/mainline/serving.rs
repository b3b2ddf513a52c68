//! What others ask this node.

use std::net::SocketAddr;

use bytes::Bytes;

use super::answering::fit;
use super::krpc::{Body, Failure, Message, Query, Want, code};
use super::putting::{key_of, record_of};
use super::wire::MainlineWire;
use crate::address::{self, IpTransport};
use crate::count::Count;
use crate::foreign::{Effects, Now};
use crate::gateway::Inbound;
use crate::id::Id;
use crate::message::{self, Request, Tag};
use crate::record::Record;

/// A query of another node that this one is to answer.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) from: SocketAddr,
    pub(super) transaction: Bytes,
    /// The most bytes of the answer.
    pub(super) limit: usize,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    /// Nothing but who answers.
    Name,
    /// Nothing at all: the node is told of somebody, as if they had pinged it.
    Introduction,
    Nodes(Want),
    Peers(Id, Want),
    Item {
        key: Id,
        newer_than: Option<i64>,
        want: Want,
    },
    Samples(Want),
    /// What is held, and the node's own token: to store this, if what is held has the expected number.
    Held {
        sender: Option<Id>,
        key: Id,
        record: Box<Record>,
        expected: Option<u64>,
    },
}

impl MainlineWire {
    /// Has the node answer a query. `pings` have been sent to its address because of it already.
    ///
    /// Who asks is named to the core if it has answered under the id that it claims. There are nodes that ping under any.
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
        let is_known = self.proved.id(now.instant, &from) == Some(sender);
        // Who is read-only answers nothing.
        let asks_back = !read_only && !is_known && pings == 0 && self.pinged.get(now.instant, &from).is_none();
        if asks_back {
            self.ask_back(now, from, out);
        }
        let sender = Some(sender).filter(|_| !read_only && is_known);
        let pings = pings + usize::from(asks_back);
        let limit = self.limit(now, &from, bytes, pings);
        let (what, request) = match self.understand(now, from, sender, query) {
            Ok(understood) => understood,
            Err(failure) => {
                out.counts.push(if failure.code == code::SERVER { Count::Limited } else { Count::Unserved });
                return self.refuse(from, limit, &transaction, failure, out);
            }
        };
        // What is asked first is not what they asked.
        let named = sender.filter(|_| !matches!(what, What::Held { .. }));
        self.deliver_request(now, Served { from, transaction, limit, what }, named, request, out);
    }

    /// Tells the node of somebody who is at this address under this id.
    pub(super) fn introduce(&mut self, now: Now, from: SocketAddr, id: Id, out: &mut Effects) {
        let served = Served { from, transaction: Bytes::new(), limit: 0, what: What::Introduction };
        self.deliver_request(now, served, Some(id), Request::Ping, out);
    }

    pub(super) fn deliver_request(
        &mut self,
        now: Now,
        served: Served,
        sender: Option<Id>,
        request: Request,
        out: &mut Effects,
    ) {
        let (tag, from) = (Tag(self.next_random()), served.from);
        self.served.insert(now.instant, tag, served);
        let envelope = self.message(tag, sender, message::Body::Request(request));
        let mut inbound = Inbound::new(address::ip_address(from, IpTransport::Udp), envelope);
        inbound.proved = self.proved.contains(now.instant, &from);
        out.deliveries.push(inbound);
    }

    /// Tells `to` why its query is not answered, if that is no more than it may be sent.
    pub(super) fn refuse(
        &self,
        to: SocketAddr,
        limit: usize,
        transaction: &Bytes,
        failure: Failure,
        out: &mut Effects,
    ) {
        let bytes = fit(to, transaction, &Body::Failure(failure), limit);
        out.datagrams.extend(bytes.map(|bytes| (to, bytes)));
    }

    /// What the node is asked for that, or why it is not.
    fn understand(
        &mut self,
        now: Now,
        from: SocketAddr,
        sender: Option<Id>,
        query: Query,
    ) -> Result<(What, Request), Failure> {
        Ok(match query {
            Query::Ping => (What::Name, Request::Ping),
            Query::FindNode { target, want } => (What::Nodes(want), Request::FindNode { target }),
            Query::GetPeers { info_hash, want } => {
                (What::Peers(info_hash, want), Request::FindNode { target: info_hash })
            }
            Query::AnnouncePeer { info_hash, port, token } => {
                self.admit(now, from, &info_hash, &token)?;
                let peer = SocketAddr::new(from.ip(), port.unwrap_or(from.port()));
                self.handle.announced_here(now.instant, info_hash, peer);
                (What::Name, Request::Ping)
            }
            Query::Get { target, sequence, want } => {
                let request = Request::FindValue { key: target, after: None, proof: None };
                (What::Item { key: target, newer_than: sequence, want }, request)
            }
            Query::Put { token, item, expected, .. } => {
                // What is under its own hash has no number.
                let expected = expected.filter(|_| item.mutable.is_some()).and_then(|it| u64::try_from(it).ok());
                let (key, record) = (key_of(&item), Box::new(record_of(item)?));
                self.admit(now, from, &key, &token)?;
                let request = Request::FindValue { key, after: None, proof: None };
                (What::Held { sender, key, record, expected }, request)
            }
            Query::SampleInfohashes { target, want } => (What::Samples(want), Request::FindNode { target }),
        })
    }

    /// Whether somebody may have one more thing kept, which is then counted: with a token, which was sent to where they are,
    /// so that nobody is charged for what others have written in their name. This host itself may have any number.
    fn admit(&mut self, now: Now, from: SocketAddr, key: &Id, token: &[u8]) -> Result<(), Failure> {
        if !self.tokens.is_good(now.instant, from.ip(), key, token) {
            return Err(Failure { code: code::PROTOCOL, text: "bad token".to_owned() });
        }
        if from.ip().is_loopback() || self.stores.allow(now.instant, from.ip()) {
            return Ok(());
        }
        Err(Failure { code: code::SERVER, text: "too many at once".to_owned() })
    }

    /// Whether a query shows by its token that whoever sent it is where it came from.
    pub(super) fn is_proof(&self, now: Now, from: SocketAddr, query: &Query) -> bool {
        let (key, token) = match query {
            Query::AnnouncePeer { info_hash, token, .. } => (*info_hash, token),
            Query::Put { token, item, .. } => (key_of(item), token),
            _ => return false,
        };
        self.tokens.is_good(now.instant, from.ip(), &key, token)
    }
}
