//! Randomness that follows from the seed, alike on every machine.

use std::time::Duration;

use kademlia_dht::gateway::Id;
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

use crate::handle::{KEY_SPACE, mix};

/// One stream of random numbers.
///
/// What draws from one stream does not disturb what draws from another: a run with more queries has the same churn.
/// Logarithms and the like come from `libm`, whose results do not depend on the platform.
#[derive(Debug, Clone)]
pub struct Random(Pcg64Mcg);

impl Random {
    /// The stream with this name under a seed.
    pub fn new(seed: u64, stream: &str) -> Self {
        let name = stream.bytes().fold(0, |name, byte| mix(name ^ u64::from(byte)));
        Random(Pcg64Mcg::seed_from_u64(mix(seed) ^ name))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `bound` (0 if that is 0).
    pub fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.bits()) * u128::from(bound);
        (product >> 64) as u64
    }

    /// A number of at least 0 and below 1.
    pub fn unit(&mut self) -> f64 {
        unit(self.bits())
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.unit() < probability
    }

    /// One of them.
    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        all.get(usize::try_from(self.below(all.len() as u64)).ok()?)
    }

    /// Sixteen random bytes.
    pub fn seed(&mut self) -> [u8; 16] {
        (u128::from(self.bits()) << 64 | u128::from(self.bits())).to_le_bytes()
    }

    /// A key: an id that no node has.
    pub fn key(&mut self) -> Id {
        let mut bytes = [0; 32];
        for (to, word) in bytes.chunks_mut(8).zip([self.bits(), self.bits(), self.bits(), 0]) {
            to.copy_from_slice(&word.to_be_bytes());
        }
        KEY_SPACE.fit(&Id::new(bytes))
    }

    /// A time from a Weibull distribution with this shape and median. With the shape 1 it is the exponential one; with
    /// a smaller shape many times are short and a few very long.
    pub fn weibull(&mut self, shape: f64, median: Duration) -> Duration {
        let shape = if shape > 0.01 { shape } else { 0.01 };
        let scale = median.as_secs_f64() / libm::pow(std::f64::consts::LN_2, 1.0 / shape);
        bounded(scale * libm::pow(-libm::log(1.0 - self.unit()), 1.0 / shape))
    }

    /// A time from an exponential distribution with this mean: the wait for the next of events that do not know of each
    /// other.
    pub fn exponential(&mut self, mean: Duration) -> Duration {
        bounded(mean.as_secs_f64() * -libm::log(1.0 - self.unit()))
    }
}

/// A time of so many seconds. Ten years are for ever.
fn bounded(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.clamp(0.0, 3.2e8))
}

/// A number of at least 0 and below 1, made of the upper bits.
pub(crate) fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// A number of a normal distribution with mean 0 and deviation 1, made of 64 bits (Box and Muller).
pub(crate) fn normal(bits: u64) -> f64 {
    let radius = libm::sqrt(-2.0 * libm::log(1.0 - unit(bits)));
    radius * libm::cos(std::f64::consts::TAU * unit(mix(bits)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_what_they_are_said_to_be() {
        let mut random = Random::new(1, "test");
        let median = Duration::from_secs(60);
        for shape in [0.4, 0.6, 1.0] {
            let shorter = (0..20_000).filter(|_| random.weibull(shape, median) < median).count();
            assert!((9_700..10_300).contains(&shorter), "shape {shape}: {shorter}");
        }
        let below = (0..20_000).filter(|_| normal(random.bits()) < 0.0).count();
        let far = (0..20_000).filter(|_| normal(random.bits()).abs() > 1.96).count();
        assert!((9_700..10_300).contains(&below) && (900..1_100).contains(&far), "{below} {far}");
    }

    #[test]
    fn streams_are_their_own() {
        let draw = |seed, name| Random::new(seed, name).bits();
        assert_eq!(draw(1, "wire"), draw(1, "wire"));
        assert_ne!(draw(1, "wire"), draw(2, "wire"));
        assert_ne!(draw(1, "wire"), draw(1, "churn"));
    }
}
