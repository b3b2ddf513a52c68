//! The wire of BitTorrent's DHT: what can be read can be written, and is then read alike. Whoever never shows that it is at
//! its address gets at most three times what came from there, whatever comes and whenever.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use arbitrary::Unstructured;
use kademlia_dht::gateway::address::{self, IpTransport};
use kademlia_dht::gateway::mainline::fuzzing::{Datagrams, Machine, survives};
use kademlia_dht::gateway::{Body, Envelope, Found, Inbound, Message, NetworkId, Outbound, Reply, Request, Tag, Token};
use kademlia_dht::{Contact, Id};

/// Takes the input as one datagram, and as what several addresses send over time.
pub fn run(input: &[u8]) {
    assert_ne!(survives(input), Some(false));
    let mut world = World::default();
    let mut rest = Unstructured::new(input);
    while !rest.is_empty() && world.step(&mut rest).is_ok() {}
    // Then nothing waits any more.
    let done = world.machine().wait(Duration::from_secs(1));
    world.take(done);
}

#[derive(Default)]
struct World {
    machine: Option<Machine>,
    came: BTreeMap<SocketAddr, usize>,
    went: BTreeMap<SocketAddr, usize>,
    /// The transaction of the last query that went there.
    asked: BTreeMap<SocketAddr, Vec<u8>>,
    proved: BTreeSet<SocketAddr>,
    tags: u64,
}

/// Two in a local network, and two far away.
fn place(number: u8) -> SocketAddr {
    let ip = if number & 2 == 0 { [127, 0, 0, 1] } else { [8, 8, 8, 8] };
    SocketAddr::from((ip, 1000 + u16::from(number & 1)))
}

impl World {
    fn machine(&mut self) -> &mut Machine {
        self.machine.get_or_insert_with(|| Machine::new(true))
    }

    fn step(&mut self, rest: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let [kind, to, what]: [u8; 3] = rest.arbitrary()?;
        let to = place(to);
        match kind % 5 {
            0 => {
                let done = self.machine().wait(Duration::from_millis(rest.arbitrary::<u16>()?.into()));
                self.take(done);
            }
            1 => self.receive(to, rest.arbitrary()?),
            // A true query, so that not all depends on guessing one.
            2 => self.receive(to, &query(what, rest.arbitrary()?, rest.arbitrary()?)),
            3 => self.answer(to, place(what), rest.arbitrary()?),
            // The node asks whoever has answered.
            _ if self.proved.contains(&to) => {
                let target = Id::from_prefix(&[what; 20]);
                let request = match what % 3 {
                    0 => Request::Ping,
                    1 => Request::FindNode { target },
                    _ => Request::FindValue { key: target, after: None, proof: None },
                };
                self.send(to, Body::Request(request), None);
            }
            _ => {}
        }
        Ok(())
    }

    /// The answer to the last query that went somewhere, from there or from elsewhere.
    fn answer(&mut self, asked: SocketAddr, from: SocketAddr, with_token: bool) {
        let Some(transaction) = self.asked.get(&asked).cloned() else { return };
        let token: &[u8] = if with_token { b"5:token1:x" } else { b"" };
        if asked == from {
            self.proved.insert(from);
        }
        self.receive(from, &[b"d1:rd2:id20:abcdefghij0123456789", token, b"e1:t4:", &transaction, b"1:y1:re"].concat());
    }

    fn receive(&mut self, from: SocketAddr, bytes: &[u8]) {
        *self.came.entry(from).or_default() += bytes.len();
        let done = self.machine().receive(from, bytes);
        self.take(done);
    }

    /// The node answers as much as it can, and asks back twice whoever is named.
    fn take(&mut self, (datagrams, deliveries): (Datagrams, Vec<Inbound>)) {
        self.went(datagrams);
        for inbound in deliveries {
            let message = inbound.envelope.message();
            let Some((from, _)) = address::socket_addr(&inbound.from) else { panic!("no address: {inbound:?}") };
            if inbound.proved {
                self.proved.insert(from);
            }
            let Body::Request(request) = &message.body else { continue };
            let reply = match request {
                Request::Ping => Reply::Pong,
                Request::Store { .. } => Reply::Stored,
                Request::FindNode { .. } | Request::FindValue { .. } => Reply::Found(found()),
            };
            if reply == Reply::Stored {
                // With a token that was good, as the node says: whoever had it was there.
                self.proved.insert(from);
            }
            self.send(from, Body::Reply(reply), Some(message.tag));
            if message.sender.is_some() && !inbound.proved {
                self.send(from, Body::Request(Request::Ping), None);
                self.send(from, Body::Request(Request::Ping), None);
            }
        }
    }

    fn send(&mut self, to: SocketAddr, body: Body, tag: Option<Tag>) {
        self.tags += 1;
        let tag = tag.unwrap_or(Tag(self.tags));
        let sender = Some(Id::from_prefix(&[1; 20]));
        let message = Message { network: NetworkId::default(), tag, sender, also: Vec::new(), body };
        let outbound = Outbound::new(address::ip_address(to, IpTransport::Udp), Envelope::Direct(message));
        if let Ok(datagrams) = self.machine().send(to, &outbound) {
            self.went(datagrams);
        }
    }

    fn went(&mut self, datagrams: Datagrams) {
        for (to, bytes) in datagrams {
            assert_ne!(survives(&bytes), Some(false));
            let is_query = bytes.ends_with(b"1:y1:qe");
            if let Some(at) = bytes.windows(5).rposition(|part| part == b"1:t4:").filter(|_| is_query) {
                self.asked.insert(to, bytes[at + 5..at + 9].to_vec());
            }
            let went = self.went.entry(to).or_default();
            *went += bytes.len();
            let came = self.came.get(&to).copied().unwrap_or_default();
            assert!(*went <= came * 3 || self.proved.contains(&to), "{came} bytes came from {to}, {went} went");
        }
    }
}

fn found() -> Found {
    let contact = |n: u8| Contact::new(Id::from_prefix(&[n; 20]), address::ip_address(place(n), IpTransport::Udp));
    let contacts = (0..20).map(contact).collect();
    Found { records: Vec::new(), held: None, more: false, contacts, token: Token(7) }
}

fn query(kind: u8, read_only: bool, transaction: u8) -> Vec<u8> {
    let (before, behind, method) = match kind % 8 {
        0 => ("", "", "ping"),
        1 => ("", "6:target20:mnopqrstuvwxyz123456", "find_node"),
        2 => ("", "9:info_hash20:mnopqrstuvwxyz123456", "get_peers"),
        3 => ("", "9:info_hash20:mnopqrstuvwxyz1234564:porti1e5:token1:x", "announce_peer"),
        4 => ("", "6:target20:mnopqrstuvwxyz123456", "get"),
        5 => ("", "5:token8:\0\0\0\0\0\0\0\x071:v1:x", "put"),
        6 => ("3:casi5e", "5:token1:x1:v1:x", "put"),
        _ => ("", "6:target20:mnopqrstuvwxyz123456", "sample_infohashes"),
    };
    let read_only = if read_only { "2:roi1e" } else { "" };
    let (length, transaction) = (method.len(), "t".repeat((transaction % 65).into()));
    let of_it = transaction.len();
    format!(
        "d1:ad{before}2:id20:abcdefghij0123456789{behind}e1:q{length}:{method}{read_only}1:t{of_it}:{transaction}1:y1:qe"
    )
    .into_bytes()
}
