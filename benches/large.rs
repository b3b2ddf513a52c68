//! A file of 64 MiB, saved in a network of mixed transports by one program and fetched by another while a fifth of the
//! nodes is killed: how fast, beside a plain copy over TCP, and in how much memory.
//!
//! `cargo bench --bench large`; with a number behind `--`, so many MiB. Both programs are this one, started again as a
//! client, so that their memory can be seen apart from that of the nodes. Exit status 1 if what was fetched is not what
//! was saved, or a client took more than 64 MiB beyond what it took before.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Instant;

use kademlia_dht::gateway::{TcpGateway, UdpGateway};
use kademlia_dht::large::{Place, Source, StreamOptions};
use kademlia_dht::testnet::{TestNetwork, Transport};
use kademlia_dht::{Config, DHTService, network_named};

const MIX: &str = "udp=10,tcp=8,unix=4,udp+tcp=4,tcp+unix=4";
const KILLED: usize = 6;
const MIB: usize = 1024 * 1024;
const NETWORK: &str = "KADEMLIA_BENCH_LARGE";

fn config() -> Config {
    Config { network: network_named(&std::env::var(NETWORK).unwrap()), ..Config::default() }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["save", size, address] => save(size.parse().unwrap(), address),
        ["fetch", size, address, hash] => fetch(size.parse().unwrap(), address, hash),
        [size] => measure(size.parse::<usize>().expect("a number of MiB") * MIB),
        _ => measure(64 * MIB),
    }
}

/// The bytes of the file from one place on: unlike each other, and the same each time.
fn content(offset: u64, buffer: &mut [u8]) {
    for (place, byte) in (offset..).zip(buffer) {
        *byte = ((place / 8).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (place % 8 * 8)) as u8;
    }
}

fn client(address: &str) -> DHTService {
    let service = DHTService::start(Config { client: true, ..config() }).unwrap();
    service.register_gateway(UdpGateway::bind("/ip4/127.0.0.1/udp/0".parse().unwrap()).unwrap()).unwrap();
    service.register_gateway(TcpGateway::bind("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap()).unwrap();
    service.connect(address.parse().unwrap()).wait().unwrap();
    service
}

/// A line of `/proc/self/status`, in KiB.
fn memory(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|found| found.strip_prefix(line)).unwrap_or("0");
    line.trim_matches(|letter: char| !letter.is_ascii_digit()).parse().unwrap_or(0)
}

fn save(size: usize, address: &str) -> ExitCode {
    let service = client(address);
    let (idle, start) = (memory("VmRSS:"), Instant::now());
    let mut writer = service.value_writer(Place::Immutable, StreamOptions::default());
    let mut buffer = vec![0; 64 * 1024];
    for offset in (0..size).step_by(buffer.len()) {
        content(offset as u64, &mut buffer);
        let length = buffer.len().min(size - offset);
        writer.write_all(&buffer[..length]).unwrap();
    }
    let receipt = writer.finish().unwrap();
    println!("{} {} {} {}", receipt.key, start.elapsed().as_secs_f64(), idle, memory("VmHWM:"));
    ExitCode::SUCCESS
}

fn fetch(size: usize, address: &str, hash: &str) -> ExitCode {
    let service = client(address);
    let (idle, start) = (memory("VmRSS:"), Instant::now());
    let source = Source::Immutable(hash.parse().unwrap());
    let mut reader = service.query_stream(source, StreamOptions::default()).wait().unwrap().expect("it was saved");
    let (mut buffer, mut expected, mut offset) = (vec![0; 64 * 1024], vec![0; 64 * 1024], 0);
    loop {
        let read = reader.read(&mut buffer).unwrap();
        if read == 0 {
            break;
        }
        content(offset as u64, &mut expected[..read]);
        assert!(buffer[..read] == expected[..read], "another byte between {offset} and {}", offset + read);
        if offset < size / 2 && offset + read >= size / 2 {
            println!("half");
        }
        offset += read;
    }
    assert_eq!(offset, size);
    println!("whole {} {} {}", start.elapsed().as_secs_f64(), idle, memory("VmHWM:"));
    ExitCode::SUCCESS
}

/// Runs this program as a client, and calls `told` with each line that it says.
fn run(arguments: &[&str], network: &str, mut told: impl FnMut(&[&str])) {
    let program = std::env::current_exe().unwrap();
    let mut child = Command::new(program).args(arguments).env(NETWORK, network).stdout(Stdio::piped()).spawn().unwrap();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        told(&line.unwrap().split(' ').collect::<Vec<_>>());
    }
    assert!(child.wait().unwrap().success(), "the client has failed");
}

/// Seconds for a plain copy over the loopback interface.
fn copy_over_tcp(size: usize) -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let sender = thread::spawn(move || {
        let (mut stream, mut buffer) = (TcpStream::connect(address).unwrap(), vec![0; 64 * 1024]);
        for offset in (0..size).step_by(buffer.len()) {
            content(offset as u64, &mut buffer);
            let length = buffer.len().min(size - offset);
            stream.write_all(&buffer[..length]).unwrap();
        }
    });
    let (mut stream, _) = listener.accept().unwrap();
    let (start, mut all, mut buffer) = (Instant::now(), 0, vec![0; 64 * 1024]);
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        all += read;
    }
    sender.join().unwrap();
    assert_eq!(all, size);
    start.elapsed().as_secs_f64()
}

fn measure(size: usize) -> ExitCode {
    let name = format!("bench large of process {}", std::process::id());
    let network = network_named(&name);
    let config = move |_, _| Config { network, ..Config::default() };
    let mut nodes = TestNetwork::builder(MIX.parse().unwrap()).configure(config).start().unwrap();
    let meeting = nodes.nodes().iter().find(|node| node.transports().contains(Transport::Udp)).unwrap();
    let address = meeting.service().listen_addresses()[0].to_string();
    let (bytes, mib) = (size.to_string(), size as f64 / MIB as f64);
    println!("{mib} MiB, {} nodes: {MIX}", nodes.nodes().len());
    let mut fits = true;
    let mut report = |what: &str, seconds: &str, idle: &str, peak: &str| {
        let number = |text: &str| text.parse::<f64>().unwrap();
        let beyond = (number(peak) - number(idle)) / 1024.0;
        fits &= beyond <= 64.0;
        let seconds = number(seconds);
        println!("{what}: {seconds:.1} s, {:.1} MiB/s, at most {beyond:.1} MiB beyond {idle} KiB", mib / seconds);
    };
    let mut hash = String::new();
    run(&["save", &bytes, &address], &name, |told| {
        hash = told[0].to_owned();
        report("saved", told[1], told[2], told[3]);
    });
    let victims = nodes.victims(KILLED);
    run(&["fetch", &bytes, &address, &hash], &name, |told| match told {
        ["half"] => {
            for victim in &victims {
                nodes.kill(*victim).unwrap();
            }
            println!("killed {} nodes after half of it", victims.len());
        }
        told => report("fetched, as it was", told[1], told[2], told[3]),
    });
    println!("plain copy over TCP: {:.1} MiB/s", mib / copy_over_tcp(size));
    nodes.stop().unwrap();
    ExitCode::from(u8::from(!fits))
}
