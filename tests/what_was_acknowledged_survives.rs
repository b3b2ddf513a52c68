//! What a node has said is kept is there after any crash; and where nothing can be kept, the node says so and goes on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kademlia_dht::persist::{Batch, Change, DataDirectory, Lost, SavedState, StateError, StateStore};
use kademlia_dht::{Config, DHTService, Event, Events, Id, Pending, PersistenceStatus};

const LONG: Duration = Duration::from_secs(60);

/// Where the child of the test of crashes keeps its state.
const FOLDER: &str = "KADEMLIA_DHT_WRITE_UNTIL_KILLED_IN";

/// How often it is killed.
const KILLS: &str = "KADEMLIA_DHT_KILLS";

fn done<T>(pending: Pending<T>) -> T {
    pending.wait_timeout(LONG).unwrap_or_else(|_| panic!("nothing within {LONG:?}")).unwrap()
}

fn start(path: &Path) -> DHTService {
    DHTService::start_with(Config::default(), Box::new(DataDirectory::open(path).unwrap())).unwrap()
}

/// The key of a write: a few are written again and again, most once.
fn key(number: u64) -> u64 {
    if number.is_multiple_of(3) { number % 30 } else { number }
}

/// The value of a write; some delete what is there. Its length and its bytes follow from its number, so that what is left of
/// one shows.
fn value(number: u64) -> Option<Vec<u8>> {
    if number.is_multiple_of(7) {
        return None;
    }
    let length = (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 52) as usize;
    let mut value = number.to_be_bytes().to_vec();
    value.extend((0..length).map(|at| (number as usize).wrapping_mul(31).wrapping_add(at) as u8));
    Some(value)
}

/// Not a test of its own, but what the test of crashes kills: saves one value after the other, and says of each that is
/// said to be kept that it is. Does nothing in a run of tests.
#[test]
fn write_until_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let service = start(Path::new(&folder));
    println!("\nid {}", service.id());
    let mut number = std::env::var("FIRST").unwrap().parse::<u64>().unwrap();
    loop {
        let key = key(number);
        match value(number) {
            None => drop(done(service.delete(format!("key {key}")))),
            Some(value) => drop(done(service.save(format!("key {key}"), value))),
        }
        assert!(done(service.flush()));
        println!("kept {key} {number}");
        io::stdout().flush().unwrap();
        number += 1;
    }
}

/// What the child has said is kept: of each key the number of its last value.
#[derive(Default)]
struct Told {
    id: Option<String>,
    kept: BTreeMap<u64, u64>,
    next: u64,
    acknowledged: usize,
}

/// Runs the child and kills it when it has kept so many, or after that time.
fn run_and_kill(folder: &Path, told: &mut Told, after: usize, delay: Duration) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "write_until_killed", "--nocapture"])
        .env(FOLDER, folder)
        .env("FIRST", told.next.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut read = |lines: &mut dyn Iterator<Item = io::Result<String>>, most: usize| {
        let mut count = 0;
        while count < most {
            let Some(Ok(line)) = lines.next() else { return };
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["id", id] => {
                    let known = told.id.get_or_insert_with(|| id.to_owned());
                    assert_eq!(known, id, "the node is still the same");
                }
                ["kept", key, number] => {
                    let (key, number): (u64, u64) = (key.parse().unwrap(), number.parse().unwrap());
                    told.kept.insert(key, number);
                    told.next = number + 1;
                    told.acknowledged += 1;
                    count += 1;
                }
                _ => {}
            }
        }
    };
    read(&mut lines, after);
    let start = Instant::now();
    while start.elapsed() < delay {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What it had said before it died.
    read(&mut lines, usize::MAX);
}

/// Whether what is in the folder is what the child has told of, or a later write of it.
fn check(folder: &Path, told: &mut Told) {
    let service = start(folder);
    assert!(persistence(&service).notices.is_empty());
    if let Some(id) = &told.id {
        assert_eq!(*id, service.id().to_string());
    }
    // One write may have been kept of which nobody was told. Then it is the one after the last.
    let unknown = told.next;
    let ledger = done(service.ledger());
    for (key_number, number) in &mut told.kept {
        let name = format!("key {key_number}");
        let found = done(service.query(&name)).map(|found| found.value);
        if key(unknown) == *key_number && found == value(unknown) {
            *number = unknown;
        }
        assert!(found == value(*number), "{name}, write {number}: {:?} bytes", found.map(|found| found.len()));
        let is_alive = ledger.iter().any(|entry| entry.key == service.key_id(&name));
        assert_eq!(is_alive, found.is_some(), "{name}, write {number}");
    }
    service.stop();
    // Its number may be on the disk already.
    told.next += 1;
}

#[test]
fn what_was_acknowledged_survives_a_kill_at_any_moment() {
    let kills: usize = std::env::var(KILLS).map_or(25, |kills| kills.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node");
    let mut told = Told::default();
    let mut random = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    for kill in 0..kills {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // Some die as they start, while the file is read or made.
        let after = if kill % 5 == 0 { 0 } else { (random % 40) as usize };
        run_and_kill(&path, &mut told, after, Duration::from_micros((random >> 32) % 20_000));
        check(&path, &mut told);
        // A long life of one folder is one thing, and many beginnings another.
        if kill % 50 == 49 {
            fs::remove_dir_all(&path).unwrap();
            told = Told { acknowledged: told.acknowledged, ..Told::default() };
        }
    }
    println!("{kills} kills, {} writes acknowledged", told.acknowledged);
}

fn persistence(service: &DHTService) -> PersistenceStatus {
    service.status().persistence.unwrap()
}

fn wait_for(events: &Events, wanted: impl Fn(&Event) -> bool) -> Event {
    events.wait_for(LONG, |event| wanted(&event).then_some(event)).unwrap()
}

/// A store on a disk that is full, or not.
#[derive(Clone, Default)]
struct Disk {
    full: Arc<AtomicUsize>,
    kept: Arc<Mutex<Vec<Batch>>>,
}

const FULL: usize = 1;
const LOST: usize = 2;
const PANICS: usize = 3;

impl StateStore for Disk {
    fn load(&mut self) -> Result<SavedState, StateError> {
        Ok(SavedState::default())
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StateError> {
        match self.full.load(Ordering::SeqCst) {
            FULL => Err(io::Error::from(io::ErrorKind::StorageFull).into()),
            LOST => {
                self.full.store(0, Ordering::SeqCst);
                self.kept.lock().unwrap().clear();
                Err(Lost("the disk was changed".to_owned()).into())
            }
            PANICS => panic!("a mistake of whoever wrote this store"),
            _ => {
                self.kept.lock().unwrap().push(batch.clone());
                Ok(())
            }
        }
    }
}

impl Disk {
    /// What is held and what is published, by key.
    fn keys(&self) -> (Vec<Id>, Vec<Id>) {
        fn apply<T>(map: &mut BTreeMap<Id, ()>, whole: bool, changes: &[Change<T>]) {
            if whole {
                map.clear();
            }
            for change in changes {
                map.remove(&change.key);
                map.extend(change.now.is_some().then_some((change.key, ())));
            }
        }
        let (mut records, mut published) = (BTreeMap::new(), BTreeMap::new());
        for batch in &*self.kept.lock().unwrap() {
            apply(&mut records, batch.whole, &batch.records);
            apply(&mut published, batch.whole, &batch.published);
        }
        (records.into_keys().collect(), published.into_keys().collect())
    }
}

#[test]
fn on_a_full_disk_a_node_serves_on_says_so_and_catches_up() {
    for mistake in [FULL, PANICS] {
        let disk = Disk::default();
        let service = DHTService::start_with(Config::default(), Box::new(disk.clone())).unwrap();
        let events = service.events();
        done(service.save("before", "value"));
        assert!(done(service.flush()));
        disk.full.store(mistake, Ordering::SeqCst);
        done(service.save("during", "value"));
        assert!(!done(service.flush()));
        let failed = wait_for(&events, |event| matches!(event, Event::PersistenceFailed { .. }));
        let status = persistence(&service);
        assert_eq!(failed, Event::PersistenceFailed { cause: status.failure.clone().unwrap() });
        assert!(!status.durable && status.failed_commits >= 1 && status.pending >= 2, "{status:?}");
        assert!(!done(service.flush()), "nobody waits for a disk that is known to be full");
        // It serves on.
        done(service.save("after", "value"));
        done(service.delete("before"));
        assert_eq!(done(service.query("during")).unwrap().value, b"value");
        disk.full.store(0, Ordering::SeqCst);
        wait_for(&events, |event| *event == Event::PersistenceRestored);
        assert!(done(service.flush()));
        let status = persistence(&service);
        assert!(status.durable && status.failure.is_none() && status.pending == 0, "{status:?}");
        let mut keys: Vec<Id> = ["before", "during", "after"].map(|key| service.key_id(key)).into();
        let mut alive: Vec<Id> = keys[1..].to_vec();
        keys.sort();
        alive.sort();
        assert_eq!(disk.keys(), (keys, alive));
        service.stop();
    }
}

#[test]
fn a_store_that_has_lost_everything_is_given_everything() {
    let disk = Disk::default();
    let service = DHTService::start_with(Config::default(), Box::new(disk.clone())).unwrap();
    for n in 0..10 {
        done(service.save(format!("key {n}"), "value"));
    }
    assert!(done(service.flush()));
    disk.full.store(LOST, Ordering::SeqCst);
    done(service.save("another", "value"));
    assert!(!done(service.flush()));
    let events = service.events();
    if !persistence(&service).durable {
        wait_for(&events, |event| *event == Event::PersistenceRestored);
    }
    let (records, published) = disk.keys();
    assert_eq!((records.len(), published.len()), (11, 11));
    let whole = disk.kept.lock().unwrap()[0].clone();
    assert!(whole.whole && whole.identity.is_some_and(|identity| identity.id == service.id()));
    service.stop();
}

#[test]
fn without_a_store_nothing_is_kept_and_a_stopped_node_keeps_nothing_more() {
    let service = DHTService::start(Config::default()).unwrap();
    assert!(!done(service.flush()) && service.status().persistence.is_none());
    service.stop();
    let disk = Disk::default();
    let service = DHTService::start_with(Config::default(), Box::new(disk.clone())).unwrap();
    done(service.save("key", "value"));
    service.stop();
    assert_eq!(disk.keys().0.len(), 1, "the end is a time to write as well");
    assert!(service.flush().wait().is_err());
}

/// Fails the first batch with a record, when it is told to; then keeps all.
struct Slow {
    go: std::sync::mpsc::Receiver<()>,
    begun: std::sync::mpsc::Sender<()>,
    disk: Disk,
    failed: bool,
}

impl StateStore for Slow {
    fn load(&mut self) -> Result<SavedState, StateError> {
        Ok(SavedState::default())
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StateError> {
        if !batch.records.is_empty() && !std::mem::replace(&mut self.failed, true) {
            self.begun.send(()).unwrap();
            self.go.recv().unwrap();
            return Err("not yet".into());
        }
        self.disk.commit(batch)
    }
}

#[test]
fn what_fails_while_the_node_stops_is_tried_once_more() {
    let disk = Disk::default();
    let (tell, go) = std::sync::mpsc::channel();
    let (begun, has_begun) = std::sync::mpsc::channel();
    let store = Slow { go, begun, disk: disk.clone(), failed: false };
    let service = DHTService::start_with(Config::default(), Box::new(store)).unwrap();
    done(service.save("one", "value"));
    has_begun.recv_timeout(LONG).unwrap();
    done(service.save("two", "value"));
    let stopping = std::thread::spawn(move || service.stop());
    tell.send(()).unwrap();
    stopping.join().unwrap();
    assert_eq!(disk.keys().0.len(), 2);
}

/// On a tmpfs of 1 MiB, where one can be mounted.
#[test]
#[cfg(target_os = "linux")]
fn a_folder_without_room_keeps_what_it_had_and_more_when_there_is_room_again() {
    for spoilt in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("small");
        fs::create_dir(&path).unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs"]).arg(&path).status();
        if !mount.is_ok_and(|status| status.success()) {
            println!("no tmpfs can be mounted here: a store that is full is tested by itself");
            return;
        }
        let _unmount = Unmount(path.clone());
        let service = start(&path);
        let events = service.events();
        let mut kept = 0;
        loop {
            done(service.save(format!("key {kept}"), vec![7; 60_000]));
            if !done(service.flush()) {
                break;
            }
            kept += 1;
            assert!(kept < 30, "more than there is room for");
        }
        wait_for(&events, |event| matches!(event, Event::PersistenceFailed { .. }));
        assert!(kept > 0 && !persistence(&service).durable);
        all_are_there(&service, kept);
        if spoilt {
            // Whatever else becomes of the disk: what the node holds is written anew.
            fs::write(path.join("state.redb"), "nonsense").unwrap();
        }
        assert!(Command::new("mount").args(["-o", "remount,size=16m"]).arg(&path).status().unwrap().success());
        wait_for(&events, |event| *event == Event::PersistenceRestored);
        assert!(done(service.flush()) && persistence(&service).durable);
        let id = service.id();
        service.stop();
        let service = start(&path);
        all_are_there(&service, kept);
        assert_eq!((service.id(), damaged_files(&path)), (id, usize::from(spoilt)));
        assert!(persistence(&service).notices.is_empty());
        service.stop();
    }
}

#[cfg(target_os = "linux")]
fn all_are_there(service: &DHTService, last: usize) {
    for n in 0..=last {
        assert_eq!(done(service.query(format!("key {n}"))).unwrap().value.len(), 60_000);
    }
}

#[cfg(target_os = "linux")]
struct Unmount(PathBuf);

#[cfg(target_os = "linux")]
impl Drop for Unmount {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

/// A folder in which a node has kept 40 values and three contacts, and its id.
fn filled(path: &Path) -> Id {
    let service = start(path);
    for n in 0..40 {
        done(service.save(format!("key {n}"), vec![n; 900]));
    }
    assert!(done(service.flush()));
    service.stop();
    service.id()
}

fn damaged_files(path: &Path) -> usize {
    let names = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("state.redb.damaged-")).count()
}

#[test]
fn a_damaged_file_is_kept_aside_and_the_node_starts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node");
    let id = filled(&path);
    let whole = fs::read(path.join("state.redb")).unwrap();
    let used = whole.iter().rposition(|byte| *byte != 0).unwrap();
    let mut damages: Vec<(String, Vec<u8>)> = vec![
        ("no file of redb".to_owned(), b"nonsense".repeat(1000)),
        ("a page of zeros".to_owned(), whole[..4096].iter().copied().chain(vec![0; whole.len() - 4096]).collect()),
    ];
    damages.extend([9, 4096, used / 2].map(|length| (format!("cut at {length}"), whole[..length].to_vec())));
    for part in 0..60 {
        let mut flipped = whole.clone();
        let at = used * part / 60;
        flipped[at] ^= 1 << (part % 8);
        damages.push((format!("a bit flipped at {at}"), flipped));
    }
    let mut aside = 0;
    for (name, bytes) in damages {
        fs::write(path.join("state.redb"), &bytes).unwrap();
        let service = start(&path);
        let notices = persistence(&service).notices;
        let damaged = damaged_files(&path);
        if damaged == aside {
            // What was damaged was free, or is not read.
            assert_eq!((notices.len(), service.id()), (0, id), "{name}");
            for n in 0..40 {
                assert_eq!(done(service.query(format!("key {n}"))).unwrap().value, vec![n; 900], "{name}");
            }
        } else {
            assert_eq!(damaged, aside + 1, "{name}");
            assert!(notices[0].contains("is damaged") && notices[0].contains("damaged-"), "{name}: {notices:?}");
            done(service.save("key", "value"));
            assert!(done(service.flush()), "{name}: the new file is as good as any");
        }
        aside = damaged;
        service.stop();
    }
    assert!(aside > 5, "most pages are free, but the first damages matter in any case: {aside}");
}
