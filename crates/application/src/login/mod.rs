//! Interactive logins: from the URL that a person opens to tokens in the store.
//!
//! At most one login of a grant is pending. Its `state` is used once. The code is exchanged by a
//! task of the daemon's own: a browser that goes away loses nothing.

mod answer;
mod brought;
pub(crate) mod client;
mod device;
mod flow;
mod keep;
mod pasted;
pub(crate) mod terms;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use everfresh_domain::grant::Binding;
use everfresh_domain::login::{FlowId, LoginOutcome, LoginPhase, PendingLogin};
use everfresh_domain::{GrantId, Secret, Timestamp, TokenResponse};
use tokio::sync::watch;
use tracing::Instrument;

use crate::access::{Access, Route};
use crate::driver::Mailbox;
use crate::events::{EventHub, PublicEventKind};
use crate::ports::{
    AuthorizationRequest, Clock, Discovered, Entropy, OAuthClient, OAuthDiscovery, ProofKeys, Secrets, StoreError,
    TokenStore,
};
use crate::settings::{LoginSettings, LoginWay, ServerSettings};
use crate::spans;
use crate::vault::Vault;

use answer::checked_code;
pub(crate) use flow::ClientChoice;
use flow::{Browser, Flow, Pending, Told, Way};
pub use flow::{CallbackQuery, DevicePrompt, LoginError, LoginFinished, LoginStarted};
pub use pasted::PasteError;
use terms::{as_profiled, binding, request, step_ups, wanted_scopes};

/// Ends that are kept for whoever asks late.
const ENDS_KEPT: usize = 64;

/// Tokens, and when they were asked for.
type Answered = (TokenResponse, Timestamp);

/// Whether an answer is the first one.
enum Taken {
    Now(FlowId, Box<Flow>, Browser),
    Before(watch::Receiver<Option<LoginFinished>>),
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
    pub(crate) events: Arc<EventHub>,
    pub(crate) settings: LoginSettings,
}

impl LoginDesk {
    pub(crate) fn new(parts: LoginParts) -> Self {
        Self { parts, pending: Mutex::default() }
    }

    /// Begins a login, or returns the one of the same way that is pending. One of another way, or
    /// with a client that is not wanted any more, makes room.
    pub(crate) async fn start(
        self: &Arc<Self>,
        route: &Route,
        way: Option<LoginWay>,
        choice: ClientChoice,
    ) -> Result<LoginStarted, LoginError> {
        if route.settings.oauth.grant.is_unattended() {
            return Err(LoginError::Unattended(route.grant.clone()));
        }
        let server = &route.settings;
        let way = way.unwrap_or(server.oauth.login_way);
        let fits = |flow: &Flow| choice == ClientChoice::Known && flow.is_by(way);
        if let Some(pending) = self.pending_login(&route.grant, fits) {
            return Ok(pending);
        }
        let discovered = as_profiled(server, self.parts.discovery.discover(server, route.seat.challenge()).await?);
        // A record that cannot be read is what a new login mends: it takes its place, set aside.
        let record = match self.parts.vault.read(&route.grant).await {
            Err(StoreError::Unreadable { .. }) => None,
            read => read?,
        };
        let redirect_uri = server.oauth.redirect_uri.as_ref().unwrap_or(&self.parts.settings.redirect_uri).clone();
        let client = self.client(server, &discovered, &redirect_uri, record.as_ref(), choice).await?;
        let needed = &route.seat.status().needed_scopes;
        let scopes = wanted_scopes(server, &discovered, needed, record.as_ref());
        let step_ups = step_ups(needed, record.as_ref());
        let dpop_key = self.key(server, &discovered)?;
        let binding = Binding { dpop_key, ..binding(server, &discovered, client, scopes) };
        let way = match way {
            LoginWay::Device => Way::Device(self.device_code(server, &discovered, &binding).await?),
            LoginWay::Browser => {
                let (state, verifier) = (self.random(), self.random());
                let dpop_jkt = binding.dpop_key.as_ref().map(|key| self.parts.proofs.thumbprint(key)).transpose()?;
                let request = request(&discovered, &binding, &redirect_uri, &state, &verifier);
                let request = AuthorizationRequest { dpop_jkt, ..request };
                let authorization_url = self.parts.discovery.authorization_url(&request)?;
                let answers_carry_iss = discovered.iss_in_responses;
                Way::Browser(Browser { state, verifier, redirect_uri, answers_carry_iss, authorization_url })
            }
        };
        if self.pending_login(&route.grant, fits).is_none() {
            self.cancel(&route.grant);
        }
        Ok(self.begin(Flow { grant: route.grant.clone(), binding, step_ups, way }))
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

    /// The pending login of `grant`, if it is one that `fits`, or its answer is there already.
    fn pending_login(&self, grant: &GrantId, fits: impl Fn(&Flow) -> bool) -> Option<LoginStarted> {
        let pending = self.lock();
        let login = pending.logins.pending(self.parts.clock.now(), grant)?;
        let flow = pending.flows.get(&login.flow)?;
        (login.phase == LoginPhase::Exchanging || fits(flow)).then(|| flow.started(login))
    }

    /// The login of `grant` that is pending, whatever its way, as it was told when it began.
    pub(crate) fn under_way(&self, grant: &GrantId) -> Option<LoginStarted> {
        self.pending_login(grant, |_| true)
    }

    /// Where the pending login of `grant` stands, if there is one.
    pub(crate) fn pending(&self, grant: &GrantId) -> Option<PendingLogin> {
        self.lock().logins.pending(self.parts.clock.now(), grant).cloned()
    }

    /// Registers the flow; where another was faster, that one is the login.
    fn begin(self: &Arc<Self>, flow: Flow) -> LoginStarted {
        let drawn = self.parts.entropy.bytes();
        let id = FlowId(u64::from_le_bytes(std::array::from_fn(|index| drawn[index])));
        let (state, lifetime) = match &flow.way {
            Way::Browser(browser) => (Some(browser.state.clone()), Duration::MAX),
            Way::Device(device) => (None, device.expires_in),
        };
        let policy = self.parts.access.policy();
        let now = self.parts.clock.now();
        let started = {
            let mut pending = self.lock();
            let login = pending.logins.begin(now, &flow.grant, id, lifetime, &policy);
            if let Some(faster) = pending.flows.get(&login.flow) {
                return faster.started(&login);
            }
            pending.flows.insert(id, flow.clone());
            pending.ends.insert(id, Told { state, end: watch::Sender::new(None) });
            flow.started(&login)
        };
        self.tell_of(&flow.grant);
        tracing::info!(server = %flow.grant, flow_id = %id, "OAuth login started");
        let (desk, grant, time) = (Arc::clone(self), flow.grant.clone(), started.expires_at.since(now));
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            desk.time_out(id, &grant);
        });
        if let Way::Device(device) = flow.way.clone() {
            tokio::spawn(Arc::clone(self).poll(id, flow, device));
        }
        started
    }

    /// Takes what a person pasted as the answer to `flow`: the address that the browser was sent to.
    pub(crate) async fn paste(self: &Arc<Self>, flow: FlowId, text: &str) -> Result<LoginFinished, LoginError> {
        let answer = {
            let pending = self.lock();
            let known = pending.flows.get(&flow).ok_or(LoginError::UnknownState)?;
            let Way::Browser(browser) = &known.way else { return Err(PasteError::NothingExpected.into()) };
            let answer = pasted::read(text, &browser.redirect_uri, &browser.authorization_url)?;
            if answer.state.as_ref() != Some(&browser.state) {
                return Err(PasteError::OtherLogin.into());
            }
            answer
        };
        self.finish(answer).await
    }

    /// Takes the answer of the provider. The exchange goes on even if the caller goes away.
    pub(crate) async fn finish(self: &Arc<Self>, answer: CallbackQuery) -> Result<LoginFinished, LoginError> {
        let state = answer.state.clone().ok_or(LoginError::UnknownState)?;
        let (id, flow, browser) = match self.take(&state)? {
            Taken::Now(id, flow, browser) => (id, flow, browser),
            Taken::Before(mut end) => {
                let end = end.wait_for(Option::is_some).await.map_err(|_| LoginError::UnknownState)?;
                return Err(end
                    .clone()
                    .map_or(LoginError::UnknownState, |end| LoginError::AnsweredBefore(Box::new(end))));
            }
        };
        let desk = Arc::clone(self);
        let task = tokio::spawn(async move { desk.conclude(id, &flow, &browser, answer).await });
        task.await.map_err(|_| LoginError::UnknownState)
    }

    /// The login that an answer with `state` is for, if it is the first one and in time.
    fn take(&self, state: &Secret) -> Result<Taken, LoginError> {
        let mut pending = self.lock();
        let known = pending.ends.iter().find(|(_, told)| told.state.as_ref() == Some(state));
        let (id, before) = known.map(|(id, told)| (*id, told.end.subscribe())).ok_or(LoginError::UnknownState)?;
        let Some(flow) = pending.flows.get(&id).cloned() else { return Ok(Taken::Before(before)) };
        let now = self.parts.clock.now();
        if let (true, Way::Browser(browser)) = (pending.logins.answered(now, &flow.grant, id), &flow.way) {
            let browser = browser.clone();
            return Ok(Taken::Now(id, Box::new(flow), browser));
        }
        drop(pending);
        // Its time may be over by the clock and not by the timer, which stands still while the machine sleeps.
        self.time_out(id, &flow.grant);
        Ok(Taken::Before(before))
    }

    async fn conclude(&self, id: FlowId, flow: &Flow, browser: &Browser, answer: CallbackQuery) -> LoginFinished {
        let span = spans::login(&flow.grant);
        let concluding = async {
            let answer = match checked_code(flow, browser, answer) {
                Ok(code) => self.exchange(flow, browser, &code).await,
                Err(outcome) => Err(outcome),
            };
            self.settle(id, flow, answer).await
        };
        let finished = concluding.instrument(span.clone()).await;
        spans::logged_in(&span, &finished.outcome);
        finished
    }

    async fn exchange(&self, flow: &Flow, browser: &Browser, code: &Secret) -> Result<Answered, LoginOutcome> {
        let route = self.parts.access.route(&flow.grant.to_string()).ok_or(LoginOutcome::Cancelled)?;
        let sent_at = self.parts.clock.now();
        let asked = self.parts.oauth.exchange_code(
            &route.settings,
            &flow.binding,
            code,
            &browser.verifier,
            &browser.redirect_uri,
        );
        match self.in_time(asked).await {
            Ok(response) => Ok((response, sent_at)),
            Err(failure) => Err(self.refused(flow, &failure).await),
        }
    }

    fn time_out(&self, id: FlowId, grant: &GrantId) {
        let awaited = self.lock().logins.is_awaited(grant, id);
        if awaited {
            self.end(id, LoginFinished::without_tokens(grant, LoginOutcome::TimedOut));
        }
    }

    fn end(&self, id: FlowId, finished: LoginFinished) {
        let mut pending = self.lock();
        pending.logins.ended(&finished.grant, id);
        if pending.flows.remove(&id).is_none() {
            return;
        }
        let grant = finished.grant.clone();
        match &finished.outcome {
            LoginOutcome::Succeeded => {
                tracing::info!(server = %finished.grant, flow_id = %id, "OAuth login succeeded");
            }
            outcome @ (LoginOutcome::Denied { .. }
            | LoginOutcome::TimedOut
            | LoginOutcome::Cancelled
            | LoginOutcome::Failed { .. }) => {
                tracing::warn!(server = %finished.grant, flow_id = %id, ?outcome, "OAuth login failed");
            }
        }
        if let Some(told) = pending.ends.get(&id) {
            told.end.send_replace(Some(finished));
        }
        while pending.ends.len() > ENDS_KEPT {
            let over = pending.ends.iter().find(|(_, told)| told.end.borrow().is_some()).map(|(id, _)| *id);
            let Some(over) = over else { break };
            pending.ends.remove(&over);
        }
        drop(pending);
        self.tell_of(&grant);
    }

    /// Listeners hear that a login of `grant` has begun or ended.
    fn tell_of(&self, grant: &GrantId) {
        self.parts.events.publish(self.parts.clock.now(), grant.clone(), PublicEventKind::ServersChanged);
    }

    /// Takes back the pending login of a grant that is logged out or removed, or begins anew.
    pub(crate) fn cancel(&self, grant: &GrantId) {
        let pending = self.lock().logins.pending(self.parts.clock.now(), grant).map(|login| login.flow);
        if let Some(flow) = pending {
            self.end(flow, LoginFinished::without_tokens(grant, LoginOutcome::Cancelled));
        }
    }

    /// Takes back the login `flow`, unless its answer is there already: that one is let end.
    pub(crate) fn take_back(&self, flow: FlowId) {
        let grant = {
            let pending = self.lock();
            let grant = pending.flows.get(&flow).map(|flow| flow.grant.clone());
            grant.filter(|grant| pending.logins.is_awaited(grant, flow))
        };
        if let Some(grant) = grant {
            self.end(flow, LoginFinished::without_tokens(&grant, LoginOutcome::Cancelled));
        }
    }

    /// Waits for the end of a login; `None` where it is not known.
    pub(crate) async fn outcome(&self, flow: FlowId) -> Option<LoginFinished> {
        let mut end = self.lock().ends.get(&flow)?.end.subscribe();
        let finished = end.wait_for(Option::is_some).await.ok()?;
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
