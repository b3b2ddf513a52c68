//! How many messages of one source are relayed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use kademlia_gateways::{Multiaddr, address};

use crate::core::Time;

/// A token bucket for each source, in bounded memory.
///
/// A bucket that nobody drew from for as long as it takes to fill is full, as a new one is. So there are two
/// generations of that length, and the older one is forgotten. Where the sources are too many, those that come last
/// share one bucket.
///
/// Only a source that is proved has one of its own. All others share one: else whoever writes the addresses of others on
/// datagrams would use up theirs, and the room for all.
#[derive(Debug)]
pub(super) struct Limiter {
    rate: f64,
    burst: f64,
    generation: Duration,
    began: Time,
    current: HashMap<Source, Bucket>,
    previous: HashMap<Source, Bucket>,
}

/// What one limit is for: a host if it is known, so that changing the port buys nothing. On this host, where all have
/// one IP, it is the address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Source {
    Ip(IpAddr),
    Address(Multiaddr),
    /// All that there is no room for.
    Others,
    /// All that are not proved.
    Unproved,
}

impl Source {
    fn of(from: &Multiaddr) -> Self {
        match address::ip(from).map(|ip| ip.to_canonical()) {
            Some(ip) if ip.is_loopback() => Source::Address(from.clone()),
            Some(ip) => Source::Ip(address::host(ip)),
            None => Source::Address(from.clone()),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Time,
}

impl Limiter {
    const SOURCES: usize = 4096;

    /// All sources that are not proved have the allowance of one that is, divided by this. The next relay counts what
    /// comes from them as this node's, whose others shall have most of that.
    const UNPROVED_COST: f64 = 4.0;

    pub(super) fn new(rate: u32, burst: u32) -> Self {
        let (rate, burst) = (f64::from(rate), f64::from(burst));
        Limiter {
            rate,
            burst,
            generation: Duration::from_secs_f64(burst / rate),
            began: Time::ZERO,
            current: HashMap::new(),
            previous: HashMap::new(),
        }
    }

    /// Whether one more message from this direct address may pass, which counts as passed then. `proved`: the sender is
    /// known to be there.
    pub(super) fn allow(&mut self, now: Time, from: &Multiaddr, proved: bool) -> bool {
        if now.since(self.began) >= self.generation {
            let stale = now.since(self.began) >= self.generation * 2;
            self.previous = std::mem::take(&mut self.current);
            if stale {
                self.previous.clear();
            }
            self.began = now;
        }
        let (mut source, cost) =
            if proved { (Source::of(from), 1.0) } else { (Source::Unproved, Self::UNPROVED_COST.min(self.burst)) };
        if proved && self.current.len() >= Self::SOURCES && !self.current.contains_key(&source) {
            source = Source::Others;
        }
        let known = self.current.get(&source).or_else(|| self.previous.get(&source));
        let mut bucket = known.copied().unwrap_or(Bucket { left: self.burst, at: now });
        bucket.left = (bucket.left + now.since(bucket.at).as_secs_f64() * self.rate).min(self.burst);
        bucket.at = now;
        let allowed = bucket.left >= cost;
        if allowed {
            bucket.left -= cost;
        }
        self.current.insert(source, bucket);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Time {
        Time::from_micros(milliseconds * 1000)
    }

    fn allowed(limiter: &mut Limiter, now: Time, from: &str, tries: usize) -> usize {
        let from = from.parse().unwrap();
        (0..tries).filter(|_| limiter.allow(now, &from, true)).count()
    }

    #[test]
    fn a_burst_then_the_rate() {
        let mut limiter = Limiter::new(10, 20);
        assert_eq!(allowed(&mut limiter, at(0), "/memory/1", 100), 20);
        assert_eq!(allowed(&mut limiter, at(500), "/memory/1", 100), 5);
        for second in 1..20 {
            let now = at(500 + second * 1000);
            assert_eq!(allowed(&mut limiter, now, "/memory/1", 100), 10, "second {second}");
        }
        assert_eq!(allowed(&mut limiter, at(60_000), "/memory/1", 100), 20);
    }

    #[test]
    fn a_host_is_one_source_whatever_its_port() {
        let mut limiter = Limiter::new(1, 3);
        assert_eq!(allowed(&mut limiter, at(0), "/ip4/1.2.3.4/udp/1", 2), 2);
        assert_eq!(allowed(&mut limiter, at(0), "/ip4/1.2.3.4/tcp/2", 2), 1);
        assert_eq!(allowed(&mut limiter, at(0), "/ip4/1.2.3.5/udp/1", 2), 2);
        assert_eq!(allowed(&mut limiter, at(0), "/ip4/127.0.0.1/udp/1", 3), 3);
        assert_eq!(allowed(&mut limiter, at(0), "/ip4/127.0.0.1/udp/2", 3), 3);
    }

    #[test]
    fn a_network_of_one_ipv6_host_is_one_source() {
        let mut limiter = Limiter::new(1, 3);
        assert_eq!(allowed(&mut limiter, at(0), "/ip6/2001:db8:0:1::1/udp/1", 2), 2);
        assert_eq!(allowed(&mut limiter, at(0), "/ip6/2001:db8:0:1:ffff::2/udp/1", 2), 1);
        assert_eq!(allowed(&mut limiter, at(0), "/ip6/2001:db8:0:2::1/udp/1", 3), 3);
        // IPv4 in IPv6 is IPv4.
        assert_eq!(allowed(&mut limiter, at(0), "/ip6/::ffff:1.2.3.4/udp/1", 2), 2);
        assert_eq!(allowed(&mut limiter, at(0), "/ip4/1.2.3.4/udp/1", 2), 1);
        assert_eq!(allowed(&mut limiter, at(0), "/ip6/::ffff:1.2.3.5/udp/1", 3), 3);
        assert_eq!(allowed(&mut limiter, at(0), "/ip6/::1/udp/1", 3), 3);
        assert_eq!(allowed(&mut limiter, at(0), "/ip6/::1/udp/2", 3), 3);
    }

    #[test]
    fn memory_is_bounded() {
        let mut limiter = Limiter::new(2, 4);
        let sources = |limiter: &mut Limiter, now, from: std::ops::Range<usize>| {
            from.filter(|n| limiter.allow(now, &format!("/memory/{n}").parse().unwrap(), true)).count()
        };
        assert_eq!(sources(&mut limiter, at(0), 0..Limiter::SOURCES), Limiter::SOURCES);
        // Those that come last share a bucket; those that were there before keep theirs.
        assert_eq!(sources(&mut limiter, at(0), 10_000..10_010), 4);
        assert_eq!(sources(&mut limiter, at(1000), 10_010..10_020), 2);
        assert_eq!(sources(&mut limiter, at(1000), 0..Limiter::SOURCES), Limiter::SOURCES);
        assert_eq!(sources(&mut limiter, at(2000), 10_000..10_010), 10);
        assert!(limiter.current.len() + limiter.previous.len() <= 2 * (Limiter::SOURCES + 1));
    }

    #[test]
    fn who_is_not_proved_takes_nothing_from_who_is() {
        let mut limiter = Limiter::new(4, 8);
        let unproved = |limiter: &mut Limiter, now| {
            (0..10_000).filter(|n| limiter.allow(now, &format!("/memory/{n}").parse().unwrap(), false)).count()
        };
        assert_eq!(unproved(&mut limiter, at(0)), 2);
        assert_eq!(unproved(&mut limiter, at(1000)), 1);
        for from in ["/memory/1", "/memory/9999", "/ip4/1.2.3.4/udp/1"] {
            assert_eq!(allowed(&mut limiter, at(1000), from, 100), 8);
        }
        assert_eq!(unproved(&mut Limiter::new(1, 1), at(0)), 1, "a low limit is no ban");
    }
}
