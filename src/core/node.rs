//! The node: one door, and what can be seen of the state behind it.

use std::marker::PhantomData;

use kademlia_gateways::{Id, Peer};

use super::io::{Counters, Input, Output};
use super::params::Params;
use super::time::Time;

/// One node of a network, as a pure state machine.
#[derive(Debug)]
pub struct Node<P: Peer> {
    id: Id,
    params: Params,
    counters: Counters,
    peer: PhantomData<P>,
}

impl<P: Peer> Node<P> {
    /// A node that knows nobody yet. All its randomness follows from `seed`, which nobody else must know.
    pub fn new(id: Id, params: Params, _seed: [u8; 16], _now: Time) -> Self {
        Node { id, params, counters: Counters::default(), peer: PhantomData }
    }

    /// The node's id.
    pub fn id(&self) -> Id {
        self.id
    }

    /// What it was told when it started.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The contacts in its routing table, bucket by bucket.
    pub fn contacts(&self) -> impl Iterator<Item = &P> {
        std::iter::empty()
    }

    /// How many contacts are in its routing table.
    pub fn contact_count(&self) -> usize {
        0
    }

    /// How many records it holds for the network.
    pub fn record_count(&self) -> usize {
        0
    }

    /// How many bytes the values of these records have.
    pub fn record_bytes(&self) -> usize {
        0
    }

    /// How many records of its own it keeps alive in the network.
    pub fn published_count(&self) -> usize {
        0
    }

    /// How many requests wait for their answers.
    pub fn requests_in_flight(&self) -> usize {
        0
    }

    /// What it has counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// When [`Input::Tick`] is due next, if ever.
    pub fn next_wake(&self) -> Option<Time> {
        None
    }

    /// Takes one input at the time `now` and appends everything that follows from it to `out`.
    ///
    /// Total: no input makes it panic, and time that runs backwards counts as standing still.
    pub fn handle(&mut self, _now: Time, _input: Input<P>, _out: &mut Vec<Output<P>>) {}
}
