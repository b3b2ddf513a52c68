//! A node that nobody asks for anything wakes no thread between its timers, whatever gateways it has.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use crossbeam::channel::never;
use kademlia_dht::gateway::{TcpGateway, UdpGateway, UnixGateway, address};
use kademlia_dht::{Config, DHTService};

/// So long all threads must sleep.
const REST: Duration = Duration::from_secs(10);

/// What comes of joining, and timers, may end that many rests.
const ATTEMPTS: usize = 10;

/// For each thread of a service how often it has gone to sleep.
fn sleeps() -> BTreeMap<String, u64> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let names = tasks.filter_map(|task| Some((fs::read_to_string(task.join("comm")).ok()?, task)));
    let own = names.filter(|(name, _)| name.starts_with("dht-"));
    own.map(|(name, task)| {
        let status = fs::read_to_string(task.join("status")).unwrap();
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
        (format!("{} {}", task.display(), name.trim()), count.trim().parse().unwrap())
    })
    .collect()
}

fn node(folder: &tempfile::TempDir, name: &str) -> DHTService {
    let service = DHTService::start(Config::default()).unwrap();
    service.register_gateway(UdpGateway::bind("/ip4/127.0.0.1/udp/0".parse().unwrap()).unwrap()).unwrap();
    service.register_gateway(TcpGateway::bind("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap()).unwrap();
    let socket = address::unix_address(folder.path().join(name)).unwrap();
    service.register_gateway(UnixGateway::bind(socket).unwrap()).unwrap();
    service
}

#[test]
fn between_its_timers_a_node_with_three_gateways_makes_no_system_call() {
    let folder = tempfile::tempdir().unwrap();
    let nodes = [node(&folder, "a"), node(&folder, "b")];
    let [first, second] = &nodes;
    for address in first.listen_addresses() {
        second.connect(address).wait().unwrap();
    }
    first.save("key", "value").wait().unwrap();
    let mut before = sleeps();
    assert_eq!(before.len(), 8, "a manager and three gateways each");
    for attempt in 1.. {
        never::<()>().recv_timeout(REST).unwrap_err();
        let after = sleeps();
        if after == before {
            return;
        }
        assert!(attempt < ATTEMPTS, "these do not rest: {before:#?}, later {after:#?}");
        before = after;
    }
}
