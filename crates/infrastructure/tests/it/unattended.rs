//! Grants that need no person, over HTTP against the model, which verifies every assertion.

use std::sync::Arc;
use std::time::Duration;

use everfresh_application::ports::{DiscoveryError, IdentityExchange, OAuthClient, OAuthDiscovery};
use everfresh_application::{IdentityProviderSettings, SecretSource, ServerSettings};
use everfresh_domain::grant::{Binding, ClientAuthMethod, ClientRegistration, GrantType};
use everfresh_domain::{FailureClass, Secret, Timestamp};
use everfresh_infrastructure::oauth::HttpOAuth;
use everfresh_testkit::contract::store::binding;
use everfresh_testkit::provider::{AuthRule, Behaviour, Enrolled, Model, ProviderServer, Signer};

use crate::providers::oauth;

const ID_JAG: &str = "urn:ietf:params:oauth:grant-profile:id-jag";

async fn provider() -> ProviderServer {
    ProviderServer::start(Model::new(Behaviour::default())).await.unwrap()
}

fn server(provider: &ProviderServer, grant: GrantType) -> ServerSettings {
    let mut server = ServerSettings::new("robot".parse().unwrap(), format!("{}/mcp", provider.url()));
    (server.oauth.grant, server.oauth.issuer) = (grant, Some(provider.url().to_owned()));
    server
}

fn asking(provider: &ProviderServer, grant_type: GrantType, auth_method: ClientAuthMethod, proof: &str) -> Binding {
    let (secret, key) = match auth_method {
        ClientAuthMethod::PrivateKeyJwt => (None, Some(Secret::new(proof))),
        ClientAuthMethod::None | ClientAuthMethod::ClientSecretBasic | ClientAuthMethod::ClientSecretPost => {
            (Some(Secret::new(proof)).filter(|_| !proof.is_empty()), None)
        }
    };
    let client = ClientRegistration {
        issuer: provider.url().to_owned(),
        client_id: if auth_method == ClientAuthMethod::None { String::new() } else { "robot".into() },
        client_secret: secret,
        private_key: key,
        auth_method,
        ..binding().client
    };
    let (token_endpoint, revocation) = (format!("{}/token", provider.url()), format!("{}/revoke", provider.url()));
    Binding { grant_type, client, token_endpoint, revocation_endpoint: Some(revocation), ..binding() }
}

fn in_an_hour() -> Timestamp {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
    Timestamp::from_millis(i64::try_from(now).unwrap()).after(Duration::from_secs(3_600))
}

#[tokio::test]
async fn each_way_of_showing_a_secret_is_taken_and_a_wrong_one_is_refused() {
    let oauth = oauth();
    for (rule, method) in
        [(AuthRule::Basic, ClientAuthMethod::ClientSecretBasic), (AuthRule::Post, ClientAuthMethod::ClientSecretPost)]
    {
        let provider = provider().await;
        provider.with(|model| {
            model.switches.auth = rule;
            model.enroll("robot", Enrolled::Secret("right".into()));
        });
        let server = server(&provider, GrantType::ClientCredentials);
        let right = asking(&provider, GrantType::ClientCredentials, method, "right");
        let tokens = oauth.request_token(&server, &right, None).await.unwrap();
        assert_eq!(tokens.scopes.unwrap(), right.requested_scopes);
        let wrong = asking(&provider, GrantType::ClientCredentials, method, "wrong");
        let failure = oauth.request_token(&server, &wrong, None).await.unwrap_err();
        assert_eq!(failure.class, FailureClass::ClientRejected, "{failure:?}");
    }
}

#[tokio::test]
async fn a_client_that_signs_does_so_anew_for_each_call() {
    let (oauth, provider) = (oauth(), provider().await);
    let (key, other) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
    provider.with(|model| {
        model.switches.auth = AuthRule::PrivateKeyJwt;
        model.enroll("robot", Enrolled::PublicKey(key.public_key_pem()));
    });
    let server = server(&provider, GrantType::ClientCredentials);
    let method = ClientAuthMethod::PrivateKeyJwt;
    let right = asking(&provider, GrantType::ClientCredentials, method, &key.serialize_pem());
    for _ in 0..2 {
        oauth.request_token(&server, &right, None).await.unwrap();
    }
    // The model takes no assertion twice, and knows this client: what it refuses is the token.
    let failure = oauth.refresh(&server, &right, &Secret::new("unknown"), &[]).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Refused, "{failure:?}");
    let wrong = asking(&provider, GrantType::ClientCredentials, method, &other.serialize_pem());
    let failure = oauth.request_token(&server, &wrong, None).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::ClientRejected, "{failure:?}");
    let for_another = ClientRegistration { issuer: "https://other.example".into(), ..right.client.clone() };
    let failure = oauth.request_token(&server, &Binding { client: for_another, ..right }, None).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::ClientRejected, "the audience is the issuer: {failure:?}");
}

#[tokio::test]
async fn a_workload_is_known_by_its_assertion_for_this_server_and_in_its_time() {
    let (oauth, provider) = (oauth(), provider().await);
    let platform = Signer { issuer: "https://platform.example".into(), key: "key".into() };
    provider.with(|model| model.trusted = vec![platform.clone()]);
    let (server, end) = (server(&provider, GrantType::JwtBearer), in_an_hour());
    let binding = asking(&provider, GrantType::JwtBearer, ClientAuthMethod::None, "");
    let good = platform.assertion("pod", provider.url(), end);
    assert!(oauth.request_token(&server, &binding, Some(&Secret::new(good))).await.is_ok());
    let stranger = Signer { key: "another".into(), ..platform.clone() };
    for bad in [
        platform.assertion("pod", "https://other.example", end),
        platform.assertion("pod", provider.url(), Timestamp::EPOCH),
        stranger.assertion("pod", provider.url(), end),
    ] {
        let failure = oauth.request_token(&server, &binding, Some(&Secret::new(bad))).await.unwrap_err();
        assert_eq!(failure.class, FailureClass::Refused, "{failure:?}");
    }
}

async fn vouched(oauth: &Arc<HttpOAuth>, server: &ServerSettings, exchange: &IdentityExchange) -> Secret {
    oauth.exchange_identity(server, exchange).await.unwrap()
}

#[tokio::test]
async fn an_enterprise_vouches_for_one_client_at_one_server_and_one_resource() {
    let (oauth, provider, idp) = (oauth(), provider().await, provider().await);
    let signer = Signer { issuer: idp.url().to_owned(), key: "key".into() };
    idp.with(|model| {
        model.signer = Some(signer.clone());
        model.enroll("at-idp", Enrolled::Public);
        model.vouches_for.insert(provider.url().to_owned(), "robot".into());
    });
    provider.with(|model| {
        model.trusted = vec![signer.clone()];
        model.switches.auth = AuthRule::Basic;
        model.switches.grant_profiles = vec![ID_JAG.into()];
        model.enroll("robot", Enrolled::Secret("s".into()));
    });
    let mut server = server(&provider, GrantType::EnterpriseManaged);
    server.oauth.identity_provider = Some(IdentityProviderSettings {
        issuer: Some(idp.url().to_owned()),
        token_endpoint: None,
        client_id: Some("at-idp".into()),
        client_secret: None,
        id_token: SecretSource::Env("ID_TOKEN".into()),
    });
    let found = oauth.discover(&server, None).await.unwrap();
    assert_eq!(found.grant_profiles, [ID_JAG]);
    let token_endpoint = oauth.token_endpoint(&server, idp.url()).await.unwrap();
    let binding = asking(&provider, GrantType::EnterpriseManaged, ClientAuthMethod::ClientSecretBasic, "s");
    let exchange = IdentityExchange {
        token_endpoint,
        client_id: Some("at-idp".into()),
        client_secret: None,
        id_token: Secret::new(signer.assertion("anna", "at-idp", in_an_hour())),
        audience: provider.url().to_owned(),
        resource: binding.resource.clone(),
        scopes: Vec::new(),
    };
    let assertion = vouched(&oauth, &server, &exchange).await;
    assert!(oauth.request_token(&server, &binding, Some(&assertion)).await.is_ok());
    let elsewhere = IdentityExchange { resource: Some("https://other.example".into()), ..exchange.clone() };
    let assertion = vouched(&oauth, &server, &elsewhere).await;
    let failure = oauth.request_token(&server, &binding, Some(&assertion)).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Refused, "{failure:?}");
    let stale = Secret::new(signer.assertion("anna", "at-idp", Timestamp::EPOCH));
    let failure =
        oauth.exchange_identity(&server, &IdentityExchange { id_token: stale, ..exchange }).await.unwrap_err();
    assert_eq!(failure.oauth_error.as_deref(), Some("invalid_request"), "{failure:?}");
}

#[tokio::test]
async fn an_identity_provider_without_metadata_is_named() {
    let (oauth, provider, idp) = (oauth(), provider().await, provider().await);
    idp.with(|model| model.switches.issuer_told = Some("https://evil.example".into()));
    let mut server = server(&provider, GrantType::EnterpriseManaged);
    server.oauth.issuer = Some(idp.url().to_owned());
    let error = oauth.token_endpoint(&server, idp.url()).await.unwrap_err();
    assert!(matches!(error, DiscoveryError::Refused { .. }), "{error}");
}
