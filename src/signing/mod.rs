//! Values that prove who wrote them, whoever hands them over.
//!
//! - [`signed`]: under a key that is the hash of a public key, so that nobody else can write there at all. The form is
//!   that of [BEP 44](https://www.bittorrent.org/beps/bep_0044.html), with ed25519.
//! - [`owned`]: under any key, by whoever has the private key of a public one, with secp256k1.
//!
//! Here are the keys and the signatures alone: what is signed, and how it is checked. Keys are wiped from memory when
//! they are dropped, and none is shown by `Debug`.

use std::fmt;

pub mod owned;
pub mod signed;

/// A signature does not fit what it is said to sign, or cannot be one.
///
/// It does not tell which: whoever can choose the bytes learns nothing from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not fit the value and the public key")]
pub struct BadSignature;

/// The bytes are no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are no key")]
pub struct BadKey;

/// Writes a key as it is shown.
fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}
