//! The API in the order in which one meets it: two nodes in one process, joined over two transports.

#![allow(clippy::print_stdout, reason = "it talks to its user")]

use std::error::Error;
use std::time::Duration;

use kademlia_dht::gateway::{TcpGateway, UdpGateway};
use kademlia_dht::{Config, DHTService, Event};

fn main() -> Result<(), Box<dyn Error>> {
    // A node is a service. It talks by whatever gateways are registered; port 0 takes a free port.
    let first = DHTService::start(Config::default())?;
    first.register_gateway(UdpGateway::bind("/ip4/127.0.0.1/udp/0".parse()?)?)?;
    first.register_gateway(TcpGateway::bind("/ip4/127.0.0.1/tcp/0".parse()?)?)?;
    for address in first.listen_addresses() {
        println!("the first node listens on {address}");
    }

    // Another node, with settings of its own. Nodes must agree on the hasher and the network, on nothing else.
    let second = DHTService::start(Config { request_timeout: Duration::from_secs(1), ..Config::default() })?;
    let events = second.events();
    let udp = second.register_gateway(UdpGateway::bind("/ip4/127.0.0.1/udp/0".parse()?)?)?;
    second.register_gateway(TcpGateway::bind("/ip4/127.0.0.1/tcp/0".parse()?)?)?;

    // One address of one node is enough to join. No call blocks: each gives a `Pending`, and here we wait for it.
    let addresses = first.listen_addresses();
    let over_udp = addresses.first().ok_or("no address")?;
    let joined = second.connect(over_udp.clone()).wait()?;
    println!("the second node joined and knows {} other(s)", joined.contacts);

    // Save at one node, find at the other.
    let receipt = second.save("greeting", "hello").wait()?;
    println!("saved: kept here: {}, by {} other(s)", receipt.kept_here, receipt.accepted.len());
    let found = first.query("greeting").wait()?.ok_or("nobody has it")?;
    println!("found: {:?}, version {}", String::from_utf8_lossy(&found.value), found.version);

    // Save only if nobody did meanwhile. Who still expects the old version is told so.
    second.save_if("greeting", Some(found.version), "good morning").wait()?;
    if let Err(conflict) = first.save_if("greeting", Some(found.version), "good evening").wait() {
        println!("not saved: {conflict}");
    }

    // Wait with a deadline; when it passes, the pending result comes back and the operation goes on.
    let pending = first.query("greeting");
    let answer = pending.wait_timeout(Duration::from_secs(10)).map_err(|_still_pending| "no answer in time")?;
    println!("now it is {:?}", answer?.map(|found| String::from_utf8_lossy(&found.value).into_owned()));

    // A deleted value is gone for all, and no old copy brings it back.
    second.delete("greeting").wait()?;
    println!("deleted: found {:?}", first.query("greeting").wait()?);

    // Questions to one node.
    let over_tcp = addresses.last().ok_or("no address")?;
    let pong = second.ping(over_tcp.clone()).wait()?;
    println!("pinged over TCP: {}", if pong.id == first.id() { "the first node" } else { "another" });

    // Gateways come and go while the node runs. Without UDP, the two talk over TCP.
    second.remove_gateway(udp)?;
    second.save("transport", "TCP").wait()?;
    println!("still found: {}", first.query("transport").wait()?.is_some());

    // What happened meanwhile, and how things stand.
    let met = events.wait_for(Duration::from_secs(5), |event| match event {
        Event::Node(kademlia_dht::core::Event::ContactAdded(contact)) => Some(contact),
        _ => None,
    })?;
    println!("the second node met {}", if met.id() == first.id() { "the first" } else { "somebody else" });
    let status = second.status();
    println!("it knows {} peer(s) and holds {} record(s)", status.known_peers, status.records);

    // Ends every thread and frees every address; so does dropping the service.
    second.stop();
    first.stop();
    Ok(())
}
