//! The ways to a contact that somebody else told of.

use kademlia_gateways::{Body, Contact, Found, MAX_ADDRESS_BYTES, MAX_ADDRESSES, Message, Multiaddr, Reply, address};

use super::MAX_RELAYS;

/// One stretch of a way: an address that whoever stands before it dials directly.
#[derive(Debug, Clone)]
struct Segment {
    address: Multiaddr,
    /// The protocols: who dials one address of a kind dials them all.
    kind: Vec<&'static str>,
    /// Means something on the host of whoever stands before it only.
    scoped: bool,
}

fn chain(address: &Multiaddr) -> Vec<Segment> {
    let segment = |address: Multiaddr| Segment {
        kind: address::transport(&address),
        scoped: address::is_host_scoped(&address),
        address,
    };
    address::segments(address).into_iter().map(segment).collect()
}

/// Rewrites the addresses that one node, the informant, tells of into ways that can be gone from here.
pub(super) struct Localiser<'a> {
    dials: &'a dyn Fn(&Multiaddr) -> bool,
    own: &'a [Multiaddr],
    informant: Vec<Segment>,
    /// The informant is on this host.
    scoped: bool,
}

impl<'a> Localiser<'a> {
    pub(super) fn new(
        dials: &'a dyn Fn(&Multiaddr) -> bool,
        own: &'a [Multiaddr],
        informant: &Multiaddr,
    ) -> Localiser<'a> {
        let informant = chain(informant);
        let scoped = informant.iter().all(|segment| segment.scoped);
        Localiser { dials, own, informant, scoped }
    }

    /// Rewrites all addresses in a reply. Gives how many contacts no way leads to; they are left out.
    pub(super) fn reply(&self, message: &mut Message) -> usize {
        message.also = self.also(std::mem::take(&mut message.also));
        let Body::Reply(Reply::Found(Found { contacts, .. })) = &mut message.body else { return 0 };
        let named = contacts.len();
        *contacts = std::mem::take(contacts).into_iter().filter_map(|contact| self.contact(contact)).collect();
        named - contacts.len()
    }

    /// The contact with the best way to it for an address.
    fn contact(&self, contact: Contact) -> Option<Contact> {
        if contact.others().is_empty() && sound(contact.address()) && self.goes_straight(contact.address()) {
            return Some(contact);
        }
        let addresses = || contact.addresses().filter(|address| sound(address));
        // Of equally short ways the one to the contact's first address.
        let ways = addresses().filter_map(|address| self.way(address));
        let (chosen, _) = ways.min_by_key(|(way, _)| address::relays(way))?;
        let implied = address::segments(&chosen);
        let others = addresses()
            .filter(|other| self.holds_elsewhere(other) && !implied.ends_with(&address::segments(other)))
            .cloned()
            .collect();
        Some(Contact::with_others(contact.id(), chosen, others))
    }

    /// Further addresses of the informant itself.
    fn also(&self, also: Vec<Multiaddr>) -> Vec<Multiaddr> {
        let Some(seen) = self.informant.last() else { return Vec::new() };
        also.into_iter()
            .take(MAX_ADDRESSES - 1)
            .filter_map(|address| match address::ip(&seen.address) {
                Some(ip) if address::is_unspecified(&address) => address::with_ip(&address, ip),
                _ => Some(address),
            })
            .filter(|address| {
                sound(address)
                    && address::relays(address) == 0
                    && self.holds_elsewhere(address)
                    && *address != seen.address
                    && !self.own.contains(address)
            })
            .collect()
    }

    /// Whether the address, taken by itself, means here what it means to the informant.
    fn holds_elsewhere(&self, address: &Multiaddr) -> bool {
        self.scoped || !address::is_host_scoped(&address::split_first(address).0)
    }

    /// Whether the address itself is the way, as it nearly always is: then no other need be looked for.
    fn goes_straight(&self, address: &Multiaddr) -> bool {
        address::relays(address) == 0
            && self.holds_elsewhere(address)
            && !self.own.contains(address)
            && (self.dials)(address)
    }

    /// The way with the fewest relays to an address that the informant knows, if one is good, and their number.
    fn way(&self, address: &Multiaddr) -> Option<(Multiaddr, usize)> {
        if self.goes_straight(address) {
            return Some((address.clone(), 0));
        }
        let segments = [self.informant.as_slice(), &chain(address)].concat();
        if segments.last().is_none_or(|last| self.own.contains(&last.address)) {
            return None;
        }
        let path = self.shortest(&segments)?;
        let way: Vec<Multiaddr> = path.iter().map(|segment| segment.address.clone()).collect();
        let relays = way.len().checked_sub(1).filter(|relays| *relays <= MAX_RELAYS)?;
        if has_repeated(&way) {
            return None;
        }
        address::join(&way).filter(|way| way.len() <= MAX_ADDRESS_BYTES).map(|way| (way, relays))
    }

    /// The segments to go through, chosen from the whole way by the informant.
    ///
    /// We can start at any segment that a gateway of ours dials; and each relay, which dials the next segment, dials
    /// all later ones of the same kind, too. Found from the end: `left` holds for each segment how many more follow
    /// it at least, and which one is next.
    fn shortest<'s>(&self, segments: &'s [Segment]) -> Option<Vec<&'s Segment>> {
        let mut left: Vec<Option<(usize, usize)>> = vec![None; segments.len()];
        let usable = |index: usize| segments.get(index).filter(|segment| !self.own.contains(&segment.address));
        for index in (0..segments.len()).rev() {
            let Some(_) = usable(index) else { continue };
            let best = if index + 1 == segments.len() {
                Some((0, index))
            } else {
                let next = later_of_kind(segments, index + 1).filter(|next| usable(*next).is_some());
                fewest(next, &left).map(|(count, next)| (count + 1, next))
            };
            if let Some(entry) = left.get_mut(index) {
                *entry = best;
            }
        }
        let scoped_before = segments.iter().take_while(|segment| segment.scoped).count();
        let starts = (0..segments.len()).filter(|index| {
            // An address of a host's own means something to us only as long as the way has not left our host.
            usable(*index)
                .is_some_and(|start| (!start.scoped || *index < scoped_before) && (self.dials)(&start.address))
                || *index == 0 && usable(0).is_some()
        });
        let (_, start) = fewest(starts, &left)?;
        let mut path = vec![segments.get(start)?];
        let mut at = start;
        while at + 1 < segments.len() {
            (_, at) = left.get(at).copied().flatten()?;
            path.push(segments.get(at)?);
        }
        Some(path)
    }
}

/// Of the candidates the one from which the fewest segments are left; the last one of several.
fn fewest(candidates: impl Iterator<Item = usize>, left: &[Option<(usize, usize)>]) -> Option<(usize, usize)> {
    candidates
        .filter_map(|index| left.get(index).copied().flatten().map(|(count, _)| (count, index)))
        .min_by_key(|(count, index)| (*count, std::cmp::Reverse(*index)))
}

/// The segment at `from`, and those after it that whoever dials it can dial instead.
fn later_of_kind(segments: &[Segment], from: usize) -> impl Iterator<Item = usize> {
    let first = segments.get(from);
    let mut on_one_host = true;
    segments.iter().enumerate().skip(from).filter_map(move |(index, segment)| {
        let first = first?;
        on_one_host &= segment.scoped;
        let same = segment.kind == first.kind && segment.scoped == first.scoped && (!first.scoped || on_one_host);
        same.then_some(index)
    })
}

/// Whether an address from the wire can be a way at all.
pub(super) fn sound(address: &Multiaddr) -> bool {
    let names_a_host = |segment: &Multiaddr| !segment.is_empty() && !address::is_unspecified(segment);
    let segments_do = match address::relays(address) {
        0 => names_a_host(address),
        1..=MAX_RELAYS => address::segments(address).iter().all(names_a_host),
        _ => false,
    };
    address.len() <= MAX_ADDRESS_BYTES && segments_do
}

pub(super) fn has_repeated(segments: &[Multiaddr]) -> bool {
    segments.iter().enumerate().any(|(index, segment)| segments.iter().skip(index + 1).any(|later| later == segment))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kademlia_gateways::{Id, NetworkId, Tag, Token};
    use proptest::prelude::*;

    fn parse(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    /// Short names: `u1` is a public UDP address, `t1` a public TCP one, `x1` a Unix socket, `l1` loopback UDP.
    fn named(name: &str) -> Multiaddr {
        let segment = |name: &str| {
            let (kind, number) = name.split_at(1);
            parse(&match kind {
                "u" => format!("/ip4/1.0.0.{number}/udp/1"),
                "t" => format!("/ip4/1.0.0.{number}/tcp/1"),
                "x" => format!("/unix/%2F{number}"),
                "l" => format!("/ip4/127.0.0.1/udp/{number}"),
                "k" => format!("/ip4/127.0.0.1/tcp/{number}"),
                other => panic!("{other}"),
            })
        };
        address::join(&name.split(' ').map(segment).collect::<Vec<_>>()).unwrap()
    }

    /// The contact known as `addresses`, told by `informant` to a node with the gateways of `kinds`.
    fn told(kinds: &str, own: &[&str], informant: &str, addresses: &[&str]) -> Option<Contact> {
        let dials = |address: &Multiaddr| {
            kinds.chars().any(|kind| {
                let same = address::transport(address) == address::transport(&named(&format!("{kind}1")));
                same || (kind == 'l'
                    && address::socket_addr(address).is_some_and(|(_, kind)| kind == address::IpTransport::Udp))
            })
        };
        let own: Vec<_> = own.iter().map(|name| named(name)).collect();
        let mut addresses = addresses.iter().map(|name| named(name));
        let contact = Contact::with_others(Id::ZERO, addresses.next().unwrap(), addresses.collect());
        Localiser::new(&dials, &own, &named(informant)).contact(contact)
    }

    fn way(kinds: &str, informant: &str, addresses: &[&str]) -> Option<Multiaddr> {
        told(kinds, &[], informant, addresses).map(|contact| contact.address().clone())
    }

    #[test]
    fn what_we_can_dial_we_dial() {
        assert_eq!(way("u", "u1", &["u2"]), Some(named("u2")));
        assert_eq!(way("u", "u1", &["t2", "u2"]), Some(named("u2")));
        assert_eq!(way("ut", "u1", &["t2", "u2"]), Some(named("t2")));
        assert_eq!(way("x", "x1", &["x2"]), Some(named("x2")));
    }

    #[test]
    fn what_we_cannot_dial_we_reach_through_the_informant() {
        assert_eq!(way("u", "u1", &["t2"]), Some(named("u1 t2")));
        assert_eq!(way("u", "u1 t2", &["x3"]), Some(named("u1 t2 x3")));
    }

    #[test]
    fn the_shortest_suffix_that_we_can_dial() {
        assert_eq!(way("u", "u1", &["t2 u3"]), Some(named("u3")));
        assert_eq!(way("t", "t1", &["u2 t3 x4"]), Some(named("t3 x4")));
    }

    #[test]
    fn a_relay_that_dials_one_address_dials_the_others_of_its_kind() {
        assert_eq!(way("u", "u1 t2", &["t3"]), Some(named("u1 t3")));
        assert_eq!(way("u", "u1 t2 x3", &["x4 t5"]), Some(named("u1 t5")));
    }

    #[test]
    fn an_address_of_a_host_counts_only_on_that_host() {
        // The informant is elsewhere: its Unix socket is not ours, though we could dial one of that name.
        assert_eq!(way("ux", "u1", &["x2"]), Some(named("u1 x2")));
        assert_eq!(way("ul", "u1", &["l2"]), Some(named("u1 l2")));
        // Two Unix sockets with another host between them: the second one is not on the first one's host.
        assert_eq!(way("u", "u1 x2", &["u3 x4"]), Some(named("u3 x4")));
        assert_eq!(way("x", "x2 u1", &["x4"]), Some(named("x2 u1 x4")));
    }

    #[test]
    fn further_addresses_stay_where_they_mean_the_same() {
        let contact = told("u", &[], "u1", &["u2", "t2", "x2"]).unwrap();
        assert_eq!(contact.others(), [named("t2")]);
        let contact = told("u", &[], "l1", &["u2", "t2", "x2"]).unwrap();
        assert_eq!(contact.others(), [named("t2"), named("x2")]);
        // What the chosen way ends in is said already.
        let contact = told("u", &[], "u1", &["t2", "x2"]).unwrap();
        assert_eq!((contact.address(), contact.others()), (&named("u1 t2"), [].as_slice()));
    }

    #[test]
    fn no_way_leads_through_ourselves() {
        assert_eq!(told("u", &["u9"], "u1", &["u9"]), None);
        assert_eq!(told("u", &["u9"], "u1", &["u9 t2"]), None);
        assert_eq!(told("u", &["u9"], "u1", &["u9 u3"]).unwrap().address(), &named("u3"));
        assert_eq!(told("u", &["x9"], "u1", &["x9 t2"]), None);
    }

    #[test]
    fn at_most_three_relays_and_no_loop() {
        assert_eq!(way("x", "x1 u1 t1", &["k5"]), Some(named("x1 u1 t1 k5")));
        assert_eq!(way("x", "x1 u1 t1 k5", &["l5"]), None);
        let long = "/ip4/1.0.0.1/udp/1/p2p-circuit/".repeat(60) + "/ip4/1.0.0.1/tcp/1";
        let dials = |_: &Multiaddr| true;
        let informant = named("u1");
        let localiser = Localiser::new(&dials, &[], &informant);
        assert_eq!(localiser.contact(Contact::new(Id::ZERO, parse(&long.replace("//", "/")))), None);
    }

    #[test]
    fn a_bad_contact_leaves_the_others() {
        let contacts = ["/ip4/0.0.0.0/udp/1", "/ip4/9.9.9.9/udp/1", "/p2p-circuit/ip4/1.1.1.1/udp/1"];
        let contacts = contacts.map(|text| Contact::new(Id::ZERO, parse(text))).to_vec();
        let found = Found { records: Vec::new(), more: false, held: None, contacts: contacts.clone(), token: Token(0) };
        let mut message = Message {
            network: NetworkId(0),
            tag: Tag(0),
            sender: None,
            also: vec![parse("/ip4/0.0.0.0/tcp/7"), parse("/ip6/::/tcp/7"), parse("/unix/%2Fa")],
            body: Body::Reply(Reply::Found(found)),
        };
        let dials = |address: &Multiaddr| address::socket_addr(address).is_some();
        let informant = named("u1");
        assert_eq!(Localiser::new(&dials, &[], &informant).reply(&mut message), 2);
        assert_eq!(message.also, [parse("/ip4/1.0.0.1/tcp/7")]);
        let Body::Reply(Reply::Found(found)) = message.body else { panic!() };
        assert_eq!(found.contacts, contacts[1..2]);
    }

    proptest! {
        /// Whatever is told: the way is one of ours to go, ends where the contact is, and keeps its bounds.
        #[test]
        fn ways_are_sound(informant in "[ul][1-4]( [utxlk][1-4]){0,3}", told in "[utxlk][1-4]( [utxlk][1-4]){0,3}") {
            let dials = |address: &Multiaddr| address::socket_addr(address).is_some_and(|(_, kind)| kind == address::IpTransport::Udp);
            let (informant, told) = (named(&informant), named(&told));
            let own = [named("u4")];
            let localiser = Localiser::new(&dials, &own, &informant);
            if let Some((way, relays)) = localiser.way(&told) {
                let segments = address::segments(&way);
                prop_assert!(dials(&segments[0]));
                prop_assert!(relays <= MAX_RELAYS && relays == address::relays(&way));
                prop_assert!(segments.ends_with(&address::segments(&told)[address::relays(&told)..]));
                prop_assert!(!has_repeated(&segments) && !segments.contains(&own[0]));
                let all_scoped = address::is_host_scoped(&informant) && address::is_host_scoped(&told);
                prop_assert!(!address::is_host_scoped(&way) || all_scoped || informant == way
                    || address::is_host_scoped(&segments[0]));
            }
        }
    }
}
