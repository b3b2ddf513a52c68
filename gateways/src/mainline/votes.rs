//! Where others see this node (BEP 42): a vote, as any of them may lie.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::latest::Latest;
use super::security::{is_global, network};

/// The most networks whose votes are remembered.
const MAX_VOTES: usize = 64;

/// So many must agree at least.
const LEAST_VOTES: usize = 5;

/// For so long after an election there is no other. Whoever could bring about one after the other could have the node move
/// through the network as they like.
const STANDS: Duration = Duration::from_secs(30 * 60);

/// Who has said where this node is, and what was made of it.
#[derive(Debug, Default)]
pub(super) struct Votes {
    /// By the network of who says it.
    votes: Latest<IpAddr, IpAddr>,
    elected: Option<(IpAddr, Instant)>,
}

impl Votes {
    /// The address that was elected last.
    pub(super) fn elected(&self) -> Option<IpAddr> {
        self.elected.map(|(ip, _)| ip)
    }

    /// `voter` sees this node at `ip`. Gives the address if that has elected another one. Addresses that mean another host in
    /// each network, or none at all, say nothing.
    pub(super) fn vote(&mut self, now: Instant, voter: IpAddr, ip: IpAddr) -> Option<IpAddr> {
        if !is_global(ip) {
            return None;
        }
        self.votes.insert(network(voter), ip, MAX_VOTES);
        let stands = self.elected.is_some_and(|(_, since)| now.saturating_duration_since(since) < STANDS);
        let winner = self.winner().filter(|winner| !stands && Some(*winner) != self.elected())?;
        self.elected = Some((winner, now));
        Some(winner)
    }

    /// The address at which most see this node.
    fn winner(&self) -> Option<IpAddr> {
        let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
        self.votes.values().for_each(|ip| *counts.entry(*ip).or_default() += 1);
        let (ip, votes) = counts.into_iter().max_by_key(|(_, votes)| *votes)?;
        (votes >= LEAST_VOTES && votes * 2 > self.votes.values().count()).then_some(ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voter(n: u8) -> IpAddr {
        [n, 1, 1, 1].into()
    }

    fn seen(n: u8) -> IpAddr {
        [1, 1, 1, n].into()
    }

    #[test]
    fn most_of_those_who_say_where_this_node_is_must_agree() {
        let (mut votes, now) = (Votes::default(), Instant::now());
        for n in 1..5 {
            assert_eq!(votes.vote(now, voter(n), seen(100)), None, "too few");
        }
        assert_eq!(votes.vote(now, voter(5), seen(100)), Some(seen(100)));
        assert_eq!(votes.vote(now, voter(6), seen(100)), None, "it is no news");
        let later = now + STANDS;
        (7..13).for_each(|n| assert_eq!(votes.vote(later, voter(n), seen(n)), None));
        (13..19).for_each(|n| assert_eq!(votes.vote(later, voter(n), seen(101)), None, "no majority"));
        assert_eq!(votes.elected(), Some(seen(100)));
    }

    #[test]
    fn a_network_has_one_vote() {
        let (mut votes, now) = (Votes::default(), Instant::now());
        for n in 0..200 {
            votes.vote(now, [9, 9, n, n].into(), seen(100));
            votes.vote(now, IpAddr::from([0x2a00, 0x1450, n.into(), 0, 0, 0, 0, n.into()]), seen(100));
        }
        assert_eq!((votes.elected(), votes.votes.values().count()), (None, 2));
    }

    #[test]
    fn the_next_election_takes_its_time() {
        let (mut votes, now) = (Votes::default(), Instant::now());
        (1..6).for_each(|n| assert_eq!(votes.vote(now, voter(n), seen(100)).is_some(), n == 5));
        (1..6).for_each(|n| assert_eq!(votes.vote(now + STANDS / 2, voter(n), seen(101)), None));
        assert_eq!(votes.vote(now + STANDS, voter(6), seen(101)), Some(seen(101)));
    }

    #[test]
    fn no_address_wins_where_nobody_can_be() {
        let (mut votes, now) = (Votes::default(), Instant::now());
        for ip in ["192.168.0.1", "0.1.2.3", "100.64.0.1", "192.0.2.1", "240.0.0.1", "fe80::1", "2001:db8::1"] {
            (1..9).for_each(|n| assert_eq!(votes.vote(now, voter(n), ip.parse().unwrap()), None, "{ip}"));
        }
    }
}
