//! What a node counts while it runs: fixed numbers in place of maps, whose leaves alone would be more than all else that
//! an idle node holds.

use std::collections::BTreeMap;

use kademlia_gateways::{Refusal, Request};

use super::io::Counters;

/// Why a message, or a part of one, is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dropped {
    ForeignNetwork,
    ForeignId,
    OwnId,
    NoId,
    NoRequest,
    WrongAddress,
    WrongId,
    WrongKind,
    Client,
    ForeignKey,
    Contact,
    TooMany,
    Stranger,
    Record,
}

/// In the order of [`Dropped`].
const DROPPED: [&str; 14] = [
    "of another network",
    "id outside the key space",
    "from the own id",
    "reply without an id",
    "reply to no open request",
    "reply from another address than was asked",
    "reply from another id than was asked",
    "reply of another kind than was asked",
    "request to a node in client mode",
    "key outside the key space",
    "contact in a reply beyond k or outside the key space",
    "request beyond the limit of those in flight",
    "stranger not asked whether it is there, as too many are",
    "record in a reply that does not belong under its key",
];

const REQUESTS: usize = 4;

fn request_index(request: &Request) -> usize {
    match request {
        Request::Ping => 0,
        Request::FindNode { .. } => 1,
        Request::FindValue { .. } => 2,
        Request::Store { .. } => 3,
    }
}

const REFUSED: [&str; 12] = [
    "write token not valid",
    "newer version held",
    "condition does not hold",
    "store full",
    "value too large",
    "lifetime over",
    "source over its limit",
    "record without proof",
    "key of another owner",
    "owner's time to write over",
    "no rule for the namespace",
    "against the rule of the namespace",
];

fn refusal_index(refusal: &Refusal) -> usize {
    match refusal {
        Refusal::Token => 0,
        Refusal::Older { .. } => 1,
        Refusal::Conflict { .. } => 2,
        Refusal::Full => 3,
        Refusal::TooLarge { .. } => 4,
        Refusal::Expired => 5,
        Refusal::Limited => 6,
        Refusal::Forged => 7,
        Refusal::Taken => 8,
        Refusal::Late => 9,
        Refusal::NoRule => 10,
        Refusal::Rule { .. } => 11,
    }
}

/// One number for each of some kinds. Takes memory once there is something to count.
#[derive(Debug, Default)]
struct Tally<const KINDS: usize>(Option<Box<[u64; KINDS]>>);

impl<const KINDS: usize> Tally<KINDS> {
    fn add(&mut self, kind: usize) {
        if let Some(count) = self.0.get_or_insert_with(|| Box::new([0; KINDS])).get_mut(kind) {
            *count += 1;
        }
    }

    /// What has been counted at least once.
    fn named(&self, names: [&'static str; KINDS]) -> BTreeMap<&'static str, u64> {
        let counts = self.0.as_deref().into_iter().flatten().copied();
        names.into_iter().zip(counts).filter(|(_, count)| *count > 0).collect()
    }
}

/// What a node has counted since it started.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    sent: Tally<REQUESTS>,
    served: Tally<REQUESTS>,
    refused: Tally<{ REFUSED.len() }>,
    dropped: Tally<{ DROPPED.len() }>,
    pub(crate) replies: u64,
    pub(crate) unanswered: u64,
}

impl Counts {
    pub(crate) fn sent(&mut self, request: &Request) {
        self.sent.add(request_index(request));
    }

    pub(crate) fn served(&mut self, request: &Request) {
        self.served.add(request_index(request));
    }

    pub(crate) fn refused(&mut self, refusal: &Refusal) {
        self.refused.add(refusal_index(refusal));
    }

    pub(crate) fn dropped(&mut self, cause: Dropped) {
        self.dropped.add(cause as usize);
    }

    /// The same, by name.
    pub(crate) fn view(&self) -> Counters {
        let requests = ["PING", "FIND_NODE", "FIND_VALUE", "STORE"];
        Counters {
            requests_sent: self.sent.named(requests),
            requests_served: self.served.named(requests),
            refused: self.refused.named(REFUSED),
            dropped: self.dropped.named(DROPPED),
            replies: self.replies,
            unanswered: self.unanswered,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_count_has_its_own_name() {
        let mut counts = Counts::default();
        assert_eq!(counts.view(), Counters::default());
        for (cause, name) in [
            (Dropped::ForeignNetwork, "of another network"),
            (Dropped::WrongKind, "reply of another kind than was asked"),
            (Dropped::TooMany, "request beyond the limit of those in flight"),
            (Dropped::Stranger, "stranger not asked whether it is there, as too many are"),
        ] {
            counts.dropped(cause);
            assert_eq!(counts.view().dropped[name], 1);
        }
        let request = Request::FindNode { target: kademlia_gateways::Id::ZERO };
        counts.sent(&request);
        assert_eq!(counts.view().requests_sent[request.name()], 1);
        counts.refused(&Refusal::Limited);
        assert_eq!(counts.view().refused["source over its limit"], 1);
    }
}
