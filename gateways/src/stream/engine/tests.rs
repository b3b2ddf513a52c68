//! What the loop does with each connection, one step at a time.

use super::super::BATCH;
use super::super::connection::{Buffered, MAX_UNREAD_BYTES, MAX_UNSENT_BYTES};
use super::super::hello;
use super::*;
use crate::codec::{self, SizeLimits};
use crate::conformance::messages;
use crate::gateway::{Inbound, Outbox, Queue};
use crate::link::{FromGateway, Link, LinkHost};
use crate::{Body, Found, Record, Reply, Token, Version};
use crossbeam::channel::{Receiver, unbounded};
use mio::event::Source;
use mio::net::{UnixListener, UnixStream};
use std::convert::Infallible;
use std::io::{Read, Write};
use std::sync::Mutex;

/// A transport that connects to the other ends of these.
#[derive(Clone, Default)]
struct Pairs(std::sync::Arc<Mutex<Vec<UnixStream>>>);

impl Transport for Pairs {
    type Listener = UnixListener;
    type Stream = UnixStream;

    fn listen(&self) -> io::Result<UnixListener> {
        Err(ErrorKind::Unsupported.into())
    }
    fn source(listener: &mut UnixListener) -> &mut dyn Source {
        listener
    }
    fn accept(_: &UnixListener) -> io::Result<(UnixStream, Option<IpAddr>)> {
        Err(ErrorKind::WouldBlock.into())
    }
    fn dials(&self, _: &Multiaddr) -> bool {
        true
    }
    fn connect(&self, _: &Multiaddr) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        self.0.lock().unwrap().push(theirs);
        Ok(ours)
    }
    fn is_connected(_: &UnixStream) -> io::Result<bool> {
        Ok(true)
    }
    fn confirm(claimed: &Multiaddr, _: Option<IpAddr>) -> Option<Multiaddr> {
        Some(claimed.clone())
    }
}

fn framed(fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    crate::frame::append(&mut bytes, |bytes| {
        fill(bytes);
        Ok::<_, Infallible>(())
    })
    .unwrap();
    bytes
}

fn hello() -> Vec<u8> {
    framed(|bytes| hello::write(&"/memory/2".parse().unwrap(), bytes))
}

fn ping(tag: u64) -> Vec<u8> {
    framed(|bytes| codec::encode(&messages::request(tag), bytes).unwrap())
}

/// The node of an engine.
struct Node {
    outbox: Queue,
    events: Receiver<FromGateway>,
    host: LinkHost,
}

impl Node {
    /// Takes all that has been handed over: how many messages each time.
    fn take(&self) -> Vec<Vec<Inbound>> {
        // Together, as there is room for more when one is dropped.
        let all: Vec<FromGateway> = self.events.try_iter().collect();
        let delivered = all.into_iter().filter_map(|event| match event {
            FromGateway::Delivery(mut delivery) => Some(delivery.take()),
            FromGateway::Unsent { .. } => None,
        });
        delivered.collect()
    }

    /// Queues an answer by this connection, of about so many bytes.
    fn answer(&mut self, number: u64, bytes: usize) {
        let record = Some(Record::plain(vec![7; bytes], Version(1), Duration::from_secs(60)));
        let found = Found {
            records: record.into_iter().collect(),
            more: false,
            held: None,
            contacts: Vec::new(),
            token: Token(1),
        };
        let envelope = messages::message(1, Body::Reply(Reply::Found(found)));
        let answer = Outbound::new("/memory/2".parse().unwrap(), envelope);
        self.outbox.send(Outbound { path: Some(ReplyPath(number)), ..answer }).unwrap();
    }
}

/// Something comes, and is read.
fn arrive(engine: &mut Engine<'_, Pairs>, number: u64, peer: &mut UnixStream, bytes: &[u8]) {
    peer.write_all(bytes).unwrap();
    engine.pool.mark_ready(number);
    engine.read();
}

/// Reads all that has come, and gives how much that was.
fn read_all(peer: &mut UnixStream) -> usize {
    let (mut buffer, mut all) = (vec![0; 64 * 1024], 0);
    while let Ok(size @ 1..) = peer.read(&mut buffer) {
        all += size;
    }
    all
}

/// Nobody may take any time over anything.
fn impatient() -> StreamConfig {
    StreamConfig { stall_timeout: Duration::ZERO, ..StreamConfig::default() }
}

/// Calls `test` with an engine that nobody can connect to, and its node.
fn with_engine(config: &StreamConfig, test: impl FnOnce(Engine<'_, Pairs>, Node)) {
    let folder = tempfile::tempdir().unwrap();
    let mut open = Open::new(UnixListener::bind(folder.path().join("socket")).unwrap()).unwrap();
    let (outbox, outbound) = Queue::new(QUEUE, SizeLimits::STREAM, |_| true);
    open.outbound = outbound;
    let (to_node, events) = unbounded();
    let (link, host) = Link::new(1, to_node);
    let (transport, own, mut next_number) = (Pairs::default(), "/memory/1".parse().unwrap(), 1);
    let node = Node { outbox, events, host };
    test(Engine::new(open, &transport, &link, config, &own, &mut next_number).unwrap(), node);
}

/// A connection that somebody opened who has sent a hello, and its number.
fn accepted(engine: &mut Engine<'_, Pairs>) -> (u64, UnixStream) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    engine.add_accepted(ours, None);
    let number = engine.pool.last_number();
    arrive(engine, number, &mut theirs, &hello());
    assert!(engine.pool.connections()[&number].is_greeted());
    (number, theirs)
}

#[test]
fn what_could_be_read_before_the_connection_was_there_is_read() {
    with_engine(&StreamConfig::default(), |mut engine, _node| {
        let number = engine.dial(&"/memory/2".parse().unwrap()).unwrap();
        engine.transport.0.lock().unwrap()[0].write_all(&hello()).unwrap();

        // Two events, in this order, as some systems report the two directions apart.
        engine.pool.mark_ready(number);
        engine.handle_writable(number);
        engine.read();
        assert!(engine.pool.connections()[&number].is_greeted());
    });
}

#[test]
fn little_is_handed_over_at_a_time_and_what_is_refused_waits_in_order() {
    with_engine(&StreamConfig::default(), |mut engine, node| {
        engine.link.set_room(2 * BATCH);
        let (number, mut peer) = accepted(&mut engine);
        peer.write_all(&(0..500).flat_map(ping).collect::<Vec<_>>()).unwrap();
        engine.pool.mark_ready(number);
        let mut arrived = Vec::new();
        while arrived.len() < 500 {
            engine.read();
            let deliveries = node.take();
            assert!(deliveries.iter().all(|messages| messages.len() <= BATCH));
            let messages: Vec<Inbound> = deliveries.into_iter().flatten().collect();
            assert!((1..=2 * BATCH).contains(&messages.len()));
            arrived.extend(messages.iter().map(|message| message.envelope.message().tag.0));
        }
        assert_eq!(arrived, (0..500).collect::<Vec<_>>());
    });
}

#[test]
fn all_that_waits_can_be_answered_and_its_senders_asked_before_the_queue_is_emptied() {
    with_engine(&StreamConfig::default(), |mut engine, mut node| {
        let (number, mut peer) = accepted(&mut engine);
        let mut sent = 0;
        while !engine.held {
            arrive(&mut engine, number, &mut peer, &(0..200).flat_map(ping).collect::<Vec<_>>());
            sent += 200;
            assert!(sent < 10_000, "nobody takes anything");
        }
        let waiting: Vec<Inbound> = node.take().into_iter().flatten().collect();
        assert!((ROOM - BATCH..=ROOM).contains(&waiting.len()));
        for asked in waiting {
            let answer = Outbound { path: Some(asked.path), ..Outbound::new(asked.from.clone(), asked.envelope) };
            node.outbox.send(answer).unwrap();
            node.outbox.send(Outbound::new(asked.from, messages::request(1))).unwrap();
        }
    });
}

#[test]
fn nobody_stalls_while_nothing_is_read() {
    with_engine(&impatient(), |mut engine, node| {
        engine.link.set_room(1);
        let ((slow, mut slow_peer), (fast, mut fast_peer)) = (accepted(&mut engine), accepted(&mut engine));
        let message = ping(1);
        arrive(&mut engine, slow, &mut slow_peer, &message[..7]);
        arrive(&mut engine, fast, &mut fast_peer, &ping(2));
        arrive(&mut engine, fast, &mut fast_peer, &ping(3));
        assert!(engine.held, "there is room for one");

        // The rest comes, and is not read.
        arrive(&mut engine, slow, &mut slow_peer, &message[7..]);
        engine.expire();
        for n in [2, 3, 1] {
            assert_eq!(node.take()[0][0].envelope, messages::request(n));
            engine.read();
        }
        engine.expire();
        assert_eq!((engine.pool.connections().len(), node.host.counts().stalled), (2, 0));

        // When nothing holds it up any more, it is the other side that does not go on.
        arrive(&mut engine, slow, &mut slow_peer, &message[..7]);
        engine.expire();
        assert_eq!((engine.pool.connections().len(), node.host.counts().stalled), (1, 1));
    });
}

#[test]
fn the_time_for_a_message_starts_again_when_it_can_be_read_again() {
    with_engine(&StreamConfig::default(), |mut engine, node| {
        engine.link.set_room(1);
        let ((slow, mut slow_peer), (fast, mut fast_peer)) = (accepted(&mut engine), accepted(&mut engine));
        let message = ping(1);
        arrive(&mut engine, slow, &mut slow_peer, &message[..7]);
        let before = engine.pool.connections()[&slow].deadline;
        arrive(&mut engine, fast, &mut fast_peer, &ping(2));
        arrive(&mut engine, fast, &mut fast_peer, &ping(3));
        arrive(&mut engine, slow, &mut slow_peer, &message[7..9]);
        assert_eq!((engine.held, engine.pool.connections()[&slow].deadline), (true, before));
        node.take();
        engine.read();
        assert!(before.is_some() && engine.pool.connections()[&slow].deadline > before);
    });
}

#[test]
fn who_reads_slowly_is_not_closed_and_who_stops_is() {
    with_engine(&impatient(), |mut engine, mut node| {
        let (number, mut peer) = accepted(&mut engine);
        while node.host.counts().unsent.queue_full == 0 {
            node.answer(number, 50_000);
            engine.take_outbound();
        }
        for _ in 0..2 {
            assert!(read_all(&mut peer) > 0);
            engine.expire();
            assert!(engine.pool.connections()[&number].writer.len() > 0, "there is more to write");
        }
        engine.expire();
        assert!(engine.pool.connections().is_empty() && engine.pool.first_deadline().is_none());
        assert_eq!(node.host.counts().stalled, 1);
    });
}

#[test]
fn who_does_not_read_the_answers_is_not_read_either_until_then() {
    with_engine(&StreamConfig::default(), |mut engine, mut node| {
        let (number, mut peer) = accepted(&mut engine);
        let mut asked: u64 = 0;
        let mut answered = 0;
        // It asks and reads nothing, until nobody listens any more.
        loop {
            arrive(&mut engine, number, &mut peer, &ping(asked));
            asked += 1;
            if node.take().is_empty() {
                break;
            }
            node.answer(number, 10_000);
            answered += 1;
            engine.take_outbound();
            assert!(engine.pool.connections()[&number].writer.len() < MAX_UNREAD_BYTES + 11_000);
        }
        assert_eq!(answered, asked - 1);

        let read = read_all(&mut peer);
        engine.handle_writable(number);
        engine.read();
        assert_eq!(node.take().concat().len(), 1, "it has read some, so it is heard again");
        assert!(read + read_all(&mut peer) > answered as usize * 10_000, "no answer was lost");
    });
}

#[test]
fn no_answer_is_lost_to_one_that_asks_much_at_once_and_reads_late() {
    with_engine(&StreamConfig::default(), |mut engine, mut node| {
        let (number, mut peer) = accepted(&mut engine);
        let (mut answered, mut read) = (0, 0);
        peer.write_all(&(0..1000).flat_map(ping).collect::<Vec<_>>()).unwrap();
        engine.pool.mark_ready(number);
        while answered < 1000 {
            engine.read();
            for _ in node.take().concat() {
                node.answer(number, 5000);
                answered += 1;
            }
            engine.take_outbound();
            if engine.pool.connections()[&number].muted {
                read += read_all(&mut peer);
                engine.handle_writable(number);
            }
        }
        while engine.pool.connections()[&number].writer.len() > 0 {
            read += read_all(&mut peer);
            engine.handle_writable(number);
        }
        assert_eq!(node.host.counts().unsent.queue_full, 0);
        assert!(read + read_all(&mut peer) > 1000 * 5000);
    });
}

#[test]
fn answers_are_read_however_much_waits_to_be_asked() {
    with_engine(&StreamConfig::default(), |mut engine, node| {
        let number = engine.dial(&"/memory/2".parse().unwrap()).unwrap();
        engine.handle_writable(number);
        let mut peer = engine.transport.0.lock().unwrap().pop().unwrap();
        arrive(&mut engine, number, &mut peer, &hello());
        let mut outbox = node.outbox;
        while engine.pool.connections()[&number].writer.len() <= MAX_UNREAD_BYTES {
            outbox.send(Outbound::new("/memory/2".parse().unwrap(), messages::store(1, 10_000))).unwrap();
            engine.take_outbound();
        }
        // Else two nodes that both ask and answer could wait for each other.
        peer.write_all(&framed(|bytes| codec::encode(&messages::reply(1), bytes).unwrap())).unwrap();
        engine.pool.mark_ready(number);
        engine.read();
        assert_eq!(node.events.len(), 1);
    });
}

/// What the engine should have counted.
fn buffered(engine: &Engine<'_, Pairs>) -> Buffered {
    let mut sum = Buffered::default();
    engine
        .pool
        .connections()
        .values()
        .for_each(|connection| sum.replace(&mut Buffered::default(), connection.buffered()));
    sum
}

/// Small enough to be filled at once.
fn small() -> StreamConfig {
    StreamConfig { max_buffered_bytes: 1024 * 1024, ..StreamConfig::default() }
}

#[test]
fn all_who_do_not_read_together_take_bounded_memory_and_a_reader_stays() {
    let config = small();
    with_engine(&config, |mut engine, mut node| {
        let (reader, mut reading) = accepted(&mut engine);
        let mut others = Vec::new();
        for _ in 0..100 {
            let (number, peer) = accepted(&mut engine);
            others.push(peer);
            for _ in 0..10 {
                node.answer(number, 50_000);
                node.answer(reader, 50_000);
                engine.take_outbound();
                assert_eq!(engine.pool.buffered(), buffered(&engine));
                assert!(engine.pool.buffered().for_others <= config.max_buffered_bytes);
                assert!(read_all(&mut reading) > 0);
                engine.handle_writable(reader);
            }
        }
        assert!(engine.pool.connections().contains_key(&reader));
        let closed = node.host.counts().displaced;
        assert!(closed > 50 && closed == 101 - engine.pool.connections().len() as u64, "{closed}");
    });
}

#[test]
fn all_unfinished_messages_together_take_bounded_memory_and_who_finishes_stays() {
    let config = small();
    with_engine(&config, |mut engine, node| {
        let (whole, mut finishing) = accepted(&mut engine);
        let message = framed(|bytes| codec::encode(&messages::store(1, 60_000), bytes).unwrap());
        let mut others = Vec::new();
        for n in 0..200 {
            let (number, mut peer) = accepted(&mut engine);
            let (half, rest) = message.split_at(message.len() / 2);
            arrive(&mut engine, whole, &mut finishing, half);
            arrive(&mut engine, number, &mut peer, &message[..message.len() - 1 - n]);
            others.push(peer);
            assert_eq!(engine.pool.buffered(), buffered(&engine));
            assert!(engine.pool.buffered().for_others <= config.max_buffered_bytes);
            arrive(&mut engine, whole, &mut finishing, rest);
            assert_eq!(node.take().len(), 1, "the message of who goes on");
        }
        let closed = node.host.counts().displaced;
        assert!(closed > 100 && closed == 201 - engine.pool.connections().len() as u64, "{closed}");
    });
}

#[test]
fn own_requests_take_bounded_memory_and_close_nothing() {
    with_engine(&StreamConfig::default(), |mut engine, mut node| {
        for n in 0..30 * 20 {
            let to = format!("/memory/{}", n % 30 + 2).parse().unwrap();
            node.outbox.send(Outbound::new(to, messages::store(n, 60_000))).unwrap();
            engine.take_outbound();
            assert_eq!(engine.pool.buffered(), buffered(&engine));
            assert!(engine.pool.buffered().for_requests < MAX_REQUEST_BYTES + 2 * MAX_UNSENT_BYTES);
        }
        assert_eq!(engine.pool.connections().len(), 30);
        assert!(node.host.counts().unsent.queue_full > 300);
        for number in 1..=30 {
            engine.pool.close(number, UnsentReason::Unreachable);
        }
        assert_eq!(engine.pool.buffered(), Buffered::default());
    });
}
