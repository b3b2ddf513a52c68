//! What the least server of all costs on this machine: one thread that sends every datagram back.
//!
//! One system call receives a datagram, another sends it; no server over UDP that deals with datagrams one by one can
//! cost less.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::load::{LoadError, Request, socket};

/// The name of its thread, by which its processor time is found.
pub(super) const THREAD: &str = "bench-echo";

/// What every datagram has.
const BYTES: usize = 100;

/// A server that runs until this is dropped.
#[derive(Debug)]
pub(super) struct Echo {
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    pub(super) fn start() -> Result<Self, LoadError> {
        let bind = || {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            let address = socket.local_addr()?;
            let thread = thread::Builder::new().name(THREAD.to_owned()).spawn(move || serve(&socket))?;
            Ok(Echo { address, thread: Some(thread) })
        };
        bind().map_err(socket("cannot start the echo server"))
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Until an empty datagram comes.
fn serve(socket: &UdpSocket) {
    let mut buffer = [0; 2 * BYTES];
    loop {
        match socket.recv_from(&mut buffer) {
            Ok((0, _)) => return,
            Ok((size, from)) => {
                // What finds no room is lost, and is asked for again.
                socket.send_to(buffer.get(..size).unwrap_or_default(), from).ok();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        let start = Instant::now();
        while !thread.is_finished() && start.elapsed() < Duration::from_secs(2) {
            if let Ok(socket) = UdpSocket::bind("127.0.0.1:0") {
                socket.send_to(&[], self.address).ok();
            }
            thread::sleep(Duration::from_millis(5));
        }
        if thread.is_finished() {
            thread.join().ok();
        }
    }
}

/// A datagram that begins with its tag.
pub(super) fn request(tag: u64) -> Request {
    let mut bytes = vec![0; BYTES];
    if let Some(start) = bytes.first_chunk_mut() {
        *start = tag.to_le_bytes();
    }
    Request { tag, bytes }
}

pub(super) fn tag_of(datagram: &[u8]) -> Option<u64> {
    datagram.first_chunk().filter(|_| datagram.len() == BYTES).map(|tag| u64::from_le_bytes(*tag))
}
