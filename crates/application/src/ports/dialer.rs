//! Connections to upstreams: TCP, TLS, system proxies, private authorities and client certificates.

use std::io;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::settings::ServerSettings;

/// A byte stream to an upstream, with TLS done where the URL asks for it.
pub trait UpstreamIo: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> UpstreamIo for T {}

/// Opens connections for the data plane, by the same rules as every other outbound call.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Dialer: Send + Sync {
    /// Connects to the origin of `server`'s URL, ready for HTTP/1.1. The error says what could not
    /// be reached and why.
    async fn dial(&self, server: &ServerSettings) -> io::Result<Box<dyn UpstreamIo>>;
}
