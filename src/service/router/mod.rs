//! From addresses to gateways, and on to others: the router.
//!
//! The core knows addresses only. Some of them are circuits, `<relay>/p2p-circuit/<destination>`; the router wraps
//! what is sent to them and passes on what others sent through this node, without keeping anything about it: the way
//! back is in the message. See [`chain`] for how the addresses that others tell of become ways from here, and [`proofs`]
//! for how a relay tells who is where they seem to be.

mod chain;
mod limiter;
mod proofs;
mod recent;

use std::collections::BTreeMap;
use std::sync::Arc;

use kademlia_gateways::codec::{self, LEAST_REQUEST_BYTES};
use kademlia_gateways::{
    Body, Circuit, Contact, Envelope, Found, Inbound, MAX_ADDRESSES, Message, Multiaddr, Outbound, Outbox, Refusal,
    Reply, ReplyPath, Tag, Token, Unsent, UnsentReason, address,
};

use self::chain::{Localiser, has_repeated, sound};
use self::limiter::Limiter;
use self::proofs::Proofs;
use self::recent::Recent;
use super::config::{RelayMode, RelayPolicy};
use super::events::Publisher;
use super::host::{Facts, GatewayId};
use super::threads::calmly;
use crate::core::Time;

/// The most relays on one way.
const MAX_RELAYS: usize = 3;

/// An address that is not proved is sent at most so many times the bytes that came from there, as in QUIC (RFC 9000,
/// section 8). Else a node would multiply whatever comes under a forged address.
const MAX_AMPLIFICATION: usize = 3;

/// Knows the gateways, and which of them a message takes.
pub(super) struct Router {
    ports: BTreeMap<GatewayId, Port>,
    /// The listen addresses of all of them.
    own: Vec<Multiaddr>,
    mode: RelayMode,
    client: bool,
    limiter: Limiter,
    proofs: Proofs,
    /// Addresses of this host at which there are other nodes.
    neighbours: Recent<()>,
    arrival: Option<Arrival>,
    arrivals: u64,
    relayed: u64,
    unroutable: u64,
    publisher: Arc<Publisher>,
}

/// One gateway, as seen from here.
struct Port {
    facts: Arc<Facts>,
    addresses: Vec<Multiaddr>,
    /// `None` while the gateway is down.
    outbox: Option<Box<dyn Outbox>>,
}

/// How the message came in that the core works on. Its answer leaves in the same turn, so that one is remembered.
struct Arrival {
    number: ReplyPath,
    gateway: GatewayId,
    path: ReplyPath,
    /// The most bytes of an answer to an address that is not proved.
    at_most: usize,
}

/// Who sent a circuit, and how it came.
struct Sender {
    gateway: GatewayId,
    address: Multiaddr,
    path: ReplyPath,
    /// Whether the way it came shows that it is at that address.
    proved: bool,
    /// What it shows otherwise.
    proof: Token,
    bytes: usize,
}

impl Sender {
    /// The most bytes of what follows from the circuit.
    fn at_most(&self) -> Option<usize> {
        (!self.proved).then_some(self.bytes)
    }
}

/// A message for this node.
#[derive(Debug, PartialEq)]
pub(super) struct Received {
    /// The address that its sender is reached at.
    pub(super) from: Multiaddr,
    /// For the answer.
    pub(super) path: ReplyPath,
    /// Whether the sender is known to be at that address.
    pub(super) proved: bool,
    /// With its addresses as seen from here.
    pub(super) message: Message,
}

impl Port {
    fn dials(&self, to: &Multiaddr) -> bool {
        self.outbox.as_ref().is_some_and(|outbox| calmly(|| outbox.dials(to)).unwrap_or(false))
    }

    /// Sends a message; from an answer whose record is too large for this gateway the record is left out. That there
    /// is one is seen from the version held.
    fn send(&mut self, outbound: Outbound, publisher: &Publisher) -> Result<(), UnsentReason> {
        let result = calmly(|| self.try_send(outbound)).unwrap_or_else(|panic| {
            // Before its outbox goes, over which the gateway might end as if all were well.
            self.facts.fail(panic, publisher);
            self.close();
            Err(UnsentReason::Closed)
        });
        self.facts.count_sent(result);
        result
    }

    /// Drops the outbox, which is foreign and may panic over that, too.
    fn close(&mut self) {
        let outbox = self.outbox.take();
        if let Err(panic) = calmly(|| drop(outbox)) {
            log::error!("the end of the outbox of {} ({}): {panic}", self.facts.id, self.facts.name);
        }
    }

    fn try_send(&mut self, outbound: Outbound) -> Result<(), UnsentReason> {
        let Some(outbox) = &mut self.outbox else { return Err(UnsentReason::Closed) };
        let result = match outbox.send(outbound) {
            Err(Unsent { mut outbound, reason: reason @ UnsentReason::TooLarge { .. } }) => {
                match &mut outbound.envelope.message_mut().body {
                    Body::Reply(Reply::Found(Found { records, more, .. })) if !records.is_empty() => {
                        records.clear();
                        *more = true;
                        outbox.send(*outbound)
                    }
                    _ => Err(Unsent { outbound, reason }),
                }
            }
            result => result,
        };
        result.map_err(|unsent| unsent.reason)
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.close();
    }
}

impl Router {
    pub(super) fn new(policy: RelayPolicy, client: bool, publisher: Arc<Publisher>) -> Self {
        Router {
            ports: BTreeMap::new(),
            own: Vec::new(),
            mode: policy.mode,
            client,
            limiter: Limiter::new(policy.rate, policy.burst),
            proofs: Proofs::new(),
            neighbours: Recent::new(),
            arrival: None,
            arrivals: 0,
            relayed: 0,
            unroutable: 0,
            publisher,
        }
    }

    /// Messages passed on between others.
    pub(super) fn relayed(&self) -> u64 {
        self.relayed
    }

    /// Messages of this node that there was no gateway for.
    pub(super) fn unroutable(&self) -> u64 {
        self.unroutable
    }

    /// What is known of each gateway.
    pub(super) fn gateways(&self) -> impl Iterator<Item = &Facts> {
        self.ports.values().map(|port| &*port.facts)
    }

    /// Sends by this gateway from now on.
    pub(super) fn open(&mut self, facts: Arc<Facts>, outbox: Box<dyn Outbox>) {
        let addresses = facts.addresses();
        self.ports.insert(facts.id, Port { facts, addresses, outbox: Some(outbox) });
        self.note_own();
    }

    /// Drops the gateway's outbox, and unless it will be opened again, all that is known of it.
    pub(super) fn close(&mut self, gateway: GatewayId, forget: bool) {
        if forget {
            self.ports.remove(&gateway);
            self.note_own();
        } else if let Some(port) = self.ports.get_mut(&gateway) {
            port.close();
        }
    }

    fn note_own(&mut self) {
        self.own = self.ports.values().flat_map(|port| port.addresses.iter().cloned()).collect();
    }

    /// Sends a message of this node. `path` is what came from [`receive`](Router::receive), for the answer, which is kept
    /// small unless its address is `proved`.
    ///
    /// # Errors
    ///
    /// Why it was certainly not sent.
    pub(super) fn send(
        &mut self,
        to: &Multiaddr,
        path: Option<ReplyPath>,
        proved: bool,
        mut message: Message,
    ) -> Result<(), UnsentReason> {
        let (head, rest) = address::split_first(to);
        let arrival = self.arrival.as_ref().filter(|arrival| path == Some(arrival.number));
        let at_most = arrival.filter(|_| !proved).map(|arrival| arrival.at_most);
        let back = arrival.map(|arrival| (arrival.gateway, arrival.path));
        let back = back.filter(|(gateway, _)| self.ports.get(gateway).is_some_and(|port| port.outbox.is_some()));
        let (gateway, path) = match back {
            Some((gateway, path)) => (gateway, Some(path)),
            None => match self.route(&head) {
                Some(gateway) => (gateway, None),
                None => {
                    self.unroutable += 1;
                    return Err(self.why_not());
                }
            },
        };
        if matches!(message.body, Body::Reply(_)) && message.sender.is_some() {
            message.also = self.other_addresses(gateway);
        }
        let envelope = match rest {
            Some(rest) => {
                let proof = self.proofs.to_show(&head);
                Envelope::Relayed(Box::new(Circuit { to: Some(rest), from: None, proof, message }))
            }
            None => Envelope::Direct(message),
        };
        let port = self.ports.get_mut(&gateway).ok_or(UnsentReason::Closed)?;
        port.send(Outbound { to: head, path, at_most, envelope }, &self.publisher)
    }

    /// The gateway that dials a direct address: of several the one that was registered first.
    fn route(&self, to: &Multiaddr) -> Option<GatewayId> {
        self.ports.iter().find(|(_, port)| port.dials(to)).map(|(gateway, _)| *gateway)
    }

    /// Why no gateway dials an address: a gateway that is down cannot be asked whether it would.
    fn why_not(&self) -> UnsentReason {
        if self.ports.values().any(|port| port.outbox.is_none()) {
            UnsentReason::Closed
        } else {
            UnsentReason::NotDialable
        }
    }

    fn other_addresses(&self, than: GatewayId) -> Vec<Multiaddr> {
        let others = self.ports.iter().filter(|(gateway, _)| **gateway != than);
        others.flat_map(|(_, port)| port.addresses.iter().cloned()).take(MAX_ADDRESSES - 1).collect()
    }

    /// Takes what came in. What is for this node comes back.
    pub(super) fn receive(&mut self, now: Time, gateway: GatewayId, inbound: Inbound) -> Option<Received> {
        let Inbound { from, path, proved, bytes, envelope } = inbound;
        // Filled up again it would be multiplied, whoever sent it: here, or by the answer to what was relayed.
        let is_circuit = matches!(envelope, Envelope::Relayed(_));
        if is_circuit && codec::encoded_size(&envelope).map_or(true, |whole| bytes < whole) {
            self.drop(gateway, "circuit too short");
            return None;
        }
        if self.relays() && address::is_host_scoped(&from) {
            self.neighbours.insert(&from, ());
        }
        let (source, proved, message) = match envelope {
            Envelope::Direct(message) => (from.clone(), proved, message),
            Envelope::Relayed(circuit) => match *circuit {
                // That the relay is where it is does not say where that came from which it passed on.
                Circuit { to: None, from: Some(back), message, .. } if sound(&back) => {
                    (address::through(&from, &back), false, message)
                }
                Circuit { to: Some(to), from: back, proof, message } if sound(&to) && back.iter().all(sound) => {
                    let sender = Sender { gateway, address: from, path, proved, proof, bytes };
                    match self.relay(now, &sender, &to, back, message) {
                        Ok(()) => self.relayed += 1,
                        Err(cause) => self.drop(gateway, cause),
                    }
                    return None;
                }
                Circuit { to: None, from: None, proof, message } => {
                    let came_of_ours = self.proofs.replace(&from, Token(message.tag.0), proof);
                    self.drop(gateway, if came_of_ours { "returned for a proof" } else { "malformed circuit" });
                    return None;
                }
                _ => {
                    self.drop(gateway, "malformed circuit");
                    return None;
                }
            },
        };
        if !sound(&source) {
            self.drop(gateway, "malformed source");
            return None;
        }
        if !proved && message.is_request() && bytes < LEAST_REQUEST_BYTES {
            self.drop(gateway, "request too short to be answered");
            return None;
        }
        let message = self.accept(gateway, &from, &source, message)?;
        // Who shows an id may be pinged, and pinged again, to learn whether it is there.
        let pings = if message.sender.is_some() { 2 } else { 0 };
        let circuit = address::split_first(&source).1.map_or(0, |way| codec::circuit_size([&way]));
        let ping = LEAST_REQUEST_BYTES + circuit;
        let at_most = bytes.saturating_mul(MAX_AMPLIFICATION).saturating_sub(pings * ping);
        self.arrivals += 1;
        let number = ReplyPath(self.arrivals);
        self.arrival = Some(Arrival { number, gateway, path, at_most });
        Some(Received { from: source, path: number, proved, message })
    }

    /// Makes a message from `source`, whose first relay (if any) is `head`, one that the core can use.
    fn accept(
        &mut self,
        gateway: GatewayId,
        head: &Multiaddr,
        source: &Multiaddr,
        mut message: Message,
    ) -> Option<Message> {
        if !matches!(message.body, Body::Reply(_)) {
            message.also.clear();
            return Some(message);
        }
        // A reply comes by the gateway that the request left by, or it is forged.
        if self.route(head) != Some(gateway) {
            self.drop(gateway, "reply by another gateway");
            return None;
        }
        let dials = |to: &Multiaddr| self.route(to).is_some();
        let lost = Localiser::new(&dials, &self.own, source).reply(&mut message);
        if lost > 0 {
            self.count_dropped(gateway, "contact out of reach", lost as u64);
        }
        Some(message)
    }

    /// Passes on a message between two others.
    fn relay(
        &mut self,
        now: Time,
        sender: &Sender,
        to: &Multiaddr,
        back: Option<Multiaddr>,
        message: Message,
    ) -> Result<(), &'static str> {
        if !self.relays() {
            return Err("relaying is off");
        }
        let Sender { address: from, .. } = sender;
        let proved = sender.proved || self.proofs.is_good(now, from, sender.proof);
        if !self.limiter.allow(now, from, proved) {
            if !proved {
                self.ask_for_proof(now, sender, &message);
            }
            return Err("relaying is limited");
        }
        let back = back.map_or_else(|| from.clone(), |back| address::through(from, &back));
        let way = [address::segments(&back), address::segments(to)].concat();
        // This node stands between the two parts; the first and the last segment are no relays.
        if way.len() - 1 > MAX_RELAYS {
            return Err("too many relays");
        }
        if has_repeated(&way) || way.iter().any(|segment| self.own.contains(segment)) {
            return Err("relay loop");
        }
        let (head, rest) = address::split_first(to);
        if address::is_host_scoped(&back) {
            self.note_named(&message);
        } else if address::is_host_scoped(&head) && self.neighbours.get(&head).is_none() {
            return Err("stranger to this host");
        }
        let port = self.ports.values_mut().find(|port| port.dials(&head)).ok_or("relay cannot dial")?;
        let proof = self.proofs.to_show(&head);
        let envelope = Envelope::Relayed(Box::new(Circuit { to: rest, from: Some(back), proof, message }));
        let outbound = Outbound { to: head, path: None, at_most: sender.at_most(), envelope };
        port.send(outbound, &self.publisher).map_err(|_| "relay cannot send")
    }

    /// Remembers the nodes of this host that another one names: whoever is told of them reaches them through here.
    fn note_named(&mut self, message: &Message) {
        let Body::Reply(Reply::Found(Found { contacts, .. })) = &message.body else { return };
        for address in contacts.iter().flat_map(Contact::addresses) {
            for segment in address::segments(address).iter().take_while(|segment| address::is_host_scoped(segment)) {
                self.neighbours.insert(segment, ());
            }
        }
    }

    /// Tells the sender of a circuit what to show, so that it has an allowance of its own.
    fn ask_for_proof(&mut self, now: Time, sender: &Sender, refused: &Message) {
        let proof = self.proofs.asked(now, &sender.address);
        let message = Message {
            network: refused.network,
            tag: Tag(sender.proof.0),
            sender: None,
            also: Vec::new(),
            body: Body::Reply(Reply::Refused(Refusal::Limited)),
        };
        let envelope = Envelope::Relayed(Box::new(Circuit { to: None, from: None, proof, message }));
        let to = sender.address.clone();
        let outbound = Outbound { to, path: Some(sender.path), at_most: sender.at_most(), envelope };
        if let Some(port) = self.ports.get_mut(&sender.gateway) {
            // Where it cannot be sent the next circuit is refused in the same way.
            port.send(outbound, &self.publisher).ok();
        }
    }

    /// Whether this node passes messages on.
    fn relays(&self) -> bool {
        match self.mode {
            RelayMode::Off => false,
            RelayMode::On => true,
            RelayMode::Auto => !self.client && self.ports.len() >= 2,
        }
    }

    fn drop(&self, gateway: GatewayId, cause: &'static str) {
        self.count_dropped(gateway, cause, 1);
    }

    fn count_dropped(&self, gateway: GatewayId, cause: &'static str, amount: u64) {
        if let Some(port) = self.ports.get(&gateway) {
            port.facts.count_dropped(cause, amount);
        }
    }
}

#[cfg(test)]
mod bounds;
#[cfg(test)]
mod tests;
