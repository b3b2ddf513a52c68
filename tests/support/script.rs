//! One node whose peers the test plays, message by message.

#![allow(dead_code)] // Each test binary uses its own part of it.

use std::collections::BTreeMap;
use std::time::Duration;

use kademlia_dht::core::{Command, Event, Input, Node, OperationId, Output, Params, Time};
use kademlia_dht::gateway::{
    Body, Expect, Found, Id, Message, NetworkId, Record, Reply, ReplyPath, Request, Tag, Token, Version,
};

use super::world::{Handle, Outcomes, World};

/// One node whose peers the test plays.
pub(crate) struct Script {
    pub(crate) node: Node<Handle>,
    pub(crate) now: Time,
    /// Requests that the node has sent and that are not answered yet.
    pub(crate) sent: Vec<(u32, Message<Handle>)>,
    pub(crate) replies: Vec<Message<Handle>>,
    pub(crate) done: Outcomes,
    pub(crate) events: Vec<Event<Handle>>,
}

/// The peer at `n`, whose distance to the zero id is `n` in the first byte.
pub(crate) fn peer(n: u8) -> Handle {
    Handle { id: Id::from_prefix(&[n]), address: u32::from(n) }
}

pub(crate) fn message(tag: Tag, sender: Handle, body: Body<Handle>) -> Message<Handle> {
    Message { network: NetworkId::default(), tag, sender: Some(sender.id), also: Vec::new(), body }
}

pub(crate) fn found(contacts: Vec<Handle>) -> Reply<Handle> {
    Reply::Found(Found { records: Vec::new(), more: false, held: None, contacts, token: Token(1) })
}

impl Script {
    pub(crate) fn new(k: usize, alpha: usize) -> Self {
        Script::with(Params { k, alpha, ..World::sha1_params() })
    }

    pub(crate) fn with(params: Params) -> Self {
        let node = Node::new(Id::from_prefix(&[0xff; 20]), params, [1; 16], Time::ZERO);
        Script {
            node,
            now: Time::ZERO,
            sent: Vec::new(),
            replies: Vec::new(),
            done: BTreeMap::new(),
            events: Vec::new(),
        }
    }

    pub(crate) fn input(&mut self, input: Input<Handle>) {
        let mut out = Vec::new();
        self.node.handle(self.now, input, &mut out);
        for output in out {
            match output {
                Output::Send { to, message, .. } => match message.body {
                    Body::Request(_) => self.sent.push((to, message)),
                    Body::Reply(_) => self.replies.push(message),
                },
                Output::Done { operation, result } => {
                    self.done.insert(operation, result);
                }
                Output::Event(event) => self.events.push(event),
            }
        }
    }

    pub(crate) fn start(&mut self, operation: u64, command: Command<Handle>) {
        self.input(Input::Start { operation: OperationId(operation), command });
    }

    pub(crate) fn receive(&mut self, from: Handle, tag: Tag, body: Body<Handle>) {
        let message = message(tag, from, body);
        self.input(Input::Message { from: from.address, path: ReplyPath::default(), proved: false, message });
    }

    /// The request that was last sent to `to`, which is then no longer open.
    pub(crate) fn request_to(&mut self, to: Handle) -> Option<Message<Handle>> {
        let place = self.sent.iter().rposition(|(address, _)| *address == to.address)?;
        Some(self.sent.remove(place).1)
    }

    pub(crate) fn answer(&mut self, from: Handle, reply: Reply<Handle>) {
        let request = self.request_to(from).unwrap_or_else(|| panic!("nothing was sent to {from:?}"));
        self.receive(from, request.tag, Body::Reply(reply));
    }

    /// Puts a peer into the table, as an answered ping does.
    pub(crate) fn meet(&mut self, who: Handle) {
        self.start(u64::from(who.address) + 1000, Command::Ping { address: who.address });
        self.answer(who, Reply::Pong);
    }

    pub(crate) fn wait(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(wake) = self.node.next_wake().filter(|wake| *wake <= end) {
            self.now = self.now.max(wake);
            self.input(Input::Tick);
        }
        self.now = end;
    }

    /// A token for `key`, which the node gives to `from`.
    pub(crate) fn token(&mut self, from: Handle, key: Id) -> Token {
        self.receive(from, Tag(77), Body::Request(Request::FindNode { target: key }));
        match self.replies.pop().map(|message| message.body) {
            Some(Body::Reply(Reply::Found(found))) => found.token,
            other => panic!("{other:?}"),
        }
    }

    /// Stores a record at the node, with a good token. Gives its answer.
    pub(crate) fn store(&mut self, from: Handle, key: Id, record: Record, expect: Expect) -> Body<Handle> {
        let token = self.token(from, key);
        self.receive(from, Tag(78), Body::Request(Request::Store { key, record, token, expect }));
        self.replies.pop().map(|message| message.body).unwrap()
    }

    pub(crate) fn asked(&self) -> Vec<u32> {
        self.sent.iter().map(|(to, _)| *to).collect()
    }
}

/// An answer that tells only which version is held.
pub(crate) fn held(version: u64) -> Reply<Handle> {
    Reply::Found(Found {
        records: Vec::new(),
        more: false,
        held: Some(Version(version)),
        contacts: Vec::new(),
        token: Token(1),
    })
}

/// An answer with a record.
pub(crate) fn with(record: Record) -> Reply<Handle> {
    Reply::Found(Found {
        held: Some(record.version),
        records: vec![record],
        more: false,
        contacts: Vec::new(),
        token: Token(1),
    })
}

pub(crate) fn record(version: u64, value: &'static str, seconds: u64) -> Record {
    Record::plain(value, Version(version), Duration::from_secs(seconds))
}
