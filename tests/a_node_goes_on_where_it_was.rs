//! A node that is started again goes on where it was: under its id, with its contacts and its records, and without a storm.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kademlia_dht::gateway::{MemoryGateway, TcpGateway};
use kademlia_dht::persist::{
    Batch, Change, DataDirectory, Identity, PersistError, SavedContact, SavedPublication, SavedRecord, StateStore,
    read_contacts,
};
use kademlia_dht::{
    Author, Config, Contact, DHTService, Event, Events, Id, Multiaddr, NetworkId, Pending, Record, Sha256Hasher,
    StartError, Version, core,
};
use proptest::prelude::*;

const LONG: Duration = Duration::from_secs(60);

fn done<T>(pending: Pending<T>) -> T {
    pending.wait_timeout(LONG).unwrap_or_else(|_| panic!("nothing within {LONG:?}")).unwrap()
}

fn start(path: &Path) -> DHTService {
    DHTService::start_with(Config::default(), Box::new(DataDirectory::open(path).unwrap())).unwrap()
}

fn wait_for(events: &Events, wanted: impl Fn(&Event) -> bool) -> Event {
    events.wait_for(LONG, |event| wanted(&event).then_some(event)).unwrap()
}

/// A folder in which a node has kept a value.
fn filled(path: &Path) -> Id {
    let service = start(path);
    done(service.save("key", "value"));
    assert!(done(service.flush()));
    service.stop();
    service.id()
}

fn is_put_aside(path: &Path) -> bool {
    let names = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.into_iter().any(|name| name.contains("damaged"))
}

#[test]
fn a_file_of_a_later_version_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path());
    let file = folder.path().join("state.redb");
    let whole = fs::read(&file).unwrap();
    fs::write(folder.path().join("schema"), "2\n").unwrap();
    let error = DataDirectory::open(folder.path()).unwrap_err();
    assert!(matches!(error, PersistError::NewerSchema { found: 2, known: 1, .. }), "{error}");
    assert!(fs::read(&file).unwrap() == whole && !is_put_aside(folder.path()));
    // The number in the file itself counts as well.
    fs::remove_file(folder.path().join("schema")).unwrap();
    let written = redb::Database::open(&file).unwrap();
    let writing = written.begin_write().unwrap();
    let meta = redb::TableDefinition::<&str, &[u8]>::new("meta");
    writing.open_table(meta).unwrap().insert("schema", &[0, 0, 0, 9, 255, 255, 255, 246][..]).unwrap();
    writing.commit().unwrap();
    drop(written);
    let error = DataDirectory::open(folder.path()).unwrap_err();
    assert!(matches!(error, PersistError::NewerSchema { found: 9, .. }), "{error}");
    assert!(!is_put_aside(folder.path()));
}

#[test]
fn the_id_that_it_took_last_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (first, other) = (filled(folder.path()), Id::from_prefix(&[7; 20]));
    let service = start(folder.path());
    assert_eq!(service.id(), first);
    service.change_id(other).unwrap();
    assert!(done(service.flush()));
    service.stop();
    let service = start(folder.path());
    assert_eq!(service.id(), other);
    assert_eq!(done(service.query("key")).unwrap().value, b"value");
}

#[test]
fn two_nodes_do_not_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b");
    let service = start(&path);
    assert!(matches!(DataDirectory::open(&path), Err(PersistError::InUse { .. })));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let modes = ["", "state.redb", "schema", "lock"].map(|name| mode(&path.join(name)));
        assert_eq!(modes, [0o700, 0o600, 0o600, 0o600]);
    }
    service.stop();
    assert!(DataDirectory::open(&path).is_ok(), "who has stopped has let go of it");
    fs::write(folder.path().join("file"), "").unwrap();
    let error = DataDirectory::open(folder.path().join("file")).unwrap_err();
    assert!(matches!(error, PersistError::Directory { .. }), "{error}");
}

#[test]
#[cfg(unix)]
fn a_folder_that_others_can_write_in_is_told_of() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    for (mode, count) in [(0o700, 0), (0o755, 0), (0o770, 1), (0o777, 1)] {
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
        let notices = DataDirectory::open(folder.path()).unwrap().load().unwrap().notices;
        assert_eq!(notices.len(), count, "{mode:o}: {notices:?}");
        assert!(notices.iter().all(|notice| notice.contains(&format!("(mode {mode:o}): chmod go-w"))), "{notices:?}");
    }
}

#[test]
fn the_state_of_another_network_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let id = filled(folder.path());
    let open = || Box::new(DataDirectory::open(folder.path()).unwrap());
    let other = Config { network: NetworkId(77), ..Config::default() };
    assert!(matches!(DHTService::start_with(other, open()), Err(StartError::OtherNetwork)));
    let wide = Config { hasher: Arc::new(Sha256Hasher), ..Config::default() };
    assert!(matches!(DHTService::start_with(wide, open()), Err(StartError::OtherNetwork)));
    // An id that the user chooses is the one that is kept from then on.
    let chosen = Id::from_prefix(&[7; 20]);
    let notices = |service: &DHTService| service.status().persistence.unwrap().notices;
    let told = || Config { id: Some(chosen), ..Config::default() };
    let service = DHTService::start_with(told(), open()).unwrap();
    assert_ne!(service.id(), id);
    assert!(notices(&service)[0].starts_with(&format!("the saved id {id} is given up for {chosen}, ")));
    service.stop();
    let service = DHTService::start_with(told(), open()).unwrap();
    assert_eq!((service.id(), notices(&service).len()), (chosen, 0));
    service.stop();
}

/// A node on TCP, at an address that stays the same.
fn node(path: &Path, address: &Multiaddr) -> DHTService {
    let service = start(path);
    let deadline = Instant::now() + LONG;
    // The system may hold the port for a moment.
    let gateway = loop {
        match TcpGateway::bind(address.clone()) {
            Ok(gateway) => break gateway,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    };
    service.register_gateway(gateway).unwrap();
    service
}

#[test]
fn a_network_that_is_switched_off_and_on_again_is_one_again_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = |n: usize| folder.path().join(n.to_string());
    let any: Multiaddr = "/ip4/127.0.0.1/tcp/0".parse().unwrap();
    let services: Vec<DHTService> = (0..5).map(|n| node(&path(n), &any)).collect();
    let addresses: Vec<Multiaddr> = services.iter().map(|service| service.listen_addresses()[0].clone()).collect();
    for service in &services[1..] {
        done(service.connect(addresses[0].clone()));
    }
    let version = done(services[0].save("key", "value")).version;
    services.iter().for_each(DHTService::stop);
    // Nobody is told where anybody is.
    let services: Vec<DHTService> = addresses.iter().enumerate().map(|(n, address)| node(&path(n), address)).collect();
    for service in &services {
        let events = service.events();
        while service.status().known_peers == 0 {
            wait_for(&events, |event| matches!(event, Event::Node(core::Event::ContactAdded(_))));
        }
        let found = done(service.query("key")).unwrap();
        assert_eq!((found.version, found.value), (version, b"value".to_vec()));
    }
    services.iter().for_each(DHTService::stop);
}

#[test]
fn whom_a_list_names_is_met() {
    let bind = || MemoryGateway::bind("/memory/0".parse().unwrap()).unwrap();
    let (one, other) = (DHTService::start(Config::default()).unwrap(), DHTService::start(Config::default()).unwrap());
    one.register_gateway(bind()).unwrap();
    other.register_gateway(bind()).unwrap();
    let events = other.events();
    let list = format!("# those I know\n{} # it\n/memory/987654321\n", one.listen_addresses()[0]);
    let addresses = read_contacts(list.as_bytes()).unwrap();
    assert_eq!(done(other.introduce(addresses)), 2);
    wait_for(&events, |event| matches!(event, Event::Node(core::Event::ContactAdded(_))));
    let known = done(other.contacts());
    assert_eq!((known.len(), known[0].id()), (1, one.id()));
}

#[test]
fn contacts_that_are_too_many_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let contact = |n: u16| {
        let [high, low] = n.to_be_bytes();
        let address = format!("/memory/{n}").parse().unwrap();
        SavedContact { contact: Contact::new(Id::from_prefix(&[high, low, 1]), address), verified: true, seen: 1 }
    };
    let contacts = Some((1..=1100).map(contact).collect());
    DataDirectory::open(folder.path()).unwrap().commit(&Batch { contacts, ..Batch::default() }).unwrap();
    let service = start(folder.path());
    let notices = service.status().persistence.unwrap().notices;
    assert!(notices.len() == 1 && notices[0].starts_with("76 of 1100 saved contacts are left out"), "{notices:?}");
    service.stop();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// What a folder gives back is what was put there, however it was closed.
    #[test]
    fn what_is_loaded_equals_what_was_held(
        steps in prop::collection::vec((0u8..20, prop::option::of((1u64..9, 0usize..3000)), any::<bool>()), 1..40),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (mut held, mut alive) = (BTreeMap::new(), BTreeMap::new());
        let mut directory = DataDirectory::open(folder.path()).unwrap();
        for (n, write, again) in steps {
            let key = Id::from_prefix(&[n]);
            let record = |(version, bytes): (u64, usize)| {
                Record::plain(vec![n; bytes], Version(version), LONG)
            };
            let saved = write.map(|write| SavedRecord {
                key, record: record(write), expires: u64::MAX, source: Some(1), firm: 2,
            });
            let published = write.map(|write| SavedPublication {
                key, record: record(write), due: 3, last: Some((1, 2, 3)),
            });
            let author = Author::Any;
            let identity = Some(Identity { id: key, network: NetworkId(1), key_bytes: 20 });
            let batch = Batch {
                identity,
                records: vec![Change { key, author, now: saved.clone() }],
                published: vec![Change { key, author, now: published.clone() }],
                ..Batch::default()
            };
            directory.commit(&batch).unwrap();
            held.remove(&key);
            held.extend(saved.map(|saved| (key, saved)));
            alive.remove(&key);
            alive.extend(published.map(|published| (key, published)));
            if again {
                drop(directory);
                directory = DataDirectory::open(folder.path()).unwrap();
            }
            let loaded = directory.load().unwrap();
            prop_assert_eq!(loaded.identity, identity);
            prop_assert_eq!(loaded.records, held.values().cloned().collect::<Vec<_>>());
            prop_assert_eq!(loaded.published, alive.values().cloned().collect::<Vec<_>>());
        }
    }
}
