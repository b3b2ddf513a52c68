//! [`FaultGateway`]: a bad network around a good gateway.

mod faults;
mod relay;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded, unbounded};
use multiaddr::Multiaddr;

use crate::codec::SizeLimits;
use crate::gateway::{Gateway, GatewayError, Outbound, Outbox, Unsent, UnsentReason};
use crate::link::Link;
use faults::{Fate, Faults};
pub use faults::{FaultConfig, FaultError};
use relay::Relay;

/// How many delayed messages wait for the gateway's thread.
const QUEUE: usize = 1024;

/// Loses, delays, repeats and corrupts what another gateway sends and receives.
///
/// What happens follows from [`FaultConfig::seed`] and the order of the messages in each direction.
///
/// ```
/// # #[cfg(feature = "memory")] {
/// use kademlia_gateways::{FaultConfig, FaultGateway, MemoryGateway};
/// let inner = MemoryGateway::bind("/memory/0".parse().unwrap()).unwrap();
/// let config = FaultConfig { seed: 1, loss: 0.05, ..FaultConfig::default() };
/// let gateway = FaultGateway::new(inner, config).unwrap();
/// # }
/// ```
#[derive(Debug)]
pub struct FaultGateway<G: Gateway> {
    inner: G,
    sending: Arc<Mutex<Sending>>,
    receiving: Faults,
    late_sender: Sender<Late>,
    late: Receiver<Late>,
}

/// The inner gateway's outbox and what happens on the way to it.
struct Sending {
    outbox: Option<Box<dyn Outbox>>,
    faults: Faults,
}

impl fmt::Debug for Sending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending").field("faults", &self.faults).finish_non_exhaustive()
    }
}

impl Sending {
    fn send(&mut self, outbound: Outbound) -> Result<(), Unsent> {
        match &mut self.outbox {
            Some(outbox) => outbox.send(outbound),
            None => Err(Unsent::new(outbound, UnsentReason::Closed)),
        }
    }
}

fn lock(sending: &Mutex<Sending>) -> MutexGuard<'_, Sending> {
    sending.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the outbox leaves to the gateway's thread.
#[derive(Debug)]
enum Late {
    /// Send this then.
    Send(Instant, Box<Outbound>),
    /// Count a message that was corrupted beyond reading.
    Malformed,
}

impl<G: Gateway> FaultGateway<G> {
    /// Puts faults around `inner`.
    ///
    /// # Errors
    ///
    /// When a probability is not within 0 and 1, or the shortest delay is longer than the longest.
    pub fn new(inner: G, config: FaultConfig) -> Result<Self, FaultError> {
        config.check()?;
        let (late_sender, late) = bounded(QUEUE);
        let sending = Sending { outbox: None, faults: Faults::new(config.clone(), 0) };
        let receiving = Faults::new(config, 1);
        Ok(FaultGateway { inner, sending: Arc::new(Mutex::new(sending)), receiving, late_sender, late })
    }
}

impl<G: Gateway> Gateway for FaultGateway<G> {
    fn name(&self) -> String {
        format!("faulty {}", self.inner.name())
    }

    fn addresses(&self) -> Vec<Multiaddr> {
        self.inner.addresses()
    }

    fn outbox(&mut self) -> Result<Box<dyn Outbox>, GatewayError> {
        lock(&self.sending).outbox = Some(self.inner.outbox()?);
        Ok(Box::new(FaultOutbox { sending: Arc::clone(&self.sending), late: self.late_sender.clone() }))
    }

    fn run(&mut self, link: &Link) -> Result<(), GatewayError> {
        let (to_relay, from_inner) = unbounded();
        let (inner_link, mut inner_host) = link.nested(to_relay);
        let (running, ended) = bounded(0);
        let inner = &mut self.inner;
        let run_inner = move || {
            let _dropped_at_the_end = running;
            inner.run(&inner_link)
        };
        let mut relay = Relay::new(link, &mut self.receiving, &self.sending);
        thread::scope(|scope| {
            let thread = thread::Builder::new().name("faulty".to_owned()).spawn_scoped(scope, run_inner)?;
            relay.run(&from_inner, &ended, &self.late);
            inner_host.stop();
            // Its end is ours, whatever it is.
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn reopen(&mut self) -> Result<(), GatewayError> {
        self.inner.reopen()
    }
}

struct FaultOutbox {
    sending: Arc<Mutex<Sending>>,
    late: Sender<Late>,
}

impl FaultOutbox {
    fn send_after(&self, sending: &mut Sending, delay: Duration, outbound: Outbound) -> Result<(), Unsent> {
        if delay.is_zero() {
            return sending.send(outbound);
        }
        let (late, reason) = match self.late.try_send(Late::Send(Instant::now() + delay, Box::new(outbound))) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(late)) => (late, UnsentReason::QueueFull),
            Err(TrySendError::Disconnected(late)) => (late, UnsentReason::Closed),
        };
        match late {
            Late::Send(_, outbound) => Err(Unsent { outbound, reason }),
            Late::Malformed => Ok(()),
        }
    }
}

impl Outbox for FaultOutbox {
    fn dials(&self, address: &Multiaddr) -> bool {
        lock(&self.sending).outbox.as_ref().is_some_and(|outbox| outbox.dials(address))
    }

    fn limits(&self) -> SizeLimits {
        lock(&self.sending).outbox.as_ref().map_or(SizeLimits::STREAM, |outbox| outbox.limits())
    }

    fn send(&mut self, mut outbound: Outbound) -> Result<(), Unsent> {
        let mut sending = lock(&self.sending);
        match sending.faults.decide(&mut outbound.envelope) {
            Fate::Lost => Ok(()),
            Fate::Malformed => {
                // Only the count is lost where the queue is full.
                self.late.try_send(Late::Malformed).ok();
                Ok(())
            }
            Fate::Arrives { after, again } => {
                let copy = again.map(|delay| (delay, outbound.clone()));
                self.send_after(&mut sending, after, outbound)?;
                if let Some((delay, copy)) = copy {
                    self.send_after(&mut sending, delay, copy).ok();
                }
                Ok(())
            }
        }
    }
}
