//! The front door: what commands, the API and the binary may ask for.

mod asking;
mod changing;
mod moving;
mod seating;

pub use moving::{MoveOutcome, Moved};

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use everfresh_domain::engine::trace::TraceLine;
use everfresh_domain::engine::{AttemptOutcome, Engine};
use everfresh_domain::login::{FlowId, LoginOutcome, PendingLogin};
use everfresh_domain::timeline::{History, Parting};
use everfresh_domain::{Event, GrantId, GrantRecord, GrantStatus, Health, Policy, Secret, ServerName, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::access::{Access, Denial, Route, origin_of};
use crate::attempt::Attempts;
use crate::attendance::Attendance;
use crate::board::Board;
use crate::driver::{Driver, Mailbox, tell_trace};
use crate::events::EventHub;
use crate::foreign::ImportError;
use crate::gate::Gate;
use crate::login::{CallbackQuery, ClientChoice, LoginDesk, LoginError, LoginFinished, LoginParts, LoginStarted};
use crate::ports::{
    Clock, Entropy, JournalEntry, LoadedGrant, Metrics, OAuthClient, OAuthDiscovery, ProofKeys, Secrets, StoreError,
    TokenKind, TokenStore,
};
use crate::servers::Servers;
use crate::settings::{LoginSettings, LoginWay, ServerSettings};
use crate::vault::Vault;

/// What an application is made of.
pub struct Parts {
    /// Where logins outlive the process.
    pub store: Arc<dyn TokenStore>,
    /// Token endpoints.
    pub oauth: Arc<dyn OAuthClient>,
    /// Metadata and registration.
    pub discovery: Arc<dyn OAuthDiscovery>,
    /// Configured secrets.
    pub secrets: Arc<dyn Secrets>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Keys that tokens are bound to.
    pub proofs: Arc<dyn ProofKeys>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// What operators count.
    pub metrics: Arc<dyn Metrics>,
    /// The rules' numbers.
    pub policy: Policy,
    /// What logins share.
    pub login: LoginSettings,
    /// The configuration file's servers.
    pub servers: Vec<ServerSettings>,
}

/// One grant, as people and programs see it.
#[derive(Clone, Debug)]
pub struct ServerView {
    /// Its server's settings.
    pub settings: Arc<ServerSettings>,
    /// All that is known of it.
    pub status: GrantStatus,
    /// What that means.
    pub health: Health,
    /// The login that somebody is on the way with.
    pub pending_login: Option<PendingLogin>,
    /// Whether the configuration file hides a server of the same name that was added at run time.
    pub shadows_stored: bool,
}

/// An access token for use outside the proxy.
#[derive(Clone, Debug)]
pub struct TokenView {
    /// The token.
    pub access_token: Secret,
    /// How it is sent.
    pub token_type: String,
    /// When it ends, where known.
    pub expires_at: Option<Timestamp>,
    /// What it may do.
    pub scopes: Vec<String>,
}

/// What came of a refresh that somebody asked for.
#[derive(Clone, Debug)]
pub enum RefreshOutcome {
    /// New tokens are stored.
    Refreshed(Box<GrantStatus>),
    /// The attempt failed; what is done about it stands in the status.
    Failed(Box<GrantStatus>),
    /// There is nothing to refresh with, or attempts are held back.
    NotPossible(Box<GrantStatus>),
}

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// There is no such server.
    #[error("there is no server {0:?}; `everfresh list` shows those there are")]
    NoSuchServer(String),
    /// The name is taken.
    #[error("there is a server {0} already; remove it first with `everfresh remove {0}`, or choose another name")]
    NameTaken(ServerName),
    /// It stands in the configuration file, which is not ours to write.
    #[error("the server {0} is defined in the configuration file; change it there")]
    DefinedInFile(ServerName),
    /// The settings cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A login failed.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// A login could not be moved here.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// There is no valid token now.
    #[error("{}", .0.health.summary)]
    Denied(Box<Denial>),
}

struct Inner {
    store: Arc<dyn TokenStore>,
    vault: Arc<Vault>,
    oauth: Arc<dyn OAuthClient>,
    clock: Arc<dyn Clock>,
    access: Access,
    events: Arc<EventHub>,
    mailbox: Mailbox,
    servers: Servers,
    logins: Arc<LoginDesk>,
    attendance: Arc<Attendance>,
    config_problem: watch::Sender<Option<String>>,
    driver: Mutex<Option<JoinHandle<()>>>,
    /// Held while a login is moved here, or back: two at once might be the same.
    moving: tokio::sync::Mutex<()>,
    /// Held while servers or accounts are added, switched or removed: of two changes at once, one would
    /// bring back what the other removes. Never over the network.
    changing: tokio::sync::Mutex<()>,
}

/// everfresh without its surfaces. Cloning shares it.
#[derive(Clone)]
pub struct Application {
    inner: Arc<Inner>,
}

impl Application {
    /// Loads what is stored and starts to keep it fresh. Expired logins are refreshed at once.
    ///
    /// One unreadable record stops no other. The error is of a store that cannot be read at all.
    pub async fn start(parts: Parts) -> Result<Self, StoreError> {
        let stored_servers = parts.store.servers().await?;
        let loaded = parts.store.load().await?;
        let file_servers = parts.servers.clone();
        let application = Self::compose(parts);
        let inner = &application.inner;
        inner.servers.set_file(file_servers);
        stored_servers.into_iter().for_each(|settings| inner.servers.put_stored(settings));
        for grant in &loaded {
            inner.servers.add_account(match grant {
                LoadedGrant::Record(record) => &record.id,
                LoadedGrant::Unreadable { grant, .. } => grant,
            });
        }
        application.seat_all(loaded).await;
        Ok(application)
    }

    fn compose(parts: Parts) -> Self {
        let Parts { store, oauth, discovery, secrets, clock, proofs, entropy, metrics, policy, login, servers: _ } =
            parts;
        let (mailbox, receiver) = Mailbox::new();
        let access = Access::new(Arc::clone(&clock), Arc::clone(&proofs), policy.clone(), mailbox.clone());
        let events = Arc::new(EventHub::default());
        let vault = Arc::new(Vault::new(Arc::clone(&store), Arc::clone(&metrics), mailbox.clone()));
        let drawn = entropy.bytes();
        let run = u32::from_le_bytes(std::array::from_fn(|index| drawn[index]));
        let now = clock.now();
        tell_trace(&TraceLine::Began { at: now, run, policy: Box::new(policy.clone()) });
        let driver = Driver {
            engine: Engine::new(now, run, policy.clone()),
            mailbox: receiver,
            attempts: Arc::new(Attempts {
                vault: Arc::clone(&vault),
                store: Arc::clone(&store),
                oauth: Arc::clone(&oauth),
                discovery: Arc::clone(&discovery),
                secrets: Arc::clone(&secrets),
                proofs: Arc::clone(&proofs),
                clock: Arc::clone(&clock),
                metrics: Arc::clone(&metrics),
                access: access.clone(),
                mailbox: mailbox.clone(),
                gate: Gate::new(Arc::clone(&clock), &policy),
            }),
            board: Board::new(access.clone(), Arc::clone(&events), metrics),
            clock: Arc::clone(&clock),
            under_way: tokio::task::JoinSet::new(),
            waiters: std::collections::BTreeMap::new(),
        };
        let logins = Arc::new(LoginDesk::new(LoginParts {
            store: Arc::clone(&store),
            vault: Arc::clone(&vault),
            oauth: Arc::clone(&oauth),
            discovery,
            secrets,
            clock: Arc::clone(&clock),
            proofs,
            entropy,
            access: access.clone(),
            mailbox: mailbox.clone(),
            events: Arc::clone(&events),
            settings: login,
        }));
        let driver = Mutex::new(Some(tokio::spawn(driver.run())));
        let (servers, config_problem) = (Servers::default(), watch::Sender::default());
        let attendance = Arc::new(Attendance::new(Arc::clone(&store), Arc::clone(&clock), access.clone()));
        let (moving, changing) = (tokio::sync::Mutex::default(), tokio::sync::Mutex::default());
        let inner = Inner {
            store,
            vault,
            oauth,
            clock,
            access,
            events,
            mailbox,
            servers,
            logins,
            attendance,
            config_problem,
            driver,
            moving,
            changing,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The data plane's side.
    pub fn access(&self) -> &Access {
        &self.inner.access
    }

    /// What happens.
    pub fn events(&self) -> &EventHub {
        &self.inner.events
    }

    /// The rules' numbers.
    pub fn policy(&self) -> Arc<Policy> {
        self.inner.access.policy()
    }

    /// The time, as everything here sees it.
    pub fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    /// Time since some fixed moment; see [`Clock::monotonic`].
    pub(crate) fn monotonic(&self) -> Duration {
        self.inner.clock.monotonic()
    }

    /// Every grant, by name.
    pub fn servers(&self) -> Vec<ServerView> {
        self.inner.access.routes().iter().map(|route| self.view(route)).collect()
    }

    /// One grant.
    pub fn server(&self, grant: &GrantId) -> Result<ServerView, AppError> {
        Ok(self.view(&*self.route(grant)?))
    }

    fn view(&self, route: &Route) -> ServerView {
        let status = (*route.seat.status()).clone();
        ServerView {
            settings: Arc::clone(&route.settings),
            health: status.health(self.now(), &self.policy()),
            status,
            pending_login: self.inner.logins.pending(&route.grant),
            shadows_stored: self.inner.servers.shadows_stored(&route.grant.server),
        }
    }

    fn route(&self, grant: &GrantId) -> Result<Arc<Route>, AppError> {
        let name = grant.to_string();
        self.inner.access.route(&name).ok_or(AppError::NoSuchServer(name))
    }

    /// Why not everything works, in words with the fix; empty when it does.
    pub fn not_ready(&self) -> Vec<String> {
        let problem = self.inner.config_problem.borrow().clone();
        let mut reasons: Vec<String> = problem.into_iter().collect();
        let driver = self.inner.driver.lock().unwrap_or_else(PoisonError::into_inner);
        if driver.as_ref().is_none_or(JoinHandle::is_finished) {
            reasons.push("the refresh engine has stopped; restart everfresh".to_owned());
        }
        reasons
    }

    /// Waits until the refresh engine has taken and handled something: whoever must know that it lives
    /// asks this. False where it has stopped; no answer, while it hangs.
    pub async fn pulse(&self) -> bool {
        self.inner.mailbox.pulse().await
    }

    /// What is noteworthy about the store.
    pub fn store_warnings(&self) -> Vec<String> {
        self.inner.store.warnings()
    }

    /// Says that the configuration file's newest version is refused, or is fine again.
    pub fn set_config_problem(&self, problem: Option<String>) {
        self.inner.config_problem.send_if_modified(|known| {
            let changes = *known != problem;
            *known = problem;
            changes
        });
    }

    /// Tells when [`Self::not_ready`] may say something else.
    pub fn problems(&self) -> watch::Receiver<Option<String>> {
        self.inner.config_problem.subscribe()
    }

    /// The newest attempts of a grant, newest first.
    pub async fn journal(&self, grant: &GrantId, limit: usize) -> Result<Vec<JournalEntry>, AppError> {
        self.route(grant)?;
        Ok(self.inner.store.journal(grant, limit).await?)
    }

    pub(crate) fn attendance(&self) -> &Arc<Attendance> {
        &self.inner.attendance
    }

    /// What the record of a grant knows of its past.
    pub(crate) async fn past(&self, grant: &GrantId) -> Result<History, StoreError> {
        Ok(self.inner.vault.read(grant).await?.map_or_else(History::of_none, |record| record.past()))
    }

    /// Takes over new numbers of the rules.
    pub async fn set_policy(&self, policy: Policy) {
        self.inner.access.set_policy(policy.clone());
        self.inner.mailbox.tell(Event::PolicyChanged(Box::new(policy))).await;
    }

    /// Begins a login, or returns the one that is pending. A new account of a server begins here.
    /// `way` is how, where not as configured.
    pub async fn start_login(&self, grant: &GrantId, way: Option<LoginWay>) -> Result<LoginStarted, AppError> {
        self.begin_login(grant, way, ClientChoice::Known).await
    }

    /// Begins a login with a client that is registered anew: for providers that refuse the known one
    /// on a page of their own, of which nothing comes back. A pending login makes room.
    pub async fn start_login_as_new_client(
        &self,
        grant: &GrantId,
        way: Option<LoginWay>,
    ) -> Result<LoginStarted, AppError> {
        self.begin_login(grant, way, ClientChoice::New).await
    }

    async fn begin_login(
        &self,
        grant: &GrantId,
        way: Option<LoginWay>,
        choice: ClientChoice,
    ) -> Result<LoginStarted, AppError> {
        let alone = self.inner.changing.lock().await;
        let settings = self.inner.servers.settings(&grant.server);
        let settings = settings.ok_or_else(|| AppError::NoSuchServer(grant.server.to_string()))?;
        if self.inner.access.route(&grant.to_string()).is_none() {
            self.inner.servers.add_account(grant);
            self.inner.access.put_route(grant, &settings);
            self.tell_loaded(grant, &settings, None).await;
        }
        let route = self.route(grant)?;
        drop(alone);
        Ok(self.inner.logins.start(&route, way, choice).await?)
    }

    /// The login of `grant` that is pending, as it was told when it began.
    pub fn login_under_way(&self, grant: &GrantId) -> Result<Option<LoginStarted>, AppError> {
        self.route(grant)?;
        Ok(self.inner.logins.under_way(grant))
    }

    /// Takes back a login that waits for its answer. [`Self::login_end`] tells how it ended.
    pub fn take_back_login(&self, flow: FlowId) {
        self.inner.logins.take_back(flow);
    }

    /// Takes the address that a browser was sent to, pasted by a person, as the answer to a login.
    pub async fn paste_login(&self, flow: FlowId, text: &str) -> Result<LoginFinished, AppError> {
        Ok(self.inner.logins.paste(flow, text).await?)
    }

    /// Takes what came back to the redirect URI.
    pub async fn finish_login(&self, answer: CallbackQuery) -> Result<LoginFinished, AppError> {
        Ok(self.inner.logins.finish(answer).await?)
    }

    /// Waits for the end of a login; `None` where it is not known, or not any more.
    pub async fn login_end(&self, flow: FlowId) -> Option<LoginFinished> {
        self.inner.logins.outcome(flow).await
    }

    /// The same without what came of it.
    pub async fn login_outcome(&self, flow: FlowId) -> LoginOutcome {
        self.login_end(flow).await.map_or(LoginOutcome::Cancelled, |finished| finished.outcome)
    }

    /// Logs out: erases the tokens, then revokes them where the provider offers that (RFC 7009).
    pub async fn logout(&self, grant: &GrantId) -> Result<(), AppError> {
        let route = self.route(grant)?;
        self.inner.logins.cancel(grant);
        let Some(record) = self.inner.vault.read(grant).await? else { return Ok(()) };
        let mut newest = record;
        loop {
            let out = newest.logged_out().noted(self.now(), Parting::TokenWorks);
            match self.inner.vault.replace(Some(newest.generation), &out).await {
                Ok(()) => {
                    self.inner.access.publish_tokens(&out);
                    let event = Event::LoggedOut { grant: grant.clone(), facts: Box::new(out.facts()) };
                    self.inner.mailbox.tell(event).await;
                    break;
                }
                // A refresh was faster: what it brought is what is to be erased and revoked.
                Err(StoreError::Conflict { .. }) => match self.inner.vault.read(grant).await? {
                    Some(record) => newest = record,
                    None => break,
                },
                Err(error) => return Err(error.into()),
            }
        }
        self.revoke(&route.settings, &newest).await;
        Ok(())
    }

    async fn revoke(&self, settings: &ServerSettings, record: &GrantRecord) {
        let Some(tokens) = &record.tokens else { return };
        if record.binding.revocation_endpoint.is_none() {
            return;
        }
        let (token, kind) = match &tokens.refresh_token {
            Some(token) => (token, TokenKind::RefreshToken),
            None => (&tokens.access_token, TokenKind::AccessToken),
        };
        if let Err(failure) = self.inner.oauth.revoke(settings, &record.binding, token, kind).await {
            tracing::warn!(server = %record.id, cause = failure.message, "the login is erased but could not be revoked");
        }
    }

    /// Makes one attempt as soon as spacing allows, and waits for its end. Grants that need no person
    /// are asked for so as well, also after a logout.
    pub async fn refresh(&self, grant: &GrantId) -> Result<RefreshOutcome, AppError> {
        let settings = Arc::clone(&self.route(grant)?.settings);
        if settings.oauth.grant.is_unattended() {
            return self.ask(grant, &settings).await;
        }
        self.want(grant).await;
        self.next_outcome(grant).await
    }

    async fn next_outcome(&self, grant: &GrantId) -> Result<RefreshOutcome, AppError> {
        let report = self.inner.mailbox.next_attempt(grant).await;
        let status = Box::new((*self.route(grant)?.seat.status()).clone());
        Ok(match report.map(|report| report.outcome) {
            Some(AttemptOutcome::Stored(_) | AttemptOutcome::Unsaved { .. } | AttemptOutcome::Adopted(_)) => {
                RefreshOutcome::Refreshed(status)
            }
            Some(AttemptOutcome::Failed { .. } | AttemptOutcome::Discarded) => RefreshOutcome::Failed(status),
            None => RefreshOutcome::NotPossible(status),
        })
    }

    /// A valid access token, after a refresh if one is needed.
    pub async fn token(&self, grant: &GrantId) -> Result<TokenView, AppError> {
        let route = self.route(grant)?;
        let denied = |denial: Denial| AppError::Denied(Box::new(denial));
        let pass = self.inner.access.pass(&route).await.map_err(denied)?;
        match (pass, route.seat.live()) {
            (crate::access::Pass::Bearer(bearer), Some(live)) => Ok(TokenView {
                access_token: live.access_token.clone(),
                token_type: live.token_type.clone(),
                expires_at: bearer.expires_at,
                scopes: live.scopes.clone(),
            }),
            (_, _) => Err(denied(self.inner.access.denial(&route))),
        }
    }

    /// The same with `wanted` left of its life, or half of that life where it is shorter. One that is
    /// valid, but not for so long and not to be renewed either, is denied.
    pub async fn token_lasting(&self, grant: &GrantId, wanted: Duration) -> Result<TokenView, AppError> {
        let token = self.token(grant).await?;
        let route = self.route(grant)?;
        let is_short = || {
            let status = route.seat.status();
            status.tokens.as_ref().is_some_and(|tokens| tokens.is_short_of(wanted, self.now()))
        };
        if !is_short() {
            return Ok(token);
        }
        self.refresh(grant).await?;
        if is_short() {
            return Err(AppError::Denied(Box::new(self.inner.access.denial(&route))));
        }
        self.token(grant).await
    }

    /// Begins nothing more, and returns when every attempt under way has ended and is stored.
    pub async fn shutdown(&self) {
        self.inner.mailbox.shutdown().await;
        self.inner.attendance.end().await;
        let driver = self.inner.driver.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(driver) = driver {
            drop(driver.await);
        }
    }
}

fn check_url(url: &str) -> Result<(), AppError> {
    match origin_of(url) {
        // It would be shown wherever the URL is: not even the refusal repeats it.
        Some(_) if has_userinfo(url) => Err(AppError::Invalid(
            "the URL has a user name or a password in it; leave that out, the login takes its place".to_owned(),
        )),
        Some(_) => Ok(()),
        None => Err(AppError::Invalid(format!("{url:?} is not an http or https URL with a host"))),
    }
}

fn has_userinfo(url: &str) -> bool {
    let uri = url.parse::<http::Uri>();
    uri.is_ok_and(|uri| uri.authority().is_some_and(|authority| authority.as_str().contains('@')))
}
