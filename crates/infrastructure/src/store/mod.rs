//! The embedded store: sled, and beside it one sealed file for each record.
//!
//! Each copy is durable before a write counts, and the newer one wins at the next start: no single
//! damaged file, and no weakness of sled, loses a login. See `docs/STORAGE.md`.
//!
//! It keeps no clock and takes no decision: what a record means is the domain's.

mod aside;
pub mod disk;
mod index;
mod keeper;
mod opening;
mod seal;
mod tree;

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing {
    //! Sealed bytes, as fuzzing reaches them.

    use everfresh_application::ports::Entropy;
    use everfresh_domain::Generation;

    use super::seal::{Sealer, Version, version_of};
    use super::tree;
    use crate::custody::MasterKey;

    pub(crate) fn journal_key(bytes: &[u8]) {
        assert_eq!(tree::number_in(bytes).is_some(), bytes.len() >= 8);
    }

    pub(crate) fn sealed(bytes: &[u8], entropy: &dyn Entropy, generation: Generation) {
        let sealer = Sealer::new(&MasterKey::from_bytes([3; 32]));
        let told = version_of(bytes);
        assert!(told.is_err() || bytes.len() >= 22, "{told:?}");
        assert!(sealer.open("grant.linear", bytes).is_err(), "foreign bytes are opened");
        let version = Version { generation, writes: 41 };
        let sealed = sealer.seal(entropy, "grant.linear", version, bytes);
        assert_eq!(version_of(&sealed), Ok(version));
        assert!(sealer.open("grant.linear", &sealed).is_ok_and(|opened| **opened == *bytes));
    }
}

use std::fs::File;
use std::path::Path;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use async_trait::async_trait;
use everfresh_application::ServerSettings;
use everfresh_application::ports::{
    Clock, Entropy, JournalEntry, LoadedGrant, NoticeStore, RegistrationKey, StoreError, TokenStore,
};
use everfresh_domain::grant::ClientRegistration;
use everfresh_domain::notice::ledger::Ledger;
use everfresh_domain::timeline::Runs;
use everfresh_domain::{Generation, GrantId, GrantRecord, ServerName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use crate::custody::MasterKey;
use disk::{Disk, RealDisk};
use index::{Entry, Index};
use keeper::{Change, Expected, NotWritten, Order};
pub use opening::{OpenError, has_records, recorded_names};
use seal::Sealer;

const GRANT: &str = "grant.";
const SERVER: &str = "server.";
const CLIENT: &str = "client.";

/// The one record of what was told. Its name is no grant's: those have a prefix.
const NOTICES: &str = "notices";

/// The store of one data folder. Only one process has it at a time.
pub struct SledStore {
    orders: Sender<Order>,
    sealer: Arc<Sealer>,
    index: Arc<RwLock<Index>>,
    warnings: Arc<Mutex<Vec<String>>>,
    keeper: Option<JoinHandle<()>>,
    _lock: File,
}

impl SledStore {
    /// Opens the store in `folder`, or makes it there.
    pub fn open(
        folder: &Path,
        key: &MasterKey,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, OpenError> {
        Self::open_on(Arc::new(RealDisk), folder, key, clock, entropy)
    }

    /// The same on a disk that a test can make fail.
    pub fn open_on(
        disk: Arc<dyn Disk>,
        folder: &Path,
        key: &MasterKey,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, OpenError> {
        let opening::Opened { lock, keeper } = opening::open(folder, key, clock, entropy, disk)?;
        let (orders, received) = mpsc::channel();
        let (sealer, index, warnings) =
            (Arc::clone(&keeper.sealer), Arc::clone(&keeper.index), Arc::clone(&keeper.warnings));
        let unusable = |cause| OpenError::Unusable { path: folder.to_owned(), cause };
        let thread = std::thread::Builder::new().name("store".into()).stack_size(KEEPER_STACK);
        let keeper = thread.spawn(move || keeper.run(&received)).map_err(unusable)?;
        Ok(Self { orders, sealer, index, warnings, keeper: Some(keeper), _lock: lock })
    }

    async fn change(&self, change: Change) -> Result<(), NotWritten> {
        let (done, answer) = oneshot::channel();
        let closed = || NotWritten::Disk(CLOSED.to_owned());
        self.orders.send(Order::Change(change, done)).map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    async fn put<T: Serialize>(
        &self,
        what: String,
        name: String,
        expected: Expected,
        generation: Generation,
        value: &T,
    ) -> Result<(), NotWritten> {
        let body = serde_json::to_vec(value).map_err(|error| NotWritten::Disk(format!("{what}: {error}")))?;
        self.change(Change::Put { name, expected, generation, body: Zeroizing::new(body) }).await
    }

    fn entry(&self, name: &str) -> Option<Entry> {
        self.index.read().unwrap_or_else(PoisonError::into_inner).entry(name).cloned()
    }

    fn entries(&self, prefix: &str) -> Vec<(String, Entry)> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        index.with_prefix(prefix).map(|(name, entry)| (name.clone(), entry.clone())).collect()
    }

    fn value<T: DeserializeOwned>(&self, name: &str, entry: &Entry) -> Result<T, String> {
        match entry {
            Entry::Unreadable { cause } => Err(cause.to_string()),
            Entry::Sealed { bytes, .. } => {
                let body = self.sealer.open(name, bytes).map_err(|error| error.to_string())?;
                // serde's own message may quote what it read.
                serde_json::from_slice(&body)
                    .map_err(|error| format!("its content is not as expected: {}", place(&error)))
            }
        }
    }

    fn stored<T: DeserializeOwned>(&self, what: &str, name: &str) -> Result<Option<T>, StoreError> {
        let Some(entry) = self.entry(name) else { return Ok(None) };
        let value = self.value(name, &entry);
        value.map(Some).map_err(|cause| StoreError::Unreadable { what: what.to_owned(), cause })
    }
}

const CLOSED: &str = "the store is closed";
const RUNS: &str = "when everfresh ran";

/// The keeper's stack: sled recurses little, and threads should cost little.
const KEEPER_STACK: usize = 1 << 20;

fn place(error: &serde_json::Error) -> String {
    format!("line {} column {}", error.line(), error.column())
}

impl Drop for SledStore {
    fn drop(&mut self) {
        drop(self.orders.send(Order::Close));
        if let Some(keeper) = self.keeper.take() {
            drop(keeper.join());
        }
    }
}

fn grant_name(grant: &GrantId) -> String {
    format!("{GRANT}{grant}")
}

fn server_name(server: &ServerName) -> String {
    format!("{SERVER}{server}")
}

/// Issuers are no file names: a digest of the key is.
fn client_name(key: &RegistrationKey) -> String {
    let mut digest = Sha256::new();
    for part in std::iter::once(&key.issuer).chain(&key.redirect_uris) {
        digest.update(part.as_bytes());
        digest.update([0]);
    }
    if key.dpop_bound {
        digest.update(b"dpop");
    }
    format!("{CLIENT}{}", hex::encode(&digest.finalize()[..16]))
}

fn unwritable(what: &str) -> impl FnOnce(NotWritten) -> StoreError {
    let what = what.to_owned();
    move |error| match error {
        NotWritten::Disk(cause) => StoreError::Unwritable { what, cause },
        NotWritten::Unreadable(cause) => StoreError::Unreadable { what, cause: cause.to_string() },
        NotWritten::Conflict(_) => StoreError::Unwritable { what, cause: "it has changed meanwhile".to_owned() },
    }
}

#[async_trait]
impl TokenStore for SledStore {
    async fn load(&self) -> Result<Vec<LoadedGrant>, StoreError> {
        let mut loaded = Vec::new();
        for (name, entry) in self.entries(GRANT) {
            let Some(grant) = name.strip_prefix(GRANT).and_then(|grant| grant.parse::<GrantId>().ok()) else {
                tracing::warn!(name, "a record has a name that no login has");
                continue;
            };
            loaded.push(match self.value::<GrantRecord>(&name, &entry) {
                Ok(record) => LoadedGrant::Record(Box::new(record)),
                Err(cause) => LoadedGrant::Unreadable { grant, cause },
            });
        }
        Ok(loaded)
    }

    async fn read(&self, grant: &GrantId) -> Result<Option<GrantRecord>, StoreError> {
        self.stored(&format!("the record of {grant}"), &grant_name(grant))
    }

    async fn replace(&self, expected: Option<Generation>, record: &GrantRecord) -> Result<(), StoreError> {
        let what = format!("the record of {}", record.id);
        let (name, demand) = (grant_name(&record.id), Expected::Generation(expected));
        self.put(what.clone(), name, demand, record.generation, record).await.map_err(|error| match error {
            NotWritten::Conflict(stored) => StoreError::Conflict { grant: record.id.clone(), stored },
            NotWritten::Unreadable(_) | NotWritten::Disk(_) => unwritable(&what)(error),
        })
    }

    async fn erase(&self, grant: &GrantId) -> Result<(), StoreError> {
        let what = format!("the record of {grant}");
        self.change(Change::Remove { name: grant_name(grant) }).await.map_err(unwritable(&what))?;
        drop(self.orders.send(Order::ForgetJournal { grant: grant.to_string() }));
        Ok(())
    }

    async fn append_journal(&self, grant: &GrantId, entry: &JournalEntry) -> Result<(), StoreError> {
        let what = format!("the journal of {grant}");
        let unwritable = |cause: String| StoreError::Unwritable { what: what.clone(), cause };
        let entry = serde_json::to_vec(entry).map_err(|error| unwritable(error.to_string()))?;
        let (done, answer) = oneshot::channel();
        drop(self.orders.send(Order::Append { grant: grant.to_string(), entry, done }));
        answer.await.unwrap_or_else(|_| Err(CLOSED.to_owned())).map_err(unwritable)
    }

    async fn journal(&self, grant: &GrantId, limit: usize) -> Result<Vec<JournalEntry>, StoreError> {
        let what = format!("the journal of {grant}");
        let unreadable = |cause: String| StoreError::Unreadable { what, cause };
        let (done, answer) = oneshot::channel();
        drop(self.orders.send(Order::Journal { grant: grant.to_string(), limit, done }));
        let entries = answer.await.unwrap_or_else(|_| Err(CLOSED.to_owned())).map_err(unreadable)?;
        Ok(entries.iter().filter_map(|entry| serde_json::from_slice(entry).ok()).collect())
    }

    async fn runs(&self) -> Result<Runs, StoreError> {
        let unreadable = |cause: String| StoreError::Unreadable { what: RUNS.to_owned(), cause };
        let (done, answer) = oneshot::channel();
        drop(self.orders.send(Order::Runs { done }));
        let read = answer.await.map_err(|_| unreadable(CLOSED.to_owned()))?;
        let Some(json) = read.map_err(|error| unreadable(error.to_string()))? else { return Ok(Runs::default()) };
        serde_json::from_slice(&json).map_err(|error| unreadable(place(&error)))
    }

    async fn put_runs(&self, runs: &Runs) -> Result<(), StoreError> {
        let unwritable = |cause: String| StoreError::Unwritable { what: RUNS.to_owned(), cause };
        let runs = serde_json::to_vec(runs).map_err(|error| unwritable(error.to_string()))?;
        let (done, answer) = oneshot::channel();
        drop(self.orders.send(Order::PutRuns { runs, done }));
        let written = answer.await.map_err(|_| unwritable(CLOSED.to_owned()))?;
        written.map_err(|error| unwritable(error.to_string()))
    }

    async fn servers(&self) -> Result<Vec<ServerSettings>, StoreError> {
        let mut servers = Vec::new();
        for (name, entry) in self.entries(SERVER) {
            match self.value(&name, &entry) {
                Ok(server) => servers.push(server),
                Err(cause) => tracing::error!(name, cause, "the settings of a server cannot be read"),
            }
        }
        Ok(servers)
    }

    async fn put_server(&self, server: &ServerSettings) -> Result<(), StoreError> {
        let what = format!("the server {}", server.name);
        let name = server_name(&server.name);
        let put = self.put(what.clone(), name, Expected::Anything, Generation::default(), server);
        put.await.map_err(unwritable(&what))
    }

    async fn erase_server(&self, server: &ServerName) -> Result<(), StoreError> {
        let what = format!("the server {server}");
        self.change(Change::Remove { name: server_name(server) }).await.map_err(unwritable(&what))
    }

    async fn registration(&self, key: &RegistrationKey) -> Result<Option<ClientRegistration>, StoreError> {
        self.stored(&format!("the client registration at {}", key.issuer), &client_name(key))
    }

    async fn put_registration(
        &self,
        key: &RegistrationKey,
        registration: &ClientRegistration,
    ) -> Result<(), StoreError> {
        let what = format!("the client registration at {}", key.issuer);
        let name = client_name(key);
        let put = self.put(what.clone(), name, Expected::Anything, Generation::default(), registration);
        put.await.map_err(unwritable(&what))
    }

    async fn erase_registration(&self, key: &RegistrationKey) -> Result<(), StoreError> {
        let what = format!("the client registration at {}", key.issuer);
        self.change(Change::Remove { name: client_name(key) }).await.map_err(unwritable(&what))
    }

    fn warnings(&self) -> Vec<String> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl NoticeStore for SledStore {
    async fn notices(&self) -> Result<Option<Ledger>, StoreError> {
        self.stored("the record of what was told", NOTICES)
    }

    async fn put_notices(&self, ledger: &Ledger) -> Result<(), StoreError> {
        let what = "the record of what was told";
        let put = self.put(what.to_owned(), NOTICES.to_owned(), Expected::Anything, Generation::default(), ledger);
        put.await.map_err(unwritable(what))
    }
}
