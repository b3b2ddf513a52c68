//! Nodes that answer, and do nothing else: they fill the routing table of a server.
//!
//! A server takes nobody into its table who has not answered it, and none of the three takes many from one address. So
//! each of these has a socket, on an address of its own: all of 127.0.0.0/8 is this host. They live on one thread.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token};

use crate::krpc::{self, Id, Random};

/// Nodes in the network whose tables are imitated: half of them belong into the first bucket, a quarter into the second...
const NETWORK: usize = 1 << 20;

/// More than fit into each of the first buckets: libtorrent has room for 128, 64, 32 and 16 in the first four and for 8 in
/// each other one, the crate `mainline` for 20 in each, and this library for 8.
const PLACES: [usize; 3] = [132, 68, 36];
const OTHER_PLACES: usize = 20;

/// Between two answers. Some servers ask all at once, and have no room for as many answers at once.
const PACE: Duration = Duration::from_micros(100);

/// The thread looks so often whether it is to end.
const PAUSE: Duration = Duration::from_millis(100);

/// How many nodes a bucket is offered.
fn buckets() -> impl Iterator<Item = usize> {
    let nodes = (1..).map(|index| NETWORK >> index).take_while(|nodes| *nodes > 0);
    let places = PLACES.into_iter().chain(std::iter::repeat(OTHER_PLACES));
    nodes.zip(places).map(|(nodes, places)| nodes.min(places))
}

/// One of them. Its id depends on who asks, which is always the same server: so it stands in the bucket that it is for.
struct Peer {
    shared: usize,
    random: Id,
    socket: UdpSocket,
}

/// Those of one server. They answer until this is dropped.
pub(crate) struct Crowd {
    pub(crate) addresses: Vec<SocketAddr>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Crowd {
    /// Each number has addresses of its own.
    pub(crate) fn start(number: u8, random: &mut Random) -> io::Result<Self> {
        let poll = Poll::new()?;
        let (mut peers, mut addresses) = (Vec::new(), Vec::new());
        for (shared, amount) in buckets().enumerate() {
            for _ in 0..amount {
                let which = peers.len();
                let [high, low] = (which as u16 + 1).to_be_bytes();
                let mut socket = UdpSocket::bind(SocketAddr::from(([127, 100 + number, high, low], 0)))?;
                poll.registry().register(&mut socket, Token(which), Interest::READABLE)?;
                addresses.push(socket.local_addr()?);
                peers.push(Peer { shared, random: random.id(), socket });
            }
        }
        let ends = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&ends);
        let thread = thread::Builder::new().name("crowd".to_owned()).spawn(move || serve(poll, &peers, &ended))?;
        Ok(Crowd { addresses, ends, thread: Some(thread) })
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        self.thread.take().map(JoinHandle::join);
    }
}

fn serve(mut poll: Poll, peers: &[Peer], ended: &AtomicBool) {
    let mut events = Events::with_capacity(peers.len());
    let mut buffer = [0; 2048];
    while !ended.load(Ordering::SeqCst) {
        match poll.poll(&mut events, Some(PAUSE)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => panic!("the crowd cannot wait: {error}"),
            _ => {}
        }
        for peer in events.iter().filter_map(|event| peers.get(event.token().0)) {
            while let Ok((size, from)) = peer.socket.recv_from(&mut buffer) {
                let asked = &buffer[..size];
                let Some(server) = krpc::sender(asked).filter(|_| krpc::is_query(asked)) else { continue };
                let answer = krpc::answer(asked, &krpc::id_in_bucket(&server, peer.shared, &peer.random));
                // What is lost is asked for again.
                answer.map(|answer| peer.socket.send_to(&answer, from));
                thread::sleep(PACE);
            }
        }
    }
}
