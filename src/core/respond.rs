//! Serving the requests of others.

use kademlia_gateways::{
    Author, Body, Expect, Found, Id, Peer, Record, Refusal, Reply, ReplyPath, Request, Tag, Token,
};

use super::count::Dropped;
use super::io::{Event, Output};
use super::node::Node;
use super::store::Kept;

/// The most bytes of records that are sent to an address that is not proved. Whoever writes another's address on a request
/// must not have records sent there.
const MAX_UNPROVED_BYTES: usize = 512;

/// The most bytes of records that are sent together, if they are several.
const MAX_PAGE_BYTES: usize = 32 * 1024;

/// How a message came in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    /// How an answer gets back.
    pub(super) path: ReplyPath,
    /// Whether the sender is known to be at the address that it came from.
    pub(super) proved: bool,
}

impl<P: Peer> Node<P> {
    pub(super) fn handle_request(
        &mut self,
        from: &P::Addr,
        mut way: Way,
        tag: Tag,
        sender: Option<Id>,
        request: Request,
        out: &mut Vec<Output<P>>,
    ) {
        if self.params.client {
            return self.drop_message(Dropped::Client);
        }
        let space = self.params.key_space;
        if let Request::FindNode { target: key } | Request::FindValue { key, .. } | Request::Store { key, .. } =
            &request
            && !space.contains(key)
        {
            return self.drop_message(Dropped::ForeignKey);
        }
        self.counts.served(&request);
        let reply = match request {
            Request::Ping => Reply::Pong,
            Request::FindNode { target } => Reply::Found(self.found(from, sender, target)),
            Request::FindValue { key, after, proof } => {
                way.proved |= proof.is_some_and(|proof| self.tokens.check(self.now, from, &key, proof));
                let most = if way.proved { MAX_PAGE_BYTES } else { MAX_UNPROVED_BYTES };
                let (records, more) = self.page(&key, after, most, way.proved);
                Reply::Found(Found { records, more, ..self.found(from, sender, key) })
            }
            Request::Store { key, record, token, expect } => match self.keep(from, key, record, token, expect, out) {
                Ok(()) => Reply::Stored,
                Err(refusal) => {
                    self.counts.refused(&refusal);
                    Reply::Refused(refusal)
                }
            },
        };
        let message = self.message(tag, Body::Reply(reply));
        out.push(Output::Send { to: from.clone(), path: Some(way.path), proved: way.proved, message });
        if let Some(id) = sender {
            self.probe_stranger(id, from, out);
        }
    }

    /// As many records of authors after this one as are sent together, and whether there are more.
    fn page(&self, key: &Id, after: Option<Author>, most: usize, proved: bool) -> (Vec<Record>, bool) {
        let (mut records, mut bytes) = (Vec::new(), 0);
        for record in self.store.under(self.now, key, after) {
            bytes += record.bytes();
            // One alone goes out however large it is, to who may have it.
            if bytes > most && (!proved || !records.is_empty()) {
                return (records, true);
            }
            records.push(record);
        }
        (records, false)
    }

    fn found(&self, from: &P::Addr, sender: Option<Id>, target: Id) -> Found<P> {
        let contacts = self
            .table
            .closest(&target, self.params.k, |entry, id| self.table.is_fresh(entry) && Some(*id) != sender)
            .into_iter()
            .cloned()
            .collect();
        Found {
            records: Vec::new(),
            more: false,
            held: self.store.version(self.now, &target),
            contacts,
            token: self.tokens.make(self.now, from, &target),
        }
    }

    fn keep(
        &mut self,
        from: &P::Addr,
        key: Id,
        record: Record,
        token: Token,
        expect: Expect,
        out: &mut Vec<Output<P>>,
    ) -> Result<(), Refusal> {
        if !self.tokens.check(self.now, from, &key, token) {
            return Err(Refusal::Token);
        }
        self.keep_record(key, record, expect, Some(P::source(from)), out)
    }

    /// Keeps a record of the network, whoever it comes from.
    pub(super) fn keep_record(
        &mut self,
        key: Id,
        record: Record,
        expect: Expect,
        source: Option<u64>,
        out: &mut Vec<Output<P>>,
    ) -> Result<(), Refusal> {
        let version = record.version;
        let copy = record.clone();
        let replicate_in = self.rng.jitter(self.params.replicate_interval);
        let kept = self.store.put(self.now, key, record, expect, source, replicate_in)?;
        self.check_superseded(&key, &copy, out);
        if kept == Kept::New {
            out.push(Output::Event(Event::RecordKept { key, version }));
        }
        Ok(())
    }
}
