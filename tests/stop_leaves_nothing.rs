//! `stop` answers whoever waits, and leaves no thread, no port and no socket file. So does dropping the service.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::never;
use kademlia_dht::gateway::{MemoryGateway, TcpGateway, UdpGateway, UnixGateway, address};
use kademlia_dht::{Config, DHTService, Error, EventsError, Limits, Multiaddr};

/// One test at a time: they count the threads of the process.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

const LONG: Duration = Duration::from_secs(3600);

/// Whether there are `count` threads of services.
///
/// The kernel names a thread shortly after its start and forgets it shortly after it was joined, so this looks until
/// it is so, but not for long.
#[cfg(target_os = "linux")]
fn has_threads(count: usize) -> bool {
    let start = Instant::now();
    loop {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
        if names.filter(|name| name.starts_with("dht-")).count() == count {
            return true;
        }
        if start.elapsed() > Duration::from_secs(5) {
            return false;
        }
        // Nobody tells.
        never::<()>().recv_timeout(Duration::from_millis(1)).unwrap_err();
    }
}

#[cfg(not(target_os = "linux"))]
fn has_threads(_: usize) -> bool {
    true
}

struct Everything {
    service: DHTService,
    addresses: Vec<Multiaddr>,
    sockets: tempfile::TempDir,
}

/// A service on every transport, on `addresses` or, if there are none, wherever there is room.
fn everywhere(addresses: &[Multiaddr]) -> Everything {
    let sockets = tempfile::tempdir().unwrap();
    let limits = Limits { operations: 2000, ..Limits::default() };
    let config = Config { request_timeout: Duration::from_secs(60), lookup_timeout: LONG, limits, ..Config::default() };
    let service = DHTService::start(config).unwrap();
    let at = |index: usize, default: &str| addresses.get(index).cloned().unwrap_or_else(|| default.parse().unwrap());
    service.register_gateway(UdpGateway::bind(at(0, "/ip4/127.0.0.1/udp/0")).unwrap()).unwrap();
    service.register_gateway(TcpGateway::bind(at(1, "/ip4/127.0.0.1/tcp/0")).unwrap()).unwrap();
    service.register_gateway(MemoryGateway::bind(at(2, "/memory/0")).unwrap()).unwrap();
    let path = address::unix_address(sockets.path().join("a.sock")).unwrap();
    service.register_gateway(UnixGateway::bind(path).unwrap()).unwrap();
    let addresses = service.listen_addresses();
    Everything { service, addresses, sockets }
}

#[test]
fn stop_with_a_thousand_operations_open() {
    let _alone = alone();
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let nobody: Multiaddr = format!("/ip4/127.0.0.1/udp/{}", silent.local_addr().unwrap().port()).parse().unwrap();
    let Everything { service, addresses, sockets } = everywhere(&[]);
    assert!(has_threads(5));
    let events = service.events();
    let open: Vec<_> = (0..1000).map(|_| service.ping(nobody.clone())).collect();
    // The first one is under way: its message has arrived.
    silent.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    silent.recv_from(&mut [0; 2000]).unwrap();
    let start = Instant::now();
    service.stop();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    for mut pending in open {
        assert_eq!(pending.try_take(), Some(Err(Error::Stopped)));
    }
    assert!(has_threads(0));
    assert_eq!(std::fs::read_dir(sockets.path()).unwrap().count(), 0, "the socket file is gone");
    assert_eq!(events.collect::<Vec<_>>(), []);

    // Once is enough, and what comes later is told so.
    service.stop();
    assert_eq!(service.query("key").try_take(), Some(Err(Error::Stopped)));
    assert_eq!(service.events().recv(), Err(EventsError::Stopped));
    assert!(service.status().stopped && service.status().gateways.is_empty());
    assert!(service.listen_addresses().is_empty());

    // All ports are free.
    everywhere(&addresses).service.stop();
}

#[test]
fn dropping_the_last_handle_stops_the_service() {
    let _alone = alone();
    let Everything { service, addresses, sockets } = everywhere(&[]);
    let other = service.clone();
    drop(service);
    assert!(has_threads(5));
    let pending = other.query("key");
    drop(other);
    assert!(has_threads(0));
    // Nobody to ask: it may have ended before.
    assert!(pending.is_ready());
    assert_eq!(std::fs::read_dir(sockets.path()).unwrap().count(), 0);
    everywhere(&addresses).service.stop();
}

#[test]
fn many_stop_it_at_once_while_others_use_it() {
    let _alone = alone();
    let Everything { service, .. } = everywhere(&[]);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| while service.query("key").wait() != Err(Error::Stopped) {});
            scope.spawn(|| {
                loop {
                    let gateway = MemoryGateway::bind("/memory/0".parse().unwrap()).unwrap();
                    match service.register_gateway(gateway) {
                        Ok(gateway) => drop(service.remove_gateway(gateway)),
                        Err(_) => break,
                    }
                }
            });
            scope.spawn(|| {
                service.status();
                service.stop();
                service.status()
            });
        }
    });
    assert!(has_threads(0));
}

#[test]
fn a_waker_may_stop_the_service_that_calls_it() {
    struct Stops(DHTService, crossbeam::channel::Sender<()>);

    impl std::task::Wake for Stops {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.stop();
            self.1.send(()).unwrap();
        }
    }

    let _alone = alone();
    let Everything { service, .. } = everywhere(&[]);
    let (sender, stopped) = crossbeam::channel::bounded(1);
    let waker = std::task::Waker::from(std::sync::Arc::new(Stops(service.clone(), sender)));
    loop {
        // Ready at once if the manager was faster; then once more.
        let mut query = service.query("key");
        let mut context = std::task::Context::from_waker(&waker);
        if std::pin::Pin::new(&mut query).poll(&mut context).is_pending() {
            break;
        }
    }
    stopped.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(service.query("key").wait(), Err(Error::Stopped));
    service.stop();
    drop(waker);
}
