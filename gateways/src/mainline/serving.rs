//! What others ask this node.

use std::net::SocketAddr;

use bytes::Bytes;

use super::answering::fit;
use super::krpc::{Body, Failure, Message, Query, Want, code};
use super::putting::store;
use super::wire::MainlineWire;
use crate::address::{self, IpTransport};
use crate::count::Count;
use crate::foreign::{Effects, Now};
use crate::gateway::Inbound;
use crate::id::Id;
use crate::message::{self, Request, Tag};

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
    Nodes(Want),
    Peers(Id, Want),
    Item {
        newer_than: Option<i64>,
        want: Want,
    },
    Samples(Want),
    /// That an item is kept.
    Put,
    /// What is held, to store something else if it has this number.
    Held {
        sender: Option<Id>,
        store: Box<Request>,
        expected: u64,
    },
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
        // Who answers nothing is not named to the core, which would ask it back.
        let sender = Some(sender).filter(|_| !read_only);
        let pings = pings + if sender.is_some() { 2 } else { 0 };
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
                if !self.tokens.is_good(now.instant, from.ip(), &info_hash, &token) {
                    return Err(Failure { code: code::PROTOCOL, text: "bad token".to_owned() });
                }
                self.check_stores(now, from)?;
                self.charge(now, from);
                let peer = SocketAddr::new(from.ip(), port.unwrap_or(from.port()));
                self.handle.announced_here(now.instant, info_hash, peer);
                (What::Name, Request::Ping)
            }
            Query::Get { target, sequence, want } => {
                let request = Request::FindValue { key: target, after: None, proof: None };
                (What::Item { newer_than: sequence, want }, request)
            }
            Query::Put { token, item, expected, .. } => {
                // Anyone can write that address: whoever has a token is charged when the core has looked at that.
                self.check_stores(now, from)?;
                // What is under its own hash has no number.
                let expected = expected.filter(|_| item.mutable.is_some());
                let store = store(&token, item)?;
                match (&store, expected.and_then(|expected| u64::try_from(expected).ok())) {
                    (Request::Store { key, .. }, Some(expected)) => {
                        let held = Request::FindValue { key: *key, after: None, proof: None };
                        (What::Held { sender, store: Box::new(store), expected }, held)
                    }
                    _ => (What::Put, store),
                }
            }
            Query::SampleInfohashes { target, want } => (What::Samples(want), Request::FindNode { target }),
        })
    }

    /// Whether a host may have one more thing kept. This host may have any number.
    fn check_stores(&self, now: Now, from: SocketAddr) -> Result<(), Failure> {
        if from.ip().is_loopback() || self.stores.would_allow(now.instant, from.ip()) {
            return Ok(());
        }
        Err(Failure { code: code::SERVER, text: "too many at once".to_owned() })
    }

    /// A host has had one more thing kept.
    pub(super) fn charge(&mut self, now: Now, from: SocketAddr) {
        if !from.ip().is_loopback() {
            self.stores.allow(now.instant, from.ip());
        }
    }
}
