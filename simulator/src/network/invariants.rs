//! What must hold at every moment, whatever happens: looked at every ten minutes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kademlia_dht::core::Node;
use kademlia_dht::gateway::{Id, Peer};

use super::Network;
use crate::handle::Handle;

/// The most requests that a node has in flight: what the core says of itself.
const MAX_REQUESTS: usize = 4096;

impl Network<'_> {
    /// Looks at every node and every open operation.
    pub(super) fn check(&mut self) {
        let mut broken: Vec<String> = Vec::new();
        let params = self.world.params();
        for (handle, node) in self.world.nodes() {
            broken.extend(fault_of(node).map(|fault| format!("{handle:?} {fault}")));
        }
        // Two requests in a row to one node can each take their longest after the deadline of what they belong to.
        let longest = params.lookup_timeout.saturating_add(params.request_timeout.saturating_mul(2));
        let longest = self.setup.clocks.longest(longest) + Duration::from_secs(1);
        for (handle, operation, since) in self.world.operations() {
            if self.world.now().since(since) > longest {
                broken.push(format!("{operation:?} of {handle:?}, begun at {since}, has not ended"));
            }
        }
        let now = self.world.now();
        let lost: Vec<(Handle, Id)> = self.world.nodes().flat_map(|(handle, node)| self.lost(handle, node)).collect();
        for (handle, key) in lost {
            self.world.oracle.lost(now, handle, key);
        }
        self.world.oracle.add_violations(now, broken);
    }

    /// The keys of records that a node is bound to hold, and does not.
    fn lost(&self, handle: Handle, node: &Node<Handle>) -> Vec<(Handle, Id)> {
        let bonds = self.world.oracle.bonds(self.world.now(), handle);
        let lost = bonds.filter(|(key, version)| node.record(key).is_none_or(|record| record.version != *version));
        lost.map(|(key, _)| (handle, key)).collect()
    }
}

/// What is wrong with a node.
fn fault_of(node: &Node<Handle>) -> Option<String> {
    let params = node.params();
    let limits = &params.limits;
    let bounds = [
        ("requests in flight", node.requests_in_flight(), MAX_REQUESTS),
        ("operations and lookups", node.tasks(), limits.operations + limits.background),
        ("records", node.record_count(), limits.records),
        ("bytes of records", node.record_bytes(), limits.record_bytes),
        ("published records", node.published_count(), limits.published),
    ];
    let queues = node.queues().into_iter().map(|queue| (queue.name, queue.len, queue.most));
    let over = bounds.into_iter().chain(queues).find_map(beyond);
    over.or_else(|| fault_of_table(node.id(), params.k, node.contacts(), node.waiting_contacts()))
}

/// What is wrong with a routing table. Who waits for a place stands nowhere else: here nobody has two addresses, for the
/// second of which it could wait.
fn fault_of_table<'a>(
    own: Id,
    k: usize,
    contacts: impl Iterator<Item = &'a Handle>,
    waiting: impl Iterator<Item = &'a Handle>,
) -> Option<String> {
    let mut known: BTreeSet<Handle> = BTreeSet::new();
    // For each bucket, how many stand in it and how many wait.
    let mut buckets: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    let contacts = contacts.map(|contact| (contact, (1, 0)));
    for (contact, (stands, waits)) in contacts.chain(waiting.map(|contact| (contact, (0, 1)))) {
        if contact.id() == own {
            return Some("has itself in its table".to_owned());
        }
        if !known.insert(*contact) {
            return Some(format!("has {contact:?} in its table twice"));
        }
        let (standing, waiting) = buckets.entry(own.common_prefix_len(&contact.id())).or_default();
        *standing += stands;
        *waiting += waits;
    }
    let mut counts = buckets.into_values().flat_map(|(standing, waiting)| {
        [("contacts in a bucket", standing, k), ("contacts that wait for a place in a bucket", waiting, k)]
    });
    counts.find_map(beyond)
}

/// What there is too much of, in words.
fn beyond((what, count, most): (&str, usize, usize)) -> Option<String> {
    (count > most).then(|| format!("has {count} {what}, more than {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Setup;

    #[test]
    fn who_waits_for_a_place_is_looked_at() {
        let mut setup = Setup::default();
        setup.params.k = 4;
        let mut network = Network::new(&setup);
        network.grow(60);
        assert!(network.world.nodes().any(|(_, node)| node.waiting_contacts().next().is_some()));
        network.check();
        assert_eq!(network.world.oracle.violations(), (0, &[][..]));
    }

    #[test]
    fn a_table_that_no_node_may_have_is_noticed() {
        let own = Handle::of(0).id();
        // Of one bucket, so that its bound is met soon.
        let far: Vec<Handle> = (1..99).map(Handle::of).filter(|node| own.common_prefix_len(&node.id()) == 0).collect();
        let fault = |contacts: &[Handle], waiting: &[Handle]| {
            fault_of_table(own, 3, contacts.iter(), waiting.iter()).unwrap_or_default()
        };
        assert_eq!(fault(&[], &[]), "");
        assert_eq!(fault(&far[..3], &far[3..6]), "", "a full bucket, and as many that wait");
        assert_eq!(fault(&far[..4], &[]), "has 4 contacts in a bucket, more than 3");
        assert_eq!(fault(&far[..3], &far[3..7]), "has 4 contacts that wait for a place in a bucket, more than 3");
        let twice = format!("has {:?} in its table twice", far[2]);
        assert_eq!(fault(&far[..3], &far[2..4]), twice, "it waits for the place that it has");
        assert_eq!(fault(&[far[2], far[2]], &[]), twice);
        assert_eq!(fault(&[], &[far[2], far[2]]), twice);
        for (contacts, waiting) in [(&[Handle::of(0)][..], &[][..]), (&[], &[Handle::of(0)])] {
            assert_eq!(fault(contacts, waiting), "has itself in its table");
        }
    }
}
