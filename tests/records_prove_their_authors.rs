//! Nobody but its author changes a record that proves its author, and all holders end with the same records, in whatever
//! order these come.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use kademlia_dht::core::{Input, Node, Params, Time};
use kademlia_dht::gateway::Contact;
use kademlia_dht::signing::owned::{Claim, OwnerKey, OwnerSignature};
use kademlia_dht::signing::signed::{PublicKey, Salt, Signature, SigningKey, bencoded_string, sign};
use kademlia_dht::{
    Id, KeySpace, Owned, OwnedMode, Record, RecordKind, Refusal, Ruled, Rules, Seal, Signed, Validator, Verdict,
    Version,
};
use proptest::prelude::*;

const DAY: Duration = Duration::from_secs(24 * 3600);
const NAMESPACE: &str = "sets";

/// Sets of bytes, of which both together are the union. A value that is not in order, or has a byte twice, is none.
struct Union;

fn is_set(value: &[u8]) -> bool {
    value.is_sorted_by(|one, next| one < next)
}

impl Validator for Union {
    fn judge(&self, _name: &[u8], candidate: &Record, held: Option<&Record>) -> Verdict {
        match held {
            _ if candidate.value[..] == *b"panic" => panic!("a validator that panics"),
            _ if !is_set(&candidate.value) => Verdict::Refuse { code: 7 },
            None => Verdict::Accept,
            Some(held) => {
                let mut both = [&candidate.value[..], &held.value[..]].concat();
                both.sort_unstable();
                both.dedup();
                Verdict::Merge(both.into())
            }
        }
    }
}

static RULES: LazyLock<Arc<Rules>> = LazyLock::new(|| Arc::new(Rules::default().with(NAMESPACE, Arc::new(Union))));

fn holder() -> Node<Contact> {
    let params = Params { rules: Arc::clone(&RULES), ..Params::new(KeySpace::new(20).unwrap()) };
    Node::new(Id::from_prefix(&[7; 20]), params, [1; 16], Time::ZERO)
}

fn at(seconds: u64) -> Time {
    Time::from_micros(seconds * 1_000_000)
}

/// Offers a record to a node as one that has come back from a disk: it is checked as any other.
fn offer(node: &mut Node<Contact>, now: Time, key: Id, record: &Record) {
    node.handle(now, Input::Restore { key, record: record.clone() }, &mut Vec::new());
}

/// What it holds, whatever its lifetime.
fn held(node: &Node<Contact>, key: &Id) -> Vec<Record> {
    node.records_under(key).map(|record| Record { remaining: 0, renewal: 0, ..record }).collect()
}

fn owner(n: u8) -> OwnerKey {
    OwnerKey::from_bytes(&[n; 32]).unwrap()
}

fn owned(n: u8, mode: OwnedMode, value: &'static [u8], version: u64, since: u64, sealed: bool) -> Record {
    let (owner, name) = (owner(n), b"name");
    let signature = owner.sign(&Claim { key: name, data: value, expiry: None, mode });
    let (version, since) = (Version(version), Version(since));
    let seal = sealed.then(|| Seal(owner.seal(&signature, version, since).0));
    let owner = *owner.public_key().as_bytes();
    let owned = Owned { name: name.to_vec().into(), owner, mode, expiry: None, signature: signature.0, since, seal };
    Record::new(RecordKind::Owned(Box::new(owned)), value, version, DAY)
}

fn owned_key() -> Id {
    RULES.hash(b"name")
}

fn signed(value: &[u8], sequence: i64) -> (Id, Record) {
    let (key, salt) = (SigningKey::from_bytes(&[9; 32]), Salt::new("salt").unwrap());
    let value = bencoded_string(value);
    let signature = sign(&key, &salt, sequence, &value).0;
    let signed = Signed { public_key: key.public_key().0, salt: b"salt".to_vec().into(), signature };
    let record = Record::new(RecordKind::Signed(Box::new(signed)), value, Version(sequence as u64), DAY);
    (RULES.hash(&key.public_key().key(&salt)), record)
}

fn immutable(value: &'static [u8]) -> (Id, Record) {
    (RULES.hash(value), Record::new(RecordKind::Immutable, value, Version::default(), DAY))
}

fn ruled(value: Vec<u8>, version: u64) -> (Id, Record) {
    let kind = RecordKind::Ruled(Box::new(Ruled { namespace: NAMESPACE.to_owned(), name: b"one".to_vec().into() }));
    let record = Record::new(kind, value, Version(version), DAY);
    (RULES.key_of(&record.kind, &record.value).unwrap(), record)
}

/// What different people want to have under one key.
fn contenders() -> impl Strategy<Value = Record> {
    let value = prop::sample::select(vec![&b"a"[..], b"b", b""]);
    let version = 1_u64..6;
    let plain =
        (value.clone(), version.clone()).prop_map(|(value, version)| Record::plain(value, Version(version), DAY));
    let tombstone = version.clone().prop_map(|version| Record::tombstone(Version(version), DAY));
    let mode = prop_oneof![Just(OwnedMode::Secured), Just(OwnedMode::Controlled)];
    let written = (1_u8..4, mode, value, version.clone(), version, any::<bool>());
    let written = written
        .prop_filter("a claim that is younger than the value is refused", |(.., version, since, _)| since <= version);
    let written =
        written.prop_map(|(n, mode, value, version, since, sealed)| owned(n, mode, value, version, since, sealed));
    prop_oneof![1 => plain, 1 => tombstone, 4 => written]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn all_holders_of_a_key_end_with_the_same_records(
        (offers, order) in prop::collection::vec(contenders(), 1..12).prop_flat_map(|offers| {
            let order = Just((0..offers.len()).chain(0..offers.len()).collect::<Vec<_>>()).prop_shuffle();
            (Just(offers), order)
        })
    ) {
        let (mut one, mut other, key) = (holder(), holder(), owned_key());
        offers.iter().for_each(|record| offer(&mut one, at(0), key, record));
        // Everything twice, and in another order.
        order.into_iter().for_each(|place| offer(&mut other, at(0), key, &offers[place]));
        prop_assert_eq!(held(&one, &key), held(&other, &key));
        prop_assert!(!held(&one, &key).is_empty());
        // Under a key with an owner nobody else has anything.
        let held = held(&one, &key);
        let is_secured = |record: &Record| matches!(&record.kind, RecordKind::Owned(owned) if owned.mode == OwnedMode::Secured);
        prop_assert!(held.len() == 1 || !held.iter().any(is_secured));
        // And each has there what is newest.
        for record in &offers {
            let same = held.iter().find(|other| other.author() == record.author());
            prop_assert!(same.is_none_or(|same| same.newness(record).is_ge()), "{:?} is newer", record);
        }
    }

    #[test]
    fn values_that_are_merged_end_alike_in_any_order(
        (offers, order) in prop::collection::vec((prop::collection::btree_set(any::<u8>(), 0..5), 1_u64..6), 1..8)
            .prop_flat_map(|offers| {
                let order = Just((0..offers.len()).chain(0..offers.len()).collect::<Vec<_>>()).prop_shuffle();
                (Just(offers), order)
            })
    ) {
        let offers: Vec<(Id, Record)> =
            offers.into_iter().map(|(set, version)| ruled(set.into_iter().collect(), version)).collect();
        let (mut one, mut other, key) = (holder(), holder(), offers[0].0);
        offers.iter().for_each(|(key, record)| offer(&mut one, at(0), *key, record));
        order.into_iter().for_each(|place| offer(&mut other, at(0), key, &offers[place].1));
        let mut union: Vec<u8> = offers.iter().flat_map(|(_, record)| record.value.to_vec()).collect();
        union.sort_unstable();
        union.dedup();
        prop_assert_eq!(&held(&one, &key)[0].value[..], &union);
        prop_assert_eq!(held(&one, &key), held(&other, &key));
    }
}

/// One of each kind that proves something, and its key.
fn authentic() -> Vec<(Id, Record)> {
    vec![
        signed(b"signed value", 5),
        immutable(b"immutable value"),
        (owned_key(), owned(1, OwnedMode::Secured, b"owned value", 8, 3, true)),
        (owned_key(), owned(2, OwnedMode::Controlled, b"listed value", 8, 8, true)),
    ]
}

/// The encoding of a record, so that every bit of it can be changed.
fn encode(record: &Record) -> Vec<u8> {
    bincode::serde::encode_to_vec(record, bincode::config::standard()).unwrap()
}

fn decode(bytes: &[u8]) -> Option<Record> {
    let decoded = bincode::serde::decode_from_slice(bytes, bincode::config::standard().with_limit::<10_000>()).ok();
    decoded.filter(|(_, read)| *read == bytes.len()).map(|(record, _)| record)
}

#[test]
fn a_hundred_thousand_changes_of_records_change_nothing() {
    let mut random = 1_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as usize
    };
    let (mut tried, mut readable) = (0, 0);
    for (key, record) in authentic() {
        let mut node = holder();
        offer(&mut node, at(0), key, &record);
        let before = held(&node, &key);
        assert_eq!(before.len(), 1, "{record:?}");
        let whole = encode(&record);
        // Every bit once, then several bytes at a time.
        let bits = (0..whole.len() * 8).map(|bit| vec![(bit / 8, 1_u8 << (bit % 8))]).collect::<Vec<_>>();
        let mut changes = bits.into_iter();
        for _ in 0..25_000 {
            let change = changes.next().unwrap_or_else(|| {
                (0..1 + next() % 4).map(|_| (next() % whole.len(), 1 + (next() % 255) as u8)).collect()
            });
            let mut bytes = whole.clone();
            change.iter().for_each(|(place, flip)| bytes[*place] ^= flip);
            tried += 1;
            let Some(changed) = decode(&bytes) else { continue };
            readable += 1;
            offer(&mut node, at(0), key, &changed);
            // A plain value has a place beside an immutable one, and is no change of it.
            let mut after = held(&node, &key);
            after.retain(|held| held.author() == record.author());
            // What is not under this key's author is nobody's: another owner's record cannot be made by changing this one.
            assert_eq!(after, before, "{change:?} of {record:?}");
            // And where nothing is held, it is taken only for what anyone may write.
            let proved = RULES.check(&key, &changed).is_ok() && changed.kind.is_authentic();
            assert!(!proved || changed.newness(&record).is_eq(), "{change:?} of {record:?} is good");
        }
    }
    assert_eq!(tried, 100_000);
    assert!(readable > 50_000, "only {readable} of the changes left something to read");
}

#[test]
fn known_records_are_good_and_none_with_another_bit() {
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    };
    let owner: [u8; 33] = hex("0224d2079e86e937224f08aa37a857ca6116546868edde549d0bd6b8536af9d554").try_into().unwrap();
    let signature: [u8; 64] = hex(concat!(
        "d3f1d0cfeb6e9913ffe1759e9a5a331a65dade83f53ca6ef60f2c588238c4cc2",
        "497d6f48b1968e31e98fc749d1887d6bb546718f2676a3308f9701a6b399c2c1"
    ))
    .try_into()
    .unwrap();
    let owned = Owned {
        name: b"test_id".to_vec().into(),
        owner,
        mode: OwnedMode::Secured,
        expiry: None,
        signature,
        since: Version(1),
        seal: None,
    };
    let known = Record::new(RecordKind::Owned(Box::new(owned.clone())), &b"string_payload"[..], Version(2), DAY);
    let key = RULES.hash(b"test_id");
    assert_eq!(RULES.check(&key, &known), Ok(()));
    for bit in 0..64 * 8 {
        let mut changed = owned.clone();
        changed.signature[bit / 8] ^= 1 << (bit % 8);
        let changed = Record { kind: RecordKind::Owned(Box::new(changed)), ..known.clone() };
        assert_eq!(RULES.check(&key, &changed), Err(Refusal::Forged), "bit {bit}");
    }
    for bit in 0..14 * 8 {
        let mut value = known.value.to_vec();
        value[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(RULES.check(&key, &Record { value: value.into(), ..known.clone() }), Err(Refusal::Forged));
    }

    let public = PublicKey(hex("77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548").try_into().unwrap());
    let signature = Signature(
        hex(concat!(
            "6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17d",
            "df9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08"
        ))
        .try_into()
        .unwrap(),
    );
    let signed = Signed { public_key: public.0, salt: b"foobar".to_vec().into(), signature: signature.0 };
    let known = Record::new(RecordKind::Signed(Box::new(signed)), &b"12:Hello World!"[..], Version(1), DAY);
    let key = Id::from_prefix(&hex("411eba73b6f087ca51a3795d9c8c938d365e32c1"));
    assert_eq!(RULES.check(&key, &known), Ok(()));
    assert_eq!(RULES.check(&key, &Record { version: Version(2), ..known.clone() }), Err(Refusal::Forged));
    assert_eq!(RULES.check(&RULES.hash(b"elsewhere"), &known), Err(Refusal::Forged));
}

#[test]
fn an_older_record_cannot_be_put_back_under_a_higher_version() {
    let (mut node, key) = (holder(), owned_key());
    let old = owned(1, OwnedMode::Secured, b"old", 5, 5, true);
    let new = owned(1, OwnedMode::Secured, b"new", 6, 5, true);
    offer(&mut node, at(0), key, &old);
    offer(&mut node, at(0), key, &new);
    let without_seal = |record: &Record, since| {
        let RecordKind::Owned(mut owned) = record.kind.clone() else { panic!() };
        (owned.seal, owned.since) = (None, Version(since));
        Record { kind: RecordKind::Owned(owned), ..record.clone() }
    };
    for replayed in [
        old.clone(),
        Record { version: Version(99), ..old.clone() },
        Record { version: Version(99), ..without_seal(&old, 5) },
        // Nor under an earlier date, which nothing shows to be the owner's.
        Record { version: Version(99), ..without_seal(&old, 0) },
    ] {
        offer(&mut node, at(1), key, &replayed);
        assert_eq!(held(&node, &key)[0].value, new.value, "{replayed:?}");
    }
}

#[test]
fn the_first_writer_owns_the_key_and_is_not_driven_out_by_a_forged_date_later() {
    let (mut node, key) = (holder(), owned_key());
    let first = owned(1, OwnedMode::Secured, b"first", 50, 50, true);
    let late = owned(2, OwnedMode::Secured, b"late", 60, 60, true);
    let backdated = owned(2, OwnedMode::Secured, b"backdated", 60, 1, true);
    let listed = owned(2, OwnedMode::Controlled, b"listed", 60, 1, true);
    offer(&mut node, at(0), key, &first);
    for (time, other) in [(1, &late), (1, &listed), (700, &late), (700, &backdated), (700, &listed)] {
        offer(&mut node, at(time), key, other);
        assert_eq!(held(&node, &key)[0].value, first.value, "{other:?} at {time} s");
        assert_eq!(held(&node, &key).len(), 1);
    }
    offer(&mut node, at(701), key, &Record::plain("plain", Version(u64::MAX), DAY));
    assert_eq!(held(&node, &key)[0].value, first.value);
    // Its owner goes on.
    offer(&mut node, at(702), key, &owned(1, OwnedMode::Secured, b"second", 51, 50, true));
    assert_eq!(&held(&node, &key)[0].value[..], b"second");
    offer(&mut node, at(1500), key, &backdated);
    assert_eq!(&held(&node, &key)[0].value[..], b"second", "another version begins no new time to be disputed");
}

#[test]
fn where_everybody_has_a_record_nobody_takes_the_key_later() {
    let (mut node, key) = (holder(), owned_key());
    for n in 1..4 {
        offer(&mut node, at(0), key, &owned(n, OwnedMode::Controlled, b"mine", 5, 5, true));
    }
    offer(&mut node, at(700), key, &owned(9, OwnedMode::Secured, b"all mine", 1, 1, true));
    assert_eq!(held(&node, &key).len(), 3);
    assert!(held(&node, &key).iter().all(|record| &record.value[..] == b"mine"));
}

#[test]
fn an_owner_whose_time_is_over_writes_no_more_and_what_it_wrote_stays() {
    let write = |version_seconds: u64, expiry: u64| {
        let (owner, mode, name) = (owner(1), OwnedMode::Secured, b"name");
        let signature = owner.sign(&Claim { key: name, data: b"v", expiry: Some(expiry), mode });
        let (version, since) = (Version::at(version_seconds * 1000), Version(0));
        let seal = Some(Seal(owner.seal(&signature, version, since).0));
        let owner = *owner.public_key().as_bytes();
        let owned = Owned {
            name: name.to_vec().into(),
            owner,
            mode,
            expiry: Some(expiry),
            signature: signature.0,
            since,
            seal,
        };
        Record::new(RecordKind::Owned(Box::new(owned)), &b"v"[..], version, DAY)
    };
    let check = |record: &Record| RULES.check(&owned_key(), record);
    assert_eq!(check(&write(1_900_000_000, 1_900_000_000)), Ok(()));
    assert_eq!(check(&write(1_900_000_001, 1_900_000_000)), Err(Refusal::Late));
    assert_eq!(check(&write(5, 999_999_999)), Err(Refusal::Late));
    assert_eq!(check(&write(5, 10_000_000_000)), Err(Refusal::Forged));
}

#[test]
fn no_digit_can_be_moved_from_the_value_to_the_expiry() {
    let (owner, mode) = (owner(1), OwnedMode::Secured);
    let signature = owner.sign(&Claim { key: b"name", data: b"price 5", expiry: Some(1_900_000_000), mode });
    let with = |data: &'static [u8], expiry| {
        let claim = Claim { key: b"name", data, expiry: Some(expiry), mode };
        // The signature itself does not tell them apart.
        assert_eq!(owner.public_key().verify(&claim, &OwnerSignature(signature.0)), Ok(()));
        let name = b"name".to_vec().into();
        let (owner, since) = (*owner.public_key().as_bytes(), Version(0));
        let owned = Owned { name, owner, mode, expiry: Some(expiry), signature: signature.0, since, seal: None };
        RULES.check(&owned_key(), &Record::new(RecordKind::Owned(Box::new(owned)), data, Version(1), DAY))
    };
    assert_eq!(with(b"price 5", 1_900_000_000), Ok(()));
    assert_eq!(with(b"price 51", 900_000_000), Err(Refusal::Late));
    assert_eq!(with(b"price ", 51_900_000_000), Err(Refusal::Forged));
}

#[test]
fn what_a_rule_refuses_is_refused_with_its_reason() {
    let (key, record) = ruled(vec![2, 1], 1);
    assert_eq!(RULES.check(&key, &record), Err(Refusal::Rule { code: 7 }));
    let (key, record) = ruled(b"panic".to_vec(), 1);
    assert_eq!(RULES.check(&key, &record), Err(Refusal::Rule { code: u32::MAX }));
    let (key, record) = ruled(vec![1, 2], 1);
    assert_eq!(RULES.check(&key, &record), Ok(()));
    assert_eq!(Rules::default().check(&key, &record), Err(Refusal::NoRule));
    assert_eq!(RULES.check(&owned_key(), &record), Err(Refusal::Forged));
}

#[test]
fn an_immutable_value_is_under_its_hash_and_nowhere_else() {
    let (key, record) = immutable(b"value");
    let mut node = holder();
    offer(&mut node, at(0), key, &Record::plain("junk", Version(u64::MAX), DAY));
    offer(&mut node, at(0), key, &record);
    let values = |node: &Node<Contact>| held(node, &key).into_iter().map(|record| record.value).collect::<Vec<_>>();
    assert_eq!(values(&node), [&b"junk"[..], b"value"], "each has a place of its own");
    offer(&mut node, at(0), key, &Record::tombstone(Version(u64::MAX), DAY));
    assert_eq!(values(&node)[1], &b"value"[..]);
    assert_eq!(RULES.check(&key, &Record { value: b"other".to_vec().into(), ..record }), Err(Refusal::Forged));
}
