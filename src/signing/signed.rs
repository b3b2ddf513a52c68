//! Values under a key that is the hash of the public key that signs them: the mutable items of
//! [BEP 44](https://www.bittorrent.org/beps/bep_0044.html).
//!
//! ```
//! use kademlia_dht::signing::signed::{Salt, SigningKey, sign};
//!
//! let key = SigningKey::from_bytes(&[7; 32]);
//! let salt = Salt::new("profile").unwrap();
//! let signature = sign(&key, &salt, 1, b"12:Hello World!");
//! assert!(key.public_key().verify(&salt, 1, b"12:Hello World!", &signature).is_ok());
//! assert!(key.public_key().verify(&salt, 2, b"12:Hello World!", &signature).is_err());
//! ```

use std::fmt;

use bytes::Bytes;
use ed25519_dalek::Signer;
use zeroize::Zeroizing;

use super::{BadKey, BadSignature};

/// The most bytes of a salt.
pub const MAX_SALT_BYTES: usize = 64;

/// The most bytes of a value, in its bencoded form.
pub const MAX_VALUE_BYTES: usize = 1000;

/// Tells the values of one public key apart. Most often empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Salt(Bytes);

/// A salt is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the salt has {0} bytes; the most is {MAX_SALT_BYTES}")]
pub struct SaltTooLong(pub usize);

impl Salt {
    /// A salt of at most [`MAX_SALT_BYTES`].
    ///
    /// # Errors
    ///
    /// When it is longer.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self, SaltTooLong> {
        let bytes = bytes.into();
        if bytes.len() > MAX_SALT_BYTES { Err(SaltTooLong(bytes.len())) } else { Ok(Salt(bytes)) }
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The private half of an ed25519 key pair. Wiped from memory when it is dropped.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// The key that follows from 32 secret random bytes (the seed of RFC 8032).
    pub fn from_bytes(seed: &[u8; 32]) -> Self {
        SigningKey(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// A new key, of the operating system's random numbers.
    ///
    /// # Errors
    ///
    /// When the system gives none.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed)?;
        Ok(SigningKey::from_bytes(&seed))
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("public_key", &self.public_key()).finish_non_exhaustive()
    }
}

/// The public half of an ed25519 key pair.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// What is hashed to the key that its value with this salt is under: the public key and the salt.
    pub fn key(&self, salt: &Salt) -> Vec<u8> {
        [&self.0[..], salt.as_bytes()].concat()
    }

    /// Checks that the holder of the private half signed this value.
    ///
    /// Strictly: no second form of a signature, and no public key that verifies what nobody signed, is good.
    ///
    /// # Errors
    ///
    /// When it did not.
    pub fn verify(&self, salt: &Salt, sequence: i64, value: &[u8], signature: &Signature) -> Result<(), BadSignature> {
        let public = ed25519_dalek::VerifyingKey::from_bytes(&self.0).map_err(|_| BadSignature)?;
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        public.verify_strict(&signed_bytes(salt, sequence, value), &signature).map_err(|_| BadSignature)
    }
}

impl TryFrom<&[u8]> for PublicKey {
    type Error = BadKey;

    fn try_from(bytes: &[u8]) -> Result<Self, BadKey> {
        bytes.try_into().map(PublicKey).map_err(|_| BadKey)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        super::write_hex(&self.0, f)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// An ed25519 signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature(pub [u8; 64]);

/// Signs a bencoded value as number `sequence` of its salt.
pub fn sign(key: &SigningKey, salt: &Salt, sequence: i64, value: &[u8]) -> Signature {
    Signature(key.0.sign(&signed_bytes(salt, sequence, value)).to_bytes())
}

/// A value as a string of bytes, bencoded.
pub fn bencoded_string(value: &[u8]) -> Bytes {
    [value.len().to_string().as_bytes(), b":", value].concat().into()
}

/// The bytes of a bencoded string; `None` if it is a number, a list, a dictionary or none of these.
pub fn string_in(bencoded: &[u8]) -> Option<&[u8]> {
    let place = bencoded.iter().position(|byte| *byte == b':')?;
    let (digits, rest) = bencoded.split_at_checked(place)?;
    let length: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
    rest.get(1..).filter(|string| string.len() == length)
}

/// What is signed: the parts of a bencoded dictionary, without its ends. An empty salt is left out.
fn signed_bytes(salt: &Salt, sequence: i64, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(value.len() + 100);
    if !salt.0.is_empty() {
        bytes.extend(format!("4:salt{}:", salt.0.len()).bytes());
        bytes.extend(&salt.0);
    }
    bytes.extend(format!("3:seqi{sequence}e1:v").bytes());
    bytes.extend(value);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sha1::{Digest, Sha1};

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        let bytes: Vec<u8> =
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect();
        bytes.try_into().unwrap()
    }

    const VALUE: &[u8] = b"12:Hello World!";

    /// The test vectors of the BEP: salt, signature, and the SHA-1 of the key.
    fn vectors() -> [(PublicKey, Salt, Signature, [u8; 20]); 2] {
        let public = PublicKey(hex("77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548"));
        [
            (
                public,
                Salt::default(),
                Signature(hex(concat!(
                    "305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff",
                    "1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01"
                ))),
                hex("4a533d47ec9c7d95b1ad75f576cffc641853b750"),
            ),
            (
                public,
                Salt::new("foobar").unwrap(),
                Signature(hex(concat!(
                    "6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17d",
                    "df9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08"
                ))),
                hex("411eba73b6f087ca51a3795d9c8c938d365e32c1"),
            ),
        ]
    }

    #[test]
    fn the_vectors_of_the_bep_are_good() {
        for (public, salt, signature, target) in vectors() {
            assert_eq!(public.verify(&salt, 1, VALUE, &signature), Ok(()));
            assert_eq!(<[u8; 20]>::from(Sha1::digest(public.key(&salt))), target);
        }
    }

    #[test]
    fn no_bit_of_a_vector_can_be_another() {
        fn flipped<const N: usize>(bytes: [u8; N]) -> impl Iterator<Item = [u8; N]> {
            (0..N * 8).map(move |bit| {
                let mut changed = bytes;
                changed[bit / 8] ^= 1 << (bit % 8);
                changed
            })
        }
        let value: [u8; 15] = VALUE.try_into().unwrap();
        for (public, salt, signature, _) in vectors() {
            let salts: Vec<Salt> = match <[u8; 6]>::try_from(salt.as_bytes()) {
                Ok(bytes) => flipped(bytes).map(|bytes| Salt::new(bytes.to_vec()).unwrap()).collect(),
                Err(_) => vec![Salt::new("x").unwrap()],
            };
            let changed = flipped(signature.0)
                .map(|bytes| (public, salt.clone(), 1, value, Signature(bytes)))
                .chain(flipped(public.0).map(|bytes| (PublicKey(bytes), salt.clone(), 1, value, signature)))
                .chain(flipped(value).map(|bytes| (public, salt.clone(), 1, bytes, signature)))
                .chain((0..64).map(|bit| (public, salt.clone(), 1 ^ (1 << bit), value, signature)))
                .chain(salts.into_iter().map(|salt| (public, salt, 1, value, signature)));
            for (public, salt, sequence, value, signature) in changed {
                assert_eq!(public.verify(&salt, sequence, &value, &signature), Err(BadSignature));
            }
        }
    }

    #[test]
    fn a_key_that_verifies_anything_is_none() {
        // The neutral point: R = A = 0, S = 0 fits every message unless small orders are refused.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        assert!(PublicKey(neutral).verify(&Salt::default(), 1, VALUE, &Signature(signature)).is_err());
    }

    #[test]
    fn a_signing_key_does_not_show_itself() {
        let shown = format!("{:?}", SigningKey::from_bytes(&[0xab; 32]));
        assert!(!shown.contains("abab") && !shown.contains("171, 171"), "{shown}");
    }

    #[test]
    fn a_salt_has_a_limit() {
        assert!(Salt::new(vec![1; MAX_SALT_BYTES]).is_ok());
        assert_eq!(Salt::new(vec![1; 65]), Err(SaltTooLong(65)));
    }

    proptest! {
        #[test]
        fn what_is_signed_is_verified(
            seed in any::<[u8; 32]>(), salt in prop::collection::vec(any::<u8>(), 0..=64), sequence in any::<i64>(),
            value in prop::collection::vec(any::<u8>(), 0..=1000),
        ) {
            let (key, salt) = (SigningKey::from_bytes(&seed), Salt::new(salt).unwrap());
            let signature = sign(&key, &salt, sequence, &value);
            prop_assert_eq!(key.public_key().verify(&salt, sequence, &value, &signature), Ok(()));
            let other = SigningKey::from_bytes(&seed.map(|byte| byte ^ 1)).public_key();
            prop_assert!(other.verify(&salt, sequence, &value, &signature).is_err());
        }
    }
}
