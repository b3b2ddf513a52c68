//! `handle` is total: whatever comes in, in whatever order and at whatever time, it neither panics nor holds more than
//! its limits allow, and every operation ends exactly once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support {
    pub(crate) mod look;
    pub(crate) mod world;
}

use std::collections::BTreeMap;
use std::time::Duration;

use kademlia_dht::core::{
    Command, Content, HeldRecord, Input, KnownPeer, Limits, Node, OperationError, OperationId, Outcome, Output, Params,
    Published, Time,
};
use kademlia_dht::gateway::{
    Body, Expect, Found, Id, KeySpace, Message, NetworkId, Record, RecordKind, Refusal, Reply, ReplyPath, Request, Tag,
    Token, UnsentReason, Version,
};
use proptest::prelude::*;
use support::look::{check_dump, check_trace};
use support::world::Handle;

/// Ids of a small set, so that they meet; some lie outside the key space of two bytes.
fn ids() -> impl Strategy<Value = Id> {
    prop_oneof![
        8 => any::<[u8; 2]>().prop_map(|bytes| Id::from_prefix(&bytes)),
        1 => (0u8..4).prop_map(|n| Id::from_prefix(&[n])),
        1 => any::<[u8; 32]>().prop_map(Id::new),
        1 => Just(OWN),
    ]
}

const OWN: Id = Id::ZERO;

fn records() -> impl Strategy<Value = Record> {
    (0usize..400, any::<u64>(), any::<u32>(), any::<u32>(), any::<bool>()).prop_map(
        |(size, version, renewal, remaining, tombstone)| Record {
            value: vec![7; size].into(),
            version: Version(version),
            renewal,
            remaining,
            kind: if tombstone { RecordKind::Tombstone } else { RecordKind::Plain },
        },
    )
}

fn expectations() -> impl Strategy<Value = Expect> {
    prop_oneof![
        Just(Expect::Anything),
        Just(Expect::Absent),
        any::<u64>().prop_map(|version| Expect::Version(Version(version)))
    ]
}

/// The id of the peer that really is at this address.
fn id_at(address: u32) -> Id {
    let mixed = (address + 1).wrapping_mul(0x9E37_79B1);
    Id::from_prefix(&[(mixed >> 24) as u8, (mixed >> 16) as u8])
}

/// Mostly peers that exist, sometimes lies.
fn handles() -> impl Strategy<Value = Handle> {
    prop_oneof![
        5 => (0u32..40).prop_map(|address| Handle { id: id_at(address), address }),
        1 => (ids(), 0u32..40).prop_map(|(id, address)| Handle { id, address }),
    ]
}

fn requests() -> impl Strategy<Value = Request> {
    prop_oneof![
        Just(Request::Ping),
        ids().prop_map(|target| Request::FindNode { target }),
        ids().prop_map(|key| Request::FindValue { key, after: None, proof: None }),
        (ids(), records(), any::<u64>(), expectations()).prop_map(|(key, record, token, expect)| Request::Store {
            key,
            record,
            token: Token(token),
            expect
        }),
    ]
}

fn replies() -> impl Strategy<Value = Reply<Handle>> {
    let found = (
        prop::option::of(records()),
        prop::option::of(any::<u64>()),
        prop::collection::vec(handles(), 0..60),
        any::<u64>(),
    );
    prop_oneof![
        2 => Just(Reply::Pong),
        8 => found.prop_map(|(record, held, contacts, token)| {
            Reply::Found(Found { records: Vec::from_iter(record), more: false, held: held.map(Version), contacts, token: Token(token) })
        }),
        1 => Just(Reply::Stored),
        1 => any::<u32>().prop_map(|limit| Reply::Refused(Refusal::TooLarge { limit })),
        1 => Just(Reply::Refused(Refusal::Older { held: Version(9) })),
    ]
}

#[derive(Debug, Clone)]
enum Step {
    /// Anything at all from anyone.
    Wild {
        from: u32,
        network: u32,
        tag: u64,
        sender: Option<Id>,
        body: Body<Handle>,
    },
    /// An answer that matches an open request, from whom it was sent to, perhaps of the wrong kind or id.
    Answer {
        which: usize,
        sender: Option<Id>,
        reply: Reply<Handle>,
    },
    /// The right answer to an open request: who was asked is there.
    Fitting {
        which: usize,
        contacts: Vec<Handle>,
        record: Option<Record>,
    },
    /// A store with the token that was last given to this address.
    TokenStore {
        key: Id,
        record: Record,
        expect: Expect,
    },
    Unsent {
        which: usize,
    },
    Start(Command<Handle>),
    /// Something comes back from before a restart.
    Resume(Input<Handle>),
    /// What has changed is taken, so many records at most.
    Take {
        most: usize,
    },
    Cancel {
        which: u64,
    },
    Wait {
        milliseconds: u64,
    },
    ChangeId(Id),
    Backwards,
}

fn commands() -> impl Strategy<Value = Command<Handle>> {
    let address = 0u32..40;
    let values = prop::option::of((0usize..600).prop_map(|size| vec![1; size].into()));
    prop_oneof![
        address.clone().prop_map(|address| Command::Join { address }),
        address.clone().prop_map(|address| Command::Ping { address }),
        (address.clone(), ids()).prop_map(|(address, target)| Command::FindNode { address, target }),
        (address.clone(), ids()).prop_map(|(address, key)| Command::FindValue { address, key }),
        (address, ids(), records(), expectations()).prop_map(|(address, key, record, expect)| Command::Store {
            address,
            key,
            record,
            expect
        }),
        (ids(), any::<bool>()).prop_map(|(key, traced)| if traced {
            Command::Trace { key }
        } else {
            Command::Query { key }
        }),
        prop::collection::vec(0u32..40, 0..5).prop_map(|addresses| Command::Introduce { addresses }),
        Just(Command::Contacts),
        ids().prop_map(|target| Command::Lookup { target }),
        (ids(), values, expectations(), any::<u64>()).prop_map(|(key, value, expect, unix_milliseconds)| {
            Command::Save { key, content: value.into(), expect, unix_milliseconds }
        }),
    ]
}

fn looks() -> impl Strategy<Value = Command<Handle>> {
    let closest = ids().prop_map(|target| Command::Closest { target });
    prop_oneof![2 => Just(Command::Dump), 1 => Just(Command::Neighbours), 1 => closest]
}

/// What may have been kept before a restart, or have become of it.
fn resumed() -> impl Strategy<Value = Input<Handle>> {
    let time = || any::<u64>().prop_map(Duration::from_millis);
    prop_oneof![
        (ids(), records(), prop::option::of(any::<u64>()), time()).prop_map(|(key, record, source, firm_in)| {
            Input::ResumeRecord(HeldRecord { key, record, source, firm_in })
        }),
        (ids(), records(), time()).prop_map(|(key, record, due)| {
            Input::ResumePublished(Published { key, record, due, ends: due, last: None })
        }),
        (handles(), time()).prop_map(|(peer, seen)| Input::ResumeContact(KnownPeer { peer, verified: true, seen })),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let body = prop_oneof![requests().prop_map(Body::Request), replies().prop_map(Body::Reply)];
    prop_oneof![
        3 => (0u32..40, 0u32..2, any::<u64>(), prop::option::of(ids()), body)
            .prop_map(|(from, network, tag, sender, body)| Step::Wild { from, network, tag, sender, body }),
        3 => (any::<usize>(), prop::option::of(ids()), replies())
            .prop_map(|(which, sender, reply)| Step::Answer { which, sender, reply }),
        13 => (any::<usize>(), prop::collection::vec(handles(), 0..30), prop::option::of(records()))
            .prop_map(|(which, contacts, record)| Step::Fitting { which, contacts, record }),
        2 => (ids(), records(), expectations())
            .prop_map(|(key, record, expect)| Step::TokenStore { key, record, expect }),
        1 => any::<usize>().prop_map(|which| Step::Unsent { which }),
        3 => commands().prop_map(Step::Start),
        1 => looks().prop_map(Step::Start),
        1 => resumed().prop_map(Step::Resume),
        1 => (0usize..30).prop_map(|most| Step::Take { most }),
        1 => any::<u64>().prop_map(|which| Step::Cancel { which }),
        2 => prop_oneof![9 => 0u64..400, 1 => 0u64..10_000_000].prop_map(|milliseconds| Step::Wait { milliseconds }),
        1 => ids().prop_map(Step::ChangeId),
        1 => Just(Step::Backwards),
    ]
}

/// A node, what it has asked, and what it must keep to.
struct Bench {
    node: Node<Handle>,
    now: Time,
    open: Vec<(u32, Message<Handle>)>,
    /// The most contacts that there ever were.
    most_contacts: usize,
    started: BTreeMap<OperationId, bool>,
    next: u64,
}

fn limits() -> Limits {
    Limits {
        operations: 16,
        background: 3,
        records: 20,
        record_bytes: 4000,
        records_per_key: 4,
        record_bytes_per_key: 1000,
        records_per_source: 15,
        record_bytes_per_source: 3000,
        published: 10,
        value_bytes: 300,
    }
}

impl Bench {
    fn new() -> Self {
        let defaults = Params::new(KeySpace::new(2).unwrap());
        let params = Params { k: 4, network: NetworkId(1), limits: limits(), journal: true, ..defaults };
        let node = Node::new(OWN, params, [3; 16], Time::ZERO);
        Bench { node, now: Time::ZERO, open: Vec::new(), most_contacts: 0, started: BTreeMap::new(), next: 0 }
    }

    fn message(&self, tag: u64, sender: Option<Id>, body: Body<Handle>) -> Message<Handle> {
        Message { network: NetworkId(1), tag: Tag(tag), sender, also: Vec::new(), body }
    }

    fn take(&mut self, which: usize) -> Option<(u32, Message<Handle>)> {
        // Mostly one of the latest: the older ones have timed out.
        let latest = self.open.len().checked_sub(1 + which % 8)?;
        Some(self.open.remove(latest))
    }

    fn step(&mut self, step: Step) {
        let path = ReplyPath::default();
        match step {
            Step::Wild { from, network, tag, sender, body } => {
                let message = Message { network: NetworkId(network), ..self.message(tag, sender, body) };
                self.input(Input::Message { from, path, proved: false, message });
            }
            Step::Answer { which, sender, reply } => {
                let Some((from, request)) = self.take(which) else { return };
                let message = self.message(request.tag.0, sender, Body::Reply(reply));
                self.input(Input::Message { from, path, proved: false, message });
            }
            Step::Fitting { which, contacts, record } => {
                let Some((from, request)) = self.take(which) else { return };
                let Body::Request(body) = request.body else { return };
                let token = Token(5);
                let reply = match body {
                    Request::Ping => Reply::Pong,
                    Request::FindNode { .. } => Reply::Found(Found {
                        records: Vec::new(),
                        more: false,
                        held: record.map(|record| record.version),
                        contacts,
                        token,
                    }),
                    Request::FindValue { .. } => Reply::Found(Found {
                        records: Vec::from_iter(record),
                        more: false,
                        held: None,
                        contacts,
                        token,
                    }),
                    Request::Store { .. } => Reply::Stored,
                };
                let sender = Some(id_at(from));
                let message = self.message(request.tag.0, sender, Body::Reply(reply));
                self.input(Input::Message { from, path, proved: false, message });
            }
            Step::TokenStore { key, record, expect } => {
                let find = self.message(1, None, Body::Request(Request::FindNode { target: key }));
                let token = self.input(Input::Message { from: 3, path, proved: false, message: find });
                let Some(token) = token else { return };
                let store = Request::Store { key, record, token, expect };
                let message = self.message(2, None, Body::Request(store));
                self.input(Input::Message { from: 3, path, proved: false, message });
            }
            Step::Unsent { which } => {
                let Some((_, request)) = self.take(which) else { return };
                self.input(Input::Unsent { tag: request.tag, reason: UnsentReason::Unreachable });
            }
            Step::Start(command) => {
                let operation = OperationId(self.next);
                self.next += 1;
                self.started.insert(operation, false);
                self.input(Input::Start { operation, command });
            }
            Step::Resume(input) => drop(self.input(input)),
            Step::Take { most } => {
                let changes = self.node.take_changes(self.now, most, most > 15);
                assert!(changes.whole || changes.records.len() + changes.published.len() <= most);
            }
            Step::Cancel { which } => {
                self.input(Input::Cancel { operation: OperationId(which % (self.next + 1)) });
            }
            Step::Wait { milliseconds } => self.wait(Duration::from_millis(milliseconds)),
            Step::ChangeId(id) => {
                self.input(Input::ChangeId { id });
            }
            Step::Backwards => {
                self.node.handle(Time::ZERO, Input::Tick, &mut Vec::new());
            }
        }
        self.check();
    }

    /// Lets time pass, with a tick whenever one is due, as a driver does.
    fn wait(&mut self, duration: Duration) {
        let end = self.now + duration;
        let mut ticks = 0;
        while let Some(wake) = self.node.next_wake().filter(|wake| *wake <= end) {
            self.now = self.now.max(wake);
            self.input(Input::Tick);
            ticks += 1;
            assert!(ticks < 200_000, "the node wants a tick again and again at {}", self.now);
        }
        self.now = end;
    }

    fn input(&mut self, input: Input<Handle>) -> Option<Token> {
        let mut out = Vec::new();
        self.node.handle(self.now, input, &mut out);
        let mut token = None;
        for output in out {
            match output {
                Output::Send { to, message, .. } => match &message.body {
                    Body::Request(_) => self.open.push((to, message)),
                    Body::Reply(Reply::Found(found)) => {
                        assert!(found.contacts.len() <= self.node.params().k);
                        token = Some(found.token);
                    }
                    Body::Reply(_) => {}
                },
                Output::Done { operation, result } => {
                    self.check_result(&result);
                    let ended = self.started.get_mut(&operation).expect("an operation that was started");
                    assert!(!std::mem::replace(ended, true), "{operation:?} ended twice");
                }
                Output::Event(_) => {}
            }
        }
        let surplus = self.open.len().saturating_sub(2000);
        self.open.drain(..surplus);
        token
    }

    fn check_result(&self, result: &Result<Outcome<Handle>, OperationError<Handle>>) {
        match result {
            Ok(Outcome::Traced(trace)) => check_trace(trace),
            Ok(Outcome::Dumped(dump)) => {
                check_dump(dump, self.node.contacts());
                assert!(dump.records.len() == self.node.record_count() && dump.records_left_out == 0);
                assert_eq!(dump.requests.len(), self.node.requests_in_flight());
                assert_eq!(dump.operations.len(), self.node.tasks());
            }
            Ok(Outcome::Neighbours(neighbours)) => {
                assert!(neighbours.is_sorted_by_key(|neighbour| neighbour.distance));
                assert!(neighbours.len() <= self.node.contact_count());
            }
            _ => {}
        }
    }

    fn check(&mut self) {
        self.most_contacts = self.most_contacts.max(self.node.contact_count());
        let limits = limits();
        assert!(self.node.record_count() <= limits.records);
        assert!(self.node.record_bytes() <= limits.record_bytes);
        assert!(self.node.published_count() <= limits.published + limits.operations);
        assert!(self.node.tasks() <= limits.operations + limits.background);
        assert!(self.node.requests_in_flight() <= 4096);
        assert!(self.node.contact_count() <= 16 * self.node.params().k);
        let (own, space) = (self.node.id(), self.node.params().key_space);
        assert!(space.contains(&own));
        assert!(self.node.contacts().all(|peer| peer.id != own && space.contains(&peer.id)));
    }

    /// Everything that was started ends by itself.
    fn finish(mut self) {
        self.wait(self.node.params().lookup_timeout + Duration::from_secs(5));
        let unended: Vec<_> = self.started.iter().filter(|(_, ended)| !**ended).collect();
        assert!(unended.is_empty(), "{unended:?}");
        // The inputs reach what they are meant to.
        let counters = self.node.counters();
        assert!(self.most_contacts >= 3 && counters.replies >= 10 && counters.dropped.len() >= 5, "{counters:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    /// 250 runs of 400 inputs: 100,000 of them.
    #[test]
    fn random_and_adversarial_inputs(steps in prop::collection::vec(steps(), 400)) {
        let mut bench = Bench::new();
        for step in steps {
            bench.step(step);
        }
        bench.finish();
    }
}

#[test]
fn a_full_queue_of_jobs_without_any_contact_ends_without_deep_recursion() {
    let mut bench = Bench::new();
    for n in 0..16 {
        let key = Id::from_prefix(&[n, 1]);
        let command =
            Command::Save { key, content: Content::Value("v".into()), expect: Expect::Anything, unix_milliseconds: 1 };
        bench.step(Step::Start(command));
    }
    bench.wait(Duration::from_secs(3600 * 48));
    bench.check();
}
