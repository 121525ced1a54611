//! Order and count at the ports: what is durable before what, and how often.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use everfresh_application::access::{Access, Pass};
use everfresh_application::ports::{
    DiscoveryError, LoadedGrant, MockMetrics, MockOAuthClient, MockOAuthDiscovery, MockProofKeys, MockSecrets,
    MockTokenStore, StoreError,
};
use everfresh_application::{Application, LoginSettings, Parts};
use everfresh_domain::{Failure, FailureClass, Generation, GrantRecord, Policy, Secret, TokenResponse};
use everfresh_testkit::clock::{START, SeededEntropy, VirtualClock};
use everfresh_testkit::contract::store::record;
use mockall::Sequence;

use crate::world::{HOUR, pass, server};

/// A stored login whose access token ended an hour ago.
fn ended() -> GrantRecord {
    let mut record = record("linear", 7);
    if let Some(tokens) = &mut record.tokens {
        tokens.issued_at = START.before(HOUR * 2);
    }
    record.binding.upstream = server().url;
    record
}

fn renewed() -> TokenResponse {
    TokenResponse {
        access_token: Secret::new("new-access"),
        token_type: "Bearer".into(),
        expires_in: Some(HOUR),
        refresh_token: Some(Secret::new("new-refresh")),
        refresh_token_expires_in: None,
        refresh_in: None,
        scopes: None,
        date: None,
    }
}

/// A store with that login, which expects nothing else yet.
fn store() -> MockTokenStore {
    let mut store = MockTokenStore::new();
    store.expect_servers().returning(|| Ok(vec![server()]));
    store.expect_load().returning(|| Ok(vec![LoadedGrant::Record(Box::new(ended()))]));
    store.expect_read().returning(|_| Ok(Some(ended())));
    store.expect_append_journal().returning(|_, _| Ok(()));
    store
}

fn metrics() -> MockMetrics {
    let mut metrics = MockMetrics::new();
    metrics.expect_attempt_ended().returning(|_, _, _, _| ());
    metrics.expect_published().returning(|_, _| ());
    metrics.expect_in_flight().returning(|_| ());
    metrics.expect_grants().returning(|_, _| ());
    metrics.expect_store_written().returning(|_| ());
    metrics.expect_store_failed().returning(|_| ());
    metrics.expect_removed().returning(|_| ());
    metrics
}

async fn start(store: MockTokenStore, oauth: MockOAuthClient) -> Application {
    start_with(store, oauth, MockOAuthDiscovery::new()).await
}

async fn start_with(store: MockTokenStore, oauth: MockOAuthClient, discovery: MockOAuthDiscovery) -> Application {
    Application::start(Parts {
        store: Arc::new(store),
        oauth: Arc::new(oauth),
        discovery: Arc::new(discovery),
        secrets: Arc::new(MockSecrets::new()),
        clock: Arc::new(VirtualClock::default()),
        proofs: Arc::new(MockProofKeys::new()),
        entropy: Arc::new(SeededEntropy::new(1)),
        metrics: Arc::new(metrics()),
        policy: Policy::default(),
        login: LoginSettings::default(),
        servers: Vec::new(),
    })
    .await
    .unwrap()
}

fn generation_of(access: &Access) -> Option<Generation> {
    let route = access.route("linear")?;
    match access.try_pass(&route)? {
        Pass::Bearer(bearer) => Some(bearer.generation),
        Pass::Anonymous => None,
    }
}

#[tokio::test(start_paused = true)]
async fn the_mark_is_durable_before_the_token_is_sent_and_new_tokens_before_they_are_published() {
    let (mut store, mut oauth, mut order) = (store(), MockOAuthClient::new(), Sequence::new());
    let access: Arc<OnceLock<Access>> = Arc::default();
    let sent = ended().sendable().unwrap();
    store
        .expect_replace()
        .withf(move |expected, record| {
            let marked = record.attempt.as_ref().map(|mark| mark.refresh_token) == Some(sent);
            marked && *expected == Some(Generation(7)) && record.generation == Generation(7)
        })
        .times(1)
        .in_sequence(&mut order)
        .returning(|_, _| Ok(()));
    oauth
        .expect_refresh()
        .withf(move |_, _, token, _| token.fingerprint() == sent)
        .times(1)
        .in_sequence(&mut order)
        .returning(|_, _, _, _| Ok(renewed()));
    let seen = Arc::clone(&access);
    store
        .expect_replace()
        .withf(|expected, record| *expected == Some(Generation(7)) && record.generation == Generation(8))
        .times(1)
        .in_sequence(&mut order)
        .returning(move |_, record| {
            let published = seen.get().and_then(generation_of);
            assert_eq!(published, None, "nobody may see a token that is not stored");
            assert_eq!(record.tokens.as_ref().unwrap().refresh_token, Some(Secret::new("new-refresh")));
            Ok(())
        });
    let app = start(store, oauth).await;
    drop(access.set(app.access().clone()));
    pass(Duration::from_secs(1)).await;
    assert_eq!(generation_of(app.access()), Some(Generation(8)));
    app.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_where_the_mark_cannot_be_stored() {
    let (mut store, mut oauth) = (store(), MockOAuthClient::new());
    let full = || StoreError::Unwritable { what: "the record of linear".into(), cause: "no space left".into() };
    store.expect_replace().times(1..).returning(move |_, _| Err(full()));
    oauth.expect_refresh().never();
    let app = start(store, oauth).await;
    pass(Duration::from_secs(60)).await;
    let health = app.servers()[0].health.clone();
    assert_eq!(health.reason.as_str(), "store_write_failed");
    assert!(health.detail.contains("no space left"), "{health:?}");
}

#[tokio::test(start_paused = true)]
async fn without_a_network_no_token_endpoint_is_said_to_have_moved() {
    let (mut store, mut oauth, mut discovery) = (store(), MockOAuthClient::new(), MockOAuthDiscovery::new());
    store.expect_replace().returning(|_, _| Ok(()));
    oauth.expect_refresh().returning(|_, _, _, _| {
        let unresolved = Failure::without_answer(FailureClass::Network, "the name as.example does not resolve");
        Err(Failure { endpoint_gone: true, ..unresolved })
    });
    discovery.expect_token_endpoint().times(1..).returning(|_, issuer| {
        Err(DiscoveryError::Unreachable { url: issuer.to_owned(), cause: "no such name".to_owned() })
    });
    let app = start_with(store, oauth, discovery).await;
    pass(Duration::from_secs(5)).await;
    let detail = app.servers()[0].health.detail.clone();
    assert!(detail.contains("does not resolve") && !detail.contains("moved"), "{detail}");
}

#[tokio::test(start_paused = true)]
async fn a_hundred_requests_on_an_ended_token_make_one_refresh() {
    let (mut store, mut oauth) = (store(), MockOAuthClient::new());
    store.expect_replace().times(2).returning(|_, _| Ok(()));
    oauth.expect_refresh().times(1).returning(|_, _, _, _| Ok(renewed()));
    let app = start(store, oauth).await;
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let access = app.access().clone();
        requests.spawn(async move {
            let route = access.route("linear").unwrap();
            access.pass(&route).await.is_ok()
        });
    }
    assert!(requests.join_all().await.into_iter().all(|passed| passed));
}

#[tokio::test(start_paused = true)]
async fn after_removal_there_is_not_one_more_request() {
    let (mut store, mut oauth) = (store(), MockOAuthClient::new());
    let removed = Arc::new(AtomicBool::new(false));
    store.expect_replace().returning(|_, _| Ok(()));
    store.expect_erase().times(1).returning(|_| Ok(()));
    store.expect_erase_server().times(1).returning(|_| Ok(()));
    let after = Arc::clone(&removed);
    oauth.expect_refresh().returning(move |_, _, _, _| {
        assert!(!after.load(Ordering::SeqCst), "a request after the removal");
        Ok(TokenResponse { expires_in: Some(Duration::from_secs(60)), ..renewed() })
    });
    let app = start(store, oauth).await;
    pass(Duration::from_secs(1)).await;
    app.remove_server(&server().name).await.unwrap();
    removed.store(true, Ordering::SeqCst);
    pass(HOUR).await;
    assert!(app.servers().is_empty());
}
