//! [`MainlineHandle`]: what BitTorrent's DHT has and the messages of this library have not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};

use super::latest::Latest;
use super::peers::{Peers, Sample};
use super::votes::Votes;
use crate::foreign::Deferred;
use crate::id::Id;

/// The most peers that wait to be taken by who looks for them.
const MAX_FOUND: usize = 4096;

/// The most salts that are remembered.
const MAX_SALTS: usize = 4096;

/// What a [`MainlineGateway`](super::MainlineGateway) shares with whoever uses it: which keys stand for peers, not values; what
/// is announced; the salts of values; and where others see this node.
///
/// A node asks for peers, and announces one, as it asks for values and saves them. The gateway makes `get_peers` and
/// `announce_peer` of that where the key is said here to be one of peers.
#[derive(Debug, Clone, Default)]
pub struct MainlineHandle {
    book: Arc<Mutex<Book>>,
}

#[derive(Debug, Default)]
struct Book {
    watches: BTreeMap<Id, Vec<Watching>>,
    next_watch: u64,
    announced: BTreeMap<Id, Option<u16>>,
    /// Who has announced what at this node.
    peers: Peers,
    /// Where the gateway is bound.
    bound: Option<SocketAddr>,
    salts: Latest<Id, Bytes>,
    votes: Votes,
    told: Vec<Told>,
    /// Who the node is, and whether it serves nobody.
    node: Option<(Id, bool)>,
}

/// Whom to tell where others see this node.
#[derive(Clone)]
struct Told(Arc<dyn Fn(IpAddr) + Send + Sync>);

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Told")
    }
}

impl Book {
    /// The IP of this node, as far as it is known.
    fn own_ip(&self) -> Option<IpAddr> {
        self.votes.elected().or_else(|| self.bound.map(|bound| bound.ip()).filter(|ip| !ip.is_unspecified()))
    }

    /// This host as a peer, if it announces the key, at an IP.
    fn own_peer(&self, info_hash: &Id, ip: Option<IpAddr>) -> Option<SocketAddr> {
        let port = self.announced.get(info_hash).copied()?.or(self.bound.map(|bound| bound.port()))?;
        Some(SocketAddr::new(ip?, port))
    }

    /// Tells who looks for them.
    fn found(&mut self, info_hash: &Id, peers: &[SocketAddr]) {
        for watching in self.watches.get_mut(info_hash).into_iter().flatten() {
            watching.tell(peers);
        }
    }
}

#[derive(Debug)]
struct Watching {
    number: u64,
    seen: BTreeSet<SocketAddr>,
    found: Sender<SocketAddr>,
}

impl Watching {
    fn tell(&mut self, peers: &[SocketAddr]) {
        for peer in peers {
            if self.seen.len() < MAX_FOUND && self.seen.insert(*peer) {
                // There is room for all that are seen; and who has gone away needs none.
                if let Err(TrySendError::Full(_)) = self.found.try_send(*peer) {
                    break;
                }
            }
        }
    }
}

/// The peers that are found under a key, as they are found. While it lives, the key is one of peers.
#[derive(Debug)]
pub struct Watch {
    handle: MainlineHandle,
    info_hash: Id,
    number: u64,
    found: Receiver<SocketAddr>,
}

impl Watch {
    /// Where they come out, each of them once.
    pub fn found(&self) -> &Receiver<SocketAddr> {
        &self.found
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut book = self.handle.book();
        if let Some(watches) = book.watches.get_mut(&self.info_hash) {
            watches.retain(|watching| watching.number != self.number);
            if watches.is_empty() {
                book.watches.remove(&self.info_hash);
            }
        }
    }
}

impl MainlineHandle {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on queries of the key look for peers. Those that this node knows itself are found at once: who has announced
    /// it here, and this host, if it is announced.
    pub fn watch(&self, info_hash: Id) -> Watch {
        let (sender, found) = bounded(MAX_FOUND);
        let mut book = self.book();
        let number = book.next_watch;
        book.next_watch += 1;
        let mut watching = Watching { number, seen: BTreeSet::new(), found: sender };
        watching.tell(&book.peers.of(Instant::now(), &info_hash, MAX_FOUND));
        // Whoever does not know where this host is finds it on this host.
        let ip = book.own_ip().or(book.bound.map(|bound| loopback(bound.ip())));
        watching.tell(book.own_peer(&info_hash, ip).as_slice());
        book.watches.entry(info_hash).or_default().push(watching);
        drop(book);
        Watch { handle: self.clone(), info_hash, number, found }
    }

    /// From now on what is saved under the key announces a peer at this port; `None` for the port of the gateway itself. Gives
    /// what was announced there before.
    pub fn announce(&self, info_hash: Id, port: Option<u16>) -> Option<Option<u16>> {
        self.book().announced.insert(info_hash, port)
    }

    /// The opposite of [`announce`](MainlineHandle::announce).
    pub fn withdraw(&self, info_hash: &Id) {
        self.book().announced.remove(info_hash);
    }

    /// Notes the salt that a key is made of, as no answer tells it. The values of a key whose salt is not known cannot be
    /// checked, and so are not found.
    pub fn note_salt(&self, key: Id, salt: Bytes) {
        self.book().salts.insert(key, salt, MAX_SALTS);
    }

    /// The address at which others see this node, if enough of them agree; else the one on which they agreed before.
    pub fn external_address(&self) -> Option<IpAddr> {
        self.book().votes.elected()
    }

    /// From now on this is called with the address at which others see this node, whenever they agree on another one; and at
    /// once, if they have agreed on one. Whatever else is called for that is called as well. It runs on the gateway's thread
    /// and must not wait for anything.
    pub fn on_external_address(&self, tell: impl Fn(IpAddr) + Send + Sync + 'static) {
        let told = Told(Arc::new(tell));
        let mut book = self.book();
        book.told.push(told.clone());
        let known = book.votes.elected();
        drop(book);
        if let Some(ip) = known {
            (told.0)(ip);
        }
    }

    /// Tells the gateway which node it serves, before that has sent anything, and whether the node answers nobody. A service
    /// does so with the handle of its configuration.
    pub fn set_node(&self, id: Id, is_client: bool) {
        self.book().node = Some((id, is_client));
    }

    /// The node that is served, and whether it answers nobody.
    pub(super) fn node(&self) -> Option<(Id, bool)> {
        self.book().node
    }

    /// `voter` sees this node at `ip`. Gives what is to be called for that, while nothing is locked.
    pub(super) fn vote(&self, now: Instant, voter: IpAddr, ip: IpAddr) -> Option<Deferred> {
        let mut book = self.book();
        let elected = book.votes.vote(now, voter, ip)?;
        let told = book.told.clone();
        (!told.is_empty()).then(|| Deferred::new(move || told.iter().for_each(|told| (told.0)(elected))))
    }

    /// Whether the key is one of peers.
    pub(super) fn is_of_peers(&self, key: &Id) -> bool {
        let book = self.book();
        book.watches.contains_key(key) || book.announced.contains_key(key)
    }

    /// The port that is announced under the key.
    pub(super) fn announced(&self, key: &Id) -> Option<Option<u16>> {
        self.book().announced.get(key).copied()
    }

    pub(super) fn salt(&self, key: &Id) -> Option<Bytes> {
        self.book().salts.get(key).cloned()
    }

    /// Tells who looks for them.
    pub(super) fn found(&self, info_hash: &Id, peers: &[SocketAddr]) {
        self.book().found(info_hash, peers);
    }

    /// The gateway is bound to this address.
    pub(super) fn bound(&self, address: Option<SocketAddr>) {
        self.book().bound = address;
    }

    /// Somebody announces at this node that it has it.
    pub(super) fn announced_here(&self, now: Instant, info_hash: Id, peer: SocketAddr) {
        let mut book = self.book();
        book.peers.announce(now, info_hash, peer);
        book.found(&info_hash, &[peer]);
    }

    /// So many of those who have it, for others: of whom this node knows, and this host, if it is known where that is.
    pub(super) fn known_peers(&self, now: Instant, info_hash: &Id, most: usize) -> Vec<SocketAddr> {
        let mut book = self.book();
        let own = book.own_peer(info_hash, book.own_ip());
        let mut peers = book.peers.of(now, info_hash, most);
        if let Some(own) = own.filter(|own| !peers.contains(own)) {
            peers.truncate(most.saturating_sub(1));
            peers.push(own);
        }
        peers
    }

    /// Some of the keys that were announced at this node.
    pub(super) fn sample(&self, now: Instant, most: usize) -> Sample {
        self.book().peers.sample(now, most)
    }
}

fn loopback(like: IpAddr) -> IpAddr {
    if like.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_is_found_once_as_long_as_somebody_looks() {
        let (handle, key) = (MainlineHandle::default(), Id::from_prefix(b"key"));
        let peer = |n: u8| SocketAddr::from(([10, 0, 0, n], 1));
        handle.found(&key, &[peer(1)]);
        assert!(!handle.is_of_peers(&key));
        let (first, second) = (handle.watch(key), handle.watch(key));
        handle.found(&key, &[peer(1), peer(2)]);
        handle.found(&key, &[peer(2), peer(3)]);
        drop(second);
        assert!(handle.is_of_peers(&key));
        assert_eq!(first.found().try_iter().collect::<Vec<_>>(), [peer(1), peer(2), peer(3)]);
        drop(first);
        assert!(!handle.is_of_peers(&key));
        handle.announce(key, None);
        assert!(handle.is_of_peers(&key) && handle.announced(&key) == Some(None));
        handle.withdraw(&key);
        assert_eq!(handle.announced(&key), None);
    }

    #[test]
    fn what_this_node_knows_itself_is_found_at_once() {
        let (handle, key, now) = (MainlineHandle::default(), Id::from_prefix(b"key"), Instant::now());
        let found = |watch: &Watch| watch.found().try_iter().collect::<Vec<_>>();
        let peer = |n: u8| SocketAddr::from(([10, 0, 0, n], 1));
        handle.announced_here(now, key, peer(1));
        let watch = handle.watch(key);
        assert_eq!(found(&watch), [peer(1)]);
        handle.announced_here(now, key, peer(2));
        handle.announced_here(now, key, peer(1));
        assert_eq!(found(&watch), [peer(2)], "while somebody looks");
        // This host itself.
        let announced = |bound: &str, port| {
            handle.bound(Some(bound.parse().unwrap()));
            handle.announce(key, port);
            let own = |peer: &SocketAddr| peer.ip() != ip(1) && peer.ip() != ip(2);
            let told = found(&handle.watch(key)).into_iter().find(own).map(|peer| peer.to_string());
            let others = handle.known_peers(now, &key, 9).into_iter().find(own).map(|peer| peer.to_string());
            (told, others)
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(announced("0.0.0.0:7", Some(80)), (some("127.0.0.1:80"), None), "it is not known where it is");
        assert_eq!(announced("[::]:7", None), (some("[::1]:7"), None));
        assert_eq!(announced("10.0.0.9:7", None), (some("10.0.0.9:7"), some("10.0.0.9:7")));
        assert_eq!(handle.known_peers(now, &key, 1).len(), 1);
    }

    fn ip(n: u8) -> IpAddr {
        [10, 0, 0, n].into()
    }

    #[test]
    fn all_who_want_to_know_are_told_of_each_new_address_once() {
        let (handle, told) = (MainlineHandle::default(), Arc::new(Mutex::new(Vec::new())));
        let seen = |n: u8| IpAddr::from([1, 1, 1, n]);
        let mut now = Instant::now();
        let mut vote = |for_ip: u8| {
            now += std::time::Duration::from_secs(3600);
            (1..9).filter_map(|n| handle.vote(now, [n, 1, 1, 1].into(), seen(for_ip))).for_each(Deferred::call);
        };
        vote(100);
        for who in ['a', 'b'] {
            let (list, same) = (Arc::clone(&told), handle.clone());
            // It may use the handle.
            handle.on_external_address(move |ip| list.lock().unwrap().push((who, ip, same.external_address())));
        }
        vote(101);
        vote(101);
        let expected = [('a', 100), ('b', 100), ('a', 101), ('b', 101)].map(|(who, n)| (who, seen(n), Some(seen(n))));
        assert_eq!(*told.lock().unwrap(), expected);
    }
}
