//! The wire of a Kademlia DHT: its typed messages, and the gateways that carry them.
//!
//! A [`Gateway`] translates between messages and one transport. Peers are named by [`Multiaddr`], so that one network
//! can span several transports. This crate holds what a gateway needs and the built-in ones; the DHT itself is the
//! crate `kademlia-dht`, which a gateway never has to know.
//!
//! * The model, without any I/O: [`Id`], [`KeySpace`], [`Contact`], [`Record`], [`Message`].
//! * The [`Gateway`] trait, its sending half [`Outbox`] (with the ready-made [`Queue`]) and its [`Link`] to the node.
//! * The built-in gateways, each behind the feature of its name: `UdpGateway`, `TcpGateway`, `UnixGateway` (on Unix
//!   systems), `MemoryGateway`, and `FaultGateway` around any other one. `RpcUdpGateway` speaks the protocol of another
//!   program: see the module `rpcudp`.
//! * The native [`codec`], which a gateway may use or replace by one of its own.
//! * [`mod@frame`]: messages on a stream.
//! * The module `conformance` (feature `conformance`): checks that every gateway must pass, to run on your own.
//! * [`address`]: Unix paths, socket addresses and relay circuits as multiaddrs.

pub mod address;
mod array;
pub mod bencode;
pub mod codec;
#[cfg(feature = "conformance")]
pub mod conformance;
mod contact;
mod count;
#[cfg(feature = "fault")]
mod fault;
#[cfg(any(feature = "rpcudp", feature = "mainline"))]
mod foreign;
pub mod frame;
mod gateway;
mod id;
mod interned;
#[cfg(any(feature = "udp", feature = "tcp", feature = "rpcudp", feature = "mainline"))]
mod ip;
mod link;
#[cfg(feature = "mainline")]
pub mod mainline;
#[cfg(feature = "memory")]
mod memory;
mod message;
// Public for tests and fuzzing alone, and no part of what this crate promises.
#[cfg(feature = "udp")]
#[doc(hidden)]
pub mod parts;

mod record;
#[cfg(feature = "rpcudp")]
pub mod rpcudp;
#[cfg(any(feature = "udp", feature = "rpcudp", feature = "mainline"))]
mod socket;
#[cfg(any(feature = "tcp", all(unix, feature = "unix")))]
mod stream;
#[cfg(feature = "tcp")]
mod tcp;
#[cfg(feature = "udp")]
mod udp;
#[cfg(all(unix, feature = "unix"))]
mod unix;

pub use bytes::Bytes;
pub use codec::SizeLimits;
pub use contact::{Contact, MAX_ADDRESS_BYTES, MAX_ADDRESSES, Peer};
pub use count::{Count, LinkCounts, UnsentCounts};
#[cfg(feature = "fault")]
pub use fault::{FaultConfig, FaultError, FaultGateway};
pub use gateway::{Gateway, GatewayError, Inbound, Outbound, Outbox, Queue, ReplyPath, Unsent, UnsentReason};
pub use id::{Distance, ID_BYTES, Id, KeySpace, ParseIdError};
pub use link::{Delivery, FromGateway, Link, LinkHost, MAX_PENDING, MAX_PENDING_BYTES};
#[cfg(feature = "memory")]
pub use memory::MemoryGateway;
pub use message::{Body, Circuit, Envelope, Expect, Found, Message, NetworkId, Refusal, Reply, Request, Tag, Token};
pub use multiaddr::Multiaddr;
pub use record::{Author, Owned, OwnedMode, Record, RecordKind, Ruled, Seal, Signed, Version};
#[cfg(feature = "rpcudp")]
pub use rpcudp::RpcUdpGateway;
#[cfg(any(feature = "tcp", all(unix, feature = "unix")))]
pub use stream::StreamConfig;
/// How the stream gateways read: public for fuzzing alone, and no part of what this crate promises.
#[cfg(any(feature = "tcp", all(unix, feature = "unix")))]
#[doc(hidden)]
pub use stream::{Arrived, Incoming, Nonsense};
#[cfg(feature = "tcp")]
pub use tcp::TcpGateway;
#[cfg(feature = "udp")]
pub use udp::UdpGateway;
#[cfg(all(unix, feature = "unix"))]
pub use unix::UnixGateway;
