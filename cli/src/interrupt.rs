//! Ctrl-C: what is under way ends, and the sockets of the network are removed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kademlia_dht::DHTService;

use crate::signals::{self, SignalsError};

/// Whether the user wants the program to end, and what stands in the way of that.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interrupt {
    wanted: Arc<AtomicBool>,
    services: Arc<Mutex<Vec<DHTService>>>,
}

impl Interrupt {
    /// Listens for Ctrl-C and for being told to terminate.
    pub(crate) fn listen() -> Result<Self, SignalsError> {
        let interrupt = Interrupt::default();
        let handler = interrupt.clone();
        signals::listen(move || handler.trigger())?;
        Ok(interrupt)
    }

    /// Whether the program is to end.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::SeqCst)
    }

    /// Stops these services when the program is to end, so that whoever waits for them does not wait in vain.
    pub(crate) fn stops(&self, services: impl Iterator<Item = DHTService>) {
        self.services.lock().unwrap_or_else(PoisonError::into_inner).extend(services);
        if self.is_wanted() {
            self.trigger();
        }
    }

    fn trigger(&self) {
        self.wanted.store(true, Ordering::SeqCst);
        let services = std::mem::take(&mut *self.services.lock().unwrap_or_else(PoisonError::into_inner));
        services.iter().for_each(DHTService::stop);
    }
}
