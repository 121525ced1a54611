//! Private authorities: the same rules for the way to an upstream and to its token endpoint.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use everfresh_application::ServerSettings;
use everfresh_application::ports::{Dialer, OAuthClient};
use everfresh_domain::grant::Binding;
use everfresh_domain::{FailureClass, Secret};
use everfresh_infrastructure::dialer::NetDialer;
use everfresh_infrastructure::http::HttpFactory;
use everfresh_infrastructure::oauth::HttpOAuth;
use everfresh_infrastructure::system::{SystemClock, SystemEntropy};
use everfresh_testkit::contract::store::binding;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A token endpoint and upstream with a certificate of a private authority.
struct Private {
    origin: String,
    ca_file: PathBuf,
}

impl Private {
    /// Starts one whose certificate is for `name`, wherever it is reached.
    async fn start(name: &str, folder: &Path) -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        let ca_file = folder.join("ca.pem");
        std::fs::write(&ca_file, authority.pem()).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config =
            ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key);
        let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(acceptor.clone(), stream));
            }
        });
        Self { origin, ca_file }
    }

    fn server(&self, ca_file: Option<PathBuf>) -> ServerSettings {
        ServerSettings { ca_file, ..ServerSettings::new("s".parse().unwrap(), format!("{}/mcp", self.origin)) }
    }
}

async fn answer(acceptor: TlsAcceptor, stream: tokio::net::TcpStream) -> Option<()> {
    let mut stream = acceptor.accept(stream).await.ok()?;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.ok()?);
    }
    let body = r#"{"access_token":"a2"}"#;
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(answer.as_bytes()).await.ok()?;
    stream.shutdown().await.ok()
}

async fn refresh(server: &ServerSettings, place: &Private) -> Result<Secret, everfresh_domain::Failure> {
    let oauth = HttpOAuth::new(HttpFactory::new(), Arc::new(SystemClock::default()), Arc::new(SystemEntropy));
    let binding = Binding { token_endpoint: format!("{}/token", place.origin), ..binding() };
    oauth.refresh(server, &binding, &Secret::new("r1"), &[]).await.map(|tokens| tokens.access_token)
}

#[tokio::test]
async fn a_private_authority_is_trusted_where_it_is_configured_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let place = Private::start("localhost", folder.path()).await;
    let dialer = NetDialer::new(HttpFactory::new());
    let trusted = place.server(Some(place.ca_file.clone()));
    assert!(dialer.dial(&trusted).await.is_ok());
    assert_eq!(refresh(&trusted, &place).await.unwrap().expose(), "a2");
    let other = place.server(None);
    let error = dialer.dial(&other).await.err().unwrap();
    assert!(error.to_string().contains("localhost"), "{error}");
    assert_eq!(refresh(&other, &place).await.unwrap_err().class, FailureClass::Network);
}

#[tokio::test]
async fn a_certificate_for_another_name_costs_nothing_and_hints_at_a_portal() {
    let folder = tempfile::tempdir().unwrap();
    let place = Private::start("portal.example", folder.path()).await;
    let server = place.server(Some(place.ca_file.clone()));
    let failure = refresh(&server, &place).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Network, "{failure:?}");
    assert!(failure.message.ends_with("proxy or captive portal?"), "{failure:?}");
    assert!(NetDialer::new(HttpFactory::new()).dial(&server).await.is_err());
}

#[tokio::test]
async fn an_authority_file_that_is_none_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let place = Private::start("localhost", folder.path()).await;
    let path = folder.path().join("corp-ca.pem");
    std::fs::write(&path, "no certificate").unwrap();
    let error = NetDialer::new(HttpFactory::new()).dial(&place.server(Some(path))).await.err().unwrap();
    assert!(error.to_string().contains("corp-ca.pem"), "{error}");
}
