//! What is configured: servers and how they are logged in to. Already validated.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use everfresh_domain::ServerName;
use serde::{Deserialize, Serialize};

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
            oauth: OAuthSettings::default(),
            source: ServerSource::Store,
        }
    }
}

/// How a server is logged in to. Everything left out is discovered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OAuthSettings {
    /// The authorization server; skips protected resource discovery.
    pub issuer: Option<String>,
    /// A client that was registered by hand.
    pub client_id: Option<String>,
    /// Where that client's secret is to be had.
    pub client_secret: Option<SecretSource>,
    /// The scopes to ask for, before any that the upstream demands.
    pub scopes: Vec<String>,
    /// Which resource indicator (RFC 8707) is sent.
    pub resource: ResourceSetting,
    /// Further parameters of the authorization request.
    pub extra_params: BTreeMap<String, String>,
    /// Whether tokens are bound to a key.
    #[serde(default)]
    pub dpop: DpopSetting,
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
