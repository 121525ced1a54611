//! Listeners, threads and connections.
//!
//! Each data-plane thread has a runtime of its own: a connection, its requests and its connections
//! to upstreams stay on one thread, so that nothing is woken across threads. Everything that is not
//! the data plane is handed to the main runtime, where the application lives.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener as StdListener;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use everfresh_application::ports::{Dialer, Entropy};
use everfresh_application::{Application, NoticeDesk};
use http::{Request, Response, StatusCode};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt;

use crate::api;
use crate::guard::Guard;
use crate::proxy::{Proxy, ProxyBody, Seals, Shared, describe_metrics, is_data_path};

/// Connections of one thread at once; a person's clients need a handful.
const CONNECTIONS_MAX: usize = 4096;

/// How long a client may take to send the head of a request, and how long a connection may idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);

/// How long a shutdown waits for answers under way. Streams without end are cut then.
const DRAIN: Duration = Duration::from_secs(3);

/// How often idle connections to upstreams are looked through.
const SWEEP: Duration = Duration::from_secs(15);

/// Stack of a data-plane thread: futures live on the heap.
const STACK: usize = 512 * 1024;

/// What the surfaces are made of.
#[derive(Clone)]
pub struct Parts {
    /// The use cases.
    pub application: Application,
    /// Who may ask.
    pub guard: Arc<Guard>,
    /// How upstreams are reached.
    pub dialer: Arc<dyn Dialer>,
    /// Where notices are made and sent.
    pub notices: NoticeDesk,
    /// The text of `/metrics`.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Randomness for links and cookies.
    pub entropy: Arc<dyn Entropy>,
    /// Where this daemon is, as `http://127.0.0.1:7411`.
    pub base_url: String,
    /// This program's version.
    pub version: &'static str,
}

/// The running surfaces.
pub struct Server {
    closing: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Everything but the data plane, as a service that can be called without a socket.
    pub fn router(parts: Parts) -> Router {
        api::router(parts)
    }

    /// Serves on `listeners` with so many threads. To be called within the main runtime.
    pub fn start(listeners: &[StdListener], parts: Parts, threads: usize) -> io::Result<Self> {
        describe_metrics();
        let shared = Arc::new(Shared {
            access: parts.application.access().clone(),
            guard: Arc::clone(&parts.guard),
            dialer: Arc::clone(&parts.dialer),
            seals: Seals::new(parts.entropy.bytes()),
            page_url: format!("{}/", parts.base_url),
        });
        let router = api::router(parts);
        let (closing, _) = watch::channel(false);
        let mut started = Vec::new();
        for number in 0..threads.max(1) {
            let worker = Worker {
                proxy: Arc::new(Proxy::new(Arc::clone(&shared))),
                router: router.clone(),
                main: Handle::current(),
                closing: closing.subscribe(),
            };
            let listeners = listeners.iter().map(StdListener::try_clone).collect::<io::Result<Vec<_>>>()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let thread = std::thread::Builder::new().name(format!("proxy-{number}")).stack_size(STACK);
            started.push(thread.spawn(move || runtime.block_on(worker.run(listeners)))?);
        }
        Ok(Self { closing, threads: started })
    }

    /// Takes no more connections, lets answers under way end, and returns.
    pub async fn shutdown(self) {
        self.closing.send_replace(true);
        let threads = self.threads;
        let all = tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join())));
        drop(all.await);
    }
}

/// One thread's part.
struct Worker {
    proxy: Arc<Proxy>,
    router: Router,
    main: Handle,
    closing: watch::Receiver<bool>,
}

impl Worker {
    async fn run(self, listeners: Vec<StdListener>) {
        let worker = Arc::new(self);
        let graceful = Arc::new(GracefulShutdown::new());
        let mut accepting = tokio::task::JoinSet::new();
        for listener in listeners {
            match listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener)) {
                Ok(listener) => drop(accepting.spawn(Arc::clone(&worker).accept(listener, Arc::clone(&graceful)))),
                Err(error) => tracing::error!(%error, "a listener cannot be used"),
            }
        }
        let mut closing = worker.closing.clone();
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            tokio::select! {
                _ = closing.wait_for(|closing| *closing) => break,
                _ = sweep.tick() => worker.proxy.sweep(),
            }
        }
        accepting.shutdown().await;
        if let Some(graceful) = Arc::into_inner(graceful) {
            drop(tokio::time::timeout(DRAIN, graceful.shutdown()).await);
        }
    }

    async fn accept(self: Arc<Self>, listener: TcpListener, graceful: Arc<GracefulShutdown>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, most likely: others will be closed meanwhile.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            drop(stream.set_nodelay(true));
            let worker = Arc::clone(&self);
            let service = service_fn(move |request| {
                let worker = Arc::clone(&worker);
                async move { Ok::<_, Infallible>(worker.serve(request).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            let connection = graceful.watch(connection);
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection ended");
                }
                drop(place);
            });
        }
    }

    async fn serve(&self, request: Request<Incoming>) -> Response<AnyBody> {
        if is_data_path(request.uri().path()) {
            return self.proxy.serve(request).await.map(AnyBody::Proxy);
        }
        let answer = self.main.spawn(self.router.clone().oneshot(request.map(axum::body::Body::new)));
        match answer.await {
            Ok(Ok(response)) => response.map(AnyBody::Api),
            Ok(Err(never)) => match never {},
            Err(_) => {
                let mut failed = Response::new(AnyBody::Api(axum::body::Body::empty()));
                *failed.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                failed
            }
        }
    }
}

/// Either plane's body.
enum AnyBody {
    Proxy(ProxyBody),
    Api(axum::body::Body),
}

impl Body for AnyBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut *self {
            Self::Proxy(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Api(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Proxy(body) => body.is_end_stream(),
            Self::Api(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Proxy(body) => body.size_hint(),
            Self::Api(body) => body.size_hint(),
        }
    }
}
