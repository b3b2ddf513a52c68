//! The trace: a hash of everything that happens to nodes and that they do, in its order.

use std::hash::Hasher;
use std::time::Duration;

use kademlia_dht::core::{Command, OperationId, Time};
use kademlia_dht::gateway::{Id, Version};
use siphasher::sip::SipHasher13;

use crate::digest;
use crate::handle::Handle;
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

    pub(crate) fn born(&mut self, now: Time, node: u32) {
        self.note(now, Noted::Birth, node, 0, 0);
    }

    pub(crate) fn died(&mut self, now: Time, node: u32) {
        self.note(now, Noted::Death, node, 0, 0);
    }

    pub(crate) fn started(&mut self, now: Time, node: u32, operation: OperationId, command: &Command<Handle>) {
        self.note(now, Noted::Start, node, operation.0, digest::of_command(command));
    }

    /// `size` is that of the message.
    pub(crate) fn sent(&mut self, now: Time, delivery: &Delivery, size: usize, [first, second]: Arrivals) {
        let Delivery { from, to, message } = delivery;
        let what = digest::of_message(message, size) ^ micros(first) ^ micros(second).rotate_left(32);
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
        self.note(now, Noted::Done, node, operation.0, digest::of_result(ended));
    }

    pub(crate) fn kept(&mut self, now: Time, node: u32, key: &Id, version: Version) {
        self.note(now, Noted::Kept, node, 0, version.0 ^ digest::start_of(key));
    }

    pub(crate) fn expired(&mut self, now: Time, node: u32, key: &Id) {
        self.note(now, Noted::Expired, node, 0, digest::start_of(key));
    }

    fn note(&mut self, now: Time, what: Noted, node: u32, whom: u64, more: u64) {
        self.0.write_u64(now.as_micros() << 4 | what as u64);
        self.0.write_u64(u64::from(node) << 32 | whom);
        self.0.write_u64(more);
    }
}

/// What the trace has an entry of.
#[derive(Clone, Copy)]
enum Noted {
    Birth,
    Death,
    Start,
    Sent,
    Delivery,
    Wake,
    Done,
    Kept,
    Expired,
}

/// When a message arrives, as a number.
fn micros(time: Option<Duration>) -> u64 {
    time.map_or(u64::MAX, |time| time.as_micros() as u64)
}
