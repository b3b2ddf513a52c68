//! [`Rate`]: so much a second from one source.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Recent;
use crate::address;

/// The most sources whose use is remembered. Whoever has more addresses at once, each proved, has as many allowances.
const MAX_SOURCES: usize = 4096;

/// Gives each source a number of things at once, and more of them as time goes by.
#[derive(Debug)]
pub(crate) struct Rate {
    per_second: f64,
    burst: f64,
    left: Recent<IpAddr, (f64, Instant)>,
}

impl Rate {
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        let (per_second, burst) = (f64::from(per_second.max(1)), f64::from(burst.max(1)));
        // After that it is as if the source had never come.
        let lasts = Duration::from_secs_f64(burst / per_second);
        Rate { per_second, burst, left: Recent::new(MAX_SOURCES, lasts) }
    }

    /// Whether the source may have one more, which it then has had.
    pub(crate) fn allow(&mut self, now: Instant, source: IpAddr) -> bool {
        let left = self.left(now, source);
        if left < 1.0 {
            return false;
        }
        self.left.insert(now, address::host(source), (left - 1.0, now));
        true
    }

    /// Whether the source may have one more.
    #[cfg_attr(not(feature = "mainline"), allow(dead_code, reason = "not every wire learns late whom to charge"))]
    pub(crate) fn would_allow(&self, now: Instant, source: IpAddr) -> bool {
        self.left(now, source) >= 1.0
    }

    fn left(&self, now: Instant, source: IpAddr) -> f64 {
        self.left.get(now, &address::host(source)).map_or(self.burst, |(left, since)| {
            let grown = now.saturating_duration_since(*since).as_secs_f64() * self.per_second;
            (left + grown).min(self.burst)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_has_its_own_allowance_which_grows_again() {
        let start = Instant::now();
        let mut rate = Rate::new(10, 3);
        let mut allowed = |after: u64, ip: &str| {
            let now = start + Duration::from_millis(after);
            let ip = ip.parse().unwrap();
            (0..9).filter(|_| rate.would_allow(now, ip) && rate.allow(now, ip)).count()
        };
        assert_eq!(allowed(0, "1.1.1.1"), 3);
        assert_eq!(allowed(0, "1.1.1.2"), 3);
        assert_eq!(allowed(99, "1.1.1.1"), 0);
        assert_eq!(allowed(100, "1.1.1.1"), 1);
        assert_eq!(allowed(10_000, "1.1.1.1"), 3);
        assert_eq!((allowed(0, "2001:db8::1"), allowed(0, "2001:db8::2"), allowed(0, "2001:db9::1")), (3, 0, 3));
    }
}
