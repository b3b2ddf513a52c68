//! What all requests share.

use std::sync::Arc;
use std::time::Duration;

use kademlia_dht::{DHTService, Event, Id, Pending};
use tokio::sync::broadcast::{self, Receiver};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::errors::ApiError;
use super::metrics::HttpMetrics;
use super::server::ServerError;
use crate::args::{HttpPlan, Network, WayPlan};

/// Transfers of large values at once: each has a thread while it runs.
const TRANSFERS: usize = 16;

/// The largest value in a network of rpcudp: its requests have 8 KiB.
const RPCUDP_VALUE_BYTES: usize = 8000;

/// The largest value in BitTorrent's DHT, whose 1,000 bytes have the length in them.
const MAINLINE_VALUE_BYTES: usize = 996;

/// Those who follow the events at once.
const FOLLOWERS: usize = 64;

/// Events that wait for one follower.
const EVENTS: usize = 1024;

/// What the API must be told of the node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// How many bytes of an id count.
    pub(crate) key_bytes: usize,
    /// The protocol of the network.
    pub(crate) network: &'static str,
    /// The largest value of one record.
    pub(crate) value_bytes: usize,
    /// Whether the network has a form for larger ones.
    pub(crate) takes_large: bool,
    /// After so long the chunks of a large value are saved again.
    pub(crate) renew_interval: Duration,
    /// Whether values have types in the network.
    pub(crate) has_types: bool,
    /// Whether the network has peers of torrents.
    pub(crate) has_peers: bool,
    /// Whether the node should know others: it was told whom to join, is of no use alone, or knew some before.
    pub(crate) joins: bool,
}

impl Settings {
    pub(crate) fn new(plan: &WayPlan) -> Self {
        Settings {
            key_bytes: plan.config.hasher.key_space().bytes(),
            network: plan.network.name(),
            value_bytes: match plan.network {
                Network::Native => plan.config.limits.value_bytes,
                Network::Rpcudp => RPCUDP_VALUE_BYTES,
                Network::Mainline => MAINLINE_VALUE_BYTES,
            },
            takes_large: plan.network != Network::Rpcudp,
            // Others may let records live less long than this node: as often as it publishes they take that.
            renew_interval: plan.config.republish_interval.min(plan.config.record_lifetime / 2),
            has_types: plan.network == Network::Rpcudp,
            has_peers: plan.network == Network::Mainline,
            joins: !plan.entrances.is_empty() || plan.config.client,
        }
    }
}

/// Reads the token for writes, if there is to be one.
pub(crate) fn read_token(plan: &HttpPlan) -> Result<Option<String>, ServerError> {
    let Some(path) = plan.token_file.clone() else { return Ok(None) };
    match std::fs::read_to_string(&path) {
        Ok(text) if text.trim().is_empty() => Err(ServerError::EmptyToken { path }),
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) => Err(ServerError::Token { path, error }),
    }
}

/// The API of one node.
#[derive(Debug, Clone)]
pub(crate) struct Api(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    service: DHTService,
    settings: Settings,
    max_body: u64,
    timeout: Duration,
    token: Option<String>,
    hosts: Vec<String>,
    transfers: Arc<Semaphore>,
    events: broadcast::Sender<Option<Event>>,
    followers: Arc<Semaphore>,
    metrics: HttpMetrics,
}

impl Api {
    /// For these settings of HTTP, and with this token for writes.
    pub(crate) fn new(service: DHTService, settings: Settings, plan: &HttpPlan, token: Option<String>) -> Self {
        Api(Arc::new(Shared {
            service,
            settings,
            max_body: plan.max_body,
            timeout: plan.timeout,
            token,
            hosts: plan.hosts.clone(),
            transfers: Arc::new(Semaphore::new(TRANSFERS)),
            events: broadcast::Sender::new(EVENTS),
            followers: Arc::new(Semaphore::new(FOLLOWERS)),
            metrics: HttpMetrics::default(),
        }))
    }

    /// Tells all who follow what has happened; `None` when nothing more will.
    pub(crate) fn tell(&self, event: Option<Event>) {
        // Fails where nobody follows.
        self.0.events.send(event).ok();
    }

    /// What happens from now on, with a place among those who follow it.
    pub(super) fn follow(&self) -> Result<(OwnedSemaphorePermit, Receiver<Option<Event>>), ApiError> {
        let place = Arc::clone(&self.0.followers).try_acquire_owned();
        let place = place.map_err(|_| ApiError::busy("as many as can be follow the events already"))?;
        Ok((place, self.0.events.subscribe()))
    }

    pub(super) fn metrics(&self) -> &HttpMetrics {
        &self.0.metrics
    }

    pub(super) fn service(&self) -> &DHTService {
        &self.0.service
    }

    pub(super) fn settings(&self) -> Settings {
        self.0.settings
    }

    /// The most bytes of a body.
    pub(super) fn max_body(&self) -> u64 {
        self.0.max_body
    }

    /// The longest that the other end may take for a step.
    pub(super) fn timeout(&self) -> Duration {
        self.0.timeout
    }

    /// What writes must show, if anything.
    pub(super) fn token(&self) -> Option<&str> {
        self.0.token.as_deref()
    }

    /// The names by which this node is asked, besides those that every host has.
    pub(super) fn hosts(&self) -> &[String] {
        &self.0.hosts
    }

    /// An id in hexadecimal, all of it that counts.
    pub(super) fn hex(&self, id: &Id) -> String {
        crate::node::hex(id, self.0.settings.key_bytes)
    }

    /// The distance of two ids in hexadecimal, as wide as an id.
    pub(super) fn distance(&self, one: &Id, other: &Id) -> String {
        let bytes = one.as_bytes().iter().zip(other.as_bytes()).take(self.0.settings.key_bytes);
        bytes.map(|(one, other)| format!("{:02x}", one ^ other)).collect()
    }

    /// Does something that waits, on a thread where that harms nobody.
    pub(super) async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&DHTService) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let service = self.0.service.clone();
        let done = tokio::task::spawn_blocking(move || work(&service)).await;
        done.map_err(|error| ApiError::internal(error.to_string()))
    }

    /// A place among the transfers of large values, for as long as it is kept.
    pub(super) fn transfer(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let place = Arc::clone(&self.0.transfers).try_acquire_owned();
        place.map_err(|_| ApiError::busy("as many large values as can be are under way; try again when one has ended"))
    }
}

/// An operation that ends when nobody waits for it any more.
#[derive(Debug)]
pub(super) struct Wanted<T>(Option<Pending<T>>);

impl<T> Wanted<T> {
    /// Waits for the result of an operation. Who asked may go away meanwhile: then it is cancelled.
    pub(super) async fn result(pending: Pending<T>) -> Result<T, kademlia_dht::Error> {
        let mut wanted = Wanted(Some(pending));
        let result = match &mut wanted.0 {
            Some(pending) => pending.await,
            None => Err(kademlia_dht::Error::Stopped),
        };
        wanted.0 = None;
        result
    }
}

impl<T> Drop for Wanted<T> {
    fn drop(&mut self) {
        if let Some(pending) = self.0.take() {
            pending.cancel();
        }
    }
}
