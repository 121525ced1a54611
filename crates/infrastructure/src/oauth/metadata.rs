//! The documents of discovery, as pure functions: where they are, what they say, what is refused.
//!
//! RFC 9728 (protected resources), RFC 8414 and OpenID Connect discovery (authorization servers),
//! in the order of the MCP specification. Issuers and resources are compared as texts.

use serde::{Deserialize, Deserializer};
use url::Url;

/// What an authorization server is wanted for, which decides over what its document must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A person logs in there: by a page, and with PKCE.
    Login,
    /// Tokens are asked for without a person.
    Tokens,
}

/// How an issuer may be written in its own document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// Byte for byte as it was announced (RFC 8414 section 3.3).
    Exact,
    /// As the bare origin, or that with a slash: nobody announced it, and both are written.
    OrWithSlash,
}

/// An absent list and `null`, which some servers write for an empty one, are empty.
fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// An absent switch and `null` are off.
fn switch<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A protected resource's metadata (RFC 9728 section 2).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ResourceMetadata {
    pub(super) resource: Option<String>,
    #[serde(deserialize_with = "list")]
    pub(super) authorization_servers: Vec<String>,
    #[serde(deserialize_with = "list")]
    pub(super) scopes_supported: Vec<String>,
    #[serde(deserialize_with = "list")]
    pub(super) dpop_signing_alg_values_supported: Vec<String>,
    #[serde(deserialize_with = "switch")]
    pub(super) dpop_bound_access_tokens_required: bool,
}

/// An authorization server's metadata (RFC 8414 section 2).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ServerMetadata {
    pub(super) issuer: String,
    pub(super) authorization_endpoint: Option<String>,
    pub(super) token_endpoint: Option<String>,
    pub(super) registration_endpoint: Option<String>,
    pub(super) revocation_endpoint: Option<String>,
    pub(super) device_authorization_endpoint: Option<String>,
    #[serde(deserialize_with = "list")]
    pub(super) authorization_grant_profiles_supported: Vec<String>,
    #[serde(deserialize_with = "list")]
    pub(super) token_endpoint_auth_methods_supported: Vec<String>,
    #[serde(deserialize_with = "list")]
    pub(super) scopes_supported: Vec<String>,
    #[serde(deserialize_with = "list")]
    pub(super) code_challenge_methods_supported: Vec<String>,
    #[serde(deserialize_with = "list")]
    pub(super) dpop_signing_alg_values_supported: Vec<String>,
    #[serde(deserialize_with = "switch")]
    pub(super) client_id_metadata_document_supported: bool,
    #[serde(deserialize_with = "switch")]
    pub(super) authorization_response_iss_parameter_supported: bool,
}

/// Scheme and authority of a URL, without a slash at the end.
pub(super) fn origin(url: &str) -> Option<String> {
    let origin = Url::parse(url).ok()?.origin();
    origin.is_tuple().then(|| origin.ascii_serialization())
}

/// The path of a URL without a slash at the end; empty for the root.
fn path(url: &str) -> String {
    Url::parse(url).map(|url| url.path().trim_end_matches('/').to_owned()).unwrap_or_default()
}

/// Where an upstream's metadata may be (RFC 9728 section 3.1): with its path inserted, then at the root.
pub(super) fn resource_metadata_urls(upstream: &str) -> Vec<String> {
    well_known(upstream, &["oauth-protected-resource"], &[])
}

/// Where an issuer's metadata may be, in the order of the MCP specification.
pub(super) fn server_metadata_urls(issuer: &str) -> Vec<String> {
    let (Some(origin), path) = (origin(issuer), path(issuer)) else { return Vec::new() };
    let documents = ["oauth-authorization-server", "openid-configuration"];
    let mut urls: Vec<String> =
        documents.iter().map(|document| format!("{origin}/.well-known/{document}{path}")).collect();
    if !path.is_empty() {
        urls.push(format!("{origin}{path}/.well-known/openid-configuration"));
    }
    urls
}

fn well_known(url: &str, documents: &[&str], more: &[&str]) -> Vec<String> {
    let (Some(origin), path) = (origin(url), path(url)) else { return Vec::new() };
    let inserted = documents.iter().filter(|_| !path.is_empty()).map(|document| {
        let document: &str = document;
        format!("{origin}/.well-known/{document}{path}")
    });
    let root = documents.iter().chain(more).map(|document| format!("{origin}/.well-known/{document}"));
    inserted.chain(root).collect()
}

/// Whether metadata about `resource` is about `upstream`: the same origin, and a path that leads to it.
///
/// RFC 9728 section 3.3 wants them identical; many servers publish their bare origin.
pub(super) fn covers(resource: &str, upstream: &str) -> bool {
    let same_origin = origin(resource).is_some_and(|found| Some(found) == origin(upstream));
    let (resource, upstream) = (path(resource), path(upstream));
    same_origin && upstream.strip_prefix(resource.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The endpoints of servers from before there was metadata (MCP 2025-03-26, "Fallbacks").
pub(super) fn default_endpoints(origin: &str) -> ServerMetadata {
    ServerMetadata {
        issuer: origin.to_owned(),
        authorization_endpoint: Some(format!("{origin}/authorize")),
        token_endpoint: Some(format!("{origin}/token")),
        registration_endpoint: Some(format!("{origin}/register")),
        code_challenge_methods_supported: vec!["S256".to_owned()],
        ..ServerMetadata::default()
    }
}

impl ServerMetadata {
    /// Why this document cannot be used for `issuer`, if so.
    pub(super) fn objection(&self, issuer: &str, spelling: Spelling, purpose: Purpose) -> Option<String> {
        let same = match spelling {
            Spelling::Exact => self.issuer == issuer,
            Spelling::OrWithSlash => self.issuer.strip_suffix('/').unwrap_or(&self.issuer) == issuer,
        };
        if !same {
            return Some(format!("it speaks for the issuer {:?}, and {issuer:?} was asked", cut(&self.issuer)));
        }
        if purpose == Purpose::Tokens {
            return self.token_endpoint.is_none().then(|| "it names no token endpoint".to_owned());
        }
        if !self.code_challenge_methods_supported.iter().any(|method| method == "S256") {
            return Some("it does not offer PKCE with S256, without which a login can be stolen".to_owned());
        }
        if self.authorization_endpoint.is_none() || self.token_endpoint.is_none() {
            return Some("it names no authorization or token endpoint".to_owned());
        }
        None
    }
}

/// Every document and URL rule of this file on the same bytes.
#[cfg(feature = "fuzzing")]
pub(super) fn read_all(body: &[u8]) {
    if let Ok(document) = serde_json::from_slice::<ServerMetadata>(body) {
        drop(document.objection("https://as.example", Spelling::OrWithSlash, Purpose::Login));
        for url in server_metadata_urls(&document.issuer) {
            assert!(origin(&url) == origin(&document.issuer), "{url} is of another origin");
        }
    }
    if let Ok(document) = serde_json::from_slice::<ResourceMetadata>(body) {
        let resource = document.resource.unwrap_or_default();
        let upstream = "https://mcp.example/mcp";
        assert!(!covers(&resource, upstream) || origin(&resource) == origin(upstream), "{resource}");
        drop(resource_metadata_urls(&resource));
    }
}

fn cut(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resource_metadata_is_looked_for_under_the_path_first() {
        let urls = resource_metadata_urls("https://mcp.example:8443/v1/mcp");
        assert_eq!(
            urls,
            [
                "https://mcp.example:8443/.well-known/oauth-protected-resource/v1/mcp",
                "https://mcp.example:8443/.well-known/oauth-protected-resource",
            ]
        );
        assert_eq!(
            resource_metadata_urls("https://mcp.example/"),
            ["https://mcp.example/.well-known/oauth-protected-resource"]
        );
    }

    #[test]
    fn server_metadata_is_looked_for_in_the_order_of_the_specification() {
        assert_eq!(
            server_metadata_urls("https://as.example/tenant1"),
            [
                "https://as.example/.well-known/oauth-authorization-server/tenant1",
                "https://as.example/.well-known/openid-configuration/tenant1",
                "https://as.example/tenant1/.well-known/openid-configuration",
            ]
        );
        assert_eq!(
            server_metadata_urls("https://as.example"),
            [
                "https://as.example/.well-known/oauth-authorization-server",
                "https://as.example/.well-known/openid-configuration",
            ]
        );
        assert!(server_metadata_urls("nonsense").is_empty());
    }

    #[test]
    fn a_resource_covers_what_lies_under_it_and_nothing_else() {
        let upstream = "https://mcp.example/v1/mcp";
        for resource in [upstream, "https://mcp.example", "https://mcp.example/", "https://mcp.example/v1"] {
            assert!(covers(resource, upstream), "{resource}");
        }
        let others = [
            "https://evil.example/v1/mcp",
            "http://mcp.example/v1/mcp",
            "https://mcp.example/v1/m",
            "https://mcp.example/v1/mcp/deeper",
            "https://mcp.example:444/v1",
            "nonsense",
            "",
        ];
        for resource in others {
            assert!(!covers(resource, upstream), "{resource}");
        }
    }

    #[test]
    fn an_issuer_is_compared_as_text_and_pkce_is_demanded() {
        let good = default_endpoints("https://as.example");
        assert_eq!(good.objection("https://as.example", Spelling::Exact, Purpose::Login), None);
        assert!(good.objection("https://as.example/", Spelling::Exact, Purpose::Login).is_some());
        let without_pkce = ServerMetadata { code_challenge_methods_supported: vec!["plain".into()], ..good.clone() };
        assert!(
            without_pkce.objection("https://as.example", Spelling::Exact, Purpose::Login).unwrap().contains("PKCE")
        );
        assert_eq!(without_pkce.objection("https://as.example", Spelling::Exact, Purpose::Tokens), None);
        let without_endpoint = ServerMetadata { token_endpoint: None, ..good };
        assert!(without_endpoint.objection("https://as.example", Spelling::Exact, Purpose::Tokens).is_some());
        assert!(without_endpoint.objection("https://as.example", Spelling::Exact, Purpose::Login).is_some());
    }

    #[test]
    fn an_issuer_that_nobody_announced_may_end_in_a_slash() {
        let slashed =
            ServerMetadata { issuer: "https://as.example/".into(), ..default_endpoints("https://as.example") };
        assert_eq!(slashed.objection("https://as.example", Spelling::OrWithSlash, Purpose::Login), None);
        assert!(slashed.objection("https://as.example", Spelling::Exact, Purpose::Login).is_some());
        assert!(slashed.objection("https://evil.example", Spelling::OrWithSlash, Purpose::Login).is_some());
    }

    #[test]
    fn null_is_an_empty_list() {
        let resource: ResourceMetadata =
            serde_json::from_str(r#"{"authorization_servers":["https://as.example"],"scopes_supported":null}"#)
                .unwrap();
        assert_eq!((resource.authorization_servers.len(), resource.scopes_supported.len()), (1, 0));
    }
}
