//! Clocks that go wrong.

use std::time::Duration;

use kademlia_dht::core::Time;

use crate::handle::{Handle, mix};
use crate::random::Random;

/// How wrong the clocks of the nodes are. By default they are right.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Clocks {
    /// The clock that a node's versions are made from is at most so far from the true time, either way.
    pub skew: Duration,
    /// All clocks of a node are at most so many millionths too fast or too slow. A cheap quartz has 50.
    pub drift: u32,
}

/// A time longer than any run, and short enough to be added up.
pub(crate) const FOREVER: Duration = Duration::from_secs(1000 * 365 * 24 * 3600);

/// No clock is more than so many millionths too fast or too slow.
const MAX_DRIFT: u32 = 500_000;

/// The most that a clock is wrong: a year, in milliseconds.
const MAX_SKEW: u64 = 365 * 24 * 3600 * 1000;

/// When the simulation starts, in milliseconds since 1970: any date does, but it must be one.
const START: u64 = 1_700_000_000_000;

impl Clocks {
    /// How long it can truly take until so much time has passed on the clock of a node.
    pub(crate) fn longest(self, time: Duration) -> Duration {
        time.min(FOREVER).mul_f64(1e6 / f64::from(1_000_000 - self.drift.min(MAX_DRIFT)))
    }
}

/// The clock of one node.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Clock {
    /// Milliseconds before or after the true time.
    skew: i64,
    /// Millionths too fast.
    drift: i64,
}

impl Clock {
    /// That of a node: the same however often the node is started again.
    pub(crate) fn of(clocks: Clocks, seed: u64, node: Handle) -> Self {
        let mut random = Random::new(seed ^ mix(node.number().into()), "clocks");
        let mut between = |most: u64| random.below(2 * most + 1).cast_signed() - most.cast_signed();
        let skew = u64::try_from(clocks.skew.as_millis()).unwrap_or(u64::MAX).min(MAX_SKEW);
        Clock { skew: between(skew), drift: between(u64::from(clocks.drift.min(MAX_DRIFT))) }
    }

    /// What the node's timer shows.
    pub(crate) fn local(&self, time: Time) -> Time {
        if self.drift == 0 || time == Time::NEVER {
            return time;
        }
        let micros = i128::from(time.as_micros());
        Time::from_micros(u64::try_from(micros + micros * i128::from(self.drift) / 1_000_000).unwrap_or(u64::MAX))
    }

    /// The first moment at which the node's timer shows `local` or more.
    pub(crate) fn global(&self, local: Time) -> Time {
        if self.drift == 0 || local == Time::NEVER {
            return local;
        }
        let estimate = i128::from(local.as_micros()) * 1_000_000 / (1_000_000 + i128::from(self.drift));
        let mut time = Time::from_micros(u64::try_from(estimate - 2).unwrap_or(0));
        while self.local(time) < local {
            time = time + Duration::from_micros(1);
        }
        time
    }

    /// What the user's clock at this node shows, in milliseconds since 1970.
    pub(crate) fn unix_milliseconds(&self, time: Time) -> u64 {
        let local = START + self.local(time).as_micros() / 1000;
        local.saturating_add_signed(self.skew)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_is_neither_early_nor_late() {
        for drift in [-500_000, -100, -7, 0, 3, 100, 500_000] {
            let clock = Clock { skew: 0, drift };
            for micros in [0, 1, 2, 999, 1_000_000, 86_400_000_000, 86_400_000_001] {
                let local = Time::from_micros(micros);
                let global = clock.global(local);
                assert!(clock.local(global) >= local, "{drift} {micros}");
                let before = Time::from_micros(global.as_micros().saturating_sub(1));
                assert!(global == Time::ZERO || clock.local(before) < local, "{drift} {micros}");
            }
        }
    }

    #[test]
    fn skew_and_drift_keep_their_bounds() {
        let clocks = Clocks { skew: Duration::from_secs(30), drift: 100 };
        let hour = Time::from_micros(3_600_000_000);
        for number in 0..1000 {
            let clock = Clock::of(clocks, 1, Handle::of(number));
            let again = Clock::of(clocks, 1, Handle::of(number));
            assert_eq!((clock.skew, clock.drift), (again.skew, again.drift));
            assert!(clock.local(hour).as_micros().abs_diff(hour.as_micros()) <= 360_000);
            assert!(clock.unix_milliseconds(Time::ZERO).abs_diff(START) <= 30_000);
        }
    }
}
