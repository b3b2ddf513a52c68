//! Who has announced at this node that they have something (BEP 5).

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::address::host;
use crate::id::Id;

/// Who announces again every quarter of an hour or so is there all the time.
const LASTS: Duration = Duration::from_secs(30 * 60);

/// The most keys with peers, the most announcements of all, and of one host.
const MAX_KEYS: usize = 16_384;
const MAX_ANNOUNCED: usize = 65_536;
const MAX_OF_HOST: usize = 1000;

/// The most peers under one key, and the most of them that are of one host: there may be several behind one address.
const MAX_PEERS: usize = 256;
const MAX_OF_HOST_AND_KEY: usize = 4;

/// The longest that others are told to wait before they ask for samples again (BEP 51).
const MAX_INTERVAL: Duration = Duration::from_secs(6 * 60 * 60);

/// An announcement: until when it lasts, and what it says.
type Announced = (Instant, Id, SocketAddr);

/// Peers by what they have. Each host has a share: where there is no room, an announcement goes of whoever has the most.
#[derive(Debug, Default)]
pub(super) struct Peers {
    of: BTreeMap<Id, BTreeMap<SocketAddr, Instant>>,
    /// Those of each host, those that end first in front.
    hosts: BTreeMap<IpAddr, BTreeSet<Announced>>,
    /// The hosts by how many they have.
    shares: BTreeSet<(usize, IpAddr)>,
    /// All of them, by when they end.
    ends: BTreeSet<Announced>,
    random: RandomState,
    numbered: u64,
}

/// Some of the keys.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) keys: Vec<Id>,
    pub(super) total: usize,
    /// For so long there are no others, unless somebody announces something.
    pub(super) lasts: Duration,
}

impl Peers {
    /// Notes that `peer` has it.
    pub(super) fn announce(&mut self, now: Instant, info_hash: Id, peer: SocketAddr) {
        self.expire(now);
        self.remove(&info_hash, &peer);
        self.make_room(&info_hash, &peer);
        let announced = (now + LASTS, info_hash, peer);
        self.of.entry(info_hash).or_default().insert(peer, announced.0);
        self.ends.insert(announced);
        self.change_share(host(peer.ip()), |of_host| of_host.insert(announced));
    }

    fn make_room(&mut self, info_hash: &Id, peer: &SocketAddr) {
        let own = host(peer.ip());
        let of_key = self.of.get(info_hash);
        let of_host = |(other, until): (&SocketAddr, &Instant)| (host(other.ip()) == own).then_some((*until, *other));
        let same: Vec<_> = of_key.into_iter().flatten().filter_map(of_host).collect();
        if same.len() >= MAX_OF_HOST_AND_KEY {
            self.remove_first(info_hash, same);
        } else if of_key.is_some_and(|peers| peers.len() >= MAX_PEERS) {
            let crowded = self.most_crowded(info_hash);
            self.remove_first(info_hash, crowded);
        }
        if self.hosts.get(&own).is_some_and(|of_host| of_host.len() >= MAX_OF_HOST) {
            self.remove_of(own);
        }
        while self.ends.len() >= MAX_ANNOUNCED || self.of.len() >= MAX_KEYS && !self.of.contains_key(info_hash) {
            let Some((_, most)) = self.shares.last().copied() else { break };
            self.remove_of(most);
        }
    }

    /// The peers under a key of that host that has the most of them there.
    fn most_crowded(&self, info_hash: &Id) -> Vec<(Instant, SocketAddr)> {
        let mut hosts: BTreeMap<IpAddr, Vec<(Instant, SocketAddr)>> = BTreeMap::new();
        for (peer, until) in self.of.get(info_hash).into_iter().flatten() {
            hosts.entry(host(peer.ip())).or_default().push((*until, *peer));
        }
        let most = hosts.values().map(Vec::len).max().unwrap_or_default();
        hosts.into_values().filter(|peers| peers.len() == most).flatten().collect()
    }

    fn remove_first(&mut self, info_hash: &Id, peers: Vec<(Instant, SocketAddr)>) {
        if let Some((_, first)) = peers.into_iter().min() {
            self.remove(info_hash, &first);
        }
    }

    /// Removes what a host announced the longest ago.
    fn remove_of(&mut self, host: IpAddr) {
        if let Some((_, info_hash, peer)) = self.hosts.get(&host).and_then(BTreeSet::first).copied() {
            self.remove(&info_hash, &peer);
        }
    }

    fn remove(&mut self, info_hash: &Id, peer: &SocketAddr) {
        let Some(peers) = self.of.get_mut(info_hash) else { return };
        let Some(until) = peers.remove(peer) else { return };
        if peers.is_empty() {
            self.of.remove(info_hash);
        }
        let announced = (until, *info_hash, *peer);
        self.ends.remove(&announced);
        self.change_share(host(peer.ip()), |of_host| of_host.remove(&announced));
    }

    fn change_share(&mut self, host: IpAddr, change: impl FnOnce(&mut BTreeSet<Announced>) -> bool) {
        let of_host = self.hosts.entry(host).or_default();
        self.shares.remove(&(of_host.len(), host));
        change(of_host);
        if of_host.is_empty() {
            self.hosts.remove(&host);
        } else {
            self.shares.insert((of_host.len(), host));
        }
    }

    /// Forgets what is over.
    fn expire(&mut self, now: Instant) {
        while let Some((_, info_hash, peer)) = self.ends.first().copied().filter(|(until, ..)| *until <= now) {
            self.remove(&info_hash, &peer);
        }
    }

    /// So many of the peers that have it, others each time.
    pub(super) fn of(&mut self, now: Instant, info_hash: &Id, most: usize) -> Vec<SocketAddr> {
        let peers = self.of.get(info_hash).into_iter().flatten();
        let mut peers: Vec<_> = peers.filter(|(_, until)| **until > now).map(|(peer, _)| *peer).collect();
        // As many steps of a shuffle as are needed.
        for place in 0..peers.len().min(most) {
            let other = place + self.below(peers.len() - place);
            peers.swap(place, other);
        }
        peers.truncate(most);
        peers
    }

    /// So many of the keys that have peers, others each time.
    pub(super) fn sample(&mut self, now: Instant, most: usize) -> Sample {
        self.expire(now);
        let total = self.of.len();
        let start = if total > most { self.below(total) } else { 0 };
        let keys = self.of.keys().skip(start).chain(self.of.keys().take(start)).take(most).copied().collect();
        let end = self.ends.first().map_or(MAX_INTERVAL, |(until, ..)| until.saturating_duration_since(now));
        let lasts = if total > most { Duration::ZERO } else { end.min(MAX_INTERVAL) };
        Sample { keys, total, lasts }
    }

    /// A number below this one that nobody can guess.
    fn below(&mut self, limit: usize) -> usize {
        self.numbered = self.numbered.wrapping_add(1);
        usize::try_from(self.random.hash_one(self.numbered) % (limit.max(1) as u64)).unwrap_or_default()
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

    /// A host of its own.
    fn host_number(n: usize) -> SocketAddr {
        SocketAddr::from(([11, (n >> 16) as u8, (n >> 8) as u8, n as u8], 1))
    }

    fn sorted(mut peers: Vec<SocketAddr>) -> Vec<SocketAddr> {
        peers.sort();
        peers
    }

    fn check(peers: &Peers) {
        let all: usize = peers.of.values().map(BTreeMap::len).sum();
        assert_eq!((peers.ends.len(), peers.hosts.values().map(BTreeSet::len).sum::<usize>()), (all, all));
        assert!(peers.of.values().all(|peers| !peers.is_empty()));
        let shares: BTreeSet<_> = peers.hosts.iter().map(|(host, of_host)| (of_host.len(), *host)).collect();
        assert_eq!(peers.shares, shares);
    }

    #[test]
    fn peers_come_once_and_go() {
        let (start, minute) = (Instant::now(), Duration::from_secs(60));
        let mut peers = Peers::default();
        for (after, port) in [(0, 1), (10, 2), (20, 1)] {
            peers.announce(start + after * minute, id(1), peer(port));
        }
        assert_eq!(sorted(peers.of(start + 25 * minute, &id(1), 9)), [peer(1), peer(2)]);
        assert_eq!(peers.of(start + 45 * minute, &id(1), 9), [peer(1)]);
        assert_eq!(peers.of(start + 50 * minute, &id(1), 9), []);
        peers.announce(start + 60 * minute, id(2), peer(3));
        assert_eq!(peers.sample(start + 60 * minute, 9).total, 1, "what is over goes");
        check(&peers);
        peers.expire(start + 90 * minute);
        assert!(peers.of.is_empty() && peers.hosts.is_empty() && peers.shares.is_empty() && peers.ends.is_empty());
    }

    #[test]
    fn no_host_drives_out_what_others_have_announced() {
        let start = Instant::now();
        let mut peers = Peers::default();
        (0..300).for_each(|n| peers.announce(start, id(n), host_number(n)));
        // Later, with many keys and many ports.
        let later = start + Duration::from_secs(1);
        for n in 0..3 * MAX_OF_HOST {
            peers.announce(later, id(1000 + n), peer(1));
            peers.announce(later, id(1), peer(n as u16 + 1));
        }
        check(&peers);
        assert_eq!(peers.hosts[&peer(1).ip()].len(), MAX_OF_HOST);
        assert!((0..300).all(|n| peers.of(later, &id(n), 9).contains(&host_number(n))));
        assert!(peers.of[&id(1)].len() <= 1 + MAX_OF_HOST_AND_KEY);
    }

    #[test]
    fn where_there_is_no_room_whoever_has_the_most_gives_way() {
        let start = Instant::now();
        let mut peers = Peers::default();
        peers.announce(start, id(0), peer(1));
        // So many hosts with so many keys each.
        for n in 0..MAX_KEYS + 100 {
            peers.announce(start + Duration::from_micros(n as u64), id(n + 1), host_number(n / 500));
        }
        check(&peers);
        assert_eq!((peers.of.len(), peers.of(start, &id(0), 9)), (MAX_KEYS, vec![peer(1)]));
        // One key that all have.
        for n in 0..MAX_PEERS + 50 {
            peers.announce(start + Duration::from_secs(1), id(0), host_number(100_000 + n));
        }
        assert_eq!(peers.of[&id(0)].len(), MAX_PEERS);
        for port in 2..9 {
            peers.announce(start + Duration::from_secs(2), id(0), peer(port));
        }
        let own = peers.of[&id(0)].keys().filter(|other| other.ip() == peer(1).ip()).count();
        assert!((1..=2).contains(&own), "{own} of one host where all others have one");
        assert_eq!(peers.of[&id(0)].len(), MAX_PEERS);
        check(&peers);
    }

    #[test]
    fn all_are_told_of_in_time() {
        let start = Instant::now();
        let mut peers = Peers::default();
        (0..200).for_each(|n| peers.announce(start, id(7), host_number(n)));
        let told: BTreeSet<_> = (0..100).flat_map(|_| peers.of(start, &id(7), 10)).collect();
        assert!(told.len() > 150, "{}", told.len());
        assert_eq!(peers.of(start, &id(7), 10).into_iter().collect::<BTreeSet<_>>().len(), 10);
        (0..100).for_each(|n| peers.announce(start, id(n), peer(1)));
        let sample = peers.sample(start, 10);
        assert_eq!((sample.keys.len(), sample.total, sample.lasts), (10, 100, Duration::ZERO));
        let told: BTreeSet<_> = (0..100).flat_map(|_| peers.sample(start, 10).keys).collect();
        assert!(told.len() > 90, "{}", told.len());
        let minute = Duration::from_secs(60);
        assert_eq!(peers.sample(start + minute, 100).lasts, LASTS - minute, "then the first of them end");
        assert_eq!(peers.sample(start + LASTS, 10), Sample { keys: Vec::new(), total: 0, lasts: MAX_INTERVAL });
    }
}
