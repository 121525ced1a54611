//! The key of a client's own: made for its file, and opening what that file connects and no more.
//!
//! The file holds its secret and everfresh the hash. A key that is found in the file is used on; one whose
//! secret was lost on the way into the file gets another. A key opens more before the file says so, and less
//! after: whatever dies in between, what the file connects works, and the next run brings both together.

use std::collections::BTreeSet;
use std::fs::File;

use everfresh_domain::{Fingerprint, GrantId, Secret};
use everfresh_infrastructure::files;
use serde::Deserialize;
use serde_json::{Value, json};

use super::change::ByUrl;
use super::words::KEY;
use crate::client::Api;
use crate::exit::{Exit, Failure};
use crate::keys::path_of;
use crate::output;
use crate::paths::Paths;

/// Waits until no other `connect` is at work on this data folder, and keeps others waiting while the file
/// is held: between a look at the keys and a client's file that is written nobody else makes one.
pub(super) fn alone(paths: &Paths) -> Result<File, Failure> {
    let path = paths.data.join("connect.lock");
    let locked =
        files::create_private_folder(&paths.data).and_then(|()| files::append_private(&path)).and_then(|file| {
            file.lock()?;
            Ok(file)
        });
    locked.map_err(|error| Failure::new(Exit::Store, format!("{} cannot be locked: {error}", path.display())))
}

/// A limited key, as the API tells it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Listed {
    pub(super) name: String,
    servers: BTreeSet<GrantId>,
    pub(super) expired: bool,
    pub(super) fingerprint: Fingerprint,
    pub(super) holder: Option<Holder>,
}

/// The client that a key was made for.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Holder {
    pub(super) client: String,
    pub(super) file: String,
}

/// What is to happen so that the file has a key that opens its servers.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// The one in the file does.
    Keep(Secret),
    /// The one in the file is to open these.
    Open(Secret, BTreeSet<GrantId>),
    /// There is to be another secret, under this name.
    Make { name: String, replace: bool },
}

/// The key that is to be written.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) key: Secret,
    /// The name of the key where there was none before.
    made: Option<String>,
}

/// The keys that there are, as they concern one client's file.
pub(super) struct OwnKey<'a> {
    api: &'a Api,
    client: &'static str,
    file: String,
    listed: Vec<Listed>,
}

impl<'a> OwnKey<'a> {
    /// The key of `client` for `file`, if there is one.
    pub(super) async fn look(api: &'a Api, client: &'static str, file: String) -> Result<Self, Failure> {
        Ok(Self { api, client, file, listed: listed(api).await? })
    }

    fn own(&self) -> Option<&Listed> {
        self.listed.iter().find(|key| key.holder.as_ref().is_some_and(|holder| holder.file == self.file))
    }

    /// Whether `text` is its secret.
    fn is(&self, text: &str) -> bool {
        self.own().is_some_and(|own| own.fingerprint == Secret::new(text).fingerprint())
    }

    /// Whether an entry is to have this key: it leads to this everfresh, and not to another one.
    pub(super) fn is_for(&self, entry: &ByUrl) -> bool {
        entry.is_here || entry.keys.iter().any(|key| key == self.api.key() || self.is(key))
    }

    /// What is to happen where the file shows `shown`, and connects `servers`, of which some may be gone.
    fn step(&self, shown: &[String], servers: BTreeSet<GrantId>) -> Step {
        let Some(own) = self.own() else {
            return Step::Make { name: self.free_name(), replace: false };
        };
        match shown.iter().find(|text| self.is(text)) {
            Some(text) if !own.expired && servers.is_subset(&own.servers) => Step::Keep(Secret::new(text)),
            Some(text) if !own.expired => Step::Open(Secret::new(text), servers),
            Some(_) | None => Step::Make { name: own.name.clone(), replace: true },
        }
    }

    /// The client's id, or that with a number where it is the name of another key.
    fn free_name(&self) -> String {
        let is_free = |name: &String| self.listed.iter().all(|key| key.name != *name);
        let numbered = (2..).map(|number| format!("{}-{number}", self.client));
        std::iter::once(self.client.to_owned()).chain(numbered).find(is_free).unwrap_or_default()
    }

    /// Sees to it that there is a key that opens `servers`, as far as `is_known`; a trial only says what
    /// would be written.
    pub(super) async fn prepare(
        &self,
        shown: &[String],
        servers: BTreeSet<GrantId>,
        is_known: impl Fn(&GrantId) -> bool,
        is_trial: bool,
    ) -> Result<Prepared, Failure> {
        let opened = |grant: &GrantId| self.own().is_some_and(|own| own.servers.contains(grant));
        let wanted = servers.iter().filter(|grant| is_known(grant) || opened(grant)).cloned().collect();
        match self.step(shown, wanted) {
            Step::Keep(key) => Ok(Prepared { key, made: None }),
            Step::Open(key, servers) => {
                if let (Some(own), false) = (self.own(), is_trial) {
                    change(self.api, &own.name, &servers).await?;
                }
                Ok(Prepared { key, made: None })
            }
            Step::Make { .. } if is_trial => Ok(Prepared { key: Secret::new(KEY), made: None }),
            Step::Make { name, replace } => {
                let servers: Vec<GrantId> = servers.into_iter().filter(is_known).collect();
                let wish = json!({
                    "name": name, "replace": replace, "right": "data_plane", "servers": servers,
                    "holder": { "client": self.client, "file": self.file },
                });
                let made = self.api.post("/api/v1/keys", Some(wish)).await?;
                let key = Secret::new(made["secret"].as_str().unwrap_or_default());
                Ok(Prepared { key, made: (!replace).then_some(name) })
            }
        }
    }

    /// Takes back a key that did not get into the file.
    pub(super) async fn take_back(&self, prepared: &Prepared) {
        if let Some(name) = &prepared.made {
            // What stays is known to nobody, and is replaced by the next run.
            drop(remove(self.api, name).await);
        }
    }

    /// Lets the key open what `entries`, those of the file as it is, need it for, and no more.
    pub(super) async fn settle(&self, entries: &[ByUrl]) {
        let Some(own) = self.own() else { return };
        let needed = entries.iter().filter(|entry| entry.keys.iter().any(|key| self.is(key)));
        let needed: BTreeSet<GrantId> = needed.map(|entry| entry.grant.clone()).collect();
        let still: BTreeSet<GrantId> = needed.intersection(&own.servers).cloned().collect();
        let settled = if needed.is_empty() {
            remove(self.api, &own.name).await.map(|()| {
                output::note(format!("its key {} is removed: {} uses it no more", own.name, self.file));
            })
        } else if still.is_empty() || still == own.servers {
            Ok(())
        } else {
            change(self.api, &own.name, &still).await
        };
        if let Err(failure) = settled {
            output::note(format!("note: the key {} opens more than it has to: {}", own.name, failure.text));
        }
    }
}

/// The limited keys that there are.
pub(super) async fn listed(api: &Api) -> Result<Vec<Listed>, Failure> {
    let answer = api.get("/api/v1/keys").await?;
    let strange = |error: serde_json::Error| {
        let text = format!("the daemon tells of keys in a way that this everfresh does not know ({error}); restart it");
        Failure::new(Exit::Failed, text)
    };
    serde_json::from_value(answer["keys"].clone()).map_err(strange)
}

async fn change(api: &Api, name: &str, servers: &BTreeSet<GrantId>) -> Result<(), Failure> {
    api.patch(&path_of(name)?, json!({ "servers": servers })).await.map(drop::<Value>)
}

async fn remove(api: &Api, name: &str) -> Result<(), Failure> {
    api.delete(&path_of(name)?).await.map(drop::<Value>)
}
