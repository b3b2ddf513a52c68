//! A server under load, and what it takes for a round trip.

use std::thread;
use std::time::Duration;

use kademlia_dht::gateway::{Body, Envelope, Message, Reply, Request as Question, Tag, codec};
use kademlia_dht::{Id, NetworkId};
use kademlia_simulator::Random;

use super::crowd::K;
use super::echo;
use super::figures::{median, microseconds};
use super::find_node::NodeError;
use super::load::{self, Replies, Request, Wire};
use super::system::Threads;

/// Before and after a burst, so that the threads are asleep and their processor time has been counted.
const REST: Duration = Duration::from_millis(5);

/// What serves, its processor time, and the client that asks it.
pub(super) struct Server<W> {
    wire: W,
    /// How the names of its threads begin.
    threads: &'static str,
    ask: Ask,
    replies: Replies,
    cpu: Vec<f64>,
    rates: Vec<f64>,
}

/// What the requests are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ask {
    Echo,
    FindNode { network: NetworkId, sender: Id },
}

impl Ask {
    /// A burst of requests, for random targets.
    fn requests(&self, amount: usize, random: &mut Random) -> Result<Vec<Request>, NodeError> {
        (0..amount)
            .map(|_| {
                let tag = random.bits();
                let Ask::FindNode { network, sender } = *self else { return Ok(echo::request(tag)) };
                let body = Body::Request(Question::FindNode { target: random.key() });
                let message = Message { network, tag: Tag(tag), sender: Some(sender), also: Vec::new(), body };
                let mut bytes = Vec::new();
                codec::encode(&Envelope::Direct(message), &mut bytes)?;
                Ok(Request { tag, bytes })
            })
            .collect()
    }

    fn tag_of(&self, reply: &[u8]) -> Option<u64> {
        match self {
            Ask::Echo => echo::tag_of(reply),
            Ask::FindNode { .. } => Some(codec::decode(reply).ok()?.message().tag.0),
        }
    }

    /// Whether a reply has all that it must have.
    fn is_whole(&self, reply: &[u8]) -> bool {
        let Ask::FindNode { .. } = self else { return true };
        codec::decode(reply).is_ok_and(|envelope| match &envelope.message().body {
            Body::Reply(Reply::Found(found)) => found.contacts.len() == K,
            _ => false,
        })
    }
}

impl<W: Wire> Server<W> {
    pub(super) fn new(wire: W, threads: &'static str, ask: Ask) -> Self {
        Server { wire, threads, ask, replies: Replies::default(), cpu: Vec::new(), rates: Vec::new() }
    }

    /// What was measured so far does not count.
    pub(super) fn forget(&mut self) {
        (self.cpu, self.rates) = Default::default();
    }

    /// The threads of the server, which has served already; `None` where the system does not tell their time.
    pub(super) fn threads(&self) -> Result<Option<Threads>, NodeError> {
        match Threads::named(self.threads) {
            Some(threads) if threads.len() == 0 => Err(NodeError::NoThreads(self.threads)),
            threads => Ok(threads),
        }
    }

    /// One burst of requests, and what it took.
    pub(super) fn burst(
        &mut self,
        amount: usize,
        threads: Option<&Threads>,
        random: &mut Random,
    ) -> Result<(), NodeError> {
        let requests = self.ask.requests(amount, random)?;
        thread::sleep(REST);
        let before = threads.and_then(Threads::time);
        let elapsed = load::burst(&mut self.wire, &requests, &mut self.replies, |reply| self.ask.tag_of(reply))?;
        thread::sleep(REST);
        let after = threads.and_then(Threads::time);
        let replies = self.replies.iter().count();
        let short = self.replies.iter().filter(|reply| !self.ask.is_whole(reply)).count();
        if short > 0 {
            return Err(NodeError::Short { short, replies });
        }
        let taken = before.zip(after).map(|(before, after)| microseconds(after.saturating_sub(before)));
        self.cpu.extend(taken.map(|taken| taken / replies.max(1) as f64));
        self.rates.push(replies as f64 / elapsed.as_secs_f64().max(1e-9));
        Ok(())
    }

    /// The median of all bursts: processor time in microseconds a round trip, and round trips a second.
    pub(super) fn result(&self) -> (Option<f64>, Option<f64>) {
        (median(self.cpu.iter().copied()), median(self.rates.iter().copied()))
    }
}
