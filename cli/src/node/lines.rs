//! What a node prints: one line for each thing that whoever started it must know.

use std::io::{self, Write};
use std::net::SocketAddr;

use kademlia_dht::Multiaddr;
use serde_json::json;

/// Prints lines of words, or each as a JSON object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lines {
    json: bool,
}

impl Lines {
    pub(super) fn new(json: bool) -> Self {
        Lines { json }
    }

    pub(super) fn id(self, id: &str) -> io::Result<()> {
        self.line("id", id)
    }

    pub(super) fn listening(self, address: &Multiaddr) -> io::Result<()> {
        self.line("listening", &address.to_string())
    }

    pub(super) fn http(self, address: SocketAddr) -> io::Result<()> {
        self.line("http", &format!("http://{address}"))
    }

    pub(super) fn ready(self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.json { writeln!(out, "{}", json!({ "ready": true })) } else { writeln!(out, "ready") }?;
        out.flush()
    }

    fn line(self, name: &str, value: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.json { writeln!(out, "{}", json!({ name: value })) } else { writeln!(out, "{name} {value}") }?;
        out.flush()
    }
}
