//! What a lookup asked whom, for who wants to know. A lookup of which nobody does has no recorder, and does the same.

use std::time::Duration;

use kademlia_gateways::{Distance, Id, Peer, Version};

use super::io::{Effort, OperationError, Outcome, QueryReport, Rejection};
use super::lookup::Answer;
use super::time::Time;

/// A query, request by request.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Trace<P: Peer> {
    /// What was looked for.
    pub target: Id,
    /// What a query would have given, or how it would have failed.
    pub result: Result<QueryReport<P>, OperationError<P>>,
    /// The requests, in the order in which they were sent: as many as [`Effort::asked`] says. Of these as many were answered
    /// as [`Effort::answered`] says. Stores that follow a query, to repair what it met, are not among them.
    pub requests: Vec<TracedRequest<P>>,
    /// What it took.
    pub effort: Effort,
}

/// One node that was asked, at one of its addresses.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TracedRequest<P: Peer> {
    /// Who was asked, by the address that was used.
    pub peer: P,
    /// From the target.
    pub distance: Distance,
    /// Steps from this node: 1 for its own contacts, and for any other one more than for who named it.
    pub hop: usize,
    /// Who named it; `None` if it was a contact of this node.
    pub told_by: Option<Id>,
    /// When it was asked, from the start of the lookup.
    pub started: Duration,
    /// When it had answered, or was given up; or when the lookup ended.
    pub ended: Duration,
    /// From the last message that it answered to that answer; `None` without one. A request is sent again where no answer
    /// comes, and a further one where an answer has not all records.
    pub round_trip: Option<Duration>,
    /// What came of it.
    pub answer: TracedAnswer,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TracedAnswer {
    /// It has what is looked for.
    Value {
        /// The newest version that it has, or says it has.
        version: Version,
        /// So many records it has sent that prove who wrote them, or are plain. None, if there is no way for them to here.
        records: usize,
        /// So many contacts it named.
        contacts: usize,
    },
    /// It has nothing under the target, but named contacts nearer to it.
    Contacts {
        /// So many; none, if it knows nobody else.
        count: usize,
    },
    /// It gave no answer of use.
    Failed(Rejection),
    /// The lookup ended before it had answered: it was not needed any more.
    NotAwaited,
}

/// Notes what a lookup asks whom.
#[derive(Debug)]
pub(crate) struct Recorder<P: Peer> {
    target: Id,
    start: Time,
    requests: Vec<Noted<P>>,
}

#[derive(Debug)]
struct Noted<P: Peer> {
    request: TracedRequest<P>,
    is_open: bool,
    /// Whom its answer named.
    named: Vec<Id>,
}

impl<P: Peer> Recorder<P> {
    pub(crate) fn new(now: Time, target: Id) -> Self {
        Recorder { target, start: now, requests: Vec::new() }
    }

    /// `peer`, so many steps away, is being asked.
    pub(crate) fn asked(&mut self, now: Time, peer: &P, steps: Option<u16>) {
        let (id, hop) = (peer.id(), usize::from(steps.unwrap_or(1)));
        let names_it = |noted: &&Noted<P>| noted.request.hop + 1 == hop && noted.named.contains(&id);
        let started = now.since(self.start);
        let request = TracedRequest {
            peer: peer.clone(),
            distance: id.distance(&self.target),
            hop,
            told_by: self.requests.iter().find(names_it).map(|noted| noted.request.peer.id()),
            started,
            ended: started,
            round_trip: None,
            answer: TracedAnswer::NotAwaited,
        };
        self.requests.push(Noted { request, is_open: true, named: Vec::new() });
    }

    /// It was not asked after all: too many others are.
    pub(crate) fn not_asked(&mut self, id: &Id) {
        self.requests.pop_if(|noted| noted.is_open && noted.request.peer.id() == *id);
    }

    /// `id` has answered, and named these contacts.
    pub(crate) fn answered(
        &mut self,
        now: Time,
        id: &Id,
        round_trip: Duration,
        answer: Option<&Answer>,
        contacts: &[P],
    ) {
        let records = answer.map(|answer| answer.records.as_slice()).unwrap_or_default();
        let held = answer.and_then(|answer| answer.held);
        let version = records.iter().map(|record| record.version).chain(held).max();
        let outcome = match version {
            Some(version) => TracedAnswer::Value { version, records: records.len(), contacts: contacts.len() },
            None => TracedAnswer::Contacts { count: contacts.len() },
        };
        if let Some(noted) = self.end(now, id, outcome) {
            noted.request.round_trip = Some(round_trip);
            noted.named = contacts.iter().map(P::id).collect();
        }
    }

    /// `id` gave no answer of use.
    pub(crate) fn failed(&mut self, now: Time, id: &Id, reason: Rejection) {
        self.end(now, id, TracedAnswer::Failed(reason));
    }

    /// A lookup asks a node at one address at a time.
    fn end(&mut self, now: Time, id: &Id, answer: TracedAnswer) -> Option<&mut Noted<P>> {
        let noted = self.requests.iter_mut().find(|noted| noted.is_open && noted.request.peer.id() == *id)?;
        noted.is_open = false;
        noted.request.ended = now.since(self.start);
        noted.request.answer = answer;
        Some(noted)
    }

    /// The lookup has ended so, or the user has ended it.
    pub(crate) fn finish(
        self,
        now: Time,
        effort: Effort,
        result: Result<Outcome<P>, OperationError<P>>,
    ) -> Result<Outcome<P>, OperationError<P>> {
        let elapsed = now.since(self.start);
        let (result, effort) = match result {
            Ok(Outcome::Queried(report)) => {
                let effort = report.effort;
                (Ok(report), effort)
            }
            Err(error) if error != OperationError::Cancelled => (Err(error), Effort { elapsed, ..effort }),
            other => return other,
        };
        let requests = self.requests.into_iter().map(|noted| {
            let ended = if noted.is_open { elapsed } else { noted.request.ended };
            TracedRequest { ended, ..noted.request }
        });
        let (target, requests) = (self.target, requests.collect());
        Ok(Outcome::Traced(Box::new(Trace { target, result, requests, effort })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::Handle;
    use kademlia_gateways::Token;

    fn peer(n: u8) -> Handle {
        Handle { id: Id::from_prefix(&[n]), address: n.into() }
    }

    fn at(milliseconds: u64) -> Time {
        Time::from_micros(milliseconds * 1000)
    }

    fn finished(recorder: Recorder<Handle>, now: Time) -> Vec<TracedRequest<Handle>> {
        match recorder.finish(now, Effort::default(), Err(OperationError::NoPeers)) {
            Ok(Outcome::Traced(trace)) => trace.requests,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn of_several_who_named_a_contact_the_first_one_as_many_steps_away_is_told() {
        let mut recorder = Recorder::new(at(0), Id::ZERO);
        let answer = Answer { token: Token(0), held: None, records: Vec::new() };
        for (n, steps, named) in [(8, 1, [4, 5]), (9, 1, [5, 6]), (4, 2, [6, 2]), (5, 2, [2, 3])] {
            recorder.asked(at(0), &peer(n), Some(steps));
            recorder.answered(at(1), &peer(n).id, Duration::ZERO, Some(&answer), &named.map(peer));
        }
        for (n, steps) in [(6, 2), (2, 3), (3, 3), (7, 1)] {
            recorder.asked(at(2), &peer(n), Some(steps));
        }
        let told: Vec<_> = finished(recorder, at(3)).into_iter().map(|request| request.told_by).collect();
        let by = |n: u8| Some(peer(n).id);
        assert_eq!(told, [None, None, by(8), by(8), by(9), by(4), by(5), None]);
    }

    #[test]
    fn what_was_not_asked_is_not_there_and_what_had_no_answer_ends_with_the_lookup() {
        let mut recorder = Recorder::new(at(5), Id::ZERO);
        recorder.asked(at(5), &peer(1), Some(1));
        recorder.asked(at(6), &peer(2), Some(1));
        recorder.not_asked(&peer(2).id);
        let silent = finished(recorder, at(9));
        let [request] = &silent[..] else { panic!("{silent:?}") };
        assert_eq!((request.peer, &request.answer), (peer(1), &TracedAnswer::NotAwaited));
        assert_eq!((request.started, request.ended), (Duration::ZERO, Duration::from_millis(4)));
    }

    #[test]
    fn a_contact_that_is_asked_at_another_address_has_another_request() {
        let mut recorder = Recorder::new(at(0), Id::ZERO);
        recorder.asked(at(0), &peer(1), Some(1));
        recorder.failed(at(2), &peer(1).id, Rejection::Silent);
        recorder.asked(at(2), &Handle { address: 100, ..peer(1) }, Some(1));
        recorder.answered(at(3), &peer(1).id, Duration::from_millis(1), None, &[]);
        let requests = finished(recorder, at(3));
        let answers: Vec<_> = requests.iter().map(|request| (request.peer.address, request.answer.clone())).collect();
        assert_eq!(answers, [(1, TracedAnswer::Failed(Rejection::Silent)), (100, TracedAnswer::Contacts { count: 0 })]);
    }
}
