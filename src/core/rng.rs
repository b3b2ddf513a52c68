//! The core's randomness: all of it follows from one seed.

use std::hash::Hasher;
use std::time::Duration;

use kademlia_gateways::{ID_BYTES, Id, KeySpace};
use siphasher::sip::SipHasher24;

/// What the core draws its request tags, jitter, and secrets from.
///
/// SipHash-2-4, a keyed pseudo-random function, over a counter: nobody without the seed foretells a tag from the tags
/// before it, and a million simulated nodes spend 24 bytes each on it.
#[derive(Debug, Clone)]
pub(crate) struct Rng {
    key: (u64, u64),
    counter: u64,
}

impl Rng {
    pub(crate) fn new(seed: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = seed;
        let key = (u64::from_le_bytes([a, b, c, d, e, f, g, h]), u64::from_le_bytes([i, j, k, l, m, n, o, p]));
        Rng { key, counter: 0 }
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(1);
        let mut hasher = SipHasher24::new_with_keys(self.key.0, self.key.1);
        hasher.write_u64(self.counter);
        hasher.finish()
    }

    /// A duration between 3/4 of `interval` and all of it, so that nodes started together do not stay in step. Never
    /// more: what must happen before something expires does.
    pub(crate) fn jitter(&mut self, interval: Duration) -> Duration {
        let share = self.next_u64() % 1024;
        interval.mul_f64(0.75 + share as f64 / 4096.0)
    }

    /// A random id of `space` that shares exactly `prefix` leading bits with `id`.
    pub(crate) fn id_in_bucket(&mut self, id: &Id, prefix: usize, space: KeySpace) -> Id {
        let mut bytes = [0; ID_BYTES];
        for chunk in bytes.chunks_mut(8) {
            for (byte, random) in chunk.iter_mut().zip(self.next_u64().to_le_bytes()) {
                *byte = random;
            }
        }
        for (index, (byte, own)) in bytes.iter_mut().zip(id.as_bytes()).enumerate() {
            for bit in 0..8 {
                let mask = 0x80_u8 >> bit;
                match (index * 8 + bit).cmp(&prefix) {
                    std::cmp::Ordering::Less => *byte = (*byte & !mask) | (own & mask),
                    std::cmp::Ordering::Equal => *byte = (*byte & !mask) | (!own & mask),
                    std::cmp::Ordering::Greater => {}
                }
            }
        }
        space.fit(&Id::new(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_a_bucket_share_exactly_its_prefix() {
        let mut rng = Rng::new([7; 16]);
        let space = KeySpace::new(20).unwrap();
        let own = Id::from_prefix(&[0b1010_1010; 20]);
        for prefix in 0..160 {
            let id = rng.id_in_bucket(&own, prefix, space);
            assert_eq!(own.common_prefix_len(&id), prefix);
            assert!(space.contains(&id));
        }
    }

    #[test]
    fn jitter_takes_at_most_a_quarter_off() {
        let mut rng = Rng::new([1; 16]);
        let hour = Duration::from_secs(3600);
        for _ in 0..1000 {
            let jittered = rng.jitter(hour);
            assert!(jittered >= hour * 3 / 4 && jittered <= hour);
        }
    }

    #[test]
    fn the_seed_decides() {
        let draw = |seed| Rng::new([seed; 16]).next_u64();
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
