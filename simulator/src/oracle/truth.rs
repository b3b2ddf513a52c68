//! What is true of one key: what was written under it, and who keeps what until when.

use std::collections::BTreeMap;
use std::time::Duration;

use kademlia_dht::core::Time;
use kademlia_dht::gateway::{Record, Version};

use super::Acknowledged;

/// A version that somebody wrote.
#[derive(Debug)]
struct Written {
    by: u32,
    deletes: bool,
    /// How often its writer published it again, and until when it is to live since the last time.
    renewal: u32,
    until: Time,
}

/// What a living node holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Holding {
    pub(super) version: Version,
    /// Until when it is bound to keep it: it said so of a copy with so much life left.
    pub(super) until: Time,
}

/// All that is known of a key.
#[derive(Debug, Default)]
pub(super) struct Truth {
    /// The newest save that was acknowledged.
    pub(super) acknowledged: Option<Acknowledged>,
    written: BTreeMap<Version, Written>,
    /// The living nodes that hold a record.
    pub(super) holders: BTreeMap<u32, Holding>,
    /// For each version, until when anybody was ever bound to keep it.
    bound: BTreeMap<Version, Time>,
    /// The same of those who died with it.
    fallen: BTreeMap<Version, Time>,
}

impl Truth {
    /// A node sends a record whose life ends at `until`; no record lives beyond `latest`. An error says what is wrong with
    /// that. Whoever sends a version first is its writer, who alone can give it more life.
    pub(super) fn sent(
        &mut self,
        from: u32,
        record: &Record,
        until: Time,
        latest: Time,
        creep: Duration,
    ) -> Result<(), String> {
        let Record { version, renewal, .. } = *record;
        let deletes = record.is_tombstone();
        if until > latest {
            return Err(format!("gives version {version} a life until {until}, beyond what any record has"));
        }
        let written = self.written.entry(version).or_insert(Written { by: from, deletes, renewal, until });
        if written.deletes != deletes {
            return Err(format!("makes another kind of record of version {version}"));
        }
        if renewal > written.renewal {
            if from != written.by {
                return Err(format!("renews version {version}, which is not its own"));
            }
            (written.renewal, written.until) = (renewal, until);
        } else if until > written.until + creep {
            let said = written.until;
            return Err(format!("gives version {version} a life until {until}, not {said}"));
        }
        Ok(())
    }

    /// A node holds a version now. Gives what it held before.
    pub(super) fn kept(&mut self, now: Time, node: u32, version: Version) -> Option<Version> {
        let before = self.holders.insert(node, Holding { version, until: now });
        before.map(|before| before.version)
    }

    /// A node is bound to keep a version so long. False if it does not hold it.
    pub(super) fn bind(&mut self, node: u32, version: Version, until: Time) -> bool {
        let Some(holding) = self.holders.get_mut(&node).filter(|holding| holding.version == version) else {
            return false;
        };
        holding.until = holding.until.max(until);
        extend(&mut self.bound, version, until);
        true
    }

    /// A node that has died holds nothing any more.
    pub(super) fn died(&mut self, node: u32) {
        if let Some(Holding { version, until }) = self.holders.remove(&node) {
            extend(&mut self.fallen, version, until);
        }
    }

    /// Until when a version, or a newer one, is kept by anybody who does not die.
    pub(super) fn bound_until(&self, version: Version) -> Option<Time> {
        latest(&self.bound, version)
    }

    /// Whether anybody died who would still have to keep a version or a newer one.
    pub(super) fn has_fallen(&self, now: Time, version: Version) -> bool {
        latest(&self.fallen, version).is_some_and(|until| until > now)
    }
}

fn extend(times: &mut BTreeMap<Version, Time>, version: Version, until: Time) {
    let time = times.entry(version).or_default();
    *time = until.max(*time);
}

/// The latest time of a version and all newer ones.
fn latest(times: &BTreeMap<Version, Time>, version: Version) -> Option<Time> {
    times.range(version..).map(|(_, until)| *until).max()
}
