//! Target `records`: records of all kinds, true, changed and made up, that come to two holders in different order.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use kademlia_dht::core::{Input, Node, Params, Time};
use kademlia_dht::gateway::{Contact, Id, KeySpace, Record, RecordKind, Version};
use kademlia_dht::signing::owned::{Claim, OwnerKey};
use kademlia_dht::signing::signed::{Salt, SigningKey, bencoded_string, sign};
use kademlia_dht::{Owned, OwnedMode, Ruled, Rules, Seal, Signed, Validator, Verdict};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The most offers of one input.
const OFFERS: usize = 24;

/// Takes the greatest value, but for those that begin with 255.
struct Greatest;

impl Validator for Greatest {
    fn judge(&self, _name: &[u8], candidate: &Record, held: Option<&Record>) -> Verdict {
        match held {
            _ if candidate.value.first() == Some(&255) => Verdict::Refuse { code: 1 },
            Some(held) => Verdict::Merge(held.value.clone().max(candidate.value.clone())),
            None => Verdict::Accept,
        }
    }
}

static RULES: LazyLock<Arc<Rules>> = LazyLock::new(|| Arc::new(Rules::default().with("greatest", Arc::new(Greatest))));

/// Records that are as they should be. Signing them for each input would take most of the time.
static TRUE: LazyLock<Vec<(Id, Record)>> = LazyLock::new(|| {
    let mut records = Vec::new();
    let with_key = |record: Record| (RULES.key_of(&record.kind, &record.value).unwrap_or(*NAME_KEY), record);
    for version in 1..4 {
        records.push(with_key(Record::plain(vec![version as u8; 3], Version(version), DAY)));
        records.push(with_key(Record::tombstone(Version(version), DAY)));
        records.push(with_key(signed(version as i64)));
        records.push(with_key(ruled(version)));
        for (owner, mode) in [(1, OwnedMode::Secured), (2, OwnedMode::Secured), (3, OwnedMode::Controlled)] {
            records.push(with_key(owned(owner, mode, version, version.min(2))));
        }
    }
    records.push(with_key(Record::new(RecordKind::Immutable, &b"immutable"[..], Version(0), DAY)));
    records
});

const NAME: &[u8] = b"name";

static NAME_KEY: LazyLock<Id> = LazyLock::new(|| RULES.hash(NAME));

fn signed(sequence: i64) -> Record {
    let (key, value) = (SigningKey::from_bytes(&[9; 32]), bencoded_string(&[sequence as u8; 5]));
    let signature = sign(&key, &Salt::default(), sequence, &value).0;
    let kind =
        RecordKind::Signed(Box::new(Signed { public_key: key.public_key().0, salt: Vec::new().into(), signature }));
    Record::new(kind, value, Version(sequence as u64), DAY)
}

fn owned(n: u8, mode: OwnedMode, version: u64, since: u64) -> Record {
    let (key, value) = (OwnerKey::from_bytes(&[n; 32]).expect("a key"), vec![n; 4]);
    let signature = key.sign(&Claim { key: NAME, data: &value, expiry: None, mode });
    let (version, since) = (Version(version), Version(since));
    let seal = Some(Seal(key.seal(&signature, version, since).0));
    let owner = *key.public_key().as_bytes();
    let owned = Owned { name: NAME.into(), owner, mode, expiry: None, signature: signature.0, since, seal };
    Record::new(RecordKind::Owned(Box::new(owned)), value, version, DAY)
}

fn ruled(version: u64) -> Record {
    let kind = RecordKind::Ruled(Box::new(Ruled { namespace: "greatest".to_owned(), name: NAME.into() }));
    Record::new(kind, vec![7 * version as u8], Version(version), DAY)
}

/// What holds whatever comes, in whatever order.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let mut offers = Vec::new();
    while offers.len() < OFFERS && !input.is_empty() {
        match offer(&mut input) {
            Ok(offer) => offers.push(offer),
            Err(_) => break,
        }
    }
    let (mut one, mut other) = (holder(), holder());
    for (key, record) in &offers {
        let before: Vec<Record> = one.records_under(key).collect();
        take(&mut one, *key, record);
        let after: Vec<Record> = one.records_under(key).collect();
        check(key, &before, record, &after);
    }
    offers.iter().rev().for_each(|(key, record)| take(&mut other, *key, record));
    offers.iter().for_each(|(key, record)| take(&mut other, *key, record));
    for (key, _) in &offers {
        let held = |node: &Node<Contact>| node.records_under(key).map(bare).collect::<Vec<_>>();
        assert_eq!(held(&one), held(&other), "holders end with different records");
    }
}

fn holder() -> Node<Contact> {
    let space = KeySpace::new(20).expect("a key space");
    let params = Params { rules: Arc::clone(&RULES), ..Params::new(space) };
    Node::new(Id::from_prefix(&[1; 20]), params, [3; 16], Time::ZERO)
}

fn take(node: &mut Node<Contact>, key: Id, record: &Record) {
    node.handle(Time::ZERO, Input::Restore { key, record: record.clone() }, &mut Vec::new());
}

/// The record, whatever its lifetime.
fn bare(record: Record) -> Record {
    Record { remaining: 0, renewal: 0, ..record }
}

fn check(key: &Id, before: &[Record], offered: &Record, after: &[Record]) {
    assert!(after.is_sorted_by(|one, next| one.author() < next.author()), "one record of each author");
    assert!(after.len() <= before.len() + 1);
    let is_alone = |record: &Record| record.kind.is_authentic() && record.author() == kademlia_dht::Author::Any;
    assert!(after.len() <= 1 || !after.iter().any(is_alone), "the key has an owner and others have records there");
    for record in after {
        assert_eq!(RULES.check(key, record), Ok(()), "held without proof");
        if let Some(was) = before.iter().find(|was| was.author() == record.author()) {
            let is_merged = matches!((&was.kind, &record.kind), (RecordKind::Ruled(_), RecordKind::Ruled(_)));
            assert!(is_merged || record.newness(was).is_ge(), "an older one has come back");
        }
    }
    if RULES.check(key, offered).is_err() {
        assert_eq!(
            after.iter().cloned().map(bare).collect::<Vec<_>>(),
            before.iter().cloned().map(bare).collect::<Vec<_>>()
        );
    }
}

/// A true record, or one with something changed, under its key or another one.
fn offer(input: &mut Unstructured<'_>) -> Result<(Id, Record)> {
    let (mut key, mut record) = input.choose(&TRUE)?.clone();
    for _ in 0..input.int_in_range(0..=2_u8)? {
        change(input, &mut record)?;
    }
    if input.ratio(1, 8)? {
        key = input.choose(&TRUE)?.0;
    }
    Ok((key, record))
}

fn change(input: &mut Unstructured<'_>, record: &mut Record) -> Result<()> {
    match input.int_in_range(0..=4_u8)? {
        0 => {
            let version = if input.arbitrary()? { input.arbitrary::<u8>()?.into() } else { input.arbitrary()? };
            record.version = Version(version);
        }
        1 => record.value = input.arbitrary::<Vec<u8>>()?.into(),
        2 => record.kind = input.choose(&TRUE)?.1.kind.clone(),
        3 => record.kind = made_up(input)?,
        _ => match &mut record.kind {
            RecordKind::Owned(owned) => match input.int_in_range(0..=5_u8)? {
                0 => owned.seal = None,
                1 => owned.since = Version(input.arbitrary::<u8>()?.into()),
                2 => owned.expiry = Some(input.arbitrary()?),
                3 => owned.mode = if input.arbitrary()? { OwnedMode::Secured } else { OwnedMode::Controlled },
                4 => owned.owner = input.arbitrary()?,
                _ => owned.signature = input.arbitrary()?,
            },
            RecordKind::Signed(signed) => match input.int_in_range(0..=2_u8)? {
                0 => signed.salt = input.arbitrary::<Vec<u8>>()?.into(),
                1 => signed.public_key = input.arbitrary()?,
                _ => signed.signature = input.arbitrary()?,
            },
            _ => record.kind = RecordKind::Immutable,
        },
    }
    Ok(())
}

fn made_up(input: &mut Unstructured<'_>) -> Result<RecordKind> {
    Ok(match input.int_in_range(0..=3_u8)? {
        0 => RecordKind::Signed(Box::new(Signed {
            public_key: input.arbitrary()?,
            salt: input.arbitrary::<Vec<u8>>()?.into(),
            signature: input.arbitrary()?,
        })),
        1 => RecordKind::Owned(Box::new(Owned {
            name: NAME.into(),
            owner: input.arbitrary()?,
            mode: if input.arbitrary()? { OwnedMode::Secured } else { OwnedMode::Controlled },
            expiry: input.arbitrary()?,
            signature: input.arbitrary()?,
            since: Version(input.arbitrary()?),
            seal: input.arbitrary::<Option<[u8; 64]>>()?.map(Seal),
        })),
        2 => RecordKind::Ruled(Box::new(Ruled {
            namespace: input.arbitrary()?,
            name: input.arbitrary::<Vec<u8>>()?.into(),
        })),
        _ => RecordKind::Plain,
    })
}
