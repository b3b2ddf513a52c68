//! Values that only who has the key can read.

use std::fmt;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::tree::SALT_BYTES;

/// The bytes of a nonce, which stands before each chunk.
const NONCE_BYTES: usize = 24;

/// What a chunk has besides what is encrypted: the nonce and the tag.
pub(super) const OVERHEAD: usize = NONCE_BYTES + 16;

/// Where a chunk belongs. It is authenticated with the chunk, so that none can be taken for that of another value, or of
/// another place, nor the value end before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChunkPlace {
    /// That of the value.
    pub(super) salt: [u8; SALT_BYTES],
    pub(super) index: u64,
    pub(super) is_last: bool,
}

impl ChunkPlace {
    fn bytes(&self) -> Vec<u8> {
        [&self.salt[..], &self.index.to_be_bytes(), &[u8::from(self.is_last)]].concat()
    }
}

/// The key of an encrypted value, which never goes on a wire. Wiped from memory when it is dropped.
///
/// The cipher is XChaCha20-Poly1305, for each chunk with a nonce of its own. Whoever has the hashes sees how long the
/// value is and nothing else.
#[derive(Clone)]
pub struct ValueKey {
    bytes: Zeroizing<[u8; 32]>,
    convergent: bool,
}

impl ValueKey {
    /// The key with these 32 secret random bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        ValueKey { bytes: Zeroizing::new(bytes), convergent: false }
    }

    /// A new key, of the operating system's random numbers.
    ///
    /// # Errors
    ///
    /// When the system gives none.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *bytes)?;
        Ok(ValueKey::from_bytes(*bytes))
    }

    /// The key that follows from a value, so that all who save the same value save the same chunks, once.
    ///
    /// Whoever guesses the value can see that it is there: not for what few could be, such as a form with a number.
    pub fn convergent(value: &[u8]) -> Self {
        let bytes = Sha256::new().chain_update(b"kademlia-dht convergent").chain_update(value).finalize();
        ValueKey { bytes: Zeroizing::new(bytes.into()), convergent: true }
    }

    /// Its bytes, to be kept or given to who may read the value.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// What tells a value that is encrypted now from all others; the same one if the chunks are to be the same.
    pub(super) fn salt(&self) -> Option<[u8; SALT_BYTES]> {
        let mut salt = [0; SALT_BYTES];
        if !self.convergent {
            getrandom::fill(&mut salt).ok()?;
        }
        Some(salt)
    }

    /// Tells this key from others, and nothing of it.
    pub(super) fn fingerprint(&self) -> [u8; 8] {
        let digest =
            Sha256::new().chain_update(b"kademlia-dht fingerprint").chain_update(self.bytes.as_slice()).finalize();
        let mut fingerprint = [0; 8];
        fingerprint.iter_mut().zip(digest).for_each(|(byte, of)| *byte = of);
        fingerprint
    }

    /// Encrypts the chunk at this place of a value.
    pub(super) fn seal(&self, place: &ChunkPlace, chunk: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_BYTES];
        if self.convergent {
            // The same chunk at the same place always has the same nonce, and no two others do.
            let of = Sha256::new().chain_update(self.bytes.as_slice()).chain_update(place.bytes());
            let digest = of.chain_update(chunk).finalize();
            nonce.iter_mut().zip(digest).for_each(|(byte, of)| *byte = of);
        } else {
            getrandom::fill(&mut nonce).ok()?;
        }
        let aad = place.bytes();
        let sealed = self.cipher().encrypt(&XNonce::from(nonce), Payload { msg: chunk, aad: &aad }).ok()?;
        Some([&nonce[..], &sealed].concat())
    }

    /// Decrypts it; `None` if it was another one, or encrypted with another key.
    pub(super) fn open(&self, place: &ChunkPlace, chunk: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = chunk.split_first_chunk::<NONCE_BYTES>()?;
        let aad = place.bytes();
        self.cipher().decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: &aad }).ok()
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&Key::from(*self.bytes))
    }
}

impl fmt::Debug for ValueKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValueKey").field("convergent", &self.convergent).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_opens_a_chunk_and_only_in_its_place() {
        let (key, other) = (ValueKey::from_bytes([7; 32]), ValueKey::from_bytes([8; 32]));
        let place = ChunkPlace { salt: [1; 16], index: 3, is_last: false };
        let sealed = key.seal(&place, b"secret").unwrap();
        assert_eq!(sealed.len(), 6 + OVERHEAD);
        assert_eq!(key.open(&place, &sealed).unwrap(), b"secret");
        assert_eq!(key.open(&ChunkPlace { index: 4, ..place }, &sealed), None);
        assert_eq!(key.open(&ChunkPlace { is_last: true, ..place }, &sealed), None);
        assert_eq!(key.open(&ChunkPlace { salt: [2; 16], ..place }, &sealed), None);
        assert_eq!(other.open(&place, &sealed), None);
        for byte in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[byte] ^= 1;
            assert_eq!(key.open(&place, &changed), None);
        }
        assert_eq!(key.open(&place, &sealed[..20]), None);
        assert_ne!(key.seal(&place, b"secret").unwrap(), sealed, "each time with another nonce");
    }

    #[test]
    fn a_convergent_key_gives_the_same_chunks_again() {
        let (one, two) = (ValueKey::convergent(b"value"), ValueKey::convergent(b"value"));
        let place = ChunkPlace { salt: one.salt().unwrap(), index: 0, is_last: true };
        assert_eq!(place.salt, two.salt().unwrap());
        assert_eq!(one.seal(&place, b"value"), two.seal(&place, b"value"));
        assert_ne!(one.seal(&place, b"value"), one.seal(&ChunkPlace { index: 1, ..place }, b"value"));
        assert_ne!(one.as_bytes(), ValueKey::convergent(b"other").as_bytes());
    }

    #[test]
    fn a_key_does_not_show_itself() {
        let shown = format!("{:?}", ValueKey::from_bytes([0x11; 32]));
        assert!(!shown.contains("17") && !shown.contains("11"), "{shown}");
    }
}
