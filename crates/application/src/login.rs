//! Interactive logins: from the URL that a person opens to tokens in the store.
//!
//! At most one login of a grant is pending. Its `state` is used once. The code is exchanged by a
//! task of the daemon's own: a browser that goes away loses nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use everfresh_domain::grant::{Binding, ClientRegistration, RequestShape};
use everfresh_domain::login::{FlowId, LoginOutcome, Logins};
use everfresh_domain::{Event, Failure, Generation, GrantId, GrantRecord, LoginEnd, Secret, Timestamp, TokenSet};
use tokio::sync::watch;

use crate::access::{Access, Route};
use crate::driver::Mailbox;
use crate::ports::{
    AuthorizationRequest, Clock, Discovered, DiscoveryError, Entropy, OAuthClient, OAuthDiscovery, RegistrationError,
    RegistrationKey, Secrets, StoreError, TokenStore,
};
use crate::settings::{LoginSettings, ResourceSetting, ServerSettings};
use crate::vault::Vault;

/// Outcomes that are kept for whoever asks late.
const OUTCOMES_KEPT: usize = 64;

/// How often a login is written anew when the record changes under it.
const WRITE_TRIES: usize = 5;

/// A login that has begun.
#[derive(Clone, Debug)]
pub struct LoginStarted {
    /// Which login; in every log line about it.
    pub flow: FlowId,
    /// What a person opens.
    pub authorization_url: String,
    /// When it ends by itself.
    pub expires_at: Timestamp,
}

/// What came back to the redirect URI (RFC 6749 section 4.1.2, RFC 9207).
#[derive(Clone, Debug, Default)]
pub struct CallbackQuery {
    /// The authorization code.
    pub code: Option<Secret>,
    /// The state.
    pub state: Option<Secret>,
    /// Who answers.
    pub iss: Option<String>,
    /// The error code, where it went wrong.
    pub error: Option<String>,
    /// More about it; shown to nobody before the sender is known.
    pub error_description: Option<String>,
}

/// A login that is over.
#[derive(Clone, Debug)]
pub struct LoginFinished {
    /// Of which grant.
    pub grant: GrantId,
    /// How it ended.
    pub outcome: LoginOutcome,
    /// Where no refresh token was issued: when the login ends.
    pub lasts_until: Option<Timestamp>,
}

/// Why a login could not begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Late, doubled or forged.
    #[error("no login is waiting for this answer; it may have taken too long, or been answered before")]
    UnknownState,
    /// The authorization server could not be found or used.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// No client could be had there.
    #[error(transparent)]
    Registration(#[from] RegistrationError),
    /// A configured secret could not be fetched.
    #[error("the client secret cannot be fetched: {0}")]
    Secret(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A pending login's own data.
#[derive(Clone)]
struct Flow {
    grant: GrantId,
    state: Secret,
    verifier: Secret,
    binding: Binding,
    redirect_uri: String,
    answers_carry_iss: bool,
    authorization_url: String,
}

#[derive(Default)]
struct Pending {
    logins: Logins,
    flows: BTreeMap<FlowId, Flow>,
    outcomes: BTreeMap<FlowId, watch::Sender<Option<LoginFinished>>>,
}

/// Where logins begin and end.
pub(crate) struct LoginDesk {
    parts: LoginParts,
    pending: Mutex<Pending>,
}

/// What a [`LoginDesk`] is made of.
pub(crate) struct LoginParts {
    pub(crate) store: Arc<dyn TokenStore>,
    pub(crate) vault: Arc<Vault>,
    pub(crate) oauth: Arc<dyn OAuthClient>,
    pub(crate) discovery: Arc<dyn OAuthDiscovery>,
    pub(crate) secrets: Arc<dyn Secrets>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) access: Access,
    pub(crate) mailbox: Mailbox,
    pub(crate) settings: LoginSettings,
}

impl LoginDesk {
    pub(crate) fn new(parts: LoginParts) -> Self {
        Self { parts, pending: Mutex::default() }
    }

    /// Begins a login, or returns the one that is pending.
    pub(crate) async fn start(
        self: &Arc<Self>,
        route: &Route,
        redirect_uri: Option<String>,
    ) -> Result<LoginStarted, LoginError> {
        if let Some(pending) = self.pending_login(&route.grant) {
            return Ok(pending);
        }
        let redirect_uri = redirect_uri.unwrap_or_else(|| self.parts.settings.redirect_uri.clone());
        let server = &route.settings;
        let discovered = self.parts.discovery.discover(server, route.seat.challenge()).await?;
        // A record that cannot be read is what a new login mends: it takes its place, set aside.
        let record = match self.parts.vault.read(&route.grant).await {
            Err(StoreError::Unreadable { .. }) => None,
            read => read?,
        };
        let client = self.client(server, &discovered, &redirect_uri, record.as_ref()).await?;
        let scopes = wanted_scopes(server, &discovered, &route.seat.status().needed_scopes, record.as_ref());
        let flow = Flow {
            grant: route.grant.clone(),
            state: self.random(),
            verifier: self.random(),
            binding: binding(server, &discovered, client, scopes),
            redirect_uri,
            answers_carry_iss: discovered.iss_in_responses,
            authorization_url: String::new(),
        };
        let authorization_url = self.parts.discovery.authorization_url(&request(&discovered, &flow))?;
        Ok(self.begin(Flow { authorization_url, ..flow }))
    }

    fn pending_login(&self, grant: &GrantId) -> Option<LoginStarted> {
        let pending = self.lock();
        let login = pending.logins.pending(self.parts.clock.now(), grant)?;
        let flow = pending.flows.get(&login.flow)?;
        let authorization_url = flow.authorization_url.clone();
        Some(LoginStarted { flow: login.flow, authorization_url, expires_at: login.expires_at })
    }

    /// When the pending login of `grant` ends, if there is one.
    pub(crate) fn pending_until(&self, grant: &GrantId) -> Option<Timestamp> {
        self.pending_login(grant).map(|started| started.expires_at)
    }

    /// Registers the flow; where another was faster, that one is the login.
    fn begin(self: &Arc<Self>, flow: Flow) -> LoginStarted {
        let drawn = self.parts.entropy.bytes();
        let id = FlowId(u64::from_le_bytes(std::array::from_fn(|index| drawn[index])));
        let policy = self.parts.access.policy();
        let started = {
            let mut pending = self.lock();
            let login = pending.logins.begin(self.parts.clock.now(), &flow.grant, id, &policy);
            if login.flow == id {
                pending.flows.insert(id, flow.clone());
                pending.outcomes.insert(id, watch::Sender::new(None));
            }
            let url = pending.flows.get(&login.flow).map_or_else(String::new, |flow| flow.authorization_url.clone());
            LoginStarted { flow: login.flow, authorization_url: url, expires_at: login.expires_at }
        };
        if started.flow == id {
            tracing::info!(server = %flow.grant, flow_id = %id, "OAuth login started");
            let desk = Arc::clone(self);
            tokio::spawn(async move {
                tokio::time::sleep(policy.login_timeout).await;
                desk.end(id, &flow.grant, LoginOutcome::TimedOut, None);
            });
        }
        started
    }

    /// Takes the answer of the provider. The exchange goes on even if the caller goes away.
    pub(crate) async fn finish(self: &Arc<Self>, answer: CallbackQuery) -> Result<LoginFinished, LoginError> {
        let (id, flow) = self.take(&answer)?;
        let desk = Arc::clone(self);
        let task = tokio::spawn(async move { desk.conclude(id, flow, answer).await });
        task.await.map_err(|_| LoginError::UnknownState)
    }

    fn take(&self, answer: &CallbackQuery) -> Result<(FlowId, Flow), LoginError> {
        let state = answer.state.as_ref().ok_or(LoginError::UnknownState)?;
        let mut pending = self.lock();
        let found = pending.flows.iter().find(|(_, flow)| flow.state == *state);
        let (id, flow) = found.map(|(id, flow)| (*id, flow.clone())).ok_or(LoginError::UnknownState)?;
        if pending.logins.answered(self.parts.clock.now(), &flow.grant, id) {
            Ok((id, flow))
        } else {
            Err(LoginError::UnknownState)
        }
    }

    async fn conclude(&self, id: FlowId, flow: Flow, answer: CallbackQuery) -> LoginFinished {
        let mut lasts_until = None;
        let outcome = match checked_code(&flow, answer) {
            Ok(code) => match self.exchange(id, &flow, &code).await {
                Ok(until) => {
                    lasts_until = until;
                    LoginOutcome::Succeeded
                }
                Err(message) => LoginOutcome::Failed { message },
            },
            Err(outcome) => outcome,
        };
        self.end(id, &flow.grant, outcome.clone(), lasts_until);
        LoginFinished { grant: flow.grant, outcome, lasts_until }
    }

    async fn exchange(&self, id: FlowId, flow: &Flow, code: &Secret) -> Result<Option<Timestamp>, String> {
        let route = self.parts.access.route(&flow.grant.to_string()).ok_or("the server was removed meanwhile")?;
        let sent_at = self.parts.clock.now();
        let exchange =
            self.parts.oauth.exchange_code(&route.settings, &flow.binding, code, &flow.verifier, &flow.redirect_uri);
        let limit = self.parts.access.policy().attempt_timeout;
        let answer = tokio::time::timeout(limit, exchange).await;
        let response = answer.map_err(|_| format!("the provider gave no answer within {} s", limit.as_secs()))?;
        let response = response.map_err(|failure| describe(&failure))?;
        let tokens = TokenSet::issued(response, sent_at, &flow.binding.requested_scopes);
        let lasts_until = if tokens.refresh_token.is_none() { tokens.expires_at() } else { None };
        self.keep(flow, tokens).await;
        tracing::info!(server = %flow.grant, flow_id = %id, "OAuth login succeeded");
        Ok(lasts_until)
    }

    /// Stores the new login over the old one: written first, then swapped, never cleared before.
    async fn keep(&self, flow: &Flow, tokens: TokenSet) {
        let mut unsaved = None;
        let mut record = None;
        for _ in 0..WRITE_TRIES {
            let expected = self.parts.vault.read(&flow.grant).await.ok().flatten().map(|record| record.generation);
            let generation = expected.map_or(Generation(1), Generation::next);
            let next = GrantRecord::logged_in(flow.grant.clone(), generation, flow.binding.clone(), tokens.clone());
            let written = self.parts.vault.replace(expected, &next).await;
            let again = matches!(written, Err(StoreError::Conflict { .. }));
            if let Err(error) = written {
                unsaved = Some((expected, error.to_string()));
            } else {
                unsaved = None;
            }
            record = Some(next);
            if !again {
                break;
            }
        }
        let Some(record) = record else { return };
        self.parts.access.publish_tokens(&record);
        let facts = Box::new(record.facts());
        let cause = unsaved.map(|(expected, cause)| {
            tracing::error!(server = %flow.grant, cause, "a new login could not be saved; it is kept in memory");
            self.parts.vault.save_later(expected, record);
            cause
        });
        self.parts.mailbox.tell(Event::LoggedIn { grant: flow.grant.clone(), facts, unsaved: cause }).await;
    }

    fn end(&self, id: FlowId, grant: &GrantId, outcome: LoginOutcome, lasts_until: Option<Timestamp>) {
        let mut pending = self.lock();
        pending.logins.ended(grant, id);
        if pending.flows.remove(&id).is_none() {
            return;
        }
        if outcome != LoginOutcome::Succeeded {
            tracing::warn!(server = %grant, flow_id = %id, outcome = ?outcome, "OAuth login failed");
        }
        if let Some(sender) = pending.outcomes.get(&id) {
            sender.send_replace(Some(LoginFinished { grant: grant.clone(), outcome, lasts_until }));
        }
        while pending.outcomes.len() > OUTCOMES_KEPT {
            let over = pending.outcomes.iter().find(|(_, sender)| sender.borrow().is_some()).map(|(id, _)| *id);
            let Some(over) = over else { return };
            pending.outcomes.remove(&over);
        }
    }

    /// Takes back the pending login of a grant that is logged out or removed.
    pub(crate) fn cancel(&self, grant: &GrantId) {
        let pending = self.pending_login(grant);
        if let Some(pending) = pending {
            self.end(pending.flow, grant, LoginOutcome::Cancelled, None);
        }
    }

    /// Waits for the end of a login; `None` where it is not known.
    pub(crate) async fn outcome(&self, flow: FlowId) -> Option<LoginFinished> {
        let mut outcome = self.lock().outcomes.get(&flow)?.subscribe();
        let finished = outcome.wait_for(Option::is_some).await.ok()?;
        finished.clone()
    }

    /// The client to log in with: configured, or by metadata document, or registered, once.
    async fn client(
        &self,
        server: &ServerSettings,
        discovered: &Discovered,
        redirect_uri: &str,
        record: Option<&GrantRecord>,
    ) -> Result<ClientRegistration, LoginError> {
        if let Some(client_id) = &server.oauth.client_id {
            return self.configured_client(server, discovered, client_id.clone()).await;
        }
        if let (Some(url), true) =
            (&self.parts.settings.client_id_metadata_url, discovered.client_id_metadata_documents)
        {
            return Ok(public_client(discovered, url.clone()));
        }
        let redirect_uris = vec![redirect_uri.to_owned()];
        let key = RegistrationKey { issuer: discovered.issuer.clone(), redirect_uris };
        let dead = record.and_then(|record| match record.ended {
            Some(LoginEnd::ClientRejected { .. }) => Some(&record.binding.client.client_id),
            _ => None,
        });
        let known = match self.parts.store.registration(&key).await {
            Err(StoreError::Unreadable { .. }) => None,
            read => read?,
        };
        if let Some(known) = known {
            let margin = self.parts.access.policy().warn_before_credential_end;
            let secret_lives = known.secret_expires_at.is_none_or(|end| self.parts.clock.now() < end.before(margin));
            if secret_lives && dead != Some(&known.client_id) {
                return Ok(known);
            }
            self.parts.store.erase_registration(&key).await?;
        }
        let registered = self.parts.discovery.register(server, discovered, &key.redirect_uris).await?;
        self.parts.store.put_registration(&key, &registered).await?;
        Ok(registered)
    }

    async fn configured_client(
        &self,
        server: &ServerSettings,
        discovered: &Discovered,
        client_id: String,
    ) -> Result<ClientRegistration, LoginError> {
        use everfresh_domain::grant::ClientAuthMethod;

        let Some(source) = &server.oauth.client_secret else { return Ok(public_client(discovered, client_id)) };
        let secret = self.parts.secrets.resolve(source).await.map_err(LoginError::Secret)?;
        let offers = |method: &str| discovered.token_endpoint_auth_methods.iter().any(|offered| offered == method);
        let post_only = offers("client_secret_post") && !offers("client_secret_basic");
        let auth_method =
            if post_only { ClientAuthMethod::ClientSecretPost } else { ClientAuthMethod::ClientSecretBasic };
        Ok(ClientRegistration { client_secret: Some(secret), auth_method, ..public_client(discovered, client_id) })
    }

    /// 256 random bits as hexadecimal digits, which every parameter and PKCE (RFC 7636) allow.
    fn random(&self) -> Secret {
        Secret::new(self.parts.entropy.bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn public_client(discovered: &Discovered, client_id: String) -> ClientRegistration {
    ClientRegistration {
        issuer: discovered.issuer.clone(),
        client_id,
        client_secret: None,
        auth_method: everfresh_domain::grant::ClientAuthMethod::None,
        secret_expires_at: None,
        redirect_uris: Vec::new(),
    }
}

fn binding(
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
        client,
        resource,
        requested_scopes,
        extra_params: server.oauth.extra_params.clone(),
        shape: RequestShape::default(),
    }
}

fn request(discovered: &Discovered, flow: &Flow) -> AuthorizationRequest {
    AuthorizationRequest {
        authorization_endpoint: discovered.authorization_endpoint.clone(),
        client_id: flow.binding.client.client_id.clone(),
        redirect_uri: flow.redirect_uri.clone(),
        scopes: flow.binding.requested_scopes.clone(),
        resource: flow.binding.resource.clone(),
        state: flow.state.clone(),
        verifier: flow.verifier.clone(),
        extra_params: flow.binding.extra_params.clone(),
    }
}

/// The scopes to ask for (MCP authorization, "Scope Selection Strategy"): the configured ones, else
/// the challenge's, else the resource's; with what the upstream demanded since, on top of what was
/// asked for before; and `offline_access` where the authorization server lists it.
fn wanted_scopes(
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

/// The code of an answer that comes from the right issuer (RFC 9207 section 2.4) and says yes.
fn checked_code(flow: &Flow, answer: CallbackQuery) -> Result<Secret, LoginOutcome> {
    let failed = |message: &str| LoginOutcome::Failed { message: message.to_owned() };
    match &answer.iss {
        Some(iss) if *iss != flow.binding.client.issuer => {
            return Err(failed("the answer came from another issuer than was asked; nothing of it was used"));
        }
        None if flow.answers_carry_iss => {
            return Err(failed("the answer does not name its issuer, as this issuer promises; it was not used"));
        }
        Some(_) | None => {}
    }
    if let Some(code) = answer.error {
        return Err(LoginOutcome::Denied { code: printable(&code) });
    }
    answer.code.ok_or_else(|| failed("the answer carries no code"))
}

fn describe(failure: &Failure) -> String {
    match &failure.oauth_error {
        Some(code) => format!("the provider refused the code: {}", printable(code)),
        None => format!("the code could not be exchanged: {}", failure.message),
    }
}

/// Foreign text as it may be shown: short, and printable ASCII only.
fn printable(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(64).collect()
}
