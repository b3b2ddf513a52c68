//! What the fault gateway does to messages, and that it is a gateway like any other all the same.
#![cfg(all(feature = "fault", feature = "memory"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "it is a test")]

mod common;

use std::time::{Duration, Instant};

use common::*;
use kademlia_gateways::conformance::{Failure, Stopped};
use kademlia_gateways::*;

fn memory() -> MemoryGateway {
    MemoryGateway::bind(address("/memory/0")).unwrap()
}

fn start(config: FaultConfig) -> Node {
    Node::start(FaultGateway::new(memory(), config).unwrap())
}

fn faultless() -> FaultConfig {
    FaultConfig::default()
}

#[test]
fn messages_get_lost_in_both_directions() {
    let (mut lossy, mut good) = (start(FaultConfig { loss: 1.0, ..faultless() }), Node::start(memory()));
    for n in 0..20 {
        lossy.send(&good.address(), request(n)).unwrap();
        good.send(&lossy.address(), request(n)).unwrap();
    }
    good.assert_quiet();
    lossy.assert_quiet();
}

#[test]
fn messages_come_twice() {
    let (mut one, mut two) = (start(FaultConfig { duplication: 1.0, ..faultless() }), Node::start(memory()));
    one.send(&two.address(), request(1)).unwrap();
    assert_eq!([two.next().envelope, two.next().envelope], [request(1), request(1)]);
    two.send(&one.address(), request(2)).unwrap();
    assert_eq!([one.next().envelope, one.next().envelope], [request(2), request(2)]);
    one.assert_quiet();
    two.assert_quiet();
}

#[test]
fn corrupted_messages_arrive_or_are_counted() {
    let corrupting = FaultConfig { seed: 3, corruption: 1.0, ..faultless() };
    let (mut one, mut two) = (start(corrupting), Node::start(memory()));
    for n in 0..200 {
        one.send(&two.address(), request(n)).unwrap();
    }
    one.wait_for_counts("some cannot be read any more", |counts| counts.malformed > 0);
    two.wait_for_counts("some can", |counts| counts.received > 0);
    for n in 0..200 {
        two.send(&one.address(), request(n)).unwrap();
    }
    one.wait_for_counts("each arrives or is counted", |counts| {
        counts.malformed + counts.received + two.host.counts().received == 400
    });
    assert_ne!(one.next().envelope, request(0));
}

#[test]
fn messages_are_delayed_and_overtake_each_other() {
    let delay = Duration::from_millis(20)..=Duration::from_millis(60);
    let (mut slow, mut good) = (start(FaultConfig { delay, ..faultless() }), Node::start(memory()));
    let sent = Instant::now();
    for n in 0..50 {
        slow.send(&good.address(), request(n)).unwrap();
    }
    let mut arrived: Vec<u64> = (0..50).map(|_| tag(&good.next().envelope)).collect();
    assert!(sent.elapsed() >= Duration::from_millis(20));
    assert!(!arrived.is_sorted());
    arrived.sort_unstable();
    assert_eq!(arrived, Vec::from_iter(0..50));

    let sent = Instant::now();
    good.send(&slow.address(), request(50)).unwrap();
    assert_eq!(slow.next().envelope, request(50));
    assert!(sent.elapsed() >= Duration::from_millis(20));
    slow.wait_for_idleness("no timer is left");
}

#[test]
fn what_is_delayed_and_then_cannot_be_sent_is_told() {
    let millisecond = Duration::from_millis(1);
    let mut slow = start(FaultConfig { delay: millisecond..=millisecond, ..faultless() });
    slow.send(&address("/memory/1"), request(1)).unwrap();
    assert_eq!(slow.next_unsent(), (1, UnsentReason::Unreachable));
    assert_eq!(slow.host.counts().unsent.total(), 1);
}

#[test]
fn delayed_messages_do_not_delay_the_end() {
    let hour = Duration::from_secs(3600);
    let (mut slow, mut good) = (start(FaultConfig { delay: hour..=hour, ..faultless() }), Node::start(memory()));
    for n in 0..10 {
        slow.send(&good.address(), request(n)).unwrap();
        good.send(&slow.address(), request(n)).unwrap();
    }
    slow.stop();
}

#[test]
fn delayed_messages_are_bounded() {
    let hour = Duration::from_secs(3600);
    let (mut slow, good) = (start(FaultConfig { delay: hour..=hour, ..faultless() }), Node::start(memory()));
    let mut sent = 0;
    let deadline = Instant::now() + DEADLINE;
    // The gateway's thread takes some out of the queue in between, but not for ever.
    let mut refused_since = None;
    while refused_since.is_none_or(|since: Instant| since.elapsed() < QUIET) {
        assert!(Instant::now() < deadline);
        match slow.send(&good.address(), request(sent)) {
            Ok(()) => {
                sent += 1;
                refused_since = None;
            }
            Err(unsent) => {
                assert_eq!(unsent.reason, UnsentReason::QueueFull);
                refused_since.get_or_insert_with(Instant::now);
                a_moment();
            }
        }
    }
    assert!(sent <= MAX_PENDING as u64 + 1024, "{sent}");
    slow.stop();
}

#[test]
fn the_same_seed_loses_the_same_messages() {
    let arriving = |seed| {
        let (mut one, mut two) = (start(FaultConfig { seed, loss: 0.5, ..faultless() }), Node::start(memory()));
        for n in 0..100 {
            one.send(&two.address(), request(n)).unwrap();
        }
        // Not by way of the faults.
        Node::start(memory()).send(&two.address(), request(1000)).unwrap();
        Vec::from_iter(std::iter::from_fn(|| Some(tag(&two.next().envelope)).filter(|tag| *tag != 1000)))
    };
    assert_eq!(arriving(1), arriving(1));
    assert_ne!(arriving(1), arriving(2));
    assert!((20..80).contains(&arriving(1).len()));
}

#[test]
fn wrong_probabilities_are_refused() {
    let error = FaultGateway::new(memory(), FaultConfig { loss: 1.5, ..faultless() }).unwrap_err();
    assert_eq!(error, FaultError::Probability { name: "loss", value: 1.5 });
}

/// Delivers a message, then ends in its own way.
struct Ending(fn() -> Result<(), GatewayError>);

impl Gateway for Ending {
    fn name(&self) -> String {
        "ending".to_owned()
    }
    fn addresses(&self) -> Vec<Multiaddr> {
        vec![address("/memory/1")]
    }
    fn outbox(&mut self) -> Result<Box<dyn Outbox>, GatewayError> {
        Ok(Box::new(Queue::new(1, SizeLimits::STREAM, |_| true).0))
    }
    fn run(&mut self, link: &Link) -> Result<(), GatewayError> {
        link.deliver(vec![Inbound::new(address("/memory/2"), request(1))]).unwrap();
        link.count(Count::Oversized);
        (self.0)()
    }
}

#[test]
fn the_end_of_the_inner_gateway_comes_out_as_its_own() {
    let start = |end| Node::start(FaultGateway::new(Ending(end), faultless()).unwrap());
    for (end, expected) in
        [((|| Ok(())) as fn() -> _, None), (|| Err(GatewayError::Failed("no more".to_owned())), Some("no more"))]
    {
        let mut node = start(end);
        let Stopped { gateway, result } = node.join();
        assert_eq!(result.err().map(|error| error.to_string()).as_deref(), expected);
        assert_eq!(node.next().envelope, request(1), "what came before is not lost");
        assert_eq!(node.host.counts(), LinkCounts { received: 1, oversized: 1, ..LinkCounts::default() });
        assert_eq!(gateway.name(), "faulty ending");
    }
    let panic = start(|| panic!("on purpose")).try_join().unwrap_err();
    assert!(matches!(panic, Failure::Panicked(words) if words == "on purpose"));
}

#[test]
fn what_cannot_be_reopened_inside_cannot_be_reopened() {
    let mut gateway = FaultGateway::new(Ending(|| Ok(())), faultless()).unwrap();
    assert!(matches!(gateway.reopen(), Err(GatewayError::NotReopenable)));
}
