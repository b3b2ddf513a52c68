//! Whom a node joins: each address is tried until it works, and all of them again when the node has lost everybody.

use std::collections::BTreeSet;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle, ScopedJoinHandle};
use std::time::Duration;

use kademlia_dht::gateway::address::{self, ResolveError};
use kademlia_dht::{DHTService, Error, Joined, Multiaddr, Pending};
use log::Level;

use super::Happening;

/// After a try in vain the next one waits so long, and each further one twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What the joining thread is told.
#[derive(Debug, Clone, Copy)]
pub(super) enum Word {
    /// The node has lost everybody.
    Alone,
    /// The node ends.
    End,
}

/// Why nobody was joined through an address.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unjoined {
    #[error(transparent)]
    Name(#[from] ResolveError),
    #[error(transparent)]
    Refused(Error),
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
}

/// What the thread that joins has.
#[derive(Debug)]
pub(super) struct Joining {
    pub(super) service: DHTService,
    pub(super) addresses: Vec<Multiaddr>,
    pub(super) told: Receiver<Word>,
    pub(super) happens: Sender<Happening>,
}

impl Joining {
    /// Begins to join through each of the addresses. It ends when it is told to, and the service has stopped, so that it
    /// waits for nobody's answer.
    pub(super) fn start(self) -> io::Result<JoinHandle<()>> {
        thread::Builder::new().name("joining".to_owned()).spawn(move || self.join())
    }

    fn join(&self) {
        let mut told = BTreeSet::new();
        let mut missing = try_all(&self.service, self.addresses.clone(), &mut told);
        let mut pause = FIRST_PAUSE;
        self.happens.send(Happening::TriedToJoin).ok();
        loop {
            let word = if missing.is_empty() {
                self.told.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                self.told.recv_timeout(pause)
            };
            match word {
                // Also those through whom it was joined before.
                Ok(Word::Alone) => (missing, pause) = (self.addresses.clone(), FIRST_PAUSE),
                Ok(Word::End) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
            // The word of it may have been lost.
            if self.service.status().known_peers == 0 {
                missing.clone_from(&self.addresses);
            }
            missing = try_all(&self.service, missing, &mut told);
        }
    }
}

/// Tries these addresses, all at once, and gives those through which nobody was joined. `told` are those of which that was
/// said already.
fn try_all(service: &DHTService, addresses: Vec<Multiaddr>, told: &mut BTreeSet<Multiaddr>) -> Vec<Multiaddr> {
    let tries: Vec<(Multiaddr, Result<Joined, Unjoined>)> = thread::scope(|scope| {
        let begin = |address: Multiaddr| {
            let asked = address.clone();
            let work = move || join_through(service, &asked);
            (address, thread::Builder::new().name("join".to_owned()).spawn_scoped(scope, work))
        };
        let begun: Vec<_> = addresses.into_iter().map(begin).collect();
        let end = |thread: io::Result<ScopedJoinHandle<'_, _>>| match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(error) => Err(Unjoined::Thread(error)),
        };
        begun.into_iter().map(|(address, thread)| (address, end(thread))).collect()
    });
    let failed = tries.into_iter().filter_map(|(address, result)| match result {
        Ok(joined) => {
            log::info!("joined through {address}: {} contacts", joined.contacts);
            told.remove(&address);
            None
        }
        Err(Unjoined::Refused(Error::Itself)) => {
            log::log!(level(told, &address), "{address} is this node itself");
            None
        }
        Err(Unjoined::Refused(Error::Stopped)) => None,
        Err(error) => {
            log::log!(level(told, &address), "cannot join through {address} yet: {error}");
            Some(address)
        }
    });
    failed.collect()
}

/// Joins through whoever is at an address. Behind a name there can be several.
pub(crate) fn join_through(service: &DHTService, address: &Multiaddr) -> Result<Joined, Unjoined> {
    let tries: Vec<_> = reachable(service, address::resolve(address)?).map(|found| service.connect(found)).collect();
    let mut first = None;
    for result in tries.into_iter().map(Pending::wait) {
        if result.is_ok() {
            return result.map_err(Unjoined::Refused);
        }
        first = first.or(result.err());
    }
    Err(Unjoined::Refused(first.unwrap_or(Error::NoPeers)))
}

/// Those to which this node has a way, as it may speak only one of the families that a host has. If there are none, all.
fn reachable(service: &DHTService, addresses: Vec<Multiaddr>) -> impl Iterator<Item = Multiaddr> {
    let ways: Vec<_> = service.listen_addresses().iter().map(address::transport).collect();
    let has_way = move |address: &Multiaddr| ways.contains(&address::transport(&address::split_first(address).0));
    let is_any = addresses.iter().any(&has_way);
    addresses.into_iter().filter(move |address| !is_any || has_way(address))
}

/// A warning the first time, until it is otherwise.
fn level(told: &mut BTreeSet<Multiaddr>, address: &Multiaddr) -> Level {
    if told.insert(address.clone()) { Level::Warn } else { Level::Debug }
}
