//! What this node asks, and what comes back.

use std::net::SocketAddr;

use super::super::codec::{self, Call, Found, MAX_DATAGRAM_BYTES, WireId};
use super::super::value::Value;
use super::{Asked, Question, READ_LIFETIME, READ_VERSION, RpcUdp, Unproved, at, count_of, found, wire_id};
use crate::count::Count;
use crate::foreign::{Effects, Now};
use crate::gateway::{Inbound, UnsentReason};
use crate::message::{self, Expect, Refusal, Request, Tag};
use crate::record::{Record, RecordKind, Version};

impl RpcUdp {
    pub(super) fn ask(
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
    pub(super) fn greet(&mut self, now: Now, to: SocketAddr, out: &mut Effects) {
        if self.greeted.get(now.instant, &to).is_none() {
            self.greeted.insert(now.instant, to, ());
            // A ping is never too large.
            self.call(now, to, None, &Call::Ping { node: self.node() }, Question::Ping, out).ok();
        }
    }

    /// Takes a reply. It counts only if its request is open and went to that address, and once.
    pub(super) fn answered(
        &mut self,
        now: Now,
        from: SocketAddr,
        id: &WireId,
        answer: codec::Answer<'_>,
        out: &mut Effects,
    ) {
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
        self.greeted.take(now.instant, &from);
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
