//! Shares a file of any size: one program cuts it up and saves it in a network, another one fetches it by its hash.
//!
//! ```console
//! cargo run --release --bin share_file -- save FILE ADDRESS
//! cargo run --release --bin share_file -- fetch HASH FILE ADDRESS
//! ```
//!
//! `ADDRESS` is that of any node of the network, such as `/ip4/127.0.0.1/udp/4001`; some programs of the example `shell` that
//! are connected to each other make a network to try it. Both are clients: they hold nothing for others. A fetch that was interrupted goes on where it stopped when it is
//! begun again; the file has its name only when it is whole.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to its user")]

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use kademlia_dht::gateway::{TcpGateway, UdpGateway};
use kademlia_dht::large::{Place, Source, StreamOptions};
use kademlia_dht::{Config, DHTService, Id, Multiaddr};

const USAGE: &str = "usage: share_file save FILE ADDRESS\n       share_file fetch HASH FILE ADDRESS";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["save", file, address] => save(Path::new(file), address),
        ["fetch", hash, file, address] => fetch(hash, Path::new(file), address),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// A client of the network of the node at `address`.
fn client(address: &str) -> Result<DHTService, Box<dyn Error>> {
    let address: Multiaddr = address.parse().map_err(|error| format!("{address:?} is no address: {error}"))?;
    let service = DHTService::start(Config { client: true, ..Config::default() })?;
    service.register_gateway(UdpGateway::bind("/ip4/0.0.0.0/udp/0".parse()?)?)?;
    service.register_gateway(TcpGateway::bind("/ip4/0.0.0.0/tcp/0".parse()?)?)?;
    let joined = service.connect(address).wait()?;
    eprintln!("joined a network through {} and know {} nodes", joined.through, joined.contacts);
    Ok(service)
}

fn bar(length: u64) -> Result<ProgressBar, Box<dyn Error>> {
    let template = "{bar:40} {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left";
    Ok(ProgressBar::new(length).with_style(ProgressStyle::with_template(template)?))
}

fn save(path: &Path, address: &str) -> Result<(), Box<dyn Error>> {
    let mut file = File::open(path).map_err(|error| format!("cannot open {}: {error}", path.display()))?;
    let service = client(address)?;
    let bar = bar(file.metadata()?.len())?;
    let mut writer = service.value_writer(Place::Immutable, StreamOptions::default());
    copy(&mut file, &mut writer, &bar)?;
    let receipt = writer.finish()?;
    bar.finish();
    println!("{}", receipt.key);
    Ok(())
}

fn fetch(hash: &str, path: &Path, address: &str) -> Result<(), Box<dyn Error>> {
    let hash: Id = hash.parse().map_err(|error| format!("{hash:?} is no hash: {error}"))?;
    if path.exists() {
        return Err(format!("{} is there already", path.display()).into());
    }
    let service = client(address)?;
    let found = service.query_stream(Source::Immutable(hash), StreamOptions::default()).wait()?;
    let mut reader = found.ok_or_else(|| format!("nobody has {hash}"))?;
    let part = part_of(path, &hash);
    let file = OpenOptions::new().create(true).append(true).open(&part);
    let mut file = file.map_err(|error| format!("cannot write {}: {error}", part.display()))?;
    // What is there already was checked when it came.
    let there = file.metadata()?.len().min(reader.len());
    file.set_len(there)?;
    reader.seek(SeekFrom::Start(there))?;
    let bar = bar(reader.len())?.with_position(there);
    copy(&mut reader, &mut file, &bar)?;
    file.sync_all()?;
    fs::rename(&part, path)?;
    bar.finish();
    println!("{} has {} bytes", path.display(), reader.len());
    Ok(())
}

/// Where a file is while it is not whole: what belongs to another hash is elsewhere.
fn part_of(path: &Path, hash: &Id) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{hash}.part"));
    path.with_file_name(name)
}

fn copy(from: &mut impl Read, to: &mut impl Write, bar: &ProgressBar) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let size = match from.read(&mut buffer) {
            Ok(0) => return to.flush(),
            Ok(size) => size,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(buffer.get(..size).unwrap_or_default())?;
        bar.inc(size as u64);
    }
}
