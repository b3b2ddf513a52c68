//! What shows that who announces a peer is at the address that it asked from (BEP 5).

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::id::Id;

/// After so long a token is another one; the one before is still good.
const EPOCH: Duration = Duration::from_secs(5 * 60);

/// Tokens for addresses and keys, which need not be remembered.
#[derive(Debug)]
pub(super) struct Tokens {
    /// Keyed at random: nobody else can make one.
    secret: RandomState,
    start: Instant,
}

impl Tokens {
    pub(super) fn new(now: Instant) -> Self {
        Tokens { secret: RandomState::new(), start: now }
    }

    pub(super) fn make(&self, now: Instant, ip: IpAddr, info_hash: &Id) -> [u8; 8] {
        self.of(self.epoch(now), ip, info_hash)
    }

    pub(super) fn is_good(&self, now: Instant, ip: IpAddr, info_hash: &Id, token: &[u8]) -> bool {
        let epoch = self.epoch(now);
        let given = |epoch: u64| {
            let right = self.of(epoch, ip, info_hash);
            // All bytes are looked at, so that the time says nothing of where it is wrong.
            token.len() == right.len() && right.iter().zip(token).fold(0, |wrong, (a, b)| wrong | (a ^ b)) == 0
        };
        given(epoch) | epoch.checked_sub(1).is_some_and(given)
    }

    fn epoch(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_secs() / EPOCH.as_secs()
    }

    fn of(&self, epoch: u64, ip: IpAddr, info_hash: &Id) -> [u8; 8] {
        self.secret.hash_one((epoch, ip, info_hash)).to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_one_address_and_key_and_not_for_ever() {
        let start = Instant::now();
        let (tokens, key) = (Tokens::new(start), Id::from_prefix(b"key"));
        let (here, there): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let token = tokens.make(start + EPOCH / 2, here, &key);
        let is_good = |after, ip, key, token: &[u8]| tokens.is_good(start + after, ip, key, token);
        assert!(is_good(EPOCH, here, &key, &token) && is_good(EPOCH * 19 / 10, here, &key, &token));
        assert!(!is_good(EPOCH * 2, here, &key, &token));
        assert!(!is_good(EPOCH, there, &key, &token) && !is_good(EPOCH, here, &Id::ZERO, &token));
        assert!(!is_good(EPOCH, here, &key, &token[..7]) && !is_good(EPOCH, here, &key, b""));
    }
}
