//! A client that keeps a number of requests outstanding, and costs as little as it can itself.
//!
//! Requests are written before and answers read after a burst; in between the client only moves bytes. So it is the
//! server that is the slowest part, as far as the machine has cores for both.

use std::collections::HashSet;
use std::convert::Infallible;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use kademlia_dht::Multiaddr;
use kademlia_dht::gateway::codec::WIRE_VERSION;
use kademlia_dht::gateway::frame::{self, FrameReader};

/// Requests that wait for their answers at one time.
pub(super) const OUTSTANDING: usize = 64;

/// When nothing came for so long, what is outstanding is lost, and is sent again.
const SILENCE: Duration = Duration::from_millis(250);

/// A burst does not take longer.
const LONGEST: Duration = Duration::from_secs(30);

/// The largest datagram that is expected, and more than that.
const DATAGRAM_BYTES: usize = 2048;

/// Why a load did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("{what}: {source}")]
    Socket { what: &'static str, source: io::Error },
    #[error("of {sent} requests only {answered} were answered within {} s", LONGEST.as_secs())]
    Silent { answered: usize, sent: usize },
    #[error("the node closed the connection")]
    Closed,
}

/// For `map_err`: what could not be done with a socket.
pub(super) fn socket(what: &'static str) -> impl Fn(io::Error) -> LoadError {
    move |source| LoadError::Socket { what, source }
}

/// A request, and the tag by which its answer is known.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) tag: u64,
    pub(super) bytes: Vec<u8>,
}

/// The answers of a burst, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Replies {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Replies {
    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    fn push(&mut self, reply: &[u8]) {
        self.bytes.extend_from_slice(reply);
        self.ends.push(self.bytes.len());
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).filter_map(|(start, end)| self.bytes.get(start..*end))
    }
}

/// What carries requests and answers.
pub(super) trait Wire {
    fn send(&mut self, requests: &[&Request]) -> io::Result<()>;

    /// How many answers came; `None` if there was silence.
    fn receive(&mut self, replies: &mut Replies) -> io::Result<Option<usize>>;
}

/// Sends all requests, never more than [`OUTSTANDING`] without an answer, and takes the answers. Gives the time until
/// the last one came.
pub(super) fn burst(
    wire: &mut impl Wire,
    requests: &[Request],
    replies: &mut Replies,
    tag_of: impl Fn(&[u8]) -> Option<u64>,
) -> Result<Duration, LoadError> {
    replies.clear();
    let start = Instant::now();
    let mut waiting: Vec<&Request> = requests.iter().rev().collect();
    let (mut outstanding, mut answered) = (0_usize, 0);
    loop {
        let next = waiting.split_off(waiting.len().saturating_sub(OUTSTANDING - outstanding));
        outstanding += next.len();
        wire.send(&next).map_err(socket("cannot send a request"))?;
        let came = wire.receive(replies).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => LoadError::Closed,
            _ => socket("cannot receive an answer")(error),
        })?;
        let came_all = came.unwrap_or(0);
        answered += came_all;
        outstanding = outstanding.saturating_sub(came_all);
        if came.is_some() && answered < requests.len() {
            continue;
        }
        let elapsed = start.elapsed();
        let known: HashSet<u64> = replies.iter().filter_map(&tag_of).collect();
        waiting = requests.iter().rev().filter(|request| !known.contains(&request.tag)).collect();
        if waiting.is_empty() {
            return Ok(elapsed);
        }
        (outstanding, answered) = (0, requests.len() - waiting.len());
        if elapsed > LONGEST {
            return Err(LoadError::Silent { answered, sent: requests.len() });
        }
    }
}

fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// One datagram a message, and one system call for each.
#[derive(Debug)]
pub(super) struct Datagrams {
    socket: UdpSocket,
    buffer: Vec<u8>,
}

impl Datagrams {
    pub(super) fn connect(to: SocketAddr) -> Result<Self, LoadError> {
        let connected = || {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.connect(to)?;
            socket.set_read_timeout(Some(SILENCE))?;
            Ok(Datagrams { socket, buffer: vec![0; DATAGRAM_BYTES] })
        };
        connected().map_err(socket("cannot open a socket of UDP"))
    }
}

impl Wire for Datagrams {
    fn send(&mut self, requests: &[&Request]) -> io::Result<()> {
        for request in requests {
            match self.socket.send(&request.bytes) {
                // What finds no room is lost, as elsewhere on its way, and is sent again.
                Err(error) if is_silence(&error) => {}
                result => drop(result?),
            }
        }
        Ok(())
    }

    fn receive(&mut self, replies: &mut Replies) -> io::Result<Option<usize>> {
        match self.socket.recv(&mut self.buffer) {
            Ok(size) => {
                replies.push(self.buffer.get(..size).unwrap_or_default());
                Ok(Some(1))
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(Some(0)),
            Err(error) if is_silence(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Frames on a connection; all that can be sent at one time with one system call.
pub(super) struct Frames<S> {
    stream: S,
    reader: FrameReader,
    buffer: Vec<u8>,
    outgoing: Vec<u8>,
}

/// Read at once from a connection.
const READ_BYTES: usize = 64 * 1024;

/// The largest frame that is expected.
const FRAME_BYTES: usize = 8 * 1024;

impl<S: Read + Write> Frames<S> {
    /// Says hello as a node that listens on `own` does, and waits for that of the other side. The stream has timeouts.
    fn greet(stream: S, own: &Multiaddr) -> Result<Self, LoadError> {
        let mut frames =
            Frames { stream, reader: FrameReader::default(), buffer: vec![0; READ_BYTES], outgoing: Vec::new() };
        let hello = [&[WIRE_VERSION], own.as_ref()].concat();
        let mut replies = Replies::default();
        let greeted = frames.send(&[&Request { tag: 0, bytes: hello }]).and_then(|()| {
            let start = Instant::now();
            while start.elapsed() < LONGEST {
                if frames.receive(&mut replies)?.is_some_and(|came| came > 0) {
                    return Ok(());
                }
            }
            Err(ErrorKind::TimedOut.into())
        });
        greeted.map_err(socket("the node does not greet"))?;
        Ok(frames)
    }
}

impl Frames<TcpStream> {
    pub(super) fn connect_tcp(to: SocketAddr, own: &Multiaddr) -> Result<Self, LoadError> {
        let connected = || {
            let stream = TcpStream::connect_timeout(&to, LONGEST)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(SILENCE))?;
            stream.set_write_timeout(Some(LONGEST))?;
            Ok(stream)
        };
        Frames::greet(connected().map_err(socket("cannot connect over TCP"))?, own)
    }
}

#[cfg(unix)]
impl Frames<std::os::unix::net::UnixStream> {
    pub(super) fn connect_unix(to: &std::path::Path, own: &Multiaddr) -> Result<Self, LoadError> {
        let connected = || {
            let stream = std::os::unix::net::UnixStream::connect(to)?;
            stream.set_read_timeout(Some(SILENCE))?;
            stream.set_write_timeout(Some(LONGEST))?;
            Ok(stream)
        };
        Frames::greet(connected().map_err(socket("cannot connect over a Unix socket"))?, own)
    }
}

impl<S: Read + Write> Wire for Frames<S> {
    fn send(&mut self, requests: &[&Request]) -> io::Result<()> {
        self.outgoing.clear();
        for request in requests {
            let filled: Result<(), Infallible> = frame::append(&mut self.outgoing, |bytes| {
                bytes.extend_from_slice(&request.bytes);
                Ok(())
            });
            match filled {
                Ok(()) => {}
            }
        }
        self.stream.write_all(&self.outgoing)
    }

    fn receive(&mut self, replies: &mut Replies) -> io::Result<Option<usize>> {
        let size = match self.stream.read(&mut self.buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(size) => size,
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(Some(0)),
            Err(error) if is_silence(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut input = self.buffer.get(..size).unwrap_or_default();
        let mut came = 0;
        while let Some(frame) = self.reader.next(&mut input, FRAME_BYTES).map_err(io::Error::other)? {
            replies.push(frame);
            came += 1;
        }
        Ok(Some(came))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::echo;

    /// Loses what comes for the first time with every tenth tag, and answers with every seventh twice.
    fn unreliable(socket: &UdpSocket) {
        let (mut buffer, mut lost) = ([0; 200], HashSet::new());
        while let Ok((size, from)) = socket.recv_from(&mut buffer) {
            let Some(tag) = echo::tag_of(&buffer[..size]) else { return };
            if tag % 10 == 0 && lost.insert(tag) {
                continue;
            }
            for _ in 0..if tag % 7 == 0 { 2 } else { 1 } {
                socket.send_to(&buffer[..size], from).unwrap();
            }
        }
    }

    #[test]
    fn what_is_lost_is_asked_for_again_and_what_comes_twice_counts_once() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let thread = std::thread::spawn(move || unreliable(&server));
        let mut wire = Datagrams::connect(address).unwrap();
        let mut replies = Replies::default();
        for first in [0, 1000] {
            let requests: Vec<Request> = (first..first + 300).map(echo::request).collect();
            burst(&mut wire, &requests, &mut replies, echo::tag_of).unwrap();
            let answered: HashSet<u64> = replies.iter().filter_map(echo::tag_of).collect();
            assert!(requests.iter().all(|request| answered.contains(&request.tag)));
        }
        wire.socket.send(&[]).unwrap();
        thread.join().unwrap();
    }
}
