//! What the fuzz targets do with an input. `tests/fuzz_corpora.rs` has this file as a module and does the same with
//! every input that is kept.
//!
//! Each `run` takes any bytes and panics when something that must hold does not.

pub mod address;
pub mod datagram;
pub mod krpc;
pub mod node;
pub mod parts;
pub mod records;
pub mod rpcudp;
pub mod stream;
