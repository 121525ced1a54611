//! What a login asks for: scopes, resource indicator, and the request that a person opens.

use everfresh_domain::grant::{Binding, ClientRegistration, GrantType, RequestShape};
use everfresh_domain::{GrantRecord, Secret};

use crate::ports::{AuthorizationRequest, Discovered};
use crate::settings::{OfflineAccess, ResourceSetting, ServerSettings};

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

pub(super) fn request(
    discovered: &Discovered,
    binding: &Binding,
    redirect_uri: &str,
    state: &Secret,
    verifier: &Secret,
) -> AuthorizationRequest {
    AuthorizationRequest {
        authorization_endpoint: discovered.authorization_endpoint.clone(),
        client_id: binding.client.client_id.clone(),
        redirect_uri: redirect_uri.to_owned(),
        scopes: binding.requested_scopes.clone(),
        resource: binding.resource.clone(),
        state: state.clone(),
        verifier: verifier.clone(),
        dpop_jkt: None,
        extra_params: binding.extra_params.clone(),
    }
}

/// The scope that asks for a refresh token (OpenID Connect Core section 11).
const OFFLINE_ACCESS: &str = "offline_access";

/// The scopes to ask for (MCP authorization, "Scope Selection Strategy"): the configured ones, else
/// the challenge's, else the resource's; with what the upstream demanded since, on top of what was
/// asked for before; and `offline_access` as configured.
pub(super) fn wanted_scopes(
    server: &ServerSettings,
    discovered: &Discovered,
    needed: &[String],
    record: Option<&GrantRecord>,
) -> Vec<String> {
    let base = [&server.oauth.scopes, &discovered.challenge.scopes, &discovered.resource_scopes];
    let mut scopes = base.into_iter().find(|scopes| !scopes.is_empty()).cloned().unwrap_or_default();
    let earlier = record.filter(|_| !needed.is_empty()).map(|record| record.binding.requested_scopes.clone());
    let listed = discovered.scopes_supported.iter().any(|scope| scope == OFFLINE_ACCESS);
    let setting = server.oauth.offline_access;
    let offline = match setting {
        OfflineAccess::Auto if listed => Some(OFFLINE_ACCESS.to_owned()),
        OfflineAccess::Always => Some(OFFLINE_ACCESS.to_owned()),
        OfflineAccess::Auto | OfflineAccess::Never => None,
    };
    for scope in earlier.unwrap_or_default().into_iter().chain(needed.iter().cloned()).chain(offline) {
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    if setting == OfflineAccess::Never {
        scopes.retain(|scope| scope != OFFLINE_ACCESS);
    }
    scopes
}

/// How many logins in a row, with this one, ask for nothing that the one before had not asked for
/// although the upstream demands more: one that does is worth a try, many are not.
pub(super) fn step_ups(needed: &[String], record: Option<&GrantRecord>) -> u32 {
    let asked_before =
        |record: &&GrantRecord| needed.iter().all(|scope| record.binding.requested_scopes.contains(scope));
    match record.filter(asked_before) {
        _ if needed.is_empty() => 0,
        Some(record) => record.step_ups.saturating_add(1),
        None => 1,
    }
}
