//! [`TestNode`]: a node in as far as a gateway sees one.

use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, unbounded};
use multiaddr::Multiaddr;

use super::messages::{outbound, request};
use super::report::{Failure, ensure};
use super::running::{Activity, Running, Stopped, join};
use crate::count::LinkCounts;
use crate::gateway::{Gateway, Inbound, Outbox, ReplyPath, Unsent, UnsentReason};
use crate::link::{FromGateway, Link, LinkHost};
use crate::message::Envelope;

/// How long it is watched that something does not happen.
const QUIET: Duration = Duration::from_millis(150);

/// A queue that is full for so long is not being emptied, and a gateway that does nothing for so long waits.
pub(super) const STUCK: Duration = Duration::from_millis(200);

/// A node in as far as a gateway sees one: a link, a thread for the gateway, and whoever reads what comes.
///
/// Nothing reads on its own: what the gateway delivers waits until the test asks for it.
///
/// ```
/// # #[cfg(feature = "memory")] {
/// use kademlia_gateways::MemoryGateway;
/// use kademlia_gateways::conformance::{TestNode, messages};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut one = TestNode::start(MemoryGateway::bind("/memory/0".parse()?)?)?;
/// let mut two = TestNode::start(MemoryGateway::bind("/memory/0".parse()?)?)?;
/// one.send(&two.address(), messages::request(1))?;
/// let asked = two.next()?;
/// two.answer(&asked, messages::reply(1))?;
/// assert_eq!(one.next()?.envelope, messages::reply(1));
/// one.stop()?;
/// # Ok(())
/// # }
/// # main().unwrap();
/// # }
/// ```
pub struct TestNode {
    /// The gateway's sending half.
    pub outbox: Box<dyn Outbox>,
    /// What comes from the gateway, where it has not been taken by the calls below.
    pub events: Receiver<FromGateway>,
    /// The other end of the gateway's link.
    pub host: LinkHost,
    addresses: Vec<Multiaddr>,
    address: Multiaddr,
    deadline: Duration,
    arrived: VecDeque<Inbound>,
    unsent: VecDeque<(u64, UnsentReason)>,
    running: Option<Running>,
}

impl TestNode {
    /// Runs a gateway. It waits for at most 10 s for each event.
    ///
    /// # Errors
    ///
    /// When the gateway has no outbox or no address.
    pub fn start(gateway: impl Gateway) -> Result<Self, Failure> {
        TestNode::start_within(Box::new(gateway), Duration::from_secs(10))
    }

    /// Runs a gateway, and waits for at most `deadline` for each event.
    ///
    /// # Errors
    ///
    /// When the gateway has no outbox or no address.
    pub fn start_within(mut gateway: Box<dyn Gateway>, deadline: Duration) -> Result<Self, Failure> {
        let outbox = gateway.outbox().map_err(Failure::gateway("an outbox before the run"))?;
        TestNode::start_with_outbox(gateway, outbox, deadline)
    }

    /// Runs a gateway whose outbox has been asked for.
    pub(super) fn start_with_outbox(
        gateway: Box<dyn Gateway>,
        outbox: Box<dyn Outbox>,
        deadline: Duration,
    ) -> Result<Self, Failure> {
        let (to_node, events) = unbounded();
        let (link, host) = Link::new(0, to_node);
        let addresses = gateway.addresses();
        let Some(address) = addresses.first().cloned() else {
            return Err(Failure::unexpected("an address of the gateway", "it has none"));
        };
        let running = Some(Running::start(gateway, link)?);
        let (arrived, unsent) = Default::default();
        Ok(TestNode { outbox, events, host, addresses, address, deadline, arrived, unsent, running })
    }

    /// All addresses of the gateway.
    pub fn addresses(&self) -> &[Multiaddr] {
        &self.addresses
    }

    /// The first address of the gateway.
    pub fn address(&self) -> Multiaddr {
        self.address.clone()
    }

    /// How long it waits for an event.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Sends a message of its own.
    ///
    /// # Errors
    ///
    /// That of the outbox.
    pub fn send(&mut self, to: &Multiaddr, envelope: Envelope) -> Result<(), Unsent> {
        self.outbox.send(outbound(to, None, envelope))
    }

    /// Answers a message, by the way it came.
    ///
    /// # Errors
    ///
    /// That of the outbox.
    pub fn answer(&mut self, to: &Inbound, envelope: Envelope) -> Result<(), Unsent> {
        self.answer_by(to.path, &to.from, envelope)
    }

    /// Answers by this way.
    ///
    /// # Errors
    ///
    /// That of the outbox.
    pub fn answer_by(&mut self, path: ReplyPath, to: &Multiaddr, envelope: Envelope) -> Result<(), Unsent> {
        self.outbox.send(outbound(to, Some(path), envelope))
    }

    /// Sends, and tries again where a queue is full.
    ///
    /// # Errors
    ///
    /// When there is no room within the deadline, or the message cannot be sent for another reason.
    pub fn send_patiently(&mut self, to: &Multiaddr, envelope: &Envelope) -> Result<(), Failure> {
        self.send_within(to, envelope, self.deadline).and_then(|sent| {
            if sent { Ok(()) } else { Err(Failure::late("room in the outbound queue", self.deadline)) }
        })
    }

    /// The same, and tells whether it was sent in this time.
    pub(super) fn send_within(&mut self, to: &Multiaddr, envelope: &Envelope, time: Duration) -> Result<bool, Failure> {
        let until = Instant::now() + time;
        loop {
            match self.send(to, envelope.clone()) {
                Ok(()) => return Ok(true),
                Err(unsent) if unsent.reason == UnsentReason::QueueFull => {
                    if Instant::now() >= until {
                        return Ok(false);
                    }
                    a_moment();
                }
                Err(unsent) => return Err(Failure::unexpected("a message that is sent", unsent.to_string())),
            }
        }
    }

    /// Waits until the gateway delivers no more, as nobody reads: only then it is seen what it does with the rest.
    ///
    /// # Errors
    ///
    /// When it goes on until the deadline.
    pub(super) fn wait_until_stuck(&self) -> Result<(), Failure> {
        let until = Instant::now() + self.deadline;
        let (mut before, mut since) = (self.host.counts(), Instant::now());
        while since.elapsed() < STUCK {
            let counts = self.host.counts();
            if counts != before {
                (before, since) = (counts, Instant::now());
            }
            ensure(Instant::now() < until, "an end of deliveries that nobody reads", || {
                format!("the counts go on: {counts:?}")
            })?;
            a_moment();
        }
        Ok(())
    }

    /// Sends until `amount` messages were taken, or no more are for as long as the queue of `to` is stuck. Tells how
    /// many were.
    ///
    /// # Errors
    ///
    /// When one cannot be sent for another reason than a full queue.
    pub(super) fn send_until_stuck(&mut self, to: &Multiaddr, amount: u64) -> Result<u64, Failure> {
        for n in 0..amount {
            if !self.send_within(to, &request(n), STUCK)? {
                return Ok(n);
            }
        }
        Ok(amount)
    }

    /// The next message, which must come.
    ///
    /// # Errors
    ///
    /// When none comes within the deadline, or the gateway ends.
    #[allow(clippy::should_implement_trait, reason = "a message must come; an iterator may end")]
    pub fn next(&mut self) -> Result<Inbound, Failure> {
        loop {
            if let Some(inbound) = self.arrived.pop_front() {
                return Ok(inbound);
            }
            self.wait("a message", self.deadline)?;
        }
    }

    /// The tag of the next message that could not be sent, which must be told, and why not.
    ///
    /// # Errors
    ///
    /// When none is told within the deadline, or the gateway ends.
    pub fn next_unsent(&mut self) -> Result<(u64, UnsentReason), Failure> {
        loop {
            if let Some(unsent) = self.unsent.pop_front() {
                return Ok(unsent);
            }
            self.wait("a message that is reported as unsent", self.deadline)?;
        }
    }

    /// The tag of a message that was told to be unsent until now, and why.
    pub fn unsent_so_far(&mut self) -> Option<(u64, UnsentReason)> {
        self.take_all();
        self.unsent.pop_front()
    }

    /// A message that came until now.
    pub fn arrived_so_far(&mut self) -> Option<Inbound> {
        self.take_all();
        self.arrived.pop_front()
    }

    /// A message that comes within this time.
    pub(super) fn arrived_within(&mut self, time: Duration) -> Option<Inbound> {
        if self.arrived.is_empty() {
            self.wait("a message", time).ok();
        }
        self.arrived.pop_front()
    }

    /// A message that is reported as unsent within this time.
    pub(super) fn unsent_within(&mut self, time: Duration) -> Option<(u64, UnsentReason)> {
        if self.unsent.is_empty() {
            self.wait("a message that is reported as unsent", time).ok();
        }
        self.unsent.pop_front()
    }

    /// Nothing comes and nothing is reported for a while.
    ///
    /// # Errors
    ///
    /// When something does.
    pub fn ensure_quiet(&mut self) -> Result<(), Failure> {
        self.ensure_quiet_for(QUIET)
    }

    fn ensure_quiet_for(&mut self, time: Duration) -> Result<(), Failure> {
        if self.arrived.is_empty() && self.unsent.is_empty() {
            match self.events.recv_timeout(time) {
                Ok(event) => self.keep(event),
                Err(error) if error.is_timeout() => return Ok(()),
                Err(_) => return Err(Failure::unexpected("a gateway that runs", "it has ended")),
            }
        }
        let came = format!("{:?} arrived and {:?} could not be sent", self.arrived, self.unsent);
        Err(Failure::unexpected("nothing more", came))
    }

    /// Sends a message that cannot be sent, and gives the reason, told at once or later.
    ///
    /// # Errors
    ///
    /// When no reason is told, or that of another message.
    pub fn why_unsent(&mut self, to: &Multiaddr, envelope: Envelope) -> Result<UnsentReason, Failure> {
        let expected = envelope.message().tag.0;
        match self.send(to, envelope) {
            Err(unsent) => Ok(unsent.reason),
            Ok(()) => {
                let (tag, reason) = self.next_unsent()?;
                let what = format!("the message with tag {expected} as unsent");
                ensure(tag == expected, &what, || format!("it is the one with tag {tag}"))?;
                Ok(reason)
            }
        }
    }

    /// Waits until the counts are as they should be, which the test makes happen by sending.
    ///
    /// # Errors
    ///
    /// When they are not within the deadline.
    pub fn wait_for_counts(&self, what: &str, reached: impl Fn(LinkCounts) -> bool) -> Result<(), Failure> {
        let until = Instant::now() + self.deadline;
        loop {
            let counts = self.host.counts();
            if reached(counts) {
                return Ok(());
            }
            let came = || format!("after {:?} there are {counts:?}", self.deadline);
            ensure(Instant::now() < until, what, came)?;
            a_moment();
        }
    }

    /// What the gateway's own thread has done; `None` where the system does not tell (any but Linux).
    pub fn activity(&self) -> Option<Activity> {
        self.running.as_ref()?.activity()
    }

    /// Waits for a while in which the gateway's thread does not wake up, which must come.
    ///
    /// # Errors
    ///
    /// When it wakes up again and again until the deadline, or something arrives.
    pub fn wait_for_idleness(&mut self, what: &str) -> Result<(), Failure> {
        self.wait_for_idleness_of(QUIET, what)
    }

    pub(super) fn wait_for_idleness_of(&mut self, time: Duration, what: &str) -> Result<(), Failure> {
        let until = Instant::now() + self.deadline;
        loop {
            let before = self.activity();
            self.ensure_quiet_for(time)?;
            let after = self.activity();
            if before == after {
                return Ok(());
            }
            let came = || format!("{what} it went from {before:?} to {after:?} in {time:?}");
            ensure(Instant::now() < until, "an idle gateway that sleeps", came)?;
        }
    }

    /// Stops the gateway, which must return at once and without an error.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub fn stop(mut self) -> Result<Box<dyn Gateway>, Failure> {
        self.host.stop();
        self.join()?.without_error()
    }

    /// Removes the gateway as a service does: nobody has its outbox any more, nor reads what it delivers.
    pub(super) fn remove(self) -> Result<Box<dyn Gateway>, Failure> {
        let TestNode { outbox, events, host, running, .. } = self;
        drop(outbox);
        drop(events);
        drop(host);
        join(running)?.without_error()
    }

    /// Waits for the gateway's return.
    ///
    /// # Errors
    ///
    /// When it does not return at once, or panics.
    pub fn join(&mut self) -> Result<Stopped, Failure> {
        join(self.running.take())
    }

    fn wait(&mut self, what: &str, time: Duration) -> Result<(), Failure> {
        match self.events.recv_timeout(time) {
            Ok(event) => {
                self.keep(event);
                Ok(())
            }
            Err(error) if error.is_timeout() => Err(Failure::late(what, time)),
            Err(_) => Err(Failure::unexpected(what, "the gateway has ended")),
        }
    }

    fn take_all(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            self.keep(event);
        }
    }

    fn keep(&mut self, event: FromGateway) {
        match event {
            FromGateway::Delivery(mut delivery) => self.arrived.extend(delivery.take()),
            FromGateway::Unsent { tag, reason, .. } => self.unsent.push_back((tag.0, reason)),
        }
    }
}

impl std::fmt::Debug for TestNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestNode").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// Between two looks at what tells nobody when it changes.
pub(super) fn a_moment() {
    thread::park_timeout(Duration::from_millis(1));
}
