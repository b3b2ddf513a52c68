//! What shows a relay that a circuit comes from where it seems to.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use kademlia_gateways::{Id, Multiaddr, Token};

use super::recent::Recent;
use crate::core::{Time, Tokens};

/// Proofs that this node asks for as a relay, and those that it shows to other relays.
///
/// Anyone can write another's address on a datagram, but only who is there receives what is sent there. So a relay sends
/// a token to an address, made of it, and takes it that what shows the token comes from there.
///
/// Until a relay has asked for more, it is shown a token that nobody else was sent. Only who echoes what this node shows
/// can replace it, so that nobody else can do so in the relay's name.
#[derive(Debug)]
pub(super) struct Proofs {
    asked: Tokens,
    first: Tokens,
    /// What relays want to be shown.
    given: Recent<Token>,
}

/// How long a token is good for, at least; and at most twice as long.
const INTERVAL: Duration = Duration::from_secs(300);

impl Proofs {
    pub(super) fn new() -> Self {
        let tokens = || {
            let random = RandomState::new();
            Tokens::new((random.hash_one(0), random.hash_one(1)), INTERVAL)
        };
        Proofs { asked: tokens(), first: tokens(), given: Recent::new() }
    }

    /// What this node wants to be shown by who is at this address.
    pub(super) fn asked(&self, now: Time, from: &Multiaddr) -> Token {
        self.asked.make(now, from, &Id::ZERO)
    }

    /// Whether that is it.
    pub(super) fn is_good(&self, now: Time, from: &Multiaddr, shown: Token) -> bool {
        self.asked.check(now, from, &Id::ZERO, shown)
    }

    /// What to show a relay.
    pub(super) fn to_show(&self, relay: &Multiaddr) -> Token {
        self.given.get(relay).copied().unwrap_or_else(|| self.first.make(Time::ZERO, relay, &Id::ZERO))
    }

    /// A relay wants to be shown another token than the one that it says it was shown. Tells whether it was.
    pub(super) fn replace(&mut self, relay: &Multiaddr, shown: Token, wanted: Token) -> bool {
        let was_shown = self.to_show(relay) == shown;
        if was_shown {
            self.given.insert(relay, wanted);
        }
        was_shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_who_was_sent_a_token_can_show_it() {
        let proofs = Proofs::new();
        let at = |seconds: u64| Time::from_micros(seconds * 1_000_000);
        let (here, there) = (address("/ip4/1.0.0.1/udp/1"), address("/ip4/1.0.0.1/udp/2"));
        let token = proofs.asked(at(299), &here);
        assert!(proofs.is_good(at(299), &here, token) && proofs.is_good(at(599), &here, token));
        assert!(!proofs.is_good(at(600), &here, token), "it has expired");
        assert!(!proofs.is_good(at(299), &there, token));
        assert!(!Proofs::new().is_good(at(299), &here, token));
        assert!(!proofs.is_good(at(0), &here, proofs.to_show(&here)), "what it shows itself");
    }

    #[test]
    fn only_who_was_shown_a_token_can_replace_it() {
        let mut proofs = Proofs::new();
        let relay = address("/ip4/1.0.0.1/udp/1");
        let first = proofs.to_show(&relay);
        assert!(!proofs.replace(&relay, Token(first.0 ^ 1), Token(7)));
        assert!(!proofs.replace(&address("/ip4/1.0.0.1/udp/2"), first, Token(7)));
        assert_eq!(proofs.to_show(&relay), first);
        assert!(proofs.replace(&relay, first, Token(7)));
        assert_eq!(proofs.to_show(&relay), Token(7));
        assert!(!proofs.replace(&relay, first, Token(8)), "that was before");
        assert!(proofs.replace(&relay, Token(7), Token(8)));
    }
}
