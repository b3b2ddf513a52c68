//! Who has announced at this node that they have something (BEP 5).

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::id::Id;

/// Who announces again every quarter of an hour or so is there all the time.
const LASTS: Duration = Duration::from_secs(30 * 60);

/// The most keys with peers, and the most peers under one of them.
const MAX_KEYS: usize = 4096;
const MAX_PEERS: usize = 256;

/// Peers by what they have, those who came last at the end.
#[derive(Debug, Default)]
pub(super) struct Peers {
    of: BTreeMap<Id, VecDeque<(SocketAddr, Instant)>>,
    /// When each key last got a peer, the longest ago first.
    used: BTreeMap<(Instant, Id), ()>,
}

impl Peers {
    /// Notes that `peer` has it. Where there is no room it takes the place of what was announced the longest ago.
    pub(super) fn announce(&mut self, now: Instant, info_hash: Id, peer: SocketAddr) {
        if let Some(last) = self.last(&info_hash) {
            self.used.remove(&(last, info_hash));
        }
        let peers = self.of.entry(info_hash).or_default();
        peers.retain(|(other, until)| *other != peer && *until > now);
        if peers.len() >= MAX_PEERS {
            peers.pop_front();
        }
        peers.push_back((peer, now + LASTS));
        self.used.insert((now + LASTS, info_hash), ());
        while let Some(((until, oldest), ())) = self.used.first_key_value().map(|(key, ())| (*key, ())) {
            if until > now && self.of.len() <= MAX_KEYS {
                break;
            }
            self.used.remove(&(until, oldest));
            self.of.remove(&oldest);
        }
    }

    fn last(&self, info_hash: &Id) -> Option<Instant> {
        self.of.get(info_hash)?.back().map(|(_, until)| *until)
    }

    /// The peers of one family that have it, the last ones first.
    pub(super) fn of(&self, now: Instant, info_hash: &Id, most: usize) -> Vec<SocketAddr> {
        let peers = self.of.get(info_hash).into_iter().flatten().rev();
        peers.filter(|(_, until)| *until > now).map(|(peer, _)| *peer).take(most).collect()
    }

    /// How many keys have peers.
    pub(super) fn keys(&self) -> usize {
        self.of.len()
    }

    /// So many of the keys, from a place on that is another one each time.
    pub(super) fn sample(&self, from: &Id, most: usize) -> Vec<Id> {
        let behind = self.of.range(*from..).chain(self.of.range(..*from));
        behind.map(|(info_hash, _)| *info_hash).take(most).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> Id {
        Id::from_prefix(&[(n >> 8) as u8, n as u8, 1])
    }

    fn peer(n: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], n))
    }

    #[test]
    fn peers_come_once_and_go() {
        let (start, minute) = (Instant::now(), Duration::from_secs(60));
        let mut peers = Peers::default();
        for (after, port) in [(0, 1), (10, 2), (20, 1)] {
            peers.announce(start + after * minute, id(1), peer(port));
        }
        assert_eq!(peers.of(start + 25 * minute, &id(1), 9), [peer(1), peer(2)]);
        assert_eq!(peers.of(start + 25 * minute, &id(1), 1), [peer(1)]);
        assert_eq!(peers.of(start + 45 * minute, &id(1), 9), [peer(1)]);
        assert_eq!(peers.of(start + 50 * minute, &id(1), 9), []);
        peers.announce(start + 60 * minute, id(2), peer(3));
        assert_eq!((peers.keys(), peers.used.len()), (1, 1), "what is over goes");
    }

    #[test]
    fn they_are_bounded_and_all_are_sampled_in_time() {
        let start = Instant::now();
        let mut peers = Peers::default();
        for n in 0..MAX_KEYS + 10 {
            peers.announce(start + Duration::from_micros(n as u64), id(n), peer(1));
        }
        assert_eq!((peers.keys(), peers.used.len()), (MAX_KEYS, MAX_KEYS));
        assert_eq!(peers.of(start, &id(0), 9), [], "it was the oldest");
        for n in 1..=MAX_PEERS as u16 + 9 {
            peers.announce(start + Duration::from_secs(1), id(20), peer(n));
        }
        assert_eq!(peers.of(start, &id(20), 999).len(), MAX_PEERS);
        assert_eq!(peers.sample(&id(MAX_KEYS + 9), 3), [id(MAX_KEYS + 9), id(10), id(11)]);
    }
}
