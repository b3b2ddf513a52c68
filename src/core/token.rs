//! Write tokens: the right to store one key, given to one address (as in BEP 5).

use std::hash::{Hash, Hasher};
use std::time::Duration;

use kademlia_gateways::{Id, Token};
use siphasher::sip::SipHasher24;
use subtle::ConstantTimeEq;

use super::time::Time;

/// Makes and checks tokens: a SipHash-2-4 of address, key and epoch under a secret of this node.
///
/// Whoever shows a token has received a message at the address that it was made for, within the last two epochs.
#[derive(Debug)]
pub(crate) struct Tokens {
    secret: (u64, u64),
    /// In microseconds.
    interval: u64,
}

impl Tokens {
    pub(crate) fn new(secret: (u64, u64), interval: Duration) -> Self {
        Tokens { secret, interval: u64::try_from(interval.as_micros()).unwrap_or(u64::MAX).max(1) }
    }

    pub(crate) fn make<A: Hash>(&self, now: Time, address: &A, key: &Id) -> Token {
        self.of_epoch(self.epoch(now), address, key)
    }

    /// Whether `token` was made for `address` and `key` in this epoch or the one before. Takes the same time whatever
    /// the token.
    pub(crate) fn check<A: Hash>(&self, now: Time, address: &A, key: &Id, token: Token) -> bool {
        let epoch = self.epoch(now);
        let current = self.of_epoch(epoch, address, key).0.ct_eq(&token.0);
        let previous = self.of_epoch(epoch.wrapping_sub(1), address, key).0.ct_eq(&token.0);
        (current | previous).into()
    }

    fn epoch(&self, now: Time) -> u64 {
        now.as_micros() / self.interval
    }

    fn of_epoch<A: Hash>(&self, epoch: u64, address: &A, key: &Id) -> Token {
        let mut hasher = SipHasher24::new_with_keys(self.secret.0, self.secret.1);
        epoch.hash(&mut hasher);
        address.hash(&mut hasher);
        key.hash(&mut hasher);
        Token(hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_address_and_key_and_two_epochs() {
        let tokens = Tokens::new((1, 2), Duration::from_secs(300));
        let at = |seconds: u64| Time::from_micros(seconds * 1_000_000);
        let (key, other) = (Id::from_prefix(&[1]), Id::from_prefix(&[2]));
        let token = tokens.make(at(299), &"a", &key);
        for (now, address, key, good) in [
            (299, "a", key, true),
            (599, "a", key, true),
            (600, "a", key, false),
            (299, "b", key, false),
            (299, "a", other, false),
        ] {
            assert_eq!(tokens.check(at(now), &address, &key, token), good, "{now} {address}");
        }
        assert!(!Tokens::new((1, 3), Duration::from_secs(300)).check(at(299), &"a", &key, token));
    }
}
