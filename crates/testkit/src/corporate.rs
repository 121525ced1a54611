//! A corporate network in small: an authority of its own, TLS that may demand client certificates,
//! and an HTTP proxy as the only way out.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::rustls::server::Acceptor;

/// An authority that no system knows.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, as files.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    /// The certificate (PEM).
    pub cert_file: PathBuf,
    /// Its key (PEM).
    pub key_file: PathBuf,
    /// Both in one file (PEM).
    pub combined_file: PathBuf,
}

impl Authority {
    /// A new one.
    pub fn new() -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::new(vec![])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Its certificate (PEM).
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Writes its certificate to `path`.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        std::fs::write(path, self.pem())
    }

    fn issue(
        &self,
        names: &[&str],
        purpose: ExtendedKeyUsagePurpose,
    ) -> Result<(rcgen::Certificate, KeyPair), rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
        params.extended_key_usages = vec![purpose];
        Ok((params.signed_by(&key, &self.0)?, key))
    }

    /// Issues a certificate for a client, and writes it into `folder`.
    pub fn issue_client(&self, folder: &Path, name: &str) -> io::Result<CertificateFiles> {
        let issued = self.issue(&[name], ExtendedKeyUsagePurpose::ClientAuth);
        let (certificate, key) = issued.map_err(io::Error::other)?;
        let at = |suffix: &str| folder.join(format!("{name}{suffix}"));
        let files =
            CertificateFiles { cert_file: at(".pem"), key_file: at("-key.pem"), combined_file: at("-both.pem") };
        std::fs::write(&files.cert_file, certificate.pem())?;
        std::fs::write(&files.key_file, key.serialize_pem())?;
        std::fs::write(&files.combined_file, format!("{}{}", key.serialize_pem(), certificate.pem()))?;
        Ok(files)
    }

    /// How a server with a certificate for `names` speaks TLS; with `clients_of`, only to clients
    /// with a certificate of that authority.
    pub fn server(&self, names: &[&str], clients_of: Option<&Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let other = |error: &dyn std::fmt::Display| rustls::Error::General(error.to_string());
        let issued = self.issue(names, ExtendedKeyUsagePurpose::ServerAuth).map_err(|error| other(&error))?;
        let (certificate, key) = issued;
        let provider = Arc::new(default_provider());
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
        let builder = match clients_of {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.0.der().clone())?;
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| other(&error))?)
            }
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| other(&error))?;
        let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
        Ok(Arc::new(builder.with_single_cert(chain, key)?))
    }
}

/// Something that listens until it is dropped.
struct Listening {
    address: SocketAddr,
    task: AbortHandle,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen<F>(handle: impl Fn(TcpStream) -> F + Send + 'static) -> io::Result<Listening>
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(handle(stream));
        }
    });
    Ok(Listening { address, task: task.abort_handle() })
}

/// TLS in front of a server that speaks plain HTTP.
pub struct TlsFront {
    listening: Listening,
    config: Arc<Mutex<Arc<ServerConfig>>>,
}

impl TlsFront {
    /// Passes on to `behind` what comes over TLS by `config`.
    pub async fn start(config: Arc<ServerConfig>, behind: SocketAddr) -> io::Result<Self> {
        let config = Arc::new(Mutex::new(config));
        let shared = Arc::clone(&config);
        let listening = listen(move |stream| {
            let config = Arc::clone(&shared.lock().unwrap_or_else(PoisonError::into_inner));
            async move { drop(passed_on(stream, config, behind).await) }
        })
        .await?;
        Ok(Self { listening, config })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.listening.address
    }

    /// Speaks TLS by `config` from the next connection on.
    pub fn become_like(&self, config: Arc<ServerConfig>) {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
    }
}

async fn passed_on(stream: TcpStream, config: Arc<ServerConfig>, behind: SocketAddr) -> io::Result<()> {
    let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    match hello.into_stream(config).into_fallible().await {
        Ok(mut secured) => {
            let mut plain = TcpStream::connect(behind).await?;
            copy_bidirectional(&mut secured, &mut plain).await?;
        }
        // A connection closed over unread bytes is reset, and takes the alert with it.
        Err((_, mut stream)) => {
            stream.shutdown().await?;
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
        }
    }
    Ok(())
}

/// An HTTP proxy (RFC 9110 section 9.3.6) that knows its own ways to names, and wants a password.
pub struct Proxy {
    listening: Listening,
    asked: Arc<Mutex<Vec<String>>>,
}

/// The credentials that the proxy wants: `user`, `proxy-canary`.
const CREDENTIALS: &str = "Basic dXNlcjpwcm94eS1jYW5hcnk=";

impl Proxy {
    /// A proxy that connects each `host:port` of `ways` to its address, and nothing else.
    pub async fn start(ways: BTreeMap<String, SocketAddr>) -> io::Result<Self> {
        let (asked, ways) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(ways));
        let log = Arc::clone(&asked);
        let listening = listen(move |stream| {
            let (log, ways) = (Arc::clone(&log), Arc::clone(&ways));
            async move { drop(tunnelled(stream, &ways, &log).await) }
        })
        .await?;
        Ok(Self { listening, asked })
    }

    /// Its URL, with the password that it wants.
    pub fn url(&self) -> String {
        format!("http://user:proxy-canary@{}", self.listening.address)
    }

    /// What it was asked for since the last look, in order.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn tunnelled(
    mut stream: TcpStream,
    ways: &BTreeMap<String, SocketAddr>,
    log: &Mutex<Vec<String>>,
) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    let line = head.lines().next().unwrap_or_default();
    let authority = line.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).unwrap_or(line).to_owned();
    let known = head.lines().any(|line| {
        line.split_once(": ")
            .is_some_and(|(name, value)| name.eq_ignore_ascii_case("proxy-authorization") && value == CREDENTIALS)
    });
    log.lock().unwrap_or_else(PoisonError::into_inner).push(authority.clone());
    let way = match (known, ways.get(&authority)) {
        (false, _) => return stream.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await,
        (true, None) => return stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").await,
        (true, Some(way)) => way,
    };
    let mut there = TcpStream::connect(way).await?;
    stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await?;
    copy_bidirectional(&mut stream, &mut there).await?;
    Ok(())
}
