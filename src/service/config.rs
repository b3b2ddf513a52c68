//! What a user can set, and within which bounds.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use kademlia_gateways::{Contact, Id, KeySpace, NetworkId};
use sha2::{Digest, Sha256};

use crate::core::{Admission, Limits, Params};
use crate::hasher::{KeyHasher, Sha1Hasher};
use crate::rules::{Rules, Validator};

/// The settings of a [`DHTService`](super::DHTService). The default is a full node of a public network.
///
/// ```
/// use std::time::Duration;
/// use kademlia_dht::Config;
/// let config = Config { k: 8, request_timeout: Duration::from_secs(1), ..Config::default() };
/// assert!(config.check().is_ok());
/// ```
#[derive(Debug, Clone)]
pub struct Config {
    /// Turns keys into ids; the same in all of the network. SHA-1 by default.
    pub hasher: Arc<dyn KeyHasher>,
    /// The rules for namespaces of your own, by namespace; none by default. All nodes must have the same rule for one.
    pub validators: BTreeMap<String, Arc<dyn Validator>>,
    /// The node's id, which must be in the hasher's key space; `None` (the default) for a random one.
    /// A node of BitTorrent's DHT that is given one keeps it, wherever others see the node.
    pub id: Option<Id>,
    /// Who may stand in the node's routing table and be given records; `None` (the default) for anybody.
    pub admission: Option<Arc<dyn Admission<Contact>>>,
    /// The network that the node belongs to; messages of others are dropped. See [`network_named`].
    pub network: NetworkId,
    /// Contacts in a bucket, contacts in a reply, holders of a record: 1 to 100, by default 20.
    pub k: usize,
    /// Requests that a lookup keeps in flight: 1 to 64, by default 3.
    pub alpha: usize,
    /// Holders that must agree before a query ends early: 1 to `k`, by default 3 (or `k`, where that is less).
    pub read_quorum: usize,
    /// Asks and stores, but serves nobody and is in nobody's routing table. Off by default.
    pub client: bool,
    /// The longest that one request waits for its answer: 1 ms to 1 minute, by default 2 s.
    pub request_timeout: Duration,
    /// The longest that a lookup, with what follows from it, takes: `request_timeout` to 1 hour, by default 30 s.
    pub lookup_timeout: Duration,
    /// A contact not heard of for this long is pinged: 10 ms to 1 year, by default 15 minutes.
    pub peer_timeout: Duration,
    /// How long a record lives after it was last published: 1 s to 1 year, by default 24 hours.
    pub record_lifetime: Duration,
    /// A bucket in which nothing was looked up for this long is refreshed: 10 ms to 1 year, by default 1 hour.
    pub refresh_interval: Duration,
    /// Holders pass their records to the nodes now closest to them this often: 10 ms to 1 year, by default 1 hour.
    pub replicate_interval: Duration,
    /// The node publishes its own records again this often: 10 ms to 1 year, by default 22 hours (or 11/12 of
    /// `record_lifetime`, where that is less).
    pub republish_interval: Duration,
    /// For a node of BitTorrent's DHT what its gateway shares with it: see `Config::mainline`.
    #[cfg(feature = "mainline")]
    pub mainline: Option<kademlia_gateways::mainline::MainlineHandle>,
    /// The bounds of what the node holds and does at once.
    pub limits: Limits,
    /// Whether and how much the node passes messages on between others.
    pub relay: RelayPolicy,
    /// Events that wait for one subscriber: 1 to 1,048,576, by default 1,024. Those beyond are counted as missed.
    pub events_capacity: usize,
}

/// Whether a node passes messages on between others that share no transport, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayPolicy {
    /// Whether it does so.
    pub mode: RelayMode,
    /// Messages a second from one source: 1 to 1,000,000, by default 2,000.
    ///
    /// A second relay sees all that comes through the first one as one source.
    pub rate: u32,
    /// Messages from one source at once: 1 to 1,000,000, by default 4,000.
    pub burst: u32,
}

/// See [`RelayPolicy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RelayMode {
    /// Passes nothing on.
    Off,
    /// Passes messages on.
    On,
    /// Passes messages on while it has two gateways or more and is no client.
    #[default]
    Auto,
}

impl Default for RelayPolicy {
    fn default() -> Self {
        RelayPolicy { mode: RelayMode::Auto, rate: 2_000, burst: 4_000 }
    }
}

impl Default for Config {
    fn default() -> Self {
        let hasher = Sha1Hasher;
        let params = Params::new(hasher.key_space());
        Config {
            hasher: Arc::new(hasher),
            validators: BTreeMap::new(),
            id: None,
            admission: None,
            network: params.network,
            k: params.k,
            alpha: params.alpha,
            read_quorum: params.read_quorum,
            client: params.client,
            request_timeout: params.request_timeout,
            lookup_timeout: params.lookup_timeout,
            peer_timeout: params.peer_timeout,
            record_lifetime: params.record_lifetime,
            refresh_interval: params.refresh_interval,
            replicate_interval: params.replicate_interval,
            republish_interval: params.republish_interval,
            #[cfg(feature = "mainline")]
            mainline: None,
            limits: params.limits,
            relay: RelayPolicy::default(),
            events_capacity: 1024,
        }
    }
}

/// The id of the network with this name: the start of the name's SHA-256.
///
/// ```
/// use kademlia_dht::{Config, network_named};
/// let config = Config { network: network_named("my application"), ..Config::default() };
/// assert_ne!(config.network, Config::default().network);
/// ```
pub fn network_named(name: &str) -> NetworkId {
    let digest = Sha256::digest(name.as_bytes());
    NetworkId(digest.iter().take(4).fold(0, |id, byte| id << 8 | u32::from(*byte)))
}

/// A setting that is out of its bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Config::{field} must be {bounds}, but is {value}")]
pub struct ConfigError {
    /// The setting, such as `k` or `limits.records`.
    pub field: &'static str,
    /// What it can be.
    pub bounds: String,
    /// What it is.
    pub value: String,
}

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
const SHORT: Duration = Duration::from_millis(10);

/// Bounds of limits that nobody reaches for good reasons.
const MANY: usize = u32::MAX as usize;

impl Config {
    /// Whether every setting is within its bounds. [`DHTService::start`](super::DHTService::start) checks it too.
    ///
    /// # Errors
    ///
    /// The first setting that is not.
    pub fn check(&self) -> Result<(), ConfigError> {
        within("k", &self.k, 1..=100)?;
        within("alpha", &self.alpha, 1..=64)?;
        if self.read_quorum != Config::default().read_quorum {
            within("read_quorum", &self.read_quorum, 1..=self.k)?;
        }
        lasting("request_timeout", self.request_timeout, Duration::from_millis(1)..=Duration::from_secs(60))?;
        lasting("lookup_timeout", self.lookup_timeout, self.request_timeout..=Duration::from_secs(3600))?;
        lasting("peer_timeout", self.peer_timeout, SHORT..=YEAR)?;
        lasting("record_lifetime", self.record_lifetime, Duration::from_secs(1)..=YEAR)?;
        lasting("refresh_interval", self.refresh_interval, SHORT..=YEAR)?;
        lasting("replicate_interval", self.replicate_interval, SHORT..=YEAR)?;
        lasting("republish_interval", self.republish_interval, SHORT..=YEAR)?;
        within("relay.rate", &self.relay.rate, 1..=1_000_000)?;
        within("relay.burst", &self.relay.burst, 1..=1_000_000)?;
        within("events_capacity", &self.events_capacity, 1..=1 << 20)?;
        self.check_limits()?;
        #[cfg(feature = "mainline")]
        if self.mainline.is_some() {
            super::mainline::check(self)?;
        }
        self.id.map_or(Ok(()), |id| check_id(&id, self.hasher.key_space()))
    }

    fn check_limits(&self) -> Result<(), ConfigError> {
        let limits = &self.limits;
        within("limits.operations", &limits.operations, 1..=65_536)?;
        within("limits.background", &limits.background, 1..=1024)?;
        within("limits.records", &limits.records, 0..=MANY)?;
        within("limits.record_bytes", &limits.record_bytes, 0..=usize::MAX)?;
        within("limits.records_per_key", &limits.records_per_key, 1..=MANY)?;
        within("limits.record_bytes_per_key", &limits.record_bytes_per_key, 0..=usize::MAX)?;
        within("limits.records_per_source", &limits.records_per_source, 0..=MANY)?;
        within("limits.record_bytes_per_source", &limits.record_bytes_per_source, 0..=usize::MAX)?;
        within("limits.published", &limits.published, 0..=MANY)?;
        within("limits.value_bytes", &limits.value_bytes, 1..=64 << 10)
    }

    /// What the core is told.
    pub(super) fn params(&self, space: KeySpace) -> Params {
        let defaults = Params::new(space);
        let rules =
            self.validators.iter().fold(Rules::new(Arc::clone(&self.hasher)), |rules, (namespace, validator)| {
                rules.with(namespace, Arc::clone(validator))
            });
        Params {
            key_space: space,
            rules: Arc::new(rules),
            network: self.network,
            k: self.k,
            alpha: self.alpha,
            read_quorum: self.read_quorum.min(self.k),
            client: self.client,
            request_timeout: self.request_timeout,
            request_timeout_floor: defaults.request_timeout_floor.min(self.request_timeout),
            lookup_timeout: self.lookup_timeout,
            peer_timeout: self.peer_timeout,
            refresh_interval: self.refresh_interval,
            replicate_interval: self.replicate_interval,
            // A record must be published again before its copies die.
            republish_interval: self.republish_interval.min(self.record_lifetime * 11 / 12),
            record_lifetime: self.record_lifetime,
            limits: self.limits.clone(),
            ..defaults
        }
    }
}

/// Whether a node can have this id.
pub(super) fn check_id(id: &Id, space: KeySpace) -> Result<(), ConfigError> {
    if space.contains(id) {
        return Ok(());
    }
    let bounds = format!("zero beyond the {} bytes of the hasher's key space", space.bytes());
    Err(ConfigError { field: "id", bounds, value: id.to_string() })
}

fn within<T: PartialOrd + fmt::Debug>(
    field: &'static str,
    value: &T,
    bounds: RangeInclusive<T>,
) -> Result<(), ConfigError> {
    bounded(field, value, &bounds, |value| format!("{value:?}"))
}

fn lasting(field: &'static str, value: Duration, bounds: RangeInclusive<Duration>) -> Result<(), ConfigError> {
    bounded(field, &value, &bounds, |value| in_words(*value))
}

fn bounded<T: PartialOrd>(
    field: &'static str,
    value: &T,
    bounds: &RangeInclusive<T>,
    show: impl Fn(&T) -> String,
) -> Result<(), ConfigError> {
    if bounds.contains(value) {
        return Ok(());
    }
    Err(ConfigError {
        field,
        bounds: format!("{} to {}", show(bounds.start()), show(bounds.end())),
        value: show(value),
    })
}

/// In the largest unit of which it is a whole number.
fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [("d", 24 * 3600), ("h", 3600), ("m", 60)];
    match units.into_iter().find(|(_, unit)| time.subsec_nanos() == 0 && seconds > 0 && seconds.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", seconds / unit),
        None => format!("{time:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_within_its_bounds() {
        assert_eq!(Config::default().check(), Ok(()));
        assert_eq!(Config { k: 1, alpha: 1, ..Config::default() }.check(), Ok(()));
    }

    #[test]
    fn errors_name_the_field_its_bounds_and_the_value() {
        let error = Config { k: 101, ..Config::default() }.check().unwrap_err();
        assert_eq!(error.to_string(), "Config::k must be 1 to 100, but is 101");
        let error = Config { lookup_timeout: Duration::from_secs(1), ..Config::default() }.check().unwrap_err();
        assert_eq!(error.to_string(), "Config::lookup_timeout must be 2s to 1h, but is 1s");
        let error =
            Config { peer_timeout: Duration::from_secs(400 * 24 * 3600), ..Config::default() }.check().unwrap_err();
        assert_eq!(error.to_string(), "Config::peer_timeout must be 10ms to 365d, but is 400d");
        let words = [0, 59, 90, 5400, 7200].map(|seconds| in_words(Duration::from_secs(seconds)));
        assert_eq!(words, ["0ns", "59s", "90s", "90m", "2h"]);
        let id = Some(Id::from_prefix(&[1; 21]));
        let error = Config { id, ..Config::default() }.check().unwrap_err();
        assert_eq!(error.field, "id");
    }

    #[test]
    fn every_bound_is_checked() {
        let wrong: [fn(&mut Config); 12] = [
            |config| config.k = 0,
            |config| config.alpha = 0,
            |config| config.read_quorum = 21,
            |config| config.request_timeout = Duration::ZERO,
            |config| config.peer_timeout = Duration::MAX,
            |config| config.record_lifetime = Duration::from_millis(999),
            |config| config.refresh_interval = Duration::ZERO,
            |config| config.replicate_interval = Duration::ZERO,
            |config| config.republish_interval = Duration::ZERO,
            |config| config.limits.value_bytes = 65_537,
            |config| config.relay.rate = 0,
            |config| config.events_capacity = 0,
        ];
        for (index, change) in wrong.into_iter().enumerate() {
            let mut config = Config::default();
            change(&mut config);
            assert!(config.check().is_err(), "change {index}");
        }
    }

    #[test]
    fn what_follows_from_other_settings() {
        let config = Config { k: 2, record_lifetime: Duration::from_secs(120), ..Config::default() };
        let params = config.params(config.hasher.key_space());
        assert_eq!(params.read_quorum, 2);
        assert_eq!(params.republish_interval, Duration::from_secs(110));
    }
}
