//! What one node is asked, which the user names.

use kademlia_gateways::{Contact, Expect, Id, Multiaddr, Record, Version};

use super::handle::{DHTService, unix_milliseconds};
use super::pending::Pending;
use super::{Error, ValueReply};
use crate::core::{Command, Outcome, Pong};

/// Questions to one node.
impl DHTService {
    /// Asks one node whether it is there.
    pub fn ping(&self, address: Multiaddr) -> Pending<Pong> {
        self.inner.begin(Command::Ping { address }, |outcome| match outcome {
            Outcome::Pong(pong) => Some(pong),
            _ => None,
        })
    }

    /// Asks one node for the contacts it knows nearest to `target`; gives them nearest first.
    pub fn find_node(&self, address: Multiaddr, target: Id) -> Pending<Vec<Contact>> {
        let target = self.inner.key_space.fit(&target);
        self.inner.begin(Command::FindNode { address, target }, |outcome| match outcome {
            Outcome::Nodes(contacts) => Some(contacts),
            _ => None,
        })
    }

    /// Asks one node for its record under `key`.
    pub fn find_value(&self, address: Multiaddr, key: impl AsRef<[u8]>) -> Pending<ValueReply> {
        self.inner.begin(Command::FindValue { address, key: self.plain_id(key) }, |outcome| match outcome {
            Outcome::Value(reply) => Some(reply),
            _ => None,
        })
    }

    /// Has one node keep a record; gives the version under which it does.
    pub fn store(&self, address: Multiaddr, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Pending<Version> {
        let (name, version) = (key.as_ref(), self.inner.next_version(unix_milliseconds()));
        let record = match self.plain_record(name, value.as_ref(), version) {
            Ok(record) => record,
            Err(error) => return Pending::failed(error),
        };
        let command = Command::Store { address, key: self.plain_id(name), record, expect: Expect::Anything };
        self.inner.begin(command, move |outcome| matches!(outcome, Outcome::Stored).then_some(version))
    }

    /// What anybody may write under a key.
    fn plain_record(&self, key: &[u8], value: &[u8], version: Version) -> Result<Record, Error> {
        #[cfg(feature = "mainline")]
        if self.bencodes() {
            return self.signed_of(key, value, version);
        }
        #[cfg(not(feature = "mainline"))]
        let _ = key;
        self.checked(value).map(|value| Record::plain(value, version, self.inner.record_lifetime))
    }
}
