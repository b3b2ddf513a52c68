//! Values under any key, signed by the owner of a secp256k1 key pair.
//!
//! The signature is ECDSA over the SHA-256 of `sha1(hex(sha1(key)) + data + str(expiry) + mode)`, in the compact form of
//! 64 bytes, with the lower of the two possible `s` values: the higher one is refused, so that a signature has no twin.
//!
//! ```
//! use kademlia_dht::OwnedMode;
//! use kademlia_dht::signing::owned::{Claim, OwnerKey};
//!
//! let owner = OwnerKey::generate().unwrap();
//! let claim = Claim { key: b"my name", data: b"my address", expiry: None, mode: OwnedMode::Secured };
//! let signature = owner.sign(&claim);
//! assert!(owner.public_key().verify(&claim, &signature).is_ok());
//! assert!(owner.public_key().verify(&Claim { data: b"yours", ..claim }, &signature).is_err());
//! ```

use std::fmt;

use k256::ecdsa;
use k256::ecdsa::signature::{Signer, Verifier};
use kademlia_gateways::{OwnedMode, Version};
use sha1::{Digest, Sha1};
use zeroize::Zeroizing;

use super::{BadKey, BadSignature};

/// As it is signed.
fn name_of(mode: OwnedMode) -> &'static str {
    match mode {
        OwnedMode::Secured => "SECURED",
        OwnedMode::Controlled => "CONTROLLED",
    }
}

/// What is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim<'a> {
    /// The key, before it is hashed.
    pub key: &'a [u8],
    /// The value.
    pub data: &'a [u8],
    /// When the public key may no longer write, in Unix seconds of ten digits; `None` for never. With another number of
    /// digits one could not tell where the value ends and this begins.
    pub expiry: Option<u64>,
    /// Who else may write.
    pub mode: OwnedMode,
}

impl Claim<'_> {
    /// The 20 bytes that are signed.
    fn digest(&self) -> [u8; 20] {
        let key: String = Sha1::digest(self.key).iter().map(|byte| format!("{byte:02x}")).collect();
        let expiry = self.expiry.map_or_else(|| "None".to_owned(), |expiry| expiry.to_string());
        let parts = [key.as_bytes(), self.data, expiry.as_bytes(), name_of(self.mode).as_bytes()];
        Sha1::digest(parts.concat()).into()
    }
}

/// The private half of a secp256k1 key pair. Wiped from memory when it is dropped.
#[derive(Clone)]
pub struct OwnerKey(ecdsa::SigningKey);

impl OwnerKey {
    /// The key with these 32 bytes, a number from 1 to the order of the group.
    ///
    /// # Errors
    ///
    /// When they are no such number.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, BadKey> {
        ecdsa::SigningKey::from_slice(bytes).map(OwnerKey).map_err(|_| BadKey)
    }

    /// A new key, of the operating system's random numbers.
    ///
    /// # Errors
    ///
    /// When the system gives none.
    pub fn generate() -> Result<Self, getrandom::Error> {
        loop {
            let mut bytes = Zeroizing::new([0; 32]);
            getrandom::fill(&mut *bytes)?;
            // All but one of 2^127 are good.
            if let Ok(key) = OwnerKey::from_bytes(&bytes) {
                return Ok(key);
            }
        }
    }

    /// The public half.
    pub fn public_key(&self) -> OwnerId {
        let point = self.0.verifying_key().to_sec1_point(true);
        OwnerId::try_from(point.as_bytes()).unwrap_or(OwnerId([0; 33]))
    }

    /// Signs a value, with a nonce that follows from key and value (RFC 6979).
    pub fn sign(&self, claim: &Claim<'_>) -> OwnerSignature {
        let signature: ecdsa::Signature = self.0.sign(&claim.digest());
        OwnerSignature(signature.normalize_s().to_bytes().into())
    }
}

impl OwnerKey {
    /// Signs also the version of a record that bears `signature`, and the first version that this owner wrote there.
    pub fn seal(&self, signature: &OwnerSignature, version: Version, since: Version) -> OwnerSignature {
        let seal: ecdsa::Signature = self.0.sign(&sealed_bytes(signature, version, since));
        OwnerSignature(seal.normalize_s().to_bytes().into())
    }
}

impl fmt::Debug for OwnerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnerKey").field("public_key", &self.public_key()).finish_non_exhaustive()
    }
}

/// The public half of a secp256k1 key pair, in its compressed form.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerId([u8; 33]);

impl OwnerId {
    /// Its bytes: 2 or 3, and the x coordinate.
    pub fn as_bytes(&self) -> &[u8; 33] {
        &self.0
    }

    /// Checks that the owner signed this value. Not whether it was still allowed to.
    ///
    /// # Errors
    ///
    /// When it did not.
    pub fn verify(&self, claim: &Claim<'_>, signature: &OwnerSignature) -> Result<(), BadSignature> {
        self.verify_bytes(&claim.digest(), signature)
    }

    /// Checks that the owner signed the version of a record that bears `signature`.
    ///
    /// # Errors
    ///
    /// When it did not.
    pub fn verify_seal(
        &self,
        signature: &OwnerSignature,
        version: Version,
        since: Version,
        seal: &OwnerSignature,
    ) -> Result<(), BadSignature> {
        self.verify_bytes(&sealed_bytes(signature, version, since), seal)
    }

    fn verify_bytes(&self, bytes: &[u8], signature: &OwnerSignature) -> Result<(), BadSignature> {
        let public = point(&self.0).ok_or(BadSignature)?;
        let signature = ecdsa::Signature::from_slice(&signature.0).map_err(|_| BadSignature)?;
        if signature.normalize_s() != signature {
            return Err(BadSignature);
        }
        public.verify(bytes, &signature).map_err(|_| BadSignature)
    }
}

/// The point of a key in its one compressed form: there are others of the same length, by which one owner would be two.
fn point(bytes: &[u8; 33]) -> Option<ecdsa::VerifyingKey> {
    let is_compressed = matches!(bytes, [2 | 3, ..]);
    is_compressed.then(|| ecdsa::VerifyingKey::from_sec1_bytes(bytes).ok()).flatten()
}

/// What is signed besides the value. It cannot be taken for a value, of which 20 bytes are signed.
fn sealed_bytes(signature: &OwnerSignature, version: Version, since: Version) -> Vec<u8> {
    [&b"kademlia-dht seal"[..], &signature.0, &version.0.to_be_bytes(), &since.0.to_be_bytes()].concat()
}

impl TryFrom<&[u8]> for OwnerId {
    type Error = BadKey;

    /// From the compressed form, of a point on the curve.
    fn try_from(bytes: &[u8]) -> Result<Self, BadKey> {
        let compressed: [u8; 33] = bytes.try_into().map_err(|_| BadKey)?;
        point(&compressed).ok_or(BadKey)?;
        Ok(OwnerId(compressed))
    }
}

impl fmt::Display for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        super::write_hex(&self.0, f)
    }
}

impl fmt::Debug for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnerId({self})")
    }
}

/// An ECDSA signature, in its compact form of 64 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OwnerSignature(pub [u8; 64]);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        let bytes: Vec<u8> =
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect();
        bytes.try_into().unwrap()
    }

    fn known() -> (OwnerId, [(Claim<'static>, OwnerSignature); 2]) {
        let public: [u8; 33] = hex("0224d2079e86e937224f08aa37a857ca6116546868edde549d0bd6b8536af9d554");
        let claim = |key, data| Claim { key, data, expiry: None, mode: OwnedMode::Secured };
        let vectors = [
            (
                claim(&b"test_id"[..], &b"string_payload"[..]),
                OwnerSignature(hex(concat!(
                    "d3f1d0cfeb6e9913ffe1759e9a5a331a65dade83f53ca6ef60f2c588238c4cc2",
                    "497d6f48b1968e31e98fc749d1887d6bb546718f2676a3308f9701a6b399c2c1"
                ))),
            ),
            (
                claim(&b"some_key"[..], &b"some_data"[..]),
                OwnerSignature(hex(concat!(
                    "749625f8d70efae75ffd4a62e22c6534b2cbaa49212c454e6cfb7c5215e39ef0",
                    "1d0388999b2d38a24ad379245e1b4c69b9259b1c8c86bb011712999b4565192d"
                ))),
            ),
        ];
        (OwnerId::try_from(&public[..]).unwrap(), vectors)
    }

    #[test]
    fn known_signatures_are_good() {
        let (public, vectors) = known();
        for (claim, signature) in vectors {
            assert_eq!(public.verify(&claim, &signature), Ok(()));
            for other in [
                Claim { mode: OwnedMode::Controlled, ..claim },
                Claim { expiry: Some(0), ..claim },
                Claim { key: b"test_ie", ..claim },
            ] {
                assert_eq!(public.verify(&other, &signature), Err(BadSignature));
            }
        }
    }

    #[test]
    fn no_bit_of_a_known_signature_can_be_another() {
        let (public, vectors) = known();
        for (claim, signature) in vectors {
            for bit in 0..64 * 8 {
                let mut changed = signature;
                changed.0[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(public.verify(&claim, &changed), Err(BadSignature), "bit {bit} of the signature");
            }
            for bit in 0..33 * 8 {
                let mut bytes = *public.as_bytes();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let accepted =
                    OwnerId::try_from(&bytes[..]).is_ok_and(|other| other.verify(&claim, &signature).is_ok());
                assert!(!accepted, "bit {bit} of the public key");
            }
            for bit in 0..claim.data.len() * 8 {
                let mut data = claim.data.to_vec();
                data[bit / 8] ^= 1 << (bit % 8);
                assert!(public.verify(&Claim { data: &data, ..claim }, &signature).is_err(), "bit {bit} of the data");
            }
        }
    }

    #[test]
    fn a_signature_has_no_twin() {
        let (public, [(claim, signature), _]) = known();
        // n - s verifies as well where nobody looks.
        let whole = ecdsa::Signature::from_slice(&signature.0).unwrap();
        let (r, s) = whole.split_scalars();
        let twin = ecdsa::Signature::from_scalars(r.to_bytes(), (-*s).to_bytes()).unwrap();
        assert_ne!(twin, whole);
        assert_eq!(public.verify(&claim, &OwnerSignature(twin.to_bytes().into())), Err(BadSignature));
    }

    #[test]
    fn a_seal_is_of_one_record_and_its_version() {
        let owner = OwnerKey::from_bytes(&[7; 32]).unwrap();
        let (_, [(_, one), (_, other)]) = known();
        let (version, since) = (Version(8), Version(5));
        let seal = owner.seal(&one, version, since);
        let verify = |signature, version, since| owner.public_key().verify_seal(signature, version, since, &seal);
        assert_eq!(verify(&one, version, since), Ok(()));
        assert_eq!(verify(&other, version, since), Err(BadSignature));
        assert_eq!(verify(&one, Version(9), since), Err(BadSignature));
        assert_eq!(verify(&one, version, Version(4)), Err(BadSignature));
        let (stranger, _) = known();
        assert_eq!(stranger.verify_seal(&one, version, since, &seal), Err(BadSignature));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        assert_eq!(OwnerKey::from_bytes(&[0; 32]).unwrap_err(), BadKey);
        assert_eq!(OwnerKey::from_bytes(&[0xff; 32]).unwrap_err(), BadKey);
        for bytes in [&[][..], &[2; 32], &[0; 33], &[0xff; 33], &[4; 65]] {
            assert_eq!(OwnerId::try_from(bytes), Err(BadKey));
        }
        // Another form of the same key, of the same length.
        let mut compact = *known().0.as_bytes();
        compact[0] = 5;
        assert_eq!(OwnerId::try_from(&compact[..]), Err(BadKey));
    }

    #[test]
    fn an_owner_key_does_not_show_itself() {
        let shown = format!("{:?}", OwnerKey::from_bytes(&[0x11; 32]).unwrap());
        assert!(!shown.contains("1111") && !shown.contains("17, 17"), "{shown}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_signed_is_verified(
            seed in 1_u8..255, key in prop::collection::vec(any::<u8>(), 0..40),
            data in prop::collection::vec(any::<u8>(), 0..200), expiry in prop::option::of(any::<u64>()),
        ) {
            let owner = OwnerKey::from_bytes(&[seed; 32]).unwrap();
            prop_assert_eq!(OwnerId::try_from(&owner.public_key().as_bytes()[..]), Ok(owner.public_key()));
            let claim = Claim { key: &key, data: &data, expiry, mode: OwnedMode::Controlled };
            let signature = owner.sign(&claim);
            prop_assert_eq!(owner.public_key().verify(&claim, &signature), Ok(()));
            let other = OwnerKey::from_bytes(&[seed + 1; 32]).unwrap_or(owner.clone());
            if other.public_key() != owner.public_key() {
                prop_assert!(other.public_key().verify(&claim, &signature).is_err());
            }
        }
    }
}
