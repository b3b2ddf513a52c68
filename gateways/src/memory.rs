//! [`MemoryGateway`]: messages between the nodes of one process, which never leave it.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded, never, select};
use multiaddr::{Multiaddr, Protocol};

use crate::codec::{self, SizeLimits};
use crate::gateway::{Gateway, GatewayError, Inbound, Outbound, Outbox, ReplyPath, Unsent, UnsentReason};
use crate::link::Link;

/// How many messages can wait for one gateway, beyond those that wait for its node.
const CAPACITY: usize = 1024;

/// How many messages cross to the node at once.
const BATCH: usize = 64;

/// The next number to try for one who takes any. Small numbers are left to those who ask for them, and a number that
/// was given back is not given to the next one, whom messages to the last one would reach.
static NEXT_FREE: AtomicU64 = AtomicU64::new(49_152);

/// The inboxes of all that is bound in this process.
static INBOXES: RwLock<BTreeMap<u64, Sender<Inbound>>> = RwLock::new(BTreeMap::new());

fn inboxes() -> RwLockReadGuard<'static, BTreeMap<u64, Sender<Inbound>>> {
    INBOXES.read().unwrap_or_else(PoisonError::into_inner)
}

fn inboxes_mut() -> RwLockWriteGuard<'static, BTreeMap<u64, Sender<Inbound>>> {
    INBOXES.write().unwrap_or_else(PoisonError::into_inner)
}

/// Carries messages between the nodes of one process: `/memory/…` with any number above 0.
///
/// Messages pass as they are, without an encoding, but no larger than over a stream.
///
/// ```
/// use kademlia_gateways::{Gateway, MemoryGateway};
/// let gateway = MemoryGateway::bind("/memory/0".parse().unwrap()).unwrap();
/// assert_ne!(gateway.address().to_string(), "/memory/0", "a number that was free");
/// assert!(MemoryGateway::bind(gateway.address().clone()).is_err(), "it is taken now");
/// ```
#[derive(Debug)]
pub struct MemoryGateway {
    address: Multiaddr,
    number: u64,
    open: Option<Binding>,
}

/// A number that is taken until this is dropped.
#[derive(Debug)]
struct Binding {
    number: u64,
    inbox: Receiver<Inbound>,
    /// Outboxes see by it whether this is still there.
    alive: Arc<()>,
}

impl Binding {
    /// Takes the number, or a free one for 0.
    fn new(wanted: u64) -> io::Result<Self> {
        let mut inboxes = inboxes_mut();
        let number = match wanted {
            0 => loop {
                let number = NEXT_FREE.fetch_add(1, Ordering::Relaxed);
                if !inboxes.contains_key(&number) {
                    break number;
                }
            },
            number => number,
        };
        if inboxes.contains_key(&number) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let (sender, inbox) = bounded(CAPACITY);
        inboxes.insert(number, sender);
        Ok(Binding { number, inbox, alive: Arc::default() })
    }
}

impl Drop for Binding {
    fn drop(&mut self) {
        inboxes_mut().remove(&self.number);
    }
}

impl MemoryGateway {
    /// Takes the address; 0 takes a number that is free.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Address`] if it is not exactly `/memory/…`, [`GatewayError::Bind`] if it is taken.
    pub fn bind(address: Multiaddr) -> Result<Self, GatewayError> {
        let Some(wanted) = number(&address) else {
            return Err(GatewayError::Address { gateway: "MemoryGateway", address, expected: "/memory/1" });
        };
        let binding = Binding::new(wanted).map_err(|source| GatewayError::Bind { address, source })?;
        let number = binding.number;
        Ok(MemoryGateway { address: Protocol::Memory(number).into(), number, open: Some(binding) })
    }

    /// The address that was taken.
    pub fn address(&self) -> &Multiaddr {
        &self.address
    }
}

/// The number of exactly `/memory/…`.
fn number(address: &Multiaddr) -> Option<u64> {
    let mut parts = address.iter();
    match (parts.next(), parts.next()) {
        (Some(Protocol::Memory(number)), None) => Some(number),
        _ => None,
    }
}

impl Gateway for MemoryGateway {
    fn name(&self) -> String {
        "memory".to_owned()
    }

    fn addresses(&self) -> Vec<Multiaddr> {
        vec![self.address.clone()]
    }

    fn outbox(&mut self) -> Result<Box<dyn Outbox>, GatewayError> {
        let binding = self.open.as_ref().ok_or(GatewayError::Ended)?;
        let alive = Arc::downgrade(&binding.alive);
        Ok(Box::new(MemoryOutbox { own: self.address.clone(), alive, buffer: Vec::new() }))
    }

    fn run(&mut self, link: &Link) -> Result<(), GatewayError> {
        let binding = self.open.take().ok_or(GatewayError::Ended)?;
        let (wake, woken) = bounded(1);
        link.on_wake(move || {
            wake.try_send(()).ok();
        });
        let nothing = never();
        let mut batch = Vec::new();
        while !link.stopping() {
            // While the node is behind, messages wait in the inbox, and beyond it with their senders.
            let inbox = if batch.is_empty() { &binding.inbox } else { &nothing };
            select! {
                recv(link.stop_signal()) -> _ => break,
                recv(woken) -> _ => {}
                recv(inbox) -> first => {
                    batch.extend(first);
                    batch.extend(binding.inbox.try_iter().take(BATCH - 1));
                }
            }
            batch = link.deliver(batch).err().unwrap_or_default();
        }
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), GatewayError> {
        self.open = None;
        let binding = Binding::new(self.number);
        self.open = Some(binding.map_err(|source| GatewayError::Bind { address: self.address.clone(), source })?);
        Ok(())
    }

    fn lends_thread(&self) -> bool {
        true
    }
}

/// Puts messages into the inboxes of others.
struct MemoryOutbox {
    own: Multiaddr,
    /// Dangles when the gateway has ended: nothing must come from an address that another can have taken.
    alive: Weak<()>,
    buffer: Vec<u8>,
}

impl MemoryOutbox {
    /// Holds the message to the size that it would have on a stream.
    fn check_size(&mut self, outbound: &mut Outbound) -> Result<(), UnsentReason> {
        self.buffer.clear();
        let limits = outbound.limits(SizeLimits::STREAM);
        Ok(codec::encode_fitting(&mut outbound.envelope, limits, &mut self.buffer)?)
    }
}

impl Outbox for MemoryOutbox {
    fn dials(&self, address: &Multiaddr) -> bool {
        number(address).is_some_and(|number| number != 0)
    }

    fn limits(&self) -> SizeLimits {
        SizeLimits::STREAM
    }

    fn send(&mut self, mut outbound: Outbound) -> Result<(), Unsent> {
        let Some(number) = number(&outbound.to) else {
            return Err(Unsent::new(outbound, UnsentReason::NotDialable));
        };
        if self.alive.strong_count() == 0 {
            return Err(Unsent::new(outbound, UnsentReason::Closed));
        }
        if let Err(reason) = self.check_size(&mut outbound) {
            return Err(Unsent::new(outbound, reason));
        }
        let inboxes = inboxes();
        let Some(inbox) = inboxes.get(&number) else {
            return Err(Unsent::new(outbound, UnsentReason::Unreachable));
        };
        let Outbound { to, path, at_most, envelope } = outbound;
        let inbound = Inbound::connected(self.own.clone(), ReplyPath::default(), self.buffer.len(), envelope);
        inbox.try_send(inbound).map_err(|error| {
            let (inbound, reason) = match error {
                TrySendError::Full(inbound) => (inbound, UnsentReason::QueueFull),
                TrySendError::Disconnected(inbound) => (inbound, UnsentReason::Unreachable),
            };
            Unsent::new(Outbound { to, path, at_most, envelope: inbound.envelope }, reason)
        })
    }
}
