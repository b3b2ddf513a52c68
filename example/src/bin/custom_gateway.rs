//! A gateway of one's own, over Unix *datagram* sockets, which no built-in gateway uses, in a network with UDP nodes.
//! The protocols of an address tell whose it is. This gateway's are of the form `/unix/%2Ftmp%2Fblue/udp/0`.

#![allow(clippy::print_stdout, reason = "it talks to its user")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::{error::Error, fs, io};

use kademlia_dht::gateway::{Count, Gateway, GatewayError, Inbound, Link, Outbound, Outbox, SizeLimits, UdpGateway};
use kademlia_dht::gateway::{Unsent, UnsentReason, address, codec};
use kademlia_dht::{Config, DHTService, Multiaddr};
use mio::{Events, Interest, Poll, Token, Waker, net::UnixDatagram};

pub(crate) fn address_of(path: &Path) -> Option<Multiaddr> {
    format!("{}/udp/0", address::unix_address(path).ok()?).parse().ok()
}
pub(crate) fn path_of(address: &Multiaddr) -> Option<PathBuf> {
    address::unix_path(&address.to_string().strip_suffix("/udp/0")?.parse().ok()?)
}

/// A bound socket. Its file goes with it.
struct Socket(UnixDatagram, PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        fs::remove_file(&self.1).unwrap_or_default();
    }
}

/// The receiving half, which has a thread of its own. Its socket is there until a run ends.
pub(crate) struct LocalGateway(Multiaddr, Option<(Poll, Arc<Socket>)>);

impl LocalGateway {
    pub(crate) fn bind(address: Multiaddr) -> Result<Self, GatewayError> {
        let mut gateway = LocalGateway(address, None);
        gateway.reopen().map(|()| gateway)
    }
}

impl Gateway for LocalGateway {
    fn name(&self) -> String {
        "local datagrams".to_owned()
    }
    fn addresses(&self) -> Vec<Multiaddr> {
        vec![self.0.clone()]
    }
    fn outbox(&mut self) -> Result<Box<dyn Outbox>, GatewayError> {
        let (_, socket) = self.1.as_ref().ok_or(GatewayError::Ended)?;
        Ok(Box::new(LocalOutbox(Arc::downgrade(socket))))
    }
    /// Sleeps until a datagram comes or the link wakes it, which it does when the gateway must stop.
    fn run(&mut self, link: &Link) -> Result<(), GatewayError> {
        let (mut poll, socket) = self.1.take().ok_or(GatewayError::Ended)?;
        let waker = Waker::new(poll.registry(), Token(1))?;
        link.on_wake(move || waker.wake().unwrap_or_default());
        // Room for one byte too many, which tells a datagram that is too large from one that just fits.
        let (mut events, mut buffer) = (Events::with_capacity(2), vec![0; codec::MAX_MESSAGE_BYTES + 1]);
        while !link.stopping() {
            if let Ok((size, from)) = socket.0.recv_from(&mut buffer) {
                match (from.as_pathname().and_then(address_of), codec::decode(buffer.get(..size).unwrap_or_default())) {
                    (Some(from), Ok(message)) => link.deliver_or_drop(vec![Inbound::datagram(from, size, message)]),
                    (_, Err(error)) => link.count(Count::from(&error)),
                    (None, Ok(_)) => link.count(Count::Malformed),
                }
            } else if let Err(error) = poll.poll(&mut events, None)
                && error.kind() != io::ErrorKind::Interrupted
            {
                return Err(error.into());
            }
        }
        Ok(())
    }
    fn reopen(&mut self) -> Result<(), GatewayError> {
        let (gateway, expected) = ("LocalGateway", "/unix/%2Ftmp%2Fblue/udp/0");
        let address = || self.0.clone();
        let path = path_of(&self.0).ok_or_else(|| GatewayError::Address { gateway, address: address(), expected })?;
        let bound = UnixDatagram::bind(&path).map_err(|source| GatewayError::Bind { address: address(), source })?;
        let (mut socket, poll) = (Socket(bound, path), Poll::new()?);
        poll.registry().register(&mut socket.0, Token(0), Interest::READABLE)?;
        self.1 = Some((poll, Arc::new(socket)));
        Ok(())
    }
}

/// The sending half. The node calls it on its own thread, so it must not block; a socket of mio does not.
struct LocalOutbox(Weak<Socket>);

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
            let socket = self.0.upgrade().ok_or(UnsentReason::Closed)?;
            let limits = outbound.limits(SizeLimits::STREAM);
            codec::encode_fitting(&mut outbound.envelope, limits, &mut bytes)?;
            socket.0.send_to(&bytes, path).map_err(|error| UnsentReason::of(&error))
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
    for (node, name) in [(&bridge, "bridge"), (&blue, "blue")] {
        let address = address_of(&folder.path().join(name)).ok_or("a folder whose name is no text")?;
        node.register_gateway(LocalGateway::bind(address)?)?;
    }
    for (node, address) in [&red, &blue].into_iter().zip(bridge.listen_addresses()) {
        println!("joined over {address}: {} peers", node.connect(address.clone()).wait()?.contacts);
    }
    red.save("colour", "saved over UDP").wait()?;
    let found = blue.query("colour").wait()?.ok_or("not found")?;
    println!("found over local datagrams: {}", String::from_utf8_lossy(&found.value));
    println!("and {} messages passed the bridge", bridge.status().relayed);
    Ok(())
}
