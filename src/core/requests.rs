//! The requests in flight: who was asked what, and until when an answer counts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kademlia_gateways::{Id, Peer, Request, Tag};

use super::count::Dropped;
use super::time::Time;

/// How often a request is sent before it counts as unanswered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tries {
    /// Once, and once more: there are others to ask.
    Two,
    /// Once more than that: it matters who is there, and not only that somebody is.
    Three,
    /// Ever more slowly, as long as a request may take: it goes to one node only.
    UntilTheEnd,
}

impl Tries {
    fn of(purpose: &Purpose) -> Self {
        match purpose {
            Purpose::Lookup { tries, .. } => *tries,
            Purpose::Probe | Purpose::Repair => Tries::Two,
            Purpose::Write(_) | Purpose::Single(_) => Tries::UntilTheEnd,
        }
    }

    /// How long to wait for an answer to the next repetition, after so many that were sent; `None` if there is none.
    ///
    /// Longer each time: it is more likely that the other is far away than that one message after the other was lost.
    fn next_wait(self, sent: u8, usual: Duration) -> Option<Duration> {
        let more = match self {
            Tries::Two => sent < 2,
            Tries::Three => sent < 3,
            Tries::UntilTheEnd => true,
        };
        more.then(|| usual * (1 << sent.min(8)))
    }
}

/// What an answer is for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Purpose {
    /// The lookup of this task.
    Lookup { task: u64, tries: Tries },
    /// A record of this task, to be stored.
    Write(u64),
    /// The one question of this task.
    Single(u64),
    /// To learn whether a contact is there.
    Probe,
    /// A repair in passing, whose success nobody waits for.
    Repair,
}

impl Purpose {
    /// The task that waits for the answer.
    pub(crate) fn task(&self) -> Option<u64> {
        match self {
            Purpose::Lookup { task, .. } | Purpose::Write(task) | Purpose::Single(task) => Some(*task),
            Purpose::Probe | Purpose::Repair => None,
        }
    }
}

/// A request in flight.
#[derive(Debug, Clone)]
pub(crate) struct Open<P: Peer> {
    /// The tag under which it was first sent, which names it.
    pub(crate) tag: Tag,
    /// The tags under which it was sent again: so it is known which of them an answer answers.
    again: Vec<Tag>,
    pub(crate) to: P::Addr,
    /// Who must answer; unknown when an address was given by a user.
    pub(crate) expect: Option<Id>,
    pub(crate) request: Request,
    pub(crate) purpose: Purpose,
    pub(crate) sent: Time,
    tries: u8,
    /// Counted as unanswered already: a late answer shows only that the contact lives, and how slow it is.
    late: bool,
    /// Another than was expected has answered at the address, which is alive.
    pub(crate) heard: bool,
    deadline: Time,
}

impl<P: Peer> Open<P> {
    /// How often it was sent.
    pub(crate) fn tries(&self) -> u8 {
        self.tries
    }

    /// Whether it counts as unanswered already.
    pub(crate) fn is_late(&self) -> bool {
        self.late
    }
}

/// What an answer answers.
#[derive(Debug)]
pub(crate) struct Answered<P: Peer> {
    /// `None` for a late answer, which counts for nothing but the contact's life.
    pub(crate) open: Option<Box<Open<P>>>,
    /// From the sending that it answers.
    pub(crate) round_trip: Duration,
}

/// What a deadline brought.
#[derive(Debug)]
pub(crate) enum Overdue<P: Peer> {
    /// The usual time is over: send it once more.
    Repeat(Box<Open<P>>),
    /// It counts as unanswered from now on.
    Unanswered(Box<Open<P>>),
}

/// All requests in flight, and the round trips they take.
#[derive(Debug)]
pub(crate) struct Requests<P: Peer> {
    open: BTreeMap<Tag, Box<Open<P>>>,
    /// For each tag of a repetition: the request's first tag, and when the repetition was sent.
    again: BTreeMap<Tag, (Tag, Time)>,
    deadlines: BTreeSet<(Time, Tag)>,
    longest: Duration,
    floor: Duration,
    round_trip: RoundTrip,
}

impl<P: Peer> Requests<P> {
    pub(crate) fn new(longest: Duration, floor: Duration) -> Self {
        Requests {
            open: BTreeMap::new(),
            again: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            longest,
            floor: floor.min(longest),
            round_trip: RoundTrip::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// All of them, in no order that means anything.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Open<P>> {
        self.open.values().map(Box::as_ref)
    }

    /// How long an answer usually takes, at most.
    pub(crate) fn usual(&self) -> Duration {
        self.round_trip.usual().unwrap_or(self.longest / 4).clamp(self.floor, self.longest)
    }

    pub(crate) fn insert(
        &mut self,
        now: Time,
        tag: Tag,
        to: P::Addr,
        expect: Option<Id>,
        request: Request,
        purpose: Purpose,
    ) {
        let deadline = now + self.usual();
        let again = Vec::new();
        let open =
            Open { tag, again, to, expect, request, purpose, sent: now, tries: 1, late: false, heard: false, deadline };
        self.deadlines.insert((deadline, tag));
        self.open.insert(tag, Box::new(open));
    }

    /// What an answer with this tag, from this address and sender, answers. It counts once.
    pub(crate) fn answered(
        &mut self,
        now: Time,
        tag: Tag,
        from: &P::Addr,
        sender: &Id,
        fits: impl Fn(&Request) -> bool,
    ) -> Result<Answered<P>, Dropped> {
        let again = self.again.get(&tag).copied();
        let tag = again.map_or(tag, |(first, _)| first);
        let open = self.open.get_mut(&tag).ok_or(Dropped::NoRequest)?;
        if open.to != *from {
            return Err(Dropped::WrongAddress);
        }
        if open.expect.is_some_and(|expected| expected != *sender) {
            open.heard = true;
            return Err(Dropped::WrongId);
        }
        if !fits(&open.request) {
            return Err(Dropped::WrongKind);
        }
        let Some(open) = self.remove(tag) else { return Err(Dropped::NoRequest) };
        let sent = again.map_or(open.sent, |(_, sent)| sent);
        let round_trip = now.since(sent);
        // One that was far slower than all others says little of them.
        self.round_trip.sample(round_trip.min(self.usual() * 2));
        Ok(Answered { open: (!open.late).then_some(open), round_trip })
    }

    /// The request was certainly not sent.
    pub(crate) fn unsent(&mut self, tag: Tag) -> Option<Box<Open<P>>> {
        let first = self.again.get(&tag).map_or(tag, |(first, _)| *first);
        self.remove(first).filter(|open| !open.late)
    }

    /// A request is sent once more, under another tag.
    pub(crate) fn sent_again(&mut self, now: Time, first: Tag, again: Tag) {
        if let Some(open) = self.open.get_mut(&first) {
            open.again.push(again);
            self.again.insert(again, (first, now));
        }
    }

    /// Forgets what a request was for, as its task has ended. Its answer still shows that a contact lives.
    pub(crate) fn orphan(&mut self, tag: Tag) {
        if let Some(open) = self.open.get_mut(&tag) {
            open.purpose = Purpose::Probe;
        }
    }

    fn remove(&mut self, tag: Tag) -> Option<Box<Open<P>>> {
        let open = self.take(tag)?;
        self.forget(&open);
        Some(open)
    }

    /// Forgets the tags of a request that was taken out.
    fn forget(&mut self, open: &Open<P>) {
        for again in &open.again {
            self.again.remove(again);
        }
        if self.open.is_empty() {
            // An empty map keeps what it has allocated.
            self.open = BTreeMap::new();
            self.again = BTreeMap::new();
            self.deadlines = BTreeSet::new();
        }
    }

    /// Takes a request out, to put it back with another deadline.
    fn take(&mut self, tag: Tag) -> Option<Box<Open<P>>> {
        let open = self.open.remove(&tag)?;
        self.deadlines.remove(&(open.deadline, tag));
        Some(open)
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.deadlines.first().map(|(time, _)| *time)
    }

    /// The next request whose deadline has passed.
    pub(crate) fn pop_overdue(&mut self, now: Time) -> Option<Overdue<P>> {
        loop {
            let (deadline, tag) = *self.deadlines.first()?;
            if deadline > now {
                return None;
            }
            let usual = self.usual();
            let mut open = self.take(tag)?;
            let end = open.sent + self.longest;
            if open.late {
                self.forget(&open);
                continue;
            }
            if let Some(wait) = Tries::of(&open.purpose).next_wait(open.tries, usual)
                && now < end
            {
                open.tries = open.tries.saturating_add(1);
                open.deadline = (now + wait).min(end);
                self.put(open.clone());
                return Some(Overdue::Repeat(open));
            }
            if now < end {
                let mut late = open.clone();
                late.late = true;
                late.deadline = end;
                self.put(late);
            } else {
                self.forget(&open);
            }
            return Some(Overdue::Unanswered(open));
        }
    }

    fn put(&mut self, open: Box<Open<P>>) {
        self.deadlines.insert((open.deadline, open.tag));
        self.open.insert(open.tag, open);
    }
}

/// Mean and mean deviation of the round trips, as in TCP (RFC 6298), in microseconds.
#[derive(Debug, Default)]
struct RoundTrip {
    estimate: Option<(u32, u32)>,
}

impl RoundTrip {
    fn sample(&mut self, sample: Duration) {
        let sample = u32::try_from(sample.as_micros()).unwrap_or(u32::MAX);
        let weighed = |old: u32, new: u32, part: u64| {
            u32::try_from((u64::from(old) * (part - 1) + u64::from(new)) / part).unwrap_or(u32::MAX)
        };
        self.estimate = Some(match self.estimate {
            None => (sample, sample / 2),
            Some((mean, deviation)) => (weighed(mean, sample, 8), weighed(deviation, mean.abs_diff(sample), 4)),
        });
    }

    /// The deviation counts as an eighth of the mean at least: round trips that are all alike must not be expected to the
    /// microsecond.
    fn usual(&self) -> Option<Duration> {
        let micros = |micros: u32| Duration::from_micros(micros.into());
        self.estimate.map(|(mean, deviation)| micros(mean) + (micros(deviation) * 4).max(micros(mean) / 8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::Handle;

    fn at(milliseconds: u64) -> Time {
        Time::from_micros(milliseconds * 1000)
    }

    const PEER: Id = Id::ZERO;
    const TAG: Tag = Tag(1);

    fn requests() -> Requests<Handle> {
        let mut requests = Requests::new(Duration::from_secs(2), Duration::from_millis(200));
        requests.insert(at(0), TAG, 7, Some(PEER), Request::Ping, Purpose::Probe);
        requests
    }

    #[test]
    fn a_reply_must_match_in_everything_and_counts_once() {
        let mut requests = requests();
        let answered = |requests: &mut Requests<Handle>, tag, from, sender, fits| {
            requests.answered(at(1), tag, &from, &sender, |_| fits).map(|answered| answered.open.is_some())
        };
        let other = Id::from_prefix(&[1]);
        assert!(answered(&mut requests, Tag(2), 7, PEER, true).is_err());
        assert!(answered(&mut requests, TAG, 8, PEER, true).is_err());
        assert!(answered(&mut requests, TAG, 7, other, true).is_err());
        assert!(answered(&mut requests, TAG, 7, PEER, false).is_err());
        assert_eq!(answered(&mut requests, TAG, 7, PEER, true), Ok(true));
        assert!(answered(&mut requests, TAG, 7, PEER, true).is_err());
        assert_eq!((requests.len(), requests.next_deadline()), (0, None));
    }

    #[test]
    fn a_request_is_repeated_and_then_unanswered_but_a_late_answer_teaches_the_round_trip() {
        let mut requests = requests();
        assert!(requests.pop_overdue(at(499)).is_none());
        assert!(matches!(requests.pop_overdue(at(500)), Some(Overdue::Repeat(_))));
        assert!(requests.pop_overdue(at(1499)).is_none(), "the second wait is twice as long");
        assert!(matches!(requests.pop_overdue(at(1500)), Some(Overdue::Unanswered(..))));
        assert!(requests.pop_overdue(at(2000)).is_none());
        assert_eq!(requests.len(), 0, "the longest time is over");

        requests.insert(at(3000), TAG, 7, Some(PEER), Request::Ping, Purpose::Probe);
        requests.round_trip.estimate = Some((1000, 0));
        let mut requests_at = |ms| requests.pop_overdue(at(ms));
        assert!(matches!(requests_at(3500), Some(Overdue::Repeat(..))));
        assert!(matches!(requests_at(3900), Some(Overdue::Unanswered(..))));
        let late = requests.answered(at(4300), TAG, &7, &PEER, |_| true);
        assert!(matches!(late, Ok(Answered { open: None, .. })));
        assert!(requests.usual() > Duration::from_millis(200));
    }

    #[test]
    fn an_answer_is_measured_from_the_sending_that_it_answers() {
        let again = Tag(2);
        for (answered, expected) in [(TAG, 580), (again, 80)] {
            let mut requests = requests();
            assert!(matches!(requests.pop_overdue(at(500)), Some(Overdue::Repeat(_))));
            requests.sent_again(at(500), TAG, again);
            let Answered { open, round_trip } = requests.answered(at(580), answered, &7, &PEER, |_| true).unwrap();
            assert_eq!((open.unwrap().tag, round_trip), (TAG, Duration::from_millis(expected)));
            assert_eq!(requests.round_trip.estimate.unwrap().0, expected as u32 * 1000);
            assert!(requests.open.is_empty() && requests.again.is_empty() && requests.deadlines.is_empty());
        }
    }

    #[test]
    fn one_slow_answer_does_not_make_all_others_be_waited_for() {
        let mut requests = requests();
        (0..50).for_each(|_| requests.round_trip.sample(Duration::from_millis(80)));
        requests.insert(at(3000), Tag(3), 7, Some(PEER), Request::Ping, Purpose::Probe);
        requests.answered(at(4900), Tag(3), &7, &PEER, |_| true).unwrap();
        assert!(requests.usual() < Duration::from_millis(600), "{:?}", requests.usual());
    }

    #[test]
    fn steady_round_trips_are_not_expected_to_the_microsecond() {
        let mut requests = requests();
        (0..500).for_each(|_| requests.round_trip.sample(Duration::from_millis(400)));
        assert_eq!(requests.usual(), Duration::from_millis(450));
    }

    #[test]
    fn the_usual_time_follows_the_round_trips_between_its_bounds() {
        let mut requests = requests();
        assert_eq!(requests.usual(), Duration::from_millis(500));
        for _ in 0..50 {
            requests.round_trip.sample(Duration::from_millis(80));
        }
        assert_eq!(requests.usual(), Duration::from_millis(200));
        for _ in 0..50 {
            requests.round_trip.sample(Duration::from_secs(9));
        }
        assert_eq!(requests.usual(), Duration::from_secs(2));
    }
}
