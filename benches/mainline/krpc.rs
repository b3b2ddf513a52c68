//! As much of KRPC (BEP 5 and BEP 44) as a client needs that asks, and a node that answers with nothing.

use sha1::{Digest, Sha1};

pub(crate) const ID_BYTES: usize = 20;

/// Bytes of a node in an answer: its id, its IP and its port.
pub(crate) const NODE_BYTES: usize = 26;

pub(crate) type Id = [u8; ID_BYTES];

/// Numbers that look random, and are the same each time.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn id(&mut self) -> Id {
        std::array::from_fn(|_| self.bits() as u8)
    }
}

/// An id that shares exactly so many bits with `own`. All behind them is from `random`.
pub(crate) fn id_in_bucket(own: &Id, shared: usize, random: &Id) -> Id {
    let mut id = *random;
    for bit in 0..=shared.min(8 * ID_BYTES - 1) {
        let (byte, mask) = (bit / 8, 0x80_u8 >> (bit % 8));
        let of_own = if bit == shared { !own[byte] } else { own[byte] };
        id[byte] = (id[byte] & !mask) | (of_own & mask);
    }
    id
}

/// A bencoded string.
pub(crate) fn string(bytes: &[u8]) -> Vec<u8> {
    [bytes.len().to_string().as_bytes(), b":", bytes].concat()
}

/// The key of an immutable item.
pub(crate) fn key_of(item: &[u8]) -> Id {
    Sha1::digest(item).into()
}

/// A query. `behind_id` are the arguments that come behind the id, bencoded. The transaction has four bytes, as the crate
/// `mainline` answers no other.
pub(crate) fn query(method: &str, sender: &Id, behind_id: &[u8], transaction: u32) -> Vec<u8> {
    let method = string(method.as_bytes());
    let transaction = transaction.to_be_bytes();
    [b"d1:ad2:id20:", &sender[..], behind_id, b"e1:q", &method, b"1:t4:", &transaction, b"1:y1:qe"].concat()
}

pub(crate) fn target(target: &Id) -> Vec<u8> {
    [b"6:target20:", &target[..]].concat()
}

/// Whether it is a query: its last key is its kind.
pub(crate) fn is_query(message: &[u8]) -> bool {
    message.ends_with(b"1:y1:qe")
}

pub(crate) fn is_response(message: &[u8]) -> bool {
    message.ends_with(b"1:y1:re")
}

/// The answer of a node that knows nobody and keeps nothing.
pub(crate) fn answer(query: &[u8], own: &Id) -> Option<Vec<u8>> {
    let transaction = string(transaction(query)?);
    let results: &[u8] = match string_at(query, find(query, b"1:q")? + 3)? {
        b"ping" => b"",
        b"find_node" => b"5:nodes0:",
        _ => b"5:nodes0:5:token1:x",
    };
    Some([b"d1:rd2:id20:", &own[..], results, b"e1:t", &transaction, b"1:y1:re"].concat())
}

/// What an answer repeats: of all keys at the top only the version and the kind come behind it.
pub(crate) fn transaction(message: &[u8]) -> Option<&[u8]> {
    let place = message.windows(3).rposition(|window| window == b"1:t")?;
    string_at(message, place + 3)
}

/// The number by which this program knows an answer.
pub(crate) fn number_of(message: &[u8]) -> Option<u32> {
    transaction(message)?.try_into().ok().map(u32::from_be_bytes)
}

/// The string behind a key, which is given as it is written.
pub(crate) fn string_behind<'a>(message: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    string_at(message, find(message, key)? + key.len())
}

pub(crate) fn sender(message: &[u8]) -> Option<Id> {
    string_behind(message, b"2:id")?.try_into().ok()
}

pub(crate) fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes.windows(pattern.len()).position(|window| window == pattern)
}

fn string_at(bytes: &[u8], place: usize) -> Option<&[u8]> {
    let rest = bytes.get(place..)?;
    let colon = rest.iter().take(5).position(|byte| *byte == b':')?;
    let length: usize = std::str::from_utf8(&rest[..colon]).ok()?.parse().ok()?;
    rest.get(colon + 1..colon + 1 + length)
}
