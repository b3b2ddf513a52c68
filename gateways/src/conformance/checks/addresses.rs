//! What is bound, by whom, and for how long.

use std::io::ErrorKind;

use crossbeam::channel::unbounded;
use multiaddr::{Multiaddr, Protocol};

use super::{Checked, ensure, ensure_eq, ensure_next, sent, start_two};
use crate::conformance::messages::{outbound, reply, request};
use crate::conformance::running::run_to_the_end;
use crate::conformance::{Failure, Stopped, TestNode, Transport};
use crate::gateway::{Gateway, GatewayError, Outbox, UnsentReason};
use crate::link::Link;

pub(crate) fn refuses_foreign_addresses(transport: &Transport) -> Checked {
    let foreign = [
        Multiaddr::empty().with(Protocol::Dns4("example.org".into())).with(Protocol::Udp(1)),
        Multiaddr::empty().with(Protocol::Ip4([127, 0, 0, 1].into())),
        Multiaddr::empty().with(Protocol::Unix("relative".into())),
    ];
    for address in foreign {
        let error = refusal(transport, &address)?;
        let named = error.to_string().contains(&address.to_string());
        ensure(matches!(error, GatewayError::Address { .. }) && named, "an error that names the address", || {
            format!("binding {address} gave {error:?}")
        })?;
    }
    Ok(())
}

/// Why this address cannot be bound.
fn refusal(transport: &Transport, address: &Multiaddr) -> Result<GatewayError, Failure> {
    match transport.bind(address) {
        Err(error) => Ok(error),
        Ok(gateway) => {
            let expected = format!("a refusal to bind {address}");
            Err(Failure::unexpected(expected, format!("it gave a gateway on {:?}", gateway.addresses())))
        }
    }
}

pub(crate) fn names_address_in_use(transport: &Transport) -> Checked {
    let one = transport.make()?;
    let address = only_address(&*one)?;
    let error = refusal(transport, &address)?;
    let in_use = matches!(&error, GatewayError::Bind { source, .. } if source.kind() == ErrorKind::AddrInUse);
    let named = error.to_string().contains(&address.to_string());
    ensure(in_use && named, "an error that names the address, with `AddrInUse` as its cause", || format!("{error:?}"))
}

fn only_address(gateway: &dyn Gateway) -> Result<Multiaddr, Failure> {
    let no_address = || Failure::unexpected("an address of the gateway", "it has none");
    gateway.addresses().first().cloned().ok_or_else(no_address)
}

pub(crate) fn frees_its_address(transport: &Transport) -> Checked {
    let unused = transport.make()?;
    let address = only_address(&*unused)?;
    drop(unused);
    drop(transport.start_on(&address)?.stop()?);

    let (one, mut two) = start_two(transport)?;
    let address = one.address();
    sent(two.send(&address, request(1)))?;
    // It has ended, though it is still there.
    let _ended = one.stop()?;
    let mut again = transport.start_on(&address)?;
    ensure_eq("the address that was bound again", &again.address(), &address)?;
    again.send_patiently(&two.address(), &request(2))?;
    ensure_next(&mut two, &request(2))?;
    again.stop().map(drop)
}

pub(crate) fn reopens(transport: &Transport) -> Checked {
    let (one, mut two) = start_two(transport)?;
    let address = one.address();
    let gateway = one.stop()?;
    if !transport.reopens() {
        let mut gateway = gateway;
        let result = gateway.reopen();
        return ensure(matches!(result, Err(GatewayError::NotReopenable)), "`NotReopenable`", || format!("{result:?}"));
    }
    let (to_node, _events) = unbounded();
    let (link, _host) = Link::new(0, to_node);
    let Stopped { mut gateway, result: run } = run_to_the_end(gateway, link)?;
    ensure(matches!(run, Err(GatewayError::Ended)), "`Ended` from a run before the reopening", || format!("{run:?}"))?;
    let outbox = gateway.outbox().err();
    ensure(matches!(outbox, Some(GatewayError::Ended)), "`Ended` instead of an outbox before the reopening", || {
        format!("{outbox:?}")
    })?;

    gateway.reopen().map_err(Failure::gateway("a gateway that reopens"))?;
    let mut again = TestNode::start_within(gateway, transport.deadline())?;
    ensure_eq("the address after the reopening", &again.address(), &address)?;
    sent(again.send(&two.address(), request(1)))?;
    let asked = ensure_next(&mut two, &request(1))?;
    ensure_eq("where it comes from", &asked.from, &address)?;
    sent(two.answer(&asked, reply(1)))?;
    ensure_next(&mut again, &reply(1))?;
    again.stop().map(drop)
}

pub(crate) fn closes_its_outbox(transport: &Transport) -> Checked {
    let (mut one, two) = start_two(transport)?;
    sent(one.send(&two.address(), request(0)))?;
    one.host.stop();
    drop(one.join()?);
    ensure_closed(&mut *one.outbox, &two, "after the run")?;

    let mut unused = transport.make()?;
    let mut outbox = unused.outbox().map_err(Failure::gateway("an outbox before the run"))?;
    drop(unused);
    ensure_closed(&mut *outbox, &two, "of a gateway that never ran")
}

fn ensure_closed(outbox: &mut dyn Outbox, other: &TestNode, when: &str) -> Checked {
    let result = outbox.send(outbound(&other.address(), None, request(1)));
    let reason = result.err().map(|unsent| unsent.reason);
    ensure_eq(&format!("why the outbox does not send, {when}"), &reason, &Some(UnsentReason::Closed))
}
