//! Which client a login is made with: a configured one, one named by its metadata document, or one
//! that was registered dynamically, once for each issuer and set of redirect URIs.

use everfresh_domain::grant::{Binding, ClientAuthMethod, ClientRegistration};
use everfresh_domain::{GrantRecord, LoginEnd, Secret};

use super::{ClientChoice, LoginDesk, LoginError};
use crate::ports::{Discovered, RegistrationKey, Secrets, StoreError};
use crate::settings::{OAuthSettings, ServerSettings};

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
        let proof = ClientProof::fetch(&*self.parts.secrets, &server.oauth).await.map_err(LoginError::Secret)?;
        Ok(proof.of(discovered, client_id))
    }
}

/// How a configured client shows who it is.
pub(crate) enum ClientProof {
    /// Not at all.
    None,
    /// By a secret.
    Secret(Secret),
    /// By what it signs.
    PrivateKey(Secret),
}

impl ClientProof {
    /// Fetches what is configured. The error names what is not to be had.
    pub(crate) async fn fetch(secrets: &dyn Secrets, oauth: &OAuthSettings) -> Result<Self, String> {
        let failed = |what: &str, cause: String| format!("the {what} cannot be fetched: {cause}");
        match (&oauth.private_key, &oauth.client_secret) {
            (Some(source), _) => {
                let key = secrets.resolve_whole(source).await;
                key.map(Self::PrivateKey).map_err(|cause| failed("private key", cause))
            }
            (None, Some(source)) => {
                secrets.resolve(source).await.map(Self::Secret).map_err(|cause| failed("client secret", cause))
            }
            (None, None) => Ok(Self::None),
        }
    }

    /// What is shown, if anything is.
    pub(crate) fn secret(&self) -> Option<&Secret> {
        match self {
            Self::None => None,
            Self::Secret(secret) | Self::PrivateKey(secret) => Some(secret),
        }
    }

    /// The client `client_id` of the authorization server that was `discovered`.
    pub(crate) fn of(self, discovered: &Discovered, client_id: String) -> ClientRegistration {
        let offers = |method: &str| discovered.token_endpoint_auth_methods.iter().any(|offered| offered == method);
        let post_only = offers("client_secret_post") && !offers("client_secret_basic");
        let by_secret =
            if post_only { ClientAuthMethod::ClientSecretPost } else { ClientAuthMethod::ClientSecretBasic };
        self.on(ClientRegistration { auth_method: by_secret, ..public_client(discovered, client_id) })
    }

    /// `client` with this for its proof. How it shows a secret stays.
    pub(crate) fn on(self, client: ClientRegistration) -> ClientRegistration {
        let by_secret = match client.auth_method {
            ClientAuthMethod::ClientSecretPost => ClientAuthMethod::ClientSecretPost,
            ClientAuthMethod::None | ClientAuthMethod::ClientSecretBasic | ClientAuthMethod::PrivateKeyJwt => {
                ClientAuthMethod::ClientSecretBasic
            }
        };
        let (client_secret, private_key, auth_method) = match self {
            Self::None => (None, None, ClientAuthMethod::None),
            Self::Secret(secret) => (Some(secret), None, by_secret),
            Self::PrivateKey(key) => (None, Some(key), ClientAuthMethod::PrivateKeyJwt),
        };
        ClientRegistration { client_secret, private_key, auth_method, ..client }
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
