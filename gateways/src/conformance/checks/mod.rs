//! The checks themselves. Each starts gateways of its own, and says what it expected and what came.

pub(super) mod addresses;
pub(super) mod exchange;
pub(super) mod idle;
pub(super) mod queues;
pub(super) mod raw;
pub(super) mod stopping;
pub(super) mod unsent;

use super::report::{Failure, ensure, ensure_eq};
use super::{TestNode, Transport};
use crate::gateway::{Inbound, Unsent};
use crate::message::Envelope;

type Checked = Result<(), Failure>;

/// Two gateways that run.
fn start_two(transport: &Transport) -> Result<(TestNode, TestNode), Failure> {
    Ok((transport.start()?, transport.start()?))
}

/// The outbox must have taken the message.
fn sent(result: Result<(), Unsent>) -> Checked {
    result.map_err(|unsent| Failure::unexpected("a message that is sent", unsent.to_string()))
}

/// The next message must be this one.
fn ensure_next(node: &mut TestNode, expected: &Envelope) -> Result<Inbound, Failure> {
    let inbound = node.next()?;
    ensure_same("the message that was sent", &inbound.envelope, expected)?;
    Ok(inbound)
}

fn ensure_same(what: &str, came: &Envelope, expected: &Envelope) -> Checked {
    if came == expected {
        return Ok(());
    }
    let (came, expected) = (came.message(), expected.message());
    let detail = if came.to_string() == expected.to_string() { ", which differs inside" } else { "" };
    Err(Failure::unexpected(format!("{what}: {expected}"), format!("{came} came{detail}")))
}

fn tag(envelope: &Envelope) -> u64 {
    envelope.message().tag.0
}

/// The next message must have this tag.
fn ensure_next_tag(node: &mut TestNode, expected: u64) -> Checked {
    ensure_eq("the tag of the next message", &tag(&node.next()?.envelope), &expected)
}
