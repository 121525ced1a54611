//! Connections to upstreams: through the system's proxies, with TLS by the rules of [`crate::http`].

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use everfresh_application::ServerSettings;
use everfresh_application::ports::{Dialer, UpstreamIo};
use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

use crate::http::{CONNECT_TIMEOUT, HttpFactory, Via, explanation};

/// How often a silent connection is probed, so that a stream to a machine that is gone ends.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// How long TLS may take once there is a connection.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Dials over the network.
pub struct NetDialer {
    factory: Arc<HttpFactory>,
}

impl NetDialer {
    /// A dialer that takes its TLS and its proxies from `factory`.
    pub fn new(factory: Arc<HttpFactory>) -> Self {
        Self { factory }
    }
}

#[async_trait]
impl Dialer for NetDialer {
    async fn dial(&self, server: &ServerSettings) -> io::Result<Box<dyn UpstreamIo>> {
        let uri: Uri = server.url.parse().map_err(|error| io::Error::other(format!("{}: {error}", server.url)))?;
        let host = uri.host().unwrap_or_default().to_owned();
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{host}: {error}"));
        let proxy = self.factory.via(&uri).map_err(named)?;
        let tcp = match tokio::time::timeout(CONNECT_TIMEOUT, connect(&uri, proxy.as_ref())).await {
            Ok(connected) => connected.map_err(named)?,
            Err(_) => return Err(named(io::ErrorKind::TimedOut.into())),
        };
        if uri.scheme_str() != Some("https") {
            return Ok(Box::new(tcp));
        }
        let mut config = (*self.factory.tls(server)?).clone();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(bare).map_err(|error| named(io::Error::other(error)))?;
        let handshake = TlsConnector::from(Arc::new(config)).connect(name, tcp);
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(tls)) => Ok(Box::new(Explained(tls))),
            Ok(Err(error)) => Err(named(explained(error))),
            Err(_) => Err(named(io::ErrorKind::TimedOut.into())),
        }
    }
}

/// A TCP connection to the origin of `uri`, or through a proxy's tunnel to it.
async fn connect(uri: &Uri, proxy: Option<&Via>) -> io::Result<TcpStream> {
    let mut direct = HttpConnector::new();
    direct.set_nodelay(true);
    direct.set_keepalive(Some(KEEPALIVE));
    direct.enforce_http(false);
    let connected = match proxy {
        None => direct.call(uri.clone()).await.map_err(|error| innermost(&error)),
        Some(proxy) => tunnelled(uri, proxy, direct).await,
    };
    connected.map(TokioIo::into_inner)
}

async fn tunnelled(uri: &Uri, proxy: &Via, direct: HttpConnector) -> io::Result<TokioIo<TcpStream>> {
    let failed = |cause: String| io::Error::other(format!("through the proxy {}: {cause}", proxy.host()));
    let mut tunnel = Tunnel::new(proxy.uri.clone(), direct);
    if let Some(authorization) = &proxy.authorization {
        tunnel = tunnel.with_auth(authorization.clone());
    }
    let destination = with_port(uri).map_err(|error| failed(error.to_string()))?;
    tunnel.call(destination).await.map_err(|error| failed(innermost(&error).to_string()))
}

/// `uri` with its port written out: a tunnel takes 443 for granted, also for plain HTTP.
fn with_port(uri: &Uri) -> Result<Uri, http::uri::InvalidUri> {
    match (uri.port(), uri.scheme_str(), uri.host()) {
        (None, Some("http"), Some(host)) => format!("http://{host}:80/").parse(),
        _ => Ok(uri.clone()),
    }
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

/// A connection whose errors of TLS say what can be done: a certificate that is missed or not
/// accepted comes to light only with the first answer.
struct Explained(TlsStream<TcpStream>);

fn explained(error: io::Error) -> io::Error {
    match explanation(&error) {
        Some(words) => io::Error::new(error.kind(), words),
        None => error,
    }
}

impl AsyncRead for Explained {
    fn poll_read(mut self: Pin<&mut Self>, ctx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(ctx, into).map_err(explained)
    }
}

impl AsyncWrite for Explained {
    fn poll_write(mut self: Pin<&mut Self>, ctx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(ctx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(ctx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(ctx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(ctx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use hyper_util::client::proxy::matcher::Matcher;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn proxy() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://user:canary@{}", listener.local_addr().unwrap());
        (listener, url)
    }

    async fn dialled(proxy: &str, upstream: &str) -> io::Result<Box<dyn UpstreamIo>> {
        let proxies = Matcher::builder().all(proxy).build();
        let dialer = NetDialer::new(HttpFactory::with_proxies(proxies));
        dialer.dial(&ServerSettings::new("s".parse().unwrap(), upstream)).await
    }

    async fn asked(listener: TcpListener) -> (TcpStream, String) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            bytes.push(stream.read_u8().await.unwrap());
        }
        (stream, String::from_utf8(bytes).unwrap())
    }

    #[tokio::test]
    async fn a_tunnel_leads_to_the_port_of_the_scheme() {
        let (listener, url) = proxy().await;
        let dialling = tokio::spawn(async move { dialled(&url, "http://upstream.example/mcp").await });
        let (mut stream, asked) = asked(listener).await;
        assert!(asked.starts_with("CONNECT upstream.example:80 HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("Proxy-Authorization: Basic "), "{asked}");
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        assert!(dialling.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_proxy_that_never_answers_is_given_up() {
        let (listener, url) = proxy().await;
        let dialling = tokio::spawn(async move { dialled(&url, "https://upstream.example/mcp").await });
        let held = asked(listener).await;
        tokio::time::pause();
        let error = dialling.await.unwrap().err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        drop(held);
    }

    #[tokio::test]
    async fn a_refusing_or_foreign_proxy_is_named_without_its_password() {
        let (listener, url) = proxy().await;
        let secure = url.replace("http://", "https://");
        let dialling = tokio::spawn(async move { dialled(&url, "https://upstream.example/mcp").await });
        let (mut stream, _) = asked(listener).await;
        stream.write_all(b"HTTP/1.1 407 No\r\n\r\n").await.unwrap();
        let refused = dialling.await.unwrap().err().unwrap();
        let foreign = dialled(&secure, "https://upstream.example/mcp").await.err().unwrap();
        for error in [refused, foreign] {
            let shown = error.to_string();
            assert!(shown.contains("proxy 127.0.0.1") && !shown.contains("canary"), "{shown}");
        }
    }
}
