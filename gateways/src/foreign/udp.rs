//! [`ForeignUdp`]: the socket and the threads of a gateway whose datagrams another program understands.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use mio::net::UdpSocket;
use mio::{Events, Waker};
use multiaddr::Multiaddr;

use crate::address::IpTransport;
use crate::codec::SizeLimits;
use crate::count::Count;
use crate::gateway::{Gateway, GatewayError, Inbound, Outbound, Outbox, Unsent, UnsentReason};
use crate::ip;
use crate::link::Link;
use crate::socket::{self, Bound, Endpoint};

/// How many messages cross to the node at once.
const BATCH: usize = 64;

/// What time it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) instant: Instant,
    /// Since 1970.
    #[cfg_attr(not(feature = "rpcudp"), allow(dead_code, reason = "not every wire has dates"))]
    pub(crate) unix_milliseconds: u64,
}

impl Now {
    fn read() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { instant: Instant::now(), unix_milliseconds: u64::try_from(since.as_millis()).unwrap_or(u64::MAX) }
    }
}

/// What follows from what a [`Wire`] was told.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// To be sent.
    pub(crate) datagrams: Vec<(SocketAddr, Vec<u8>)>,
    /// For the node.
    pub(crate) deliveries: Vec<Inbound>,
    /// What was dropped, and why.
    pub(crate) counts: Vec<Count>,
    /// What is to be called. Only what comes in has this.
    pub(crate) deferred: Vec<Deferred>,
}

/// A call of foreign code, which must be made while nothing is locked.
pub(crate) struct Deferred(Box<dyn FnOnce() + Send>);

impl Deferred {
    #[cfg_attr(not(feature = "mainline"), allow(dead_code, reason = "not every wire has news of its own"))]
    pub(crate) fn new(call: impl FnOnce() + Send + 'static) -> Self {
        Deferred(Box::new(call))
    }

    pub(crate) fn call(self) {
        (self.0)();
    }
}

impl fmt::Debug for Deferred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Deferred")
    }
}

/// Translates between messages and the datagrams of another program. It has neither socket nor clock.
pub(crate) trait Wire: Send + 'static {
    /// The gateway's name.
    const NAME: &'static str;
    /// The largest datagram that is read, and one byte more.
    const RECEIVE_BYTES: usize;
    /// How large messages can be.
    const LIMITS: SizeLimits;

    /// Sends a message to `to`. The first datagram is the message itself.
    fn send(&mut self, now: Now, to: SocketAddr, outbound: &Outbound, out: &mut Effects) -> Result<(), UnsentReason>;

    /// Takes a datagram.
    fn receive(&mut self, now: Now, from: SocketAddr, datagram: &[u8], out: &mut Effects);

    /// When [`tick`](Wire::tick) is due.
    fn due(&self) -> Option<Instant>;

    /// Gives up what has waited too long.
    fn tick(&mut self, now: Now, out: &mut Effects);
}

/// A wire, and what its outbox leaves for the gateway's thread: an outbox may not deliver.
struct Shared<W> {
    wire: W,
    left: Effects,
}

type Common<W> = Arc<Mutex<Shared<W>>>;

fn lock<W>(shared: &Common<W>) -> MutexGuard<'_, Shared<W>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A gateway over UDP. The lock is never held while it sends or delivers.
pub(crate) struct ForeignUdp<W> {
    endpoint: Endpoint,
    shared: Common<W>,
}

impl<W> fmt::Debug for ForeignUdp<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForeignUdp").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl<W: Wire> ForeignUdp<W> {
    /// Binds the address for `gateway`, which errors name; port 0 takes a free one.
    pub(crate) fn bind(gateway: &'static str, address: Multiaddr, wire: W) -> Result<Self, GatewayError> {
        let shared = Arc::new(Mutex::new(Shared { wire, left: Effects::default() }));
        Endpoint::bind(gateway, address).map(|endpoint| ForeignUdp { endpoint, shared })
    }

    /// The address that was bound, with its real port.
    pub(crate) fn address(&self) -> &Multiaddr {
        self.endpoint.address()
    }

    /// Changes the wire before it is used.
    pub(crate) fn configure(&mut self, change: impl FnOnce(&mut W)) {
        change(&mut lock(&self.shared).wire);
    }
}

impl<W: Wire> Gateway for ForeignUdp<W> {
    fn name(&self) -> String {
        W::NAME.to_owned()
    }

    fn addresses(&self) -> Vec<Multiaddr> {
        vec![self.address().clone()]
    }

    fn outbox(&mut self) -> Result<Box<dyn Outbox>, GatewayError> {
        let open = self.endpoint.open()?;
        Ok(Box::new(ForeignOutbox {
            socket: Arc::downgrade(&open.socket),
            waker: Arc::downgrade(&open.waker),
            own: self.endpoint.ip(),
            shared: Arc::clone(&self.shared),
        }))
    }

    fn run(&mut self, link: &Link) -> Result<(), GatewayError> {
        // Its waker lives as long as the run: the outbox wakes by it, too.
        let Bound { mut poll, waker: _waker, socket } = self.endpoint.take(link)?;
        let mut receiver = Receiver { link, socket: &socket, shared: &self.shared, out: Effects::default() };
        let mut buffer = vec![0; W::RECEIVE_BYTES];
        let mut events = Events::with_capacity(4);
        while !link.stopping() {
            let due = lock(&self.shared).wire.due();
            let timeout = due.map(|due| due.saturating_duration_since(Instant::now()));
            if socket::wait(&mut poll, &mut events, timeout)? {
                socket::receive_all(&socket, link, &mut buffer, |datagram, from| receiver.accept(datagram, from))?;
            }
            receiver.go_on();
        }
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), GatewayError> {
        self.endpoint.reopen()
    }

    fn lends_thread(&self) -> bool {
        true
    }
}

struct Receiver<'a, W> {
    link: &'a Link,
    socket: &'a UdpSocket,
    shared: &'a Common<W>,
    out: Effects,
}

impl<W: Wire> Receiver<'_, W> {
    fn accept(&mut self, datagram: &[u8], from: SocketAddr) {
        // As addresses are written, without what only this host knows of a way.
        let from = SocketAddr::new(from.ip(), from.port());
        lock(self.shared).wire.receive(Now::read(), from, datagram, &mut self.out);
        self.send();
        if self.out.deliveries.len() >= BATCH {
            self.deliver();
        }
    }

    /// Does what the outbox has left, and what is due.
    fn go_on(&mut self) {
        let left = {
            let mut shared = lock(self.shared);
            shared.wire.tick(Now::read(), &mut self.out);
            std::mem::take(&mut shared.left)
        };
        self.out.deliveries.extend(left.deliveries);
        self.out.counts.extend(left.counts);
        self.send();
        self.deliver();
    }

    fn send(&mut self) {
        for (to, datagram) in self.out.datagrams.drain(..) {
            if let Err(reason) = socket::send(self.socket, &datagram, to) {
                self.link.unsent(None, reason);
            }
        }
        self.out.counts.drain(..).for_each(|count| self.link.count(count));
        self.out.deferred.drain(..).for_each(Deferred::call);
    }

    fn deliver(&mut self) {
        self.link.deliver_or_drop(std::mem::take(&mut self.out.deliveries));
    }
}

/// Sends straight on the socket.
struct ForeignOutbox<W> {
    socket: Weak<UdpSocket>,
    waker: Weak<Waker>,
    own: IpAddr,
    shared: Common<W>,
}

impl<W: Wire> ForeignOutbox<W> {
    fn try_send(&mut self, outbound: &Outbound) -> Result<(), UnsentReason> {
        let to = ip::dialled(self.own, IpTransport::Udp, &outbound.to).ok_or(UnsentReason::NotDialable)?;
        let socket = self.socket.upgrade().ok_or(UnsentReason::Closed)?;
        let (datagrams, wake) = {
            let mut shared = lock(&self.shared);
            let (mut out, before) = (Effects::default(), shared.wire.due());
            shared.wire.send(Now::read(), to, outbound, &mut out)?;
            let has_more = !out.deliveries.is_empty() || !out.counts.is_empty();
            shared.left.deliveries.extend(out.deliveries);
            shared.left.counts.extend(out.counts);
            // All wait for the same time, so what comes later is due later.
            (out.datagrams, has_more || before.is_none() && shared.wire.due().is_some())
        };
        if let Some(waker) = self.waker.upgrade().filter(|_| wake) {
            waker.wake().ok();
        }
        let mut sent = datagrams.into_iter().map(|(to, datagram)| socket::send(&socket, &datagram, to));
        let first = sent.next().unwrap_or(Ok(()));
        // Those are the gateway's own pings: where one is lost, another follows.
        sent.for_each(drop);
        first
    }
}

impl<W: Wire> Outbox for ForeignOutbox<W> {
    fn dials(&self, address: &Multiaddr) -> bool {
        ip::dialled(self.own, IpTransport::Udp, address).is_some()
    }

    fn limits(&self) -> SizeLimits {
        W::LIMITS
    }

    fn send(&mut self, outbound: Outbound) -> Result<(), Unsent> {
        self.try_send(&outbound).map_err(|reason| Unsent::new(outbound, reason))
    }
}
