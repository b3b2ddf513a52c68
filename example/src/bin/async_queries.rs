//! Many operations in flight, awaited on an async runtime: here smol. Any other will do, and none is needed.

#![allow(clippy::print_stdout, reason = "it talks to its user")]

use std::error::Error;
use std::time::Instant;

use kademlia_dht::gateway::MemoryGateway;
use kademlia_dht::{Config, DHTService};

const NODES: usize = 30;

/// The service takes 256 operations at once (`Config::limits`); one more fails at once with `Error::Busy`.
const KEYS: usize = 200;

fn main() -> Result<(), Box<dyn Error>> {
    smol::block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
    let nodes = network().await?;
    let [first, .., last] = &nodes[..] else { return Err("too few nodes".into()) };

    // A call starts the operation, whether or not anyone polls what it gives: all of these are under way together.
    let start = Instant::now();
    let saves: Vec<_> = (0..KEYS).map(|key| first.save(format!("key {key}"), format!("value {key}"))).collect();
    let mut copies = 0;
    for save in saves {
        copies += save.await?.accepted.len();
    }
    println!("saved {KEYS} values, {copies} copies, in {:?}", start.elapsed());

    // Tasks of the runtime: each works on with its value as soon as that is there.
    let start = Instant::now();
    let tasks: Vec<_> = (0..KEYS)
        .map(|key| {
            let query = last.query(format!("key {key}"));
            smol::spawn(async move {
                let found = query.await?;
                Ok::<_, kademlia_dht::Error>(
                    found.is_some_and(|found| found.value == format!("value {key}").as_bytes()),
                )
            })
        })
        .collect();
    let mut found = 0;
    for task in tasks {
        found += usize::from(task.await?);
    }
    println!("found {found} of {KEYS} unchanged in {:?}", start.elapsed());

    // Whatever comes first: the answer or the end of one's patience.
    let query = async { last.query("no such key").await.map(|found| found.is_some()) };
    let patience = async {
        smol::Timer::after(std::time::Duration::from_secs(10)).await;
        Err(kademlia_dht::Error::Cancelled)
    };
    println!("a key that nobody saved: found {}", smol::future::or(query, patience).await?);
    Ok(())
}

/// Nodes of one process, all joined through the first one.
async fn network() -> Result<Vec<DHTService>, Box<dyn Error>> {
    let mut nodes: Vec<DHTService> = Vec::new();
    for _ in 0..NODES {
        let node = DHTService::start(Config::default())?;
        node.register_gateway(MemoryGateway::bind("/memory/0".parse()?)?)?;
        if let Some(first) = nodes.first() {
            let address = first.listen_addresses().pop().ok_or("it does not listen")?;
            node.connect(address).await?;
        }
        nodes.push(node);
    }
    Ok(nodes)
}
