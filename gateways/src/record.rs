//! Records: what a DHT stores under a key.

use std::cmp::Ordering;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// How new a record is. A higher version replaces a lower one at every holder and for every reader.
///
/// By default a version is a hybrid clock of the publisher: milliseconds since 1970 in the upper 48 bits and a
/// random number in the lower 16, raised above every version that the publisher has seen of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Version(pub u64);

impl Version {
    /// The version of something written at `unix_milliseconds` when nothing newer is known.
    pub const fn at(unix_milliseconds: u64) -> Self {
        Version(unix_milliseconds << 16)
    }

    /// The next version after this one (the last one follows itself).
    pub const fn next(self) -> Self {
        Version(self.0.saturating_add(1))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What sort of record it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RecordKind {
    /// A value that anyone may replace by a newer version.
    Plain,
    /// The mark of a deleted value, which keeps older versions from coming back. Its value is empty.
    Tombstone,
}

/// A record: a value, its version, and how long it has left to live.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Record {
    /// What was saved; empty in a tombstone.
    pub value: Bytes,
    /// How new it is.
    pub version: Version,
    /// How often the publisher has published this version again; only the publisher raises it.
    pub renewal: u32,
    /// Seconds that remain of the lifetime given by the publisher. Never a timestamp: clocks differ.
    pub remaining: u32,
    /// What sort of record it is.
    pub kind: RecordKind,
}

impl Record {
    /// A plain record.
    pub fn plain(value: impl Into<Bytes>, version: Version, lifetime: Duration) -> Self {
        Record { value: value.into(), version, renewal: 0, remaining: seconds(lifetime), kind: RecordKind::Plain }
    }

    /// The mark that the value up to `version` was deleted.
    pub fn tombstone(version: Version, lifetime: Duration) -> Self {
        Record { value: Bytes::new(), version, renewal: 0, remaining: seconds(lifetime), kind: RecordKind::Tombstone }
    }

    /// Whether it marks a deleted value.
    pub fn is_tombstone(&self) -> bool {
        self.kind == RecordKind::Tombstone
    }

    /// The same record after `time` has passed: its lifetime is shorter by that, rounded up to seconds.
    #[must_use]
    pub fn aged(mut self, time: Duration) -> Self {
        let passed = time.as_secs() + u64::from(time.subsec_nanos() > 0);
        self.remaining = self.remaining.saturating_sub(u32::try_from(passed).unwrap_or(u32::MAX));
        self
    }

    /// Orders by newness: the version, then, so that all agree on a tie, the kind and the value.
    ///
    /// Equal means: the same record, whatever its renewal and lifetime.
    pub fn newness(&self, other: &Record) -> Ordering {
        (self.version, self.kind, &self.value).cmp(&(other.version, other.kind, &other.value))
    }
}

fn seconds(lifetime: Duration) -> u32 {
    u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX)
}
