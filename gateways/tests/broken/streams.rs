//! A small gateway over TCP with one flaw, good enough for the checks with raw connections.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use kademlia_gateways::address::{IpTransport, ip_address, socket_addr};
use kademlia_gateways::conformance::{StreamWire, Transport};
use kademlia_gateways::frame::FrameReader;
use kademlia_gateways::*;

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum StreamFlaw {
    None,
    PanicsOnGarbage,
    CountsNoGarbage,
    GivesUpConnections,
    TakesAnyLength,
    EndsWithLongFrames,
    OneAtATime,
    TakesPieces,
    CountsNoPieces,
    EndsWithPeers,
    WaitsForGreetings,
    ClosesUncounted,
}

const GREETING_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) fn streams(flaw: StreamFlaw) -> Transport {
    let connect = |to: &Multiaddr| TcpStream::connect(socket_addr(to).unwrap().0);
    let wire = StreamWire::new(connect).closes_silent_peers_after(GREETING_TIMEOUT);
    Transport::reliable("broken streams", move |_| Streams::bind(flaw)).with_streams(wire)
}

struct Streams {
    flaw: StreamFlaw,
    address: Multiaddr,
    listener: TcpListener,
}

/// Why a connection does not go on.
enum End {
    Connection,
    Gateway,
}

impl Streams {
    fn bind(flaw: StreamFlaw) -> Result<Self, GatewayError> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = ip_address(listener.local_addr()?, IpTransport::Tcp);
        Ok(Streams { flaw, address, listener })
    }
}

impl Gateway for Streams {
    fn name(&self) -> String {
        "broken streams".to_owned()
    }

    fn addresses(&self) -> Vec<Multiaddr> {
        vec![self.address.clone()]
    }

    fn outbox(&mut self) -> Result<Box<dyn Outbox>, GatewayError> {
        Ok(Box::new(StreamOutbox(self.address.clone())))
    }

    /// Looks at everything again and again, which is a flaw as well, but not one that matters here.
    fn run(&mut self, link: &Link) -> Result<(), GatewayError> {
        let mut connections: Vec<Connection> = Vec::new();
        while !link.stopping() {
            while let Ok((stream, _)) = self.listener.accept() {
                stream.set_nonblocking(true)?;
                connections.push(Connection {
                    stream,
                    reader: FrameReader::default(),
                    from: None,
                    since: Instant::now(),
                });
            }
            let turns = if self.flaw == StreamFlaw::OneAtATime { 1 } else { connections.len() };
            let mut ended = Vec::new();
            for (number, connection) in connections.iter_mut().enumerate().take(turns) {
                match connection.read(self.flaw, link) {
                    Ok(()) => {}
                    Err(End::Connection) => ended.push(number),
                    Err(End::Gateway) => return Err(GatewayError::Failed("a peer was at fault".to_owned())),
                }
            }
            for number in ended.into_iter().rev() {
                connections.remove(number);
            }
            thread::park_timeout(Duration::from_millis(1));
        }
        Ok(())
    }
}

struct Connection {
    stream: TcpStream,
    reader: FrameReader,
    from: Option<Multiaddr>,
    since: Instant,
}

impl Connection {
    fn read(&mut self, flaw: StreamFlaw, link: &Link) -> Result<(), End> {
        let mut buffer = [0; 64 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err(self.end(flaw, link)),
            Ok(size) => self.take(&buffer[..size], flaw, link),
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(self.end(flaw, link)),
            Err(_) => {
                let late = self.from.is_none() && self.since.elapsed() > GREETING_TIMEOUT;
                if !late || flaw == StreamFlaw::WaitsForGreetings {
                    return Ok(());
                }
                if flaw != StreamFlaw::ClosesUncounted {
                    link.count(Count::GreetingLate);
                }
                Err(End::Connection)
            }
        }
    }

    /// The other side has gone.
    fn end(&self, flaw: StreamFlaw, link: &Link) -> End {
        if !self.reader.is_inside_frame() {
            return End::Connection;
        }
        if flaw != StreamFlaw::CountsNoPieces {
            link.count(Count::Malformed);
        }
        if flaw == StreamFlaw::EndsWithPeers { End::Gateway } else { End::Connection }
    }

    fn take(&mut self, mut input: &[u8], flaw: StreamFlaw, link: &Link) -> Result<(), End> {
        if flaw == StreamFlaw::TakesPieces {
            self.reader = FrameReader::default();
        }
        let limit = if flaw == StreamFlaw::TakesAnyLength { usize::MAX / 2 } else { codec::MAX_MESSAGE_BYTES };
        loop {
            let frame = match self.reader.next(&mut input, limit) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(()),
                Err(_) => {
                    link.count(if self.from.is_some() { Count::Oversized } else { Count::GreetingWrong });
                    let ends = flaw == StreamFlaw::EndsWithLongFrames;
                    return Err(if ends { End::Gateway } else { End::Connection });
                }
            };
            match (&self.from, codec::decode(frame)) {
                (None, _) => match frame.split_first().map(|(_, own)| Multiaddr::try_from(own.to_vec())) {
                    Some(Ok(own)) => self.from = Some(own),
                    _ => return Err(End::Connection),
                },
                (Some(from), Ok(envelope)) => link.deliver_or_drop(vec![Inbound::new(from.clone(), envelope)]),
                (Some(_), Err(error)) => match flaw {
                    StreamFlaw::PanicsOnGarbage => panic!("{error}"),
                    StreamFlaw::CountsNoGarbage => {}
                    StreamFlaw::GivesUpConnections => return Err(End::Connection),
                    _ => link.count(Count::Malformed),
                },
            }
        }
    }
}

/// Makes a connection for each message.
struct StreamOutbox(Multiaddr);

impl Outbox for StreamOutbox {
    fn dials(&self, address: &Multiaddr) -> bool {
        matches!(socket_addr(address), Some((_, IpTransport::Tcp)))
    }

    fn limits(&self) -> SizeLimits {
        SizeLimits::STREAM
    }

    fn send(&mut self, outbound: Outbound) -> Result<(), Unsent> {
        let (to, _): (SocketAddr, _) = socket_addr(&outbound.to).unwrap();
        let mut bytes = Vec::new();
        frame::append(&mut bytes, |bytes| {
            bytes.push(codec::WIRE_VERSION);
            bytes.extend(self.0.as_ref());
            Ok::<_, ()>(())
        })
        .unwrap();
        frame::append(&mut bytes, |bytes| codec::encode(&outbound.envelope, bytes)).unwrap();
        let sent = TcpStream::connect(to).and_then(|mut stream| stream.write_all(&bytes));
        sent.map_err(|error| Unsent::new(outbound, UnsentReason::of(&error)))
    }
}
