//! A node with a full table, and what must hold of it after every input.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use kademlia_dht::core::{Command, Content, Input, Limits, Node, OperationId, Output, Params, Time};
use kademlia_dht::gateway::{
    Body, Contact, Envelope, Expect, Id, KeySpace, Message, Multiaddr, Record, Reply, ReplyPath, Request, Token,
    Version,
};

use super::super::datagram::round_trip;
use super::generate::{NETWORK, message, truth};
use super::peers::{BITS, K, KEY_BYTES, OWN, at, id, table};

/// How many requests are remembered, to be answered.
const MAX_OPEN: usize = 512;

/// The most that may follow from one input. A tick deals with 64 deadlines, each of which can be the end of a lookup
/// that goes on to write to k nodes.
const MAX_OUTPUTS: usize = 64 * (2 * K + 2);

/// The most ticks that are due at one moment: each deals with 64 of at most 4,096 requests.
const MAX_TICKS: usize = 256;

/// The most ticks of one run; after that time goes by without.
const ENOUGH_TICKS: usize = 400;

/// The most answers of one step.
const ENOUGH_ANSWERS: usize = 200;

const LIMITS: Limits = Limits {
    operations: 8,
    background: 3,
    records: 12,
    record_bytes: 4000,
    records_per_key: 4,
    record_bytes_per_key: 1000,
    records_per_source: 8,
    record_bytes_per_source: 3000,
    published: 6,
    value_bytes: 900,
};

/// A message and where it goes to or comes from.
pub(super) type Letter = (Multiaddr, Message);

/// A node, what it has asked, and what it must still tell.
pub(super) struct Bench {
    pub(super) node: Node<Contact>,
    pub(super) now: Time,
    /// Requests that nobody has answered.
    pub(super) open: VecDeque<Letter>,
    /// The tokens that were given to an address for a key.
    pub(super) tokens: BTreeMap<(Multiaddr, Id), Token>,
    started: BTreeMap<OperationId, bool>,
    ticks: usize,
}

/// What followed from one input, the ticks left out that were due after it.
pub(super) struct Followed {
    pub(super) outputs: usize,
    pub(super) requests: usize,
    pub(super) replies: Vec<Message>,
}

impl Bench {
    /// A node that knows as many contacts as it has room for.
    pub(super) fn new(client: bool, alpha: usize, seed: [u8; 16]) -> Self {
        let space = KeySpace::new(KEY_BYTES).expect("a key space");
        let params =
            Params { k: K, alpha, read_quorum: 2, client, network: NETWORK, limits: LIMITS, ..Params::new(space) };
        let node = Node::new(id(OWN), params, seed, Time::ZERO);
        let (open, tokens, started) = Default::default();
        let mut bench = Bench { node, now: Time::ZERO, open, tokens, started, ticks: 0 };
        let contacts = table();
        for contact in &contacts {
            bench.begin(Command::Ping { address: contact.address().clone() });
            let (from, asked) = bench.open.pop_back().expect("a ping");
            let message = message(asked.tag, Some(contact.id()), Body::Reply(Reply::Pong));
            bench.take(Time::ZERO, Input::Message { from, path: ReplyPath::default(), proved: false, message });
        }
        bench.check();
        assert_eq!(bench.node.contact_count(), contacts.len(), "the table is full");
        bench
    }

    /// A message by a connection, which shows that the sender is where it says.
    pub(super) fn receive(&mut self, from: Multiaddr, message: Message) -> Followed {
        self.hear(from, true, message)
    }

    /// A message by a connection or a datagram.
    pub(super) fn hear(&mut self, from: Multiaddr, proved: bool, message: Message) -> Followed {
        self.input(Input::Message { from, path: ReplyPath::default(), proved, message })
    }

    pub(super) fn start(&mut self, command: Command<Contact>) {
        self.begin(command);
        self.catch_up();
        self.check();
    }

    fn begin(&mut self, command: Command<Contact>) {
        let operation = OperationId(self.started.len() as u64);
        self.started.insert(operation, false);
        self.take(self.now, Input::Start { operation, command });
    }

    /// Gives the node records of others to hold, and has it save some of its own.
    pub(super) fn stock(&mut self) {
        let record = Record::plain(vec![1; 100], Version(5), Duration::from_secs(3600));
        for number in 0..LIMITS.records - 2 {
            let record = record.clone();
            self.input(Input::Restore { key: id(number as u16), record });
            let (expect, content) = (Expect::Anything, Content::Value(vec![2; 10].into()));
            self.start(Command::Save { key: id(number as u16 * 0x1111), content, expect, unix_milliseconds: 5 });
            self.serve(0);
        }
        assert_eq!(self.node.published_count(), LIMITS.published);
    }

    /// Whoever was asked answers, and whoever is asked then; of every `lost` requests one is lost, unless that is 0.
    pub(super) fn serve(&mut self, lost: usize) {
        for number in 1..=ENOUGH_ANSWERS {
            let Some((to, asked)) = self.open.pop_front() else { return };
            if let Body::Request(request) = &asked.body
                && let Some(peer) = at(&to).filter(|_| lost == 0 || number % lost > 0)
            {
                let reply = message(asked.tag, Some(peer.id()), Body::Reply(truth(request)));
                self.receive(to, reply);
            }
        }
    }

    /// How many operations were started.
    pub(super) fn operations(&self) -> u64 {
        self.started.len() as u64
    }

    /// Takes an input, and the ticks that are due after it.
    pub(super) fn input(&mut self, input: Input<Contact>) -> Followed {
        let followed = self.take(self.now, input);
        self.catch_up();
        self.check();
        followed
    }

    /// Lets time pass, with a tick whenever one is due, as a driver does.
    pub(super) fn wait(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.ticks < ENOUGH_TICKS
            && let Some(wake) = self.node.next_wake().filter(|wake| *wake <= end)
        {
            self.now = self.now.max(wake);
            self.catch_up();
        }
        self.now = end;
        self.catch_up();
        self.check();
    }

    /// Everything that was started ends by itself.
    pub(super) fn finish(mut self) {
        self.ticks = 0;
        self.wait(self.node.params().lookup_timeout + Duration::from_secs(1));
        let open: Vec<_> = self.started.iter().filter(|(_, ended)| !**ended).collect();
        assert!(open.is_empty(), "{open:?} have not ended");
    }

    /// Ticks until none is due any more: each does something, so that they come to an end.
    fn catch_up(&mut self) {
        for _ in 0..MAX_TICKS {
            if self.node.next_wake().is_none_or(|wake| wake > self.now) {
                return;
            }
            self.ticks += 1;
            self.take(self.now, Input::Tick);
        }
        panic!("ticks without an end at {}", self.now);
    }

    /// Takes one input, at a time that may be a false one.
    pub(super) fn take(&mut self, now: Time, input: Input<Contact>) -> Followed {
        let mut out = Vec::new();
        self.node.handle(now, input, &mut out);
        assert!(out.len() <= MAX_OUTPUTS, "{} outputs of one input", out.len());
        let mut followed = Followed { outputs: out.len(), requests: 0, replies: Vec::new() };
        for output in out {
            match output {
                Output::Send { to, message, .. } => {
                    self.check_sent(&to, &message);
                    if let Body::Request(_) = message.body {
                        followed.requests += 1;
                        self.open.push_back((to, message));
                    } else {
                        followed.replies.push(message);
                    }
                }
                Output::Done { operation, .. } => {
                    let ended = self.started.get_mut(&operation).expect("an operation that was started");
                    assert!(!std::mem::replace(ended, true), "{operation:?} ended twice");
                }
                Output::Event(_) => {}
            }
        }
        self.open.drain(..self.open.len().saturating_sub(MAX_OPEN));
        followed
    }

    /// Whatever is sent can be read by whoever gets it.
    fn check_sent(&self, to: &Multiaddr, message: &Message) {
        assert!(!to.is_empty());
        assert_eq!(message.network, NETWORK);
        assert_eq!(message.sender, (!self.node.params().client).then_some(id(OWN)));
        match &message.body {
            Body::Reply(Reply::Found(found)) => assert!(found.contacts.len() <= K),
            Body::Request(Request::Store { record, .. }) => assert!(record.value.len() <= 4 * 255),
            _ => {}
        }
        round_trip(&Envelope::Direct(message.clone()));
    }

    /// What holds between any two inputs.
    fn check(&self) {
        self.check_table();
        self.check_limits();
        self.check_wake();
    }

    fn check_table(&self) {
        let space = self.node.params().key_space;
        let mut buckets = [0; BITS];
        for contact in self.node.contacts() {
            assert!(contact.id() != id(OWN) && space.contains(&contact.id()), "{contact:?}");
            buckets[contact.id().common_prefix_len(&id(OWN))] += 1;
        }
        assert!(buckets.iter().all(|contacts| *contacts <= K), "{buckets:?}");
        assert_eq!(buckets.iter().sum::<usize>(), self.node.contact_count());
        let nearest = self.node.closest(&id(OWN), K + 1);
        assert_eq!(nearest.len(), self.node.contact_count().min(K + 1));
        let distances: Vec<_> = nearest.iter().map(|contact| contact.id().distance(&id(OWN))).collect();
        assert!(distances.is_sorted_by(|a, b| a < b), "{nearest:?}");
    }

    fn check_limits(&self) {
        let space = self.node.params().key_space;
        assert!(self.node.record_count() <= LIMITS.records);
        assert!(self.node.record_bytes() <= LIMITS.record_bytes);
        let lifetime = self.node.params().record_lifetime.as_secs();
        let mut bytes = 0;
        for (key, record) in self.node.records(self.now) {
            assert!(space.contains(&key) && (1..=lifetime).contains(&u64::from(record.remaining)));
            bytes += record.value.len();
        }
        assert!(bytes <= self.node.record_bytes());
        assert!(self.node.published_count() <= LIMITS.published + LIMITS.operations);
        assert!(self.node.tasks() <= LIMITS.operations + LIMITS.background);
        assert!(self.node.requests_in_flight() <= 4096);
    }

    /// The node wants to be woken while there is something to do, and in time.
    fn check_wake(&self) {
        let params = self.node.params();
        let within = |what: &str, duration: Duration| {
            let wake = self.node.next_wake().unwrap_or(Time::NEVER);
            assert!(wake > self.now && wake <= self.now + duration, "{what} at {}, woken at {wake}", self.now);
        };
        if self.node.requests_in_flight() > 0 {
            within("requests", params.request_timeout);
        }
        if self.node.tasks() > 0 {
            within("tasks", params.lookup_timeout);
        }
        if self.node.record_count() > 0 {
            within("records", params.replicate_interval);
        }
        if self.node.contact_count() > 0 {
            within("contacts", params.refresh_interval);
        }
    }
}
