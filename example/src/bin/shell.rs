//! A node with a prompt. `shell [MULTIADDR]...` listens on the addresses given, or on UDP and TCP of this host.
//!
//! Start two of them, `connect` one to an address that the other shows, `save` here and `query` there.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to its user")]

use std::error::Error;
use std::io::{self, BufRead, Write};

use kademlia_dht::gateway::{TcpGateway, UdpGateway};
use kademlia_dht::{Config, DHTService, Multiaddr};

const HELP: &str = "\
help               shows this
connect MULTIADDR  joins the network of the node there
save KEY VALUE     saves a value; it can have spaces in it
query KEY          finds the value of a key
status             shows what this node knows and does
^D                 leaves";

fn main() -> Result<(), Box<dyn Error>> {
    let service = DHTService::start(Config::default())?;
    let mut wanted: Vec<String> = std::env::args().skip(1).collect();
    if wanted.is_empty() {
        wanted = vec!["/ip4/127.0.0.1/udp/0".to_owned(), "/ip4/127.0.0.1/tcp/0".to_owned()];
    }
    for address in wanted {
        listen(&service, address.parse().map_err(|error| format!("{address}: {error}"))?)?;
    }
    for address in service.listen_addresses() {
        println!("listening on {address}");
    }
    println!("`help` tells what can be done");

    let mut lines = io::stdin().lock().lines();
    loop {
        print!("> ");
        io::stdout().flush()?;
        let Some(line) = lines.next().transpose()? else { break };
        match obey(&service, line.trim()) {
            Ok(answer) if answer.is_empty() => {}
            Ok(answer) => println!("{answer}"),
            Err(error) => println!("error: {error}"),
        }
    }
    println!();
    service.stop();
    Ok(())
}

fn listen(service: &DHTService, address: Multiaddr) -> Result<(), Box<dyn Error>> {
    match address.protocol_stack().last() {
        Some("udp") => service.register_gateway(UdpGateway::bind(address)?)?,
        Some("tcp") => service.register_gateway(TcpGateway::bind(address)?)?,
        _ => return Err(format!("{address}: neither UDP nor TCP").into()),
    };
    Ok(())
}

/// Does what a line says and gives the answer.
fn obey(service: &DHTService, line: &str) -> Result<String, Box<dyn Error>> {
    let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
    let rest = rest.trim_start();
    match command {
        "" => Ok(String::new()),
        "help" => Ok(HELP.to_owned()),
        "connect" => {
            let joined = service.connect(rest.parse()?).wait()?;
            Ok(format!("joined; {} peer(s) known", joined.contacts))
        }
        "save" => {
            let (key, value) = rest.split_once(' ').ok_or("save KEY VALUE")?;
            let receipt = service.save(key, value.trim_start()).wait()?;
            Ok(format!("saved at {} other node(s)", receipt.accepted.len()))
        }
        "query" => Ok(match service.query(rest).wait()? {
            Some(found) => String::from_utf8_lossy(&found.value).into_owned(),
            None => "not found".to_owned(),
        }),
        "status" => {
            let status = service.status();
            let (id, peers, records) = (status.id, status.known_peers, status.records);
            let gateways = status.gateways.iter().flat_map(|gateway| &gateway.addresses);
            let addresses: String = gateways.map(|address| format!("\nlistening on {address}")).collect();
            Ok(format!("node {id}\n{peers} peer(s) known, {records} record(s) held{addresses}"))
        }
        unknown => Err(format!("`{unknown}` is no command; `help` shows those there are").into()),
    }
}
