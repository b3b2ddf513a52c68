//! What every gateway does, whatever its transport.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "it is a test"
)]

mod common;

use std::thread;

use common::*;
use kademlia_gateways::address::through;
use kademlia_gateways::*;

/// One transport.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    /// Whether messages can get lost without a word.
    datagrams: bool,
    bind: fn(Option<&Multiaddr>) -> Bound,
}

type Bound = Result<Box<dyn Gateway>, GatewayError>;

impl Kind {
    /// A gateway on a free address.
    fn make(self) -> Box<dyn Gateway> {
        (self.bind)(None).unwrap()
    }

    fn start(self) -> Node {
        Node::start_boxed(self.make())
    }
}

/// A path for a socket that nobody has.
#[cfg(all(unix, feature = "unix"))]
fn socket_address() -> Multiaddr {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());
    static NEXT: AtomicU64 = AtomicU64::new(0);
    address::unix_address(FOLDER.path().join(NEXT.fetch_add(1, Ordering::Relaxed).to_string())).unwrap()
}

#[allow(unused_macros, reason = "there is a build without any gateway")]
macro_rules! kind {
    ($name:literal, $datagrams:literal, $gateway:ident, $free:expr) => {
        Kind {
            name: $name,
            datagrams: $datagrams,
            bind: |address| Ok(Box::new($gateway::bind(address.cloned().unwrap_or_else(|| $free))?)),
        }
    };
    (faultless $name:literal, $datagrams:literal, $gateway:ident, $free:expr) => {
        Kind {
            name: $name,
            datagrams: $datagrams,
            bind: |address| {
                let inner = $gateway::bind(address.cloned().unwrap_or_else(|| $free))?;
                Ok(Box::new(FaultGateway::new(inner, FaultConfig::default()).unwrap()))
            },
        }
    };
}

fn every_gateway(test: impl Fn(Kind)) {
    let kinds: &[Kind] = &[
        #[cfg(feature = "udp")]
        kind!("udp, IPv4", true, UdpGateway, address("/ip4/127.0.0.1/udp/0")),
        #[cfg(feature = "udp")]
        kind!("udp, IPv6", true, UdpGateway, address("/ip6/::1/udp/0")),
        #[cfg(feature = "tcp")]
        kind!("tcp, IPv4", false, TcpGateway, address("/ip4/127.0.0.1/tcp/0")),
        #[cfg(feature = "tcp")]
        kind!("tcp, IPv6", false, TcpGateway, address("/ip6/::1/tcp/0")),
        #[cfg(all(unix, feature = "unix"))]
        kind!("unix", false, UnixGateway, socket_address()),
        #[cfg(feature = "memory")]
        kind!("memory", false, MemoryGateway, address("/memory/0")),
        #[cfg(all(feature = "memory", feature = "fault"))]
        kind!(faultless "memory without faults", false, MemoryGateway, address("/memory/0")),
        #[cfg(all(feature = "tcp", feature = "fault"))]
        kind!(faultless "tcp without faults", false, TcpGateway, address("/ip4/127.0.0.1/tcp/0")),
        #[cfg(all(feature = "udp", feature = "fault"))]
        kind!(faultless "udp without faults", true, UdpGateway, address("/ip4/127.0.0.1/udp/0")),
    ];
    for kind in kinds {
        println!("{}", kind.name);
        test(*kind);
    }
}

#[test]
fn messages_go_there_and_answers_come_back() {
    every_gateway(|kind| {
        let (mut one, mut two) = (kind.start(), kind.start());
        for n in 0..10 {
            one.send(&two.address(), request(n)).unwrap();
            let asked = two.next();
            assert_eq!(asked.envelope, request(n));
            assert_eq!(asked.from, one.address(), "a request to it would reach the sender");
            two.answer(&asked, reply(n)).unwrap();
            let answered = one.next();
            assert_eq!(answered.envelope, reply(n));
            assert_eq!(answered.from, two.address(), "from where it was asked");
            // Also the other way, by a connection of its own.
            two.send(&asked.from, request(n + 100)).unwrap();
            assert_eq!(one.next().envelope, request(n + 100));
        }
        assert_eq!(one.host.counts(), LinkCounts { received: 20, ..LinkCounts::default() });
        one.stop();
        two.stop();
    });
}

#[test]
fn a_gateway_reaches_itself() {
    every_gateway(|kind| {
        let mut one = kind.start();
        one.send(&one.address(), request(1)).unwrap();
        let asked = one.next();
        assert_eq!((asked.envelope.clone(), &asked.from), (request(1), &one.address()));
        one.answer(&asked, reply(1)).unwrap();
        assert_eq!(one.next().envelope, reply(1));
    });
}

#[test]
fn only_what_can_be_reached_is_dialled() {
    let foreign = ["/dns4/example.org/tcp/1", "/ip4/127.0.0.1", "/ip4/127.0.0.1/tcp/1/http", "/unix/relative"];
    every_gateway(|kind| {
        let (mut one, two) = (kind.start(), kind.start());
        assert!(one.outbox.dials(&two.address()));
        let circuit = through(&two.address(), &two.address());
        for address in foreign.into_iter().map(address).chain([circuit, Multiaddr::empty()]) {
            assert!(!one.outbox.dials(&address), "{address}");
            assert_eq!(one.why_unsent(&address, request(1)), UnsentReason::NotDialable, "{address}");
        }
    });
}

#[test]
fn ten_thousand_messages_arrive_in_order() {
    every_gateway(|kind| {
        if kind.datagrams {
            return;
        }
        let (mut one, mut two) = (kind.start(), kind.start());
        for window in 0..20 {
            for n in 0..500 {
                one.send_patiently(&two.address(), &request(window * 500 + n));
            }
            for n in 0..500 {
                assert_eq!(tag(&two.next().envelope), window * 500 + n);
            }
        }
    });
}

#[test]
fn what_the_node_cannot_take_yet_waits_or_is_counted() {
    every_gateway(|kind| {
        if kind.datagrams && kind.name.contains("faults") {
            // Two nodes' worth of messages fit.
            return;
        }
        let (mut one, mut two) = (kind.start(), kind.start());
        let amount = MAX_PENDING as u64 + 500;
        for n in 0..amount {
            one.send_patiently(&two.address(), &request(n));
            if kind.datagrams && n % 32 == 0 {
                // Datagrams pass only as fast as they are received: the kernel would drop them, and not count them.
                two.wait_for_counts("keeps up", |counts| counts.received + counts.queue_full > n);
            }
        }
        if kind.datagrams {
            two.wait_for_counts("all are counted", |counts| counts.received + counts.queue_full == amount);
            assert!(two.host.counts().queue_full >= 400, "{:?}", two.host.counts());
        } else {
            for n in 0..amount {
                assert_eq!(tag(&two.next().envelope), n, "none is lost");
            }
            assert_eq!(two.host.counts().queue_full, 0);
        }
        // There is room again.
        while two.events.try_recv().is_ok() {}
        one.send(&two.address(), request(amount)).unwrap();
        assert_eq!(tag(&two.next().envelope), amount);
    });
}

#[test]
fn the_largest_message_passes_and_a_larger_one_is_told() {
    every_gateway(|kind| {
        let (mut one, mut two) = (kind.start(), kind.start());
        let largest = one.outbox.limits().largest;
        let bytes = |value: usize| {
            let mut buffer = Vec::new();
            codec::encode(&store(1, value), &mut buffer).unwrap();
            buffer.len()
        };
        let value = largest - (bytes(largest - 200) - (largest - 200));
        assert_eq!(bytes(value), largest);
        one.send(&two.address(), store(1, value)).unwrap();
        assert_eq!(two.next().envelope, store(1, value));

        let reason = one.why_unsent(&two.address(), store(2, value + 1));
        assert_eq!(reason, UnsentReason::TooLarge { limit: largest as u32 });
        one.send(&two.address(), request(3)).unwrap();
        assert_eq!(two.next().envelope, request(3), "nothing of it went out");
    });
}

#[test]
fn replies_leave_out_contacts_that_do_not_fit() {
    every_gateway(|kind| {
        let (mut one, mut two) = (kind.start(), kind.start());
        one.send(&two.address(), found(1, 250)).unwrap();
        let Envelope::Direct(Message { body: Body::Reply(Reply::Found(arrived)), .. }) = two.next().envelope else {
            panic!("it is the reply");
        };
        let Envelope::Direct(Message { body: Body::Reply(Reply::Found(sent)), .. }) = found(1, 250) else {
            panic!("it is a reply");
        };
        assert_eq!(arrived.contacts, sent.contacts[..arrived.contacts.len()], "the nearest");
        assert_eq!(arrived.contacts.len() < 250, kind.datagrams);
    });
}

#[test]
fn the_address_is_free_again_after_the_end() {
    every_gateway(|kind| {
        let (one, mut two) = (kind.start(), kind.start());
        let address = one.address();
        two.send(&address, request(1)).unwrap();
        one.stop();
        let mut again = Node::start_boxed((kind.bind)(Some(&address)).unwrap());
        assert_eq!(again.address(), address);
        again.send(&two.address(), request(2)).unwrap();
        assert_eq!(two.next().envelope, request(2));
    });
}

#[test]
fn an_address_in_use_is_named_with_the_cause() {
    every_gateway(|kind| {
        let one = kind.make();
        let address = one.addresses()[0].clone();
        let error = (kind.bind)(Some(&address)).err().unwrap();
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        assert!(
            matches!(error, GatewayError::Bind { ref source, .. } if source.kind() == std::io::ErrorKind::AddrInUse)
        );
    });
}

#[test]
fn an_address_of_another_kind_is_refused_with_an_example() {
    every_gateway(|kind| {
        for text in ["/dns4/example.org/udp/1", "/ip4/127.0.0.1", "/unix/relative"] {
            let error = (kind.bind)(Some(&address(text))).err().unwrap();
            assert!(matches!(error, GatewayError::Address { .. }), "{error}");
            assert!(error.to_string().contains(text), "{error}");
        }
    });
}

#[test]
fn it_can_be_reopened_on_the_same_address() {
    every_gateway(|kind| {
        let (mut one, mut two) = (kind.start(), kind.start());
        let address = one.address();
        one.host.stop();
        let (mut gateway, result) = one.join();
        result.unwrap();
        let (to_node, _events) = crossbeam::channel::unbounded();
        let (link, _host) = Link::new(0, to_node);
        assert!(matches!(gateway.run(&link), Err(GatewayError::Ended)), "first it has to be reopened");
        assert!(matches!(gateway.outbox().err(), Some(GatewayError::Ended)));

        // The outbox of the first run is still there, and keeps nothing occupied.
        gateway.reopen().unwrap();
        let mut again = Node::start_boxed(gateway);
        assert_eq!(again.address(), address);
        again.send(&two.address(), request(1)).unwrap();
        let asked = two.next();
        assert_eq!((asked.envelope.clone(), &asked.from), (request(1), &address));
        two.answer(&asked, reply(1)).unwrap();
        assert_eq!(again.next().envelope, reply(1));
    });
}

#[test]
fn an_outbox_outlives_its_gateway_and_says_so() {
    every_gateway(|kind| {
        let (mut one, two) = (kind.start(), kind.start());
        one.host.stop();
        drop(one.join());
        let reason = one.send(&two.address(), request(1)).err().map(|unsent| unsent.reason);
        assert_eq!(reason, Some(UnsentReason::Closed));
    });
}

#[test]
fn it_stops_at_once_while_busy() {
    every_gateway(|kind| {
        let (mut one, mut two) = (kind.start(), kind.start());
        one.send(&two.address(), request(0)).unwrap();
        two.next();
        let to = two.address();
        let flood = thread::spawn(move || {
            for n in 0..200_000 {
                match one.send(&to, request(n)) {
                    Err(unsent) if unsent.reason == UnsentReason::QueueFull => a_moment(),
                    Err(_) => break,
                    Ok(()) => {}
                }
                if one.host.counts().unsent > 0 {
                    break;
                }
            }
            one
        });
        two.next();
        two.stop();
        flood.join().unwrap().stop();
    });
}

#[test]
fn it_stops_though_nobody_reads_what_it_delivers() {
    every_gateway(|kind| {
        let (mut one, two) = (kind.start(), kind.start());
        for n in 0..MAX_PENDING as u64 + 200 {
            one.send_patiently(&two.address(), &request(n));
        }
        two.stop();
        one.stop();
    });
}

#[test]
fn a_link_that_stops_already_ends_the_run() {
    every_gateway(|kind| {
        let mut gateway = kind.make();
        let (to_node, _events) = crossbeam::channel::unbounded();
        let (link, host) = Link::new(0, to_node);
        drop(host);
        gateway.run(&link).unwrap();
    });
}

#[test]
fn an_idle_gateway_does_not_wake_up() {
    every_gateway(|kind| {
        let (mut one, mut two) = (kind.start(), kind.start());
        one.wait_for_idleness("before the first message");
        one.send(&two.address(), request(1)).unwrap();
        two.next();
        one.wait_for_idleness("with what was opened");
        two.wait_for_idleness("with what was opened");
        one.stop();
        two.wait_for_idleness("with what was closed");
    });
}

#[test]
fn nobody_there_is_told_at_once() {
    every_gateway(|kind| {
        if kind.datagrams {
            return;
        }
        let (mut one, two) = (kind.start(), kind.start());
        let nobody = two.address();
        two.stop();
        for n in 0..5 {
            assert_eq!(one.why_unsent(&nobody, request(n)), UnsentReason::Unreachable);
        }
        // Many at once, which wait for the same connection.
        let told = (0..50).filter(|n| one.send(&nobody, request(*n)).is_err()).count();
        for _ in told..50 {
            assert_eq!(one.next_unsent().1, UnsentReason::Unreachable);
        }
        one.assert_quiet();
    });
}
