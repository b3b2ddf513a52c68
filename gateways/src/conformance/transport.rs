//! What the suite has to know of a transport.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use multiaddr::Multiaddr;

use super::report::Failure;
use super::{TestNode, messages};
use crate::codec::{self, MAX_MESSAGE_BYTES, WIRE_VERSION};
use crate::frame;
use crate::gateway::{Gateway, GatewayError};
use crate::message::Envelope;

/// How long a check waits for an event, where the transport says nothing else.
const DEADLINE: Duration = Duration::from_secs(10);

type Bind = dyn Fn(Option<&Multiaddr>) -> Result<Box<dyn Gateway>, GatewayError> + Send + Sync;
type Encode = dyn Fn(&Envelope) -> Vec<u8> + Send + Sync;
type Greet = dyn Fn(&Multiaddr) -> Vec<u8> + Send + Sync;
type Frame = dyn Fn(&[u8]) -> Vec<u8> + Send + Sync;
type OpenStream = dyn Fn(&Multiaddr) -> io::Result<Box<dyn RawStream>> + Send + Sync;
type OpenDatagrams = dyn Fn(&Multiaddr) -> io::Result<SendDatagram> + Send + Sync;

type Split = dyn Fn(&Envelope) -> Vec<Vec<u8>> + Send + Sync;

/// Sends one datagram.
type SendDatagram = Box<dyn FnMut(&[u8]) -> io::Result<()> + Send>;

/// A transport, as the suite sees it. Cheap to clone.
#[derive(Clone)]
pub struct Transport {
    name: String,
    bind: Arc<Bind>,
    reliable: bool,
    reopens: bool,
    deadline: Duration,
    encode: Arc<Encode>,
    streams: Option<StreamWire>,
    datagrams: Option<Arc<OpenDatagrams>>,
    parts: Option<Parts>,
}

/// How a gateway over datagrams carries what none of them has room for.
#[derive(Clone)]
struct Parts {
    largest_datagram: usize,
    split: Arc<Split>,
}

impl Transport {
    /// One on which what was sent arrives in order, or the node is told: streams, memory.
    ///
    /// `bind` makes a gateway: on the given address, or on any free one for `None`. Gateways of one transport must
    /// reach each other, also by several at a time.
    pub fn reliable<G: Gateway>(
        name: impl Into<String>,
        bind: impl Fn(Option<&Multiaddr>) -> Result<G, GatewayError> + Send + Sync + 'static,
    ) -> Self {
        Transport::new(name.into(), true, bind)
    }

    /// One on which messages can get lost without a word: datagrams. What the gateway itself drops, it counts.
    ///
    /// `bind` as in [`reliable`](Transport::reliable). Over the way that the checks take, within one host, messages
    /// should arrive that are sent one by one.
    pub fn lossy<G: Gateway>(
        name: impl Into<String>,
        bind: impl Fn(Option<&Multiaddr>) -> Result<G, GatewayError> + Send + Sync + 'static,
    ) -> Self {
        Transport::new(name.into(), false, bind)
    }

    fn new<G: Gateway>(
        name: String,
        reliable: bool,
        bind: impl Fn(Option<&Multiaddr>) -> Result<G, GatewayError> + Send + Sync + 'static,
    ) -> Self {
        let bind = Arc::new(move |address: Option<&Multiaddr>| Ok(Box::new(bind(address)?) as Box<dyn Gateway>));
        let (deadline, encode) = (DEADLINE, Arc::new(encode_natively));
        let (streams, datagrams, parts) = (None, None, None);
        Transport { name, bind, reliable, reopens: true, deadline, encode, streams, datagrams, parts }
    }

    /// Its gateways have no [`reopen`](Gateway::reopen). They must say so: [`GatewayError::NotReopenable`].
    #[must_use]
    pub fn without_reopening(mut self) -> Self {
        self.reopens = false;
        self
    }

    /// How long a check waits for each event: 10 s if not set.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// What a message looks like on the wire, if not in the native [`codec`]; for streams, without its frame.
    #[must_use]
    pub fn with_encoding(mut self, encode: impl Fn(&Envelope) -> Vec<u8> + Send + Sync + 'static) -> Self {
        self.encode = Arc::new(encode);
        self
    }

    /// How to connect to a gateway past one's own gateway, for the checks with broken and slow peers.
    #[must_use]
    pub fn with_streams(mut self, wire: StreamWire) -> Self {
        self.streams = Some(wire);
        self
    }

    /// How to send raw datagrams to a gateway, for the checks with garbage. `open` is given where the gateway listens,
    /// and gives what sends one datagram there.
    ///
    /// Answers need not arrive, but the gateway must see an address that it could answer to.
    #[must_use]
    pub fn with_datagrams<S: FnMut(&[u8]) -> io::Result<()> + Send + 'static>(
        mut self,
        open: impl Fn(&Multiaddr) -> io::Result<S> + Send + Sync + 'static,
    ) -> Self {
        self.datagrams = Some(Arc::new(move |to: &Multiaddr| Ok(Box::new(open(to)?) as SendDatagram)));
        self
    }

    /// The gateway splits messages: it takes no datagram above `largest_datagram` bytes, and larger messages come in several.
    /// `split` gives those of a message, two at least for one of 5,000 bytes; of the same message once more, as if it had
    /// been sent again.
    #[must_use]
    pub fn with_parts(
        mut self,
        largest_datagram: usize,
        split: impl Fn(&Envelope) -> Vec<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        self.parts = Some(Parts { largest_datagram, split: Arc::new(split) });
        self
    }

    /// Its name, for reports.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether what was sent arrives or is reported.
    pub fn is_reliable(&self) -> bool {
        self.reliable
    }

    /// How long a check waits for each event.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    pub(super) fn reopens(&self) -> bool {
        self.reopens
    }

    /// A gateway on the address.
    pub(super) fn bind(&self, address: &Multiaddr) -> Result<Box<dyn Gateway>, GatewayError> {
        (self.bind)(Some(address))
    }

    /// A gateway on a free address.
    pub(super) fn make(&self) -> Result<Box<dyn Gateway>, Failure> {
        (self.bind)(None).map_err(Failure::gateway("a gateway on a free address"))
    }

    /// A gateway on a free address, which runs.
    pub(super) fn start(&self) -> Result<TestNode, Failure> {
        TestNode::start_within(self.make()?, self.deadline)
    }

    /// A gateway on this address, which runs.
    pub(super) fn start_on(&self, address: &Multiaddr) -> Result<TestNode, Failure> {
        let gateway = self.bind(address).map_err(Failure::gateway("a gateway on an address that is free"))?;
        TestNode::start_within(gateway, self.deadline)
    }

    pub(super) fn encode(&self, envelope: &Envelope) -> Vec<u8> {
        (self.encode)(envelope)
    }

    pub(super) fn streams(&self) -> Option<&StreamWire> {
        self.streams.as_ref()
    }

    pub(super) fn has_datagrams(&self) -> bool {
        self.datagrams.is_some()
    }

    /// What sends raw datagrams to a gateway.
    pub(super) fn open_datagrams(&self, to: &Multiaddr) -> Result<SendDatagram, Failure> {
        let open = self.datagrams.as_ref().ok_or(Failure::NotDescribed("datagrams"))?;
        open(to).map_err(Failure::io("a way past the gateway"))
    }

    pub(super) fn has_parts(&self) -> bool {
        self.parts.is_some() && self.has_datagrams()
    }

    /// The most bytes of a datagram, if it is not what the gateway says of its messages.
    pub(super) fn largest_datagram(&self) -> Option<usize> {
        self.parts.as_ref().map(|parts| parts.largest_datagram)
    }

    /// The datagrams of a message.
    pub(super) fn split(&self, envelope: &Envelope) -> Result<Vec<Vec<u8>>, Failure> {
        let parts = self.parts.as_ref().ok_or(Failure::NotDescribed("parts"))?;
        Ok((parts.split)(envelope))
    }

    /// What is no message, whatever came before it.
    pub(super) fn garbage(&self) -> Vec<Vec<u8>> {
        let good = self.encode(&messages::store(1, 300));
        let half = good.get(..good.len() / 2).unwrap_or_default().to_vec();
        let twice = [good.as_slice(), good.as_slice()].concat();
        vec![Vec::new(), vec![0xff; 500], half, twice]
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("name", &self.name).field("reliable", &self.reliable).finish_non_exhaustive()
    }
}

/// What cannot be encoded has no bytes, and is no message.
fn encode_natively(envelope: &Envelope) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode(envelope, &mut bytes).ok();
    bytes
}

/// A connection past a gateway. Reads must end when the timeout is over.
pub trait RawStream: Read + Write + Send {
    /// Sets how long one read may take.
    ///
    /// # Errors
    ///
    /// Those of the system.
    fn set_read_timeout(&self, timeout: Duration) -> io::Result<()>;

    /// Ends what is written: the other side reads all of it, and then the end.
    ///
    /// # Errors
    ///
    /// Those of the system.
    fn end_writing(&mut self) -> io::Result<()>;
}

impl RawStream for std::net::TcpStream {
    fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        std::net::TcpStream::set_read_timeout(self, Some(timeout))
    }

    fn end_writing(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

#[cfg(unix)]
impl RawStream for std::os::unix::net::UnixStream {
    fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        std::os::unix::net::UnixStream::set_read_timeout(self, Some(timeout))
    }

    fn end_writing(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// How a gateway over streams is spoken to, without one's own gateway.
#[derive(Clone)]
pub struct StreamWire {
    connect: Arc<OpenStream>,
    greet: Arc<Greet>,
    frame: Arc<Frame>,
    too_long: Vec<u8>,
    greeting_timeout: Option<Duration>,
}

impl StreamWire {
    /// The wire of the built-in gateways: each message in a [`frame`] behind its length, and first of all a hello, which
    /// tells the wire version and where the sender listens.
    ///
    /// `connect` connects to a gateway, given where that listens.
    pub fn new<S: RawStream + 'static>(connect: impl Fn(&Multiaddr) -> io::Result<S> + Send + Sync + 'static) -> Self {
        StreamWire {
            connect: Arc::new(move |to: &Multiaddr| Ok(Box::new(connect(to)?) as Box<dyn RawStream>)),
            greet: Arc::new(|own: &Multiaddr| put_in_frame(&[&[WIRE_VERSION], own.as_ref()].concat())),
            frame: Arc::new(put_in_frame),
            too_long: u32::try_from(MAX_MESSAGE_BYTES + 1).unwrap_or(u32::MAX).to_be_bytes().to_vec(),
            greeting_timeout: None,
        }
    }

    /// What a peer that listens on the given address sends first, if not the usual hello; nothing, where there is none.
    #[must_use]
    pub fn with_greeting(mut self, greet: impl Fn(&Multiaddr) -> Vec<u8> + Send + Sync + 'static) -> Self {
        self.greet = Arc::new(greet);
        self
    }

    /// What the bytes of a message look like on the stream, and the beginning of what is longer than any message.
    #[must_use]
    pub fn with_frames(
        mut self,
        frame: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static,
        too_long: impl Into<Vec<u8>>,
    ) -> Self {
        self.frame = Arc::new(frame);
        self.too_long = too_long.into();
        self
    }

    /// The gateway closes a connection whose greeting is not whole after so long, and counts it.
    #[must_use]
    pub fn closes_silent_peers_after(mut self, timeout: Duration) -> Self {
        self.greeting_timeout = Some(timeout);
        self
    }

    pub(super) fn connect(&self, to: &Multiaddr) -> Result<Box<dyn RawStream>, Failure> {
        (self.connect)(to).map_err(Failure::io("a connection past the gateway"))
    }

    pub(super) fn greeting(&self, own: &Multiaddr) -> Vec<u8> {
        (self.greet)(own)
    }

    pub(super) fn frame(&self, payload: &[u8]) -> Vec<u8> {
        (self.frame)(payload)
    }

    pub(super) fn too_long(&self) -> &[u8] {
        &self.too_long
    }

    pub(super) fn greeting_timeout(&self) -> Option<Duration> {
        self.greeting_timeout
    }
}

impl fmt::Debug for StreamWire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamWire").field("greeting_timeout", &self.greeting_timeout).finish_non_exhaustive()
    }
}

fn put_in_frame(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let filled: Result<(), std::convert::Infallible> = frame::append(&mut bytes, |bytes| {
        bytes.extend_from_slice(payload);
        Ok(())
    });
    match filled {
        Ok(()) => bytes,
    }
}
