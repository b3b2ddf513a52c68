//! A Kademlia distributed hash table that any program can embed and any transport can carry.

pub mod core;

pub use kademlia_gateways as gateway;
