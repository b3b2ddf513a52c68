//! `dht node`: one node, which runs until it is told to stop.

mod failure;
mod gateways;
mod joining;
mod lines;
mod signals;
mod watch;

use std::io::BufReader;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;
use std::{fs, thread};

use kademlia_dht::persist::{DataDirectory, read_contacts};
use kademlia_dht::{DHTService, Id, Multiaddr};
use tokio::sync::mpsc::unbounded_channel;

use crate::api::{Api, Server, Settings, read_token};
use crate::args::{NodePlan, WayPlan};
pub(crate) use failure::Failure;
use joining::{Joining, Word};
pub(crate) use joining::{Unjoined, join_any};
use lines::Lines;

/// The name of the socket in a node's folder by which commands reach it.
pub(crate) const CONTROL_SOCKET: &str = "control.sock";

/// The longest that the node may take to stop, so that the process ends within two seconds.
const STOP: Duration = Duration::from_millis(1500);

/// What the thread that runs a node waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Happening {
    /// The user wants it to end.
    Told,
    /// It runs, or cannot.
    Started,
    /// It has tried to join through every address.
    TriedToJoin,
    /// It has stopped of its own accord.
    Failed,
}

/// A service that is stopped on every way out.
#[derive(Debug)]
pub(crate) struct Running(DHTService);

impl Running {
    /// Starts a node with its gateways, which goes on where it was if it has a folder.
    pub(crate) fn start(plan: &WayPlan, folder: Option<&Path>) -> Result<Self, Failure> {
        gateways::register(plan, |config| {
            Ok(Running(match folder {
                Some(folder) => DHTService::start_with(config, Box::new(DataDirectory::open(folder)?))?,
                None => DHTService::start(config)?,
            }))
        })
    }

    pub(crate) fn service(&self) -> &DHTService {
        &self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Runs a node until it is told to stop.
pub(crate) fn run(plan: &NodePlan) -> Result<bool, Failure> {
    run_to_end(plan).map_err(|failure| failure.placed(plan.places.as_ref()))
}

fn run_to_end(plan: &NodePlan) -> Result<bool, Failure> {
    let (happens, happenings) = mpsc::channel();
    signals::listen(happens.clone())?;
    let introduced = introduced(plan.contacts.as_deref())?;
    let token = read_token(&plan.http)?;
    let Some(running) = start(plan, &happens, &happenings)? else { return Ok(true) };
    let service = running.service();
    let mut settings = Settings::new(&plan.way);
    // Whoever knew others should know some again.
    settings.joins |= !introduced.is_empty() || service.contacts().wait().is_ok_and(|known| !known.is_empty());
    let lines = Lines::new(plan.json);
    lines.id(&hex(&service.id(), settings.key_bytes))?;
    for address in service.listen_addresses() {
        lines.listening(&address)?;
    }
    let api = Api::new(service.clone(), settings, &plan.http, token);
    let (teller, told) = unbounded_channel();
    watch::start(service, &api, teller.clone(), happens.clone()).map_err(Failure::Thread)?;
    let control = plan.data_dir.as_ref().map(|folder| folder.join(CONTROL_SOCKET));
    let mut server = Server::start(&api, &plan.http, control)?;
    if let Some(address) = server.address() {
        lines.http(address)?;
    }
    introduce(service, plan.contacts.as_deref(), introduced);
    let joining = Joining { service: service.clone(), entrances: plan.way.entrances.clone(), told, happens };
    joining.start().map_err(Failure::Thread)?;
    until_told(&happenings, lines)?;
    log::info!("the node ends");
    let failure = service.status().failure;
    server.begin_to_end();
    if in_time(move || drop(running)) {
        server.end();
        // Its thread is not waited for, as it may wait for the resolver of names.
        teller.send(Word::End).ok();
    } else {
        log::warn!("the disk is too slow: what happened last may not be kept");
    }
    failure.map_or(Ok(true), |cause| Err(Failure::Failed(cause)))
}

/// Starts the node on a thread of its own, as it takes long to read much that was saved. `None` if it is told to end before
/// it has started.
fn start(
    plan: &NodePlan,
    happens: &Sender<Happening>,
    happenings: &Receiver<Happening>,
) -> Result<Option<Running>, Failure> {
    /// Tells of the end of the thread, whatever it ends by.
    struct AtEnd(Sender<Happening>);
    impl Drop for AtEnd {
        fn drop(&mut self) {
            self.0.send(Happening::Started).ok();
        }
    }
    let (way, folder, end) = (plan.way.clone(), plan.data_dir.clone(), AtEnd(happens.clone()));
    let work = move || {
        let _end = end;
        Running::start(&way, folder.as_deref())
    };
    let thread = thread::Builder::new().name("start".to_owned()).spawn(work).map_err(Failure::Thread)?;
    if happenings.recv() == Ok(Happening::Started) {
        let started = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        return started.map(Some);
    }
    log::info!("the node ends before it has started");
    // What it has done by then is undone. Its file is whole wherever it is left.
    in_time(move || drop(thread.join()));
    Ok(None)
}

/// Waits until the node is to end, or has failed. Says when it has tried to join.
fn until_told(happenings: &Receiver<Happening>, lines: Lines) -> Result<(), Failure> {
    // Who tells of signals does not go away.
    while let Ok(Happening::TriedToJoin) = happenings.recv() {
        lines.ready()?;
    }
    Ok(())
}

/// Does what the node ends with, for which a slow disk is not waited beyond the time that there is: then this gives false.
fn in_time(work: impl FnOnce() + Send + 'static) -> bool {
    let (done, ended) = mpsc::channel();
    let work = move || {
        work();
        done.send(()).ok();
    };
    // Without a thread what it has is dropped by now, and with that it is done.
    thread::Builder::new().name("stop".to_owned()).spawn(work).is_err() || ended.recv_timeout(STOP).is_ok()
}

/// The addresses of a file of contacts.
fn introduced(path: Option<&Path>) -> Result<Vec<Multiaddr>, Failure> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let file = fs::File::open(path).map_err(|error| Failure::Read { path: path.to_owned(), error })?;
    read_contacts(BufReader::new(file)).map_err(|error| Failure::Contacts { path: path.to_owned(), error })
}

/// Has the nodes of a file of contacts asked. How many of them answer is to be seen among the contacts.
fn introduce(service: &DHTService, path: Option<&Path>, addresses: Vec<Multiaddr>) {
    let (all, path) = (addresses.len(), path.unwrap_or(Path::new("")).display());
    if all > 0
        && let Ok(introduced) = service.introduce(addresses).wait()
        && introduced < all
    {
        log::warn!("{} of the {all} nodes in {path} are left out: {introduced} wait to be asked", all - introduced);
    }
}

/// An id in hexadecimal, all of it that counts.
pub(crate) fn hex(id: &Id, key_bytes: usize) -> String {
    id.as_bytes().iter().take(key_bytes).map(|byte| format!("{byte:02x}")).collect()
}
