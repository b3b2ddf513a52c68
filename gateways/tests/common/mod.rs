//! The suite's node and messages, for tests: what should not fail panics.
#![allow(dead_code, unused_imports, unreachable_pub, reason = "each test file uses its own part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "it is a test")]

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::never;
use kademlia_gateways::conformance::{Failure, Stopped, TestNode};
#[cfg(feature = "udp")]
use kademlia_gateways::parts;
use kademlia_gateways::{Envelope, Gateway, Inbound, LinkCounts, Multiaddr, Unsent, UnsentReason, codec};

pub use kademlia_gateways::conformance::messages::{found, message, reply, request, store};

/// What should happen happens within this, or the test fails.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// How long a test watches that something does not happen.
pub const QUIET: Duration = Duration::from_millis(150);

/// Between two looks at what tells nobody when it changes.
pub fn a_moment() {
    never::<()>().recv_timeout(Duration::from_millis(1)).unwrap_err();
}

pub fn address(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

pub fn tag(envelope: &Envelope) -> u64 {
    envelope.message().tag.0
}

/// The datagrams that UDP carries a message in, under a number that no other has.
#[cfg(feature = "udp")]
pub fn datagrams_of(envelope: &Envelope) -> Vec<Vec<u8>> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let mut buffer = vec![0; parts::HEADER_BYTES];
    codec::encode(envelope, &mut buffer).unwrap();
    let mut datagrams = Vec::new();
    let sent: Result<(), ()> = parts::send(NUMBER.fetch_add(1, Ordering::Relaxed), &mut buffer, |datagram| {
        datagrams.push(datagram.to_vec());
        Ok(())
    });
    sent.unwrap();
    datagrams
}

/// A gateway that runs.
pub struct Node(TestNode);

impl Deref for Node {
    type Target = TestNode;

    fn deref(&self) -> &TestNode {
        &self.0
    }
}

impl DerefMut for Node {
    fn deref_mut(&mut self) -> &mut TestNode {
        &mut self.0
    }
}

impl Node {
    pub fn start(gateway: impl Gateway) -> Self {
        Node(TestNode::start(gateway).unwrap())
    }

    pub fn address(&self) -> Multiaddr {
        self.0.address()
    }

    pub fn send(&mut self, to: &Multiaddr, envelope: Envelope) -> Result<(), Unsent> {
        self.0.send(to, envelope)
    }

    /// The next message, which must come.
    pub fn next(&mut self) -> Inbound {
        self.0.next().unwrap()
    }

    /// The next message that could not be sent, which must be told.
    pub fn next_unsent(&mut self) -> (u64, UnsentReason) {
        self.0.next_unsent().unwrap()
    }

    /// Nothing comes and nothing is reported for a while.
    pub fn assert_quiet(&mut self) {
        self.0.ensure_quiet().unwrap();
    }

    /// Waits until the counts are as they should be, which the test makes happen by sending.
    pub fn wait_for_counts(&self, what: &str, reached: impl Fn(LinkCounts) -> bool) {
        self.0.wait_for_counts(what, reached).unwrap();
    }

    /// Sends, and tries again where a queue is full.
    pub fn send_patiently(&mut self, to: &Multiaddr, envelope: &Envelope) {
        self.0.send_patiently(to, envelope).unwrap();
    }

    /// Sends a message that cannot be sent, and gives the reason, told at once or later.
    pub fn why_unsent(&mut self, to: &Multiaddr, envelope: Envelope) -> UnsentReason {
        self.0.why_unsent(to, envelope).unwrap()
    }

    /// Waits for a while in which the gateway's thread does not wake up, which must come.
    pub fn wait_for_idleness(&mut self, what: &str) {
        self.0.wait_for_idleness(what).unwrap();
    }

    /// Stops the gateway, which must return at once and without an error.
    pub fn stop(self) -> Box<dyn Gateway> {
        self.0.stop().unwrap()
    }

    /// Waits for the gateway's return.
    pub fn join(&mut self) -> Stopped {
        self.0.join().unwrap()
    }

    /// Waits for the gateway's return or panic.
    pub fn try_join(&mut self) -> Result<Stopped, Failure> {
        self.0.join()
    }
}
