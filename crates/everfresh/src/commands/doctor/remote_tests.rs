//! What is made of answers from elsewhere.

use serde_json::json;

use super::super::report::Verdict;
use super::*;

fn now() -> Timestamp {
    "2026-11-23T14:00:00Z".parse().unwrap()
}

fn discovered(registers: bool) -> Discovered {
    Discovered {
        issuer: "https://as.example".to_owned(),
        authorization_endpoint: String::new(),
        token_endpoint: String::new(),
        registration_endpoint: registers.then(|| "https://as.example/register".to_owned()),
        device_authorization_endpoint: None,
        revocation_endpoint: None,
        grant_profiles: Vec::new(),
        token_endpoint_auth_methods: Vec::new(),
        scopes_supported: Vec::new(),
        client_id_metadata_documents: false,
        iss_in_responses: false,
        resource: None,
        resource_scopes: Vec::new(),
        dpop: everfresh_application::ports::DpopOffer::default(),
        challenge: everfresh_application::ports::Challenge::default(),
    }
}

#[test]
fn a_status_says_whether_the_token_is_taken() {
    let cases = [
        (200, Verdict::Ok),
        (405, Verdict::Ok),
        (401, Verdict::Failed),
        (403, Verdict::Warning),
        (502, Verdict::Warning),
    ];
    for (status, verdict) in cases {
        assert_eq!(judged(StatusCode::from_u16(status).unwrap(), "a").result, verdict, "{status}");
    }
}

#[test]
fn no_call_is_made_that_could_spend_a_refresh_token() {
    let token = |kind: &str, ends: Value| json!({ "type": kind, "expires_at": ends });
    assert!(unusable(&Value::Null, now()).is_some());
    assert!(unusable(&token("Bearer", json!("2026-11-23T13:59:59Z")), now()).is_some());
    assert!(unusable(&token("Bearer", json!("2026-11-23T14:00:20Z")), now()).is_some());
    assert!(unusable(&token("DPoP", json!("2026-11-23T15:00:00Z")), now()).is_some());
    assert_eq!(unusable(&token("Bearer", json!("2026-11-23T15:00:00Z")), now()), None);
    assert_eq!(unusable(&token("bearer", json!(null)), now()), None);
}

#[test]
fn a_client_is_known_will_be_or_must_be_made_by_hand() {
    let settings = ServerSettings::new("a".parse().unwrap(), "https://a.example");
    let server = |token: Value, reason: &str| json!({ "name": "a", "account": "default", "token": token, "health": { "reason": reason } });
    let nobody = server(json!(null), "login_required");
    assert_eq!(client(&settings, &discovered(true), &nobody).result, Verdict::Ok);
    assert_eq!(client(&settings, &discovered(false), &nobody).result, Verdict::Warning);
    let forgotten = server(json!(null), "client_rejected");
    assert_eq!(client(&settings, &discovered(true), &forgotten).result, Verdict::Failed);
    assert_eq!(client(&settings, &discovered(false), &server(json!({}), "ok")).result, Verdict::Ok);
    let mut by_hand = settings;
    by_hand.oauth.client_id = Some("abc".to_owned());
    assert!(client(&by_hand, &discovered(false), &nobody).found.contains("abc"));
}

#[test]
fn a_login_is_told_in_the_words_of_list_with_the_command_that_helps() {
    let server = |level: &str, state: &str, command: Value| {
        json!({ "name": "a", "account": "default", "token": null, "health": {
            "level": level, "admin_state": state, "summary": "S", "detail": "", "command": command, "action": "", "reason": "",
        } })
    };
    let cases = [
        ("healthy", "enabled", Verdict::Ok),
        ("degraded", "enabled", Verdict::Warning),
        ("unhealthy", "enabled", Verdict::Failed),
        ("healthy", "disabled", Verdict::Skipped),
    ];
    for (level, state, verdict) in cases {
        assert_eq!(login(&server(level, state, json!("everfresh login a"))).result, verdict, "{level} {state}");
    }
}

#[test]
fn a_certificate_file_that_cannot_be_used_is_named() {
    let mut settings = ServerSettings::new("a".parse().unwrap(), "https://a.example");
    assert!(certificates(&settings).is_none());
    settings.ca_file = Some("/no/such/ca.pem".into());
    let missing = certificates(&settings).unwrap();
    assert!(missing.result == Verdict::Failed && missing.found.contains("/no/such/ca.pem"), "{missing:?}");
}

#[tokio::test]
async fn a_token_endpoint_where_nobody_listens_is_found() {
    let settings = ServerSettings::new("a".parse().unwrap(), "https://a.example");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/token", taken.local_addr().unwrap());
    assert_eq!(Outside::new(&settings).token_endpoint(&url).await.result, Verdict::Ok);
    drop(taken);
    let gone = Outside::new(&settings).token_endpoint(&url).await;
    assert!(gone.result == Verdict::Failed && gone.found.contains(&url), "{gone:?}");
}

#[tokio::test]
async fn a_check_without_an_end_is_ended_and_told() {
    let (checks, ahead) = within(Duration::ZERO, Kind::Upstream, std::future::pending()).await;
    assert!(checks[0].result == Verdict::Failed && checks[0].found.contains("no end within"), "{checks:?}");
    assert_eq!(ahead, None);
}
