//! One life of the process, and the people and clients around it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use everfresh_application::access::Pass;
use everfresh_application::ports::Secrets;
use everfresh_application::{
    Application, CallbackQuery, LoginSettings, Parts, SecretSource, ServerSettings, ServerView,
};
use everfresh_domain::health::Reason;
use everfresh_domain::{Generation, GrantId, Policy, Secret, Timestamp};

use super::disk::StormDisk;
use super::net::StormNet;
use super::weather::Happening;
use super::world::{Shared, StormClock, StormEntropy};
use crate::metrics::CountingMetrics;
use crate::proof::TestProofs;

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
        policy: Policy::default(),
        login: LoginSettings {
            redirect_uri: "http://127.0.0.1:7411/oauth/callback".into(),
            ..LoginSettings::default()
        },
        servers: Vec::new(),
    }
}

async fn suffer(shared: &Shared, app: &Application, happening: Happening) -> Option<End> {
    let grant_of = |number: usize| shared.with(|world| world.grants[number].clone());
    let trouble = |time: Duration| {
        shared.with(|world| {
            let until = world.now().after(time);
            world.trouble_until(until);
            until
        })
    };
    match happening {
        Happening::Network(time) => shared.with(|world| world.network_down_until = trouble_end(world, time)),
        Happening::Outage { provider, time, fault } => shared.with(|world| {
            world.outages[provider] = trouble_end(world, time);
            world.model(provider, |model| model.switches.fault = Some(fault));
        }),
        Happening::DiskFull(time) => shared.with(|world| world.disk_full_until = trouble_end(world, time)),
        Happening::DiskSlow(time) => shared.with(|world| world.disk_slow_until = trouble_end(world, time)),
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
        Happening::Sleep(time) => shared.with(|world| world.sleep(time)),
        Happening::Clock(ms) => shared.with(|world| world.set_clock(ms)),
        Happening::Relogin { grant, while_refreshing } => {
            let grant = grant_of(grant);
            refresh_aside(app, &grant, while_refreshing);
            drop(tokio::time::timeout(PATIENCE, app.logout(&grant)).await);
        }
        Happening::Remove { grant, while_refreshing, time } => {
            let grant = grant_of(grant);
            refresh_aside(app, &grant, while_refreshing);
            remove(shared, app, &grant, time).await;
        }
        Happening::Disable { grant, time } => {
            let (grant, until) = (grant_of(grant), trouble(time));
            if app.set_enabled(&grant.server, false).await.is_ok() {
                shared.with(|world| world.book(&grant).disabled_until = Some(until));
            }
        }
        Happening::Policy { threshold } => app.set_policy(Policy { threshold, ..Policy::default() }).await,
        Happening::Requests { grant } => requests(app, &grant_of(grant)).await,
        Happening::TokensKilled { grant } => tokens_killed(shared, app, &grant_of(grant)).await,
        Happening::Refresh { grant } => refresh_aside(app, &grant_of(grant), true),
    }
    None
}

fn trouble_end(world: &mut super::world::World, time: Duration) -> Timestamp {
    let until = world.now().after(time);
    world.trouble_until(until);
    until
}

fn refresh_aside(app: &Application, grant: &GrantId, wanted: bool) {
    if wanted {
        let (app, grant) = (app.clone(), grant.clone());
        tokio::spawn(async move { app.refresh(&grant).await });
    }
}

async fn remove(shared: &Shared, app: &Application, grant: &GrantId, time: Duration) {
    let removed = tokio::time::timeout(PATIENCE, app.remove_server(&grant.server)).await;
    if matches!(removed, Ok(Ok(()))) {
        shared.with(|world| {
            let until = trouble_end(world, time);
            let book = world.book(grant);
            (book.removed_until, book.undelivered) = (Some(until), None);
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
    drop(tokio::time::timeout(PATIENCE, app.logout(logged_out)).await);
    remove(shared, app, removed, Duration::from_secs(60)).await;
    drop(app.set_enabled(&disabled.server, false).await);
    drop(app.set_enabled(&disabled.server, true).await);
}

/// People add what is missing, switch on what is off, and log in where they have to.
async fn settle_people(shared: &Shared, app: &Application) {
    let now = shared.with(|world| {
        let now = world.now();
        for provider in 0..world.models.len() {
            if world.outages[provider] <= now {
                world.model(provider, |model| model.switches.fault = None);
            }
        }
        now
    });
    for grant in shared.with(|world| world.grants.clone()) {
        let book = shared.with(|world| world.book(&grant).clone());
        if book.removed_until.is_some_and(|until| now < until) {
            continue;
        }
        if app.access().route(&grant.to_string()).is_none() {
            shared.with(|world| world.book(&grant).removed_until = None);
            let url = format!("https://mcp{}.example/{grant}", book.provider);
            drop(app.add_server(ServerSettings::new(grant.server.clone(), url)).await);
        }
        if book.disabled_until.is_none_or(|until| now >= until)
            && app.server(&grant).is_ok_and(|view| !view.settings.enabled)
            && app.set_enabled(&grant.server, true).await.is_ok()
        {
            shared.with(|world| world.book(&grant).disabled_until = None);
        }
        let ended = |view: ServerView| view.status.tokens.is_none() || view.status.ended.is_some();
        if app.server(&grant).is_ok_and(ended) {
            drop(tokio::time::timeout(PATIENCE, log_in(shared, app, &grant, book.provider)).await);
        }
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
        if let Err(broken) = invariants_of_what_is_shown(shared, app, &view, live) {
            let (state, health) = (view.status.state, view.health);
            shared.breaks(format!("{grant}: {broken}; {state:?}, {health:?}"));
        }
    }
}

fn invariants_of_what_is_shown(
    shared: &Shared,
    app: &Application,
    view: &ServerView,
    live: Option<Generation>,
) -> Result<(), String> {
    let (grant, status, reason) = (&view.status.id, &view.status, view.health.reason);
    let (stored, book, now) = shared.with(|world| (world.disk.on_disk(grant), world.book(grant).clone(), world.now()));
    let stored_generation = stored.as_ref().map(|record| record.generation);
    if live > stored_generation && status.unsaved.is_none() {
        return Err(format!("generation {live:?} is in use, and only {stored_generation:?} is stored"));
    }
    let dead = matches!(reason, Reason::RefreshTokenRejected | Reason::RotationLost);
    let alive = stored.as_ref().is_some_and(|record| {
        let good = |token: &Secret| {
            shared.with(|world| {
                let now = world.now();
                world.model(book.provider, |model| model.would_refresh(now, token.expose()))
            })
        };
        record.tokens.as_ref().and_then(|tokens| tokens.refresh_token.as_ref()).is_some_and(good)
    });
    if dead && alive {
        return Err("it is said to be over, and its refresh token is good".to_owned());
    }
    let expected = status.enabled && !dead && status.ended.is_none() && status.tokens.is_some();
    if expected && now > book.troubled_until && live.is_none() && !status.has_valid_token(app.now()) {
        return Err("its access token has ended, in calm weather".to_owned());
    }
    if reason == Reason::Ok && status.tokens.is_some() && live.is_none() {
        return Err("it is said to be well, and has no token to give".to_owned());
    }
    Ok(())
}
