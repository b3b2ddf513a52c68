//! Neighbours that have fallen silent, and are asked now and then whether they are back.
//!
//! When a network splits, each side drops the other from its tables, and when the wire is whole again nobody would know:
//! the two would stay two for ever. It is enough that neighbours find each other again, as every lookup ends among the
//! neighbours of its target. So those of the own neighbourhood are remembered, and a node that has lost everybody comes
//! back the same way.

use std::collections::VecDeque;
use std::time::Duration;

use kademlia_gateways::{Id, Peer};

use super::journal::KnownPeer;
use super::time::Time;

#[derive(Debug)]
struct Silent<P> {
    peer: P,
    since: Time,
    asked: Time,
}

/// The neighbours that were lost last, the longest ago first.
#[derive(Debug)]
pub(crate) struct Lost<P> {
    peers: VecDeque<Silent<P>>,
    most: usize,
}

impl<P: Peer> Lost<P> {
    /// Remembers at most so many.
    pub(crate) fn new(most: usize) -> Self {
        Lost { peers: VecDeque::new(), most }
    }

    /// A neighbour was dropped from the table.
    pub(crate) fn remember(&mut self, now: Time, peer: P) {
        self.forget(&peer.id());
        if self.peers.len() >= self.most {
            self.peers.pop_front();
        }
        self.peers.push_back(Silent { peer, since: now, asked: now });
    }

    /// It has answered.
    pub(crate) fn forget(&mut self, id: &Id) {
        self.peers.retain(|silent| silent.peer.id() != *id);
    }

    pub(crate) fn holds(&self, id: &Id) -> bool {
        self.peers.iter().any(|silent| silent.peer.id() == *id)
    }

    pub(crate) fn peers(&self) -> impl Iterator<Item = &P> {
        self.peers.iter().map(|silent| &silent.peer)
    }

    /// The same, for who writes down whom a node knows.
    pub(crate) fn known(&self, now: Time) -> impl Iterator<Item = KnownPeer<P>> {
        let known = move |silent: &Silent<P>| (silent.peer.clone(), now.since(silent.since));
        self.peers.iter().map(known).map(|(peer, seen)| KnownPeer { peer, verified: false, seen })
    }

    /// Those that were not asked for this long, who count as asked from now on. Who has been silent for longer than
    /// `patience` is given up.
    pub(crate) fn due(&mut self, now: Time, pause: Duration, patience: Duration) -> Vec<P> {
        self.peers.retain(|silent| silent.since + patience > now);
        let due = self.peers.iter_mut().filter(|silent| silent.asked + pause <= now);
        due.map(|silent| {
            silent.asked = now;
            silent.peer.clone()
        })
        .collect()
    }

    /// When someone is to be asked next.
    pub(crate) fn next_due(&self, pause: Duration) -> Option<Time> {
        self.peers.iter().map(|silent| silent.asked + pause).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::Handle;

    const MINUTE: Duration = Duration::from_secs(60);

    fn peer(n: u8) -> Handle {
        Handle { id: Id::from_prefix(&[n]), address: n.into() }
    }

    fn at(minutes: u64) -> Time {
        Time::from_micros(minutes * 60_000_000)
    }

    #[test]
    fn each_is_asked_after_a_pause_and_given_up_in_the_end() {
        let mut lost = Lost::new(3);
        lost.remember(at(0), peer(1));
        lost.remember(at(1), peer(2));
        assert_eq!(lost.next_due(MINUTE * 5), Some(at(5)));
        assert_eq!(lost.due(at(5), MINUTE * 5, MINUTE * 60), [peer(1)]);
        assert_eq!(lost.due(at(5), MINUTE * 5, MINUTE * 60), []);
        assert_eq!(lost.due(at(10), MINUTE * 5, MINUTE * 60), [peer(1), peer(2)]);
        assert_eq!(lost.due(at(60), MINUTE * 5, MINUTE * 60), [peer(2)]);
        lost.forget(&peer(2).id);
        assert_eq!(lost.next_due(MINUTE), None);
    }

    #[test]
    fn the_longest_lost_makes_room() {
        let mut lost = Lost::new(2);
        [1, 2, 1, 3].into_iter().for_each(|n| lost.remember(at(n.into()), peer(n)));
        assert_eq!(lost.peers().copied().collect::<Vec<_>>(), [peer(1), peer(3)]);
    }
}
