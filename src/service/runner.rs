//! The thread of one gateway: runs it, and opens it again where it fails.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::RecvTimeoutError;
use kademlia_gateways::{Gateway, GatewayError, Link};

use super::bell::Post;
use super::events::{Event, Publisher};
use super::host::{Facts, ask};
use super::manager::Control;
use super::status::GatewayState;
use super::threads;

/// The thread of one gateway.
pub(super) struct Runner {
    pub(super) gateway: Box<dyn Gateway>,
    pub(super) link: Link,
    pub(super) facts: Arc<Facts>,
    pub(super) control: Post<Control>,
    pub(super) publisher: Arc<Publisher>,
}

impl Runner {
    const SHORTEST_DELAY: Duration = Duration::from_millis(100);
    const LONGEST_DELAY: Duration = Duration::from_secs(30);

    pub(super) fn run(mut self) {
        let mut delay = Self::SHORTEST_DELAY;
        loop {
            let start = Instant::now();
            let ended = guarded(|| self.gateway.run(&self.link));
            if self.link.stopping() {
                return self.stopped();
            }
            let cause = match ended {
                Ok(()) => return self.end(GatewayState::Ended),
                Err(error) => error.to_string(),
            };
            if start.elapsed() >= Self::LONGEST_DELAY {
                delay = Self::SHORTEST_DELAY;
            }
            self.fail(&cause);
            match self.reopen(&mut delay) {
                Reopened::Yes => {}
                Reopened::Never => return self.end(GatewayState::Failed { cause }),
                Reopened::Stopping => return self.stopped(),
            }
        }
    }

    fn stopped(self) {
        let state = self.facts.state();
        // By its failure, not by the service.
        if matches!(state, GatewayState::Failed { .. }) {
            self.end(state);
        }
    }

    fn fail(&self, cause: &str) {
        let gateway = self.facts.id;
        log::warn!("{gateway} ({}) has failed: {cause}", self.facts.name);
        // The outbox may share the socket, which must be closed before it can be opened again.
        ask(&self.control, |done| Control::Close { gateway, forget: false, done });
        self.facts.set_state(GatewayState::Restarting { cause: cause.to_owned() });
        self.publisher.publish(&Event::GatewayFailed { gateway, cause: cause.to_owned() });
    }

    fn reopen(&mut self, delay: &mut Duration) -> Reopened {
        loop {
            match self.link.stop_signal().recv_timeout(*delay) {
                Err(RecvTimeoutError::Timeout) => {}
                _ => return Reopened::Stopping,
            }
            *delay = (*delay * 2).min(Self::LONGEST_DELAY);
            let reopened = guarded(|| {
                self.gateway.reopen()?;
                Ok((self.gateway.outbox()?, self.gateway.addresses()))
            });
            match reopened {
                Ok((outbox, addresses)) => {
                    self.facts.set_addresses(addresses);
                    let facts = Arc::clone(&self.facts);
                    if !ask(&self.control, |done| Control::Open { facts, outbox, done }) {
                        return Reopened::Stopping;
                    }
                    self.facts.set_state(GatewayState::Running);
                    self.publisher.publish(&Event::GatewayRestarted { gateway: self.facts.id });
                    return Reopened::Yes;
                }
                Err(GatewayError::NotReopenable) => return Reopened::Never,
                Err(error) => log::debug!("{} cannot be reopened yet: {error}", self.facts.id),
            }
        }
    }

    fn end(self, state: GatewayState) {
        let Runner { gateway, facts, control, publisher, .. } = self;
        ask(&control, |done| Control::Close { gateway: facts.id, forget: true, done });
        // Foreign code again, which must not keep the others from learning of the end.
        threads::calmly(|| drop(gateway)).ok();
        facts.set_state(state);
        publisher.publish(&Event::GatewayEnded { gateway: facts.id });
    }
}

enum Reopened {
    Yes,
    Never,
    Stopping,
}

/// Calls a gateway; its panic is an error like any other.
fn guarded<T>(call: impl FnOnce() -> Result<T, GatewayError>) -> Result<T, GatewayError> {
    threads::calmly(call).unwrap_or_else(|panic| Err(GatewayError::Failed(panic)))
}

#[cfg(test)]
mod tests {
    use super::super::bell::Bell;
    use super::super::host::GatewayId;
    use super::*;
    use crossbeam::channel::unbounded;
    use kademlia_gateways::{Multiaddr, Outbox};

    /// Fails at once.
    struct Failing;

    impl Gateway for Failing {
        fn name(&self) -> String {
            "failing".to_owned()
        }
        fn addresses(&self) -> Vec<Multiaddr> {
            Vec::new()
        }
        fn outbox(&mut self) -> Result<Box<dyn Outbox>, GatewayError> {
            Err(GatewayError::Ended)
        }
        fn run(&mut self, _: &Link) -> Result<(), GatewayError> {
            Err(GatewayError::Failed("its run".to_owned()))
        }
    }

    #[test]
    fn one_that_fails_while_its_outbox_panics_has_ended() {
        let (link, host) = Link::new(1, unbounded().0);
        let facts = Arc::new(Facts::new(GatewayId(1), "failing".to_owned(), Vec::new(), host));
        let publisher = Arc::new(Publisher::new(10));
        let events = publisher.subscribe();
        let (control, asked) = unbounded();
        let control = Post::new(control, &Bell::default());
        let runner = Runner {
            gateway: Box::new(Failing),
            link,
            facts: Arc::clone(&facts),
            control,
            publisher: Arc::clone(&publisher),
        };
        let thread = std::thread::spawn(|| runner.run());
        let Ok(Control::Close { forget: false, done, .. }) = asked.recv() else { panic!("its outbox goes") };
        // The management thread was in the outbox when the run failed.
        facts.fail("its outbox".to_owned(), &publisher);
        done.send(()).unwrap();
        let Ok(Control::Close { forget: true, done, .. }) = asked.recv() else { panic!("it is forgotten") };
        done.send(()).unwrap();
        thread.join().unwrap();
        assert_eq!(facts.state(), GatewayState::Failed { cause: "its outbox".to_owned() });
        let ended = Event::GatewayEnded { gateway: GatewayId(1) };
        assert!(events.wait_for(Duration::ZERO, |event| (event == ended).then_some(())).is_ok());
    }
}
