//! Backups: everything that outlives the process, but the journals, taken out of a store and put back.
//!
//! Both need the store for themselves, without a daemon: a backup of a login that goes on being
//! refreshed is stale within hours, and a login that is put back over a newer one would be lost.
//! Nothing newer is ever overwritten.

use std::collections::BTreeMap;

use everfresh_domain::grant::ClientRegistration;
use everfresh_domain::{GrantId, GrantRecord, ServerName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::ports::{LoadedGrant, RegistrationKey, StoreError, TokenStore};
use crate::settings::ServerSettings;

/// The layout that this program writes.
pub const FORMAT: u32 = 1;

/// What a store holds. It has all secrets in clear: it is sealed before it leaves memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// The layout; a newer one is not read.
    pub format: u32,
    /// When it was taken.
    pub taken_at: Timestamp,
    /// The servers that were added at run time.
    pub servers: Vec<ServerSettings>,
    /// The logins.
    pub grants: Vec<GrantRecord>,
    /// The clients that were registered for them.
    pub registrations: Vec<(RegistrationKey, ClientRegistration)>,
}

/// What became of one login of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutBack {
    /// It is there again.
    Restored,
    /// The store has the same or a newer one, which stays.
    Newer,
}

impl Backup {
    /// Takes everything out of `store`. What cannot be read is named beside it, and left out.
    pub async fn take(store: &dyn TokenStore, taken_at: Timestamp) -> Result<(Self, Vec<GrantId>), StoreError> {
        let (mut grants, mut unreadable) = (Vec::new(), Vec::new());
        let mut registrations = BTreeMap::new();
        for loaded in store.load().await? {
            match loaded {
                LoadedGrant::Record(record) => grants.push(*record),
                LoadedGrant::Unreadable { grant, .. } => unreadable.push(grant),
            }
        }
        for record in &grants {
            let key = key_of(record);
            if let Ok(Some(registration)) = store.registration(&key).await {
                registrations.insert(key, registration);
            }
        }
        let servers = store.servers().await?;
        let registrations = registrations.into_iter().collect();
        Ok((Self { format: FORMAT, taken_at, servers, grants, registrations }, unreadable))
    }

    /// Puts everything back into `store`, but for what is as new there or newer. Says so of each login,
    /// and which servers differ from those that are there, which stay.
    pub async fn put_back(
        &self,
        store: &dyn TokenStore,
    ) -> Result<(Vec<(GrantId, PutBack)>, Vec<ServerName>), StoreError> {
        let there: BTreeMap<ServerName, ServerSettings> =
            store.servers().await?.into_iter().map(|server| (server.name.clone(), server)).collect();
        let mut differing = Vec::new();
        for server in &self.servers {
            match there.get(&server.name) {
                None => store.put_server(server).await?,
                Some(known) if known == server => {}
                Some(_) => differing.push(server.name.clone()),
            }
        }
        for (key, registration) in &self.registrations {
            if matches!(store.registration(key).await, Ok(None)) {
                store.put_registration(key, registration).await?;
            }
        }
        let mut outcomes = Vec::new();
        for record in &self.grants {
            let stored = match store.read(&record.id).await {
                // It is set aside when the restored one takes its place.
                Err(StoreError::Unreadable { .. }) => None,
                read => read?.map(|stored| stored.generation),
            };
            let is_older = stored.is_none_or(|stored| stored < record.generation);
            if is_older {
                store.replace(stored, record).await?;
            }
            outcomes.push((record.id.clone(), if is_older { PutBack::Restored } else { PutBack::Newer }));
        }
        Ok((outcomes, differing))
    }
}

/// By what the client of a login was registered, if it was.
fn key_of(record: &GrantRecord) -> RegistrationKey {
    let ClientRegistration { issuer, redirect_uris, .. } = record.binding.client.clone();
    RegistrationKey { issuer, redirect_uris, dpop_bound: record.binding.dpop_key.is_some() }
}
