//! Questions to one node, and what follows from its answer.

use kademlia_gateways::{Author, Found, Peer, Reply, Request, Version};

use super::io::{OperationError, Outcome, Output, Pong, Rejection, ValueReply};
use super::node::Node;
use super::requests::{Open, Purpose};
use super::task::{Question, Work};

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
        if self.ask_with_proof(open, &reply, out) {
            return;
        }
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.effort.count_answer();
        let Work::Asking(question) = &mut task.work else { return };
        let question = std::mem::replace(question, Question::Stored);
        let result = match (question, reply) {
            (_, Reply::Refused(refusal)) => Err(OperationError::Refused(refusal)),
            (Question::Join, _) => return self.join_through(id, peer.clone(), 1, out),
            (Question::Store { key, mut record, expect, unless_newer }, Reply::Found(found)) => {
                self.age(id, &mut record);
                let is_there = |held: Version| !record.kind.is_authentic() && held >= record.version;
                if unless_newer && record.author() == Author::Any && found.held.is_some_and(is_there) {
                    return self.end_task(id, Ok(Outcome::Stored), out);
                }
                let store = Request::Store { key, record, token: found.token, expect };
                if self.request(open.to.clone(), Some(peer.id()), store, Purpose::Single(id), out) {
                    return;
                }
                Err(OperationError::Busy)
            }
            (Question::FindValue, Reply::Found(Found { records, held: Some(held), .. })) if records.is_empty() => {
                Err(OperationError::Unreadable { held })
            }
            (Question::FindValue, Reply::Found(found)) => {
                let contacts = self.usable(found.contacts);
                Ok(Outcome::Value(ValueReply { records: found.records, more: found.more, contacts }))
            }
            (_, Reply::Found(found)) => Ok(Outcome::Nodes(self.usable(found.contacts))),
            (_, Reply::Pong) => Ok(Outcome::Pong(Pong { id: peer.id(), round_trip })),
            (_, Reply::Stored) => Ok(Outcome::Stored),
        };
        self.end_task(id, result, out);
    }

    /// Asks once more where a record is held that was not sent, as this node had not shown yet that it is at its address.
    /// Whether that was so.
    pub(super) fn ask_with_proof(&mut self, open: &Open<P>, reply: &Reply<P>, out: &mut Vec<Output<P>>) -> bool {
        let (Request::FindValue { key, after, proof: None }, Reply::Found(found)) = (&open.request, reply) else {
            return false;
        };
        if !found.records.is_empty() || (found.held.is_none() && !found.more) {
            return false;
        }
        self.ask_again(open, Request::FindValue { key: *key, after: *after, proof: Some(found.token) }, out)
    }

    /// Asks once more where a part of the answer has come from. Whether it is asked.
    pub(super) fn ask_again(&mut self, open: &Open<P>, again: Request, out: &mut Vec<Output<P>>) -> bool {
        let asked = self.request(open.to.clone(), open.expect, again, open.purpose.clone(), out);
        if asked {
            // It is the same node.
            self.count_effort(&open.purpose, |effort| effort.asked -= 1);
        }
        asked
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
