//! What this node answers, as far as it fits.

use std::net::SocketAddr;

use bytes::Bytes;

use super::compact::Node;
use super::krpc::{self, Body, Failure, Message, Nodes, Samples, Want, code};
use super::peers::Sample;
use super::putting::{failure_of, item_of};
use super::serving::{Served, What};
use super::wire::{MAX_BYTES, MainlineWire, VERSION};
use super::write::write;
use crate::address::{self, IpTransport};
use crate::foreign::{Effects, Now};
use crate::gateway::UnsentReason;
use crate::id::Id;
use crate::message::{Found, Refusal, Reply, Request, Tag};

/// Nodes of a family in an answer (BEP 5).
const K: usize = 8;

/// The most peers, and the most keys of peers, in an answer.
const MAX_PEERS: usize = 50;
const MAX_SAMPLES: usize = 20;

impl MainlineWire {
    /// Takes the node's answer to what it was asked.
    pub(super) fn reply(
        &mut self,
        now: Now,
        tag: Tag,
        own: Id,
        reply: &Reply,
        out: &mut Effects,
    ) -> Result<(), UnsentReason> {
        let mut served = self.served.take(now.instant, &tag).ok_or(UnsentReason::Inexpressible)?;
        if let What::Held { sender, store, expected } = served.what {
            served.what = What::Put;
            return self.swap(now, served, sender, *store, (expected, reply), out);
        }
        let Served { from, transaction, mut limit, what } = served;
        // Only who is where it seems to be has a token: and what has one is charged to nobody else.
        if matches!(what, What::Put) && !matches!(reply, Reply::Refused(Refusal::Token)) {
            self.prove(now, from, None, out);
            self.charge(now, from);
            limit = MAX_BYTES;
        }
        let bytes = match reply {
            Reply::Refused(refusal) => fit(from, &transaction, &Body::Failure(failure_of(*refusal)), limit),
            Reply::Found(found) => {
                let response = self.respond(now, from, own, &what, found);
                shed(response, |response| fit(from, &transaction, &Body::Response(response.clone()), limit))
            }
            Reply::Pong | Reply::Stored => fit(from, &transaction, &Body::Response(krpc::Response::of(own)), limit),
        };
        let bytes = bytes.ok_or(UnsentReason::TooLarge { limit: limit as u32 })?;
        out.datagrams.push((from, bytes));
        Ok(())
    }

    /// The node has said what it holds where a put is to replace one number and no other. The core would let it replace
    /// an older one as well. Where nothing is held there is nothing to compare.
    fn swap(
        &mut self,
        now: Now,
        served: Served,
        sender: Option<Id>,
        store: Request,
        (expected, reply): (u64, &Reply),
        out: &mut Effects,
    ) -> Result<(), UnsentReason> {
        let held = match reply {
            Reply::Found(found) => found.held,
            _ => None,
        };
        if held.is_some_and(|held| held.0 != expected) {
            let failure = Failure { code: code::OTHER_EXPECTED, text: "another seq is held than cas".to_owned() };
            let Served { from, transaction, limit, .. } = served;
            let bytes = fit(from, &transaction, &Body::Failure(failure), limit);
            out.datagrams.push((from, bytes.ok_or(UnsentReason::TooLarge { limit: limit as u32 })?));
            return Ok(());
        }
        self.deliver_request(now, served, sender, store, out);
        Ok(())
    }

    fn respond(&self, now: Now, to: SocketAddr, own: Id, what: &What, found: &Found) -> krpc::Response {
        let mut response = krpc::Response::of(own);
        let mut nodes = |want| response.nodes = nodes_of(found, want, to.is_ipv4());
        match *what {
            What::Name | What::Put | What::Held { .. } => {}
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

/// The bytes of an answer, if it has no more than so many. It says where whoever asked is seen, and who says so, if there is
/// room for that.
pub(super) fn fit(to: SocketAddr, transaction: &Bytes, body: &Body, limit: usize) -> Option<Vec<u8>> {
    let version = || Some(Bytes::from_static(VERSION));
    [(Some(to), version()), (Some(to), None), (None, None)].into_iter().find_map(|(seen_at, version)| {
        let (transaction, body) = (transaction.clone(), body.clone());
        write(&Message { transaction, version, read_only: false, seen_at, body }).filter(|bytes| bytes.len() <= limit)
    })
}

/// Leaves out as little as fits: first the nodes that are farthest. If that does not do, an item that is too large goes, with
/// all that tells of it, as nodes lead to others that have it.
fn shed(mut response: krpc::Response, fit: impl Fn(&krpc::Response) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    if response.item.is_some() {
        let mut with_item = response.clone();
        loop {
            let bytes = fit(&with_item);
            if bytes.is_some() {
                return bytes;
            }
            if !with_item.nodes.pop() {
                break;
            }
        }
        (response.item, response.sequence) = (None, None);
    }
    loop {
        let bytes = fit(&response);
        if bytes.is_some() {
            return bytes;
        }
        let is_less = response.samples.as_mut().is_some_and(|samples| samples.info_hashes.pop().is_some())
            // A node has as many bytes as three peers.
            || response.peers.len() > 3 * response.nodes.len() && response.peers.pop().is_some()
            || response.nodes.pop()
            || response.peers.pop().is_some();
        if !is_less {
            return None;
        }
    }
}

/// The contacts in an answer that are of the kinds that are wanted; if nothing was said, of that of whoever asks.
fn nodes_of(found: &Found, want: Want, is_v4: bool) -> Nodes {
    let want = if want == Want::default() { Want { v4: is_v4, v6: !is_v4 } } else { want };
    let of_family = |is_v4: bool| -> Vec<Node> {
        let node = |contact: &crate::contact::Contact| {
            let (address, transport) = address::socket_addr(contact.address())?;
            (address.is_ipv4() == is_v4 && transport == IpTransport::Udp).then_some((contact.id(), address))
        };
        found.contacts.iter().filter_map(node).take(K).collect()
    };
    Nodes { v4: want.v4.then(|| of_family(true)), v6: want.v6.then(|| of_family(false)) }
}
