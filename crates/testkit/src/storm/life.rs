//! One life of the process, and the people and clients around it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use everfresh_application::access::Pass;
use everfresh_application::ports::Secrets;
use everfresh_application::{Application, CallbackQuery, LoginSettings, Parts, SecretSource, ServerView};
use everfresh_domain::health::Reason;
use everfresh_domain::{Generation, GrantId, Policy, Secret, Timestamp};

use super::clocks::{StormClock, StormEntropy};
use super::disk::StormDisk;
use super::net::StormNet;
use super::weather::{Around, Edit, Happening};
use super::world::{Shared, World};
use crate::metrics::CountingMetrics;
use crate::proof::TestProofs;
use crate::provider::{Model, RefreshTokenShape};
use crate::sim::Invariant;
use crate::sim::judge::Scope;

/// How often people look whether all is well.
const LOOK: Duration = Duration::from_secs(30 * 60);

/// How long a person waits for anything.
const PATIENCE: Duration = Duration::from_secs(90);

/// How a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The time that was to be lived is over.
    Reached,
    /// The process died or handed over before that.
    Early,
}

struct NoSecrets;

#[async_trait]
impl Secrets for NoSecrets {
    async fn resolve(&self, _source: &SecretSource) -> Result<Secret, String> {
        Err("there are none here".to_owned())
    }

    async fn resolve_whole(&self, source: &SecretSource) -> Result<Secret, String> {
        self.resolve(source).await
    }
}

/// Lives until then, or until the process ends before.
pub(super) async fn live(shared: &Shared, until: Timestamp) -> Result<End, String> {
    shared.with(|world| world.born());
    let end = tokio::select! {
        biased;
        () = shared.died.notified() => Ok(End::Early),
        end = run(shared, until) => end,
    };
    shared.with(|world| world.buried());
    end
}

async fn run(shared: &Shared, until: Timestamp) -> Result<End, String> {
    let app = Application::start(parts(shared)).await.map_err(|error| format!("the store is not opened: {error}"))?;
    loop {
        settle_people(shared, &app).await;
        if shared.with(|world| world.takes_the_stage()) {
            act_out_everything(shared, &app).await;
        }
        let (now, next) = shared.with(|world| (world.now(), world.next()));
        if now >= until {
            app.shutdown().await;
            return Ok(End::Reached);
        }
        let look = now.after(LOOK).min(until);
        tokio::time::sleep(next.map_or(look, |next| next.min(look)).since(now)).await;
        if let Some(happening) = shared.with(|world| world.strike())
            && let Some(end) = suffer(shared, &app, happening).await
        {
            return Ok(end);
        }
        check(shared, &app);
    }
}

fn parts(shared: &Shared) -> Parts {
    let net = Arc::new(StormNet::new(shared));
    Parts {
        store: Arc::new(StormDisk::new(shared)),
        oauth: Arc::clone(&net) as _,
        discovery: net,
        secrets: Arc::new(NoSecrets),
        clock: Arc::new(StormClock(shared.clone())),
        proofs: Arc::new(TestProofs),
        entropy: Arc::new(StormEntropy(shared.clone())),
        metrics: Arc::new(CountingMetrics::default()),
        policy: shared.with(|world| world.policy()),
        login: LoginSettings {
            redirect_uri: "http://127.0.0.1:7411/oauth/callback".into(),
            ..LoginSettings::default()
        },
        servers: shared.with(|world| world.file()),
    }
}

async fn suffer(shared: &Shared, app: &Application, happening: Happening) -> Option<End> {
    let grant_of = |number: usize| shared.with(|world| world.grants[number].clone());
    match happening {
        Happening::Crash(pause) => {
            shared.with(|world| {
                world.pause = pause;
                world.dies("at any moment");
            });
            return Some(End::Early);
        }
        Happening::CrashSoon { boundaries, pause } => shared.with(|world| world.dies_in(boundaries, pause)),
        Happening::Handover(pause) => {
            app.shutdown().await;
            shared.with(|world| world.pause = pause);
            return Some(End::Early);
        }
        Happening::Relogin { grant, while_refreshing } => {
            let grant = grant_of(grant);
            refresh_aside(app, &grant, while_refreshing);
            log_out(shared, app, &grant).await;
        }
        Happening::Remove { grant, while_refreshing, time } => {
            let grant = grant_of(grant);
            refresh_aside(app, &grant, while_refreshing);
            remove(shared, app, &grant, time).await;
        }
        Happening::Disable { grant, time } => {
            disable(shared, app, &grant_of(grant), time).await;
        }
        Happening::Policy { threshold, spacing } => {
            let policy = Policy { threshold, min_spacing: spacing, ..Policy::default() };
            shared.with(|world| world.edit_policy(policy.clone()));
            app.set_policy(policy).await;
        }
        Happening::Edit { grant, edit } => {
            shared.with(|world| edit_file(world, grant, edit));
            read_file(shared, app).await;
        }
        Happening::Requests { grant } => requests(app, &grant_of(grant)).await,
        Happening::TokensKilled { grant } => tokens_killed(shared, app, &grant_of(grant)).await,
        Happening::Refresh { grant } => refresh_aside(app, &grant_of(grant), true),
        Happening::Around(around) => shared.with(|world| befall(world, around)),
    }
    None
}

/// What happens to the process from outside.
fn befall(world: &mut World, around: Around) {
    match around {
        Around::Network(time) => world.network_down_until = trouble(world, time, Scope::All),
        Around::Outage { provider, time, fault } => {
            world.outages[provider] = trouble(world, time, Scope::Provider(provider));
            world.model(provider, |model| model.switches.fault = Some(fault));
        }
        Around::DiskFull(time) => world.disk_full_until = trouble(world, time, Scope::All),
        Around::DiskSlow(time) => world.disk_slow_until = trouble(world, time, Scope::All),
        Around::ReadErrors(time) => world.read_errors_until = trouble(world, time, Scope::All),
        Around::Unreadable { grant, time } => {
            let (grant, until) = (world.grants[grant].clone(), world.now().after(time));
            world.damage(&grant, until);
        }
        Around::Purge { provider } => world.model(provider, Model::forget_clients),
        Around::Omits { provider, time, shape } => {
            world.omits_until[provider] = world.now().after(time);
            world.renews_nothing(provider, time.saturating_add(LOOK));
            world.model(provider, |model| model.switches.refresh_token = shape);
        }
        Around::Metadata { provider } => world.model(provider, |model| {
            let told = &mut model.switches.token_endpoint_told;
            *told = told.is_none().then(|| format!("https://as{provider}.example/v2/token"));
        }),
        Around::Sleep(time) => world.sleep(time),
        Around::Clock(ms) => world.set_clock(ms),
    }
}

fn trouble(world: &mut World, time: Duration, scope: Scope) -> Timestamp {
    let until = world.now().after(time);
    world.trouble(until, scope);
    until
}

/// Servers of the store are edited by nobody: the next one of the file is.
fn edit_file(world: &mut World, number: usize, edit: Edit) {
    let mut from_here = (0..world.grants.len()).map(|step| &world.grants[(number + step) % world.grants.len()]);
    let Some(grant) = from_here.find(|grant| world.is_in_file(grant)).cloned() else { return };
    let mut count = |what| *world.book(&grant).edits.entry(what).or_default() += 1;
    match edit {
        Edit::Path => count("path"),
        Edit::Header => count("header"),
        Edit::Scopes => count("scopes"),
        Edit::Elsewhere(time) => {
            let until = trouble(world, time, Scope::Grant(grant.clone()));
            world.book(&grant).moved_until = Some(until);
        }
    }
}

/// The process reads the configuration file as it is.
async fn read_file(shared: &Shared, app: &Application) {
    let servers = shared.with(|world| world.file());
    drop(app.replace_file_servers(servers).await);
}

async fn log_out(shared: &Shared, app: &Application, grant: &GrantId) {
    shared.with(|world| world.book(grant).logs_out = true);
    drop(tokio::time::timeout(PATIENCE, app.logout(grant)).await);
}

async fn disable(shared: &Shared, app: &Application, grant: &GrantId, time: Duration) {
    let until = shared.with(|world| trouble(world, time, Scope::Grant(grant.clone())));
    if shared.with(|world| world.is_in_file(grant)) {
        shared.with(|world| world.book(grant).disabled_until = Some(until));
        read_file(shared, app).await;
    } else if app.set_enabled(&grant.server, false).await.is_ok() {
        shared.with(|world| world.book(grant).disabled_until = Some(until));
    }
}

fn refresh_aside(app: &Application, grant: &GrantId, wanted: bool) {
    if wanted {
        let (app, grant) = (app.clone(), grant.clone());
        tokio::spawn(async move { app.refresh(&grant).await });
    }
}

async fn remove(shared: &Shared, app: &Application, grant: &GrantId, time: Duration) {
    let in_file = shared.with(|world| world.is_in_file(grant));
    if in_file {
        // Its login stays in the store, and counts again when the server is back.
        shared.with(|world| {
            let until = trouble(world, time, Scope::Grant(grant.clone()));
            world.book(grant).removed_until = Some(until);
        });
        return read_file(shared, app).await;
    }
    let removed = tokio::time::timeout(PATIENCE, app.remove_server(&grant.server)).await;
    if matches!(removed, Ok(Ok(()))) {
        shared.with(|world| {
            let until = trouble(world, time, Scope::Grant(grant.clone()));
            let book = world.book(grant);
            (book.removed_until, book.missing, book.under_way) = (Some(until), None, None);
        });
    }
}

/// Ten clients ask at once; half of them go away at once.
async fn requests(app: &Application, grant: &GrantId) {
    let Some(route) = app.access().route(&grant.to_string()) else { return };
    let asking: Vec<_> = (0..10)
        .map(|number| {
            let (access, route) = (app.access().clone(), Arc::clone(&route));
            let patience = if number % 2 == 0 { Duration::from_millis(1) } else { PATIENCE };
            tokio::spawn(async move { tokio::time::timeout(patience, access.pass(&route)).await.is_ok() })
        })
        .collect();
    for client in asking {
        drop(client.await);
    }
}

/// The provider ends access tokens before their time, and a client meets that.
async fn tokens_killed(shared: &Shared, app: &Application, grant: &GrantId) {
    shared.with(|world| {
        let provider = world.book(grant).provider;
        world.model(provider, |model| model.expire_access_tokens());
    });
    for view in app.servers() {
        let other = view.status.id;
        let same = shared.with(|world| world.book(&other).provider == world.book(grant).provider);
        let (route, generation) = (app.access().route(&other.to_string()), generation_of(app, &other));
        if let (true, Some(route), Some(generation)) = (same, route, generation) {
            let access = app.access().clone();
            tokio::spawn(async move { access.pass_after_refusal(&route, generation).await.is_ok() });
        }
    }
}

fn generation_of(app: &Application, grant: &GrantId) -> Option<Generation> {
    let route = app.access().route(&grant.to_string())?;
    match app.access().try_pass(&route) {
        Some(Pass::Bearer(bearer)) => Some(bearer.generation),
        Some(Pass::Anonymous) | None => None,
    }
}

/// Every use case once, for a process that dies somewhere in between.
async fn act_out_everything(shared: &Shared, app: &Application) {
    let grants = shared.with(|world| world.grants.clone());
    let (logged_out, removed, disabled) = (&grants[0], &grants[1], &grants[2]);
    for grant in &grants {
        drop(tokio::time::timeout(PATIENCE, app.refresh(grant)).await);
    }
    refresh_aside(app, logged_out, true);
    log_out(shared, app, logged_out).await;
    remove(shared, app, removed, Duration::from_secs(60)).await;
    drop(app.set_enabled(&disabled.server, false).await);
    drop(app.set_enabled(&disabled.server, true).await);
}

/// People add what is missing, switch on what is off, and log in where a login is over.
async fn settle_people(shared: &Shared, app: &Application) {
    shared.with(end_outages);
    read_file(shared, app).await;
    for grant in shared.with(|world| world.grants.clone()) {
        settle(shared, app, &grant).await;
    }
}

fn end_outages(world: &mut World) {
    let now = world.now();
    for provider in 0..world.models.len() {
        if world.outages[provider] <= now {
            world.model(provider, |model| model.switches.fault = None);
        }
        if world.omits_until[provider] <= now {
            world.model(provider, |model| model.switches.refresh_token = RefreshTokenShape::Present);
        }
    }
}

async fn settle(shared: &Shared, app: &Application, grant: &GrantId) {
    let (now, book) = shared.with(|world| (world.now(), world.book(grant).clone()));
    let in_file = shared.with(|world| world.is_in_file(grant));
    if book.removed_until.is_some_and(|until| now < until) {
        return;
    }
    shared.with(|world| world.book(grant).removed_until = None);
    if app.access().route(&grant.to_string()).is_none() {
        drop(app.add_server(shared.with(|world| world.settings(grant))).await);
    }
    if !in_file
        && book.disabled_until.is_none_or(|until| now >= until)
        && app.server(grant).is_ok_and(|view| !view.settings.enabled)
        && app.set_enabled(&grant.server, true).await.is_ok()
    {
        shared.with(|world| world.book(grant).disabled_until = None);
    }
    // What is stored decides: whatever else keeps a login from working must pass by itself.
    let stored = shared.with(|world| world.disk.on_disk(grant));
    let over = stored.is_none_or(|record| record.tokens.is_none() || record.ended.is_some());
    let elsewhere = book.moved_until.is_some_and(|until| now < until);
    if over && !elsewhere && book.blind_since.is_none() && !shared.with(|world| world.is_damaged(grant)) {
        drop(tokio::time::timeout(PATIENCE, log_in(shared, app, grant, book.provider)).await);
    }
}

async fn log_in(shared: &Shared, app: &Application, grant: &GrantId, provider: usize) -> Option<()> {
    let started = app.start_login(grant, None).await.ok()?;
    let pairs = |text: &str| -> BTreeMap<String, String> {
        let query = text.split_once('?').map(|(_, query)| query).unwrap_or_default();
        url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
    };
    let query = pairs(&started.authorization_url);
    let reply = shared.with(|world| world.model(provider, |model| model.authorize(&query)));
    let (_, location) = reply.headers.iter().find(|(name, _)| name == "location")?;
    let answer = pairs(location);
    let finished = app.finish_login(CallbackQuery {
        code: answer.get("code").map(Secret::new),
        state: answer.get("state").map(Secret::new),
        iss: answer.get("iss").cloned(),
        ..CallbackQuery::default()
    });
    let finished = finished.await.ok()?;
    shared.with(|world| world.tell(format!("{grant} logs in: {:?}", finished.outcome)));
    Some(())
}

/// Everything that is shown must be so.
fn check(shared: &Shared, app: &Application) {
    for view in app.servers() {
        let grant = view.status.id.clone();
        let live = generation_of(app, &grant);
        if let Err((invariant, broken)) = invariants_of_what_is_shown(shared, app, &view, live) {
            let (state, health) = (view.status.state, view.health);
            shared.breaks(invariant, format!("{grant}: {broken}; {state:?}, {health:?}"));
        }
    }
}

fn invariants_of_what_is_shown(
    shared: &Shared,
    app: &Application,
    view: &ServerView,
    live: Option<Generation>,
) -> Result<(), (Invariant, String)> {
    let (grant, status, reason) = (&view.status.id, &view.status, view.health.reason);
    let (stored, book, now) = shared.with(|world| (world.disk.on_disk(grant), world.book(grant).clone(), world.now()));
    let stored_generation = stored.as_ref().map(|record| record.generation);
    if live > stored_generation && status.unsaved.is_none() {
        let what = format!("generation {live:?} is in use, and only {stored_generation:?} is stored");
        return Err((Invariant::StoredBeforePublished, what));
    }
    let dead = matches!(reason, Reason::RefreshTokenRejected | Reason::RotationLost);
    if dead && shared.with(|world| refreshes(world, grant)) {
        return Err((Invariant::TruthShown, "it is said to be over, and its refresh token is good".to_owned()));
    }
    let elsewhere = stored.as_ref().is_some_and(|record| {
        record.tokens.is_some() && !view.settings.url.starts_with(origin(&record.binding.upstream))
    });
    if elsewhere && live.is_some() {
        return Err((Invariant::NoTokenElsewhere, format!("a token is given to {}", view.settings.url)));
    }
    if reason == Reason::IssuerChanged && !elsewhere {
        return Err((Invariant::EndedForCause, "its server is said to have moved, and is where it was".to_owned()));
    }
    let unreadable = matches!(reason, Reason::StoreUnreadable | Reason::Disabled);
    if book.blind_since.is_some() && status.tokens.is_none() && !unreadable {
        return Err((Invariant::UnreadableIsNotEmpty, "its record cannot be read, and that is not said".to_owned()));
    }
    let expected = status.enabled && !dead && status.ended.is_none() && status.tokens.is_some();
    if expected && now > book.troubled_until && live.is_none() && !status.has_valid_token(app.now()) {
        return Err((Invariant::NoLapseInCalm, "its access token has ended".to_owned()));
    }
    if reason == Reason::Ok && status.tokens.is_some() && live.is_none() {
        return Err((Invariant::TruthShown, "it is said to be well, and has no token to give".to_owned()));
    }
    Ok(())
}

/// Whether its provider would take the refresh token that is stored.
fn refreshes(world: &World, grant: &GrantId) -> bool {
    let (now, provider) = (world.now(), world.books[grant].provider);
    let tokens = world.disk.on_disk(grant).and_then(|record| record.tokens);
    let token = tokens.and_then(|tokens| tokens.refresh_token);
    token.is_some_and(|token| world.model(provider, |model| model.would_refresh(now, token.expose())))
}

fn origin(url: &str) -> &str {
    url.match_indices('/').nth(2).map_or(url, |(end, _)| &url[..=end])
}
