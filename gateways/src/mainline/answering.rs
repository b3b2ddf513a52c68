//! What this node answers, as far as it fits.

use std::net::SocketAddr;

use bytes::Bytes;

use super::compact::Node;
use super::krpc::{self, Body, Failure, Message, Nodes, Samples, Want, code};
use super::peers::Sample;
use super::putting::{failure_of, item_of};
use super::serving::{Served, What};
use super::wire::{MainlineWire, VERSION};
use super::write::write;
use crate::address::{self, IpTransport};
use crate::foreign::{Effects, Now};
use crate::gateway::UnsentReason;
use crate::id::Id;
use crate::message::{Expect, Found, Reply, Request, Tag};
use crate::record::Version;

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
        let Served { from, transaction, limit, what } =
            self.served.take(now.instant, &tag).ok_or(UnsentReason::Inexpressible)?;
        let body = match (what, reply) {
            (What::Introduction, _) => return Ok(()),
            (What::Held { sender, key, record, expected }, Reply::Found(Found { held, token, .. })) => {
                if is_expected(expected, *held) {
                    let store = Request::Store { key, record: *record, token: *token, expect: Expect::Anything };
                    let served = Served { from, transaction, limit, what: What::Name };
                    self.deliver_request(now, served, sender, store, out);
                    return Ok(());
                }
                let text = "what is held has another seq than cas".to_owned();
                Body::Failure(Failure { code: code::OTHER_EXPECTED, text })
            }
            (_, Reply::Refused(refusal)) => Body::Failure(failure_of(*refusal)),
            (what, Reply::Found(found)) => Body::Response(self.respond(now, from, own, &what, found)),
            (_, Reply::Pong | Reply::Stored) => Body::Response(krpc::Response::of(own)),
        };
        let fit = |body: &Body| fit(from, &transaction, body, limit);
        let bytes = match body {
            Body::Response(response) => shed(response, |response| fit(&Body::Response(response.clone()))),
            body => fit(&body),
        };
        let bytes = bytes.ok_or(UnsentReason::TooLarge { limit: limit as u32 })?;
        out.datagrams.push((from, bytes));
        Ok(())
    }

    fn respond(&self, now: Now, to: SocketAddr, own: Id, what: &What, found: &Found) -> krpc::Response {
        let mut response = krpc::Response::of(own);
        let mut nodes = |want| response.nodes = nodes_of(found, want, to.is_ipv4());
        match *what {
            What::Name | What::Introduction | What::Held { .. } => {}
            What::Nodes(want) => nodes(want),
            What::Peers(info_hash, want) => {
                nodes(want);
                response.token = Some(self.token(now, to, &info_hash));
                response.peers = self.handle.known_peers(now.instant, &info_hash, MAX_PEERS);
            }
            What::Item { key, newer_than, want } => {
                nodes(want);
                response.token = Some(self.token(now, to, &key));
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

    /// The token for a key, whatever is to be kept there: there are clients that announce peers with that of an item.
    fn token(&self, now: Now, to: SocketAddr, key: &Id) -> Bytes {
        Bytes::copy_from_slice(&self.tokens.make(now.instant, to.ip(), key))
    }
}

/// Whether what is held is what a put is to replace: this number and no other, though the core would let it replace an older
/// one as well. Where nothing is held there is nothing to compare.
fn is_expected(expected: Option<u64>, held: Option<Version>) -> bool {
    match (expected, held) {
        (Some(expected), Some(held)) => held.0 == expected,
        _ => true,
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
