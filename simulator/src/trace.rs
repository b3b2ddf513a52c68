//! The trace: a hash of everything that happens, in its order.

use std::hash::Hasher;
use std::time::Duration;

use kademlia_dht::core::{OperationId, Outcome, Time};
use kademlia_dht::gateway::{Message, Version};
use siphasher::sip::SipHasher13;

use crate::handle::{Handle, mix};
use crate::queue::Delivery;
use crate::wire::Arrivals;
use crate::world::Ended;

/// The hash so far. Nodes are told by their numbers.
#[derive(Debug)]
pub(crate) struct Trace(SipHasher13);

impl Trace {
    pub(crate) fn new() -> Self {
        Trace(SipHasher13::new())
    }

    pub(crate) fn hash(&self) -> u64 {
        self.0.finish()
    }

    pub(crate) fn died(&mut self, now: Time, node: u32) {
        self.note(now, Noted::Death, node, 0, 0);
    }

    pub(crate) fn started(&mut self, now: Time, node: u32, operation: OperationId) {
        self.note(now, Noted::Start, node, operation.0, 0);
    }

    /// `size` is that of the message.
    pub(crate) fn sent(&mut self, now: Time, delivery: &Delivery, size: usize, [first, second]: Arrivals) {
        let Delivery { from, to, message } = delivery;
        let what = kind(message, size) ^ micros(first) ^ micros(second).rotate_left(32);
        self.note(now, Noted::Sent, *from, u64::from(*to), what);
    }

    pub(crate) fn delivered(&mut self, now: Time, delivery: &Delivery) {
        let Delivery { from, to, message } = delivery;
        self.note(now, Noted::Delivery, *from, u64::from(*to), message.tag.0);
    }

    pub(crate) fn woken(&mut self, now: Time, node: u32) {
        self.note(now, Noted::Wake, node, 0, 0);
    }

    pub(crate) fn ended(&mut self, now: Time, node: u32, operation: OperationId, ended: &Ended) {
        self.note(now, Noted::Done, node, operation.0, digest(ended));
    }

    pub(crate) fn kept(&mut self, now: Time, node: u32, version: Version) {
        self.note(now, Noted::Kept, node, 0, version.0);
    }

    fn note(&mut self, now: Time, what: Noted, node: u32, whom: u64, more: u64) {
        self.0.write_u64(now.as_micros() << 3 | what as u64);
        self.0.write_u64(u64::from(node) << 32 | whom);
        self.0.write_u64(more);
    }
}

/// What the trace has an entry of.
#[derive(Clone, Copy)]
enum Noted {
    Death,
    Start,
    Sent,
    Delivery,
    Wake,
    Done,
    Kept,
}

/// When a message arrives, as a number.
fn micros(time: Option<Duration>) -> u64 {
    time.map_or(u64::MAX, |time| time.as_micros() as u64)
}

/// What a message is, and how much it says, as a number.
fn kind(message: &Message<Handle>, size: usize) -> u64 {
    message.name().bytes().fold(size as u64, |kind, letter| mix(kind ^ u64::from(letter)))
}

/// What an operation gave, as a number.
fn digest(ended: &Ended) -> u64 {
    match ended {
        Ok(Outcome::Saved(receipt)) => receipt.version.0 ^ receipt.accepted.len() as u64,
        Ok(Outcome::Queried(report)) => report.found.as_ref().map_or(1, |found| found.record.version.0),
        Ok(Outcome::LookedUp(report)) => {
            report.closest.iter().fold(2, |digest, node| mix(digest ^ u64::from(node.number())))
        }
        Ok(_) => 3,
        Err(_) => 4,
    }
}
