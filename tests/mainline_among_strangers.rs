//! A node of BitTorrent's DHT answers a program that is not ours as BEP 5 and BEP 44 say, and bears whatever strangers throw
//! at it: it changes nothing, and brings nobody more than three times what they sent.

#![cfg(feature = "mainline")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "it is a test")]

mod support {
    pub(crate) mod changed_datagrams;
}

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use kademlia_dht::gateway::address;
use kademlia_dht::gateway::mainline::MainlineGateway;
use kademlia_dht::signing::signed::{Salt, SigningKey, sign};
use kademlia_dht::{Config, DHTService, Event, Id, Multiaddr, core};
use support::changed_datagrams::{bombard, recorded};

const DEADLINE: Duration = Duration::from_secs(20);

fn start() -> (DHTService, Multiaddr) {
    start_with(|_| {})
}

fn start_with(change: impl FnOnce(&mut Config)) -> (DHTService, Multiaddr) {
    let gateway = MainlineGateway::bind("/ip4/127.0.0.1/udp/0".parse().unwrap()).unwrap();
    let mut config = Config::mainline(gateway.handle());
    change(&mut config);
    let (service, address) = (DHTService::start(config).unwrap(), gateway.address().clone());
    service.register_gateway(gateway).unwrap();
    (service, address)
}

/// What follows `pattern` in `bytes`.
fn after<'a>(bytes: &'a [u8], pattern: &[u8]) -> Option<&'a [u8]> {
    bytes.windows(pattern.len()).position(|window| window == pattern).map(|at| &bytes[at + pattern.len()..])
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [bytes.len().to_string().as_bytes(), b":", bytes].concat()
}

/// A node that is not ours.
struct Fake {
    socket: UdpSocket,
    to: SocketAddr,
    asked: u32,
}

impl Fake {
    fn new(to: &Multiaddr) -> Self {
        Fake::at("127.0.0.1", to)
    }

    fn at(ip: &str, to: &Multiaddr) -> Self {
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Fake { socket, to: address::socket_addr(to).unwrap().0, asked: 0 }
    }

    /// Answers one ping, and says at which address it sees who asks.
    fn say_where(&self, seen: [u8; 4]) {
        let mut buffer = [0; 4096];
        let (size, from) = self.socket.recv_from(&mut buffer).expect("a ping in time");
        let asked = &after(&buffer[..size], b"1:t4:").unwrap()[..4];
        let pong =
            [b"d2:ip6:", &seen[..], b"\x1a\xe11:rd2:id20:abcdefghij0123456789e1:t4:", asked, b"1:y1:re"].concat();
        self.socket.send_to(&pong, from).unwrap();
    }

    /// Asks, and gives the answer. Answers pings meanwhile, as any node does.
    fn ask(&mut self, method: &str, before_id: &[u8], behind_id: &[u8], read_only: bool) -> Vec<u8> {
        self.asked += 1;
        let transaction = [&b"1:t4:"[..], &self.asked.to_be_bytes()].concat();
        let mut query = [b"d1:ad", before_id, b"2:id20:abcdefghij0123456789", behind_id, b"e1:q"].concat();
        query.extend(string(method.as_bytes()));
        query.extend(if read_only { &b"2:roi1e"[..] } else { b"" });
        query.extend([&transaction[..], b"1:y1:qe"].concat());
        self.socket.send_to(&query, self.to).unwrap();
        let mut buffer = [0; 4096];
        loop {
            let (size, from) = self.socket.recv_from(&mut buffer).expect("an answer in time");
            let came = &buffer[..size];
            if !self.pong(came, from) && after(came, &transaction).is_some() {
                return came.to_vec();
            }
        }
    }

    /// Answers what came if it is a query, and takes it for a ping.
    fn pong(&self, came: &[u8], from: SocketAddr) -> bool {
        let is_query = after(came, b"1:y1:q").is_some();
        if is_query {
            let asked = &after(came, b"1:t4:").unwrap()[..4];
            let pong = [b"d1:rd2:id20:abcdefghij0123456789e1:t4:", asked, b"1:y1:re"].concat();
            self.socket.send_to(&pong, from).unwrap();
        }
        is_query
    }

    /// Answers pings until something is so.
    fn pong_until(&self, mut is_so: impl FnMut() -> bool) {
        self.socket.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        let (mut buffer, until) = ([0; 4096], Instant::now() + DEADLINE);
        while !is_so() {
            assert!(Instant::now() < until, "it is not so within {DEADLINE:?}");
            if let Ok((size, from)) = self.socket.recv_from(&mut buffer) {
                self.pong(&buffer[..size], from);
            }
        }
    }

    fn token(&mut self, target: &[u8]) -> Vec<u8> {
        let answer = self.ask("get", b"", &[b"6:target20:", target].concat(), false);
        after(&answer, b"5:token8:").unwrap()[..8].to_vec()
    }

    /// The code of the failure, if it is one.
    fn put(&mut self, item: &Put) -> Result<(), u32> {
        let Put { cas, signed, token, value } = item;
        let cas = cas.map(|cas| format!("3:casi{cas}e")).unwrap_or_default();
        let signed = signed.as_ref().map(|(key, salt, number, signature)| {
            let salt = if salt.is_empty() { Vec::new() } else { [b"4:salt", &string(salt)[..]].concat() };
            let number = format!("3:seqi{number}e3:sig64:");
            [b"1:k32:", &key[..], &salt, number.as_bytes(), &signature[..]].concat()
        });
        let behind = [&signed.unwrap_or_default()[..], b"5:token8:", token, b"1:v", value].concat();
        let answer = self.ask("put", cas.as_bytes(), &behind, false);
        let Some(code) = after(&answer, b"1:eli") else { return Ok(()) };
        Err(std::str::from_utf8(&code[..3]).unwrap().parse().unwrap())
    }
}

/// The public key, the salt, the number and the signature.
type Signed = ([u8; 32], Vec<u8>, i64, [u8; 64]);

#[derive(Clone)]
struct Put {
    cas: Option<i64>,
    signed: Option<Signed>,
    token: Vec<u8>,
    value: Vec<u8>,
}

/// The node asks somebody, who says where it sees the node.
fn see(service: &DHTService, to: &Multiaddr, voter: &str, seen: [u8; 4]) {
    let fake = Fake::at(voter, to);
    let address = address::ip_address(fake.socket.local_addr().unwrap(), address::IpTransport::Udp);
    let pong = service.ping(address);
    fake.say_where(seen);
    pong.wait_timeout(DEADLINE).unwrap_or_else(|_| panic!("no pong")).unwrap();
}

#[test]
fn who_pings_under_made_up_ids_is_known_by_its_own() {
    let (service, to) = start();
    let events = service.events();
    let mut fake = Fake::new(&to);
    let ping = b"d1:ad2:id20:an id of nobody's   e1:q4:ping1:t2:zz1:y1:qe";
    fake.socket.send_to(ping, fake.to).unwrap();
    fake.ask("find_node", b"", b"6:target20:abcdefghij0123456789", false);
    fake.socket.send_to(ping, fake.to).unwrap();
    let own = Id::from_prefix(b"abcdefghij0123456789");
    let is_added = |event| match event {
        Event::Node(core::Event::ContactAdded(contact)) if contact.id() == own => Some(()),
        _ => None,
    };
    fake.pong_until(|| events.wait_for(Duration::ZERO, is_added).is_ok());
}

#[test]
fn the_id_follows_from_where_others_see_the_node() {
    let (service, to) = start();
    let random = service.id();
    let see = |voter: &str, seen: [u8; 4]| see(&service, &to, voter, seen);
    let votes = [("127.1.0.1", [8, 8, 8, 8]), ("127.2.0.1", [8, 8, 8, 8]), ("127.2.0.2", [8, 8, 8, 8])];
    for (voter, seen) in votes.into_iter().chain([("127.3.0.1", [8, 8, 8, 8]), ("127.4.0.1", [8, 8, 8, 8])]) {
        see(voter, seen);
        assert_eq!(service.id(), random, "four do not suffice");
    }
    see("127.5.0.1", [8, 8, 8, 8]);
    let id = service.id();
    assert!(id != random && MainlineGateway::may_have([8, 8, 8, 8].into(), &id));
    see("127.6.0.1", [8, 8, 8, 8]);
    for n in 1..20 {
        see(&format!("127.{n}.0.9"), [9, 9, 9, 9]);
    }
    assert_eq!((service.id(), service.status().id), (id, id), "it does not change again so soon");
    let mut fake = Fake::new(&to);
    let answer = fake.ask("ping", b"", b"", true);
    assert_eq!(&after(&answer, b"2:id20:").unwrap()[..20], &id.as_bytes()[..20]);
}

#[test]
fn who_is_given_an_id_keeps_it() {
    let id = Id::from_prefix(&[7; 20]);
    let (service, to) = start_with(|config| config.id = Some(id));
    for n in 1..9 {
        see(&service, &to, &format!("127.{n}.0.1"), [8, 8, 8, 8]);
    }
    assert_eq!(service.id(), id);
}

#[test]
fn what_is_not_kept_is_refused_by_the_codes_of_bep_44() {
    let (service, to) = start();
    let mut fake = Fake::new(&to);
    let (key, salt) = (SigningKey::from_bytes(&[7; 32]), Salt::new("salt").unwrap());
    let target = hash(&[&key.public_key().0, salt.as_bytes()].concat(), &service);
    let token = fake.token(&target);
    let numbered = |number: i64, value: &str| {
        let value = string(value.as_bytes());
        let signature = sign(&key, &salt, number, &value).0;
        let signed = Some((key.public_key().0, salt.as_bytes().to_vec(), number, signature));
        Put { cas: None, signed, token: token.clone(), value }
    };
    assert_eq!(fake.put(&Put { token: vec![1; 8], ..numbered(5, "five") }), Err(203));
    assert_eq!(fake.put(&numbered(5, "five")), Ok(()));
    assert_eq!(fake.put(&numbered(5, "five")), Ok(()), "the same again");
    assert_eq!(fake.put(&numbered(4, "four")), Err(302));
    assert_eq!(fake.put(&Put { cas: Some(4), ..numbered(6, "six") }), Err(301));
    assert_eq!(fake.put(&Put { cas: Some(9), ..numbered(6, "six") }), Err(301), "nor is it above what is held");
    assert_eq!(fake.put(&Put { cas: Some(5), ..numbered(6, "six") }), Ok(()));
    assert_eq!(fake.put(&numbered(7, &"x".repeat(1000))), Err(205), "with its length it has 1,005 bytes");
    assert_eq!(fake.put(&numbered(7, &"x".repeat(996))), Ok(()));
    assert_eq!(fake.put(&Put { value: string(b"eighty"), ..numbered(8, "eight") }), Err(206));
    let mut long = numbered(9, "nine");
    long.signed.as_mut().unwrap().1 = vec![b's'; 65];
    assert_eq!(fake.put(&long), Err(207));
    let found = service.get_signed(&key.public_key(), &salt).wait().unwrap().unwrap();
    assert_eq!((found.sequence, found.value.len()), (7, 996));

    // Under its own hash.
    let put = |value: Vec<u8>, token| Put { cas: None, signed: None, token, value };
    let value = string(b"immutable");
    let token = fake.token(&hash(&value, &service));
    assert_eq!(fake.put(&put(value.clone(), token.clone())), Ok(()));
    assert_eq!(fake.put(&put(string(b"something else"), token.clone())), Err(203), "a token for another key");
    assert_eq!(fake.put(&Put { cas: Some(3), ..put(value, token) }), Ok(()), "it has no number");
    let large = string(&[b'x'; 997]);
    let token = fake.token(&hash(&large, &service));
    assert_eq!(fake.put(&put(large, token)), Err(205));
    assert_eq!(service.status().records, 2);
}

#[test]
fn values_of_all_shapes_stay_as_they_were_written() {
    let (service, to) = start();
    let mut fake = Fake::new(&to);
    // The keys of the last one are not in order: what was signed is what was written.
    let values = [&b"i-7e"[..], b"l1:ai2elee", b"d1:ai1e1:bl1:xee", b"d1:bi1e1:ai2ee"];
    for (number, value) in (1..).zip(values) {
        let target = hash(value, &service);
        let token = fake.token(&target);
        assert_eq!(fake.put(&Put { cas: None, signed: None, token, value: value.to_vec() }), Ok(()));
        let answer = fake.ask("get", b"", &[b"6:target20:", &target[..]].concat(), false);
        assert!(after(&answer, &[b"1:v", value].concat()).is_some());
        assert_eq!(service.get_immutable(Id::from_prefix(&target)).wait().unwrap().unwrap(), value);

        let (key, salt) = (SigningKey::from_bytes(&[number; 32]), Salt::default());
        let target = hash(&key.public_key().0, &service);
        let token = fake.token(&target);
        let signature = sign(&key, &salt, 3, value).0;
        let signed = Some((key.public_key().0, Vec::new(), 3, signature));
        // With nothing held there is nothing to compare.
        assert_eq!(fake.put(&Put { cas: Some(2), signed, token, value: value.to_vec() }), Ok(()));
        assert_eq!(service.get_signed(&key.public_key(), &salt).wait().unwrap().unwrap().value, value);
    }
}

#[test]
fn what_is_announced_and_sampled() {
    let (service, to) = start();
    let mut fake = Fake::new(&to);
    let own = fake.socket.local_addr().unwrap().port();
    let info_hash = [5; 20];
    let asked = [b"9:info_hash20:", &info_hash[..]].concat();
    let token =
        |fake: &mut Fake| after(&fake.ask("get_peers", b"", &asked, false), b"5:token8:").unwrap()[..8].to_vec();
    let token = token(&mut fake);
    let announce = |fake: &mut Fake, implied: &str, port: &str, token: &[u8]| {
        let behind = [&asked[..], port.as_bytes(), b"5:token8:", token].concat();
        let answer = fake.ask("announce_peer", b"", &[implied.as_bytes(), &behind].concat(), false);
        after(&answer, b"1:eli").map(|code| String::from_utf8(code[..3].to_vec()).unwrap())
    };
    let peers = || {
        let mut ports: Vec<u16> = service.peers(Id::from_prefix(&info_hash)).map(|peer| peer.port()).collect();
        ports.sort_unstable();
        ports
    };
    let refused = Some("203".to_owned());
    assert_eq!(announce(&mut fake, "", "4:porti1e", &[1; 8]), refused, "a wrong token");
    assert_eq!(announce(&mut fake, "", "4:porti0e", &token), refused, "nobody is at port 0");
    assert_eq!(announce(&mut fake, "", "", &token), refused);
    assert_eq!(peers(), []);
    assert_eq!(announce(&mut fake, "", "4:porti80e", &token), None);
    assert_eq!(
        announce(&mut fake, "12:implied_porti1e", "4:porti99999e", &token),
        None,
        "what is there is not looked at"
    );
    let mut expected = [80, own];
    expected.sort_unstable();
    assert_eq!(peers(), expected);

    let answer = fake.ask("sample_infohashes", b"", b"", false);
    assert!(after(&answer, b"1:eli203e").is_some(), "without a target");
    let want = b"6:target20:mnopqrstuvwxyz1234564:wantl2:n42:n6e";
    let answer = fake.ask("sample_infohashes", b"", want, false);
    assert!(
        after(&answer, &[b"7:samples20:", &info_hash[..]].concat()).is_some() && after(&answer, b"3:numi1e").is_some()
    );
    assert!(after(&answer, b"5:nodes").is_some() && after(&answer, b"6:nodes60:").is_some(), "both kinds are wanted");
    let interval = after(&answer, b"8:intervali").unwrap();
    assert!(!interval.starts_with(b"0"), "there are no others to be had");
}

/// The SHA-1, as nodes of that network have it.
fn hash(bytes: &[u8], service: &DHTService) -> Vec<u8> {
    service.key_id(bytes).as_bytes()[..20].to_vec()
}

#[test]
fn no_datagram_breaks_a_node_or_is_multiplied() {
    let (service, to) = start();
    let (other, _) = start();
    other.connect(to.clone()).wait().unwrap();
    let held = service.put_immutable([7; 600]).wait().unwrap().key;
    let before = service.status();

    let mut fence = Fake::new(&to);
    let mut good = recorded(include_str!("data/mainline/datagrams.txt"));
    good.push(
        [b"d1:ad2:id20:abcdefghij01234567896:target20:", &held.as_bytes()[..20], b"e1:q3:get1:t2:aa1:y1:qe"].concat(),
    );
    bombard(fence.to, &good, || drop(fence.ask("ping", b"", b"", true)));

    let after = service.status();
    assert_eq!(after.failure, None);
    assert_eq!((after.known_peers, after.records), (before.known_peers, before.records));
    let counts = after.gateways[0].link;
    assert!(counts.malformed > 1000 && counts.unasked > 1000, "{counts:?}");
    assert_eq!(service.get_immutable(held).wait().unwrap().unwrap(), [7; 600]);
}
