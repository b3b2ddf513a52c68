//! The gateway of one's own passes the suite that every gateway must pass. A test of yours looks like this.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is a test")]

#[path = "../src/bin/custom_gateway.rs"]
#[allow(dead_code, reason = "its `main` has a test of its own")]
mod custom_gateway;

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use custom_gateway::{LocalGateway, address_of, path_of};
use kademlia_dht::Multiaddr;
use kademlia_dht::gateway::conformance::{self, Transport};

#[test]
fn it_passes_every_check_for_datagrams() {
    let folder = tempfile::tempdir().unwrap();
    let (next, within) = (AtomicU64::new(0), folder.path().to_owned());
    let free_path = move || -> PathBuf { within.join(next.fetch_add(1, Ordering::Relaxed).to_string()) };
    let strangers = folder.path().join("strangers");
    std::fs::create_dir(&strangers).unwrap();
    let number = AtomicU64::new(0);

    let local = Transport::lossy("local datagrams", move |address| {
        let address = address.cloned().or_else(|| address_of(&free_path()));
        LocalGateway::bind(address.unwrap())
    })
    .with_datagrams(move |to: &Multiaddr| {
        let to = path_of(to).unwrap();
        let socket = UnixDatagram::bind(strangers.join(number.fetch_add(1, Ordering::Relaxed).to_string()))?;
        Ok(move |bytes: &[u8]| socket.send_to(bytes, &to).map(drop))
    });
    let report = conformance::run(&local);
    assert!(report.has_passed(), "{report}");
}
