//! A gateway's thread: that it ends, how, and what it does until then.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use std::thread::{self, JoinHandle};

use crossbeam::channel::{Receiver, Sender, bounded};

use super::AT_ONCE;
use super::report::Failure;
use crate::gateway::{Gateway, GatewayError};
use crate::link::Link;

/// A gateway whose run is over, and with what result.
pub struct Stopped {
    /// The gateway.
    pub gateway: Box<dyn Gateway>,
    /// What its run gave.
    pub result: Result<(), GatewayError>,
}

impl Stopped {
    pub(super) fn without_error(self) -> Result<Box<dyn Gateway>, Failure> {
        self.result.map_err(Failure::gateway("an end without an error"))?;
        Ok(self.gateway)
    }
}

impl std::fmt::Debug for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stopped").field("gateway", &self.gateway.name()).field("result", &self.result).finish()
    }
}

/// The thread of a gateway.
pub(super) struct Running {
    thread: JoinHandle<Stopped>,
    /// Nothing comes here; it is disconnected when the gateway returns or panics.
    finished: Receiver<()>,
    /// What the system says of the thread, where it says anything.
    task: Option<[File; 2]>,
}

impl Running {
    pub(super) fn start(mut gateway: Box<dyn Gateway>, link: Link) -> Result<Self, Failure> {
        let (done, finished) = bounded(0);
        let (tell_task, task) = bounded(1);
        let run = move || {
            tell_own_task(&tell_task);
            let result = gateway.run(&link);
            drop(link);
            drop(done);
            Stopped { gateway, result }
        };
        let thread = thread::Builder::new().name("gateway".to_owned()).spawn(run);
        let thread = thread.map_err(Failure::io("a thread for the gateway"))?;
        let task = task.recv().ok().flatten();
        Ok(Running { thread, finished, task })
    }

    /// What the thread has done, where the system tells.
    pub(super) fn activity(&self) -> Option<Activity> {
        let [status, schedule] = self.task.as_ref()?;
        let read = |mut file: &File| {
            let mut text = String::new();
            file.rewind().and_then(|()| file.read_to_string(&mut text)).ok()?;
            Some(text)
        };
        let status = read(status)?;
        let sleeps = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        let schedule = read(schedule)?;
        let ran_nanoseconds = schedule.split(' ').next()?.parse().ok()?;
        Some(Activity { sleeps: sleeps.trim().parse().ok()?, ran_nanoseconds })
    }
}

/// Runs a gateway that must return at once of its own accord.
pub(super) fn run_to_the_end(gateway: Box<dyn Gateway>, link: Link) -> Result<Stopped, Failure> {
    join(Some(Running::start(gateway, link)?))
}

/// Waits for the gateway's return, once.
pub(super) fn join(running: Option<Running>) -> Result<Stopped, Failure> {
    let expected = "the return of the gateway";
    let running = running.ok_or_else(|| Failure::unexpected(expected, "it was waited for before"))?;
    // It is disconnected at the end, and nothing is ever sent.
    if running.finished.recv_timeout(AT_ONCE).is_err_and(|error| error.is_timeout()) {
        return Err(Failure::late(expected, AT_ONCE));
    }
    running.thread.join().map_err(|panic| Failure::panicked(&*panic))
}

fn tell_own_task(tell: &Sender<Option<[File; 2]>>) {
    let open = |file| File::open(Path::new("/proc/thread-self").join(file)).ok();
    let files = open("status").and_then(|status| Some([status, open("schedstat")?]));
    tell.send(files).ok();
}

/// What a thread has done until now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity {
    /// How often it went to sleep. Each wake-up from idleness ends in that.
    pub sleeps: u64,
    /// How many nanoseconds it ran.
    pub ran_nanoseconds: u64,
}
