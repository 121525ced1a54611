//! Token requests with proofs of possession (RFC 9449), against a provider that checks them.

use std::sync::Arc;

use everfresh_application::ports::{OAuthClient, ProofKeys};
use everfresh_application::{Application, DpopSetting, OAuthSettings, RefreshOutcome, ServerSettings};
use everfresh_domain::grant::Binding;
use everfresh_domain::login::LoginOutcome;
use everfresh_domain::{FailureClass, Secret};
use everfresh_infrastructure::http::HttpFactory;
use everfresh_infrastructure::oauth::HttpOAuth;
use everfresh_infrastructure::proof::Es256Proofs;
use everfresh_infrastructure::system::{SystemClock, SystemEntropy};
use everfresh_testkit::contract::store::binding;
use everfresh_testkit::mcp::McpServer;
use everfresh_testkit::memory::MemoryStore;
use everfresh_testkit::provider::{Behaviour, Counters, DpopRule, DpopSwitches, Model, ProviderServer};

use crate::providers::{REDIRECT, application, grant, log_in, oauth};
use crate::raw::{Raw, Reply};

struct Place {
    provider: ProviderServer,
    app: Application,
    _upstream: McpServer,
}

/// A server of a provider that asks for proofs as `switches` say.
async fn place(switches: DpopSwitches, dpop: DpopSetting) -> Place {
    let mut model = Model::new(Behaviour::default());
    model.switches.dpop = switches;
    let provider = ProviderServer::start(model).await.unwrap();
    let upstream = McpServer::start(&provider).await.unwrap();
    let app = application(&oauth(), &MemoryStore::default(), REDIRECT).await;
    let oauth = OAuthSettings { dpop, ..OAuthSettings::default() };
    app.add_server(ServerSettings { oauth, ..ServerSettings::new(grant().server, upstream.url()) }).await.unwrap();
    Place { provider, app, _upstream: upstream }
}

impl Place {
    async fn refresh(&self) -> RefreshOutcome {
        self.app.refresh(&grant()).await.unwrap()
    }

    async fn token_type(&self) -> String {
        self.app.token(&grant()).await.unwrap().token_type
    }

    fn counters(&self) -> Counters {
        self.provider.with(|model| model.counters)
    }
}

#[tokio::test]
async fn the_nonce_costs_one_more_request_once_and_no_code_or_refresh_token() {
    let switches =
        DpopSwitches { rule: DpopRule::Required, server_nonce: true, rotate_every: 1, ..DpopSwitches::default() };
    let place = place(switches, DpopSetting::Auto).await;
    assert_eq!(log_in(&place.app, &place.provider).await.unwrap(), LoginOutcome::Succeeded);
    assert_eq!((place.counters().token_requests, place.counters().exchanges), (2, 1));
    assert_eq!(place.token_type().await, "DPoP");
    for _ in 0..3 {
        assert!(matches!(place.refresh().await, RefreshOutcome::Refreshed(_)));
    }
    let counters = place.counters();
    assert_eq!((counters.token_requests, counters.refreshes, counters.nonces_demanded), (5, 3, 1));
    assert_eq!((counters.reuses, counters.refusals, counters.proofs_refused), (0, 0, 0));
}

#[tokio::test]
async fn each_login_has_a_key_of_its_own() {
    let switches = DpopSwitches { rule: DpopRule::Offered, ..DpopSwitches::default() };
    let place = place(switches, DpopSetting::Auto).await;
    let mut thumbprints = Vec::new();
    for _ in 0..2 {
        let started = place.app.start_login(&grant(), None).await.unwrap();
        let url = url::Url::parse(&started.authorization_url).unwrap();
        let told = url.query_pairs().find(|(name, _)| name == "dpop_jkt").map(|(_, value)| value.into_owned());
        thumbprints.push(told.unwrap());
        assert_eq!(
            log_in(&place.app, &place.provider).await.unwrap(),
            LoginOutcome::Succeeded,
            "the code is bound to it"
        );
    }
    assert_ne!(thumbprints[0], thumbprints[1]);
    assert_eq!(place.counters().registrations, 1);
}

#[tokio::test]
async fn a_provider_that_knows_nothing_of_it_is_logged_in_to_as_ever() {
    let place = place(DpopSwitches::default(), DpopSetting::Auto).await;
    assert_eq!(log_in(&place.app, &place.provider).await.unwrap(), LoginOutcome::Succeeded);
    assert_eq!(place.token_type().await, "Bearer");
    let place = self::place(DpopSwitches::default(), DpopSetting::Required).await;
    let outcome = log_in(&place.app, &place.provider).await.unwrap();
    assert!(matches!(&outcome, LoginOutcome::Failed { message } if message.contains("bearer token")), "{outcome:?}");
    assert_eq!(place.counters().revocations, 1, "it is given back");
}

#[tokio::test]
async fn a_clock_that_is_off_is_named_and_made_up_for() {
    let switches = DpopSwitches { rule: DpopRule::Offered, ..DpopSwitches::default() };
    let place = place(switches, DpopSetting::Auto).await;
    assert_eq!(log_in(&place.app, &place.provider).await.unwrap(), LoginOutcome::Succeeded);
    place.provider.with(|model| model.switches.clock_ahead_s = -900);
    let RefreshOutcome::Failed(status) = place.refresh().await else { panic!("from the future") };
    let failure = status.last_failure.clone().unwrap().failure;
    assert_eq!(failure.class, FailureClass::Provider, "{failure:?}");
    assert!(failure.message.contains("clock"), "{failure:?}");
    assert!(matches!(place.refresh().await, RefreshOutcome::Refreshed(_)), "the answer told the time");
    assert_eq!(place.counters().refusals, 0);
}

#[tokio::test]
async fn a_server_that_never_has_enough_of_nonces_is_asked_twice() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let raw = Raw::start().await;
    raw.at("/token?tenant=1", Reply::http("400 Bad Request", "dpop-nonce: n1\r\n", r#"{"error":"use_dpop_nonce"}"#));
    let oauth = HttpOAuth::new(HttpFactory::new(), Arc::new(SystemClock::default()), Arc::new(SystemEntropy));
    let server = ServerSettings::new(grant().server, format!("{}/mcp", raw.origin));
    let token_endpoint = format!("{}/token?tenant=1", raw.origin);
    let bound = Binding { token_endpoint, dpop_key: Some(Es256Proofs.generate().unwrap()), ..binding() };
    let failure = oauth.refresh(&server, &bound, &Secret::new("r1"), &[]).await.unwrap_err();
    assert_eq!((failure.class, failure.oauth_error.as_deref()), (FailureClass::Provider, Some("use_dpop_nonce")));
    let sent = raw.requests();
    let claims: Vec<serde_json::Value> = sent.iter().map(|request| claims_in(request)).collect();
    assert_eq!(claims.len(), 2, "one repeat, and no more");
    assert_eq!((claims[0].get("nonce"), claims[1]["nonce"].as_str()), (None, Some("n1")));
    assert_eq!(claims[0]["htu"], format!("{}/token", raw.origin), "without the query");
    assert_ne!(claims[0]["jti"], claims[1]["jti"]);
    assert!(sent.iter().all(|request| request.contains("refresh_token=r1")));
}

/// The claims of the proof in a request.
fn claims_in(request: &str) -> serde_json::Value {
    use base64::Engine;

    let proof = request.lines().find_map(|line| line.strip_prefix("dpop: ")).unwrap();
    let claims = proof.trim().split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}
