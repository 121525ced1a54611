//! Sealing: how records look once they leave memory.
//!
//! A sealed record is a header in clear, which says what it is, and an encrypted body that opens
//! only under the same key, header and name. Any changed bit, and any record put in the place of
//! another, is noticed (XChaCha20-Poly1305, RFC 8439 with a 192-bit nonce).

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use everfresh_application::ports::Entropy;
use everfresh_domain::Generation;
use zeroize::Zeroizing;

use crate::custody::MasterKey;

/// What every sealed record begins with.
const MAGIC: &[u8; 4] = b"EVFR";

/// The layout that this program writes. A newer one is refused, never overwritten.
pub(super) const SCHEMA: u8 = 1;

const NONCE: usize = 24;
const HEADER: usize = MAGIC.len() + 2 + 8 + 8;

/// Which of two copies is newer: the generation decides, and within it the count of writes, since
/// marks change a record without a new generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    pub(super) generation: Generation,
    pub(super) writes: u64,
}

/// Why sealed bytes cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum UnsealError {
    /// They are something else.
    #[error("it is not a record of everfresh")]
    Foreign,
    /// A later version of this program wrote them.
    #[error("it was written by a newer version of everfresh (schema {0})")]
    NewerSchema(u8),
    /// Damaged, or sealed under another key or name.
    #[error("it is damaged, or sealed with another key")]
    Damaged,
}

/// Seals and opens under one key.
pub(super) struct Sealer {
    cipher: XChaCha20Poly1305,
}

impl Sealer {
    pub(super) fn new(key: &MasterKey) -> Self {
        Self { cipher: XChaCha20Poly1305::new(key.bytes().into()) }
    }

    /// Seals `body` as the record called `name`.
    pub(super) fn seal(&self, entropy: &dyn Entropy, name: &str, version: Version, body: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(HEADER + NONCE + body.len() + 16);
        sealed.extend_from_slice(MAGIC);
        sealed.extend_from_slice(&[SCHEMA, !SCHEMA]);
        sealed.extend_from_slice(&version.generation.0.to_le_bytes());
        sealed.extend_from_slice(&version.writes.to_le_bytes());
        let drawn = entropy.bytes();
        let nonce: [u8; NONCE] = std::array::from_fn(|index| drawn[index]);
        let bound = bound(&sealed, name);
        let payload = Payload { msg: body, aad: &bound };
        let encrypted = self.cipher.encrypt(&XNonce::from(nonce), payload).expect("a record is far below the limit");
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&encrypted);
        sealed
    }

    /// Opens what [`Sealer::seal`] made under the same name.
    pub(super) fn open(&self, name: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
        version_of(sealed)?;
        let (header, rest) = sealed.split_at_checked(HEADER).ok_or(UnsealError::Foreign)?;
        let (nonce, encrypted) = rest.split_first_chunk::<NONCE>().ok_or(UnsealError::Damaged)?;
        let bound = bound(header, name);
        let payload = Payload { msg: encrypted, aad: &bound };
        self.cipher.decrypt(&XNonce::from(*nonce), payload).map(Zeroizing::new).map_err(|_| UnsealError::Damaged)
    }
}

/// What the header says in clear. Only an opened record proves it.
pub(super) fn version_of(sealed: &[u8]) -> Result<Version, UnsealError> {
    let rest = sealed.strip_prefix(MAGIC).ok_or(UnsealError::Foreign)?;
    let (&[schema, complement], rest) = rest.split_first_chunk::<2>().ok_or(UnsealError::Damaged)?;
    // Written twice, so that a flipped bit is not taken for a newer program.
    if complement != !schema {
        return Err(UnsealError::Damaged);
    }
    if schema > SCHEMA {
        return Err(UnsealError::NewerSchema(schema));
    }
    let (generation, rest) = rest.split_first_chunk::<8>().ok_or(UnsealError::Damaged)?;
    let (writes, _) = rest.split_first_chunk::<8>().ok_or(UnsealError::Damaged)?;
    Ok(Version { generation: Generation(u64::from_le_bytes(*generation)), writes: u64::from_le_bytes(*writes) })
}

/// What the encryption is bound to: the header and the record's name.
fn bound(header: &[u8], name: &str) -> Vec<u8> {
    [header, name.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::SystemEntropy;

    const VERSION: Version = Version { generation: Generation(7), writes: 41 };

    fn sealer() -> Sealer {
        Sealer::new(&MasterKey::from_bytes([3; 32]))
    }

    fn sealed() -> Vec<u8> {
        sealer().seal(&SystemEntropy, "grant.linear", VERSION, b"canary-secret")
    }

    #[test]
    fn what_is_sealed_opens_under_its_own_name_and_key_only() {
        let sealed = sealed();
        assert_eq!(&**sealer().open("grant.linear", &sealed).unwrap(), b"canary-secret");
        assert_eq!(sealer().open("grant.other", &sealed), Err(UnsealError::Damaged));
        let stranger = Sealer::new(&MasterKey::from_bytes([4; 32]));
        assert_eq!(stranger.open("grant.linear", &sealed), Err(UnsealError::Damaged));
        assert_eq!(version_of(&sealed), Ok(VERSION));
        assert!(!sealed.windows(6).any(|bytes| bytes == b"canary"));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let whole = sealed();
        for index in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[index] ^= 1;
            assert!(sealer().open("grant.linear", &flipped).is_err(), "byte {index}");
            assert!(sealer().open("grant.linear", &whole[..index]).is_err(), "cut at {index}");
        }
    }

    #[test]
    fn a_newer_layout_is_told_from_damage() {
        let mut newer = sealed();
        (newer[4], newer[5]) = (SCHEMA + 1, !(SCHEMA + 1));
        assert_eq!(sealer().open("grant.linear", &newer), Err(UnsealError::NewerSchema(SCHEMA + 1)));
    }
}
