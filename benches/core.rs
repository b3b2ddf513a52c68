//! What the core costs a driver with many nodes: `cargo bench --bench core`.
//!
//! Each is measured with two kinds of peers: the handles of a simulator, four bytes each, with ids computed anew on each
//! call; and the contacts of real nodes, with multiaddrs. The node under measurement has the table that a network of 2^20
//! nodes gives it: about 330 contacts.

#![allow(missing_docs, clippy::expect_used)] // The harness has no documentation, and a bench may fail.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::LazyLock;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use kademlia_dht::Multiaddr;
use kademlia_dht::core::{Command, Input, Node, OperationId, Output, Params, Time};
use kademlia_dht::gateway::address::{IpTransport, ip_address, socket_addr};
use kademlia_dht::gateway::{
    Body, Contact, Found, Id, KeySpace, Message, NetworkId, Peer, Reply, ReplyPath, Request, Tag, Token,
};

/// Nodes in the network.
const NODES: u32 = 1 << 20;

/// Contacts in a bucket and in a reply.
const K: usize = 20;

/// The number of the node under measurement.
const OWN: u32 = 7;

/// The port of every contact: any but 0 does.
const PORT: u16 = 4000;

/// Inputs that are prepared in advance, and used in turn.
const PREPARED: usize = 1024;

/// All that a simulator keeps of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Handle(u32);

impl Peer for Handle {
    type Addr = u32;

    fn new(_id: Id, address: u32, _others: Vec<u32>) -> Self {
        Handle(address)
    }

    fn id(&self) -> Id {
        id_of(u64::from(self.0))
    }

    fn address(&self) -> &u32 {
        &self.0
    }
}

/// A peer of a network whose nodes are numbered.
trait Numbered: Peer {
    fn address_of(number: u32) -> Self::Addr;

    fn number(address: &Self::Addr) -> u32;

    fn numbered(number: u32) -> Self {
        Self::new(id_of(u64::from(number)), Self::address_of(number), Vec::new())
    }
}

impl Numbered for Handle {
    fn address_of(number: u32) -> u32 {
        number
    }

    fn number(address: &u32) -> u32 {
        *address
    }
}

impl Numbered for Contact {
    fn address_of(number: u32) -> Multiaddr {
        let address = SocketAddr::from((number.to_be_bytes(), PORT));
        ip_address(address, IpTransport::Udp)
    }

    fn number(address: &Multiaddr) -> u32 {
        match socket_addr(address) {
            Some((SocketAddr::V4(address), _)) => u32::from(*address.ip()),
            _ => OWN,
        }
    }
}

/// An id of 20 bytes, from three rounds of splitmix64.
fn id_of(number: u64) -> Id {
    let mut state = number;
    let mut bytes = [0; 24];
    for chunk in bytes.chunks_exact_mut(8) {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        chunk.copy_from_slice(&(mixed ^ (mixed >> 31)).to_be_bytes());
    }
    let (significant, _) = bytes.split_at(20);
    Id::from_prefix(significant)
}

/// Ids that are no node's.
fn target(number: usize) -> Id {
    id_of(u64::from(u32::MAX) + number as u64)
}

/// The whole network, in the order of the ids.
static NETWORK: LazyLock<Vec<(Id, u32)>> = LazyLock::new(|| {
    let mut all: Vec<(Id, u32)> = (0..NODES).map(|number| (id_of(u64::from(number)), number)).collect();
    all.sort_unstable_by_key(|(id, _)| *id);
    all
});

/// Those that fill the table of the node under measurement: 2 k for each bucket, where there are so many.
static ACQUAINTANCES: LazyLock<Vec<u32>> = LazyLock::new(|| acquaintances(2 * K));

/// So many for each bucket, where there are so many.
fn acquaintances(most: usize) -> Vec<u32> {
    let own = own();
    let mut met = [0; 160];
    let all = (0..NODES).filter(|peer| *peer != OWN);
    all.filter(|peer| {
        let met = met.get_mut(own.common_prefix_len(&id_of(u64::from(*peer))));
        met.is_some_and(|met| std::mem::replace(met, *met + 1) < most)
    })
    .collect()
}

fn own() -> Id {
    id_of(u64::from(OWN))
}

/// What a node that shares `shared` bits with the target answers: contacts from the bucket that the target falls into.
fn neighbours<P: Numbered>(target: &Id, shared: usize, random: usize) -> Vec<P> {
    let network = &**NETWORK;
    let (mut start, mut end) = (0, network.len());
    for bit in 0..=shared {
        let part = network.get(start..end).unwrap_or_default();
        let middle = start + part.partition_point(|(id, _)| !id.bit(bit));
        let (from, to) = if target.bit(bit) { (middle, end) } else { (start, middle) };
        if to - from < K {
            break;
        }
        (start, end) = (from, to);
    }
    let range = network.get(start..end).unwrap_or_default();
    let first = random % (range.len() - K).max(1);
    let mut found: Vec<P> = range.iter().skip(first).take(K).map(|(_, peer)| P::numbered(*peer)).collect();
    found.sort_by_key(|peer| peer.id().distance(target));
    found
}

fn message<P: Numbered>(from: u32, tag: Tag, body: Body<P>) -> Input<P> {
    let sender = Some(id_of(u64::from(from)));
    let message = Message { network: NetworkId::default(), tag, sender, also: Vec::new(), body };
    Input::Message { from: P::address_of(from), path: ReplyPath::default(), proved: false, message }
}

fn fresh_node<P: Peer>() -> Node<P> {
    let space = KeySpace::new(20).expect("20 bytes are a key space");
    Node::new(own(), Params::new(space), [7; 16], Time::ZERO)
}

/// Has `node` ping `peer`, and gives the answer.
fn pong<P: Numbered>(node: &mut Node<P>, peer: u32, out: &mut Vec<Output<P>>) -> Input<P> {
    let command = Command::Ping { address: P::address_of(peer) };
    out.clear();
    node.handle(Time::ZERO, Input::Start { operation: OperationId(u64::from(peer)), command }, out);
    let Some(Output::Send { message: Message { tag, .. }, .. }) = out.first() else { return Input::Tick };
    let pong = message(peer, *tag, Body::Reply(Reply::Pong));
    out.clear();
    pong
}

/// Has `node` ping `peer`, which answers.
fn meet<P: Numbered>(node: &mut Node<P>, peer: u32, out: &mut Vec<Output<P>>) {
    let pong = pong(node, peer, out);
    node.handle(Time::ZERO, pong, out);
}

fn full_node<P: Numbered>() -> Node<P> {
    let (mut node, mut out) = (fresh_node(), Vec::new());
    ACQUAINTANCES.iter().for_each(|peer| meet(&mut node, *peer, &mut out));
    node
}

/// The 20 nearest to a target, out of a full table.
#[divan::bench(types = [Handle, Contact], sample_count = 1000, sample_size = 64)]
fn closest<P: Numbered>(bencher: Bencher) {
    let node = full_node::<P>();
    let targets: Vec<Id> = (0..PREPARED).map(target).collect();
    let mut turns = targets.iter().cycle();
    bencher
        .with_inputs(move || turns.next().copied().unwrap_or(Id::ZERO))
        .bench_local_refs(|target| drop(black_box(node.closest(target, K))));
}

/// A request to find a node, served.
#[divan::bench(types = [Handle, Contact], sample_count = 1000, sample_size = 64)]
fn serve_find_node<P: Numbered>(bencher: Bencher) {
    let node = RefCell::new(full_node::<P>());
    let out = RefCell::new(Vec::new());
    let mut number = 0;
    // Whose bucket is full, as it is for nearly all who ask.
    let own = own();
    let is_stranger = |peer: &u32| own.common_prefix_len(&id_of(u64::from(*peer))) == 0;
    let strangers: Vec<u32> = (0..NODES).filter(is_stranger).collect();
    bencher
        .with_inputs(move || {
            number += 1;
            let from = strangers.get(number % strangers.len()).copied().unwrap_or(0);
            let request = Request::FindNode { target: target(number % PREPARED) };
            message(from, Tag(number as u64), Body::Request(request))
        })
        .bench_local_values(|input| {
            let mut out = out.borrow_mut();
            out.clear();
            node.borrow_mut().handle(Time::ZERO, input, &mut out);
        });
}

/// A node that looks one target up after the other, in a network where everybody answers.
struct Lookups<P: Peer> {
    node: Node<P>,
    started: usize,
    out: Vec<Output<P>>,
    open: Vec<(u32, Tag)>,
}

impl<P: Numbered> Lookups<P> {
    fn new() -> Self {
        Lookups { node: full_node(), started: 0, out: Vec::new(), open: Vec::new() }
    }

    /// The next answer: of the one who was asked first.
    fn next(&mut self) -> Input<P> {
        loop {
            for output in self.out.drain(..) {
                match output {
                    Output::Send { to, message, .. } => self.open.push((P::number(&to), message.tag)),
                    Output::Done { .. } => self.open.clear(),
                    Output::Event(_) => {}
                }
            }
            if !self.open.is_empty() {
                break;
            }
            self.started += 1;
            let command = Command::Lookup { target: target(self.started) };
            let start = Input::Start { operation: OperationId(self.started as u64), command };
            self.node.handle(Time::ZERO, start, &mut self.out);
        }
        let (peer, tag) = self.open.remove(0);
        let target = target(self.started);
        let shared = target.common_prefix_len(&id_of(u64::from(peer)));
        let contacts = neighbours(&target, shared, tag.0 as usize % NODES as usize);
        let found = Found { records: Vec::new(), more: false, held: None, contacts, token: Token(1) };
        message(peer, tag, Body::Reply(Reply::Found(found)))
    }
}

/// An answer of 20 contacts in a running lookup, up to the next request.
#[divan::bench(types = [Handle, Contact], sample_count = 20_000, sample_size = 1)]
fn lookup_step<P: Numbered>(bencher: Bencher) {
    let lookups = RefCell::new(Lookups::<P>::new());
    bencher.with_inputs(|| lookups.borrow_mut().next()).bench_local_values(|input| {
        let lookups = &mut *lookups.borrow_mut();
        lookups.node.handle(Time::ZERO, input, &mut lookups.out);
    });
}

/// Pings sent and answered, by which an empty table fills; each item is one contact.
#[divan::bench(types = [Handle, Contact])]
fn insert_by_answered_pings<P: Numbered>(bencher: Bencher) {
    let peers = &**ACQUAINTANCES;
    bencher.counter(ItemsCount::new(peers.len())).with_inputs(|| (fresh_node::<P>(), Vec::new())).bench_local_values(
        |(mut node, mut out)| {
            peers.iter().for_each(|peer| meet(&mut node, *peer, &mut out));
            node
        },
    );
}

/// The answer of somebody new, by which it enters a bucket that has room.
#[divan::bench(types = [Handle, Contact], sample_count = 5000, sample_size = 1)]
fn insert_into_a_bucket<P: Numbered>(bencher: Bencher) {
    let peers = acquaintances(K);
    let (node, out) = (RefCell::new(fresh_node::<P>()), RefCell::new(Vec::new()));
    let mut left = peers.iter();
    bencher
        .with_inputs(|| {
            let peer = left.next().or_else(|| {
                *node.borrow_mut() = fresh_node();
                left = peers.iter();
                left.next()
            });
            pong(&mut node.borrow_mut(), peer.copied().unwrap_or(0), &mut out.borrow_mut())
        })
        .bench_local_values(|input| node.borrow_mut().handle(Time::ZERO, input, &mut out.borrow_mut()));
}

/// The answer of a contact of a full bucket, which becomes the one that was heard of last.
#[divan::bench(types = [Handle, Contact], sample_count = 5000, sample_size = 1)]
fn renew_in_a_bucket<P: Numbered>(bencher: Bencher) {
    let peers = acquaintances(K);
    let (node, out) = (RefCell::new(full_node::<P>()), RefCell::new(Vec::new()));
    let mut turns = peers.iter().cycle();
    bencher
        .with_inputs(|| {
            let peer = turns.next().copied().unwrap_or(0);
            pong(&mut node.borrow_mut(), peer, &mut out.borrow_mut())
        })
        .bench_local_values(|input| node.borrow_mut().handle(Time::ZERO, input, &mut out.borrow_mut()));
}

fn main() {
    divan::main();
}
