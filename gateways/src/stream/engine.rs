//! The loop that serves a listener and all of its connections on one thread.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Interest, Token};
use multiaddr::Multiaddr;

use super::accepting::Accepting;
use super::connection::{Broken, Buffered, Connection, Origin};
use super::incoming::Nonsense;
use super::{BATCH, LISTENER, Open, QUEUE, ROOM, StreamConfig, Transport, WAKER};
use crate::count::Count;
use crate::gateway::{Inbound, Outbound, ReplyPath, UnsentReason};
use crate::link::Link;

/// How many connections are accepted before those that are there have their turn.
const ACCEPTS_IN_A_TURN: usize = 64;

/// How much is read at once at the most.
const SCRATCH_BYTES: usize = 32 * 1024;

/// So many bytes for one connection are written before more messages are taken from the queue.
const FLUSHED_AT_ONCE: usize = 64 * 1024;

/// While requests of this node that wait take this much memory on all connections, in bytes, no more are taken.
const MAX_REQUEST_BYTES: usize = 16 * 1024 * 1024;

pub(super) struct Engine<'a, T: Transport> {
    open: Open<T>,
    transport: &'a T,
    link: &'a Link,
    config: &'a StreamConfig,
    own: &'a Multiaddr,
    next_number: &'a mut u64,
    connections: HashMap<u64, Connection<T>>,
    /// The connections that we dialled, by the address that we dialled.
    dialled: HashMap<Multiaddr, u64>,
    /// What must not take longer than until then, first things first.
    deadlines: BTreeSet<(Instant, u64)>,
    /// The connections that may have something to read.
    ready: VecDeque<u64>,
    /// The connections with new messages to write.
    dirty: Vec<u64>,
    /// What has been read and not been delivered.
    batch: VecDeque<Inbound>,
    /// The node does not keep up: nothing is read until it does.
    held: bool,
    /// There may be more in the outbound queue.
    more_outbound: bool,
    accepting: Accepting,
    /// What all connections take together.
    buffered: Buffered,
    /// Counts what was done with connections.
    uses: u64,
    scratch: Box<[u8]>,
}

impl<'a, T: Transport> Engine<'a, T> {
    pub(super) fn new(
        open: Open<T>,
        transport: &'a T,
        link: &'a Link,
        config: &'a StreamConfig,
        own: &'a Multiaddr,
        next_number: &'a mut u64,
    ) -> Self {
        link.set_room(ROOM);
        Engine {
            open,
            transport,
            link,
            config,
            own,
            next_number,
            connections: HashMap::new(),
            dialled: HashMap::new(),
            deadlines: BTreeSet::new(),
            ready: VecDeque::new(),
            dirty: Vec::new(),
            batch: VecDeque::new(),
            held: false,
            more_outbound: true,
            accepting: Accepting::default(),
            buffered: Buffered::default(),
            uses: 0,
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
        }
    }

    /// Serves until the link stops. Each round does a bounded amount of everything that there is to do.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        while !self.link.stopping() {
            match self.open.poll.poll(&mut events, self.timeout()) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result?,
            }
            self.open.awake.store(true, Ordering::SeqCst);
            for event in &events {
                self.handle_event(event);
            }
            self.accept();
            // Before reading, which may show that a connection leads to nobody: then these are told so, too.
            self.take_outbound();
            self.read();
            self.expire();
            // Before looking: what is queued from here on wakes this thread again.
            self.open.awake.swap(false, Ordering::SeqCst);
            self.take_outbound();
        }
        Ok(())
    }

    /// How long to wait for an event: for ever, if there is nothing to do and no deadline.
    fn timeout(&self) -> Option<Duration> {
        let more_to_read = !self.held && !self.ready.is_empty();
        if self.more_outbound || self.accepting.has_more() || more_to_read {
            return Some(Duration::ZERO);
        }
        let deadline = self.deadlines.first().map(|(at, _)| *at);
        let next = [deadline, self.accepting.again_at()].into_iter().flatten().min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    fn handle_event(&mut self, event: &Event) {
        match event.token() {
            WAKER => {}
            LISTENER => self.accepting.wake(),
            Token(number) => {
                let number = number as u64;
                if event.is_writable() || event.is_error() {
                    self.handle_writable(number);
                }
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    self.mark_ready(number);
                }
            }
        }
    }

    fn handle_writable(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        if connection.connecting {
            match T::is_connected(&connection.stream) {
                Ok(false) => return,
                Ok(true) => connection.connecting = false,
                Err(error) => {
                    log::debug!("connecting: {error}");
                    return self.close(number, UnsentReason::of(&error));
                }
            }
            self.set_deadline(number, later(self.config.hello_timeout));
            // Something to read may have been told before, once and for all.
            self.mark_ready(number);
        }
        self.flush(number);
    }

    fn mark_ready(&mut self, number: u64) {
        if let Some(connection) = self.connections.get_mut(&number)
            && !connection.connecting
            && !std::mem::replace(&mut connection.readable, true)
        {
            self.ready.push_back(number);
        }
    }

    /// Takes what the node wants to send, and writes it.
    fn take_outbound(&mut self) {
        self.more_outbound = true;
        for _ in 0..QUEUE {
            let Ok(outbound) = self.open.outbound.try_recv() else {
                self.more_outbound = false;
                break;
            };
            self.send(outbound);
        }
        for number in std::mem::take(&mut self.dirty) {
            self.flush(number);
        }
    }

    fn send(&mut self, mut outbound: Outbound) {
        match self.push(&mut outbound) {
            // Small messages leave together.
            Ok((number, unsent)) if unsent >= FLUSHED_AT_ONCE => self.flush(number),
            // Repeated numbers are cheap: the second flush has nothing to write.
            Ok((number, _)) if self.dirty.last() != Some(&number) => self.dirty.push(number),
            Ok(_) => {}
            Err(reason) => self.link.unsent(outbound.envelope.own_request(), reason),
        }
    }

    /// Adds a message to what waits on its connection. Gives that, and how many bytes wait there.
    fn push(&mut self, outbound: &mut Outbound) -> Result<(u64, usize), UnsentReason> {
        if self.buffered.for_requests >= MAX_REQUEST_BYTES && outbound.envelope.own_request().is_some() {
            return Err(UnsentReason::QueueFull);
        }
        let number = self.route(outbound)?;
        let connection = self.connections.get_mut(&number).ok_or(UnsentReason::Unreachable)?;
        connection.writer.push(outbound)?;
        self.uses += 1;
        connection.used = self.uses;
        Ok((number, connection.writer.len()))
    }

    /// The connection for a message: for an answer the one that it answers by, else only one that we dialled.
    fn route(&mut self, outbound: &Outbound) -> Result<u64, UnsentReason> {
        if let Some(ReplyPath(number)) = outbound.path
            && self.connections.contains_key(&number)
        {
            return Ok(number);
        }
        match self.dialled.get(&outbound.to) {
            Some(number) => Ok(*number),
            None => self.dial(&outbound.to),
        }
    }

    fn dial(&mut self, to: &Multiaddr) -> Result<u64, UnsentReason> {
        if !self.transport.dials(to) {
            return Err(UnsentReason::NotDialable);
        }
        self.make_room();
        let stream = self.transport.connect(to).map_err(|error| UnsentReason::of(&error))?;
        let number = self.add(stream, Origin::Dialled(to.clone()), self.config.connect_timeout);
        let number = number.map_err(|error| UnsentReason::of(&error))?;
        self.dialled.insert(to.clone(), number);
        Ok(number)
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTS_IN_A_TURN {
            if !self.accepting.has_more() {
                return;
            }
            if let Some((stream, observed)) = self.accepting.attempt::<T>(&self.open.listener, self.link) {
                self.add_accepted(stream, observed);
            }
        }
    }

    fn add_accepted(&mut self, stream: T::Stream, observed: Option<IpAddr>) {
        self.make_room();
        match self.add(stream, Origin::Accepted(observed), self.config.hello_timeout) {
            Ok(number) => self.flush(number),
            Err(error) => {
                log::debug!("accepting a connection: {error}");
                self.link.count(Count::SocketError);
            }
        }
    }

    fn add(&mut self, mut stream: T::Stream, origin: Origin, timeout: Duration) -> io::Result<u64> {
        let number = *self.next_number;
        let token = Token(usize::try_from(number).map_err(io::Error::other)?);
        self.open.poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        *self.next_number += 1;
        self.uses += 1;
        let mut connection = Connection::new(stream, origin, ReplyPath(number), self.own);
        connection.used = self.uses;
        self.connections.insert(number, connection);
        self.set_deadline(number, later(timeout));
        Ok(number)
    }

    /// Closes the connection that was idle longest, where there is no room for another.
    ///
    /// Those that have not even said hello go first, once they are many: they cannot drive out all others.
    fn make_room(&mut self) {
        while self.connections.len() >= self.config.max_connections.max(1) {
            let strangers = self.connections.values().filter(|connection| connection.is_stranger()).count();
            let many = strangers > self.config.max_connections / 4;
            let candidates = self.connections.iter().filter(|(_, connection)| !many || connection.is_stranger());
            let idlest = candidates.min_by_key(|(_, connection)| connection.used).map(|(number, _)| *number);
            let Some(idlest) = idlest else { return };
            self.link.count(Count::Displaced);
            self.close(idlest, UnsentReason::QueueFull);
        }
    }

    /// Reads from each connection that is ready for one turn, and hands over what came.
    fn read(&mut self) {
        if self.held {
            self.deliver();
        }
        for _ in 0..self.ready.len() {
            if self.held {
                return;
            }
            let Some(number) = self.ready.pop_front() else { break };
            self.read_one(number);
            if self.batch.len() >= BATCH {
                self.deliver();
            }
        }
        self.deliver();
    }

    fn read_one(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        connection.muted = connection.asks_too_much();
        if connection.muted {
            return;
        }
        connection.readable = false;
        let (greeted, before) = (connection.is_greeted(), self.batch.len());
        let more = connection.read(&mut self.scratch, self.link, &mut self.batch);
        if self.batch.len() > before {
            self.uses += 1;
            connection.used = self.uses;
        }
        let greeted_now = !greeted && connection.is_greeted();
        if greeted_now && more.is_ok() {
            // What waited for the hello.
            self.flush(number);
        }
        match more {
            Ok(more) => {
                self.settle(number);
                if more {
                    self.mark_ready(number);
                }
            }
            Err(broken) => {
                match broken {
                    Broken::Ended => {}
                    Broken::Nonsense(Nonsense::Hello) => self.link.count(Count::GreetingWrong),
                    Broken::Nonsense(Nonsense::Oversized) => self.link.count(Count::Oversized),
                }
                self.close(number, UnsentReason::Unreachable);
            }
        }
    }

    /// Hands over what has been read, little at a time: the node may answer on this thread, and while it does nobody
    /// empties the queue that it answers into.
    fn deliver(&mut self) {
        let was_held = std::mem::take(&mut self.held);
        while !self.held && !self.batch.is_empty() {
            let next = self.batch.drain(..self.batch.len().min(BATCH)).collect();
            if let Err(refused) = self.link.deliver(next) {
                self.held = true;
                refused.into_iter().rev().for_each(|message| self.batch.push_front(message));
            }
            self.take_outbound();
        }
        if was_held && !self.held {
            // Nobody could get on while nothing was read.
            for number in &self.ready {
                if let Some(connection) = self.connections.get_mut(number) {
                    connection.restart_frame();
                }
            }
        }
    }

    fn flush(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let flushed = if connection.connecting { Ok(()) } else { connection.flush() };
        match flushed {
            Ok(()) => self.settle(number),
            Err(error) => {
                log::debug!("writing to a connection: {error}");
                self.close(number, UnsentReason::Unreachable);
            }
        }
    }

    /// Closes what took too long.
    fn expire(&mut self) {
        self.accepting.resume_if_due();
        if self.deadlines.is_empty() {
            return;
        }
        let due = (Instant::now(), u64::MAX);
        for (at, number) in self.deadlines.range(..=due).copied().collect::<Vec<_>>() {
            self.expire_one(number, at);
        }
    }

    fn expire_one(&mut self, number: u64, at: Instant) {
        // It may be full only because the system tells late that there is room again.
        self.flush(number);
        let Some(connection) = self.connections.get_mut(&number) else { return };
        if connection.readable && !connection.connecting {
            // What is missing may have come: it is we who do not read.
            connection.restart_frame();
            if !connection.is_greeted() {
                self.set_deadline(number, later(self.config.hello_timeout));
            }
        }
        self.settle(number);
        let Some(connection) = self.connections.get(&number).filter(|connection| connection.deadline == Some(at))
        else {
            return;
        };
        match (connection.connecting, connection.is_greeted()) {
            (true, _) => {}
            (false, false) => self.link.count(Count::GreetingLate),
            (false, true) => self.link.count(Count::Stalled),
        }
        self.close(number, UnsentReason::Unreachable);
    }

    /// Sees to what follows when a connection was read or written.
    fn settle(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let buffered = connection.buffered();
        self.buffered.replace(&mut connection.counted, buffered);
        if connection.muted && !connection.asks_too_much() {
            connection.muted = false;
            connection.restart_frame();
            self.ready.push_back(number);
        }
        if connection.is_greeted() {
            // It has a deadline for as long as the other side owes something.
            let deadline = connection.stalled_since().and_then(|since| since.checked_add(self.config.stall_timeout));
            self.set_deadline(number, deadline);
        }
        while self.buffered.for_others > self.config.max_buffered_bytes && self.close_one_that_takes_too_much() {}
    }

    /// Closes the connection that has stalled longest of those that take more than an even share: one that gets on, or
    /// takes little, is not driven out by others.
    fn close_one_that_takes_too_much(&mut self) -> bool {
        let share = self.config.max_buffered_bytes / self.config.max_connections.max(1);
        let greedy = self.connections.iter().filter(|(_, connection)| connection.counted.for_others > share);
        let slowest = greedy.min_by_key(|(_, connection)| (connection.deadline.is_none(), connection.deadline));
        let Some(slowest) = slowest.map(|(number, _)| *number) else { return false };
        self.link.count(Count::Displaced);
        self.close(slowest, UnsentReason::QueueFull);
        true
    }

    fn set_deadline(&mut self, number: u64, deadline: Option<Instant>) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        if let Some(old) = std::mem::replace(&mut connection.deadline, deadline) {
            self.deadlines.remove(&(old, number));
        }
        self.deadlines.extend(deadline.map(|at| (at, number)));
    }

    /// Closes a connection, and tells the node of all requests that have not gone out by it.
    fn close(&mut self, number: u64, reason: UnsentReason) {
        let Some(mut connection) = self.connections.remove(&number) else { return };
        self.buffered.replace(&mut connection.counted, Buffered::default());
        self.open.poll.registry().deregister(&mut connection.stream).ok();
        if let Some(deadline) = connection.deadline {
            self.deadlines.remove(&(deadline, number));
        }
        if let Origin::Dialled(address) = &connection.origin
            && self.dialled.get(address) == Some(&number)
        {
            self.dialled.remove(address);
        }
        for request in connection.writer.unsent() {
            self.link.unsent(request, reason);
        }
        self.accepting.resume();
    }
}

/// The time after so long; `None` if that never comes.
fn later(after: Duration) -> Option<Instant> {
    Instant::now().checked_add(after)
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::super::connection::{MAX_UNREAD_BYTES, MAX_UNSENT_BYTES};
    use super::super::hello;
    use super::*;
    use crate::codec::{self, SizeLimits};
    use crate::conformance::messages;
    use crate::gateway::{Outbox, Queue};
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
            let found = Found { record, held: None, contacts: Vec::new(), token: Token(1) };
            let envelope = messages::message(1, Body::Reply(Reply::Found(found)));
            let answer = Outbound::new("/memory/2".parse().unwrap(), envelope);
            self.outbox.send(Outbound { path: Some(ReplyPath(number)), ..answer }).unwrap();
        }
    }

    /// Something comes, and is read.
    fn arrive(engine: &mut Engine<'_, Pairs>, number: u64, peer: &mut UnixStream, bytes: &[u8]) {
        peer.write_all(bytes).unwrap();
        engine.mark_ready(number);
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
        test(Engine::new(open, &transport, &link, config, &own, &mut next_number), node);
    }

    /// A connection that somebody opened who has sent a hello, and its number.
    fn accepted(engine: &mut Engine<'_, Pairs>) -> (u64, UnixStream) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        engine.add_accepted(ours, None);
        let number = *engine.next_number - 1;
        arrive(engine, number, &mut theirs, &hello());
        assert!(engine.connections[&number].is_greeted());
        (number, theirs)
    }

    #[test]
    fn what_could_be_read_before_the_connection_was_there_is_read() {
        with_engine(&StreamConfig::default(), |mut engine, _node| {
            let number = engine.dial(&"/memory/2".parse().unwrap()).unwrap();
            engine.transport.0.lock().unwrap()[0].write_all(&hello()).unwrap();

            // Two events, in this order, as some systems report the two directions apart.
            engine.mark_ready(number);
            engine.handle_writable(number);
            engine.read();
            assert!(engine.connections[&number].is_greeted());
        });
    }

    #[test]
    fn little_is_handed_over_at_a_time_and_what_is_refused_waits_in_order() {
        with_engine(&StreamConfig::default(), |mut engine, node| {
            engine.link.set_room(2 * BATCH);
            let (number, mut peer) = accepted(&mut engine);
            peer.write_all(&(0..500).flat_map(ping).collect::<Vec<_>>()).unwrap();
            engine.mark_ready(number);
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
            assert_eq!((engine.connections.len(), node.host.counts().stalled), (2, 0));

            // When nothing holds it up any more, it is the other side that does not go on.
            arrive(&mut engine, slow, &mut slow_peer, &message[..7]);
            engine.expire();
            assert_eq!((engine.connections.len(), node.host.counts().stalled), (1, 1));
        });
    }

    #[test]
    fn the_time_for_a_message_starts_again_when_it_can_be_read_again() {
        with_engine(&StreamConfig::default(), |mut engine, node| {
            engine.link.set_room(1);
            let ((slow, mut slow_peer), (fast, mut fast_peer)) = (accepted(&mut engine), accepted(&mut engine));
            let message = ping(1);
            arrive(&mut engine, slow, &mut slow_peer, &message[..7]);
            let before = engine.connections[&slow].deadline;
            arrive(&mut engine, fast, &mut fast_peer, &ping(2));
            arrive(&mut engine, fast, &mut fast_peer, &ping(3));
            arrive(&mut engine, slow, &mut slow_peer, &message[7..9]);
            assert_eq!((engine.held, engine.connections[&slow].deadline), (true, before));
            node.take();
            engine.read();
            assert!(before.is_some() && engine.connections[&slow].deadline > before);
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
                assert!(engine.connections[&number].writer.len() > 0, "there is more to write");
            }
            engine.expire();
            assert!(engine.connections.is_empty() && engine.deadlines.is_empty());
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
                assert!(engine.connections[&number].writer.len() < MAX_UNREAD_BYTES + 11_000);
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
            engine.mark_ready(number);
            while answered < 1000 {
                engine.read();
                for _ in node.take().concat() {
                    node.answer(number, 5000);
                    answered += 1;
                }
                engine.take_outbound();
                if engine.connections[&number].muted {
                    read += read_all(&mut peer);
                    engine.handle_writable(number);
                }
            }
            while engine.connections[&number].writer.len() > 0 {
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
            while engine.connections[&number].writer.len() <= MAX_UNREAD_BYTES {
                outbox.send(Outbound::new("/memory/2".parse().unwrap(), messages::store(1, 10_000))).unwrap();
                engine.take_outbound();
            }
            // Else two nodes that both ask and answer could wait for each other.
            peer.write_all(&framed(|bytes| codec::encode(&messages::reply(1), bytes).unwrap())).unwrap();
            engine.mark_ready(number);
            engine.read();
            assert_eq!(node.events.len(), 1);
        });
    }

    /// What the engine should have counted.
    fn buffered(engine: &Engine<'_, Pairs>) -> Buffered {
        let mut sum = Buffered::default();
        engine.connections.values().for_each(|connection| sum.replace(&mut Buffered::default(), connection.buffered()));
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
                    assert_eq!(engine.buffered, buffered(&engine));
                    assert!(engine.buffered.for_others <= config.max_buffered_bytes);
                    assert!(read_all(&mut reading) > 0);
                    engine.handle_writable(reader);
                }
            }
            assert!(engine.connections.contains_key(&reader));
            let closed = node.host.counts().displaced;
            assert!(closed > 50 && closed == 101 - engine.connections.len() as u64, "{closed}");
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
                assert_eq!(engine.buffered, buffered(&engine));
                assert!(engine.buffered.for_others <= config.max_buffered_bytes);
                arrive(&mut engine, whole, &mut finishing, rest);
                assert_eq!(node.take().len(), 1, "the message of who goes on");
            }
            let closed = node.host.counts().displaced;
            assert!(closed > 100 && closed == 201 - engine.connections.len() as u64, "{closed}");
        });
    }

    #[test]
    fn own_requests_take_bounded_memory_and_close_nothing() {
        with_engine(&StreamConfig::default(), |mut engine, mut node| {
            for n in 0..30 * 20 {
                let to = format!("/memory/{}", n % 30 + 2).parse().unwrap();
                node.outbox.send(Outbound::new(to, messages::store(n, 60_000))).unwrap();
                engine.take_outbound();
                assert_eq!(engine.buffered, buffered(&engine));
                assert!(engine.buffered.for_requests < MAX_REQUEST_BYTES + 2 * MAX_UNSENT_BYTES);
            }
            assert_eq!(engine.connections.len(), 30);
            assert!(node.host.counts().unsent.queue_full > 300);
            for number in 1..=30 {
                engine.close(number, UnsentReason::Unreachable);
            }
            assert_eq!(engine.buffered, Buffered::default());
        });
    }
}
