//! How authors write who prove that they did.

use std::time::Duration;

use bytes::Bytes;
use kademlia_dht::Rules;
use kademlia_dht::core::Writer;
use kademlia_dht::gateway::{Author, Id, Owned, OwnedMode, Record, RecordKind, Refusal, Seal, Signed, Version};
use kademlia_dht::signing::owned::{Claim, OwnerId, OwnerKey};
use kademlia_dht::signing::signed::{Salt, SigningKey, bencoded_string, sign};

use crate::random::Random;

/// What an author writes with.
#[derive(Debug, Clone)]
pub(crate) enum Pen {
    /// Nothing: the value itself proves that it is no other.
    Immutable,
    Signed(SigningKey),
    Owned {
        owner: OwnerKey,
        name: Bytes,
        mode: OwnedMode,
    },
}

impl Pen {
    /// An author of a signed value.
    pub(crate) fn signed(random: &mut Random) -> Self {
        Pen::Signed(SigningKey::from_bytes(&secret(random)))
    }

    /// An owner of a record under a name, of which there can be several.
    pub(crate) fn owned(random: &mut Random, name: Bytes, mode: OwnedMode) -> Self {
        Pen::Owned { owner: owner(random), name, mode }
    }

    /// A value in the form in which this author writes it.
    pub(crate) fn form(&self, value: Bytes) -> Bytes {
        if let Pen::Signed(_) = self { bencoded_string(&value) } else { value }
    }

    /// The key that a value of this author is under.
    pub(crate) fn key(&self, rules: &Rules, value: &Bytes) -> Id {
        match self {
            Pen::Immutable => rules.hash(value),
            Pen::Signed(key) => rules.hash(&key.public_key().key(&Salt::default())),
            Pen::Owned { name, .. } => rules.hash(name),
        }
    }

    /// Who owns what is written, if anybody does.
    pub(crate) fn owner(&self) -> Option<OwnerId> {
        if let Pen::Owned { owner, .. } = self { Some(owner.public_key()) } else { None }
    }

    /// Whether a record says that this author wrote it.
    pub(crate) fn is_named_in(&self, record: &Record) -> bool {
        match (self, &record.kind) {
            (Pen::Immutable, RecordKind::Immutable) => true,
            (Pen::Signed(key), RecordKind::Signed(signed)) => {
                signed.public_key == key.public_key().0 && signed.salt.is_empty()
            }
            (Pen::Owned { owner, name, mode }, RecordKind::Owned(owned)) => {
                owned.owner == *owner.public_key().as_bytes() && owned.name == *name && owned.mode == *mode
            }
            _ => false,
        }
    }

    /// Whether a record is of the kind that this author writes, whoever wrote it.
    pub(crate) fn is_of_kind(&self, record: &Record) -> bool {
        match self {
            Pen::Immutable => record.kind == RecordKind::Immutable,
            Pen::Signed(_) => matches!(record.kind, RecordKind::Signed(_)),
            Pen::Owned { .. } => matches!(record.kind, RecordKind::Owned(_)),
        }
    }
}

/// A value that an author is about to write.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) pen: Pen,
    /// In the form in which it is written.
    pub(crate) value: Bytes,
}

impl Writer for Draft {
    fn author(&self) -> Author {
        match &self.pen {
            Pen::Owned { owner, mode: OwnedMode::Controlled, .. } => Author::Owner(*owner.public_key().as_bytes()),
            Pen::Immutable => Author::Content,
            _ => Author::Any,
        }
    }

    fn owner(&self) -> Option<[u8; 33]> {
        self.pen.owner().map(|owner| *owner.as_bytes())
    }

    fn write(&self, newest: Option<&Record>, version: Version, lifetime: Duration) -> Result<Record, Refusal> {
        // What an owner has not sealed can have any version, given to it by anybody.
        let newest = newest.filter(|record| self.pen.is_named_in(record) && !is_unsealed(record));
        let above = newest.map_or(Version::default(), |record| record.version.next());
        let (kind, version) = match &self.pen {
            Pen::Immutable => (RecordKind::Immutable, Version::default()),
            Pen::Signed(key) => {
                let version = above.max(Version(1));
                let sequence = i64::try_from(version.0).map_err(|_| Refusal::Older { held: version })?;
                let signature = sign(key, &Salt::default(), sequence, &self.value).0;
                let signed = Signed { public_key: key.public_key().0, salt: Bytes::new(), signature };
                (RecordKind::Signed(Box::new(signed)), version)
            }
            Pen::Owned { owner, name, mode } => {
                let version = version.max(above);
                let since = newest.map_or(version, since);
                let owned = owned_by(owner, name, *mode, &self.value, version, since);
                (RecordKind::Owned(Box::new(owned)), version)
            }
        };
        Ok(Record::new(kind, self.value.clone(), version, lifetime))
    }
}

fn is_unsealed(record: &Record) -> bool {
    matches!(&record.kind, RecordKind::Owned(owned) if owned.seal.is_none())
}

/// Since when an owned record says that its key is its owner's.
fn since(record: &Record) -> Version {
    if let RecordKind::Owned(owned) = &record.kind { owned.since } else { record.version }
}

/// What proves that an owner wrote a value, signed and sealed.
pub(crate) fn owned_by(
    owner: &OwnerKey,
    name: &Bytes,
    mode: OwnedMode,
    value: &Bytes,
    version: Version,
    since: Version,
) -> Owned {
    let signature = owner.sign(&Claim { key: name, data: value, expiry: None, mode });
    let seal = Some(Seal(owner.seal(&signature, version, since).0));
    let (name, owner) = (name.clone(), *owner.public_key().as_bytes());
    Owned { name, owner, mode, expiry: None, signature: signature.0, since, seal }
}

/// A key pair of an owner.
pub(crate) fn owner(random: &mut Random) -> OwnerKey {
    loop {
        // All but one of 2^127 are good.
        if let Ok(key) = OwnerKey::from_bytes(&secret(random)) {
            return key;
        }
    }
}

fn secret(random: &mut Random) -> [u8; 32] {
    let mut secret = [0; 32];
    let (front, back) = secret.split_at_mut(16);
    front.copy_from_slice(&random.seed());
    back.copy_from_slice(&random.seed());
    secret
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use kademlia_dht::Sha1Hasher;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    /// One of each kind: an immutable value, a signed one, one that has one owner, and one of several.
    pub(crate) fn pens() -> [Pen; 4] {
        let mut random = Random::new(1, "test");
        let name = Bytes::from_static(b"name");
        [
            Pen::Immutable,
            Pen::signed(&mut random),
            Pen::owned(&mut random, name.clone(), OwnedMode::Secured),
            Pen::owned(&mut random, name, OwnedMode::Controlled),
        ]
    }

    /// What this author writes after `newest`.
    pub(crate) fn written(pen: &Pen, value: &'static str, newest: Option<&Record>) -> Record {
        let value = pen.form(Bytes::from_static(value.as_bytes()));
        Draft { pen: pen.clone(), value }.write(newest, Version::at(1_000_000), DAY).unwrap()
    }

    #[test]
    fn what_is_written_is_good_and_newer_than_what_was_there() {
        let rules = Rules::new(Arc::new(Sha1Hasher));
        for pen in pens() {
            let first = written(&pen, "the first value", None);
            let second = written(&pen, "the second value", Some(&first));
            for record in [&first, &second] {
                assert_eq!(rules.check(&pen.key(&rules, &record.value), record), Ok(()), "{pen:?}");
                assert!(pen.is_named_in(record) && pen.is_of_kind(record));
            }
            let is_newer = second.newness(&first).is_gt() && second.version > first.version;
            assert_eq!(is_newer, !matches!(pen, Pen::Immutable), "{pen:?}");
        }
    }

    #[test]
    fn what_others_have_under_the_key_does_not_count() {
        let [_, _, first, _] = pens();
        let second = Pen::owned(&mut Random::new(2, "test"), Bytes::from_static(b"name"), OwnedMode::Secured);
        let others = Record { version: Version(u64::MAX), ..written(&second, "value", None) };
        assert!(!first.is_named_in(&others) && first.is_of_kind(&others));
        assert_eq!(written(&first, "value", Some(&others)), written(&first, "value", None));
        let mut unsealed = Record { version: Version(u64::MAX), ..written(&first, "old", None) };
        if let RecordKind::Owned(owned) = &mut unsealed.kind {
            owned.seal = None;
        }
        assert_eq!(written(&first, "value", Some(&unsealed)), written(&first, "value", None));
    }
}
