//! A gateway that lends its thread has the node's work done on it; no other thread is woken, and none waits for it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded, select, unbounded};
use kademlia_dht::gateway::{
    Body, Envelope, FaultConfig, FaultGateway, Gateway, GatewayError, Inbound, Link, MemoryGateway, Message, Outbound,
    Outbox, Reply, ReplyPath, Request, SizeLimits, Tag, TcpGateway, UdpGateway, Unsent, address, codec,
    frame::{self, FrameReader},
};
use kademlia_dht::{Config, DHTService, GatewayState, Id, Multiaddr, Pending};

const LONG: Duration = Duration::from_secs(30);

/// What an outbox was given, and on which thread.
type Sent = (String, Outbound);

/// A gateway whose wire is a channel in either direction.
struct Wire {
    lends: bool,
    incoming: Receiver<Inbound>,
    delivered: Sender<()>,
    outgoing: Sender<Sent>,
    gate: Receiver<()>,
}

/// Its other end.
struct End {
    incoming: Sender<Inbound>,
    /// One for each message that was delivered.
    delivered: Receiver<()>,
    outgoing: Receiver<Sent>,
    /// Lets one message out.
    gate: Sender<()>,
}

fn wire(lends: bool) -> (Wire, End) {
    let ((to_node, incoming), (was_delivered, delivered)) = (unbounded(), unbounded());
    let ((sent, outgoing), (gate, opens)) = (unbounded(), unbounded());
    let wire = Wire { lends, incoming, delivered: was_delivered, outgoing: sent, gate: opens };
    (wire, End { incoming: to_node, delivered, outgoing, gate })
}

struct WireOutbox {
    outgoing: Sender<Sent>,
    gate: Receiver<()>,
}

impl Outbox for WireOutbox {
    fn dials(&self, _: &Multiaddr) -> bool {
        true
    }
    fn limits(&self) -> SizeLimits {
        SizeLimits::STREAM
    }
    fn send(&mut self, outbound: Outbound) -> Result<(), Unsent> {
        let name = thread::current().name().unwrap_or_default().to_owned();
        self.outgoing.send((name, outbound)).unwrap();
        // Holds the node up.
        self.gate.recv_timeout(LONG).unwrap();
        Ok(())
    }
}

impl Gateway for Wire {
    fn name(&self) -> String {
        "wire".to_owned()
    }
    fn addresses(&self) -> Vec<Multiaddr> {
        vec!["/memory/1".parse().unwrap()]
    }
    fn outbox(&mut self) -> Result<Box<dyn Outbox>, GatewayError> {
        Ok(Box::new(WireOutbox { outgoing: self.outgoing.clone(), gate: self.gate.clone() }))
    }
    fn run(&mut self, link: &Link) -> Result<(), GatewayError> {
        loop {
            select! {
                recv(link.stop_signal()) -> _ => return Ok(()),
                recv(self.incoming) -> inbound => {
                    let Ok(inbound) = inbound else { return Ok(()) };
                    link.deliver(vec![inbound]).unwrap();
                    self.delivered.send(()).unwrap();
                }
            }
        }
    }
    fn lends_thread(&self) -> bool {
        self.lends
    }
}

impl End {
    fn receive(&self, from: &str, sender: Option<Id>, body: Body) {
        let message = Message { network: Config::default().network, tag: Tag(1), sender, also: Vec::new(), body };
        let inbound = Inbound::connected(from.parse().unwrap(), ReplyPath(1), 1000, Envelope::Direct(message));
        self.incoming.send(inbound).unwrap();
    }

    fn sent(&self) -> (String, Body) {
        let (thread, outbound) = self.outgoing.recv_timeout(LONG).expect("something is sent");
        (thread, outbound.envelope.message().body.clone())
    }

    fn open(&self) {
        self.gate.send(()).unwrap();
    }
}

fn service(gateways: impl IntoIterator<Item = Wire>) -> DHTService {
    let service = DHTService::start(Config::default()).unwrap();
    for gateway in gateways {
        service.register_gateway(gateway).unwrap();
    }
    service
}

const PING: Body = Body::Request(Request::Ping);
const PONG: Body = Body::Reply(Reply::Pong);

#[test]
fn an_answer_leaves_from_the_thread_that_brought_the_request_if_that_was_lent() {
    for (lends, thread) in [(true, "dht-wire"), (false, "dht-manager")] {
        let (gateway, end) = wire(lends);
        let service = service([gateway]);
        end.open();
        end.receive("/memory/2", None, PING);
        assert_eq!(end.sent(), (thread.to_owned(), PONG));
        service.stop();
    }
}

#[test]
fn nobody_waits_for_a_node_that_is_held_up() {
    let ((slow_gateway, slow), (other_gateway, other)) = (wire(true), wire(true));
    let service = service([slow_gateway, other_gateway]);
    slow.receive("/memory/2", None, PING);
    assert_eq!(slow.sent().1, PONG);
    // The node is in the outbox of the first gateway; the second one hands its message over all the same.
    other.receive("/memory/3", None, PING);
    other.delivered.recv_timeout(LONG).expect("the delivery returns");
    assert!(slow.delivered.is_empty() && other.outgoing.is_empty());
    slow.open();
    other.open();
    assert_eq!(other.sent().1, PONG);
    service.stop();
}

#[test]
fn a_timer_that_is_set_on_a_lent_thread_goes_off() {
    let (gateway, end) = wire(true);
    let service = service([gateway]);
    (0..100).for_each(|_| end.open());
    // A stranger shows an id, so the node pings it: that is all that wakes the management thread later.
    end.receive("/memory/2", Some(Id::from_prefix(&[9])), PING);
    assert_eq!([end.sent(), end.sent()].map(|(thread, _)| thread), ["dht-wire", "dht-wire"]);
    assert_eq!(end.sent(), ("dht-manager".to_owned(), PING), "not answered, so it is pinged again");
    service.stop();
}

#[test]
fn a_flood_does_not_stop_the_clock() {
    for lends in [true, false] {
        let ((first_gateway, first), (second_gateway, second)) = (wire(lends), wire(lends));
        let config = Config { request_timeout: Duration::from_millis(100), ..Config::default() };
        let service = DHTService::start(config).unwrap();
        service.register_gateway(first_gateway).unwrap();
        service.register_gateway(second_gateway).unwrap();
        (0..100).for_each(|_| first.open());
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            for end in [&first, &second] {
                let over = &over;
                // Answers that nobody waits for. As many as are taken, and never none.
                scope.spawn(move || {
                    let until = Instant::now() + LONG;
                    while !over.load(Ordering::Relaxed) && Instant::now() < until {
                        if end.incoming.len() < 10_000 {
                            (0..1000).for_each(|_| end.receive("/memory/3", None, PONG));
                        }
                    }
                });
            }
            let pong = service.ping("/memory/2".parse().unwrap()).wait_timeout(LONG / 2);
            over.store(true, Ordering::Relaxed);
            assert!(pong.expect("it ends in time").is_err());
        });
        service.stop();
    }
}

#[test]
fn a_thread_that_helps_a_gateway_can_stop_the_service() {
    /// Delivers from a thread that it joins at its end.
    struct Helped(Wire);

    impl Gateway for Helped {
        fn name(&self) -> String {
            self.0.name()
        }
        fn addresses(&self) -> Vec<Multiaddr> {
            self.0.addresses()
        }
        fn outbox(&mut self) -> Result<Box<dyn Outbox>, GatewayError> {
            self.0.outbox()
        }
        fn run(&mut self, link: &Link) -> Result<(), GatewayError> {
            thread::scope(|scope| scope.spawn(|| self.0.run(link)).join().unwrap())
        }
        fn lends_thread(&self) -> bool {
            true
        }
    }

    let (gateway, end) = wire(true);
    let service = DHTService::start(Config::default()).unwrap();
    service.register_gateway(Helped(gateway)).unwrap();
    ask_and_stop(&service, &end);
}

/// Calls the service from where the end of an operation is told.
struct Curious {
    service: DHTService,
    end: Sender<usize>,
}

impl Wake for Curious {
    fn wake(self: Arc<Self>) {
        let gateways = self.service.status().gateways.len();
        self.service.stop();
        self.end.send(gateways).unwrap();
    }
}

#[test]
fn whoever_is_told_of_an_end_on_a_lent_thread_can_call_the_service_and_stop_it() {
    let (gateway, end) = wire(true);
    ask_and_stop(&service([gateway]), &end);
}

/// Asks somebody, and stops the service from where the answer is told.
fn ask_and_stop(service: &DHTService, end: &End) {
    (0..100).for_each(|_| end.open());
    let mut pong = service.ping("/memory/2".parse().unwrap());
    let (ended, told) = bounded(1);
    let waker = Waker::from(Arc::new(Curious { service: service.clone(), end: ended }));
    assert!(std::pin::Pin::new(&mut pong).poll(&mut Context::from_waker(&waker)).is_pending());
    let (_, asked) = end.outgoing.recv_timeout(LONG).unwrap();
    let envelope = asked.envelope.message();
    let message = Message { sender: Some(Id::from_prefix(&[7])), body: PONG, ..envelope.clone() };
    let inbound = Inbound::connected("/memory/2".parse().unwrap(), ReplyPath(1), 1000, Envelope::Direct(message));
    end.incoming.send(inbound).unwrap();
    assert_eq!(told.recv_timeout(LONG), Ok(1));
    assert!(pong.is_ready());
    service.stop();
    assert!(service.status().gateways.iter().all(|gateway| gateway.state != GatewayState::Running));
}

/// Does many things with one node of several: none of it may be left without an end.
fn busy(nodes: &[DHTService], own: usize) -> usize {
    let (node, mut left_out) = (&nodes[own], 0);
    let mut open: Vec<Box<dyn FnOnce() -> bool>> = Vec::new();
    for n in 0..300 {
        let other = nodes[(own + 1 + n % (nodes.len() - 1)) % nodes.len()].listen_addresses();
        let address = other.get(n % other.len().max(1)).cloned();
        match n % 5 {
            0 => open.push(ends(node.save(format!("key {}", n % 20), "value"))),
            1 | 2 => open.push(ends(node.query(format!("key {}", n % 20)))),
            3 => node.query(format!("key {}", n % 7)).cancel(),
            _ => open.extend(address.map(|address| ends(node.ping(address)))),
        }
        // Some are waited for, so that there are turns between.
        if n % 10 == 0 {
            left_out += open.drain(..).map(|ends| usize::from(!ends())).sum::<usize>();
        }
    }
    left_out + open.into_iter().map(|ends| usize::from(!ends())).sum::<usize>()
}

/// Tells whether the operation ends in time, however it does.
fn ends<T: 'static>(pending: Pending<T>) -> Box<dyn FnOnce() -> bool> {
    Box::new(move || pending.wait_timeout(LONG).is_ok())
}

#[test]
fn everything_ends_whatever_happens_at_once() {
    let config = Config { request_timeout: Duration::from_millis(300), ..Config::default() };
    let nodes: Vec<DHTService> = (0..4).map(|_| DHTService::start(config.clone()).unwrap()).collect();
    for node in &nodes {
        node.register_gateway(MemoryGateway::bind("/memory/0".parse().unwrap()).unwrap()).unwrap();
        node.register_gateway(UdpGateway::bind("/ip4/127.0.0.1/udp/0".parse().unwrap()).unwrap()).unwrap();
        let faulty = TcpGateway::bind("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
        // This one does not lend its thread.
        node.register_gateway(FaultGateway::new(faulty, FaultConfig::default()).unwrap()).unwrap();
    }
    let first = nodes[0].listen_addresses()[0].clone();
    for node in &nodes[1..] {
        node.connect(first.clone()).wait().unwrap();
    }
    thread::scope(|scope| {
        let busy: Vec<_> = (0..nodes.len())
            .map(|own| {
                scope.spawn({
                    let nodes = &nodes;
                    move || busy(nodes, own)
                })
            })
            .collect();
        // Gateways come and go meanwhile, and in the end a whole node.
        for _ in 0..20 {
            let udp = UdpGateway::bind("/ip4/127.0.0.1/udp/0".parse().unwrap()).unwrap();
            let id = nodes[3].register_gateway(udp).unwrap();
            nodes[3].remove_gateway(id).unwrap();
        }
        nodes[2].stop();
        for thread in busy {
            assert_eq!(thread.join().unwrap(), 0);
        }
    });
    nodes.iter().for_each(DHTService::stop);
}

/// Sends so many pings at once by a connection, while it reads. Gives how many answers came until there are as many, or
/// none comes any more.
fn answers_to_pings(pings: usize, claimed: &Multiaddr, mut reader: impl Read, mut writer: impl Write + Send) -> usize {
    let network = Config::default().network;
    let mut requests = framed(|buffer| buffer.extend([&[codec::WIRE_VERSION], claimed.as_ref()].concat()));
    for tag in 0..pings {
        let message = Message { network, tag: Tag(tag as u64), sender: None, also: Vec::new(), body: PING };
        requests.extend(framed(|buffer| codec::encode(&Envelope::Direct(message), buffer).unwrap()));
    }
    let (mut tags, mut frames, mut buffer) = (BTreeSet::new(), FrameReader::default(), [0; 4096]);
    thread::scope(|scope| {
        scope.spawn(move || writer.write_all(&requests).unwrap());
        while tags.len() < pings
            && let Ok(size @ 1..) = reader.read(&mut buffer)
        {
            let mut input = &buffer[..size];
            while let Some(frame) = frames.next(&mut input, codec::MAX_MESSAGE_BYTES).unwrap() {
                // The first one is a hello, and no message.
                tags.extend(codec::decode(frame).ok().map(|answer| answer.message().tag));
            }
        }
    });
    tags.len()
}

fn framed(fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::append(&mut bytes, |buffer| {
        fill(buffer);
        Ok::<(), ()>(())
    })
    .unwrap();
    bytes
}

#[test]
fn whoever_reads_gets_all_answers_however_many_requests_come_at_once() {
    const PINGS: usize = 10_000;
    let service = service([]);
    let gateway = TcpGateway::bind("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    let to = address::socket_addr(gateway.address()).unwrap().0;
    service.register_gateway(gateway).unwrap();
    let stream = std::net::TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.set_write_timeout(Some(LONG)).unwrap();
    let claimed = "/ip4/127.0.0.1/tcp/9".parse().unwrap();
    assert_eq!(answers_to_pings(PINGS, &claimed, &stream, &stream), PINGS, "over TCP");

    #[cfg(unix)]
    {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node");
        let at = |path| address::unix_address(path).unwrap();
        service.register_gateway(kademlia_dht::gateway::UnixGateway::bind(at(path.clone())).unwrap()).unwrap();
        let stream = std::os::unix::net::UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_write_timeout(Some(LONG)).unwrap();
        let claimed = at(folder.path().join("nobody"));
        assert_eq!(answers_to_pings(PINGS, &claimed, &stream, &stream), PINGS, "over Unix sockets");
    }
    service.stop();
}
