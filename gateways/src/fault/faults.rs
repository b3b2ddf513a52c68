//! What happens to a message: decided by a seed, without any I/O.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::codec;
use crate::message::Envelope;

/// How bad the network is. Each message meets each fault independently, once when it is sent and once when it is
/// received.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultConfig {
    /// Everything that is left to chance follows from it.
    pub seed: u64,
    /// The probability that a message is lost: 0 to 1.
    pub loss: f64,
    /// The probability that a message comes twice: 0 to 1.
    pub duplication: f64,
    /// The probability that one bit of a message is turned over: 0 to 1. What cannot be read any more is counted as
    /// malformed; the rest arrives.
    pub corruption: f64,
    /// The shortest and the longest delay of a message. Messages overtake each other where the two differ.
    pub delay: RangeInclusive<Duration>,
}

impl Default for FaultConfig {
    /// No faults at all.
    fn default() -> Self {
        FaultConfig { seed: 0, loss: 0.0, duplication: 0.0, corruption: 0.0, delay: Duration::ZERO..=Duration::ZERO }
    }
}

/// What is wrong with a [`FaultConfig`].
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FaultError {
    /// A probability below 0, above 1, or not a number.
    #[error("the probability of {name} is {value}; it must be within 0 and 1")]
    Probability {
        /// Of which fault.
        name: &'static str,
        /// What was given.
        value: f64,
    },
    /// The delays are the wrong way round.
    #[error("the shortest delay, {shortest:?}, is longer than the longest, {longest:?}")]
    Delay {
        /// The shortest.
        shortest: Duration,
        /// The longest.
        longest: Duration,
    },
}

impl FaultConfig {
    /// Whether all of it makes sense.
    pub(super) fn check(&self) -> Result<(), FaultError> {
        for (name, value) in [("loss", self.loss), ("duplication", self.duplication), ("corruption", self.corruption)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(FaultError::Probability { name, value });
            }
        }
        let (shortest, longest) = (*self.delay.start(), *self.delay.end());
        if shortest > longest { Err(FaultError::Delay { shortest, longest }) } else { Ok(()) }
    }
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It does not arrive.
    Lost,
    /// What arrives is no message.
    Malformed,
    /// It arrives.
    Arrives {
        /// After this long.
        after: Duration,
        /// And once more after this long.
        again: Option<Duration>,
    },
}

/// Decides for one message after the other.
#[derive(Debug)]
pub(super) struct Faults {
    config: FaultConfig,
    /// The state of a SplitMix64 generator.
    random: u64,
    buffer: Vec<u8>,
}

impl Faults {
    /// For one direction, told by a number.
    pub(super) fn new(config: FaultConfig, direction: u64) -> Self {
        let random = config.seed ^ direction.wrapping_mul(0xd1b5_4a32_d192_ed03);
        Faults { config, random, buffer: Vec::new() }
    }

    /// Decides what becomes of a message, which may be changed by it.
    pub(super) fn decide(&mut self, envelope: &mut Envelope) -> Fate {
        if self.happens(self.config.loss) {
            return Fate::Lost;
        }
        if self.happens(self.config.corruption) && !self.corrupt(envelope) {
            return Fate::Malformed;
        }
        let after = self.delay();
        let again = self.happens(self.config.duplication).then(|| self.delay());
        Fate::Arrives { after, again }
    }

    /// Turns one bit over. Tells whether it is still a message.
    fn corrupt(&mut self, envelope: &mut Envelope) -> bool {
        self.buffer.clear();
        if codec::encode(envelope, &mut self.buffer).is_err() {
            // Too large for any gateway, as the inner one will say.
            return true;
        }
        let bit = self.below(self.buffer.len() as u64 * 8);
        if let Some(byte) = usize::try_from(bit / 8).ok().and_then(|index| self.buffer.get_mut(index)) {
            *byte ^= 1 << (bit % 8);
        }
        match codec::decode(&self.buffer) {
            Ok(corrupted) => {
                *envelope = corrupted;
                true
            }
            Err(_) => false,
        }
    }

    fn delay(&mut self) -> Duration {
        let (shortest, longest) = (*self.config.delay.start(), *self.config.delay.end());
        let range = u64::try_from(longest.saturating_sub(shortest).as_nanos()).unwrap_or(u64::MAX - 1);
        shortest + Duration::from_nanos(if range == 0 { 0 } else { self.below(range.saturating_add(1)) })
    }

    fn happens(&mut self, probability: f64) -> bool {
        const UNIT: f64 = 1.0 / (1_u64 << 53) as f64;
        ((self.next() >> 11) as f64) * UNIT < probability
    }

    /// Any number below `limit`, which is not 0.
    fn below(&mut self, limit: u64) -> u64 {
        let wide = u128::from(self.next()) * u128::from(limit);
        (wide >> 64) as u64
    }

    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Body, Message, NetworkId, Request, Tag};

    fn ping(tag: u64) -> Envelope {
        let body = Body::Request(Request::Ping);
        Envelope::Direct(Message { network: NetworkId(1), tag: Tag(tag), sender: None, also: Vec::new(), body })
    }

    fn fates(config: &FaultConfig) -> Vec<(Fate, Envelope)> {
        let mut faults = Faults::new(config.clone(), 0);
        let decide = |tag| {
            let mut envelope = ping(tag);
            (faults.decide(&mut envelope), envelope)
        };
        (0..2000).map(decide).collect()
    }

    #[test]
    fn the_seed_decides() {
        let config = FaultConfig {
            seed: 5,
            loss: 0.3,
            duplication: 0.3,
            corruption: 0.3,
            delay: Duration::from_millis(1)..=Duration::from_millis(9),
        };
        assert_eq!(fates(&config), fates(&config));
        assert_ne!(fates(&config), fates(&FaultConfig { seed: 6, ..config }));
    }

    #[test]
    fn faults_are_as_frequent_as_they_should_be() {
        let share = |config: FaultConfig, wanted: fn(&Fate) -> bool| {
            fates(&config).iter().filter(|(fate, _)| wanted(fate)).count() as f64 / 2000.0
        };
        let none = FaultConfig::default;
        let nothing = Fate::Arrives { after: Duration::ZERO, again: None };
        assert!(fates(&none()).iter().all(|(fate, _)| *fate == nothing));
        let lost: fn(&Fate) -> bool = |fate| *fate == Fate::Lost;
        assert_eq!(share(FaultConfig { loss: 1.0, ..none() }, lost), 1.0);
        assert!((share(FaultConfig { loss: 0.2, ..none() }, lost) - 0.2).abs() < 0.04);
        let twice: fn(&Fate) -> bool = |fate| matches!(fate, Fate::Arrives { again: Some(_), .. });
        assert!((share(FaultConfig { duplication: 0.5, ..none() }, twice) - 0.5).abs() < 0.05);
    }

    #[test]
    fn corruption_changes_a_message_or_makes_it_unreadable() {
        let all = fates(&FaultConfig { corruption: 1.0, ..FaultConfig::default() });
        let unreadable = all.iter().filter(|(fate, _)| *fate == Fate::Malformed).count();
        assert!((100..1900).contains(&unreadable), "{unreadable}");
        for (tag, (fate, envelope)) in all.iter().enumerate() {
            assert!(*fate == Fate::Malformed || *envelope != ping(tag as u64), "{tag}");
        }
    }

    #[test]
    fn delays_keep_to_their_range() {
        let delay = Duration::from_millis(3)..=Duration::from_millis(5);
        let mut seen = Vec::new();
        for (fate, _) in fates(&FaultConfig { delay: delay.clone(), ..FaultConfig::default() }) {
            let Fate::Arrives { after, .. } = fate else { panic!("{fate:?}") };
            assert!(delay.contains(&after));
            seen.push(after);
        }
        assert!(seen.iter().max().unwrap().saturating_sub(*seen.iter().min().unwrap()) > Duration::from_millis(1));
    }

    #[test]
    fn nonsense_is_named() {
        for (config, error) in [
            (FaultConfig { loss: -0.1, ..Default::default() }, "the probability of loss is -0.1"),
            (FaultConfig { duplication: 1.1, ..Default::default() }, "the probability of duplication is 1.1"),
            (FaultConfig { corruption: f64::NAN, ..Default::default() }, "the probability of corruption is NaN"),
            (
                FaultConfig { delay: Duration::from_secs(2)..=Duration::from_secs(1), ..Default::default() },
                "the shortest delay, 2s",
            ),
        ] {
            assert!(config.check().unwrap_err().to_string().starts_with(error), "{error}");
        }
    }
}
