//! What is to happen when: the event heap.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use kademlia_dht::core::Time;
use kademlia_dht::gateway::Message;

use crate::handle::Handle;

/// A message on its way.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) message: Message<Handle>,
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum Next<A> {
    /// A message arrives.
    Delivery(Delivery),
    /// A node, by its number, wanted to be woken.
    Wake(u32),
    /// What the owner of the queue wanted to be told.
    Alarm(A),
}

/// When, and which of those of one moment: they happen in the order in which they were planned.
type Turn = (Time, u64);

/// The turn of what is not planned.
const NEVER: Turn = (Time::NEVER, u64::MAX);

/// Messages, wakes and alarms, in the order of time.
///
/// Three heaps and not one: messages live for milliseconds and wakes for minutes, so that the heap through which each
/// message passes stays small.
#[derive(Debug)]
pub(crate) struct Queue<A> {
    deliveries: BinaryHeap<Reverse<(Turn, u32)>>,
    /// The messages of `deliveries`, and which places are free.
    messages: Vec<Option<Delivery>>,
    free: Vec<u32>,
    wakes: BinaryHeap<Reverse<(Turn, u32)>>,
    alarms: BinaryHeap<Reverse<(Turn, A)>>,
    planned: u64,
}

impl<A: Ord> Queue<A> {
    pub(crate) fn new() -> Self {
        Queue {
            deliveries: BinaryHeap::new(),
            messages: Vec::new(),
            free: Vec::new(),
            wakes: BinaryHeap::new(),
            alarms: BinaryHeap::new(),
            planned: 0,
        }
    }

    fn turn(&mut self, time: Time) -> Turn {
        self.planned += 1;
        (time, self.planned)
    }

    pub(crate) fn deliver(&mut self, time: Time, delivery: Delivery) {
        let turn = self.turn(time);
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                self.messages.push(None);
                (self.messages.len() - 1) as u32
            }
        };
        if let Some(slot) = self.messages.get_mut(place as usize) {
            *slot = Some(delivery);
        }
        self.deliveries.push(Reverse((turn, place)));
    }

    pub(crate) fn wake(&mut self, time: Time, node: u32) {
        let turn = self.turn(time);
        self.wakes.push(Reverse((turn, node)));
    }

    pub(crate) fn alarm(&mut self, time: Time, alarm: A) {
        let turn = self.turn(time);
        self.alarms.push(Reverse((turn, alarm)));
    }

    /// The next of all, if it happens until `end`.
    pub(crate) fn pop(&mut self, end: Time) -> Option<(Time, Next<A>)> {
        let delivery = first_turn(&self.deliveries);
        let wake = first_turn(&self.wakes);
        let alarm = first_turn(&self.alarms);
        let first = delivery.min(wake).min(alarm);
        if first == NEVER || first.0 > end {
            return None;
        }
        let next = if first == delivery {
            let Reverse((_, place)) = self.deliveries.pop()?;
            self.free.push(place);
            Next::Delivery(self.messages.get_mut(place as usize)?.take()?)
        } else if first == wake {
            Next::Wake(self.wakes.pop()?.0.1)
        } else {
            Next::Alarm(self.alarms.pop()?.0.1)
        };
        Some((first.0, next))
    }
}

fn first_turn<T: Ord>(heap: &BinaryHeap<Reverse<(Turn, T)>>) -> Turn {
    heap.peek().map_or(NEVER, |Reverse((turn, _))| *turn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_the_order_of_time_and_then_of_planning() {
        let mut queue = Queue::new();
        let at = Time::from_micros;
        queue.alarm(at(5), 'c');
        queue.wake(at(5), 1);
        queue.alarm(at(1), 'a');
        queue.alarm(at(5), 'b');
        let mut seen = Vec::new();
        while let Some((time, next)) = queue.pop(at(5)) {
            seen.push((time.as_micros(), format!("{next:?}")));
        }
        let seen: Vec<(u64, &str)> = seen.iter().map(|(time, next)| (*time, next.as_str())).collect();
        assert_eq!(seen, [(1, "Alarm('a')"), (5, "Alarm('c')"), (5, "Wake(1)"), (5, "Alarm('b')")]);
        queue.wake(at(7), 1);
        assert!(queue.pop(at(6)).is_none());
    }
}
