//! Peers that answer, and do nothing else: they fill the routing table of a real node.
//!
//! A node takes nobody for a contact who has not answered it, so each of these has a socket of its own, and an id that
//! belongs into the bucket it is for. All of them live on one thread.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kademlia_dht::gateway::{Body, Envelope, Found, Message, Refusal, Reply, Request, Token, codec};
use kademlia_dht::{DHTService, Id, Multiaddr, NetworkId};
use kademlia_simulator::{KEY_SPACE, Random};
use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token as Which};

use super::find_node::NodeError;
use crate::interrupt::Interrupt;

/// Nodes in the network whose tables are imitated: half of them stand in the first bucket, a quarter in the second...
const NETWORK: usize = 1 << 20;

/// Contacts in a bucket, as by default.
pub(super) const K: usize = 20;

/// The thread looks so often whether it is to end.
const PAUSE: Duration = Duration::from_millis(100);

/// Pings under way at one time.
const PINGS: usize = 32;

/// A ping that is not answered on a busy machine is tried again.
const ATTEMPTS: usize = 3;

/// Open files of the whole program, these sockets included.
const FILES: u64 = 1024;

/// Peers that answer until this is dropped.
#[derive(Debug)]
pub(super) struct Crowd {
    addresses: Vec<Multiaddr>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    contacts: usize,
}

#[derive(Debug)]
struct Peer {
    id: Id,
    socket: UdpSocket,
}

/// How many contacts a node of a large network has in each bucket.
fn buckets() -> impl Iterator<Item = usize> {
    let nodes = (1..).map(|index| NETWORK >> index).take_while(|nodes| *nodes > 0);
    nodes.map(|nodes| nodes.min(K))
}

/// A random id that shares exactly so many bits with `own`.
pub(super) fn id_in_bucket(own: &Id, shared: usize, random: &mut Random) -> Id {
    let (own, mut bytes) = (own.as_bytes(), *random.key().as_bytes());
    for (index, (byte, own)) in bytes.iter_mut().zip(own).enumerate() {
        // The bits of this byte that are those of `own`.
        let same = shared.saturating_sub(index * 8).min(8);
        let mask = 0xff_u8.checked_shr(same as u32).unwrap_or(0);
        *byte = (*byte & mask) | (own & !mask);
        if shared / 8 == index {
            let bit = 0x80_u8 >> (shared % 8);
            *byte = (*byte & !bit) | (!own & bit);
        }
    }
    KEY_SPACE.fit(&Id::new(bytes))
}

impl Crowd {
    /// Peers for every bucket of the node `own`. The first bucket gets as many again, who wait for a place there, as
    /// they do at a node that has been running for long.
    pub(super) fn start(own: &Id, network: NetworkId, random: &mut Random) -> Result<Self, NodeError> {
        rlimit::increase_nofile_limit(FILES).map_err(NodeError::Crowd)?;
        let mut places: Vec<usize> = Vec::new();
        for (index, contacts) in buckets().enumerate() {
            places.extend(std::iter::repeat_n(index, contacts));
        }
        let contacts = places.len();
        places.extend([0; K]);
        let ids: Vec<Id> = places.into_iter().map(|shared| id_in_bucket(own, shared, random)).collect();
        let open = || {
            let poll = Poll::new()?;
            let mut peers = Vec::with_capacity(ids.len());
            let mut addresses = Vec::with_capacity(ids.len());
            for (index, id) in ids.into_iter().enumerate() {
                let mut socket = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
                poll.registry().register(&mut socket, Which(index), Interest::READABLE)?;
                let address = format!("/ip4/127.0.0.1/udp/{}", socket.local_addr()?.port());
                addresses.push(address.parse().map_err(io::Error::other)?);
                peers.push(Peer { id, socket });
            }
            let ends = Arc::new(AtomicBool::new(false));
            let ended = Arc::clone(&ends);
            let name = "bench-crowd".to_owned();
            let thread = thread::Builder::new().name(name).spawn(move || serve(poll, &peers, network, &ended))?;
            Ok(Crowd { addresses, ends, thread: Some(thread), contacts })
        };
        open().map_err(NodeError::Crowd)
    }

    /// How many contacts a node has that has met all of them.
    pub(super) fn contacts(&self) -> usize {
        self.contacts
    }

    /// Has the node ping all of them, in the order of the buckets.
    pub(super) fn meet(&self, service: &DHTService, interrupt: &Interrupt) -> Result<(), NodeError> {
        let mut left: Vec<&Multiaddr> = self.addresses.iter().collect();
        for attempt in 1..=ATTEMPTS {
            let (mut under_way, mut again) = (VecDeque::new(), Vec::new());
            let mut next = left.into_iter();
            loop {
                if under_way.len() < PINGS
                    && let Some(address) = next.next()
                {
                    under_way.push_back((address, service.ping(address.clone())));
                    continue;
                }
                let Some((address, pong)) = under_way.pop_front() else { break };
                match pong.wait() {
                    Ok(_) => {}
                    Err(_) if interrupt.is_wanted() => return Err(NodeError::Interrupted),
                    Err(_) if attempt < ATTEMPTS => again.push(address),
                    Err(source) => return Err(NodeError::Ping(source)),
                }
            }
            left = again;
        }
        Ok(())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn serve(mut poll: Poll, peers: &[Peer], network: NetworkId, ended: &AtomicBool) {
    let mut events = Events::with_capacity(peers.len());
    let mut buffer = [0; 2048];
    while !ended.load(Ordering::SeqCst) {
        match poll.poll(&mut events, Some(PAUSE)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                return log::error!("the peers of the node under measurement have ended: {error}");
            }
            _ => {}
        }
        for peer in events.iter().filter_map(|event| peers.get(event.token().0)) {
            while let Ok((size, from)) = peer.socket.recv_from(&mut buffer) {
                let answer = answer(peer.id, network, buffer.get(..size).unwrap_or_default());
                // A lost answer is asked for again.
                answer.map(|answer| peer.socket.send_to(&answer, from));
            }
        }
    }
}

/// What a peer answers that knows nobody and keeps nothing.
fn answer(own: Id, network: NetworkId, request: &[u8]) -> Option<Vec<u8>> {
    let envelope = codec::decode(request).ok()?;
    let message = envelope.message();
    let Body::Request(request) = &message.body else { return None };
    let reply = match request {
        Request::Ping => Reply::Pong,
        Request::FindNode { .. } | Request::FindValue { .. } => {
            Reply::Found(Found { records: Vec::new(), more: false, held: None, contacts: Vec::new(), token: Token(0) })
        }
        Request::Store { .. } => Reply::Refused(Refusal::Limited),
    };
    let body = Body::Reply(reply);
    let message = Message { network, tag: message.tag, sender: Some(own), also: Vec::new(), body };
    let mut bytes = Vec::new();
    codec::encode(&Envelope::Direct(message), &mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_belong_into_their_buckets() {
        let mut random = Random::new(1, "test");
        for shared in 0..=160 {
            let own = random.key();
            let id = id_in_bucket(&own, shared, &mut random);
            assert_eq!(own.common_prefix_len(&id), if shared == 160 { 256 } else { shared });
        }
    }

    #[test]
    fn a_table_is_that_of_a_large_network() {
        let buckets: Vec<usize> = buckets().collect();
        assert_eq!(buckets[..15], [K; 15]);
        assert_eq!(buckets[15..], [16, 8, 4, 2, 1]);
    }
}
