//! The core's own notion of time.

use std::fmt;
use std::num::NonZeroU16;
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

/// How long something took, in two bytes: exact up to four milliseconds, to within a two-thousandth above. More than two
/// minutes count as that, and less than a microsecond as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lapse(NonZeroU16);

impl Lapse {
    /// Of a number of microseconds, the bits that are kept. The others of a lapse say how many bits were left out.
    const BITS: u32 = 12;

    const MOST: u64 = 0xfff << 0xf;

    pub(crate) fn of(duration: Duration) -> Self {
        let microseconds = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).clamp(1, Self::MOST);
        let left_out = (u64::BITS - microseconds.leading_zeros()).saturating_sub(Self::BITS);
        let bits = (microseconds >> left_out) | u64::from(left_out) << Self::BITS;
        Lapse(u16::try_from(bits).ok().and_then(NonZeroU16::new).unwrap_or(NonZeroU16::MAX))
    }

    pub(crate) fn duration(self) -> Duration {
        let bits = u64::from(self.0.get());
        Duration::from_micros((bits & ((1 << Self::BITS) - 1)) << (bits >> Self::BITS))
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

    #[test]
    fn a_lapse_is_near_what_it_is_of() {
        let kept = |microseconds| Lapse::of(Duration::from_micros(microseconds)).duration().as_micros() as u64;
        assert!((1..4096).all(|exact| kept(exact) == exact));
        for microseconds in (0..27).flat_map(|bit| [1 << bit, (1 << bit) + (1 << bit) / 3, (2 << bit) - 1]) {
            let lost = microseconds - kept(microseconds);
            assert!(lost <= microseconds / 2048, "{microseconds} became {}", kept(microseconds));
        }
        assert_eq!((kept(0), kept(4095 << 15), kept(u64::MAX)), (1, 4095 << 15, 4095 << 15));
    }
}
