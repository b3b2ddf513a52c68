//! The core of a node: packets, commands and time, in any order and from anyone.

mod bench;
mod generate;
mod peers;

use std::time::Duration;

use arbitrary::{Result, Unstructured};
use kademlia_dht::core::{Input, Time};
use kademlia_dht::gateway::{
    Body, Contact, MAX_ADDRESS_BYTES, MAX_ADDRESSES, Message, Multiaddr, Record, Refusal, Reply, Request, Tag, Token,
    codec,
};

use self::bench::{Bench, Letter};
use self::generate::{
    address, addresses, any_id, command, expect, fitting, message, peer, question, record, reply, unsent,
};
use self::peers::{OWN, at, id};

/// The most steps of one run.
const MAX_STEPS: usize = 200;

/// Runs a node through the steps that the input tells.
pub fn run(input: &[u8]) {
    let mut input = Unstructured::new(input);
    let Ok(traits) = input.arbitrary::<u8>() else { return };
    let (client, stocked) = (traits % 16 == 0, traits % 4 == 1);
    let mut bench = Bench::new(client, 1 + usize::from(traits / 16 % 3), [traits; 16]);
    if stocked {
        bench.stock();
    }
    let mut last = None;
    for _ in 0..MAX_STEPS {
        if input.is_empty() || step(&mut bench, &mut input, &mut last).is_err() {
            break;
        }
    }
    bench.finish();
}

/// Does one thing. `last` is the answer that came last, to come again.
fn step(bench: &mut Bench, input: &mut Unstructured<'_>, last: &mut Option<Letter>) -> Result<()> {
    match input.int_in_range(0..=20)? {
        0 => packet(bench, input)?,
        1 | 2 => ask(bench, input)?,
        3 | 4 => store(bench, input)?,
        5..=10 => answer(bench, input, last)?,
        11 => answer_falsely(bench, input)?,
        12 => {
            let Some((from, message)) = last.clone() else { return Ok(()) };
            let followed = bench.receive(from, message);
            assert_eq!(followed.outputs, 0, "an answer counts once");
        }
        13..=15 => bench.start(command(input)?),
        16 => aside(bench, input)?,
        17 | 18 => bench.serve(input.int_in_range(0..=4)?),
        _ => {
            let unit = input.choose(&[1, 100, 10_000, 3_600_000])?;
            bench.wait(Duration::from_millis(u64::from(input.arbitrary::<u8>()?) * unit));
        }
    }
    Ok(())
}

/// Any bytes that are a message.
fn packet(bench: &mut Bench, input: &mut Unstructured<'_>) -> Result<()> {
    let from = address(input)?;
    let size = usize::from(input.arbitrary::<u8>()?).min(input.len());
    let Ok(envelope) = codec::decode(input.bytes(size)?) else { return Ok(()) };
    let message = as_the_router_does(envelope.message().clone());
    let (foreign, is_reply) = (message.network != generate::NETWORK, matches!(message.body, Body::Reply(_)));
    let followed = bench.receive(from, message);
    assert!(followed.outputs == 0 || !foreign && !is_reply);
    Ok(())
}

/// The core is not given all that a message can say of its sender's addresses.
fn as_the_router_does(mut message: Message) -> Message {
    match message.body {
        Body::Request(_) => message.also.clear(),
        Body::Reply(_) => {
            message.also.retain(|address| !address.is_empty() && address.len() <= MAX_ADDRESS_BYTES);
            message.also.truncate(MAX_ADDRESSES - 1);
        }
    }
    message
}

/// The largest value that is sent where nothing shows that who asked is there.
const MAX_UNPROVED_BYTES: usize = 512;

/// A question of anyone: one answer follows, and perhaps a ping.
fn ask(bench: &mut Bench, input: &mut Unstructured<'_>) -> Result<()> {
    let (from, mut request) = (peer(input)?, question(input)?);
    let mut proved = input.arbitrary()?;
    let sender = if input.ratio(3, 4)? { Some(from.id()) } else { None };
    let key = match &request {
        Request::FindNode { target: key } | Request::FindValue { key, .. } => Some(*key),
        _ => None,
    };
    let from = from.address().clone();
    if let Request::FindValue { key, proof, .. } = &mut request {
        let given = bench.tokens.get(&(from.clone(), *key)).copied();
        *proof = if input.arbitrary()? { given } else { Some(Token(input.arbitrary()?)) };
        proved |= given.is_some() && *proof == given;
    }
    let space = bench.node.params().key_space;
    let served = !bench.node.params().client && key.is_none_or(|key| space.contains(&key));
    let followed = bench.hear(from.clone(), proved, message(Tag(1), sender, Body::Request(request)));
    assert_eq!(followed.replies.len(), usize::from(served));
    assert!(followed.requests <= 1 && followed.outputs <= 2);
    if let (Some(key), Some(Body::Reply(Reply::Found(found)))) =
        (key, followed.replies.into_iter().next().map(|reply| reply.body))
    {
        assert!(found.contacts.iter().all(|contact| Some(contact.id()) != sender));
        assert!(proved || found.records.iter().map(Record::bytes).sum::<usize>() <= MAX_UNPROVED_BYTES);
        bench.tokens.insert((from, key), found.token);
    }
    Ok(())
}

/// A record to be kept, mostly with a token that the node gave, perhaps to another or for another key.
fn store(bench: &mut Bench, input: &mut Unstructured<'_>) -> Result<()> {
    if input.ratio(1, 2)? {
        ask(bench, input)?;
    }
    let known = bench.tokens.len();
    let (mut from, mut key, mut token) = (address(input)?, any_id(input)?, Token(input.arbitrary()?));
    if known > 0
        && input.ratio(3, 4)?
        && let Some(((to, of), given)) = bench.tokens.iter().nth(input.choose_index(known)?)
    {
        token = *given;
        match input.int_in_range(0..=7)? {
            0 => from.clone_from(to),
            1 => key = *of,
            _ => (from, key) = (to.clone(), *of),
        }
    }
    let given = bench.tokens.get(&(from.clone(), key)) == Some(&token);
    let before: Vec<_> = bench.node.record(&key).into_iter().collect();
    let request = Request::Store { key, record: record(input)?, token, expect: expect(input)? };
    let followed = bench.receive(from, message(Tag(2), None, Body::Request(request)));
    assert!(followed.requests == 0 && followed.outputs <= 3);
    for reply in followed.replies {
        let Body::Reply(reply) = reply.body else { panic!("a request") };
        let is_stored = matches!(reply, Reply::Stored);
        assert!(given || reply == Reply::Refused(Refusal::Token), "{reply:?} without a token");
        let after: Vec<_> = bench.node.record(&key).into_iter().collect();
        assert!(is_stored || same(&before, &after), "refused, and kept all the same");
        assert!(!is_stored || !after.is_empty());
    }
    Ok(())
}

/// Whether it is the same record, or one that has just expired.
fn same(before: &[Record], after: &[Record]) -> bool {
    after.is_empty() || before.iter().zip(after).all(|(before, after)| before.newness(after).is_eq())
}

/// The latest requests are answered as they should be, by those who were asked.
fn answer(bench: &mut Bench, input: &mut Unstructured<'_>, last: &mut Option<Letter>) -> Result<()> {
    for _ in 0..input.int_in_range(1..=8)? {
        let Some((to, asked)) = take_open(bench, input)? else { break };
        let Some(peer) = at(&to) else { continue };
        let Body::Request(request) = &asked.body else { continue };
        let mut reply = message(asked.tag, Some(peer.id()), Body::Reply(fitting(input, request)?));
        if input.ratio(1, 8)? {
            reply.also = addresses(input)?;
        }
        *last = Some((to.clone(), reply.clone()));
        bench.receive(to, reply);
    }
    Ok(())
}

fn take_open(bench: &mut Bench, input: &mut Unstructured<'_>) -> Result<Option<Letter>> {
    let back = usize::from(input.int_in_range(0..=7_u8)?);
    Ok(bench.open.len().checked_sub(1 + back).and_then(|place| bench.open.remove(place)))
}

/// An answer to an open request that is not what it should be.
fn answer_falsely(bench: &mut Bench, input: &mut Unstructured<'_>) -> Result<()> {
    let Some((mut from, asked)) = take_open(bench, input)? else { return Ok(()) };
    let before = bench.node.requests_in_flight();
    let true_id = at(&from).map(Contact::id);
    let (mut tag, mut sender, mut reply) = (asked.tag, true_id, reply(input)?);
    let kind = input.int_in_range(0..=4)?;
    match kind {
        0 => tag.0 ^= 1 << input.int_in_range(0..=63)?,
        1 => from = other_than(&from, input)?,
        2 => sender = None,
        3 => sender = Some(if input.arbitrary()? { id(OWN) } else { any_id(input)? }),
        _ => {
            if let (Body::Request(request), true) = (&asked.body, input.arbitrary()?) {
                reply = fitting(input, request)?;
            }
        }
    }
    let followed = bench.receive(from, message(tag, sender, Body::Reply(reply)));
    if kind <= 2 {
        assert_eq!(followed.outputs, 0, "nothing follows from a false answer");
        assert_eq!(bench.node.requests_in_flight(), before);
    }
    Ok(())
}

fn other_than(address: &Multiaddr, input: &mut Unstructured<'_>) -> Result<Multiaddr> {
    let other = generate::address(input)?;
    Ok(if other == *address { "/memory/99999".parse().expect("an address") } else { other })
}

/// What comes from the driver.
fn aside(bench: &mut Bench, input: &mut Unstructured<'_>) -> Result<()> {
    match input.int_in_range(0..=4)? {
        0 => {
            let operation = kademlia_dht::core::OperationId(input.int_in_range(0..=bench.operations())?);
            bench.input(Input::Cancel { operation });
        }
        1 => {
            let Some((_, asked)) = take_open(bench, input)? else { return Ok(()) };
            bench.input(Input::Unsent { tag: asked.tag, reason: unsent(input)? });
        }
        2 => {
            bench.input(Input::Unsent { tag: Tag(input.arbitrary()?), reason: unsent(input)? });
        }
        3 => {
            bench.input(Input::Restore { key: any_id(input)?, record: record(input)? });
        }
        _ => {
            bench.take(Time::ZERO, Input::Tick);
        }
    }
    Ok(())
}
