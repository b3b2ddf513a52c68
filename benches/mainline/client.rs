//! The client: the same for every server. It keeps a number of requests outstanding, and costs as little as it can itself.
//!
//! Requests are written before and answers read after a burst; in between it only moves bytes, and answers the few queries
//! by which a server sees whether it is there.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::krpc::{self, Id};

/// Requests that wait for their answers at one time.
pub(crate) const OUTSTANDING: usize = 64;

/// When nothing came for so long, what is outstanding is lost, and is sent again.
const SILENCE: Duration = Duration::from_millis(250);

/// A burst does not take longer.
const LONGEST: Duration = Duration::from_secs(10);

const DATAGRAM_BYTES: usize = 2048;

/// The answers of a burst, one behind the other.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Replies {
    fn push(&mut self, reply: &[u8]) {
        self.bytes.extend_from_slice(reply);
        self.ends.push(self.bytes.len());
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }
}

pub(crate) struct Client {
    socket: UdpSocket,
    /// As which it answers; an echo is not answered.
    pub(crate) id: Option<Id>,
    buffer: Vec<u8>,
    next: u32,
}

impl Client {
    pub(crate) fn connect(to: SocketAddr, id: Option<Id>) -> io::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(SILENCE))?;
        Ok(Client { socket, id, buffer: vec![0; DATAGRAM_BYTES], next: 0 })
    }

    /// Sends all requests, never more than [`OUTSTANDING`] without an answer, and takes the answers. `write` is given the
    /// number by which the answer to each is known. Gives the time until the last one came.
    pub(crate) fn burst(
        &mut self,
        amount: usize,
        mut write: impl FnMut(u32) -> Vec<u8>,
        replies: &mut Replies,
    ) -> io::Result<Duration> {
        *replies = Replies::default();
        let first = self.next;
        self.next += amount as u32;
        let requests: Vec<Vec<u8>> = (first..self.next).map(&mut write).collect();
        let mut left: Vec<usize> = (0..amount).rev().collect();
        let (start, mut outstanding, mut answered) = (Instant::now(), 0, 0);
        loop {
            while outstanding < OUTSTANDING
                && let Some(next) = left.pop()
            {
                self.send(&requests[next])?;
                outstanding += 1;
            }
            let came = self.receive(replies)?;
            if came == Some(true) {
                answered += 1;
                outstanding = outstanding.saturating_sub(1);
            }
            if came.is_some() && answered < amount {
                continue;
            }
            let elapsed = start.elapsed();
            let mut known = vec![false; amount];
            for number in replies.iter().filter_map(krpc::number_of) {
                if let Some(known) = known.get_mut(number.wrapping_sub(first) as usize) {
                    *known = true;
                }
            }
            left = (0..amount).rev().filter(|index| !known[*index]).collect();
            if left.is_empty() {
                return Ok(elapsed);
            }
            (outstanding, answered) = (0, amount - left.len());
            if elapsed > LONGEST {
                return Err(io::Error::new(ErrorKind::TimedOut, format!("{answered} of {amount} were answered")));
            }
        }
    }

    /// One request, and its answer.
    pub(crate) fn ask(&mut self, method: &str, sender: &Id, behind_id: &[u8]) -> io::Result<Vec<u8>> {
        let mut replies = Replies::default();
        self.burst(1, |number| krpc::query(method, sender, behind_id, number), &mut replies)?;
        let reply = replies.iter().last().unwrap_or_default().to_vec();
        if krpc::is_response(&reply) {
            Ok(reply)
        } else {
            Err(io::Error::other(format!("{method} was answered by {:?}", String::from_utf8_lossy(&reply))))
        }
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        match self.socket.send(bytes) {
            // What finds no room is lost, as elsewhere on its way, and is sent again.
            Err(error) if is_silence(&error) => Ok(()),
            result => result.map(drop),
        }
    }

    /// Whether an answer came; `None` if there was silence.
    fn receive(&mut self, replies: &mut Replies) -> io::Result<Option<bool>> {
        let size = match self.socket.recv(&mut self.buffer) {
            Ok(size) => size,
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(Some(false)),
            Err(error) if is_silence(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let came = &self.buffer[..size];
        if let Some(id) = self.id
            && krpc::is_query(came)
        {
            krpc::answer(came, &id).map_or(Ok(()), |answer| self.send(&answer))?;
            return Ok(Some(false));
        }
        replies.push(came);
        Ok(Some(true))
    }
}

fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
