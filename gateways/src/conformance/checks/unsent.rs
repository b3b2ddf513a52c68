//! What is said of messages that do not arrive.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use multiaddr::Multiaddr;

use super::{Checked, ensure, ensure_eq, start_two, tag};
use crate::conformance::messages::{outbound, reply, request};
use crate::conformance::node::a_moment;
use crate::conformance::{AT_ONCE, Failure, TestNode, Transport};
use crate::gateway::{Outbound, ReplyPath, UnsentReason};
use crate::message::Tag;

/// When nothing has come for so long, nothing more will.
const NO_MORE: Duration = Duration::from_millis(500);

/// How many requests are sent to each of the two addresses, of which one has nobody, and how many answers to nobody.
const EACH: u64 = 300;

/// A connection that has never been there.
const NO_CONNECTION: ReplyPath = ReplyPath(u64::MAX);

pub(crate) fn tells_unreachable(transport: &Transport) -> Checked {
    let mut one = TestNode::start_within(transport.make()?, AT_ONCE.min(transport.deadline()))?;
    let nobody = nobodys_address(transport)?;
    for n in 0..5 {
        let reason = one.why_unsent(&nobody, request(n))?;
        ensure_eq("why a message to nobody is not sent", &reason, &UnsentReason::Unreachable)?;
    }
    // Many at once, which may wait for the same connection.
    let mut later = 0;
    for n in 0..50 {
        match one.send(&nobody, request(n)) {
            Ok(()) => later += 1,
            Err(unsent) => ensure_eq("why it is not sent", &unsent.reason, &UnsentReason::Unreachable)?,
        }
    }
    for _ in 0..later {
        ensure_eq("why it is not sent", &one.next_unsent()?.1, &UnsentReason::Unreachable)?;
    }
    one.ensure_quiet()
}

/// An address that a gateway had.
fn nobodys_address(transport: &Transport) -> Result<Multiaddr, Failure> {
    let node = transport.start()?;
    let address = node.address();
    drop(node.stop()?);
    Ok(address)
}

/// What became of messages, by their tags.
#[derive(Default)]
struct Account {
    arrived: BTreeSet<u64>,
    unsent: BTreeSet<u64>,
}

pub(crate) fn accounts_for_messages(transport: &Transport) -> Checked {
    let (mut one, mut two) = start_two(transport)?;
    let nobody = nobodys_address(transport)?;
    let mut account = Account::default();
    let (mut told_later, mut answers) = (0, 0);
    for n in 0..EACH {
        // Even tags go to somebody, odd ones to nobody.
        account.send(&mut one, &outbound(&two.address(), None, request(2 * n)))?;
        account.send(&mut one, &outbound(&nobody, None, request(2 * n + 1)))?;
        // The tags of answers are those of others, and beyond all that may be reported.
        let answer = outbound(&nobody, Some(NO_CONNECTION), reply(2 * EACH + n));
        answers += u64::from(account.send(&mut one, &answer)?);
        while let Some(inbound) = two.arrived_so_far() {
            account.arrive(tag(&inbound.envelope))?;
        }
        while let Some((tag, _)) = one.unsent_so_far() {
            account.report(tag)?;
            told_later += 1;
        }
    }
    if !transport.is_reliable() {
        // Who may lose messages without a word may also say nothing here. What is said must be true.
        while let Some((tag, _)) = one.unsent_within(NO_MORE) {
            account.report(tag)?;
        }
        while let Some(inbound) = two.arrived_within(NO_MORE) {
            account.arrive(tag(&inbound.envelope))?;
        }
        return Ok(());
    }
    while account.arrived.len() as u64 != EACH {
        account.arrive(tag(&two.next()?.envelope))?;
    }
    while account.unsent.len() as u64 != EACH {
        account.report(one.next_unsent()?.0)?;
        told_later += 1;
    }
    let expected = "a count of all messages that were queued and not sent, answers among them";
    one.wait_for_counts(expected, |counts| counts.unsent.total() == told_later + answers)?;
    one.ensure_quiet()?;
    two.ensure_quiet()
}

impl Account {
    /// Sends, and again where a queue is full. Any other error must be about a message to nobody, and hand it back. Tells
    /// whether the message was taken.
    fn send(&mut self, node: &mut TestNode, outbound: &Outbound) -> Result<bool, Failure> {
        let until = Instant::now() + node.deadline();
        while let Err(unsent) = node.outbox.send(outbound.clone()) {
            ensure(*unsent.outbound == *outbound, "the very message back that was not sent", || {
                let (sent, back) = (outbound.envelope.message(), unsent.outbound.envelope.message());
                format!("for {sent} to {} came {back} to {}", outbound.to, unsent.outbound.to)
            })?;
            if unsent.reason != UnsentReason::QueueFull {
                let request = outbound.envelope.own_request();
                return request.map_or(Ok(()), |Tag(tag)| self.report(tag)).map(|()| false);
            }
            ensure(Instant::now() < until, "room in the queue", || "it stays full".to_owned())?;
            a_moment();
        }
        Ok(true)
    }

    fn arrive(&mut self, tag: u64) -> Checked {
        let valid = tag.is_multiple_of(2) && tag < 2 * EACH;
        ensure(valid, "messages that were sent there", || format!("one with the tag {tag} came"))?;
        let new = self.arrived.insert(tag) && !self.unsent.contains(&tag);
        ensure(new, "each message once, and only if it was not reported", || format!("the tag {tag} came again"))
    }

    fn report(&mut self, tag: u64) -> Checked {
        let valid = !tag.is_multiple_of(2) && tag < 2 * EACH;
        ensure(valid, "reports of requests to nobody alone", || format!("the tag {tag} was reported as unsent"))?;
        let new = self.unsent.insert(tag);
        ensure(new, "one report of each message", || format!("the tag {tag} was reported twice"))
    }
}
