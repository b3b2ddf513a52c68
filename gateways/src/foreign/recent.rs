//! [`Recent`]: a map of what was there lately.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Remembers at most so many things, and none for longer than a while. Where there is no room the oldest one goes.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    entries: HashMap<K, Entry<V>>,
    /// By age.
    order: BTreeMap<u64, K>,
    next: u64,
    most: usize,
    lasts: Duration,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    number: u64,
    until: Instant,
}

impl<K: Hash + Eq + Clone, V> Recent<K, V> {
    pub(crate) fn new(most: usize, lasts: Duration) -> Self {
        Recent { entries: HashMap::new(), order: BTreeMap::new(), next: 0, most, lasts }
    }

    /// Remembers it from now on, in the place of what was there under the key.
    pub(crate) fn insert(&mut self, now: Instant, key: K, value: V) {
        self.remove(&key);
        while let Some((_, oldest)) = self.order.first_key_value() {
            let is_over = self.entries.get(oldest).is_none_or(|entry| entry.until <= now);
            if !is_over && self.entries.len() < self.most {
                break;
            }
            let oldest = oldest.clone();
            self.remove(&oldest);
        }
        let number = self.next;
        self.next += 1;
        self.order.insert(number, key.clone());
        self.entries.insert(key, Entry { value, number, until: now + self.lasts });
    }

    pub(crate) fn get<Q: Hash + Eq + ?Sized>(&self, now: Instant, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.entries.get(key).filter(|entry| now < entry.until).map(|entry| &entry.value)
    }

    /// What was remembered, which is forgotten with that.
    pub(crate) fn take(&mut self, now: Instant, key: &K) -> Option<V> {
        self.remove(key).filter(|entry| now < entry.until).map(|entry| entry.value)
    }

    fn remove(&mut self, key: &K) -> Option<Entry<V>> {
        let entry = self.entries.remove(key)?;
        self.order.remove(&entry.number);
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_in_number_and_time() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut recent = Recent::new(3, 10 * second);
        for key in 0..5 {
            recent.insert(start, key, key * 10);
        }
        assert_eq!((0..5).filter_map(|key| recent.get(start, &key)).copied().collect::<Vec<_>>(), [20, 30, 40]);
        recent.insert(start + second, 2, 21);
        recent.insert(start + second, 5, 50);
        assert_eq!(recent.get(start, &3), None, "it was the oldest");
        assert_eq!(recent.get(start + 10 * second, &4), None);
        assert_eq!(recent.get(start + 10 * second, &2), Some(&21));
        assert_eq!((recent.take(start, &2), recent.take(start, &2)), (Some(21), None));
        recent.insert(start + 20 * second, 6, 60);
        assert_eq!((recent.entries.len(), recent.order.len()), (1, 1), "what is over makes room");
        assert_eq!(recent.take(start + 20 * second, &6), Some(60));
        assert!(recent.entries.is_empty() && recent.order.is_empty());
    }
}
