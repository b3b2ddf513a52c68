//! What a gateway has dropped, refused or closed, by cause.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::codec::DecodeError;
use crate::gateway::UnsentReason;

/// What is counted at a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// Messages handed to the node.
    Received,
    /// What came in but is no message: it does not decode, ends early, or has bytes after its end.
    Malformed,
    /// What came in and starts with the number of another version of the protocol.
    OtherVersion,
    /// What came in and is larger than any message.
    Oversized,
    /// Messages of which a part came, and the others did not, or not before room was needed for those of others.
    Unfinished,
    /// Parts of messages that came before.
    Repeated,
    /// Messages dropped because the node did not keep up.
    QueueFull,
    /// Connections closed to make room for others.
    Displaced,
    /// Connections closed because the other side was too slow with its greeting.
    GreetingLate,
    /// Connections closed because what should have been a greeting is none, or not one of this network's.
    GreetingWrong,
    /// Connections closed because the other side did not finish a message that it had begun, or read nothing of what was
    /// sent to it.
    Stalled,
    /// Errors of the socket itself: a connection that could not be accepted, a receive that failed.
    SocketError,
    /// Replies to nothing that was asked there.
    Unasked,
    /// Requests of a kind, or with a value, that the gateway does not serve.
    Unserved,
    /// Requests that were refused as their source asks too much.
    Limited,
    /// Whoever an answer named at an address where it cannot be: in a local network far from this one, or in none.
    Misplaced,
}

/// How many there are.
const COUNTS: usize = Count::Misplaced as usize + 1;

impl From<&DecodeError> for Count {
    fn from(error: &DecodeError) -> Self {
        match error {
            DecodeError::Version(_) => Count::OtherVersion,
            DecodeError::TooLarge(_) => Count::Oversized,
            DecodeError::Empty | DecodeError::Malformed(_) | DecodeError::Trailing(_) => Count::Malformed,
        }
    }
}

/// A snapshot of what a link has counted since the gateway was registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkCounts {
    /// See [`Count::Received`].
    pub received: u64,
    /// See [`Count::Malformed`].
    pub malformed: u64,
    /// See [`Count::OtherVersion`].
    pub other_version: u64,
    /// See [`Count::Oversized`].
    pub oversized: u64,
    /// See [`Count::Unfinished`].
    pub unfinished: u64,
    /// See [`Count::Repeated`].
    pub repeated: u64,
    /// See [`Count::QueueFull`].
    pub queue_full: u64,
    /// See [`Count::Displaced`].
    pub displaced: u64,
    /// See [`Count::GreetingLate`].
    pub greeting_late: u64,
    /// See [`Count::GreetingWrong`].
    pub greeting_wrong: u64,
    /// See [`Count::Stalled`].
    pub stalled: u64,
    /// See [`Count::SocketError`].
    pub socket_errors: u64,
    /// See [`Count::Unasked`].
    pub unasked: u64,
    /// See [`Count::Unserved`].
    pub unserved: u64,
    /// See [`Count::Limited`].
    pub limited: u64,
    /// See [`Count::Misplaced`]. These are no messages, but parts of some.
    pub misplaced: u64,
    /// Messages that the gateway took and could not send after all.
    pub unsent: UnsentCounts,
}

impl LinkCounts {
    /// All that came in and was not handed to the node; of messages in parts, each that was given up.
    ///
    /// ```
    /// use kademlia_gateways::LinkCounts;
    /// let counts = LinkCounts { malformed: 2, other_version: 1, queue_full: 4, greeting_late: 8, ..Default::default() };
    /// assert_eq!((counts.unreadable(), counts.dropped(), counts.closed()), (3, 7, 8));
    /// ```
    pub fn dropped(&self) -> u64 {
        let not_wanted = self.unasked + self.unserved + self.limited;
        self.unreadable() + self.oversized + self.unfinished + self.queue_full + not_wanted
    }

    /// All that came in and could not be read: malformed or of another version.
    pub fn unreadable(&self) -> u64 {
        self.malformed + self.other_version
    }

    /// All connections closed by this side.
    pub fn closed(&self) -> u64 {
        self.displaced + self.greeting_late + self.greeting_wrong + self.stalled
    }
}

/// Messages that could not be sent, by [`UnsentReason`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UnsentCounts {
    /// No gateway dials the address.
    pub not_dialable: u64,
    /// The queue to the gateway, or the kernel's, was full.
    pub queue_full: u64,
    /// The message was larger than the gateway can send.
    pub too_large: u64,
    /// The address did not answer.
    pub unreachable: u64,
    /// This host had no network that leads there.
    pub no_network: u64,
    /// The gateway had ended.
    pub closed: u64,
    /// The protocol of the gateway had no form for the message.
    pub inexpressible: u64,
}

impl UnsentCounts {
    /// Counts one more.
    pub fn add(&mut self, reason: UnsentReason) {
        *match reason {
            UnsentReason::NotDialable => &mut self.not_dialable,
            UnsentReason::QueueFull => &mut self.queue_full,
            UnsentReason::TooLarge { .. } => &mut self.too_large,
            UnsentReason::Unreachable => &mut self.unreachable,
            UnsentReason::NoNetwork => &mut self.no_network,
            UnsentReason::Closed => &mut self.closed,
            UnsentReason::Inexpressible => &mut self.inexpressible,
        } += 1;
    }

    /// All of them.
    ///
    /// ```
    /// use kademlia_gateways::{UnsentCounts, UnsentReason};
    /// let mut counts = UnsentCounts::default();
    /// counts.add(UnsentReason::QueueFull);
    /// counts.add(UnsentReason::TooLarge { limit: 1200 });
    /// assert_eq!((counts.queue_full, counts.too_large, counts.total()), (1, 1, 2));
    /// ```
    pub fn total(&self) -> u64 {
        let of_the_way = self.not_dialable + self.unreachable + self.no_network + self.closed;
        of_the_way + self.queue_full + self.too_large + self.inexpressible
    }
}

/// Counts from several threads.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    counts: [AtomicU64; COUNTS],
    /// Behind a lock, as it is no matter of each message.
    unsent: Mutex<UnsentCounts>,
}

impl Tally {
    pub(crate) fn add(&self, what: Count, amount: usize) {
        if let Some(count) = self.counts.get(what as usize) {
            count.fetch_add(amount as u64, Ordering::Relaxed);
        }
    }

    pub(crate) fn add_unsent(&self, reason: UnsentReason) {
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner).add(reason);
    }

    pub(crate) fn read(&self) -> LinkCounts {
        let read = |what: Count| self.counts.get(what as usize).map_or(0, |count| count.load(Ordering::Relaxed));
        LinkCounts {
            received: read(Count::Received),
            malformed: read(Count::Malformed),
            other_version: read(Count::OtherVersion),
            oversized: read(Count::Oversized),
            unfinished: read(Count::Unfinished),
            repeated: read(Count::Repeated),
            queue_full: read(Count::QueueFull),
            displaced: read(Count::Displaced),
            greeting_late: read(Count::GreetingLate),
            greeting_wrong: read(Count::GreetingWrong),
            stalled: read(Count::Stalled),
            socket_errors: read(Count::SocketError),
            unasked: read(Count::Unasked),
            unserved: read(Count::Unserved),
            limited: read(Count::Limited),
            misplaced: read(Count::Misplaced),
            unsent: *self.unsent.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_read_where_it_was_counted() {
        let tally = Tally::default();
        let all = [
            Count::Received,
            Count::Malformed,
            Count::OtherVersion,
            Count::Oversized,
            Count::Unfinished,
            Count::Repeated,
            Count::QueueFull,
            Count::Displaced,
            Count::GreetingLate,
            Count::GreetingWrong,
            Count::Stalled,
            Count::SocketError,
            Count::Unasked,
            Count::Unserved,
            Count::Limited,
            Count::Misplaced,
        ];
        assert_eq!(all.len(), COUNTS);
        for (amount, what) in (1..).zip(all) {
            tally.add(what, amount);
        }
        let reasons = [
            UnsentReason::NotDialable,
            UnsentReason::QueueFull,
            UnsentReason::TooLarge { limit: 1 },
            UnsentReason::Unreachable,
            UnsentReason::NoNetwork,
            UnsentReason::Closed,
            UnsentReason::Inexpressible,
        ];
        for (amount, reason) in (1..).zip(reasons) {
            (0..amount).for_each(|_| tally.add_unsent(reason));
        }
        let unsent = UnsentCounts {
            not_dialable: 1,
            queue_full: 2,
            too_large: 3,
            unreachable: 4,
            no_network: 5,
            closed: 6,
            inexpressible: 7,
        };
        assert_eq!(unsent.total(), 28);
        let expected = LinkCounts {
            received: 1,
            malformed: 2,
            other_version: 3,
            oversized: 4,
            unfinished: 5,
            repeated: 6,
            queue_full: 7,
            displaced: 8,
            greeting_late: 9,
            greeting_wrong: 10,
            stalled: 11,
            socket_errors: 12,
            unasked: 13,
            unserved: 14,
            limited: 15,
            misplaced: 16,
            unsent,
        };
        assert_eq!(tally.read(), expected);
        assert_eq!((expected.dropped(), expected.closed()), (2 + 3 + 4 + 5 + 7 + 13 + 14 + 15, 8 + 9 + 10 + 11));
    }
}
