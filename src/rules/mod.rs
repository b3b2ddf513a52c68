//! Who may write what under which key: what holders check before they keep a record, and readers before they give it.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use kademlia_gateways::{Id, KeySpace, Owned, Record, RecordKind, Refusal, Ruled, Signed, Version, bencode};

use crate::hasher::{KeyHasher, Sha1Hasher, Sha256Hasher};
use crate::signing::{owned, signed};

/// The most bytes of a namespace.
pub const MAX_NAMESPACE_BYTES: usize = 64;

/// The most bytes of the name under which an owned or ruled record is.
pub const MAX_NAME_BYTES: usize = 512;

/// The times at which the owner of a record may no longer write are Unix seconds of ten digits: from 2001 to 2286.
pub(crate) const EXPIRIES: RangeInclusive<u64> = 1_000_000_000..=9_999_999_999;

/// The rule for a namespace of your own: what may be kept and read there.
///
/// All nodes of a network must have the same rule for a namespace; those that have none keep and read nothing in it. It is
/// asked on the node's own threads, for whatever anybody sends, and must be quick. One that panics refuses the record, with
/// the code [`u32::MAX`].
///
/// Holders meet the records of a key in any order, and some of them several times. So that they all end with the same one,
/// it must not matter to the last word of a validator which of two records came first.
///
/// ```
/// use kademlia_dht::{Record, Validator, Verdict};
///
/// /// A counter that only rises. Refusals: 1, it is no counter; 2, it is lower.
/// struct Counter;
///
/// fn number(record: &Record) -> Option<u64> {
///     record.value.as_ref().try_into().ok().map(u64::from_be_bytes)
/// }
///
/// impl Validator for Counter {
///     fn judge(&self, _name: &[u8], candidate: &Record, held: Option<&Record>) -> Verdict {
///         match (number(candidate), held.and_then(number)) {
///             (None, _) => Verdict::Refuse { code: 1 },
///             (Some(new), Some(old)) if new < old => Verdict::Refuse { code: 2 },
///             _ => Verdict::Accept,
///         }
///     }
/// }
/// ```
pub trait Validator: Send + Sync {
    /// What becomes of `candidate`, which is to be kept, or was found, under `name`. `held` is what is there already, and
    /// differs from it.
    fn judge(&self, name: &[u8], candidate: &Record, held: Option<&Record>) -> Verdict;
}

impl fmt::Debug for dyn Validator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Validator")
    }
}

/// What a [`Validator`] says of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It replaces what is held.
    Accept,
    /// It is not taken.
    Refuse {
        /// Why: what it means is up to the validator. Whoever wanted to save it is told.
        code: u32,
    },
    /// Both go together, as this value.
    Merge(Bytes),
}

/// What comes of two records of one author under one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Meeting {
    /// They are the same, or the one that is held says what the other says.
    Same,
    /// The one that is held stays.
    Refused(Refusal),
    /// The other one replaces it.
    Replaced,
    /// This one replaces both.
    Merged(Record),
}

/// All that records are checked by.
#[derive(Clone)]
pub struct Rules {
    space: KeySpace,
    hasher: Arc<dyn KeyHasher>,
    validators: BTreeMap<String, Arc<dyn Validator>>,
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules").field("namespaces", &self.validators.keys()).finish_non_exhaustive()
    }
}

impl Default for Rules {
    fn default() -> Self {
        Rules::new(Arc::new(Sha1Hasher))
    }
}

impl Rules {
    /// The rules of a network with this hasher, without any namespace.
    pub fn new(hasher: Arc<dyn KeyHasher>) -> Self {
        Rules { space: hasher.key_space(), hasher, validators: BTreeMap::new() }
    }

    /// The rules of a network that hashes by SHA-1, if that fills the key space, or by SHA-256.
    pub(crate) fn of(space: KeySpace) -> Self {
        let hasher: Arc<dyn KeyHasher> =
            if space == Sha1Hasher.key_space() { Arc::new(Sha1Hasher) } else { Arc::new(Sha256Hasher) };
        Rules { space, ..Rules::new(hasher) }
    }

    /// The same rules, with one for `namespace`.
    #[must_use]
    pub fn with(mut self, namespace: impl Into<String>, validator: Arc<dyn Validator>) -> Self {
        self.validators.insert(namespace.into(), validator);
        self
    }

    /// How many bytes of an id count.
    pub fn key_space(&self) -> KeySpace {
        self.space
    }

    /// The id of a key.
    pub fn hash(&self, key: &[u8]) -> Id {
        self.space.fit(&self.hasher.hash(key))
    }

    /// The key that a record of this kind and value must be under; `None` if that is up to whoever saves it.
    pub fn key_of(&self, kind: &RecordKind, value: &[u8]) -> Option<Id> {
        match kind {
            RecordKind::Immutable => Some(self.hash(value)),
            RecordKind::Signed(signed) => Some(self.hash(&[&signed.public_key, &signed.salt[..]].concat())),
            RecordKind::Owned(owned) => Some(self.hash(&owned.name)),
            RecordKind::Ruled(ruled) => Some(self.hash(&ruled_key(&ruled.namespace, &ruled.name))),
            // A kind that this version does not know has no key that would be right.
            RecordKind::Plain | RecordKind::Tombstone | _ => None,
        }
    }

    /// Checks that a record may be under `key`, whatever else is there.
    ///
    /// # Errors
    ///
    /// Why it may not.
    pub fn check(&self, key: &Id, record: &Record) -> Result<(), Refusal> {
        if self.key_of(&record.kind, &record.value).is_some_and(|right| right != *key) {
            return Err(Refusal::Forged);
        }
        match &record.kind {
            RecordKind::Plain => Ok(()),
            // What cannot change has no versions.
            RecordKind::Immutable if record.version == Version::default() => Ok(()),
            RecordKind::Immutable => Err(Refusal::Forged),
            RecordKind::Tombstone if record.value.is_empty() => Ok(()),
            RecordKind::Tombstone => Err(Refusal::TooLarge { limit: 0 }),
            RecordKind::Signed(signed) => check_signed(signed, record),
            RecordKind::Owned(owned) => check_owned(owned, record),
            RecordKind::Ruled(ruled) => self.check_ruled(ruled, record),
            _ => Err(Refusal::NoRule),
        }
    }

    fn check_ruled(&self, ruled: &Ruled, record: &Record) -> Result<(), Refusal> {
        if ruled.namespace.len() > MAX_NAMESPACE_BYTES || ruled.name.len() > MAX_NAME_BYTES {
            return Err(Refusal::Forged);
        }
        let validator = self.validators.get(&ruled.namespace).ok_or(Refusal::NoRule)?;
        match judge(validator, &ruled.name, record, None) {
            Verdict::Accept => Ok(()),
            Verdict::Refuse { code } => Err(Refusal::Rule { code }),
            // There is nothing to merge it with.
            Verdict::Merge(_) => Err(Refusal::Forged),
        }
    }

    /// Whether the rule lets `candidate` take the place of `held`.
    fn accepts(&self, ruled: &Ruled, candidate: &Record, held: &Record) -> bool {
        let validator = self.validators.get(&ruled.namespace);
        validator.is_some_and(|validator| judge(validator, &ruled.name, candidate, Some(held)) == Verdict::Accept)
    }

    /// What comes of a record that was checked and the one that is held, of the same author under the same key.
    pub(crate) fn meet(&self, candidate: &Record, held: &Record) -> Meeting {
        let newness = candidate.newness(held);
        if newness == Ordering::Equal {
            return Meeting::Same;
        }
        if let (RecordKind::Ruled(ruled), RecordKind::Ruled(_)) = (&candidate.kind, &held.kind)
            && candidate.value != held.value
            && let Some(validator) = self.validators.get(&ruled.namespace)
        {
            return match judge(validator, &ruled.name, candidate, Some(held)) {
                // To a rule that takes either in place of the other the newer one matters.
                Verdict::Accept if newness.is_lt() && self.accepts(ruled, held, candidate) => {
                    Meeting::Refused(Refusal::Older { held: held.version })
                }
                Verdict::Accept => Meeting::Replaced,
                Verdict::Refuse { code } => Meeting::Refused(Refusal::Rule { code }),
                Verdict::Merge(value) if value == held.value && candidate.version <= held.version => Meeting::Same,
                // Under the highest version of all that are in it, so that its version is the same in any order.
                Verdict::Merge(value) => {
                    let merged = Record {
                        value,
                        version: candidate.version.max(held.version),
                        renewal: candidate.renewal.max(held.renewal),
                        remaining: candidate.remaining.max(held.remaining),
                        kind: candidate.kind.clone(),
                    };
                    // Readers would refuse what the rule does not let stand alone.
                    match self.check_ruled(ruled, &merged) {
                        Ok(()) => Meeting::Merged(merged),
                        Err(refusal) => Meeting::Refused(refusal),
                    }
                }
            };
        }
        match newness {
            Ordering::Greater => Meeting::Replaced,
            _ if candidate.is_outranked_by(held) => Meeting::Refused(Refusal::Taken),
            _ => Meeting::Refused(Refusal::Older { held: held.version }),
        }
    }
}

/// What a validator says. It is the user's, and records are anybody's: one that panics refuses, and the node goes on.
fn judge(validator: &Arc<dyn Validator>, name: &[u8], candidate: &Record, held: Option<&Record>) -> Verdict {
    catch_unwind(AssertUnwindSafe(|| validator.judge(name, candidate, held))).unwrap_or_else(|_| {
        log::error!("a validator has panicked over a record named {:?}", name.escape_ascii().to_string());
        Verdict::Refuse { code: u32::MAX }
    })
}

/// What is hashed to the key of a name in a namespace: no two of them give the same bytes, nor does a public key.
pub(crate) fn ruled_key(namespace: &str, name: &[u8]) -> Vec<u8> {
    [b"namespace:", namespace.len().to_string().as_bytes(), b":", namespace.as_bytes(), name].concat()
}

fn check_signed(signed: &Signed, record: &Record) -> Result<(), Refusal> {
    if record.value.len() > signed::MAX_VALUE_BYTES {
        let limit = u32::try_from(signed::MAX_VALUE_BYTES).unwrap_or(u32::MAX);
        return Err(Refusal::TooLarge { limit });
    }
    let sequence = i64::try_from(record.version.0).map_err(|_| Refusal::Forged)?;
    let salt = signed::Salt::new(signed.salt.clone()).map_err(|_| Refusal::Forged)?;
    if !bencode::is_one_careless_value(&record.value) {
        return Err(Refusal::Forged);
    }
    signed::PublicKey(signed.public_key)
        .verify(&salt, sequence, &record.value, &signed::Signature(signed.signature))
        .map_err(|_| Refusal::Forged)
}

fn check_owned(owned: &Owned, record: &Record) -> Result<(), Refusal> {
    if owned.name.len() > MAX_NAME_BYTES || owned.since > record.version {
        return Err(Refusal::Forged);
    }
    if let Some(expiry) = owned.expiry {
        if expiry < seconds_of(record.version).max(*EXPIRIES.start()) {
            return Err(Refusal::Late);
        }
        // What is signed would not tell where the value ends.
        if expiry > *EXPIRIES.end() {
            return Err(Refusal::Forged);
        }
    }
    let claim = owned::Claim { key: &owned.name, data: &record.value, expiry: owned.expiry, mode: owned.mode };
    let signature = owned::OwnerSignature(owned.signature);
    let owner = owned::OwnerId::try_from(&owned.owner[..]).map_err(|_| Refusal::Forged)?;
    owner.verify(&claim, &signature).map_err(|_| Refusal::Forged)?;
    match &owned.seal {
        Some(seal) => owner
            .verify_seal(&signature, record.version, owned.since, &owned::OwnerSignature(seal.0))
            .map_err(|_| Refusal::Forged),
        None => Ok(()),
    }
}

/// When a version was written, in Unix seconds, by the clock of whoever wrote it.
pub(crate) fn seconds_of(version: Version) -> u64 {
    (version.0 >> 16) / 1000
}
