//! A value that was overwritten stays overwritten, and one that was deleted stays deleted.
//!
//! Every node that holds an old version passes it on, and every publisher of one publishes it again. So five nodes
//! overwrite one value one after the other, on real sockets, while replicating and republishing run at short intervals
//! and a third of the nodes is restarted and so forgets what it held. Only the last version may be seen after that.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::time::{Duration, Instant};

use kademlia_dht::testnet::{Mix, TestNetwork, TestNode};
use kademlia_dht::{Config, Contact, Event, Events, Receipt, Version, core};

const LONG: Duration = Duration::from_secs(60);
const KEY: &str = "key";

/// Waits for an event, at most for [`LONG`].
fn wait_for(events: &Events, what: &str, is_it: impl Fn(&Event) -> bool) {
    let start = Instant::now();
    loop {
        let left = LONG.checked_sub(start.elapsed()).unwrap_or_else(|| panic!("no {what} in time"));
        match events.recv_timeout(left) {
            Ok(event) if is_it(&event) => return,
            Ok(_) => {}
            Err(error) => panic!("no {what}: {error}"),
        }
    }
}

fn wait_until_superseded(events: &Events, newest: Version) {
    let is_it = |event: &Event| matches!(event, Event::Node(core::Event::Superseded { by, .. }) if *by <= newest);
    wait_for(events, "end of publishing", is_it);
}

struct Story {
    network: TestNetwork,
    /// Nodes that write, in order, and one that deletes.
    writers: Vec<usize>,
    restarts: usize,
}

impl Story {
    fn save(&self, writer: usize, value: Option<&str>) -> Receipt {
        let service = self.network.nodes()[writer].service();
        let pending = value.map_or_else(|| service.delete(KEY), |value| service.save(KEY, value));
        pending.wait_timeout(LONG).unwrap().unwrap()
    }

    /// Restarts holders of the record that write nothing, and waits until each holds it again.
    fn restart_holders(&mut self, receipt: &Receipt, count: usize) {
        let holders = receipt.accepted.iter().map(Contact::id);
        let index = |id| self.network.living().find(|node| node.service().id() == id).map(TestNode::index);
        let holders: Vec<usize> = holders.filter_map(index).filter(|holder| !self.writers.contains(holder)).collect();
        for holder in holders.into_iter().take(count) {
            self.network.restart(holder).unwrap();
            self.restarts += 1;
            let service = self.network.nodes()[holder].service();
            let events = service.events();
            // Perhaps somebody gave it the record before this subscribed.
            if service.status().records == 0 {
                wait_for(&events, "record", |event| matches!(event, Event::Node(core::Event::RecordKept { .. })));
            }
        }
    }

    fn everybody_sees(&self, value: Option<&str>) {
        for node in self.network.living() {
            let found = node.service().query(KEY).wait_timeout(LONG).unwrap().unwrap();
            let found = found.map(|found| String::from_utf8(found.value).unwrap());
            assert_eq!(found.as_deref(), value, "node {} on {}", node.index(), node.transports());
        }
    }
}

#[test]
fn neither_when_overwritten_nor_when_deleted() {
    let mix: Mix = "udp=8,tcp=8,unix=4,udp+tcp=2,tcp+unix=2".parse().unwrap();
    let nodes = mix.nodes();
    let config = |_, _| Config {
        k: 8,
        replicate_interval: Duration::from_millis(500),
        republish_interval: Duration::from_millis(700),
        ..Config::default()
    };
    let mut network = TestNetwork::builder(mix).seed(5).configure(config).start().unwrap();
    let mut writers: Vec<usize> = Vec::new();
    while writers.len() < 6 {
        let writer = network.pick(|node| !writers.contains(&node.index())).unwrap().index();
        writers.push(writer);
    }
    let publishing: Vec<Events> = writers.iter().map(|writer| network.nodes()[*writer].service().events()).collect();
    let mut story = Story { network, writers: writers.clone(), restarts: 0 };

    let mut versions = Vec::new();
    for (number, writer) in writers.iter().take(5).enumerate() {
        let receipt = story.save(*writer, Some(&format!("version {}", number + 1)));
        versions.push(receipt.version);
        let left = nodes / 3 - story.restarts;
        story.restart_holders(&receipt, left.min(2));
    }
    assert_eq!(story.restarts, nodes / 3);
    assert!(versions.is_sorted(), "{versions:?}");
    story.everybody_sees(Some("version 5"));
    // Who published an older one has seen that there is a newer one, or would bring the old one back now.
    for events in publishing.iter().take(4) {
        wait_until_superseded(events, versions[4]);
    }
    story.everybody_sees(Some("version 5"));

    let receipt = story.save(writers[5], None);
    story.everybody_sees(None);
    wait_until_superseded(&publishing[4], receipt.version);
    story.restart_holders(&receipt, 2);
    story.everybody_sees(None);
}
