//! Refused tokens, missing tokens and upstreams that are down: what is tried again, and what is said.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use everfresh_domain::Policy;
use everfresh_testkit::provider::{Behaviour, Fault, UpstreamFault};
use http::Method;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::home::{Home, KEY, query_of, quick, within};
use crate::stub::{Stub, ok};
use crate::wire::{Answer, Message, Wire, call, head};

/// Demands a JSON-RPC error of ours, and returns its data.
fn expect_error(answer: &Answer, id: &Value) -> Value {
    let body = answer.json();
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{body}");
    assert_eq!(answer.header("www-authenticate"), None);
    assert_eq!((&body["jsonrpc"], &body["id"], &body["error"]["code"]), (&json!("2.0"), id, &json!(-32001)), "{body}");
    body["error"]["data"].clone()
}

fn text_of(answer: &Answer) -> String {
    let body = answer.json();
    body["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no result: {body}")).to_owned()
}

async fn twenty_calls(home: &Home) -> Vec<Answer> {
    let calls = (0..20).map(|id| {
        let body = call(id, "count");
        async move { home.post("/mcp/demo", &body).await }
    });
    within("twenty calls", futures_util::future::join_all(calls)).await
}

fn expect_each_once(home: &Home, answers: &[Answer], before: u64) {
    let counts: BTreeSet<u64> = answers.iter().map(|answer| text_of(answer).parse().unwrap()).collect();
    assert_eq!(counts, (before + 1..=before + 20).collect::<BTreeSet<u64>>());
    assert_eq!(home.counters().executions, before + 20);
}

#[tokio::test]
async fn twenty_calls_under_way_survive_that_a_refresh_kills_their_token() {
    let behaviour = Behaviour { kills_old_access_tokens: true, ..Behaviour::default() };
    let home = Home::of(behaviour, Some(KEY), quick()).await;
    home.add("demo", &home.upstream.url()).await;
    let grant = "demo".parse().unwrap();
    // The provider kills the old tokens at once, and everfresh learns of the new one only later.
    home.provider.with(|model| model.switches.delay_ms = 200);
    for round in 0..5 {
        let calls = async {
            crate::home::until("the refresh", || (home.counters().refreshes > round).then_some(())).await;
            twenty_calls(&home).await
        };
        let (answers, refreshed) = tokio::join!(calls, home.application.refresh(&grant));
        refreshed.unwrap();
        expect_each_once(&home, &answers, round * 20);
    }
    let counters = home.counters();
    assert!(counters.rejected > 0, "no call met the dead token: refresh and calls did not overlap");
    assert_eq!((counters.refreshes, counters.reuses, counters.refusals), (5, 0, 0));
}

#[tokio::test]
async fn twenty_calls_with_a_refused_token_cause_one_refresh_and_each_is_executed_once() {
    let home = Home::logged_in().await;
    home.provider.with(|model| {
        model.expire_access_tokens();
        // Time for all to be refused with the same token: who comes later has the new one.
        model.switches.delay_ms = 1_000;
    });
    let answers = twenty_calls(&home).await;
    expect_each_once(&home, &answers, 0);
    assert_eq!((home.counters().refreshes, home.counters().rejected), (1, 20));
    assert_eq!(home.shown("demo").await["health"]["reason"], "ok");
}

#[tokio::test]
async fn a_refused_request_is_sent_again_as_it_was() {
    let home = Home::start().await;
    let refusal =
        b"HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer error=\"invalid_token\"\r\ncontent-length: 0\r\n\r\n";
    let forbidden =
        b"HTTP/1.1 403 Forbidden\r\nwww-authenticate: Bearer error=\"invalid_token\"\r\ncontent-length: 0\r\n\r\n";
    for (name, refusal) in [("refused", refusal.to_vec()), ("forbidden", forbidden.to_vec())] {
        let stub = Stub::replying_in_turn([refusal, ok("served")]).await;
        home.add(name, &stub.origin).await;
        let request = home.keyed(Method::PUT, &format!("/mcp/{name}/a?b=c")).header("x-mine", "kept");
        let answer = home.send(request.body(Full::from("the body")).unwrap()).await;
        assert_eq!((answer.status, &answer.body[..]), (200, &b"served"[..]));
        let (first, second) = (stub.next().await, stub.next().await);
        let without_token = |message: &Message| -> Vec<String> {
            let lines = message.head.lines().filter(|line| !line.starts_with("authorization:"));
            lines.map(str::to_owned).collect()
        };
        assert_eq!(without_token(&first), without_token(&second));
        assert_eq!((first.text(), second.text()), ("the body".to_owned(), "the body".to_owned()));
        assert_ne!(first.values("authorization"), second.values("authorization"));
    }
}

#[tokio::test]
async fn a_body_that_is_too_long_to_be_kept_is_not_sent_again_and_that_is_said() {
    let home = Home::start().await;
    home.add("demo", &format!("{}/api", home.upstream.origin())).await;
    home.provider.with(|model| model.expire_access_tokens());
    let long = Bytes::from(vec![b'x'; (4 << 20) + 1]);
    let request = || home.keyed(Method::POST, "/mcp/demo").body(Full::new(long.clone())).unwrap();
    let problem = home.send(request()).await.expect_problem(503, "not-replayed");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("too long to be sent again") && detail.contains("repeat the request"), "{detail}");
    assert_eq!((home.counters().refreshes, home.upstream.seen().len()), (1, 1));
    assert_eq!(home.send(request()).await.json()["body_length"], long.len());
    home.provider.with(|model| model.expire_access_tokens());
    let limit = home.keyed(Method::POST, "/mcp/demo").body(Full::new(long.slice(1..))).unwrap();
    assert_eq!(home.send(limit).await.json()["body_length"], 4 << 20, "up to the limit it is");
}

#[tokio::test]
async fn a_chunked_body_that_is_too_long_is_not_sent_again_and_that_is_said() {
    let home = Home::start().await;
    home.add("demo", &format!("{}/api", home.upstream.origin())).await;
    home.provider.with(|model| model.expire_access_tokens());
    let mut wire = Wire::connect(&home).await;
    wire.write(head(&home, "POST /mcp/demo", "transfer-encoding: chunked\r\n")).await;
    let chunk = format!("100000\r\n{}\r\n", "x".repeat(1 << 20));
    for _ in 0..5 {
        wire.write(&chunk).await;
    }
    wire.write("0\r\n\r\n").await;
    let answer = wire.answer().await;
    assert_eq!(answer.status(), 503, "{}", answer.text());
    assert!(
        answer.text().contains("not-replayed") && answer.text().contains("repeat the request"),
        "{}",
        answer.text()
    );
    assert_eq!((home.counters().refreshes, home.upstream.seen().len()), (1, 1));
}

#[tokio::test]
async fn an_upload_that_its_client_gives_up_is_sent_once_at_most() {
    let home = Home::start().await;
    // Whatever is asked is refused to its head alone, as by a server that does not wait for bodies.
    let stub = Stub::start(|_, mut wire, teller| async move {
        let head = wire.head().await.unwrap();
        wire.write("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n").await;
        drop(teller.send(Message { head, ..Message::default() }));
        wire.head().await;
    })
    .await;
    home.add("demo", &stub.origin).await;
    let mut wire = Wire::connect(&home).await;
    wire.write(head(&home, "POST /mcp/demo", "transfer-encoding: chunked\r\n")).await;
    wire.write("4\r\nhalf\r\n").await;
    stub.next().await;
    crate::home::until("the refresh", || (home.counters().refreshes == 1).then_some(())).await;
    drop(wire);
    // The proxy goes on with others, and this upload is nowhere.
    home.get("/healthz").await;
    assert_eq!(stub.pending().await, 0, "a body that never ended is not sent again");
    assert_eq!(home.dialer.dials(), 1);
}

#[tokio::test]
async fn a_server_that_refuses_every_token_is_asked_twice_and_never_in_a_loop() {
    let home = Home::logged_in().await;
    home.provider.with(|model| model.switches.upstream = UpstreamFault::RefusesAll);
    let data = expect_error(&home.call("demo", "count").await, &json!(1));
    assert_eq!(data["reason"], "rejected_after_refresh");
    assert_eq!((data["action"].as_str(), data["command"].as_str()), (Some("login"), Some("everfresh login demo")));
    assert_eq!((home.counters().refreshes, home.counters().rejected), (1, 2));
    for _ in 0..3 {
        let problem = home.get("/mcp/demo").await.expect_problem(503, "login-needed");
        assert_eq!(problem["reason"], "rejected_after_refresh");
    }
    assert_eq!((home.counters().refreshes, home.counters().rejected), (1, 5), "one look each, no refresh");
    let health = &home.shown("demo").await["health"];
    assert_eq!(
        (health["level"].as_str(), health["reason"].as_str()),
        (Some("unhealthy"), Some("rejected_after_refresh"))
    );
    home.provider.with(|model| model.switches.upstream = UpstreamFault::None);
    assert_eq!(text_of(&home.call("demo", "count").await), "1");
    let ok = async { while home.shown("demo").await["health"]["reason"] != "ok" {} };
    within("the end of the alarm", ok).await;
}

#[tokio::test]
async fn an_upstream_that_answers_500_to_a_bad_token_costs_no_login() {
    let home = Home::logged_in().await;
    home.provider.with(|model| model.switches.upstream = UpstreamFault::ServerErrorOnBadToken);
    home.provider.with(|model| model.expire_access_tokens());
    for _ in 0..3 {
        let answer = home.call("demo", "count").await;
        assert_eq!((answer.status, answer.json()["error"].as_str()), (500, Some("internal")), "it passes as it is");
    }
    assert_eq!((home.counters().refreshes, home.counters().rejected), (0, 3), "a 500 says nothing about a token");
    assert_eq!(home.shown("demo").await["health"]["reason"], "ok");
    home.application.refresh(&"demo".parse().unwrap()).await.unwrap();
    assert_eq!(text_of(&home.call("demo", "count").await), "1", "and with a new one it works");
    assert_eq!(home.counters().authorizations, 1);
}

#[tokio::test]
async fn a_stream_that_its_server_ended_is_opened_again_with_the_new_token() {
    let behaviour = Behaviour { kills_old_access_tokens: true, ..Behaviour::default() };
    let home = Home::of(behaviour, Some(KEY), quick()).await;
    home.add("demo", &home.upstream.url()).await;
    home.provider.with(|model| model.switches.upstream = UpstreamFault::ClosesStreams);
    let opened = async || {
        let answer = home.get("/mcp/demo").await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/event-stream")));
        assert_eq!(&answer.body[..], b": open\n\n", "what was sent before the end has come");
    };
    opened().await;
    home.application.refresh(&"demo".parse().unwrap()).await.unwrap();
    opened().await;
    let tokens: Vec<String> = home
        .upstream
        .seen()
        .into_iter()
        .flat_map(|request| request.headers)
        .filter_map(|(name, value)| (name == "authorization").then_some(value))
        .collect();
    assert_eq!(tokens.len(), 2, "one request each: no token was refused");
    assert_ne!(tokens[0], tokens[1], "each request has the token of its time");
}

#[tokio::test]
async fn a_missing_permission_passes_as_403_without_a_challenge_and_is_shown() {
    let home = Home::logged_in().await;
    home.provider.with(|model| model.switches.upstream = UpstreamFault::WantsScope { scope: "write".into() });
    let answer = home.call("demo", "count").await;
    assert_eq!((answer.status, answer.header("www-authenticate")), (403, None));
    assert_eq!(answer.json(), json!({ "error": "insufficient_scope" }));
    let shown = async {
        loop {
            let shown = home.shown("demo").await;
            if shown["health"]["reason"] == "insufficient_scope" {
                return shown;
            }
        }
    };
    let shown = within("the missing permission in the API", shown).await;
    assert_eq!(
        (shown["health"]["level"].as_str(), shown["health"]["action"].as_str()),
        (Some("degraded"), Some("login"))
    );
    assert_eq!(shown["health"]["summary"], "Missing permission: write");
    assert_eq!(shown["login"]["needed_scopes"], json!(["write"]));
    assert_eq!((home.counters().refreshes, home.counters().token_requests), (0, 1));
    let login = home.post("/api/v1/servers/demo/login", &json!({})).await.json();
    assert!(query_of(login["authorization_url"].as_str().unwrap())["scope"].contains("write"), "{login}");
}

#[tokio::test]
async fn whoever_needs_a_login_is_told_in_the_words_of_its_protocol_and_never_by_401() {
    let home = Home::start().await;
    home.add_only("demo", &home.upstream.url()).await;
    for method in ["initialize", "tools/call", "tools/list"] {
        let body = json!({ "jsonrpc": "2.0", "id": "a-1", "method": method, "params": {} });
        let answer = home.post("/mcp/demo", &body).await;
        let data = expect_error(&answer, &json!("a-1"));
        assert_eq!((data["reason"].as_str(), data["action"].as_str()), (Some("login_required"), Some("login")));
        assert_eq!(data["command"], "everfresh login demo");
        assert_eq!(data["url"], format!("http://{}/", home.address));
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains("Login required") && message.contains("everfresh login demo"), "{message}");
    }
    let notification = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    home.post("/mcp/demo", &notification).await.expect_problem(503, "login-needed");
    for method in [Method::GET, Method::DELETE, Method::PUT] {
        let request = home.keyed(method, "/mcp/demo/x").body(Full::<Bytes>::default()).unwrap();
        let problem = home.send(request).await.expect_problem(503, "login-needed");
        assert_eq!((problem["reason"].as_str(), problem["action"].as_str()), (Some("login_required"), Some("login")));
    }
    assert_eq!(home.counters().token_requests, 0);
}

#[tokio::test]
async fn a_server_that_opens_without_a_login_is_opened() {
    let home = Home::start().await;
    home.add_only("demo", &home.upstream.url()).await;
    home.provider.with(|model| model.switches.upstream = UpstreamFault::AnonymousInitialize);
    let opening = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": { "protocolVersion": "x" } });
    let answer = home.post("/mcp/demo", &opening).await;
    assert_eq!(answer.json()["result"]["protocolVersion"], "x");
    assert_eq!(answer.header("mcp-session-id"), Some("session-1"));
    assert_eq!(expect_error(&home.call("demo", "count").await, &json!(1))["reason"], "login_required");
    home.log_in("demo").await;
    assert_eq!(text_of(&home.call("demo", "count").await), "1", "the next call has the token");
}

#[tokio::test]
async fn a_disabled_server_says_so_and_gets_no_request() {
    let home = Home::logged_in().await;
    home.application.set_enabled(&"demo".parse().unwrap(), false).await.unwrap();
    let data = expect_error(&home.call("demo", "count").await, &json!(1));
    assert_eq!((data["reason"].as_str(), data["command"].as_str()), (Some("disabled"), Some("everfresh enable demo")));
    home.get("/mcp/demo").await.expect_problem(503, "disabled");
    assert_eq!(home.upstream.seen().len(), 0);
}

#[tokio::test]
async fn an_unknown_server_is_named() {
    let home = Home::start().await;
    let problem = home.get("/mcp/nobody/x").await.expect_problem(404, "no-such-server");
    assert!(problem["detail"].as_str().unwrap().contains("nobody"), "{problem}");
    expect_error(&home.call("nobody", "count").await, &json!(1));
    for path in ["/mcp/", "/mcp//", "/mcp", "/k/", &format!("/k/{KEY}"), &format!("/k/{KEY}/other")] {
        home.get(path).await.expect_problem(404, "not-found");
    }
}

#[tokio::test]
async fn nobody_finds_an_authorization_server_here() {
    let home = Home::logged_in().await;
    let paths = [
        "/.well-known/oauth-authorization-server",
        "/.well-known/oauth-authorization-server/mcp/demo",
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/mcp/demo",
        "/.well-known/openid-configuration",
        "/.well-known/openid-configuration/mcp/demo",
        "/register",
        "/authorize",
        "/token",
    ];
    for path in paths {
        for method in [Method::GET, Method::POST] {
            for request in [home.bare(method.clone(), path), home.keyed(method.clone(), path)] {
                let answer = home.send(request.body(Full::<Bytes>::default()).unwrap()).await;
                answer.expect_problem(404, "not-found");
            }
        }
    }
    assert_eq!(home.upstream.seen().len(), 0);
}

#[tokio::test]
async fn a_request_waits_for_the_refresh_that_it_needs() {
    let home = Home::logged_in().await;
    home.provider.with(|model| model.switches.delay_ms = 300);
    home.clock.sleep(Duration::from_secs(2 * 3600));
    let answers = twenty_calls(&home).await;
    expect_each_once(&home, &answers, 0);
    assert_eq!((home.counters().refreshes, home.counters().rejected), (1, 0), "no stale token was sent");
}

#[tokio::test]
async fn waiting_for_a_refresh_has_an_end() {
    let policy = Policy { park_timeout: Duration::from_millis(200), ..quick() };
    let home = Home::of(Behaviour::default(), Some(KEY), policy).await;
    home.add("demo", &home.upstream.url()).await;
    home.provider.with(|model| model.switches.fault = Some(Fault::Hang));
    home.clock.sleep(Duration::from_secs(2 * 3600));
    let data = expect_error(&home.call("demo", "count").await, &json!(1));
    assert_eq!(data["reason"], "refreshing");
    home.get("/mcp/demo").await.expect_problem(503, "token-unavailable");
    assert_eq!(home.upstream.seen().len(), 0);
}

#[tokio::test]
async fn an_upstream_that_is_down_is_a_bad_gateway() {
    let home = Home::start().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    home.add("demo", &format!("http://{address}/mcp")).await;
    for answer in [home.get("/mcp/demo").await, home.call("demo", "count").await] {
        let problem = answer.expect_problem(502, "upstream-unreachable");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("demo") && detail.contains("refused"), "{detail}");
    }
    assert_eq!(home.shown("demo").await["health"]["reason"], "ok", "the login is not to blame");
}

#[tokio::test]
async fn a_waiting_client_that_goes_away_leaves_the_refresh_alone() {
    let home = Home::logged_in().await;
    home.provider.with(|model| model.switches.delay_ms = 200);
    home.clock.sleep(Duration::from_secs(2 * 3600));
    let mut wire = Wire::connect(&home).await;
    wire.write(head(&home, "GET /mcp/demo", "")).await;
    crate::home::until("the refresh", || (home.counters().token_requests == 2).then_some(())).await;
    drop(wire);
    assert_eq!(text_of(&home.call("demo", "count").await), "1");
    assert_eq!((home.counters().refreshes, home.counters().reuses), (1, 0));
}

#[tokio::test]
async fn a_refusal_before_the_body_has_come_is_no_reason_to_give_up() {
    let home = Home::start().await;
    // The first request is answered to its head alone.
    let stub = Stub::start(|number, mut wire, teller| async move {
        if number == 0 {
            let head = wire.head().await.unwrap();
            wire.write("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n").await;
            drop(teller.send(Message { head, ..Message::default() }));
        }
        while let Some(request) = wire.request().await {
            drop(teller.send(request));
            wire.write(ok("served")).await;
        }
    })
    .await;
    home.add("demo", &stub.origin).await;
    let mut wire = Wire::connect(&home).await;
    wire.write(head(&home, "POST /mcp/demo", "content-length: 8\r\n")).await;
    stub.next().await;
    crate::home::until("the refresh", || (home.counters().refreshes == 1).then_some(())).await;
    wire.write("the body").await;
    let answer = wire.answer().await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "served"));
    assert_eq!(stub.next().await.text(), "the body");
}

#[tokio::test]
async fn whoever_is_sent_away_is_told_when_to_come_again() {
    let home = Home::start().await;
    home.add_only("demo", &home.upstream.url()).await;
    for path in ["/mcp/demo", "/api/v1/servers/demo/token"] {
        let answer = home.get(path).await;
        answer.expect_problem(503, "login-needed");
        let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=300).contains(&seconds), "{path}: {seconds}");
    }
    let data = expect_error(&home.call("demo", "count").await, &json!(1));
    assert!(data.get("retry_after_s").is_none(), "waiting alone does not log in: {data}");
}
