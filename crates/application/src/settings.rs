//! What is configured: servers and how they are logged in to. Already validated.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use everfresh_domain::grant::GrantType;
use everfresh_domain::profile::PROFILES;
use everfresh_domain::{LoginLimits, Profile, ServerName};
use serde::{Deserialize, Serialize};
use url::{Host, Url};

/// Where a server's settings come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerSource {
    /// The configuration file, which wins.
    File,
    /// `everfresh add`, kept in the store.
    #[default]
    Store,
}

/// One upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerSettings {
    /// Its name.
    pub name: ServerName,
    /// Its URL as the user wrote it, `http` or `https`.
    pub url: String,
    /// Whether it is switched on.
    pub enabled: bool,
    /// Headers added to every proxied request.
    pub headers: BTreeMap<String, String>,
    /// A file with further certificate authorities (PEM), for every call on this server's behalf.
    pub ca_file: Option<PathBuf>,
    /// The certificate that is shown where one is demanded, for every call on this server's behalf.
    #[serde(default)]
    pub client_certificate: Option<ClientCertificate>,
    /// How it is logged in to.
    pub oauth: OAuthSettings,
    /// Where these settings come from.
    pub source: ServerSource,
}

impl ServerSettings {
    /// A server with nothing but a name and a URL.
    pub fn new(name: ServerName, url: impl Into<String>) -> Self {
        Self {
            name,
            url: url.into(),
            enabled: true,
            headers: BTreeMap::new(),
            ca_file: None,
            client_certificate: None,
            oauth: OAuthSettings::default(),
            source: ServerSource::Store,
        }
    }
}

impl ServerSettings {
    /// The provider's own ways, where it is known to have any. `issuer` is the login's.
    pub fn profile(&self, issuer: &str) -> Option<&'static Profile> {
        match &self.oauth.profile {
            ProfileSetting::Auto => Profile::of(issuer, &self.url),
            ProfileSetting::None => None,
            ProfileSetting::Named(name) => Profile::named(name),
        }
    }

    /// How long a login that `issuer` made lives, where its answers do not tell: as configured, else
    /// as is known of the provider.
    pub fn limits(&self, issuer: &str) -> LoginLimits {
        self.oauth.limits.or(self.profile(issuer).map(|profile| profile.limits).unwrap_or_default())
    }
}

/// Who this client is to servers that want to know (mutual TLS). Files are read again when they
/// change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClientCertificate {
    /// The certificate and those between it and its authority (PEM).
    pub cert_file: PathBuf,
    /// The private key (PEM); `None` where it is in `cert_file` as well.
    pub key_file: Option<PathBuf>,
}

/// How a server is logged in to. Everything left out is discovered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OAuthSettings {
    /// By what right tokens are asked for.
    #[serde(default)]
    pub grant: GrantType,
    /// The authorization server; skips protected resource discovery.
    pub issuer: Option<String>,
    /// A client that was registered by hand.
    pub client_id: Option<String>,
    /// Where that client's secret is to be had.
    pub client_secret: Option<SecretSource>,
    /// Where that client's private key is to be had (PKCS #8 in PEM), with which it signs who it is.
    #[serde(default)]
    pub private_key: Option<SecretSource>,
    /// What it signs with, where not with the usual algorithm of the key.
    #[serde(default)]
    pub signing_alg: Option<SigningAlgorithm>,
    /// Where the assertion of a JWT bearer grant is to be had, anew for each attempt.
    #[serde(default)]
    pub assertion: Option<SecretSource>,
    /// Who vouches for an enterprise-managed grant.
    #[serde(default)]
    pub identity_provider: Option<IdentityProviderSettings>,
    /// The scopes to ask for, before any that the upstream demands.
    pub scopes: Vec<String>,
    /// Which resource indicator (RFC 8707) is sent.
    pub resource: ResourceSetting,
    /// Further parameters of the authorization request; where no person logs in, of the token request.
    pub extra_params: BTreeMap<String, String>,
    /// Whether tokens are bound to a key.
    #[serde(default)]
    pub dpop: DpopSetting,
    /// How a person logs in, unless told otherwise.
    #[serde(default)]
    pub login_way: LoginWay,
    /// Whether the scope `offline_access` is asked for.
    #[serde(default)]
    pub offline_access: OfflineAccess,
    /// Where answers come back to, for clients registered by hand whose provider wants exactly this.
    #[serde(default)]
    pub redirect_uri: Option<String>,
    /// How long the provider lets a login live, where its answers do not tell.
    #[serde(default)]
    pub limits: LoginLimits,
    /// Whose ways the provider has.
    #[serde(default)]
    pub profile: ProfileSetting,
}

/// Whether tokens are bound to a key that is proven with each request (DPoP, RFC 9449).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DpopSetting {
    /// Where the upstream takes such tokens and its authorization server issues them.
    #[default]
    Auto,
    /// Always; a bearer token is not taken.
    Required,
    /// Never.
    Off,
}

impl FromStr for DpopSetting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "required" => Ok(Self::Required),
            "off" => Ok(Self::Off),
            other => Err(format!("{other:?} is not known; use \"auto\", \"required\" or \"off\"")),
        }
    }
}

/// What is wrong with a redirect URI, as words that fit after its name (RFC 8252 section 7).
pub fn redirect_problem(uri: &str) -> Option<&'static str> {
    let Ok(url) = Url::parse(uri) else { return Some("is not a URL") };
    let here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    if url.fragment().is_some() {
        Some("must have no fragment")
    } else if url.scheme() == "https" || (url.scheme() == "http" && here) {
        None
    } else {
        Some("must begin with https://, or with http:// and name this machine")
    }
}

/// How a person logs in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoginWay {
    /// In a browser that is sent back here (RFC 8252).
    #[default]
    Browser,
    /// By a code that is typed in at the provider, on any machine (RFC 8628).
    Device,
}

/// Whether the scope `offline_access`, which some providers want for a refresh token, is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OfflineAccess {
    /// Where the authorization server lists it.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never, whoever lists it.
    Never,
}

/// Which row of [`everfresh_domain::profile`] counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProfileSetting {
    /// The one that the issuer's host or the server's says.
    #[default]
    Auto,
    /// None: the general rules.
    None,
    /// This one. A name that this version does not know means the general rules.
    Named(String),
}

impl OAuthSettings {
    /// Every place where a secret of this server is to be had.
    pub fn secret_sources(&self) -> impl Iterator<Item = &SecretSource> {
        let idp = self.identity_provider.as_ref();
        let own = [&self.client_secret, &self.private_key, &self.assertion].into_iter().flatten();
        own.chain(idp.and_then(|idp| idp.client_secret.as_ref())).chain(idp.map(|idp| &idp.id_token))
    }
}

/// The identity provider of an enterprise, and what it is asked with (RFC 8693).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityProviderSettings {
    /// Its issuer; its token endpoint is discovered where it is not given.
    pub issuer: Option<String>,
    /// Its token endpoint.
    pub token_endpoint: Option<String>,
    /// The client that everfresh is there.
    pub client_id: Option<String>,
    /// That client's secret.
    pub client_secret: Option<SecretSource>,
    /// Where the ID token is to be had, anew for each attempt.
    pub id_token: SecretSource,
}

/// Signature algorithms for assertions (RFC 7518 section 3.1, RFC 8037 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SigningAlgorithm {
    /// ECDSA on P-256.
    #[serde(rename = "ES256")]
    Es256,
    /// ECDSA on P-384.
    #[serde(rename = "ES384")]
    Es384,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// RSA, PKCS #1, with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// RSA, PKCS #1, with SHA-384.
    #[serde(rename = "RS384")]
    Rs384,
    /// RSA, PKCS #1, with SHA-512.
    #[serde(rename = "RS512")]
    Rs512,
    /// RSA, PSS, with SHA-256.
    #[serde(rename = "PS256")]
    Ps256,
    /// RSA, PSS, with SHA-384.
    #[serde(rename = "PS384")]
    Ps384,
    /// RSA, PSS, with SHA-512.
    #[serde(rename = "PS512")]
    Ps512,
}

impl FromStr for SigningAlgorithm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "EdDSA" => Self::EdDsa,
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            other => {
                return Err(format!("{other:?} is not known; use ES256, ES384, EdDSA, RS256/384/512 or PS256/384/512"));
            }
        })
    }
}

/// What does not fit together: the key, and what to do about it.
pub type Objection = (&'static str, &'static str);

impl OAuthSettings {
    /// What does not fit together, all at once; empty where everything does.
    pub fn objections(&self) -> Vec<Objection> {
        let mut found = Vec::new();
        let mut object = |wrong: bool, key, fix| {
            if wrong {
                found.push((key, fix));
            }
        };
        let (secret, key) = (self.client_secret.is_some(), self.private_key.is_some());
        let needs_client = matches!(self.grant, GrantType::ClientCredentials | GrantType::EnterpriseManaged);
        let no_client = self.client_id.is_none();
        object(no_client && secret, "client_id", "is missing; a client_secret is of no use without it");
        object(no_client && key, "client_id", "is missing; a private_key is of no use without it");
        object(no_client && needs_client && !secret && !key, "client_id", "is missing; this grant needs one");
        object(secret && key, "private_key", "and client_secret exclude each other; remove one");
        object(self.signing_alg.is_some() && !key, "signing_alg", "is of no use without a private_key");
        let bare = self.grant == GrantType::ClientCredentials && !secret && !key;
        object(bare, "client_secret", "is missing; this grant needs it, or a private_key");
        let (by_assertion, assertion) = (self.grant == GrantType::JwtBearer, self.assertion.is_some());
        object(by_assertion && !assertion, "assertion", "is missing; write assertion = { file = \"...\" }");
        object(!by_assertion && assertion, "assertion", "is for grant = \"jwt_bearer\" only");
        let (managed, provider) = (self.grant == GrantType::EnterpriseManaged, self.identity_provider.as_ref());
        object(managed && provider.is_none(), "identity_provider", "is missing; this grant needs that section");
        object(!managed && provider.is_some(), "identity_provider", "is for grant = \"enterprise_managed\" only");
        let nowhere = provider.is_some_and(|provider| provider.issuer.is_none() && provider.token_endpoint.is_none());
        object(nowhere, "identity_provider", "needs an issuer or a token_endpoint");
        let secret_only =
            provider.is_some_and(|provider| provider.client_secret.is_some() && provider.client_id.is_none());
        object(secret_only, "identity_provider", "has a client_secret without a client_id");
        found
    }
}

/// Which resource indicator is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceSetting {
    /// The one the upstream publishes, else its URL.
    #[default]
    Auto,
    /// None at all.
    None,
    /// This one, byte for byte.
    Uri(String),
}

impl FromStr for ProfileSetting {
    type Err = String;

    /// As people write it. The error says which names there are.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "none" => Ok(Self::None),
            name if Profile::named(name).is_some() => Ok(Self::Named(name.to_owned())),
            unknown => {
                let known: Vec<&str> = PROFILES.iter().map(|profile| profile.name).collect();
                Err(format!("the profile {unknown:?} is not known; use auto, none, or one of {}", known.join(", ")))
            }
        }
    }
}

/// Where a secret is to be had. A secret itself never stands in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretSource {
    /// An environment variable.
    Env(String),
    /// The first line of a file.
    File(PathBuf),
    /// The first line that a command prints; program and arguments, no shell.
    Command(Vec<String>),
}

/// What logins of all servers share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoginSettings {
    /// A client id metadata document that the user hosts.
    pub client_id_metadata_url: Option<String>,
    /// Where answers come back to: the daemon's own listener.
    pub redirect_uri: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_may_come_back_over_tls_or_to_this_machine() {
        let good = [
            "http://localhost:3118/callback",
            "http://127.0.0.1/cb?x=y",
            "http://[::1]:7411/cb",
            "https://a.example/cb",
        ];
        for uri in good {
            assert_eq!(redirect_problem(uri), None, "{uri}");
        }
        let bad = [
            "",
            "localhost:3118",
            "http://a.example/cb",
            "https://a.example/cb#here",
            "app:/cb",
            "urn:ietf:wg:oauth:2.0:oob",
        ];
        for uri in bad {
            assert!(redirect_problem(uri).is_some(), "{uri}");
        }
    }
}
