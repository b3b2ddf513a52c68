//! What goes over the wire, counted.

use kademlia_dht::core::Counters;

/// What the core calls a record in an answer that it does not take.
const REFUSED_RECORD: &str = "record in a reply that does not belong under its key";

/// What went over the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages sent.
    pub sent: u64,
    /// Messages that arrived at a living node.
    pub delivered: u64,
    /// Messages lost on the way.
    pub lost: u64,
    /// Messages that arrived where no node was any more.
    pub in_vain: u64,
    /// Bytes sent, with the headers of IPv4 and UDP.
    pub sent_bytes: u64,
    /// Bytes that arrived at a living node, likewise.
    pub received_bytes: u64,
    /// Requests that were answered.
    pub answered: u64,
    /// Requests that were repeated in vain until their time was over.
    pub unanswered: u64,
    /// Lies that were told.
    pub lies: u64,
    /// Records in answers that were found not to belong under their keys.
    pub refused_records: u64,
    /// The time that all nodes together have lived, in microseconds.
    pub node_micros: u64,
}

impl Traffic {
    /// What was added since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Traffic) -> Traffic {
        Traffic {
            sent: self.sent - earlier.sent,
            delivered: self.delivered - earlier.delivered,
            lost: self.lost - earlier.lost,
            in_vain: self.in_vain - earlier.in_vain,
            sent_bytes: self.sent_bytes - earlier.sent_bytes,
            received_bytes: self.received_bytes - earlier.received_bytes,
            answered: self.answered - earlier.answered,
            unanswered: self.unanswered - earlier.unanswered,
            lies: self.lies - earlier.lies,
            refused_records: self.refused_records - earlier.refused_records,
            node_micros: self.node_micros - earlier.node_micros,
        }
    }

    /// What a node has counted of its requests.
    pub(crate) fn count(&mut self, counters: &Counters) {
        self.answered += counters.replies;
        self.unanswered += counters.unanswered;
        self.refused_records += counters.dropped.get(REFUSED_RECORD).copied().unwrap_or(0);
    }

    /// The share of requests that nobody answered.
    pub fn timeouts(&self) -> Option<f64> {
        let all = self.answered + self.unanswered;
        (all > 0).then(|| self.unanswered as f64 / all as f64)
    }

    /// Bytes sent and received, per node and second.
    pub fn bytes_per_node_second(&self) -> Option<f64> {
        let seconds = self.node_micros as f64 / 1e6;
        (seconds > 0.0).then(|| (self.sent_bytes + self.received_bytes) as f64 / seconds)
    }
}
