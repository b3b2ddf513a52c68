//! What others ask of this node, and what it answers.

use std::net::SocketAddr;

use super::super::codec::{self, Call, MAX_DATAGRAM_BYTES, Reply, WireContact, WireId};
use super::{
    Admission, PING_BYTES, PROBES_BYTES, RpcUdp, STORED_LIFETIME, Served, Service, Unproved, at, give_up, nameable,
    value_of,
};
use crate::count::Count;
use crate::foreign::{Effects, Now, allowance};
use crate::gateway::{Inbound, ReplyPath, UnsentReason};
use crate::id::Id;
use crate::message::{self, Expect, Request, Tag};
use crate::record::{Author, Record, RecordKind, Version};

impl RpcUdp {
    pub(super) fn serve(
        &mut self,
        now: Now,
        from: SocketAddr,
        id: WireId,
        bytes: usize,
        call: Call,
        out: &mut Effects,
    ) {
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

    pub(super) fn answer(
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
        match (served.what, reply) {
            (Service::Ping, message::Reply::Pong) => {
                let datagram = codec::encode_reply(&id, &Reply::Pong(self.node()));
                self.reply(now, &served, datagram, &[], out);
            }
            (Service::Store, message::Reply::Stored | message::Reply::Refused(_)) => {
                let kept = *reply == message::Reply::Stored;
                self.reply(now, &served, codec::encode_reply(&id, &Reply::Stored(kept)), &[], out);
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
        self.wait_for_proof(now, served.to, bytes, Unproved::Reply { whole, short }, out);
    }

    fn wait_for_proof(&mut self, now: Now, to: SocketAddr, bytes: usize, what: Unproved, out: &mut Effects) {
        let displaced = self.unproved.push(now.instant, to, bytes, what);
        self.greet(now, to, out);
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
            self.wait_for_proof(now, to, bytes, Unproved::Store { served, node, request }, out);
        }
        Ok(())
    }

    pub(super) fn store(&mut self, now: Now, served: Served, node: WireId, request: Request, out: &mut Effects) {
        if !self.stores.allow(now.instant, served.to.ip()) {
            out.counts.push(Count::Limited);
            return out.datagrams.push((served.to, codec::encode_reply(&served.id, &Reply::Stored(false))));
        }
        let (number, to) = (self.next_number(), served.to);
        self.served.insert(now.instant, number, served);
        self.deliver_request(to, number, Tag(number), Some(node), request, out);
    }
}
