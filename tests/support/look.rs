//! What must be true of every look inside a node.

#![allow(dead_code)] // Each test binary uses its own part of it.

use kademlia_dht::core::{Dump, Trace, TracedAnswer, TracedRequest};
use kademlia_dht::gateway::Peer;

/// Each request of a trace has ended once, within the lookup, and follows from those before it.
pub(crate) fn check_trace<P: Peer>(trace: &Trace<P>) {
    let effort = trace.effort;
    assert_eq!(trace.requests.len(), effort.asked, "{trace:#?}");
    let is_answer =
        |answer: &TracedAnswer| matches!(answer, TracedAnswer::Value { .. } | TracedAnswer::Contacts { .. });
    let answered = trace.requests.iter().filter(|request| is_answer(&request.answer)).count();
    assert_eq!(answered, effort.answered, "{trace:#?}");
    assert!(trace.requests.is_sorted_by_key(|request| request.started));
    for (place, request) in trace.requests.iter().enumerate() {
        assert!(request.started <= request.ended && request.ended <= effort.elapsed, "{request:?} of {effort:?}");
        assert_eq!(request.distance, request.peer.id().distance(&trace.target));
        assert_eq!(request.round_trip.is_some(), is_answer(&request.answer), "{request:?}");
        assert!(request.round_trip.is_none_or(|round_trip| request.started + round_trip <= request.ended));
        let twice = trace.requests[..place].iter().any(|other| other.peer == request.peer);
        assert!(!twice, "{request:?} again");
        match request.told_by {
            None => assert_eq!(request.hop, 1),
            Some(informant) => {
                let tells = |other: &&TracedRequest<P>| {
                    other.peer.id() == informant && is_answer(&other.answer) && other.ended <= request.started
                };
                let told = trace.requests[..place].iter().find(tells);
                assert_eq!(told.map(|other| other.hop + 1), Some(request.hop), "{request:?}");
            }
        }
    }
    if let Ok(report) = &trace.result {
        assert_eq!((report.key, report.effort), (trace.target, effort));
        for holder in report.found.iter().flat_map(|found| &found.holders) {
            let is_theirs = |request: &&TracedRequest<P>| request.peer.id() == holder.id();
            let mut theirs = trace.requests.iter().filter(is_theirs);
            assert!(theirs.any(|request| matches!(request.answer, TracedAnswer::Value { records: 1.., .. })));
        }
    }
}

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
