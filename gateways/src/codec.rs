//! The native encoding: one version byte, then the [`Envelope`] in bincode, and for a request or a circuit zero bytes up
//! to a least size. The one place that knows it.

use bincode::config::{self, Configuration, Limit, LittleEndian, Varint};
use bincode::enc::write::SizeWriter;
use multiaddr::Multiaddr;

use crate::address;
use crate::contact::Contact;
use crate::message::{Body, Envelope, Found, Reply, Request};
use crate::record::Record;

/// The version of the wire format: the first byte of every message.
pub const WIRE_VERSION: u8 = 1;

/// The largest message of all: a value of 64 KiB and what goes around it.
pub const MAX_MESSAGE_BYTES: usize = 72 * 1024;

/// A request is filled up with zeros to this size, so that what it brings about at an address that is not proved, the
/// answer and two pings, has at most three times its size. A shorter one is not answered there.
pub const LEAST_REQUEST_BYTES: usize = 80;

/// A request for contacts is filled up to this size, as its answer is longer: 20 contacts on IPv4 have 720 bytes.
pub const LEAST_FIND_BYTES: usize = 320;

/// In a circuit each address of the way has room for so many bytes at least: those of any IP and port.
const LEAST_ADDRESS_BYTES: usize = 21;

/// What the addresses of a way take beyond their own bytes, at most and for each of them: the lengths, and what stands
/// between two of them.
const AROUND_ADDRESS_BYTES: usize = 4;

/// The most bytes of a token.
const TOKEN_BYTES: usize = 9;

/// Why bytes are not a message.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// There are no bytes.
    #[error("the message is empty")]
    Empty,
    /// The sender speaks another version of the protocol.
    #[error("the message has wire version {0}; this node speaks version {WIRE_VERSION}")]
    Version(u8),
    /// More than any message has.
    #[error("the message has {0} bytes; the most is {MAX_MESSAGE_BYTES}")]
    TooLarge(usize),
    /// The encoding is wrong.
    #[error("the message is malformed: {0}")]
    Malformed(#[from] bincode::error::DecodeError),
    /// A message and then something else.
    #[error("{0} bytes follow the end of the message")]
    Trailing(usize),
}

/// Why a message cannot be encoded for a gateway.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// It does not fit, even without contacts.
    #[error("the message has {size} bytes, more than the {limit} that fit")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The most bytes that fit.
        limit: usize,
    },
    /// The encoder failed.
    #[error("the message cannot be encoded: {0}")]
    Encoder(#[from] bincode::error::EncodeError),
}

/// How large the messages of a gateway can be, in encoded bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeLimits {
    /// A reply beyond this leaves out its farthest contacts, if it is not beyond it without any.
    pub preferred: usize,
    /// A message beyond this is not sent.
    pub largest: usize,
}

impl SizeLimits {
    /// For gateways over streams: the largest message of all.
    pub const STREAM: SizeLimits = SizeLimits { preferred: MAX_MESSAGE_BYTES, largest: MAX_MESSAGE_BYTES };

    /// For datagrams: replies fit the smallest link of IPv6, and no message needs fragments on an Ethernet.
    pub const DATAGRAM: SizeLimits = SizeLimits { preferred: 1200, largest: 1452 };

    /// For datagrams, where a message that does not fit one is sent in several: replies fit one if leaving out contacts
    /// can make them.
    pub const PARTS: SizeLimits = SizeLimits { preferred: SizeLimits::DATAGRAM.preferred, largest: MAX_MESSAGE_BYTES };
}

/// What decoding may claim to read. The decoder counts eight bytes for a number that takes one on the wire, so that the
/// largest message of all counts for several times its size.
const MAX_CLAIMED_BYTES: usize = 10 * MAX_MESSAGE_BYTES;

fn format() -> Configuration<LittleEndian, Varint, Limit<MAX_CLAIMED_BYTES>> {
    config::standard().with_limit::<MAX_CLAIMED_BYTES>()
}

/// Appends the encoding of `envelope` to `buffer`. On an error the buffer is as it was.
///
/// # Errors
///
/// When it is larger than [`MAX_MESSAGE_BYTES`].
pub fn encode(envelope: &Envelope, buffer: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = buffer.len();
    match append(envelope, buffer)? {
        size if size > MAX_MESSAGE_BYTES => {
            buffer.truncate(start);
            Err(EncodeError::TooLarge { size, limit: MAX_MESSAGE_BYTES })
        }
        _ => Ok(()),
    }
}

/// Appends the encoding of `envelope`, with as much of a reply as `limits` leaves room for.
///
/// What has no room is taken out of the envelope: records beyond the first, until they take no more than half of it; then
/// contacts, the farthest first, until it has the preferred size or, if it is larger without any, until they take no more
/// than that; and if that is not enough, the sender's further addresses.
///
/// # Errors
///
/// When it is too large even so. The envelope and the buffer are then as they were.
pub fn encode_fitting(envelope: &mut Envelope, limits: SizeLimits, buffer: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = buffer.len();
    let preferred = limits.preferred.min(MAX_MESSAGE_BYTES);
    let largest = limits.largest.min(MAX_MESSAGE_BYTES);
    let mut size = append(envelope, buffer)?;
    if size <= preferred {
        return Ok(());
    }
    let mut cut = Cut::default();
    if let Some(found) = found_mut(envelope) {
        size = cut.shorten(found, size, preferred, largest)?;
    }
    if size > largest {
        cut.also = std::mem::take(&mut envelope.message_mut().also);
        size = encoded_size(envelope)?;
    }
    if size > largest {
        cut.undo(envelope);
        buffer.truncate(start);
        return Err(EncodeError::TooLarge { size, limit: largest });
    }
    if !cut.is_empty() {
        buffer.truncate(start);
        append(envelope, buffer)?;
    }
    Ok(())
}

/// What was taken out of a message, each last things first.
#[derive(Default)]
struct Cut {
    /// And whether there were more before.
    records: Vec<(Record, bool)>,
    contacts: Vec<Contact>,
    also: Vec<Multiaddr>,
}

impl Cut {
    /// Shortens an answer of `size` bytes to `preferred`. Where even without contacts it has more, these may take as much
    /// again, up to `largest`. Gives its new size.
    fn shorten(
        &mut self,
        found: &mut Found,
        mut size: usize,
        preferred: usize,
        largest: usize,
    ) -> Result<usize, EncodeError> {
        let sizes = found.records.iter().map(size_of).collect::<Result<Vec<usize>, _>>()?;
        let mut taken: usize = sizes.iter().sum();
        // Where large messages are carried, records go together rather than one after the other.
        let room = (preferred / 2).max(largest / 4);
        for one in sizes.into_iter().skip(1).rev() {
            if taken <= room {
                break;
            }
            let more = std::mem::replace(&mut found.more, true);
            self.records.extend(found.records.pop().map(|record| (record, more)));
            (taken, size) = (taken - one, size.saturating_sub(one));
        }
        let contacts = found.contacts.iter().map(size_of).sum::<Result<usize, _>>()?;
        let bare = size.saturating_sub(contacts);
        let wanted = if bare > preferred { largest.min(bare + preferred) } else { preferred };
        while size > wanted {
            let Some(contact) = found.contacts.pop() else { break };
            size = size.saturating_sub(size_of(&contact)?);
            self.contacts.push(contact);
        }
        Ok(size)
    }

    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.contacts.is_empty() && self.also.is_empty()
    }

    fn undo(self, envelope: &mut Envelope) {
        if !self.also.is_empty() {
            envelope.message_mut().also = self.also;
        }
        if let Some(found) = found_mut(envelope) {
            for (record, more) in self.records.into_iter().rev() {
                found.records.push(record);
                found.more = more;
            }
            found.contacts.extend(self.contacts.into_iter().rev());
        }
    }
}

/// Appends an encoding of any size, and tells the size.
fn append(envelope: &Envelope, buffer: &mut Vec<u8>) -> Result<usize, EncodeError> {
    let start = buffer.len();
    buffer.push(WIRE_VERSION);
    let encoded = bincode::serde::encode_into_writer(envelope, &mut Appender(buffer), format());
    match encoded.map_err(EncodeError::from).and_then(|()| filled_size(envelope, buffer.len() - start)) {
        Ok(size) => {
            buffer.resize(start + size, 0);
            Ok(size)
        }
        Err(error) => {
            buffer.truncate(start);
            Err(error)
        }
    }
}

/// The size that a message is filled up to, whose encoding has `size` bytes.
///
/// What a circuit carries is filled up as it is without one, and the way and the proof have room of their own. So a circuit
/// has the same size before a relay and behind it, where one address, if it has an IP, has gone out of the way and
/// another one into it.
fn filled_size(envelope: &Envelope, size: usize) -> Result<usize, EncodeError> {
    let least = match &envelope.message().body {
        Body::Request(Request::FindNode { .. } | Request::FindValue { .. }) => LEAST_FIND_BYTES,
        Body::Request(_) => LEAST_REQUEST_BYTES,
        Body::Reply(_) => 0,
    };
    let Envelope::Relayed(circuit) = envelope else { return Ok(size.max(least)) };
    let ways = || circuit.to.iter().chain(&circuit.from);
    let taken = ways().try_fold(size_of(&circuit.proof)?, |sum, way| Ok::<_, EncodeError>(sum + size_of(way)?))?;
    Ok(size.saturating_sub(taken).max(least) + circuit_size(ways()).max(taken))
}

/// How many bytes a circuit with these ways has beyond what it carries.
pub fn circuit_size<'a>(ways: impl IntoIterator<Item = &'a Multiaddr>) -> usize {
    let room = |address: &Multiaddr| address.len().max(LEAST_ADDRESS_BYTES) + AROUND_ADDRESS_BYTES;
    let addresses = ways.into_iter().flat_map(address::segments);
    TOKEN_BYTES + addresses.map(|address| room(&address)).sum::<usize>()
}

/// How many bytes the encoding of `envelope` has.
///
/// # Errors
///
/// When the encoder fails.
pub fn encoded_size(envelope: &Envelope) -> Result<usize, EncodeError> {
    filled_size(envelope, 1 + size_of(envelope)?)
}

fn size_of(part: &impl serde::Serialize) -> Result<usize, EncodeError> {
    let mut counter = SizeWriter::default();
    bincode::serde::encode_into_writer(part, &mut counter, format())?;
    Ok(counter.bytes_written)
}

fn found_mut(envelope: &mut Envelope) -> Option<&mut Found> {
    match &mut envelope.message_mut().body {
        Body::Reply(Reply::Found(found)) => Some(found),
        _ => None,
    }
}

/// Reads one message, which must be all of `bytes`.
///
/// # Errors
///
/// Whatever is wrong with it; there is no input that panics, or that takes memory without bounds.
pub fn decode(bytes: &[u8]) -> Result<Envelope, DecodeError> {
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(DecodeError::TooLarge(bytes.len()));
    }
    let (version, rest) = bytes.split_first().ok_or(DecodeError::Empty)?;
    if *version != WIRE_VERSION {
        return Err(DecodeError::Version(*version));
    }
    let (envelope, read) = bincode::serde::borrow_decode_from_slice(rest, format())?;
    let filling = rest.get(read..).unwrap_or_default();
    let is_filled = || filled_size(&envelope, 1 + read).is_ok_and(|size| size == bytes.len());
    if filling.is_empty() || filling.iter().all(|byte| *byte == 0) && is_filled() {
        Ok(envelope)
    } else {
        Err(DecodeError::Trailing(filling.len()))
    }
}

/// Writes behind what a vector holds already.
struct Appender<'a>(&'a mut Vec<u8>);

impl bincode::enc::write::Writer for Appender<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), bincode::error::EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};

    use proptest::prelude::*;

    use super::*;
    use crate::address::IpTransport;
    use crate::{
        Author, Circuit, Expect, Id, MAX_ADDRESS_BYTES, Message, NetworkId, Owned, OwnedMode, RecordKind, Refusal,
        Ruled, Seal, Signed, Tag, Token, Version,
    };

    fn any_ip_address() -> impl Strategy<Value = Multiaddr> {
        let ip = prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)];
        let transport = prop_oneof![Just(IpTransport::Udp), Just(IpTransport::Tcp)];
        (ip, any::<u16>(), transport)
            .prop_map(|(ip, port, transport)| address::ip_address(SocketAddr::new(ip, port), transport))
    }

    fn any_address() -> impl Strategy<Value = Multiaddr> {
        prop_oneof![
            2 => any_ip_address(),
            1 => any::<u64>().prop_map(|number| format!("/memory/{number}").parse().unwrap()),
            1 => "[a-z]{1,80}".prop_map(|name| format!("/unix/%2F{name}/p2p-circuit/memory/1").parse().unwrap()),
        ]
    }

    fn any_id() -> impl Strategy<Value = Id> {
        prop::collection::vec(any::<u8>(), 0..=32).prop_map(|bytes| Id::from_prefix(&bytes))
    }

    fn any_contact() -> impl Strategy<Value = Contact> {
        (any_id(), any_address(), prop::collection::vec(any_address(), 0..4))
            .prop_map(|(id, address, others)| Contact::with_others(id, address, others))
    }

    fn any_bytes<const N: usize>() -> impl Strategy<Value = [u8; N]> {
        prop::collection::vec(any::<u8>(), N).prop_map(|bytes| bytes.try_into().unwrap())
    }

    fn any_kind() -> impl Strategy<Value = RecordKind> {
        let short = || prop::collection::vec(any::<u8>(), 0..64).prop_map(bytes::Bytes::from);
        let signed = (any::<[u8; 32]>(), short(), any_bytes()).prop_map(|(public_key, salt, signature)| {
            RecordKind::Signed(Box::new(Signed { public_key, salt, signature }))
        });
        let mode = prop_oneof![Just(OwnedMode::Secured), Just(OwnedMode::Controlled)];
        let seal = prop::option::of(any_bytes().prop_map(Seal));
        let owned = (short(), any_bytes(), mode, prop::option::of(any::<u64>()), any_bytes(), any_version(), seal);
        let owned = owned.prop_map(|(name, owner, mode, expiry, signature, since, seal)| {
            RecordKind::Owned(Box::new(Owned { name, owner, mode, expiry, signature, since, seal }))
        });
        let ruled =
            (".{0,20}", short()).prop_map(|(namespace, name)| RecordKind::Ruled(Box::new(Ruled { namespace, name })));
        let simple = [RecordKind::Plain, RecordKind::Tombstone, RecordKind::Immutable];
        prop_oneof![4 => prop::sample::select(simple.to_vec()), 1 => signed, 1 => owned, 1 => ruled]
    }

    fn any_record() -> impl Strategy<Value = Record> {
        let value = prop::collection::vec(any::<u8>(), 0..3000);
        (value, any_version(), any::<u32>(), any::<u32>(), any_kind()).prop_map(
            |(value, version, renewal, remaining, kind)| Record {
                value: value.into(),
                version,
                renewal,
                remaining,
                kind,
            },
        )
    }

    fn any_version() -> impl Strategy<Value = Version> {
        any::<u64>().prop_map(Version)
    }

    fn any_body() -> impl Strategy<Value = Body> {
        let expect = prop_oneof![Just(Expect::Anything), Just(Expect::Absent), any_version().prop_map(Expect::Version)];
        let author = prop_oneof![Just(Author::Any), any_bytes().prop_map(Author::Owner)];
        let request = prop_oneof![
            Just(Request::Ping),
            any_id().prop_map(|target| Request::FindNode { target }),
            (any_id(), prop::option::of(author), prop::option::of(any::<u64>()))
                .prop_map(|(key, after, proof)| Request::FindValue { key, after, proof: proof.map(Token) }),
            (any_id(), any_record(), any::<u64>(), expect).prop_map(|(key, record, token, expect)| {
                Request::Store { key, record, token: Token(token), expect }
            }),
        ];
        let refusal = prop_oneof![
            Just(Refusal::Token),
            any_version().prop_map(|held| Refusal::Older { held }),
            prop::option::of(any_version()).prop_map(|held| Refusal::Conflict { held }),
            Just(Refusal::Full),
            any::<u32>().prop_map(|limit| Refusal::TooLarge { limit }),
            Just(Refusal::Expired),
            Just(Refusal::Limited),
            Just(Refusal::Forged),
            Just(Refusal::Taken),
            Just(Refusal::Late),
            Just(Refusal::NoRule),
            any::<u32>().prop_map(|code| Refusal::Rule { code }),
        ];
        let found = (
            prop::collection::vec(any_record(), 0..4),
            any::<bool>(),
            prop::option::of(any_version()),
            prop::collection::vec(any_contact(), 0..30),
            any::<u64>(),
        );
        let reply = prop_oneof![
            Just(Reply::Pong),
            found.prop_map(|(records, more, held, contacts, token)| Reply::Found(Found {
                records,
                more,
                held,
                contacts,
                token: Token(token)
            })),
            Just(Reply::Stored),
            refusal.prop_map(Reply::Refused),
        ];
        prop_oneof![request.prop_map(Body::Request), reply.prop_map(Body::Reply)]
    }

    fn any_envelope() -> impl Strategy<Value = Envelope> {
        let message = (
            any::<u32>(),
            any::<u64>(),
            prop::option::of(any_id()),
            prop::collection::vec(any_address(), 0..4),
            any_body(),
        );
        let message = message.prop_map(|(network, tag, sender, also, body)| Message {
            network: NetworkId(network),
            tag: Tag(tag),
            sender,
            also,
            body,
        });
        let proof = any::<u64>().prop_map(Token);
        let ways = prop::option::of((prop::option::of(any_address()), prop::option::of(any_address()), proof));
        (message, ways).prop_map(|(message, ways)| match ways {
            None => Envelope::Direct(message),
            Some((to, from, proof)) => Envelope::Relayed(Box::new(Circuit { to, from, proof, message })),
        })
    }

    fn encoded(envelope: &Envelope) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(envelope, &mut bytes).unwrap();
        bytes
    }

    fn contacts(envelope: &Envelope) -> Option<&[Contact]> {
        match &envelope.message().body {
            Body::Reply(Reply::Found(found)) => Some(&found.contacts),
            _ => None,
        }
    }

    /// A reply with contacts of the largest kind.
    fn found(contacts: usize, value: usize) -> Envelope {
        let address = |n: usize| format!("/unix/%2F{n:0>480}").parse().unwrap();
        let contact =
            |n: usize| Contact::with_others(Id::new([n as u8 | 1; 32]), address(n), (1..4).map(address).collect());
        let record = Record::plain(vec![0; value], Version(1), std::time::Duration::ZERO);
        let contacts = (0..contacts).map(contact).collect();
        let found = Found { records: vec![record], more: false, held: None, contacts, token: Token(u64::MAX) };
        let body = Body::Reply(Reply::Found(found));
        Envelope::Direct(Message { network: NetworkId(0), tag: Tag(0), sender: None, also: Vec::new(), body })
    }

    /// The bytes of [`ping`] before it is filled up.
    const PING: usize = 10;

    fn ping() -> Envelope {
        let body = Body::Request(Request::Ping);
        Envelope::Direct(Message { network: NetworkId(7), tag: Tag(300), sender: None, also: Vec::new(), body })
    }

    #[test]
    fn the_bytes_of_a_ping_stay_what_they_are() {
        // Version; direct; network; tag in three bytes; no sender; no other addresses; request; ping. Then it is filled up.
        let bytes = encoded(&ping());
        assert_eq!(bytes[..PING], [1, 0, 7, 251, 44, 1, 0, 0, 0, 0]);
        assert_eq!(bytes[PING..], [0; LEAST_REQUEST_BYTES - PING]);
        assert_eq!(encoded_size(&ping()).unwrap(), LEAST_REQUEST_BYTES);
    }

    #[test]
    fn requests_are_filled_up_with_zeros_or_not_at_all() {
        let find = |body| Envelope::Direct(Message { body: Body::Request(body), ..ping().message().clone() });
        let (target, key) = (Id::ZERO, Id::ZERO);
        let least = [
            (ping(), LEAST_REQUEST_BYTES),
            (find(Request::FindNode { target }), LEAST_FIND_BYTES),
            (find(Request::FindValue { key, after: None, proof: Some(Token(1)) }), LEAST_FIND_BYTES),
        ];
        for (request, least) in least {
            let bytes = encoded(&request);
            assert_eq!(bytes.len(), least);
            let last = bytes.iter().rposition(|byte| *byte != 0).unwrap();
            let bare = (last + 1..least).find(|end| decode(&bytes[..*end]).is_ok()).unwrap();
            assert!((bare + 1..least).all(|end| decode(&bytes[..end]).is_err()), "one encoding, with or without");
            let mut filled = bytes.clone();
            filled[least - 1] = 1;
            assert!(matches!(decode(&filled), Err(DecodeError::Trailing(_))));
        }
        let pong = Message { body: Body::Reply(Reply::Pong), ..ping().message().clone() };
        assert_eq!(encoded(&Envelope::Direct(pong)).len(), PING);
    }

    fn circuit(message: Message, to: &[Multiaddr], from: &[Multiaddr], proof: u64) -> Envelope {
        let (to, from) = (address::join(to), address::join(from));
        Envelope::Relayed(Box::new(Circuit { to, from, proof: Token(proof), message }))
    }

    #[test]
    fn what_a_circuit_carries_is_as_large_as_without_one_and_the_way_has_room_of_its_own() {
        let way = ["/ip4/1.2.3.4/udp/1".parse().unwrap()];
        for least in [ping(), found(2, 0)] {
            let carried = encoded(&circuit(least.message().clone(), &way, &[], 0));
            // A circuit says which ways it has.
            let extra = if least.message().is_request() { 0 } else { 2 };
            assert_eq!(carried.len(), encoded(&least).len() + extra + circuit_size(&way));
        }
        let bytes = encoded(&circuit(found(0, 0).message().clone(), &way, &[], 0));
        assert_eq!(decode(&bytes).unwrap(), circuit(found(0, 0).message().clone(), &way, &[], 0));
        assert!(matches!(decode(&bytes[..bytes.len() - 1]), Err(DecodeError::Trailing(_))));
    }

    #[test]
    fn what_is_no_message_is_told_apart() {
        let good = encoded(&ping());
        assert!(matches!(decode(&[]), Err(DecodeError::Empty)));
        let mut version = good.clone();
        version[0] = 2;
        assert!(matches!(decode(&version), Err(DecodeError::Version(2))));
        let mut trailing = good.clone();
        trailing.extend([0, 0]);
        assert!(matches!(decode(&trailing), Err(DecodeError::Trailing(_))));
        assert!(matches!(decode(&good[..PING - 1]), Err(DecodeError::Malformed(_))));
        assert!(matches!(decode(&vec![1; MAX_MESSAGE_BYTES + 1]), Err(DecodeError::TooLarge(_))));
    }

    #[test]
    fn ids_of_a_wrong_length_are_refused() {
        // A ping with a sender, whose id stands behind its length.
        let with_sender = |id: &[u8]| {
            let mut bytes = vec![1, 0, 7, 1, 1, id.len() as u8];
            bytes.extend(id);
            bytes.extend([0, 0, 0]);
            decode(&bytes)
        };
        assert_eq!(with_sender(&[5; 20]).unwrap().message().sender, Some(Id::from_prefix(&[5; 20])));
        assert_eq!(with_sender(&[]).unwrap().message().sender, Some(Id::ZERO));
        assert!(with_sender(&[5; 32]).is_ok());
        assert!(matches!(with_sender(&[5; 33]), Err(DecodeError::Malformed(_))));
        assert!(matches!(with_sender(&[5, 0]), Err(DecodeError::Malformed(_))), "one id, one encoding");
    }

    #[test]
    fn contacts_beyond_their_bounds_are_refused() {
        let address = |bytes: usize| -> Multiaddr { format!("/unix/{}", "a".repeat(bytes)).parse().unwrap() };
        let carrying = |contact: Contact| {
            let mut envelope = found(0, 0);
            if let Body::Reply(Reply::Found(found)) = &mut envelope.message_mut().body {
                found.contacts.push(contact);
            }
            decode(&encoded(&envelope))
        };
        let longest = address(MAX_ADDRESS_BYTES - 4);
        assert_eq!(longest.len(), MAX_ADDRESS_BYTES);
        assert!(carrying(Contact::new(Id::ZERO, longest)).is_ok());
        assert!(carrying(Contact::new(Id::ZERO, address(MAX_ADDRESS_BYTES - 3))).is_err());
        assert!(carrying(Contact::new(Id::ZERO, Multiaddr::empty())).is_err());
    }

    #[test]
    fn announced_lengths_take_no_memory() {
        // A reply with a contact list of 2^60 entries, a value of as many bytes, an address of as many.
        for start in [&[1, 0, 0, 0, 0, 0, 1, 1, 0, 0][..], &[1, 0, 0, 0, 0, 0, 1, 1, 1], &[1, 0, 0, 0, 0]] {
            let mut bytes = start.to_vec();
            bytes.push(253);
            bytes.extend((1_u64 << 60).to_le_bytes());
            assert!(matches!(decode(&bytes), Err(DecodeError::Malformed(_))), "{bytes:?}");
        }
    }

    #[test]
    fn the_largest_message_can_be_read() {
        for contacts in [0, 3] {
            let size = |value| encoded(&found(contacts, value)).len();
            let value = MAX_MESSAGE_BYTES - (size(66_000) - 66_000);
            let envelope = found(contacts, value);
            assert_eq!(size(value), MAX_MESSAGE_BYTES);
            assert_eq!(decode(&encoded(&envelope)).unwrap(), envelope);
            let mut buffer = vec![7];
            let error = encode(&found(contacts, value + 1), &mut buffer).unwrap_err();
            assert!(matches!(error, EncodeError::TooLarge { size, .. } if size == MAX_MESSAGE_BYTES + 1));
            assert_eq!(buffer, [7]);
        }
    }

    #[test]
    fn a_value_that_no_datagram_has_room_for_drives_out_no_contacts() {
        let address: Multiaddr = "/ip4/1.2.3.4/udp/1".parse().unwrap();
        for (value, left) in [(100, 20..=20), (700, 5..=15), (1150, 0..=1), (1500, 20..=20), (64 << 10, 20..=20)] {
            let mut envelope = found(0, value);
            if let Some(found) = found_mut(&mut envelope) {
                found.contacts = (0..20).map(|n| Contact::new(Id::new([n; 32]), address.clone())).collect();
            }
            let mut buffer = Vec::new();
            encode_fitting(&mut envelope, SizeLimits::PARTS, &mut buffer).unwrap();
            let contacts = contacts(&envelope).unwrap().len();
            assert!(left.contains(&contacts), "{contacts} beside {value} bytes");
        }
    }

    #[test]
    fn contacts_make_room_for_the_largest_value() {
        let mut envelope = found(20, 65_536);
        let mut buffer = Vec::new();
        encode_fitting(&mut envelope, SizeLimits::STREAM, &mut buffer).unwrap();
        assert!(buffer.len() <= MAX_MESSAGE_BYTES);
        let left = contacts(&envelope).unwrap().len();
        assert!((1..20).contains(&left), "{left}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn every_message_survives(envelope in any_envelope()) {
            prop_assert_eq!(decode(&encoded(&envelope)).unwrap(), envelope);
        }

        /// From the one end to the other, through relays with any IPs.
        #[test]
        fn a_circuit_is_as_large_behind_a_relay_as_before_it(
            carried in any_envelope(),
            way in prop::collection::vec(any_ip_address(), 2..6),
            proofs: [u64; 6],
        ) {
            let sizes: Vec<usize> = (1..way.len())
                .map(|at| {
                    let (from, to) = way.split_at(at);
                    encoded(&circuit(carried.message().clone(), to, &from[..at - 1], proofs[at])).len()
                })
                .collect();
            prop_assert!(sizes.iter().all(|size| *size == sizes[0]), "{sizes:?}");
        }

        #[test]
        fn nothing_panics_and_what_is_read_is_written_alike(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut bytes = bytes;
            if let Some(version) = bytes.first_mut() {
                *version = WIRE_VERSION;
            }
            if let Ok(envelope) = decode(&bytes) {
                prop_assert_eq!(decode(&encoded(&envelope)).unwrap(), envelope);
            }
        }

        #[test]
        fn no_damage_panics(
            envelope in any_envelope(),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = encoded(&envelope);
            if let Ok(whole) = decode(&bytes[..cut.index(bytes.len())]) {
                prop_assert_eq!(whole, envelope, "a part of a message is none, unless it is what was filled up");
            }
            for (index, value) in damage {
                let index = index.index(bytes.len());
                bytes[index] = value;
            }
            decode(&bytes).ok();
        }

        #[test]
        fn fitting_keeps_the_nearest_and_as_many_as_fit(
            envelope in any_envelope(),
            preferred in 0_usize..3000,
            more in 0_usize..3000,
        ) {
            let limits = SizeLimits { preferred, largest: preferred + more };
            let whole = encoded(&envelope).len();
            let mut fitting = envelope.clone();
            let mut buffer = vec![1, 2, 3];
            match encode_fitting(&mut fitting, limits, &mut buffer) {
                Ok(()) => {
                    prop_assert_eq!(&buffer[..3], &[1, 2, 3]);
                    prop_assert_eq!(&decode(&buffer[3..]).unwrap(), &fitting);
                    let size = buffer.len() - 3;
                    prop_assert!(size <= limits.largest);
                    let mut bare = envelope.clone();
                    let also_left_out = fitting.message().also != envelope.message().also;
                    if fitting.message().also.is_empty() {
                        bare.message_mut().also.clear();
                        prop_assert!(bare == envelope || whole > limits.largest, "its addresses had fitted");
                    }
                    let (Some(kept), Some(all)) = (contacts(&fitting), contacts(&envelope)) else {
                        prop_assert_eq!(fitting, bare);
                        return Ok(());
                    };
                    prop_assert_eq!(kept, &all[..kept.len()]);
                    let contacts: usize = kept.iter().map(|contact| size_of(contact).unwrap()).sum();
                    let is_large = size - contacts > limits.preferred;
                    prop_assert!(size <= limits.preferred || is_large);
                    if let Some(next) = all.get(kept.len()) {
                        let bare = size - contacts;
                        let limit = if is_large { limits.largest.min(bare + limits.preferred) } else { limits.preferred };
                        prop_assert!(size + size_of(next).unwrap() > limit || also_left_out, "one more had fitted");
                    }
                }
                Err(EncodeError::TooLarge { size, limit }) => {
                    prop_assert!(size <= whole && size > limit);
                    prop_assert_eq!(limit, limits.largest);
                    prop_assert_eq!(buffer, [1, 2, 3]);
                    prop_assert_eq!(fitting, envelope);
                }
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
            }
        }
    }
}
