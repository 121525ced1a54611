//! The store in a storm: it fails, it is slow, and the process may die before or after each write.

use std::time::Duration;

use async_trait::async_trait;
use everfresh_application::ServerSettings;
use everfresh_application::ports::{JournalEntry, LoadedGrant, RegistrationKey, StoreError, TokenStore};
use everfresh_domain::grant::ClientRegistration;
use everfresh_domain::timeline::Runs;
use everfresh_domain::{Generation, GrantId, GrantRecord, LoginEnd, ServerName};

use super::world::{Missing, Shared, World};
use crate::memory::MemoryStore;
use crate::sim::Invariant;

pub(super) struct StormDisk {
    shared: Shared,
    disk: MemoryStore,
}

impl StormDisk {
    pub(super) fn new(shared: &Shared) -> Self {
        Self { shared: shared.clone(), disk: shared.with(|world| world.disk.clone()) }
    }

    async fn read_from(&self, what: &str) {
        self.shared.boundary(&format!("before {what}")).await;
        tokio::time::sleep(self.shared.with(delay)).await;
    }

    /// A write begins. A torn one is as if it had not been: what was stored before is still there.
    async fn write_to(&self, what: &str) -> Result<(), StoreError> {
        self.read_from(what).await;
        let full = self.shared.with(|world| world.now() < world.disk_full_until);
        if full {
            return Err(StoreError::Unwritable { what: what.to_owned(), cause: "the disk is full".into() });
        }
        Ok(())
    }

    async fn written(&self, what: &str) {
        self.shared.boundary(&format!("after {what}")).await;
    }
}

fn unreadable(grant: &GrantId) -> StoreError {
    StoreError::Unreadable { what: format!("the record of {grant}"), cause: "as the weather has it".into() }
}

fn delay(world: &mut World) -> Duration {
    if world.now() < world.disk_slow_until { world.milliseconds(100, 8_000) } else { world.milliseconds(0, 5) }
}

/// What is stored must follow from what was; the end of a login is judged.
fn stored(world: &mut World, before: Option<&GrantRecord>, next: &GrantRecord) {
    if let Some(before) = before.filter(|before| before.generation > next.generation) {
        let (from, to) = (before.generation, next.generation);
        let what = format!("{} falls from {from} to {to}", next.id);
        return world.breaks(Invariant::GenerationNeverFalls, what);
    }
    let refresh_token = |record: &GrantRecord| {
        record.tokens.as_ref().and_then(|tokens| tokens.refresh_token.as_ref()).map(|token| token.fingerprint())
    };
    let new = refresh_token(next);
    let known = |record: &GrantRecord| record.tokens.is_some();
    if before.is_some_and(known) && known(next) && new.is_none() {
        return world.breaks(Invariant::RefreshTokenKept, format!("the refresh token of {} is gone", next.id));
    }
    let is_new_login = before.is_none_or(|before| before.logged_in_at != next.logged_in_at);
    let now = world.now();
    let book = world.book(&next.id);
    if is_new_login && known(next) {
        (book.missing, book.last_start, book.token_since) = (None, None, now);
    } else if let Some(Missing { issued_at, .. }) = book.missing.take_if(|missing| Some(missing.token) == new) {
        book.token_since = issued_at;
    }
    if let (true, Some(end)) = (before.is_none_or(|before| before.ended != next.ended), &next.ended) {
        judge(world, next, end);
    }
}

/// A login is over, for the reason that is told?
fn judge(world: &mut World, record: &GrantRecord, end: &LoginEnd) {
    let grant = &record.id;
    let provider = world.book(grant).provider;
    let holds = match end {
        LoginEnd::Refused { .. } | LoginEnd::RotationLost { .. } => return world.judge(grant, end),
        LoginEnd::ClientRejected { .. } => {
            let client = &record.binding.client.client_id;
            let purged = !world.model(provider, |model| model.knows_client(client));
            world.counts_purged(purged);
            purged
        }
        LoginEnd::LoggedOut => std::mem::take(&mut world.book(grant).logs_out),
        // The server's place is no property of the login, and is not stored with it.
        LoginEnd::IssuerChanged { .. } => false,
        // Everybody here is a person.
        LoginEnd::CredentialRefused { .. } => false,
    };
    if !holds {
        world.breaks(Invariant::EndedForCause, format!("{grant} ended, and it is not so: {end:?}"));
    }
}

#[async_trait]
impl TokenStore for StormDisk {
    async fn load(&self) -> Result<Vec<LoadedGrant>, StoreError> {
        self.read_from("loading").await;
        let loaded = self.disk.load().await?;
        let seen = |loaded| match loaded {
            LoadedGrant::Record(record) if self.shared.with(|world| world.is_blind_to(&record.id)) => {
                LoadedGrant::Unreadable { grant: record.id, cause: "as the weather has it".into() }
            }
            LoadedGrant::Record(_) | LoadedGrant::Unreadable { .. } => loaded,
        };
        Ok(loaded.into_iter().map(seen).collect())
    }

    async fn read(&self, grant: &GrantId) -> Result<Option<GrantRecord>, StoreError> {
        self.read_from("reading").await;
        if self.shared.with(|world| world.fails_to_read(grant)) {
            return Err(unreadable(grant));
        }
        self.disk.read(grant).await
    }

    async fn replace(&self, expected: Option<Generation>, record: &GrantRecord) -> Result<(), StoreError> {
        let what = format!("writing {} {}", record.id, record.generation);
        self.write_to(&what).await?;
        let before = self.disk.on_disk(&record.id);
        if self.shared.with(|world| world.is_damaged(&record.id)) {
            if expected.is_none() {
                let what = format!("a record of {} is written over one that cannot be read", record.id);
                self.shared.breaks(Invariant::UnreadableIsNotEmpty, what);
            }
            return Err(unreadable(&record.id));
        }
        self.disk.replace(expected, record).await?;
        self.shared.with(|world| stored(world, before.as_ref(), record));
        self.written(&what).await;
        Ok(())
    }

    async fn erase(&self, grant: &GrantId) -> Result<(), StoreError> {
        self.write_to("erasing").await?;
        self.disk.erase(grant).await?;
        self.written("erasing").await;
        Ok(())
    }

    async fn append_journal(&self, _grant: &GrantId, _entry: &JournalEntry) -> Result<(), StoreError> {
        self.write_to("the journal").await
    }

    async fn journal(&self, grant: &GrantId, limit: usize) -> Result<Vec<JournalEntry>, StoreError> {
        self.disk.journal(grant, limit).await
    }

    async fn runs(&self) -> Result<Runs, StoreError> {
        self.disk.runs().await
    }

    async fn put_runs(&self, runs: &Runs) -> Result<(), StoreError> {
        self.disk.put_runs(runs).await
    }

    async fn servers(&self) -> Result<Vec<ServerSettings>, StoreError> {
        self.read_from("reading servers").await;
        self.disk.servers().await
    }

    async fn put_server(&self, server: &ServerSettings) -> Result<(), StoreError> {
        self.write_to("a server").await?;
        self.disk.put_server(server).await?;
        self.written("a server").await;
        Ok(())
    }

    async fn erase_server(&self, server: &ServerName) -> Result<(), StoreError> {
        self.write_to("erasing a server").await?;
        self.disk.erase_server(server).await?;
        self.written("erasing a server").await;
        Ok(())
    }

    async fn registration(&self, key: &RegistrationKey) -> Result<Option<ClientRegistration>, StoreError> {
        self.read_from("a registration").await;
        self.disk.registration(key).await
    }

    async fn put_registration(
        &self,
        key: &RegistrationKey,
        registration: &ClientRegistration,
    ) -> Result<(), StoreError> {
        self.write_to("a registration").await?;
        self.disk.put_registration(key, registration).await?;
        self.written("a registration").await;
        Ok(())
    }

    async fn erase_registration(&self, key: &RegistrationKey) -> Result<(), StoreError> {
        self.write_to("erasing a registration").await?;
        self.disk.erase_registration(key).await?;
        self.written("erasing a registration").await;
        Ok(())
    }

    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}
