//! Metadata that strangers wrote: where it leads nobody, however often it asks.

use std::sync::Arc;

use everfresh_application::ServerSettings;
use everfresh_application::ports::{Challenge, DiscoveryError, OAuthClient, OAuthDiscovery, TokenKind};
use everfresh_domain::grant::Binding;
use everfresh_domain::{FailureClass, Secret};
use everfresh_infrastructure::http::HttpFactory;
use everfresh_infrastructure::oauth::HttpOAuth;
use everfresh_infrastructure::system::{SystemClock, SystemEntropy};
use everfresh_testkit::contract::store::binding;

use crate::raw::{Raw, Reply};

const RFC8414: &str = "/.well-known/oauth-authorization-server";
const RFC9728: &str = "/.well-known/oauth-protected-resource/mcp";

fn oauth() -> HttpOAuth {
    drop(rustls::crypto::ring::default_provider().install_default());
    HttpOAuth::new(HttpFactory::new(), Arc::new(SystemClock::default()), Arc::new(SystemEntropy))
}

fn server(url: &str) -> ServerSettings {
    ServerSettings::new("linear".parse().unwrap(), url)
}

fn redirect(to: &str) -> Reply {
    Reply::http("307 Temporary Redirect", &format!("location: {to}\r\n"), "")
}

#[tokio::test]
async fn nothing_is_ever_redirected() {
    let (raw, elsewhere) = (Raw::start().await, Raw::start().await);
    let (origin, away) = (raw.origin.clone(), format!("{}/taken", elsewhere.origin));
    for path in ["/mcp", RFC9728, RFC8414, "/token", "/revoke", "/register"] {
        raw.at(path, redirect(&away));
    }
    let server = server(&format!("{origin}/mcp"));
    let binding = Binding {
        token_endpoint: format!("{origin}/token"),
        revocation_endpoint: Some(format!("{origin}/revoke")),
        ..binding()
    };
    let (oauth, token) = (oauth(), Secret::new("r1"));
    assert!(oauth.discover(&server, None).await.is_err());
    let found = oauth.discover(&server, Some(Challenge::default())).await.unwrap();
    assert!(oauth.register(&server, &found, &["http://127.0.0.1/".to_owned()]).await.is_err());
    assert!(oauth.refresh(&server, &binding, &token, &[]).await.is_err());
    assert!(oauth.exchange_code(&server, &binding, &token, &token, "http://127.0.0.1/").await.is_err());
    assert!(oauth.revoke(&server, &binding, &token, TokenKind::RefreshToken).await.is_err());
    assert!(raw.requests().len() >= 7, "{:?}", raw.paths());
    assert_eq!(elsewhere.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn of_hundreds_of_authorization_servers_four_are_asked() {
    let raw = Raw::start().await;
    let named: Vec<String> = (0..300).map(|number| format!("\"{}/as{number}\"", raw.origin)).collect();
    let document = format!(r#"{{"resource":"{}/mcp","authorization_servers":[{}]}}"#, raw.origin, named.join(","));
    raw.at(RFC9728, Reply::json(&document));
    let error =
        oauth().discover(&server(&format!("{}/mcp", raw.origin)), Some(Challenge::default())).await.unwrap_err();
    assert!(matches!(&error, DiscoveryError::Refused { .. }), "{error}");
    assert!(
        raw.paths().iter().any(|path| path.contains("as3")) && !raw.paths().iter().any(|path| path.contains("as4"))
    );
}

#[tokio::test]
async fn a_public_server_names_no_endpoint_in_this_network() {
    let raw = Raw::start().await;
    let origin = raw.origin.clone();
    // The user's own issuer is on this machine; what it names for itself may be here, and nothing odd.
    let mut server = server("https://1.1.1.1/mcp");
    server.oauth.issuer = Some(origin.clone());
    for (member, url) in [
        ("authorization_endpoint", "javascript:alert(1)"),
        ("authorization_endpoint", "http://as.example/authorize"),
        ("token_endpoint", "http://10.0.0.1/token"),
        ("token_endpoint", "file:///etc/passwd"),
        ("registration_endpoint", "ftp://127.0.0.1/"),
        ("revocation_endpoint", "https://user@as.example/"),
    ] {
        let mut document = serde_json::json!({
            "issuer": origin, "authorization_endpoint": format!("{origin}/a"), "token_endpoint": format!("{origin}/t"),
            "code_challenge_methods_supported": ["S256"],
        });
        document[member] = url.into();
        raw.at(RFC8414, Reply::json(&document.to_string()));
        let error = oauth().discover(&server, None).await.unwrap_err();
        assert!(matches!(&error, DiscoveryError::Refused { url: named, .. } if named == url), "{url}: {error}");
    }
}

#[tokio::test]
async fn no_login_is_made_for_a_server_that_is_reached_in_clear() {
    let raw = Raw::start().await;
    let mut server = server("http://1.1.1.1/mcp");
    server.oauth.issuer = Some(raw.origin.clone());
    let error = oauth().discover(&server, None).await.unwrap_err();
    assert!(error.to_string().contains("it is not https"), "{error}");
    assert!(raw.requests().is_empty());
}

#[tokio::test]
async fn a_refresh_token_goes_where_it_came_from_whatever_metadata_says_by_now() {
    let (raw, elsewhere) = (Raw::start().await, Raw::start().await);
    let moved = format!(
        r#"{{"issuer":"{0}","authorization_endpoint":"{1}/a","token_endpoint":"{1}/t","code_challenge_methods_supported":["S256"]}}"#,
        raw.origin, elsewhere.origin
    );
    raw.at(RFC8414, Reply::json(&moved)).at("/token", Reply::json(r#"{"access_token":"a2"}"#));
    let binding = Binding { token_endpoint: format!("{}/token", raw.origin), ..binding() };
    let server = server(&format!("{}/mcp", raw.origin));
    oauth().refresh(&server, &binding, &Secret::new("r1"), &[]).await.unwrap();
    assert_eq!(raw.paths(), ["/token"]);
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn every_call_for_a_public_server_is_held_to_public_places() {
    let raw = Raw::start().await;
    let origin = raw.origin.clone();
    let server = server("https://1.1.1.1/mcp");
    let binding = Binding {
        token_endpoint: format!("{origin}/token"),
        revocation_endpoint: Some(format!("{origin}/revoke")),
        ..binding()
    };
    let (oauth, token) = (oauth(), Secret::new("r1"));
    let exchanged = oauth.exchange_code(&server, &binding, &token, &token, "http://127.0.0.1/").await;
    assert_eq!(exchanged.unwrap_err().class, FailureClass::Network);
    let revoked = oauth.revoke(&server, &binding, &token, TokenKind::RefreshToken).await;
    assert_eq!(revoked.unwrap_err().class, FailureClass::Network);
    let told = Challenge { resource_metadata: Some(format!("{origin}/here")), ..Challenge::default() };
    let error = oauth.discover(&server, Some(told)).await.unwrap_err();
    assert!(matches!(&error, DiscoveryError::Refused { .. }), "{error}");
    assert!(raw.requests().is_empty());
}
