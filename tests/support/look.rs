//! What must be true of every look inside a node.

#![allow(dead_code)] // Each test binary uses its own part of it.

use kademlia_dht::core::Dump;
use kademlia_dht::gateway::Peer;

/// The buckets have exactly these contacts, each where it belongs.
pub(crate) fn check_dump<'a, P: Peer + 'a>(dump: &Dump<P>, contacts: impl Iterator<Item = &'a P>) {
    let contacts: Vec<&P> = contacts.collect();
    let seen: Vec<&P> = dump.buckets.iter().flat_map(|bucket| &bucket.contacts).map(|seen| &seen.contact).collect();
    assert_eq!(seen, contacts);
    for (index, bucket) in dump.buckets.iter().enumerate() {
        assert_eq!(bucket.index, index);
        for neighbour in &bucket.contacts {
            assert_eq!((neighbour.bucket, neighbour.distance), (index, neighbour.contact.id().distance(&dump.id)));
            assert_eq!(neighbour.distance.leading_zeros(), index);
            assert!(!neighbour.round_trip.is_zero());
        }
        assert!(bucket.waiting.iter().all(|waiting| waiting.id().common_prefix_len(&dump.id) == index));
    }
    assert!(dump.records.is_sorted_by_key(|record| (record.key, record.author)));
    assert!(dump.requests.is_sorted_by(|one, next| one.age >= next.age));
    assert!(dump.operations.is_sorted_by(|one, next| one.age >= next.age));
    assert!(dump.queues.iter().all(|queue| queue.len <= queue.most));
}
