//! Many operations, several at once.

use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread;

use kademlia_dht::{Error, Pending};

use crate::interrupt::Interrupt;
use crate::network::NetworkFailure;

/// Does all tasks, `at_once` of them at a time, each exactly once. A slow one does not hold up the others.
pub(crate) fn each<T: Send, R: Send>(
    interrupt: &Interrupt,
    at_once: usize,
    tasks: Vec<T>,
    begin: impl Fn(&T) -> Pending<R> + Sync,
    mut end: impl FnMut(T, Result<R, Error>),
) -> Result<(), NetworkFailure> {
    let tasks = Mutex::new(tasks.into_iter());
    let next = || tasks.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = |done: Sender<(T, Result<R, Error>)>| {
        while !interrupt.is_wanted()
            && let Some(task) = next()
        {
            let result = begin(&task).wait();
            if done.send((task, result)).is_err() {
                return;
            }
        }
    };
    thread::scope(|scope| {
        let (done, results) = mpsc::channel();
        for _ in 0..at_once {
            let (work, done) = (&work, done.clone());
            thread::Builder::new().spawn_scoped(scope, move || work(done)).map_err(NetworkFailure::Threads)?;
        }
        drop(done);
        for (task, result) in results {
            if interrupt.is_wanted() {
                return Err(NetworkFailure::Interrupted);
            }
            end(task, result);
        }
        if interrupt.is_wanted() { Err(NetworkFailure::Interrupted) } else { Ok(()) }
    })
}
