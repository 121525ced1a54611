//! The authorization server as a pure model: requests and the time in, replies out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use everfresh_domain::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::codes::{Code, Lasting};
use super::devices::{DEVICE_CODE_GRANT, Device};
use super::faults::{faulty, form_encoded};
use super::reply::{Reply, http_date};
use super::switches::{
    AuthRule, DeadToken, ExpiresIn, Fault, OfflineRule, RefreshTokenShape, ResourceRule, Switches, UpstreamFault,
};
use super::tokens::{Family, Tokens, Worth};
use super::unattended::{JWT_BEARER, Signer, TOKEN_EXCHANGE};
use crate::proof::ProofDesk;

/// The scope that stands for a refresh token (OpenID Connect core section 11).
pub(super) const OFFLINE_ACCESS: &str = "offline_access";

/// Query or form parameters.
pub(super) type Form = BTreeMap<String, String>;

/// What happens to a refresh token that was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Rotation {
    /// It stays good.
    Never,
    /// It is spent; for `grace` it may be used again.
    SingleUse {
        /// For how long.
        grace: Duration,
    },
    /// It stays good until its successor was used.
    PreviousUntilUsed,
}

/// How the provider works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behaviour {
    /// How long access tokens live.
    pub access_lifetime: Duration,
    /// How long refresh tokens live, if not for ever.
    pub refresh_lifetime: Option<Duration>,
    /// Whether answers that bring a refresh token tell how long it lives.
    #[serde(default)]
    pub tells_refresh_lifetime: bool,
    /// What happens to a refresh token that was used.
    pub rotation: Rotation,
    /// Whether a spent token that comes again ends the login.
    pub revokes_family_on_reuse: bool,
    /// Whether a refresh ends the access tokens before it.
    pub kills_old_access_tokens: bool,
    /// Whether there are refresh tokens at all.
    pub issues_refresh_tokens: bool,
    /// Whether clients may register by themselves.
    pub registers_clients: bool,
    /// Whether device codes are handed out.
    #[serde(default)]
    pub offers_device_codes: bool,
    /// How long a device code is good.
    #[serde(default)]
    pub device_code_lifetime: Duration,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            access_lifetime: Duration::from_secs(3600),
            refresh_lifetime: None,
            tells_refresh_lifetime: false,
            rotation: Rotation::SingleUse { grace: Duration::ZERO },
            revokes_family_on_reuse: true,
            kills_old_access_tokens: false,
            issues_refresh_tokens: true,
            registers_clients: true,
            offers_device_codes: true,
            device_code_lifetime: Duration::from_secs(900),
        }
    }
}

/// What the provider has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Requests for its metadata.
    pub metadata_requests: u64,
    /// Requests to the token endpoint, whatever became of them.
    pub token_requests: u64,
    /// Refreshes that succeeded, as the provider sees it.
    pub refreshes: u64,
    /// Refreshes with a token that was used before and is still good: their first answer was lost.
    pub repeats: u64,
    /// Spent refresh tokens that came again.
    pub reuses: u64,
    /// Refresh tokens that were refused for another reason.
    pub refusals: u64,
    /// Logins that it ended because of a reuse.
    pub families_revoked: u64,
    /// Clients that registered.
    pub registrations: u64,
    /// People who were sent back with a code.
    pub authorizations: u64,
    /// Device codes that were handed out.
    #[serde(default)]
    pub device_authorizations: u64,
    /// Questions for the tokens of a device code that came too early.
    #[serde(default)]
    pub hasty_questions: u64,
    /// Codes that were exchanged.
    pub exchanges: u64,
    /// Tokens that were issued without a person.
    #[serde(default)]
    pub unattended: u64,
    /// Tokens that were given back.
    pub revocations: u64,
    /// Requests to the protected server with a good token.
    pub accepted: u64,
    /// Requests to the protected server with a bad or no token.
    pub rejected: u64,
    /// Proofs of possession that lacked the nonce, at either server.
    pub nonces_demanded: u64,
    /// Proofs of possession that were missing or wrong.
    pub proofs_refused: u64,
    /// Calls of the tool `count` that were executed.
    pub executions: u64,
    /// Streams of the protected server that are open.
    pub streams_open: u64,
    /// Streams that the other side closed.
    pub streams_closed: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) redirect_uris: Vec<String>,
    pub(super) secret: Option<String>,
    /// In PEM, of clients that sign.
    pub(super) public_key: Option<String>,
    /// Whether it asked for bound tokens only (RFC 9449 section 5.2).
    pub(super) dpop_bound: bool,
}

/// What the protected server should make of a request's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It is good.
    Accepted,
    /// It is missing, bad or over.
    Refused,
    /// Its proof of possession is not accepted, for this error of RFC 9449.
    Objected(&'static str),
}

/// The provider.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// Its issuer; every endpoint is under it.
    pub issuer: String,
    /// How it works.
    pub behaviour: Behaviour,
    /// What it does wrong.
    pub switches: Switches,
    /// The scopes that its metadata lists besides those that every document of its names.
    pub scopes_listed: Vec<String>,
    /// What it has seen.
    pub counters: Counters,
    /// Whose assertions it takes.
    pub trusted: Vec<Signer>,
    /// What it signs with, where it is an identity provider.
    pub signer: Option<Signer>,
    /// As an identity provider: under which name its client is known at which authorization server.
    pub vouches_for: BTreeMap<String, String>,
    pub(super) clients: BTreeMap<String, Client>,
    pub(super) assertions_seen: BTreeSet<String>,
    pub(super) codes: BTreeMap<String, Code>,
    pub(super) devices: BTreeMap<String, Device>,
    pub(super) scopes: BTreeMap<Family, String>,
    pub(super) tokens: Tokens,
    /// The keys that logins are bound to, by thumbprint.
    pub(super) bound: BTreeMap<Family, String>,
    /// The key that the token request at hand proves.
    pub(super) proven: Option<String>,
    pub(super) server_proofs: ProofDesk,
    pub(super) resource_proofs: ProofDesk,
}

impl Model {
    /// A provider that works like `behaviour`.
    pub fn new(behaviour: Behaviour) -> Self {
        Self { behaviour, ..Self::default() }
    }

    /// Its metadata (RFC 8414).
    pub fn metadata(&mut self) -> Reply {
        self.counters.metadata_requests += 1;
        if self.switches.metadata_down {
            return Reply { status: 503, ..Reply::default() };
        }
        let issuer = &self.issuer;
        let token_endpoint = self.switches.token_endpoint_told.clone();
        let method = match self.switches.auth {
            AuthRule::None => "none",
            AuthRule::Basic => "client_secret_basic",
            AuthRule::Post => "client_secret_post",
            AuthRule::PrivateKeyJwt => "private_key_jwt",
        };
        let mut document = json!({
            "issuer": self.switches.issuer_told.as_ref().unwrap_or(issuer),
            "authorization_endpoint": format!("{issuer}/authorize"),
            "token_endpoint": token_endpoint.unwrap_or_else(|| format!("{issuer}/token")),
            "revocation_endpoint": format!("{issuer}/revoke"),
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "token_endpoint_auth_methods_supported": if self.switches.hides_auth { vec![] } else { vec![method] },
            "code_challenge_methods_supported": ["S256"],
            "scopes_supported": match self.switches.offline_access {
                OfflineRule::Ignored | OfflineRule::Rejected => vec!["read", "write", OFFLINE_ACCESS],
                OfflineRule::Required => vec!["read", "write"],
            },
            "authorization_response_iss_parameter_supported": true,
        });
        self.tell_dpop(&mut document);
        if self.behaviour.offers_device_codes {
            document["device_authorization_endpoint"] = json!(format!("{issuer}/device"));
        }
        if !self.switches.grant_profiles.is_empty() {
            document["authorization_grant_profiles_supported"] = json!(self.switches.grant_profiles);
        }
        if self.behaviour.registers_clients {
            document["registration_endpoint"] = json!(format!("{issuer}/register"));
        }
        Reply::json(200, &document)
    }

    /// Registers a client (RFC 7591).
    pub fn register(&mut self, now: Timestamp, request: &Value) -> Reply {
        let uris = request["redirect_uris"].as_array().cloned().unwrap_or_default();
        let redirect_uris: Vec<String> = uris.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        if redirect_uris.is_empty() {
            return Reply::error(400, "invalid_redirect_uri");
        }
        let differs = |client: &Client| client.redirect_uris != redirect_uris;
        if self.switches.refuses_new_redirects && self.clients.values().next().is_some_and(differs) {
            return Reply::error(400, "invalid_redirect_uri");
        }
        self.counters.registrations += 1;
        let client_id = format!("client-{}", self.counters.registrations);
        let dpop_bound = request["dpop_bound_access_tokens"] == true && self.knows_dpop();
        let secret = (self.switches.auth != AuthRule::None).then(|| format!("secret-canary-{client_id}"));
        let mut granted = json!({ "client_id": client_id, "redirect_uris": redirect_uris });
        if let Some(secret) = &secret {
            granted["client_secret"] = json!(secret);
            let ends = |lifetime| now.after(Duration::from_secs(lifetime)).as_millis() / 1_000;
            granted["client_secret_expires_at"] = json!(self.switches.client_secret_lifetime_s.map_or(0, ends));
            granted["token_endpoint_auth_method"] = request["token_endpoint_auth_method"].clone();
        }
        self.clients.insert(client_id, Client { redirect_uris, secret, public_key: None, dpop_bound });
        Reply::json(201, &granted)
    }

    /// The token endpoint. `basic` are the credentials of a Basic header.
    pub fn token(&mut self, now: Timestamp, form: &Form, basic: Option<(&str, &str)>) -> Reply {
        self.counters.token_requests += 1;
        let fault = self.take_fault();
        let processed = match &fault {
            None | Some(Fault::CloseAfter | Fault::HalfAnswer | Fault::HalfClosed | Fault::HangAfter) => {
                self.grant_tokens(now, form, basic)
            }
            Some(_) => Reply::default(),
        };
        let reply = match fault {
            None => processed,
            Some(fault) => faulty(fault, processed),
        };
        let mut headers = reply.headers;
        headers.push(self.date(now));
        Reply { headers, delay_ms: self.switches.delay_ms, ..reply }
    }

    /// The time by its own clock.
    pub(super) fn server_time(&self, now: Timestamp) -> Timestamp {
        Timestamp::from_millis(now.as_millis().saturating_add(self.switches.clock_ahead_s.saturating_mul(1000)))
    }

    pub(super) fn date(&self, now: Timestamp) -> (String, String) {
        ("date".to_owned(), http_date(self.server_time(now)))
    }

    /// The key that an access token is bound to.
    pub(super) fn bound_to(&self, access_token: &str) -> Option<String> {
        self.bound.get(&self.tokens.family_of(access_token)?).cloned()
    }

    fn take_fault(&mut self) -> Option<Fault> {
        let fault = self.switches.fault.clone()?;
        match &mut self.switches.fault_count {
            None => Some(fault),
            Some(0) => None,
            Some(count) => {
                *count -= 1;
                Some(fault)
            }
        }
    }

    fn grant_tokens(&mut self, now: Timestamp, form: &Form, basic: Option<(&str, &str)>) -> Reply {
        let grant_type = form.get("grant_type").map(String::as_str).unwrap_or_default();
        let anonymous = grant_type == JWT_BEARER && self.switches.auth == AuthRule::None && basic.is_none();
        let client_id = match self.authenticated(now, form, basic) {
            Err(_) if anonymous && !form.contains_key("client_id") => String::new(),
            Ok(client_id) => client_id,
            Err(reply) => return reply,
        };
        match self.switches.resource {
            ResourceRule::Required if !form.contains_key("resource") => return Reply::error(400, "invalid_target"),
            ResourceRule::Rejected if form.contains_key("resource") => return Reply::error(400, "invalid_target"),
            ResourceRule::Ignored | ResourceRule::Required | ResourceRule::Rejected => {}
        }
        match grant_type {
            "authorization_code" => self.exchange(now, &client_id, form),
            "refresh_token" => self.refresh(now, form),
            DEVICE_CODE_GRANT => self.device_tokens(now, &client_id, form),
            "client_credentials" => self.client_credentials(now, form),
            JWT_BEARER => self.jwt_bearer(now, &client_id, form),
            TOKEN_EXCHANGE => self.token_exchange(now, &client_id, form),
            _ => Reply::error(400, "unsupported_grant_type"),
        }
    }

    fn authenticated(&mut self, now: Timestamp, form: &Form, basic: Option<(&str, &str)>) -> Result<String, Reply> {
        let unknown = || Reply::error(401, "invalid_client");
        if form.get("client_secret").is_some_and(String::is_empty) {
            return Err(Reply::error(400, "invalid_request"));
        }
        let in_body = form.get("client_id").map(String::as_str);
        let client_id = basic.map(|(id, _)| id).or(in_body).ok_or_else(unknown)?;
        let client = self.clients.get(client_id).ok_or_else(unknown)?.clone();
        if client.dpop_bound && self.proven.is_none() {
            return Err(Reply::error(400, "invalid_dpop_proof"));
        }
        let shown = match self.switches.auth {
            AuthRule::None => return Ok(client_id.to_owned()),
            AuthRule::Basic => basic.map(|(_, secret)| secret),
            AuthRule::Post => form.get("client_secret").map(String::as_str),
            AuthRule::PrivateKeyJwt => {
                let key = client.public_key.unwrap_or_default();
                let signed = self.has_signed(now, client_id, &key, form);
                return if signed { Ok(client_id.to_owned()) } else { Err(unknown()) };
            }
        };
        if shown == client.secret.as_deref() { Ok(client_id.to_owned()) } else { Err(unknown()) }
    }

    /// The tokens of a new login.
    pub(super) fn first_tokens(&mut self, now: Timestamp, scope: String, lasting: Lasting) -> Reply {
        let family = self.tokens.new_family();
        self.scopes.insert(family, scope);
        if let Some(thumbprint) = &self.proven {
            self.bound.insert(family, thumbprint.clone());
        }
        let refresh_token = (self.behaviour.issues_refresh_tokens && lasting == Lasting::Yes)
            .then(|| self.tokens.issue_refresh(now, family, self.behaviour.refresh_lifetime));
        self.issued(now, family, refresh_token)
    }

    fn refresh(&mut self, now: Timestamp, form: &Form) -> Reply {
        if self.switches.require_scope && !form.contains_key("scope") {
            return Reply::error(400, "invalid_scope");
        }
        let token = form.get("refresh_token").cloned().unwrap_or_default();
        match self.tokens.worth(now, &token, self.behaviour.rotation) {
            Worth::Dead => {
                self.counters.refusals += 1;
                self.dead_token()
            }
            Worth::Reused(family) => {
                self.counters.reuses += 1;
                if self.behaviour.revokes_family_on_reuse {
                    self.counters.families_revoked += 1;
                    self.tokens.revoke(family);
                }
                self.dead_token()
            }
            Worth::Good(family) if self.bound.get(&family).is_some_and(|key| self.proven.as_ref() != Some(key)) => {
                self.counters.refusals += 1;
                Reply::error(400, "invalid_grant")
            }
            Worth::Good(family) => {
                self.counters.refreshes += 1;
                self.counters.repeats += u64::from(self.tokens.was_used(&token));
                if self.behaviour.kills_old_access_tokens {
                    self.tokens.kill_access_of(family);
                }
                let rotates = self.behaviour.rotation != Rotation::Never
                    && self.switches.refresh_token == RefreshTokenShape::Present;
                let next = rotates.then(|| {
                    let next = self.tokens.issue_refresh(now, family, self.behaviour.refresh_lifetime);
                    self.tokens.spend(now, &token, &next);
                    next
                });
                self.issued(now, family, next)
            }
        }
    }

    fn dead_token(&self) -> Reply {
        let Some(DeadToken { status, body }) = self.switches.dead_token.clone() else {
            return Reply::error(400, "invalid_grant");
        };
        Reply { status, body, ..Reply::default() }
    }

    pub(super) fn issued(&mut self, now: Timestamp, family: Family, refresh_token: Option<String>) -> Reply {
        let lifetime = self.behaviour.access_lifetime;
        let access_token = self.tokens.issue_access(now, family, lifetime);
        let seconds = lifetime.as_secs();
        let asked = self.scopes.get(&family).cloned().unwrap_or_default();
        let scope = self.switches.scope_told.clone().unwrap_or(asked);
        if self.switches.dpop.answers_bearer {
            self.bound.remove(&family);
        }
        let token_type = if self.bound.contains_key(&family) { "DPoP" } else { "Bearer" };
        let mut answer = json!({ "access_token": access_token, "token_type": token_type, "scope": scope });
        match self.switches.expires_in {
            ExpiresIn::Absent => {}
            ExpiresIn::Number => answer["expires_in"] = json!(seconds),
            ExpiresIn::Zero => answer["expires_in"] = json!(0),
            ExpiresIn::Text => answer["expires_in"] = json!(seconds.to_string()),
            ExpiresIn::Float => answer["expires_in"] = json!(lifetime.as_secs_f64()),
            ExpiresIn::Negative => answer["expires_in"] = json!(-1),
            ExpiresIn::Huge => answer["expires_in"] = json!(1e12),
            ExpiresIn::Milliseconds => answer["expires_in"] = json!(seconds * 1_000),
        }
        let told = self.behaviour.refresh_lifetime.filter(|_| self.behaviour.tells_refresh_lifetime);
        if let (Some(lifetime), Some(_)) = (told, &refresh_token) {
            answer["refresh_token_expires_in"] = json!(lifetime.as_secs());
        }
        match (self.switches.refresh_token, refresh_token) {
            (RefreshTokenShape::Null, _) => answer["refresh_token"] = Value::Null,
            (RefreshTokenShape::Empty, _) => answer["refresh_token"] = json!(""),
            (_, Some(refresh_token)) => answer["refresh_token"] = json!(refresh_token),
            (RefreshTokenShape::Present | RefreshTokenShape::Omitted, None) => {}
        }
        if let Some(seconds) = self.switches.refresh_token_expires_in {
            answer[&self.switches.refresh_expiry_member] = json!(seconds);
        }
        let status = self.switches.success_status;
        if self.switches.form_encoded { form_encoded(status, &answer) } else { Reply::json(status, &answer) }
    }

    /// Takes a token back (RFC 7009).
    pub fn revoke(&mut self, form: &Form) -> Reply {
        self.counters.revocations += 1;
        if let Some(family) = form.get("token").and_then(|token| self.tokens.family_of(token)) {
            self.tokens.revoke(family);
        }
        Reply { status: 200, ..Reply::default() }
    }

    /// What the protected server should make of a request with this token. `opening` is a request
    /// that begins a session.
    pub fn access(&mut self, now: Timestamp, access_token: Option<&str>, opening: bool) -> Access {
        let free = opening && self.switches.upstream == UpstreamFault::AnonymousInitialize;
        let refuses = self.switches.upstream == UpstreamFault::RefusesAll;
        let good = !refuses && access_token.is_some_and(|token| self.tokens.accepts(now, token));
        if good || free {
            self.counters.accepted += 1;
            Access::Accepted
        } else {
            self.counters.rejected += 1;
            Access::Refused
        }
    }

    /// Whether a refresh with `token` would succeed now, as far as the token goes.
    pub fn would_refresh(&self, now: Timestamp, token: &str) -> bool {
        matches!(self.tokens.worth(now, token, self.behaviour.rotation), Worth::Good(_))
    }

    /// Whether a client is known.
    pub fn knows_client(&self, client_id: &str) -> bool {
        self.clients.contains_key(client_id)
    }

    /// Ends every login.
    pub fn revoke_all(&mut self) {
        self.tokens.revoke_all();
    }

    /// Ends every access token, and no login.
    pub fn expire_access_tokens(&mut self) {
        self.tokens.expire_access();
    }

    /// Forgets every client.
    pub fn forget_clients(&mut self) {
        self.clients.clear();
    }
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
