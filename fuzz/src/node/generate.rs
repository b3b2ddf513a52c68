//! Ids, records, contacts, messages and commands made from the bytes of an input: mostly such as get far.

use arbitrary::{Result, Unstructured};
use kademlia_dht::core::{Command, Content};
use kademlia_dht::gateway::{
    Body, Contact, Expect, Found, Id, Message, Multiaddr, NetworkId, Record, RecordKind, Refusal, Reply, Request, Tag,
    Token, UnsentReason, Version,
};

use super::peers::{OWN, PEERS, id, nearest};

pub(super) const NETWORK: NetworkId = NetworkId(7);

type Input<'a> = Unstructured<'a>;

/// One of the peers that there are.
pub(super) fn peer(input: &mut Input<'_>) -> Result<Contact> {
    input.choose(&PEERS).cloned()
}

/// A key or an id: of a peer, near the node, the node itself, of the key space, or outside of it.
pub(super) fn any_id(input: &mut Input<'_>) -> Result<Id> {
    Ok(match input.int_in_range(0..=15)? {
        0..=3 => peer(input)?.id(),
        4..=7 => id(OWN ^ u16::from(input.arbitrary::<u8>()?)),
        8 => id(OWN),
        9 => Id::new(input.arbitrary()?),
        _ => id(input.int_in_range(0..=7)? << 13),
    })
}

pub(super) fn version(input: &mut Input<'_>) -> Result<Version> {
    Ok(Version(if input.ratio(3, 4)? { u64::from(input.arbitrary::<u8>()?) } else { input.arbitrary()? }))
}

pub(super) fn record(input: &mut Input<'_>) -> Result<Record> {
    let size = usize::from(input.arbitrary::<u8>()?) * 4;
    Ok(Record {
        value: vec![input.arbitrary()?; size].into(),
        version: version(input)?,
        renewal: if input.ratio(3, 4)? { 0 } else { input.arbitrary()? },
        remaining: if input.ratio(3, 4)? { 3600 } else { input.arbitrary()? },
        kind: if input.ratio(3, 4)? { RecordKind::Plain } else { RecordKind::Tombstone },
    })
}

pub(super) fn expect(input: &mut Input<'_>) -> Result<Expect> {
    Ok(match input.int_in_range(0..=3)? {
        0 => Expect::Absent,
        1 => Expect::Version(version(input)?),
        _ => Expect::Anything,
    })
}

/// A contact as others tell of it: as it is, or with a false id or address.
fn contact(input: &mut Input<'_>) -> Result<Contact> {
    let peer = peer(input)?;
    Ok(match input.int_in_range(0..=7)? {
        0 => Contact::new(any_id(input)?, peer.address().clone()),
        1 => Contact::with_others(peer.id(), address(input)?, addresses(input)?),
        _ => peer,
    })
}

pub(super) fn address(input: &mut Input<'_>) -> Result<Multiaddr> {
    Ok(peer(input)?.address().clone())
}

pub(super) fn addresses(input: &mut Input<'_>) -> Result<Vec<Multiaddr>> {
    (0..input.int_in_range(0..=3)?).map(|_| address(input)).collect()
}

fn contacts(input: &mut Input<'_>) -> Result<Vec<Contact>> {
    (0..input.int_in_range(0..=9)?).map(|_| contact(input)).collect()
}

/// A request without a token.
pub(super) fn question(input: &mut Input<'_>) -> Result<Request> {
    Ok(match input.int_in_range(0..=2)? {
        0 => Request::Ping,
        1 => Request::FindNode { target: any_id(input)? },
        _ => Request::FindValue { key: any_id(input)?, after: None, proof: None },
    })
}

/// An answer of the kind that was asked for.
pub(super) fn fitting(input: &mut Input<'_>, request: &Request) -> Result<Reply> {
    let optional = |input: &mut Input<'_>| input.ratio(1, 4);
    Ok(match request {
        Request::Ping => Reply::Pong,
        Request::Store { .. } if optional(input)? => Reply::Refused(refusal(input)?),
        Request::Store { .. } => Reply::Stored,
        Request::FindNode { .. } | Request::FindValue { .. } => {
            let asked = matches!(request, Request::FindValue { .. });
            let record = if asked && optional(input)? { Some(record(input)?) } else { None };
            let held = if optional(input)? { Some(version(input)?) } else { None };
            Reply::Found(Found {
                records: Vec::from_iter(record),
                more: false,
                held,
                contacts: contacts(input)?,
                token: Token(input.arbitrary()?),
            })
        }
    })
}

/// The answer of a network in order.
pub(super) fn truth(request: &Request) -> Reply {
    match request {
        Request::Ping => Reply::Pong,
        Request::Store { .. } => Reply::Stored,
        Request::FindNode { target } | Request::FindValue { key: target, .. } => Reply::Found(Found {
            records: Vec::new(),
            more: false,
            held: None,
            contacts: nearest(target),
            token: Token(1),
        }),
    }
}

/// An answer of any kind.
pub(super) fn reply(input: &mut Input<'_>) -> Result<Reply> {
    Ok(match input.int_in_range(0..=3)? {
        0 => Reply::Pong,
        1 => Reply::Stored,
        2 => Reply::Refused(refusal(input)?),
        _ => fitting(input, &Request::FindValue { key: Id::ZERO, after: None, proof: None })?,
    })
}

fn refusal(input: &mut Input<'_>) -> Result<Refusal> {
    Ok(match input.int_in_range(0..=6)? {
        0 => Refusal::Token,
        1 => Refusal::Older { held: version(input)? },
        2 => Refusal::Conflict { held: Some(version(input)?) },
        3 => Refusal::Full,
        4 => Refusal::TooLarge { limit: input.arbitrary()? },
        5 => Refusal::Expired,
        _ => Refusal::Limited,
    })
}

pub(super) fn unsent(input: &mut Input<'_>) -> Result<UnsentReason> {
    let reasons = [
        UnsentReason::Unreachable,
        UnsentReason::NotDialable,
        UnsentReason::QueueFull,
        UnsentReason::Closed,
        UnsentReason::NoNetwork,
        UnsentReason::TooLarge { limit: 1452 },
    ];
    input.choose(&reasons).copied()
}

pub(super) fn command(input: &mut Input<'_>) -> Result<Command<Contact>> {
    Ok(match input.int_in_range(0..=9)? {
        0 => Command::Join { address: address(input)? },
        1 => Command::Ping { address: address(input)? },
        2 => Command::FindNode { address: address(input)?, target: any_id(input)? },
        3 => Command::FindValue { address: address(input)?, key: any_id(input)? },
        4 => Command::Store {
            address: address(input)?,
            key: any_id(input)?,
            record: record(input)?,
            expect: expect(input)?,
        },
        5 => Command::Lookup { target: any_id(input)? },
        6 => Command::Query { key: any_id(input)? },
        7 => Command::Trace { key: any_id(input)? },
        _ => Command::Save {
            key: any_id(input)?,
            content: if input.ratio(3, 4)? { Content::Value(record(input)?.value) } else { Content::Delete },
            expect: expect(input)?,
            unix_milliseconds: u64::from(input.arbitrary::<u16>()?),
        },
    })
}

/// A message of this network.
pub(super) fn message(tag: Tag, sender: Option<Id>, body: Body) -> Message {
    Message { network: NETWORK, tag, sender, also: Vec::new(), body }
}
