//! What users do with many records, one after the other.

use std::time::Duration;

use kademlia_dht::core::OperationId;
use kademlia_dht::gateway::Id;

use super::Network;
use crate::handle::Handle;

/// Between two saves: ten in a second.
pub(super) const SAVE_PAUSE: Duration = Duration::from_millis(100);

/// Between two queries: fifty in a second.
pub(super) const GET_PAUSE: Duration = Duration::from_millis(20);

/// Many records.
impl Network<'_> {
    /// Saves so many records at random members, ten in a second, and waits until all have ended. What nobody acknowledges,
    /// as no node has room for it or who saved it died, is counted in [`crate::Report::unsaved`].
    pub fn save_records(&mut self, count: usize, value_bytes: usize) {
        self.stage("save");
        let keys: Vec<Id> = (0..count).map(|_| self.working.key()).collect();
        self.for_each(&keys, SAVE_PAUSE, |network, key| {
            let node = network.some_member()?;
            network.save(node, key, value_bytes)
        });
        let is_unsaved = |key: &&Id| self.world.oracle.expected(key).is_none();
        self.unsaved += keys.iter().filter(is_unsaved).count() as u64;
    }

    /// Asks once for each record, at a random one of the members that `asks` lets through, fifty in a second, and waits
    /// until all have ended.
    pub fn get_records(&mut self, asks: impl Fn(&Network<'_>, Handle) -> bool) {
        self.get_records_of(&self.keys.clone(), asks);
    }

    /// The same for some records only.
    pub fn get_records_of(&mut self, keys: &[Id], asks: impl Fn(&Network<'_>, Handle) -> bool) {
        self.for_each(keys, GET_PAUSE, |network, key| {
            let node = network.some_of(&asks)?;
            network.get(node, key)
        });
    }

    /// Saves a new version of each record, each at a random one of the members that `saves` lets through, evenly over so
    /// much time, and waits until all have ended.
    pub fn rewrite_records(
        &mut self,
        value_bytes: usize,
        time: Duration,
        saves: impl Fn(&Network<'_>, Handle) -> bool,
    ) {
        let pause = time / u32::try_from(self.keys.len()).unwrap_or(u32::MAX).max(1);
        self.for_each(&self.keys.clone(), pause, |network, key| {
            let node = network.some_of(&saves)?;
            network.save(node, key, value_bytes)
        });
    }

    /// Begins an operation with each, one after the other, and waits until these have ended.
    pub(super) fn for_each<T: Copy>(
        &mut self,
        all: &[T],
        pause: Duration,
        begin: impl Fn(&mut Self, T) -> Option<OperationId>,
    ) {
        self.stage_ends(pause.saturating_mul(u32::try_from(all.len()).unwrap_or(u32::MAX)));
        let mut begun = Vec::new();
        for each in all {
            if self.broken_off {
                return;
            }
            begun.extend(begin(self, *each));
            self.pass(pause);
        }
        // The last ones are those that are still under way.
        self.run_until(|network| !begun.iter().rev().any(|operation| network.purposes.contains_key(operation)));
        self.end = None;
    }

    /// A random one of the members that `wanted` lets through.
    fn some_of(&mut self, wanted: impl Fn(&Network<'_>, Handle) -> bool) -> Option<Handle> {
        // Of so many drawn at random one will do, unless there are very few to be found.
        let few: Vec<Handle> = (0..64).filter_map(|_| self.some_member()).collect();
        let found = few.into_iter().find(|node| wanted(self, *node));
        found.or_else(|| self.members.iter().copied().find(|node| wanted(self, *node)))
    }
}

#[cfg(test)]
mod tests {
    use crate::{Network, Setup};

    #[test]
    fn what_no_node_has_room_for_is_counted() {
        let mut setup = Setup::default();
        setup.params.limits.records_per_source = 10;
        let mut network = Network::new(&setup);
        network.grow(20);
        network.save_records(5, 100);
        assert_eq!((network.report().unsaved, network.keys().len()), (0, 5));
        network.save_records(40, 100);
        network.measure();
        let report = network.report();
        assert!((1..40).contains(&report.unsaved), "{report:?}");
        assert_eq!(
            report.unsaved as usize + network.keys().len(),
            45,
            "nor are they forgotten when the measuring begins"
        );
    }
}
