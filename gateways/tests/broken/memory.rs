//! A gateway in memory with one flaw.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, after, bounded, never, select, unbounded};
use kademlia_gateways::conformance::Transport;
use kademlia_gateways::*;

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Flaw {
    None,
    Swallows,
    SwallowsSignatures,
    NamesAnotherSender,
    DeliversTwice,
    MissesItself,
    DialsEverything,
    ClaimsLargerMessages,
    ClaimsSmallerMessages,
    IgnoresAtMost,
    OverstatesSizes,
    LeavesOutTheNearest,
    HoldsItsOutbox,
    Reorders,
    LosesSome,
    DropsWhatIsTooMuch,
    NeverFull,
    HandsBackAnother,
    SilentAboutNobody,
    GivesAnotherReason,
    ReportsAnotherTag,
    ReportsWhatArrives,
    ReportsAnswers,
    CountsNoAnswers,
    BindsAnything,
    TakesAnotherAddress,
    NamesNothing,
    KeepsItsAddress,
    ReopensElsewhere,
    RunsAgain,
    NeverClosed,
    OverlooksEarlyStop,
    FinishesItsWork,
    FailsAtItsEnd,
    WaitsForItsReader,
    WaitsForItsOutbox,
    LooksForWork(Duration),
}

fn is_signed(envelope: &Envelope) -> bool {
    let Body::Request(Request::Store { record, .. }) = &envelope.message().body else { return false };
    matches!(record.kind, RecordKind::Signed(_))
}

/// What hangs ends some time after the check has.
const HANGS: Duration = Duration::from_secs(6);

pub(crate) fn reliable(flaw: Flaw) -> Transport {
    Transport::reliable("broken memory", move |wanted| Broken::bind(flaw, false, wanted))
}

pub(crate) fn lossy(flaw: Flaw) -> Transport {
    Transport::lossy("broken lossy memory", move |wanted| Broken::bind(flaw, true, wanted))
}

/// See [`Flaw`].
pub(crate) struct Broken {
    inner: MemoryGateway,
    flaw: Flaw,
    lossy: bool,
    /// What the outbox has reported as unsent.
    report: (Sender<Option<Tag>>, Receiver<Option<Tag>>),
    /// Held while it delivers.
    delivering: Arc<Mutex<()>>,
    outbox_gone: Receiver<()>,
    has_run: bool,
}

impl Broken {
    fn bind(flaw: Flaw, lossy: bool, wanted: Option<&Multiaddr>) -> Result<Self, GatewayError> {
        let free: Multiaddr = "/memory/0".parse().unwrap();
        let inner = match (flaw, MemoryGateway::bind(wanted.cloned().unwrap_or_else(|| free.clone()))) {
            (Flaw::BindsAnything, Err(GatewayError::Address { .. })) => MemoryGateway::bind(free)?,
            (Flaw::TakesAnotherAddress, Err(GatewayError::Bind { .. })) => MemoryGateway::bind(free)?,
            (Flaw::NamesNothing, Err(GatewayError::Bind { source, .. })) => return Err(source.into()),
            (_, bound) => bound?,
        };
        Ok(Broken {
            inner,
            flaw,
            lossy,
            report: unbounded(),
            delivering: Arc::default(),
            outbox_gone: never(),
            has_run: false,
        })
    }

    /// Hands over what came in.
    fn relay(&self, link: &Link, from_inner: &Receiver<FromGateway>, ended: &Receiver<()>) {
        let (wake, woken) = bounded(1);
        link.on_wake(move || {
            wake.try_send(()).ok();
        });
        let (mut waiting, mut overtaken) = (Vec::new(), Vec::new());
        let nothing = never();
        while !link.stopping() {
            let from_inner = if waiting.is_empty() { from_inner } else { &nothing };
            let look = match self.flaw {
                Flaw::LooksForWork(pause) => after(pause),
                _ => never(),
            };
            select! {
                recv(link.stop_signal()) -> _ => break,
                recv(ended) -> _ => break,
                recv(woken) -> _ => {}
                recv(look) -> _ => {}
                recv(self.report.1) -> request => link.unsent(request.unwrap(), UnsentReason::Unreachable),
                recv(from_inner) -> event => {
                    if let Ok(FromGateway::Delivery(mut delivery)) = event {
                        for inbound in delivery.take() {
                            self.receive(inbound, &mut overtaken, &mut waiting);
                        }
                    }
                }
            }
            waiting = self.deliver(link, waiting);
        }
        if self.flaw == Flaw::FinishesItsWork {
            let until = Instant::now() + HANGS;
            while from_inner.recv_timeout(Duration::from_millis(100)).is_ok() && Instant::now() < until {}
        }
    }

    fn receive(&self, mut inbound: Inbound, overtaken: &mut Vec<Inbound>, batch: &mut Vec<Inbound>) {
        let tag = inbound.envelope.message().tag.0;
        match self.flaw {
            Flaw::Reorders if tag % 1000 == 7 => return overtaken.push(inbound),
            Flaw::LosesSome if tag % 1000 == 7 => return,
            Flaw::NamesAnotherSender => inbound.from = "/memory/7".parse().unwrap(),
            Flaw::OverstatesSizes => inbound.bytes *= 3,
            Flaw::DeliversTwice => batch.push(inbound.clone()),
            _ => {}
        }
        batch.push(inbound);
        batch.append(overtaken);
    }

    /// Gives what has to wait.
    fn deliver(&self, link: &Link, mut batch: Vec<Inbound>) -> Vec<Inbound> {
        let until = Instant::now() + HANGS;
        match self.flaw {
            Flaw::DropsWhatIsTooMuch => drop(link.deliver(batch)),
            Flaw::HoldsItsOutbox => {
                let _held = self.delivering.lock().unwrap();
                return link.deliver(batch).err().unwrap_or_default();
            }
            Flaw::WaitsForItsReader => {
                while let Err(back) = link.deliver(batch) {
                    batch = back;
                    thread::park_timeout(Duration::from_millis(1));
                    if Instant::now() > until {
                        break;
                    }
                }
            }
            _ if self.lossy => link.deliver_or_drop(batch),
            _ => return link.deliver(batch).err().unwrap_or_default(),
        }
        Vec::new()
    }
}

fn hang() {
    let until = Instant::now() + HANGS;
    while Instant::now() < until {
        thread::park_timeout(HANGS);
    }
}

impl Gateway for Broken {
    fn name(&self) -> String {
        "broken memory".to_owned()
    }

    fn addresses(&self) -> Vec<Multiaddr> {
        self.inner.addresses()
    }

    fn outbox(&mut self) -> Result<Box<dyn Outbox>, GatewayError> {
        let (alive, outbox_gone) = bounded(0);
        self.outbox_gone = outbox_gone;
        let (inner, own) = (self.inner.outbox()?, self.inner.address().clone());
        let (report, delivering) = (self.report.0.clone(), Arc::clone(&self.delivering));
        Ok(Box::new(BrokenOutbox { inner, own, flaw: self.flaw, report, delivering, sent: 0, _alive: alive }))
    }

    fn lends_thread(&self) -> bool {
        self.flaw == Flaw::HoldsItsOutbox
    }

    fn run(&mut self, link: &Link) -> Result<(), GatewayError> {
        if self.flaw == Flaw::OverlooksEarlyStop && link.stopping() {
            hang();
        }
        if self.flaw == Flaw::RunsAgain && std::mem::replace(&mut self.has_run, true) {
            return Ok(());
        }
        let (to_relay, from_inner) = unbounded();
        let (inner_link, mut inner_host) = link.nested(to_relay);
        let mut inner = std::mem::replace(&mut self.inner, MemoryGateway::bind("/memory/0".parse().unwrap())?);
        let (running, ended) = bounded(0);
        let result = thread::scope(|scope| {
            let inner = &mut inner;
            let thread = scope.spawn(move || {
                let _dropped_at_the_end = running;
                inner.run(&inner_link)
            });
            self.relay(link, &from_inner, &ended);
            inner_host.stop();
            thread.join().unwrap()
        });
        self.inner = inner;
        let outbox_gone = self.outbox_gone.try_recv().is_err_and(|error| error.is_disconnected());
        match self.flaw {
            Flaw::KeepsItsAddress => self.inner.reopen()?,
            Flaw::WaitsForItsOutbox if outbox_gone => hang(),
            Flaw::FailsAtItsEnd => return Err(GatewayError::Failed("interrupted".to_owned())),
            _ => {}
        }
        result
    }

    fn reopen(&mut self) -> Result<(), GatewayError> {
        if self.flaw == Flaw::ReopensElsewhere {
            self.inner = MemoryGateway::bind("/memory/0".parse().unwrap())?;
            return Ok(());
        }
        self.inner.reopen()
    }
}

struct BrokenOutbox {
    inner: Box<dyn Outbox>,
    own: Multiaddr,
    flaw: Flaw,
    report: Sender<Option<Tag>>,
    delivering: Arc<Mutex<()>>,
    sent: u64,
    /// Dropped with the outbox.
    _alive: Sender<()>,
}

impl Outbox for BrokenOutbox {
    fn dials(&self, address: &Multiaddr) -> bool {
        self.flaw == Flaw::DialsEverything || self.inner.dials(address)
    }

    fn limits(&self) -> SizeLimits {
        let sound = self.inner.limits();
        match self.flaw {
            Flaw::ClaimsLargerMessages => SizeLimits { largest: sound.largest + 1000, ..sound },
            Flaw::ClaimsSmallerMessages => SizeLimits { preferred: 1200, largest: 1452 },
            _ => sound,
        }
    }

    fn send(&mut self, mut outbound: Outbound) -> Result<(), Unsent> {
        self.sent += 1;
        let tag = outbound.envelope.message().tag;
        match self.flaw {
            Flaw::Swallows if self.sent.is_multiple_of(3) => return Ok(()),
            Flaw::SwallowsSignatures if is_signed(&outbound.envelope) => return Ok(()),
            Flaw::MissesItself if outbound.to == self.own => {
                return Err(Unsent::new(outbound, UnsentReason::Unreachable));
            }
            Flaw::LeavesOutTheNearest => {
                if let Body::Reply(Reply::Found(found)) = &mut outbound.envelope.message_mut().body {
                    found.contacts.remove(0);
                }
            }
            Flaw::IgnoresAtMost => outbound.at_most = None,
            Flaw::HoldsItsOutbox => {
                let until = Instant::now() + HANGS;
                while self.delivering.try_lock().is_err() && Instant::now() < until {
                    thread::park_timeout(Duration::from_millis(1));
                }
            }
            Flaw::ReportsWhatArrives => self.report.send(Some(tag)).unwrap(),
            _ => {}
        }
        let Err(mut unsent) = self.inner.send(outbound) else { return Ok(()) };
        match (self.flaw, unsent.reason) {
            (Flaw::NeverFull, UnsentReason::QueueFull)
            | (Flaw::SilentAboutNobody, UnsentReason::Unreachable)
            | (Flaw::NeverClosed, UnsentReason::Closed) => return Ok(()),
            (Flaw::HandsBackAnother, UnsentReason::QueueFull) => unsent.outbound.envelope.message_mut().tag.0 ^= 1,
            (Flaw::GivesAnotherReason, UnsentReason::Unreachable) => unsent.reason = UnsentReason::NoNetwork,
            (Flaw::ReportsAnotherTag, UnsentReason::Unreachable) => {
                self.report.send(Some(Tag(tag.0 ^ 1))).unwrap();
                return Ok(());
            }
            (Flaw::ReportsAnswers, UnsentReason::Unreachable) => {
                self.report.send(Some(tag)).unwrap();
                return Ok(());
            }
            (Flaw::CountsNoAnswers, UnsentReason::Unreachable) if unsent.outbound.envelope.own_request().is_none() => {
                return Ok(());
            }
            _ => {}
        }
        Err(unsent)
    }
}
