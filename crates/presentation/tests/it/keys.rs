//! Limited keys: every surface with every kind of key.

use std::time::Duration;

use bytes::Bytes;
use everfresh_application::{KeyError, NewKey};
use everfresh_domain::{KeyRight, KeyScope, Secret};
use everfresh_testkit::canary;
use everfresh_testkit::provider::Behaviour;
use http::Method;
use http::request::Builder;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::home::{Home, KEY, quick};
use crate::wire::Answer;

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn send(home: &Home, request: Builder) -> Answer {
    home.send(request.body(Full::<Bytes>::default()).unwrap()).await
}

fn wish(name: &str, servers: &[&str], account: Option<&str>, right: KeyRight) -> NewKey {
    let servers = servers.iter().map(|name| name.parse().unwrap());
    let scope = KeyScope::new(servers, account.map(|name| name.parse().unwrap()), right).unwrap();
    NewKey { name: name.parse().unwrap(), scope, lifetime: None, replaces: false, holder: None }
}

/// Makes a key, and has its secret looked for wherever it does not belong.
async fn made(home: &Home, new: NewKey) -> String {
    let secret = home.guard.keys().add(new).await.unwrap().1.expose().to_owned();
    assert!(secret.starts_with("efk_") && secret.len() == 68, "256 bits, and known for what it is");
    canary::keep(&secret);
    secret
}

/// Three logins: `demo` and `other`, and `demo` as `work`.
async fn home() -> Home {
    let home = Home::logged_in().await;
    home.add("other", &home.upstream.url()).await;
    home.log_in("demo@work").await;
    home
}

/// One key of each kind, by the names of [`MATRIX`]'s columns.
async fn kinds(home: &Home) -> Vec<(&'static str, String)> {
    let brief = NewKey { lifetime: Some(DAY), ..wish("over", &["demo"], None, KeyRight::Tokens) };
    let over = made(home, brief).await;
    let rotated = made(home, wish("rotated", &["demo"], None, KeyRight::Tokens)).await;
    let removed = made(home, wish("removed", &["demo"], None, KeyRight::Tokens)).await;
    let kinds = vec![
        ("full", KEY.to_owned()),
        ("data", made(home, wish("data", &["demo"], None, KeyRight::DataPlane)).await),
        ("token", made(home, wish("token", &["demo"], None, KeyRight::Tokens)).await),
        ("any", made(home, wish("any", &[], None, KeyRight::DataPlane)).await),
        ("work", made(home, wish("work", &[], Some("work"), KeyRight::Tokens)).await),
        ("over", over),
        ("rotated", rotated),
        ("removed", removed),
        ("wrong", "efk_00000000".to_owned()),
    ];
    home.guard.keys().rotate(&"rotated".parse().unwrap()).await.unwrap();
    home.guard.keys().remove(&"removed".parse().unwrap()).await.unwrap();
    kinds
}

/// What each key gets at each surface: `.` what it asked for, `b` beyond this key, `o` this key is
/// over, `k` a key is needed, `n` no such server, `c` the page stays closed, and ` ` not asked.
const MATRIX: &str = "
                                       full data token any work over rotated removed wrong
DELETE /mcp/demo                       .    .    .     .   .    o    k       k       k
DELETE /mcp/demo/tail                  .    .    .     .   .    o    k       k       k
DELETE /mcp/demo@default               n    .    .     .   .    o    k       k       k
DELETE /mcp/demo@work                  .    b    b     .   .    o    k       k       k
DELETE /mcp/demo%40work                .    b    b     .   .    o    k       k       k
DELETE /mcp/other                      .    b    b     .   n    o    k       k       k
DELETE /mcp/other@work                 n    b    b     n   n    o    k       k       k
DELETE /mcp/nobody                     n    b    b     n   n    o    k       k       k
DELETE /mcp/dem%6f                     n    b    b     b   b    o    k       k       k
GET    /api/v1/servers                 .    b    .     b   .    o    k       k       k
POST   /api/v1/servers                 -    b    b     b   b    o    k       k       k
GET    /api/v1/servers/demo            .    b    .     b   .    o    k       k       k
GET    /api/v1/servers/dem%6f          .    b    b     b   b    o    k       k       k
GET    /api/v1/servers/demo%40work     .    b    b     b   .    o    k       k       k
GET    /api/v1/servers/other           .    b    b     b   n    o    k       k       k
GET    /api/v1/servers/demo/token      .    b    .     b   .    o    k       k       k
GET    /api/v1/servers/other/token     .    b    b     b   n    o    k       k       k
POST   /api/v1/servers/demo/refresh    .    b    .     b   .    o    k       k       k
POST   /api/v1/servers/other/refresh   .    b    b     b   n    o    k       k       k
GET    /api/v1/servers/demo/journal    .    b    b     b   b    o    k       k       k
POST   /api/v1/servers/demo/enable     .    b    b     b   b    o    k       k       k
POST   /api/v1/servers/demo/logout     -    b    b     b   b    o    k       k       k
POST   /api/v1/servers/demo/login      -    b    b     b   b    o    k       k       k
DELETE /api/v1/servers/demo            -    b    b     b   b    o    k       k       k
GET    /api/v1/logins/0                -    b    b     b   b    o    k       k       k
POST   /api/v1/page-link               .    b    b     b   b    o    k       k       k
GET    /api/v1/status                  .    b    b     b   b    o    k       k       k
GET    /events                         -    b    b     b   b    o    k       k       k
GET    /api/v1/keys                    .    b    b     b   b    o    k       k       k
POST   /api/v1/keys                    -    b    b     b   b    o    k       k       k
PATCH  /api/v1/keys/data               -    b    b     b   b    o    k       k       k
DELETE /api/v1/keys/data               -    b    b     b   b    o    k       k       k
POST   /api/v1/keys/data/rotate        -    b    b     b   b    o    k       k       k
POST   /api/v1/local-key/rotate        -    b    b     b   b    o    k       k       k
GET    /api/v1/key                     .    .    .     .   .    o    k       k       k
GET    /metrics                        .    b    b     b   b    o    .       .       .
GET    /                               .    c    c     c   c    c    c       c       c
GET    /healthz                        .    .    .     .   .    .    .       .       .
";

/// An answer as a letter of [`MATRIX`].
fn letter(answer: &Answer) -> char {
    if answer.status == 200 {
        return '.';
    }
    let kind = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
    match kind["type"].as_str().and_then(|kind| kind.rsplit(':').next()) {
        Some("beyond-key") => 'b',
        Some("key-over") => 'o',
        Some("key-needed") => 'k',
        Some("no-such-server") => 'n',
        None if answer.status == 403 => 'c',
        _ => '?',
    }
}

/// The forms in which a key comes with a request for `path`.
fn forms(home: &Home, method: &Method, path: &str, key: &str) -> Vec<Builder> {
    let mut forms = vec![
        home.bare(method.clone(), path).header("x-everfresh-key", key),
        home.bare(method.clone(), path).header("authorization", format!("Bearer {key}")),
    ];
    if path.starts_with("/mcp/") {
        forms.push(home.bare(method.clone(), &format!("/k/{key}{path}")));
    }
    forms
}

#[tokio::test]
async fn each_key_opens_what_it_is_for_and_nothing_else() {
    let home = home().await;
    let kinds = kinds(&home).await;
    home.clock.sleep(DAY);
    // A day later: the tokens are over as well, and are renewed for whoever may ask.
    let mut rows = MATRIX.trim_matches('\n').lines();
    let names: Vec<&str> = rows.next().unwrap().split_whitespace().collect();
    assert!(names.iter().eq(kinds.iter().map(|(name, _)| name)), "the columns are the kinds");
    for row in rows {
        let mut cells = row.split_whitespace();
        let (method, path) = (cells.next().unwrap().parse::<Method>().unwrap(), cells.next().unwrap());
        for ((name, key), expected) in kinds.iter().zip(cells) {
            for request in forms(&home, &method, path, key).into_iter().filter(|_| expected != "-") {
                let answer = send(&home, request).await;
                assert_eq!(letter(&answer).to_string(), expected, "{method} {path} with {name}: {answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_refusal_says_what_the_key_may_do_in_the_clients_own_way() {
    let home = home().await;
    let key = made(&home, wish("ci", &["other", "demo@work"], None, KeyRight::DataPlane)).await;
    let request = |path: &str, body: &'static str| {
        let request = home.bare(Method::POST, path).header("x-everfresh-key", &key);
        home.send(request.body(Full::from(body)).unwrap())
    };
    let words = "refused by policy: the key ci may only send requests to demo@work and other, not demo; ";
    let rpc = request("/mcp/demo", r#"{"jsonrpc":"2.0","id":7,"method":"tools/list"}"#).await;
    assert_eq!((rpc.status, &rpc.json()["id"], &rpc.json()["error"]["code"]), (200, &json!(7), &json!(-32001)));
    assert!(rpc.json()["error"]["message"].as_str().unwrap().starts_with(words), "{rpc:?}");
    assert_eq!(rpc.json()["error"]["data"]["reason"], "beyond_key");
    let plain = request("/mcp/demo", "hello").await.expect_problem(403, "beyond-key");
    assert!(plain["detail"].as_str().unwrap().starts_with(words), "{plain}");
    let over = NewKey { lifetime: Some(DAY), ..wish("old", &[], None, KeyRight::DataPlane) };
    let over = made(&home, over).await;
    home.clock.sleep(DAY);
    let rpc = home.bare(Method::POST, &format!("/k/{over}/mcp/demo"));
    let rpc = home.send(rpc.body(Full::from(r#"{"jsonrpc":"2.0","id":8,"method":"ping"}"#)).unwrap()).await;
    let message = rpc.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("the key old ended at ") && message.contains("key rotate old"), "{message}");
    assert_eq!(home.upstream.seen().len(), 0);
}

#[tokio::test]
async fn a_key_of_an_account_is_served_with_that_accounts_token() {
    let home = home().await;
    let token_of = async |path: &str, key: &str| {
        let answer = send(&home, home.bare(Method::DELETE, path).header("x-everfresh-key", key)).await;
        assert_eq!(answer.status, 200, "{path}");
        let seen = home.upstream.seen();
        let authorization = seen.last().unwrap().headers.iter().find(|(name, _)| name == "authorization");
        authorization.unwrap().1.clone()
    };
    let key = made(&home, wish("work", &["demo"], Some("work"), KeyRight::Tokens)).await;
    let (own, works) = (token_of("/mcp/demo", KEY).await, token_of("/mcp/demo@work", KEY).await);
    assert_ne!(own, works);
    assert_eq!(token_of("/mcp/demo", &key).await, works);
    assert_eq!(token_of("/mcp/demo@work", &key).await, works);
    let told = send(&home, home.bare(Method::GET, "/api/v1/servers/demo/token").header("x-everfresh-key", &key)).await;
    assert_eq!(format!("Bearer {}", told.json()["access_token"].as_str().unwrap()), works);
    let list = send(&home, home.bare(Method::GET, "/api/v1/servers").header("x-everfresh-key", &key)).await.json();
    let seen: Vec<&Value> = list["servers"].as_array().unwrap().iter().map(|server| &server["account"]).collect();
    assert_eq!(seen, ["work"], "{list}");
}

#[tokio::test]
async fn nobody_is_more_than_the_least_key_that_is_shown() {
    let home = home().await;
    let key = made(&home, wish("ci", &["other"], None, KeyRight::DataPlane)).await;
    let both = [
        home.keyed(Method::DELETE, "/mcp/demo").header("authorization", format!("Bearer {key}")),
        home.bare(Method::DELETE, "/mcp/demo")
            .header("x-everfresh-key", &key)
            .header("authorization", format!("Bearer {KEY}")),
        home.bare(Method::DELETE, &format!("/k/{KEY}/mcp/demo")).header("x-everfresh-key", &key),
        home.keyed(Method::DELETE, &format!("/k/{key}/mcp/demo")),
        home.keyed(Method::GET, "/api/v1/servers").header("authorization", format!("Bearer {key}")),
    ];
    for request in both {
        send(&home, request).await.expect_problem(403, "beyond-key");
    }
    let wrong = home.keyed(Method::DELETE, "/k/wrong/mcp/demo");
    send(&home, wrong).await.expect_problem(403, "key-needed");
    let origin = home.bare(Method::DELETE, "/mcp/other").header("x-everfresh-key", &key);
    let origin = origin.header("origin", "http://evil.example");
    send(&home, origin).await.expect_problem(403, "forbidden");
    assert_eq!(home.upstream.seen().len(), 0);
}

#[tokio::test]
async fn where_no_key_is_wanted_a_limited_one_limits_all_the_same() {
    let home = Home::of(Behaviour::default(), None, quick()).await;
    home.add("demo", &home.upstream.url()).await;
    home.add("other", &home.upstream.url()).await;
    let key = made(&home, wish("ci", &["other"], None, KeyRight::DataPlane)).await;
    let over = NewKey { lifetime: Some(DAY), ..wish("old", &[], None, KeyRight::DataPlane) };
    let over = made(&home, over).await;
    for path in ["/mcp/demo", "/mcp/other", "/k/anything/mcp/demo"] {
        assert_eq!(send(&home, home.bare(Method::DELETE, path)).await.status, 200, "{path}");
    }
    let other = home.bare(Method::DELETE, "/mcp/other").header("x-everfresh-key", &key);
    assert_eq!(send(&home, other).await.status, 200);
    for path in [format!("/k/{key}/mcp/demo"), "/k/anything/mcp/demo".to_owned(), "/mcp/demo".to_owned()] {
        let request = home.bare(Method::DELETE, &path).header("x-everfresh-key", &key);
        send(&home, request).await.expect_problem(403, "beyond-key");
    }
    home.clock.sleep(DAY);
    let request = home.bare(Method::DELETE, "/mcp/demo").header("x-everfresh-key", &over);
    send(&home, request).await.expect_problem(403, "key-over");
}

#[tokio::test]
async fn keys_are_made_and_changed_over_the_api() {
    let home = home().await;
    let post = async |path: &str, body: Value| home.post(path, &body).await;
    let made = post("/api/v1/keys", json!({ "name": "ci", "servers": ["demo"], "lifetime_s": 86_400 })).await;
    assert_eq!(made.status, 201, "{made:?}");
    let secret = made.json()["secret"].as_str().unwrap().to_owned();
    canary::keep(&secret);
    let key = &made.json()["key"];
    assert_eq!((&key["name"], &key["right"], &key["servers"]), (&json!("ci"), &json!("data_plane"), &json!(["demo"])));
    post("/api/v1/keys", json!({ "name": "ci" })).await.expect_problem(409, "name-taken");
    post("/api/v1/keys", json!({ "name": "x", "servers": ["nobody"] })).await.expect_problem(404, "no-such-server");
    let contradiction = json!({ "name": "x", "servers": ["demo@home"], "account": "work" });
    post("/api/v1/keys", contradiction).await.expect_problem(422, "invalid");
    for wrong in [json!({ "name": "No Name" }), json!({ "name": "x", "right": "all" }), json!({ "name": "x", "y": 1 })]
    {
        post("/api/v1/keys", wrong).await.expect_problem(422, "invalid");
    }
    let use_it = async |key: &str| send(&home, home.bare(Method::DELETE, &format!("/k/{key}/mcp/demo"))).await.status;
    assert!(home.get("/api/v1/keys").await.json()["keys"][0]["last_used_at"].is_null());
    assert_eq!(use_it(&secret).await, 200);
    let list = home.get("/api/v1/keys").await.json();
    assert!(list["keys"][0]["last_used_at"].is_string() && list["keys"][0]["expired"] == false, "{list}");
    let rotated = post("/api/v1/keys/ci/rotate", json!({})).await.json();
    let newer = rotated["secret"].as_str().unwrap().to_owned();
    canary::keep(&newer);
    assert_eq!((use_it(&secret).await, use_it(&newer).await), (403, 200));
    let replaced = post("/api/v1/keys", json!({ "name": "ci", "servers": ["other"], "replace": true })).await;
    canary::keep(replaced.json()["secret"].as_str().unwrap());
    assert_eq!((replaced.status, use_it(&newer).await), (201, 403));
    assert_eq!(home.get("/api/v1/keys").await.json()["keys"].as_array().unwrap().len(), 1);
    assert_eq!(send(&home, home.keyed(Method::DELETE, "/api/v1/keys/ci")).await.status, 204);
    send(&home, home.keyed(Method::DELETE, "/api/v1/keys/ci")).await.expect_problem(404, "no-such-key");
    post("/api/v1/keys/No%20Name/rotate", json!({})).await.expect_problem(404, "no-such-key");
    assert_eq!(home.get("/api/v1/keys").await.json()["keys"], json!([]));
}

#[tokio::test]
async fn a_key_is_opened_and_shut_with_its_secret_and_for_its_holder() {
    let home = home().await;
    let holder = json!({ "client": "cursor", "file": "/u/.cursor/mcp.json" });
    let wish = json!({ "name": "cursor", "servers": ["demo"], "holder": holder });
    let made = home.post("/api/v1/keys", &wish).await.json();
    let secret = made["secret"].as_str().unwrap().to_owned();
    canary::keep(&secret);
    assert_eq!(made["key"]["holder"], holder);
    assert_eq!(made["key"]["fingerprint"], json!(Secret::new(&secret).fingerprint()));
    let change = async |servers: Value| {
        let request = home.keyed(Method::PATCH, "/api/v1/keys/cursor").header("content-type", "application/json");
        home.send(request.body(Full::from(json!({ "servers": servers }).to_string())).unwrap()).await
    };
    let opens =
        async |path: &str| send(&home, home.bare(Method::DELETE, path).header("x-everfresh-key", &secret)).await.status;
    assert_eq!((opens("/mcp/demo").await, opens("/mcp/other").await), (200, 403));
    assert_eq!(change(json!(["demo", "other"])).await.json()["servers"], json!(["demo", "other"]));
    assert_eq!((opens("/mcp/demo").await, opens("/mcp/other").await), (200, 200));
    change(json!([])).await.expect_problem(422, "invalid");
    change(json!(["demo", "nobody"])).await.expect_problem(404, "no-such-server");
    // What it opened already may be gone meanwhile.
    assert_eq!(send(&home, home.keyed(Method::DELETE, "/api/v1/servers/other")).await.status, 204);
    assert_eq!(change(json!(["other"])).await.status, 200);
    assert_eq!(opens("/mcp/demo").await, 403);
    let own = send(&home, home.bare(Method::GET, "/api/v1/key").header("x-everfresh-key", &secret)).await.json();
    assert_eq!((&own["key"]["name"], &own["key"]["holder"]), (&json!("cursor"), &Value::Null), "{own}");
    let listed = home.get("/api/v1/keys").await.json();
    assert!(listed["keys"][0]["last_used_at"].is_string() && listed["keys"][0]["holder"] == holder, "{listed}");
    let everything = json!({ "name": "x", "holder": holder });
    home.post("/api/v1/keys", &everything).await.expect_problem(422, "invalid");
    let wrong = json!({ "name": "x", "servers": ["demo"], "holder": { "client": "a\u{1b}", "file": "b" } });
    home.post("/api/v1/keys", &wrong).await.expect_problem(422, "invalid");
}

#[tokio::test]
async fn the_page_neither_sees_nor_changes_keys() {
    let home = home().await;
    let opened = home.open_page().await;
    for (method, path) in
        [(Method::GET, "/api/v1/keys"), (Method::POST, "/api/v1/keys"), (Method::POST, "/api/v1/local-key/rotate")]
    {
        let request = home.by_page(&opened, method, path).header("sec-fetch-site", "same-origin");
        send(&home, request).await.expect_problem(403, "key-needed");
    }
}

#[tokio::test]
async fn another_local_key_is_in_force_at_once_and_ends_what_the_one_before_had_opened() {
    let home = home().await;
    let limited = made(&home, wish("ci", &["demo"], None, KeyRight::DataPlane)).await;
    let mut events = crate::events::listen(&home, None).await;
    assert_eq!(events.next().await.name, "snapshot");
    let new = home.post("/api/v1/local-key/rotate", &json!({})).await.json()["secret"].as_str().unwrap().to_owned();
    canary::keep(&new);
    assert_eq!(new.len(), 64);
    for request in [home.keyed(Method::DELETE, "/mcp/demo"), home.keyed(Method::GET, "/api/v1/servers")] {
        send(&home, request).await.expect_problem(403, "key-needed");
    }
    for path in ["/mcp/demo", "/mcp/other"] {
        let request = home.bare(Method::DELETE, path).header("x-everfresh-key", &new);
        assert_eq!(send(&home, request).await.status, 200, "{path}");
    }
    let request = home.bare(Method::DELETE, "/mcp/demo").header("x-everfresh-key", &limited);
    assert_eq!(send(&home, request).await.status, 200, "limited keys have secrets of their own");
    // The next thing that happens is not told to whoever came with the key before.
    home.application.set_enabled(&"other".parse().unwrap(), false).await.unwrap();
    assert!(events.is_over().await);
}

#[tokio::test]
async fn there_are_only_so_many_keys() {
    let home = Home::start().await;
    for number in 0..everfresh_application::keys::KEYS_MAX {
        made(&home, wish(&format!("key-{number}"), &[], None, KeyRight::DataPlane)).await;
    }
    let more = home.guard.keys().add(wish("more", &[], None, KeyRight::DataPlane)).await;
    assert!(matches!(more, Err(KeyError::TooMany)), "{more:?}");
    assert_eq!(send(&home, home.keyed(Method::GET, "/api/v1/keys")).await.status, 200);
}
