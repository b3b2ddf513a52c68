//! Frames: messages on a stream, each behind its length as a big-endian `u32`.

/// How many bytes the length takes.
const LENGTH_BYTES: usize = 4;

/// A reader keeps no more than this many bytes of memory from one frame to the next.
const MAX_KEPT: usize = 1024;

/// The length before a frame is more than may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {size} bytes; the most is {limit}")]
pub struct FrameTooLong {
    /// The length that came, in bytes.
    pub size: usize,
    /// The most bytes that are taken.
    pub limit: usize,
}

/// Appends a frame with what `fill` appends. On an error the buffer is as it was.
///
/// ```
/// let mut buffer = Vec::new();
/// kademlia_gateways::frame::append(&mut buffer, |buffer| {
///     buffer.extend(b"abc");
///     Ok::<(), ()>(())
/// }).unwrap();
/// assert_eq!(buffer, b"\0\0\0\x03abc");
/// ```
///
/// # Errors
///
/// The error of `fill`.
pub fn append<E>(buffer: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
    let start = buffer.len();
    buffer.extend([0; LENGTH_BYTES]);
    if let Err(error) = fill(buffer) {
        buffer.truncate(start);
        return Err(error);
    }
    if let Some((length, frame)) = buffer.get_mut(start..).and_then(|framed| framed.split_first_chunk_mut()) {
        *length = u32::try_from(frame.len()).unwrap_or(u32::MAX).to_be_bytes();
    }
    Ok(())
}

/// Finds the frames in what comes from a stream, however it is cut up.
///
/// Memory is taken for bytes that came, never for a length that was only announced.
///
/// ```
/// use kademlia_gateways::frame::FrameReader;
/// let mut reader = FrameReader::default();
/// let mut input: &[u8] = b"\0\0\0\x03ab";
/// assert_eq!(reader.next(&mut input, 100), Ok(None));
/// let mut input: &[u8] = b"c\0\0\0\x01d";
/// assert_eq!(reader.next(&mut input, 100), Ok(Some(&b"abc"[..])));
/// assert_eq!(reader.next(&mut input, 100), Ok(Some(&b"d"[..])));
/// ```
#[derive(Debug, Default)]
pub struct FrameReader {
    /// The beginning of a frame, its length included, whose end has not come yet.
    partial: Vec<u8>,
    /// `partial` was whole and has been handed out.
    done: bool,
}

impl FrameReader {
    /// Takes from the front of `input` what belongs to the next frame, and gives the frame when all of it has come.
    ///
    /// To be called until it gives `None`; all of `input` has then been taken.
    ///
    /// # Errors
    ///
    /// When the frame is longer than `limit` bytes. Where the next frame begins is then unknown for good.
    pub fn next<'r, 'i: 'r>(
        &'r mut self,
        input: &mut &'i [u8],
        limit: usize,
    ) -> Result<Option<&'r [u8]>, FrameTooLong> {
        if self.done {
            self.done = false;
            self.partial.clear();
            self.partial.shrink_to(MAX_KEPT);
        }
        if self.partial.is_empty()
            && let Some((length, rest)) = input.split_first_chunk()
            && let Some((frame, rest)) = rest.split_at_checked(checked(*length, limit)?)
        {
            *input = rest;
            return Ok(Some(frame));
        }
        self.fill(input, LENGTH_BYTES);
        let Some(length) = self.partial.first_chunk() else { return Ok(None) };
        let end = LENGTH_BYTES + checked(*length, limit)?;
        self.fill(input, end);
        self.done = self.partial.len() == end;
        Ok(self.partial.get(LENGTH_BYTES..).filter(|_| self.done))
    }

    /// Whether the beginning of a frame has come and its end has not.
    pub fn is_inside_frame(&self) -> bool {
        !self.done && !self.partial.is_empty()
    }

    /// How many bytes are missing to the end of the frame that has begun, if its length has come; else 0.
    pub fn missing_bytes(&self) -> usize {
        let length = self.partial.first_chunk().filter(|_| !self.done);
        let size = length.map_or(0, |length| LENGTH_BYTES.saturating_add(announced(*length)));
        size.saturating_sub(self.partial.len())
    }

    /// How much memory the beginning of a frame takes whose end has not come, in bytes.
    pub fn buffered_bytes(&self) -> usize {
        if self.is_inside_frame() { self.partial.capacity() } else { 0 }
    }

    /// Moves bytes from `input` until `partial` has `size` of them.
    fn fill(&mut self, input: &mut &[u8], size: usize) {
        let missing = size.saturating_sub(self.partial.len()).min(input.len());
        if let Some((taken, rest)) = input.split_at_checked(missing) {
            self.partial.extend_from_slice(taken);
            *input = rest;
        }
    }
}

fn announced(length: [u8; LENGTH_BYTES]) -> usize {
    usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX)
}

fn checked(length: [u8; LENGTH_BYTES], limit: usize) -> Result<usize, FrameTooLong> {
    let size = announced(length);
    if size > limit { Err(FrameTooLong { size, limit }) } else { Ok(size) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All frames that come out of `pieces`, one after the other.
    fn read(pieces: &[&[u8]], limit: usize) -> Result<Vec<Vec<u8>>, FrameTooLong> {
        let mut reader = FrameReader::default();
        let mut frames = Vec::new();
        for mut piece in pieces.iter().copied() {
            while let Some(frame) = reader.next(&mut piece, limit)? {
                frames.push(frame.to_vec());
            }
            assert!(piece.is_empty());
        }
        Ok(frames)
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_any_memory_is_taken() {
        let mut reader = FrameReader::default();
        let error = reader.next(&mut &[0xff; 100][..], 72 * 1024).unwrap_err();
        assert_eq!(error, FrameTooLong { size: u32::MAX as usize, limit: 72 * 1024 });
        assert_eq!(reader.partial.capacity(), 0);

        let mut reader = FrameReader::default();
        assert_eq!(reader.next(&mut &[0, 1, 0][..], 72 * 1024), Ok(None));
        assert_eq!(reader.next(&mut &[0][..], 72 * 1024), Ok(None));
        assert!(reader.partial.capacity() < 100, "64 KiB were announced, none have come");
    }

    #[test]
    fn the_limit_itself_passes() {
        assert_eq!(read(&[&[0, 0, 0, 2, 1, 2]], 2), Ok(vec![vec![1, 2]]));
        assert!(read(&[&[0, 0, 0, 3, 1, 2, 3]], 2).is_err());
        assert_eq!(read(&[&[0, 0, 0, 0]], 2), Ok(vec![vec![]]));
    }

    #[test]
    fn the_inside_of_a_frame_is_known() {
        let mut reader = FrameReader::default();
        assert!(!reader.is_inside_frame());
        reader.next(&mut &[0, 0, 0][..], 9).unwrap();
        assert!(reader.is_inside_frame() && reader.buffered_bytes() >= 3);
        assert_eq!(reader.missing_bytes(), 0, "nobody knows");
        reader.next(&mut &[4, 5][..], 9).unwrap();
        assert_eq!(reader.missing_bytes(), 3);
        reader.next(&mut &[6, 7, 8][..], 9).unwrap().unwrap();
        assert_eq!((reader.is_inside_frame(), reader.buffered_bytes(), reader.missing_bytes()), (false, 0, 0));
    }

    #[test]
    fn a_large_frame_leaves_little_behind() {
        let mut frame = 70_000_u32.to_be_bytes().to_vec();
        frame.resize(4 + 70_000, 7);
        let mut reader = FrameReader::default();
        let frames = frame.chunks(10_000).filter(|piece| reader.next(&mut &**piece, 70_000).unwrap().is_some());
        assert_eq!(frames.count(), 1);
        assert_eq!(reader.next(&mut &[][..], 70_000), Ok(None));
        assert!(reader.partial.capacity() <= MAX_KEPT);
    }

    #[test]
    fn a_failed_frame_leaves_no_trace() {
        let mut buffer = vec![1, 2];
        let failed = append(&mut buffer, |buffer| {
            buffer.push(9);
            Err("no")
        });
        assert_eq!(failed, Err("no"));
        assert_eq!(buffer, [1, 2]);
    }

    proptest! {
        #[test]
        fn frames_survive_any_cutting(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        ) {
            let mut bytes = Vec::new();
            for frame in &frames {
                append(&mut bytes, |buffer| { buffer.extend(frame); Ok::<(), ()>(()) }).unwrap();
            }
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            prop_assert_eq!(read(&pieces, 300), Ok(frames));
        }

        #[test]
        fn no_bytes_panic_or_take_much_memory(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let mut reader = FrameReader::default();
            let mut input = &bytes[..];
            while let Ok(Some(frame)) = reader.next(&mut input, 1000) {
                prop_assert!(frame.len() <= 1000);
            }
            prop_assert!(reader.partial.capacity() <= 2 * 2000);
        }
    }
}
