//! What the manager knows of keeping the node's state: what is on its way to the keeper, and who waits for it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam::channel::Sender;
use kademlia_gateways::{Contact, Id};

use super::events::{Event, Publisher};
use super::keeper::{Failure, Flush, Kept, Order};
use super::status::PersistenceStatus;
use crate::core::{ContactNews, Input, Node, Time};
use crate::persist::{Batch, Identity, SavedContact, Wall};

/// The most records that a batch has, unless it has all.
const MOST: usize = 4096;

/// Contacts are hints: who has come is written down so long after the last time, and who has only answered again, so long.
const AFTER_CHANGES: Duration = Duration::from_secs(10);
const AFTER_ANSWERS: Duration = Duration::from_secs(600);

/// What the keeper is at.
enum Work {
    /// It waits for a batch.
    None,
    /// It writes this.
    Writing(Arc<Batch>),
    /// It has written one, and waits for a while if nobody presses.
    Resting,
}

/// The manager's side of keeping the state.
pub(super) struct Saver {
    orders: Sender<Order>,
    publisher: Arc<Publisher>,
    work: Work,
    identity: Identity,
    /// Whether that is to be written.
    is_identity_new: bool,
    waiting: Vec<Flush>,
    failure: Option<String>,
    commits: u64,
    failed_commits: u64,
    contacts_saved: Option<Time>,
    /// Those who are asked when the first gateway is there.
    former: Vec<SavedContact>,
    notices: Vec<String>,
}

impl Saver {
    /// `saved` is whose state was loaded.
    pub(super) fn new(
        orders: Sender<Order>,
        publisher: Arc<Publisher>,
        identity: Identity,
        saved: Option<Identity>,
        former: Vec<SavedContact>,
        notices: Vec<String>,
    ) -> Self {
        Saver {
            orders,
            publisher,
            work: Work::None,
            identity,
            is_identity_new: saved != Some(identity),
            waiting: Vec::new(),
            failure: None,
            commits: 0,
            failed_commits: 0,
            contacts_saved: None,
            former,
            notices,
        }
    }

    /// Hands over what has changed, if the keeper has time for it.
    pub(super) fn save(&mut self, node: &mut Node<Contact>, now: Time) {
        let presses = !self.waiting.is_empty();
        match (&self.work, &self.failure) {
            (Work::Writing(_), _) => return,
            // It is tried again soon. Until then nobody need wait.
            (Work::Resting, Some(_)) => return self.tell(false),
            (Work::Resting, None) if !presses => return,
            (Work::Resting | Work::None, _) => {}
        }
        let contacts = self.wants_contacts(node.contact_news(), now, presses);
        if node.changes() > 0 || contacts || self.is_identity_new {
            let batch = self.take(node, now, MOST, contacts);
            // Those go on waiting for whom there is more to be written.
            let flushes = if node.changes() == 0 { std::mem::take(&mut self.waiting) } else { Vec::new() };
            self.work = Work::Writing(Arc::clone(&batch));
            self.orders.send(Order::Commit { batch, flushes, last: false }).ok();
        } else if presses {
            self.tell(true);
        }
    }

    /// Hands over all that has changed: the node stops.
    pub(super) fn save_last(&mut self, node: &mut Node<Contact>, now: Time) {
        if let Work::Writing(batch) = std::mem::replace(&mut self.work, Work::None) {
            // Nobody will be here to hear that it failed.
            self.note_again(node, &batch);
        }
        let contacts = self.former.is_empty() && node.contact_news() != ContactNews::None;
        let batch = self.take(node, now, usize::MAX, contacts);
        let flushes = std::mem::take(&mut self.waiting);
        if batch.is_empty() && flushes.is_empty() {
            return;
        }
        self.orders.send(Order::Commit { batch, flushes, last: true }).ok();
    }

    /// The node has another id.
    pub(super) fn id_changed(&mut self, id: Id) {
        self.is_identity_new |= self.identity.id != id;
        self.identity.id = id;
    }

    /// Somebody waits until all is written that has happened.
    pub(super) fn flush(&mut self, flush: Flush) {
        self.waiting.push(flush);
    }

    /// The keeper has done with a batch.
    pub(super) fn kept(&mut self, node: &mut Node<Contact>, kept: Kept) {
        self.work = Work::Resting;
        match kept.failure {
            None => {
                self.commits += 1;
                if self.failure.take().is_some() {
                    log::info!("the node's state is kept again");
                    self.publisher.publish(&Event::PersistenceRestored);
                }
            }
            Some(failure) => self.failed(node, &kept.batch, failure),
        }
    }

    fn failed(&mut self, node: &mut Node<Contact>, batch: &Batch, failure: Failure) {
        let Failure { cause, lost } = failure;
        self.failed_commits += 1;
        self.note_again(node, batch);
        if lost {
            node.change_all();
        }
        if self.failure.as_ref() != Some(&cause) {
            log::warn!("the node's state cannot be kept: {cause}");
            self.publisher.publish(&Event::PersistenceFailed { cause: cause.clone() });
            self.failure = Some(cause);
        }
    }

    /// What is in a batch counts as changed.
    fn note_again(&mut self, node: &mut Node<Contact>, batch: &Batch) {
        self.is_identity_new |= batch.identity.is_some();
        if batch.whole {
            node.change_all();
        }
        let records = batch.records.iter().map(|change| (change.key, change.author));
        let published = batch.published.iter().map(|change| (change.key, change.author));
        node.change_again(records, published, batch.contacts.is_some());
        if batch.contacts.is_some() {
            self.contacts_saved = None;
        }
    }

    /// The keeper has waited for long enough.
    pub(super) fn rested(&mut self) {
        if matches!(self.work, Work::Resting) {
            self.work = Work::None;
        }
    }

    /// Those who were known before a restart. Only once there is a gateway can they be asked.
    pub(super) fn take_former(&mut self) -> impl Iterator<Item = Input<Contact>> + use<> {
        let now = wall();
        std::mem::take(&mut self.former).into_iter().map(move |saved| Input::ResumeContact(saved.resumed(now)))
    }

    pub(super) fn status(&self, node: &Node<Contact>) -> PersistenceStatus {
        let writing = if let Work::Writing(batch) = &self.work { batch.len() } else { 0 };
        PersistenceStatus {
            durable: self.failure.is_none(),
            failure: self.failure.clone(),
            commits: self.commits,
            failed_commits: self.failed_commits,
            pending: node.changes() + writing,
            notices: self.notices.clone(),
        }
    }

    fn tell(&mut self, durable: bool) {
        let flushes = std::mem::take(&mut self.waiting);
        if !flushes.is_empty() {
            self.orders.send(Order::Tell { flushes, durable }).ok();
        }
    }

    fn wants_contacts(&self, news: ContactNews, now: Time, presses: bool) -> bool {
        let after = match news {
            // What was saved is all that there is until the first gateway is there.
            _ if !self.former.is_empty() => return false,
            ContactNews::None => return false,
            ContactNews::Changed => AFTER_CHANGES,
            ContactNews::Seen if presses => return false,
            ContactNews::Seen => AFTER_ANSWERS,
        };
        self.contacts_saved.is_none_or(|saved| now.since(saved) >= after)
    }

    fn take(&mut self, node: &mut Node<Contact>, now: Time, most: usize, contacts: bool) -> Arc<Batch> {
        let changes = node.take_changes(now, most, contacts);
        let is_new = std::mem::take(&mut self.is_identity_new) || changes.whole;
        if contacts {
            self.contacts_saved = Some(now);
        }
        Arc::new(Batch::new(wall(), is_new.then_some(self.identity), changes))
    }
}

/// The system's clock.
pub(super) fn wall() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
