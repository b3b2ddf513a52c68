use kademlia_simulator::*;
use std::time::{Duration, Instant};
#[test]
fn smoke() {
    let n: usize = std::env::var("N").map_or(1000, |n| n.parse().unwrap());
    let mut network = Network::new(&Setup::default());
    let start = Instant::now();
    network.grow(n);
    let settle: u64 = std::env::var("SETTLE").map_or(60, |n| n.parse().unwrap());
    network.run_for(Duration::from_secs(settle));
    let t = network.traffic();
    println!("grown {:?} virtual {:?} events {} {:?}", start.elapsed(), network.now(), network.events(), t);
    network.measure();
    let start = Instant::now();
    let before = network.traffic();
    network.work(Workload { lookups: 100.0, ..Workload::default() });
    network.run_for(Duration::from_secs(5000 / 100));
    network.work(Workload::default());
    network.run_for(Duration::from_secs(40));
    let t = network.traffic().since(&before);
    let r = network.report();
    println!("{:?} {:?} delivered/s {}", start.elapsed(), t, t.delivered as f64 / start.elapsed().as_secs_f64());
    println!(
        "exact {:?} req {:?} hops {:?} p50 {:?} p99 {:?} B/s {:?}",
        r.exact, r.requests_per_lookup, r.hops, r.p50_ms, r.p99_ms, r.bytes_per_node_s
    );
    std::mem::forget(network);
}
