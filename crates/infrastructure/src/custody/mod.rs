//! The master key: where it comes from, and that it is never replaced by accident.
//!
//! A key that cannot be found is an error wherever sealed records exist: a new key would make
//! them unreadable for ever.

mod keychain;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use everfresh_application::ports::Entropy;
use zeroize::{Zeroize, Zeroizing};

use crate::files;

/// The key file's name in the data folder.
const KEY_FILE: &str = "master.key";

/// Held while a key is made.
const MAKING_LOCK: &str = "master.key.lock";

/// The key under which every record is sealed. Zeroed on drop, shown to nobody.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; Self::LENGTH]>);

impl MasterKey {
    /// Bytes of a key.
    pub const LENGTH: usize = 32;

    /// A key of these bytes.
    pub fn from_bytes(bytes: [u8; Self::LENGTH]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(crate) fn bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }

    /// Reads 64 hexadecimal digits or the base64 of 32 bytes.
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let mut decoded = Zeroizing::new(hex::decode(text).or_else(|_| BASE64_STANDARD.decode(text)).ok()?);
        let key = <[u8; Self::LENGTH]>::try_from(decoded.as_slice()).ok().map(Self::from_bytes);
        decoded.zeroize();
        key
    }

    fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64_STANDARD.encode(*self.0))
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey")
    }
}

/// Where the key is to be had.
#[derive(Clone)]
pub enum KeySource {
    /// It is this text: the value of `EVERFRESH_MASTER_KEY`.
    Given(Zeroizing<String>),
    /// A program prints it; program and arguments, no shell.
    Command(Vec<String>),
    /// It stands in this file.
    File(PathBuf),
    /// The keychain of the operating system, else a key file beside the store.
    Auto(Keychain),
}

/// Whether the keychain of the operating system is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keychain {
    /// It is, with a time limit.
    Asked,
    /// It is not.
    Ignored,
}

/// Where the key was found, for `doctor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyOrigin {
    /// The environment variable.
    Environment,
    /// A configured command.
    Command,
    /// A file.
    File(PathBuf),
    /// The keychain of the operating system.
    Keychain,
}

impl fmt::Display for KeyOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => f.write_str("the environment variable EVERFRESH_MASTER_KEY"),
            Self::Command => f.write_str("the configured command"),
            Self::File(path) => write!(f, "the file {}", path.display()),
            Self::Keychain => f.write_str("the keychain of this system"),
        }
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum CustodyError {
    /// What was found is not a key.
    #[error("{origin} does not hold a key: it must be 32 bytes, as 64 hexadecimal digits or base64")]
    NotAKey {
        /// Where.
        origin: KeyOrigin,
    },
    /// The place cannot be read or written.
    #[error("{what} cannot be used: {cause}")]
    Unusable {
        /// Which place.
        what: String,
        /// Why.
        cause: String,
    },
    /// There are sealed records and no key to open them.
    #[error(
        "the key that sealed the records in {} is missing; put it back as {}, or give it in EVERFRESH_MASTER_KEY \
         (a new key could not open them, so none was made)", folder.display(), folder.join(KEY_FILE).display()
    )]
    Missing {
        /// The data folder.
        folder: PathBuf,
    },
}

/// Finds the key, or makes one where nothing is sealed yet.
///
/// `folder` is the data folder; `sealed_records` says whether something in it is sealed already.
pub fn master_key(
    source: &KeySource,
    folder: &Path,
    sealed_records: bool,
    entropy: &dyn Entropy,
) -> Result<(MasterKey, KeyOrigin), CustodyError> {
    match source {
        KeySource::Given(text) => parsed(text, KeyOrigin::Environment),
        KeySource::Command(command) => parsed(&printed_by(command)?, KeyOrigin::Command),
        KeySource::File(path) => parsed(&content_of(path)?, KeyOrigin::File(path.clone())),
        KeySource::Auto(keychain) => found_or_made(*keychain, folder, sealed_records, entropy),
    }
}

fn parsed(text: &str, origin: KeyOrigin) -> Result<(MasterKey, KeyOrigin), CustodyError> {
    match MasterKey::parse(text) {
        Some(key) => Ok((key, origin)),
        None => Err(CustodyError::NotAKey { origin }),
    }
}

fn content_of(path: &Path) -> Result<Zeroizing<String>, CustodyError> {
    let unusable = |error: std::io::Error| CustodyError::Unusable {
        what: format!("the key file {}", path.display()),
        cause: error.to_string(),
    };
    std::fs::read_to_string(path).map(Zeroizing::new).map_err(unusable)
}

fn printed_by(command: &[String]) -> Result<Zeroizing<String>, CustodyError> {
    let unusable = |cause: String| CustodyError::Unusable { what: "the command that prints the key".to_owned(), cause };
    let Some((program, arguments)) = command.split_first() else { return Err(unusable("it is empty".to_owned())) };
    let ran = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = ran.map_err(|error| unusable(format!("{program}: {error}")))?;
    let printed = Zeroizing::new(String::from_utf8_lossy(&output.stdout).into_owned());
    if output.status.success() { Ok(printed) } else { Err(unusable(format!("{program} ended with {}", output.status))) }
}

/// A key that exists wins, wherever it is; a new one is made only where nothing is sealed.
fn found_or_made(
    keychain: Keychain,
    folder: &Path,
    sealed_records: bool,
    entropy: &dyn Entropy,
) -> Result<(MasterKey, KeyOrigin), CustodyError> {
    let path = folder.join(KEY_FILE);
    let entry = match keychain {
        Keychain::Asked if !path.exists() => keychain::entry(folder),
        Keychain::Asked | Keychain::Ignored => None,
    };
    if let Some(found) = found(&path, entry.as_ref())? {
        return Ok(found);
    }
    if sealed_records {
        return Err(CustodyError::Missing { folder: folder.to_owned() });
    }
    let unusable = |error: std::io::Error| CustodyError::Unusable {
        what: format!("the key file {}", path.display()),
        cause: error.to_string(),
    };
    files::create_private_folder(folder).map_err(unusable)?;
    // Of several that start at once, one makes the key and the others find it: a key that is
    // overwritten after records were sealed with it would lose them.
    let making = files::append_private(&folder.join(MAKING_LOCK)).map_err(unusable)?;
    making.lock().map_err(unusable)?;
    if let Some(found) = found(&path, entry.as_ref())? {
        return Ok(found);
    }
    let key = MasterKey::from_bytes(entropy.bytes());
    if entry.is_some_and(|entry| entry.write(&key.to_text())) {
        return Ok((key, KeyOrigin::Keychain));
    }
    files::write_private(&path, key.to_text().as_bytes()).map_err(unusable)?;
    Ok((key, KeyOrigin::File(path)))
}

/// A key that is there: the file's before the keychain's.
fn found(path: &Path, entry: Option<&keychain::Entry>) -> Result<Option<(MasterKey, KeyOrigin)>, CustodyError> {
    if path.exists() {
        return parsed(&content_of(path)?, KeyOrigin::File(path.to_owned())).map(Some);
    }
    entry.and_then(keychain::Entry::read).map(|text| parsed(&text, KeyOrigin::Keychain)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::SystemEntropy;

    const AUTO: KeySource = KeySource::Auto(Keychain::Ignored);

    fn given(text: &str) -> KeySource {
        KeySource::Given(Zeroizing::new(text.to_owned()))
    }

    #[test]
    fn a_key_is_made_once_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let (made, origin) = master_key(&AUTO, folder.path(), false, &SystemEntropy).unwrap();
        assert_eq!(origin, KeyOrigin::File(folder.path().join(KEY_FILE)));
        let (found, _) = master_key(&AUTO, folder.path(), true, &SystemEntropy).unwrap();
        assert_eq!(made.bytes(), found.bytes());
    }

    #[test]
    fn those_that_start_at_once_have_one_key() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..20 {
            let place = folder.path().join(number.to_string());
            let barrier = std::sync::Barrier::new(8);
            let make = || {
                barrier.wait();
                *master_key(&AUTO, &place, false, &SystemEntropy).unwrap().0.bytes()
            };
            let keys: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let (kept, _) = master_key(&AUTO, &place, true, &SystemEntropy).unwrap();
            assert!(keys.iter().all(|key| key == kept.bytes()), "a key was overwritten");
        }
    }

    #[test]
    fn no_new_key_is_made_where_records_are_sealed() {
        let folder = tempfile::tempdir().unwrap();
        let error = master_key(&AUTO, folder.path(), true, &SystemEntropy).unwrap_err();
        assert!(matches!(error, CustodyError::Missing { .. }), "{error}");
        assert!(!folder.path().join(KEY_FILE).exists());
    }

    #[test]
    fn hexadecimal_and_base64_are_read_and_nothing_else() {
        let folder = Path::new("/nowhere");
        for text in ["07".repeat(32), format!("{}\n", BASE64_STANDARD.encode([7; 32]))] {
            let (key, _) = master_key(&given(&text), folder, true, &SystemEntropy).unwrap();
            assert_eq!(key.bytes(), &[7; 32]);
        }
        for text in ["", "canary-not-a-key", &"07".repeat(31)] {
            let error = master_key(&given(text), folder, true, &SystemEntropy).unwrap_err().to_string();
            assert!(error.contains("EVERFRESH_MASTER_KEY") && !error.contains("canary"), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_command_prints_the_key_and_its_failure_is_told() {
        let folder = Path::new("/nowhere");
        let run = |command: &[&str]| {
            let command = command.iter().map(|word| (*word).to_owned()).collect();
            master_key(&KeySource::Command(command), folder, true, &SystemEntropy)
        };
        let (key, origin) = run(&["printf", &"07".repeat(32)]).unwrap();
        assert_eq!((key.bytes(), origin), (&[7; 32], KeyOrigin::Command));
        assert!(run(&["false"]).unwrap_err().to_string().contains("false ended with"));
        assert!(run(&["/no/such/program"]).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn the_key_file_is_its_owners_only() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        master_key(&AUTO, folder.path(), false, &SystemEntropy).unwrap();
        let mode = folder.path().join(KEY_FILE).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_key_shows_nothing_of_itself() {
        assert_eq!(format!("{:?}", MasterKey::from_bytes([7; 32])), "MasterKey");
    }
}
