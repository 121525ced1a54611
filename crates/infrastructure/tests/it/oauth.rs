//! OAuth over real sockets: token endpoints that misbehave, and discovery among documents.

use std::sync::Arc;

use everfresh_application::ServerSettings;
use everfresh_application::ports::{Challenge, DiscoveryError, OAuthClient, OAuthDiscovery};
use everfresh_domain::grant::Binding;
use everfresh_domain::{Failure, FailureClass, Secret, TokenResponse};
use everfresh_infrastructure::http::HttpFactory;
use everfresh_infrastructure::oauth::HttpOAuth;
use everfresh_infrastructure::system::{SystemClock, SystemEntropy};
use everfresh_testkit::canary;
use everfresh_testkit::contract::store::binding;

use crate::raw::{Raw, Reply};

fn oauth() -> HttpOAuth {
    canary::watch_logs();
    drop(rustls::crypto::ring::default_provider().install_default());
    HttpOAuth::new(HttpFactory::new(), Arc::new(SystemClock::default()), Arc::new(SystemEntropy))
}

fn server(url: &str) -> ServerSettings {
    ServerSettings::new("linear".parse().unwrap(), url)
}

/// The refresh token that is sent, and that no log may show.
const R1: &str = "refresh-canary-1";

async fn refreshed(raw: &Raw) -> Result<TokenResponse, Failure> {
    let binding = Binding { token_endpoint: format!("{}/token", raw.origin), ..binding() };
    oauth().refresh(&server(&format!("{}/mcp", raw.origin)), &binding, &Secret::new(R1), &[]).await
}

async fn class(reply: Reply) -> FailureClass {
    let raw = Raw::start().await;
    raw.at("/token", reply);
    let failure = refreshed(&raw).await.expect_err("no tokens in that");
    assert_eq!(raw.requests().len(), 1, "one request, whatever comes back");
    assert_eq!(canary::found_in(format!("{failure:?}").as_bytes()), None);
    failure.class
}

#[tokio::test]
async fn a_refresh_is_one_request_and_its_answer_is_read() {
    let raw = Raw::start().await;
    raw.at(
        "/token",
        Reply::json(r#"{"access_token":"access-canary-2","refresh_token":"refresh-canary-2","expires_in":"3600"}"#),
    );
    let tokens = refreshed(&raw).await.unwrap();
    assert_eq!(
        (tokens.access_token.expose(), tokens.refresh_token.unwrap().expose()),
        ("access-canary-2", "refresh-canary-2")
    );
    let requests = raw.requests();
    assert_eq!(requests.len(), 1);
    assert!(requests[0].starts_with("POST /token HTTP/1.1"), "{}", requests[0]);
    assert!(requests[0].contains(&format!("refresh_token={R1}")), "{}", requests[0]);
}

#[tokio::test]
async fn garbage_is_the_providers_failure_and_never_ends_a_login() {
    let html = Reply::http("200 OK", "content-type: text/html\r\n", "<html>hotel</html>");
    assert_eq!(class(html).await, FailureClass::Provider);
    assert_eq!(
        class(Reply::json(r#"{"access_token":7,"expires_in":[],"refresh_token":"refresh-canary-2"}"#)).await,
        FailureClass::Provider
    );
    assert_eq!(class(Reply::json(&format!("{{\"x\":\"{}\"}}", "y".repeat(10 << 20)))).await, FailureClass::Provider);
    let portal = Reply::http("302 Found", "location: http://portal.example/\r\n", "");
    assert_eq!(class(portal).await, FailureClass::Provider);
}

#[tokio::test]
async fn an_endless_body_is_cut() {
    let endless = format!("HTTP/1.1 200 OK\r\ncontent-length: 999999999\r\n\r\n{}", "x".repeat(80_000));
    assert_eq!(class(Reply::Stall(endless.into_bytes())).await, FailureClass::Provider);
}

#[tokio::test]
async fn an_answer_that_breaks_off_may_have_cost_the_token() {
    assert_eq!(class(Reply::Close).await, FailureClass::AnswerLost);
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"access_token\":\"access-canary-2".to_vec();
    assert_eq!(class(Reply::Bytes(half)).await, FailureClass::AnswerLost);
    assert_eq!(class(Reply::Bytes(b"not even HTTP\r\n\r\n".to_vec())).await, FailureClass::AnswerLost);
}

#[tokio::test]
async fn a_port_where_nobody_listens_cost_nothing() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let binding = Binding { token_endpoint: format!("{origin}/token"), ..binding() };
    let failure = oauth().refresh(&server(&origin), &binding, &Secret::new(R1), &[]).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Network, "{failure:?}");
}

#[tokio::test]
async fn a_name_that_nobody_knows_and_a_port_without_tls_cost_nothing() {
    let raw = Raw::start().await;
    let without_tls = raw.origin.replace("http://", "https://");
    for origin in ["https://as.invalid", &without_tls] {
        let binding = Binding { token_endpoint: format!("{origin}/token"), ..binding() };
        let failure = oauth().refresh(&server(origin), &binding, &Secret::new(R1), &[]).await.unwrap_err();
        assert_eq!(failure.class, FailureClass::Network, "{failure:?}");
        assert!(failure.message.starts_with("cannot be reached"), "{failure:?}");
    }
    assert!(!raw.requests().iter().any(|request| request.contains(R1)), "nothing was sent in clear");
}

#[tokio::test]
async fn a_public_server_cannot_send_a_refresh_token_into_this_machine() {
    let raw = Raw::start().await;
    let binding = Binding { token_endpoint: format!("{}/token", raw.origin), ..binding() };
    let failure = oauth().refresh(&server("https://1.1.1.1/mcp"), &binding, &Secret::new(R1), &[]).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Network, "{failure:?}");
    assert!(raw.requests().is_empty());
}

/// An authorization server's document with `more` members.
fn metadata(issuer: &str, more: &str) -> Reply {
    Reply::json(&format!(
        r#"{{"issuer":"{issuer}","authorization_endpoint":"{issuer}/authorize","token_endpoint":"{issuer}/token",
           "code_challenge_methods_supported":["S256"]{more}}}"#
    ))
}

const RFC8414: &str = "/.well-known/oauth-authorization-server";

#[tokio::test]
async fn the_challenge_leads_to_resource_and_server_metadata() {
    let raw = Raw::start().await;
    let origin = raw.origin.clone();
    let challenge = format!("www-authenticate: Bearer resource_metadata=\"{origin}/custom\", scope=\"read\"\r\n");
    raw.at("/mcp", Reply::http("401 Unauthorized", &challenge, ""))
        .at(
            "/custom",
            Reply::json(&format!(r#"{{"resource":"{origin}","authorization_servers":["{origin}/tenant"]}}"#)),
        )
        .at(
            &format!("{RFC8414}/tenant"),
            metadata(&format!("{origin}/tenant"), r#","scopes_supported":["offline_access"]"#),
        );
    let found = oauth().discover(&server(&format!("{origin}/mcp")), None).await.unwrap();
    assert_eq!(found.issuer, format!("{origin}/tenant"));
    assert_eq!(found.token_endpoint, format!("{origin}/tenant/token"));
    assert_eq!(found.resource, Some(origin), "byte for byte, without a slash");
    assert_eq!(found.challenge.scopes, ["read"]);
    assert_eq!(raw.paths(), ["/mcp", "/custom", &format!("{RFC8414}/tenant")]);
}

#[tokio::test]
async fn metadata_about_another_server_is_refused() {
    let raw = Raw::start().await;
    let document = r#"{"resource":"https://evil.example/mcp","authorization_servers":["https://as.example"]}"#;
    raw.at("/.well-known/oauth-protected-resource/mcp", Reply::json(document));
    let error =
        oauth().discover(&server(&format!("{}/mcp", raw.origin)), Some(Challenge::default())).await.unwrap_err();
    assert!(matches!(&error, DiscoveryError::Refused { .. }), "{error}");
}

#[tokio::test]
async fn metadata_for_another_issuer_and_servers_without_pkce_are_refused() {
    for document in [r#"{"issuer":"https://other.example"}"#.to_owned(), "PKCE".to_owned()] {
        let raw = Raw::start().await;
        let origin = raw.origin.clone();
        let resource = format!(r#"{{"resource":"{origin}/mcp","authorization_servers":["{origin}"]}}"#);
        raw.at("/.well-known/oauth-protected-resource/mcp", Reply::json(&resource));
        let document = if document == "PKCE" {
            format!(r#"{{"issuer":"{origin}","authorization_endpoint":"{origin}/a","token_endpoint":"{origin}/t"}}"#)
        } else {
            document
        };
        raw.at(RFC8414, Reply::json(&document));
        let error = oauth().discover(&server(&format!("{origin}/mcp")), Some(Challenge::default())).await.unwrap_err();
        assert!(matches!(&error, DiscoveryError::Refused { .. }), "{error}");
    }
}

#[tokio::test]
async fn servers_of_2025_03_26_are_their_own_issuers() {
    let raw = Raw::start().await;
    let origin = raw.origin.clone();
    raw.at("/mcp", Reply::http("401 Unauthorized", "www-authenticate: Bearer\r\n", ""));
    let bare = oauth().discover(&server(&format!("{origin}/mcp")), None).await.unwrap();
    assert_eq!(bare.token_endpoint, format!("{origin}/token"));
    assert_eq!(bare.registration_endpoint, Some(format!("{origin}/register")));
    raw.at(RFC8414, metadata(&origin, r#","registration_endpoint":null"#));
    let with_document = oauth().discover(&server(&format!("{origin}/mcp")), None).await.unwrap();
    assert_eq!(with_document.registration_endpoint, None);
}

#[tokio::test]
async fn a_server_that_asks_for_nothing_is_not_protected() {
    let raw = Raw::start().await;
    raw.at("/mcp", Reply::json("{}"));
    let error = oauth().discover(&server(&format!("{}/mcp", raw.origin)), None).await.unwrap_err();
    assert!(matches!(&error, DiscoveryError::NotProtected { .. }), "{error}");
}

#[tokio::test]
async fn an_issuer_from_the_configuration_skips_the_upstream() {
    let raw = Raw::start().await;
    let origin = raw.origin.clone();
    raw.at(RFC8414, metadata(&origin, ""));
    let mut server = server("https://1.1.1.1/mcp");
    server.oauth.issuer = Some(origin.clone());
    let found = oauth().discover(&server, None).await.unwrap();
    assert_eq!((found.issuer, found.resource), (origin, None));
    assert_eq!(raw.paths(), [RFC8414]);
}

#[tokio::test]
async fn a_client_is_registered_as_native_with_refresh_tokens() {
    let raw = Raw::start().await;
    let origin = raw.origin.clone();
    raw.at(RFC8414, metadata(&origin, &format!(r#","registration_endpoint":"{origin}/register""#)))
        .at("/register", Reply::http("201 Created", "", r#"{"client_id":"c1"}"#));
    let mut server = server(&format!("{origin}/mcp"));
    server.oauth.issuer = Some(origin);
    let oauth = oauth();
    let found = oauth.discover(&server, None).await.unwrap();
    let redirect = "http://127.0.0.1:7411/oauth/callback".to_owned();
    let client = oauth.register(&server, &found, &[redirect]).await.unwrap();
    assert_eq!(client.client_id, "c1");
    let sent = raw.requests().pop().unwrap();
    for part in [r#""application_type":"native""#, r#""authorization_code","refresh_token""#, "oauth/callback"] {
        assert!(sent.contains(part), "{part} is missing in {sent}");
    }
}
