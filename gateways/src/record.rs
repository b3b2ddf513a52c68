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

/// What sort of record it is: who may write it, and what shows that they did.
///
/// Nothing here is checked when it is decoded. Whoever keeps or reads a record checks it first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RecordKind {
    /// A value that anyone may replace by a newer version.
    Plain,
    /// The mark of a deleted plain value, which keeps older versions from coming back. Its value is empty.
    Tombstone,
    /// A value whose hash is the key, so that it can be no other.
    Immutable,
    /// A value that only the holder of an ed25519 key can write. The hash of public key and salt is the key.
    Signed(Box<Signed>),
    /// A value that the owner of a secp256k1 key pair has written, under any key.
    Owned(Box<Owned>),
    /// A value that is checked by a rule that the nodes of the network have for its namespace.
    Ruled(Box<Ruled>),
}

/// Who has signed a value under the hash of a public key, as in [BEP 44](https://www.bittorrent.org/beps/bep_0044.html).
/// The sequence number is the record's version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Signed {
    /// The ed25519 public key.
    pub public_key: [u8; 32],
    /// Tells the values of one public key apart; at most 64 bytes.
    pub salt: Bytes,
    /// The signature of salt, version and value.
    #[serde(with = "crate::array")]
    pub signature: [u8; 64],
}

/// Who has written a value under a key that anyone can choose.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Owned {
    /// The key, before it was hashed: the signature is of this.
    pub name: Bytes,
    /// The secp256k1 public key, compressed.
    #[serde(with = "crate::array")]
    pub owner: [u8; 33],
    /// Who else may write under the key.
    pub mode: OwnedMode,
    /// When the owner may no longer write, in Unix seconds; `None` for never.
    pub expiry: Option<u64>,
    /// The signature of name, value, expiry and mode.
    #[serde(with = "crate::array")]
    pub signature: [u8; 64],
    /// The version that the owner first wrote under the key, which decides who was first.
    pub since: Version,
    /// What shows that the version and `since`, too, are the owner's. Without it, anyone can put back what the owner wrote
    /// before under a higher version.
    pub seal: Option<Seal>,
}

/// Who may write under a key with owned records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum OwnedMode {
    /// The first writer owns the key.
    Secured,
    /// Each public key has a record of its own under the key.
    Controlled,
}

/// The owner's signature of a record's own signature, its version, and since when the key is the owner's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Seal(#[serde(with = "crate::array")] pub [u8; 64]);

/// Which rule a value is checked by. The hash of namespace and name is the key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ruled {
    /// The namespace: at most 64 bytes.
    pub namespace: String,
    /// The name within it.
    pub name: Bytes,
}

/// Whose record it is, of several under one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Author {
    /// The only one who can have one there, or anyone: all other kinds, of which there is one under a key.
    Any,
    /// An immutable value. It is nobody's, and takes nobody's place: what another key is made of can be saved as a value.
    Content,
    /// A record of [`OwnedMode::Controlled`] of this owner.
    Owner(#[serde(with = "crate::array")] [u8; 33]),
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
    /// A record that is published now.
    pub fn new(kind: RecordKind, value: impl Into<Bytes>, version: Version, lifetime: Duration) -> Self {
        Record { value: value.into(), version, renewal: 0, remaining: seconds(lifetime), kind }
    }

    /// A plain record.
    pub fn plain(value: impl Into<Bytes>, version: Version, lifetime: Duration) -> Self {
        Record::new(RecordKind::Plain, value, version, lifetime)
    }

    /// The mark that the value up to `version` was deleted.
    pub fn tombstone(version: Version, lifetime: Duration) -> Self {
        Record::new(RecordKind::Tombstone, Bytes::new(), version, lifetime)
    }

    /// Whether it marks a deleted value. Of a signed or owned one that is an empty value, which in the form of BEP 44 is
    /// written `0:`.
    pub fn is_tombstone(&self) -> bool {
        match &self.kind {
            RecordKind::Tombstone => true,
            RecordKind::Signed(_) => *self.value == *b"0:",
            RecordKind::Owned(_) => self.value.is_empty(),
            RecordKind::Plain | RecordKind::Immutable | RecordKind::Ruled(_) => false,
        }
    }

    /// Whose it is, of several under one key.
    pub fn author(&self) -> Author {
        match &self.kind {
            RecordKind::Owned(owned) if owned.mode == OwnedMode::Controlled => Author::Owner(owned.owner),
            RecordKind::Immutable => Author::Content,
            _ => Author::Any,
        }
    }

    /// The same record, published now.
    #[must_use]
    pub fn lasting(self, lifetime: Duration) -> Self {
        Record { remaining: seconds(lifetime), ..self }
    }

    /// The same record after `time` has passed: its lifetime is shorter by that, rounded up to seconds.
    #[must_use]
    pub fn aged(mut self, time: Duration) -> Self {
        let passed = time.as_secs() + u64::from(time.subsec_nanos() > 0);
        self.remaining = self.remaining.saturating_sub(u32::try_from(passed).unwrap_or(u32::MAX));
        self
    }

    /// Orders by newness: which of two records of one author under one key replaces the other.
    ///
    /// What proves more replaces what proves less, whatever the versions: a signed value one under a rule, that one the first
    /// writer's own, and that a plain one. Of two who say that they own a key the one
    /// that wrote earlier does. Then the version decides, and, so that all agree on a tie, the kind and the value.
    ///
    /// Equal means: the same record, whatever its renewal and lifetime.
    pub fn newness(&self, other: &Record) -> Ordering {
        let standing = self.kind.rank().cmp(&other.kind.rank()).then_with(|| self.kind.precedence(&other.kind));
        standing
            .then(self.version.cmp(&other.version))
            .then_with(|| (&self.kind, &self.value).cmp(&(&other.kind, &other.value)))
    }

    /// Whether `other` stands in its own right, so that a higher version of this one does not replace it.
    pub fn is_outranked_by(&self, other: &Record) -> bool {
        other.kind.rank() > self.kind.rank() || other.kind.precedence(&self.kind) == Ordering::Greater
    }

    /// How many bytes it takes to keep: the value, and what shows who wrote it.
    pub fn bytes(&self) -> usize {
        let proof = match &self.kind {
            RecordKind::Plain | RecordKind::Tombstone | RecordKind::Immutable => 0,
            RecordKind::Signed(signed) => size_of::<Signed>() + signed.salt.len(),
            RecordKind::Owned(owned) => size_of::<Owned>() + owned.name.len(),
            RecordKind::Ruled(ruled) => size_of::<Ruled>() + ruled.namespace.len() + ruled.name.len(),
        };
        self.value.len() + proof
    }
}

impl RecordKind {
    /// The kind's name, in one word.
    pub fn name(&self) -> &'static str {
        match self {
            RecordKind::Plain => "plain",
            RecordKind::Tombstone => "tombstone",
            RecordKind::Immutable => "immutable",
            RecordKind::Signed(_) => "signed",
            RecordKind::Owned(_) => "owned",
            RecordKind::Ruled(_) => "ruled",
        }
    }

    /// Whether nobody but who may write it can have written it.
    pub fn is_authentic(&self) -> bool {
        !matches!(self, RecordKind::Plain | RecordKind::Tombstone)
    }

    /// How much it proves.
    fn rank(&self) -> u8 {
        match self {
            RecordKind::Plain | RecordKind::Tombstone => 0,
            RecordKind::Owned(_) => 1,
            RecordKind::Ruled(_) => 2,
            RecordKind::Signed(_) => 3,
            // In a place of its own, where there is nothing else.
            RecordKind::Immutable => 4,
        }
    }

    /// Of two owned records what is sealed, as all else but the value could be anybody's word; then whose owner was there
    /// first.
    fn precedence(&self, other: &RecordKind) -> Ordering {
        let (RecordKind::Owned(own), RecordKind::Owned(other)) = (self, other) else { return Ordering::Equal };
        own.seal.is_some().cmp(&other.seal.is_some()).then(other.claim().cmp(&own.claim()))
    }
}

impl Owned {
    /// Since when the key is said to be whose: the lowest of all claims is right. Where everybody has a record of their
    /// own, everybody is first.
    fn claim(&self) -> (Version, [u8; 33]) {
        match self.mode {
            OwnedMode::Secured => (self.since, self.owner),
            OwnedMode::Controlled => (Version::default(), self.owner),
        }
    }
}

fn seconds(lifetime: Duration) -> u32 {
    u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX)
}
