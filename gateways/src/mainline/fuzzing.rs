//! What fuzzing needs of what is private here.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::read::read;
use super::wire::MainlineWire;
use super::write::write;
use crate::foreign::{Effects, Now, Wire};
use crate::gateway::{Inbound, Outbound, UnsentReason};

/// Whether what can be read can be written, and is then read alike; `None` if it cannot be read.
pub fn survives(bytes: &[u8]) -> Option<bool> {
    let message = read(bytes).ok()?;
    Some(write(&message).is_some_and(|written| read(&written) == Ok(message)))
}

/// Datagrams, and whom they go to.
pub type Datagrams = Vec<(SocketAddr, Vec<u8>)>;

/// The translation alone, with a clock that is told how late it is.
#[derive(Debug)]
pub struct Machine {
    wire: MainlineWire,
    now: Instant,
}

impl Machine {
    /// One that has translated nothing.
    pub fn new(is_v4: bool) -> Self {
        Machine { wire: MainlineWire::new(is_v4), now: Instant::now() }
    }

    fn now(&self) -> Now {
        Now { instant: self.now, unix_milliseconds: 0 }
    }

    /// Lets time go by.
    pub fn wait(&mut self, time: Duration) -> (Datagrams, Vec<Inbound>) {
        let mut out = Effects::default();
        self.now += time;
        self.wire.tick(self.now(), &mut out);
        (out.datagrams, out.deliveries)
    }

    /// Takes a datagram.
    pub fn receive(&mut self, from: SocketAddr, datagram: &[u8]) -> (Datagrams, Vec<Inbound>) {
        let mut out = Effects::default();
        self.wire.receive(self.now(), from, datagram, &mut out);
        (out.datagrams, out.deliveries)
    }

    /// Sends a message.
    ///
    /// # Errors
    ///
    /// Why it cannot.
    pub fn send(&mut self, to: SocketAddr, outbound: &Outbound) -> Result<Datagrams, UnsentReason> {
        let mut out = Effects::default();
        self.wire.send(self.now(), to, outbound, &mut out)?;
        Ok(out.datagrams)
    }
}
