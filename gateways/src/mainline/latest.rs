//! [`Latest`]: a map of what was put into it last.

use std::collections::BTreeMap;

/// A map of what was put into it last.
#[derive(Debug)]
pub(super) struct Latest<K, V> {
    values: BTreeMap<K, (u64, V)>,
    order: BTreeMap<u64, K>,
    next: u64,
}

impl<K, V> Default for Latest<K, V> {
    fn default() -> Self {
        Latest { values: BTreeMap::new(), order: BTreeMap::new(), next: 0 }
    }
}

impl<K: Ord + Copy, V> Latest<K, V> {
    /// Where there are as many already, what was put in the longest ago goes.
    pub(super) fn insert(&mut self, key: K, value: V, most: usize) {
        let number = self.next;
        self.next += 1;
        if let Some((before, _)) = self.values.insert(key, (number, value)) {
            self.order.remove(&before);
        }
        self.order.insert(number, key);
        if self.order.len() > most
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.values.remove(&oldest);
        }
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.values.get(key).map(|(_, value)| value)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.values.values().map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_last_is_kept() {
        let (mut latest, most) = (Latest::default(), 100);
        // Those at first would come first by their order too.
        (0..most).for_each(|n| latest.insert(1000 - n, n, most));
        latest.insert(1000, 7, most);
        latest.insert(5, 8, most);
        assert_eq!((latest.get(&1000), latest.get(&999), latest.get(&5)), (Some(&7), None, Some(&8)));
        assert_eq!((latest.values().count(), latest.order.len()), (most, most));
    }
}
