//! The ring of local keys: who is known by what, and how keys are made, rotated and removed.
//!
//! Requests read it without a lock. Changes come one at a time, are kept first and then in force: a key
//! that was shown to its owner works after any crash, and one that was removed never does again.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use everfresh_domain::key::{InvalidScope, LIMITED_PREFIX};
use everfresh_domain::{GrantId, KeyHash, KeyHolder, KeyName, KeyScope, LimitedKey, Secret, Timestamp};
use tokio::sync::Mutex;

use crate::ports::{Clock, Entropy, KeyFileError, KeyFiles};

/// Limited keys at most: each request with one is compared with all of them.
pub const KEYS_MAX: usize = 128;

/// How exactly the last use of a key is known: no request writes what another has just written.
const USE_GRAIN: Duration = Duration::from_secs(60);

/// The value of a last use that has not been.
const NEVER: i64 = 0;

/// Why a key could not be made or changed. Nothing has changed then.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KeyError {
    /// There is no such key.
    #[error("there is no key {0}; `everfresh key list` shows those there are")]
    NoSuchKey(KeyName),
    /// The name is taken.
    #[error("there is a key {0} already; rotate it for another secret, or remove it first")]
    NameTaken(KeyName),
    /// There are too many.
    #[error("there are {KEYS_MAX} limited keys already; remove one first")]
    TooMany,
    /// The full key is not ours to change.
    #[error("the local key is given to the daemon by EVERFRESH_KEY; change it there, and start the daemon again")]
    LocalKeyIsGiven,
    /// The key cannot open that.
    #[error(transparent)]
    Scope(#[from] InvalidScope),
    /// They could not be read or kept.
    #[error(transparent)]
    Files(#[from] KeyFileError),
}

/// The full local key.
#[derive(Clone, Debug)]
pub enum LocalKey {
    /// From its file, where another can take its place.
    Kept(Secret),
    /// From the environment, whose owner changes it.
    Given(Secret),
}

impl LocalKey {
    fn hash(&self) -> KeyHash {
        match self {
            Self::Kept(key) | Self::Given(key) => KeyHash::of(key.expose()),
        }
    }
}

/// A key to be made.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// By what it will be known.
    pub name: KeyName,
    /// What it opens.
    pub scope: KeyScope,
    /// How long its secret lives; for ever where not given.
    pub lifetime: Option<Duration>,
    /// Whether it takes the place of the key of that name, whose secret ends.
    pub replaces: bool,
    /// The client that it is made for, where it is for one.
    pub holder: Option<KeyHolder>,
}

/// A limited key, as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyView {
    /// The key.
    pub key: LimitedKey,
    /// Whether its time is over.
    pub is_over: bool,
    /// When it was last shown, to the minute; `None` where not since this process began.
    pub last_used_at: Option<Timestamp>,
}

/// A limited key in force.
#[derive(Debug)]
pub struct Held {
    /// The key.
    pub key: LimitedKey,
    last_used_ms: AtomicI64,
}

impl Held {
    fn new(key: LimitedKey) -> Arc<Self> {
        Arc::new(Self { key, last_used_ms: AtomicI64::new(NEVER) })
    }

    /// The same secret, used as it was, for another scope.
    fn reaching(&self, scope: KeyScope) -> Arc<Self> {
        let last_used_ms = AtomicI64::new(self.last_used_ms.load(Ordering::Relaxed));
        Arc::new(Self { key: LimitedKey { scope, ..self.key.clone() }, last_used_ms })
    }

    fn view(&self, now: Timestamp) -> KeyView {
        let ms = self.last_used_ms.load(Ordering::Relaxed);
        let last_used_at = (ms != NEVER).then(|| Timestamp::from_millis(ms));
        KeyView { key: self.key.clone(), is_over: self.key.is_over(now), last_used_at }
    }

    fn used(&self, now: Timestamp) {
        let last = Timestamp::from_millis(self.last_used_ms.load(Ordering::Relaxed));
        if now.since(last) >= USE_GRAIN {
            self.last_used_ms.store(now.as_millis(), Ordering::Relaxed);
        }
    }
}

/// What a text that somebody showed is.
#[derive(Clone, Debug)]
pub enum Shown {
    /// The full local key.
    Local,
    /// A limited key.
    Limited(Arc<Held>),
    /// A limited key whose time is over.
    Over(Arc<Held>),
    /// No key of ours.
    Unknown,
}

/// What is in force.
struct Table {
    local: KeyHash,
    limited: Vec<Arc<Held>>,
}

/// The keys of one daemon.
pub struct KeyRing {
    table: ArcSwap<Table>,
    files: Arc<dyn KeyFiles>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    editing: Mutex<Editing>,
}

/// What whoever changes keys must know.
struct Editing {
    local_is_given: bool,
    /// Why the kept keys could not be read: nothing is written over them.
    unreadable: Option<KeyFileError>,
}

impl KeyRing {
    /// The ring with `local` and the limited keys that are kept. Where those cannot be read, none of
    /// them opens anything, and that is told in the log and to whoever changes them.
    pub async fn open(
        local: &LocalKey,
        files: Arc<dyn KeyFiles>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        let (kept, unreadable) = match files.load().await {
            Ok(kept) => (kept, None),
            Err(error) => {
                tracing::error!(%error, "no limited key opens anything until this is mended");
                (Vec::new(), Some(error))
            }
        };
        let table = Table { local: local.hash(), limited: kept.into_iter().map(Held::new).collect() };
        let editing = Editing { local_is_given: matches!(local, LocalKey::Given(_)), unreadable };
        Self { table: ArcSwap::from_pointee(table), files, clock, entropy, editing: Mutex::new(editing) }
    }

    /// What `text` is. Takes as long for a wrong key as for a right one of its kind.
    pub fn recognise(&self, text: &str) -> Shown {
        let (table, hash) = (self.table.load(), KeyHash::of(text));
        if table.local == hash {
            return Shown::Local;
        }
        let mut found = None;
        for held in &table.limited {
            if held.key.hash == hash {
                found = Some(held);
            }
        }
        let Some(held) = found else { return Shown::Unknown };
        let now = self.clock.now();
        if held.key.is_over(now) {
            return Shown::Over(Arc::clone(held));
        }
        held.used(now);
        Shown::Limited(Arc::clone(held))
    }

    /// The hash of the full local key: what was opened with one before it is closed.
    pub fn local(&self) -> KeyHash {
        self.table.load().local
    }

    /// The limited keys, by name.
    pub fn list(&self) -> Vec<KeyView> {
        let now = self.clock.now();
        let mut views: Vec<KeyView> = self.table.load().limited.iter().map(|held| held.view(now)).collect();
        views.sort_by(|one, other| one.key.name.cmp(&other.key.name));
        views
    }

    /// Makes a limited key. Its secret is returned here and kept nowhere.
    pub async fn add(&self, new: NewKey) -> Result<(KeyView, Secret), KeyError> {
        let editing = self.editing.lock().await;
        let (secret, now) = (self.limited_secret(), self.clock.now());
        let expires_at = new.lifetime.map(|lifetime| now.after(lifetime));
        let hash = KeyHash::of(secret.expose());
        let NewKey { name, scope, holder, .. } = new.clone();
        let held = Held::new(LimitedKey { name, scope, hash, created_at: now, expires_at, holder });
        let mut limited = self.table.load().limited.clone();
        match limited.iter().position(|held| held.key.name == new.name) {
            Some(_) if !new.replaces => return Err(KeyError::NameTaken(new.name)),
            Some(place) => limited[place] = Arc::clone(&held),
            None if limited.len() >= KEYS_MAX => return Err(KeyError::TooMany),
            None => limited.push(Arc::clone(&held)),
        }
        self.put_limited(&editing, limited).await?;
        tracing::info!(key = %held.key.name, scope = %held.key.scope, "a limited key is made");
        Ok((held.view(now), secret))
    }

    /// Gives a limited key another secret; the one before opens nothing from here on.
    pub async fn rotate(&self, name: &KeyName) -> Result<(KeyView, Secret), KeyError> {
        let editing = self.editing.lock().await;
        let (secret, now) = (self.limited_secret(), self.clock.now());
        let mut limited = self.table.load().limited.clone();
        let place = place_of(&limited, name)?;
        let held = Held::new(limited[place].key.rotated(KeyHash::of(secret.expose()), now));
        limited[place] = Arc::clone(&held);
        self.put_limited(&editing, limited).await?;
        tracing::info!(key = %name, "a limited key has another secret");
        Ok((held.view(now), secret))
    }

    /// Lets a limited key open these logins and no others, or all where there are none. Its secret stays.
    pub async fn change_servers(&self, name: &KeyName, servers: Vec<GrantId>) -> Result<KeyView, KeyError> {
        let editing = self.editing.lock().await;
        let mut limited = self.table.load().limited.clone();
        let place = place_of(&limited, name)?;
        let scope = limited[place].key.scope.over(servers)?;
        let held = limited[place].reaching(scope);
        limited[place] = Arc::clone(&held);
        self.put_limited(&editing, limited).await?;
        tracing::info!(key = %name, scope = %held.key.scope, "a limited key opens other logins");
        Ok(held.view(self.clock.now()))
    }

    /// Removes a limited key; it opens nothing from here on.
    pub async fn remove(&self, name: &KeyName) -> Result<(), KeyError> {
        let editing = self.editing.lock().await;
        let mut limited = self.table.load().limited.clone();
        limited.remove(place_of(&limited, name)?);
        self.put_limited(&editing, limited).await?;
        tracing::info!(key = %name, "a limited key is removed");
        Ok(())
    }

    /// Makes another full local key; the one before opens nothing from here on.
    pub async fn rotate_local(&self) -> Result<Secret, KeyError> {
        let editing = self.editing.lock().await;
        if editing.local_is_given {
            return Err(KeyError::LocalKeyIsGiven);
        }
        let secret = Secret::new(self.random());
        self.files.save_local_key(&secret).await?;
        let limited = self.table.load().limited.clone();
        self.table.store(Arc::new(Table { local: KeyHash::of(secret.expose()), limited }));
        tracing::info!("there is another local key");
        Ok(secret)
    }

    /// Kept first, then in force.
    async fn put_limited(&self, editing: &Editing, limited: Vec<Arc<Held>>) -> Result<(), KeyError> {
        if let Some(unreadable) = &editing.unreadable {
            return Err(unreadable.clone().into());
        }
        let kept: Vec<LimitedKey> = limited.iter().map(|held| held.key.clone()).collect();
        self.files.save(&kept).await?;
        let local = self.table.load().local;
        self.table.store(Arc::new(Table { local, limited }));
        Ok(())
    }

    fn limited_secret(&self) -> Secret {
        Secret::new(format!("{LIMITED_PREFIX}{}", self.random()))
    }

    /// 256 bits as text.
    fn random(&self) -> String {
        self.entropy.bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn place_of(limited: &[Arc<Held>], name: &KeyName) -> Result<usize, KeyError> {
    let place = limited.iter().position(|held| held.key.name == *name);
    place.ok_or_else(|| KeyError::NoSuchKey(name.clone()))
}
