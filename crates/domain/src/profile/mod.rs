//! What is known of providers beyond the standards: a table, and how its rows are found.
//!
//! A row changes what is asked for and how answers are read, never where tokens go. The user's
//! configuration goes before it, and so does what the provider itself says. Providers without a row
//! work by the general rules.

mod table;

use crate::grant::ClientAuthMethod;
use crate::token::LoginLimits;

pub use table::PROFILES;

/// One provider's own ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its name in the configuration.
    pub name: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// The hosts of its issuer and servers, in lower case: whole names, or `*.` and what they end
    /// in. Empty where it is hosted by anybody, and a user has to say so.
    pub hosts: &'static [&'static str],
    /// Further parameters of the authorization request, without which there is no refresh token.
    pub authorization_params: &'static [(&'static str, &'static str)],
    /// Whether a resource indicator (RFC 8707) makes it refuse.
    pub refuses_resource: bool,
    /// Whether a refresh has to name its scopes.
    pub wants_scope: bool,
    /// When `offline_access` is asked for.
    pub offline_access: OfflineScope,
    /// The one way of client authentication that it takes, whatever its metadata says.
    pub auth_method: Option<ClientAuthMethod>,
    /// Its words for a refresh token that is dead.
    pub refused: &'static [Alias],
    /// How long it lets logins live, where its answers do not tell.
    pub limits: LoginLimits,
    /// What people should know when they log in.
    pub note: Option<&'static str>,
}

/// When `offline_access` is asked for (OpenID Connect core section 11).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OfflineScope {
    /// Where the authorization server lists it.
    #[default]
    IfListed,
    /// Always: there is no refresh token without it.
    Always,
    /// Never: it is listed and refused.
    Never,
}

/// A provider's own words for `invalid_grant`, matched exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alias {
    /// The `error` code.
    pub code: &'static str,
    /// The `error_description`, where the code alone says too little.
    pub description: Option<&'static str>,
    /// Whose answers it is believed in.
    pub reach: AliasReach,
}

/// Whose answers an alias is believed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AliasReach {
    /// Everybody's: it can mean nothing else.
    Anybody,
    /// Only this provider's: elsewhere the same words mean something else.
    Provider,
}

impl Alias {
    fn says(&self, code: &str, description: &str) -> bool {
        self.code == code && self.description.is_none_or(|wanted| wanted == description)
    }
}

impl Profile {
    /// The row called `name`.
    pub fn named(name: &str) -> Option<&'static Self> {
        PROFILES.iter().find(|profile| profile.name == name)
    }

    /// The row of the provider behind `issuer`, else of the one whose server is at `upstream`.
    pub fn of(issuer: &str, upstream: &str) -> Option<&'static Self> {
        Self::at(issuer).or_else(|| Self::at(upstream))
    }

    fn at(url: &str) -> Option<&'static Self> {
        let host = host(url)?;
        PROFILES.iter().find(|profile| profile.hosts.iter().any(|pattern| matches(pattern, &host)))
    }
}

/// Whether the error `code` with its `description` says that the refresh token is dead: by the
/// standard's word, by one that nobody uses for anything else, or by one of `profile`'s own.
pub fn means_refused(code: &str, description: &str, profile: Option<&Profile>) -> bool {
    let everybodys = PROFILES.iter().flat_map(|profile| profile.refused);
    let mut believed = everybodys
        .filter(|alias| alias.reach == AliasReach::Anybody)
        .chain(profile.into_iter().flat_map(|profile| profile.refused));
    code == "invalid_grant" || believed.any(|alias| alias.says(code, description))
}

fn matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(end) => host.len() > end.len() && host.ends_with(end),
        None => host == pattern,
    }
}

/// The host in a URL, in lower case and without port.
fn host(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#', '\\']).next()?;
    let place = authority.rsplit('@').next()?;
    let name = place.split(':').next()?;
    Some(name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_row_is_found_by_the_issuer_first_and_then_by_the_server() {
        let found = |issuer: &str, upstream: &str| Profile::of(issuer, upstream).map(|profile| profile.name);
        assert_eq!(found("https://login.microsoftonline.com/t/v2.0", "https://mcp.example/"), Some("entra"));
        assert_eq!(found("https://ACCOUNTS.google.com:443", "https://mcp.slack.com/mcp"), Some("google"));
        assert_eq!(found("https://as.example", "https://mcp.slack.com/mcp"), Some("slack"));
        for stranger in [
            "https://accounts.google.com.evil.example",
            "https://evil-slack.com",
            "https://accounts.google.com@evil.example/",
            "https://evil.example\\.slack.com/",
            "not a URL",
            "",
        ] {
            assert_eq!(found(stranger, stranger), None, "{stranger}");
        }
    }

    #[test]
    fn a_pattern_of_subdomains_is_not_its_own_domain() {
        assert!(matches("*.slack.com", "mcp.slack.com") && !matches("*.slack.com", "slack.com"));
        assert!(!matches("*.slack.com", ".slack.com"));
    }

    #[test]
    fn every_row_has_a_name_of_its_own_and_says_something() {
        let names: BTreeSet<_> = PROFILES.iter().map(|profile| profile.name).collect();
        assert_eq!(names.len(), PROFILES.len());
        for profile in PROFILES {
            let Profile { name, title, hosts, .. } = *profile;
            let silent = Profile { name, title, hosts, ..table::GENERAL };
            assert_ne!(*profile, silent, "{name} says nothing");
            assert!(!["auto", "none"].contains(&name) && hosts.iter().all(|host| *host == host.to_ascii_lowercase()));
        }
    }

    #[test]
    fn words_that_mean_something_else_elsewhere_are_believed_of_their_provider_only() {
        assert!(means_refused("bad_refresh_token", "anything", None));
        assert!(means_refused("unauthorized_client", "refresh_token is invalid", None));
        assert!(!means_refused("unauthorized_client", "another client", None));
        let (code, description) = ("invalid_request", "The token request is invalid.");
        let metabase = Profile::named("metabase");
        assert!(means_refused(code, description, metabase) && !means_refused(code, description, None));
        assert!(!means_refused(code, description, Profile::named("obot")));
        assert!(!means_refused(code, "grant_type is missing", metabase));
    }
}
