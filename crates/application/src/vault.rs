//! Records on their way to the store. Persist, then publish; and where persisting fails, keep.
//!
//! What the store does not take stays here, is served from here, and is written again and again
//! until the store takes it or a newer record makes it void.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use everfresh_domain::{Event, Generation, GrantId, GrantRecord};
use tokio::task::JoinSet;

use crate::driver::Mailbox;
use crate::ports::{Metrics, StoreError, TokenStore};

/// The first wait before a failed write is tried again; it doubles up to [`RETRY_MAX`].
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(15);

/// How long a shutdown waits for writes that fail.
const LAST_CHANCE: Duration = Duration::from_secs(10);

/// A record that the store has not taken yet, and the generation that the store still has.
#[derive(Clone)]
struct Unsaved {
    stored: Option<Generation>,
    record: GrantRecord,
}

pub(crate) struct Vault {
    store: Arc<dyn TokenStore>,
    metrics: Arc<dyn Metrics>,
    mailbox: Mailbox,
    unsaved: Mutex<BTreeMap<GrantId, Unsaved>>,
    saving: Mutex<JoinSet<()>>,
}

impl Vault {
    pub(crate) fn new(store: Arc<dyn TokenStore>, metrics: Arc<dyn Metrics>, mailbox: Mailbox) -> Self {
        Self { store, metrics, mailbox, unsaved: Mutex::default(), saving: Mutex::default() }
    }

    /// The newest record: the one the store has not taken yet, else the stored one.
    pub(crate) async fn read(&self, grant: &GrantId) -> Result<Option<GrantRecord>, StoreError> {
        if let Some(unsaved) = self.unsaved(grant) {
            return Ok(Some(unsaved.record));
        }
        self.store.read(grant).await
    }

    /// Stores `record` where the newest one is of generation `expected`. Durable once returned.
    pub(crate) async fn replace(&self, expected: Option<Generation>, record: &GrantRecord) -> Result<(), StoreError> {
        let unsaved = self.unsaved(&record.id);
        let newest = unsaved.as_ref().map(|unsaved| unsaved.record.generation);
        if newest.is_some() && newest != expected {
            return Err(StoreError::Conflict { grant: record.id.clone(), stored: newest });
        }
        let stored = unsaved.map_or(expected, |unsaved| unsaved.stored);
        let written = self.store.replace(stored, record).await;
        match &written {
            Ok(()) => self.forget_unsaved(record),
            Err(StoreError::Conflict { .. }) => {}
            Err(StoreError::Unreadable { .. } | StoreError::Unwritable { .. }) => self.metrics.store_failed("replace"),
        }
        written
    }

    /// Removes the grant, with whatever was not saved of it. Where that fails nothing is lost.
    pub(crate) async fn erase(self: &Arc<Self>, grant: &GrantId) -> Result<(), StoreError> {
        let unsaved = self.lock_unsaved().remove(grant);
        let erased = self.store.erase(grant).await;
        if let (Err(_), Some(Unsaved { stored, record })) = (&erased, unsaved) {
            self.save_later(stored, record);
        }
        erased
    }

    /// Keeps a record that the store did not take, and writes it again until it does.
    pub(crate) fn save_later(self: &Arc<Self>, expected: Option<Generation>, record: GrantRecord) {
        let grant = record.id.clone();
        let stored = self.unsaved(&grant).map_or(expected, |unsaved| unsaved.stored);
        self.lock_unsaved().insert(grant.clone(), Unsaved { stored, record });
        let vault = Arc::clone(self);
        let mut saving = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        while saving.try_join_next().is_some() {}
        saving.spawn(async move { vault.keep_saving(grant).await });
    }

    async fn keep_saving(&self, grant: GrantId) {
        let mut wait = RETRY_FIRST;
        loop {
            tokio::time::sleep(wait).await;
            wait = wait.saturating_mul(2).min(RETRY_MAX);
            let Some(unsaved) = self.unsaved(&grant) else { return };
            match self.store.replace(unsaved.stored, &unsaved.record).await {
                Ok(()) => {
                    self.forget_unsaved(&unsaved.record);
                    tracing::info!(server = %grant, generation = %unsaved.record.generation, "a token that could not be saved is saved");
                    self.mailbox.try_tell(Event::Saved { grant, generation: unsaved.record.generation });
                    return;
                }
                Err(StoreError::Conflict { .. }) => {
                    self.forget_unsaved(&unsaved.record);
                    return;
                }
                Err(error) => {
                    self.metrics.store_failed("replace");
                    tracing::error!(server = %grant, %error, "a new token is still not saved");
                }
            }
        }
    }

    /// Gives writes that failed a last chance before the process ends.
    pub(crate) async fn settle(&self) {
        let mut saving = std::mem::take(&mut *self.saving.lock().unwrap_or_else(PoisonError::into_inner));
        let all = async { while saving.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_CHANCE, all).await.is_err() {
            let lost: Vec<String> = self.lock_unsaved().keys().map(ToString::to_string).collect();
            tracing::error!(servers = lost.join(", "), "new tokens could not be saved before the end");
        }
    }

    fn unsaved(&self, grant: &GrantId) -> Option<Unsaved> {
        self.lock_unsaved().get(grant).cloned()
    }

    fn forget_unsaved(&self, saved: &GrantRecord) {
        let mut unsaved = self.lock_unsaved();
        if unsaved.get(&saved.id).is_some_and(|kept| kept.record.generation <= saved.generation) {
            unsaved.remove(&saved.id);
        }
    }

    fn lock_unsaved(&self) -> std::sync::MutexGuard<'_, BTreeMap<GrantId, Unsaved>> {
        self.unsaved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
