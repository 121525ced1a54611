//! A store in memory that can fail, and that survives the crash of its process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use everfresh_application::ServerSettings;
use everfresh_application::ports::{
    JournalEntry, KeyFileError, KeyFiles, LoadedGrant, NoticeStore, RegistrationKey, StoreError, TokenStore,
};
use everfresh_domain::grant::ClientRegistration;
use everfresh_domain::notice::ledger::Ledger;
use everfresh_domain::timeline::Runs;
use everfresh_domain::{Generation, GrantId, GrantRecord, LimitedKey, Secret, ServerName};

#[derive(Default)]
struct Disk {
    grants: BTreeMap<GrantId, GrantRecord>,
    journals: BTreeMap<GrantId, Vec<JournalEntry>>,
    runs: Runs,
    servers: BTreeMap<ServerName, ServerSettings>,
    registrations: BTreeMap<RegistrationKey, ClientRegistration>,
    notices: Option<Ledger>,
    /// Every record that was stored, in order.
    history: Vec<GrantRecord>,
    write_error: Option<String>,
    unerasable: Option<GrantId>,
}

impl Disk {
    /// Whether this write fails, and why.
    fn write(&self, what: &str) -> Result<(), StoreError> {
        let unwritable = |cause: String| StoreError::Unwritable { what: what.to_owned(), cause };
        self.write_error.clone().map_or(Ok(()), |cause| Err(unwritable(cause)))
    }
}

/// The store. Cloning shares the disk, as a new process on the same machine would.
#[derive(Clone, Default)]
pub struct MemoryStore {
    disk: Arc<Mutex<Disk>>,
}

impl MemoryStore {
    /// Every write fails with `cause`, or none does.
    pub fn fail_writes(&self, cause: Option<&str>) {
        self.lock().write_error = cause.map(str::to_owned);
    }

    /// This grant cannot be erased, or each can.
    pub fn fail_erasing(&self, grant: Option<&GrantId>) {
        self.lock().unerasable = grant.cloned();
    }

    /// The record of `grant` as it is on the disk.
    pub fn on_disk(&self, grant: &GrantId) -> Option<GrantRecord> {
        self.lock().grants.get(grant).cloned()
    }

    /// Puts a record there as if it had always been.
    pub fn put(&self, record: GrantRecord) {
        self.lock().grants.insert(record.id.clone(), record);
    }

    /// Every record that was stored, in order.
    pub fn history(&self) -> Vec<GrantRecord> {
        self.lock().history.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl TokenStore for MemoryStore {
    async fn load(&self) -> Result<Vec<LoadedGrant>, StoreError> {
        Ok(self.lock().grants.values().cloned().map(|record| LoadedGrant::Record(Box::new(record))).collect())
    }

    async fn read(&self, grant: &GrantId) -> Result<Option<GrantRecord>, StoreError> {
        Ok(self.on_disk(grant))
    }

    async fn replace(&self, expected: Option<Generation>, record: &GrantRecord) -> Result<(), StoreError> {
        let mut disk = self.lock();
        let stored = disk.grants.get(&record.id).map(|record| record.generation);
        if stored != expected {
            return Err(StoreError::Conflict { grant: record.id.clone(), stored });
        }
        disk.write(&format!("the record of {}", record.id))?;
        disk.history.push(record.clone());
        disk.grants.insert(record.id.clone(), record.clone());
        Ok(())
    }

    async fn erase(&self, grant: &GrantId) -> Result<(), StoreError> {
        let mut disk = self.lock();
        disk.write(&format!("the record of {grant}"))?;
        if disk.unerasable.as_ref() == Some(grant) {
            return Err(StoreError::Unwritable {
                what: format!("the record of {grant}"),
                cause: "no space left".into(),
            });
        }
        disk.grants.remove(grant);
        disk.journals.remove(grant);
        Ok(())
    }

    async fn append_journal(&self, grant: &GrantId, entry: &JournalEntry) -> Result<(), StoreError> {
        self.lock().journals.entry(grant.clone()).or_default().push(entry.clone());
        Ok(())
    }

    async fn journal(&self, grant: &GrantId, limit: usize) -> Result<Vec<JournalEntry>, StoreError> {
        let disk = self.lock();
        Ok(disk.journals.get(grant).into_iter().flatten().rev().take(limit).cloned().collect())
    }

    async fn runs(&self) -> Result<Runs, StoreError> {
        Ok(self.lock().runs.clone())
    }

    async fn put_runs(&self, runs: &Runs) -> Result<(), StoreError> {
        self.lock().runs = runs.clone();
        Ok(())
    }

    async fn servers(&self) -> Result<Vec<ServerSettings>, StoreError> {
        Ok(self.lock().servers.values().cloned().collect())
    }

    async fn put_server(&self, server: &ServerSettings) -> Result<(), StoreError> {
        // Others go on while a disk writes.
        tokio::task::yield_now().await;
        let mut disk = self.lock();
        disk.write(&format!("the server {}", server.name))?;
        disk.servers.insert(server.name.clone(), server.clone());
        Ok(())
    }

    async fn erase_server(&self, server: &ServerName) -> Result<(), StoreError> {
        // Others go on while a disk writes.
        tokio::task::yield_now().await;
        let mut disk = self.lock();
        disk.write(&format!("the server {server}"))?;
        disk.servers.remove(server);
        Ok(())
    }

    async fn registration(&self, key: &RegistrationKey) -> Result<Option<ClientRegistration>, StoreError> {
        Ok(self.lock().registrations.get(key).cloned())
    }

    async fn put_registration(
        &self,
        key: &RegistrationKey,
        registration: &ClientRegistration,
    ) -> Result<(), StoreError> {
        let mut disk = self.lock();
        disk.write("a registration")?;
        disk.registrations.insert(key.clone(), registration.clone());
        Ok(())
    }

    async fn erase_registration(&self, key: &RegistrationKey) -> Result<(), StoreError> {
        let mut disk = self.lock();
        disk.write("a registration")?;
        disk.registrations.remove(key);
        Ok(())
    }

    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}

#[async_trait]
impl NoticeStore for MemoryStore {
    async fn notices(&self) -> Result<Option<Ledger>, StoreError> {
        Ok(self.lock().notices.clone())
    }

    async fn put_notices(&self, ledger: &Ledger) -> Result<(), StoreError> {
        let mut disk = self.lock();
        disk.write("what was told")?;
        disk.notices = Some(ledger.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::store::{Subject, all};

    impl Subject for MemoryStore {
        fn store(&self) -> Arc<dyn TokenStore> {
            Arc::new(self.clone())
        }

        async fn reopen(self) -> Self {
            self
        }
    }

    #[tokio::test]
    async fn it_keeps_the_contract_of_a_token_store() {
        all(|| async { MemoryStore::default() }).await;
    }
}

#[derive(Default)]
struct KeyDisk {
    limited: Vec<LimitedKey>,
    local: Option<Secret>,
    read_error: Option<String>,
    write_error: Option<String>,
}

/// Key files in memory that can fail. Cloning shares them, as a new process would.
#[derive(Clone, Default)]
pub struct MemoryKeys {
    disk: Arc<Mutex<KeyDisk>>,
}

impl MemoryKeys {
    /// Every read fails with `cause`, or none does.
    pub fn fail_reads(&self, cause: Option<&str>) {
        self.lock().read_error = cause.map(str::to_owned);
    }

    /// Every write fails with `cause`, or none does.
    pub fn fail_writes(&self, cause: Option<&str>) {
        self.lock().write_error = cause.map(str::to_owned);
    }

    /// The limited keys as they are on the disk.
    pub fn limited(&self) -> Vec<LimitedKey> {
        self.lock().limited.clone()
    }

    /// The full local key as it was kept last.
    pub fn local(&self) -> Option<Secret> {
        self.lock().local.clone()
    }

    fn lock(&self) -> MutexGuard<'_, KeyDisk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, change: impl FnOnce(&mut KeyDisk)) -> Result<(), KeyFileError> {
        let mut disk = self.lock();
        if let Some(cause) = disk.write_error.clone() {
            return Err(KeyFileError::Unwritable { place: "memory".to_owned(), cause });
        }
        change(&mut disk);
        Ok(())
    }
}

#[async_trait]
impl KeyFiles for MemoryKeys {
    async fn load(&self) -> Result<Vec<LimitedKey>, KeyFileError> {
        let disk = self.lock();
        match disk.read_error.clone() {
            Some(cause) => Err(KeyFileError::Unreadable { place: "memory".to_owned(), cause }),
            None => Ok(disk.limited.clone()),
        }
    }

    async fn save(&self, keys: &[LimitedKey]) -> Result<(), KeyFileError> {
        self.write(|disk| disk.limited = keys.to_vec())
    }

    async fn save_local_key(&self, key: &Secret) -> Result<(), KeyFileError> {
        self.write(|disk| disk.local = Some(key.clone()))
    }
}
