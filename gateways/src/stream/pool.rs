//! The connections of a gateway: how many there may be, what they take together, and how long they may take for it.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::time::{Duration, Instant};

use mio::{Interest, Registry, Token};
use multiaddr::Multiaddr;

use super::connection::{Buffered, Connection, Origin};
use super::{StreamConfig, Transport};
use crate::count::Count;
use crate::gateway::{ReplyPath, UnsentReason};
use crate::link::Link;

pub(super) struct Pool<'a, T: Transport> {
    registry: Registry,
    link: &'a Link,
    config: &'a StreamConfig,
    own: &'a Multiaddr,
    next_number: &'a mut u64,
    connections: HashMap<u64, Connection<T>>,
    /// Those that we dialled, by the address that we dialled.
    dialled: HashMap<Multiaddr, u64>,
    /// What must not take longer than until then, first things first.
    deadlines: BTreeSet<(Instant, u64)>,
    /// Those that may have something to read.
    ready: VecDeque<u64>,
    /// What all take together.
    buffered: Buffered,
    /// Counts what was done with connections.
    uses: u64,
    /// One was closed, and with it a file descriptor is free.
    closed: bool,
}

impl<'a, T: Transport> Pool<'a, T> {
    pub(super) fn new(
        registry: Registry,
        link: &'a Link,
        config: &'a StreamConfig,
        own: &'a Multiaddr,
        next_number: &'a mut u64,
    ) -> Self {
        Pool {
            registry,
            link,
            config,
            own,
            next_number,
            connections: HashMap::new(),
            dialled: HashMap::new(),
            deadlines: BTreeSet::new(),
            ready: VecDeque::new(),
            buffered: Buffered::default(),
            uses: 0,
            closed: false,
        }
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Connection<T>> {
        self.connections.get_mut(&number)
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        self.connections.contains_key(&number)
    }

    /// The one that was dialled to exactly this address.
    pub(super) fn dialled(&self, to: &Multiaddr) -> Option<u64> {
        self.dialled.get(to).copied()
    }

    /// Whether some may have something to read.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// How many may have something to read.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// The next that may have something to read, taken out of their line.
    pub(super) fn take_ready(&mut self) -> Option<u64> {
        self.ready.pop_front()
    }

    /// When the first deadline is.
    pub(super) fn first_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// The deadlines that are over, and whose they are.
    pub(super) fn due(&self, now: Instant) -> Vec<(Instant, u64)> {
        self.deadlines.range(..=(now, u64::MAX)).copied().collect()
    }

    /// Whether one was closed since this was asked last.
    pub(super) fn take_closed(&mut self) -> bool {
        std::mem::take(&mut self.closed)
    }

    /// How many bytes of requests of this node wait.
    pub(super) fn bytes_of_requests(&self) -> usize {
        self.buffered.for_requests
    }

    /// Adds one, with so much time until it is there, or has said hello. Room was made before.
    pub(super) fn add(&mut self, mut stream: T::Stream, origin: Origin, timeout: Duration) -> io::Result<u64> {
        let number = *self.next_number;
        let token = Token(usize::try_from(number).map_err(io::Error::other)?);
        self.registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        *self.next_number += 1;
        if let Origin::Dialled(to) = &origin {
            self.dialled.insert(to.clone(), number);
        }
        self.connections.insert(number, Connection::new(stream, origin, ReplyPath(number), self.own));
        self.mark_used(number);
        self.set_deadline(number, later(timeout));
        Ok(number)
    }

    /// Notes that it carried something.
    pub(super) fn mark_used(&mut self, number: u64) {
        self.uses += 1;
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.used = self.uses;
        }
    }

    /// Notes that it may have something to read.
    pub(super) fn mark_ready(&mut self, number: u64) {
        if let Some(connection) = self.connections.get_mut(&number)
            && !connection.connecting
            && !std::mem::replace(&mut connection.readable, true)
        {
            self.ready.push_back(number);
        }
    }

    /// Gives all whose turn to be read has not come their whole time again for what they have begun.
    pub(super) fn restart_frames_of_ready(&mut self) {
        for number in &self.ready {
            if let Some(connection) = self.connections.get_mut(number) {
                connection.restart_frame();
            }
        }
    }

    /// Writes what can be written.
    pub(super) fn flush(&mut self, number: u64) {
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

    /// Sees to what follows when a connection was read or written.
    pub(super) fn settle(&mut self, number: u64) {
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

    /// Until when it must have come further; replaces what was set before.
    pub(super) fn set_deadline(&mut self, number: u64, deadline: Option<Instant>) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        if let Some(old) = std::mem::replace(&mut connection.deadline, deadline) {
            self.deadlines.remove(&(old, number));
        }
        self.deadlines.extend(deadline.map(|at| (at, number)));
    }

    /// Closes the connection that was idle longest, where there is no room for another.
    ///
    /// Those that have not even said hello go first, once they are many: they cannot drive out all others.
    pub(super) fn make_room(&mut self) {
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

    /// Closes a connection, and tells the node of all requests that have not gone out by it.
    pub(super) fn close(&mut self, number: u64, reason: UnsentReason) {
        let Some(mut connection) = self.connections.remove(&number) else { return };
        self.buffered.replace(&mut connection.counted, Buffered::default());
        self.registry.deregister(&mut connection.stream).ok();
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
        self.closed = true;
    }
}

#[cfg(test)]
impl<T: Transport> Pool<'_, T> {
    pub(super) fn connections(&self) -> &HashMap<u64, Connection<T>> {
        &self.connections
    }

    pub(super) fn buffered(&self) -> Buffered {
        self.buffered
    }

    pub(super) fn last_number(&self) -> u64 {
        *self.next_number - 1
    }
}

/// The time after so long; `None` if that never comes.
pub(super) fn later(after: Duration) -> Option<Instant> {
    Instant::now().checked_add(after)
}
