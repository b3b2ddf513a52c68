//! Who takes the manager's turns: the management thread, or the thread of a gateway that has just brought messages.
//!
//! To wake another thread for a message costs as much as all else that is done with it. So where a gateway lends its
//! thread ([`Gateway::lends_thread`](kademlia_gateways::Gateway::lends_thread)), that thread takes the turn itself, if
//! nobody is at it; else, and for commands and timers, the management thread is woken.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use super::bell::Bell;
use super::manager::{Finished, Manager, Turn};
use super::threads::{Crew, calmly};
use crate::core::Time;

/// The manager, and the right to take its turns.
pub(super) struct Turns {
    crew: Crew,
    desk: Mutex<Desk>,
    bell: Bell,
    /// The management thread waits for the desk, and comes first.
    wanted: AtomicBool,
}

struct Desk {
    /// `None` when it has ended.
    manager: Option<Manager>,
    /// When the management thread wakes by itself, if it sleeps.
    wakes: Option<Time>,
}

impl Turns {
    /// `bell` wakes the management thread.
    pub(super) fn new(crew: Crew, manager: Manager, bell: Bell) -> Self {
        let desk = Mutex::new(Desk { manager: Some(manager), wakes: None });
        Turns { crew, desk, bell, wanted: AtomicBool::new(false) }
    }

    /// The management thread: works until the manager has ended. What is open then is answered as the manager is dropped.
    pub(super) fn run(&self) {
        self.bell.wakes_me();
        loop {
            self.wanted.store(true, Ordering::Relaxed);
            let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
            self.wanted.store(false, Ordering::Relaxed);
            let _at_work = self.crew.work();
            let (turn, after) = desk.take(Manager::turn);
            if turn == Some(Turn::Idle) {
                desk.wakes = desk.manager.as_ref().and_then(Manager::next_wake);
                let time = desk.manager.as_ref().and_then(Manager::sleeps);
                drop(desk);
                // Nobody else's code ran in a turn without work, which could have slept here and used up the bell.
                Bell::sleep(time);
                continue;
            }
            drop(desk);
            after.tell();
            if turn.is_none() {
                return;
            }
        }
    }

    /// Messages wait: wakes the management thread.
    pub(super) fn call(&self) {
        self.bell.ring();
    }

    /// Messages wait: takes a turn on this thread, or wakes the management thread if somebody else is at it.
    pub(super) fn take(&self) {
        let Some(mut desk) = self.free_desk() else { return self.call() };
        let _at_work = self.crew.work();
        let (turn, after) = desk.take(Manager::short_turn);
        let next = desk.manager.as_ref().and_then(Manager::next_wake);
        let sleeps_too_long = next.is_some_and(|next| desk.wakes.is_none_or(|wakes| next < wakes));
        drop(desk);
        if turn != Some(Turn::Idle) || sleeps_too_long {
            self.call();
        }
        after.tell();
    }

    fn free_desk(&self) -> Option<MutexGuard<'_, Desk>> {
        if self.wanted.load(Ordering::Relaxed) {
            return None;
        }
        match self.desk.try_lock() {
            Ok(desk) => Some(desk),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl Desk {
    /// Takes a turn; no turn if the manager has ended, or ends by it.
    fn take(&mut self, turn: fn(&mut Manager) -> Turn) -> (Option<Turn>, After) {
        let Some(manager) = &mut self.manager else { return (None, After::default()) };
        let turn = calmly(|| turn(manager));
        let finished = manager.take_finished();
        match turn {
            Ok(turn) if turn != Turn::Last => return (Some(turn), After { finished, ended: None }),
            Ok(_) => {}
            Err(panic) => {
                log::error!("the node has failed: {panic}");
                // A waker of a gateway runs in this, which is foreign.
                calmly(|| manager.fail(&panic)).ok();
            }
        }
        (None, After { finished, ended: self.manager.take() })
    }
}

/// What is left of a turn: to tell those who wait. It runs code of the user, who may wait for this very desk.
#[derive(Default)]
#[must_use]
struct After {
    finished: Vec<Finished>,
    /// Whoever waits for what was open is answered as this is dropped.
    ended: Option<Manager>,
}

impl After {
    fn tell(self) {
        for finished in self.finished {
            if let Err(panic) = calmly(|| finished.tell()) {
                log::error!("who was told of the end of an operation: {panic}");
            }
        }
        if let Err(panic) = calmly(|| drop(self.ended)) {
            log::error!("the end of the node: {panic}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;
    use std::time::{Duration, Instant};

    use crossbeam::channel::{Sender, bounded, unbounded};
    use kademlia_gateways::{Contact, FromGateway, Id};

    use super::super::bell::Post;
    use super::super::config::Config;
    use super::super::events::{Event, EventsError, Publisher};
    use super::super::manager::{Control, Inputs, Place, Start};
    use super::super::pending::Complete;
    use super::super::router::Router;
    use super::super::status::Snapshot;
    use super::*;
    use crate::core::{Command, Node, OperationError, OperationId, Outcome};

    /// Panics when it is looked at, or over the end of its operation.
    struct Fragile {
        bears_a_look: bool,
    }

    impl Complete for Fragile {
        fn complete(self: Box<Self>, _: Result<Outcome<Contact>, OperationError<Contact>>) {
            panic!("it could not bear it");
        }
        fn is_cancelled(&self) -> bool {
            assert!(self.bears_a_look, "it could not bear to be looked at");
            false
        }
    }

    struct Fixture {
        turns: Arc<Turns>,
        control: Post<Control>,
        publisher: Arc<Publisher>,
        snapshot: Arc<Mutex<Snapshot>>,
        _to_manager: Sender<FromGateway>,
    }

    /// A manager that knows nobody and is to begin a query.
    fn fixture(completion: Fragile) -> Fixture {
        let config = Config::default();
        let (control, control_receiver) = unbounded();
        let (commands, commands_receiver) = unbounded();
        let (_to_manager, inbound) = unbounded();
        let inputs = Inputs { control: control_receiver, commands: commands_receiver, inbound };
        let node = Node::new(Id::ZERO, config.params(config.hasher.key_space()), [1; 16], Time::ZERO);
        let publisher = Arc::new(Publisher::new(100));
        let router = Router::new(config.relay, false, Arc::clone(&publisher));
        let snapshot = Arc::default();
        let manager = Manager::new(inputs, node, router, Instant::now(), Arc::clone(&publisher), Arc::clone(&snapshot));
        let bell = Bell::default();
        let control = Post::new(control, &bell);
        let place = Place::take(&Arc::default()).unwrap();
        let command = Command::Query { key: Id::ZERO };
        let start = Start { operation: OperationId(1), command, completion: Box::new(completion), place };
        commands.send(start).ok().unwrap();
        Fixture { turns: Arc::new(Turns::new(Crew::new(), manager, bell)), control, publisher, snapshot, _to_manager }
    }

    #[test]
    fn a_panic_ends_the_node_and_everybody_is_told() {
        let Fixture { turns, control, publisher, snapshot, _to_manager } = fixture(Fragile { bears_a_look: false });
        let events = publisher.subscribe();
        turns.run();
        assert!(control.send(Control::Stop).is_err() && turns.desk.lock().unwrap().manager.is_none());
        let cause = "it panicked: it could not bear to be looked at".to_owned();
        assert_eq!(snapshot.lock().unwrap().failure.as_ref(), Some(&cause));
        let not_found = events.wait_for(Duration::from_secs(10), |event| match event {
            Event::Failed { cause } => Some(cause),
            _ => None,
        });
        assert_eq!(not_found, Ok(cause));
        assert_eq!(events.recv(), Err(EventsError::Stopped));
        // A gateway that brings something now does no harm.
        turns.take();
    }

    #[test]
    fn a_panic_of_who_is_told_of_an_end_is_no_matter_of_the_node() {
        let Fixture { turns, control, snapshot, _to_manager, .. } = fixture(Fragile { bears_a_look: true });
        let working = Arc::clone(&turns);
        let thread = thread::spawn(move || working.run());
        let (done, shown) = bounded(1);
        control.send(Control::Show { done }).unwrap();
        assert_eq!(shown.recv_timeout(Duration::from_secs(10)), Ok(()));
        control.send(Control::Stop).unwrap();
        thread.join().unwrap();
        assert_eq!(snapshot.lock().unwrap().failure, None);
    }
}
