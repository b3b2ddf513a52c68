//! The end of a swap that others have tried as well: what the one who has won wrote becomes the newest everywhere.
//!
//! Of several who swap at once at most one has more than half of the holders. The others have their values at the rest, under
//! versions that may be higher, or as high, so that they would spread. So who has won writes once more, above all versions
//! that it was told of, and each holder takes that only in place of what it said it had.

use std::sync::Arc;

use kademlia_gateways::{Expect, Peer, Record, RecordKind, Refusal, Request, Token, Version};

use super::io::{Output, Rejection, Writer};
use super::node::Node;
use super::task::Work;
use super::write::Writing;

/// What a swap keeps in order to settle.
#[derive(Debug)]
pub(crate) struct Swap<P: Peer> {
    /// Who was asked to keep the record, and by which right.
    pub(super) tokens: Vec<(P, Token)>,
    /// What writes the record anew, if that takes a key.
    pub(super) writer: Option<Arc<dyn Writer>>,
    state: State<P>,
}

#[derive(Debug)]
enum State<P: Peer> {
    /// It is not known yet who has won.
    Open,
    /// It has won so, and writes once more.
    Settling(Box<Won<P>>),
    /// It writes no more.
    Settled,
}

/// How a swap has ended, but for its contenders.
#[derive(Debug)]
struct Won<P: Peer> {
    record: Record,
    expect: Expect,
    accepted: Vec<P>,
    refused: Vec<(P, Rejection)>,
}

impl<P: Peer> Swap<P> {
    pub(super) fn new(tokens: Vec<(P, Token)>, writer: Option<Arc<dyn Writer>>) -> Self {
        Swap { tokens, writer, state: State::Open }
    }

    /// There is no time left to settle.
    pub(super) fn give_up(&mut self) {
        if matches!(self.state, State::Open) {
            self.state = State::Settled;
        }
    }
}

impl<P: Peer> Node<P> {
    /// Writes once more what has won against others. Gives the write back if it has ended.
    pub(super) fn settle(&mut self, id: u64, mut writing: Writing<P>, out: &mut Vec<Output<P>>) -> Option<Writing<P>> {
        let Some(swap) = &mut writing.swap else { return Some(writing) };
        match std::mem::replace(&mut swap.state, State::Settled) {
            State::Settled => return Some(writing),
            State::Settling(won) => {
                if writing.accepted.len() <= writing.refused.len() {
                    // Somebody has gone on from what had won, or nobody answers any more.
                    let Won { record, expect, accepted, refused } = *won;
                    (writing.record, writing.expect) = (record, expect);
                    (writing.accepted, writing.refused) = (accepted, refused);
                }
                return Some(writing);
            }
            State::Open => {}
        }
        if writing.accepted.len() <= writing.refused.len() {
            return Some(writing);
        }
        let Some(above) = self.contender(&writing) else { return Some(writing) };
        let above = above.max(writing.record.version);
        let Some(record) = self.rewritten(&writing, above) else { return Some(writing) };
        let stores = stores(&writing, &record);
        if stores.is_empty() {
            return Some(writing);
        }
        let won = Won {
            record: std::mem::replace(&mut writing.record, record),
            expect: writing.expect,
            accepted: std::mem::take(&mut writing.accepted),
            refused: std::mem::take(&mut writing.refused),
        };
        writing.expect = Expect::Version(above);
        writing.pending = stores.len();
        if let Some(swap) = &mut writing.swap {
            swap.state = State::Settling(Box::new(won));
        }
        if let Some(task) = self.tasks.get_mut(&id) {
            task.work = Work::Writing(writing);
        }
        for (peer, store) in stores {
            self.send_store(id, peer, store, out);
        }
        None
    }

    /// The highest version that others have written meanwhile: at those who refused, or here.
    fn contender(&self, writing: &Writing<P>) -> Option<Version> {
        let told = writing.refused.iter().filter_map(|(_, why)| held(why));
        let here = self.store.common(self.now, &writing.key).filter(|own| match writing.expect {
            Expect::Version(expected) => own.version > expected,
            Expect::Absent => !own.is_tombstone(),
            Expect::Anything => false,
        });
        told.chain(here.map(|own| own.version)).max()
    }

    /// What was written, above this version. `None` if it cannot be written anew.
    fn rewritten(&mut self, writing: &Writing<P>, above: Version) -> Option<Record> {
        let writer = writing.swap.as_ref().and_then(|swap| swap.writer.clone());
        let lifetime = self.params.record_lifetime;
        match (&writing.record.kind, writer) {
            (RecordKind::Plain | RecordKind::Tombstone, _) => {
                // Above those as well that were written at the same time and of which nobody has told.
                let version = Version(above.0.checked_add(Version::at(1000).0)?);
                self.last_version = self.last_version.max(version);
                Some(Record { version, ..writing.record.clone() })
            }
            (_, Some(writer)) => {
                let newest = Record { version: above, ..writing.record.clone() };
                writer.write(Some(&newest), above, lifetime).ok()
            }
            (_, None) => None,
        }
    }
}

/// The version that somebody refused a swap for.
fn held(reason: &Rejection) -> Option<Version> {
    match reason {
        Rejection::Refused(Refusal::Conflict { held }) => *held,
        _ => None,
    }
}

/// To each holder the record, in place of what that has said it holds.
fn stores<P: Peer>(writing: &Writing<P>, record: &Record) -> Vec<(P, Request)> {
    let Some(swap) = &writing.swap else { return Vec::new() };
    let accepted = writing.accepted.iter().map(|peer| (peer, writing.record.version));
    let refused = writing.refused.iter().filter_map(|(peer, why)| Some((peer, held(why)?)));
    let store = |(peer, version): (&P, Version)| {
        let (_, token) = swap.tokens.iter().find(|(other, _)| other.id() == peer.id())?;
        let expect = Expect::Version(version);
        let store = Request::Store { key: writing.key, record: record.clone(), token: *token, expect };
        Some((peer.clone(), store))
    };
    accepted.chain(refused).filter_map(store).collect()
}
