//! The service: one node of one network, on threads of its own.
//!
//! [`DHTService`] is what a program embeds. Behind it, the management thread drives [`core::Node`](crate::core::Node)
//! and each gateway runs on a thread of its own. Every call returns at once; what takes time is a [`Pending`].

mod authored;
mod bell;
mod config;
mod events;
mod handle;
mod host;
mod inner;
mod keeper;
#[cfg(feature = "mainline")]
mod mainline;
mod manager;
mod pending;
mod questions;
mod restore;
mod router;
mod runner;
mod saver;
mod status;
mod threads;
mod turns;
mod view;

use kademlia_gateways::Contact;

pub use authored::SignedValue;
pub use config::{Config, ConfigError, RelayMode, RelayPolicy, network_named};
pub use events::{Event, Events, EventsError};
pub use handle::{DHTService, Found, value_of};
pub use host::{GatewayId, RegisterCause, RegisterError, RemoveError};
pub use inner::StartError;
#[cfg(feature = "mainline")]
pub use mainline::Peers;
pub use pending::Pending;
pub use status::{GatewayState, GatewayStatus, PersistenceStatus, Status};
pub use view::{Dump, Neighbour, Trace, TracedRequest};

/// How an operation failed.
pub type Error = crate::core::OperationError<Contact>;

/// Who has a record now: what [`DHTService::save`] gives.
pub type Receipt = crate::core::Receipt<Contact>;

/// What a query found and what it took: what [`DHTService::query_report`] gives.
pub type QueryReport = crate::core::QueryReport<Contact>;

/// What one node answered: what [`DHTService::find_value`] gives.
pub type ValueReply = crate::core::ValueReply<Contact>;

/// Who is closest to a target: what [`DHTService::lookup`] gives.
pub type LookupReport = crate::core::LookupReport<Contact>;
