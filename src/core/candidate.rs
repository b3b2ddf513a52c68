//! A contact in the shortlist of a lookup, and what is known of it.

use kademlia_gateways::{Distance, Peer, Record, Token, Version};

use super::time::Time;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Not asked yet.
    Candidate,
    /// Asked, within the time in which an answer is usual.
    Asked,
    /// Asked, and the usual time is over: another may be asked meanwhile.
    Slow,
    /// Has answered.
    Answered,
    /// Did not answer.
    Failed,
}

/// What a node that answered said of the target.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// The right to store under the target at this node.
    pub(crate) token: Token,
    /// The version it holds.
    pub(crate) held: Option<Version>,
    /// The records it holds, in the order of their authors, if they were asked for.
    pub(crate) records: Vec<Record>,
}

impl Answer {
    /// Whether the node holds a record.
    pub(crate) fn holds_something(&self) -> bool {
        self.held.is_some() || !self.records.is_empty()
    }
}

#[derive(Debug)]
pub(super) struct Entry<P> {
    pub(super) distance: Distance,
    pub(super) peer: P,
    pub(super) state: State,
    /// Whether it may stand in the table and be given records.
    pub(super) is_admitted: bool,
    /// Steps from the own table, which is 1.
    pub(super) hops: u16,
    /// What most entries never have, apart: entries are moved by every insertion before them.
    pub(super) details: Option<Box<Details<P>>>,
}

#[derive(Debug)]
pub(super) struct Details<P> {
    pub(super) answer: Option<Answer>,
    /// Addresses to try when the one in use fails.
    pub(super) alternatives: Vec<P>,
    /// The peer at addresses that failed.
    pub(super) tried: Vec<P>,
    /// Records that it has sent, of more than one message has room for.
    pub(super) earlier: Vec<Record>,
    /// How many these were, with those that are not looked for, and since when it is asked for more.
    pub(super) come: usize,
    pub(super) since: Option<Time>,
}

impl<P> Default for Details<P> {
    fn default() -> Self {
        Details { answer: None, alternatives: Vec::new(), tried: Vec::new(), earlier: Vec::new(), come: 0, since: None }
    }
}

impl<P: Peer> Entry<P> {
    pub(super) fn is_live(&self) -> bool {
        self.state != State::Failed
    }

    pub(super) fn details(&mut self) -> &mut Details<P> {
        self.details.get_or_insert_default()
    }

    pub(super) fn answer(&self) -> Option<(&P, &Answer)> {
        Some((&self.peer, self.details.as_ref()?.answer.as_ref()?))
    }

    pub(super) fn knows(&self, address: &P::Addr) -> bool {
        let known = |details: &Details<P>| {
            details.alternatives.iter().chain(&details.tried).any(|peer| peer.address() == address)
        };
        self.peer.address() == address || self.details.as_deref().is_some_and(known)
    }

    /// Whether it was asked at this address.
    pub(super) fn was_asked_at(&self, address: &P::Addr) -> bool {
        let tried = |details: &Details<P>| details.tried.iter().any(|peer| peer.address() == address);
        (self.state != State::Candidate && self.peer.address() == address) || self.details.as_deref().is_some_and(tried)
    }

    /// Addresses besides the one in use, those that failed included.
    pub(super) fn further(&self) -> usize {
        self.details.as_ref().map_or(0, |details| details.alternatives.len() + details.tried.len())
    }

    /// Goes over to the next address, if there is one.
    pub(super) fn try_alternative(&mut self) {
        if let Some(details) = &mut self.details
            && !details.alternatives.is_empty()
        {
            // It begins anew there.
            (details.earlier, details.come, details.since) = (Vec::new(), 0, None);
            let next = details.alternatives.remove(0);
            details.tried.push(std::mem::replace(&mut self.peer, next));
            self.state = State::Candidate;
        }
    }
}

/// Counts who is in the window, from the nearest on.
pub(super) struct Window {
    admitted: usize,
    strangers: usize,
}

impl Window {
    pub(super) fn new(k: usize) -> Self {
        Window { admitted: k, strangers: k }
    }

    /// Beyond the last one who may stand in the table there is nobody.
    pub(super) fn is_full(&self) -> bool {
        self.admitted == 0
    }

    /// Whether this one, which comes next, is in it.
    pub(super) fn takes<P: Peer>(&mut self, entry: &Entry<P>) -> bool {
        if self.is_full() || !entry.is_live() {
            return false;
        }
        let room = if entry.is_admitted { &mut self.admitted } else { &mut self.strangers };
        let has_room = *room > 0;
        *room = room.saturating_sub(1);
        has_room
    }
}
