//! The API: its shapes, its errors, its own description, and the page that ends a login.

use bytes::Bytes;
use http::Method;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::home::{Home, until};
use crate::wire::Answer;

/// Everything that differs from run to run, replaced.
fn still(value: Value, home: &Home) -> Value {
    match value {
        Value::Object(members) => {
            let still = |(name, value): (String, Value)| (name.clone(), still_member(&name, value, home));
            members.into_iter().map(still).collect()
        }
        Value::Array(items) => items.into_iter().map(|item| still(item, home)).collect(),
        Value::String(text) => text.replace(home.upstream.origin(), "[upstream]").into(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}

fn still_member(name: &str, value: Value, home: &Home) -> Value {
    let is_fingerprint = |text: &str| text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match (name, value.as_str()) {
        ("duration_ms", None) => json!("[duration]"),
        (_, None) => still(value, home),
        ("issuer", Some(url)) => json!(url.replace(home.provider.url(), "[provider]")),
        ("attempt_id", Some(_)) => json!("[attempt]"),
        ("summary", Some(text)) => {
            let timed = text.split_once(" for ").map(|(words, _)| format!("{words} for [time]"));
            json!(timed.unwrap_or_else(|| text.to_owned()))
        }
        ("fingerprint" | "refresh_token" | "new_refresh_token", Some(text)) => {
            assert!(is_fingerprint(text), "{name}: {text}");
            json!("[fingerprint]")
        }
        (_, Some(_)) if name.ends_with("_at") => json!("[time]"),
        (_, Some(_)) => still(value, home),
    }
}

#[tokio::test]
async fn a_grant_looks_like_this() {
    let home = Home::logged_in().await;
    let listed = home.get("/api/v1/servers").await;
    assert_eq!(
        (listed.header("content-type"), listed.header("cache-control")),
        (Some("application/json"), Some("no-store"))
    );
    let listed = listed.json();
    assert_eq!(listed["servers"][0], home.shown("demo").await);
    insta::assert_json_snapshot!(still(listed, &home), @r#"
    {
      "problems": [],
      "servers": [
        {
          "account": "default",
          "grant": "authorization_code",
          "health": {
            "action": "",
            "admin_state": "enabled",
            "command": null,
            "detail": "",
            "help": "/help#ok",
            "level": "healthy",
            "reason": "ok",
            "summary": "Token refresh scheduled for [time]"
          },
          "issuer": "[provider]",
          "login": {
            "client_secret_expires_at": null,
            "flow_id": null,
            "needed_scopes": [],
            "pending": false,
            "pending_since": null,
            "pending_until": null,
            "requested_scopes": []
          },
          "name": "demo",
          "profile": null,
          "refresh": {
            "last_attempt_at": null,
            "last_error": null,
            "last_success_at": "[time]",
            "next_attempt_at": "[time]",
            "retry_count": 0,
            "state": "scheduled"
          },
          "shadows_stored": false,
          "source": "store",
          "token": {
            "expires_at": "[time]",
            "fingerprint": "[fingerprint]",
            "generation": 1,
            "has_refresh_token": true,
            "issued_at": "[time]",
            "lifetime_s": 3600,
            "lost_scopes": [],
            "refresh_token_expires_at": null,
            "scopes": [],
            "type": "Bearer"
          },
          "url": "[upstream]/mcp"
        }
      ]
    }
    "#);
}

#[tokio::test]
async fn a_grant_before_its_login_looks_like_this() {
    let home = Home::start().await;
    let added = home.post("/api/v1/servers", &json!({ "name": "new", "url": "https://mcp.example/mcp" })).await;
    assert_eq!(added.status, 201);
    insta::assert_json_snapshot!(added.json(), @r#"
    {
      "account": "default",
      "grant": "authorization_code",
      "health": {
        "action": "login",
        "admin_state": "enabled",
        "command": "everfresh login new",
        "detail": "",
        "help": "/help#login_required",
        "level": "unhealthy",
        "reason": "login_required",
        "summary": "Login required"
      },
      "issuer": null,
      "login": {
        "client_secret_expires_at": null,
        "flow_id": null,
        "needed_scopes": [],
        "pending": false,
        "pending_since": null,
        "pending_until": null,
        "requested_scopes": []
      },
      "name": "new",
      "profile": null,
      "refresh": {
        "last_attempt_at": null,
        "last_error": null,
        "last_success_at": null,
        "next_attempt_at": null,
        "retry_count": 0,
        "state": "idle"
      },
      "shadows_stored": false,
      "source": "store",
      "token": null,
      "url": "https://mcp.example/mcp"
    }
    "#);
}

#[tokio::test]
async fn a_failed_refresh_and_the_journal_look_like_this() {
    use everfresh_testkit::provider::Fault;

    let home = Home::logged_in().await;
    assert_eq!(home.post("/api/v1/servers/demo/refresh", &json!({})).await.json()["outcome"], "refreshed");
    let fault = Fault::Error { status: 503, error: "temporarily_unavailable".into() };
    home.provider.with(|model| model.switches.fault = Some(fault));
    let refreshed = home.post("/api/v1/servers/demo/refresh", &json!({})).await.json();
    assert_eq!(refreshed["outcome"], "failed");
    let last_error = still(refreshed["server"]["refresh"]["last_error"].clone(), &home);
    insta::assert_json_snapshot!(last_error, @r#"
    {
      "attempt_id": "[attempt]",
      "http_status": 503,
      "message": "the model answered 503",
      "oauth_error": "temporarily_unavailable",
      "reason": "retrying_provider"
    }
    "#);
    let mut journal = home.get("/api/v1/servers/demo/journal").await.json();
    assert!(journal["entries"].as_array().unwrap().len() >= 2, "{journal}");
    let first = journal["entries"].as_array_mut().unwrap().pop().unwrap();
    insta::assert_json_snapshot!(still(first, &home), @r#"
    {
      "attempt_id": "[attempt]",
      "credential": null,
      "duration_ms": "[duration]",
      "generation": 1,
      "http_status": null,
      "message": null,
      "new_refresh_token": "[fingerprint]",
      "oauth_error": null,
      "refresh_token": "[fingerprint]",
      "result": "refreshed",
      "started_at": "[time]",
      "trigger": "user"
    }
    "#);
    let limited = home.get("/api/v1/servers/demo/journal?limit=1").await.json();
    assert_eq!((limited["entries"].as_array().unwrap().len(), &limited["entries"][0]["result"]), (1, &json!("failed")));
    assert!(!journal.to_string().contains("canary"), "{journal}");
}

#[tokio::test]
async fn a_timeline_looks_like_this() {
    use everfresh_testkit::provider::Fault;

    let home = Home::logged_in().await;
    home.application.attend().await;
    assert_eq!(home.post("/api/v1/servers/demo/refresh", &json!({})).await.json()["outcome"], "refreshed");
    let fault = Fault::Error { status: 503, error: "temporarily_unavailable".into() };
    home.provider.with(|model| model.switches.fault = Some(fault));
    assert_eq!(home.post("/api/v1/servers/demo/refresh", &json!({})).await.json()["outcome"], "failed");
    let timeline = home.get("/api/v1/servers/demo/timeline?hours=1").await.json();
    let spans = timeline["spans"].as_array().unwrap();
    assert_eq!((&spans[0]["from"], &spans.last().unwrap()["to"]), (&timeline["from"], &timeline["to"]));
    let states: Vec<_> = spans.iter().map(|span| span["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["unknown", "valid"]);
    let outage = &timeline["outages"][0];
    assert_eq!((&outage["to"], &outage["reason"]), (&Value::Null, &json!("retrying_provider")));
    let attempts = timeline["attempts"].as_array().unwrap();
    let told = |attempt: &Value| (attempt["result"].clone(), attempt["reason"].clone());
    let told: Vec<_> = attempts.iter().map(told).collect();
    assert_eq!(told, [(json!("refreshed"), Value::Null), (json!("failed"), json!("retrying_provider"))]);
    assert_eq!(attempts[1]["at"], outage["from"]);
    assert!(attempts.iter().all(|attempt| attempt["duration_ms"].is_u64()), "{timeline}");
    for (hours, status) in [("0", 400), ("169", 400), ("many", 400), ("168", 200)] {
        let answer = home.get(&format!("/api/v1/servers/demo/timeline?hours={hours}")).await;
        assert_eq!(answer.status, status, "{hours}");
    }
    assert_eq!(home.get("/api/v1/servers/nobody/timeline").await.status, 404);
}

#[tokio::test]
async fn a_token_is_handed_out_to_whoever_has_the_key() {
    let home = Home::logged_in().await;
    let answer = home.get("/api/v1/servers/demo/token").await;
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let token = answer.json();
    assert!(token["access_token"].as_str().unwrap().starts_with("access-canary-"), "{token}");
    assert_eq!((token["token_type"].as_str(), token["expires_at"].is_string()), (Some("Bearer"), true));
    home.add_only("new", &home.upstream.url()).await;
    home.get("/api/v1/servers/new/token").await.expect_problem(503, "login-needed");
}

#[tokio::test]
async fn a_server_can_be_added_changed_and_removed() {
    let home = Home::start().await;
    let url = home.upstream.url();
    let new = json!({ "name": "demo", "url": url, "headers": { "x-tenant": "acme" }, "oauth": { "scopes": ["read"] } });
    assert_eq!(home.post("/api/v1/servers", &new).await.status, 201);
    home.post("/api/v1/servers", &new).await.expect_problem(409, "name-taken");
    home.log_in("demo").await;
    for (request, enabled) in [
        (home.keyed(Method::PATCH, "/api/v1/servers/demo").body(Full::from(r#"{"enabled":false}"#)), false),
        (home.keyed(Method::POST, "/api/v1/servers/demo/enable").body(Full::default()), true),
        (home.keyed(Method::POST, "/api/v1/servers/demo/disable").body(Full::default()), false),
    ] {
        let mut request = request.unwrap();
        request.headers_mut().insert("content-type", "application/json".parse().unwrap());
        let state = if enabled { "enabled" } else { "disabled" };
        assert_eq!(home.send(request).await.json()["health"]["admin_state"], state);
    }
    let logged_out = home.post("/api/v1/servers/demo/logout", &json!({})).await.json();
    assert_eq!((&logged_out["token"], home.counters().revocations), (&Value::Null, 1));
    let removed = home.keyed(Method::DELETE, "/api/v1/servers/demo").body(Full::<Bytes>::default()).unwrap();
    assert_eq!(home.send(removed).await.status, 204);
    home.get("/api/v1/servers/demo").await.expect_problem(404, "no-such-server");
    home.get("/mcp/demo").await.expect_problem(404, "no-such-server");
}

#[tokio::test]
async fn what_is_wrong_with_a_new_server_is_said() {
    let home = Home::start().await;
    let cases = [
        (json!({ "name": "demo" }), "url"),
        (json!({ "name": "no spaces", "url": "https://x" }), "name"),
        (json!({ "name": "demo", "url": "ftp://x" }), "http or https"),
        (json!({ "name": "demo", "url": "/only/a/path" }), "http or https"),
        (json!({ "name": "demo", "url": "https://x", "headers": { "a b": "c" } }), "header"),
        (json!({ "name": "demo", "url": "https://x", "headers": { "a": "c\r\nx: y" } }), "header"),
        (
            json!({ "name": "demo", "url": "https://x", "headers": { "Transfer-Encoding": "chunked" } }),
            "Transfer-Encoding",
        ),
        (json!({ "name": "demo", "url": "https://x", "headers": { "content-length": "0" } }), "content-length"),
        (json!({ "name": "demo", "url": "https://x", "headers": { "authorization": "Basic x" } }), "authorization"),
        (json!({ "name": "demo", "url": "https://x", "surprise": 1 }), "surprise"),
        (json!({ "name": "demo", "url": "https://x", "oauth": { "client_secret": "x" } }), "client_secret"),
        (json!([]), ""),
    ];
    for (body, words) in cases {
        let problem = home.post("/api/v1/servers", &body).await.expect_problem(422, "invalid");
        assert!(problem["detail"].as_str().unwrap().contains(words), "{body}: {problem}");
    }
    let huge = json!({ "name": "demo", "url": format!("https://x/{}", "y".repeat(100_000)) });
    assert!((400..500).contains(&home.post("/api/v1/servers", &huge).await.status));
    assert_eq!(home.get("/api/v1/servers").await.json()["servers"], json!([]));
}

#[tokio::test]
async fn a_login_begins_once_and_its_end_can_be_waited_for() {
    let home = Home::start().await;
    home.add_only("demo", &home.upstream.url()).await;
    let started = home.post("/api/v1/servers/demo/login", &json!({})).await.json();
    assert_eq!(started, home.post("/api/v1/servers/demo/login", &json!({})).await.json());
    let shown = home.shown("demo").await;
    assert_eq!((&shown["login"]["pending"], &shown["login"]["pending_until"]), (&json!(true), &started["expires_at"]));
    let path = format!("/api/v1/logins/{}", started["flow_id"].as_str().unwrap());
    let back = home.approve(started["authorization_url"].as_str().unwrap());
    let back = back.strip_prefix("http://127.0.0.1:7411").unwrap().to_owned();
    let (ended, page) = tokio::join!(home.get(&path), visit(&home, &back));
    assert_eq!(ended.json()["state"], "succeeded");
    assert_eq!(page.status, 200);
    assert!(String::from_utf8_lossy(&page.body).contains("Logged in to demo"));
    let again = visit(&home, &back).await;
    assert_eq!(again.status, 200);
    assert!(String::from_utf8_lossy(&again.body).contains("nothing more was done"), "an answer counts once");
    assert_eq!(home.counters().exchanges, 1);
    assert_eq!(home.call("demo", "echo").await.status, 200);
}

/// A browser that is sent here by the provider: from another site, by a navigation.
async fn visit(home: &Home, path: &str) -> Answer {
    let request =
        home.bare(Method::GET, path).header("sec-fetch-site", "cross-site").header("sec-fetch-mode", "navigate");
    home.send(request.header("sec-fetch-dest", "document").body(Full::<Bytes>::default()).unwrap()).await
}

#[tokio::test]
async fn what_a_stranger_sends_to_the_callback_is_never_html() {
    let home = Home::start().await;
    home.add_only("demo", &home.upstream.url()).await;
    let started = home.post("/api/v1/servers/demo/login", &json!({})).await.json();
    let query = crate::home::query_of(started["authorization_url"].as_str().unwrap());
    let script = "%3Cscript%3Ealert(1)%3C/script%3E%22%3E%3Cimg%20src=x%3E";
    let issuer = home.provider.url();
    let state = &query["state"];
    for path in [
        format!("/oauth/callback?error={script}&error_description={script}"),
        format!("/oauth/callback?state={script}&code={script}"),
        format!("/oauth/callback?state={state}&iss={issuer}&error={script}&error_description={script}"),
        format!("/?once={script}"),
        format!("/{script}"),
    ] {
        let answer = visit(&home, &path).await;
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        assert!(answer.status >= 400 && !text.contains("<script>alert") && !text.contains("<img"), "{path}: {text}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert!(answer.header("content-security-policy").unwrap().contains("default-src 'none'"));
    }
    assert_eq!(home.shown("demo").await["login"]["pending"], false, "the provider said no");
}

#[tokio::test]
async fn browsers_keep_the_files_of_the_page_until_another_binary_has_others() {
    let home = Home::start().await;
    for (path, kind) in
        [("/page/app.js", "text/javascript"), ("/page/page.css", "text/css"), ("/page/icon.svg", "image/svg")]
    {
        let answer = home.get(path).await;
        assert!(answer.status == 200 && answer.header("content-type").unwrap().starts_with(kind), "{path}");
        assert_eq!(answer.header("cache-control"), Some("private, no-cache"));
        let tag = answer.header("etag").unwrap();
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        assert!(!text.contains("innerHTML"), "{path}");
        for (known, status) in [(tag, 304), (&format!("\"other\", {tag}"), 304), ("\"other\"", 200)] {
            let request = home.bare(Method::GET, path).header("if-none-match", known);
            let again = home.send(request.body(Full::<Bytes>::default()).unwrap()).await;
            assert_eq!((again.status, again.header("etag")), (status, Some(tag)), "{path} {known}");
            assert_eq!(again.body.is_empty(), status == 304);
        }
    }
    for path in ["/page/none.js", "/page/..%2fmod.rs", "/page/"] {
        home.get(path).await.expect_problem(404, "not-found");
    }
}

#[tokio::test]
async fn a_refused_server_tells_which_member_stands_in_the_way() {
    let home = Home::start().await;
    home.add_only("demo", "http://127.0.0.1:1/mcp").await;
    let url = "http://127.0.0.1:1/mcp";
    let cases = [
        (json!({ "name": "No!", "url": url }), 422, "/name", "No!"),
        (json!({ "name": "demo", "url": url }), 409, "/name", "already"),
        (json!({ "name": "new", "url": "nowhere" }), 422, "/url", "nowhere"),
        (json!({ "name": "new", "url": url, "headers": { "a b": "x" } }), 422, "/headers", "a b"),
        (json!({ "name": "new", "url": url, "client_key_file": "k" }), 422, "/client_key_file", "client_cert_file"),
        (
            json!({ "name": "new", "url": url, "oauth": { "client_secret_env": "X" } }),
            422,
            "/oauth/client_id",
            "missing",
        ),
        (json!({ "name": "new", "url": url, "oauth": { "profile": "x" } }), 422, "/oauth/profile", "not known"),
        (json!({ "name": "new", "url": url, "oauth": { "dpop": "x" } }), 422, "/oauth/dpop", "dpop"),
        (
            json!({ "name": "new", "url": url, "oauth": { "grant": "client_credentials", "client_id": "x" } }),
            422,
            "/oauth/client_secret_env",
            "missing",
        ),
    ];
    for (body, status, pointer, words) in cases {
        let request = home.keyed(Method::POST, "/api/v1/servers").header("content-type", "application/json");
        let answer = home.send(request.body(Full::new(Bytes::from(body.to_string()))).unwrap()).await;
        let told = answer.json();
        assert_eq!((answer.status, told["pointer"].as_str()), (status, Some(pointer)), "{body}: {told}");
        assert!(told["detail"].as_str().unwrap().contains(words), "{told}");
    }
}

#[tokio::test]
async fn removing_a_server_ends_its_requests() {
    let home = Home::logged_in().await;
    home.application.remove_server(&"demo".parse().unwrap()).await.unwrap();
    until("the logout at the provider", || (home.counters().revocations == 1).then_some(())).await;
    home.get("/mcp/demo").await.expect_problem(404, "no-such-server");
    assert_eq!(home.upstream.seen().len(), 0);
}

#[tokio::test]
async fn every_error_of_the_api_is_a_problem() {
    let home = Home::logged_in().await;
    let cases = [
        (Method::DELETE, "/api/v1/servers", 405, "method-not-allowed"),
        (Method::GET, "/api/v1/servers/demo/refresh", 405, "method-not-allowed"),
        (Method::PUT, "/api/v1/servers/demo/token", 405, "method-not-allowed"),
        (Method::POST, "/healthz", 405, "method-not-allowed"),
        (Method::GET, "/api/v1/servers/demo/journal?limit=many", 400, "bad-query"),
        (Method::GET, "/api/v1/servers/demo/journal?limit=1&limit=2", 400, "bad-query"),
        (Method::GET, "/api/v1/logins/nonsense", 404, "not-found"),
        (Method::GET, "/api/v1/logins/%ff", 404, "not-found"),
        (Method::GET, "/api/v1/servers/%ff", 404, "not-found"),
        (Method::GET, "/api/v1/servers/no%20name", 404, "no-such-server"),
        (Method::GET, "/api/v2/servers", 404, "not-found"),
    ];
    for (method, path, status, kind) in cases {
        let request = home.keyed(method.clone(), path).body(Full::<Bytes>::default()).unwrap();
        let answer = home.send(request).await;
        answer.expect_problem(status, kind);
        assert_eq!(answer.header("allow").is_some(), status == 405, "{method} {path}");
    }
    for method in [Method::POST, Method::PATCH] {
        let path = if method == Method::POST { "/api/v1/servers" } else { "/api/v1/servers/demo" };
        for (kind, body) in [("text/plain", "{}"), ("application/json", "{"), ("application/json", "")] {
            let request = home.keyed(method.clone(), path).header("content-type", kind);
            home.send(request.body(Full::from(body)).unwrap()).await.expect_problem(422, "invalid");
        }
    }
}

#[tokio::test]
async fn a_person_with_a_broken_link_reads_a_page() {
    let home = Home::start().await;
    for path in ["/oauth/callback?state=a&state=b", "/oauth/callback", "/?once=a&once=b", "/?once=%ff"] {
        let answer = visit(&home, path).await;
        assert!((400..500).contains(&answer.status), "{path}: {}", answer.status);
        assert!(answer.header("content-type").unwrap().starts_with("text/html"), "{path}");
        assert!(String::from_utf8_lossy(&answer.body).contains("<h1>"), "{path}");
    }
}
