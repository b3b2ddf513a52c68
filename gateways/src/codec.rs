//! The native encoding: one version byte, then the [`Envelope`] in bincode. The one place that knows it.

use bincode::config::{self, Configuration, Limit, LittleEndian, Varint};

use crate::message::{Body, Envelope, Reply};

/// The version of the wire format: the first byte of every message.
pub const WIRE_VERSION: u8 = 1;

/// The largest message of all: a value of 64 KiB and what goes around it.
pub const MAX_MESSAGE_BYTES: usize = 72 * 1024;

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
    /// A reply beyond this leaves out its farthest contacts.
    pub preferred: usize,
    /// A message beyond this is not sent.
    pub largest: usize,
}

impl SizeLimits {
    /// For gateways over streams: the largest message of all.
    pub const STREAM: SizeLimits = SizeLimits { preferred: MAX_MESSAGE_BYTES, largest: MAX_MESSAGE_BYTES };

    /// For datagrams: replies fit the smallest link of IPv6, and no message needs fragments on an Ethernet.
    pub const DATAGRAM: SizeLimits = SizeLimits { preferred: 1200, largest: 1452 };
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

/// Appends the encoding of `envelope`, with as many of a reply's contacts, nearest first, as `limits` leaves room for.
///
/// The contacts that have no room are taken out of the envelope.
///
/// # Errors
///
/// When it is too large even without contacts. The envelope and the buffer are then as they were.
pub fn encode_fitting(envelope: &mut Envelope, limits: SizeLimits, buffer: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = buffer.len();
    let preferred = limits.preferred.min(MAX_MESSAGE_BYTES);
    let largest = limits.largest.min(MAX_MESSAGE_BYTES);
    let mut size = append(envelope, buffer)?;
    if size <= preferred {
        return Ok(());
    }
    let mut left_out = Vec::new();
    while size > preferred {
        let Some(contact) = contacts_mut(envelope).and_then(Vec::pop) else { break };
        size = size.saturating_sub(encoded_size(&contact)?);
        left_out.push(contact);
    }
    if size > largest {
        if let Some(contacts) = contacts_mut(envelope) {
            contacts.extend(left_out.into_iter().rev());
        }
        buffer.truncate(start);
        return Err(EncodeError::TooLarge { size, limit: largest });
    }
    if !left_out.is_empty() {
        buffer.truncate(start);
        append(envelope, buffer)?;
    }
    Ok(())
}

/// Appends an encoding of any size, and tells the size.
fn append(envelope: &Envelope, buffer: &mut Vec<u8>) -> Result<usize, EncodeError> {
    let start = buffer.len();
    buffer.push(WIRE_VERSION);
    if let Err(error) = bincode::serde::encode_into_writer(envelope, &mut Appender(buffer), format()) {
        buffer.truncate(start);
        return Err(error.into());
    }
    Ok(buffer.len() - start)
}

fn encoded_size(contact: &crate::Contact) -> Result<usize, EncodeError> {
    Ok(bincode::serde::encode_to_vec(contact, format())?.len())
}

fn contacts_mut(envelope: &mut Envelope) -> Option<&mut Vec<crate::Contact>> {
    match &mut envelope.message_mut().body {
        Body::Reply(Reply::Found(found)) => Some(&mut found.contacts),
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
    match rest.len() - read {
        0 => Ok(envelope),
        trailing => Err(DecodeError::Trailing(trailing)),
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
