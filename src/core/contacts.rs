//! Asking other nodes, and what their answers and their silence do to the routing table.

use std::collections::BTreeSet;
use std::time::Duration;

use kademlia_gateways::{Body, Id, Message, Peer, Request, Tag};

use super::bucket::Change;
use super::count::Dropped;
use super::io::{Event, Output};
use super::journal::ContactNews;
use super::node::Node;
use super::requests::{Open, Purpose};
use super::time::Lapse;

/// The most contacts that are being asked at once whether they are there, because they asked us something.
const MAX_PROBES: usize = 64;

/// The most requests that wait for answers at once.
const MAX_REQUESTS: usize = 4096;

impl<P: Peer> Node<P> {
    pub(super) fn drop_message(&mut self, cause: Dropped) {
        self.counts.dropped(cause);
    }

    /// Sends a request and remembers it until its answer. False, and nothing sent, when too many are in flight.
    pub(super) fn request(
        &mut self,
        to: P::Addr,
        expect: Option<Id>,
        request: Request,
        purpose: Purpose,
        out: &mut Vec<Output<P>>,
    ) -> bool {
        if self.requests.len() >= MAX_REQUESTS {
            self.counts.dropped(Dropped::TooMany);
            return false;
        }
        let tag = Tag(self.rng.next_u64());
        if let Some(task) = purpose.task().and_then(|task| self.tasks.get_mut(&task)) {
            task.effort.messages += 1;
            if !matches!(purpose, Purpose::Write(_)) {
                task.effort.asked += 1;
                task.open.push(tag);
            }
        }
        self.requests.insert(self.now, tag, to.clone(), expect, request.clone(), purpose);
        self.transmit(to, tag, request, out);
        true
    }

    pub(super) fn transmit(&mut self, to: P::Addr, tag: Tag, request: Request, out: &mut Vec<Output<P>>) {
        self.counts.sent(&request);
        let message = self.message(tag, Body::Request(request));
        out.push(Output::Send { to, path: None, proved: true, message });
    }

    pub(super) fn message(&self, tag: Tag, body: Body<P>) -> Message<P> {
        let sender = (!self.params.client).then_some(self.id);
        Message { network: self.params.network, tag, sender, also: Vec::new(), body }
    }

    /// Asks whether anyone, or the one with this id, is there, unless that is being asked already.
    pub(super) fn probe(&mut self, id: Option<Id>, address: &P::Addr, out: &mut Vec<Output<P>>) {
        if self.probed.insert(address.clone()) && !self.request(address.clone(), id, Request::Ping, Purpose::Probe, out)
        {
            self.probe_ended(address);
        }
    }

    /// It is known, or will not be, whether anyone is at `address`.
    pub(super) fn probe_ended(&mut self, address: &P::Addr) {
        if self.probed.remove(address) && self.probed.is_empty() {
            self.probed = BTreeSet::new(); // An empty set keeps what it has allocated.
        }
    }

    /// Asks whoever sent a request whether it answers at the address that it came from, if the table has a place.
    pub(super) fn probe_stranger(&mut self, id: Id, address: &P::Addr, out: &mut Vec<Output<P>>) {
        let may_stand = || self.admission.is_none() || self.admits(&P::new(id, address.clone(), Vec::new()));
        if !self.table.wants(&id, address) || !may_stand() {
            return;
        }
        if self.probed.len() < MAX_PROBES {
            self.probe(Some(id), address, out);
        } else {
            self.drop_message(Dropped::Stranger);
        }
    }

    pub(super) fn contact_answered(&mut self, peer: P, round_trip: Duration, out: &mut Vec<Output<P>>) {
        self.probe_ended(peer.address());
        if !self.admits(&peer) {
            return;
        }
        self.lost.forget(&peer.id());
        self.note_contacts(ContactNews::Seen);
        self.maintain_by(self.now + self.params.peer_timeout);
        let change = self.table.answered(self.now, peer.clone(), Lapse::of(round_trip));
        if matches!(change, Change::Added | Change::Moved) && P::relays(peer.address()) > 0 {
            // It may have an address of its own that a gateway of ours dials.
            peer.others().iter().for_each(|other| self.probe(Some(peer.id()), other, out));
        }
        self.table_changed(change, Some(peer), out);
    }

    pub(super) fn contact_missed(&mut self, open: &Open<P>, out: &mut Vec<Output<P>>) {
        if !open.heard {
            self.table.doubt(&open.to);
        }
        self.maintain_by(self.now + self.contact_pause());
        if let Some(id) = open.expect {
            let change = self.table.missed(self.now, &id, &open.to);
            self.table_changed(change, None, out);
        }
    }

    fn table_changed(&mut self, change: Change<P>, answered: Option<P>, out: &mut Vec<Output<P>>) {
        if !matches!(change, Change::Nothing | Change::Check(_)) {
            self.note_contacts(ContactNews::Changed);
        }
        match change {
            Change::Nothing => {}
            Change::Added => {
                if let Some(peer) = answered {
                    self.welcome(peer, out);
                }
            }
            Change::Moved => out.extend(answered.map(|peer| Output::Event(Event::ContactMoved(peer)))),
            Change::Check(oldest) => self.probe(Some(oldest.id()), oldest.address(), out),
            Change::Dropped { dropped, replacement } => {
                let moved = replacement.as_ref().is_some_and(|peer| peer.id() == dropped.id());
                if !moved && self.id.common_prefix_len(&dropped.id()) + 1 >= self.table.depth() {
                    self.lost.remember(self.now, dropped.clone());
                }
                out.push(Output::Event(Event::ContactRemoved(dropped)));
                if let Some(peer) = replacement {
                    self.welcome(peer, out);
                }
            }
        }
    }
}
