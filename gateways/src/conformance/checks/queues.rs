//! What happens where one side is slower than the other.

use std::time::Duration;

use super::{Checked, ensure, ensure_eq, ensure_next, ensure_next_tag, start_two};
use crate::conformance::messages::{outbound, request};
use crate::conformance::node::{STUCK, a_moment};
use crate::conformance::{Failure, TestNode, Transport};
use crate::gateway::{Outbound, Outbox, UnsentReason};
use crate::link::MAX_PENDING;

/// No queue may take more than so many messages.
const BOUND: u64 = 100_000;

/// How many datagrams are sent before it is looked whether they were received: few enough for any receive buffer.
const VOLLEY: u64 = 32;

/// What a receiver of datagrams may take for one volley, before the next follows anyway.
const VOLLEY_TIME: Duration = Duration::from_millis(20);

/// So many datagrams must have been dropped and counted.
const COUNTED: u64 = 100;

pub(crate) fn keeps_order(transport: &Transport) -> Checked {
    let (mut one, mut two) = start_two(transport)?;
    for window in 0..20 {
        for n in 0..500 {
            one.send_patiently(&two.address(), &request(window * 500 + n))?;
        }
        for n in 0..500 {
            ensure_next_tag(&mut two, window * 500 + n)?;
        }
    }
    two.ensure_quiet()?;
    one.ensure_quiet()
}

pub(crate) fn waits_or_counts(transport: &Transport) -> Checked {
    let (mut one, mut two) = start_two(transport)?;
    if transport.is_reliable() {
        let taken = one.send_until_stuck(&two.address(), MAX_PENDING as u64 + 500)?;
        two.wait_until_stuck()?;
        for n in 0..taken {
            ensure_next_tag(&mut two, n)?;
        }
        ensure_eq("messages dropped because the node did not keep up", &two.host.counts().queue_full, &0)?;
    } else {
        drop_datagrams(&mut one, &mut two)?;
    }
    // There is room again.
    one.send_patiently(&two.address(), &request(BOUND))?;
    ensure_next(&mut two, &request(BOUND)).map(drop)
}

/// Sends until some have been dropped for want of room, and takes what was not.
fn drop_datagrams(one: &mut TestNode, two: &mut TestNode) -> Checked {
    let received = |two: &TestNode| two.host.counts().received + two.host.counts().queue_full;
    // A gateway within another has as much room again.
    let most = MAX_PENDING as u64 * 4;
    let mut sent = 0;
    while two.host.counts().queue_full < COUNTED {
        ensure(sent < most, "dropped messages that are counted as such", || {
            format!("{sent} were sent, nobody read them, and the counts are {:?}", two.host.counts())
        })?;
        for _ in 0..VOLLEY {
            one.send_patiently(&two.address(), &request(sent))?;
            sent += 1;
        }
        let mut looks = VOLLEY_TIME.as_millis();
        while received(two) < sent && looks > 0 {
            a_moment();
            looks -= 1;
        }
    }
    let mut arrived = 0;
    while two.arrived_so_far().is_some() {
        arrived += 1;
    }
    let counts = two.host.counts();
    ensure(arrived > 0 && arrived + counts.queue_full <= sent, "each message arrived or dropped, not both", || {
        format!("of {sent} messages {arrived} arrived, and the counts are {counts:?}")
    })?;
    // What is still on its way within the gateway comes before anything new.
    while two.arrived_within(STUCK).is_some() {}
    Ok(())
}

pub(crate) fn hands_back_when_full(transport: &Transport) -> Checked {
    let (mut sender, receiver) = (transport.make()?, transport.make()?);
    let no_address = || Failure::unexpected("an address of the gateway", "it has none");
    let to = receiver.addresses().first().cloned().ok_or_else(no_address)?;
    let mut outbox = sender.outbox().map_err(Failure::gateway("an outbox before the first run"))?;
    // Neither of the two runs, so that nobody takes anything out of a queue.
    let taken = fill(&mut *outbox, transport, |n| outbound(&to, None, request(n)))?;
    if !transport.is_reliable() {
        return Ok(());
    }
    let mut two = TestNode::start_within(receiver, transport.deadline())?;
    let mut one = TestNode::start_with_outbox(sender, outbox, transport.deadline())?;
    for n in 0..taken {
        ensure_next_tag(&mut two, n)?;
    }
    one.send_patiently(&to, &request(BOUND))?;
    ensure_next_tag(&mut two, BOUND)
}

/// Sends until a message comes back, which must be the one that was sent. Tells how many were taken.
fn fill(outbox: &mut dyn Outbox, transport: &Transport, outbound: impl Fn(u64) -> Outbound) -> Result<u64, Failure> {
    // A kernel that drops datagrams never says that it is full.
    let most = if transport.is_reliable() { BOUND } else { BOUND / 10 };
    for n in 0..most {
        let Err(unsent) = outbox.send(outbound(n)) else { continue };
        ensure_eq("why a message is not sent when nobody takes any", &unsent.reason, &UnsentReason::QueueFull)?;
        ensure(*unsent.outbound == outbound(n), "the message back that was not sent", || {
            format!("for {} came {}", outbound(n).envelope.message(), unsent.outbound.envelope.message())
        })?;
        return Ok(n);
    }
    let came = || format!("it took {most} messages that nobody takes out");
    ensure(!transport.is_reliable(), "an outbound queue with a bound", came).map(|()| most)
}
