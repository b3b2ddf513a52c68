//! A gateway that is removed, fails, or panics disturbs no other, says so in an event, and leaves its address free.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded, select, unbounded};
use kademlia_dht::gateway::{
    Gateway, GatewayError, Inbound, Link, MemoryGateway, Outbound, Outbox, Queue, SizeLimits, TcpGateway, UdpGateway,
    Unsent,
};
use kademlia_dht::{
    Config, DHTService, Error, Event, Events, GatewayId, GatewayState, Multiaddr, Pending, RemoveError, UnsentReason,
};

const LONG: Duration = Duration::from_secs(30);

fn done<T>(pending: Pending<T>) -> Result<T, Error> {
    pending.wait_timeout(LONG).unwrap_or_else(|_| panic!("nothing within {LONG:?}"))
}

/// The inboxes of all pipes, by address.
static PIPES: Mutex<Option<HashMap<Multiaddr, Sender<Inbound>>>> = Mutex::new(None);

fn pipes() -> MutexGuard<'static, Option<HashMap<Multiaddr, Sender<Inbound>>>> {
    PIPES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a pipe can be told to do.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Break {
    Return,
    Fail,
    Panic,
}

/// A gateway over channels that breaks on command.
struct Pipe {
    address: Multiaddr,
    reopens: bool,
    commands: Receiver<Break>,
    outbox: Option<Queue>,
    outbound: Receiver<Outbound>,
    inbox: Receiver<Inbound>,
    gate: Option<Gate>,
}

/// Holds up whoever opens a pipe again.
struct Gate {
    reached: Sender<()>,
    open: Receiver<()>,
}

impl Pipe {
    fn bind(port: u16, reopens: bool) -> (Pipe, Sender<Break>) {
        let address: Multiaddr = format!("/ip4/127.0.0.1/sctp/{port}").parse().unwrap();
        let (sender, commands) = unbounded();
        let (outbound, inbox) = (bounded(0).1, bounded(0).1);
        let mut pipe = Pipe { address, reopens, commands, outbox: None, outbound, inbox, gate: None };
        pipe.open().unwrap();
        (pipe, sender)
    }

    fn open(&mut self) -> Result<(), GatewayError> {
        let (sender, inbox) = bounded(1000);
        let mut pipes = pipes();
        let pipes = pipes.get_or_insert_default();
        if pipes.contains_key(&self.address) {
            return Err(GatewayError::Failed(format!("{} is taken", self.address)));
        }
        pipes.insert(self.address.clone(), sender);
        self.inbox = inbox;
        let dials = |address: &Multiaddr| address.protocol_stack().eq(["ip4", "sctp"]);
        let (outbox, outbound) = Queue::new(1000, SizeLimits::STREAM, dials);
        (self.outbox, self.outbound) = (Some(outbox), outbound);
        Ok(())
    }

    fn close(&mut self) {
        pipes().get_or_insert_default().remove(&self.address);
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.close();
    }
}

/// An outbox that panics over one address.
struct Touchy(Queue);

const FORBIDDEN: &str = "/ip4/127.0.0.1/sctp/13";

impl Outbox for Touchy {
    fn dials(&self, address: &Multiaddr) -> bool {
        self.0.dials(address)
    }

    fn limits(&self) -> SizeLimits {
        self.0.limits()
    }

    fn send(&mut self, outbound: Outbound) -> Result<(), Unsent> {
        assert_ne!(outbound.to.to_string(), FORBIDDEN);
        self.0.send(outbound)
    }
}

impl Gateway for Pipe {
    fn name(&self) -> String {
        "pipe".to_owned()
    }

    fn addresses(&self) -> Vec<Multiaddr> {
        vec![self.address.clone()]
    }

    fn outbox(&mut self) -> Result<Box<dyn Outbox>, GatewayError> {
        self.outbox.take().map(|outbox| Box::new(Touchy(outbox)) as _).ok_or(GatewayError::NotReopenable)
    }

    fn run(&mut self, link: &Link) -> Result<(), GatewayError> {
        loop {
            select! {
                recv(link.stop_signal()) -> _ => return Ok(()),
                recv(self.commands) -> command => match command {
                    Ok(Break::Fail) => return Err(GatewayError::Failed("told to fail".to_owned())),
                    Ok(Break::Panic) => panic!("told to panic"),
                    Ok(Break::Return) | Err(_) => return Ok(()),
                },
                recv(self.inbox) -> inbound => link.deliver_or_drop(inbound.into_iter().collect()),
                recv(self.outbound) -> outbound => {
                    let Ok(Outbound { to, envelope, .. }) = outbound else { return Ok(()) };
                    let sent = pipes().get_or_insert_default().get(&to).is_some_and(|inbox| {
                        inbox.try_send(Inbound::new(self.address.clone(), envelope.clone())).is_ok()
                    });
                    if !sent {
                        link.unsent(envelope.own_request(), UnsentReason::Unreachable);
                    }
                }
            }
        }
    }

    fn reopen(&mut self) -> Result<(), GatewayError> {
        if !self.reopens {
            return Err(GatewayError::NotReopenable);
        }
        if let Some(gate) = &self.gate {
            gate.reached.send(()).unwrap();
            gate.open.recv_timeout(LONG).unwrap();
        }
        self.close();
        self.open()
    }
}

/// Two nodes, joined by memory and by pipes.
struct Pair {
    a: DHTService,
    b: DHTService,
    /// Of `a`.
    memory: Multiaddr,
    pipe: Multiaddr,
    gateway: GatewayId,
    commands: Sender<Break>,
    events: Events,
    _commands_of_b: Sender<Break>,
}

/// `port` and the next one must be of no other test.
fn pair(port: u16, reopens: bool) -> Pair {
    let start = |port| {
        let service = DHTService::start(Config::default()).unwrap();
        service.register_gateway(MemoryGateway::bind("/memory/0".parse().unwrap()).unwrap()).unwrap();
        let (pipe, commands) = Pipe::bind(port, reopens);
        let gateway = service.register_gateway(pipe).unwrap();
        (service, gateway, commands)
    };
    let (a, gateway, commands) = start(port);
    let (b, _, _commands_of_b) = start(port + 1);
    let [memory, pipe] = a.listen_addresses().try_into().unwrap();
    done(b.connect(memory.clone())).unwrap();
    let events = a.events();
    Pair { a, b, memory, pipe, gateway, commands, events, _commands_of_b }
}

impl Pair {
    /// Breaks the pipe while the two talk by memory; nothing of that is lost.
    fn breaks(&self, how: Break) {
        let before: Vec<_> = (0..200).map(|_| self.b.ping(self.memory.clone())).collect();
        self.commands.send(how).unwrap();
        let after: Vec<_> = (0..200).map(|_| self.a.ping(self.b.listen_addresses()[0].clone())).collect();
        for ping in before.into_iter().chain(after) {
            done(ping).unwrap();
        }
    }

    fn wait_for(&self, wanted: &Event) {
        self.events
            .wait_for(LONG, |event| (event == *wanted).then_some(()))
            .unwrap_or_else(|_| panic!("no {wanted:?}"));
    }

    fn failed(&self, cause: &str) {
        self.wait_for(&Event::GatewayFailed { gateway: self.gateway, cause: cause.to_owned() });
    }

    fn state(&self) -> GatewayState {
        self.a.status().gateways[1].state.clone()
    }

    /// Whether the pipe's address can be registered again, and works.
    fn again(&self, port: u16) {
        let (pipe, commands) = Pipe::bind(port, false);
        self.a.register_gateway(pipe).unwrap();
        done(self.b.ping(self.pipe.clone())).unwrap();
        drop(commands);
    }
}

#[test]
fn one_that_returns_has_ended() {
    let pair = pair(100, true);
    done(pair.b.ping(pair.pipe.clone())).unwrap();
    pair.breaks(Break::Return);
    pair.wait_for(&Event::GatewayEnded { gateway: pair.gateway });
    assert_eq!(pair.state(), GatewayState::Ended);
    assert_eq!(done(pair.b.ping(pair.pipe.clone())), Err(Error::Unsent(UnsentReason::Unreachable)));
    pair.again(100);
    assert_eq!(pair.a.remove_gateway(pair.gateway), Ok(()));
    assert_eq!(pair.a.remove_gateway(pair.gateway), Err(RemoveError::Unknown(pair.gateway)));
}

#[test]
fn one_that_fails_and_cannot_be_reopened() {
    let pair = pair(200, false);
    pair.breaks(Break::Fail);
    pair.failed("told to fail");
    pair.wait_for(&Event::GatewayEnded { gateway: pair.gateway });
    assert_eq!(pair.state(), GatewayState::Failed { cause: "told to fail".to_owned() });
    pair.again(200);
}

#[test]
fn one_that_fails_is_reopened() {
    let pair = pair(300, true);
    for (how, cause) in [(Break::Fail, "told to fail"), (Break::Panic, "it panicked: told to panic")] {
        pair.breaks(how);
        pair.failed(cause);
        pair.wait_for(&Event::GatewayRestarted { gateway: pair.gateway });
        assert_eq!(pair.state(), GatewayState::Running);
        done(pair.b.ping(pair.pipe.clone())).unwrap();
    }
}

/// A pipe that can break and is then down until it is told to open again.
fn gated(port: u16) -> (Pipe, Sender<Break>, Receiver<()>, Sender<()>) {
    let (mut pipe, commands) = Pipe::bind(port, true);
    let (reached, down) = unbounded();
    let (up, open) = unbounded();
    pipe.gate = Some(Gate { reached, open });
    (pipe, commands, down, up)
}

#[test]
fn while_it_is_down_its_messages_are_unsent() {
    let service = DHTService::start(Config::default()).unwrap();
    let (pipe, commands, down, up) = gated(400);
    let own = pipe.address.clone();
    let gateway = service.register_gateway(pipe).unwrap();
    let events = service.events();
    for _ in 0..2 {
        commands.send(Break::Fail).unwrap();
        down.recv_timeout(LONG).unwrap();
        assert_eq!(done(service.ping(own.clone())), Err(Error::Unsent(UnsentReason::Closed)));
        let cause = "told to fail".to_owned();
        assert_eq!(service.status().gateways[0].state, GatewayState::Restarting { cause });
        up.send(()).unwrap();
        let restarted = Event::GatewayRestarted { gateway };
        events.wait_for(LONG, |event| (event == restarted).then_some(())).unwrap();
        // It dials again, and reaches itself.
        assert_eq!(done(service.ping(own.clone())), Err(Error::Itself));
    }
}

#[test]
fn one_that_is_removed_while_it_is_reopened_leaves_no_trace() {
    let service = DHTService::start(Config::default()).unwrap();
    let (pipe, commands, down, up) = gated(800);
    let own = pipe.address.clone();
    let gateway = service.register_gateway(pipe).unwrap();
    let events = service.events();
    commands.send(Break::Fail).unwrap();
    down.recv_timeout(LONG).unwrap();
    let remover = service.clone();
    let removing = std::thread::spawn(move || remover.remove_gateway(gateway));
    // Until all is forgotten of it but its thread, which opens it now.
    while done(service.ping(own.clone())) != Err(Error::Unsent(UnsentReason::NotDialable)) {}
    up.send(()).unwrap();
    assert_eq!(removing.join().unwrap(), Ok(()));
    events
        .wait_for(LONG, |event| {
            assert!(!matches!(event, Event::GatewayRestarted { .. }));
            matches!(event, Event::GatewayRemoved { .. }).then_some(())
        })
        .unwrap();
    assert_eq!(done(service.ping(own.clone())), Err(Error::Unsent(UnsentReason::NotDialable)));
    let (pipe, _commands) = Pipe::bind(800, false);
    service.register_gateway(pipe).unwrap();
    assert_eq!(done(service.ping(own)), Err(Error::Itself));
}

/// A gateway that runs this, then ends.
struct Running<F>(F);

impl<F: FnMut(&Link) + Send + 'static> Gateway for Running<F> {
    fn name(&self) -> String {
        "running".to_owned()
    }

    fn addresses(&self) -> Vec<Multiaddr> {
        Vec::new()
    }

    fn outbox(&mut self) -> Result<Box<dyn Outbox>, GatewayError> {
        Ok(Box::new(Queue::new(1, SizeLimits::STREAM, |_| false).0))
    }

    fn run(&mut self, link: &Link) -> Result<(), GatewayError> {
        (self.0)(link);
        Ok(())
    }
}

#[test]
fn one_that_removes_another_waits_if_it_is_of_another_service() {
    let [own, other] = [(); 2].map(|()| DHTService::start(Config::default()).unwrap());
    for (service, waits) in [(other, true), (own.clone(), false)] {
        let (removed, has_returned) = bounded(1);
        let (tell, told) = bounded(1);
        let slow = service.register_gateway(Running(move |link: &Link| {
            link.stop_signal().recv().unwrap_err();
            // Too short a wait would let a mistake pass, and never be one itself.
            let returned = has_returned.recv_timeout(if waits { Duration::from_millis(150) } else { LONG }).is_ok();
            tell.send(returned).unwrap();
        }));
        let slow = slow.unwrap();
        let removing = Running(move |_: &Link| {
            assert_eq!(service.remove_gateway(slow), Ok(()));
            // Nobody listens any more if it was waited for.
            removed.send(()).ok();
        });
        own.register_gateway(removing).unwrap();
        assert_eq!(told.recv_timeout(LONG), Ok(!waits));
    }
}

#[test]
fn one_that_panics_has_ended() {
    let pair = pair(500, false);
    pair.breaks(Break::Panic);
    pair.failed("it panicked: told to panic");
    pair.wait_for(&Event::GatewayEnded { gateway: pair.gateway });
    pair.again(500);
}

#[test]
fn one_whose_outbox_panics_has_ended() {
    let pair = pair(700, true);
    assert_eq!(done(pair.a.ping(FORBIDDEN.parse().unwrap())), Err(Error::Unsent(UnsentReason::Closed)));
    pair.wait_for(&Event::GatewayEnded { gateway: pair.gateway });
    assert!(matches!(pair.state(), GatewayState::Failed { cause } if cause.contains("sctp/13")));
    done(pair.b.ping(pair.memory.clone())).unwrap();
    pair.again(700);
}

#[test]
fn one_that_is_removed_while_queries_run() {
    let start = || {
        let service = DHTService::start(Config { k: 4, ..Config::default() }).unwrap();
        service.register_gateway(UdpGateway::bind("/ip4/127.0.0.1/udp/0".parse().unwrap()).unwrap()).unwrap();
        service
    };
    let first = start();
    let tcp = TcpGateway::bind("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    let tcp = first.register_gateway(tcp).unwrap();
    let [at_udp, at_tcp] = first.listen_addresses().try_into().unwrap();
    let others: Vec<_> = (0..5).map(|_| start()).collect();
    for other in &others {
        done(other.connect(at_udp.clone())).unwrap();
    }
    done(first.save("key", "value")).unwrap();
    let events = first.events();
    let queries: Vec<_> = others.iter().cycle().take(200).map(|node| node.query("key")).collect();
    first.remove_gateway(tcp).unwrap();
    assert_eq!(
        events.wait_for(LONG, |event| if let Event::GatewayRemoved { gateway } = event { Some(gateway) } else { None }),
        Ok(tcp)
    );
    for query in queries {
        assert_eq!(done(query).unwrap().unwrap().value, b"value");
    }
    assert_eq!(first.listen_addresses(), [at_udp]);
    let again = first.register_gateway(TcpGateway::bind(at_tcp.clone()).unwrap()).unwrap();
    assert_ne!(again, tcp);
    let dialler = DHTService::start(Config::default()).unwrap();
    let gateway = TcpGateway::bind("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    dialler.register_gateway(gateway).unwrap();
    assert_eq!(done(dialler.ping(at_tcp)).unwrap().id, first.id());
}

#[test]
fn what_is_not_registered_is_handed_back() {
    let service = DHTService::start(Config::default()).unwrap();
    service.stop();
    let (pipe, _commands) = Pipe::bind(600, false);
    let error = service.register_gateway(pipe).unwrap_err();
    assert_eq!(error.to_string(), "the gateway was not registered: the service has stopped");
    assert_eq!(error.into_gateway().address.to_string(), "/ip4/127.0.0.1/sctp/600");
}

/// Panics over everything that comes to its end.
struct Fragile;

impl Gateway for Fragile {
    fn name(&self) -> String {
        "fragile".to_owned()
    }
    fn addresses(&self) -> Vec<Multiaddr> {
        vec!["/ip4/127.0.0.1/sctp/900".parse().unwrap()]
    }
    fn outbox(&mut self) -> Result<Box<dyn Outbox>, GatewayError> {
        Ok(Box::new(FragileOutbox))
    }
    fn run(&mut self, link: &Link) -> Result<(), GatewayError> {
        link.on_wake(|| panic!("it could not bear to be woken"));
        link.stop_signal().recv().ok();
        Ok(())
    }
}

struct FragileOutbox;

impl Outbox for FragileOutbox {
    fn dials(&self, _: &Multiaddr) -> bool {
        true
    }
    fn limits(&self) -> SizeLimits {
        SizeLimits::STREAM
    }
    fn send(&mut self, _: Outbound) -> Result<(), Unsent> {
        panic!("it could not bear to send");
    }
}

impl Drop for FragileOutbox {
    fn drop(&mut self) {
        panic!("it could not bear its end");
    }
}

#[test]
fn one_that_panics_over_its_end_harms_nobody() {
    let service = DHTService::start(Config::default()).unwrap();
    let memory = service.register_gateway(MemoryGateway::bind("/memory/0".parse().unwrap()).unwrap()).unwrap();
    let own = service.listen_addresses()[0].clone();
    let removed = service.register_gateway(Fragile).unwrap();
    assert_eq!(service.remove_gateway(removed), Ok(()));
    let fails = service.register_gateway(Fragile).unwrap();
    let events = service.events();
    assert!(done(service.ping("/ip4/192.0.2.1/udp/1".parse().unwrap())).is_err());
    let ended = |event| if let Event::GatewayEnded { gateway } = event { Some(gateway) } else { None };
    assert_eq!(events.wait_for(LONG, ended), Ok(fails));
    assert!(!service.status().stopped && service.status().failure.is_none());
    let other = DHTService::start(Config::default()).unwrap();
    other.register_gateway(MemoryGateway::bind("/memory/0".parse().unwrap()).unwrap()).unwrap();
    assert_eq!(done(other.ping(own)).unwrap().id, service.id());
    assert_eq!(service.remove_gateway(memory), Ok(()));
}
