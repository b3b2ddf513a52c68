//! Peers over TCP and Unix sockets that are no gateways, and do as the tests please.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use kademlia_gateways::address::{IpTransport, ip_address, socket_addr, unix_address, unix_path};
use kademlia_gateways::frame::FrameReader;
use kademlia_gateways::*;

use crate::common::*;

pub(crate) trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A transport, seen from a peer that is no gateway.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Wire {
    Tcp,
    Unix,
}

/// Such a peer, waiting for connections.
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A connection of such a peer.
pub(crate) struct Peer {
    pub(crate) stream: Box<dyn Stream>,
    reader: FrameReader,
    input: Vec<u8>,
}

pub(crate) fn every_wire(test: impl Fn(Wire)) {
    for wire in [Wire::Tcp, Wire::Unix] {
        println!("{wire:?}");
        test(wire);
    }
}

pub(crate) fn free_path() -> Multiaddr {
    static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());
    static NEXT: AtomicU64 = AtomicU64::new(0);
    unix_address(FOLDER.path().join(NEXT.fetch_add(1, Ordering::Relaxed).to_string())).unwrap()
}

impl Wire {
    pub(crate) fn start(self) -> Node {
        self.start_with(StreamConfig::default())
    }

    pub(crate) fn start_with(self, config: StreamConfig) -> Node {
        match self {
            Wire::Tcp => Node::start(TcpGateway::bind_with(address("/ip4/127.0.0.1/tcp/0"), config).unwrap()),
            Wire::Unix => Node::start(UnixGateway::bind_with(free_path(), config).unwrap()),
        }
    }

    pub(crate) fn listen(self) -> (Listener, Multiaddr) {
        match self {
            Wire::Tcp => {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let address = ip_address(listener.local_addr().unwrap(), IpTransport::Tcp);
                (Listener::Tcp(listener), address)
            }
            Wire::Unix => {
                let address = free_path();
                (Listener::Unix(UnixListener::bind(unix_path(&address).unwrap()).unwrap()), address)
            }
        }
    }

    /// Connects to a node and says nothing.
    pub(crate) fn connect(self, to: &Multiaddr) -> Peer {
        match self {
            Wire::Tcp => Peer::tcp(TcpStream::connect(socket_addr(to).unwrap().0).unwrap()),
            Wire::Unix => Peer::unix(UnixStream::connect(unix_path(to).unwrap()).unwrap()),
        }
    }

    /// Connects to a node and claims to listen on `claimed`.
    pub(crate) fn greet(self, to: &Multiaddr, claimed: &Multiaddr) -> Peer {
        let mut peer = self.connect(to);
        peer.send_hello(claimed);
        peer.receive_hello();
        peer
    }

    /// An address of the transport on which nobody listens.
    pub(crate) fn somewhere(self) -> Multiaddr {
        match self {
            Wire::Tcp => address("/ip4/127.0.0.1/tcp/9"),
            Wire::Unix => free_path(),
        }
    }
}

impl Listener {
    pub(crate) fn accept(&self) -> Peer {
        match self {
            Listener::Tcp(listener) => Peer::tcp(listener.accept().unwrap().0),
            Listener::Unix(listener) => Peer::unix(listener.accept().unwrap().0),
        }
    }

    /// Accepts a connection of a gateway and says hello.
    pub(crate) fn greet(&self, own: &Multiaddr) -> Peer {
        let mut peer = self.accept();
        peer.receive_hello();
        peer.send_hello(own);
        peer
    }
}

impl Peer {
    pub(crate) fn tcp(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Peer { stream: Box::new(stream), reader: FrameReader::default(), input: Vec::new() }
    }

    pub(crate) fn unix(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Peer { stream: Box::new(stream), reader: FrameReader::default(), input: Vec::new() }
    }

    pub(crate) fn send_hello(&mut self, claimed: &Multiaddr) {
        let mut hello = vec![codec::WIRE_VERSION];
        hello.extend(claimed.as_ref());
        self.stream.write_all(&framed(&hello)).unwrap();
    }

    pub(crate) fn receive_hello(&mut self) -> Multiaddr {
        let hello = self.receive_frame().expect("a hello comes");
        assert_eq!(hello[0], codec::WIRE_VERSION);
        Multiaddr::try_from(hello[1..].to_vec()).unwrap()
    }

    pub(crate) fn send(&mut self, envelope: &Envelope) {
        self.stream.write_all(&framed(&encoded(envelope))).unwrap();
    }

    pub(crate) fn receive(&mut self) -> Envelope {
        codec::decode(&self.receive_frame().expect("a message comes")).unwrap()
    }

    /// The next frame, or `None` if the connection was closed.
    pub(crate) fn receive_frame(&mut self) -> Option<Vec<u8>> {
        loop {
            let mut input = &self.input[..];
            let frame = self.reader.next(&mut input, codec::MAX_MESSAGE_BYTES).unwrap().map(<[u8]>::to_vec);
            self.input = input.to_vec();
            if frame.is_some() {
                return frame;
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(size) => self.input.extend(&bytes[..size]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub(crate) fn assert_closed(&mut self) {
        while self.receive_frame().is_some() {}
    }
}

pub(crate) fn encoded(envelope: &Envelope) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode(envelope, &mut bytes).unwrap();
    bytes
}

pub(crate) fn framed(payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes().to_vec();
    bytes.extend(payload);
    bytes
}
