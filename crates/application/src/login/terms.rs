//! What a login asks for: scopes, resource indicator, and the request that a person opens.

use everfresh_domain::GrantRecord;
use everfresh_domain::grant::{Binding, ClientRegistration, GrantType, RequestShape};

use super::Flow;
use crate::ports::{AuthorizationRequest, Discovered};
use crate::settings::{ResourceSetting, ServerSettings};

pub(super) fn binding(
    server: &ServerSettings,
    discovered: &Discovered,
    client: ClientRegistration,
    requested_scopes: Vec<String>,
) -> Binding {
    let resource = match &server.oauth.resource {
        ResourceSetting::Auto => Some(discovered.resource.clone().unwrap_or_else(|| server.url.clone())),
        ResourceSetting::None => None,
        ResourceSetting::Uri(uri) => Some(uri.clone()),
    };
    Binding {
        upstream: server.url.clone(),
        token_endpoint: discovered.token_endpoint.clone(),
        revocation_endpoint: discovered.revocation_endpoint.clone(),
        grant_type: GrantType::AuthorizationCode,
        client,
        resource,
        requested_scopes,
        dpop_key: None,
        extra_params: server.oauth.extra_params.clone(),
        shape: RequestShape::default(),
    }
}

pub(super) fn request(discovered: &Discovered, flow: &Flow) -> AuthorizationRequest {
    AuthorizationRequest {
        authorization_endpoint: discovered.authorization_endpoint.clone(),
        client_id: flow.binding.client.client_id.clone(),
        redirect_uri: flow.redirect_uri.clone(),
        scopes: flow.binding.requested_scopes.clone(),
        resource: flow.binding.resource.clone(),
        state: flow.state.clone(),
        verifier: flow.verifier.clone(),
        dpop_jkt: None,
        extra_params: flow.binding.extra_params.clone(),
    }
}

/// The scopes to ask for (MCP authorization, "Scope Selection Strategy"): the configured ones, else
/// the challenge's, else the resource's; with what the upstream demanded since, on top of what was
/// asked for before; and `offline_access` where the authorization server lists it.
pub(super) fn wanted_scopes(
    server: &ServerSettings,
    discovered: &Discovered,
    needed: &[String],
    record: Option<&GrantRecord>,
) -> Vec<String> {
    let base = [&server.oauth.scopes, &discovered.challenge.scopes, &discovered.resource_scopes];
    let mut scopes = base.into_iter().find(|scopes| !scopes.is_empty()).cloned().unwrap_or_default();
    let earlier = record.filter(|_| !needed.is_empty()).map(|record| record.binding.requested_scopes.clone());
    let offline = discovered.scopes_supported.iter().filter(|scope| *scope == "offline_access").cloned();
    for scope in earlier.unwrap_or_default().into_iter().chain(needed.iter().cloned()).chain(offline) {
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    scopes
}
