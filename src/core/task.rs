//! Tasks: the operations of the user and the lookups of maintenance, from their start to their end.

use std::collections::{BTreeMap, BTreeSet};

use kademlia_gateways::{Expect, Id, Peer, Record, RecordKind, Request, Tag};

use super::io::{Command, Effort, OperationError, OperationId, Outcome, Output};
use super::lookup::Lookup;
use super::node::{BATCH, Node};
use super::requests::Purpose;
use super::time::Time;
use super::trace::Recorder;
use super::write::{SaveOrder, Writing};

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
    /// What it asks whom, if somebody wants to know.
    pub(super) trace: Option<Box<Recorder<P>>>,
}

/// What a task is doing now.
#[derive(Debug)]
pub(crate) enum Work<P: Peer> {
    /// Waits for the answer of one node.
    Asking(Question),
    /// Looks for the nodes closest to a target.
    Looking(Lookup<P>, Goal<P>),
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

/// Which records of a key are looked for.
#[derive(Debug)]
pub(crate) enum Wanted {
    /// All of them.
    All,
    /// Those of this owner.
    Owner(Box<[u8; 33]>),
    /// The value whose hash the key is.
    Immutable,
}

/// What a lookup is for.
#[derive(Debug)]
pub(crate) enum Goal<P> {
    Join {
        through: P,
        tries: usize,
    },
    Refresh,
    Lookup,
    /// And to keep alive what is found.
    Query {
        of: Wanted,
        keep: bool,
    },
    Save(SaveOrder),
    Replicate {
        record: Record,
    },
    Republish {
        record: Record,
    },
}

impl<P> Goal<P> {
    /// Whether a record is one of those that are looked for.
    pub(super) fn wants(&self, record: &Record) -> bool {
        match (self, &record.kind) {
            (Goal::Query { of: Wanted::Owner(owner), .. }, RecordKind::Owned(owned)) => owned.owner == **owner,
            (Goal::Query { of: Wanted::Owner(_), .. }, _) => false,
            (Goal::Query { of: Wanted::Immutable, .. }, kind) => *kind == RecordKind::Immutable,
            _ => true,
        }
    }
}

/// Start and end.
impl<P: Peer> Node<P> {
    pub(super) fn handle_command(&mut self, operation: OperationId, command: Command<P>, out: &mut Vec<Output<P>>) {
        // To see what it is busy with takes nothing that it is short of.
        let is_full = self.operations.len() >= self.params.limits.operations && !command.is_look();
        if is_full || self.operations.contains_key(&operation) {
            return out.push(Output::Done { operation, result: Err(OperationError::Busy) });
        }
        let operation = Some(operation);
        let query = |of| Goal::Query { of, keep: false };
        match command.within(self.params.key_space) {
            Command::Join { address } => self.ask(operation, address, None, Request::Ping, Question::Join, out),
            Command::Ping { address } => self.ask(operation, address, None, Request::Ping, Question::Ping, out),
            Command::FindNode { address, target } => {
                self.ask(operation, address, None, Request::FindNode { target }, Question::FindNode, out);
            }
            Command::FindValue { address, key } => {
                self.ask(
                    operation,
                    address,
                    None,
                    Request::FindValue { key, after: None, proof: None },
                    Question::FindValue,
                    out,
                );
            }
            Command::Store { address, key, record, expect } => {
                let question = Question::Store { key, record, expect, unless_newer: false };
                self.ask(operation, address, None, Request::FindNode { target: key }, question, out);
            }
            Command::Lookup { target } => self.look(operation, target, Goal::Lookup, out),
            Command::Query { key } => self.look(operation, key, query(Wanted::All), out),
            Command::Trace { key } => {
                let trace = Some(Box::new(Recorder::new(self.now, key)));
                self.look_and_tell(operation, key, query(Wanted::All), trace, out);
            }
            Command::QueryImmutable { key } => self.look(operation, key, query(Wanted::Immutable), out),
            Command::Keep { key } => self.look(operation, key, Goal::Query { of: Wanted::All, keep: true }, out),
            Command::Forget { key } => {
                let forgotten = self.forget(&key);
                self.answer_operation(operation, Ok(Outcome::Forgotten(forgotten)), out);
            }
            Command::Ledger => self.answer_operation(operation, Ok(self.ledger()), out),
            Command::Neighbours => self.answer_operation(operation, Ok(self.neighbours()), out),
            Command::Closest { target } => self.answer_operation(operation, Ok(self.closest_known(&target)), out),
            Command::Dump => self.answer_operation(operation, Ok(self.dump()), out),
            Command::Contacts => {
                let known = self.known_peers(self.now);
                self.answer_operation(operation, Ok(Outcome::Contacts(known)), out);
            }
            Command::Introduce { addresses } => {
                let introduced = addresses.into_iter().filter(|address| self.introduce(address)).count();
                self.answer_operation(operation, Ok(Outcome::Introduced(introduced)), out);
            }
            Command::QueryOf { key, owner } => {
                self.look(operation, key, query(Wanted::Owner(Box::new(owner))), out);
            }
            Command::Save { key, content, expect, unix_milliseconds } => {
                let order = SaveOrder { content, expect, unix_milliseconds };
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

    fn insert_task(&mut self, operation: Option<OperationId>, work: Work<P>, trace: Option<Box<Recorder<P>>>) -> u64 {
        let id = self.next_task;
        self.next_task += 1;
        let deadline = self.now + self.params.lookup_timeout;
        self.task_deadlines.insert((deadline, id));
        if let Some(operation) = operation {
            self.operations.insert(operation, id);
        }
        let (started, effort) = (self.now, Effort::default());
        self.tasks.insert(id, Task { operation, started, deadline, effort, open: Vec::new(), work, trace });
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
        let task = self.insert_task(operation, Work::Asking(question), None);
        if !self.request(address, expect, request, Purpose::Single(task), out) {
            self.end_task(task, Err(OperationError::Busy), out);
        }
    }

    /// Starts a lookup.
    pub(super) fn look(&mut self, operation: Option<OperationId>, target: Id, goal: Goal<P>, out: &mut Vec<Output<P>>) {
        self.look_and_tell(operation, target, goal, None, out);
    }

    /// Starts a lookup, of which the recorder is to tell.
    fn look_and_tell(
        &mut self,
        operation: Option<OperationId>,
        target: Id,
        goal: Goal<P>,
        trace: Option<Box<Recorder<P>>>,
        out: &mut Vec<Output<P>>,
    ) {
        self.table.looked_up(self.now, &target);
        // Whoever is one of the closest writes to k others besides: whoever swaps must hear of it.
        let further = matches!(&goal, Goal::Save(order) if order.expect != Expect::Anything);
        let lookup = Lookup::new(target, self.params.k + usize::from(further)).admitting(self.admission.clone());
        let task = self.insert_task(operation, Work::Looking(lookup, goal), trace);
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
        let result = match task.trace {
            Some(trace) => trace.finish(self.now, task.effort, result),
            None => result,
        };
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
