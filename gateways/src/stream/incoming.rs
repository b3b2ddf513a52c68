//! What comes by one connection: a hello, then messages, however the bytes are cut up.

use multiaddr::Multiaddr;

use super::hello;
use crate::codec::{self, DecodeError, MAX_MESSAGE_BYTES};
use crate::frame::FrameReader;
use crate::message::Envelope;

/// Why what comes by a connection makes no sense any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nonsense {
    /// What should have been a hello is none.
    Hello,
    /// A frame that is larger than any message.
    Oversized,
}

/// One whole frame, read.
#[derive(Debug)]
pub enum Arrived {
    /// The other side listens at this address, it says.
    Hello(Multiaddr),
    /// A frame after the hello.
    Message {
        /// Its length.
        bytes: usize,
        /// The message, or why it is none. The next frame can be one all the same.
        read: Result<Envelope, DecodeError>,
    },
}

/// Finds the hello and the messages in what comes by a connection.
#[derive(Debug, Default)]
pub struct Incoming {
    reader: FrameReader,
    greeted: bool,
}

impl Incoming {
    /// Takes from the front of `input` what belongs to the next frame, and reads the frame when all of it has come.
    ///
    /// To be called until it gives `None`; all of `input` has then been taken.
    ///
    /// # Errors
    ///
    /// When nothing that follows can be read.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Arrived>, Nonsense> {
        let (limit, cause) =
            if self.greeted { (MAX_MESSAGE_BYTES, Nonsense::Oversized) } else { (hello::MAX_BYTES, Nonsense::Hello) };
        let Some(frame) = self.reader.next(input, limit).map_err(|_| cause)? else { return Ok(None) };
        if self.greeted {
            return Ok(Some(Arrived::Message { bytes: frame.len(), read: codec::decode(frame) }));
        }
        let claimed = hello::read(frame).ok_or(Nonsense::Hello)?;
        self.greeted = true;
        Ok(Some(Arrived::Hello(claimed)))
    }

    /// Whether the beginning of a frame has come and its end has not.
    pub fn is_inside_frame(&self) -> bool {
        self.reader.is_inside_frame()
    }

    /// How many bytes are missing to the end of the frame that has begun, if its length has come; else 0.
    pub fn missing_bytes(&self) -> usize {
        self.reader.missing_bytes()
    }

    /// How much memory it takes that the beginning of a frame has come and its end has not, in bytes.
    pub fn buffered_bytes(&self) -> usize {
        self.reader.buffered_bytes()
    }
}
