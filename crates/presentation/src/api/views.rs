//! The shapes of the API, for those who serve it and those who call it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use everfresh_application::{
    ClientCertificate, DpopSetting, IdentityProviderSettings, LoginWay, OAuthSettings, OfflineAccess, ProfileSetting,
    ResourceSetting, SecretSource, ServerSettings, ServerSource, ServerView, SigningAlgorithm, redirect_problem,
};
use everfresh_domain::grant::GrantType;
use everfresh_domain::health::{AdminState, HealthAction, Level};
use everfresh_domain::status::RefreshState;
use everfresh_domain::{GrantStatus, LoginLimits, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use super::servers::{Attempt, Journal};
use crate::help;
use crate::proxy::is_configurable;

/// One grant: a server and the account that is logged in to it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Server {
    /// The server's name.
    pub name: String,
    /// The account, `default` unless named.
    pub account: String,
    /// The upstream.
    pub url: String,
    /// By what right its tokens are asked for: `authorization_code`, where a person logs in,
    /// `client_credentials`, `jwt_bearer` or `enterprise_managed`.
    #[schema(value_type = String)]
    pub grant: GrantType,
    /// Where the settings come from: `file` or `store`.
    #[schema(pattern = "^(file|store)$")]
    pub source: &'static str,
    /// Whether a server of this name was also added at run time; the file wins.
    pub shadows_stored: bool,
    /// How it is.
    pub health: Health,
    /// Its tokens, while logged in.
    pub token: Option<Token>,
    /// Its refreshes.
    pub refresh: Refresh,
    /// Its logins.
    pub login: Login,
    /// Who issues its tokens; null before the first login.
    pub issuer: Option<String>,
    /// The provider's own ways, where it is known to have any.
    pub profile: Option<ProviderProfile>,
}

/// A provider that is known.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ProviderProfile {
    /// Its name in the configuration.
    pub name: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// What people should know who log in there.
    pub note: Option<&'static str>,
}

/// How a grant is.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Health {
    /// `healthy`, `degraded` or `unhealthy`.
    #[schema(value_type = String, pattern = "^(healthy|degraded|unhealthy)$")]
    pub level: Level,
    /// `enabled` or `disabled`.
    #[schema(value_type = String, pattern = "^(enabled|disabled)$")]
    pub admin_state: AdminState,
    /// One line.
    pub summary: String,
    /// One more line, or empty.
    pub detail: String,
    /// `login`, `retry`, `view_logs`, `enable`, `configure`, or empty.
    #[schema(value_type = String, pattern = "^(login|retry|view_logs|enable|configure)?$")]
    pub action: HealthAction,
    /// The command that does it; null where there is nothing to do.
    pub command: Option<String>,
    /// Why, for programs.
    pub reason: &'static str,
    /// Where the help page says more about that.
    pub help: String,
}

/// Tokens, without the tokens.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Token {
    /// `Bearer`, or `DPoP` where it is bound to a key that is proven with each request.
    #[serde(rename = "type")]
    pub token_type: String,
    /// When the access token ends; null where not known.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub issued_at: Timestamp,
    /// Its lifetime in seconds; null where not known.
    pub lifetime_s: Option<u64>,
    /// Whether there is a refresh token.
    pub has_refresh_token: bool,
    /// When the refresh token ends; null where not known.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub refresh_token_expires_at: Option<Timestamp>,
    /// What was granted.
    pub scopes: Vec<String>,
    /// What was granted once, and left out of a later answer.
    pub lost_scopes: Vec<String>,
    /// Grows with every token set, login and logout.
    pub generation: u64,
    /// Eight hexadecimal digits of the access token's digest.
    pub fingerprint: String,
}

/// Refreshes of a grant.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Refresh {
    /// `idle`, `scheduled`, `refreshing`, `retrying` or `failed`.
    #[schema(value_type = String, pattern = "^(idle|scheduled|refreshing|retrying|failed)$")]
    pub state: RefreshState,
    /// When the next attempt is due.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_attempt_at: Option<Timestamp>,
    /// Failures in a row.
    pub retry_count: u32,
    /// When the last attempt began.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_attempt_at: Option<Timestamp>,
    /// When tokens were last stored.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_success_at: Option<Timestamp>,
    /// The last failure since.
    pub last_error: Option<LastError>,
}

/// A failed attempt.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LastError {
    /// As in health.
    pub reason: &'static str,
    /// The provider's error code.
    pub oauth_error: Option<String>,
    /// The status of its answer.
    pub http_status: Option<u16>,
    /// What happened.
    pub message: String,
    /// Which attempt.
    pub attempt_id: String,
}

/// Logins of a grant.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Login {
    /// Whether somebody is on the way.
    pub pending: bool,
    /// Which login that is.
    pub flow_id: Option<String>,
    /// Since when.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub pending_since: Option<Timestamp>,
    /// Until when.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub pending_until: Option<Timestamp>,
    /// The scopes that the last login asked for.
    pub requested_scopes: Vec<String>,
    /// The scopes that the upstream demanded and the next login asks for.
    pub needed_scopes: Vec<String>,
    /// When the client's secret ends; null where it has none, or it has no end.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub client_secret_expires_at: Option<Timestamp>,
}

impl From<&ServerView> for Server {
    fn from(view: &ServerView) -> Self {
        let (settings, status) = (&view.settings, &view.status);
        let issuer = status.issuer.clone().or_else(|| settings.oauth.issuer.clone());
        let profile = settings.profile(issuer.as_deref().unwrap_or_default());
        let pending = view.pending_login.as_ref();
        Self {
            name: status.id.server.to_string(),
            account: status.id.account.to_string(),
            url: settings.url.clone(),
            grant: settings.oauth.grant,
            source: match settings.source {
                ServerSource::File => "file",
                ServerSource::Store => "store",
            },
            shadows_stored: view.shadows_stored,
            health: Health {
                level: view.health.level,
                admin_state: view.health.admin_state,
                summary: view.health.summary.clone(),
                detail: view.health.detail.clone(),
                action: view.health.action,
                command: view.health.action.command(&status.id),
                reason: view.health.reason.as_str(),
                help: help::link(view.health.reason),
            },
            token: token(status),
            refresh: refresh(view),
            login: Login {
                pending: pending.is_some(),
                flow_id: pending.map(|login| login.flow.to_string()),
                pending_since: pending.map(|login| login.began_at),
                pending_until: pending.map(|login| login.expires_at),
                requested_scopes: status.requested_scopes.clone(),
                needed_scopes: status.needed_scopes.clone(),
                client_secret_expires_at: status.client_secret_expires_at,
            },
            issuer,
            profile: profile.map(|profile| ProviderProfile {
                name: profile.name,
                title: profile.title,
                note: profile.note,
            }),
        }
    }
}

fn token(status: &GrantStatus) -> Option<Token> {
    let tokens = status.tokens.as_ref()?;
    Some(Token {
        token_type: tokens.token_type.clone(),
        expires_at: tokens.expires_at(),
        issued_at: tokens.issued_at,
        lifetime_s: tokens.lifetime.map(|lifetime| lifetime.as_secs()),
        has_refresh_token: tokens.refresh_token.is_some(),
        refresh_token_expires_at: tokens.refresh_token_expires_at(),
        scopes: tokens.scopes.clone(),
        lost_scopes: status.lost_scopes.clone(),
        generation: tokens.generation.0,
        fingerprint: tokens.fingerprint.to_string(),
    })
}

fn refresh(view: &ServerView) -> Refresh {
    let status = &view.status;
    let last_error = status.last_failure.as_ref().map(|last| LastError {
        reason: view.health.reason.as_str(),
        oauth_error: last.failure.oauth_error.clone(),
        http_status: last.failure.http_status,
        message: last.failure.message.clone(),
        attempt_id: last.attempt.to_string(),
    });
    Refresh {
        state: status.state,
        next_attempt_at: status.next_attempt_at,
        retry_count: status.retry_count,
        last_attempt_at: status.last_attempt_at,
        last_success_at: status.last_success_at,
        last_error,
    }
}

/// All grants.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Servers {
    /// In the order of their names.
    pub servers: Vec<Server>,
    /// Why the newest version of the configuration file is not in force, and the like.
    pub problems: Vec<String>,
}

/// A server to be added.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewServer {
    /// Its name.
    pub name: String,
    /// The upstream, http or https.
    pub url: String,
    /// Headers for every proxied request.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Further certificate authorities (PEM).
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub ca_file: Option<PathBuf>,
    /// The certificate that is shown where one is demanded (PEM).
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub client_cert_file: Option<PathBuf>,
    /// Its private key (PEM), where it is not in the same file.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub client_key_file: Option<PathBuf>,
    /// How it is logged in to; what is left out is discovered.
    #[serde(default)]
    pub oauth: NewOAuth,
}

impl NewServer {
    /// Whether the daemon would read files for it: what they hold may be sent to the provider that is
    /// named beside them.
    pub(super) fn names_files(&self) -> bool {
        let oauth = &self.oauth;
        let files = [&self.ca_file, &self.client_cert_file, &self.client_key_file];
        let secrets = [&oauth.private_key_file, &oauth.assertion_file];
        files.into_iter().chain(secrets).any(Option::is_some) || oauth.identity_provider.is_some()
    }
}

/// How a server is logged in to.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewOAuth {
    /// By what right tokens are asked for.
    #[schema(value_type = String)]
    pub grant: GrantType,
    /// The authorization server.
    pub issuer: Option<String>,
    /// A client registered by hand.
    pub client_id: Option<String>,
    /// The environment variable, of the daemon, that holds the client's secret.
    pub client_secret_env: Option<String>,
    /// The file that holds that client's private key (PKCS #8 in PEM).
    #[schema(value_type = Option<String>)]
    pub private_key_file: Option<PathBuf>,
    /// What it signs with, where not with the usual algorithm of the key.
    pub signing_alg: Option<String>,
    /// The file that holds the assertion of a JWT bearer grant.
    #[schema(value_type = Option<String>)]
    pub assertion_file: Option<PathBuf>,
    /// The identity provider of an enterprise-managed grant.
    pub identity_provider: Option<NewIdentityProvider>,
    /// The scopes to ask for.
    pub scopes: Vec<String>,
    /// `auto`, `none`, or a resource indicator sent byte for byte.
    pub resource: Option<String>,
    /// Whether tokens are bound to a key (RFC 9449): `auto`, `required` or `off`.
    pub dpop: Option<String>,
    /// How a person logs in unless told otherwise: `browser` or `device`.
    #[schema(value_type = String)]
    pub login_way: LoginWay,
    /// Whether `offline_access` is asked for: `auto`, `always` or `never`.
    #[schema(value_type = String)]
    pub offline_access: OfflineAccess,
    /// Where answers come back to, for clients registered by hand: https, or http on this machine.
    pub redirect_uri: Option<String>,
    /// `auto`, `none`, or the name of the provider whose ways this one has.
    pub profile: Option<String>,
}

/// The identity provider of an enterprise-managed grant.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewIdentityProvider {
    /// Its issuer.
    #[serde(default)]
    pub issuer: Option<String>,
    /// Its token endpoint, where that is not to be discovered.
    #[serde(default)]
    pub token_endpoint: Option<String>,
    /// The client that everfresh is there.
    #[serde(default)]
    pub client_id: Option<String>,
    /// The environment variable, of the daemon, that holds that client's secret.
    #[serde(default)]
    pub client_secret_env: Option<String>,
    /// The file that holds the ID token.
    #[schema(value_type = String)]
    pub id_token_file: PathBuf,
}

/// What is wrong with a new server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidMember {
    /// The member, as a JSON pointer (RFC 6901).
    pub pointer: String,
    /// What about it, and what to do.
    pub detail: String,
}

impl InvalidMember {
    fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }

    /// The member that stands for a key of the settings.
    fn of_setting(key: &str, detail: String) -> Self {
        let member = match key {
            "client_secret" => "client_secret_env",
            "private_key" => "private_key_file",
            "assertion" => "assertion_file",
            same => same,
        };
        Self::new(format!("/oauth/{member}"), detail)
    }
}

impl TryFrom<NewOAuth> for OAuthSettings {
    type Error = InvalidMember;

    fn try_from(new: NewOAuth) -> Result<Self, InvalidMember> {
        let invalid = InvalidMember::of_setting;
        if let Some(problem) = new.redirect_uri.as_deref().and_then(redirect_problem) {
            return Err(invalid("redirect_uri", format!("oauth.redirect_uri {problem}")));
        }
        let settings = Self {
            grant: new.grant,
            issuer: new.issuer,
            client_id: new.client_id,
            client_secret: new.client_secret_env.map(SecretSource::Env),
            private_key: new.private_key_file.map(SecretSource::File),
            signing_alg: new
                .signing_alg
                .as_deref()
                .map(str::parse::<SigningAlgorithm>)
                .transpose()
                .map_err(|error| invalid("signing_alg", error))?,
            assertion: new.assertion_file.map(SecretSource::File),
            identity_provider: new.identity_provider.map(|provider| IdentityProviderSettings {
                issuer: provider.issuer,
                token_endpoint: provider.token_endpoint,
                client_id: provider.client_id,
                client_secret: provider.client_secret_env.map(SecretSource::Env),
                id_token: SecretSource::File(provider.id_token_file),
            }),
            scopes: new.scopes,
            resource: match new.resource.as_deref() {
                None | Some("auto") => ResourceSetting::Auto,
                Some("none") => ResourceSetting::None,
                Some(uri) => ResourceSetting::Uri(uri.to_owned()),
            },
            extra_params: BTreeMap::new(),
            dpop: match new.dpop.as_deref() {
                None => DpopSetting::Auto,
                Some(text) => text.parse().map_err(|error| invalid("dpop", format!("oauth.dpop = {error}")))?,
            },
            login_way: new.login_way,
            offline_access: new.offline_access,
            redirect_uri: new.redirect_uri,
            limits: LoginLimits::default(),
            profile: new
                .profile
                .as_deref()
                .map_or(Ok(ProfileSetting::Auto), str::parse)
                .map_err(|error| invalid("profile", error))?,
        };
        let objections = settings.objections();
        let Some((first, _)) = objections.first() else { return Ok(settings) };
        let told: Vec<String> = objections.iter().map(|(key, fix)| format!("{key} {fix}")).collect();
        Err(invalid(first, told.join("; ")))
    }
}

impl TryFrom<NewServer> for ServerSettings {
    type Error = InvalidMember;

    fn try_from(new: NewServer) -> Result<Self, InvalidMember> {
        let invalid = |pointer: &str, detail: String| InvalidMember::new(pointer, detail);
        let name = new.name.parse();
        let name = name.map_err(|error: everfresh_domain::ids::InvalidName| invalid("/name", error.to_string()))?;
        for (name, value) in &new.headers {
            let (Ok(parsed), Ok(_)) = (name.parse(), http::HeaderValue::from_str(value)) else {
                return Err(invalid("/headers", format!("the header {name:?} is not a valid header")));
            };
            if !is_configurable(&parsed) {
                return Err(invalid("/headers", format!("everfresh sets the header {name:?} itself; remove it")));
            }
        }
        let client_certificate = match (new.client_cert_file, new.client_key_file) {
            (None, None) => None,
            (None, Some(_)) => {
                let detail = "a client_key_file is of no use without a client_cert_file";
                return Err(invalid("/client_key_file", detail.to_owned()));
            }
            (Some(cert_file), key_file) => Some(ClientCertificate { cert_file, key_file }),
        };
        let oauth = OAuthSettings::try_from(new.oauth)?;
        let (headers, ca_file) = (new.headers, new.ca_file);
        Ok(Self { headers, ca_file, client_certificate, oauth, ..Self::new(name, new.url) })
    }
}

/// What can be changed of a server.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Whether it is switched on.
    pub enabled: bool,
}

/// What came of a refresh.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Refreshed {
    /// `refreshed`, `failed` or `not_possible`.
    pub outcome: &'static str,
    /// The grant after it.
    pub server: Server,
}

/// An access token.
#[derive(Clone, Serialize, ToSchema)]
pub struct AccessToken {
    /// The token.
    pub access_token: String,
    /// How it is sent.
    pub token_type: String,
    /// When it ends; null where not known.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// What it may do.
    pub scopes: Vec<String>,
}

/// How a login is to begin.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LoginWish {
    /// `browser`, or `device` for a code that is typed in at the provider; as configured where left out.
    #[schema(value_type = Option<String>)]
    pub way: Option<LoginWay>,
    /// Whether a new client is registered, for providers that refuse the one there is.
    pub new_client: bool,
}

/// A login that has begun.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LoginStarted {
    /// What a person opens.
    pub authorization_url: String,
    /// Where the answer comes back to; null for a login by device code.
    pub redirect_uri: Option<String>,
    /// What a person types in, where the login is by device code.
    pub device: Option<DevicePrompt>,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub began_at: Timestamp,
    /// When it ends by itself.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// By what its outcome is asked for.
    pub flow_id: String,
}

/// What a person needs for a login by device code.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DevicePrompt {
    /// What is typed in.
    pub user_code: String,
    /// Where.
    pub verification_uri: String,
}

impl From<everfresh_application::LoginStarted> for LoginStarted {
    fn from(started: everfresh_application::LoginStarted) -> Self {
        Self {
            authorization_url: started.authorization_url,
            redirect_uri: started.redirect_uri,
            device: started
                .device
                .map(|device| DevicePrompt { user_code: device.user_code, verification_uri: device.verification_uri }),
            began_at: started.began_at,
            expires_at: started.expires_at,
            flow_id: started.flow.to_string(),
        }
    }
}

/// What a person pasted as the answer to a login.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PastedAnswer {
    /// The address that the browser was sent to at the end.
    pub url: String,
}

/// Where a login stands.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LoginState {
    /// `pending`, `succeeded`, `denied`, `timed_out`, `cancelled` or `failed`.
    pub state: &'static str,
    /// Why, for people.
    pub message: String,
    /// Where no refresh token was issued: when the login ends, if that is known.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub lasts_until: Option<Timestamp>,
    /// The scopes that were asked for and not granted.
    pub scopes_not_granted: Vec<String>,
}
