//! Nodes that lie about records hinder nobody who writes or reads what proves its author.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support {
    pub(crate) mod script;
    pub(crate) mod world;
}

use std::sync::Arc;
use std::time::Duration;

use kademlia_dht::core::{Command, Content, OperationError, OperationId, Outcome, Params, QueryReport, Writer};
use kademlia_dht::gateway::{Author, Body, Expect, Found, Id, Reply, Request, Token};
use kademlia_dht::signing::owned::{Claim, OwnerKey};
use kademlia_dht::{Owned, OwnedMode, Record, RecordKind, Refusal, Rules, Seal, Version};
use support::script::{Script, found, held, peer};
use support::world::{Handle, World};

const NAME: &[u8] = b"name";
const DAY: Duration = Duration::from_secs(86_400);
const NOW: u64 = 1_700_000_000_000;

fn key() -> Id {
    Rules::default().hash(NAME)
}

fn owner(n: u8) -> OwnerKey {
    OwnerKey::from_bytes(&[n; 32]).unwrap()
}

fn id(n: u8) -> [u8; 33] {
    *owner(n).public_key().as_bytes()
}

fn owned(n: u8, mode: OwnedMode, value: &str, version: Version, since: Version) -> Record {
    let data = value.as_bytes();
    let signature = owner(n).sign(&Claim { key: NAME, data, expiry: None, mode });
    let seal = Some(Seal(owner(n).seal(&signature, version, since).0));
    let (name, owner) = (NAME.into(), id(n));
    let owned = Owned { name, owner, mode, expiry: None, signature: signature.0, since, seal };
    Record::new(RecordKind::Owned(Box::new(owned)), data.to_vec(), version, DAY)
}

fn record(n: u8, mode: OwnedMode) -> Record {
    owned(n, mode, "value", Version(7), Version(7))
}

/// What a liar says: the key is its own, and was before all others.
fn claim() -> Record {
    owned(99, OwnedMode::Secured, "a lie", Version(u64::MAX), Version(0))
}

fn answer(records: Vec<Record>, more: bool) -> Reply<Handle> {
    let held = records.iter().find(|record| record.author() == Author::Any).map(|record| record.version);
    Reply::Found(Found { records, more, held, contacts: Vec::new(), token: Token(1) })
}

/// A node that has met so many peers.
fn script(peers: u8) -> Script {
    let mut script = Script::with(Params { k: 8, alpha: 8, ..World::sha1_params() });
    (1..=peers).for_each(|n| script.meet(peer(n)));
    script.sent.clear();
    script
}

fn queried(script: &Script) -> &QueryReport<Handle> {
    match &script.done[&OperationId(1)] {
        Ok(Outcome::Queried(report)) => report,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_owner_is_found_behind_any_number_of_others() {
    let mut owners: Vec<u8> = (1..=4).collect();
    owners.sort_by_key(|n| id(*n));
    let mut script = script(1);
    script.start(1, Command::QueryOf { key: key(), owner: id(owners[3]) });
    for page in owners.chunks(2) {
        let records = page.iter().map(|n| record(*n, OwnedMode::Controlled)).collect();
        script.answer(peer(1), answer(records, page[1] != owners[3]));
    }
    assert_eq!(queried(&script).of_owners[0].record, record(owners[3], OwnedMode::Controlled));
}

#[test]
fn who_always_has_more_is_not_asked_for_ever() {
    let mut others: Vec<u8> = (1..=200).collect();
    others.sort_by_key(|n| id(*n));
    let mut params = Params { k: 8, alpha: 8, ..World::sha1_params() };
    params.limits.records_per_key = 10;
    let mut script = Script::with(params);
    script.meet(peer(1));
    script.start(1, Command::QueryOf { key: key(), owner: id(250) });
    let mut pages = 0;
    for n in others {
        if script.done.contains_key(&OperationId(1)) {
            break;
        }
        script.answer(peer(1), answer(vec![record(n, OwnedMode::Controlled)], true));
        pages += 1;
    }
    assert_eq!((pages, queried(&script).of_owners.len()), (10, 0));

    // Nor who goes round in a circle.
    script.done.clear();
    script.start(1, Command::QueryOf { key: key(), owner: id(250) });
    for _ in 0..2 {
        script.answer(peer(1), answer(vec![record(1, OwnedMode::Controlled)], true));
    }
    assert!(script.done.contains_key(&OperationId(1)));
}

#[test]
fn a_claim_to_hold_more_than_is_shown_hides_no_owner() {
    let mut script = script(2);
    script.start(1, Command::Query { key: key() });
    script.answer(peer(1), answer(vec![record(1, OwnedMode::Controlled)], false));
    script.answer(peer(2), held(u64::MAX));
    script.answer(peer(2), held(u64::MAX)); // Asked again with a proof of the address.
    assert_eq!(queried(&script).of_owners.len(), 1);
}

#[test]
fn one_who_says_that_a_shared_key_is_theirs_hides_no_owner() {
    let mut script = script(3);
    script.start(1, Command::Query { key: key() });
    for n in 1..=2 {
        script.answer(peer(n), answer(vec![record(1, OwnedMode::Controlled)], false));
    }
    script.answer(peer(3), answer(vec![claim()], false));
    let report = queried(&script);
    assert_eq!((report.of_owners.len(), &report.found), (1, &None));
}

/// Writes as an owner who was never here.
#[derive(Debug)]
struct First(OwnedMode);

impl Writer for First {
    fn author(&self) -> Author {
        record(1, self.0).author()
    }

    fn write(&self, _: Option<&Record>, version: Version, _: Duration) -> Result<Record, Refusal> {
        Ok(owned(1, self.0, "value", version, version))
    }
}

/// Saves, while so many of four holders lie. Gives what the others are asked to store.
fn save(mode: OwnedMode, expect: Expect, lies: &[Reply<Handle>]) -> Result<Record, OperationError<Handle>> {
    let mut script = script(4);
    let content = Content::Written(Arc::new(First(mode)));
    script.start(1, Command::Save { key: key(), content, expect, unix_milliseconds: NOW });
    let honest = (lies.len()..4).map(|_| found(Vec::new()));
    for (n, reply) in (1..).zip(lies.iter().cloned().chain(honest)) {
        script.answer(peer(n), reply.clone());
        let is_find = |body: &Body<Handle>| matches!(body, Body::Request(Request::FindValue { .. }));
        if script.sent.iter().any(|(to, message)| *to == u32::from(n) && is_find(&message.body)) {
            script.answer(peer(n), reply); // Asked again with a proof of the address.
        }
    }
    if let Some(result) = script.done.remove(&OperationId(1)) {
        result?;
    }
    match script.request_to(peer(4)).map(|message| message.body) {
        Some(Body::Request(Request::Store { record, .. })) => Ok(record),
        other => panic!("{other:?}"),
    }
}

#[test]
fn versions_that_others_say_they_hold_raise_none_that_proves_its_author() {
    let plain = Record::plain("a lie", Version(u64::MAX), DAY);
    for mode in [OwnedMode::Secured, OwnedMode::Controlled] {
        for lie in [held(u64::MAX), answer(vec![plain.clone()], false), answer(vec![claim()], false)] {
            for expect in [Expect::Anything, Expect::Absent] {
                let is_claim = matches!(&lie, Reply::Found(found) if found.records == [claim()]);
                if is_claim && expect == Expect::Absent && mode == OwnedMode::Secured {
                    continue; // Something is there that proves its author, if not that they were first.
                }
                let record = save(mode, expect, std::slice::from_ref(&lie)).unwrap();
                assert!(record.version < Version::at(NOW + 1), "{mode:?}, {expect:?}, {lie:?}: {record:?}");
            }
        }
    }
}

#[test]
fn a_key_is_taken_if_most_holders_say_so() {
    for mode in [OwnedMode::Secured, OwnedMode::Controlled] {
        let taken = |count| save(mode, Expect::Anything, &vec![answer(vec![claim()], false); count]);
        assert_eq!(taken(3), Err(OperationError::Refused(Refusal::Taken)));
        assert!(taken(2).is_ok(), "half of them are not most");
    }
}
