//! Chunks that are being saved, several at a time, each tried again where it may go better the next time.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use kademlia_gateways::Expect;

use super::StreamOptions;
use crate::core::Content;
use crate::service::{DHTService, Error, Pending, Receipt};

/// After a try in vain the next one waits so long, and each further one twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Chunks on their way, each with something to be told when it and all before it have been saved.
#[derive(Debug)]
pub(super) struct Saving<T> {
    service: DHTService,
    window: usize,
    tries: u32,
    under_way: VecDeque<(Bytes, Pending<Receipt>, T)>,
}

impl<T> Saving<T> {
    pub(super) fn new(service: DHTService, options: &StreamOptions) -> Self {
        Saving { service, window: options.window, tries: options.tries, under_way: VecDeque::new() }
    }

    /// Begins to save a chunk. Where enough is under way it waits for the first one, and gives what was to be told of that.
    pub(super) fn begin(&mut self, chunk: Bytes, then: T) -> Result<Option<T>, Error> {
        let first = if self.under_way.len() >= self.window { self.end_first()? } else { None };
        let pending = self.service.put_chunk(chunk.clone());
        self.under_way.push_back((chunk, pending, then));
        Ok(first)
    }

    /// Waits for the first chunk, and gives what was to be told of it; `None` if nothing is under way.
    pub(super) fn end_first(&mut self) -> Result<Option<T>, Error> {
        let Some((chunk, pending, then)) = self.under_way.pop_front() else { return Ok(None) };
        patiently(self.tries, pending, || self.service.put_chunk(chunk.clone()))?;
        Ok(Some(then))
    }
}

/// Waits for the result, and begins again where it may go better, until there were so many tries.
pub(super) fn patiently<T>(tries: u32, first: Pending<T>, again: impl Fn() -> Pending<T>) -> Result<T, Error> {
    let (mut pending, mut tried) = (first, 1);
    loop {
        match pending.wait() {
            Err(error) if tried < tries && is_passing(&error) => pause(tried),
            result => return result,
        }
        (pending, tried) = (again(), tried + 1);
    }
}

/// Whether it may go better the next time.
pub(super) fn is_passing(error: &Error) -> bool {
    matches!(
        error,
        Error::Busy
            | Error::TimedOut(_)
            | Error::Unsent(_)
            | Error::NoPeers
            | Error::NobodyAnswered { .. }
            | Error::NotStored { .. }
    )
}

/// Waits before the next try.
pub(super) fn pause(tries: u32) {
    let pause = FIRST_PAUSE.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(LONGEST_PAUSE);
    std::thread::sleep(pause);
}

impl DHTService {
    /// Saves a chunk under its hash, without keeping it alive.
    fn put_chunk(&self, value: Bytes) -> Pending<Receipt> {
        let key = self.content_key(&value);
        self.save_content(key, Content::Unkept(self.immutable(value)), Expect::Anything)
    }
}
