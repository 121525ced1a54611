//! The store: the only place where logins outlive the process.

use std::time::Duration;

use async_trait::async_trait;
use everfresh_domain::grant::ClientRegistration;
use everfresh_domain::timeline::Runs;
use everfresh_domain::{
    AttemptId, Failure, Fingerprint, Generation, GrantId, GrantRecord, LoginEnd, ServerName, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::settings::ServerSettings;

/// Why a store operation did not happen. In every case what was stored before is still there.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The record is not of the expected generation: somebody else was first.
    #[error("the record of {grant} has changed meanwhile")]
    Conflict {
        /// Whose record.
        grant: GrantId,
        /// The generation that is stored; `None` where there is no record.
        stored: Option<Generation>,
    },
    /// It is there and cannot be read. Never the same as "not logged in".
    #[error("{what} cannot be read: {cause}")]
    Unreadable {
        /// What.
        what: String,
        /// Why, without any of its content.
        cause: String,
    },
    /// It could not be made durable: disk full, read-only, gone.
    #[error("{what} cannot be saved: {cause}")]
    Unwritable {
        /// What.
        what: String,
        /// Why.
        cause: String,
    },
}

/// One grant as found at start.
#[derive(Debug)]
pub enum LoadedGrant {
    /// A whole record.
    Record(Box<GrantRecord>),
    /// A record that is there and cannot be read. It is set aside and never overwritten silently.
    Unreadable {
        /// Whose record, by its place in the store.
        grant: GrantId,
        /// Why, without any of its content.
        cause: String,
    },
}

/// By what a client registration is known: it is used at no other issuer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RegistrationKey {
    /// The issuer, byte for byte.
    pub issuer: String,
    /// The redirect URIs it was registered with.
    pub redirect_uris: Vec<String>,
    /// Whether it was registered for tokens that are bound to a key (RFC 9449 section 5.2), and may
    /// ask for no others.
    #[serde(default)]
    pub dpop_bound: bool,
}

/// How an attempt in the journal ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "result")]
pub enum JournalOutcome {
    /// New tokens were stored.
    Refreshed {
        /// The refresh token afterwards.
        refresh_token: Option<Fingerprint>,
    },
    /// Another holder of the store had refreshed before.
    Adopted,
    /// The login was changed meanwhile; the answer was thrown away.
    Discarded,
    /// It failed.
    Failed {
        /// How.
        failure: Failure,
        /// Why the login is over since, if it is.
        #[serde(default)]
        ended: Option<LoginEnd>,
    },
}

impl JournalOutcome {
    /// Its name in the API.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Refreshed { .. } => "refreshed",
            Self::Adopted => "adopted",
            Self::Discarded => "discarded",
            Self::Failed { .. } => "failed",
        }
    }
}

/// One attempt in the journal. Safe to paste into a bug report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// Which attempt.
    pub attempt: AttemptId,
    /// When it began.
    pub started_at: Timestamp,
    /// How long the real request took.
    pub duration: Duration,
    /// What caused it.
    pub trigger: String,
    /// The generation it began with.
    pub generation: Generation,
    /// The refresh token that was sent; none by an unattended grant.
    pub refresh_token: Option<Fingerprint>,
    /// What an unattended grant sent of that which is configured, taken together.
    #[serde(default)]
    pub credential: Option<Fingerprint>,
    /// How it ended.
    pub outcome: JournalOutcome,
}

/// Keeps grants, registrations, servers and journals.
///
/// Once a writing method has returned `Ok`, its effect survives a crash of the process and of the
/// machine. Where it returned an error, what was stored before is unchanged.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait TokenStore: Send + Sync {
    /// Every grant there is. One unreadable record hides no other.
    async fn load(&self) -> Result<Vec<LoadedGrant>, StoreError>;

    /// The newest durable record of `grant`.
    async fn read(&self, grant: &GrantId) -> Result<Option<GrantRecord>, StoreError>;

    /// Stores `record` if the stored generation is `expected` (`None`: no record yet).
    ///
    /// Atomic and durable once returned: every later [`TokenStore::read`], also after a crash, sees
    /// this record or a newer one.
    async fn replace(&self, expected: Option<Generation>, record: &GrantRecord) -> Result<(), StoreError>;

    /// Removes `grant` with its journal. Durable once returned; removing what is not there is fine.
    async fn erase(&self, grant: &GrantId) -> Result<(), StoreError>;

    /// Appends to the grant's journal, and drops of it what is [`crate::journal::surplus`], maybe some
    /// entries later. May be lost in a crash.
    async fn append_journal(&self, grant: &GrantId, entry: &JournalEntry) -> Result<(), StoreError>;

    /// The newest `limit` entries of a grant's journal, newest first.
    async fn journal(&self, grant: &GrantId, limit: usize) -> Result<Vec<JournalEntry>, StoreError>;

    /// When the daemon ran, as last noted; empty where it never was.
    async fn runs(&self) -> Result<Runs, StoreError>;

    /// Notes when the daemon ran. Survives the process; may be lost in a crash of the machine.
    async fn put_runs(&self, runs: &Runs) -> Result<(), StoreError>;

    /// The servers that were added at run time.
    async fn servers(&self) -> Result<Vec<ServerSettings>, StoreError>;

    /// Stores a server, or replaces the one of that name. Durable once returned.
    async fn put_server(&self, server: &ServerSettings) -> Result<(), StoreError>;

    /// Removes a server's settings. Durable once returned.
    async fn erase_server(&self, server: &ServerName) -> Result<(), StoreError>;

    /// The registration under `key`.
    async fn registration(&self, key: &RegistrationKey) -> Result<Option<ClientRegistration>, StoreError>;

    /// Stores a registration. Durable once returned.
    async fn put_registration(
        &self,
        key: &RegistrationKey,
        registration: &ClientRegistration,
    ) -> Result<(), StoreError>;

    /// Forgets a registration that its issuer does not know any more.
    async fn erase_registration(&self, key: &RegistrationKey) -> Result<(), StoreError>;

    /// What is wrong with the store as such, in words with the fix; empty when all is well.
    fn warnings(&self) -> Vec<String>;
}
