//! What a node of BitTorrent's DHT can do besides.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, bounded, select};
use kademlia_gateways::address::ip;
use kademlia_gateways::mainline::{MainlineGateway, MainlineHandle, Watch};
use kademlia_gateways::{Contact, Expect, Id, KeySpace, Record, RecordKind, Signed, UnsentReason, Version};

use super::config::{Config, ConfigError};
use super::handle::DHTService;
use super::inner::Inner;
use super::pending::Pending;
use super::{Error, QueryReport, Receipt};
use crate::core::{Admission, Command, Content, Limits, Outcome};
use crate::signing::signed::{MAX_VALUE_BYTES, Salt, SigningKey, bencoded_string, sign};

/// How long a value lives there that nobody writes again (BEP 44).
const ITEMS_LAST: Duration = Duration::from_secs(2 * 60 * 60);

/// Peers, as they are found; ends when all who could know of some have been asked.
///
/// ```no_run
/// # fn run(service: kademlia_dht::DHTService, info_hash: kademlia_dht::Id) {
/// for peer in service.peers(info_hash) {
///     println!("{peer}");
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Peers {
    watch: Option<Watch>,
    search: Option<Search>,
    failure: Option<Error>,
}

#[derive(Debug)]
struct Search {
    pending: Pending<QueryReport>,
    /// Is closed when it is over.
    ended: Receiver<()>,
}

impl Peers {
    /// Why the search has ended early, if it has.
    pub fn failure(&self) -> Option<&Error> {
        self.failure.as_ref()
    }
}

impl Iterator for Peers {
    type Item = SocketAddr;

    fn next(&mut self) -> Option<SocketAddr> {
        let found = self.watch.as_ref()?.found();
        if let Some(Search { ended, .. }) = &self.search {
            select! {
                recv(found) -> peer => return peer.ok(),
                recv(ended) -> _ => {}
            }
            self.failure = self.search.take().and_then(|search| search.pending.wait().err());
        }
        found.try_recv().ok()
    }
}

impl Config {
    /// The settings of a node of BitTorrent's DHT, whose [`MainlineGateway`](kademlia_gateways::mainline::MainlineGateway) has
    /// this handle: k = 8, values of at most 1,000 bytes that live for two hours and are published again twice an hour.
    ///
    /// Only whose id follows from their address (BEP 42) stand in its routing table and are given records, except in local
    /// networks; all others are asked as well. With `admission: None` anybody may.
    ///
    /// ```
    /// use kademlia_dht::gateway::mainline::MainlineGateway;
    /// use kademlia_dht::{Config, DHTService};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let gateway = MainlineGateway::bind("/ip4/127.0.0.1/udp/0".parse()?)?;
    /// let service = DHTService::start(Config::mainline(gateway.handle()))?;
    /// service.register_gateway(gateway)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn mainline(handle: MainlineHandle) -> Self {
        let hour = Duration::from_secs(3600);
        Config {
            k: 8,
            mainline: Some(handle),
            admission: Some(Arc::new(FollowsAddress)),
            record_lifetime: ITEMS_LAST,
            republish_interval: hour / 2,
            // Nobody there passes on what others have written.
            replicate_interval: 365 * 24 * hour,
            refresh_interval: hour / 4,
            limits: Limits { value_bytes: MAX_VALUE_BYTES, ..Limits::default() },
            ..Config::default()
        }
    }
}

/// Of nodes of BitTorrent's DHT: see [`Config::mainline`]. Elsewhere these fail with [`UnsentReason::Inexpressible`].
impl DHTService {
    /// Tells the nodes closest to `info_hash` that this host has what it stands for, at this port; `None` for the port of the
    /// gateway itself. It is told again twice an hour as long as this service runs, or until [`withdraw`](Self::withdraw).
    pub fn announce(&self, info_hash: Id, port: Option<u16>) -> Pending<Receipt> {
        let Some(handle) = self.mainline() else { return Pending::failed(Error::Unsent(UnsentReason::Inexpressible)) };
        if port == Some(0) {
            return Pending::failed(Error::NoPort);
        }
        let info_hash = self.fit(&info_hash);
        let undo = Undo { handle: handle.clone(), info_hash, before: Some(handle.announce(info_hash, port)) };
        let (content, expect) = (Content::Value(bytes::Bytes::new()), Expect::Anything);
        // However it ends, this goes with it.
        self.save_and(info_hash, content, expect, move || undo.keep())
    }

    /// Announces it no longer. Others forget it within half an hour.
    pub fn withdraw(&self, info_hash: Id) -> Pending<usize> {
        let info_hash = self.fit(&info_hash);
        if let Some(handle) = self.mainline() {
            handle.withdraw(&info_hash);
        }
        self.forget(info_hash)
    }

    /// Finds who has what `info_hash` stands for.
    pub fn peers(&self, info_hash: Id) -> Peers {
        let Some(handle) = self.mainline() else {
            let failure = Some(Error::Unsent(UnsentReason::Inexpressible));
            return Peers { watch: None, search: None, failure };
        };
        let info_hash = self.fit(&info_hash);
        // First, so that what is asked is about peers.
        let watch = Some(handle.watch(info_hash));
        let (end, ended) = bounded(0);
        let pending = self.begin(Command::Query { key: info_hash }, move |outcome| {
            // However it ends, this goes with it.
            drop::<crossbeam::channel::Sender<()>>(end);
            match outcome {
                Outcome::Queried(report) => Some(report),
                _ => None,
            }
        });
        Peers { watch, search: Some(Search { pending, ended }), failure: None }
    }
}

impl DHTService {
    /// Saves what anybody may write: signed with a key pair that everybody has who knows the key.
    pub(super) fn write_signed(&self, key: &[u8], value: &[u8], expect: Expect) -> Pending<Receipt> {
        let expected = match expect {
            Expect::Anything => None,
            // Of a number that is none there is no value.
            Expect::Version(version) => Some(i64::try_from(version.0).unwrap_or(-1)),
            Expect::Absent => return Pending::failed(Error::Unsent(UnsentReason::Inexpressible)),
        };
        self.put_signed(&key_pair_of(key), &Salt::default(), value, expected)
    }

    /// What anybody may write, as one record, whose number is that of a version.
    pub(super) fn signed_of(&self, key: &[u8], value: &[u8], version: Version) -> Result<Record, Error> {
        let value = bencoded_string(value);
        if value.len() > MAX_VALUE_BYTES {
            return Err(Error::TooLarge { size: value.len(), limit: MAX_VALUE_BYTES });
        }
        let (owner, salt) = (key_pair_of(key), Salt::default());
        let sequence = i64::try_from(version.0).unwrap_or(i64::MAX);
        let signature = sign(&owner, &salt, sequence, &value).0;
        let signed = Signed { public_key: owner.public_key().0, salt: bytes::Bytes::new(), signature };
        Ok(Record::new(RecordKind::Signed(Box::new(signed)), value, version, self.inner.record_lifetime))
    }
}

/// Whether a node of BitTorrent's DHT can have these settings.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    let error = |field, bounds: &str, value| Err(ConfigError { field, bounds: bounds.to_owned(), value });
    let (bytes, largest) = (config.hasher.key_space().bytes(), config.limits.value_bytes);
    if bytes != KeySpace::SHA1.bytes() {
        return error("hasher", "one to ids of 20 bytes in BitTorrent's DHT", format!("one to ids of {bytes}"));
    }
    if largest > MAX_VALUE_BYTES {
        return error("limits.value_bytes", "1 to 1000 in BitTorrent's DHT", largest.to_string());
    }
    if config.record_lifetime < ITEMS_LAST {
        return error("record_lifetime", "2 h or more in BitTorrent's DHT", format!("{:?}", config.record_lifetime));
    }
    Ok(())
}

/// Takes an announcement back that has not reached anybody.
struct Undo {
    handle: MainlineHandle,
    info_hash: Id,
    /// What was announced before; `None` once there is nothing to be taken back.
    before: Option<Option<Option<u16>>>,
}

impl Undo {
    /// It has reached somebody.
    fn keep(mut self) {
        self.before = None;
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        match self.before {
            Some(Some(port)) => drop(self.handle.announce(self.info_hash, port)),
            Some(None) => self.handle.withdraw(&self.info_hash),
            None => {}
        }
    }
}

/// The policy of BEP 42: an id follows from its address.
#[derive(Debug)]
struct FollowsAddress;

impl Admission<Contact> for FollowsAddress {
    fn admits(&self, contact: &Contact) -> bool {
        ip(contact.address()).is_none_or(|ip| MainlineGateway::may_have(ip, &contact.id()))
    }
}

/// Has the node's id follow from the address at which others see it, as BEP 42 wants.
pub(super) fn follow_address(handle: &MainlineHandle, inner: &Arc<Inner>) {
    // The gateway that has the handle is not to keep the service alive.
    let inner = Arc::downgrade(inner);
    handle.on_external_address(move |ip| {
        let Some(inner) = inner.upgrade() else { return };
        if MainlineGateway::may_have(ip, &inner.id()) {
            return;
        }
        let mut random = [0; 20];
        if let Err(error) = getrandom::fill(&mut random) {
            log::warn!("others see this node at {ip}, but it keeps its id: there are no random numbers: {error}");
            return;
        }
        let id = MainlineGateway::id_for(ip, random);
        log::info!("others see this node at {ip}: its id is {id} from now on");
        if let Err(error) = inner.change_id(id) {
            log::warn!("others see this node at {ip}, but it keeps its id: {error}");
        }
    });
}

/// The key pair that stands for a key that anybody may write: whoever knows the key has it.
pub(super) fn key_pair_of(key: &[u8]) -> SigningKey {
    use sha2::{Digest, Sha256};
    let seed = Sha256::new().chain_update(b"kademlia-dht: a key that anybody may write: ").chain_update(key).finalize();
    SigningKey::from_bytes(&seed.into())
}
