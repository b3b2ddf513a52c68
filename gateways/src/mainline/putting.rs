//! What others want kept (BEP 44), and why it is not.

use bytes::Bytes;
use sha1::{Digest, Sha1};

use super::krpc::{Failure, Item, Mutable, code};
use super::wire::ITEMS_LAST;
use crate::id::Id;
use crate::message::{Expect, Refusal, Request, Token};
use crate::record::{Record, RecordKind, Signed, Version};

/// The longest salt (BEP 44).
const MAX_SALT_BYTES: usize = 64;

/// A record as an item; `None` if it is of a kind that this wire has not.
pub(super) fn item_of(record: &Record) -> Option<Item> {
    let mutable = match &record.kind {
        RecordKind::Immutable => None,
        RecordKind::Signed(signed) => Some(Mutable {
            public_key: signed.public_key,
            salt: Bytes::new(),
            sequence: i64::try_from(record.version.0).ok()?,
            signature: signed.signature,
        }),
        _ => return None,
    };
    Some(Item { value: record.value.clone(), mutable })
}

/// The request that has an item kept, whatever is there.
pub(super) fn store(token: &[u8], item: Item) -> Result<Request, Failure> {
    let failure = |code, text: &str| Failure { code, text: text.to_owned() };
    let token = token.try_into().map_err(|_| failure(code::PROTOCOL, "bad token"))?;
    let (key, version, kind) = match item.mutable {
        None => (hash(&[&item.value]), Version::default(), RecordKind::Immutable),
        Some(Mutable { salt, .. }) if salt.len() > MAX_SALT_BYTES => {
            return Err(failure(code::SALT_TOO_LARGE, "salt too large"));
        }
        Some(Mutable { public_key, salt, sequence, signature }) => {
            let key = hash(&[&public_key, &salt]);
            let version = u64::try_from(sequence).map_err(|_| failure(code::PROTOCOL, "invalid seq"))?;
            (key, Version(version), RecordKind::Signed(Box::new(Signed { public_key, salt, signature })))
        }
    };
    let record = Record::new(kind, item.value, version, ITEMS_LAST);
    Ok(Request::Store { key, record, token: Token(u64::from_be_bytes(token)), expect: Expect::Anything })
}

fn hash(parts: &[&[u8]]) -> Id {
    let mut hasher = Sha1::new();
    parts.iter().for_each(|part| hasher.update(part));
    Id::from_prefix(&hasher.finalize())
}

/// What whoever asked is told of a refusal.
pub(super) fn failure_of(refusal: Refusal) -> Failure {
    let code = match refusal {
        Refusal::Token | Refusal::Expired | Refusal::Late => code::PROTOCOL,
        Refusal::Older { .. } => code::SEQUENCE_TOO_LOW,
        Refusal::Conflict { .. } => code::OTHER_EXPECTED,
        Refusal::TooLarge { .. } => code::VALUE_TOO_LARGE,
        Refusal::Forged | Refusal::Taken => code::BAD_SIGNATURE,
        Refusal::Full | Refusal::Limited | Refusal::NoRule | Refusal::Rule { .. } => code::SERVER,
    };
    Failure { code, text: refusal.to_string() }
}

/// What a failure says of what was to be kept.
pub(super) fn refusal_of(code: i64) -> Refusal {
    match code {
        code::PROTOCOL => Refusal::Token,
        code::VALUE_TOO_LARGE => Refusal::TooLarge { limit: 1000 },
        code::BAD_SIGNATURE | code::SALT_TOO_LARGE => Refusal::Forged,
        code::OTHER_EXPECTED => Refusal::Conflict { held: None },
        code::SEQUENCE_TOO_LOW => Refusal::Older { held: Version::default() },
        _ => Refusal::Limited,
    }
}
