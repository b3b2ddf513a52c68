//! A node in as far as a gateway sees one: a link, a thread to run on, and whoever reads what comes.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "it is a test")]

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, never, unbounded};
use kademlia_gateways::{
    Body, Contact, Envelope, Found, FromGateway, Gateway, GatewayError, Id, Inbound, Link, LinkCounts, LinkHost,
    Message, Multiaddr, NetworkId, Outbound, Outbox, Record, Reply, ReplyPath, Request, Tag, Token, Unsent,
    UnsentReason, Version,
};

/// What should happen happens within this, or the test fails.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// How long a test watches that something does not happen.
pub const QUIET: Duration = Duration::from_millis(150);

/// Between two looks at what tells nobody when it changes.
pub fn a_moment() {
    never::<()>().recv_timeout(Duration::from_millis(1)).unwrap_err();
}

pub fn address(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

pub fn request(tag: u64) -> Envelope {
    message(tag, Body::Request(Request::Ping))
}

pub fn reply(tag: u64) -> Envelope {
    message(tag, Body::Reply(Reply::Pong))
}

/// A store request with a value of `bytes` bytes.
pub fn store(tag: u64, bytes: usize) -> Envelope {
    let record = Record::plain(vec![7; bytes], Version(1), Duration::from_secs(60));
    let key = Id::from_prefix(&[1; 20]);
    let expect = kademlia_gateways::Expect::Anything;
    message(tag, Body::Request(Request::Store { key, record, token: Token(1), expect }))
}

/// A reply with `contacts` contacts.
pub fn found(tag: u64, contacts: u8) -> Envelope {
    let contact = |n: u8| Contact::new(Id::from_prefix(&[n; 20]), address("/ip4/192.0.2.1/udp/4000"));
    let contacts = (1..=contacts).map(contact).collect();
    message(tag, Body::Reply(Reply::Found(Found { record: None, held: None, contacts, token: Token(1) })))
}

pub fn message(tag: u64, body: Body) -> Envelope {
    let sender = Some(Id::from_prefix(&[9; 20]));
    Envelope::Direct(Message { network: NetworkId(1), tag: Tag(tag), sender, also: Vec::new(), body })
}

pub fn tag(envelope: &Envelope) -> u64 {
    envelope.message().tag.0
}

/// A gateway after its run.
pub type Ended = (Box<dyn Gateway>, Result<(), GatewayError>);

/// A gateway that runs.
pub struct Node {
    pub addresses: Vec<Multiaddr>,
    pub outbox: Box<dyn Outbox>,
    pub events: Receiver<FromGateway>,
    pub host: LinkHost,
    arrived: VecDeque<Inbound>,
    unsent: VecDeque<(u64, UnsentReason)>,
    thread: Option<JoinHandle<Ended>>,
    finished: Receiver<()>,
    /// What the system says of the thread, where it says anything.
    task: Option<[File; 2]>,
}

impl Node {
    pub fn start(gateway: impl Gateway) -> Self {
        Node::start_boxed(Box::new(gateway))
    }

    pub fn start_boxed(mut gateway: Box<dyn Gateway>) -> Self {
        let (to_node, events) = unbounded();
        let (link, host) = Link::new(0, to_node);
        let addresses = gateway.addresses();
        let outbox = gateway.outbox().unwrap();
        let (done, finished) = unbounded();
        let (tell_task, task) = unbounded();
        let run = move || {
            tell_task
                .send(["status", "schedstat"].map(|file| File::open(Path::new("/proc/thread-self").join(file))))
                .unwrap();
            let result = gateway.run(&link);
            drop(link);
            drop(done);
            (gateway, result)
        };
        let thread = Some(thread::spawn(run));
        let task = match task.recv().unwrap() {
            [Ok(status), Ok(schedule)] => Some([status, schedule]),
            _ => None,
        };
        let (arrived, unsent) = Default::default();
        Node { addresses, outbox, events, host, arrived, unsent, thread, finished, task }
    }

    pub fn address(&self) -> Multiaddr {
        self.addresses[0].clone()
    }

    pub fn send(&mut self, to: &Multiaddr, envelope: Envelope) -> Result<(), Unsent> {
        self.outbox.send(Outbound::new(to.clone(), envelope))
    }

    pub fn answer(&mut self, to: &Inbound, envelope: Envelope) -> Result<(), Unsent> {
        self.outbox.send(Outbound { path: Some(to.path), ..Outbound::new(to.from.clone(), envelope) })
    }

    pub fn answer_by(&mut self, path: ReplyPath, to: &Multiaddr, envelope: Envelope) -> Result<(), Unsent> {
        self.outbox.send(Outbound { path: Some(path), ..Outbound::new(to.clone(), envelope) })
    }

    /// The next message, which must come.
    pub fn next(&mut self) -> Inbound {
        loop {
            if let Some(inbound) = self.arrived.pop_front() {
                return inbound;
            }
            self.wait(DEADLINE).expect("a message comes");
        }
    }

    /// The next message that could not be sent, which must be told.
    pub fn next_unsent(&mut self) -> (u64, UnsentReason) {
        loop {
            if let Some(unsent) = self.unsent.pop_front() {
                return unsent;
            }
            self.wait(DEADLINE).expect("a message is reported as unsent");
        }
    }

    /// A message that was told to be unsent until now.
    pub fn unsent_so_far(&mut self) -> Option<(u64, UnsentReason)> {
        self.wait(Duration::ZERO).ok();
        self.unsent.pop_front()
    }

    /// Nothing comes and nothing is reported for a while.
    pub fn assert_quiet(&mut self) {
        self.wait(QUIET).expect_err("nothing more");
        assert_eq!(self.arrived, []);
        assert_eq!(self.unsent, []);
    }

    fn wait(&mut self, deadline: Duration) -> Result<(), RecvTimeoutError> {
        match self.events.recv_timeout(deadline)? {
            FromGateway::Delivery(mut delivery) => self.arrived.extend(delivery.take()),
            FromGateway::Unsent { tag, reason, .. } => self.unsent.push_back((tag.0, reason)),
        }
        Ok(())
    }

    /// Waits until the counts are as they should be, which the test makes happen by sending.
    pub fn wait_for_counts(&self, what: &str, reached: impl Fn(LinkCounts) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !reached(self.host.counts()) {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.host.counts());
            a_moment();
        }
    }

    /// Stops the gateway, which must return at once and without an error.
    pub fn stop(mut self) -> Box<dyn Gateway> {
        self.host.stop();
        let (gateway, result) = self.join();
        result.unwrap();
        gateway
    }

    /// Sends, and tries again where a queue is full.
    pub fn send_patiently(&mut self, to: &Multiaddr, envelope: &Envelope) {
        let deadline = Instant::now() + DEADLINE;
        while let Err(unsent) = self.send(to, envelope.clone()) {
            assert_eq!(unsent.reason, UnsentReason::QueueFull);
            assert!(Instant::now() < deadline, "there is room again");
            a_moment();
        }
    }

    /// Sends a message that cannot be sent, and gives the reason, told at once or later.
    pub fn why_unsent(&mut self, to: &Multiaddr, envelope: Envelope) -> UnsentReason {
        let tag = tag(&envelope);
        match self.send(to, envelope) {
            Err(unsent) => unsent.reason,
            Ok(()) => {
                let (unsent, reason) = self.next_unsent();
                assert_eq!(unsent, tag);
                reason
            }
        }
    }

    /// How often the gateway's thread went to sleep until now (each wake-up from idleness ends in one), and how many
    /// nanoseconds it ran.
    pub fn activity(&self) -> Option<(u64, u64)> {
        let [status, schedule] = self.task.as_ref()?;
        let read = |mut file: &File| {
            let mut text = String::new();
            file.rewind().and_then(|()| file.read_to_string(&mut text)).unwrap();
            text
        };
        let status = read(status);
        let sleeps = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        let schedule = read(schedule);
        Some((sleeps.trim().parse().unwrap(), schedule.split(' ').next()?.parse().unwrap()))
    }

    /// Waits for a while in which the gateway's thread does not wake up, which must come.
    pub fn wait_for_idleness(&mut self, what: &str) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let before = self.activity();
            self.assert_quiet();
            if self.activity() == before {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: the idle gateway wakes up again and again");
        }
    }

    /// Waits for the gateway's return.
    pub fn join(&mut self) -> Ended {
        self.try_join().unwrap()
    }

    /// Waits for the gateway's return or panic.
    pub fn try_join(&mut self) -> thread::Result<Ended> {
        let ended = self.finished.recv_timeout(Duration::from_secs(2));
        assert_eq!(ended, Err(RecvTimeoutError::Disconnected), "the gateway returns at once");
        self.thread.take().unwrap().join()
    }
}
