//! Those whom a node knew before it was restarted, or was told of by its user: each is asked whether it is there, one
//! after the other.
//!
//! A node that comes back does not ask hundreds of others in one burst, nor do a thousand nodes that come back together.
//! Nor does it hand its records over to everybody who answers: they knew it, and it them.

use std::collections::BTreeMap;
use std::time::Duration;

use kademlia_gateways::{Id, Peer};

use super::io::Output;
use super::journal::KnownPeer;
use super::maintenance::Job;
use super::node::{BATCH, Node};
use super::time::Time;

/// The most that wait to be asked.
pub(crate) const MAX_FORMER: usize = 1024;

/// Two are asked at most this long after each other, and half of it on average.
const GAP: Duration = Duration::from_millis(500);

/// How long who did not answer is left alone the first time; each time twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// How often somebody is asked before they are given up, if others have answered.
const TRIES: u32 = 3;

/// For so long at most after a restart nobody counts as new here.
const LONGEST_QUIET: Duration = Duration::from_secs(300);

/// Somebody who was known.
#[derive(Debug)]
struct Former<P: Peer> {
    id: Option<Id>,
    addresses: Vec<P::Addr>,
    /// When it answered last, before this: how long before `since`.
    seen: Duration,
    since: Time,
    tries: u32,
}

/// Those who are still to be asked, by when.
#[derive(Debug)]
pub(crate) struct Returning<P: Peer> {
    due: BTreeMap<(Time, u64), Former<P>>,
    count: u64,
    /// When the last of those is due who were not asked yet.
    last: Time,
    /// Until then nobody counts as new.
    quiet: Time,
    /// Somebody has answered, and been asked for the neighbours.
    looked: bool,
}

impl<P: Peer> Returning<P> {
    fn new(now: Time) -> Self {
        Returning { due: BTreeMap::new(), count: 0, last: now, quiet: Time::ZERO, looked: false }
    }

    pub(crate) fn next_due(&self) -> Option<Time> {
        self.due.first_key_value().map(|((time, _), _)| *time)
    }

    fn push(&mut self, time: Time, former: Former<P>) {
        self.count += 1;
        self.due.insert((time, self.count), former);
    }

    fn pop(&mut self, now: Time) -> Option<Former<P>> {
        let entry = self.due.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }

    /// Those whose ids are known.
    pub(crate) fn known(&self, now: Time) -> impl Iterator<Item = KnownPeer<P>> {
        self.due.values().filter_map(move |former| {
            let (address, others) = former.addresses.split_first()?;
            let peer = P::new(former.id?, address.clone(), others.to_vec());
            Some(KnownPeer { peer, verified: false, seen: former.seen + now.since(former.since) })
        })
    }
}

impl<P: Peer> Node<P> {
    /// Somebody who was a contact before a restart is to be asked, when it is their turn.
    pub(super) fn resume_contact(&mut self, known: &KnownPeer<P>) {
        let id = known.peer.id();
        if id == self.id || !self.params.key_space.contains(&id) {
            return;
        }
        // As long as nobody has answered, this node is not the first of a network, but cut off from one.
        self.had_contacts = true;
        let mut addresses = vec![known.peer.address().clone()];
        addresses.extend_from_slice(known.peer.others());
        self.ask_later(Some(id), addresses, known.seen);
        let quiet = (self.params.replicate_interval / 8).min(LONGEST_QUIET);
        if let Some(returning) = &mut self.returning {
            returning.quiet = self.now + quiet;
        }
    }

    /// Whoever is at this address is to be asked, when it is their turn. False if too many are already.
    pub(super) fn introduce(&mut self, address: &P::Addr) -> bool {
        self.ask_later(None, vec![address.clone()], Duration::ZERO)
    }

    fn ask_later(&mut self, id: Option<Id>, addresses: Vec<P::Addr>, seen: Duration) -> bool {
        let now = self.now;
        let wait = within(self.rng.next_u64(), GAP);
        let returning = self.returning.get_or_insert_with(|| Box::new(Returning::new(now)));
        if returning.due.len() >= MAX_FORMER {
            return false;
        }
        returning.last = returning.last.max(now) + wait;
        returning.push(returning.last, Former { id, addresses, seen, since: now, tries: 0 });
        true
    }

    /// Asks those whose turn it is.
    pub(super) fn ask_returning(&mut self, out: &mut Vec<Output<P>>) {
        for _ in 0..BATCH {
            let Some(mut former) = self.returning.as_mut().and_then(|returning| returning.pop(self.now)) else { break };
            let is_back = |id: Id| self.table.get(&id).is_some();
            let turn = former.tries as usize % former.addresses.len().max(1);
            let Some(address) = former.addresses.get(turn).filter(|_| !former.id.is_some_and(is_back)).cloned() else {
                continue;
            };
            // A user gave the address alone: that it has answered shows in the table.
            if former.id.is_none() && self.table.entries().any(|entry| *entry.peer.address() == address) {
                continue;
            }
            if former.tries >= TRIES && self.table.len() > 0 {
                continue;
            }
            self.probe(former.id, &address, out);
            let pause = (FIRST_PAUSE * (1 << former.tries.min(8))).min(LONGEST_PAUSE);
            let next = self.now + self.rng.jitter(pause);
            former.tries = former.tries.saturating_add(1);
            if let Some(returning) = &mut self.returning {
                returning.push(next, former);
            }
        }
        self.returning = self.returning.take().filter(|left| !left.due.is_empty() || left.quiet > self.now);
    }

    /// Somebody has come into the table. Whether they count as new in the network, as far as this node can know.
    pub(super) fn is_newcomer(&mut self, out: &mut Vec<Output<P>>) -> bool {
        let Some(returning) = &mut self.returning else { return true };
        let is_new = returning.quiet <= self.now;
        if !std::mem::replace(&mut returning.looked, true) {
            // Of those who have come while this node was away only their neighbours tell.
            self.push_job(Job::Neighbours, out);
        }
        is_new
    }

    /// What is overdue after a restart is so for many records at once: each has a time of its own in which to be published.
    pub(super) fn spread(&mut self, due: Duration) -> Duration {
        let most = (self.params.republish_interval / 8).min(Duration::from_secs(600));
        due.max(within(self.rng.next_u64(), most))
    }
}

/// Some part of a duration.
fn within(random: u64, most: Duration) -> Duration {
    most.mul_f64((random % 4096) as f64 / 4096.0)
}

#[cfg(test)]
mod tests {
    use super::super::io::{Command, Input, OperationId, Published};
    use super::super::params::Params;
    use super::super::testing::Handle;
    use super::*;
    use kademlia_gateways::{Body, KeySpace, Message, NetworkId, Record, Reply, ReplyPath, Request, Tag, Version};

    /// Requests by the second in which they were sent, of a node whose peers answer or not.
    struct Run {
        node: Node<Handle>,
        now: Time,
        sent: Vec<(u64, u32, Request)>,
    }

    fn peer(n: u32) -> Handle {
        let [_, _, high, low] = n.to_be_bytes();
        Handle { id: Id::from_prefix(&[low.reverse_bits(), high, 1]), address: n }
    }

    impl Run {
        /// A node that held records and knew `peers` others.
        fn restarted(records: u8, peers: u32) -> Self {
            let params = Params { journal: true, ..Params::new(KeySpace::new(20).unwrap()) };
            let mut node = Node::new(Id::from_prefix(&[0x55; 20]), params, [1; 16], Time::ZERO);
            let hour = Duration::from_secs(3600);
            for n in 0..records {
                let record = Record::plain("value", Version(1), hour);
                node.handle(Time::ZERO, Input::Restore { key: Id::from_prefix(&[n]), record }, &mut Vec::new());
            }
            for n in 1..=peers {
                let known = KnownPeer { peer: peer(n), verified: false, seen: hour };
                node.handle(Time::ZERO, Input::ResumeContact(known), &mut Vec::new());
            }
            Run { node, now: Time::ZERO, sent: Vec::new() }
        }

        /// Goes on until then. Those up to `answering` answer at once.
        fn until(&mut self, seconds: u64, answering: u32) {
            let end = Time::from_micros(seconds * 1_000_000);
            while let Some(wake) = self.node.next_wake().filter(|wake| *wake <= end) {
                self.now = self.now.max(wake);
                let mut out = Vec::new();
                self.node.handle(self.now, Input::Tick, &mut out);
                while let Some(output) = out.pop() {
                    let Output::Send { to, message: Message { tag, body: Body::Request(request), .. }, .. } = output
                    else {
                        continue;
                    };
                    self.sent.push((self.now.as_micros() / 1_000_000, to, request.clone()));
                    if to <= answering {
                        self.node.handle(self.now, answer(to, tag, &request), &mut out);
                    }
                }
            }
            self.now = end;
        }

        fn most_in_a_second(&self) -> usize {
            let count = |second| self.sent.iter().filter(|(then, ..)| *then == second).count();
            self.sent.iter().map(|(second, ..)| count(*second)).max().unwrap_or(0)
        }
    }

    fn answer(from: u32, tag: Tag, request: &Request) -> Input<Handle> {
        let found = |contacts| {
            Reply::Found(kademlia_gateways::Found {
                records: Vec::new(),
                more: false,
                held: None,
                contacts,
                token: kademlia_gateways::Token(1),
            })
        };
        let reply = match request {
            Request::Ping => Reply::Pong,
            Request::Store { .. } => Reply::Stored,
            _ => found(Vec::new()),
        };
        let body = Body::Reply(reply);
        let message =
            Message { network: NetworkId::default(), tag, sender: Some(peer(from).id), also: Vec::new(), body };
        Input::Message { from, path: ReplyPath::default(), proved: true, message }
    }

    #[test]
    fn hundreds_of_contacts_are_asked_a_few_a_second_and_are_handed_nothing() {
        let mut run = Run::restarted(200, 300);
        run.until(180, u32::MAX);
        assert_eq!(run.node.contact_count(), 98, "as many as the buckets have room for");
        assert!(run.most_in_a_second() <= 40, "{}", run.most_in_a_second());
        let pings: Vec<u32> =
            run.sent.iter().filter(|(.., request)| *request == Request::Ping).map(|(_, to, _)| *to).collect();
        assert!((1..=300).all(|n| pings.contains(&n)), "everybody is asked");
        let stores = run.sent.iter().filter(|(.., request)| matches!(request, Request::Store { .. })).count();
        assert_eq!(stores, 0, "nobody is handed what they have");
        let lookups = run.sent.iter().filter(|(.., request)| matches!(request, Request::FindNode { .. })).count();
        assert!((1..=60).contains(&lookups), "the neighbours are looked up once: {lookups}");
    }

    #[test]
    fn while_nobody_answers_all_are_asked_again_and_none_is_forgotten() {
        let mut run = Run::restarted(0, 30);
        run.until(3600, 0);
        assert_eq!(run.node.known_peers(run.now).len(), 30);
        assert!(run.most_in_a_second() <= 20, "{}", run.most_in_a_second());
        let asked = run.sent.len();
        assert!((30 * 8..30 * 60).contains(&asked), "{asked}");
        // The network is there again: one answers, and who does not is given up.
        run.until(3600 + 2400, 1);
        assert_eq!(run.node.contact_count(), 1);
        let known = run.node.known_peers(run.now);
        assert_eq!(known.len(), 1, "{known:?}");
        assert!(known[0].verified && run.node.returning.is_none());
    }

    #[test]
    fn what_was_to_be_published_long_ago_is_published_little_by_little() {
        let mut run = Run::restarted(0, 20);
        for n in 0..400_u32 {
            let [.., high, low] = n.to_be_bytes();
            let record = Record::plain("value", Version(1), Duration::from_secs(24 * 3600));
            let key = Id::from_prefix(&[low, high]);
            let published = Published { key, record, due: Duration::ZERO, ends: Duration::ZERO, last: None };
            run.node.handle(Time::ZERO, Input::ResumePublished(published), &mut Vec::new());
        }
        run.until(1800, u32::MAX);
        assert!(run.node.published().all(|entry| entry.last.is_some_and(|last| last.accepted > 0)));
        let stores = |second| {
            let is_store =
                |(then, _, request): &&(u64, u32, Request)| *then == second && matches!(request, Request::Store { .. });
            run.sent.iter().filter(is_store).count()
        };
        // On average not one record a second, which goes to 20 nodes.
        let most = (0..1800).map(stores).max().unwrap();
        assert!(most <= 20 * 8, "{most}");
    }

    #[test]
    fn those_whom_a_user_names_are_asked_without_their_ids() {
        let mut run = Run::restarted(0, 0);
        let command = Command::Introduce { addresses: vec![1, 2, 3] };
        let mut out = Vec::new();
        run.node.handle(Time::ZERO, Input::Start { operation: OperationId(1), command }, &mut out);
        let done = |output: &Output<Handle>| {
            matches!(output, Output::Done { result: Ok(super::super::io::Outcome::Introduced(3)), .. })
        };
        assert!(out.iter().any(done), "{out:?}");
        run.until(60, 2);
        assert_eq!(run.node.contact_count(), 2);
        assert_eq!(run.sent.iter().filter(|(_, to, request)| *to == 1 && *request == Request::Ping).count(), 1);
    }
}
