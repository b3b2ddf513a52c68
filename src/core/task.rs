//! Tasks: the operations of the user and the lookups of maintenance, from their start to their end.

use std::collections::{BTreeMap, BTreeSet};

use kademlia_gateways::{Expect, Found, Id, Peer, Record, Reply, Request, Tag};

use super::count::Dropped;
use super::io::{
    Command, Effort, Joined, LookupReport, OperationError, OperationId, Outcome, Output, Pong, Rejection, ValueReply,
};
use super::lookup::{Answer, Lookup};
use super::node::{BATCH, Node};
use super::requests::{Open, Purpose};
use super::time::Time;
use super::write::{SaveOrder, Writing};

/// How often a join looks up the own id, if nobody answers.
const MAX_JOIN_TRIES: usize = 5;

/// Something under way that takes more than one message.
#[derive(Debug)]
pub(crate) struct Task<P: Peer> {
    /// The operation whose end the user waits for; `None` for maintenance.
    pub(super) operation: Option<OperationId>,
    pub(super) started: Time,
    pub(super) deadline: Time,
    pub(super) effort: Effort,
    /// Its requests in flight, those of a write left out: these go on when the task has ended.
    pub(super) open: Vec<Tag>,
    pub(super) work: Work<P>,
}

/// What a task is doing now.
#[derive(Debug)]
pub(crate) enum Work<P: Peer> {
    /// Waits for the answer of one node.
    Asking(Question),
    /// Looks for the nodes closest to a target.
    Looking(Lookup<P>, Goal),
    /// Waits for those nodes to keep a record.
    Writing(Writing<P>),
    /// Goes over from one of these to the next within one input.
    Between,
}

/// Why one node is asked.
#[derive(Debug)]
pub(crate) enum Question {
    Join,
    Ping,
    FindNode,
    FindValue,
    /// Asks for a write token first, then has the record stored. With `unless_newer`, only where the node holds an
    /// older version or none.
    Store {
        key: Id,
        record: Record,
        expect: Expect,
        unless_newer: bool,
    },
    /// The record is on its way.
    Stored,
}

/// What a lookup is for.
#[derive(Debug)]
pub(crate) enum Goal {
    Join { through: Id, tries: usize },
    Refresh,
    Lookup,
    Query,
    Save(SaveOrder),
    Replicate { record: Record },
    Republish { record: Record },
}

/// Start and end.
impl<P: Peer> Node<P> {
    pub(super) fn handle_command(&mut self, operation: OperationId, command: Command<P>, out: &mut Vec<Output<P>>) {
        if self.operations.len() >= self.params.limits.operations || self.operations.contains_key(&operation) {
            return out.push(Output::Done { operation, result: Err(OperationError::Busy) });
        }
        let operation = Some(operation);
        match command {
            Command::Join { address } => self.ask(operation, address, None, Request::Ping, Question::Join, out),
            Command::Ping { address } => self.ask(operation, address, None, Request::Ping, Question::Ping, out),
            Command::FindNode { address, target } => {
                self.ask(operation, address, None, Request::FindNode { target }, Question::FindNode, out);
            }
            Command::FindValue { address, key } => {
                self.ask(operation, address, None, Request::FindValue { key }, Question::FindValue, out);
            }
            Command::Store { address, key, record, expect } => {
                let question = Question::Store { key, record, expect, unless_newer: false };
                self.ask(operation, address, None, Request::FindNode { target: key }, question, out);
            }
            Command::Lookup { target } => self.look(operation, target, Goal::Lookup, out),
            Command::Query { key } => self.look(operation, key, Goal::Query, out),
            Command::Save { key, value, expect, unix_milliseconds } => {
                let order = SaveOrder { value, expect, unix_milliseconds };
                if let Err(error) = self.check_save(&key, &order) {
                    return self.answer_operation(operation, Err(error), out);
                }
                self.look(operation, key, Goal::Save(order), out);
            }
        }
    }

    pub(super) fn handle_cancel(&mut self, operation: OperationId, out: &mut Vec<Output<P>>) {
        if let Some(task) = self.operations.get(&operation).copied() {
            self.end_task(task, Err(OperationError::Cancelled), out);
        }
    }

    fn insert_task(&mut self, operation: Option<OperationId>, work: Work<P>) -> u64 {
        let id = self.next_task;
        self.next_task += 1;
        let deadline = self.now + self.params.lookup_timeout;
        self.task_deadlines.insert((deadline, id));
        if let Some(operation) = operation {
            self.operations.insert(operation, id);
        }
        let (started, effort) = (self.now, Effort::default());
        self.tasks.insert(id, Task { operation, started, deadline, effort, open: Vec::new(), work });
        id
    }

    /// Asks one node.
    pub(super) fn ask(
        &mut self,
        operation: Option<OperationId>,
        address: P::Addr,
        expect: Option<Id>,
        request: Request,
        question: Question,
        out: &mut Vec<Output<P>>,
    ) {
        let task = self.insert_task(operation, Work::Asking(question));
        if !self.request(address, expect, request, Purpose::Single(task), out) {
            self.end_task(task, Err(OperationError::Busy), out);
        }
    }

    /// Starts a lookup.
    pub(super) fn look(&mut self, operation: Option<OperationId>, target: Id, goal: Goal, out: &mut Vec<Output<P>>) {
        self.table.looked_up(self.now, &target);
        let lookup = Lookup::new(target, self.params.k);
        let task = self.insert_task(operation, Work::Looking(lookup, goal));
        self.drive(task, out);
    }

    /// Ends a task: the user is told exactly once, what is still in flight serves only the table, and the next job of
    /// maintenance begins.
    pub(super) fn end_task(
        &mut self,
        id: u64,
        result: Result<Outcome<P>, OperationError<P>>,
        out: &mut Vec<Output<P>>,
    ) {
        let Some(task) = self.tasks.remove(&id) else { return };
        self.task_deadlines.remove(&(task.deadline, id));
        if self.tasks.is_empty() {
            // An empty map keeps what it has allocated.
            self.tasks = BTreeMap::new();
            self.task_deadlines = BTreeSet::new();
        }
        task.open.iter().for_each(|tag| self.requests.orphan(*tag));
        self.answer_operation(task.operation, result, out);
        if task.operation.is_none() {
            self.start_jobs(out);
        }
    }

    fn answer_operation(
        &mut self,
        operation: Option<OperationId>,
        result: Result<Outcome<P>, OperationError<P>>,
        out: &mut Vec<Output<P>>,
    ) {
        if let Some(operation) = operation {
            if self.operations.remove(&operation).is_some() && self.operations.is_empty() {
                self.operations = BTreeMap::new();
            }
            out.push(Output::Done { operation, result });
        }
    }

    pub(super) fn end_overdue_tasks(&mut self, out: &mut Vec<Output<P>>) {
        for _ in 0..BATCH {
            match self.task_deadlines.first().copied() {
                Some((deadline, task)) if deadline <= self.now => {
                    let timeout = self.params.lookup_timeout;
                    if !self.end_late_write(task, out) && !self.end_late_query(task, out) {
                        self.end_task(task, Err(OperationError::TimedOut(timeout)), out);
                    }
                }
                _ => break,
            }
        }
    }

    /// Counts what a request has taken for the task that waits for its answer, if one does.
    pub(super) fn count_effort(&mut self, purpose: &Purpose, count: impl FnOnce(&mut Effort)) {
        if let Some(task) = purpose.task().and_then(|task| self.tasks.get_mut(&task)) {
            count(&mut task.effort);
        }
    }

    /// A request has its answer, or will have none: it is not in flight for its task any more.
    pub(super) fn request_ended(&mut self, tag: Tag, purpose: &Purpose) {
        if let Some(task) = purpose.task().and_then(|task| self.tasks.get_mut(&task)) {
            task.open.retain(|open| *open != tag);
        }
    }

    /// What a task has taken up to now.
    pub(super) fn effort(&self, id: u64) -> Effort {
        let effort = |task: &Task<P>| Effort { elapsed: self.now.since(task.started), ..task.effort };
        self.tasks.get(&id).map(effort).unwrap_or_default()
    }
}

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
            let enough = matches!(goal, Goal::Query) && self.query_is_settled(id);
            let Some(Task { work: Work::Looking(lookup, goal), .. }) = self.tasks.get_mut(&id) else { return };
            if enough || lookup.is_done() {
                return self.finish_lookup(id, out);
            }
            // At the target, the rest of the k closest are asked at once (paper, section 2.3), unless a few will do.
            let few_will_do = matches!(goal, Goal::Query) && lookup.answers().any(|(_, answer)| answer.held.is_some());
            let most = if lookup.has_arrived() && !few_will_do { self.params.k } else { self.params.alpha };
            if lookup.in_flight() >= most {
                return;
            }
            let Some(peer) = lookup.next() else { return };
            let target = lookup.target();
            let request = match goal {
                // Whether a value is absent or deleted is not to be seen from its version.
                Goal::Query | Goal::Save(SaveOrder { expect: Expect::Absent, .. }) => {
                    Request::FindValue { key: target }
                }
                _ => Request::FindNode { target },
            };
            if !self.request(peer.address().clone(), Some(peer.id()), request, Purpose::Lookup(id), out) {
                self.with_lookup(id, |lookup| lookup.missed(&peer.id(), peer.address()));
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

    pub(super) fn lookup_missed(&mut self, id: u64, open: &Open<P>, out: &mut Vec<Output<P>>) {
        if let Some(peer) = &open.expect {
            self.with_lookup(id, |lookup| lookup.missed(peer, &open.to));
        }
        self.drive(id, out);
    }

    pub(super) fn lookup_answered(
        &mut self,
        id: u64,
        open: &Open<P>,
        peer: &P,
        reply: Reply<P>,
        out: &mut Vec<Output<P>>,
    ) {
        let Reply::Found(found) = reply else {
            return self.lookup_missed(id, open, out);
        };
        let contacts = self.usable(found.contacts);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.effort.count_answer();
        let Work::Looking(lookup, _) = &mut task.work else { return };
        let record = found.record;
        let held = record.as_ref().map(|record| record.version).or(found.held);
        let Some(hops) = lookup.answered(&peer.id(), Answer { token: found.token, held, record }) else { return };
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

    /// The contacts of a reply that can be looked at further: at most k, of the key space, and not this node.
    fn usable(&mut self, contacts: Vec<P>) -> Vec<P> {
        let (id, space, k) = (self.id, self.params.key_space, self.params.k);
        let all = contacts.len();
        let usable: Vec<P> = contacts.into_iter().take(k).filter(|contact| space.contains(&contact.id())).collect();
        for _ in usable.len()..all {
            self.drop_message(Dropped::Contact);
        }
        usable.into_iter().filter(|contact| contact.id() != id).collect()
    }

    /// Ends a query whose time is over with what was found until then. False if it found nothing, or is no query.
    fn end_late_query(&mut self, id: u64, out: &mut Vec<Output<P>>) -> bool {
        let Some(Task { work: Work::Looking(lookup, Goal::Query), .. }) = self.tasks.get(&id) else { return false };
        let found = lookup.answers().any(|(_, answer)| answer.record.is_some());
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
                let joined = Joined { through, contacts: self.table.len(), effort: self.effort(id) };
                self.end_task(id, Ok(Outcome::Joined(joined)), out);
            }
            Goal::Refresh => self.end_task(id, Ok(Outcome::Nodes(Vec::new())), out),
            Goal::Lookup => {
                let result = self.closest_found(id, &lookup).map(Outcome::LookedUp);
                self.end_task(id, result, out);
            }
            Goal::Query => self.finish_query(id, &lookup, out),
            Goal::Save(order) => self.start_save(id, &lookup, order, out),
            Goal::Replicate { record } => self.start_replicate(id, &lookup, record, out),
            Goal::Republish { record } => self.start_republish(id, &lookup, record, out),
        }
    }
}

/// Ends of lookups.
impl<P: Peer> Node<P> {
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

/// Questions to one node.
impl<P: Peer> Node<P> {
    pub(super) fn single_answered(
        &mut self,
        id: u64,
        open: &Open<P>,
        peer: &P,
        reply: Reply<P>,
        out: &mut Vec<Output<P>>,
    ) {
        let round_trip = self.now.since(open.sent);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.effort.count_answer();
        let Work::Asking(question) = &mut task.work else { return };
        let question = std::mem::replace(question, Question::Stored);
        let result = match (question, reply) {
            (_, Reply::Refused(refusal)) => Err(OperationError::Refused(refusal)),
            (Question::Join, _) => return self.join_through(id, peer.id(), 1, out),
            (Question::Store { key, mut record, expect, unless_newer }, Reply::Found(found)) => {
                self.age(id, &mut record);
                if unless_newer && found.held.is_some_and(|held| held >= record.version) {
                    return self.end_task(id, Ok(Outcome::Stored), out);
                }
                let store = Request::Store { key, record, token: found.token, expect };
                if self.request(open.to.clone(), Some(peer.id()), store, Purpose::Single(id), out) {
                    return;
                }
                Err(OperationError::Busy)
            }
            (Question::FindValue, Reply::Found(Found { record: None, held: Some(held), .. })) => {
                Err(OperationError::Unreadable { held })
            }
            (Question::FindValue, Reply::Found(found)) => {
                let contacts = self.usable(found.contacts);
                Ok(Outcome::Value(ValueReply { record: found.record, contacts }))
            }
            (_, Reply::Found(found)) => Ok(Outcome::Nodes(self.usable(found.contacts))),
            (_, Reply::Pong) => Ok(Outcome::Pong(Pong { id: peer.id(), round_trip })),
            (_, Reply::Stored) => Ok(Outcome::Stored),
        };
        self.end_task(id, result, out);
    }

    /// Nobody answered in the lookup of the own id, though the node joined through was there a moment ago: perhaps it was
    /// only not heard.
    fn join_again(&mut self, id: u64, through: Id, tries: usize, lookup: &Lookup<P>, out: &mut Vec<Output<P>>) {
        if tries >= MAX_JOIN_TRIES || self.table.len() == 0 {
            return self.end_task(id, Err(nobody(lookup)), out);
        }
        self.join_through(id, through, tries + 1, out);
    }

    fn join_through(&mut self, id: u64, through: Id, tries: usize, out: &mut Vec<Output<P>>) {
        self.table.looked_up(self.now, &self.id);
        let lookup = Lookup::new(self.id, self.params.k);
        if let Some(task) = self.tasks.get_mut(&id) {
            task.work = Work::Looking(lookup, Goal::Join { through, tries });
        }
        self.drive(id, out);
    }

    pub(super) fn single_failed(&mut self, id: u64, reason: Rejection, out: &mut Vec<Output<P>>) {
        let error = match reason {
            Rejection::Unsent(reason) => OperationError::Unsent(reason),
            Rejection::Refused(refusal) => OperationError::Refused(refusal),
            Rejection::Silent => OperationError::TimedOut(self.params.request_timeout),
        };
        self.end_task(id, Err(error), out);
    }
}
