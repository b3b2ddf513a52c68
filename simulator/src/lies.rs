//! What liars say of values in the place of the truth.
//!
//! A liar runs the core as it is. It keeps nothing of what it is given to store, and remembers all of it; what it answers is
//! changed on its way out. Contacts stay as they are: this is about values. All liars know what each of them has seen.

use std::collections::BTreeMap;

use bytes::Bytes;
use kademlia_dht::gateway::{
    Body, Found, Id, Message, OwnedMode, Record, RecordKind, Refusal, Reply, Request, Token, Version,
};
use kademlia_dht::signing::owned::OwnerKey;

use crate::handle::{Handle, mix};
use crate::pen::{owned_by, owner};
use crate::random::{Random, unit};

/// Of each kind the highest version.
const HIGHEST: Version = Version(u64::MAX);
const HIGHEST_SIGNED: Version = Version(i64::MAX as u64);

/// A lie about a value. Those about a record fall back on the claim to hold the highest version, where they do not apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    /// Nothing at all.
    Silence,
    /// Nothing but the claim to hold the highest version.
    Claim,
    /// The newest record, with another byte in its value.
    ChangedValue,
    /// The newest record under a higher version.
    HigherVersion,
    /// The newest record with another signature.
    OtherSignature,
    /// The newest value as a plain record of the highest version.
    Plain,
    /// A plain delete of the highest version.
    PlainDelete,
    /// A delete in the author's name.
    Delete,
    /// A record of another key.
    OtherKey,
    /// An older version.
    Replay,
    /// An older version under the highest one.
    RaisedReplay,
    /// Of an owner, the same without the seal that would show it, and as if it were older than all others.
    Unsealed,
    /// A record of the liars' own, signed and sealed, that is said to be older than all others.
    OwnClaim,
}

const LIES: [Lie; 13] = [
    Lie::Silence,
    Lie::Claim,
    Lie::ChangedValue,
    Lie::HigherVersion,
    Lie::OtherSignature,
    Lie::Plain,
    Lie::PlainDelete,
    Lie::Delete,
    Lie::OtherKey,
    Lie::Replay,
    Lie::RaisedReplay,
    Lie::Unsealed,
    Lie::OwnClaim,
];

/// What a liar is asked in the message that it deals with now.
#[derive(Debug, Clone, Copy)]
enum Asked {
    Nodes,
    Value(Id),
    Store,
}

/// All liars of a world.
#[derive(Debug)]
pub(crate) struct Lies {
    share: f64,
    salt: u64,
    random: Random,
    owner: OwnerKey,
    /// What they were given to store, by key, and the keys.
    seen: BTreeMap<Id, Vec<Record>>,
    keys: Vec<Id>,
    asked: Option<Asked>,
    told: u64,
}

impl Lies {
    /// With so large a share of liars among all nodes.
    pub(crate) fn new(share: f64, seed: u64) -> Self {
        let mut random = Random::new(seed, "lies");
        let (salt, owner) = (random.bits(), owner(&mut random));
        Lies { share, salt, random, owner, seen: BTreeMap::new(), keys: Vec::new(), asked: None, told: 0 }
    }

    /// Whether a node lies.
    pub(crate) fn is_liar(&self, node: Handle) -> bool {
        self.share > 0.0 && unit(mix(self.salt ^ u64::from(node.number()))) < self.share
    }

    /// The public key of all liars.
    pub(crate) fn owner(&self) -> [u8; 33] {
        *self.owner.public_key().as_bytes()
    }

    /// How many lies were told.
    pub(crate) fn told(&self) -> u64 {
        self.told
    }

    /// A message comes to a liar. What it is to store it remembers, and makes the core refuse.
    pub(crate) fn hear(&mut self, message: &mut Message<Handle>) {
        self.asked = match &mut message.body {
            Body::Request(Request::FindNode { .. }) => Some(Asked::Nodes),
            Body::Request(Request::FindValue { key, .. }) => Some(Asked::Value(*key)),
            Body::Request(Request::Store { key, record, token, .. }) => {
                self.remember(*key, record);
                *token = Token(!token.0);
                Some(Asked::Store)
            }
            Body::Request(Request::Ping) | Body::Reply(_) => None,
        };
    }

    fn remember(&mut self, key: Id, record: &Record) {
        let seen = self.seen.entry(key).or_default();
        if seen.is_empty() {
            self.keys.push(key);
        }
        if !seen.iter().any(|seen| seen.newness(record).is_eq()) {
            seen.push(record.clone());
        }
    }

    /// Changes what a liar is about to send, if it is an answer.
    pub(crate) fn tell(&mut self, message: &mut Message<Handle>) {
        let lies = match (&mut message.body, self.asked) {
            (Body::Reply(Reply::Found(found)), Some(Asked::Value(key))) => self.distort(&key, found),
            (Body::Reply(Reply::Found(found)), Some(Asked::Nodes)) if self.random.chance(0.5) => {
                found.held = Some(HIGHEST);
                true
            }
            (Body::Reply(reply @ Reply::Refused(_)), Some(Asked::Store)) => {
                let older = Reply::Refused(Refusal::Older { held: HIGHEST });
                *reply = if self.random.chance(0.5) { Reply::Stored } else { older };
                true
            }
            _ => false,
        };
        self.told += u64::from(lies);
    }

    /// Puts a lie in the place of what the core would answer. It is none if there is nothing to be silent about.
    fn distort(&mut self, key: &Id, found: &mut Found<Handle>) -> bool {
        let lie = self.random.pick(&LIES).copied().unwrap_or(Lie::Silence);
        let seen = self.seen.get(key).map(Vec::as_slice).unwrap_or_default();
        let other = self.random.pick(&self.keys).filter(|other| *other != key);
        let elsewhere = other.and_then(|other| self.random.pick(self.seen.get(other)?));
        let record = record_of(lie, seen, elsewhere, &self.owner, &mut self.random);
        found.more = false;
        found.held = (lie != Lie::Silence).then(|| record.as_ref().map_or(HIGHEST, |record| record.version));
        found.records = Vec::from_iter(record);
        lie != Lie::Silence || !seen.is_empty()
    }
}

/// The record in a lie, if there is one. `seen` is what liars have seen of the key, and `elsewhere` a record of another one.
fn record_of(
    lie: Lie,
    seen: &[Record],
    elsewhere: Option<&Record>,
    own: &OwnerKey,
    random: &mut Random,
) -> Option<Record> {
    // Several can have a record under one key: it is about one of them.
    let author = random.pick(seen)?.author();
    let of_author: Vec<&Record> = seen.iter().filter(|record| record.author() == author).collect();
    let newest = *of_author.iter().max_by(|one, other| one.newness(other))?;
    let older: Vec<&Record> = of_author.into_iter().filter(|record| record.newness(newest).is_lt()).collect();
    let older = random.pick(&older).copied();
    let highest = if let RecordKind::Signed(_) = newest.kind { HIGHEST_SIGNED } else { HIGHEST };
    let raised = |record: &Record| Record { version: highest, ..record.clone() };
    match lie {
        Lie::Silence | Lie::Claim => None,
        Lie::ChangedValue => Some(Record { value: flipped(&newest.value, random).into(), ..newest.clone() }),
        Lie::HigherVersion if random.chance(0.5) => Some(raised(newest)),
        Lie::HigherVersion => Some(Record { version: newest.version.next(), ..newest.clone() }),
        Lie::OtherSignature => other_signature(newest, random),
        Lie::Plain => Some(Record { kind: RecordKind::Plain, version: HIGHEST, ..newest.clone() }),
        Lie::PlainDelete => {
            Some(Record { kind: RecordKind::Tombstone, value: Bytes::new(), version: HIGHEST, ..newest.clone() })
        }
        Lie::Delete => delete_of(newest),
        Lie::OtherKey => elsewhere.cloned(),
        Lie::Replay => older.cloned(),
        Lie::RaisedReplay => older.map(raised),
        Lie::Unsealed => unsealed(older.unwrap_or(newest)),
        Lie::OwnClaim => own_claim(newest, own),
    }
}

/// With another bit.
fn flipped(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut flipped = bytes.to_vec();
    let place = random.below(bytes.len() as u64) as usize;
    match flipped.get_mut(place) {
        Some(byte) => *byte ^= 1 << random.below(8),
        None => flipped.push(0),
    }
    flipped
}

fn other_signature(record: &Record, random: &mut Random) -> Option<Record> {
    let mut changed = record.clone();
    let signature = match &mut changed.kind {
        RecordKind::Signed(signed) => &mut signed.signature,
        RecordKind::Owned(owned) => &mut owned.signature,
        _ => return None,
    };
    *signature = flipped(signature, random).try_into().ok()?;
    Some(changed)
}

/// An empty value in the author's name.
fn delete_of(record: &Record) -> Option<Record> {
    let empty: &[u8] = match &record.kind {
        RecordKind::Signed(_) => b"0:",
        RecordKind::Owned(_) => b"",
        _ => return None,
    };
    Some(Record { value: Bytes::from_static(empty), version: record.version.next(), ..record.clone() })
}

/// The same under the highest version and the earliest date, which nothing shows not to be the owner's but that the seal is
/// gone.
fn unsealed(record: &Record) -> Option<Record> {
    let RecordKind::Owned(owned) = &record.kind else { return None };
    let mut owned = owned.clone();
    (owned.seal, owned.since) = (None, Version::default());
    Some(Record { kind: RecordKind::Owned(owned), version: HIGHEST, ..record.clone() })
}

fn own_claim(record: &Record, own: &OwnerKey) -> Option<Record> {
    let RecordKind::Owned(owned) = &record.kind else { return None };
    let value = Bytes::from_static(b"a lie");
    let owned = owned_by(own, &owned.name, OwnedMode::Secured, &value, HIGHEST, Version::default());
    Some(Record { kind: RecordKind::Owned(Box::new(owned)), value, version: HIGHEST, ..record.clone() })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use kademlia_dht::Rules;
    use kademlia_dht::gateway::{Expect, NetworkId, Tag};

    use super::*;
    use crate::pen::Pen;
    use crate::pen::tests::{pens, written};

    fn rules() -> Rules {
        Rules::default()
    }

    /// What liars have seen of an author who wrote twice, and the key.
    fn seen(pen: &Pen) -> (Id, Vec<Record>) {
        let first = written(pen, "the first value of this author", None);
        let key = pen.key(&rules(), &first.value);
        match pen {
            Pen::Immutable => (key, vec![first]),
            _ => (key, vec![written(pen, "the second value of this author", Some(&first)), first]),
        }
    }

    /// Many lies of one kind about one author.
    fn lies(lie: Lie, seen: &[Record]) -> Vec<Record> {
        let other = written(&Pen::Immutable, "of another key", None);
        let mut random = Random::new(1, "test");
        let owner = owner(&mut random);
        let mut lies = Vec::new();
        for _ in 0..40 {
            lies.extend(record_of(lie, seen, Some(&other), &owner, &mut random));
        }
        lies
    }

    #[test]
    fn every_lie_is_refused_or_genuine_or_proves_less() {
        for pen in pens() {
            let (key, seen) = seen(&pen);
            let newest = &seen[0];
            for lie in LIES {
                for record in lies(lie, &seen) {
                    let is_good = rules().check(&key, &record).is_ok();
                    match lie {
                        Lie::ChangedValue
                        | Lie::HigherVersion
                        | Lie::OtherSignature
                        | Lie::Delete
                        | Lie::OtherKey
                        | Lie::RaisedReplay => assert!(!is_good, "{lie:?} of {pen:?}: {record:?}"),
                        Lie::Plain | Lie::PlainDelete => {
                            assert!(is_good && !record.kind.is_authentic() && record.version == HIGHEST);
                            assert!(record.newness(newest).is_lt(), "{pen:?}");
                        }
                        Lie::Replay => assert!(is_good && seen[1..].contains(&record), "{pen:?}"),
                        Lie::Unsealed => {
                            assert!(is_good && record.version == HIGHEST, "{pen:?}");
                            assert!(record.newness(newest).is_lt(), "the seal counts for more than the version");
                        }
                        Lie::OwnClaim => {
                            assert!(is_good && !pen.is_named_in(&record), "{pen:?}");
                            assert!(
                                !matches!(pen, Pen::Owned { mode: OwnedMode::Secured, .. })
                                    || record.newness(newest).is_gt(),
                                "it is said to be older"
                            );
                        }
                        Lie::Silence | Lie::Claim => panic!("{lie:?} has a record: {record:?}"),
                    }
                }
            }
        }
    }

    #[test]
    fn each_lie_is_told_of_the_kinds_that_it_fits() {
        let told = pens().map(|pen| {
            let (_, seen) = seen(&pen);
            LIES.iter().filter(|lie| !lies(**lie, &seen).is_empty()).count()
        });
        assert_eq!(told, [5, 9, 11, 11]);
        assert!(LIES.iter().all(|lie| lies(*lie, &[]).is_empty()), "of what nobody has seen there is nothing to tell");
    }

    fn message(body: Body<Handle>) -> Message<Handle> {
        Message { network: NetworkId::default(), tag: Tag(1), sender: None, also: Vec::new(), body }
    }

    fn found(records: Vec<Record>) -> Found<Handle> {
        Found { records, more: true, held: None, contacts: vec![Handle::of(7)], token: Token(1) }
    }

    /// What becomes of an answer to a request.
    fn answer(liars: &mut Lies, request: Request, reply: Reply<Handle>) -> Reply<Handle> {
        liars.hear(&mut message(Body::Request(request)));
        let mut answer = message(Body::Reply(reply));
        liars.tell(&mut answer);
        let Body::Reply(reply) = answer.body else { panic!("it is no answer any more") };
        reply
    }

    #[test]
    fn no_answer_has_the_truth_and_all_have_the_true_contacts() {
        let pen = &pens()[1];
        let (key, seen) = seen(pen);
        let mut liars = Lies::new(0.5, 1);
        let mut stored = BTreeSet::new();
        for record in seen.iter().cycle().take(40) {
            let (token, expect) = (Token(5), Expect::Anything);
            let store = Request::Store { key, record: record.clone(), token, expect };
            let mut offered = message(Body::Request(store.clone()));
            liars.hear(&mut offered);
            let Body::Request(Request::Store { token, .. }) = offered.body else { panic!("{offered:?}") };
            assert_ne!(token, Token(5), "the core must not keep it");
            let reply = answer(&mut liars, store, Reply::Refused(Refusal::Token));
            stored.insert(format!("{reply:?}"));
        }
        let older = Reply::<Handle>::Refused(Refusal::Older { held: HIGHEST });
        assert_eq!(stored, [format!("{:?}", Reply::<Handle>::Stored), format!("{older:?}")].into());
        assert_eq!(liars.seen[&key].len(), 2, "each once");

        for _ in 0..200 {
            let value = Request::FindValue { key, after: None, proof: None };
            let Reply::Found(told) = answer(&mut liars, value, Reply::Found(found(vec![seen[0].clone()]))) else {
                panic!("another answer")
            };
            assert!(!told.records.contains(&seen[0]) && !told.more && told.contacts == [Handle::of(7)]);
            let nodes = Request::FindNode { target: key };
            let Reply::Found(told) = answer(&mut liars, nodes, Reply::Found(found(Vec::new()))) else {
                panic!("another answer")
            };
            assert!(told.records.is_empty() && [None, Some(HIGHEST)].contains(&told.held));
        }
        assert!((300..=380).contains(&liars.told()), "{}", liars.told());
    }

    #[test]
    fn who_lies_follows_from_the_seed_and_without_a_share_nobody_does() {
        let count = |share, seed| {
            let liars = Lies::new(share, seed);
            (0..10_000).filter(|node| liars.is_liar(Handle::of(*node))).count()
        };
        assert_eq!((count(0.0, 1), count(1.0, 1)), (0, 10_000));
        assert!((4_800..5_200).contains(&count(0.5, 1)) && count(0.5, 1) != count(0.5, 2));
    }
}
