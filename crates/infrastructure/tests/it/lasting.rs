//! What a login must outlive: every fault again and again, restarts, answers without a refresh token,
//! and metadata that names somebody else.

use std::sync::Arc;

use everfresh_application::{Application, RefreshOutcome, ServerSettings};
use everfresh_domain::grant::Binding;
use everfresh_domain::{Generation, GrantRecord, Secret, Timestamp, TokenResponse, TokenSet};
use everfresh_infrastructure::oauth::HttpOAuth;
use everfresh_testkit::contract::store::binding;
use everfresh_testkit::mcp::McpServer;
use everfresh_testkit::memory::MemoryStore;
use everfresh_testkit::provider::{Fault, Model, ProviderServer};
use futures_util::future::join_all;

use crate::providers::{REDIRECT, application, grant, log_in, oauth};
use crate::raw::{Raw, Reply};

/// Attempts in each life of the process.
const ATTEMPTS: u64 = 25;

/// Failures that say nothing about the refresh token, and cost no time.
fn transient() -> Vec<Fault> {
    let status = |status: u16, body: &str| Fault::Status { status, body: body.to_owned(), retry_after: None };
    let error = |status: u16, error: &str| Fault::Error { status, error: error.to_owned() };
    let statuses = [400, 401, 403, 404, 408, 422, 425, 429, 500, 502, 503, 504].map(|number| status(number, "<html>"));
    let more = [
        status(200, ""),
        status(200, "{}"),
        status(403, "{}"),
        error(400, "temporarily_unavailable"),
        error(503, "server_error"),
        error(400, "invalid_request"),
        Fault::Portal,
        Fault::Html,
        Fault::WrongTypes,
        Fault::Huge,
        Fault::Endless,
        Fault::CloseBefore,
        Fault::Reset,
    ];
    statuses.into_iter().chain(more).collect()
}

fn token_on_disk(store: &MemoryStore) -> Option<String> {
    store.on_disk(&grant())?.tokens?.refresh_token.map(|token| token.expose().to_owned())
}

async fn fails_and_fails(oauth: &Arc<HttpOAuth>, fault: Fault) {
    let provider = ProviderServer::start(Model::default()).await.unwrap();
    let upstream = McpServer::start(&provider).await.unwrap();
    let store = MemoryStore::default();
    let app = application(oauth, &store, REDIRECT).await;
    app.add_server(ServerSettings::new(grant().server, upstream.url())).await.unwrap();
    log_in(&app, &provider).await.unwrap();
    let kept = token_on_disk(&store);
    assert!(kept.is_some());
    provider.with(|model| model.switches.fault = Some(fault.clone()));
    app.shutdown().await;
    for life in 0..2 {
        let app = application(oauth, &store, REDIRECT).await;
        for attempt in 0..ATTEMPTS {
            let outcome = app.refresh(&grant()).await.unwrap();
            assert!(!matches!(outcome, RefreshOutcome::Refreshed(_)), "{fault:?}");
            assert_eq!(token_on_disk(&store), kept, "{fault:?}, attempt {attempt} of life {life}");
        }
        app.shutdown().await;
    }
    let tried = provider.with(|model| model.counters.token_requests);
    assert!(tried > ATTEMPTS / 2, "{fault:?}: only {tried} attempts were made");
    provider.with(|model| model.switches.fault = None);
    let app = application(oauth, &store, REDIRECT).await;
    let outcome = app.refresh(&grant()).await.unwrap();
    assert!(matches!(outcome, RefreshOutcome::Refreshed(_)), "{fault:?}: {outcome:?}");
    assert_eq!(provider.with(|model| model.counters.authorizations), 1);
    app.shutdown().await;
}

#[tokio::test]
async fn no_number_of_failures_and_restarts_touches_the_refresh_token() {
    let oauth = oauth();
    join_all(transient().into_iter().map(|fault| fails_and_fails(&oauth, fault))).await;
}

/// A login at a server that answers with given bytes, as if it had always been there.
async fn stored_login(store: &MemoryStore, raw: &Raw) -> ServerSettings {
    let server = ServerSettings::new(grant().server, format!("{}/mcp", raw.origin));
    let binding =
        Binding { upstream: server.url.clone(), token_endpoint: format!("{}/token", raw.origin), ..binding() };
    let response = TokenResponse {
        access_token: Secret::new("access-canary-0"),
        token_type: "Bearer".into(),
        expires_in: Some(std::time::Duration::from_secs(86_400 * 365 * 9)),
        refresh_token: Some(Secret::new("refresh-canary-0")),
        refresh_token_expires_in: None,
        refresh_in: None,
        scopes: None,
        date: None,
    };
    let tokens = TokenSet::issued(response, Timestamp::from_millis(1_795_000_000_000), &[]);
    store.put(GrantRecord::logged_in(grant(), Generation(1), binding, tokens));
    server
}

async fn refresh_with(app: &Application, raw: &Raw, answer: &str) -> String {
    raw.at("/token", Reply::json(answer));
    let outcome = app.refresh(&grant()).await.unwrap();
    assert!(matches!(outcome, RefreshOutcome::Refreshed(_)), "{outcome:?}");
    let sent = raw.requests().pop().unwrap();
    let (_, token) = sent.split_once("refresh_token=refresh-canary-").unwrap();
    token.split('&').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_refresh_token_that_is_left_out_is_the_one_before_over_restarts() {
    let (oauth, store, raw) = (oauth(), MemoryStore::default(), Raw::start().await);
    let server = stored_login(&store, &raw).await;
    let omitted = r#"{"access_token":"access-canary-1","expires_in":3600}"#;
    let rotated = r#"{"access_token":"access-canary-2","expires_in":3600,"refresh_token":"refresh-canary-1"}"#;
    let empty = r#"{"access_token":"access-canary-3","expires_in":3600,"refresh_token":""}"#;
    let mut sent = Vec::new();
    for life in 0..2 {
        let app = application(&oauth, &store, REDIRECT).await;
        if life == 0 {
            app.add_server(server.clone()).await.unwrap();
        }
        for answer in [omitted, rotated, omitted, empty] {
            sent.push(refresh_with(&app, &raw, answer).await);
        }
        app.shutdown().await;
    }
    assert_eq!(sent, ["0", "0", "1", "1", "1", "1", "1", "1"]);
}

#[tokio::test]
async fn metadata_that_names_another_issuer_later_gets_no_token_sent_there() {
    let (oauth, store, other) = (oauth(), MemoryStore::default(), Raw::start().await);
    let provider = ProviderServer::start(Model::default()).await.unwrap();
    let upstream = McpServer::start(&provider).await.unwrap();
    let app = application(&oauth, &store, REDIRECT).await;
    app.add_server(ServerSettings::new(grant().server, upstream.url())).await.unwrap();
    log_in(&app, &provider).await.unwrap();
    provider.with(|model| {
        model.switches.issuer_told = Some(other.origin.clone());
        model.switches.token_endpoint_told = Some(format!("{}/token", other.origin));
    });
    for _ in 0..2 {
        let outcome = app.refresh(&grant()).await.unwrap();
        assert!(matches!(outcome, RefreshOutcome::Refreshed(_)), "{outcome:?}");
    }
    assert!(log_in(&app, &provider).await.is_err(), "a document that speaks for another issuer is refused");
    app.shutdown().await;
    let app = application(&oauth, &store, REDIRECT).await;
    assert!(matches!(app.refresh(&grant()).await.unwrap(), RefreshOutcome::Refreshed(_)));
    assert_eq!(provider.with(|model| model.counters.refreshes), 3);
    assert!(other.requests().is_empty(), "nothing was sent to the other issuer");
    app.shutdown().await;
}
