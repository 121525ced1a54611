//! Which servers and accounts there are is changed here, one change after the other.

use everfresh_domain::{GrantId, GrantRecord, ServerName};

use super::{AppError, Application, check_url};
use crate::settings::ServerSettings;

impl Application {
    /// Adds a server. It is stored before it is used.
    pub async fn add_server(&self, settings: ServerSettings) -> Result<(), AppError> {
        let _alone = self.inner.changing.lock().await;
        if self.inner.servers.settings(&settings.name).is_some() {
            return Err(AppError::NameTaken(settings.name));
        }
        check_url(&settings.url)?;
        self.inner.store.put_server(&settings).await?;
        self.inner.servers.put_stored(settings);
        self.sync().await
    }

    /// Takes over a new version of the configuration file.
    pub async fn replace_file_servers(&self, servers: Vec<ServerSettings>) -> Result<(), AppError> {
        let _alone = self.inner.changing.lock().await;
        self.inner.servers.set_file(servers);
        self.sync().await
    }

    /// Removes a server with its logins. After this there is not one more request for it.
    pub async fn remove_server(&self, name: &ServerName) -> Result<(), AppError> {
        let alone = self.inner.changing.lock().await;
        if self.inner.servers.is_in_file(name) {
            return Err(AppError::DefinedInFile(name.clone()));
        }
        let settings = self.inner.servers.settings(name).ok_or_else(|| AppError::NoSuchServer(name.to_string()))?;
        let mut erased = Vec::new();
        let removed = self.erase_all(name, &mut erased).await;
        drop(alone);
        // Also where not all could be erased: what was is nobody's any more, and should not live on.
        for record in &erased {
            self.revoke(&settings, record).await;
        }
        removed
    }

    async fn erase_all(&self, name: &ServerName, erased: &mut Vec<GrantRecord>) -> Result<(), AppError> {
        for grant in self.inner.servers.grants_of(name) {
            erased.extend(self.erase(&grant).await?);
        }
        self.forget_server(name).await
    }

    /// Removes one account of a server with its login. The server and its other accounts stay.
    pub async fn remove_account(&self, grant: &GrantId) -> Result<(), AppError> {
        let alone = self.inner.changing.lock().await;
        let route = self.route(grant)?;
        let erased = self.erase(grant).await?;
        self.inner.servers.forget_account(grant);
        self.sync().await?;
        drop(alone);
        if let Some(record) = erased {
            self.revoke(&route.settings, &record).await;
        }
        Ok(())
    }

    /// Takes a grant out of use and out of the store; what was stored of it is returned. Where the store
    /// keeps it, it is in use as before.
    pub(super) async fn erase(&self, grant: &GrantId) -> Result<Option<GrantRecord>, AppError> {
        let record = self.inner.vault.read(grant).await.ok().flatten();
        self.unseat(grant).await;
        if let Err(error) = self.inner.vault.erase(grant).await {
            self.sync().await?;
            return Err(error.into());
        }
        Ok(record)
    }

    /// Takes a server without logins out of the store.
    pub(super) async fn forget_server(&self, name: &ServerName) -> Result<(), AppError> {
        self.inner.store.erase_server(name).await?;
        self.inner.servers.remove_stored(name);
        self.inner.servers.forget_accounts(name);
        self.sync().await
    }

    /// Switches a server on or off. Its logins are kept.
    pub async fn set_enabled(&self, name: &ServerName, enabled: bool) -> Result<(), AppError> {
        let _alone = self.inner.changing.lock().await;
        if self.inner.servers.is_in_file(name) {
            return Err(AppError::DefinedInFile(name.clone()));
        }
        let settings = self.inner.servers.settings(name).ok_or_else(|| AppError::NoSuchServer(name.to_string()))?;
        let settings = ServerSettings { enabled, ..(*settings).clone() };
        self.inner.store.put_server(&settings).await?;
        self.inner.servers.put_stored(settings);
        self.sync().await
    }
}
