//! One connection: its hello, what comes in, and what waits to go out.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::IpAddr;
use std::time::Instant;

use multiaddr::Multiaddr;

use super::batch::Batch;
use super::incoming::{Arrived, Incoming, Nonsense};
use super::{Transport, hello};
use crate::codec::{self, SizeLimits};
use crate::count::Count;
use crate::frame;
use crate::gateway::{Inbound, Outbound, ReplyPath, UnsentReason};
use crate::link::Link;
use crate::message::Tag;

/// Beyond this many unsent bytes a connection takes no more messages.
pub(super) const MAX_UNSENT_BYTES: usize = 1024 * 1024;

/// While the other side leaves more than this many bytes of answers unread, it is not read either.
pub(super) const MAX_UNREAD_BYTES: usize = 64 * 1024;

/// A write buffer keeps no more than this many bytes of memory while it is empty.
const MAX_KEPT: usize = 4 * 1024;

/// Nor does it keep places for more messages than this.
const MAX_KEPT_ENDS: usize = 64;

/// So much is read at once, or what is missing of a large message. Not more, as it may be many small requests, and only
/// then is it seen whether the answers are read.
const READ_BYTES: usize = 4 * 1024;

/// How often one connection is read before the others have their turn.
const READS_IN_A_TURN: usize = 8;

/// Where a connection came from.
pub(super) enum Origin {
    /// We dialled this address.
    Dialled(Multiaddr),
    /// We accepted it, from this IP if the transport has such.
    Accepted(Option<IpAddr>),
}

/// Why a connection cannot go on.
pub(super) enum Broken {
    /// The other side closed it, or it failed.
    Ended,
    /// What it sent makes no sense.
    Nonsense(Nonsense),
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Broken::Ended
    }
}

impl From<Nonsense> for Broken {
    fn from(nonsense: Nonsense) -> Self {
        Broken::Nonsense(nonsense)
    }
}

/// Memory for what is unfinished, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Buffered {
    /// The other side makes us take it: messages whose end has not come, and answers that it has not read.
    pub(super) for_others: usize,
    /// Requests of this node that have not been written.
    pub(super) for_requests: usize,
}

impl Buffered {
    /// Changes the sum when one part of it changes.
    pub(super) fn replace(&mut self, part: &mut Buffered, new: Buffered) {
        self.for_others = self.for_others - part.for_others + new.for_others;
        self.for_requests = self.for_requests - part.for_requests + new.for_requests;
        *part = new;
    }
}

pub(super) struct Connection<T: Transport> {
    pub(super) stream: T::Stream,
    pub(super) origin: Origin,
    /// The connection is not there yet.
    pub(super) connecting: bool,
    /// Where its messages come from; known once the hello has come.
    from: Option<Multiaddr>,
    path: ReplyPath,
    incoming: Incoming,
    pub(super) writer: WriteBuffer,
    /// What it took when that was last counted.
    pub(super) counted: Buffered,
    /// When it must have come further.
    pub(super) deadline: Option<Instant>,
    /// When the frame began that has not come in full.
    frame_since: Option<Instant>,
    /// Since when nothing could be written of what waits.
    stuck_since: Option<Instant>,
    /// When it was last used, on a clock that counts uses.
    pub(super) used: u64,
    /// There may be something to read.
    pub(super) readable: bool,
    /// It is not read until it reads more of what it asked for.
    pub(super) muted: bool,
}

impl<T: Transport> Connection<T> {
    /// A connection that starts with the hello of a node that listens on `own`.
    pub(super) fn new(stream: T::Stream, origin: Origin, path: ReplyPath, own: &Multiaddr) -> Self {
        let connecting = matches!(origin, Origin::Dialled(_));
        let writer = WriteBuffer::starting_with_hello(own);
        Connection {
            stream,
            origin,
            connecting,
            from: None,
            path,
            incoming: Incoming::default(),
            writer,
            counted: Buffered::default(),
            deadline: None,
            frame_since: None,
            stuck_since: None,
            used: 0,
            readable: false,
            muted: false,
        }
    }

    /// Whether its hello has come.
    pub(super) fn is_greeted(&self) -> bool {
        self.from.is_some()
    }

    /// Whether someone unknown opened it.
    pub(super) fn is_stranger(&self) -> bool {
        !self.is_greeted() && matches!(self.origin, Origin::Accepted(_))
    }

    /// What it takes now.
    pub(super) fn buffered(&self) -> Buffered {
        let (incoming, outgoing) = (self.incoming.buffered_bytes(), self.writer.buffered_bytes());
        if self.writer.answers > 0 {
            Buffered { for_others: incoming + outgoing, for_requests: 0 }
        } else {
            Buffered { for_others: incoming, for_requests: outgoing }
        }
    }

    /// Whether it leaves so much unread that it must not ask for more. What waits on a connection that we dialled are our
    /// own requests; if the answers were not read for that, two nodes could wait for each other.
    pub(super) fn asks_too_much(&self) -> bool {
        matches!(self.origin, Origin::Accepted(_)) && self.writer.len() > MAX_UNREAD_BYTES
    }

    /// Since when the other side has not done what is its turn to do, if it is.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        [self.frame_since, self.stuck_since].into_iter().flatten().min()
    }

    /// Gives the frame that has begun its whole time again.
    pub(super) fn restart_frame(&mut self) {
        if self.frame_since.is_some() {
            self.frame_since = Some(Instant::now());
        }
    }

    /// Writes what can be written.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let before = self.writer.written();
        self.writer.flush(&mut self.stream)?;
        if !self.writer.is_stuck() {
            self.stuck_since = None;
        } else if self.stuck_since.is_none() || self.writer.written() > before {
            self.stuck_since = Some(Instant::now());
        }
        Ok(())
    }

    /// Reads for one turn, or until `batch` is full, and puts the messages into it. Tells whether there may be more to
    /// read.
    pub(super) fn read(&mut self, scratch: &mut [u8], link: &Link, batch: &mut Batch) -> Result<bool, Broken> {
        for _ in 0..READS_IN_A_TURN {
            if batch.is_full() {
                break;
            }
            let (space, _) = scratch.split_at_mut(READ_BYTES.max(self.incoming.missing_bytes()).min(scratch.len()));
            match self.stream.read(space) {
                Ok(0) => {
                    if self.incoming.is_inside_frame() {
                        link.count(Count::Malformed);
                    }
                    return Err(Broken::Ended);
                }
                Ok(size) => self.take(space.get(..size).unwrap_or_default(), link, batch)?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    fn take(&mut self, mut input: &[u8], link: &Link, batch: &mut Batch) -> Result<(), Broken> {
        while let Some(arrived) = self.incoming.next(&mut input)? {
            self.frame_since = None;
            match (arrived, &self.from) {
                (Arrived::Hello(claimed), _) => {
                    self.from = Some(sender::<T>(&self.origin, &claimed).ok_or(Nonsense::Hello)?);
                    self.writer.release();
                }
                (Arrived::Message { bytes, read: Ok(envelope) }, Some(from)) => {
                    batch.push(Inbound::connected(from.clone(), self.path, bytes, envelope));
                }
                (Arrived::Message { read: Ok(_), .. }, None) => return Err(Nonsense::Hello.into()),
                (Arrived::Message { read: Err(error), .. }, from) => {
                    log::trace!("from {from:?}: {error}");
                    link.count(Count::from(&error));
                }
            }
        }
        if self.frame_since.is_none() && self.incoming.is_inside_frame() {
            self.frame_since = Some(Instant::now());
        }
        Ok(())
    }
}

/// The address at which a request reaches the one who said hello: what we dialled, else what it claims, as far as the
/// transport confirms it.
fn sender<T: Transport>(origin: &Origin, claimed: &Multiaddr) -> Option<Multiaddr> {
    match origin {
        Origin::Dialled(address) => T::confirm(claimed, None).map(|_| address.clone()),
        Origin::Accepted(observed) => T::confirm(claimed, *observed),
    }
}

/// What waits to be written, and which messages are in it.
///
/// Messages wait until the other side has said hello. What listens at an address that somebody told may be any service
/// of this host or its network, which must not get to read bytes of a stranger's choice.
#[derive(Default)]
pub(super) struct WriteBuffer {
    bytes: Vec<u8>,
    /// How many of `bytes` have been written.
    start: usize,
    /// How many bytes were written before `bytes`.
    before: u64,
    /// How many bytes of the connection may be written as yet.
    allowed: u64,
    /// Where each message ends, counted from the first byte of the connection, and its tag if it is a request.
    ends: VecDeque<(u64, Option<Tag>)>,
    /// How many of them are no requests of this node.
    answers: usize,
}

impl WriteBuffer {
    fn starting_with_hello(own: &Multiaddr) -> Self {
        let mut buffer = WriteBuffer::default();
        let filled: Result<(), std::convert::Infallible> = frame::append(&mut buffer.bytes, |bytes| {
            hello::write(own, bytes);
            Ok(())
        });
        match filled {
            Ok(()) => {
                buffer.allowed = buffer.bytes.len() as u64;
                buffer
            }
        }
    }

    /// Lets the messages out that waited behind the hello.
    fn release(&mut self) {
        self.allowed = u64::MAX;
    }

    /// How many bytes wait.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// How much memory it takes that something waits, in bytes.
    fn buffered_bytes(&self) -> usize {
        if self.len() == 0 {
            return 0;
        }
        self.bytes.capacity() + self.ends.capacity() * size_of::<(u64, Option<Tag>)>()
    }

    /// How many bytes have been written.
    fn written(&self) -> u64 {
        self.before + self.start as u64
    }

    /// Whether something waits that may be written.
    fn is_stuck(&self) -> bool {
        self.len() > 0 && self.written() < self.allowed
    }

    /// Adds a message.
    pub(super) fn push(&mut self, outbound: &mut Outbound) -> Result<(), UnsentReason> {
        if self.len() >= MAX_UNSENT_BYTES {
            return Err(UnsentReason::QueueFull);
        }
        let limits = outbound.limits(SizeLimits::STREAM);
        frame::append(&mut self.bytes, |bytes| codec::encode_fitting(&mut outbound.envelope, limits, bytes))?;
        let request = outbound.envelope.own_request();
        self.ends.push_back((self.before + self.bytes.len() as u64, request));
        self.answers += usize::from(request.is_none());
        Ok(())
    }

    /// Writes as much as `stream` takes of what may be written.
    pub(super) fn flush(&mut self, stream: &mut impl Write) -> io::Result<()> {
        let allowed = usize::try_from(self.allowed - self.before).unwrap_or(usize::MAX).min(self.bytes.len());
        let result = loop {
            let Some(rest) = self.bytes.get(self.start..allowed).filter(|rest| !rest.is_empty()) else { break Ok(()) };
            match stream.write(rest) {
                Ok(0) => break Err(ErrorKind::WriteZero.into()),
                Ok(size) => self.start += size,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.forget_written();
        result
    }

    fn forget_written(&mut self) {
        let written = self.written();
        while let Some((_, request)) = self.ends.front().filter(|(end, _)| *end <= written) {
            self.answers -= usize::from(request.is_none());
            self.ends.pop_front();
        }
        // Not at every write, which would move the rest each time.
        if self.start >= self.len() {
            self.bytes.drain(..self.start);
            self.bytes.shrink_to(MAX_KEPT.max(self.bytes.len()));
            self.ends.shrink_to(MAX_KEPT_ENDS.max(self.ends.len()));
            self.before = written;
            self.start = 0;
        }
    }

    /// The messages that have not been written in full: the tags of requests, and `None` for all others.
    pub(super) fn unsent(&self) -> impl Iterator<Item = Option<Tag>> {
        self.ends.iter().map(|(_, request)| *request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Body, Envelope, Message, NetworkId, Request};

    /// Takes a given number of bytes.
    struct Pipe(usize, Vec<u8>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let size = bytes.len().min(self.0).min(7);
            if size == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            self.0 -= size;
            self.1.extend(&bytes[..size]);
            Ok(size)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn ping(tag: u64) -> Outbound {
        let body = Body::Request(Request::Ping);
        let message = Message { network: NetworkId(1), tag: Tag(tag), sender: None, also: Vec::new(), body };
        Outbound::new("/memory/2".parse().unwrap(), Envelope::Direct(message))
    }

    #[test]
    fn a_message_is_sent_when_its_last_byte_is() {
        let mut buffer = WriteBuffer::starting_with_hello(&"/memory/1".parse().unwrap());
        buffer.release();
        let hello = buffer.bytes.len();
        buffer.push(&mut ping(1)).unwrap();
        let first = buffer.bytes.len();
        buffer.push(&mut ping(2)).unwrap();
        let all = buffer.bytes.clone();

        let mut pipe = Pipe(hello, Vec::new());
        buffer.flush(&mut pipe).unwrap();
        assert_eq!(buffer.unsent().collect::<Vec<_>>(), [Some(Tag(1)), Some(Tag(2))]);
        pipe.0 = first - hello;
        buffer.flush(&mut pipe).unwrap();
        assert_eq!(buffer.unsent().collect::<Vec<_>>(), [Some(Tag(2))]);
        pipe.0 = all.len() - first - 1;
        buffer.flush(&mut pipe).unwrap();
        assert_eq!(buffer.unsent().collect::<Vec<_>>(), [Some(Tag(2))], "a byte is missing");
        pipe.0 = 100;
        buffer.flush(&mut pipe).unwrap();
        assert_eq!(buffer.unsent().count(), 0);
        assert_eq!(pipe.1, all);
    }

    #[test]
    fn messages_wait_for_the_hello_of_the_other_side() {
        let hello = WriteBuffer::starting_with_hello(&"/memory/1".parse().unwrap()).bytes;
        for flushed_before in [false, true] {
            let mut buffer = WriteBuffer::starting_with_hello(&"/memory/1".parse().unwrap());
            let mut pipe = Pipe(usize::MAX, Vec::new());
            if flushed_before {
                buffer.flush(&mut pipe).unwrap();
            }
            buffer.push(&mut ping(1)).unwrap();
            buffer.flush(&mut pipe).unwrap();
            assert_eq!((&pipe.1, buffer.unsent().count()), (&hello, 1));
            buffer.release();
            buffer.flush(&mut pipe).unwrap();
            assert!(pipe.1.len() > hello.len());
            assert_eq!(buffer.unsent().count(), 0);
        }
    }

    #[test]
    fn a_full_buffer_takes_no_more_until_some_is_written() {
        let mut buffer = WriteBuffer { allowed: u64::MAX, ..WriteBuffer::default() };
        let mut pushed = 0;
        while buffer.push(&mut ping(pushed)).is_ok() {
            pushed += 1;
        }
        assert_eq!(buffer.push(&mut ping(0)), Err(UnsentReason::QueueFull));
        assert!(buffer.bytes.len() < MAX_UNSENT_BYTES + 100);
        buffer.flush(&mut Pipe(MAX_UNSENT_BYTES * 3 / 4, Vec::new())).unwrap();
        buffer.push(&mut ping(pushed)).unwrap();
        assert!(buffer.bytes.capacity() < MAX_UNSENT_BYTES, "what has been written takes no memory");
        buffer.flush(&mut Pipe(usize::MAX, Vec::new())).unwrap();
        assert_eq!(buffer.unsent().count(), 0);
        assert!(buffer.bytes.capacity() <= MAX_KEPT && buffer.ends.capacity() <= 2 * MAX_KEPT_ENDS);
    }
}
