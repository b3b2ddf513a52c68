//! One datagram: what can be read is written alike, and takes no more memory than its bytes warrant.

use kademlia_dht::gateway::codec::{self, EncodeError, MAX_MESSAGE_BYTES, SizeLimits};
use kademlia_dht::gateway::{Body, Contact, Envelope, Found, MAX_ADDRESS_BYTES, MAX_ADDRESSES, Multiaddr, Reply};

/// Reads the input as one message.
pub fn run(input: &[u8]) {
    let Ok(envelope) = codec::decode(input) else { return };
    assert!(content(&envelope) <= input.len(), "{input:?} holds more than it has bytes");
    assert!(contacts(&envelope).iter().all(is_bounded), "{envelope:?}");
    round_trip(&envelope);
    let tight = SizeLimits { preferred: input.len() / 2, largest: input.len() / 4 * 3 };
    for limits in [SizeLimits::DATAGRAM, SizeLimits::STREAM, tight] {
        fit(&envelope, limits);
    }
}

/// Writes a message, and reads the same again.
pub fn round_trip(envelope: &Envelope) {
    let mut bytes = Vec::new();
    codec::encode(envelope, &mut bytes).expect("what was read can be written");
    assert!(bytes.len() <= MAX_MESSAGE_BYTES);
    assert_eq!(codec::decode(&bytes).expect("what was written can be read"), *envelope);
}

/// Writes a message into a limited room: only the last contacts may be missing.
fn fit(envelope: &Envelope, limits: SizeLimits) {
    let mut fitting = envelope.clone();
    let mut bytes = vec![7];
    match codec::encode_fitting(&mut fitting, limits, &mut bytes) {
        Ok(()) => {
            let written = bytes.get(1..).unwrap_or_default();
            assert!(written.len() <= limits.largest);
            assert_eq!(codec::decode(written).expect("what was written can be read"), fitting);
            assert!(contacts(envelope).starts_with(contacts(&fitting)));
        }
        Err(EncodeError::TooLarge { size, limit }) => {
            assert!(size > limit);
            assert_eq!((&fitting, bytes.as_slice()), (envelope, [7].as_slice()), "a failure leaves no trace");
        }
        Err(EncodeError::Encoder(error)) => panic!("{error}"),
    }
}

fn contacts(envelope: &Envelope) -> &[Contact] {
    match &envelope.message().body {
        Body::Reply(Reply::Found(Found { contacts, .. })) => contacts,
        _ => &[],
    }
}

fn is_bounded(contact: &Contact) -> bool {
    let lengths = || contact.addresses().map(Multiaddr::len);
    lengths().count() <= MAX_ADDRESSES && lengths().all(|length| (1..=MAX_ADDRESS_BYTES).contains(&length))
}

/// How many bytes a message takes on the wire at least.
fn content(envelope: &Envelope) -> usize {
    let message = envelope.message();
    let ways = match envelope {
        Envelope::Direct(_) => 0,
        Envelope::Relayed(circuit) => circuit.to.iter().chain(&circuit.from).map(Multiaddr::len).sum(),
    };
    let also: usize = message.also.iter().map(|address| 1 + address.len()).sum();
    let named = |contact: &Contact| 2 + contact.addresses().map(|address| 1 + address.len()).sum::<usize>();
    let body = match &message.body {
        Body::Reply(Reply::Found(Found { records, contacts, .. })) => {
            records.iter().map(|record| record.value.len()).sum::<usize>() + contacts.iter().map(named).sum::<usize>()
        }
        Body::Request(kademlia_dht::gateway::Request::Store { record, .. }) => record.value.len(),
        _ => 0,
    };
    1 + ways + also + body
}
