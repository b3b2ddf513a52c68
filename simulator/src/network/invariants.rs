//! What must hold at every moment, whatever happens: looked at every ten minutes.

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
    let (params, own) = (node.params(), node.id());
    let mut buckets: Vec<usize> = Vec::new();
    for contact in node.contacts() {
        let prefix = own.common_prefix_len(&contact.id());
        if buckets.len() <= prefix {
            buckets.resize(prefix + 1, 0);
        }
        if let Some(count) = buckets.get_mut(prefix) {
            *count += 1;
        }
    }
    let limits = &params.limits;
    let bounds = [
        ("contacts in a bucket", buckets.iter().copied().max().unwrap_or(0), params.k),
        ("requests in flight", node.requests_in_flight(), MAX_REQUESTS),
        ("operations and lookups", node.tasks(), limits.operations + limits.background),
        ("records", node.record_count(), limits.records),
        ("bytes of records", node.record_bytes(), limits.record_bytes),
        ("published records", node.published_count(), limits.published),
    ];
    if buckets.len() > 256 {
        return Some("has itself in its table".to_owned());
    }
    let queues = node.queues().into_iter().map(|queue| (queue.name, queue.len, queue.most));
    let over = bounds.into_iter().chain(queues).find(|(_, count, most)| count > most);
    over.map(|(what, count, most)| format!("has {count} {what}, more than {most}"))
}
