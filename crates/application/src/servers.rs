//! Which servers there are: those of the configuration file and those added at run time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use everfresh_domain::{AccountName, GrantId, ServerName};

use crate::settings::{ServerSettings, ServerSource};

/// The known servers and the accounts that each has. The file wins over the store.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    file: BTreeMap<ServerName, Arc<ServerSettings>>,
    stored: BTreeMap<ServerName, Arc<ServerSettings>>,
    accounts: BTreeMap<ServerName, BTreeSet<AccountName>>,
}

impl Servers {
    pub(crate) fn set_file(&self, servers: Vec<ServerSettings>) {
        let named = |settings: ServerSettings| {
            (settings.name.clone(), Arc::new(ServerSettings { source: ServerSource::File, ..settings }))
        };
        self.lock().file = servers.into_iter().map(named).collect();
    }

    pub(crate) fn put_stored(&self, settings: ServerSettings) {
        let settings = ServerSettings { source: ServerSource::Store, ..settings };
        self.lock().stored.insert(settings.name.clone(), Arc::new(settings));
    }

    pub(crate) fn remove_stored(&self, name: &ServerName) {
        self.lock().stored.remove(name);
    }

    pub(crate) fn add_account(&self, grant: &GrantId) {
        self.lock().accounts.entry(grant.server.clone()).or_default().insert(grant.account.clone());
    }

    pub(crate) fn forget_account(&self, grant: &GrantId) {
        if let Some(accounts) = self.lock().accounts.get_mut(&grant.server) {
            accounts.remove(&grant.account);
        }
    }

    pub(crate) fn forget_accounts(&self, name: &ServerName) {
        self.lock().accounts.remove(name);
    }

    /// The settings in force for `name`.
    pub(crate) fn settings(&self, name: &ServerName) -> Option<Arc<ServerSettings>> {
        let state = self.lock();
        state.file.get(name).or_else(|| state.stored.get(name)).cloned()
    }

    /// Whether `name` stands in the file.
    pub(crate) fn is_in_file(&self, name: &ServerName) -> bool {
        self.lock().file.contains_key(name)
    }

    /// Whether `name` stands both in the file, which wins, and in the store.
    pub(crate) fn shadows_stored(&self, name: &ServerName) -> bool {
        let state = self.lock();
        state.file.contains_key(name) && state.stored.contains_key(name)
    }

    /// Every grant there should be: each server's default account, and those that have a record.
    pub(crate) fn grants(&self) -> BTreeMap<GrantId, Arc<ServerSettings>> {
        let state = self.lock();
        let mut grants = BTreeMap::new();
        for (name, settings) in state.stored.iter().chain(&state.file) {
            grants.insert(GrantId::of(name.clone()), Arc::clone(settings));
            for account in state.accounts.get(name).into_iter().flatten() {
                let grant = GrantId { server: name.clone(), account: account.clone() };
                grants.insert(grant, Arc::clone(settings));
            }
        }
        grants
    }

    /// The grants of one server.
    pub(crate) fn grants_of(&self, name: &ServerName) -> Vec<GrantId> {
        let mut accounts = self.lock().accounts.get(name).cloned().unwrap_or_default();
        accounts.insert(AccountName::default());
        accounts.into_iter().map(|account| GrantId { server: name.clone(), account }).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(name: &str, url: &str) -> ServerSettings {
        ServerSettings::new(name.parse().unwrap(), url)
    }

    #[test]
    fn the_file_wins_and_says_so() {
        let servers = Servers::default();
        servers.put_stored(server("linear", "https://stored.example"));
        servers.set_file(vec![server("linear", "https://file.example")]);
        let name = "linear".parse().unwrap();
        assert_eq!(servers.settings(&name).unwrap().url, "https://file.example");
        assert!(servers.shadows_stored(&name));
        servers.set_file(vec![]);
        assert_eq!(servers.settings(&name).unwrap().url, "https://stored.example");
    }

    #[test]
    fn an_account_with_a_record_is_a_grant_of_its_server_only() {
        let servers = Servers::default();
        servers.put_stored(server("github", "https://api.github.com"));
        servers.add_account(&"github@work".parse().unwrap());
        servers.add_account(&"gone@work".parse().unwrap());
        let grants: Vec<String> = servers.grants().keys().map(ToString::to_string).collect();
        assert_eq!(grants, ["github", "github@work"]);
    }
}
