//! What has been read and waits to be handed over.

use std::collections::VecDeque;

use super::BATCH;
use crate::gateway::Inbound;

/// Nothing more is read while so many bytes of messages wait here.
const FULL_BYTES: usize = 256 * 1024;

/// Messages in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Batch {
    messages: VecDeque<Inbound>,
    bytes: usize,
}

impl Batch {
    pub(super) fn push(&mut self, message: Inbound) {
        self.bytes += message.bytes;
        self.messages.push_back(message);
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Whether it is to be handed over before more is read.
    pub(super) fn is_full(&self) -> bool {
        self.messages.len() >= BATCH || self.bytes >= FULL_BYTES
    }

    /// Takes as many of the first messages as are handed over at once.
    pub(super) fn take(&mut self) -> Vec<Inbound> {
        let taken: Vec<Inbound> = self.messages.drain(..self.messages.len().min(BATCH)).collect();
        self.bytes -= bytes_of(&taken);
        taken
    }

    /// Puts back what was taken last.
    pub(super) fn put_back(&mut self, taken: Vec<Inbound>) {
        self.bytes += bytes_of(&taken);
        taken.into_iter().rev().for_each(|message| self.messages.push_front(message));
    }
}

fn bytes_of(messages: &[Inbound]) -> usize {
    messages.iter().map(|message| message.bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::messages;

    fn message(tag: u64, bytes: usize) -> Inbound {
        Inbound { bytes, ..Inbound::new("/memory/1".parse().unwrap(), messages::request(tag)) }
    }

    #[test]
    fn it_is_full_by_number_or_by_bytes_and_keeps_the_order() {
        let mut batch = Batch::default();
        let all: Vec<Inbound> = (0..BATCH as u64 + 1).map(|tag| message(tag, 100)).collect();
        for (index, message) in all.iter().enumerate() {
            assert_eq!((batch.len(), batch.is_full()), (index, index >= BATCH));
            batch.push(message.clone());
        }
        let taken = batch.take();
        assert_eq!(taken, all[..BATCH]);
        assert_eq!((batch.len(), batch.is_full()), (1, false));
        batch.put_back(taken);
        assert!(batch.is_full());
        assert_eq!([batch.take(), batch.take()].concat(), all);

        for n in 0..4 {
            assert!(!batch.is_full());
            batch.push(message(n, FULL_BYTES / 4));
        }
        assert!(batch.is_full());
        batch.take();
        assert!(batch.is_empty() && !batch.is_full());
    }
}
