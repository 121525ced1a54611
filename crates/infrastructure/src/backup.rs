//! The file of a backup: sealed under a passphrase, whole or not at all.
//!
//! `EVBK`, a version and its complement, the cost of scrypt (RFC 7914) as the logarithm of N, a salt of
//! 32 bytes and a nonce of 24; then XChaCha20-Poly1305 of the content, bound to all of that. The key is
//! scrypt of the passphrase with r = 8 and p = 1.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use everfresh_application::ports::Entropy;
use everfresh_domain::Secret;
use scrypt::Params;
use zeroize::Zeroizing;

use crate::files::create_private;

const MAGIC: &[u8; 4] = b"EVBK";
const VERSION: u8 = 1;
const SALT: usize = 32;
const NONCE: usize = 24;
const HEADER: usize = MAGIC.len() + 3 + SALT + NONCE;

/// N = 2^17 with r = 8: 128 MiB and some tenths of a second for each guess.
const COST: u8 = 17;
/// What is still opened: a file must not make its reader use more than 1 GiB.
const COST_MAX: u8 = 20;
const BLOCK: u32 = 8;
const LANES: u32 = 1;

/// A million logins would be some hundred megabytes.
const FILE_MAX: u64 = 512 * 1024 * 1024;

/// Why a backup cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The disk.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Something else.
    #[error("it is not a backup of everfresh")]
    Foreign,
    /// A later version of this program made it.
    #[error("it was made by a newer version of everfresh (format {0})")]
    Newer(u8),
    /// The passphrase is another one, or a bit has changed.
    #[error("the passphrase is wrong, or the file is damaged")]
    Sealed,
}

/// Seals `content` under `passphrase`.
pub fn seal(entropy: &dyn Entropy, passphrase: &Secret, content: &[u8]) -> Vec<u8> {
    seal_at(COST, entropy, passphrase, content)
}

fn seal_at(cost: u8, entropy: &dyn Entropy, passphrase: &Secret, content: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(HEADER + content.len() + 16);
    sealed.extend_from_slice(MAGIC);
    sealed.extend_from_slice(&[VERSION, !VERSION, cost]);
    let (salt, drawn) = (entropy.bytes(), entropy.bytes());
    let nonce: [u8; NONCE] = std::array::from_fn(|index| drawn[index]);
    sealed.extend_from_slice(&salt);
    sealed.extend_from_slice(&nonce);
    let cipher = cipher(cost, passphrase, &salt).expect("the cost that is written can be used");
    let payload = Payload { msg: content, aad: &sealed };
    let encrypted = cipher.encrypt(&XNonce::from(nonce), payload).expect("a backup is far below the limit");
    sealed.extend_from_slice(&encrypted);
    sealed
}

/// Opens what [`seal`] made under the same passphrase.
pub fn open(passphrase: &Secret, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, BackupError> {
    let (header, encrypted) = sealed.split_at_checked(HEADER).ok_or(BackupError::Foreign)?;
    let rest = header.strip_prefix(MAGIC).ok_or(BackupError::Foreign)?;
    let (&[version, complement, cost], rest) = rest.split_first_chunk::<3>().ok_or(BackupError::Foreign)?;
    // Written twice, so that a flipped bit is not taken for a newer program.
    if complement != !version {
        return Err(BackupError::Sealed);
    }
    if version > VERSION {
        return Err(BackupError::Newer(version));
    }
    let (salt, nonce) = rest.split_first_chunk::<SALT>().ok_or(BackupError::Foreign)?;
    let nonce: [u8; NONCE] = nonce.try_into().map_err(|_| BackupError::Foreign)?;
    let cipher = cipher(cost, passphrase, salt).ok_or(BackupError::Sealed)?;
    let payload = Payload { msg: encrypted, aad: header };
    cipher.decrypt(&XNonce::from(nonce), payload).map(Zeroizing::new).map_err(|_| BackupError::Sealed)
}

/// The cipher of a passphrase; `None` where its cost is none that is used.
fn cipher(cost: u8, passphrase: &Secret, salt: &[u8]) -> Option<XChaCha20Poly1305> {
    let params = Params::new(cost, BLOCK, LANES).ok().filter(|_| (1..=COST_MAX).contains(&cost))?;
    let mut key = Zeroizing::new([0; 32]);
    scrypt::scrypt(passphrase.expose().as_bytes(), salt, &params, &mut *key).ok()?;
    Some(XChaCha20Poly1305::new((&*key).into()))
}

/// Writes a backup as a file of its owner only: whole and durable, or not at all, and never over
/// another.
pub fn write(path: &Path, sealed: &[u8]) -> io::Result<()> {
    create_private(path, sealed).map_err(|error| {
        let is_there = error.kind() == io::ErrorKind::AlreadyExists;
        if is_there { io::Error::new(error.kind(), "it is there already; choose another name") } else { error }
    })
}

/// Reads the file of a backup.
pub fn read(path: &Path) -> Result<Vec<u8>, BackupError> {
    let mut sealed = Vec::new();
    // What begins otherwise is not read to its end, which it may not have.
    let mut file = File::open(path)?.take(FILE_MAX + 1);
    file.by_ref().take(MAGIC.len() as u64).read_to_end(&mut sealed)?;
    if sealed != MAGIC {
        return Err(BackupError::Foreign);
    }
    file.read_to_end(&mut sealed)?;
    if sealed.len() as u64 > FILE_MAX { Err(BackupError::Foreign) } else { Ok(sealed) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::SystemEntropy;

    /// Cheap: what is tested is not how long a guess takes.
    const QUICK: u8 = 4;

    fn passphrase() -> Secret {
        Secret::new("correct horse")
    }

    fn sealed() -> Vec<u8> {
        seal_at(QUICK, &SystemEntropy, &passphrase(), b"all logins")
    }

    #[test]
    fn what_is_sealed_opens_under_its_passphrase_and_no_other() {
        assert_eq!(open(&passphrase(), &sealed()).unwrap().as_slice(), b"all logins");
        assert!(matches!(open(&Secret::new("wrong"), &sealed()), Err(BackupError::Sealed)));
        assert_ne!(sealed(), sealed(), "salt and nonce are drawn");
        assert!(!sealed().windows(4).any(|bytes| bytes == b"logi"));
    }

    #[test]
    fn no_changed_byte_goes_unnoticed() {
        let whole = sealed();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(open(&passphrase(), &changed).is_err(), "byte {at}");
        }
        for end in 0..whole.len() {
            assert!(open(&passphrase(), &whole[..end]).is_err());
        }
    }

    #[test]
    fn a_newer_format_and_an_absurd_cost_are_told() {
        let mut newer = sealed();
        (newer[4], newer[5]) = (VERSION + 1, !(VERSION + 1));
        assert!(matches!(open(&passphrase(), &newer), Err(BackupError::Newer(2))));
        let mut costly = sealed();
        costly[6] = COST_MAX + 1;
        assert!(matches!(open(&passphrase(), &costly), Err(BackupError::Sealed)));
        assert!(matches!(
            open(&passphrase(), b"something else that is longer than the head of a backup is, by far"),
            Err(BackupError::Foreign)
        ));
    }

    #[test]
    fn nothing_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backup");
        write(&path, &sealed()).unwrap();
        assert_eq!(write(&path, b"x").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(open(&passphrase(), &read(&path).unwrap()).is_ok());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    /// A folder that others may write to can have anything in it.
    #[cfg(unix)]
    #[test]
    fn no_link_leads_it_elsewhere_and_it_is_its_owners_only() {
        use std::os::unix::fs::{PermissionsExt, symlink};

        let folder = tempfile::tempdir().unwrap();
        let (path, victim) = (folder.path().join("backup"), folder.path().join("victim"));
        symlink(&victim, &path).unwrap();
        assert_eq!(write(&path, &sealed()).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(!victim.exists());
        let other = folder.path().join("other");
        std::fs::write(other.with_added_extension("tmp"), "mine").unwrap();
        write(&other, &sealed()).unwrap();
        assert_eq!(std::fs::read(other.with_added_extension("tmp")).unwrap(), b"mine");
        assert_eq!(std::fs::metadata(&other).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[cfg(unix)]
    #[test]
    fn what_never_ends_is_not_read() {
        assert!(matches!(read(Path::new("/dev/zero")), Err(BackupError::Foreign)));
    }
}
