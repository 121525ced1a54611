//! Which client a login is made with: a configured one, one named by its metadata document, or one
//! that was registered dynamically, once for each issuer and set of redirect URIs.

use everfresh_domain::grant::{Binding, ClientAuthMethod, ClientRegistration};
use everfresh_domain::{GrantRecord, LoginEnd};

use super::{ClientChoice, LoginDesk, LoginError};
use crate::ports::{Discovered, RegistrationKey, StoreError};
use crate::settings::ServerSettings;

impl LoginDesk {
    /// The client to log in with: configured, or by metadata document, or registered, once.
    pub(super) async fn client(
        &self,
        server: &ServerSettings,
        discovered: &Discovered,
        redirect_uri: &str,
        record: Option<&GrantRecord>,
        choice: ClientChoice,
    ) -> Result<ClientRegistration, LoginError> {
        if let Some(client_id) = &server.oauth.client_id {
            self.check_issuer(server, client_id, &discovered.issuer).await?;
            return self.configured_client(server, discovered, client_id.clone()).await;
        }
        if let (Some(url), true) =
            (&self.parts.settings.client_id_metadata_url, discovered.client_id_metadata_documents)
        {
            return Ok(public_client(discovered, url.clone()));
        }
        let redirect_uris = vec![redirect_uri.to_owned()];
        let dpop_bound = discovered.binds_tokens(server.oauth.dpop);
        let key = RegistrationKey { issuer: discovered.issuer.clone(), redirect_uris, dpop_bound };
        let dead = record.and_then(|record| match record.ended {
            Some(LoginEnd::ClientRejected { .. }) => Some(&record.binding.client.client_id),
            _ => None,
        });
        let known = match self.parts.store.registration(&key).await {
            Err(StoreError::Unreadable { .. }) => None,
            read => read?,
        };
        if let Some(known) = known {
            let margin = self.parts.access.policy().warn_before_credential_end;
            let secret_lives = known.secret_expires_at.is_none_or(|end| self.parts.clock.now() < end.before(margin));
            if choice == ClientChoice::Known && secret_lives && dead != Some(&known.client_id) {
                return Ok(known);
            }
            self.parts.store.erase_registration(&key).await?;
        }
        let registered = self.parts.discovery.register(server, discovered, &key.redirect_uris).await?;
        self.parts.store.put_registration(&key, &registered).await?;
        Ok(registered)
    }

    /// A configured client belongs to the issuer that any account of the server has logged in at with
    /// it, until the configuration names another (MCP authorization, "Authorization Server Binding").
    async fn check_issuer(&self, server: &ServerSettings, client_id: &str, found: &str) -> Result<(), LoginError> {
        if server.oauth.issuer.is_some() {
            return Ok(());
        }
        let routes = self.parts.access.routes();
        for route in routes.iter().filter(|route| route.grant.server == server.name) {
            let record = self.parts.vault.read(&route.grant).await.ok().flatten();
            let Some(known) = record.map(|record| record.binding.client) else { continue };
            if known.client_id == client_id && known.issuer != found {
                return Err(LoginError::IssuerChanged { known: known.issuer, found: found.to_owned() });
            }
        }
        Ok(())
    }

    /// Forgets the client of `binding`, if it registered itself. Whether it did.
    pub(super) async fn forget_registration(&self, binding: &Binding) -> bool {
        let ClientRegistration { issuer, redirect_uris, .. } = binding.client.clone();
        let key = RegistrationKey { issuer, redirect_uris, dpop_bound: binding.dpop_key.is_some() };
        // Configured clients and metadata documents were registered with no URI.
        !key.redirect_uris.is_empty() && self.parts.store.erase_registration(&key).await.is_ok()
    }

    async fn configured_client(
        &self,
        server: &ServerSettings,
        discovered: &Discovered,
        client_id: String,
    ) -> Result<ClientRegistration, LoginError> {
        let Some(source) = &server.oauth.client_secret else { return Ok(public_client(discovered, client_id)) };
        let secret = self.parts.secrets.resolve(source).await.map_err(LoginError::Secret)?;
        let offers = |method: &str| discovered.token_endpoint_auth_methods.iter().any(|offered| offered == method);
        let post_only = offers("client_secret_post") && !offers("client_secret_basic");
        let auth_method =
            if post_only { ClientAuthMethod::ClientSecretPost } else { ClientAuthMethod::ClientSecretBasic };
        Ok(ClientRegistration { client_secret: Some(secret), auth_method, ..public_client(discovered, client_id) })
    }
}

fn public_client(discovered: &Discovered, client_id: String) -> ClientRegistration {
    ClientRegistration {
        issuer: discovered.issuer.clone(),
        client_id,
        client_secret: None,
        private_key: None,
        auth_method: ClientAuthMethod::None,
        secret_expires_at: None,
        redirect_uris: Vec::new(),
    }
}
