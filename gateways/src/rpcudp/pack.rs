//! MessagePack, as far as this wire has it: read without copying, written into a vector.

use rmp::Marker;
use rmp::decode::{Bytes, RmpRead};
use rmp::encode;

use super::codec::DecodeError;

/// How deep arrays and maps may lie in one another. A message has two of them, a list of contacts in a reply as well.
const MAX_DEPTH: usize = 8;

/// The start of an item: all of it, but for arrays and maps, whose items follow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Item<'a> {
    Nil,
    Bool(bool),
    /// Of the range of `i64` and `u64`.
    Int(i128),
    Float(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    Array(u32),
    Map(u32),
    Extension,
}

/// Reads items one after the other. Takes no memory: what has a length is lent from the datagram, which must have it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(Bytes<'a>);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Reader(Bytes::new(bytes))
    }

    /// What has not been read.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.0.remaining_slice()
    }

    pub(super) fn next(&mut self) -> Result<Item<'a>, DecodeError> {
        let marker = Marker::from_u8(self.number::<1>()?[0]);
        Ok(match marker {
            Marker::Null => Item::Nil,
            Marker::True => Item::Bool(true),
            Marker::False => Item::Bool(false),
            Marker::FixPos(number) => Item::Int(number.into()),
            Marker::FixNeg(number) => Item::Int(number.into()),
            Marker::U8 => Item::Int(u8::from_be_bytes(self.number()?).into()),
            Marker::U16 => Item::Int(u16::from_be_bytes(self.number()?).into()),
            Marker::U32 => Item::Int(u32::from_be_bytes(self.number()?).into()),
            Marker::U64 => Item::Int(u64::from_be_bytes(self.number()?).into()),
            Marker::I8 => Item::Int(i8::from_be_bytes(self.number()?).into()),
            Marker::I16 => Item::Int(i16::from_be_bytes(self.number()?).into()),
            Marker::I32 => Item::Int(i32::from_be_bytes(self.number()?).into()),
            Marker::I64 => Item::Int(i64::from_be_bytes(self.number()?).into()),
            Marker::F32 => Item::Float(f32::from_be_bytes(self.number()?).into()),
            Marker::F64 => Item::Float(f64::from_be_bytes(self.number()?)),
            Marker::FixStr(length) => Item::Text(self.text(length.into())?),
            Marker::Str8 | Marker::Str16 | Marker::Str32 => {
                let length = self.length(marker)?;
                Item::Text(self.text(length)?)
            }
            Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => {
                let length = self.length(marker)?;
                Item::Bytes(self.take(length)?)
            }
            Marker::FixArray(length) => Item::Array(length.into()),
            Marker::Array16 | Marker::Array32 => Item::Array(self.length(marker)?),
            Marker::FixMap(length) => Item::Map(length.into()),
            Marker::Map16 | Marker::Map32 => Item::Map(self.length(marker)?),
            Marker::FixExt1 => self.extension(1)?,
            Marker::FixExt2 => self.extension(2)?,
            Marker::FixExt4 => self.extension(4)?,
            Marker::FixExt8 => self.extension(8)?,
            Marker::FixExt16 => self.extension(16)?,
            Marker::Ext8 | Marker::Ext16 | Marker::Ext32 => {
                let length = self.length(marker)?;
                self.extension(length)?
            }
            Marker::Reserved => return Err(DecodeError::NotMessagePack),
        })
    }

    /// Reads on to the end of an item, whatever it is.
    pub(super) fn finish(&mut self, item: Item<'_>) -> Result<(), DecodeError> {
        self.finish_within(item, MAX_DEPTH)
    }

    fn finish_within(&mut self, item: Item<'_>, depth: usize) -> Result<(), DecodeError> {
        let items = match item {
            Item::Array(length) => u64::from(length),
            Item::Map(length) => u64::from(length) * 2,
            _ => return Ok(()),
        };
        let depth = depth.checked_sub(1).ok_or(DecodeError::TooDeep)?;
        // Each has a byte at least, so that what was announced and is not there ends this early.
        for _ in 0..items {
            let item = self.next()?;
            self.finish_within(item, depth)?;
        }
        Ok(())
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut bytes = [0; N];
        self.0.read_exact_buf(&mut bytes).map_err(|_| DecodeError::CutShort)?;
        Ok(bytes)
    }

    fn length(&mut self, marker: Marker) -> Result<u32, DecodeError> {
        Ok(match marker {
            Marker::Str8 | Marker::Bin8 | Marker::Ext8 => u8::from_be_bytes(self.number()?).into(),
            Marker::Str16 | Marker::Bin16 | Marker::Ext16 | Marker::Array16 | Marker::Map16 => {
                u16::from_be_bytes(self.number()?).into()
            }
            _ => u32::from_be_bytes(self.number()?),
        })
    }

    fn take(&mut self, length: u32) -> Result<&'a [u8], DecodeError> {
        let length = usize::try_from(length).map_err(|_| DecodeError::CutShort)?;
        let (taken, rest) = self.0.remaining_slice().split_at_checked(length).ok_or(DecodeError::CutShort)?;
        self.0 = Bytes::new(rest);
        Ok(taken)
    }

    fn text(&mut self, length: u32) -> Result<&'a str, DecodeError> {
        str::from_utf8(self.take(length)?).map_err(|_| DecodeError::NotText)
    }

    fn extension(&mut self, length: u32) -> Result<Item<'a>, DecodeError> {
        self.number::<1>()?;
        self.take(length).map(|_| Item::Extension)
    }
}

/// Writes items. Lengths are those of what fits a datagram; a vector takes all that is written.
#[derive(Debug)]
pub(super) struct Writer<'a>(pub(super) &'a mut Vec<u8>);

impl Writer<'_> {
    pub(super) fn nil(&mut self) {
        encode::write_nil(self.0).ok();
    }

    pub(super) fn bool(&mut self, value: bool) {
        encode::write_bool(self.0, value).ok();
    }

    /// In as few bytes as the number needs.
    pub(super) fn int(&mut self, value: i128) {
        match (u64::try_from(value), i64::try_from(value)) {
            (Ok(value), _) => encode::write_uint(self.0, value).ok(),
            (_, Ok(value)) => encode::write_sint(self.0, value).ok(),
            _ => None,
        };
    }

    pub(super) fn float(&mut self, value: f64) {
        encode::write_f64(self.0, value).ok();
    }

    pub(super) fn text(&mut self, value: &str) {
        encode::write_str(self.0, value).ok();
    }

    pub(super) fn bytes(&mut self, value: &[u8]) {
        encode::write_bin(self.0, value).ok();
    }

    pub(super) fn array(&mut self, length: usize) {
        encode::write_array_len(self.0, u32::try_from(length).unwrap_or(u32::MAX)).ok();
    }

    pub(super) fn map(&mut self, length: usize) {
        encode::write_map_len(self.0, u32::try_from(length).unwrap_or(u32::MAX)).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announced_lengths_must_be_there() {
        for bytes in [&[0xc6, 0xff, 0xff, 0xff, 0xff][..], &[0xdb, 0xff, 0xff, 0xff, 0xff, 1], &[0xc9, 0, 0, 1, 0, 1]] {
            assert!(matches!(Reader::new(bytes).next(), Err(DecodeError::CutShort)), "{bytes:?}");
        }
        for bytes in [[0xdd, 0xff, 0xff, 0xff, 0xff], [0xdf, 0xff, 0xff, 0xff, 0xff]] {
            let mut reader = Reader::new(&bytes);
            let item = reader.next().unwrap();
            assert!(matches!(reader.finish(item), Err(DecodeError::CutShort)));
        }
    }

    #[test]
    fn what_lies_too_deep_is_refused() {
        let finish = |bytes: &[u8]| {
            let mut reader = Reader::new(bytes);
            let item = reader.next()?;
            reader.finish(item)
        };
        let nested = |depth| [vec![0x91; depth], vec![0xc0]].concat();
        assert!(finish(&nested(MAX_DEPTH)).is_ok());
        assert!(matches!(finish(&nested(MAX_DEPTH + 1)), Err(DecodeError::TooDeep)));
        assert!(matches!(finish(&[0x91; 8000]), Err(DecodeError::TooDeep)));
    }
}
