//! Who takes the manager's turns: the management thread, or the thread of a gateway that has just brought messages.
//!
//! To wake another thread for a message costs as much as all else that is done with it. So where a gateway lends its
//! thread ([`Gateway::lends_thread`](kademlia_gateways::Gateway::lends_thread)), that thread takes the turn itself, if
//! nobody is at it; else, and for commands and timers, the management thread is woken.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use super::bell::Bell;
use super::manager::{AtWork, Manager, Turn};
use super::threads::calmly;
use crate::core::Time;

/// The manager, and the right to take its turns.
pub(super) struct Turns {
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
    pub(super) fn new(manager: Manager, bell: Bell) -> Self {
        let desk = Mutex::new(Desk { manager: Some(manager), wakes: None });
        Turns { desk, bell, wanted: AtomicBool::new(false) }
    }

    /// The management thread: works until the manager has ended. What is open then is answered as the manager is dropped.
    pub(super) fn run(&self) {
        self.bell.wakes_me();
        loop {
            self.wanted.store(true, Ordering::Relaxed);
            let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
            self.wanted.store(false, Ordering::Relaxed);
            let Some(turn) = desk.take(Manager::turn) else { return };
            if turn == Turn::Busy {
                continue;
            }
            desk.wakes = desk.manager.as_ref().and_then(Manager::next_wake);
            let time = desk.manager.as_ref().and_then(Manager::sleeps);
            drop(desk);
            // Nobody else's code ran in a turn without work, which could have slept here and used up the bell.
            Bell::sleep(time);
        }
    }

    /// Messages wait: wakes the management thread.
    pub(super) fn call(&self) {
        self.bell.ring();
    }

    /// Messages wait: takes a turn on this thread, or wakes the management thread if somebody else is at it.
    pub(super) fn take(&self) {
        let Some(mut desk) = self.free_desk() else { return self.call() };
        let turn = desk.take(Manager::short_turn);
        let next = desk.manager.as_ref().and_then(Manager::next_wake);
        let sleeps_too_long = next.is_some_and(|next| desk.wakes.is_none_or(|wakes| next < wakes));
        if turn != Some(Turn::Idle) || sleeps_too_long {
            self.call();
        }
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
    /// Takes a turn; `None` if the manager has ended, or ends by it.
    fn take(&mut self, turn: fn(&mut Manager) -> Turn) -> Option<Turn> {
        let _at_work = AtWork::begin();
        match calmly(|| self.manager.as_mut().map(turn)) {
            Ok(None) => return None,
            Ok(Some(Turn::Last)) => {}
            Ok(turn) => return turn,
            Err(panic) => log::error!("the node has ended: {panic}"),
        }
        // Whoever waits is answered by this.
        if let Err(panic) = calmly(|| self.manager = None) {
            log::error!("the end of the node: {panic}");
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use crossbeam::channel::unbounded;
    use kademlia_gateways::{Contact, Id};

    use super::super::bell::Post;
    use super::super::config::Config;
    use super::super::events::Publisher;
    use super::super::manager::{Control, Inputs, Place, Start};
    use super::super::pending::Complete;
    use super::super::router::Router;
    use super::*;
    use crate::core::{Command, Node, OperationError, OperationId, Outcome};

    /// Panics over the end of its operation.
    struct Fragile;

    impl Complete for Fragile {
        fn complete(self: Box<Self>, _: Result<Outcome<Contact>, OperationError<Contact>>) {
            panic!("it could not bear it");
        }
        fn is_cancelled(&self) -> bool {
            false
        }
    }

    #[test]
    fn a_panic_ends_the_node_and_whoever_asks_it_is_told() {
        let config = Config::default();
        let (control, control_receiver) = unbounded();
        let (commands, commands_receiver) = unbounded();
        let (_to_manager, inbound) = unbounded();
        let inputs = Inputs { control: control_receiver, commands: commands_receiver, inbound };
        let node = Node::new(Id::ZERO, config.params(config.hasher.key_space()), [1; 16], Time::ZERO);
        let publisher = Arc::new(Publisher::new(1));
        let router = Router::new(config.relay, false, Arc::clone(&publisher));
        let manager = Manager::new(inputs, node, router, Instant::now(), publisher, Arc::default());
        let bell = Bell::default();
        let control = Post::new(control, &bell);
        let turns = Arc::new(Turns::new(manager, bell));
        // It finds nothing at once, as the node knows nobody.
        let command = Command::Query { key: Id::ZERO };
        let place = Place::take(&Arc::default()).unwrap();
        let start = Start { operation: OperationId(1), command, completion: Box::new(Fragile), place };
        commands.send(start).ok().unwrap();
        turns.run();
        assert!(control.send(Control::Stop).is_err() && turns.desk.lock().unwrap().manager.is_none());
        // A gateway that brings something now does no harm.
        turns.take();
    }
}
