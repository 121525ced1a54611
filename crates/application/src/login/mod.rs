//! Interactive logins: from the URL that a person opens to tokens in the store.
//!
//! At most one login of a grant is pending. Its `state` is used once. The code is exchanged by a
//! task of the daemon's own: a browser that goes away loses nothing.

mod answer;
mod client;
mod terms;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use everfresh_domain::grant::Binding;
use everfresh_domain::login::{FlowId, LoginOutcome, Logins};
use everfresh_domain::{Event, Generation, GrantId, GrantRecord, Secret, Timestamp, TokenResponse, TokenSet};
use tokio::sync::watch;

use crate::access::{Access, Route};
use crate::attempt::NOT_BOUND;
use crate::driver::Mailbox;
use crate::ports::{
    AuthorizationRequest, Clock, Discovered, DiscoveryError, Entropy, OAuthClient, OAuthDiscovery, ProofError,
    ProofKeys, RegistrationError, Secrets, StoreError, TokenKind, TokenStore,
};
use crate::settings::{DpopSetting, LoginSettings, ServerSettings};
use crate::vault::Vault;

use answer::{checked_code, describe};
use terms::{binding, request, wanted_scopes};

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
    /// Tokens cannot be bound to a key.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// Tokens are to be bound to a key, and the other sides take no proof that can be made here.
    #[error("oauth.dpop = \"required\", and {0} takes no proofs that are signed with ES256")]
    NoCommonProof(String),
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
    pub(crate) proofs: Arc<dyn ProofKeys>,
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
            binding: Binding {
                dpop_key: self.key(server, &discovered)?,
                ..binding(server, &discovered, client, scopes)
            },
            redirect_uri,
            answers_carry_iss: discovered.iss_in_responses,
            authorization_url: String::new(),
        };
        let thumbprint = flow.binding.dpop_key.as_ref().map(|key| self.parts.proofs.thumbprint(key)).transpose()?;
        let request = AuthorizationRequest { dpop_jkt: thumbprint, ..request(&discovered, &flow) };
        let authorization_url = self.parts.discovery.authorization_url(&request)?;
        Ok(self.begin(Flow { authorization_url, ..flow }))
    }

    /// The key of a new login, where its tokens are to be bound to one. No two logins share one.
    fn key(&self, server: &ServerSettings, discovered: &Discovered) -> Result<Option<Secret>, LoginError> {
        if !discovered.binds_tokens(server.oauth.dpop) {
            return Ok(None);
        }
        if !discovered.dpop.takes_es256() {
            return Err(LoginError::NoCommonProof(discovered.issuer.clone()));
        }
        Ok(Some(self.parts.proofs.generate()?))
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
        if route.settings.oauth.dpop == DpopSetting::Required && !response.is_dpop_bound() {
            self.give_back(&route, flow, &response).await;
            return Err(NOT_BOUND.to_owned());
        }
        if let Some(date) = response.date {
            let ahead_s = self.parts.clock.now().as_millis().saturating_sub(date.as_millis()) / 1000;
            self.parts.access.clock_told(&flow.grant, ahead_s);
        }
        let tokens = TokenSet::issued(response, sent_at, &flow.binding.requested_scopes);
        let lasts_until = if tokens.refresh_token.is_none() { tokens.expires_at() } else { None };
        self.keep(flow, tokens).await;
        tracing::info!(server = %flow.grant, flow_id = %id, "OAuth login succeeded");
        Ok(lasts_until)
    }

    /// Revokes the tokens of a login that is not kept.
    async fn give_back(&self, route: &Route, flow: &Flow, response: &TokenResponse) {
        let refresh_token = response.refresh_token.as_ref().map(|token| (token, TokenKind::RefreshToken));
        let (token, kind) = refresh_token.unwrap_or((&response.access_token, TokenKind::AccessToken));
        if let Err(failure) = self.parts.oauth.revoke(&route.settings, &flow.binding, token, kind).await {
            tracing::info!(server = %flow.grant, cause = failure.message, "tokens that are not used could not be revoked");
        }
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

    /// 256 random bits as hexadecimal digits, which every parameter and PKCE (RFC 7636) allow.
    fn random(&self) -> Secret {
        Secret::new(self.parts.entropy.bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
