//! Checks that every gateway must pass, whatever its transport: run them on your own.
//!
//! Describe the transport by a [`Transport`]: how to bind a gateway, whether messages can get lost on the way, and, if
//! you can, how to send raw bytes past it. Then [`run`] makes every check, each on gateways of its own, and the
//! [`Report`] names those that failed, with what was expected and what came.
//!
//! ```
//! # #[cfg(feature = "memory")] {
//! use kademlia_gateways::MemoryGateway;
//! use kademlia_gateways::conformance::{self, Check, Transport};
//!
//! let memory = Transport::reliable("memory", |address| {
//!     let free = || "/memory/0".parse().unwrap();
//!     MemoryGateway::bind(address.cloned().unwrap_or_else(free))
//! });
//! let report = conformance::run(&memory);
//! assert!(report.has_passed(), "{report}");
//!
//! // One check alone, by its value or by its name.
//! assert!(!Check::KeepsOrder.run(&memory).has_failed());
//! assert_eq!("keeps order".parse(), Ok(Check::KeepsOrder));
//! # }
//! ```
//!
//! In a test of your own, that is all: `assert!(report.has_passed(), "{report}")`. The checks that send garbage, pieces
//! of messages and far too long ones need a way past the gateway: [`Transport::with_streams`] or
//! [`Transport::with_datagrams`]. Without it they are [`Outcome::NotApplicable`], and the report says so.
//!
//! No check sleeps for a fixed time in the hope that something has happened by then: each waits for an event, for as
//! long as [`Transport::with_deadline`] says. Each runs on a thread of its own, so that a gateway that panics or hangs
//! fails its check and no other. The threads of one that hangs are left behind.
//!
//! For tests of what only your transport does, [`TestNode`] runs a gateway as a node would, and [`messages`] has
//! messages to send.

mod check;
mod checks;
pub mod messages;
mod node;
mod report;
mod running;
mod transport;

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

pub use check::{Check, UnknownCheck};
pub use node::TestNode;
pub use report::{Failure, Outcome, Report};
pub use running::{Activity, Stopped};
pub use transport::{RawStream, StreamWire, Transport};

/// What a gateway is to do at once, such as to stop, it does within this time.
pub const AT_ONCE: Duration = Duration::from_secs(2);

/// How many times the deadline for one event a whole check may take, before it counts as hung.
const EVENTS_IN_A_CHECK: u32 = 6;

/// Makes every check on the transport's gateways, one after the other.
///
/// Takes some seconds. What a check that fails was waiting for takes as long as [`Transport::with_deadline`] says.
pub fn run(transport: &Transport) -> Report {
    let results = Check::ALL.iter().map(|check| (*check, check.run(transport))).collect();
    Report { transport: transport.name().to_owned(), results }
}

impl Check {
    /// Makes this check alone.
    pub fn run(self, transport: &Transport) -> Outcome {
        if let Err(reason) = self.applies_to(transport) {
            return Outcome::NotApplicable(reason);
        }
        let limit = transport.deadline() * EVENTS_IN_A_CHECK + AT_ONCE * EVENTS_IN_A_CHECK;
        let (tell, told) = mpsc::channel();
        let its_own = transport.clone();
        let work = move || {
            // Nobody waits any more if this fails: the check took too long.
            tell.send(self.perform(&its_own)).ok();
        };
        let thread = match thread::Builder::new().name(self.name().to_owned()).spawn(work) {
            Ok(thread) => thread,
            Err(source) => return Outcome::Failed(Failure::Io { what: "a thread for the check", source }),
        };
        match told.recv_timeout(limit) {
            Ok(Ok(())) => Outcome::Passed,
            Ok(Err(failure)) => Outcome::Failed(failure),
            Err(mpsc::RecvTimeoutError::Timeout) => Outcome::Failed(Failure::late("the end of the check", limit)),
            Err(mpsc::RecvTimeoutError::Disconnected) => Outcome::Failed(match thread.join() {
                Err(panic) => Failure::panicked(&*panic),
                Ok(()) => Failure::unexpected("a result of the check", "it ended without one"),
            }),
        }
    }
}
