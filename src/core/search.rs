//! Lookups under way: whom they ask next, what answers and silence do to them, and what follows at their end.

use std::time::Duration;

use kademlia_gateways::{Author, Expect, Found, Id, Peer, Record, Reply, Request};

use super::count::Dropped;
use super::io::{Content, Joined, LookupReport, OperationError, Outcome, Output, Rejection};
use super::lookup::{Answer, Lookup};
use super::node::Node;
use super::requests::{Open, Purpose, Tries};
use super::task::{Goal, Task, Work};
use super::time::Time;
use super::write::SaveOrder;

/// How often a join looks up the own id, if nobody answers.
const MAX_JOIN_TRIES: usize = 5;

/// Lookups.
impl<P: Peer> Node<P> {
    /// Asks the next nodes of a lookup, or goes on to what follows when it is done.
    pub(super) fn drive(&mut self, id: u64, out: &mut Vec<Output<P>>) {
        loop {
            let Some(task) = self.tasks.get_mut(&id) else { return };
            let Work::Looking(lookup, goal) = &mut task.work else { return };
            if lookup.live() < self.params.k {
                let count = self.params.k + lookup.failed();
                let fresh = self.table.closest(&lookup.target(), count, |entry, _| self.table.is_fresh(entry));
                fresh.into_iter().for_each(|peer| lookup.add(peer.clone(), 1));
                if lookup.is_done() {
                    // Nobody else is left to ask: perhaps one of those who were silent lately answers.
                    let all = self.table.closest(&lookup.target(), count, |_, _| true);
                    all.into_iter().for_each(|peer| lookup.add(peer.clone(), 1));
                    if lookup.answers().next().is_none() {
                        self.lost.peers().for_each(|peer| lookup.add(peer.clone(), 1));
                    }
                }
            }
            let enough = matches!(goal, Goal::Query { .. }) && self.query_is_settled(id);
            let Some(Task { work: Work::Looking(lookup, goal), trace, .. }) = self.tasks.get_mut(&id) else { return };
            if enough || lookup.is_done() {
                return self.finish_lookup(id, out);
            }
            // At the target, the rest of the k closest are asked at once (paper, section 2.3), unless a few will do.
            let few_will_do =
                matches!(goal, Goal::Query { .. }) && lookup.answers().any(|(_, answer)| answer.holds_something());
            let most = if lookup.has_arrived() && !few_will_do { self.params.k } else { self.params.alpha };
            if lookup.in_flight() >= most {
                return;
            }
            let Some(peer) = lookup.next() else { return };
            let target = lookup.target();
            if let Some(trace) = trace {
                trace.asked(self.now, &peer, lookup.steps_to(&peer.id()));
            }
            let request = match goal {
                // Whether a value is absent or deleted is not to be seen from its version.
                Goal::Query { .. }
                | Goal::Save(
                    SaveOrder { expect: Expect::Absent, .. } | SaveOrder { content: Content::Written(_), .. },
                ) => Request::FindValue { key: target, after: None, proof: None },
                _ => Request::FindNode { target },
            };
            // Who asks for the nodes themselves wants each of them; all others are content with the next one.
            let tries = if matches!(goal, Goal::Lookup) { Tries::Three } else { Tries::Two };
            let purpose = Purpose::Lookup { task: id, tries };
            if !self.request(peer.address().clone(), Some(peer.id()), request, purpose, out) {
                let Some(Task { work: Work::Looking(lookup, _), trace, .. }) = self.tasks.get_mut(&id) else { return };
                lookup.missed(&peer.id(), peer.address());
                if let Some(trace) = trace {
                    trace.not_asked(&peer.id());
                }
            }
        }
    }

    fn with_lookup<R>(&mut self, id: u64, change: impl FnOnce(&mut Lookup<P>) -> R) -> Option<R> {
        match self.tasks.get_mut(&id) {
            Some(Task { work: Work::Looking(lookup, _), .. }) => Some(change(lookup)),
            _ => None,
        }
    }

    pub(super) fn lookup_slow(&mut self, id: u64, peer: &Id, out: &mut Vec<Output<P>>) {
        self.with_lookup(id, |lookup| lookup.slow(peer));
        self.drive(id, out);
    }

    pub(super) fn lookup_missed(&mut self, id: u64, open: &Open<P>, reason: Rejection, out: &mut Vec<Output<P>>) {
        if let (Some(peer), Some(task)) = (&open.expect, self.tasks.get_mut(&id))
            && let Work::Looking(lookup, _) = &mut task.work
        {
            lookup.missed(peer, &open.to);
            if let Some(trace) = &mut task.trace {
                trace.failed(self.now, peer, reason);
            }
        }
        self.drive(id, out);
    }

    pub(super) fn lookup_answered(
        &mut self,
        id: u64,
        open: &Open<P>,
        peer: &P,
        (reply, round_trip): (Reply<P>, Duration),
        out: &mut Vec<Output<P>>,
    ) {
        if self.ask_with_proof(open, &reply, out) {
            return;
        }
        let mut found = match reply {
            Reply::Found(found) => found,
            Reply::Refused(refusal) => return self.lookup_missed(id, open, Rejection::Refused(refusal), out),
            Reply::Pong | Reply::Stored => return self.lookup_missed(id, open, Rejection::Silent, out),
        };
        // What is not looked for, or not sound, counts as well for where the answer goes on.
        let (last, count) = (found.records.last().map(Record::author), found.records.len());
        found.records = self.sound(id, open, found.records);
        if self.ask_for_more(id, open, &mut found, (last, count), out) {
            return;
        }
        let contacts = self.usable(found.contacts);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.effort.count_answer();
        let Work::Looking(lookup, _) = &mut task.work else { return };
        let answer = Answer { token: found.token, held: found.held, records: found.records };
        let hops = lookup.answered(&peer.id(), answer);
        if let Some(trace) = &mut task.trace {
            trace.answered(self.now, &peer.id(), round_trip, lookup.answer_of(&peer.id()), &contacts);
        }
        let Some(hops) = hops else { return };
        let further = hops.saturating_add(1);
        for contact in contacts {
            // An address that answers us comes before one that we were told, and that before one that was silent.
            let known = self.table.get(&contact.id());
            if let Some(entry) = known.filter(|entry| self.table.is_fresh(entry)) {
                lookup.add(entry.peer.clone(), further);
            }
            lookup.add(contact, further);
            if let Some(entry) = known.filter(|entry| !self.table.is_fresh(entry)) {
                lookup.add(entry.peer.clone(), further);
            }
        }
        self.drive(id, out);
    }

    /// Those of the records in an answer that may be under the key that is looked up, each author's once. What others have
    /// sent as well is not checked again.
    fn sound(&mut self, id: u64, open: &Open<P>, records: Vec<Record>) -> Vec<Record> {
        let Some(Task { work: Work::Looking(lookup, goal), .. }) = self.tasks.get(&id) else { return Vec::new() };
        let is_sound = |record: &Record| {
            let mut known = lookup.answers().flat_map(|(_, answer)| &answer.records);
            known.any(|known| known.newness(record).is_eq())
                || self.params.rules.check(&lookup.target(), record).is_ok()
        };
        let records: Vec<Record> = records.into_iter().filter(|record| goal.wants(record)).collect();
        let all = records.len();
        let most = self.params.limits.records_per_key.saturating_add(2);
        let mut sound: Vec<Record> = Vec::new();
        let mut last = match open.request {
            Request::FindValue { after, .. } => after,
            _ => None,
        };
        for record in records.into_iter().take(most) {
            let follows = last.is_none_or(|last| last < record.author());
            last = last.max(Some(record.author()));
            if follows && record.remaining > 0 && is_sound(&record) {
                sound.push(record);
            }
        }
        for _ in sound.len()..all {
            self.drop_message(Dropped::Record);
        }
        sound
    }

    /// Asks a node for the records that it had no room for. `last` and `count` are of all that it has sent now. Whether it
    /// is asked.
    fn ask_for_more(
        &mut self,
        id: u64,
        open: &Open<P>,
        found: &mut Found<P>,
        (last, count): (Option<Author>, usize),
        out: &mut Vec<Output<P>>,
    ) -> bool {
        let (Request::FindValue { key, after, .. }, Some(peer), true) = (&open.request, open.expect, found.more) else {
            return false;
        };
        let Some(last) = last.filter(|last| after.is_none_or(|after| after < *last)) else { return false };
        let records = std::mem::take(&mut found.records);
        let now = self.now;
        let come = self.with_lookup(id, |lookup| lookup.more_to_come(now, &peer, records, count)).flatten();
        // All of them together may take as long as one request: nobody else is to be held up.
        let is_enough = |(come, since): (usize, Time)| {
            come >= self.params.limits.records_per_key || since + self.params.request_timeout <= now
        };
        if come.is_none_or(is_enough) {
            return false;
        }
        let again = Request::FindValue { key: *key, after: Some(last), proof: Some(found.token) };
        self.ask_again(open, again, out)
    }

    /// The contacts of a reply that can be looked at further: at most k, of the key space, and not this node.
    pub(super) fn usable(&mut self, contacts: Vec<P>) -> Vec<P> {
        let (id, space, k) = (self.id, self.params.key_space, self.params.k);
        let all = contacts.len();
        let usable: Vec<P> = contacts.into_iter().take(k).filter(|contact| space.contains(&contact.id())).collect();
        for _ in usable.len()..all {
            self.drop_message(Dropped::Contact);
        }
        usable.into_iter().filter(|contact| contact.id() != id).collect()
    }

    /// Ends a query whose time is over with what was found until then. False if it found nothing, or is no query.
    pub(super) fn end_late_query(&mut self, id: u64, out: &mut Vec<Output<P>>) -> bool {
        let Some(Task { work: Work::Looking(lookup, Goal::Query { .. }), .. }) = self.tasks.get(&id) else {
            return false;
        };
        let found = lookup.answers().any(|(_, answer)| !answer.records.is_empty());
        if found {
            self.finish_lookup(id, out);
        }
        found
    }

    fn finish_lookup(&mut self, id: u64, out: &mut Vec<Output<P>>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let Work::Looking(lookup, goal) = std::mem::replace(&mut task.work, Work::Between) else { return };
        task.effort.hops = lookup.hops();
        match goal {
            Goal::Join { through, tries } if lookup.answers().next().is_none() => {
                self.join_again(id, through, tries, &lookup, out);
            }
            Goal::Join { through, .. } => {
                self.schedule_refreshes(out);
                let joined = Joined { through: through.id(), contacts: self.table.len(), effort: self.effort(id) };
                self.end_task(id, Ok(Outcome::Joined(joined)), out);
            }
            Goal::Refresh => self.end_task(id, Ok(Outcome::Nodes(Vec::new())), out),
            Goal::Lookup => {
                let result = self.closest_found(id, &lookup).map(Outcome::LookedUp);
                self.end_task(id, result, out);
            }
            goal @ Goal::Query { .. } => self.finish_query(id, &lookup, &goal, out),
            Goal::Save(order) => self.start_save(id, &lookup, &order, out),
            Goal::Replicate { record } => self.start_replicate(id, &lookup, record, out),
            Goal::Republish { record } => self.start_republish(id, &lookup, record, out),
        }
    }
}

/// Ends of lookups.
impl<P: Peer> Node<P> {
    /// Nobody answered in the lookup of the own id, though the node joined through was there a moment ago: perhaps it was
    /// only not heard.
    fn join_again(&mut self, id: u64, through: P, tries: usize, lookup: &Lookup<P>, out: &mut Vec<Output<P>>) {
        let is_alone = self.table.len() == 0 && self.admits(&through);
        if tries >= MAX_JOIN_TRIES || is_alone {
            return self.end_task(id, Err(nobody(lookup)), out);
        }
        self.join_through(id, through, tries + 1, out);
    }

    pub(super) fn join_through(&mut self, id: u64, through: P, tries: usize, out: &mut Vec<Output<P>>) {
        self.table.looked_up(self.now, &self.id);
        let mut lookup = Lookup::new(self.id, self.params.k).admitting(self.admission.clone());
        // All others are in the table.
        if !self.admits(&through) {
            lookup.add(through.clone(), 1);
        }
        if let Some(task) = self.tasks.get_mut(&id) {
            task.work = Work::Looking(lookup, Goal::Join { through, tries });
        }
        self.drive(id, out);
    }

    fn closest_found(&self, id: u64, lookup: &Lookup<P>) -> Result<LookupReport<P>, OperationError<P>> {
        if lookup.answers().next().is_none() && self.had_contacts {
            return Err(nobody(lookup));
        }
        let closest = lookup.answers().take(self.params.k).map(|(peer, _)| peer.clone()).collect();
        Ok(LookupReport { closest, effort: self.effort(id) })
    }
}

/// Why a lookup has no answer at all.
pub(super) fn nobody<P: Peer>(lookup: &Lookup<P>) -> OperationError<P> {
    match lookup.failed() {
        0 => OperationError::NoPeers,
        asked => OperationError::NobodyAnswered { asked },
    }
}
