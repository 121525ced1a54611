//! Where local keys outlive the process.

use async_trait::async_trait;
use everfresh_domain::{LimitedKey, Secret};

/// Why keys could not be read or kept. What was kept before is still there.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KeyFileError {
    /// They are there and cannot be read. Never the same as "there are none".
    #[error("the limited keys in {place} cannot be read: {cause}; mend that file, or move it away and make them anew")]
    Unreadable {
        /// Where.
        place: String,
        /// Why.
        cause: String,
    },
    /// They could not be made durable.
    #[error("{place} cannot be saved: {cause}")]
    Unwritable {
        /// Where.
        place: String,
        /// Why.
        cause: String,
    },
}

/// Keeps the full local key, and of limited keys all but their secrets.
///
/// One process at a time has them: whoever holds the store.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait KeyFiles: Send + Sync {
    /// The limited keys there are.
    async fn load(&self) -> Result<Vec<LimitedKey>, KeyFileError>;

    /// Keeps these limited keys and no others. Atomic, and durable once returned: whenever the process
    /// or the machine dies, either the old ones are found or these.
    async fn save(&self, keys: &[LimitedKey]) -> Result<(), KeyFileError>;

    /// Keeps another full local key. Atomic, as [`save`](Self::save). After an error the one before is
    /// the one that is kept.
    async fn save_local_key(&self, key: &Secret) -> Result<(), KeyFileError>;
}
