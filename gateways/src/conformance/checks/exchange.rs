//! What is sent and what arrives.

use std::sync::{Mutex, PoisonError};

use crossbeam::channel::unbounded;
use multiaddr::{Multiaddr, Protocol};

use super::{Checked, ensure, ensure_eq, ensure_next, sent, start_two, tag};
use crate::address::through;
use crate::conformance::messages::{contacts, found, outbound, replies, reply, request, requests, store};
use crate::conformance::running::{Running, join};
use crate::conformance::{Failure, Transport};
use crate::count::LinkCounts;
use crate::gateway::{Outbound, UnsentReason};
use crate::link::{FromGateway, Link};

/// More contacts than a datagram has room for.
const MANY_CONTACTS: u8 = 250;

/// The bytes of a small answer, with room for some contacts.
const AT_MOST: usize = 300;

/// What may come around an encoded message.
const FRAMING: usize = 64;

/// The tag of a request that goes back is so much larger than that of the one that came.
const BACK: u64 = 1000;

pub(crate) fn delivers_both_ways(transport: &Transport) -> Checked {
    let (mut one, mut two) = start_two(transport)?;
    ensure(!one.addresses().contains(&two.address()), "an address of its own for each gateway", || {
        format!("two have {}", two.address())
    })?;
    for n in 0..10 {
        sent(one.send(&two.address(), request(n)))?;
        let asked = ensure_next(&mut two, &request(n))?;
        ensure_eq("where a request to the sender goes", &asked.from, &one.address())?;
        sent(two.answer(&asked, reply(n)))?;
        let answered = ensure_next(&mut one, &reply(n))?;
        ensure_eq("the address that was asked", &answered.from, &two.address())?;
        // Also the other way, by a connection of its own.
        sent(two.send(&asked.from, request(n + 100)))?;
        ensure_next(&mut one, &request(n + 100))?;
    }
    let expected = LinkCounts { received: 20, ..LinkCounts::default() };
    ensure_eq("the counts of who received 20 messages", &one.host.counts(), &expected)?;
    one.ensure_quiet()?;
    two.ensure_quiet()?;
    one.stop()?;
    two.stop().map(drop)
}

pub(crate) fn carries_all_messages(transport: &Transport) -> Checked {
    let (mut one, mut two) = start_two(transport)?;
    for asking in requests() {
        sent(one.send(&two.address(), asking.clone()))?;
        ensure_next(&mut two, &asking)?;
    }
    for answer in replies() {
        sent(one.send(&two.address(), request(tag(&answer))))?;
        let asked = ensure_next(&mut two, &request(tag(&answer)))?;
        sent(two.answer(&asked, answer.clone()))?;
        ensure_next(&mut one, &answer)?;
    }
    one.stop()?;
    two.stop().map(drop)
}

pub(crate) fn reaches_itself(transport: &Transport) -> Checked {
    let mut one = transport.start()?;
    sent(one.send(&one.address(), request(1)))?;
    let asked = ensure_next(&mut one, &request(1))?;
    ensure_eq("where it comes from", &asked.from, &one.address())?;
    sent(one.answer(&asked, reply(1)))?;
    ensure_next(&mut one, &reply(1)).map(drop)
}

pub(crate) fn sends_while_it_delivers(transport: &Transport) -> Checked {
    let mut one = transport.start()?;
    let mut gateway = transport.make()?;
    let no_address = || Failure::unexpected("an address of the gateway", "it has none");
    let to = gateway.addresses().first().cloned().ok_or_else(no_address)?;
    let outbox = Mutex::new(gateway.outbox().map_err(Failure::gateway("an outbox before the run"))?);
    let (to_node, events) = unbounded();
    let (link, mut host) = Link::new(0, to_node);
    // A node that works on the gateway's thread. What it cannot send is missed by the other.
    let link = link.with_wake(move || {
        let mut outbox = outbox.lock().unwrap_or_else(PoisonError::into_inner);
        while let Ok(FromGateway::Delivery(mut delivery)) = events.try_recv() {
            for inbound in delivery.take() {
                let n = tag(&inbound.envelope);
                outbox.send(outbound(&inbound.from, Some(inbound.path), reply(n))).ok();
                outbox.send(outbound(&inbound.from, None, request(n + BACK))).ok();
            }
        }
    });
    let running = Running::start(gateway, link)?;
    for n in 0..200 {
        one.send_patiently(&to, &request(n))?;
        // By two connections, perhaps: in any order.
        let mut tags = [tag(&one.next()?.envelope), tag(&one.next()?.envelope)];
        tags.sort_unstable();
        ensure_eq("the tags of an answer and of a request that were sent during a delivery", &tags, &[n, n + BACK])?;
    }
    host.stop();
    join(Some(running))?.without_error().map(drop)
}

pub(crate) fn dials_only_its_own(transport: &Transport) -> Checked {
    let (mut one, two) = start_two(transport)?;
    let own = two.address();
    ensure(one.outbox.dials(&own), "a gateway that dials others of its kind", || format!("it does not dial {own}"))?;
    let foreign = [
        Multiaddr::empty(),
        Multiaddr::empty().with(Protocol::Dns4("example.org".into())).with(Protocol::Tcp(1)),
        Multiaddr::empty().with(Protocol::Ip4([127, 0, 0, 1].into())),
        Multiaddr::empty().with(Protocol::Unix("relative".into())),
        own.clone().with(Protocol::Http),
        through(&own, &own),
    ];
    for address in foreign {
        let what = "a gateway that dials nothing but its own kind";
        ensure(!one.outbox.dials(&address), what, || format!("it dials {address:?}"))?;
        let reason = one.why_unsent(&address, request(1))?;
        ensure_eq(&format!("why a message to {address:?} is not sent"), &reason, &UnsentReason::NotDialable)?;
    }
    Ok(())
}

pub(crate) fn keeps_its_limits(transport: &Transport) -> Checked {
    let (mut one, mut two) = start_two(transport)?;
    let largest = one.outbox.limits().largest;
    let bytes = |value: usize| transport.encode(&store(1, value)).len();
    // The lengths before the value have more bytes for larger ones, so this begins near the end.
    let near = largest.saturating_sub(200);
    let value = largest.saturating_sub(bytes(near).saturating_sub(near));
    ensure(bytes(value) == largest, "limits that a message can have, in encoded bytes", || {
        format!("the gateway's largest message has {largest}, and one with a value of {value} has {}", bytes(value))
    })?;
    sent(one.send(&two.address(), store(1, value)))?;
    ensure_next(&mut two, &store(1, value))?;

    let reason = one.why_unsent(&two.address(), store(2, value + 1))?;
    let expected = UnsentReason::TooLarge { limit: u32::try_from(largest).unwrap_or(u32::MAX) };
    ensure_eq("why a message beyond the limit is not sent", &reason, &expected)?;
    sent(one.send(&two.address(), request(3)))?;
    // Nothing of the other one went out.
    ensure_next(&mut two, &request(3)).map(drop)
}

pub(crate) fn keeps_to_at_most(transport: &Transport) -> Checked {
    let (mut one, mut two) = start_two(transport)?;
    let to = two.address();
    let mut send = |at_most: usize, envelope| {
        one.outbox.send(Outbound { at_most: Some(at_most), ..outbound(&to, None, envelope) })
    };
    sent(send(AT_MOST, found(1, MANY_CONTACTS)))?;
    let arrived = two.next()?.envelope;
    let (size, came) = (transport.encode(&arrived).len(), contacts(&arrived).map_or(0, <[_]>::len));
    ensure(size <= AT_MOST, "a reply of as many bytes as it may have", || format!("it has {size} of {AT_MOST}"))?;
    ensure(came > 0, "as many contacts as fit", || "none came".to_owned())?;
    let reason = match send(AT_MOST, store(2, AT_MOST)) {
        Err(unsent) => unsent.reason,
        Ok(()) => one.next_unsent()?.1,
    };
    let expected = UnsentReason::TooLarge { limit: u32::try_from(AT_MOST).unwrap_or(u32::MAX) };
    ensure_eq("why what cannot have so few bytes is not sent", &reason, &expected)
}

pub(crate) fn tells_sizes(transport: &Transport) -> Checked {
    let (mut one, mut two) = start_two(transport)?;
    for (n, value) in (0..).zip([0, 100, 500]) {
        let envelope = store(n, value);
        sent(one.send(&two.address(), envelope.clone()))?;
        let (told, encoded) = (two.next()?.bytes, transport.encode(&envelope).len());
        let what =
            format!("the size of a message of {encoded} encoded bytes, with {FRAMING} more for its frame at most");
        ensure((encoded..=encoded + FRAMING).contains(&told), &what, || format!("it is said to be {told}"))?;
    }
    Ok(())
}

pub(crate) fn leaves_out_contacts(transport: &Transport) -> Checked {
    let (mut one, mut two) = start_two(transport)?;
    let preferred = one.outbox.limits().preferred;
    let whole = found(1, MANY_CONTACTS);
    let fits = transport.encode(&whole).len() <= preferred;
    sent(one.send(&two.address(), whole.clone()))?;
    let arrived = two.next()?.envelope;
    let not_found = || Failure::unexpected("a reply with contacts", arrived.message().to_string());
    let (came, all) = (contacts(&arrived).ok_or_else(not_found)?, contacts(&whole).unwrap_or_default());
    ensure(all.starts_with(came), "the nearest contacts, in order", || format!("others came: {came:?}"))?;
    ensure((came.len() == all.len()) == fits, "all contacts if they fit, else as many as do", || {
        format!("{} of {} came, with a preferred size of {preferred} bytes", came.len(), all.len())
    })?;
    ensure(!came.is_empty(), "as many contacts as fit", || "none came".to_owned())?;
    let size = transport.encode(&arrived).len();
    ensure(size <= preferred, "a reply of the preferred size at the most", || format!("it has {size} bytes"))
}
