//! What a gateway does with peers that are no gateways: broken, slow, and gone.

use std::io::{ErrorKind, Read};
use std::thread;
use std::time::{Duration, Instant};

use multiaddr::Multiaddr;

use super::{Checked, ensure, ensure_eq, ensure_next};
use crate::conformance::messages::{request, store};
use crate::conformance::{Failure, RawStream, StreamWire, TestNode, Transport};
use crate::count::LinkCounts;
use crate::message::Envelope;

/// The size of a value whose message comes in parts.
const IN_PARTS: usize = 5000;

/// So many messages are begun and never finished.
const MANY_LOST: u64 = 2000;

/// How many datagrams are sent before it is waited until they were received: few enough for any receive buffer.
const VOLLEY: u64 = 32;

/// A peer that never says its whole greeting says another byte after this time.
const TRICKLE: Duration = Duration::from_millis(20);

pub(crate) fn drops_garbage(transport: &Transport) -> Checked {
    if transport.has_datagrams() {
        drops_datagrams_of_garbage(transport)?;
    }
    if let Some(wire) = transport.streams() {
        drops_frames_of_garbage(transport, wire)?;
        drops_garbage_for_a_greeting(transport, wire)?;
    }
    Ok(())
}

pub(crate) fn proves_no_datagram(transport: &Transport) -> Checked {
    let mut node = transport.start()?;
    let mut send = transport.open_datagrams(&node.address())?;
    send(&transport.encode(&request(1))).map_err(Failure::io("a datagram"))?;
    ensure_eq("whether a datagram proves where it comes from", &node.next()?.proved, &false)
}

fn drops_datagrams_of_garbage(transport: &Transport) -> Checked {
    let mut node = transport.start()?;
    let mut send = transport.open_datagrams(&node.address())?;
    for (n, garbage) in (1..).zip(transport.garbage()) {
        send(&garbage).map_err(Failure::io("a datagram of garbage"))?;
        node.wait_for_counts("garbage to be counted as malformed", |counts| counts.unreadable() == n)?;
    }
    send(&transport.encode(&request(1))).map_err(Failure::io("a datagram"))?;
    ensure_next(&mut node, &request(1))?;
    node.ensure_quiet()?;
    node.stop().map(drop)
}

fn drops_frames_of_garbage(transport: &Transport, wire: &StreamWire) -> Checked {
    let (mut node, other) = (transport.start()?, transport.start()?);
    let mut peer = RawPeer::greet(transport, wire, &node, &other.address())?;
    let garbage = transport.garbage();
    for payload in &garbage {
        peer.write(&wire.frame(payload))?;
    }
    // By the same connection, and the garbage comes before it.
    peer.send(&request(1))?;
    ensure_next(&mut node, &request(1))?;
    let counts = node.host.counts();
    let LinkCounts { malformed, other_version, .. } = counts;
    let expected = LinkCounts { received: 1, malformed, other_version, ..LinkCounts::default() };
    ensure_eq("the counts after frames of garbage and one message", &counts, &expected)?;
    ensure_eq("the frames that could not be read", &counts.unreadable(), &(garbage.len() as u64))?;
    node.stop().map(drop)
}

/// Garbage on connections that stay open, from those who have not greeted.
fn drops_garbage_for_a_greeting(transport: &Transport, wire: &StreamWire) -> Checked {
    let (mut node, other) = (transport.start()?, transport.start()?);
    let mut strangers = Vec::new();
    for garbage in transport.garbage() {
        let mut stranger = RawPeer::connect(transport, wire, &node)?;
        // The gateway may have closed the connection already.
        stranger.write(&garbage).ok();
        strangers.push(stranger);
    }
    let mut peer = RawPeer::greet(transport, wire, &node, &other.address())?;
    peer.send(&request(1))?;
    ensure_next(&mut node, &request(1))?;
    node.ensure_quiet()?;
    node.stop().map(drop)
}

pub(crate) fn drops_oversized(transport: &Transport) -> Checked {
    if transport.has_datagrams() {
        let mut node = transport.start()?;
        let mut send = transport.open_datagrams(&node.address())?;
        let size = transport.largest_datagram().unwrap_or(node.outbox.limits().largest) + 1;
        send(&vec![1; size]).map_err(Failure::io("a datagram that is too large"))?;
        node.wait_for_counts("a datagram beyond the limit counted as oversized", |counts| counts.oversized == 1)?;
        send(&transport.encode(&request(1))).map_err(Failure::io("a datagram"))?;
        ensure_next(&mut node, &request(1))?;
    }
    let Some(wire) = transport.streams() else { return Ok(()) };
    let (mut node, other) = (transport.start()?, transport.start()?);
    let mut stays = RawPeer::greet(transport, wire, &node, &other.address())?;
    let mut peer = RawPeer::greet(transport, wire, &node, &other.address())?;
    peer.send(&request(1))?;
    peer.write(wire.too_long())?;
    ensure_next(&mut node, &request(1))?;
    node.wait_for_counts("a frame beyond the limit counted as oversized", |counts| counts.oversized == 1)?;
    peer.ensure_closed(transport.deadline(), "a connection on which nobody knows where the next frame begins")?;
    stays.send(&request(2))?;
    ensure_next(&mut node, &request(2))?;
    let mut new = RawPeer::greet(transport, wire, &node, &other.address())?;
    new.send(&request(3))?;
    ensure_next(&mut node, &request(3)).map(drop)
}

pub(crate) fn bears_lost_parts(transport: &Transport) -> Checked {
    let mut node = transport.start()?;
    let mut send = transport.open_datagrams(&node.address())?;
    let mut send = |datagram: &[u8]| send(datagram).map_err(Failure::io("a part of a message"));
    let split = |tag| transport.split(&store(tag, IN_PARTS));
    let in_order = split(1)?;
    ensure(in_order.len() > 1, "several datagrams for a message", || format!("it has {}", in_order.len()))?;
    in_order.iter().try_for_each(|part| send(part))?;
    let whole = ensure_next(&mut node, &store(1, IN_PARTS))?;
    let bytes = in_order.iter().map(Vec::len).sum();
    ensure_eq("the size of a message, which is that of its datagrams", &whole.bytes, &bytes)?;

    split(2)?.iter().rev().try_for_each(|part| send(part))?;
    ensure_next(&mut node, &store(2, IN_PARTS))?;

    // As many parts as there are, and the last one is missing.
    let mut parts = split(3)?;
    let last = parts.pop().ok_or(Failure::NotDescribed("parts"))?;
    parts.iter().chain(parts.first()).try_for_each(|part| send(part))?;
    send(&transport.encode(&request(4)))?;
    ensure_next(&mut node, &request(4))?;
    node.ensure_quiet()?;
    send(&last)?;
    ensure_next(&mut node, &store(3, IN_PARTS))?;

    // Those of two messages in turn, and of neither all: then both are sent again.
    for lost in [true, false] {
        let (one, other) = (split(5)?, split(6)?);
        for (one, other) in one.iter().zip(&other).skip(usize::from(lost)) {
            send(one)?;
            send(other)?;
        }
    }
    ensure_next(&mut node, &store(5, IN_PARTS))?;
    ensure_next(&mut node, &store(6, IN_PARTS))?;

    // Far more than can be waited for.
    for n in 0..MANY_LOST {
        let parts = split(n)?;
        parts.iter().skip(1).take(1).try_for_each(|part| send(part))?;
        if n % VOLLEY == 0 {
            send(&transport.encode(&request(n)))?;
            ensure_next(&mut node, &request(n))?;
        }
    }
    split(7)?.iter().try_for_each(|part| send(part))?;
    ensure_next(&mut node, &store(7, IN_PARTS))?;
    node.ensure_quiet()?;
    node.stop().map(drop)
}

pub(crate) fn bears_slow_peers(transport: &Transport) -> Checked {
    let wire = described(transport)?;
    let (mut node, mut other) = (transport.start()?, transport.start()?);
    // One byte at a time, the greeting as well, and a message of another one after each.
    let mut slow = RawPeer::connect(transport, wire, &node)?;
    let mut fast = RawPeer::greet(transport, wire, &node, &other.address())?;
    let bytes = [wire.greeting(&other.address()), slow.framed(&request(1_000_000))].concat();
    let (last, first) = bytes.split_last().ok_or_else(|| Failure::unexpected("an encoding", "it has no bytes"))?;
    for (n, byte) in (0..).zip(first) {
        slow.write(&[*byte])?;
        fast.send(&request(n))?;
        ensure_next(&mut node, &request(n))?;
    }
    other.send_patiently(&node.address(), &request(2_000_000))?;
    ensure_next(&mut node, &request(2_000_000))?;
    slow.write(&[*last])?;
    ensure_next(&mut node, &request(1_000_000))?;

    // Many messages in one piece.
    let together: Vec<u8> = (0..100).flat_map(|n| slow.framed(&request(n))).collect();
    slow.write(&together)?;
    for n in 0..100 {
        ensure_next(&mut node, &request(n))?;
    }
    let large = node.outbox.limits().largest.saturating_sub(1000);
    slow.send(&store(101, large))?;
    ensure_next(&mut node, &store(101, large))?;
    let counts = node.host.counts();
    let unharmed = LinkCounts { received: counts.received, ..LinkCounts::default() };
    ensure(counts == unharmed, "nothing but good messages", || format!("the counts are {counts:?}"))
}

pub(crate) fn bears_lost_peers(transport: &Transport) -> Checked {
    let wire = described(transport)?;
    let (mut node, other) = (transport.start()?, transport.start()?);
    let mut stays = RawPeer::greet(transport, wire, &node, &other.address())?;
    // An orderly end, of which nothing is lost on the way.
    let mut goes = RawPeer::greet(transport, wire, &node, &other.address())?;
    goes.write(&piece(&goes))?;
    goes.stream.end_writing().map_err(Failure::io("the end of a connection past the gateway"))?;
    node.wait_for_counts("a piece of a message counted as malformed", |counts| counts.malformed == 1)?;
    goes.ensure_closed(transport.deadline(), "a connection that the other side ended")?;
    // One that breaks down, and one that goes within its greeting.
    let mut breaks = RawPeer::greet(transport, wire, &node, &other.address())?;
    breaks.write(&piece(&breaks))?;
    drop(breaks);
    let greeting = wire.greeting(&other.address());
    let mut greets = RawPeer::connect(transport, wire, &node)?;
    greets.write(greeting.get(..greeting.len() / 2).unwrap_or_default())?;
    drop(greets);
    stays.send(&request(2))?;
    ensure_next(&mut node, &request(2))?;
    node.stop().map(drop)
}

/// The first half of a message.
fn piece(peer: &RawPeer) -> Vec<u8> {
    let mut frame = peer.framed(&store(1, 1000));
    frame.truncate(frame.len() / 2);
    frame
}

pub(crate) fn closes_silent_peers(transport: &Transport) -> Checked {
    let wire = described(transport)?;
    let timeout = wire.greeting_timeout().ok_or(Failure::NotDescribed("a timeout for greetings"))?;
    let (mut node, other) = (transport.start()?, transport.start()?);
    let mut greeted = RawPeer::greet(transport, wire, &node, &other.address())?;
    greeted.send(&request(0))?;
    ensure_next(&mut node, &request(0))?;

    let mut silent = RawPeer::connect(transport, wire, &node)?;
    let mut trickles = RawPeer::connect(transport, wire, &node)?;
    let greeting = wire.greeting(&other.address());
    let all_but_the_last = greeting.get(..greeting.len().saturating_sub(1)).unwrap_or_default();
    let until = Instant::now() + timeout + transport.deadline();
    for byte in all_but_the_last {
        // It fails when the gateway has closed the connection, as it should.
        if Instant::now() > until || trickles.write(&[*byte]).is_err() {
            break;
        }
        thread::park_timeout(TRICKLE);
    }
    let time = timeout + transport.deadline();
    trickles.ensure_closed(time, "a connection whose greeting is not whole")?;
    silent.ensure_closed(time, "a connection without a greeting")?;
    node.wait_for_counts("two closed connections counted as such", |counts| counts.greeting_late == 2)?;
    // One that said hello may be silent as long as it likes.
    greeted.send(&request(1))?;
    ensure_next(&mut node, &request(1)).map(drop)
}

fn described(transport: &Transport) -> Result<&StreamWire, Failure> {
    transport.streams().ok_or(Failure::NotDescribed("raw streams"))
}

/// A peer that is no gateway.
struct RawPeer<'a> {
    stream: Box<dyn RawStream>,
    transport: &'a Transport,
    wire: &'a StreamWire,
}

impl<'a> RawPeer<'a> {
    /// Connects and says nothing.
    fn connect(transport: &'a Transport, wire: &'a StreamWire, node: &TestNode) -> Result<Self, Failure> {
        Ok(RawPeer { stream: wire.connect(&node.address())?, transport, wire })
    }

    /// Connects and says that it listens on `own`.
    fn greet(
        transport: &'a Transport,
        wire: &'a StreamWire,
        node: &TestNode,
        own: &Multiaddr,
    ) -> Result<Self, Failure> {
        let mut peer = RawPeer::connect(transport, wire, node)?;
        peer.write(&wire.greeting(own))?;
        Ok(peer)
    }

    fn framed(&self, envelope: &Envelope) -> Vec<u8> {
        self.wire.frame(&self.transport.encode(envelope))
    }

    fn send(&mut self, envelope: &Envelope) -> Checked {
        let bytes = self.framed(envelope);
        self.write(&bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Checked {
        let written = self.stream.write_all(bytes).and_then(|()| self.stream.flush());
        written.map_err(Failure::io("writing to a connection past the gateway"))
    }

    /// Waits until the gateway has closed the connection; what it says before does not matter.
    fn ensure_closed(&mut self, time: Duration, what: &str) -> Checked {
        let until = Instant::now() + time;
        let mut buffer = [0; 4096];
        loop {
            let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.stream.set_read_timeout(left).map_err(Failure::io("a timeout for reading"))?;
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) => match error.kind() {
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => return Ok(()),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    _ => return Err(Failure::io("reading from a connection past the gateway")(error)),
                },
            }
            if Instant::now() >= until {
                return Err(Failure::late(format!("the end of {what}"), time));
            }
        }
    }
}
