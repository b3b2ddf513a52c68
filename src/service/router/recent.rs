//! A map that forgets.

use std::collections::HashMap;

use kademlia_gateways::Multiaddr;

/// What is known of addresses: of the last [`LEAST`](Recent::LEAST) at least, and of twice as many at most.
#[derive(Debug)]
pub(super) struct Recent<V> {
    newer: HashMap<Multiaddr, V>,
    older: HashMap<Multiaddr, V>,
}

impl<V> Recent<V> {
    const LEAST: usize = 1024;

    pub(super) fn new() -> Self {
        Recent { newer: HashMap::new(), older: HashMap::new() }
    }

    pub(super) fn get(&self, address: &Multiaddr) -> Option<&V> {
        self.newer.get(address).or_else(|| self.older.get(address))
    }

    pub(super) fn insert(&mut self, address: &Multiaddr, value: V) {
        if let Some(known) = self.newer.get_mut(address) {
            *known = value;
            return;
        }
        if self.newer.len() >= Self::LEAST {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(address.clone(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_known() {
        let address = |n: usize| format!("/memory/{n}").parse::<Multiaddr>().unwrap();
        let mut recent = Recent::new();
        for n in 0..10 * Recent::<usize>::LEAST {
            recent.insert(&address(n), n);
            recent.insert(&address(0), n);
            assert_eq!((recent.get(&address(n)), recent.get(&address(0))), (Some(&n), Some(&n)));
            let first = (n + 2).saturating_sub(Recent::<usize>::LEAST);
            assert!(first == 0 || recent.get(&address(first)) == Some(&first));
            assert!(recent.newer.len() + recent.older.len() <= 2 * Recent::<usize>::LEAST);
        }
        assert_eq!(recent.get(&address(1)), None);
    }
}
