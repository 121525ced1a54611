//! What is elsewhere: a server, its provider, and whether the server takes the token there is.

use std::sync::Arc;
use std::time::Duration;

use everfresh_application::ports::{Dialer, Discovered, DiscoveryError, OAuthDiscovery};
use everfresh_application::{ClientCertificate, ServerSettings};
use everfresh_domain::{Secret, Timestamp};
use everfresh_infrastructure::dialer::NetDialer;
use everfresh_infrastructure::http::{HttpFactory, check_authorities, check_certificate};
use everfresh_infrastructure::oauth::{HttpOAuth, Seen};
use everfresh_infrastructure::system::{SystemClock, SystemEntropy};
use http::StatusCode;
use serde_json::Value;

use super::super::servers::exit_for;
use super::now;
use super::report::{Check, Kind};
use crate::client::Api;
use crate::exit::Exit;
use crate::output::{both, moment, name_of, text};

/// How long each check may take. Each step within has shorter limits of its own.
const CHECK_MAX: Duration = Duration::from_secs(25);

/// A token that ends sooner might be refreshed while it is asked for.
const TOKEN_LEFT_MIN: Duration = Duration::from_secs(30);

/// What was found at one login's server.
pub(super) struct Remote {
    pub(super) checks: Vec<Check>,
    /// By how many seconds this clock is ahead of which host's.
    pub(super) clock_ahead: Option<(String, i64)>,
}

/// The checks of one login, in order; what does not wait for each other is done at once.
pub(super) async fn checks(api: &Api, server: &Value) -> Remote {
    let name = name_of(server);
    let mut checks = vec![login(server)];
    let mut clock_ahead = None;
    if server["health"]["admin_state"] == "enabled" {
        match settings(api, &name).await {
            Ok(settings) => {
                let outside = Outside::new(&settings);
                checks.extend(certificates(&settings));
                let (upstream, provider, answer) = tokio::join!(
                    within(CHECK_MAX, Kind::Upstream, outside.upstream()),
                    within(CHECK_MAX, Kind::Provider, outside.provider(server)),
                    within(CHECK_MAX, Kind::Answer, outside.answer(api, server, &name)),
                );
                clock_ahead = upstream.1.or(answer.1);
                let mut provider = provider.0;
                // What is out of reach is told once.
                if let (Some(reached), Some(asked)) = (upstream.0.first(), provider.first_mut())
                    && reached.found == asked.found
                {
                    *asked = Check::skipped(Kind::Provider, "the server cannot be asked who its provider is");
                }
                checks.extend(upstream.0.into_iter().chain(provider).chain(answer.0));
            }
            Err(cause) => checks.push(Check::skipped(Kind::Upstream, cause)),
        }
    }
    Remote { checks: checks.into_iter().map(|check| check.of(&name)).collect(), clock_ahead }
}

/// What a group of checks found, and by how much this clock is ahead.
type Found = (Vec<Check>, Option<(String, i64)>);

/// What was found within `limit`.
async fn within(limit: Duration, kind: Kind, checks: impl Future<Output = Found>) -> Found {
    let late = || {
        let found = format!("no end within {} s", limit.as_secs());
        (vec![Check::failed(kind, Exit::Unreachable, found, "check network and proxy")], None)
    };
    tokio::time::timeout(limit, checks).await.unwrap_or_else(|_| late())
}

/// The settings in force, as the daemon has them.
async fn settings(api: &Api, name: &str) -> Result<ServerSettings, String> {
    let answer = api.get(&format!("/api/v1/servers/{name}/settings")).await.map_err(|failure| failure.text)?;
    serde_json::from_value(answer).map_err(|error| format!("the daemon's settings cannot be read: {error}"))
}

/// How the login is, in the words of `list`.
fn login(server: &Value) -> Check {
    let health = &server["health"];
    let detail = text(&health["detail"]);
    let summary = match &*detail {
        "-" => text(&health["summary"]),
        detail => format!("{}. {detail}", text(&health["summary"])),
    };
    let token = match server["token"]["expires_at"].as_str() {
        Some(_) => format!("; its token ends {}", both(now(), &server["token"]["expires_at"])),
        None => String::new(),
    };
    let found = format!("{summary}{token}");
    let name = name_of(server);
    let fix = match health["command"].as_str() {
        Some(command) if command.starts_with("everfresh doctor") => format!("mend what is named: {detail}"),
        Some(command) => command.to_owned(),
        None => format!("see: everfresh show {name}"),
    };
    match health["level"].as_str() {
        _ if health["admin_state"] == "disabled" => {
            Check::skipped(Kind::Login, format!("disabled; {fix} switches it on"))
        }
        Some("healthy") => Check::ok(Kind::Login, found),
        Some("degraded") => Check::warning(Kind::Login, found, fix),
        _ => Check::failed(Kind::Login, exit_for(health), found, fix),
    }
}

/// The files that connections to this server are made with, if it has any.
fn certificates(settings: &ServerSettings) -> Option<Check> {
    let (ca_file, certificate) = (settings.ca_file.as_deref(), settings.client_certificate.as_ref());
    let checked = [ca_file.map(check_authorities), certificate.map(check_certificate)];
    if let Some(error) = checked.into_iter().flatten().find_map(Result::err) {
        let fix = format!("put the file right, or change the settings of {}", settings.name);
        return Some(Check::failed(Kind::Certificates, Exit::Usage, error.to_string(), fix));
    }
    let authorities = ca_file.map(|file| format!("authorities of {} count", file.display()));
    let shown = certificate.map(|ClientCertificate { cert_file, .. }| format!("{} is shown", cert_file.display()));
    let found: Vec<String> = authorities.into_iter().chain(shown).collect();
    (!found.is_empty()).then(|| Check::ok(Kind::Certificates, found.join("; ")))
}

/// The way out, by the same rules as the daemon's.
struct Outside<'s> {
    settings: &'s ServerSettings,
    factory: Arc<HttpFactory>,
    oauth: HttpOAuth,
}

impl<'s> Outside<'s> {
    fn new(settings: &'s ServerSettings) -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let factory = HttpFactory::new();
        let oauth = HttpOAuth::new(Arc::clone(&factory), Arc::new(SystemClock::default()), Arc::new(SystemEntropy));
        Self { settings, factory, oauth }
    }

    /// " through the proxy X", where calls to `url` take one.
    fn way(&self, url: &str) -> String {
        let proxy = self.factory.proxy_towards(url).ok().flatten();
        proxy.map(|proxy| format!(" through the proxy {proxy}")).unwrap_or_default()
    }

    /// Whether the server answers at all; asked without a token.
    async fn upstream(&self) -> Found {
        let url = &self.settings.url;
        match self.oauth.look(self.settings, None).await {
            Ok(seen) => {
                let found = format!("it answers{} ({})", self.way(url), seen.status.as_u16());
                (vec![Check::ok(Kind::Upstream, found)], ahead(url, seen))
            }
            Err(error) => {
                let fix = "check its URL, the network, VPN and proxy";
                (vec![Check::failed(Kind::Upstream, Exit::Unreachable, error.to_string(), fix)], None)
            }
        }
    }

    /// The provider: its metadata, its token endpoint, and whether it knows this client.
    async fn provider(&self, server: &Value) -> Found {
        let discovered = match self.oauth.discover(self.settings, None).await {
            Ok(discovered) => discovered,
            Err(DiscoveryError::NotProtected { .. }) => {
                return (vec![Check::ok(Kind::Provider, "the server asks for no login")], None);
            }
            Err(error) => {
                let exit = match error {
                    DiscoveryError::Unreachable { .. } => Exit::Unreachable,
                    DiscoveryError::Refused { .. } | DiscoveryError::NotFound { .. } => Exit::Refused,
                    DiscoveryError::NotProtected { .. } => Exit::Failed,
                };
                let fix = "check the network; where the server names a wrong provider, set oauth.issuer";
                let skipped = [Kind::TokenEndpoint, Kind::Client]
                    .map(|kind| Check::skipped(kind, "the provider's metadata cannot be had"));
                let failed = Check::failed(Kind::Provider, exit, error.to_string(), fix);
                return (std::iter::once(failed).chain(skipped).collect(), None);
            }
        };
        let found = format!("its metadata can be had from {}", discovered.issuer);
        let endpoint = self.token_endpoint(&discovered.token_endpoint).await;
        (vec![Check::ok(Kind::Provider, found), endpoint, client(self.settings, &discovered, server)], None)
    }

    async fn token_endpoint(&self, url: &str) -> Check {
        let endpoint = ServerSettings { url: url.to_owned(), ..self.settings.clone() };
        match NetDialer::new(Arc::clone(&self.factory)).dial(&endpoint).await {
            Ok(_) => Check::ok(Kind::TokenEndpoint, format!("{url} can be reached{}", self.way(url))),
            Err(error) => {
                let found = format!("{url} cannot be reached: {error}");
                Check::failed(Kind::TokenEndpoint, Exit::Unreachable, found, "check network, VPN and proxy")
            }
        }
    }

    /// A real call with the token there is; never with one that would have to be refreshed first.
    async fn answer(&self, api: &Api, server: &Value, name: &str) -> Found {
        if let Some(why) = unusable(&server["token"], now()) {
            return (vec![Check::skipped(Kind::Answer, why)], None);
        }
        let token = match api.get(&format!("/api/v1/servers/{name}/token")).await {
            Ok(answer) => Secret::new(answer["access_token"].as_str().unwrap_or_default()),
            Err(failure) => return (vec![Check::skipped(Kind::Answer, failure.text)], None),
        };
        match self.oauth.look(self.settings, Some(&token)).await {
            Ok(seen) => (vec![judged(seen.status, name)], ahead(&self.settings.url, seen)),
            Err(error) => (vec![Check::skipped(Kind::Answer, error.to_string())], None),
        }
    }
}

/// Why no call can be made with this token, if none can.
fn unusable(token: &Value, now: Timestamp) -> Option<&'static str> {
    if token.is_null() {
        return Some("nobody is logged in");
    }
    let is_bound = token["type"].as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("DPoP"));
    if is_bound {
        return Some("the token is bound to a key that only the daemon has (DPoP)");
    }
    let ends_soon = moment(&token["expires_at"]).is_some_and(|ends| ends < now.after(TOKEN_LEFT_MIN));
    ends_soon.then_some("the token is about to be refreshed, or has ended")
}

/// What the status says about the token. Any answer but a refusal is one from behind the door.
fn judged(status: StatusCode, name: &str) -> Check {
    let code = status.as_u16();
    match status {
        StatusCode::UNAUTHORIZED => {
            let found = "it refuses the token, which has not ended (401)";
            Check::failed(Kind::Answer, Exit::LoginNeeded, found, format!("everfresh login {name}"))
        }
        StatusCode::FORBIDDEN => {
            let fix = format!("look at the scopes: everfresh show {name}; ask for more: everfresh login {name}");
            Check::warning(Kind::Answer, "it knows the token, and does not let it in (403)", fix)
        }
        _ if status.is_server_error() => Check::warning(
            Kind::Answer,
            format!("it answers with an error of its own ({code})"),
            "ask its operator, or wait",
        ),
        _ => Check::ok(Kind::Answer, format!("it takes the token ({code})")),
    }
}

/// Whether the provider knows this client, or will.
fn client(settings: &ServerSettings, discovered: &Discovered, server: &Value) -> Check {
    let name = name_of(server);
    let issuer = &discovered.issuer;
    if server["health"]["reason"] == "client_rejected" {
        let found = format!("{issuer} has forgotten it");
        return Check::failed(
            Kind::Client,
            Exit::LoginNeeded,
            found,
            format!("everfresh login {name} registers a new one"),
        );
    }
    if let Some(id) = &settings.oauth.client_id {
        return Check::ok(Kind::Client, format!("{id}, as configured"));
    }
    if !server["token"].is_null() {
        return Check::ok(Kind::Client, format!("it is registered at {issuer}"));
    }
    if discovered.registration_endpoint.is_some() || discovered.client_id_metadata_documents {
        return Check::ok(Kind::Client, format!("the login registers one at {issuer}"));
    }
    let found = format!("{issuer} registers no clients by itself");
    let fix = format!("register one there by hand, and give it: everfresh add {name} URL --client-id ID");
    Check::warning(Kind::Client, found, fix)
}

/// By how much this clock is ahead of the server's, if it told.
fn ahead(url: &str, seen: Seen) -> Option<(String, i64)> {
    let date = seen.date?;
    let host = url::Url::parse(url).ok()?.host_str()?.to_owned();
    Some((host, (now().as_millis() - date.as_millis()) / 1_000))
}

#[cfg(test)]
#[path = "remote_tests.rs"]
mod tests;
