//! What this program does when it has started itself as one of the servers.
//!
//! On its standard input come the addresses of its crowd, one a line, and an empty line; it says at which port it is and how
//! many it knows, and serves until the input ends.

#![allow(
    deprecated,
    reason = "the crate would rather have its callers wait without blocking, for which there is no need here"
)]

use std::collections::VecDeque;
use std::io::{self, BufRead, Read};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;

use kademlia_dht::gateway::address::{IpTransport, ip_address, socket_addr};
use kademlia_dht::gateway::mainline::MainlineGateway;
use kademlia_dht::{Config, DHTService};
use mainline::Dht;

/// What is sent to a node again that has not answered: so often it is tried in all.
const ATTEMPTS: usize = 3;

/// Pings under way at one time.
const PINGS: usize = 32;

pub(crate) fn run(what: &str, argument: &str) {
    let mut input = io::stdin().lock();
    let crowd: Vec<SocketAddr> = input
        .by_ref()
        .lines()
        .map(Result::unwrap)
        .take_while(|line| !line.is_empty())
        .map(|line| line.parse().unwrap())
        .collect();
    match what {
        "echo" => {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            say(socket.local_addr().unwrap().port(), 0);
            let size = argument.parse().ok().filter(|size| *size > 0);
            // Ends with the process.
            thread::spawn(move || echo(&socket, size));
            wait(input);
        }
        "node" => {
            let service = node(&crowd);
            let (address, _) = socket_addr(&service.listen_addresses()[0]).unwrap();
            say(address.port(), service.status().known_peers);
            wait(input);
            service.stop();
        }
        "crate" => {
            let dht = node_of_the_crate(&crowd);
            say(dht.info().local_addr().port(), dht.to_bootstrap().len());
            wait(input);
        }
        other => panic!("there is no server {other}"),
    }
}

fn say(port: u16, known: usize) {
    println!("{port} {known}");
}

fn wait(input: impl BufRead) {
    input.lines().map_while(Result::ok).for_each(drop);
}

/// Answers each datagram by one of `size` bytes, or of as many as came, that begins with what came.
fn echo(socket: &UdpSocket, size: Option<usize>) {
    let mut buffer = [0; 2048];
    loop {
        match socket.recv_from(&mut buffer) {
            // What finds no room is lost, and is asked for again.
            Ok((came, from)) => drop(socket.send_to(&buffer[..size.unwrap_or(came)], from)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => panic!("the echo has ended: {error}"),
        }
    }
}

/// A node of this library, as any program starts one.
fn node(crowd: &[SocketAddr]) -> DHTService {
    let gateway = MainlineGateway::bind("/ip4/127.0.0.1/udp/0".parse().unwrap()).unwrap();
    let service = DHTService::start(Config::mainline(gateway.handle())).unwrap();
    service.register_gateway(gateway).unwrap();
    let mut left: Vec<SocketAddr> = crowd.to_vec();
    for _ in 0..ATTEMPTS {
        let (mut under_way, mut again, mut next) = (VecDeque::new(), Vec::new(), left.into_iter());
        loop {
            if under_way.len() < PINGS
                && let Some(address) = next.next()
            {
                under_way.push_back((address, service.ping(ip_address(address, IpTransport::Udp))));
                continue;
            }
            let Some((address, pong)) = under_way.pop_front() else { break };
            if pong.wait().is_err() {
                again.push(address);
            }
        }
        left = again;
    }
    assert!(left.is_empty(), "{} of the crowd do not answer", left.len());
    service
}

/// The crate takes into its table who answers a search, and begins each with those through whom it joins.
fn node_of_the_crate(crowd: &[SocketAddr]) -> Dht {
    let mut builder = Dht::builder();
    let dht = builder.bind_address(Ipv4Addr::LOCALHOST).port(0).bootstrap(crowd).server_mode().build().unwrap();
    // That it finds nobody is because nobody of the crowd names others; who has answered is in its table.
    for _ in 0..ATTEMPTS {
        dht.bootstrapped();
    }
    dht
}
