//! What was met in the field: open streams, null for empty, slashes, and proxies in the own network.

use std::sync::Arc;

use everfresh_application::ServerSettings;
use everfresh_application::ports::{Challenge, DiscoveryError, OAuthClient, OAuthDiscovery, RegistrationError};
use everfresh_domain::grant::Binding;
use everfresh_domain::{FailureClass, Secret};
use everfresh_infrastructure::http::HttpFactory;
use everfresh_infrastructure::oauth::HttpOAuth;
use everfresh_infrastructure::system::{SystemClock, SystemEntropy};
use everfresh_testkit::canary;
use everfresh_testkit::contract::store::binding;

use crate::raw::{Raw, Reply};

const RFC8414: &str = "/.well-known/oauth-authorization-server";
const RFC9728: &str = "/.well-known/oauth-protected-resource/mcp";

fn oauth() -> HttpOAuth {
    canary::watch_logs();
    drop(rustls::crypto::ring::default_provider().install_default());
    HttpOAuth::new(HttpFactory::new(), Arc::new(SystemClock::default()), Arc::new(SystemEntropy))
}

fn server(url: &str) -> ServerSettings {
    ServerSettings::new("linear".parse().unwrap(), url)
}

fn metadata(origin: &str, issuer: &str, more: &str) -> Reply {
    Reply::json(&format!(
        r#"{{"issuer":"{issuer}","authorization_endpoint":"{origin}/a","token_endpoint":"{origin}/t",
           "code_challenge_methods_supported":["S256"]{more}}}"#
    ))
}

#[tokio::test]
async fn an_upstream_that_answers_with_an_open_stream_asks_for_no_login() {
    let raw = Raw::start().await;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n: hello\n\n";
    raw.at("/mcp", Reply::Stall(head.as_bytes().to_vec()));
    let error = oauth().discover(&server(&format!("{}/mcp", raw.origin)), None).await.unwrap_err();
    assert!(matches!(&error, DiscoveryError::NotProtected { .. }), "{error}");
}

#[tokio::test]
async fn a_challenge_with_foreign_letters_is_read() {
    let raw = Raw::start().await;
    let origin = raw.origin.clone();
    let challenge = format!(
        "www-authenticate: DPoP algs=\"ES256\"\r\nwww-authenticate: Bearer error_description=\"ungültig\", \
         resource_metadata=\"{origin}/custom\"\r\n"
    );
    raw.at("/mcp", Reply::http("401 Unauthorized", &challenge, ""))
        .at("/custom", Reply::json(&format!(r#"{{"resource":"{origin}","authorization_servers":["{origin}"]}}"#)))
        .at(RFC8414, metadata(&origin, &origin, ""));
    oauth().discover(&server(&format!("{origin}/mcp")), None).await.unwrap();
    assert_eq!(raw.paths(), ["/mcp", "/custom", RFC8414]);
}

#[tokio::test]
async fn null_for_an_empty_list_hides_no_document() {
    let raw = Raw::start().await;
    let origin = raw.origin.clone();
    let resource =
        format!(r#"{{"resource":"{origin}/mcp","authorization_servers":["{origin}/as"],"scopes_supported":null}}"#);
    raw.at(RFC9728, Reply::json(&resource)).at(
        &format!("{RFC8414}/as"),
        metadata(
            &origin,
            &format!("{origin}/as"),
            r#","scopes_supported":null,"token_endpoint_auth_methods_supported":null"#,
        ),
    );
    let found = oauth().discover(&server(&format!("{origin}/mcp")), Some(Challenge::default())).await.unwrap();
    assert_eq!(found.issuer, format!("{origin}/as"));
}

#[tokio::test]
async fn a_server_of_2025_03_26_may_write_its_issuer_with_a_slash() {
    let raw = Raw::start().await;
    let origin = raw.origin.clone();
    raw.at(RFC8414, metadata(&origin, &format!("{origin}/"), ""));
    let found = oauth().discover(&server(&format!("{origin}/mcp")), Some(Challenge::default())).await.unwrap();
    assert_eq!(found.issuer, format!("{origin}/"), "kept as it was written");
}

#[tokio::test]
async fn a_registration_endpoint_that_is_down_has_not_refused() {
    let raw = Raw::start().await;
    let origin = raw.origin.clone();
    raw.at(RFC8414, metadata(&origin, &origin, &format!(r#","registration_endpoint":"{origin}/register""#)))
        .at("/register", Reply::http("503 Service Unavailable", "", "<html>"));
    let server = server(&format!("{origin}/mcp"));
    let found = oauth().discover(&server, Some(Challenge::default())).await.unwrap();
    let error = oauth().register(&server, &found, &[]).await.unwrap_err();
    assert!(matches!(&error, RegistrationError::Unreachable { .. }), "{error}");
}

/// Set in the process that this test starts, because proxies are read from its environment.
const PROXIED: &str = "EVERFRESH_TEST_PROXIED";

#[tokio::test]
async fn a_proxy_in_this_network_leads_to_public_token_endpoints() {
    if std::env::var_os(PROXIED).is_some() {
        let binding = Binding { token_endpoint: "https://as.example/token".into(), ..binding() };
        let answer =
            oauth().refresh(&server("https://1.1.1.1/mcp"), &binding, &Secret::new("refresh-canary-1"), &[]).await;
        assert_eq!(answer.unwrap_err().class, FailureClass::Network);
        return;
    }
    let proxy = Raw::start().await;
    let url = proxy.origin.replace("127.0.0.1", "localhost");
    let child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "oauth_field::a_proxy_in_this_network_leads_to_public_token_endpoints"])
        .env(PROXIED, "1")
        .env("https_proxy", url)
        .env_remove("no_proxy")
        .env_remove("NO_PROXY")
        .output()
        .await
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    let requests = proxy.requests();
    assert!(requests.iter().any(|request| request.starts_with("CONNECT as.example:443 ")), "{requests:?}");
}
