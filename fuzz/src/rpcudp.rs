//! One datagram of `rpcudp`: what can be read is written no longer than it came, and then read alike; each value has one
//! form.

use kademlia_dht::gateway::rpcudp::Value;
use kademlia_dht::gateway::rpcudp::codec::{self, Answer, Body, Call, Datagram, Found, HEADER_BYTES, Reply, WireId};

/// Reads the input as one datagram, and as the bytes of a record.
pub fn run(input: &[u8]) {
    if let Ok(value) = Value::from_bytes(input) {
        assert_eq!(value.to_bytes(), input, "{value}");
    }
    let Ok(Datagram { id, body }) = codec::decode(input) else { return };
    match body {
        Body::Request(call) => {
            // Nothing stands for a value of another type.
            let written = codec::encode_request(&id, &call);
            assert!(written.len() <= input.len() + widened(&call), "{call:?}");
            let Ok(Datagram { id: read, body: Body::Request(again) }) = codec::decode(&written) else {
                panic!("what was written can be read: {call:?}")
            };
            // A number that is none is not itself, and has its bytes all the same.
            assert_eq!((read, codec::encode_request(&id, &again)), (id, written));
        }
        Body::Reply(answer) => reply(&id, answer, input.len()),
    }
}

/// A reply may be the answer to anything.
fn reply(id: &WireId, answer: Answer<'_>, bytes: usize) {
    if let Ok(node) = answer.pong() {
        assert!(codec::encode_reply(id, &Reply::Pong(node)).len() <= bytes);
    }
    if let Ok(kept) = answer.stored() {
        assert!(codec::encode_reply(id, &Reply::Stored(kept)).len() <= bytes);
    }
    if let Ok(contacts) = answer.contacts() {
        // An IP of IPv6 can be written in several ways, of which the shortest is not always the usual one.
        assert!(contacts.len() * 30 <= bytes);
        let written = codec::encode_contacts(id, &contacts, bytes);
        assert!(written.len() <= bytes.max(HEADER_BYTES + 1));
        let Ok(Datagram { body: Body::Reply(again), .. }) = codec::decode(&written) else { panic!("{contacts:?}") };
        assert!(contacts.starts_with(&again.contacts().expect("they were written as contacts")));
    }
    if let Ok(Found::Value(Some(value))) = answer.found() {
        assert!(value.to_bytes().len() < bytes + SHORT_FLOAT);
        let written = codec::encode_reply(id, &Reply::Found(&value));
        let Ok(Datagram { body: Body::Reply(again), .. }) = codec::decode(&written) else { panic!("{value:?}") };
        let Ok(Found::Value(Some(again))) = again.found() else { panic!("{value:?}") };
        assert_eq!(again.to_bytes(), value.to_bytes());
    }
}

/// A float of four bytes is written in eight.
const SHORT_FLOAT: usize = 4;

fn widened(call: &Call) -> usize {
    if matches!(call, Call::Store { value: Some(Value::Float(_)), .. }) { SHORT_FLOAT } else { 0 }
}
