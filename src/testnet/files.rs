//! The open files that a network needs.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::TestNetworkError;
use super::mix::Transport;

/// Files that the program itself may have open.
const OWN: usize = 64;

/// Files of one gateway without its connections: the socket, the selector, and what wakes it.
const PER_GATEWAY: usize = 4;

/// The most connections of one gateway.
const MOST_CONNECTIONS: usize = 256;

/// With fewer connections, gateways would do little else than close and open them.
const FEWEST_CONNECTIONS: usize = 16;

/// What all networks of this process together may need.
static RESERVED: AtomicUsize = AtomicUsize::new(0);

/// The open files set aside for one network.
#[derive(Debug, Default)]
pub(super) struct Reservation {
    files: usize,
}

impl Reservation {
    /// Sets aside what gateways on these transports need, and raises the process's own limit to it as far as it may
    /// be. Gives the connections that each gateway may have.
    pub(super) fn grow_to(&mut self, gateways: &[Transport]) -> Result<usize, TestNetworkError> {
        let (least, most) = (need(gateways, FEWEST_CONNECTIONS), need(gateways, MOST_CONNECTIONS));
        let others = OWN + RESERVED.load(Ordering::Relaxed).saturating_sub(self.files);
        let wanted = u64::try_from(others + most).unwrap_or(u64::MAX);
        let limit = rlimit::increase_nofile_limit(wanted).map_err(TestNetworkError::Limit)?;
        let available = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(others);
        let Some(connections) = connections(gateways, available) else {
            return Err(TestNetworkError::OpenFiles { needed: others + least, limit });
        };
        let files = available.min(most).max(self.files);
        RESERVED.fetch_add(files - self.files, Ordering::Relaxed);
        self.files = files;
        Ok(connections)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        RESERVED.fetch_sub(self.files, Ordering::Relaxed);
    }
}

/// How many connections each gateway may have within `available` files; `None` if those are too few.
fn connections(gateways: &[Transport], available: usize) -> Option<usize> {
    if available >= need(gateways, MOST_CONNECTIONS) {
        return Some(MOST_CONNECTIONS);
    }
    let streams = gateways.iter().filter(|transport| transport.has_connections()).count().max(1);
    let each = available.saturating_sub(gateways.len() * PER_GATEWAY) / streams;
    (available >= need(gateways, FEWEST_CONNECTIONS)).then(|| each.clamp(FEWEST_CONNECTIONS, MOST_CONNECTIONS))
}

/// What gateways with at most so many connections each have open.
fn need(gateways: &[Transport], most_connections: usize) -> usize {
    let of = |transport: Transport| gateways.iter().filter(|other| **other == transport).count();
    let connections: usize = Transport::ALL
        .into_iter()
        .filter(|transport| transport.has_connections())
        // One that each dials to each other, and the ends of those that are dialled.
        .map(|transport| of(transport) * most_connections.min(2 * of(transport)))
        .sum();
    gateways.len() * PER_GATEWAY + connections
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_files_mean_fewer_connections_down_to_a_point() {
        let gateways = [Transport::Tcp; 100];
        assert_eq!(connections(&gateways, 100_000), Some(MOST_CONNECTIONS));
        assert_eq!(connections(&gateways, 100 * (PER_GATEWAY + 50)), Some(50));
        assert_eq!(connections(&gateways, 100 * (PER_GATEWAY + FEWEST_CONNECTIONS)), Some(FEWEST_CONNECTIONS));
        assert_eq!(connections(&gateways, 100 * (PER_GATEWAY + FEWEST_CONNECTIONS) - 1), None);
    }

    #[test]
    fn what_is_set_aside_is_given_back() {
        let before = RESERVED.load(Ordering::Relaxed);
        let mut reservation = Reservation::default();
        assert_eq!(reservation.grow_to(&[Transport::Udp]).unwrap(), MOST_CONNECTIONS);
        assert_eq!(reservation.grow_to(&[Transport::Udp, Transport::Udp]).unwrap(), MOST_CONNECTIONS);
        assert_eq!(RESERVED.load(Ordering::Relaxed), before + 2 * PER_GATEWAY);
        drop(reservation);
        assert_eq!(RESERVED.load(Ordering::Relaxed), before);
    }

    #[test]
    fn datagrams_need_no_connections() {
        assert_eq!(need(&[Transport::Udp; 10], MOST_CONNECTIONS), 10 * PER_GATEWAY);
        assert_eq!(need(&[Transport::Tcp; 10], MOST_CONNECTIONS), 10 * PER_GATEWAY + 10 * 20);
    }
}
