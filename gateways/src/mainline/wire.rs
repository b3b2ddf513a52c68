//! [`MainlineWire`]: between our messages and those of BitTorrent's DHT.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::asking::{Asked, Theirs};
use super::compact::ID_BYTES;
use super::handle::MainlineHandle;
use super::krpc::{Body, Message, Query};
use super::proved::Proved;
use super::read::{ReadError, read};
use super::serving::Served;
use super::tokens::Tokens;
use super::write::write;
use crate::codec::SizeLimits;
use crate::count::Count;
use crate::foreign::{Effects, Now, Rate, Recent, Waiting, Wire, allowance};
use crate::gateway::{Outbound, UnsentReason};
use crate::id::{Id, KeySpace};
use crate::message::{self, Envelope, NetworkId, Request, Tag};

/// What this client calls itself.
pub(super) const VERSION: &[u8] = b"KD\x00\x01";

/// The largest datagram that is sent, and read: more would go in fragments.
pub(super) const MAX_BYTES: usize = 1452;
const MAX_RECEIVED: usize = 4096;

/// How long an item is kept that nobody writes again (BEP 44).
pub(super) const ITEMS_LAST: Duration = Duration::from_secs(2 * 60 * 60);

/// How many requests are remembered that have no answer yet: of this node, of others, and by which others are asked back.
const MAX_OPEN: usize = 4096;
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

/// So long who asks from an unknown address is given time to show that it is there.
const PROVED_WITHIN: Duration = Duration::from_millis(500);

/// What one host may have this node keep: so many a second on average, and at once. A value of a megabyte has a thousand parts.
const STORES_A_SECOND: u32 = 100;
const STORES_AT_ONCE: u32 = 2000;

/// Whoever was asked back is not asked back for nothing but its name for so long.
const NAMED_WITHIN: Duration = Duration::from_secs(2);

/// The bytes of a ping, by which a node asks back who asks.
const PING_BYTES: usize = 58;

#[derive(Debug)]
pub(super) struct MainlineWire {
    pub(super) network: NetworkId,
    /// The node's id, or a made up one as long as nobody has told it.
    pub(super) own: Id,
    /// It answers nobody.
    pub(super) is_client: bool,
    pub(super) is_v4: bool,
    pub(super) asked: Recent<[u8; 4], Asked>,
    /// Who is asked back whether they are there. Apart, so that whoever asks much drives out nothing that this node asks.
    pub(super) asked_back: Recent<[u8; 4], SocketAddr>,
    /// Where somebody was asked back lately.
    pub(super) pinged: Recent<SocketAddr, ()>,
    pub(super) served: Recent<Tag, Served>,
    pub(super) proved: Proved,
    waiting: Waiting<(Message, usize)>,
    pub(super) tokens: Tokens,
    pub(super) theirs: Theirs,
    pub(super) stores: Rate,
    pub(super) handle: MainlineHandle,
    random: RandomState,
    numbered: u64,
}

impl MainlineWire {
    pub(super) fn new(is_v4: bool) -> Self {
        let mut wire = MainlineWire {
            network: NetworkId::default(),
            own: Id::ZERO,
            is_client: false,
            is_v4,
            asked: Recent::new(MAX_OPEN, ANSWERED_WITHIN),
            asked_back: Recent::new(MAX_OPEN, ANSWERED_WITHIN),
            pinged: Recent::new(MAX_OPEN, NAMED_WITHIN),
            served: Recent::new(MAX_OPEN, ANSWERED_WITHIN),
            proved: Proved::new(),
            waiting: Waiting::new(PROVED_WITHIN),
            tokens: Tokens::new(Instant::now()),
            theirs: Theirs::new(),
            stores: Rate::new(STORES_A_SECOND, STORES_AT_ONCE),
            handle: MainlineHandle::default(),
            random: RandomState::new(),
            numbered: 0,
        };
        let bytes: Vec<u8> = (0..ID_BYTES).map(|_| wire.next_random().to_be_bytes()[0]).collect();
        wire.own = Id::from_prefix(&bytes);
        wire
    }

    /// The node may have become another one.
    fn look_up_node(&mut self) {
        if let Some((id, is_client)) = self.handle.node() {
            (self.own, self.is_client) = (id, is_client);
        }
    }

    /// A number that nobody can guess.
    pub(super) fn next_random(&mut self) -> u64 {
        self.numbered += 1;
        self.random.hash_one(self.numbered)
    }

    /// Somebody has shown to be at an address: what waited for that goes on. Whether that has named them to the core.
    pub(super) fn prove(&mut self, now: Now, address: SocketAddr, id: Option<Id>, out: &mut Effects) -> bool {
        self.proved.insert(now.instant, address, id);
        let waited = self.waiting.release(&address);
        let names = |message: &Message| matches!(message.body, Body::Query { sender, .. } if Some(sender) == id);
        let is_named = waited.iter().any(|(message, _)| !message.read_only && names(message));
        for (message, bytes) in waited {
            self.serve(now, address, bytes, 1, message, out);
        }
        is_named
    }

    /// A message of our model from this node, or from another one.
    pub(super) fn message(&self, tag: Tag, sender: Option<Id>, body: message::Body) -> Envelope {
        Envelope::Direct(message::Message { network: self.network, tag, sender, also: Vec::new(), body })
    }

    /// The most bytes of an answer to a query of so many.
    pub(super) fn limit(&self, now: Now, address: &SocketAddr, bytes: usize, pings: usize) -> usize {
        let is_proved = self.proved.contains(now.instant, address);
        if is_proved { MAX_BYTES } else { allowance(bytes, pings * PING_BYTES).min(MAX_BYTES) }
    }

    /// A query has come. Unless it asks for little, whoever sent it first shows that it is at its address.
    fn take_query(&mut self, now: Now, from: SocketAddr, bytes: usize, message: Message, out: &mut Effects) {
        if self.is_client {
            out.counts.push(Count::Unserved);
            return;
        }
        let Body::Query { query, .. } = &message.body else { return };
        let is_small = matches!(query, Query::Ping);
        if self.is_proof(now, from, query) {
            self.prove(now, from, None, out);
        }
        // Who is read-only does not answer.
        if is_small || message.read_only || self.proved.contains(now.instant, &from) {
            return self.serve(now, from, bytes, 0, message, out);
        }
        for (address, (displaced, bytes)) in self.waiting.push(now.instant, from, bytes, (message, bytes)) {
            self.serve(now, address, bytes, 1, displaced, out);
        }
        self.ask_back(now, from, out);
    }

    pub(super) fn ask_back(&mut self, now: Now, to: SocketAddr, out: &mut Effects) {
        let transaction = self.next_transaction();
        if let Some(bytes) = self.query(now, to, transaction, Query::Ping) {
            self.asked_back.insert(now.instant, transaction, to);
            self.pinged.insert(now.instant, to, ());
            out.datagrams.push((to, bytes));
        }
    }

    fn next_transaction(&mut self) -> [u8; 4] {
        (self.next_random() as u32).to_be_bytes()
    }

    /// The bytes of a query, whose answer is expected from now on.
    pub(super) fn ask(&mut self, now: Now, to: SocketAddr, asked: Asked, query: Query) -> Option<Vec<u8>> {
        let transaction = self.next_transaction();
        let bytes = self.query(now, to, transaction, query)?;
        self.asked.insert(now.instant, transaction, asked);
        Some(bytes)
    }

    fn query(&self, now: Now, to: SocketAddr, transaction: [u8; 4], query: Query) -> Option<Vec<u8>> {
        write(&Message {
            transaction: Bytes::copy_from_slice(&transaction),
            version: self.proved.contains(now.instant, &to).then_some(Bytes::from_static(VERSION)),
            read_only: self.is_client,
            seen_at: None,
            body: Body::Query { sender: self.own, query },
        })
    }
}

/// Whether all ids in a message have a form on this wire.
fn is_expressible(message: &message::Message) -> bool {
    let key = match &message.body {
        message::Body::Request(
            Request::FindNode { target: key } | Request::FindValue { key, .. } | Request::Store { key, .. },
        ) => Some(*key),
        _ => None,
    };
    message.sender.into_iter().chain(key).all(|id| KeySpace::SHA1.contains(&id))
}

impl Wire for MainlineWire {
    const NAME: &'static str = "mainline";
    const RECEIVE_BYTES: usize = MAX_RECEIVED + 1;
    const LIMITS: SizeLimits = SizeLimits { preferred: MAX_BYTES, largest: MAX_BYTES };

    fn send(&mut self, now: Now, to: SocketAddr, outbound: &Outbound, out: &mut Effects) -> Result<(), UnsentReason> {
        let message = match &outbound.envelope {
            Envelope::Direct(message) if is_expressible(message) => message,
            _ => return Err(UnsentReason::Inexpressible),
        };
        match &message.body {
            message::Body::Request(request) => {
                self.is_client = message.sender.is_none();
                self.own = message.sender.unwrap_or(self.own);
                let bytes = self.request(now, to, message.tag, request)?;
                if bytes.len() > MAX_BYTES {
                    return Err(UnsentReason::TooLarge { limit: MAX_BYTES as u32 });
                }
                out.datagrams.push((to, bytes));
                Ok(())
            }
            message::Body::Reply(reply) => {
                let id = message.sender.unwrap_or(self.own);
                self.reply(now, message.tag, id, reply, out)
            }
        }
    }

    fn receive(&mut self, now: Now, from: SocketAddr, datagram: &[u8], out: &mut Effects) {
        self.look_up_node();
        match read(datagram) {
            Ok(message) => match message.body {
                Body::Query { .. } => self.take_query(now, from, datagram.len(), message, out),
                Body::Response(response) => {
                    self.response(now, from, &message.transaction, message.seen_at, response, out);
                }
                Body::Failure(failure) => self.failure(now, from, &message.transaction, &failure, out),
            },
            Err(error) => {
                log::trace!("from {from}: {error}");
                out.counts.push(Count::Malformed);
                if let ReadError::Query { transaction, failure } = error
                    && !self.is_client
                {
                    let limit = self.limit(now, &from, datagram.len(), 0);
                    self.refuse(from, limit, &transaction, failure, out);
                }
            }
        }
    }

    fn due(&self) -> Option<Instant> {
        self.waiting.due()
    }

    fn tick(&mut self, now: Now, out: &mut Effects) {
        for (from, (message, bytes)) in self.waiting.expire(now.instant) {
            self.serve(now, from, bytes, 1, message, out);
        }
    }
}
