//! Looking inside: what a [`DHTService`] tells of its node, and of how it finds what it finds.

use kademlia_gateways::{Contact, Id};

use super::handle::DHTService;
use super::pending::Pending;
use crate::core::{Command, Outcome};

/// A contact in the routing table: what [`DHTService::neighbours`] and [`DHTService::closest`] give.
pub type Neighbour = crate::core::Neighbour<Contact>;

/// All that a node knows and does at one moment: what [`DHTService::dump`] gives.
pub type Dump = crate::core::Dump<Contact>;

/// A query, request by request: what [`DHTService::trace`] gives.
pub type Trace = crate::core::Trace<Contact>;

/// One node that was asked in a [`Trace`].
pub type TracedRequest = crate::core::TracedRequest<Contact>;

/// To look inside.
impl DHTService {
    /// The contacts in the routing table, nearest to this node first.
    ///
    /// Like [`closest`](DHTService::closest) and [`dump`](DHTService::dump) it asks nobody, and is not refused however many
    /// operations are under way.
    ///
    /// ```
    /// use kademlia_dht::gateway::MemoryGateway;
    /// use kademlia_dht::{Config, DHTService, TracedAnswer};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (one, other) = (DHTService::start(Config::default())?, DHTService::start(Config::default())?);
    /// one.register_gateway(MemoryGateway::bind("/memory/0".parse()?)?)?;
    /// other.register_gateway(MemoryGateway::bind("/memory/0".parse()?)?)?;
    /// other.connect(one.listen_addresses().remove(0)).wait()?;
    ///
    /// let neighbours = other.neighbours().wait()?;
    /// assert_eq!(neighbours[0].contact.id(), one.id());
    /// println!("{} answered in {:?}", neighbours[0].contact, neighbours[0].round_trip);
    ///
    /// let trace = other.trace("key").wait()?;
    /// assert_eq!((trace.requests.len(), trace.requests[0].hop), (1, 1));
    /// assert!(matches!(trace.requests[0].answer, TracedAnswer::Contacts { .. }));
    /// assert_eq!(trace.result?.found, None); // Nobody has it.
    ///
    /// let dump = other.dump().wait()?;
    /// let contacts: usize = dump.buckets.iter().map(|bucket| bucket.contacts.len()).sum();
    /// assert_eq!((contacts, dump.records.len()), (1, 0));
    /// # Ok(())
    /// # }
    /// ```
    pub fn neighbours(&self) -> Pending<Vec<Neighbour>> {
        self.begin(Command::Neighbours, neighbours)
    }

    /// The k contacts in the routing table that are nearest to `target`, nearest first: whom a lookup asks first. What is
    /// nearest in all of the network, [`lookup`](DHTService::lookup) tells.
    pub fn closest(&self, target: Id) -> Pending<Vec<Neighbour>> {
        self.begin(Command::Closest { target: self.fit(&target) }, neighbours)
    }

    /// All that this node knows and does at this moment: its routing table, the records that it holds and keeps alive, the
    /// requests and operations under way. Of very many records only the first ones.
    pub fn dump(&self) -> Pending<Dump> {
        self.begin(Command::Dump, |outcome| match outcome {
            Outcome::Dumped(dump) => Some(*dump),
            _ => None,
        })
    }

    /// As [`query_report`](DHTService::query_report), and tells of each request that it takes: who was asked, at how many
    /// steps from here, who had named them, how long they took, and what they had.
    ///
    /// It is a query like any other. One that fails, as nobody answers, gives its trace as well, with the error in
    /// [`result`](crate::core::Trace::result).
    pub fn trace(&self, key: impl AsRef<[u8]>) -> Pending<Trace> {
        self.trace_id(self.key_id(key))
    }

    /// As [`trace`](DHTService::trace), for the id of a key.
    pub fn trace_id(&self, target: Id) -> Pending<Trace> {
        self.begin(Command::Trace { key: self.fit(&target) }, |outcome| match outcome {
            Outcome::Traced(trace) => Some(*trace),
            _ => None,
        })
    }
}

fn neighbours(outcome: Outcome<Contact>) -> Option<Vec<Neighbour>> {
    match outcome {
        Outcome::Neighbours(neighbours) => Some(neighbours),
        _ => None,
    }
}
