//! Device codes over real sockets: what is sent, and how answers are read.

use std::sync::Arc;
use std::time::Duration;

use everfresh_application::ServerSettings;
use everfresh_application::ports::{Challenge, OAuthClient, OAuthDiscovery};
use everfresh_domain::grant::{Binding, ClientAuthMethod, ClientRegistration};
use everfresh_domain::{FailureClass, Secret};
use everfresh_infrastructure::http::HttpFactory;
use everfresh_infrastructure::oauth::HttpOAuth;
use everfresh_infrastructure::system::{SystemClock, SystemEntropy};
use everfresh_testkit::contract::store::binding;
use everfresh_testkit::mcp::McpServer;
use everfresh_testkit::provider::{Behaviour, Model, ProviderServer};

use crate::raw::{Raw, Reply};

fn oauth() -> HttpOAuth {
    drop(rustls::crypto::ring::default_provider().install_default());
    HttpOAuth::new(HttpFactory::new(), Arc::new(SystemClock::default()), Arc::new(SystemEntropy))
}

fn server(url: &str) -> ServerSettings {
    ServerSettings::new("linear".parse().unwrap(), url)
}

#[tokio::test]
async fn a_device_code_is_asked_for_and_exchanged_at_a_provider() {
    let provider = ProviderServer::start(Model::new(Behaviour::default())).await.unwrap();
    let upstream = McpServer::start(&provider).await.unwrap();
    let (oauth, server) = (oauth(), server(&upstream.url()));
    let found = oauth.discover(&server, Some(Challenge::default())).await.unwrap();
    let endpoint = found.device_authorization_endpoint.clone().unwrap();
    let client = oauth.register(&server, &found, &["http://127.0.0.1:7411/oauth/callback".into()]).await.unwrap();
    let binding = Binding { token_endpoint: found.token_endpoint, client, ..binding() };
    let device = oauth.authorize_device(&server, &binding, &endpoint).await.unwrap();
    assert_eq!((device.user_code.as_str(), device.interval), ("USER-0001", Duration::from_secs(5)));
    let code = async || oauth.exchange_device_code(&server, &binding, &device.device_code).await;
    assert_eq!(code().await.unwrap_err().oauth_error.as_deref(), Some("authorization_pending"));
    assert_eq!(code().await.unwrap_err().oauth_error.as_deref(), Some("slow_down"));
    provider.with(|model| model.answer_devices(true));
    // The provider has asked for ten seconds between two questions; it counts from the last one.
    let hasty = code().await.unwrap_err();
    assert_eq!(hasty.oauth_error.as_deref(), Some("slow_down"));
    let stranger = Secret::new("another");
    let refused = oauth.exchange_device_code(&server, &binding, &stranger).await.unwrap_err();
    assert_eq!(refused.class, FailureClass::Refused);
}

#[tokio::test]
async fn what_is_sent_is_what_the_rfc_says() {
    let raw = Raw::start().await;
    raw.at("/device", Reply::json(r#"{"device_code":"d","user_code":"u","verification_uri":"https://as.example/d"}"#))
        .at("/token", Reply::json(r#"{"access_token":"a","refresh_token":"r"}"#));
    let client = ClientRegistration {
        client_id: "c 1".into(),
        client_secret: Some(Secret::new("s:1")),
        auth_method: ClientAuthMethod::ClientSecretPost,
        ..binding().client
    };
    let binding = Binding {
        token_endpoint: format!("{}/token", raw.origin),
        client,
        resource: Some("https://mcp.example".into()),
        requested_scopes: vec!["read".into(), "write".into()],
        extra_params: [("audience".to_owned(), "api".to_owned())].into(),
        ..binding()
    };
    let (oauth, server) = (oauth(), server(&format!("{}/mcp", raw.origin)));
    let device = oauth.authorize_device(&server, &binding, &format!("{}/device", raw.origin)).await.unwrap();
    let tokens = oauth.exchange_device_code(&server, &binding, &device.device_code).await.unwrap();
    assert_eq!(tokens.access_token.expose(), "a");
    let requests = raw.requests();
    let resource = "resource=https%3A%2F%2Fmcp.example";
    for part in ["scope=read+write", resource, "audience=api", "client_id=c+1", "client_secret=s%3A1"] {
        assert!(requests[0].contains(part), "{part} is missing in {}", requests[0]);
    }
    let grant = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code";
    for part in [grant, "device_code=d", resource, "client_id=c+1", "client_secret=s%3A1"] {
        assert!(requests[1].contains(part), "{part} is missing in {}", requests[1]);
    }
}

#[tokio::test]
async fn a_client_is_registered_for_device_codes_only_where_they_are_to_be_had() {
    for (endpoint, expected) in [(r#","device_authorization_endpoint":"{origin}/device""#, true), ("", false)] {
        let raw = Raw::start().await;
        let origin = raw.origin.clone();
        let more = endpoint.replace("{origin}", &origin);
        let document = format!(
            r#"{{"issuer":"{origin}","authorization_endpoint":"{origin}/authorize","token_endpoint":"{origin}/token",
               "registration_endpoint":"{origin}/register","code_challenge_methods_supported":["S256"]{more}}}"#
        );
        raw.at("/.well-known/oauth-authorization-server", Reply::json(&document))
            .at("/register", Reply::http("201 Created", "", r#"{"client_id":"c1"}"#));
        let mut server = server(&format!("{origin}/mcp"));
        server.oauth.issuer = Some(origin);
        let oauth = oauth();
        let found = oauth.discover(&server, None).await.unwrap();
        oauth.register(&server, &found, &["http://127.0.0.1:7411/oauth/callback".into()]).await.unwrap();
        let sent = raw.requests().pop().unwrap();
        assert_eq!(sent.contains("urn:ietf:params:oauth:grant-type:device_code"), expected, "{sent}");
    }
}

#[tokio::test]
async fn a_public_server_cannot_have_a_device_code_asked_for_in_this_machine() {
    let raw = Raw::start().await;
    let endpoint = format!("{}/device", raw.origin);
    let failure = oauth().authorize_device(&server("https://1.1.1.1/mcp"), &binding(), &endpoint).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Network, "{failure:?}");
    assert!(raw.requests().is_empty());
}
