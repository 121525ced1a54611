//! Connections to upstreams: through the system's proxies, with TLS by the rules of [`crate::http`].

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use everfresh_application::ServerSettings;
use everfresh_application::ports::{Dialer, UpstreamIo};
use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use crate::http::{CONNECT_TIMEOUT, HttpFactory};

/// How long TLS may take once there is a connection.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Dials over the network.
pub struct NetDialer {
    factory: Arc<HttpFactory>,
    proxies: Matcher,
}

impl NetDialer {
    /// A dialer that takes its TLS from `factory` and its proxies from the system.
    pub fn new(factory: Arc<HttpFactory>) -> Self {
        Self { factory, proxies: Matcher::from_system() }
    }
}

#[async_trait]
impl Dialer for NetDialer {
    async fn dial(&self, server: &ServerSettings) -> io::Result<Box<dyn UpstreamIo>> {
        let uri: Uri = server.url.parse().map_err(|error| io::Error::other(format!("{}: {error}", server.url)))?;
        let host = uri.host().unwrap_or_default().to_owned();
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{host}: {error}"));
        let tcp = connect(&uri, self.proxies.intercept(&uri).as_ref()).await.map_err(named)?;
        if uri.scheme_str() != Some("https") {
            return Ok(Box::new(tcp));
        }
        let mut config = (*self.factory.tls(server.ca_file.as_deref())?).clone();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(bare).map_err(|error| named(io::Error::other(error)))?;
        let handshake = TlsConnector::from(Arc::new(config)).connect(name, tcp);
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(tls)) => Ok(Box::new(tls)),
            Ok(Err(error)) => Err(named(error)),
            Err(_) => Err(named(io::ErrorKind::TimedOut.into())),
        }
    }
}

/// A TCP connection to the origin of `uri`, or through a proxy's tunnel to it.
async fn connect(uri: &Uri, proxy: Option<&Intercept>) -> io::Result<TcpStream> {
    let mut direct = HttpConnector::new();
    direct.set_nodelay(true);
    direct.set_connect_timeout(Some(CONNECT_TIMEOUT));
    direct.enforce_http(false);
    let connected = match proxy {
        None => direct.call(uri.clone()).await.map_err(|error| innermost(&error)),
        Some(proxy) => {
            let mut tunnel = Tunnel::new(proxy.uri().clone(), direct);
            if let Some(credentials) = proxy.basic_auth() {
                tunnel = tunnel.with_auth(credentials.clone());
            }
            let through = format!("through the proxy {}", proxy.uri().authority().map_or("", |place| place.as_str()));
            tunnel
                .call(uri.clone())
                .await
                .map_err(|error| io::Error::other(format!("{through}: {}", innermost(&error))))
        }
    };
    connected.map(hyper_util::rt::TokioIo::into_inner)
}

/// The cause that says what happened, with its kind.
fn innermost(error: &(dyn std::error::Error + 'static)) -> io::Error {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let kind = innermost.downcast_ref::<io::Error>().map_or(io::ErrorKind::Other, io::Error::kind);
    io::Error::new(kind, innermost.to_string())
}
