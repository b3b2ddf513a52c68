//! A gateway of one's own, over Unix *datagram* sockets, which no built-in gateway uses, in a network with UDP nodes.
//! The protocols of an address tell whose it is. This gateway's are of the form `/unix/%2Ftmp%2Fblue/udp/0`.

#![allow(clippy::print_stdout, reason = "it talks to its user")]

use std::{error::Error, fs, io, path::PathBuf, sync::Arc};

use kademlia_dht::gateway::{Gateway, GatewayError, Inbound, Link, Outbound, Outbox, SizeLimits, UdpGateway};
use kademlia_dht::gateway::{Unsent, UnsentReason, address, codec};
use kademlia_dht::{Config, DHTService, Multiaddr};
use mio::{Events, Interest, Poll, Token, Waker, net::UnixDatagram};

fn address_of(path: &std::path::Path) -> Option<Multiaddr> {
    format!("{}/udp/0", address::unix_address(path).ok()?).parse().ok()
}
fn path_of(address: &Multiaddr) -> Option<PathBuf> {
    address::unix_path(&address.to_string().strip_suffix("/udp/0")?.parse().ok()?)
}

/// The receiving half, which has a thread of its own.
struct LocalGateway(PathBuf, Arc<UnixDatagram>, Poll);

impl LocalGateway {
    fn bind(path: PathBuf) -> io::Result<Self> {
        let (mut socket, poll) = (UnixDatagram::bind(&path)?, Poll::new()?);
        poll.registry().register(&mut socket, Token(0), Interest::READABLE)?;
        Ok(LocalGateway(path, Arc::new(socket), poll))
    }
}

impl Gateway for LocalGateway {
    fn name(&self) -> String {
        "local datagrams".to_owned()
    }
    fn addresses(&self) -> Vec<Multiaddr> {
        address_of(&self.0).into_iter().collect()
    }
    fn outbox(&mut self) -> Result<Box<dyn Outbox>, GatewayError> {
        Ok(Box::new(LocalOutbox(Arc::clone(&self.1))))
    }
    /// Sleeps until a datagram comes or the link wakes it, which it does when the gateway must stop.
    fn run(&mut self, link: &Link) -> Result<(), GatewayError> {
        let LocalGateway(path, socket, poll) = self;
        let waker = Waker::new(poll.registry(), Token(1))?;
        link.on_wake(move || waker.wake().unwrap_or_default());
        let (mut events, mut buffer) = (Events::with_capacity(2), vec![0; codec::MAX_MESSAGE_BYTES]);
        while !link.stopping() {
            if let Ok((size, from)) = socket.recv_from(&mut buffer) {
                let message = codec::decode(buffer.get(..size).unwrap_or_default());
                if let (Some(from), Ok(message)) = (from.as_pathname().and_then(address_of), message) {
                    link.deliver_or_drop(vec![Inbound::datagram(from, size, message)]);
                }
            } else if let Err(error) = poll.poll(&mut events, None)
                && error.kind() != io::ErrorKind::Interrupted
            {
                return Err(error.into());
            }
        }
        Ok(fs::remove_file(path)?)
    }
}

/// The sending half. The node calls it on its own thread, so it must not block; a socket of mio does not.
struct LocalOutbox(Arc<UnixDatagram>);

impl Outbox for LocalOutbox {
    fn dials(&self, address: &Multiaddr) -> bool {
        path_of(address).is_some()
    }
    fn limits(&self) -> SizeLimits {
        SizeLimits::STREAM
    }
    fn send(&mut self, mut outbound: Outbound) -> Result<(), Unsent> {
        let mut send = || {
            let (path, mut bytes) = (path_of(&outbound.to).ok_or(UnsentReason::NotDialable)?, Vec::new());
            let limits = outbound.limits(SizeLimits::STREAM);
            codec::encode_fitting(&mut outbound.envelope, limits, &mut bytes)?;
            self.0.send_to(&bytes, path).map_err(|error| UnsentReason::of(&error))
        };
        send().map(drop).map_err(|reason| Unsent::new(outbound, reason))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let start = || DHTService::start(Config::default());
    let (bridge, red, blue, folder) = (start()?, start()?, start()?, tempfile::tempdir()?);
    for node in [&bridge, &red] {
        node.register_gateway(UdpGateway::bind("/ip4/127.0.0.1/udp/0".parse()?)?)?;
    }
    bridge.register_gateway(LocalGateway::bind(folder.path().join("bridge"))?)?;
    blue.register_gateway(LocalGateway::bind(folder.path().join("blue"))?)?;
    for (node, address) in [&red, &blue].into_iter().zip(bridge.listen_addresses()) {
        println!("joined over {address}: {} peers", node.connect(address.clone()).wait()?.contacts);
    }
    red.save("colour", "saved over UDP").wait()?;
    let found = blue.query("colour").wait()?.ok_or("not found")?;
    println!("found over local datagrams: {}", String::from_utf8_lossy(&found.value));
    println!("and {} messages passed the bridge", bridge.status().relayed);
    Ok(())
}
