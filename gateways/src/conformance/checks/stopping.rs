//! That a gateway stops when it is told to, whatever it is doing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use crossbeam::channel::unbounded;
use multiaddr::Multiaddr;

use super::{Checked, start_two};
use crate::conformance::messages::{outbound, request};
use crate::conformance::node::a_moment;
use crate::conformance::running::run_to_the_end;
use crate::conformance::{Failure, TestNode, Transport};
use crate::gateway::Queue;
use crate::link::{Link, MAX_PENDING};

/// How many messages have come before a flood counts as one.
const FLOODED: u64 = 500;

pub(crate) fn stops_before_it_runs(transport: &Transport) -> Checked {
    let (to_node, _events) = unbounded();
    let (link, host) = Link::new(0, to_node);
    drop(host);
    run_to_the_end(transport.make()?, link)?.without_error().map(drop)
}

pub(crate) fn stops_while_busy(transport: &Transport) -> Checked {
    // First the one that is flooded, then the one that floods.
    for receiver_first in [true, false] {
        let (mut one, mut two) = start_two(transport)?;
        let flood = Flood::start(&mut one, two.address())?;
        for _ in 0..FLOODED {
            two.next()?;
        }
        let (first, second) = if receiver_first { (two, one) } else { (one, two) };
        first.stop()?;
        second.stop()?;
        drop(flood);
    }
    Ok(())
}

pub(crate) fn stops_unread(transport: &Transport) -> Checked {
    let (mut one, two) = start_two(transport)?;
    send_unread(&mut one, &two)?;
    two.stop()?;
    one.stop().map(drop)
}

pub(crate) fn stops_when_removed(transport: &Transport) -> Checked {
    let (mut one, mut two) = start_two(transport)?;
    let address = one.address();
    send_unread(&mut one, &two)?;
    send_unread(&mut two, &one)?;
    let flood = Flood::start(&mut two, address.clone())?;
    drop(one.remove()?);
    drop(flood);
    drop(transport.start_on(&address)?.stop()?);
    two.remove().map(drop)
}

/// Sends more than waits for a node that does not read, or as much as is taken, and waits until the gateway of `two` has
/// come to what it does with the rest.
fn send_unread(one: &mut TestNode, two: &TestNode) -> Checked {
    one.send_until_stuck(&two.address(), MAX_PENDING as u64 + 1500)?;
    two.wait_until_stuck()
}

/// Messages that pour out of a gateway until this is dropped.
struct Flood {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// Takes the outbox out of `node`, which can send nothing any more.
    fn start(node: &mut TestNode, to: Multiaddr) -> Result<Self, Failure> {
        let (stand_in, _) = Queue::new(1, node.outbox.limits(), |_| false);
        let mut outbox = std::mem::replace(&mut node.outbox, Box::new(stand_in));
        let ended = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ended);
        let pour = move || {
            let mut n = 0;
            while !told.load(Ordering::Relaxed) {
                n += 1;
                // A queue that is full for now, or a peer that has gone: what is busy tries again.
                if outbox.send(outbound(&to, None, request(n))).is_err() {
                    a_moment();
                }
            }
        };
        let thread = thread::Builder::new().name("flood".to_owned()).spawn(pour);
        Ok(Flood { ended, thread: Some(thread.map_err(Failure::io("a thread for a flood"))?) })
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
