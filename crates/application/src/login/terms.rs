//! What a login asks for: scopes, resource indicator, and the request that a person opens.

use std::collections::BTreeMap;

use everfresh_domain::grant::{Binding, ClientRegistration, RequestShape};
use everfresh_domain::profile::OfflineScope;
use everfresh_domain::{GrantRecord, Secret};

use crate::ports::{AuthorizationRequest, Discovered};
use crate::settings::{OfflineAccess, ResourceSetting, ServerSettings};

/// The scope that asks for a refresh token (OpenID Connect Core section 11).
const OFFLINE_ACCESS: &str = "offline_access";

/// What was discovered, corrected by what is known of the provider.
pub(crate) fn as_profiled(server: &ServerSettings, mut discovered: Discovered) -> Discovered {
    let Some(profile) = server.profile(&discovered.issuer) else { return discovered };
    if let Some(method) = profile.auth_method {
        discovered.token_endpoint_auth_methods = vec![method.as_str().to_owned()];
    }
    match profile.offline_access {
        OfflineScope::IfListed => {}
        OfflineScope::Always => discovered.scopes_supported.push(OFFLINE_ACCESS.to_owned()),
        OfflineScope::Never => {
            for scopes in [&mut discovered.scopes_supported, &mut discovered.resource_scopes] {
                scopes.retain(|scope| scope != OFFLINE_ACCESS);
            }
        }
    }
    discovered
}

/// What tokens are asked for by, and where.
pub(crate) fn binding(
    server: &ServerSettings,
    discovered: &Discovered,
    client: ClientRegistration,
    requested_scopes: Vec<String>,
) -> Binding {
    let profile = server.profile(&discovered.issuer);
    let resource = match &server.oauth.resource {
        ResourceSetting::Auto if profile.is_some_and(|profile| profile.refuses_resource) => None,
        ResourceSetting::Auto => Some(discovered.resource.clone().unwrap_or_else(|| server.url.clone())),
        ResourceSetting::None => None,
        ResourceSetting::Uri(uri) => Some(uri.clone()),
    };
    let of_profile = profile.map_or(&[][..], |profile| profile.authorization_params);
    let mut extra_params: BTreeMap<String, String> =
        of_profile.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    extra_params.extend(server.oauth.extra_params.clone());
    let general = RequestShape::default();
    let scope = general.scope || profile.is_some_and(|profile| profile.wants_scope);
    Binding {
        upstream: server.url.clone(),
        token_endpoint: discovered.token_endpoint.clone(),
        revocation_endpoint: discovered.revocation_endpoint.clone(),
        grant_type: server.oauth.grant,
        client,
        resource,
        requested_scopes,
        dpop_key: None,
        extra_params,
        shape: RequestShape { scope, ..general },
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

/// The scopes to ask for (MCP authorization, "Scope Selection Strategy"): the configured ones, else
/// the challenge's, else the resource's; with what the upstream demanded since, on top of what was
/// asked for before; and `offline_access` as configured, but for grants that need no person: it
/// stands for a refresh token, which only a person's login has.
pub(crate) fn wanted_scopes(
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
        _ if server.oauth.grant.is_unattended() => None,
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

#[cfg(test)]
mod tests {
    use everfresh_domain::grant::ClientAuthMethod;

    use super::*;
    use crate::ports::{Challenge, DpopOffer};
    use crate::settings::ProfileSetting;

    fn discovered(issuer: &str) -> Discovered {
        Discovered {
            issuer: issuer.to_owned(),
            authorization_endpoint: format!("{issuer}/authorize"),
            token_endpoint: format!("{issuer}/token"),
            registration_endpoint: None,
            revocation_endpoint: None,
            device_authorization_endpoint: None,
            grant_profiles: Vec::new(),
            token_endpoint_auth_methods: vec!["client_secret_basic".into()],
            scopes_supported: vec!["read".into(), OFFLINE_ACCESS.into()],
            client_id_metadata_documents: false,
            iss_in_responses: false,
            resource: Some("https://mcp.example/mcp".into()),
            resource_scopes: Vec::new(),
            dpop: DpopOffer::default(),
            challenge: Challenge::default(),
        }
    }

    fn server() -> ServerSettings {
        ServerSettings::new("s".parse().unwrap(), "https://mcp.example/mcp")
    }

    fn bound(server: &ServerSettings, issuer: &str) -> Binding {
        let client = ClientRegistration {
            issuer: issuer.to_owned(),
            client_id: "c".into(),
            client_secret: None,
            private_key: None,
            auth_method: ClientAuthMethod::None,
            secret_expires_at: None,
            redirect_uris: Vec::new(),
        };
        binding(server, &as_profiled(server, discovered(issuer)), client, vec!["read".into()])
    }

    #[test]
    fn a_provider_is_met_in_its_own_way_and_a_stranger_by_the_rules() {
        let google = bound(&server(), "https://accounts.google.com");
        assert_eq!(google.extra_params["access_type"], "offline");
        let entra = bound(&server(), "https://login.microsoftonline.com/t/v2.0");
        assert_eq!((entra.resource, entra.shape.scope), (None, true));
        let stranger = bound(&server(), "https://as.example");
        assert_eq!(stranger.resource.as_deref(), Some("https://mcp.example/mcp"));
        assert!(stranger.extra_params.is_empty() && stranger.shape == RequestShape::default());
    }

    #[test]
    fn what_the_user_configures_goes_before_the_profile() {
        let mut server = server();
        server.oauth.resource = ResourceSetting::Uri("api://mine".into());
        server.oauth.extra_params = [("prompt".to_owned(), "none".to_owned())].into();
        let google = bound(&server, "https://accounts.google.com");
        assert_eq!(
            (google.extra_params["access_type"].as_str(), google.extra_params["prompt"].as_str()),
            ("offline", "none")
        );
        let entra = bound(&server, "https://login.microsoftonline.com/t/v2.0");
        assert_eq!(entra.resource.as_deref(), Some("api://mine"));
        server.oauth.profile = ProfileSetting::None;
        assert_eq!(bound(&server, "https://accounts.google.com").extra_params.len(), 1);
        server.oauth.profile = ProfileSetting::Named("entra".into());
        assert!(bound(&server, "https://accounts.google.com").shape.scope);
        server.oauth.profile = ProfileSetting::Named("of a later version".into());
        assert_eq!(bound(&server, "https://accounts.google.com").shape, RequestShape::default());
    }

    #[test]
    fn offline_access_and_client_authentication_are_the_profiles() {
        let mut supabase = server();
        supabase.oauth.profile = ProfileSetting::Named("supabase".into());
        let found = as_profiled(&supabase, discovered("https://as.example"));
        assert_eq!(wanted_scopes(&supabase, &found, &[], None), Vec::<String>::new());
        supabase.oauth.offline_access = OfflineAccess::Always;
        assert_eq!(wanted_scopes(&supabase, &found, &[], None), [OFFLINE_ACCESS], "the user wants it");
        supabase.oauth.offline_access = OfflineAccess::Auto;
        supabase.oauth.scopes = vec![OFFLINE_ACCESS.into()];
        assert_eq!(wanted_scopes(&supabase, &found, &[], None), [OFFLINE_ACCESS], "the user asked for it");
        let mut hubspot = server();
        hubspot.oauth.profile = ProfileSetting::Named("hubspot".into());
        let found = as_profiled(&hubspot, discovered("https://as.example"));
        assert_eq!(found.token_endpoint_auth_methods, ["client_secret_post"]);
    }
}
