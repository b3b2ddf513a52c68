//! Addresses at which somebody has shown to be.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::address::host;
use crate::foreign::Recent;
use crate::id::Id;

/// For so long an address that has answered is that of whoever asks from there.
const PROVED_FOR: Duration = Duration::from_secs(20 * 60);

/// The most of them, and the most of one host, which has 65,535 ports.
const MAX_PROVED: usize = 16_384;
const MAX_OF_HOST: usize = 256;

/// Addresses at which somebody has shown to be, and under which id, if that was said. No host drives out those of others.
#[derive(Debug)]
pub(super) struct Proved {
    ids: Recent<SocketAddr, Option<Id>>,
    /// Those of each host, the one that was proved the longest ago in front.
    of_host: Recent<IpAddr, VecDeque<SocketAddr>>,
}

impl Proved {
    pub(super) fn new() -> Self {
        Proved { ids: Recent::new(MAX_PROVED, PROVED_FOR), of_host: Recent::new(MAX_PROVED, PROVED_FOR) }
    }

    /// Somebody is at `address`; as far as it is not known who, that is as it was.
    pub(super) fn insert(&mut self, now: Instant, address: SocketAddr, id: Option<Id>) {
        let host = host(address.ip());
        let mut of_host = self.of_host.take(now, &host).unwrap_or_default();
        of_host.retain(|other| *other != address);
        of_host.push_back(address);
        while of_host.len() > MAX_OF_HOST
            && let Some(oldest) = of_host.pop_front()
        {
            self.ids.take(now, &oldest);
        }
        self.of_host.insert(now, host, of_host);
        let id = id.or_else(|| self.id(now, &address));
        self.ids.insert(now, address, id);
    }

    pub(super) fn contains(&self, now: Instant, address: &SocketAddr) -> bool {
        self.ids.get(now, address).is_some()
    }

    /// Who has answered there last.
    pub(super) fn id(&self, now: Instant, address: &SocketAddr) -> Option<Id> {
        self.ids.get(now, address).copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_so_many_and_no_more() {
        let (mut proved, now) = (Proved::new(), Instant::now());
        let at = |ip: u8, port: u16| SocketAddr::from(([10, 0, 0, ip], port));
        proved.insert(now, at(1, 1), Some(Id::ZERO));
        for port in 1..=u16::MAX {
            proved.insert(now, at(2, port), None);
        }
        assert!(proved.contains(now, &at(1, 1)), "that of another host stays");
        let of_host = (1..=u16::MAX).filter(|port| proved.contains(now, &at(2, *port)));
        assert_eq!(of_host.collect::<Vec<_>>(), (u16::MAX - 255..=u16::MAX).collect::<Vec<_>>());
        proved.insert(now, at(1, 1), None);
        assert_eq!((proved.id(now, &at(1, 1)), proved.id(now, &at(2, u16::MAX))), (Some(Id::ZERO), None));
        assert!(!proved.contains(now + PROVED_FOR, &at(1, 1)));
    }
}
