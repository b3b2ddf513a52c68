//! Networks of kademlia-dht nodes at any scale, in virtual time.
//!
//! The nodes are those of [`kademlia_dht::core`], which the service runs as well: nothing is written again, and nothing
//! is imitated but time and the wire. A network of thousands of nodes lives for a day in a minute, and everything in it
//! follows from one seed: the same seed gives the same run, event by event, on every machine.
//!
//! A [`Network`] is made from a [`Setup`]: the parameters of the nodes (your own configuration), the [`Wire`] and the
//! [`Clocks`]. Then let nodes come and go, save and ask, and look at the [`Report`]. An oracle, which knows every
//! acknowledged record and who holds it, explains each miss, and watches that nothing happens that must never happen.

#[cfg(feature = "charts")]
pub mod chart;
mod churn;
mod clock;
mod csv;
mod digest;
pub mod experiment;
mod handle;
mod ledger;
mod lies;
mod measure;
mod network;
mod oracle;
mod pen;
mod queue;
mod random;
mod report;
mod size;
mod stopwatch;
mod summary;
mod trace;
mod traffic;
mod wire;
mod world;

pub use churn::{Churn, Departure, Sessions};
pub use clock::Clocks;
pub use csv::csv;
pub use handle::{Handle, KEY_SPACE};
pub use measure::wilson;
pub use network::{Network, Progress, Workload};
pub use random::Random;
pub use report::Report;
pub use size::{HEADER_BYTES, size_of};
pub use traffic::Traffic;
pub use wire::{Latency, Loss, Slow, Wire};
pub use world::Setup;
