//! [`MainlineWire`]: between our messages and those of BitTorrent's DHT.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::asking::Asked;
use super::compact::ID_BYTES;
use super::handle::MainlineHandle;
use super::krpc::{Body, Failure, Message, Query};
use super::read::{ReadError, read};
use super::serving::Served;
use super::tokens::Tokens;
use super::write::write;
use super::krpc;
use crate::codec::SizeLimits;
use crate::count::Count;
use crate::foreign::{Effects, Now, Rate, Recent, Waiting, Wire, allowance};
use crate::gateway::{Outbound, UnsentReason};
use crate::id::Id;
use crate::message::{self, Envelope, NetworkId, Tag};

/// What this client calls itself.
const VERSION: &[u8] = b"KD\x00\x01";

/// The largest datagram that is sent, and read: more would go in fragments.
const MAX_BYTES: usize = 1452;
const MAX_RECEIVED: usize = 4096;

/// How many requests are remembered that have no answer yet, of this node and of others.
const MAX_OPEN: usize = 4096;
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

/// For so long an address that has answered is that of whoever asks from there.
const PROVED_FOR: Duration = Duration::from_secs(20 * 60);
const MAX_PROVED: usize = 16_384;

/// So long who asks from an unknown address is given time to show that it is there.
const PROVED_WITHIN: Duration = Duration::from_millis(500);

/// What one source may have this node keep: so many a second on average, and at once.
const STORES_A_SECOND: u32 = 10;
const STORES_AT_ONCE: u32 = 200;

/// How many tokens of others are remembered, and for how long.
const MAX_TOKENS: usize = 16_384;
const TOKENS_LAST: Duration = Duration::from_secs(15 * 60);

/// The bytes of a ping: by two of them a node asks back who asks.
const PING_BYTES: usize = 58;

/// What another node gave with an answer.
#[derive(Debug)]
pub(super) struct TheirToken {
    pub(super) from: SocketAddr,
    pub(super) owner: Id,
    pub(super) token: Bytes,
}

#[derive(Debug)]
pub(super) struct MainlineWire {
    pub(super) network: NetworkId,
    /// The node's id, or a made up one as long as it tells none.
    pub(super) own: Id,
    /// It answers nobody.
    pub(super) is_client: bool,
    pub(super) is_v4: bool,
    pub(super) asked: Recent<[u8; 4], Asked>,
    pub(super) served: Recent<Tag, Served>,
    pub(super) proved: Recent<SocketAddr, ()>,
    waiting: Waiting<(Message, usize)>,
    pub(super) tokens: Tokens,
    pub(super) theirs: Recent<u64, TheirToken>,
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
            served: Recent::new(MAX_OPEN, ANSWERED_WITHIN),
            proved: Recent::new(MAX_PROVED, PROVED_FOR),
            waiting: Waiting::new(PROVED_WITHIN),
            tokens: Tokens::new(Instant::now()),
            theirs: Recent::new(MAX_TOKENS, TOKENS_LAST),
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

    pub(super) fn is_proved(&self, now: Now, address: &SocketAddr) -> bool {
        self.proved.get(now.instant, address).is_some()
    }

    /// A message of our model from this node, or from another one.
    pub(super) fn message(&self, tag: Tag, sender: Option<Id>, body: message::Body) -> Envelope {
        Envelope::Direct(message::Message { network: self.network, tag, sender, also: Vec::new(), body })
    }

    /// Tells `to` why its query is not answered, if that is no more than it may be sent.
    pub(super) fn refuse(
        &self,
        to: SocketAddr,
        limit: usize,
        transaction: Bytes,
        failure: Failure,
        out: &mut Effects,
    ) -> bool {
        let body = Body::Failure(failure);
        let message = Message { transaction, version: None, read_only: false, seen_at: None, body };
        let bytes = write(&message).filter(|bytes| bytes.len() <= limit);
        let is_told = bytes.is_some();
        out.datagrams.extend(bytes.map(|bytes| (to, bytes)));
        is_told
    }

    /// The most bytes of an answer to a query of so many.
    pub(super) fn limit(&self, now: Now, address: &SocketAddr, bytes: usize, pings: usize) -> usize {
        if self.is_proved(now, address) { MAX_BYTES } else { allowance(bytes, pings * PING_BYTES).min(MAX_BYTES) }
    }

    /// A query has come. Unless it asks for little, whoever sent it first shows that it is at its address.
    fn take_query(&mut self, now: Now, from: SocketAddr, bytes: usize, message: Message, out: &mut Effects) {
        if self.is_client {
            out.counts.push(Count::Unserved);
            return;
        }
        let is_small = matches!(message.body, Body::Query { query: Query::Ping, .. });
        // Who is read-only does not answer.
        if is_small || message.read_only || self.is_proved(now, &from) {
            return self.serve(now, from, bytes, 0, message, out);
        }
        for (address, (displaced, bytes)) in self.waiting.push(now.instant, from, bytes, (message, bytes)) {
            self.serve(now, address, bytes, 1, displaced, out);
        }
        self.ask_back(now, from, out);
    }

    fn ask_back(&mut self, now: Now, to: SocketAddr, out: &mut Effects) {
        let bytes = self.ask(now, to, Asked::own_ping(to), Query::Ping);
        out.datagrams.extend(bytes.map(|bytes| (to, bytes)));
    }

    /// The bytes of a query, whose answer is expected from now on.
    pub(super) fn ask(&mut self, now: Now, to: SocketAddr, asked: Asked, query: Query) -> Option<Vec<u8>> {
        let transaction = (self.next_random() as u32).to_be_bytes();
        let message = Message {
            transaction: Bytes::copy_from_slice(&transaction),
            version: self.is_proved(now, &to).then_some(Bytes::from_static(VERSION)),
            read_only: self.is_client,
            seen_at: None,
            body: Body::Query { sender: self.own, query },
        };
        let bytes = write(&message)?;
        self.asked.insert(now.instant, transaction, asked);
        Some(bytes)
    }

    /// The bytes of an answer.
    pub(super) fn answer(
        &self,
        now: Now,
        to: SocketAddr,
        transaction: Bytes,
        answer: krpc::Response,
    ) -> Option<Vec<u8>> {
        let is_proved = self.is_proved(now, &to);
        write(&Message {
            transaction,
            version: is_proved.then_some(Bytes::from_static(VERSION)),
            read_only: false,
            seen_at: is_proved.then_some(to),
            body: Body::Response(answer),
        })
    }
}

impl Wire for MainlineWire {
    const NAME: &'static str = "mainline";
    const RECEIVE_BYTES: usize = MAX_RECEIVED + 1;
    const LIMITS: SizeLimits = SizeLimits { preferred: MAX_BYTES, largest: MAX_BYTES };

    fn send(&mut self, now: Now, to: SocketAddr, outbound: &Outbound, out: &mut Effects) -> Result<(), UnsentReason> {
        let Envelope::Direct(message) = &outbound.envelope else { return Err(UnsentReason::Inexpressible) };
        match &message.body {
            message::Body::Request(request) => {
                self.is_client = message.sender.is_none();
                self.own = message.sender.unwrap_or(self.own);
                let bytes = self.request(now, to, message.tag, request)?;
                if bytes.len() > MAX_BYTES {
                    return Err(UnsentReason::TooLarge { limit: MAX_BYTES as u32 });
                }
                out.datagrams.push((to, bytes));
            }
            message::Body::Reply(reply) => {
                let id = message.sender.unwrap_or(self.own);
                let bytes = self.reply(now, message.tag, id, reply)?;
                out.datagrams.push((to, bytes));
            }
        }
        Ok(())
    }

    fn receive(&mut self, now: Now, from: SocketAddr, datagram: &[u8], out: &mut Effects) {
        self.look_up_node();
        match read(datagram) {
            Ok(message) => match message.body {
                Body::Query { .. } => self.take_query(now, from, datagram.len(), message, out),
                Body::Response(response) => {
                    let heard = self.response(now, from, &message.transaction, message.seen_at, response, out);
                    if heard {
                        for (message, bytes) in self.waiting.release(&from) {
                            self.serve(now, from, bytes, 1, message, out);
                        }
                    }
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
                    self.refuse(from, limit, transaction, failure, out);
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
