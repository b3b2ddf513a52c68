//! Passes on what the inner gateway receives, and sends what was delayed.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crossbeam::channel::{Receiver, at, bounded, never, select};

use super::faults::{Fate, Faults};
use super::{Late, Sending, lock};
use crate::count::Count;
use crate::gateway::{Inbound, Outbound};
use crate::link::{Delivery, FromGateway, Link, MAX_PENDING};

/// What waits for its time.
enum Waiting {
    Outbound(Box<Outbound>),
    /// With the delivery that it came in: until then the inner gateway has that much less room.
    Inbound(Box<Inbound>, Arc<Delivery>),
}

pub(super) struct Relay<'a> {
    link: &'a Link,
    faults: &'a mut Faults,
    sending: &'a Mutex<Sending>,
    /// By the time when it is due, and its number.
    waiting: BTreeMap<(Instant, u64), Waiting>,
    next_number: u64,
    /// What is due and has not been handed to the node yet.
    due: Vec<Inbound>,
    /// What `due` came in.
    credits: Vec<Arc<Delivery>>,
}

impl<'a> Relay<'a> {
    pub(super) fn new(link: &'a Link, faults: &'a mut Faults, sending: &'a Mutex<Sending>) -> Self {
        let (waiting, next_number, due, credits) = Default::default();
        Relay { link, faults, sending, waiting, next_number, due, credits }
    }

    /// Relays until the link stops or the inner gateway has ended.
    pub(super) fn run(
        &mut self,
        from_inner: &Receiver<FromGateway>,
        ended: &Receiver<Infallible>,
        late: &Receiver<Late>,
    ) {
        let (wake, woken) = bounded(1);
        self.link.on_wake(move || {
            wake.try_send(()).ok();
        });
        let (no_events, no_late) = (never(), never());
        while !self.link.stopping() {
            // Where the node is behind, the inner gateway has to wait; where too much waits here, the sender has.
            let from_inner = if self.due.is_empty() { from_inner } else { &no_events };
            let late = if self.waiting.len() < MAX_PENDING { late } else { &no_late };
            let timer = self.waiting.first_key_value().map_or_else(never, |((due, _), _)| at(*due));
            select! {
                recv(self.link.stop_signal()) -> _ => return,
                recv(ended) -> _ => break,
                recv(woken) -> _ => {}
                recv(timer) -> _ => {}
                recv(from_inner) -> event => event.into_iter().for_each(|event| self.handle(event)),
                recv(late) -> late => late.into_iter().for_each(|late| self.handle_late(late)),
            }
            self.release(Instant::now());
            self.deliver();
        }
        from_inner.try_iter().for_each(|event| self.handle(event));
        self.deliver();
    }

    fn handle(&mut self, event: FromGateway) {
        match event {
            FromGateway::Unsent { tag, reason, .. } => self.link.unsent(Some(tag), reason),
            FromGateway::Delivery(mut delivery) => {
                let messages = delivery.take();
                let delivery = Arc::new(delivery);
                for inbound in messages {
                    self.receive(inbound, &delivery);
                }
            }
        }
    }

    fn receive(&mut self, mut inbound: Inbound, delivery: &Arc<Delivery>) {
        match self.faults.decide(&mut inbound.envelope) {
            Fate::Lost => {}
            Fate::Malformed => self.link.count(Count::Malformed),
            Fate::Arrives { after, again } => {
                let now = Instant::now();
                if let Some(delay) = again {
                    self.wait(now + delay, Waiting::Inbound(Box::new(inbound.clone()), Arc::clone(delivery)));
                }
                if after.is_zero() {
                    self.due.push(inbound);
                    self.credits.push(Arc::clone(delivery));
                } else {
                    self.wait(now + after, Waiting::Inbound(Box::new(inbound), Arc::clone(delivery)));
                }
            }
        }
    }

    fn handle_late(&mut self, late: Late) {
        match late {
            Late::Send(due, outbound) => self.wait(due, Waiting::Outbound(outbound)),
            Late::Malformed => self.link.count(Count::Malformed),
        }
    }

    fn wait(&mut self, until: Instant, what: Waiting) {
        self.next_number += 1;
        self.waiting.insert((until, self.next_number), what);
    }

    fn release(&mut self, now: Instant) {
        while let Some(first) = self.waiting.first_entry()
            && first.key().0 <= now
        {
            match first.remove() {
                Waiting::Inbound(inbound, delivery) => {
                    self.due.push(*inbound);
                    self.credits.push(delivery);
                }
                Waiting::Outbound(outbound) => {
                    if let Err(unsent) = lock(self.sending).send(*outbound) {
                        self.link.unsent(unsent.outbound.envelope.own_request(), unsent.reason);
                    }
                }
            }
        }
    }

    fn deliver(&mut self) {
        match self.link.deliver(std::mem::take(&mut self.due)) {
            Ok(()) => self.credits.clear(),
            Err(back) => self.due = back,
        }
    }
}
