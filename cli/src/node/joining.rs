//! Whom a node joins: each entrance is tried until it works, and all of them again when the node has lost everybody.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::mpsc::Sender;
use std::time::Duration;
use std::{io, thread};

use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use kademlia_dht::gateway::address::{self, ResolveError};
use kademlia_dht::{DHTService, Error, Joined, Multiaddr};
use log::Level;
use tokio::runtime::Builder;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::Happening;
use crate::args::Entrance;

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

/// Why nobody was joined through an entrance.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unjoined {
    #[error(transparent)]
    Name(#[from] ResolveError),
    #[error(transparent)]
    Service(Error),
    #[error("the resolver of names has failed: {0}")]
    Resolver(#[from] tokio::task::JoinError),
}

/// What the thread that joins has.
#[derive(Debug)]
pub(super) struct Joining {
    pub(super) service: DHTService,
    pub(super) entrances: Vec<Entrance>,
    pub(super) told: UnboundedReceiver<Word>,
    pub(super) happens: Sender<Happening>,
}

impl Joining {
    /// Begins to join through each of the entrances. It ends when it is told to, and the service has stopped, so that it
    /// waits for nobody's answer but the resolver's.
    pub(super) fn start(self) -> io::Result<()> {
        let runtime = Builder::new_current_thread().enable_time().build()?;
        let work = move || {
            runtime.block_on(self.join());
            runtime.shutdown_background();
        };
        thread::Builder::new().name("joining".to_owned()).spawn(work).map(drop)
    }

    async fn join(mut self) {
        let mut warned = BTreeSet::new();
        let mut missing = try_all(&self.service, self.entrances.clone(), &mut warned).await;
        let mut pause = FIRST_PAUSE;
        self.happens.send(Happening::TriedToJoin).ok();
        loop {
            let word =
                if missing.is_empty() { Ok(self.told.recv().await) } else { timeout(pause, self.told.recv()).await };
            match word {
                // Also those through whom it was joined before.
                Ok(Some(Word::Alone)) => (missing, pause) = (self.entrances.clone(), FIRST_PAUSE),
                Ok(Some(Word::End) | None) => return,
                Err(_) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
            // The word of it may have been lost.
            if self.service.status().known_peers == 0 {
                missing.clone_from(&self.entrances);
            }
            missing = try_all(&self.service, missing, &mut warned).await;
        }
    }
}

/// Tries these entrances, all at once, and gives those to be tried again. `warned` are those of which that was said
/// already.
async fn try_all(service: &DHTService, entrances: Vec<Entrance>, warned: &mut BTreeSet<Entrance>) -> Vec<Entrance> {
    let tries = entrances.into_iter().map(async |entrance| {
        let result = join_through(service, &entrance).await;
        (entrance, result)
    });
    let mut missing = Vec::new();
    for (entrance, result) in join_all(tries).await {
        let mut level = || if warned.insert(entrance.clone()) { Level::Warn } else { Level::Debug };
        match result {
            Ok(joined) => {
                log::info!("joined through {entrance}: {} contacts", joined.contacts);
                warned.remove(&entrance);
            }
            Err(Unjoined::Service(Error::Stopped)) => {}
            Err(Unjoined::Service(Error::Itself)) => {
                log::log!(level(), "{entrance} is this node itself");
                // A name can stand for others as well, now or tomorrow.
                missing.extend(Some(entrance).filter(Entrance::has_names));
            }
            Err(error) => {
                log::log!(level(), "cannot join through {entrance} yet: {error}");
                missing.push(entrance);
            }
        }
    }
    missing
}

/// Joins through the first of the entrances that works.
pub(crate) async fn join_any(service: &DHTService, entrances: &[Entrance]) -> Result<Joined, Unjoined> {
    first(entrances.iter().map(|entrance| join_through(service, entrance))).await
}

/// Joins through whoever answers first of those to whom an entrance leads.
async fn join_through(service: &DHTService, entrance: &Entrance) -> Result<Joined, Unjoined> {
    first(entrance.addresses().into_iter().map(|address| join_at(service, address))).await
}

async fn join_at(service: &DHTService, address: Multiaddr) -> Result<Joined, Unjoined> {
    let found = spawn_blocking(move || address::resolve(&address)).await??;
    let connect = async |address| service.connect(address).await.map_err(Unjoined::Service);
    first(reachable(service, found).map(connect)).await
}

/// The first success. If there is none, why: that somebody is this node itself says the least.
async fn first(
    tries: impl IntoIterator<Item = impl Future<Output = Result<Joined, Unjoined>>>,
) -> Result<Joined, Unjoined> {
    let mut tries: FuturesUnordered<_> = tries.into_iter().collect();
    let mut failure = None;
    while let Some(result) = tries.next().await {
        match result {
            Ok(joined) => return Ok(joined),
            Err(error) if matches!(failure, None | Some(Unjoined::Service(Error::Itself))) => failure = Some(error),
            Err(_) => {}
        }
    }
    Err(failure.unwrap_or(Unjoined::Service(Error::NoPeers)))
}

/// Those to which this node has a way, as it may speak only one of the families that a host has. If there are none, all.
fn reachable(service: &DHTService, addresses: Vec<Multiaddr>) -> impl Iterator<Item = Multiaddr> {
    let ways: Vec<_> = service.listen_addresses().iter().map(address::transport).collect();
    let has_way = move |address: &Multiaddr| ways.contains(&address::transport(&address::split_first(address).0));
    let is_any = addresses.iter().any(&has_way);
    addresses.into_iter().filter(move |address| !is_any || has_way(address))
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    #[test]
    fn of_several_failures_one_that_says_more_than_that_it_is_this_node_is_told() {
        let runtime = Builder::new_current_thread().build().unwrap();
        let told = |errors: Vec<Error>| {
            let tries = errors.into_iter().map(|error| ready(Err(Unjoined::Service(error))));
            runtime.block_on(first(tries)).unwrap_err().to_string()
        };
        assert_eq!(told(vec![Error::Itself, Error::Busy, Error::Itself]), Error::Busy.to_string());
        assert_eq!(told(vec![Error::Itself]), Error::Itself.to_string());
        assert_eq!(told(vec![]), Error::NoPeers.to_string());
    }

    #[test]
    fn names_can_lead_elsewhere_tomorrow() {
        let has_names = |address: &str| Entrance::Address(address.parse().unwrap()).has_names();
        assert!(has_names("/dns/localhost/udp/1") && has_names("/dns6/localhost/tcp/1"));
        assert!(!has_names("/ip4/127.0.0.1/udp/1") && Entrance::PublicRouters.has_names());
    }
}
