//! One iterative lookup (paper, section 2.3): who to ask next, and when it is done.

use std::iter;

use kademlia_gateways::{Id, Peer, Record};

use super::admission::{Policy, admits};
pub(crate) use super::candidate::Answer;
use super::candidate::{Details, Entry, State, Window};
use super::time::Time;

/// How many further addresses of one contact are kept to be tried when its first one fails.
const MAX_ALTERNATIVES: usize = 5;

/// The shortlist holds at most this many times k contacts that have not failed.
const MAX_SHORTLIST: usize = 8;

/// With those that have failed it may be so many times as long: where nearly all have died, these must not keep out the
/// few that live.
const MAX_WITH_FAILED: usize = 4;

/// So many ids are asked at one address, whatever others say who is there: the address may have changed hands, but who
/// names twenty ids at one address wants it flooded.
const MAX_IDS_AT_ADDRESS: usize = 2;

/// The shortlist of one lookup.
///
/// The window is the k nearest contacts that have not failed. The lookup is done when all of the window have
/// answered; whatever fails leaves it and lets the next one in. Those who may not stand in the table take nobody's place in
/// it: of them it has the k nearest besides, so that whoever can choose ids keeps nobody from being found.
#[derive(Debug)]
pub(crate) struct Lookup<P: Peer> {
    target: Id,
    k: usize,
    /// Nearest first.
    entries: Vec<Entry<P>>,
    /// Who may stand in the table.
    admission: Policy<P>,
}

impl<P: Peer> Lookup<P> {
    pub(crate) fn new(target: Id, k: usize) -> Self {
        Lookup { target, k, entries: Vec::new(), admission: None }
    }

    /// The lookup, with a policy of who may stand in the table.
    pub(crate) fn admitting(self, admission: Policy<P>) -> Self {
        Lookup { admission, ..self }
    }

    pub(crate) fn target(&self) -> Id {
        self.target
    }

    /// Adds a contact that was heard of `hops` steps away.
    pub(crate) fn add(&mut self, peer: P, hops: u16) {
        let id = peer.id();
        let distance = id.distance(&self.target);
        match self.entries.binary_search_by_key(&distance, |entry| entry.distance) {
            Ok(place) => {
                if let Some(entry) = self.entries.get_mut(place) {
                    add_alternative(entry, peer, hops);
                    entry.is_admitted = admits(&self.admission, &entry.peer);
                }
            }
            Err(place) if place == self.entries.len() && self.is_too_long_with(1) => {}
            Err(place) => {
                let is_admitted = admits(&self.admission, &peer);
                if !is_admitted && !self.has_room_for_stranger(place) {
                    return;
                }
                let others: Vec<P> = peer.others().iter().map(|other| P::new(id, other.clone(), Vec::new())).collect();
                let details =
                    (!others.is_empty()).then(|| Box::new(Details { alternatives: others, ..Details::default() }));
                self.entries
                    .insert(place, Entry { distance, peer, state: State::Candidate, is_admitted, hops, details });
                self.shrink();
            }
        }
    }

    /// Whether one who may not stand in the table, and would have this place, is one of the k nearest such. Then another one
    /// makes room for it, if it has not been asked.
    fn has_room_for_stranger(&mut self, place: usize) -> bool {
        let is_stranger = |entry: &Entry<P>| !entry.is_admitted && entry.is_live();
        let nearer = self.entries.iter().take(place).filter(|entry| is_stranger(entry)).count();
        let all = self.entries.iter().filter(|entry| is_stranger(entry)).count();
        if nearer < self.k && all >= self.k {
            let is_candidate = |entry: &Entry<P>| is_stranger(entry) && entry.state == State::Candidate;
            let farthest = self.entries.iter().skip(place).rposition(is_candidate).map(|behind| place + behind);
            farthest.into_iter().for_each(|farthest| drop(self.entries.remove(farthest)));
        }
        nearer < self.k
    }

    /// Whether the shortlist is too long with so many more contacts.
    fn is_too_long_with(&self, more: usize) -> bool {
        let (all, most) = (self.entries.len() + more, self.k.saturating_mul(MAX_SHORTLIST));
        all > most && (self.live() + more > most || all > most.saturating_mul(MAX_WITH_FAILED))
    }

    /// Forgets the farthest candidate when the shortlist is too long.
    fn shrink(&mut self) {
        if self.is_too_long_with(0)
            && let Some(place) = self.entries.iter().rposition(|entry| entry.state == State::Candidate)
        {
            self.entries.remove(place);
        }
    }

    /// The next contact to ask, if one in the window has not been asked yet. It counts as asked from now on.
    pub(crate) fn next(&mut self) -> Option<P> {
        loop {
            let mut window = Window::new(self.k);
            let is_next = |entry: &&mut Entry<P>| window.takes(entry) && entry.state == State::Candidate;
            let entry = self.entries.iter_mut().find(is_next)?;
            let peer = entry.peer.clone();
            entry.state = State::Asked;
            let others = self.entries.iter().filter(|entry| entry.was_asked_at(peer.address()));
            // With the one that is to be.
            if others.count() <= MAX_IDS_AT_ADDRESS {
                return Some(peer);
            }
            self.missed(&peer.id(), peer.address());
        }
    }

    /// The steps to `id`; `None` if it is not in the shortlist.
    pub(crate) fn steps_to(&self, id: &Id) -> Option<u16> {
        Some(self.entries.get(self.place(id)?)?.hops)
    }

    /// What `id` has answered.
    pub(crate) fn answer_of(&self, id: &Id) -> Option<&Answer> {
        self.entries.get(self.place(id)?)?.details.as_ref()?.answer.as_ref()
    }

    /// Requests that are within the usual time of an answer.
    pub(crate) fn in_flight(&self) -> usize {
        self.entries.iter().filter(|entry| entry.state == State::Asked).count()
    }

    /// Contacts that have not failed and may be given records.
    pub(crate) fn live(&self) -> usize {
        self.entries.iter().filter(|entry| entry.is_live() && entry.is_admitted).count()
    }

    /// Contacts that have failed.
    pub(crate) fn failed(&self) -> usize {
        self.entries.iter().filter(|entry| !entry.is_live()).count()
    }

    /// Whether the whole window has answered.
    pub(crate) fn is_done(&self) -> bool {
        self.window().all(|entry| entry.state == State::Answered)
    }

    /// Whether the nearest contact of all has answered and named no nearer one: the way to the target has been gone, and
    /// what remains is to ask the others around it.
    pub(crate) fn has_arrived(&self) -> bool {
        self.window().next().is_some_and(|entry| entry.state == State::Answered)
    }

    fn window(&self) -> impl Iterator<Item = &Entry<P>> {
        let (mut window, mut entries) = (Window::new(self.k), self.entries.iter());
        iter::from_fn(move || {
            while !window.is_full() {
                let entry = entries.next()?;
                if window.takes(entry) {
                    return Some(entry);
                }
            }
            None
        })
    }

    /// `id` takes longer than usual.
    pub(crate) fn slow(&mut self, id: &Id) {
        if let Some(entry) = self.entry(id)
            && entry.state == State::Asked
        {
            entry.state = State::Slow;
        }
    }

    /// `id` has sent so many of its records, of which these are looked for, and could be asked for more. How many it has sent up
    /// to now, and since when that is so; `None` if it was not asked.
    pub(crate) fn more_to_come(
        &mut self,
        now: Time,
        id: &Id,
        records: Vec<Record>,
        count: usize,
    ) -> Option<(usize, Time)> {
        let entry = self.entry(id).filter(|entry| matches!(entry.state, State::Asked | State::Slow))?;
        let details = entry.details();
        details.earlier.extend(records);
        details.come += count;
        Some((details.come, *details.since.get_or_insert(now)))
    }

    /// `id` answered. Returns the steps to it; `None` if it was not asked or has answered before.
    pub(crate) fn answered(&mut self, id: &Id, answer: Answer) -> Option<u16> {
        let entry = self.entry(id)?;
        if matches!(entry.state, State::Candidate | State::Answered) {
            return None;
        }
        entry.state = State::Answered;
        let details = entry.details();
        let records = std::mem::take(&mut details.earlier).into_iter().chain(answer.records).collect();
        details.answer = Some(Answer { records, ..answer });
        Some(entry.hops)
    }

    /// `id` did not answer at `address`. It is asked again if another address of it is known.
    pub(crate) fn missed(&mut self, id: &Id, address: &P::Addr) {
        let Some(entry) = self.place(id).and_then(|place| self.entries.get_mut(place)) else { return };
        if !matches!(entry.state, State::Asked | State::Slow) || entry.peer.address() != address {
            return;
        }
        entry.state = State::Failed;
        entry.try_alternative();
        entry.is_admitted = admits(&self.admission, &entry.peer);
    }

    fn entry(&mut self, id: &Id) -> Option<&mut Entry<P>> {
        let place = self.place(id)?;
        self.entries.get_mut(place)
    }

    fn place(&self, id: &Id) -> Option<usize> {
        let distance = id.distance(&self.target);
        self.entries.binary_search_by_key(&distance, |entry| entry.distance).ok()
    }

    /// Those who answered, nearest first.
    pub(crate) fn answers(&self) -> impl Iterator<Item = (&P, &Answer)> {
        self.entries.iter().filter(|entry| entry.state == State::Answered).filter_map(Entry::answer)
    }

    /// Those who answered before the nearest one who has not, nearest first.
    pub(crate) fn nearest_answers(&self) -> impl Iterator<Item = (&P, &Answer)> {
        self.entries
            .iter()
            .filter(|entry| entry.is_live())
            .take_while(|entry| entry.state == State::Answered)
            .filter_map(Entry::answer)
    }

    /// The rank of `id` among the contacts that have not failed and may be given records, the nearest being 0.
    pub(crate) fn rank(&self, id: &Id) -> usize {
        let distance = id.distance(&self.target);
        let nearer = self.entries.iter().take_while(|entry| entry.distance < distance);
        nearer.filter(|entry| entry.is_live() && entry.is_admitted).count()
    }

    /// Those of the k nearest contacts of all that did not answer.
    pub(crate) fn silent(&self) -> impl Iterator<Item = &P> {
        let nearest = self.entries.iter().filter(|entry| entry.is_admitted).take(self.k);
        nearest.filter(|entry| entry.state == State::Failed).map(|entry| &entry.peer)
    }

    /// The most steps to any of the window.
    pub(crate) fn hops(&self) -> usize {
        self.window()
            .filter(|entry| entry.state == State::Answered)
            .map(|entry| usize::from(entry.hops))
            .max()
            .unwrap_or(0)
    }
}

fn add_alternative<P: Peer>(entry: &mut Entry<P>, peer: P, hops: u16) {
    if entry.state == State::Answered || entry.knows(peer.address()) || entry.further() >= MAX_ALTERNATIVES {
        return;
    }
    if entry.state == State::Candidate && P::relays(peer.address()) < P::relays(entry.peer.address()) {
        // Not asked yet, and the news is better: fewer relays.
        entry.hops = hops;
        let worse = std::mem::replace(&mut entry.peer, peer);
        entry.details().alternatives.insert(0, worse);
        return;
    }
    entry.details().alternatives.push(peer);
    if entry.state == State::Failed {
        entry.hops = hops;
        entry.try_alternative();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::Handle;
    use kademlia_gateways::Token;
    use proptest::prelude::*;

    fn handle(n: u8) -> Handle {
        Handle { id: Id::from_prefix(&[n]), address: u32::from(n) }
    }

    fn answer() -> Answer {
        Answer { token: Token(0), held: None, records: Vec::new() }
    }

    fn lookup(k: usize, contacts: impl IntoIterator<Item = u8>) -> Lookup<Handle> {
        let mut lookup = Lookup::new(Id::ZERO, k);
        for n in contacts {
            lookup.add(handle(n), 1);
        }
        lookup
    }

    #[test]
    fn it_goes_on_while_others_are_in_flight_though_the_first_answer_brings_no_news() {
        let mut lookup = lookup(2, [4, 8]);
        let (first, second) = (lookup.next().unwrap(), lookup.next().unwrap());
        lookup.answered(&first.id, answer());
        assert!(!lookup.is_done(), "the second was asked and can still bring news");
        lookup.add(handle(1), 2);
        lookup.answered(&second.id, answer());
        assert!(!lookup.is_done(), "a nearer contact was heard of");
        assert_eq!(lookup.next(), Some(handle(1)));
        lookup.answered(&handle(1).id, answer());
        assert!(lookup.is_done());
    }

    #[test]
    fn failed_contacts_let_the_next_ones_into_the_window() {
        let mut lookup = lookup(2, [1, 2, 3]);
        assert_eq!((lookup.next(), lookup.next(), lookup.next()), (Some(handle(1)), Some(handle(2)), None));
        lookup.missed(&handle(1).id, &1);
        assert_eq!(lookup.next(), Some(handle(3)));
    }

    #[test]
    fn a_slow_contact_frees_its_place_in_flight_and_can_still_answer() {
        let mut lookup = lookup(2, [1, 2]);
        lookup.next();
        lookup.slow(&handle(1).id);
        assert_eq!(lookup.in_flight(), 0);
        assert!(!lookup.is_done());
        assert_eq!(lookup.answered(&handle(1).id, answer()), Some(1));
    }

    #[test]
    fn another_address_of_a_contact_is_tried_when_the_first_fails() {
        let mut lookup = lookup(2, [1]);
        lookup.next();
        lookup.add(Handle { id: handle(1).id, address: 100 }, 2);
        lookup.missed(&handle(1).id, &1);
        assert_eq!(lookup.next().map(|peer| peer.address), Some(100));
        lookup.missed(&handle(1).id, &100);
        assert_eq!(lookup.live(), 0);
        lookup.add(Handle { id: handle(1).id, address: 101 }, 2);
        assert_eq!(lookup.next().map(|peer| peer.address), Some(101));
    }

    #[test]
    fn one_address_is_not_flooded_whoever_is_said_to_be_there() {
        let mut lookup = lookup(20, []);
        for n in 1..=20 {
            lookup.add(Handle { id: handle(n).id, address: 7 }, 1);
        }
        lookup.add(handle(30), 1);
        let asked: Vec<u32> = iter::from_fn(|| lookup.next()).map(|peer| peer.address).collect();
        assert_eq!(asked, [7, 7, 30]);
        lookup.add(Handle { id: handle(5).id, address: 5 }, 1);
        assert_eq!(lookup.next().map(|peer| peer.address), Some(5), "it has another address");
    }

    #[test]
    fn an_answer_counts_once_and_only_from_whom_was_asked() {
        let mut lookup = lookup(2, [1, 2]);
        assert_eq!(lookup.answered(&handle(1).id, answer()), None);
        lookup.next();
        assert_eq!(lookup.answered(&handle(1).id, answer()), Some(1));
        assert_eq!(lookup.answered(&handle(1).id, answer()), None);
        assert_eq!(lookup.answered(&handle(9).id, answer()), None);
    }

    #[test]
    fn the_shortlist_is_bounded_and_keeps_the_nearest() {
        let lookup = lookup(2, (1..=255).rev());
        assert_eq!(lookup.live(), 2 * MAX_SHORTLIST);
        assert_eq!(lookup.window().map(|entry| entry.peer).collect::<Vec<_>>(), [handle(1), handle(2)]);
    }

    #[test]
    fn the_dead_do_not_keep_out_the_living() {
        let mut lookup = lookup(2, 1..=16);
        while let Some(peer) = lookup.next() {
            lookup.missed(&peer.id, &peer.address);
        }
        assert_eq!((lookup.failed(), lookup.live()), (16, 0));
        lookup.add(handle(200), 1);
        assert_eq!(lookup.next(), Some(handle(200)));
        lookup.answered(&handle(200).id, answer());
        assert!(lookup.is_done());
    }

    #[test]
    fn not_even_the_dead_are_remembered_without_end() {
        let mut lookup = lookup(2, []);
        for n in 1..=255 {
            lookup.add(handle(n), 1);
            let asked = lookup.next();
            asked.inspect(|peer| lookup.missed(&peer.id, &peer.address));
        }
        assert_eq!(lookup.entries.len(), 2 * MAX_SHORTLIST * MAX_WITH_FAILED);
    }

    proptest! {
        /// Over any network, with any of its nodes dead: the answers end with the k nearest live ones.
        #[test]
        fn it_ends_with_the_nearest_live_contacts(
            ids in prop::collection::btree_set(any::<u8>(), 1..80), dead in prop::collection::btree_set(any::<u8>(), 0..40),
            k in 1usize..8, alpha in 1usize..5, links in any::<u64>(),
        ) {
            let ids: Vec<u8> = ids.into_iter().collect();
            let mut lookup = Lookup::new(Id::ZERO, k);
            // What the own table gives: everybody, so that the dead cannot cut the way.
            for n in ids.iter().rev().take(3) {
                lookup.add(handle(*n), 1);
            }
            let mut asked: Vec<Handle> = Vec::new();
            let mut turn = links;
            loop {
                while lookup.in_flight() < alpha {
                    let Some(peer) = lookup.next() else { break };
                    asked.push(peer);
                }
                if lookup.live() < k {
                    ids.iter().for_each(|n| lookup.add(handle(*n), 1));
                    if asked.is_empty() && lookup.in_flight() == 0 && lookup.is_done() {
                        break;
                    }
                }
                if asked.is_empty() {
                    if lookup.is_done() { break }
                    continue;
                }
                turn = turn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let peer = asked.swap_remove((turn >> 33) as usize % asked.len());
                if dead.contains(&(peer.address as u8)) {
                    lookup.missed(&peer.id, &peer.address);
                } else {
                    lookup.answered(&peer.id, answer());
                    ids.iter().filter(|n| u32::from(**n) < peer.address).for_each(|n| lookup.add(handle(*n), 2));
                }
            }
            let live: Vec<u8> = ids.into_iter().filter(|n| !dead.contains(n)).take(k).collect();
            let answered: Vec<u8> = lookup.answers().map(|(peer, _)| peer.address as u8).take(k).collect();
            prop_assert_eq!(answered, live);
        }
    }
}
