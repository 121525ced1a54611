//! Logins that other programs made: to which authorization server they belong, found anew here.

use everfresh_domain::Secret;
use everfresh_domain::grant::{Binding, ClientAuthMethod, ClientRegistration};

use super::client::ClientProof;
use super::terms::{as_profiled, binding};
use super::{LoginDesk, LoginError};
use crate::app::AppError;
use crate::foreign::{ForeignLogin, ImportError};
use crate::ports::{Discovered, DiscoveryError};
use crate::settings::{ResourceSetting, ServerSettings};

impl LoginDesk {
    /// Finds where `login` is to be refreshed, and by which client. Nothing secret is sent.
    ///
    /// `is_new` says that `server` is made for this login: what the login knows and discovery cannot
    /// find is written into its settings.
    pub(crate) async fn bind(
        &self,
        server: &mut ServerSettings,
        is_new: bool,
        login: &ForeignLogin,
    ) -> Result<Binding, AppError> {
        if let (true, Some(resource)) = (is_new, login.resource()) {
            server.oauth.resource = resource;
        }
        let discovered = self.issuer_of(server, is_new, login).await?;
        let discovered = as_profiled(server, discovered);
        if let Some(made) = login.token_endpoint.as_ref().filter(|made| **made != discovered.token_endpoint) {
            return Err(ImportError::OtherIssuer { made: made.clone(), found: discovered.token_endpoint }.into());
        }
        let client = client(login, &discovered);
        if is_new && cannot_register_again(&discovered) && client.client_secret.is_none() {
            server.oauth.client_id = login.client_id.clone();
        }
        let bound = binding(server, &discovered, client, login.scopes.clone());
        let resource = match login.resource() {
            None | Some(ResourceSetting::Auto) => bound.resource.clone(),
            Some(ResourceSetting::None) => None,
            Some(ResourceSetting::Uri(uri)) => Some(uri),
        };
        Ok(Binding { resource, ..bound })
    }

    /// The authorization server that the upstream names, if that is the login's; else, for a new
    /// server, the login's own.
    async fn issuer_of(
        &self,
        server: &mut ServerSettings,
        is_new: bool,
        login: &ForeignLogin,
    ) -> Result<Discovered, AppError> {
        let found = self.parts.discovery.discover(server, None).await;
        let Some(made) = &login.issuer else { return Ok(found.map_err(LoginError::from)?) };
        let other = match found {
            Ok(discovered) if same_issuer(&discovered.issuer, made) => return Ok(discovered),
            Ok(discovered) => discovered.issuer,
            Err(error @ DiscoveryError::Unreachable { .. }) => return Err(LoginError::from(error).into()),
            Err(
                DiscoveryError::Refused { url, .. }
                | DiscoveryError::NotFound { url }
                | DiscoveryError::NotProtected { url },
            ) => url,
        };
        if !is_new {
            return Err(ImportError::OtherIssuer { made: made.clone(), found: other }.into());
        }
        server.oauth.issuer = Some(made.clone());
        Ok(self.parts.discovery.discover(server, None).await.map_err(LoginError::from)?)
    }
}

/// Programs differ in whether they keep a slash at the end.
fn same_issuer(found: &str, made: &str) -> bool {
    found.trim_end_matches('/') == made.trim_end_matches('/')
}

fn cannot_register_again(discovered: &Discovered) -> bool {
    discovered.registration_endpoint.is_none() && !discovered.client_id_metadata_documents
}

/// The client that the tokens were issued to.
fn client(login: &ForeignLogin, discovered: &Discovered) -> ClientRegistration {
    let client_id = login.client_id.clone().unwrap_or_default();
    let proof = login.client_secret.clone().map_or(ClientProof::None, ClientProof::Secret);
    let usual = proof.of(discovered, client_id);
    let auth_method = match login.token_endpoint_auth_method {
        Some(method) if method == ClientAuthMethod::None || usual.client_secret.is_some() => method,
        Some(_) | None => usual.auth_method,
    };
    let client_secret: Option<Secret> = usual.client_secret.filter(|_| auth_method != ClientAuthMethod::None);
    ClientRegistration {
        auth_method,
        client_secret,
        secret_expires_at: login.client_secret_expires_at,
        redirect_uris: login.redirect_uris.clone(),
        ..usual
    }
}
