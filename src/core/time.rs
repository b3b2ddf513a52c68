//! The core's own notion of time.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

/// A moment, in microseconds since some start that the driver chooses.
///
/// The core never reads a clock: whoever drives it says what time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(u64);

impl Time {
    /// The driver's start.
    pub const ZERO: Time = Time(0);

    /// A moment after everything.
    pub const NEVER: Time = Time(u64::MAX);

    /// The moment `microseconds` after the start.
    pub const fn from_micros(microseconds: u64) -> Self {
        Time(microseconds)
    }

    /// Microseconds since the start.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub const fn since(self, earlier: Time) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// A moment in quarters of a second, for what a node keeps of each of hundreds of contacts. Good for 34 years after the
/// node's start; later ones count as that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Coarse(u32);

impl Coarse {
    /// The start.
    pub(crate) const ZERO: Coarse = Coarse(0);

    const MICROSECONDS: u64 = 1_000_000 / 4;

    /// The last moment that is not after `time`.
    pub(crate) fn not_after(time: Time) -> Self {
        Coarse(u32::try_from(time.0 / Self::MICROSECONDS).unwrap_or(u32::MAX))
    }

    /// The first moment that is not before `time`.
    pub(crate) fn not_before(time: Time) -> Self {
        Coarse(u32::try_from(time.0.div_ceil(Self::MICROSECONDS)).unwrap_or(u32::MAX))
    }

    /// The same moment.
    pub(crate) fn time(self) -> Time {
        Time(u64::from(self.0) * Self::MICROSECONDS)
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    fn add(self, duration: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", Duration::from_micros(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coarse_moments_round_to_the_side_that_is_asked_for_and_stay_in_bounds() {
        for (microseconds, down, up) in
            [(0, 0, 0), (1, 0, 250_000), (250_000, 250_000, 250_000), (250_001, 250_000, 500_000)]
        {
            let time = Time::from_micros(microseconds);
            assert_eq!(Coarse::not_after(time).time(), Time::from_micros(down));
            assert_eq!(Coarse::not_before(time).time(), Time::from_micros(up));
        }
        assert_eq!(Coarse::not_before(Time::NEVER), Coarse::not_after(Time::NEVER));
    }
}
