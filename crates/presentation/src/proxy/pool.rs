//! Connections to upstreams, kept for the next request of the same thread.
//!
//! A connection is driven by whoever uses it: by the request that waits for its answer, then by the
//! body that is passed on. No task of its own, no wake-up between tasks; in the pool nobody drives
//! it, and whether it is still good is seen when it is taken out.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use everfresh_application::ports::{Dialer, UpstreamIo};
use everfresh_application::{Access, ServerSettings};
use everfresh_domain::Timestamp;
use http::{Request, Response};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::body::RequestBody;

type Driver = http1::Connection<TokioIo<Box<dyn UpstreamIo>>, RequestBody>;

/// Idle connections kept for one upstream.
const IDLE_MAX: usize = 64;

/// How long an idle connection is kept: shorter than servers usually keep theirs.
const IDLE_LIFETIME: Duration = Duration::from_secs(50);

/// One connection.
struct Connection {
    sender: http1::SendRequest<RequestBody>,
    /// Gone once it has ended.
    driver: Option<Driver>,
    reused: bool,
    idle_since: Moment,
}

/// A moment by both clocks: the monotonic one stands still while the machine sleeps, and the
/// other can be set.
#[derive(Clone, Copy)]
struct Moment(Instant, Timestamp);

impl Moment {
    fn now(access: &Access) -> Self {
        Self(Instant::now(), access.now())
    }

    fn is_long_ago(self, now: Self) -> bool {
        now.0.duration_since(self.0).max(now.1.since(self.1)) >= IDLE_LIFETIME
    }
}

/// Why an upstream gave no answer.
#[derive(Debug)]
pub(super) enum SendError {
    /// No connection could be made: nothing was sent.
    Unreachable(io::Error),
    /// The connection broke. `sent` tells whether the request may have arrived.
    Broken { cause: hyper::Error, sent: bool, reused: bool },
}

/// The idle connections of one thread to one upstream, boxed: they move from hand to hand.
#[expect(clippy::vec_box, reason = "a connection is most of a kilobyte, and travels with every answer")]
struct Idle {
    connections: Mutex<Vec<Box<Connection>>>,
    access: Access,
}

/// An upstream as its settings say, and the connections of one thread to it.
pub(super) struct Upstream {
    server: Arc<ServerSettings>,
    idle: Arc<Idle>,
}

/// How one thread reaches its upstreams.
pub(super) struct Pool {
    access: Access,
    dialer: Arc<dyn Dialer>,
    all: Mutex<Vec<Weak<Idle>>>,
}

impl Pool {
    pub(super) fn new(access: Access, dialer: Arc<dyn Dialer>) -> Self {
        Self { access, dialer, all: Mutex::default() }
    }

    /// Another upstream, without connections yet. They end with it.
    pub(super) fn upstream(&self, server: &Arc<ServerSettings>) -> Upstream {
        let idle = Arc::new(Idle { connections: Mutex::default(), access: self.access.clone() });
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|idle| idle.strong_count() > 0);
        all.push(Arc::downgrade(&idle));
        Upstream { server: Arc::clone(server), idle }
    }

    /// Closes connections that nobody used for long. To be called now and then.
    pub(super) fn sweep(&self) {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter_map(Weak::upgrade).for_each(|idle| idle.sweep());
    }

    /// Sends one request and returns the head of its answer. `fresh` avoids idle connections.
    pub(super) async fn send(
        &self,
        upstream: &Upstream,
        request: Request<RequestBody>,
        fresh: bool,
    ) -> Result<Response<ResponseBody>, SendError> {
        let kept = if fresh { None } else { upstream.idle.take() };
        let connection = match kept {
            Some(connection) => connection,
            None => self.dial(&upstream.server).await.map_err(SendError::Unreachable)?,
        };
        exchange(connection, request, &upstream.idle).await
    }

    async fn dial(&self, server: &ServerSettings) -> io::Result<Box<Connection>> {
        let io = TokioIo::new(self.dialer.dial(server).await?);
        let (sender, driver) = http1::Builder::new().handshake(io).await.map_err(io::Error::other)?;
        let idle_since = Moment::now(&self.access);
        Ok(Box::new(Connection { sender, driver: Some(driver), reused: false, idle_since }))
    }
}

async fn exchange(
    mut connection: Box<Connection>,
    request: Request<RequestBody>,
    idle: &Arc<Idle>,
) -> Result<Response<ResponseBody>, SendError> {
    let reused = connection.reused;
    let mut answer = std::pin::pin!(connection.sender.try_send_request(request));
    let response = std::future::poll_fn(|cx| {
        // The driver's own end shows up as the answer's error.
        goes_on(&mut connection.driver, cx);
        answer.as_mut().poll(cx)
    })
    .await;
    match response {
        Ok(response) => {
            let idle = Arc::downgrade(idle);
            Ok(response.map(|body| ResponseBody { body, connection: Some(connection), idle }))
        }
        Err(mut error) => {
            let sent = error.take_message().is_none();
            Err(SendError::Broken { cause: error.into_error(), sent, reused })
        }
    }
}

/// Lets a connection work, and tells whether it goes on. One that has ended is dropped, which
/// answers whoever still waits for something of it.
fn goes_on(driver: &mut Option<Driver>, cx: &mut Context<'_>) -> bool {
    if let Some(running) = driver
        && Pin::new(running).poll(cx).is_ready()
    {
        *driver = None;
    }
    driver.is_some()
}

impl Idle {
    #[expect(clippy::vec_box, reason = "as the field")]
    fn lock(&self) -> MutexGuard<'_, Vec<Box<Connection>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that is still good.
    fn take(&self) -> Option<Box<Connection>> {
        let mut connections = self.lock();
        let mut nobody = Context::from_waker(std::task::Waker::noop());
        while let Some(mut connection) = connections.pop() {
            let open = goes_on(&mut connection.driver, &mut nobody);
            if open && !connection.idle_since.is_long_ago(Moment::now(&self.access)) && connection.sender.is_ready() {
                connection.reused = true;
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection for the next request, where there is room.
    fn put(&self, mut connection: Box<Connection>) {
        let mut connections = self.lock();
        if connections.len() < IDLE_MAX {
            connection.idle_since = Moment::now(&self.access);
            connections.push(connection);
        }
    }

    fn sweep(&self) {
        let now = Moment::now(&self.access);
        self.lock().retain(|connection| !connection.idle_since.is_long_ago(now));
    }
}

/// An upstream's body, passed on as it comes. At its end the connection goes back to the pool;
/// dropped before, the connection is closed, which is how an upstream learns of a disconnect.
pub(super) struct ResponseBody {
    body: Incoming,
    connection: Option<Box<Connection>>,
    idle: Weak<Idle>,
}

impl ResponseBody {
    fn give_back(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        let mut nobody = Context::from_waker(std::task::Waker::noop());
        if goes_on(&mut connection.driver, &mut nobody)
            && connection.sender.is_ready()
            && let Some(idle) = self.idle.upgrade()
        {
            idle.put(connection);
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        if let Some(connection) = &mut this.connection {
            goes_on(&mut connection.driver, cx);
        }
        let frame = std::task::ready!(Pin::new(&mut this.body).poll_frame(cx));
        if frame.is_none() || this.body.is_end_stream() {
            this.give_back();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body that is at its end from the beginning is never polled.
impl Drop for ResponseBody {
    fn drop(&mut self) {
        if self.body.is_end_stream() {
            self.give_back();
        }
    }
}
