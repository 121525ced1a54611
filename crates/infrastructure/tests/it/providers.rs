//! Every provider that is known, over HTTP: a login is made once, kept, and seen to end.
//!
//! A preset that has a row in the table of profiles is met with it, and then without: a row that
//! changes nothing would be no row.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use everfresh_application::{
    AppError, Application, CallbackQuery, LoginSettings, OAuthSettings, Parts, ProfileSetting, RefreshOutcome,
    ServerSettings,
};
use everfresh_domain::login::LoginOutcome;
use everfresh_domain::profile::{PROFILES, Profile};
use everfresh_domain::{FailureClass, GrantId, GrantStatus, LoginLimits, Policy, Secret};
use everfresh_infrastructure::http::HttpFactory;
use everfresh_infrastructure::oauth::HttpOAuth;
use everfresh_infrastructure::proof::Es256Proofs;
use everfresh_infrastructure::secrets::SystemSecrets;
use everfresh_infrastructure::system::{SystemClock, SystemEntropy};
use everfresh_testkit::canary;
use everfresh_testkit::mcp::McpServer;
use everfresh_testkit::memory::MemoryStore;
use everfresh_testkit::metrics::CountingMetrics;
use everfresh_testkit::provider::{Counters, ExpiresIn, Model, Preset, ProviderServer, presets};

pub(crate) const REDIRECT: &str = "http://127.0.0.1:7411/oauth/callback";

pub(crate) fn grant() -> GrantId {
    "linear".parse().unwrap()
}

/// The client of every application of a test: reading the system's roots takes its time.
pub(crate) fn oauth() -> Arc<HttpOAuth> {
    canary::watch_logs();
    drop(rustls::crypto::ring::default_provider().install_default());
    Arc::new(HttpOAuth::new(HttpFactory::new(), Arc::new(SystemClock::default()), Arc::new(SystemEntropy)))
}

/// everfresh over HTTP with `store`, quick about everything that is not the providers'.
pub(crate) async fn application(oauth: &Arc<HttpOAuth>, store: &MemoryStore, redirect_uri: &str) -> Application {
    let quick = Duration::from_millis(100);
    Application::start(Parts {
        store: Arc::new(store.clone()),
        oauth: Arc::clone(oauth) as _,
        discovery: Arc::clone(oauth) as _,
        secrets: Arc::new(SystemSecrets),
        clock: Arc::new(SystemClock::default()),
        proofs: Arc::new(Es256Proofs),
        entropy: Arc::new(SystemEntropy),
        metrics: Arc::new(CountingMetrics::default()),
        policy: Policy {
            min_spacing: quick,
            backoff_base: quick,
            attempt_timeout: Duration::from_secs(10),
            ..Policy::default()
        },
        login: LoginSettings { redirect_uri: redirect_uri.to_owned(), ..LoginSettings::default() },
        servers: Vec::new(),
    })
    .await
    .unwrap()
}

/// A person says yes at `provider`.
pub(crate) async fn log_in(app: &Application, provider: &ProviderServer) -> Result<LoginOutcome, AppError> {
    let pairs = |text: &str| -> BTreeMap<String, String> {
        let query = text.split_once('?').map(|(_, query)| query).unwrap_or_default();
        url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
    };
    let started = app.start_login(&grant(), None).await?;
    let query = pairs(&started.authorization_url);
    query.get("state").into_iter().for_each(|state| canary::keep(state));
    let reply = provider.with(|model| model.authorize(&query));
    let (_, location) = reply.headers.iter().find(|(name, _)| name == "location").unwrap();
    let answer = pairs(location);
    let answer = CallbackQuery {
        code: answer.get("code").map(Secret::new),
        state: answer.get("state").map(Secret::new),
        iss: answer.get("iss").cloned(),
        error: answer.get("error").cloned(),
        ..CallbackQuery::default()
    };
    Ok(app.finish_login(answer).await?.outcome)
}

/// One refresh, past everfresh's own limits.
async fn refresh(app: &Application) -> RefreshOutcome {
    loop {
        let outcome = app.refresh(&grant()).await.unwrap();
        let held = |status: &GrantStatus| {
            status.last_failure.as_ref().is_some_and(|last| last.failure.class == FailureClass::HeldBack)
        };
        if !matches!(&outcome, RefreshOutcome::Failed(status) if held(status)) {
            return outcome;
        }
    }
}

/// What a login with one provider came to.
#[derive(Debug, PartialEq)]
struct Story {
    login: LoginOutcome,
    /// Of two refreshes.
    refreshed: usize,
    /// What the provider saw until then.
    counters: Counters,
    /// What the provider tells, and the limits that are known.
    ends: (Option<Duration>, LoginLimits),
    /// Of the refreshes after the provider ended the login.
    reason: &'static str,
}

async fn story(oauth: &Arc<HttpOAuth>, preset: &Preset, profile: ProfileSetting) -> Story {
    let mut model = Model::new(preset.behaviour.clone());
    model.switches = preset.switches.clone();
    let provider = ProviderServer::start(model).await.unwrap();
    let port = provider.address().port().to_string();
    provider.with(|model| {
        let told = &mut model.switches.token_endpoint_told;
        *told = told.take().map(|url| url.replace("{port}", &port));
    });
    let upstream = McpServer::start(&provider).await.unwrap();
    let app = application(oauth, &MemoryStore::default(), REDIRECT).await;
    let asked = OAuthSettings { scopes: vec!["read".into()], profile, ..OAuthSettings::default() };
    app.add_server(ServerSettings { oauth: asked, ..ServerSettings::new(grant().server, upstream.url()) })
        .await
        .unwrap();
    let login = log_in(&app, &provider).await.unwrap();
    let mut refreshed = 0;
    for _ in 0..2 {
        refreshed += usize::from(matches!(refresh(&app).await, RefreshOutcome::Refreshed(_)));
    }
    let view = app.server(&grant()).unwrap();
    if login == LoginOutcome::Succeeded {
        assert!(app.token(&grant()).await.is_ok() && view.status.has_valid_token(app.now()), "{}", preset.name);
    }
    let counters = provider.with(|model| model.counters);
    provider.with(Model::revoke_all);
    // The current refresh token is refused, and then the one before, where there is one.
    for _ in 0..2 {
        refresh(&app).await;
    }
    let reason = app.server(&grant()).unwrap().health.reason.as_str();
    app.shutdown().await;
    let told = view.status.tokens.as_ref().and_then(|tokens| tokens.refresh_token_lifetime);
    let limits = view
        .status
        .tokens
        .map(|tokens| LoginLimits { idle: tokens.idle_limit, absolute: tokens.login_ends_at.map(|(_, limit)| limit) });
    Story { login, refreshed, counters, ends: (told, limits.unwrap_or_default()), reason }
}

/// What is to come of a login with `preset`: not one request more than needed.
fn expected(preset: &Preset) -> Story {
    let refreshes = if preset.behaviour.issues_refresh_tokens { 2 } else { 0 };
    let told = preset.behaviour.refresh_lifetime.filter(|_| preset.behaviour.tells_refresh_lifetime);
    // A login without refresh token has an end where its token's is told.
    let unrefreshed = if preset.switches.expires_in == ExpiresIn::Absent { "ok" } else { "no_refresh_token" };
    let known = preset.profile.and_then(Profile::named).map(|profile| profile.limits);
    Story {
        login: LoginOutcome::Succeeded,
        refreshed: refreshes,
        counters: Counters {
            metadata_requests: 1,
            token_requests: 1 + refreshes as u64,
            refreshes: refreshes as u64,
            registrations: 1,
            authorizations: 1,
            exchanges: 1,
            rejected: 1,
            ..Counters::default()
        },
        ends: (told, known.unwrap_or_default()),
        reason: if refreshes > 0 { "refresh_token_rejected" } else { unrefreshed },
    }
}

fn setting(preset: &Preset) -> ProfileSetting {
    preset.profile.map_or(ProfileSetting::Auto, |name| ProfileSetting::Named(name.to_owned()))
}

#[tokio::test]
async fn the_login_of_every_known_provider_is_kept_and_its_end_is_understood() {
    let (oauth, presets) = (oauth(), presets());
    for preset in &presets {
        assert_eq!(story(&oauth, preset, setting(preset)).await, expected(preset), "{}", preset.name);
    }
    let profiled = presets.iter().filter(|preset| preset.profile.is_some()).count();
    println!("{} providers tested, {profiled} of them with a profile", presets.len());
}

#[tokio::test]
async fn without_its_row_a_provider_is_not_understood() {
    let oauth = oauth();
    for preset in presets().iter().filter(|preset| preset.profile.is_some()) {
        let holds = story(&oauth, preset, ProfileSetting::None).await == expected(preset);
        assert_eq!(holds, preset.general_rules_suffice, "{}", preset.name);
    }
}

#[test]
fn every_row_is_met_in_a_test() {
    let met: BTreeSet<_> = presets().iter().filter_map(|preset| preset.profile).collect();
    let rows: BTreeSet<_> = PROFILES.iter().map(|profile| profile.name).collect();
    assert_eq!(met, rows);
}
