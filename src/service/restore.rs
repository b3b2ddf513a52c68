//! The start of a node from what was kept of it.

use kademlia_gateways::{Contact, Id, NetworkId};

use super::inner::StartError;
use super::saver::wall;
use super::threads::calmly;
use crate::core::{Input, MAX_FORMER, Node, Time};
use crate::persist::{Identity, SavedContact, SavedPublication, SavedRecord, SavedState, StateStore};

/// A [`StateStore`], and what it had kept but for the records.
pub(super) struct Restored {
    pub(super) store: Box<dyn StateStore>,
    pub(super) identity: Option<Identity>,
    pub(super) contacts: Vec<SavedContact>,
    pub(super) notices: Vec<String>,
    records: Vec<SavedRecord>,
    published: Vec<SavedPublication>,
}

impl Restored {
    /// Loads the state of a node of this network.
    pub(super) fn load(
        mut store: Box<dyn StateStore>,
        network: NetworkId,
        key_bytes: usize,
    ) -> Result<Self, StartError> {
        let loaded = calmly(|| store.load()).unwrap_or_else(|panic| Err(panic.into()));
        let SavedState { identity, mut contacts, records, published, mut notices } =
            loaded.map_err(StartError::State)?;
        let is_other = |saved: &Identity| saved.network != network || usize::from(saved.key_bytes) != key_bytes;
        if identity.as_ref().is_some_and(is_other) {
            return Err(StartError::OtherNetwork);
        }
        if contacts.len() > MAX_FORMER {
            let (left_out, all) = (contacts.len() - MAX_FORMER, contacts.len());
            notices.push(format!(
                "{left_out} of {all} saved contacts are left out: the last {MAX_FORMER} that answered are asked"
            ));
            contacts.truncate(MAX_FORMER);
        }
        notices.iter().for_each(|notice| log::warn!("{notice}"));
        Ok(Restored { store, identity, contacts, notices, records, published })
    }

    /// The id that the node had.
    pub(super) fn id(&self) -> Option<Id> {
        self.identity.map(|identity| identity.id)
    }

    /// Says so where the node is told to be another than it was.
    pub(super) fn compare(&mut self, id: Id) {
        if let Some(saved) = self.id().filter(|saved| *saved != id) {
            let notice = format!(
                "the saved id {saved} is given up for {id}, as the node is told; others know it by the old one"
            );
            log::warn!("{notice}");
            self.notices.push(notice);
        }
    }

    /// Gives a node its records back. What it does not take is to be forgotten where it was kept.
    pub(super) fn fill(&mut self, node: &mut Node<Contact>) {
        let now = wall();
        let mut unheard = Vec::new();
        let (mut records, mut published) = (Vec::new(), Vec::new());
        for saved in std::mem::take(&mut self.records) {
            records.push((saved.key, saved.record.author()));
            if let Some(held) = saved.lived(now) {
                node.handle(Time::ZERO, Input::ResumeRecord(held), &mut unheard);
                unheard.clear();
            }
        }
        for saved in std::mem::take(&mut self.published) {
            published.push((saved.key, saved.record.author()));
            node.handle(Time::ZERO, Input::ResumePublished(saved.resumed(now)), &mut unheard);
        }
        node.forget_changes();
        records.retain(|(key, author)| !node.holds(*key, *author));
        published.retain(|(key, author)| !node.publishes(*key, *author));
        node.change_again(records, published, false);
    }
}
