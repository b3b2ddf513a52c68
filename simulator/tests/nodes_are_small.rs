//! What a node takes in memory: it is what limits how many of them a simulation can have.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::fs;
use std::sync::Arc;

use kademlia_dht::core::{Node, Params, Time};
use kademlia_dht::gateway::Peer;
use kademlia_simulator::{Handle, KEY_SPACE};

/// The memory of this process, in bytes.
fn memory() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
fn with_an_empty_table_less_than_a_thousand_bytes() {
    const NODES: u32 = 100_000;
    let params = Arc::new(Params::new(KEY_SPACE));
    let before = memory();
    let nodes: Vec<Node<Handle>> =
        (0..NODES).map(|number| Node::new(Handle::of(number).id(), Arc::clone(&params), [1; 16], Time::ZERO)).collect();
    let each = (memory() - before) / nodes.len();
    assert!(each < 1000, "{each} bytes; {} of them in the node itself", size_of::<Node<Handle>>());
}
