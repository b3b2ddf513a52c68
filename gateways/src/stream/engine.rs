//! The loop that serves a listener and all of its connections on one thread.

use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Token};
use multiaddr::Multiaddr;

use super::accepting::Accepting;
use super::batch::Batch;
use super::connection::{Broken, Origin};
use super::incoming::Nonsense;
use super::pool::{Pool, later};
use super::{LISTENER, Open, QUEUE, ROOM, StreamConfig, Transport, WAKER};
use crate::count::Count;
use crate::gateway::{Outbound, ReplyPath, UnsentReason};
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
    pool: Pool<'a, T>,
    /// The connections with new messages to write.
    dirty: Vec<u64>,
    /// What has been read and not been delivered.
    batch: Batch,
    /// The node does not keep up: nothing is read until it does.
    held: bool,
    /// There may be more in the outbound queue.
    more_outbound: bool,
    accepting: Accepting,
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
    ) -> io::Result<Self> {
        link.set_room(ROOM);
        let registry = open.poll.registry().try_clone()?;
        Ok(Engine {
            open,
            transport,
            link,
            config,
            pool: Pool::new(registry, link, config, own, next_number),
            dirty: Vec::new(),
            batch: Batch::default(),
            held: false,
            more_outbound: true,
            accepting: Accepting::default(),
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
        })
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
            if self.pool.take_closed() {
                self.accepting.resume();
            }
        }
        Ok(())
    }

    /// How long to wait for an event: for ever, if there is nothing to do and no deadline.
    fn timeout(&self) -> Option<Duration> {
        let more_to_read = !self.held && self.pool.has_ready();
        if self.more_outbound || self.accepting.has_more() || more_to_read {
            return Some(Duration::ZERO);
        }
        let next = [self.pool.first_deadline(), self.accepting.again_at()].into_iter().flatten().min()?;
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
                    self.pool.mark_ready(number);
                }
            }
        }
    }

    fn handle_writable(&mut self, number: u64) {
        let Some(connection) = self.pool.get_mut(number) else { return };
        if connection.connecting {
            match T::is_connected(&connection.stream) {
                Ok(false) => return,
                Ok(true) => connection.connecting = false,
                Err(error) => {
                    log::debug!("connecting: {error}");
                    return self.pool.close(number, UnsentReason::of(&error));
                }
            }
            self.pool.set_deadline(number, later(self.config.hello_timeout));
            // Something to read may have been told before, once and for all.
            self.pool.mark_ready(number);
        }
        self.pool.flush(number);
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
            self.pool.flush(number);
        }
    }

    fn send(&mut self, mut outbound: Outbound) {
        match self.push(&mut outbound) {
            // Small messages leave together.
            Ok((number, unsent)) if unsent >= FLUSHED_AT_ONCE => self.pool.flush(number),
            // Repeated numbers are cheap: the second flush has nothing to write.
            Ok((number, _)) if self.dirty.last() != Some(&number) => self.dirty.push(number),
            Ok(_) => {}
            Err(reason) => self.link.unsent(outbound.envelope.own_request(), reason),
        }
    }

    /// Adds a message to what waits on its connection. Gives that, and how many bytes wait there.
    fn push(&mut self, outbound: &mut Outbound) -> Result<(u64, usize), UnsentReason> {
        if self.pool.bytes_of_requests() >= MAX_REQUEST_BYTES && outbound.envelope.own_request().is_some() {
            return Err(UnsentReason::QueueFull);
        }
        let number = self.route(outbound)?;
        let connection = self.pool.get_mut(number).ok_or(UnsentReason::Unreachable)?;
        connection.writer.push(outbound)?;
        let unsent = connection.writer.len();
        self.pool.mark_used(number);
        Ok((number, unsent))
    }

    /// The connection for a message: for an answer the one that it answers by, else only one that we dialled.
    fn route(&mut self, outbound: &Outbound) -> Result<u64, UnsentReason> {
        if let Some(ReplyPath(number)) = outbound.path
            && self.pool.contains(number)
        {
            return Ok(number);
        }
        self.pool.dialled(&outbound.to).map_or_else(|| self.dial(&outbound.to), Ok)
    }

    fn dial(&mut self, to: &Multiaddr) -> Result<u64, UnsentReason> {
        if !self.transport.dials(to) {
            return Err(UnsentReason::NotDialable);
        }
        self.pool.make_room();
        let stream = self.transport.connect(to).map_err(|error| UnsentReason::of(&error))?;
        let number = self.pool.add(stream, Origin::Dialled(to.clone()), self.config.connect_timeout);
        number.map_err(|error| UnsentReason::of(&error))
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
        self.pool.make_room();
        match self.pool.add(stream, Origin::Accepted(observed), self.config.hello_timeout) {
            Ok(number) => self.pool.flush(number),
            Err(error) => {
                log::debug!("accepting a connection: {error}");
                self.link.count(Count::SocketError);
            }
        }
    }

    /// Reads from each connection that is ready for one turn, and hands over what came.
    fn read(&mut self) {
        if self.held {
            self.deliver();
        }
        for _ in 0..self.pool.ready() {
            if self.held {
                return;
            }
            let Some(number) = self.pool.take_ready() else { break };
            self.read_one(number);
            if self.batch.is_full() {
                self.deliver();
            }
        }
        self.deliver();
    }

    fn read_one(&mut self, number: u64) {
        let Some(connection) = self.pool.get_mut(number) else { return };
        connection.muted = connection.asks_too_much();
        if connection.muted {
            return;
        }
        connection.readable = false;
        let (greeted, before) = (connection.is_greeted(), self.batch.len());
        let more = connection.read(&mut self.scratch, self.link, &mut self.batch);
        let greeted_now = !greeted && connection.is_greeted();
        if self.batch.len() > before {
            self.pool.mark_used(number);
        }
        if greeted_now && more.is_ok() {
            // What waited for the hello.
            self.pool.flush(number);
        }
        match more {
            Ok(more) => {
                self.pool.settle(number);
                if more {
                    self.pool.mark_ready(number);
                }
            }
            Err(broken) => {
                match broken {
                    Broken::Ended => {}
                    Broken::Nonsense(Nonsense::Hello) => self.link.count(Count::GreetingWrong),
                    Broken::Nonsense(Nonsense::Oversized) => self.link.count(Count::Oversized),
                }
                self.pool.close(number, UnsentReason::Unreachable);
            }
        }
    }

    /// Hands over what has been read, little at a time: the node may answer on this thread, and while it does nobody
    /// empties the queue that it answers into.
    fn deliver(&mut self) {
        let was_held = std::mem::take(&mut self.held);
        while !self.held && !self.batch.is_empty() {
            if let Err(refused) = self.link.deliver(self.batch.take()) {
                self.held = true;
                self.batch.put_back(refused);
            }
            self.take_outbound();
        }
        if was_held && !self.held {
            // Nobody could get on while nothing was read.
            self.pool.restart_frames_of_ready();
        }
    }

    /// Closes what took too long.
    fn expire(&mut self) {
        self.accepting.resume_if_due();
        if self.pool.first_deadline().is_none() {
            return;
        }
        for (at, number) in self.pool.due(Instant::now()) {
            self.expire_one(number, at);
        }
    }

    fn expire_one(&mut self, number: u64, at: Instant) {
        // It may be full only because the system tells late that there is room again.
        self.pool.flush(number);
        let Some(connection) = self.pool.get_mut(number) else { return };
        if connection.readable && !connection.connecting {
            // What is missing may have come: it is we who do not read.
            connection.restart_frame();
            if !connection.is_greeted() {
                self.pool.set_deadline(number, later(self.config.hello_timeout));
            }
        }
        self.pool.settle(number);
        let Some(connection) = self.pool.get_mut(number).filter(|connection| connection.deadline == Some(at)) else {
            return;
        };
        match (connection.connecting, connection.is_greeted()) {
            (true, _) => {}
            (false, false) => self.link.count(Count::GreetingLate),
            (false, true) => self.link.count(Count::Stalled),
        }
        self.pool.close(number, UnsentReason::Unreachable);
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests;
