//! A Kademlia distributed hash table that any program can embed and any transport can carry.
//!
//! One [`DHTService`] is one node of one network. Gateways carry its messages: over UDP, TCP, Unix sockets, in
//! memory, or whatever a third party writes a [`gateway::Gateway`] for.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use kademlia_dht::gateway::UdpGateway;
//! use kademlia_dht::{Config, DHTService};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let service = DHTService::start(Config { request_timeout: Duration::from_secs(1), ..Config::default() })?;
//! service.register_gateway(UdpGateway::bind("/ip4/127.0.0.1/udp/0".parse()?)?)?;
//! let joined = service.connect("/ip4/127.0.0.1/udp/12345".parse()?).wait()?;
//! println!("{} contacts", joined.contacts);
//! let receipt = service.save(b"key", b"value").wait()?;
//! println!("{} nodes have it, {} do not", receipt.accepted.len(), receipt.refused.len());
//! if let Some(found) = service.query(b"key").await? {
//!     println!("{} peers, {:?}", service.status().known_peers, found.value);
//! }
//! service.stop();
//! # Ok(())
//! # }
//! ```

pub mod core;
mod hasher;
pub mod large;
pub mod persist;
mod rules;
mod service;
pub mod signing;
#[cfg(feature = "testnet")]
pub mod testnet;

pub use kademlia_gateways as gateway;
pub use kademlia_gateways::{
    Author, Contact, Distance, Id, KeySpace, Multiaddr, NetworkId, Owned, OwnedMode, Record, RecordKind, Refusal,
    Ruled, Seal, Signed, UnsentReason, Version,
};

pub use crate::core::{
    Admission, Effort, FoundRecord, Joined, Limits, OperationError, Pong, Published, Publishing, Rejection,
    TracedAnswer,
};
pub use crate::hasher::{KeyHasher, Sha1Hasher, Sha256Hasher};
pub use crate::rules::{MAX_NAME_BYTES, MAX_NAMESPACE_BYTES, Rules, Validator, Verdict};
pub use crate::service::{
    Config, ConfigError, DHTService, Dump, Error, Event, Events, EventsError, Found, GatewayId, GatewayState,
    GatewayStatus, LookupReport, Neighbour, Pending, PersistenceStatus, QueryReport, Receipt, RegisterCause,
    RegisterError, RelayMode, RelayPolicy, RemoveError, SignedValue, StartError, Status, Trace, TracedRequest,
    ValueReply, network_named, value_of,
};

#[cfg(feature = "mainline")]
pub use crate::service::Peers;

/// The programs in the README are compiled, and run where they can be.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// So are those in the guide.
#[cfg(doctest)]
#[doc = include_str!("../docs/embedding.md")]
struct Embedding;
