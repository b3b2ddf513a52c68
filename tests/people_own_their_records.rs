//! Signed, owned, immutable and ruled records, as the users of a service have them, over mixed transports.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kademlia_dht::gateway::Expect;
use kademlia_dht::signing::owned::{Claim, OwnerKey};
use kademlia_dht::signing::signed::{Salt, SigningKey};
use kademlia_dht::testnet::TestNetwork;
use kademlia_dht::{
    Config, DHTService, Error, Owned, OwnedMode, Pending, Record, RecordKind, Refusal, Rejection, Validator, Verdict,
    Version,
};

const LONG: Duration = Duration::from_secs(60);

fn done<T>(pending: Pending<T>) -> Result<T, Error> {
    pending.wait_timeout(LONG).unwrap_or_else(|_| panic!("nothing within {LONG:?}"))
}

/// The longer value wins; of two as long, the one that is greater.
struct Longest;

impl Validator for Longest {
    fn judge(&self, name: &[u8], candidate: &Record, held: Option<&Record>) -> Verdict {
        let size = |record: &Record| (record.value.len(), record.value.clone());
        match held {
            _ if name == b"forbidden" => Verdict::Refuse { code: 3 },
            Some(held) if size(held) > size(candidate) => Verdict::Refuse { code: 4 },
            _ => Verdict::Accept,
        }
    }
}

fn network(mix: &str) -> TestNetwork {
    let config = |_, _| Config {
        k: 8,
        validators: BTreeMap::from([("longest".to_owned(), Arc::new(Longest) as Arc<dyn Validator>)]),
        ..Config::default()
    };
    TestNetwork::builder(mix.parse().unwrap()).configure(config).start().unwrap()
}

fn service(network: &TestNetwork, index: usize) -> &DHTService {
    network.nodes()[index].service()
}

fn is_taken(error: &Error) -> bool {
    let taken = |rejection: &Rejection| *rejection == Rejection::Refused(Refusal::Taken);
    match error {
        Error::Refused(refusal) => *refusal == Refusal::Taken,
        Error::NotStored { refused } => refused.iter().all(|(_, rejection)| taken(rejection)),
        _ => false,
    }
}

#[test]
fn each_kind_is_saved_and_found_and_others_are_kept_out() {
    let network = network("udp=6,tcp=6,unix=4,udp+tcp=2,tcp+unix=2");
    let (ours, others) = (service(&network, 0), service(&network, 7));

    // Immutable.
    let key = done(ours.put_immutable("for ever")).unwrap().key;
    assert_eq!(done(others.get_immutable(key)).unwrap().unwrap(), b"for ever");
    let found = done(others.get(key)).unwrap().immutable.unwrap();
    assert_eq!(found.record.kind, RecordKind::Immutable);

    // Signed: again and again, each by the holder of the key alone.
    let (owner, salt) = (SigningKey::generate().unwrap(), Salt::new("profile").unwrap());
    assert_eq!(done(ours.put_signed(&owner, &salt, "one", None)).unwrap().version, Version(1));
    assert_eq!(done(ours.put_signed(&owner, &salt, "two", Some(1))).unwrap().version, Version(2));
    let conflict = done(others.put_signed(&owner, &salt, "three", Some(1)));
    assert_eq!(conflict.unwrap_err(), Error::Conflict { held: Some(Version(2)) });
    let found = done(others.get_signed(&owner.public_key(), &salt)).unwrap().unwrap();
    assert_eq!((&found.value[..], found.sequence), (&b"two"[..], 2));
    assert_eq!(done(others.get_signed(&owner.public_key(), &Salt::default())).unwrap(), None);
    let id = ours.key_id(owner.public_key().key(&salt));
    let plain = done(others.save(owner.public_key().key(&salt), "mine now"));
    assert!(is_taken(&plain.unwrap_err()));
    let kind = done(others.get(id)).unwrap().found.unwrap().record.kind;
    assert!(kind.is_authentic() && matches!(kind, RecordKind::Signed(_)));
    done(ours.delete_signed(&owner, &salt)).unwrap();
    assert_eq!(done(others.get_signed(&owner.public_key(), &salt)).unwrap(), None);

    // Owned by the first writer.
    let (first, second) = (OwnerKey::generate().unwrap(), OwnerKey::generate().unwrap());
    done(ours.put_owned(&first, "name", OwnedMode::Secured, "first", None)).unwrap();
    let taken = done(others.put_owned(&second, "name", OwnedMode::Secured, "second", None));
    assert!(is_taken(&taken.unwrap_err()));
    let taken = done(others.put_owned(&second, "name", OwnedMode::Controlled, "second", None));
    assert!(is_taken(&taken.unwrap_err()));
    assert!(is_taken(&done(others.delete("name")).unwrap_err()));
    assert!(is_taken(&done(others.delete_owned(&second, "name", OwnedMode::Secured)).unwrap_err()));
    done(others.put_owned(&first, "name", OwnedMode::Secured, "again", None)).unwrap();
    let found = done(ours.query("name")).unwrap().unwrap();
    assert!(found.kind.is_authentic());
    assert_eq!(found.value, b"again");
    assert_eq!(done(others.get_owned(&first.public_key(), "name")).unwrap().unwrap(), b"again");
    assert_eq!(done(others.get_owned(&second.public_key(), "name")).unwrap(), None);
    done(ours.delete_owned(&first, "name", OwnedMode::Secured)).unwrap();
    assert_eq!(done(others.query("name")).unwrap(), None);

    // A rule of our own.
    done(ours.put_ruled("longest", "word", "longer")).unwrap();
    let refused = done(others.put_ruled("longest", "word", "short")).unwrap_err();
    let Error::NotStored { refused } = refused else { panic!("{refused}") };
    assert!(refused.iter().all(|(_, why)| *why == Rejection::Refused(Refusal::Rule { code: 4 })), "{refused:?}");
    assert_eq!(done(others.get_ruled("longest", "word")).unwrap().unwrap(), b"longer");
    let refused = done(ours.put_ruled("longest", "forbidden", "x")).unwrap_err();
    assert_eq!(refused, Error::Refused(Refusal::Rule { code: 3 }));
    assert_eq!(done(ours.put_ruled("unknown", "x", "x")).unwrap_err(), Error::Refused(Refusal::NoRule));

    // Plain is what anyone may write, and says so.
    done(ours.save("plain", "value")).unwrap();
    assert!(!done(others.query("plain")).unwrap().unwrap().kind.is_authentic());
    network.stop().unwrap();
}

#[test]
fn everybody_has_a_record_of_their_own_in_a_list_of_any_length() {
    let network = network("udp=12,tcp=2,udp+tcp=2");
    let owners: Vec<OwnerKey> = (0..40).map(|_| OwnerKey::generate().unwrap()).collect();
    for (n, owner) in owners.iter().enumerate() {
        let value = format!("{n} {}", "x".repeat(200));
        let saved = done(service(&network, n % 16).put_owned(owner, "guests", OwnedMode::Controlled, value, None));
        assert!(saved.unwrap().accepted.len() >= 7);
    }
    // Far more than one datagram has room for.
    for asks in [3, 14] {
        let report = done(service(&network, asks).get(service(&network, asks).key_id("guests"))).unwrap();
        let found: BTreeSet<[u8; 33]> = report
            .of_owners
            .iter()
            .map(|found| match &found.record.kind {
                RecordKind::Owned(owned) => owned.owner,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(found, owners.iter().map(|owner| *owner.public_key().as_bytes()).collect());
        assert_eq!((report.found, report.deleted), (None, None));
    }
    let seventh = done(service(&network, 11).get_owned(&owners[7].public_key(), "guests")).unwrap().unwrap();
    assert!(seventh.starts_with(b"7 xxx"));
    // Nobody has alone what others have already, not even one of them.
    for owner in [&owners[3], &OwnerKey::generate().unwrap()] {
        let alone = done(service(&network, 2).put_owned(owner, "guests", OwnedMode::Secured, "mine", None));
        assert_eq!(alone.unwrap_err(), Error::Refused(Refusal::Taken));
    }
    // One of them goes, and only that one.
    done(service(&network, 5).delete_owned(&owners[7], "guests", OwnedMode::Controlled)).unwrap();
    let report = done(service(&network, 9).get(service(&network, 9).key_id("guests"))).unwrap();
    assert_eq!(report.of_owners.len(), 39);
    network.stop().unwrap();
}

#[test]
fn what_no_record_can_say_is_told_at_once() {
    let service = DHTService::start(Config::default()).unwrap();
    let owner = OwnerKey::generate().unwrap();
    let put =
        |name: &str, expiry| done(service.put_owned(&owner, name, OwnedMode::Secured, "value", expiry)).unwrap_err();
    for expiry in [0, 999_999_999, 10_000_000_000] {
        assert_eq!(put("name", Some(expiry)), Error::BadExpiry { expiry });
    }
    assert_eq!(put("name", Some(1_000_000_000)), Error::Refused(Refusal::Late));
    let long = "x".repeat(513);
    assert_eq!(put(&long, None), Error::NameTooLong { size: 513, limit: 512 });
    assert_eq!(done(service.put_ruled(&long, "", "")).unwrap_err(), Error::NameTooLong { size: 513, limit: 64 });
}

#[test]
fn of_several_who_swap_at_once_the_one_who_is_told_so_has_won() {
    let network = network("udp=12");
    let (key, salt) = (SigningKey::generate().unwrap(), Salt::default());
    let mut sequence = done(service(&network, 0).put_signed(&key, &salt, "start", None)).unwrap().version;
    for round in 0..20 {
        let expected = i64::try_from(sequence.0).ok();
        let value = |node: usize| format!("of node {node} in round {round}").into_bytes();
        let swaps: Vec<_> =
            (1..5).map(|node| (node, service(&network, node).put_signed(&key, &salt, value(node), expected))).collect();
        let ended: Vec<_> = swaps.into_iter().map(|(node, swap)| (node, done(swap))).collect();
        let won: Vec<_> = ended.iter().filter_map(|(node, result)| Some((*node, result.as_ref().ok()?))).collect();
        assert!(won.len() <= 1, "{won:?}");
        for reader in 6..12 {
            let found = done(service(&network, reader).get_signed(&key.public_key(), &salt)).unwrap().unwrap();
            if let Some((node, receipt)) = won.first() {
                assert_eq!((found.value, found.sequence as u64), (value(*node), receipt.version.0), "round {round}");
            }
            sequence = sequence.max(Version(found.sequence as u64));
        }
    }
}

#[test]
fn an_owner_keeps_to_the_time_it_has_set_itself() {
    let network = network("udp=6");
    let owner = OwnerKey::generate().unwrap();
    let put = |expiry| done(service(&network, 1).put_owned(&owner, "name", OwnedMode::Secured, "value", expiry));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    put(Some(now + 2)).unwrap();
    // Seconds of the clock, not of a wait.
    let until = Instant::now() + LONG;
    let refused = loop {
        assert!(Instant::now() < until, "the time is never over");
        match put(Some(now + 2)) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(refused, Error::Refused(Refusal::Late));
    assert_eq!(put(None).unwrap_err(), Error::Refused(Refusal::Late));
    let deleted = done(service(&network, 4).delete_owned(&owner, "name", OwnedMode::Secured));
    assert_eq!(deleted.unwrap_err(), Error::Refused(Refusal::Late));
}

#[test]
fn a_record_that_was_made_elsewhere_is_saved_as_it_is() {
    let network = network("udp=6");
    let owner = SigningKey::generate().unwrap();
    done(service(&network, 0).put_signed(&owner, &Salt::default(), "value", None)).unwrap();
    let id = service(&network, 1).key_id(owner.public_key().key(&Salt::default()));
    let record = done(service(&network, 1).get(id)).unwrap().found.unwrap().record;
    assert!(done(service(&network, 2).put(id, record.clone(), Expect::Anything)).is_ok());
    let elsewhere = service(&network, 2).key_id("elsewhere");
    assert_eq!(
        done(service(&network, 2).put(elsewhere, record, Expect::Anything)).unwrap_err(),
        Error::Refused(Refusal::Forged)
    );
    network.stop().unwrap();
}

#[test]
fn a_key_whose_owner_has_sealed_nothing_is_left_alone_by_others() {
    let network = network("udp=6");
    let (first, second) = (OwnerKey::generate().unwrap(), OwnerKey::generate().unwrap());
    let (ours, others) = (service(&network, 0), service(&network, 3));
    // As other programs make them.
    let claim = Claim { key: b"name", data: b"first", expiry: None, mode: OwnedMode::Secured };
    let owned = Owned {
        name: b"name"[..].into(),
        owner: *first.public_key().as_bytes(),
        mode: OwnedMode::Secured,
        expiry: None,
        signature: first.sign(&claim).0,
        since: Version::at(1_700_000_000_000),
        seal: None,
    };
    let (version, day) = (Version::at(1_700_000_000_000), Duration::from_secs(24 * 3600));
    let record = Record::new(RecordKind::Owned(Box::new(owned)), &b"first"[..], version, day);
    done(ours.put(ours.key_id("name"), record, Expect::Anything)).unwrap();
    let taken = done(others.put_owned(&second, "name", OwnedMode::Secured, "second", None));
    assert!(is_taken(&taken.unwrap_err()));
    assert_eq!(done(others.query("name")).unwrap().unwrap().value, b"first");
    // Its owner can seal it later.
    done(ours.put_owned(&first, "name", OwnedMode::Secured, "sealed", None)).unwrap();
    assert_eq!(done(others.query("name")).unwrap().unwrap().value, b"sealed");
    network.stop().unwrap();
}

#[test]
fn what_a_key_is_made_of_can_be_saved_as_a_value_and_takes_nobodys_place() {
    let network = network("udp=6");
    let (ours, others) = (service(&network, 0), service(&network, 3));
    let (signer, owner, salt) = (SigningKey::generate().unwrap(), OwnerKey::generate().unwrap(), Salt::default());
    let signed = done(ours.put_signed(&signer, &salt, "signed", None)).unwrap().key;
    done(ours.put_owned(&owner, "name", OwnedMode::Secured, "owned", None)).unwrap();
    done(ours.save("film", "plain")).unwrap();
    // Each of these values has the hash that is the key of another's record.
    assert_eq!(done(others.put_immutable(signer.public_key().key(&salt))).unwrap().key, signed);
    for name in ["name", "film"] {
        let receipt = done(others.put_immutable(name)).unwrap();
        assert_eq!(receipt.key, others.key_id(name));
        assert_eq!(done(ours.get_immutable(receipt.key)).unwrap().unwrap(), name.as_bytes());
    }
    assert_eq!(done(others.get_signed(&signer.public_key(), &salt)).unwrap().unwrap().value, b"signed");
    assert_eq!(done(others.query("name")).unwrap().unwrap().value, b"owned");
    assert_eq!(done(others.query("film")).unwrap().unwrap().value, b"plain");
    assert_eq!(done(ours.put_signed(&signer, &salt, "again", Some(1))).unwrap().version, Version(2));
    done(ours.put_owned(&owner, "name", OwnedMode::Secured, "again", None)).unwrap();
    done(ours.save("film", "again")).unwrap();
    assert_eq!(done(others.query("film")).unwrap().unwrap().value, b"again");
    network.stop().unwrap();
}

#[test]
fn the_ledger_tells_what_is_kept_alive_until_it_is_forgotten() {
    let network = network("udp=6");
    let (ours, others) = (service(&network, 0), service(&network, 3));
    assert_eq!(done(ours.ledger()).unwrap(), []);
    let receipt = done(ours.save("key", "value")).unwrap();
    let ledger = done(ours.ledger()).unwrap();
    let [entry] = &ledger[..] else { panic!("{ledger:?}") };
    assert_eq!((entry.key, &entry.record.value[..]), (receipt.key, &b"value"[..]));
    let last = entry.last.unwrap();
    assert_eq!((last.accepted, last.refused), (receipt.accepted.len() + usize::from(receipt.kept_here), 0));
    let day = Duration::from_secs(24 * 3600);
    assert!(entry.due > day / 2 && entry.due < day && entry.ends > entry.due && entry.ends <= day, "{entry:?}");

    // Another node keeps alive what it has not saved, and cannot write.
    let signer = SigningKey::generate().unwrap();
    let key = done(ours.put_signed(&signer, &Salt::default(), "signed", None)).unwrap().key;
    assert!(done(others.keep(key)).unwrap().found.is_some());
    let start = Instant::now();
    // It publishes it at once; this looks until that has ended.
    let published = loop {
        let ledger = done(others.ledger()).unwrap();
        assert_eq!((ledger.len(), ledger[0].key), (1, key));
        match ledger[0].last {
            Some(last) => break last,
            None => assert!(start.elapsed() < LONG, "{ledger:?}"),
        }
        std::thread::yield_now();
    };
    assert!(published.accepted > 0);
    assert_eq!(done(others.forget(key)).unwrap(), 1);
    assert_eq!((done(others.forget(key)).unwrap(), done(others.ledger()).unwrap()), (0, vec![]));
    assert_eq!(done(ours.ledger()).unwrap().len(), 2);
    assert!(
        done(ours.get_signed(&signer.public_key(), &Salt::default())).unwrap().is_some(),
        "forgotten is not deleted"
    );
    network.stop().unwrap();
}

/// What was signed elsewhere is saved by a node that does not have the key, and again when it has been changed.
#[test]
fn what_was_signed_elsewhere_can_be_saved_by_anybody() {
    let network = network("udp=5,tcp=5,udp+tcp=2");
    let (ours, others) = (service(&network, 0), service(&network, 7));
    let (owner, stranger) = (OwnerKey::generate().unwrap(), OwnerKey::generate().unwrap());
    let put = |service: &DHTService, owner: &OwnerKey, data: &str, mode| {
        let claim = Claim { key: b"signed elsewhere", data: data.as_bytes(), expiry: None, mode };
        done(service.put_owned_signed(&owner.public_key(), &claim, &owner.sign(&claim)))
    };
    let first = put(ours, &owner, "first", OwnedMode::Secured).unwrap();
    let second = put(others, &owner, "second", OwnedMode::Secured).unwrap();
    assert!(second.version > first.version);
    assert_eq!(done(ours.query("signed elsewhere")).unwrap().unwrap().value, b"second");
    assert!(is_taken(&put(ours, &stranger, "mine", OwnedMode::Secured).unwrap_err()));
    assert!(is_taken(&put(ours, &stranger, "mine", OwnedMode::Controlled).unwrap_err()));
    // A signature of something else is none.
    let claim = |data| Claim { key: b"signed elsewhere", data, expiry: None, mode: OwnedMode::Secured };
    let forged = ours.put_owned_signed(&owner.public_key(), &claim(b"third"), &owner.sign(&claim(b"fourth")));
    assert_eq!(done(forged).unwrap_err(), Error::Refused(Refusal::Forged));
    // What the owner seals counts for more from then on.
    done(others.put_owned(&owner, "signed elsewhere", OwnedMode::Secured, "sealed", None)).unwrap();
    assert!(is_taken(&put(ours, &owner, "first", OwnedMode::Secured).unwrap_err()));
    assert_eq!(done(ours.query("signed elsewhere")).unwrap().unwrap().value, b"sealed");
    network.stop().unwrap();
}
