//! Local keys in the data folder: the full one as a file of its own, and of limited ones what is known.
//!
//! `keys.json` holds no secret, and is not sealed: whoever can write it can read `local-key` beside it.

use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use everfresh_application::ports::{KeyFileError, KeyFiles};
use everfresh_domain::{LimitedKey, Secret};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::files;

/// The file of the full local key, in the data folder.
pub const LOCAL_KEY: &str = "local-key";

/// The file of limited keys, in the data folder.
pub const LIMITED_KEYS: &str = "keys.json";

/// The form that is written.
const VERSION: u32 = 1;

#[derive(Deserialize)]
struct Read {
    version: u32,
    keys: Vec<LimitedKey>,
}

#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    keys: &'a [LimitedKey],
}

/// The key files of one data folder.
#[derive(Clone, Debug)]
pub struct KeyFolder {
    folder: PathBuf,
}

impl KeyFolder {
    /// Those in `folder`.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    fn limited(&self) -> PathBuf {
        self.folder.join(LIMITED_KEYS)
    }

    fn read(&self) -> Result<Vec<LimitedKey>, KeyFileError> {
        let path = self.limited();
        let unreadable = |cause: String| KeyFileError::Unreadable { place: path.display().to_string(), cause };
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unreadable(error.to_string())),
        };
        let read: Read = serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
        if read.version != VERSION {
            return Err(unreadable(format!("its form is {}, and this everfresh knows {VERSION}", read.version)));
        }
        Ok(read.keys)
    }
}

/// Writes a file whole, or says that it cannot. Where only its durability is in doubt, it stands: what
/// is found after a start is what is in force.
fn write(path: &Path, content: &[u8]) -> Result<(), KeyFileError> {
    let written =
        path.parent().map_or(Ok(()), files::create_private_folder).and_then(|()| files::write_private(path, content));
    match written {
        Ok(()) => Ok(()),
        Err(error) if std::fs::read(path).is_ok_and(|found| found == content) => {
            tracing::warn!(file = %path.display(), %error, "the file is written, and may be lost with the power");
            Ok(())
        }
        Err(error) => Err(KeyFileError::Unwritable { place: path.display().to_string(), cause: error.to_string() }),
    }
}

/// Runs what waits for the disk where nobody waits for it.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KeyFileError> + Send + 'static,
) -> Result<T, KeyFileError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(KeyFileError::Unwritable { place: "the key file".to_owned(), cause: error.to_string() }),
    }
}

#[async_trait]
impl KeyFiles for KeyFolder {
    async fn load(&self) -> Result<Vec<LimitedKey>, KeyFileError> {
        let folder = self.clone();
        aside(move || folder.read()).await
    }

    async fn save(&self, keys: &[LimitedKey]) -> Result<(), KeyFileError> {
        let path = self.limited();
        let text = serde_json::to_vec_pretty(&Written { version: VERSION, keys });
        let place = path.display().to_string();
        let text = text.map_err(|error| KeyFileError::Unwritable { place, cause: error.to_string() })?;
        aside(move || write(&path, &text)).await
    }

    async fn save_local_key(&self, key: &Secret) -> Result<(), KeyFileError> {
        let path = self.folder.join(LOCAL_KEY);
        let text = Zeroizing::new(format!("{}\n", key.expose()));
        aside(move || write(&path, text.as_bytes())).await
    }
}

#[cfg(test)]
mod tests {
    use everfresh_domain::{KeyHash, KeyRight, KeyScope, Timestamp};

    use super::*;

    fn key(name: &str) -> LimitedKey {
        let scope = KeyScope::new(["linear".parse().unwrap()], None, KeyRight::Tokens).unwrap();
        let (hash, created_at) = (KeyHash::of(name), Timestamp::from_millis(1_795_000_000_000));
        LimitedKey { name: name.parse().unwrap(), scope, hash, created_at, expires_at: None, holder: None }
    }

    #[tokio::test]
    async fn keys_come_back_and_are_their_owners_only() {
        let folder = tempfile::tempdir().unwrap();
        let files = KeyFolder::new(folder.path().join("data"));
        assert_eq!(files.load().await.unwrap(), []);
        files.save(&[key("ci"), key("laptop")]).await.unwrap();
        assert_eq!(KeyFolder::new(folder.path().join("data")).load().await.unwrap(), [key("ci"), key("laptop")]);
        files.save_local_key(&Secret::new("abc")).await.unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("data/local-key")).unwrap(), "abc\n");
        #[cfg(unix)]
        for name in ["keys.json", "local-key"] {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(folder.path().join("data").join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_is_not_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let files = KeyFolder::new(folder.path());
        for (text, words) in [("", "EOF"), ("{\"version\":2,\"keys\":[]}", "its form is 2"), ("[]", "invalid length")] {
            std::fs::write(folder.path().join(LIMITED_KEYS), text).unwrap();
            let error = files.load().await.unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("keys.json"), "{text:?}: {error}");
        }
    }

    #[tokio::test]
    async fn a_write_that_fails_leaves_the_key_before() {
        let folder = tempfile::tempdir().unwrap();
        let files = KeyFolder::new(folder.path());
        files.save_local_key(&Secret::new("before")).await.unwrap();
        // Where the new file would be made there is a folder.
        std::fs::create_dir(folder.path().join("local-key.tmp")).unwrap();
        let error = files.save_local_key(&Secret::new("after")).await.unwrap_err().to_string();
        assert!(error.contains("local-key cannot be saved"), "{error}");
        assert_eq!(std::fs::read_to_string(folder.path().join("local-key")).unwrap(), "before\n");
    }
}
