//! Backups: everything that outlives the process, but the journals, taken out of a store and put back.
//!
//! Both need the store for themselves, without a daemon: a backup of a login that goes on being
//! refreshed is stale within hours, and a login that is put back over a newer one would be lost.
//! Nothing newer is ever overwritten.

use std::collections::BTreeMap;

use everfresh_domain::grant::ClientRegistration;
use everfresh_domain::{GrantId, GrantRecord, ServerName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::access::origin_of;
use crate::ports::{LoadedGrant, RegistrationKey, StoreError, TokenStore};
use crate::settings::{SecretSource, ServerSettings};

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
    /// Another login lives under that name, which stays: it was made since, or elsewhere, and which
    /// generation each has says nothing.
    OtherLogin,
}

/// What became of a backup.
#[derive(Debug, Default)]
pub struct Outcomes {
    /// Its logins, one by one.
    pub grants: Vec<(GrantId, PutBack)>,
    /// Servers that are there with other settings, which stay.
    pub differing: Vec<ServerName>,
    /// Servers that were not put back, and why.
    pub refused: Vec<(ServerName, String)>,
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

    /// Puts everything back into `store`, but for what is as new there or newer.
    ///
    /// May be repeated: what a run that was killed had put back counts as there.
    pub async fn put_back(&self, store: &dyn TokenStore) -> Result<Outcomes, StoreError> {
        let there: BTreeMap<ServerName, ServerSettings> =
            store.servers().await?.into_iter().map(|server| (server.name.clone(), server)).collect();
        let mut outcomes = Outcomes::default();
        for server in &self.servers {
            match (there.get(&server.name), objection(server)) {
                (Some(known), _) if known == server => {}
                (Some(_), _) => outcomes.differing.push(server.name.clone()),
                (None, Some(why)) => outcomes.refused.push((server.name.clone(), why)),
                (None, None) => store.put_server(server).await?,
            }
        }
        for (key, registration) in &self.registrations {
            if matches!(store.registration(key).await, Ok(None)) {
                store.put_registration(key, registration).await?;
            }
        }
        for record in &self.grants {
            outcomes.grants.push((record.id.clone(), put_back(store, record).await?));
        }
        Ok(outcomes)
    }
}

async fn put_back(store: &dyn TokenStore, record: &GrantRecord) -> Result<PutBack, StoreError> {
    let stored = match store.read(&record.id).await {
        // It is set aside when the restored one takes its place.
        Err(StoreError::Unreadable { .. }) => None,
        read => read?,
    };
    let Some(stored) = stored else {
        store.replace(None, record).await?;
        return Ok(PutBack::Restored);
    };
    let outcome = judged(&stored, record);
    if outcome == PutBack::Restored {
        let generation = record.generation.max(stored.generation.next());
        store.replace(Some(stored.generation), &GrantRecord { generation, ..record.clone() }).await?;
    }
    Ok(outcome)
}

/// Whether `record` may take the place of `stored`. Generations count refreshes of one login: between
/// two logins they compare nothing, and the one that lives is never given up for the other.
fn judged(stored: &GrantRecord, record: &GrantRecord) -> PutBack {
    if is_same_login(stored, record) {
        return if stored.generation < record.generation { PutBack::Restored } else { PutBack::Newer };
    }
    if stored.ended.is_none() && stored.tokens.is_some() {
        return PutBack::OtherLogin;
    }
    let sendable = record.sendable();
    if sendable.is_some_and(|token| stored.knows(token)) { PutBack::Newer } else { PutBack::Restored }
}

fn is_same_login(one: &GrantRecord, other: &GrantRecord) -> bool {
    let made = |record: &GrantRecord| {
        let client = &record.binding.client;
        (record.logged_in_at, record.imported.clone(), client.issuer.clone(), client.client_id.clone())
    };
    made(one) == made(other)
}

/// Why a server is not put back: whoever made the backup may be somebody else, and nothing in it may
/// be run. Servers that were added at run time name no commands.
fn objection(server: &ServerSettings) -> Option<String> {
    let oauth = &server.oauth;
    let provider = oauth.identity_provider.as_ref();
    let of_provider =
        provider.into_iter().flat_map(|provider| std::iter::once(&provider.id_token).chain(&provider.client_secret));
    let own = [&oauth.client_secret, &oauth.private_key, &oauth.assertion].into_iter().flatten();
    if own.chain(of_provider).any(|source| matches!(source, SecretSource::Command(_))) {
        return Some("it wants a command to be run for a secret, which no server has that was added here".to_owned());
    }
    origin_of(&server.url).is_none().then(|| format!("{:?} is not an http or https URL with a host", server.url))
}

/// By what the client of a login was registered, if it was.
fn key_of(record: &GrantRecord) -> RegistrationKey {
    let ClientRegistration { issuer, redirect_uris, .. } = record.binding.client.clone();
    RegistrationKey { issuer, redirect_uris, dpop_bound: record.binding.dpop_key.is_some() }
}
