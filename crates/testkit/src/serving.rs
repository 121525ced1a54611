//! A small HTTP server on loopback for the servers of this crate.

use std::error::Error;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use everfresh_domain::Timestamp;
use futures_util::stream;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};

use crate::proof::Shown;
use crate::provider::{Manner, Reply};

pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A request whose body has come in whole.
pub(crate) struct Received {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Received {
    /// Scheme and token of the `Authorization` header.
    pub(crate) fn authorization(&self) -> Option<(&str, &str)> {
        self.headers.get(http::header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')
    }

    /// The URL that was asked for, without query.
    pub(crate) fn url(&self) -> String {
        let host = self.headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        format!("http://{host}{}", self.uri.path())
    }

    /// The proof of possession in its one `DPoP` header; `url` is [`Received::url`].
    pub(crate) fn proof<'a>(&'a self, url: &'a str) -> Option<Shown<'a>> {
        let mut headers = self.headers.get_all("dpop").iter();
        let (Some(proof), None) = (headers.next(), headers.next()) else { return None };
        let access_token = self.authorization().filter(|(scheme, _)| *scheme == "DPoP").map(|(_, token)| token);
        Some(Shown { proof: proof.to_str().ok()?, method: self.method.as_str(), url, access_token })
    }
}

/// A server that runs until it is dropped.
pub(crate) struct Serving {
    pub(crate) address: SocketAddr,
    task: AbortHandle,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves `handle` at `address`. An error of `handle` closes the connection without an answer; if it
/// is a reset, by one.
pub(crate) async fn serve<H, F>(address: SocketAddr, handle: H) -> io::Result<Serving>
where
    H: Fn(Received) -> F + Send + Sync + 'static,
    F: Future<Output = io::Result<Response<Body>>> + Send + 'static,
{
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let handle = Arc::new(handle);
    let task = tokio::spawn(async move {
        // Connections end with the server: a provider that is down answers nobody.
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream.set_nodelay(true));
            while connections.try_join_next().is_some() {}
            let handle = Arc::clone(&handle);
            let service = service_fn(move |request| Box::pin(receive(Arc::clone(&handle), request)));
            let mut connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            connections.spawn(async move {
                let ended = poll_fn(|context| connection.poll_without_shutdown(context)).await;
                if ended.is_err_and(|error| is_reset(&error)) {
                    drop(connection.into_parts().io.into_inner().set_zero_linger());
                }
            });
        }
    });
    Ok(Serving { address, task: task.abort_handle() })
}

fn is_reset(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::ConnectionReset)
}

async fn receive<H, F>(handle: Arc<H>, request: Request<Incoming>) -> io::Result<Response<Body>>
where
    H: Fn(Received) -> F,
    F: Future<Output = io::Result<Response<Body>>>,
{
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    handle(Received { method: head.method, uri: head.uri, headers: head.headers, body }).await
}

/// A whole body.
pub(crate) fn whole(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body of chunks.
pub(crate) fn streaming(chunks: impl futures_util::Stream<Item = Bytes> + Send + 'static) -> Body {
    use futures_util::StreamExt;

    StreamBody::new(chunks.map(|chunk| Ok(Frame::data(chunk)))).boxed_unsync()
}

/// Half of a body whose whole length was told, and then nothing, or the end of the connection.
fn half(reply: &Reply) -> Body {
    use futures_util::StreamExt;

    let first = Bytes::copy_from_slice(&reply.body.as_bytes()[..reply.body.len() / 2]);
    let first = stream::iter([Ok(Frame::data(first))]);
    if reply.manner == Manner::Half {
        return StreamBody::new(first.chain(stream::pending())).boxed_unsync();
    }
    let end = stream::iter([Err(io::Error::other("told to close"))]);
    StreamBody::new(first.chain(end)).boxed_unsync()
}

/// Sends a model's reply in the manner that it wants.
pub(crate) async fn send(reply: Reply) -> io::Result<Response<Body>> {
    if reply.delay_ms > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(reply.delay_ms)).await;
    }
    let mut response = Response::builder().status(reply.status);
    if let Manner::Half | Manner::HalfClose = reply.manner {
        response = response.header(http::header::CONTENT_LENGTH, reply.body.len());
    }
    for (name, value) in &reply.headers {
        response = response.header(name, value);
    }
    let body = match reply.manner {
        Manner::Whole => whole(reply.body),
        Manner::Endless => streaming(stream::repeat(Bytes::from_static(&[b' '; 1024]))),
        Manner::Hang => std::future::pending().await,
        Manner::Half | Manner::HalfClose => half(&reply),
        Manner::Close => return Err(io::Error::other("told to close")),
        Manner::Reset => return Err(io::ErrorKind::ConnectionReset.into()),
    };
    response.body(body).map_err(io::Error::other)
}

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
