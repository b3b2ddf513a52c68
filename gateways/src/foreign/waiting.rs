//! [`Waiting`]: what cannot go on until an address has answered.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The most things that wait, and their bytes.
const MAX_WAITING: usize = 2048;
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// What is counted for each beyond its own bytes.
const OVERHEAD_BYTES: usize = 256;

/// Things that wait for an address to answer, each for the same time at most. Where there is no room the oldest one goes:
/// who really is at an address answers within a round trip, and whoever would drive that out must fill all of the memory
/// meanwhile.
#[derive(Debug)]
pub(crate) struct Waiting<T> {
    entries: BTreeMap<u64, Entry<T>>,
    at: HashMap<SocketAddr, Vec<u64>>,
    bytes: usize,
    next: u64,
    wait: Duration,
}

#[derive(Debug)]
struct Entry<T> {
    address: SocketAddr,
    bytes: usize,
    until: Instant,
    what: T,
}

impl<T> Waiting<T> {
    pub(crate) fn new(wait: Duration) -> Self {
        Waiting { entries: BTreeMap::new(), at: HashMap::new(), bytes: 0, next: 0, wait }
    }

    /// Has it wait. Gives what had to go for that.
    pub(crate) fn push(&mut self, now: Instant, address: SocketAddr, bytes: usize, what: T) -> Vec<(SocketAddr, T)> {
        let bytes = bytes.saturating_add(OVERHEAD_BYTES);
        let mut displaced = Vec::new();
        while self.entries.len() >= MAX_WAITING || self.bytes.saturating_add(bytes) > MAX_BYTES {
            let Some(oldest) = self.pop_first() else { break };
            displaced.push(oldest);
        }
        let number = self.next;
        self.next += 1;
        self.bytes += bytes;
        self.entries.insert(number, Entry { address, bytes, until: now + self.wait, what });
        self.at.entry(address).or_default().push(number);
        displaced
    }

    /// All that waits for an address, in the order in which it came.
    pub(crate) fn release(&mut self, address: &SocketAddr) -> Vec<T> {
        let numbers = self.at.remove(address).unwrap_or_default();
        let released: Vec<_> = numbers.iter().filter_map(|number| self.entries.remove(number)).collect();
        self.bytes -= released.iter().map(|entry| entry.bytes).sum::<usize>().min(self.bytes);
        released.into_iter().map(|entry| entry.what).collect()
    }

    /// What has waited too long.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<(SocketAddr, T)> {
        let mut expired = Vec::new();
        while self.due().is_some_and(|due| due <= now) {
            expired.extend(self.pop_first());
        }
        expired
    }

    /// When the next one has waited too long.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.entries.first_key_value().map(|(_, entry)| entry.until)
    }

    fn pop_first(&mut self) -> Option<(SocketAddr, T)> {
        let (number, entry) = self.entries.pop_first()?;
        self.bytes = self.bytes.saturating_sub(entry.bytes);
        if let Some(numbers) = self.at.get_mut(&entry.address) {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.at.remove(&entry.address);
            }
        }
        Some((entry.address, entry.what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn what_waits_goes_on_or_is_over() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut waiting = Waiting::new(second);
        for (port, what) in [(1, 'a'), (2, 'b'), (1, 'c')] {
            assert!(waiting.push(start, address(port), 10, what).is_empty());
        }
        assert_eq!(waiting.release(&address(1)), ['a', 'c']);
        assert_eq!(waiting.release(&address(1)), []);
        assert_eq!((waiting.expire(start), waiting.due()), (Vec::new(), Some(start + second)));
        assert_eq!(waiting.expire(start + second), [(address(2), 'b')]);
        assert_eq!((waiting.bytes, waiting.at.len(), waiting.due()), (0, 0, None));
    }

    #[test]
    fn it_is_bounded_in_number_and_bytes() {
        let now = Instant::now();
        for bytes in [0, 8000] {
            let mut waiting = Waiting::new(Duration::from_secs(1));
            let all = 5000_usize;
            let displaced: usize = (0..all).map(|n| waiting.push(now, address(n as u16), bytes, n).len()).sum();
            assert_eq!(displaced + waiting.entries.len(), all);
            assert!(waiting.entries.len() <= MAX_WAITING && waiting.bytes <= MAX_BYTES);
            assert_eq!(waiting.at.len(), waiting.entries.len());
            assert_eq!(waiting.release(&address(all as u16 - 1)), [all - 1], "the newest one is there");
        }
    }
}
