//! The door of the node: what comes in, and what follows from it.

use kademlia_gateways::{Body, Expect, Found, Id, Message, Peer, Record, Reply, Request, Tag, UnsentReason};

use super::count::Dropped;
use super::io::{Event, Input, OperationError, Output, Rejection};
use super::journal::HeldRecord;
use super::maintenance::Job;
use super::node::{BATCH, Node};
use super::requests::{Answered, Open, Overdue, Purpose};
use super::respond::Way;
use super::time::Time;

/// Inputs.
impl<P: Peer> Node<P> {
    /// Takes one input at the time `now` and appends everything that follows from it to `out`.
    ///
    /// Total: no input makes it panic, and time that runs backwards counts as standing still.
    pub fn handle(&mut self, now: Time, input: Input<P>, out: &mut Vec<Output<P>>) {
        self.now = self.now.max(self.inside(now));
        match input {
            Input::Message { from, path, proved, message } => {
                self.handle_message(from, Way { path, proved }, message, out);
            }
            Input::Unsent { tag, reason } => self.handle_unsent(tag, reason, out),
            Input::Start { operation, command } => self.handle_command(operation, command, out),
            Input::Cancel { operation } => self.handle_cancel(operation, out),
            Input::Restore { key, record } => self.handle_restore(key, record, out),
            Input::ChangeId { id } => self.handle_change_id(id, out),
            Input::ResumeRecord(held) => self.handle_resume(held, out),
            Input::ResumePublished(published) => self.resume_published(published),
            Input::ResumeContact(known) => self.resume_contact(&known),
            Input::Tick => self.handle_tick(out),
        }
    }

    fn handle_message(&mut self, from: P::Addr, way: Way, message: Message<P>, out: &mut Vec<Output<P>>) {
        if message.network != self.params.network {
            return self.drop_message(Dropped::ForeignNetwork);
        }
        if message.sender.is_some_and(|id| !self.params.key_space.contains(&id)) {
            return self.drop_message(Dropped::ForeignId);
        }
        if message.sender == Some(self.id) {
            self.handle_echo(message.tag, out);
            return self.drop_message(Dropped::OwnId);
        }
        match message.body {
            Body::Request(request) => self.handle_request(&from, way, message.tag, message.sender, request, out),
            Body::Reply(reply) => match message.sender {
                Some(sender) => self.handle_reply(from, message.tag, sender, message.also, reply, out),
                None => self.drop_message(Dropped::NoId),
            },
        }
    }

    fn handle_reply(
        &mut self,
        from: P::Addr,
        tag: Tag,
        sender: Id,
        also: Vec<P::Addr>,
        reply: Reply<P>,
        out: &mut Vec<Output<P>>,
    ) {
        let fits = |request: &Request| reply_fits(request, &reply);
        let Answered { open, round_trip } = match self.requests.answered(self.now, tag, &from, &sender, fits) {
            Ok(answered) => answered,
            Err(cause) => return self.drop_message(cause),
        };
        self.counts.replies += 1;
        let peer = P::new(sender, from, also);
        self.contact_answered(peer.clone(), round_trip, out);
        let Some(open) = open else { return };
        self.request_ended(open.tag, &open.purpose);
        match open.purpose {
            Purpose::Lookup { task, .. } => self.lookup_answered(task, &open, &peer, (reply, round_trip), out),
            Purpose::Write(task) => {
                let outcome = match reply {
                    Reply::Refused(refusal) => Err(Rejection::Refused(refusal)),
                    Reply::Found(found) => return self.write_on(task, peer, found.token, out),
                    _ => Ok(()),
                };
                self.write_ended(task, peer, outcome, out);
            }
            Purpose::Single(task) => self.single_answered(task, &open, &peer, reply, out),
            Purpose::Probe | Purpose::Repair => {}
        }
    }

    fn handle_restore(&mut self, key: Id, record: Record, out: &mut Vec<Output<P>>) {
        if self.params.key_space.contains(&key) && !self.params.client {
            // Refused only where it is of no use: it is not sound, its life is over, a newer one is held, or the store is full.
            self.keep_record(key, record, Expect::Anything, None, out).ok();
        }
    }

    fn handle_change_id(&mut self, id: Id, out: &mut Vec<Output<P>>) {
        if id == self.id || !self.params.key_space.contains(&id) {
            return;
        }
        self.id = id;
        let displaced = self.table.move_to(self.now, id);
        out.extend(displaced.into_iter().map(|peer| Output::Event(Event::ContactRemoved(peer))));
        // Its new neighbours, who learn of it as they are asked. What it holds and is not near is offered to whoever is, in time.
        if self.table.len() > 0 {
            self.push_job(Job::Neighbours, out);
        }
    }

    fn handle_resume(&mut self, held: HeldRecord, out: &mut Vec<Output<P>>) {
        let (key, version) = (held.key, held.record.version);
        if self.params.key_space.contains(&key) && !self.params.client {
            let replicate_in = self.rng.jitter(self.params.replicate_interval);
            if self.store.resume(self.now, held, replicate_in).is_ok() {
                out.push(Output::Event(Event::RecordKept { key, version }));
            }
        }
    }

    fn handle_unsent(&mut self, tag: Tag, reason: UnsentReason, out: &mut Vec<Output<P>>) {
        let Some(open) = self.requests.unsent(tag) else { return };
        self.request_ended(open.tag, &open.purpose);
        self.count_effort(&open.purpose, |effort| effort.messages = effort.messages.saturating_sub(1));
        if let Purpose::Write(task) = open.purpose
            && (matches!(reason, UnsentReason::TooLarge { .. }) || matches!(open.request, Request::FindNode { .. }))
            && self.write_elsewhere(task, &open, out)
        {
            return;
        }
        if matches!(reason, UnsentReason::Unreachable | UnsentReason::NotDialable) {
            self.contact_missed(&open, out);
        }
        self.request_failed(open, Rejection::Unsent(reason), out);
    }

    fn handle_tick(&mut self, out: &mut Vec<Output<P>>) {
        for _ in 0..BATCH {
            match self.requests.pop_overdue(self.now) {
                None => break,
                Some(Overdue::Repeat(open)) => self.repeat(*open, out),
                Some(Overdue::Unanswered(open)) => {
                    self.request_ended(open.tag, &open.purpose);
                    self.counts.unanswered += 1;
                    self.contact_missed(&open, out);
                    self.request_failed(open, Rejection::Silent, out);
                }
            }
        }
        self.end_overdue_tasks(out);
        self.ask_returning(out);
        self.bound_journal();
        self.maintain(out);
    }

    fn repeat(&mut self, open: Open<P>, out: &mut Vec<Output<P>>) {
        if let (Purpose::Lookup { task, .. }, Some(id)) = (&open.purpose, &open.expect) {
            self.lookup_slow(*task, id, out);
        }
        self.count_effort(&open.purpose, |effort| effort.messages += 1);
        // A relay that has died takes all who are behind it along. Better to know at once. If nobody is known behind it, it
        // may be anyone whose address a stranger has written.
        if let Some(relay) = P::relay(&open.to).filter(|relay| self.table.is_relay(relay)) {
            self.probe(None, &relay, out);
        }
        let request = match open.request {
            Request::Store { key, record, token, expect } => {
                let record = record.aged(self.now.since(open.sent));
                Request::Store { key, record, token, expect }
            }
            request => request,
        };
        let again = Tag(self.rng.next_u64());
        self.requests.sent_again(self.now, open.tag, again);
        self.transmit(open.to, again, request, out);
    }

    /// A request has no answer and will have none.
    fn request_failed(&mut self, open: Box<Open<P>>, reason: Rejection, out: &mut Vec<Output<P>>) {
        match open.purpose {
            Purpose::Lookup { task, .. } => self.lookup_missed(task, &open, reason, out),
            Purpose::Write(task) => {
                if let Some(id) = open.expect {
                    self.write_ended(task, P::new(id, open.to, Vec::new()), Err(reason), out);
                }
            }
            Purpose::Single(task) => self.single_failed(task, reason, out),
            Purpose::Probe => {
                self.probe_ended(&open.to);
            }
            Purpose::Repair => {}
        }
    }

    /// A message with the own id came in. If it is a request of ours, it was sent to this node itself.
    fn handle_echo(&mut self, tag: Tag, out: &mut Vec<Output<P>>) {
        let Some(open) = self.requests.unsent(tag) else { return };
        self.request_ended(open.tag, &open.purpose);
        match open.purpose {
            Purpose::Single(task) => self.end_task(task, Err(OperationError::Itself), out),
            _ => self.request_failed(open, Rejection::Silent, out),
        }
    }
}

/// Whether a reply is of the kind that a request asks for.
fn reply_fits<P: Peer>(request: &Request, reply: &Reply<P>) -> bool {
    match reply {
        Reply::Refused(_) => true,
        Reply::Pong => *request == Request::Ping,
        Reply::Found(Found { records, more, .. }) => match request {
            Request::FindNode { .. } => records.is_empty() && !more,
            Request::FindValue { .. } => true,
            _ => false,
        },
        Reply::Stored => matches!(request, Request::Store { .. }),
    }
}
