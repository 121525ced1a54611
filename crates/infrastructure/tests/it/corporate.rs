//! Corporate networks: every kind of outbound call through the same proxy, under a private
//! authority, with a client certificate.

use std::collections::BTreeMap;
use std::sync::Arc;

use everfresh_application::ports::{
    AuthorizationRequest, Challenge, Dialer, DpopOffer, OAuthClient, OAuthDiscovery, TokenKind,
};
use everfresh_application::{ClientCertificate, ServerSettings};
use everfresh_domain::grant::{Binding, GrantType, RequestShape};
use everfresh_domain::{FailureClass, Secret};
use everfresh_infrastructure::dialer::NetDialer;
use everfresh_infrastructure::http::HttpFactory;
use everfresh_infrastructure::oauth::HttpOAuth;
use everfresh_infrastructure::system::{SystemClock, SystemEntropy};
use everfresh_testkit::corporate::{Authority, CertificateFiles, Proxy, TlsFront};
use everfresh_testkit::mcp::McpServer;
use everfresh_testkit::provider::{Behaviour, Model, ProviderServer, Rotation};
use hyper_util::client::proxy::matcher::Matcher;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// This machine, by an address that a proxy may be asked for: no name has to be looked up.
const HOST: &str = "0.0.0.0";
const REDIRECT: &str = "http://127.0.0.1:7411/oauth/callback";

/// Everything that one test meets, and what a login there has found.
struct Estate {
    folder: TempDir,
    authority: Authority,
    client: CertificateFiles,
    provider: ProviderServer,
    _upstream: McpServer,
    fronts: [TlsFront; 2],
    proxy: Proxy,
}

/// What stands at the end of a login.
struct Ground {
    binding: Binding,
    refresh_token: Secret,
}

/// A client of everfresh's own making, and how it is set.
struct Caller {
    oauth: HttpOAuth,
    dialer: NetDialer,
    server: ServerSettings,
}

impl Estate {
    async fn new() -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new().unwrap();
        authority.write(&folder.path().join("ca.pem")).unwrap();
        let client = authority.issue_client(folder.path(), "client").unwrap();
        let behaviour = Behaviour { rotation: Rotation::Never, ..Behaviour::default() };
        let provider = ProviderServer::start(Model::new(behaviour)).await.unwrap();
        let upstream = McpServer::start_behind("https", ([127, 0, 0, 1], 0).into(), &provider).await.unwrap();
        let config = || authority.server(&[HOST], Some(&authority)).unwrap();
        let fronts = [
            TlsFront::start(config(), provider.address()).await.unwrap(),
            TlsFront::start(config(), upstream.address()).await.unwrap(),
        ];
        let ways = fronts.each_ref().map(|front| (format!("{HOST}:{}", front.address().port()), front.address()));
        let issuer = format!("https://{}", ways[0].0);
        provider.with(|model| model.issuer = issuer);
        let proxy = Proxy::start(ways.into()).await.unwrap();
        Self { folder, authority, client, provider, _upstream: upstream, fronts, proxy }
    }

    /// Host and port of the authorization server.
    fn provider_at(&self) -> String {
        format!("{HOST}:{}", self.fronts[0].address().port())
    }

    /// Host and port of the protected server.
    fn upstream_at(&self) -> String {
        format!("{HOST}:{}", self.fronts[1].address().port())
    }

    /// All that is needed here.
    fn settings(&self) -> ServerSettings {
        ServerSettings {
            ca_file: Some(self.folder.path().join("ca.pem")),
            client_certificate: Some(ClientCertificate {
                cert_file: self.client.cert_file.clone(),
                key_file: Some(self.client.key_file.clone()),
            }),
            ..ServerSettings::new("corp".parse().unwrap(), format!("https://{}/mcp", self.upstream_at()))
        }
    }

    fn caller(&self, server: ServerSettings) -> Caller {
        Caller::new(server, Matcher::builder().all(self.proxy.url()).build())
    }

    /// A login by somebody who has all that is needed.
    async fn log_in(&self) -> Ground {
        let caller = self.caller(self.settings());
        let found = caller.oauth.discover(&caller.server, None).await.unwrap();
        let client = caller.oauth.register(&caller.server, &found, &[REDIRECT.to_owned()]).await.unwrap();
        let binding = Binding {
            upstream: caller.server.url.clone(),
            token_endpoint: found.token_endpoint,
            revocation_endpoint: found.revocation_endpoint,
            grant_type: GrantType::AuthorizationCode,
            client,
            resource: found.resource,
            requested_scopes: vec!["read".into()],
            dpop_key: None,
            extra_params: BTreeMap::new(),
            shape: RequestShape::default(),
        };
        let code = self.code(&caller, &binding);
        let tokens = caller.oauth.exchange_code(&caller.server, &binding, &code, &verifier(), REDIRECT).await.unwrap();
        Ground { binding, refresh_token: tokens.refresh_token.unwrap() }
    }

    /// A person says yes.
    fn code(&self, caller: &Caller, binding: &Binding) -> Secret {
        let request = AuthorizationRequest {
            authorization_endpoint: format!("{}/authorize", binding.client.issuer),
            client_id: binding.client.client_id.clone(),
            redirect_uri: REDIRECT.into(),
            scopes: vec!["read".into()],
            resource: None,
            state: Secret::new("state"),
            verifier: verifier(),
            dpop_jkt: None,
            extra_params: BTreeMap::new(),
        };
        let pairs = |url: &str| -> BTreeMap<String, String> {
            url::Url::parse(url).unwrap().query_pairs().into_owned().collect()
        };
        let url = caller.oauth.authorization_url(&request).unwrap();
        let reply = self.provider.with(|model| model.authorize(&pairs(&url)));
        Secret::new(pairs(&reply.headers[0].1)["code"].clone())
    }

    /// Makes each kind of call once: its name, how it ended, and what the proxy was asked for.
    async fn every_kind(&self, caller: &Caller, ground: &Ground) -> Vec<Call> {
        let (oauth, server, binding) = (&caller.oauth, &caller.server, &ground.binding);
        let code = self.code(caller, binding);
        let mut issuer_told = server.clone();
        issuer_told.oauth.issuer = Some(binding.client.issuer.clone());
        let mut calls = Calls { proxy: &self.proxy, made: Vec::new() };
        self.proxy.asked();
        calls.add("challenge", oauth.discover(server, None).await);
        calls.add("resource metadata", oauth.discover(server, Some(Challenge::default())).await);
        let found = oauth.discover(&issuer_told, None).await;
        calls.add("server metadata", found.clone());
        let found = found.unwrap_or_else(|_| discovered(binding));
        calls.add("registration", oauth.register(server, &found, &[REDIRECT.to_owned()]).await);
        let exchanged = oauth.exchange_code(server, binding, &code, &verifier(), REDIRECT).await;
        calls.add("code exchange", exchanged.map_err(unsent));
        let refreshed = oauth.refresh(server, binding, &ground.refresh_token, &[]).await;
        calls.add("refresh", refreshed.map_err(unsent));
        let nobody = Secret::new("nobody's");
        let device = oauth.authorize_device(server, binding, &format!("{}/device", binding.client.issuer)).await;
        calls.add("device authorization", device.map_err(unsent));
        let by_device = oauth.exchange_device_code(server, binding, &nobody).await.err().map(|failure| {
            // It was understood: there is no such code.
            if failure.class == FailureClass::Refused { Ok(()) } else { Err(unsent(failure)) }
        });
        calls.add("device code exchange", by_device.expect("nobody's code is no good"));
        let revoked = oauth.revoke(server, binding, &nobody, TokenKind::RefreshToken).await;
        calls.add("revocation", revoked.map_err(unsent));
        calls.add("data plane", caller.speak().await);
        calls.made
    }
}

/// A call that failed here has sent nothing that could be lost.
fn unsent(failure: everfresh_domain::Failure) -> String {
    assert_eq!(failure.class, FailureClass::Network, "{failure:?}");
    failure.message
}

fn discovered(binding: &Binding) -> everfresh_application::ports::Discovered {
    let issuer = binding.client.issuer.clone();
    everfresh_application::ports::Discovered {
        authorization_endpoint: format!("{issuer}/authorize"),
        token_endpoint: binding.token_endpoint.clone(),
        registration_endpoint: Some(format!("{issuer}/register")),
        issuer,
        revocation_endpoint: None,
        grant_profiles: Vec::new(),
        token_endpoint_auth_methods: Vec::new(),
        scopes_supported: Vec::new(),
        client_id_metadata_documents: false,
        iss_in_responses: false,
        resource: None,
        resource_scopes: Vec::new(),
        device_authorization_endpoint: None,
        dpop: DpopOffer::default(),
        challenge: Challenge::default(),
    }
}

fn verifier() -> Secret {
    Secret::new("v".repeat(64))
}

/// One call: its kind, how it ended, and what the proxy was asked for meanwhile.
type Call = (&'static str, Result<(), String>, Vec<String>);

struct Calls<'a> {
    proxy: &'a Proxy,
    made: Vec<Call>,
}

impl Calls<'_> {
    fn add<T, E: ToString>(&mut self, kind: &'static str, result: Result<T, E>) {
        self.made.push((kind, result.map(drop).map_err(|error| error.to_string()), self.proxy.asked()));
    }
}

impl Caller {
    fn new(server: ServerSettings, proxies: Matcher) -> Self {
        let factory = HttpFactory::with_proxies(proxies);
        let oauth = HttpOAuth::new(Arc::clone(&factory), Arc::new(SystemClock::default()), Arc::new(SystemEntropy));
        Self { oauth, dialer: NetDialer::new(factory), server }
    }

    /// A request of the data plane, to the first byte of its answer.
    async fn speak(&self) -> std::io::Result<()> {
        let mut stream = self.dialer.dial(&self.server).await?;
        stream.write_all(b"GET /mcp HTTP/1.1\r\nhost: mcp\r\n\r\n").await?;
        let mut first = [0; 12];
        stream.read_exact(&mut first).await?;
        assert_eq!(&first, b"HTTP/1.1 401");
        Ok(())
    }
}

fn expect_failures(calls: &[Call], words: &str) {
    for (kind, result, _) in calls {
        let error = result.as_ref().expect_err(kind);
        assert!(error.contains(words), "{kind}: {error}");
    }
}

#[tokio::test]
async fn every_kind_of_call_goes_through_the_proxy_with_the_authority_and_the_certificate() {
    let estate = Estate::new().await;
    let ground = estate.log_in().await;
    let calls = estate.every_kind(&estate.caller(estate.settings()), &ground).await;
    let (a, m) = (estate.provider_at(), estate.upstream_at());
    let expected = [
        ("challenge", vec![&m, &m, &a]),
        ("resource metadata", vec![&m, &a]),
        ("server metadata", vec![&a]),
        ("registration", vec![&a]),
        ("code exchange", vec![&a]),
        ("refresh", vec![&a]),
        ("device authorization", vec![&a]),
        ("device code exchange", vec![&a]),
        ("revocation", vec![&a]),
        ("data plane", vec![&m]),
    ];
    for ((kind, result, asked), (name, ways)) in calls.iter().zip(&expected) {
        assert_eq!((kind, result), (name, &Ok(())));
        assert_eq!(asked.iter().collect::<Vec<_>>(), *ways, "{kind}");
    }
    assert_eq!(calls.len(), expected.len());
}

#[cfg(unix)]
#[tokio::test]
async fn what_is_excepted_from_the_proxy_is_reached_straight_by_every_kind_of_call() {
    let estate = Estate::new().await;
    let ground = estate.log_in().await;
    let proxies = Matcher::builder().all(estate.proxy.url()).no(HOST).build();
    for (kind, result, asked) in estate.every_kind(&Caller::new(estate.settings(), proxies), &ground).await {
        assert_eq!((kind, result, asked), (kind, Ok(()), Vec::new()));
    }
}

#[tokio::test]
async fn without_the_authority_every_kind_of_call_says_so() {
    let estate = Estate::new().await;
    let ground = estate.log_in().await;
    let server = ServerSettings { ca_file: None, ..estate.settings() };
    expect_failures(&estate.every_kind(&estate.caller(server), &ground).await, "UnknownIssuer");
}

#[tokio::test]
async fn without_a_certificate_every_kind_of_call_says_so() {
    let estate = Estate::new().await;
    let ground = estate.log_in().await;
    let server = ServerSettings { client_certificate: None, ..estate.settings() };
    let calls = estate.every_kind(&estate.caller(server), &ground).await;
    expect_failures(&calls, "it demands a client certificate; set client_cert_file");
}

#[tokio::test]
async fn with_a_stranger_s_certificate_every_kind_of_call_says_so() {
    let estate = Estate::new().await;
    let ground = estate.log_in().await;
    let stranger = Authority::new().unwrap().issue_client(estate.folder.path(), "stranger").unwrap();
    let certificate = ClientCertificate { cert_file: stranger.combined_file, key_file: None };
    let server = ServerSettings { client_certificate: Some(certificate), ..estate.settings() };
    let calls = estate.every_kind(&estate.caller(server), &ground).await;
    expect_failures(&calls, "it does not accept the client certificate");
}

#[tokio::test]
async fn a_proxy_that_wants_another_password_is_named_by_every_kind_of_call() {
    let estate = Estate::new().await;
    let ground = estate.log_in().await;
    let url = estate.proxy.url().replace("proxy-canary", "wrong-canary");
    let caller = Caller::new(estate.settings(), Matcher::builder().all(url).build());
    for (kind, result, asked) in estate.every_kind(&caller, &ground).await {
        let error = result.expect_err(kind);
        assert!(error.contains("proxy") && !error.contains("canary"), "{kind}: {error}");
        assert!(!asked.is_empty(), "{kind}");
    }
}

#[tokio::test]
async fn a_proxy_of_another_kind_is_refused_by_every_kind_of_call() {
    let estate = Estate::new().await;
    let ground = estate.log_in().await;
    for scheme in ["https", "socks5h"] {
        let url = estate.proxy.url().replace("http://", &format!("{scheme}://"));
        let caller = Caller::new(estate.settings(), Matcher::builder().all(url).build());
        let calls = estate.every_kind(&caller, &ground).await;
        expect_failures(&calls, &format!("proxies that speak {scheme} are not supported"));
    }
}

#[tokio::test]
async fn a_rotated_authority_and_certificate_are_noticed_without_a_restart() {
    let estate = Estate::new().await;
    let ground = estate.log_in().await;
    let caller = estate.caller(estate.settings());
    let succeed =
        |calls: Vec<Call>| calls.into_iter().for_each(|(kind, result, _)| assert_eq!((kind, result), (kind, Ok(()))));
    succeed(estate.every_kind(&caller, &ground).await);

    let next = Authority::new().unwrap();
    for front in &estate.fronts {
        front.become_like(next.server(&[HOST], Some(&next)).unwrap());
    }
    expect_failures(&estate.every_kind(&caller, &ground).await, "invalid peer certificate");

    // Half of it is there: what was in force before stays.
    let ca_file = estate.folder.path().join("ca.pem");
    std::fs::write(&ca_file, &next.pem()[..60]).unwrap();
    expect_failures(&estate.every_kind(&caller, &ground).await, "invalid peer certificate");

    std::fs::write(&ca_file, format!("{}{}", next.pem(), estate.authority.pem())).unwrap();
    next.issue_client(estate.folder.path(), "client").unwrap();
    succeed(estate.every_kind(&caller, &ground).await);
}
