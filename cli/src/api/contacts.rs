//! Nodes, as they are named to clients.

use kademlia_dht::Contact;
use serde::Serialize;
use utoipa::ToSchema;

use super::state::Api;

/// A node.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Node {
    /// Its id, in hexadecimal.
    pub(super) id: String,
    /// Its addresses, as multiaddrs; the one in use first.
    pub(super) addresses: Vec<String>,
}

impl Node {
    pub(super) fn new(api: &Api, contact: &Contact) -> Self {
        let addresses = contact.addresses().map(ToString::to_string).collect();
        Node { id: api.hex(&contact.id()), addresses }
    }
}
