//! Every provider that is known, over HTTP: a login is made once, and kept.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use everfresh_application::{
    AppError, Application, CallbackQuery, LoginSettings, OAuthSettings, Parts, RefreshOutcome, ResourceSetting,
    ServerSettings,
};
use everfresh_domain::login::LoginOutcome;
use everfresh_domain::{GrantId, Policy, Secret};
use everfresh_infrastructure::http::HttpFactory;
use everfresh_infrastructure::oauth::HttpOAuth;
use everfresh_infrastructure::proof::Es256Proofs;
use everfresh_infrastructure::secrets::SystemSecrets;
use everfresh_infrastructure::system::{SystemClock, SystemEntropy};
use everfresh_testkit::canary;
use everfresh_testkit::mcp::McpServer;
use everfresh_testkit::memory::MemoryStore;
use everfresh_testkit::metrics::CountingMetrics;
use everfresh_testkit::provider::{Model, Preset, ProviderServer, ResourceRule, presets};

pub(crate) const REDIRECT: &str = "http://127.0.0.1:7411/oauth/callback";

pub(crate) fn grant() -> GrantId {
    "linear".parse().unwrap()
}

/// The client of every application of a test: reading the system's roots takes its time.
pub(crate) fn oauth() -> Arc<HttpOAuth> {
    canary::watch_logs();
    drop(rustls::crypto::ring::default_provider().install_default());
    Arc::new(HttpOAuth::new(HttpFactory::new(), Arc::new(SystemClock::default())))
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
        ..CallbackQuery::default()
    };
    Ok(app.finish_login(answer).await?.outcome)
}

/// Two refreshes; the first may take the provider's objections to the request's shape.
async fn refresh_twice(app: &Application, preset: &Preset) {
    let mut refreshed = 0;
    for _ in 0..8 {
        match app.refresh(&grant()).await.unwrap() {
            RefreshOutcome::Refreshed(_) => refreshed += 1,
            RefreshOutcome::Failed(status) => {
                let shape = status.last_failure.as_ref().and_then(|last| last.failure.oauth_error.clone());
                assert!(
                    shape.is_some_and(|code| ["invalid_target", "invalid_scope"].contains(&code.as_str())),
                    "{}: {status:?}",
                    preset.name
                );
            }
            RefreshOutcome::NotPossible(status) => panic!("{}: {status:?}", preset.name),
        }
        if refreshed == 2 {
            return;
        }
    }
    panic!("{}: refreshed {refreshed} times", preset.name);
}

#[tokio::test]
async fn the_login_of_every_known_provider_is_kept() {
    let oauth = oauth();
    for preset in presets() {
        let mut model = Model::new(preset.behaviour.clone());
        model.switches = preset.switches.clone();
        let provider = ProviderServer::start(model).await.unwrap();
        let upstream = McpServer::start(&provider).await.unwrap();
        let app = application(&oauth, &MemoryStore::default(), REDIRECT).await;
        let rejects = preset.switches.resource == ResourceRule::Rejected;
        let resource = if rejects { ResourceSetting::None } else { ResourceSetting::Auto };
        let asked = OAuthSettings { resource, scopes: vec!["read".into()], ..OAuthSettings::default() };
        let server = ServerSettings { oauth: asked, ..ServerSettings::new(grant().server, upstream.url()) };
        app.add_server(server).await.unwrap();
        assert_eq!(log_in(&app, &provider).await.unwrap(), LoginOutcome::Succeeded, "{}", preset.name);
        if preset.behaviour.issues_refresh_tokens {
            refresh_twice(&app, &preset).await;
            assert_eq!(app.server(&grant()).unwrap().health.reason.as_str(), "ok", "{}", preset.name);
        }
        assert!(app.token(&grant()).await.is_ok(), "{}", preset.name);
        let view = app.server(&grant()).unwrap();
        assert!(view.status.has_valid_token(app.now()), "{}", preset.name);
        let counters = provider.with(|model| model.counters);
        let seen = (counters.registrations, counters.authorizations, counters.exchanges, counters.reuses);
        assert_eq!(seen, (1, 1, 1, 0), "{}", preset.name);
        app.shutdown().await;
    }
}
