//! Tokens for the data plane: read without a lock, waited for where a refresh is under way.
//!
//! Each grant has a [`Seat`]. Attempts put new tokens into it once they are stored; the driver puts
//! the status there. A proxied request reads both, and never holds on to a token.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use everfresh_domain::engine::Trigger;
use everfresh_domain::status::{RefreshState, UpstreamVerdict};
use everfresh_domain::{Event, Generation, GrantId, GrantRecord, GrantStatus, Health, Policy, Secret, Timestamp};
use http::HeaderValue;
use tokio::sync::{Notify, watch};

use crate::driver::Mailbox;
use crate::ports::{Challenge, Clock, ProofError, ProofKeys, ProofRequest, ProofSigner, time_at_server};
use crate::settings::{DpopSetting, ServerSettings};

/// An access token, ready to be sent.
#[derive(Clone, Debug)]
pub struct Bearer {
    /// The `Authorization` header; marked sensitive.
    pub authorization: HeaderValue,
    /// The generation of the token in it.
    pub generation: Generation,
    /// When that token ends, where known.
    pub expires_at: Option<Timestamp>,
    /// Signs the proof that each request needs, where the token is bound to a key.
    signer: Option<Arc<dyn ProofSigner>>,
}

impl Bearer {
    /// Whether the token is bound to a key, so that each request with it needs a proof (RFC 9449).
    pub fn is_bound(&self) -> bool {
        self.signer.is_some()
    }
}

/// How a request may go out.
#[derive(Clone, Debug)]
pub enum Pass {
    /// With a token.
    Bearer(Bearer),
    /// Without: nobody has logged in, and the upstream may not ask for it.
    Anonymous,
}

/// Why a request cannot go out.
#[derive(Clone, Debug)]
pub struct Denial {
    /// Which grant.
    pub grant: GrantId,
    /// Its health, with what to do.
    pub health: Health,
    /// When to ask again, where that may help.
    pub retry_after: Option<Duration>,
}

/// A token in use.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) access_token: Secret,
    pub(crate) token_type: String,
    pub(crate) scopes: Vec<String>,
    /// The place it was issued for: it goes to no other.
    origin: String,
    bearer: Bearer,
}

impl Live {
    /// The tokens of `record`, if it has any that can be sent.
    fn of(record: &GrantRecord, keys: &dyn ProofKeys) -> Option<Self> {
        let tokens = record.tokens.as_ref()?;
        let key = record.binding.dpop_key.as_ref().filter(|_| tokens.is_dpop_bound());
        let signer = match key.map(|key| keys.signer(key, &tokens.access_token)).transpose() {
            Ok(signer) => signer,
            Err(error) => {
                tracing::error!(server = %record.id, cause = %error, "a token cannot be used");
                return None;
            }
        };
        let scheme = if signer.is_some() { "DPoP" } else { "Bearer" };
        let mut authorization = HeaderValue::from_str(&format!("{scheme} {}", tokens.access_token.expose())).ok()?;
        authorization.set_sensitive(true);
        Some(Self {
            access_token: tokens.access_token.clone(),
            token_type: tokens.token_type.clone(),
            scopes: tokens.scopes.clone(),
            origin: origin_of(&record.binding.upstream).unwrap_or_default(),
            bearer: Bearer { authorization, generation: record.generation, expires_at: tokens.expires_at(), signer },
        })
    }

    fn is_for(&self, route: &Route) -> bool {
        let bound_enough = self.bearer.is_bound() || route.settings.oauth.dpop != DpopSetting::Required;
        !self.origin.is_empty() && self.origin == route.origin && bound_enough
    }

    fn is_valid(&self, now: Timestamp) -> bool {
        self.bearer.expires_at.is_none_or(|end| now < end)
    }
}

/// One grant's place in the data plane.
#[derive(Debug)]
pub struct Seat {
    live: ArcSwapOption<Live>,
    status: ArcSwap<GrantStatus>,
    challenge: ArcSwapOption<Challenge>,
    /// The upstream's newest nonce (RFC 9449 section 9).
    nonce: ArcSwapOption<String>,
    /// How far this machine's clock is ahead of the provider's, as last told.
    clock_ahead_s: AtomicI64,
    /// Whether a client has called in vain since nobody has logged in.
    called_in_vain: AtomicBool,
    changed: watch::Sender<()>,
}

impl Seat {
    fn new(status: GrantStatus) -> Self {
        Self {
            live: ArcSwapOption::empty(),
            status: ArcSwap::from_pointee(status),
            challenge: ArcSwapOption::empty(),
            nonce: ArcSwapOption::empty(),
            clock_ahead_s: AtomicI64::new(0),
            called_in_vain: AtomicBool::new(false),
            changed: watch::Sender::new(()),
        }
    }

    fn put_status(&self, status: GrantStatus) {
        if status.tokens.is_some() {
            self.called_in_vain.store(false, Ordering::Relaxed);
        }
        self.status.store(Arc::new(status));
        self.changed.send_replace(());
    }

    pub(crate) fn status(&self) -> Arc<GrantStatus> {
        self.status.load_full()
    }

    pub(crate) fn live(&self) -> Option<Arc<Live>> {
        self.live.load_full()
    }

    /// Whether a client has called in vain since nobody has logged in.
    pub(crate) fn was_called_in_vain(&self) -> bool {
        self.called_in_vain.load(Ordering::Relaxed)
    }

    /// What the upstream demanded last.
    pub(crate) fn challenge(&self) -> Option<Challenge> {
        self.challenge.load_full().map(|challenge| (*challenge).clone())
    }
}

/// A name of the data plane and what is behind it.
#[derive(Debug)]
pub struct Route {
    /// Whose tokens are used.
    pub grant: GrantId,
    /// The upstream. Settings that change are another `Arc`.
    pub settings: Arc<ServerSettings>,
    /// Where the tokens are.
    pub seat: Arc<Seat>,
    /// Scheme, host and port of the upstream.
    origin: String,
}

/// All routes, by name as in the URL.
type Routes = BTreeMap<String, Arc<Route>>;

struct Inner {
    routes: ArcSwap<Routes>,
    clock: Arc<dyn Clock>,
    proofs: Arc<dyn ProofKeys>,
    policy: ArcSwap<Policy>,
    mailbox: Mailbox,
    called_in_vain: Notify,
}

/// The data plane's side of the application. Cloning shares it.
#[derive(Clone)]
pub struct Access {
    inner: Arc<Inner>,
}

impl Access {
    pub(crate) fn new(clock: Arc<dyn Clock>, proofs: Arc<dyn ProofKeys>, policy: Policy, mailbox: Mailbox) -> Self {
        let policy = ArcSwap::from_pointee(policy);
        let inner = Inner { routes: ArcSwap::default(), clock, proofs, policy, mailbox, called_in_vain: Notify::new() };
        Self { inner: Arc::new(inner) }
    }

    /// Adds a route, or gives the one of that grant new settings. Its seat stays.
    pub(crate) fn put_route(&self, grant: &GrantId, settings: &Arc<ServerSettings>) -> Arc<Route> {
        let seat = self.route(&grant.to_string()).map_or_else(
            || {
                Arc::new(Seat::new(GrantStatus {
                    enabled: settings.enabled,
                    grant_type: settings.oauth.grant,
                    ..GrantStatus::unknown(grant.clone())
                }))
            },
            |route| Arc::clone(&route.seat),
        );
        let origin = origin_of(&settings.url).unwrap_or_default();
        let route = Arc::new(Route { grant: grant.clone(), settings: Arc::clone(settings), seat, origin });
        self.inner.routes.rcu(|routes| {
            let mut routes = Routes::clone(routes);
            routes.insert(grant.to_string(), Arc::clone(&route));
            routes
        });
        route
    }

    pub(crate) fn remove_route(&self, grant: &GrantId) {
        self.inner.routes.rcu(|routes| {
            let mut routes = Routes::clone(routes);
            routes.remove(&grant.to_string());
            routes
        });
    }

    pub(crate) fn routes(&self) -> Vec<Arc<Route>> {
        self.inner.routes.load().values().cloned().collect()
    }

    /// Publishes the tokens of a stored record, or that there are none.
    ///
    /// An older generation never takes the place of a newer one.
    pub(crate) fn publish_tokens(&self, record: &GrantRecord) {
        let Some(route) = self.route(&record.id.to_string()) else { return };
        let live = Live::of(record, &*self.inner.proofs).map(Arc::new);
        route.seat.live.rcu(|current| match current {
            Some(current) if current.bearer.generation > record.generation => Some(Arc::clone(current)),
            _ => live.clone(),
        });
        route.seat.changed.send_replace(());
    }

    pub(crate) fn publish_status(&self, status: GrantStatus) {
        if let Some(route) = self.route(&status.id.to_string()) {
            route.seat.put_status(status);
        }
    }

    pub(crate) fn set_policy(&self, policy: Policy) {
        self.inner.policy.store(Arc::new(policy));
    }

    /// The time, as everything here sees it.
    pub fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    pub(crate) fn policy(&self) -> Arc<Policy> {
        self.inner.policy.load_full()
    }

    /// The route of `name` or `name@account`.
    pub fn route(&self, name: &str) -> Option<Arc<Route>> {
        self.inner.routes.load().get(name).cloned()
    }

    /// How a request may go out right now, without waiting for anything.
    pub fn try_pass(&self, route: &Route) -> Option<Pass> {
        let live = route.seat.live.load();
        match live.as_deref().filter(|live| live.is_for(route)) {
            Some(live) if live.is_valid(self.inner.clock.now()) && route.settings.enabled => {
                Some(Pass::Bearer(live.bearer.clone()))
            }
            Some(_) => None,
            None => may_go_anonymously(&route.seat.status.load()).then_some(Pass::Anonymous),
        }
    }

    /// How a request may go out, after waiting for a refresh that is under way or due soon.
    pub async fn pass(&self, route: &Route) -> Result<Pass, Denial> {
        if let Some(pass) = self.try_pass(route) {
            return Ok(pass);
        }
        let deadline = self.park_deadline();
        let mut changed = route.seat.changed.subscribe();
        let event = Event::RefreshWanted { grant: route.grant.clone(), trigger: Trigger::Request };
        self.inner.mailbox.tell(event).await;
        loop {
            changed.mark_unchanged();
            if let Some(pass) = self.try_pass(route) {
                return Ok(pass);
            }
            self.park(route, &mut changed, deadline).await?;
        }
    }

    /// What to do after the upstream answered 401 to a token of generation `refused`: the newer
    /// token if there is one, else the one that a single forced refresh brings.
    pub async fn pass_after_refusal(&self, route: &Route, refused: Generation) -> Result<Bearer, Denial> {
        let deadline = self.park_deadline();
        let mut changed = route.seat.changed.subscribe();
        if let Some(newer) = newer_than(route, refused) {
            return Ok(newer);
        }
        let event = Event::UpstreamRefused { grant: route.grant.clone(), generation: refused };
        self.inner.mailbox.tell(event).await;
        loop {
            if let Some(newer) = newer_than(route, refused) {
                return Ok(newer);
            }
            self.park(route, &mut changed, deadline).await?;
        }
    }

    /// Waits for the next change of the seat, or denies where waiting cannot help in time.
    async fn park(&self, route: &Route, changed: &mut watch::Receiver<()>, deadline: Timestamp) -> Result<(), Denial> {
        let now = self.inner.clock.now();
        let status = route.seat.status();
        if now >= deadline || !may_recover_by(&status, now, deadline) {
            return Err(self.denial(route));
        }
        match tokio::time::timeout(deadline.since(now), changed.changed()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(self.denial(route)),
        }
    }

    fn park_deadline(&self) -> Timestamp {
        self.inner.clock.now().after(self.policy().park_timeout)
    }

    /// The `DPoP` header of one request (RFC 9449 section 4.1); `None` for a token that needs none.
    /// `url` is the upstream's, as it is asked, without query and fragment.
    pub fn proof(
        &self,
        route: &Route,
        bearer: &Bearer,
        method: &str,
        url: &str,
    ) -> Result<Option<HeaderValue>, ProofError> {
        let Some(signer) = &bearer.signer else { return Ok(None) };
        let nonce = route.seat.nonce.load();
        let ahead_s = route.seat.clock_ahead_s.load(Ordering::Relaxed);
        let issued_at = time_at_server(self.inner.clock.now(), ahead_s);
        let nonce = nonce.as_ref().map(|nonce| nonce.as_str());
        signer.prove(&ProofRequest { method, url, nonce, issued_at }).map(Some)
    }

    /// The upstream told the nonce that proofs have to carry from here on (RFC 9449 section 8.2).
    pub fn nonce_told(&self, route: &Route, nonce: &str) {
        if route.seat.nonce.load().as_ref().is_none_or(|known| known.as_str() != nonce) {
            route.seat.nonce.store(Some(Arc::new(nonce.to_owned())));
        }
    }

    /// The provider told the time: this machine is `ahead_s` seconds ahead.
    pub(crate) fn clock_told(&self, grant: &GrantId, ahead_s: i64) {
        if let Some(route) = self.route(&grant.to_string()) {
            route.seat.clock_ahead_s.store(ahead_s, Ordering::Relaxed);
        }
    }

    /// The upstream accepted a token of `generation`. Does something only after a refusal.
    pub fn accepted(&self, route: &Route, generation: Generation) {
        if route.seat.status.load().upstream != UpstreamVerdict::Accepts {
            self.inner.mailbox.try_tell(Event::UpstreamAccepted { grant: route.grant.clone(), generation });
        }
    }

    /// Remembers what the upstream demanded, for the next login.
    pub fn challenged(&self, route: &Route, challenge: Challenge) {
        route.seat.challenge.store(Some(Arc::new(challenge)));
    }

    /// The upstream demands scopes that the token of `pass` lacks (RFC 6750 section 3.1,
    /// `insufficient_scope`). That is shown, and never refreshed for.
    pub fn scope_demanded(&self, route: &Route, pass: &Pass, challenge: Challenge) {
        let generation = match pass {
            Pass::Bearer(bearer) => bearer.generation,
            Pass::Anonymous => Generation::default(),
        };
        let scopes = challenge.scopes.clone();
        self.challenged(route, challenge);
        self.inner.mailbox.try_tell(Event::ScopesDemanded { grant: route.grant.clone(), generation, scopes });
    }

    /// A client was turned away. Where nobody has logged in yet, that is when the login is missing.
    pub fn turned_away(&self, route: &Route) {
        let status = route.seat.status.load();
        let nobody_yet = status.tokens.is_none() && status.ended.is_none() && !status.grant_type.is_unattended();
        if nobody_yet && !route.seat.called_in_vain.swap(true, Ordering::Relaxed) {
            self.inner.called_in_vain.notify_one();
        }
    }

    /// Waits for the next client that misses a login which nobody has made.
    pub(crate) async fn login_missed(&self) {
        self.inner.called_in_vain.notified().await;
    }

    /// What is to be said of a grant that cannot pass.
    pub fn denial(&self, route: &Route) -> Denial {
        let now = self.inner.clock.now();
        let status = route.seat.status();
        Denial {
            grant: route.grant.clone(),
            health: status.health(now, &self.policy()),
            retry_after: status.next_attempt_at.map(|at| at.since(now).max(Duration::from_secs(1))),
        }
    }
}

fn may_go_anonymously(status: &GrantStatus) -> bool {
    status.enabled
        && status.misconfigured.is_none()
        && status.unreadable.is_none()
        && status.tokens.is_none()
        && status.ended.is_none()
        && !status.grant_type.is_unattended()
}

fn newer_than(route: &Route, refused: Generation) -> Option<Bearer> {
    let live = route.seat.live.load();
    let newer = live.as_deref().filter(|live| live.is_for(route) && live.bearer.generation > refused);
    newer.map(|live| live.bearer.clone())
}

/// Scheme, host and port of a URL, in one form; `None` for what is no place on the web.
pub(crate) fn origin_of(url: &str) -> Option<String> {
    let uri: http::Uri = url.parse().ok()?;
    let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"))?;
    let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    Some(format!("{scheme}://{}:{port}", uri.host()?.to_ascii_lowercase()))
}

/// How an upstream's URL differs in origin from the one that was logged in to, if it does.
pub(crate) fn moved(logged_in: &str, configured: &str) -> Option<String> {
    let same = origin_of(logged_in).is_some_and(|before| Some(before) == origin_of(configured));
    (!same).then(|| format!("the login was made for {logged_in}, and the server is configured as {configured}"))
}

/// Whether waiting until `deadline` may bring a token.
fn may_recover_by(status: &GrantStatus, now: Timestamp, deadline: Timestamp) -> bool {
    if !status.enabled || matches!(status.upstream, UpstreamVerdict::RejectsFresh(_)) {
        return false;
    }
    match status.state {
        RefreshState::Refreshing => true,
        RefreshState::Scheduled => true,
        RefreshState::Retrying => status.next_attempt_at.is_some_and(|at| at.max(now) < deadline),
        RefreshState::Idle | RefreshState::Failed => false,
    }
}
