//! Tokens that are bound to a key (DPoP, RFC 9449): a proof for each request, the upstream's nonce,
//! and what is said where a proof is not accepted.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use everfresh_application::{DpopSetting, OAuthSettings, ServerSettings};
use everfresh_domain::{Policy, Secret};
use everfresh_testkit::provider::{Behaviour, DpopRule, DpopSwitches};
use http::Method;
use http_body_util::Full;
use serde_json::json;

use crate::home::{Home, KEY, quick, within};
use crate::stub::Stub;
use crate::wire::{Answer, call};

/// A provider and a protected server that serve bound tokens only, and `demo` logged in.
async fn bound_home(switches: DpopSwitches) -> Home {
    let home = Home::of(Behaviour::default(), Some(KEY), quick()).await;
    let rule = DpopRule::Required;
    home.provider.with(|model| model.switches.dpop = DpopSwitches { rule, ..switches });
    home.add("demo", &home.upstream.url()).await;
    home
}

fn text_of(answer: &Answer) -> String {
    let body = answer.json();
    body["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no result: {body}")).to_owned()
}

async fn twenty_calls(home: &Home) -> BTreeSet<u64> {
    let calls = (0..20).map(|id| {
        let body = call(id, "count");
        async move { text_of(&home.post("/mcp/demo", &body).await).parse().unwrap() }
    });
    within("twenty calls", futures_util::future::join_all(calls)).await.into_iter().collect()
}

/// The server's demand for another nonce.
fn demand(nonce: &str) -> Vec<u8> {
    let challenge = "www-authenticate: DPoP error=\"use_dpop_nonce\"\r\n";
    format!("HTTP/1.1 401 Unauthorized\r\n{challenge}dpop-nonce: {nonce}\r\ncontent-length: 0\r\n\r\n").into_bytes()
}

#[tokio::test]
async fn each_request_carries_a_proof_of_its_own_and_none_of_the_clients() {
    let home = bound_home(DpopSwitches::default()).await;
    let proofs = |home: &Home| -> Vec<String> {
        let seen = home.upstream.seen();
        let headers = seen.iter().flat_map(|seen| seen.headers.iter());
        headers.filter(|(name, _)| name == "dpop").map(|(_, value)| value.clone()).collect()
    };
    for id in 0..3 {
        let request = home.keyed(Method::POST, "/mcp/demo?with=query").header("dpop", "the-clients-own");
        let request = request.header("content-type", "application/json");
        let answer = home.send(request.body(Full::from(call(id, "count").to_string())).unwrap()).await;
        assert_eq!(text_of(&answer), (id + 1).to_string());
        assert_eq!(answer.header("dpop-nonce"), None);
    }
    let different: BTreeSet<String> = proofs(&home).into_iter().collect();
    assert_eq!((different.len(), home.counters().proofs_refused), (3, 0));
    assert!(home.upstream.seen().iter().all(|seen| {
        seen.headers.iter().any(|(name, value)| name == "authorization" && value.starts_with("DPoP access-canary-"))
    }));
    let shown = home.shown("demo").await;
    assert_eq!(shown["token"]["type"], "DPoP");
}

#[tokio::test]
async fn a_nonce_is_learned_by_one_replay_and_then_from_each_answer() {
    let switches =
        DpopSwitches { resource_nonce: true, server_nonce: true, rotate_every: 1, ..DpopSwitches::default() };
    let home = bound_home(switches).await;
    let demanded = home.counters().nonces_demanded;
    for expected in 1..=5 {
        assert_eq!(text_of(&home.call("demo", "count").await), expected.to_string());
    }
    assert_eq!(home.counters().nonces_demanded - demanded, 1, "only the first request had to be told");
    assert_eq!((home.counters().executions, home.counters().refreshes), (5, 0));
    assert_eq!(home.upstream.seen().len(), 6);
}

#[tokio::test]
async fn twenty_calls_at_once_that_lack_the_nonce_are_executed_once_each() {
    let home = bound_home(DpopSwitches { resource_nonce: true, ..DpopSwitches::default() }).await;
    assert_eq!(twenty_calls(&home).await, (1..=20).collect());
    assert_eq!((home.counters().executions, home.counters().refreshes), (20, 0));
}

#[tokio::test]
async fn a_token_that_is_refused_is_renewed_with_the_same_key() {
    let home = bound_home(DpopSwitches { server_nonce: true, rotate_every: 1, ..DpopSwitches::default() }).await;
    home.provider.with(|model| model.expire_access_tokens());
    assert_eq!(twenty_calls(&home).await, (1..=20).collect());
    let counters = home.counters();
    assert_eq!((counters.refreshes, counters.refusals, counters.proofs_refused), (1, 0, 0));
    assert_eq!(home.shown("demo").await["health"]["reason"], "ok");
}

#[tokio::test]
async fn a_server_that_never_has_enough_of_nonces_is_asked_twice_and_nothing_is_refreshed() {
    let home = bound_home(DpopSwitches::default()).await;
    let stub = Stub::replying_in_turn([demand("n1"), demand("n2")]).await;
    home.add("greedy", &stub.origin).await;
    let refreshes = home.counters().refreshes;
    let answer = home.get("/mcp/greedy/x").await;
    assert_eq!(answer.header("retry-after"), Some("1"));
    let problem = answer.expect_problem(503, "nonce-refused");
    assert!(problem["detail"].as_str().unwrap().contains("repeat the request"), "{problem}");
    assert_eq!(stub.pending().await, 2);
    assert_eq!(home.counters().refreshes, refreshes);
}

#[tokio::test]
async fn a_body_that_is_too_long_to_be_kept_is_not_sent_again_for_a_nonce_and_that_is_said() {
    let home = bound_home(DpopSwitches { resource_nonce: true, ..DpopSwitches::default() }).await;
    home.add("api", &format!("{}/api", home.upstream.origin())).await;
    let long = Bytes::from(vec![b'x'; (4 << 20) + 1]);
    let request = || home.keyed(Method::POST, "/mcp/api").body(Full::new(long.clone())).unwrap();
    let problem = home.send(request()).await.expect_problem(503, "not-replayed");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("nonce") && detail.contains("too long to be sent again"), "{detail}");
    assert_eq!(home.send(request()).await.json()["body_length"], long.len(), "the nonce is known");
}

#[tokio::test]
async fn a_proof_that_is_not_accepted_costs_no_refresh_and_points_at_the_clock() {
    let home = bound_home(DpopSwitches::default()).await;
    home.provider.with(|model| model.switches.clock_ahead_s = -3_600);
    let answer = home.call("demo", "count").await.json();
    let message = answer["error"]["message"].as_str().unwrap_or_else(|| panic!("{answer}"));
    assert!(message.contains("proof of possession") && message.contains("clock"), "{message}");
    assert_eq!((answer["id"].as_u64(), home.counters().refreshes), (Some(1), 0));
    home.get("/mcp/demo").await.expect_problem(502, "proof-refused");
    assert_eq!(home.shown("demo").await["health"]["reason"], "ok");
}

#[tokio::test]
async fn proofs_are_dated_by_the_providers_clock() {
    let home = Home::of(Behaviour::default(), Some(KEY), quick()).await;
    home.provider.with(|model| {
        model.switches.dpop.rule = DpopRule::Offered;
        model.switches.clock_ahead_s = -600;
    });
    home.add("demo", &home.upstream.url()).await;
    assert_eq!(text_of(&home.call("demo", "count").await), "1");
    assert_eq!(home.counters().proofs_refused, 0);
}

#[tokio::test]
async fn what_the_setting_says_counts_more_than_what_is_offered() {
    let home = Home::start().await;
    home.provider.with(|model| model.switches.dpop.rule = DpopRule::Offered);
    for (name, dpop, kind) in [
        ("auto", DpopSetting::Auto, "DPoP"),
        ("off", DpopSetting::Off, "Bearer"),
        ("on", DpopSetting::Required, "DPoP"),
    ] {
        let oauth = OAuthSettings { dpop, ..OAuthSettings::default() };
        let settings = ServerSettings { oauth, ..ServerSettings::new(name.parse().unwrap(), home.upstream.url()) };
        home.application.add_server(settings).await.unwrap();
        home.log_in(name).await;
        assert_eq!(home.shown(name).await["token"]["type"], kind, "{name}");
        assert_eq!(home.call(name, "add").await.status, 200, "{name}");
    }
    assert_eq!(home.counters().registrations, 2, "one client for bound tokens, one for others");
}

#[tokio::test]
async fn a_bearer_token_is_used_or_refused_as_the_setting_says() {
    let home = Home::start().await;
    home.provider.with(|model| model.switches.dpop.rule = DpopRule::Offered);
    home.provider.with(|model| model.switches.dpop.answers_bearer = true);
    home.add("auto", &home.upstream.url()).await;
    assert_eq!(text_of(&home.call("auto", "count").await), "1");
    assert_eq!(home.shown("auto").await["token"]["type"], "Bearer");
    let oauth = OAuthSettings { dpop: DpopSetting::Required, ..OAuthSettings::default() };
    let settings = ServerSettings { oauth, ..ServerSettings::new("strict".parse().unwrap(), home.upstream.url()) };
    home.application.add_server(settings).await.unwrap();
    let outcome = home.try_log_in("strict").await;
    assert!(format!("{outcome:?}").contains("bearer token"), "{outcome:?}");
    assert_eq!(home.counters().revocations, 1, "it is given back");
}

#[tokio::test]
async fn a_refresh_that_brings_a_bearer_token_costs_a_strict_login_nothing_but_time() {
    let home = Home::start().await;
    home.provider.with(|model| model.switches.dpop.rule = DpopRule::Offered);
    let oauth = OAuthSettings { dpop: DpopSetting::Required, ..OAuthSettings::default() };
    let settings = ServerSettings { oauth, ..ServerSettings::new("strict".parse().unwrap(), home.upstream.url()) };
    home.application.add_server(settings).await.unwrap();
    home.log_in("strict").await;
    let token = |token: &everfresh_application::TokenView| Secret::clone(&token.access_token);
    let grant = "strict".parse().unwrap();
    let before = token(&home.application.token(&grant).await.unwrap());
    home.provider.with(|model| model.switches.dpop.answers_bearer = true);
    home.application.refresh(&grant).await.unwrap();
    let shown = home.shown("strict").await;
    assert_eq!((&shown["token"]["type"], &shown["refresh"]["state"]), (&json!("DPoP"), &json!("retrying")), "{shown}");
    assert!(shown["refresh"]["last_error"]["message"].as_str().unwrap().contains("bearer token"), "{shown}");
    assert_eq!(token(&home.application.token(&grant).await.unwrap()), before, "the bound one is still in use");
    home.application.refresh(&grant).await.unwrap();
    assert_eq!((home.counters().refreshes, home.counters().reuses), (2, 0), "the rotated refresh token was kept");
}

#[tokio::test]
async fn a_server_that_begins_to_demand_bound_tokens_gets_them_from_the_next_login() {
    let policy = Policy { park_timeout: Duration::from_millis(300), ..quick() };
    let home = Home::of(Behaviour::default(), Some(KEY), policy).await;
    home.add("demo", &home.upstream.url()).await;
    assert_eq!(home.shown("demo").await["token"]["type"], "Bearer");
    home.provider.with(|model| model.switches.dpop.rule = DpopRule::Required);
    let answer = home.call("demo", "count").await.json();
    assert_eq!(answer["error"]["code"], -32001, "{answer}");
    home.log_in("demo").await;
    assert_eq!(text_of(&home.call("demo", "count").await), "1");
    assert_eq!(home.shown("demo").await["token"]["type"], "DPoP");
}
