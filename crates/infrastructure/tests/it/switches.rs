//! Every switch of the model, set over HTTP, and what everfresh makes of it.
//!
//! The story is always the same: somebody logs in, two refreshes are asked for, somebody logs in
//! again. What the protected server does wrong (`upstream`) is the data plane's to meet, and stands
//! in presentation's own tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use everfresh_application::{Application, OAuthSettings, RefreshOutcome, ServerSettings};
use everfresh_domain::login::LoginOutcome;
use everfresh_domain::{FailureClass, GrantStatus};
use everfresh_infrastructure::oauth::HttpOAuth;
use everfresh_testkit::mcp::McpServer;
use everfresh_testkit::memory::MemoryStore;
use everfresh_testkit::provider::{Model, ProviderServer, Switches};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::providers::{REDIRECT, application, grant, log_in, oauth};

/// When the switches are set.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// Before the first login.
    Before,
    /// Between the login and the refreshes.
    After,
    /// The same, and every login that was made ends.
    AfterTheEnd,
}

use When::{After, AfterTheEnd, Before};

/// One provider: when which switches are set, and what everfresh makes of the first login, of the
/// two refreshes, and of the second login.
type Case = (When, Value, [&'static str; 4]);

const IN: &str = "logged in";
const NEW: &str = "3600 s, new refresh token";
const SAME: &str = "3600 s, same refresh token";
const ENDLESS: &str = "no end known, new refresh token";
const WRONG_ISSUER: &str = "{issuer}/.well-known/openid-configuration is refused: it speaks for the issuer \
                            \"https://other.example\", and \"{issuer}\" was asked";
const DOWN: &str = "{issuer}/.well-known/openid-configuration cannot be reached: it answered 503";
const LOST_SIGHT: &str = "retrying_provider: the provider answered 404 with an empty body; the token endpoint may have \
                          moved, and where to is not found ({issuer}/.well-known/openid-configuration cannot be \
                          reached: it answered 503); `everfresh login linear` looks anew";
const OTHERS_WORD: &str = "retrying_provider: the provider answered 404 with an empty body; the token endpoint may have \
                           moved, and where to is not found ({issuer}/.well-known/openid-configuration is refused: it \
                           speaks for the issuer \"https://other.example\", and \"{issuer}\" was asked); `everfresh login \
                           linear` looks anew";
const BROKE: &str = "retrying_network: the answer was lost: connection closed before message completed";
const SILENT: &str = "retrying_network: no answer within 10 s";
const LOST: &str = "rotation_lost: the provider answered 400 with the error invalid_grant";
const OUT: &str = "login_required, not tried";
const DEAD: &str = "refresh_token_rejected, not tried";
const TOO_LONG: &str = "retrying_provider: the provider answered 200 with more than an answer may have";
const NO_JSON: &str =
    "retrying_provider: the provider answered 400 with something that is no JSON; proxy or captive portal?";
const FORGOTTEN: &str = "Failed { message: \"the provider does not know this client any more (invalid_client); \
                         the next login registers a new one\" }";
const NO_RESOURCE: &str =
    "Failed { message: \"the provider does not know this server as a resource; set oauth.resource\" }";
const NOT_REGISTERED: &str = "{issuer} refused to register this client: invalid_redirect_uri";

/// Forms of good answers.
fn answers() -> Vec<Case> {
    vec![
        (Before, json!({}), [IN, NEW, NEW, IN]),
        (Before, json!({ "refresh_token": "omitted" }), [IN, SAME, SAME, IN]),
        (After, json!({ "refresh_token": "omitted" }), [IN, SAME, SAME, IN]),
        (After, json!({ "refresh_token": "null" }), [IN, SAME, SAME, IN]),
        (After, json!({ "refresh_token": "empty" }), [IN, SAME, SAME, IN]),
        (Before, json!({ "expires_in": "absent" }), [IN, ENDLESS, ENDLESS, IN]),
        (Before, json!({ "expires_in": "zero" }), [IN, ENDLESS, ENDLESS, IN]),
        (Before, json!({ "expires_in": "text" }), [IN, NEW, NEW, IN]),
        (Before, json!({ "expires_in": "float" }), [IN, NEW, NEW, IN]),
        (Before, json!({ "expires_in": "negative" }), [IN, ENDLESS, ENDLESS, IN]),
        (Before, json!({ "expires_in": "huge" }), [IN, ENDLESS, ENDLESS, IN]),
        (
            Before,
            json!({ "expires_in": "milliseconds" }),
            [IN, "3600000 s, new refresh token", "3600000 s, new refresh token", IN],
        ),
        (
            Before,
            json!({ "refresh_token_expires_in": 86_400 }),
            [IN, "3600 s, new refresh token of 86400 s", "3600 s, new refresh token of 86400 s", IN],
        ),
        (
            Before,
            json!({ "refresh_token_expires_in": 86_400, "refresh_expiry_member": "refresh_expires_in" }),
            [IN, "3600 s, new refresh token of 86400 s", "3600 s, new refresh token of 86400 s", IN],
        ),
        (Before, json!({ "form_encoded": true }), [IN, NEW, NEW, IN]),
        (
            After,
            json!({ "scope_told": "read" }),
            [IN, "3600 s, new refresh token, scope_reduced", "3600 s, new refresh token, scope_reduced", IN],
        ),
        (Before, json!({ "success_status": 201 }), [IN, NEW, NEW, IN]),
        (Before, json!({ "delay_ms": 50 }), [IN, NEW, NEW, IN]),
        (
            After,
            json!({ "clock_ahead_s": 7_200 }),
            [IN, "3600 s, new refresh token, clock_skew", "3600 s, new refresh token, clock_skew", IN],
        ),
    ]
}

/// What a provider demands of requests.
fn demands() -> Vec<Case> {
    vec![
        (Before, json!({ "resource": "required" }), [IN, NEW, NEW, IN]),
        (Before, json!({ "resource": "rejected" }), [NO_RESOURCE, OUT, OUT, NO_RESOURCE]),
        (
            After,
            json!({ "resource": "rejected" }),
            [IN, "retrying_provider: the provider answered 400 with the error invalid_target", NEW, NO_RESOURCE],
        ),
        (
            Before,
            json!({ "require_scope": true }),
            [IN, "retrying_provider: the provider answered 400 with the error invalid_scope", NEW, IN],
        ),
        (Before, json!({ "auth": "basic" }), [IN, NEW, NEW, IN]),
        (Before, json!({ "auth": "post" }), [IN, NEW, NEW, IN]),
        (
            Before,
            json!({ "auth": "basic", "client_secret_lifetime_s": 86_400 }),
            [
                IN,
                "3600 s, new refresh token, client_secret_expiring",
                "3600 s, new refresh token, client_secret_expiring",
                IN,
            ],
        ),
        (Before, json!({ "refuses_new_redirects": true }), [NOT_REGISTERED, OUT, OUT, NOT_REGISTERED]),
    ]
}

/// What comes instead of an answer, once.
fn faults() -> Vec<Case> {
    vec![
        (
            After,
            json!({ "fault": { "kind": "error", "status": 400, "error": "temporarily_unavailable" } }),
            [
                IN,
                "retrying_provider: the provider answered 400 with the error temporarily_unavailable",
                "retrying_provider: the provider answered 400 with the error temporarily_unavailable",
                "Failed { message: \"the provider refused the code: temporarily_unavailable\" }",
            ],
        ),
        (
            After,
            json!({ "fault": { "kind": "error", "status": 400, "error": "invalid_client" } }),
            [
                IN,
                "retrying_provider: the provider answered 400 with the error invalid_client",
                "client_rejected: the provider answered 400 with the error invalid_client",
                FORGOTTEN,
            ],
        ),
        (
            After,
            json!({ "fault": { "kind": "error", "status": 503, "error": "server_error" }, "fault_count": 1 }),
            [IN, "retrying_provider: the provider answered 503 with the error server_error", NEW, IN],
        ),
        (
            After,
            json!({ "fault": { "kind": "status", "status": 429, "body": "", "retry_after": "60" }, "fault_count": 1 }),
            [IN, "rate_limited: the provider answered 429 and asks for a pause", NEW, IN],
        ),
        (
            After,
            json!({ "fault": { "kind": "portal" }, "fault_count": 1 }),
            [IN, "retrying_provider: the provider answered with a redirect (302); proxy or captive portal?", NEW, IN],
        ),
        (
            After,
            json!({ "fault": { "kind": "html" }, "fault_count": 1 }),
            [
                IN,
                "retrying_provider: the provider answered 200 with something that is no JSON; proxy or captive portal?",
                NEW,
                IN,
            ],
        ),
        (
            After,
            json!({ "fault": { "kind": "wrong_types" }, "fault_count": 1 }),
            [IN, "retrying_provider: the provider answered 200 without an access token", NEW, IN],
        ),
        (After, json!({ "fault": { "kind": "huge" }, "fault_count": 1 }), [IN, TOO_LONG, NEW, IN]),
        (After, json!({ "fault": { "kind": "endless" }, "fault_count": 1 }), [IN, TOO_LONG, NEW, IN]),
        (After, json!({ "fault": { "kind": "hang" }, "fault_count": 1 }), [IN, SILENT, NEW, IN]),
        (After, json!({ "fault": { "kind": "close_before" }, "fault_count": 1 }), [IN, BROKE, NEW, IN]),
        (After, json!({ "fault": { "kind": "close_after" }, "fault_count": 1 }), [IN, BROKE, LOST, IN]),
        (After, json!({ "fault": { "kind": "half_answer" }, "fault_count": 1 }), [IN, SILENT, LOST, IN]),
        (After, json!({ "fault": { "kind": "half_closed" }, "fault_count": 1 }), [IN, BROKE, LOST, IN]),
        (After, json!({ "fault": { "kind": "hang_after" }, "fault_count": 1 }), [IN, SILENT, LOST, IN]),
        (
            After,
            json!({ "fault": { "kind": "reset" }, "fault_count": 1 }),
            [IN, "retrying_network: the answer was lost: Connection reset by peer (os error 104)", NEW, IN],
        ),
    ]
}

fn dead(status: u16, body: &str) -> Value {
    json!({ "dead_token": { "status": status, "body": body } })
}

/// The words in which a dead refresh token is refused.
fn refusals() -> Vec<Case> {
    vec![
        (
            AfterTheEnd,
            dead(400, r#"{"error":"invalid_grant"}"#),
            [IN, "refresh_token_rejected: the provider answered 400 with the error invalid_grant", DEAD, IN],
        ),
        (
            AfterTheEnd,
            dead(200, r#"{"error":"bad_refresh_token"}"#),
            [IN, "refresh_token_rejected: the provider answered 200 with the error bad_refresh_token", DEAD, IN],
        ),
        (
            AfterTheEnd,
            dead(200, r#"{"ok":false,"error":"invalid_refresh_token"}"#),
            [IN, "refresh_token_rejected: the provider answered 200 with the error invalid_refresh_token", DEAD, IN],
        ),
        (
            AfterTheEnd,
            dead(401, r#"{"error":"invalid_grant"}"#),
            [IN, "refresh_token_rejected: the provider answered 401 with the error invalid_grant", DEAD, IN],
        ),
        (
            AfterTheEnd,
            dead(403, r#"{"error":"unauthorized_client","error_description":"refresh_token is invalid"}"#),
            [IN, "refresh_token_rejected: the provider answered 403 with the error unauthorized_client", DEAD, IN],
        ),
        (
            AfterTheEnd,
            dead(400, r#"{"error":"invalid_request"}"#),
            [
                IN,
                "retrying_provider: the provider answered 400 with the error invalid_request",
                "retrying_provider: the provider answered 400 with the error invalid_request",
                IN,
            ],
        ),
        (AfterTheEnd, dead(400, r#"The refresh token is invalid or expired."#), [IN, NO_JSON, NO_JSON, IN]),
    ]
}

/// What the metadata says, before and after the login.
fn metadata() -> Vec<Case> {
    vec![
        (Before, json!({ "metadata_down": true }), [DOWN, OUT, OUT, DOWN]),
        (After, json!({ "metadata_down": true }), [IN, NEW, NEW, DOWN]),
        (Before, json!({ "issuer_told": "https://other.example" }), [WRONG_ISSUER, OUT, OUT, WRONG_ISSUER]),
        (After, json!({ "issuer_told": "https://other.example" }), [IN, NEW, NEW, WRONG_ISSUER]),
        (
            Before,
            json!({ "token_endpoint_told": "{issuer}/oauth/token", "old_token_endpoint_gone": true }),
            [IN, NEW, NEW, IN],
        ),
        (After, json!({ "token_endpoint_told": "{issuer}/oauth/token" }), [IN, NEW, NEW, IN]),
        (
            After,
            json!({ "token_endpoint_told": "{issuer}/oauth/token", "old_token_endpoint_gone": true }),
            [
                IN,
                "retrying_provider: the provider answered 404 with an empty body; the provider's metadata names another \
                 token endpoint, which is next",
                NEW,
                IN,
            ],
        ),
        (After, json!({ "metadata_down": true, "old_token_endpoint_gone": true }), [IN, LOST_SIGHT, LOST_SIGHT, DOWN]),
        (
            After,
            json!({ "issuer_told": "https://other.example", "token_endpoint_told": "{issuer}/oauth/token",
                "old_token_endpoint_gone": true }),
            [IN, OTHERS_WORD, OTHERS_WORD, WRONG_ISSUER],
        ),
    ]
}

fn cases() -> Vec<Case> {
    [answers(), demands(), faults(), refusals(), metadata()].concat()
}

async fn admin(provider: &ProviderServer, method: reqwest::Method, what: &str, body: &str) -> (u16, String) {
    drop(rustls::crypto::ring::default_provider().install_default());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.request(method, format!("{}/admin/{what}", provider.url())).body(body.to_owned());
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn put(provider: &ProviderServer, switches: &Value) {
    let body = switches.to_string().replace("{issuer}", provider.url());
    assert_eq!(admin(provider, reqwest::Method::PUT, "switches", &body).await, (204, String::new()), "{body}");
}

/// What a login came to.
async fn logging_in(app: &Application, provider: &ProviderServer) -> String {
    let said = match log_in(app, provider).await {
        Ok(LoginOutcome::Succeeded) => IN.to_owned(),
        Ok(outcome) => format!("{outcome:?}"),
        Err(error) => error.to_string(),
    };
    said.replace(provider.url(), "{issuer}")
}

/// The outcome of an attempt. One that everfresh's own limit held back was none, and is asked for again.
async fn attempt(app: &Application) -> RefreshOutcome {
    let asking = async {
        loop {
            let outcome = app.refresh(&grant()).await.unwrap();
            let (RefreshOutcome::Refreshed(status)
            | RefreshOutcome::Failed(status)
            | RefreshOutcome::NotPossible(status)) = &outcome;
            let last = status.last_failure.as_ref().map(|last| last.failure.class);
            if last != Some(FailureClass::HeldBack) {
                return outcome;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asking).await.unwrap()
}

/// What a refresh came to.
async fn refreshing(app: &Application, store: &MemoryStore) -> String {
    let token = |store: &MemoryStore| {
        let tokens = store.on_disk(&grant())?.tokens?;
        tokens.refresh_token.map(|token| token.expose().to_owned())
    };
    let before = token(store);
    match attempt(app).await {
        RefreshOutcome::Refreshed(status) => refreshed(app, &status, before == token(store)),
        RefreshOutcome::Failed(status) => {
            assert_eq!(before, token(store), "no failure touches the refresh token");
            let failure = status.last_failure.as_ref().map(|last| last.failure.message.clone()).unwrap_or_default();
            format!("{}: {failure}", reason(app, &status))
        }
        RefreshOutcome::NotPossible(status) => format!("{}, not tried", reason(app, &status)),
    }
}

fn refreshed(app: &Application, status: &GrantStatus, same: bool) -> String {
    let tokens = status.tokens.as_ref().unwrap();
    let lifetime =
        tokens.lifetime.map_or_else(|| "no end known".to_owned(), |lifetime| format!("{} s", lifetime.as_secs()));
    let kept = if same { "same" } else { "new" };
    let ends = tokens.refresh_token_lifetime.map_or(String::new(), |life| format!(" of {} s", life.as_secs()));
    let noted = match reason(app, status) {
        "ok" => String::new(),
        reason => format!(", {reason}"),
    };
    format!("{lifetime}, {kept} refresh token{ends}{noted}")
}

fn reason(app: &Application, status: &GrantStatus) -> &'static str {
    status.health(app.now(), &app.policy()).reason.as_str()
}

/// Acts the story out.
async fn story(oauth: &Arc<HttpOAuth>, case: &Case) -> [String; 4] {
    let (when, switches, _) = case;
    let provider = ProviderServer::start(Model::default()).await.unwrap();
    let upstream = McpServer::start(&provider).await.unwrap();
    let store = MemoryStore::default();
    let app = application(oauth, &store, REDIRECT).await;
    let asked = OAuthSettings { scopes: vec!["read".into(), "write".into()], ..OAuthSettings::default() };
    let settings = ServerSettings { oauth: asked, ..ServerSettings::new(grant().server, upstream.url()) };
    if switches["refuses_new_redirects"] == true {
        // Somebody else was here first.
        let other = application(oauth, &MemoryStore::default(), "http://127.0.0.1:1/other").await;
        other.add_server(settings.clone()).await.unwrap();
        other.start_login(&grant(), None).await.unwrap();
    }
    app.add_server(settings).await.unwrap();
    if *when == Before {
        put(&provider, switches).await;
    }
    let first = logging_in(&app, &provider).await;
    if *when != Before {
        put(&provider, switches).await;
    }
    if *when == AfterTheEnd {
        assert_eq!(admin(&provider, reqwest::Method::POST, "revoke-all", "").await.0, 204);
    }
    let refreshes = [refreshing(&app, &store).await, refreshing(&app, &store).await];
    let again = logging_in(&app, &provider).await;
    app.shutdown().await;
    let [one, two] = refreshes.map(|told| told.replace(provider.url(), "{issuer}"));
    [first, one, two, again]
}

#[tokio::test]
async fn what_everfresh_makes_of_every_switch() {
    let (oauth, cases) = (oauth(), cases());
    let told = join_all(cases.iter().map(|case| story(&oauth, case))).await;
    let differ: Vec<String> = cases
        .iter()
        .zip(&told)
        .filter(|((_, _, expected), told)| expected != *told)
        .map(|((_, switches, _), told)| format!("{switches} {told:?}"))
        .collect();
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

/// The names that the admin endpoint knows where it is told one that it does not.
async fn variants(provider: &ProviderServer, switch: &str) -> Vec<String> {
    for nonsense in [json!("nonsense"), json!({ "kind": "nonsense" })] {
        let body = json!({ switch: nonsense }).to_string();
        let (status, words) = admin(provider, reqwest::Method::PUT, "switches", &body).await;
        if let (400, Some((_, names))) = (status, words.split_once("expected one of ")) {
            return names.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        }
    }
    Vec::new()
}

/// How a value of a switch is called: the variant, where it is one of an enumeration.
fn called(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value["kind"].as_str()).map(str::to_owned)
}

#[tokio::test]
async fn no_switch_and_no_way_of_setting_one_is_left_out() {
    let provider = ProviderServer::start(Model::default()).await.unwrap();
    let mut met: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (_, switches, _) in cases() {
        for (switch, value) in switches.as_object().into_iter().flatten() {
            met.entry(switch.clone()).or_default().extend(called(value));
        }
    }
    let defaults = json!(Switches::default());
    // Bound tokens have a story of their own, in `dpop.rs`; so have profiled providers, in `providers.rs`,
    // and grants and clients that need no person, in `unattended.rs`.
    let mut elsewhere = vec!["upstream", "dpop", "offline_access", "hides_auth", "refresh_token_params"];
    elsewhere.extend(["gives_refresh_token_unasked", "grant_profiles"]);
    met.entry("auth".into()).or_default().insert("private_key_jwt".into());
    for (switch, default) in defaults.as_object().unwrap() {
        if elsewhere.contains(&switch.as_str()) {
            continue;
        }
        let met = met.get(switch).unwrap_or_else(|| panic!("no case sets {switch}"));
        for variant in variants(&provider, switch).await {
            let is_default = called(default).as_ref() == Some(&variant);
            assert!(is_default || met.contains(&variant), "no case sets {switch} to {variant}");
        }
    }
    assert!(variants(&provider, "fault").await.len() > 10, "the names are read from the answer");
}

#[tokio::test]
async fn the_admin_endpoint_shows_changes_and_explains_refusals() {
    use reqwest::Method;

    let provider = ProviderServer::start(Model::default()).await.unwrap();
    let shown = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    for (broken, words) in [("{", "EOF"), (r#"{"delay_ms":"soon"}"#, "invalid type"), (r#"{"fault":7}"#, "fault")] {
        let (status, said) = admin(&provider, Method::PUT, "switches", broken).await;
        assert_eq!(status, 400, "{broken}: {said}");
        assert!(said.contains(words) || words == "fault", "{broken}: {said}");
        let (_, switches) = admin(&provider, Method::GET, "switches", "").await;
        assert_eq!(shown(&switches), json!(Switches::default()), "{broken} changed something");
    }
    put(&provider, &json!({ "delay_ms": 5, "fault": { "kind": "reset" }, "fault_count": 1 })).await;
    let (status, switches) = admin(&provider, Method::GET, "switches", "").await;
    assert_eq!((status, &shown(&switches)["delay_ms"]), (200, &json!(5)), "a fault does not lock the endpoint out");
    let (status, behaviour) = admin(&provider, Method::GET, "behaviour", "").await;
    assert_eq!(status, 200);
    let mut behaviour = shown(&behaviour);
    behaviour["kills_old_access_tokens"] = json!(true);
    assert_eq!(admin(&provider, Method::PUT, "behaviour", &behaviour.to_string()).await.0, 204);
    assert!(provider.with(|model| model.behaviour.kills_old_access_tokens));
    assert_eq!(admin(&provider, Method::PUT, "behaviour", "{}").await.0, 400);
    for post in ["revoke-all", "expire-access-tokens", "forget-clients"] {
        assert_eq!(admin(&provider, Method::POST, post, "").await.0, 204, "{post}");
    }
    let (status, counters) = admin(&provider, Method::GET, "counters", "").await;
    assert_eq!((status, shown(&counters)["token_requests"].as_u64()), (200, Some(0)));
    for (method, what) in [(Method::DELETE, "switches"), (Method::POST, "nonsense"), (Method::GET, "revoke-all")] {
        assert_eq!(admin(&provider, method, what, "").await.0, 404, "{what}");
    }
}
