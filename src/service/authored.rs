//! Records that prove who wrote them: how a [`DHTService`] saves and finds them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kademlia_gateways::{
    Author, Expect, Id, Owned, OwnedMode, Record, RecordKind, Refusal, Ruled, Seal, Signed, Version,
};

use super::handle::{DHTService, value_of};
use super::pending::Pending;
use super::{Error, QueryReport, Receipt};
use crate::core::{Command, Content, Effort, Outcome, Writer};
use crate::rules::{EXPIRIES, MAX_NAME_BYTES, MAX_NAMESPACE_BYTES, seconds_of};
use crate::signing::owned::{Claim, OwnerId, OwnerKey, OwnerSignature};
use crate::signing::signed::{self, PublicKey, Salt, SigningKey};

/// A signed value that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct SignedValue {
    /// What was saved. If whoever saved it did not write a string of bytes, as other programs may, it is bencoded.
    pub value: Vec<u8>,
    /// Its number: each value has a higher one than the one before it.
    pub sequence: i64,
    /// What it took to find it.
    pub effort: Effort,
}

/// Of values that prove who wrote them.
impl DHTService {
    /// Saves a record as it is, under any key under which it may be, with a whole lifetime, and keeps it alive as long as this
    /// service runs.
    ///
    /// All other ways to save end here: this one is for records that were made elsewhere.
    pub fn put(&self, key: Id, record: Record, expect: Expect) -> Pending<Receipt> {
        self.save_content(self.fit(&key), Content::Record(record), expect)
    }

    /// Finds all records under a key: the one of which there is but one, or the newest one of each owner.
    pub fn get(&self, key: Id) -> Pending<QueryReport> {
        self.find(self.fit(&key), Some)
    }

    /// Saves a value under its own hash, which is in the receipt. Nobody can change it, or pass off another one for it, as far
    /// as the network's hasher stands: with SHA-1, the default, an author can prepare two values of one hash.
    pub fn put_immutable(&self, value: impl AsRef<[u8]>) -> Pending<Receipt> {
        let value = match self.checked(value.as_ref()) {
            Ok(value) => value,
            Err(error) => return Pending::failed(error),
        };
        let key = self.content_key(&value);
        self.save_content(key, Content::Record(self.immutable(value)), Expect::Anything)
    }

    /// Finds the value whose hash is `key`.
    pub fn get_immutable(&self, key: Id) -> Pending<Option<Vec<u8>>> {
        self.find_immutable(&key, |value| value)
    }

    pub(crate) fn find_immutable<T: Send + 'static>(
        &self,
        key: &Id,
        take: impl FnOnce(Option<Vec<u8>>) -> T + Send + 'static,
    ) -> Pending<T> {
        let bencodes = self.bencodes();
        let value = move |record: Record| match signed::string_in(&record.value) {
            Some(string) if bencodes => string.to_vec(),
            _ => record.value.into(),
        };
        self.begin(Command::QueryImmutable { key: self.fit(key) }, move |outcome| match outcome {
            Outcome::Queried(report) => Some(take(report.immutable.map(|found| value(found.record)))),
            _ => None,
        })
    }

    /// Saves a value that only the holder of `key` can write, in the form of
    /// [BEP 44](https://www.bittorrent.org/beps/bep_0044.html): at most about 995 bytes.
    ///
    /// With a salt one key can have many values. An empty value is one that was deleted. With `expected` it is saved only if
    /// the newest value has that sequence number; otherwise it fails with [`Error::Conflict`](crate::core::OperationError::Conflict).
    pub fn put_signed(
        &self,
        key: &SigningKey,
        salt: &Salt,
        value: impl AsRef<[u8]>,
        expected: Option<i64>,
    ) -> Pending<Receipt> {
        let value = signed::bencoded_string(value.as_ref());
        let (size, limit) = (value.len(), signed::MAX_VALUE_BYTES);
        if size > limit {
            return Pending::failed(Error::TooLarge { size, limit });
        }
        let id = self.signed_key(&key.public_key(), salt);
        // No value has a negative number.
        let expect = match expected.map(u64::try_from) {
            None => Expect::Anything,
            Some(Ok(sequence)) => Expect::Version(Version(sequence)),
            Some(Err(_)) => return Pending::failed(Error::Conflict { held: None }),
        };
        let writer = SignedWriter { key: key.clone(), salt: salt.clone(), value };
        self.save_content(id, Content::Written(Arc::new(writer)), expect)
    }

    /// Deletes the value of `key`, which only its holder can: an empty value takes its place.
    pub fn delete_signed(&self, key: &SigningKey, salt: &Salt) -> Pending<Receipt> {
        self.put_signed(key, salt, b"", None)
    }

    /// Finds the newest value that the holder of a key has signed; `None` if there is none, or it was deleted.
    pub fn get_signed(&self, key: &PublicKey, salt: &Salt) -> Pending<Option<SignedValue>> {
        self.find(self.signed_key(key, salt), |report| {
            let effort = report.effort;
            Some(report.found.filter(|found| matches!(found.record.kind, RecordKind::Signed(_))).map(|found| {
                let sequence = i64::try_from(found.record.version.0).unwrap_or(i64::MAX);
                SignedValue { value: value_of(found.record), sequence, effort }
            }))
        })
    }

    /// Where the values of a public key with this salt are.
    pub(crate) fn signed_key(&self, key: &PublicKey, salt: &Salt) -> Id {
        let id = self.key_id(key.key(salt));
        #[cfg(feature = "mainline")]
        if let Some(handle) = self.mainline() {
            handle.note_salt(id, Bytes::copy_from_slice(salt.as_bytes()));
        }
        id
    }

    /// Saves a value under a key of your choice, as its owner.
    ///
    /// With [`OwnedMode::Secured`] the key belongs to whoever wrote there first: to others it fails with
    /// [`Refusal::Taken`]. With [`OwnedMode::Controlled`] every owner has a value of their own there. `expiry` is when this
    /// owner may write there no longer: Unix seconds of ten digits, from 2001 to 2286.
    ///
    /// An empty value is one that was deleted.
    pub fn put_owned(
        &self,
        owner: &OwnerKey,
        key: impl AsRef<[u8]>,
        mode: OwnedMode,
        value: impl AsRef<[u8]>,
        expiry: Option<u64>,
    ) -> Pending<Receipt> {
        let name = key.as_ref();
        let checked = check_length(name, MAX_NAME_BYTES).and_then(|()| check_expiry(expiry));
        let checked = checked.and_then(|()| self.checked(value.as_ref()));
        let value = match checked {
            Ok(value) => value,
            Err(error) => return Pending::failed(error),
        };
        let writer = OwnedWriter { owner: owner.clone(), name: Bytes::copy_from_slice(name), mode, expiry, value };
        self.save_content(self.key_id(name), Content::Written(Arc::new(writer)), Expect::Anything)
    }

    /// Saves a value that its owner has signed elsewhere, as [`OwnerKey::sign`] does: this node need not have the key.
    ///
    /// The signature says nothing of a version, so that whoever has it can save the value again, in the place of what the
    /// owner has saved since with no more than a signature. [`put_owned`](DHTService::put_owned) seals the version as well.
    pub fn put_owned_signed(&self, owner: &OwnerId, claim: &Claim<'_>, signature: &OwnerSignature) -> Pending<Receipt> {
        let checked = check_length(claim.key, MAX_NAME_BYTES)
            .and_then(|()| check_expiry(claim.expiry))
            .and_then(|()| self.checked(claim.data));
        let value = match checked {
            Ok(value) => value,
            Err(error) => return Pending::failed(error),
        };
        if owner.verify(claim, signature).is_err() {
            return Pending::failed(Error::Refused(Refusal::Forged));
        }
        let owned = Owned {
            name: Bytes::copy_from_slice(claim.key),
            owner: *owner.as_bytes(),
            mode: claim.mode,
            expiry: claim.expiry,
            signature: signature.0,
            since: Version::default(),
            seal: None,
        };
        let writer = SignedElsewhere { owned, value };
        self.save_content(self.key_id(claim.key), Content::Written(Arc::new(writer)), Expect::Anything)
    }

    /// Finds the newest value of this owner under a key, whoever else says that the key is theirs; `None` if there is none,
    /// or it was deleted.
    ///
    /// Who does not know the owner can [`query`](DHTService::query) the key, or [`get`](DHTService::get) what all owners
    /// have there: then holders tell who was first, most of whom must be honest.
    pub fn get_owned(&self, owner: &OwnerId, key: impl AsRef<[u8]>) -> Pending<Option<Vec<u8>>> {
        self.find_owned(owner, key.as_ref(), |value| value)
    }

    pub(crate) fn find_owned<T: Send + 'static>(
        &self,
        owner: &OwnerId,
        key: &[u8],
        take: impl FnOnce(Option<Vec<u8>>) -> T + Send + 'static,
    ) -> Pending<T> {
        let command = Command::QueryOf { key: self.key_id(key), owner: *owner.as_bytes() };
        self.begin(command, |outcome| match outcome {
            Outcome::Queried(report) => {
                let found = report.found.into_iter().chain(report.of_owners).next();
                Some(take(found.map(|found| found.record.value.into())))
            }
            _ => None,
        })
    }

    /// Deletes what this owner has under a key.
    pub fn delete_owned(&self, owner: &OwnerKey, key: impl AsRef<[u8]>, mode: OwnedMode) -> Pending<Receipt> {
        self.put_owned(owner, key, mode, b"", None)
    }

    /// Saves a value under a name in a namespace, as far as the rule for that allows; see
    /// [`Validator`](crate::Validator). This node must have the rule as well: [`Config::validators`](crate::Config).
    pub fn put_ruled(&self, namespace: &str, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Pending<Receipt> {
        let name = name.as_ref();
        let value = match self.checked(value.as_ref()) {
            Ok(value) => value,
            Err(error) => return Pending::failed(error),
        };
        let checked = check_length(namespace.as_bytes(), MAX_NAMESPACE_BYTES);
        if let Err(error) = checked.and_then(|()| check_length(name, MAX_NAME_BYTES)) {
            return Pending::failed(error);
        }
        let ruled = Ruled { namespace: namespace.to_owned(), name: Bytes::copy_from_slice(name) };
        let kind = RecordKind::Ruled(Box::new(ruled));
        let key = self.ruled_key(namespace, name);
        self.save_content(key, Content::Written(Arc::new(RuledWriter { kind, value })), Expect::Anything)
    }

    /// The key of a name in a namespace.
    pub fn ruled_key(&self, namespace: &str, name: impl AsRef<[u8]>) -> Id {
        self.key_id(crate::rules::ruled_key(namespace, name.as_ref()))
    }

    /// Finds the value of a name in a namespace.
    pub fn get_ruled(&self, namespace: &str, name: impl AsRef<[u8]>) -> Pending<Option<Vec<u8>>> {
        self.find(self.ruled_key(namespace, name), |report| {
            let found = report.found.filter(|found| matches!(found.record.kind, RecordKind::Ruled(_)));
            Some(found.map(|found| found.record.value.into()))
        })
    }

    pub(crate) fn find<T: Send + 'static>(
        &self,
        key: Id,
        extract: impl FnOnce(QueryReport) -> Option<T> + Send + 'static,
    ) -> Pending<T> {
        self.begin(Command::Query { key }, |outcome| match outcome {
            Outcome::Queried(report) => extract(report),
            _ => None,
        })
    }
}

fn check_length(name: &[u8], limit: usize) -> Result<(), Error> {
    let size = name.len();
    if size > limit { Err(Error::NameTooLong { size, limit }) } else { Ok(()) }
}

fn check_expiry(expiry: Option<u64>) -> Result<(), Error> {
    match expiry {
        Some(expiry) if !EXPIRIES.contains(&expiry) => Err(Error::BadExpiry { expiry }),
        _ => Ok(()),
    }
}

struct SignedWriter {
    key: SigningKey,
    salt: Salt,
    value: Bytes,
}

impl fmt::Debug for SignedWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedWriter").field("public_key", &self.key.public_key()).finish_non_exhaustive()
    }
}

impl Writer for SignedWriter {
    fn author(&self) -> Author {
        Author::Any
    }

    fn write(&self, newest: Option<&Record>, _: Version, lifetime: Duration) -> Result<Record, Refusal> {
        // What others put there who cannot write there does not count.
        let newest = newest.filter(|record| matches!(record.kind, RecordKind::Signed(_)));
        let version = newest.map_or(Version(1), |record| record.version.next());
        let sequence = i64::try_from(version.0).map_err(|_| Refusal::Older { held: version })?;
        let signature = signed::sign(&self.key, &self.salt, sequence, &self.value).0;
        let salt = Bytes::copy_from_slice(self.salt.as_bytes());
        let signed = Signed { public_key: self.key.public_key().0, salt, signature };
        Ok(Record::new(RecordKind::Signed(Box::new(signed)), self.value.clone(), version, lifetime))
    }
}

struct OwnedWriter {
    owner: OwnerKey,
    name: Bytes,
    mode: OwnedMode,
    expiry: Option<u64>,
    value: Bytes,
}

impl fmt::Debug for OwnedWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owner = self.owner.public_key();
        f.debug_struct("OwnedWriter").field("owner", &owner).field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl Writer for OwnedWriter {
    fn author(&self) -> Author {
        match self.mode {
            OwnedMode::Secured => Author::Any,
            OwnedMode::Controlled => Author::Owner(*self.owner.public_key().as_bytes()),
        }
    }

    fn owner(&self) -> Option<[u8; 33]> {
        Some(*self.owner.public_key().as_bytes())
    }

    fn write(&self, newest: Option<&Record>, version: Version, lifetime: Duration) -> Result<Record, Refusal> {
        let owner = *self.owner.public_key().as_bytes();
        // An owner keeps to what it has said itself. Others cannot see whether it wrote later, or dated it back.
        let is_over = |owned: &Owned| owned.expiry.is_some_and(|expiry| expiry < seconds_of(version));
        if let Some(RecordKind::Owned(owned)) = newest.map(|record| &record.kind)
            && owned.owner == owner
            && is_over(owned)
        {
            return Err(Refusal::Late);
        }
        // What is not sealed can have any version, given to it by anybody.
        let own = newest.and_then(|record| match &record.kind {
            RecordKind::Owned(owned) if owned.owner == owner && owned.mode == self.mode && owned.seal.is_some() => {
                Some((record.version.next(), owned.since))
            }
            _ => None,
        });
        let version = own.map_or(version, |(next, _)| version.max(next));
        let since = own.map_or(version, |(_, since)| since);
        let claim = Claim { key: &self.name, data: &self.value, expiry: self.expiry, mode: self.mode };
        let signature = self.owner.sign(&claim);
        let seal = Some(Seal(self.owner.seal(&signature, version, since).0));
        let (name, mode, expiry) = (self.name.clone(), self.mode, self.expiry);
        let owned = Owned { name, owner, mode, expiry, signature: signature.0, since, seal };
        Ok(Record::new(RecordKind::Owned(Box::new(owned)), self.value.clone(), version, lifetime))
    }
}

/// Writes what the owner of a key has signed elsewhere, under a version that the signature is not of.
#[derive(Debug)]
struct SignedElsewhere {
    owned: Owned,
    value: Bytes,
}

impl Writer for SignedElsewhere {
    fn author(&self) -> Author {
        match self.owned.mode {
            OwnedMode::Secured => Author::Any,
            OwnedMode::Controlled => Author::Owner(self.owned.owner),
        }
    }

    fn owner(&self) -> Option<[u8; 33]> {
        Some(self.owned.owner)
    }

    fn write(&self, newest: Option<&Record>, version: Version, lifetime: Duration) -> Result<Record, Refusal> {
        let own = newest.and_then(|record| match &record.kind {
            RecordKind::Owned(owned) if owned.owner == self.owned.owner && owned.mode == self.owned.mode => {
                Some((record.version.next(), owned))
            }
            _ => None,
        });
        // What is sealed counts for more than what is not: the owner wrote it where it has the key.
        if own.is_some_and(|(_, owned)| owned.seal.is_some()) {
            return Err(Refusal::Taken);
        }
        let version = own.map_or(version, |(next, _)| version.max(next));
        let since = own.map_or(version, |(_, owned)| owned.since);
        let kind = RecordKind::Owned(Box::new(Owned { since, ..self.owned.clone() }));
        Ok(Record::new(kind, self.value.clone(), version, lifetime))
    }
}

#[derive(Debug)]
struct RuledWriter {
    kind: RecordKind,
    value: Bytes,
}

impl Writer for RuledWriter {
    fn author(&self) -> Author {
        Author::Any
    }

    fn write(&self, newest: Option<&Record>, version: Version, lifetime: Duration) -> Result<Record, Refusal> {
        let newest = newest.filter(|record| record.kind == self.kind);
        let version = newest.map_or(version, |record| version.max(record.version.next()));
        Ok(Record::new(self.kind.clone(), self.value.clone(), version, lifetime))
    }
}
