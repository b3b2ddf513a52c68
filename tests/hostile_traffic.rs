//! Whatever strangers send, over each real gateway: a node counts it, keeps its table and its records as they are, takes
//! no memory for it, and answers its user as fast as before.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout)]
#![cfg(unix)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kademlia_dht::gateway::{
    Body, Contact, Envelope, Expect, Found, Id, Message, Record, Reply, Request, Tag, TcpGateway, Token, UdpGateway,
    UnixGateway, Version, address, codec, frame, parts,
};
use kademlia_dht::{Config, DHTService, Multiaddr};

/// Nodes besides the one that is attacked.
const PEERS: usize = 8;
const RECORDS: usize = 40;
const MEASURED: usize = 400;

/// Random datagrams, and how many of them in a millisecond.
const DATAGRAMS: usize = 100_000;
const IN_A_MILLISECOND: usize = 20;

/// Far more messages than are waited for at once.
const FIRST_PARTS: usize = 20_000;

const SLOW_CONNECTIONS: usize = 1000;

/// Below this a query takes as long as the scheduler likes.
const NOTICEABLE: Duration = Duration::from_millis(2);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Wire {
    Udp,
    Tcp,
    Unix,
}

/// One node that is attacked, and others in whose company it is.
struct Network {
    wire: Wire,
    victim: DHTService,
    _others: Vec<DHTService>,
    _folder: tempfile::TempDir,
}

impl Network {
    fn start(wire: Wire) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let nodes: Vec<DHTService> = (0..=PEERS).map(|n| start(wire, folder.path().join(n.to_string()))).collect();
        let first = nodes[0].listen_addresses()[0].clone();
        for node in &nodes[1..] {
            node.connect(first.clone()).wait().unwrap();
        }
        for n in 0..RECORDS {
            nodes[n % nodes.len()].save(format!("key {n}"), value(n)).wait().unwrap();
        }
        let mut others = nodes;
        let victim = others.remove(0);
        assert_eq!(victim.status().known_peers, PEERS);
        Network { wire, victim, _others: others, _folder: folder }
    }

    fn address(&self) -> Multiaddr {
        self.victim.listen_addresses()[0].clone()
    }

    fn socket(&self) -> SocketAddr {
        address::socket_addr(&self.address()).unwrap().0
    }

    fn connect(&self) -> Box<dyn Stream> {
        match self.wire {
            Wire::Tcp => Box::new(TcpStream::connect(self.socket()).unwrap()),
            _ => Box::new(UnixStream::connect(address::unix_path(&self.address()).unwrap()).unwrap()),
        }
    }

    /// A connection on which both sides have said hello.
    fn greeted(&self, n: usize) -> Box<dyn Stream> {
        let mut stream = self.connect();
        let claimed: Multiaddr = match self.wire {
            Wire::Tcp => format!("/ip4/127.0.0.1/tcp/{}", 10_000 + n).parse().unwrap(),
            _ => address::unix_address(format!("/tmp/nobody-{n}")).unwrap(),
        };
        stream.write_all(&framed(&[&[codec::WIRE_VERSION], claimed.as_ref()].concat())).unwrap();
        stream
    }

    /// The 99th percentile of the times of some queries, of which each finds what was saved, and the most memory that the
    /// process had in between; while `busy`, if it is given.
    fn queries(&self, busy: Option<&AtomicBool>) -> (Duration, u64) {
        let (mut times, mut peak) = (Vec::new(), 0);
        for n in 0.. {
            let goes_on = busy.map_or(n < MEASURED, |busy| n < MEASURED / 4 || busy.load(Ordering::Relaxed));
            if !goes_on {
                break;
            }
            let begun = Instant::now();
            let found = self.victim.query(format!("key {}", n % RECORDS)).wait().unwrap();
            times.push(begun.elapsed());
            peak = peak.max(resident());
            assert!(found.expect("it is found").value == value(n % RECORDS));
        }
        times.sort_unstable();
        (times[times.len() * 99 / 100], peak)
    }

    /// What was dropped, refused or closed, in all.
    fn counted(&self) -> u64 {
        let status = self.victim.status();
        let (gateway, counters) = (&status.gateways[0], &status.counters);
        let by_cause = counters.dropped.values().chain(counters.refused.values()).chain(gateway.dropped.values());
        let link = &gateway.link;
        link.unreadable() + link.oversized + link.unfinished + link.closed() + by_cause.sum::<u64>()
    }

    /// Attacks while the victim goes on, and sees that nothing comes of it but counts. Sends `least` things that count.
    fn stand(&self, what: &str, least: u64, attack: impl Fn() + Sync) {
        let before = self.victim.status();
        let (counted, memory) = (self.counted(), resident());
        // A machine that does something else can make any one round slow; a slow node is slow in all of them.
        for round in 0..3 {
            let usual = self.queries(None).0.max(NOTICEABLE);
            let busy = AtomicBool::new(true);
            let (attacked, peak) = std::thread::scope(|scope| {
                scope.spawn(|| {
                    attack();
                    busy.store(false, Ordering::Relaxed);
                });
                self.queries(Some(&busy))
            });
            let grown = peak.max(resident()).saturating_sub(memory);
            assert!(grown < 8 << 20, "{what}: {} KiB more", grown >> 10);
            if round == 0 {
                let deadline = Instant::now() + Duration::from_secs(20);
                while self.counted() < counted + least {
                    assert!(Instant::now() < deadline, "{what}: {} of {least}", self.counted() - counted);
                    self.queries(None);
                }
            }
            println!(
                "{:?}, {what}: 99 % of queries within {usual:?} before, {attacked:?} meanwhile; {} KiB more",
                self.wire,
                grown >> 10
            );
            if attacked <= usual * 2 {
                break;
            }
            assert!(round < 2, "{what}: {usual:?} before, {attacked:?} meanwhile");
        }
        let after = self.victim.status();
        assert_eq!((after.known_peers, after.records), (before.known_peers, before.records), "{what}");
        assert_eq!(after.record_bytes, before.record_bytes, "{what}");
    }
}

trait Stream: Read + Write + Send {
    /// Says that nothing more comes, and waits until the other side has read it all and closes as well.
    fn finish(&mut self);

    /// Waits for no more than this to write.
    fn patient(&mut self, time: Duration);
}

impl Stream for TcpStream {
    fn finish(&mut self) {
        self.shutdown(Shutdown::Write).ok();
        self.read_to_end(&mut Vec::new()).ok();
    }

    fn patient(&mut self, time: Duration) {
        self.set_write_timeout(Some(time)).unwrap();
    }
}

impl Stream for UnixStream {
    fn finish(&mut self) {
        self.shutdown(Shutdown::Write).ok();
        self.read_to_end(&mut Vec::new()).ok();
    }

    fn patient(&mut self, time: Duration) {
        self.set_write_timeout(Some(time)).unwrap();
    }
}

/// What is saved: every eighth value is one that UDP carries in parts.
fn value(n: usize) -> Vec<u8> {
    vec![n as u8; if n.is_multiple_of(8) { 16 << 10 } else { 100 }]
}

fn start(wire: Wire, path: PathBuf) -> DHTService {
    let service = DHTService::start(Config::default()).unwrap();
    match wire {
        Wire::Udp => {
            service.register_gateway(UdpGateway::bind("/ip4/127.0.0.1/udp/0".parse().unwrap()).unwrap()).unwrap()
        }
        Wire::Tcp => {
            service.register_gateway(TcpGateway::bind("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap()).unwrap()
        }
        Wire::Unix => {
            service.register_gateway(UnixGateway::bind(address::unix_address(path).unwrap()).unwrap()).unwrap()
        }
    };
    service
}

/// The memory of this process, in bytes.
fn resident() -> u64 {
    let Ok(statm) = std::fs::read_to_string("/proc/self/statm") else { return 0 };
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn framed(bytes: &[u8]) -> Vec<u8> {
    let mut buffer = Vec::new();
    frame::append(&mut buffer, |buffer| {
        buffer.extend(bytes);
        Ok::<(), ()>(())
    })
    .unwrap();
    buffer
}

/// Numbers that look random (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }

    fn id(&mut self) -> Id {
        Id::from_prefix(&self.bytes(20))
    }
}

fn encoded(sender: Option<Id>, tag: u64, body: Body) -> Vec<u8> {
    let network = Config::default().network;
    let message = Message { network, tag: Tag(tag), sender, also: Vec::new(), body };
    let mut bytes = Vec::new();
    codec::encode(&Envelope::Direct(message), &mut bytes).unwrap();
    bytes
}

/// Something that must not be taken: noise, damage, a reply that was not asked for, a store without the right.
fn hostile(random: &mut Random) -> Vec<u8> {
    let (sender, tag) = (Some(random.id()), random.next());
    match random.below(6) {
        0 => {
            let size = random.below(1500);
            random.bytes(size)
        }
        1 => {
            // An id of every length but one.
            let length = random.below(60);
            let mut bytes = vec![codec::WIRE_VERSION, 0, 7, 1, 1, length as u8];
            bytes.extend(random.bytes(length));
            bytes.extend([0, 0, 0, 9]);
            bytes
        }
        2 => {
            let mut bytes = encoded(sender, tag, Body::Request(Request::FindNode { target: random.id() }));
            let place = random.below(60);
            bytes[place] ^= 1 << random.below(8);
            let end = random.below(bytes.len());
            bytes.truncate(end);
            bytes
        }
        3 => encoded(sender, tag, Body::Reply(Reply::Pong)),
        4 => {
            let contacts = (0..5).map(|_| Contact::new(random.id(), "/ip4/127.0.0.1/udp/9".parse().unwrap())).collect();
            let record = Some(Record::plain(vec![6; 100], Version(u64::MAX), Duration::from_secs(9999)));
            let found = Found { records: Vec::from_iter(record), more: false, held: None, contacts, token: Token(tag) };
            encoded(sender, tag, Body::Reply(Reply::Found(found)))
        }
        _ => {
            let record = Record::plain(vec![6; 100], Version(u64::MAX), Duration::from_secs(9999));
            let (key, token) = (random.id(), Token(random.next()));
            encoded(None, tag, Body::Request(Request::Store { key, record, token, expect: Expect::Anything }))
        }
    }
}

/// The token that the victim gives to this socket for a key.
fn token(socket: &UdpSocket, key: Id) -> Token {
    socket.send(&encoded(None, 77, Body::Request(Request::FindNode { target: key }))).unwrap();
    loop {
        let mut buffer = [0; 2000];
        let size = socket.recv(&mut buffer).unwrap();
        if let Ok(Envelope::Direct(Message { body: Body::Reply(Reply::Found(found)), tag: Tag(77), .. })) =
            codec::decode(&buffer[..size])
        {
            return found.token;
        }
    }
}

fn udp_socket(network: &Network) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(network.socket()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

fn pace(sent: usize) {
    if sent.is_multiple_of(IN_A_MILLISECOND) {
        std::thread::sleep(Duration::from_millis(1)); // Not a wait for anything: so fast does it send.
    }
}

fn attack_datagrams(network: &Network) {
    network.stand("random datagrams", DATAGRAMS as u64 / 2, || {
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        let sockets: Vec<UdpSocket> = (0..16).map(|_| udp_socket(network)).collect();
        for n in 0..DATAGRAMS {
            // The sending socket's own buffer can be full.
            sockets[random.below(16)].send(&hostile(&mut random)).ok();
            pace(n);
        }
    });
    network.stand("first parts of messages that are never finished", FIRST_PARTS as u64 / 2, || {
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        for n in 0..FIRST_PARTS {
            // Each from another host, as anyone can write any source.
            let [_, a, b, c] = (n as u32 + 2).to_be_bytes();
            let stranger = UdpSocket::bind((Ipv4Addr::new(127, a, b, c), 0)).unwrap();
            let part = [&[parts::FIRST_BYTE], &random.bytes(8)[..], &[0, 63], &[7; 1189]].concat();
            stranger.send_to(&part, network.socket()).ok();
            pace(n);
            if n.is_multiple_of(500) {
                let other = network._others[n % PEERS].listen_addresses()[0].clone();
                let reply = network.victim.find_value(other, "key 8").wait().unwrap();
                assert!(reply.records[0].value == value(8), "it is put together all the same");
            }
        }
    });
    network.stand("stores with the token of another", 1000, || {
        let key = Id::from_prefix(&[8; 20]);
        let (owner, thief) = (udp_socket(network), udp_socket(network));
        let token = token(&owner, key);
        for n in 0..1000 {
            let record = Record::plain(vec![6; 100], Version(n), Duration::from_secs(9999));
            let store = Request::Store { key, record, token, expect: Expect::Anything };
            thief.send(&encoded(None, n, Body::Request(store))).unwrap();
            pace(n as usize);
        }
    });
    network.stand("a reply again and again, and from elsewhere", 900, || {
        let (asked, other) = (udp_socket(network), udp_socket(network));
        let port = asked.local_addr().unwrap().port();
        let pending = network.victim.ping(format!("/ip4/127.0.0.1/udp/{port}").parse().unwrap());
        let mut buffer = [0; 2000];
        let size = asked.recv(&mut buffer).unwrap();
        let tag = codec::decode(&buffer[..size]).unwrap().message().tag;
        // An id that the table has no room or no use for: that of a peer at another address.
        let pong = encoded(Some(network._others[0].id()), tag.0, Body::Reply(Reply::Pong));
        for n in 0..1000 {
            let socket = if n < 500 { &other } else { &asked };
            socket.send(&pong).unwrap();
            pace(n);
        }
        pending.wait().ok();
    });
}

fn attack_streams(network: &Network) {
    network.stand("random frames", 2000, || {
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        for n in 0..40 {
            let mut stream = network.greeted(n);
            for m in 0..100 {
                if stream.write_all(&framed(&hostile(&mut random))).is_err() {
                    break; // It was closed.
                }
                pace(m);
            }
            stream.finish();
        }
    });
    network.stand("a frame of 64 MiB is announced", 20, || {
        for n in 0..20 {
            let mut stream = network.greeted(n);
            stream.write_all(&(64_u32 << 20).to_be_bytes()).ok();
            let some = vec![7; 64 << 10];
            while stream.write_all(&some).is_ok() {}
        }
    });
    network.stand("noise instead of a hello", 50, || {
        let mut random = Random(1);
        for _ in 0..50 {
            let mut stream = network.connect();
            let size = 600 + random.below(1000);
            stream.write_all(&random.bytes(size)).ok();
            stream.finish();
        }
    });
    network.stand("slow connections", SLOW_CONNECTIONS as u64 / 2, || {
        let hello = framed(&[&[codec::WIRE_VERSION], network.address().as_ref()].concat());
        let mut streams: Vec<Box<dyn Stream>> = Vec::new();
        for n in 0..SLOW_CONNECTIONS {
            streams.push(network.connect());
            pace(n);
        }
        for byte in &hello[..3] {
            for stream in &mut streams {
                stream.write_all(&[*byte]).ok();
            }
            std::thread::sleep(Duration::from_secs(1)); // One byte a second.
        }
    });
}

/// Those who have said hello, and then want to be waited for.
fn attack_by_acquaintances(network: &Network) {
    network.stand("slow frames", SLOW_CONNECTIONS as u64 / 2, || {
        let frame = framed(&encoded(None, 1, Body::Request(Request::Ping)));
        let mut streams: Vec<Box<dyn Stream>> = Vec::new();
        for n in 0..SLOW_CONNECTIONS {
            streams.push(network.greeted(n));
            pace(n);
        }
        // The largest frame that there is, of which a part comes.
        let begun = [&(60_u32 << 10).to_be_bytes()[..], &[1; 3000]].concat();
        for stream in &mut streams {
            stream.write_all(&begun).ok();
        }
        for byte in &frame[..3] {
            for stream in &mut streams {
                stream.write_all(&[*byte]).ok();
            }
            std::thread::sleep(Duration::from_secs(1)); // One byte a second.
        }
    });
    network.stand("questions whose answers nobody reads", 0, || {
        let question = framed(&encoded(None, 1, Body::Request(Request::FindNode { target: Id::ZERO })));
        let many = question.repeat(IN_A_MILLISECOND);
        let mut streams: Vec<Box<dyn Stream>> = (0..15).map(|n| network.greeted(n)).collect();
        for stream in &mut streams {
            stream.patient(Duration::from_millis(5));
        }
        // Five megabytes of answers each: what the system keeps of them is full long before.
        for _ in 0..5000 / IN_A_MILLISECOND {
            // One that is not read any more, or is closed, is given up.
            streams.retain_mut(|stream| {
                pace(0);
                stream.write_all(&many).is_ok()
            });
        }
    });
    network.stand("forged replies and stores", 1000, || {
        let mut stream = network.greeted(1);
        for n in 0..1000 {
            let record = Record::plain(vec![6; 100], Version(n), Duration::from_secs(9999));
            let (key, token) = (Id::from_prefix(&[8; 20]), Token(n));
            let store = Body::Request(Request::Store { key, record, token, expect: Expect::Anything });
            stream.write_all(&framed(&encoded(None, n, store))).unwrap();
            stream.write_all(&framed(&encoded(Some(Id::ZERO), n, Body::Reply(Reply::Pong)))).unwrap();
            pace(n as usize);
        }
        stream.finish();
    });
}

#[test]
fn nothing_comes_of_it_but_counts() {
    rlimit::increase_nofile_limit(8 * SLOW_CONNECTIONS as u64).unwrap();
    for wire in [Wire::Udp, Wire::Tcp, Wire::Unix] {
        let network = Network::start(wire);
        match wire {
            Wire::Udp => attack_datagrams(&network),
            Wire::Tcp | Wire::Unix => {
                attack_streams(&network);
                attack_by_acquaintances(&network);
            }
        }
        network.queries(None);
    }
}
