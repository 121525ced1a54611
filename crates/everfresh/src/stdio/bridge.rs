//! Between a stdio client and a server over Streamable HTTP: who says what, when and where.
//!
//! Requests are under way side by side, and answers go out as they come. Notifications and the
//! client's own answers keep their order. Nothing that may have been executed is sent twice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::exchange::Trouble;
use super::framing::{Line, Lines};
use super::message::{self, Message, NoMessage};
use super::mirror::{ToolHeaders, VERSION_KEY};
use super::session::Session;
use super::upstream::Upstream;

/// Requests under way at once. A client has a handful; one that has more is told so, since it
/// must still be heard when it cancels or answers.
pub(super) const IN_FLIGHT_MAX: usize = 256;

/// Notifications and answers that wait for their turn.
const LANE: usize = 256;

/// How long the end of a session may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// A request under way.
struct Flight {
    stop: CancellationToken,
    /// Of 2026-07-28 or later: closing its stream is how it is cancelled.
    is_modern: bool,
    serial: u64,
}

/// One client's connection to one server. Cloning shares it.
#[derive(Clone)]
pub(super) struct Bridge(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) upstream: Upstream,
    session: Mutex<Session>,
    /// One opens a lost session again, the others wait for it.
    pub(super) reopening: tokio::sync::Mutex<()>,
    tools: Mutex<ToolHeaders>,
    flights: Mutex<BTreeMap<String, Flight>>,
    /// The stream for what the server says by itself.
    listening: Mutex<Option<AbortOnDropHandle<()>>>,
    out: mpsc::Sender<Vec<u8>>,
    tasks: TaskTracker,
    /// Stops all of them.
    stop: CancellationToken,
}

/// Takes a request off the list once it has ended.
struct Landing {
    bridge: Bridge,
    key: String,
    serial: u64,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut flights = self.bridge.flights();
        if flights.get(&self.key).is_some_and(|flight| flight.serial == self.serial) {
            flights.remove(&self.key);
        }
    }
}

impl Bridge {
    /// Lines for the client go to `out`.
    pub(super) fn new(upstream: Upstream, out: mpsc::Sender<Vec<u8>>) -> Self {
        Self(Arc::new(Inner {
            upstream,
            session: Mutex::default(),
            reopening: tokio::sync::Mutex::default(),
            tools: Mutex::default(),
            flights: Mutex::default(),
            listening: Mutex::default(),
            out,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }))
    }

    /// Hears the client until it has no more to say.
    pub(super) async fn hear(&self, mut client: impl AsyncRead + Unpin) {
        let (lane, waiting) = mpsc::channel(LANE);
        let (bridge, stop) = (self.clone(), self.0.stop.child_token());
        self.0.tasks.spawn(stop.run_until_cancelled_owned(bridge.tell_in_order(waiting)));
        let mut lines = Lines::default();
        loop {
            match client.read_buf(lines.buffer()).await {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "stdin cannot be read");
                    break;
                }
            }
            while let Some(line) = lines.next() {
                self.take(line, &lane).await;
            }
        }
        if let Some(line) = lines.last() {
            self.take(line, &lane).await;
        }
    }

    /// Waits until everything that the client said has been answered.
    pub(super) async fn answered(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Gives up what is under way, and ends the session at the server.
    pub(super) async fn close(self) {
        self.0.stop.cancel();
        *self.listening() = None;
        let headers = Some(self.session()).filter(|session| session.has_id()).map(|session| session.headers());
        if let Some(headers) = headers
            && tokio::time::timeout(GOODBYE, self.0.upstream.delete(&headers)).await.is_err()
        {
            tracing::info!("the server did not confirm the session's end in time");
        }
    }

    async fn take(&self, line: Line, lane: &mpsc::Sender<Message>) {
        let body = match line {
            Line::Message(body) => body,
            Line::TooLong => {
                let text = "Invalid Request: the message is longer than any message may be";
                return self.say(message::error(None, message::INVALID_REQUEST, text, None)).await;
            }
        };
        let said = match Message::read(body) {
            Ok(said) => said,
            Err(NoMessage::NoJson) => {
                return self.say(message::error(None, message::PARSE_ERROR, "Parse error", None)).await;
            }
            Err(NoMessage::NoJsonRpc) => {
                return self.say(message::error(None, message::INVALID_REQUEST, "Invalid Request", None)).await;
            }
        };
        if said.cancels().is_some_and(|key| self.cancel(&key)) {
            return;
        }
        if !said.requests.is_empty() {
            self.start(said).await;
        } else if said.method == "notifications/initialized" {
            // What follows must not arrive before.
            self.tell(&said).await;
            self.session().is_initialized = true;
            self.listen();
        } else {
            // Closed only once nobody hears the client.
            drop(lane.send(said).await);
        }
    }

    /// Stops a request. Returns whether that is all: a server of an older revision must be told.
    fn cancel(&self, key: &str) -> bool {
        let Some(flight) = self.flights().remove(key) else { return false };
        flight.stop.cancel();
        flight.is_modern
    }

    /// Sends a request on its way. Only an opening is waited for: nothing may overtake it.
    async fn start(&self, said: Message) {
        let stop = self.0.stop.child_token();
        let Some(landing) = self.take_off(&said, &stop) else {
            let text = format!("{IN_FLIGHT_MAX} requests are under way; wait for an answer");
            for id in &said.requests {
                self.say(message::error(Some(id), message::OURS, &text, None)).await;
            }
            return;
        };
        let (ended, end) = oneshot::channel::<()>();
        let (bridge, is_opening) = (self.clone(), said.method == "initialize");
        self.0.tasks.spawn(async move {
            let (_landing, _ended) = (landing, ended);
            let _ = stop.run_until_cancelled(bridge.request(&said)).await;
        });
        if is_opening {
            // Nothing is ever sent; its sender is dropped at the end.
            drop(end.await);
        }
    }

    fn take_off(&self, said: &Message, stop: &CancellationToken) -> Option<Landing> {
        let mut flights = self.flights();
        if flights.len() >= IN_FLIGHT_MAX {
            return None;
        }
        let key = said.requests.first()?.key();
        let serial = flights.values().map(|flight| flight.serial + 1).max().unwrap_or_default();
        let is_modern = said.mentions(VERSION_KEY) && self.mirrored(said).is_some();
        flights.insert(key.clone(), Flight { stop: stop.clone(), is_modern, serial });
        Some(Landing { bridge: self.clone(), key, serial })
    }

    async fn tell_in_order(self, mut waiting: mpsc::Receiver<Message>) {
        while let Some(said) = waiting.recv().await {
            self.tell(&said).await;
        }
    }

    /// Passes on what gets no answer.
    async fn tell(&self, said: &Message) {
        if let Err(trouble) = self.exchange(said, &mut Vec::new()).await {
            tracing::warn!(method = said.method, cause = trouble.text, "the server did not take a message");
        }
    }

    async fn request(&self, said: &Message) {
        let mut pending = said.requests.clone();
        let mut ended = self.exchange(said, &mut pending).await;
        if ended.as_ref().is_err_and(|trouble| trouble.is_lost) && said.is_repeatable() {
            ended = self.exchange(said, &mut pending).await;
        }
        if let Err(Trouble { code, text, data, .. }) = ended {
            for id in &pending {
                self.say(message::error(Some(id), code, &text, data.clone())).await;
            }
        }
    }

    /// Opens the stream for what the server says by itself, in the place of one before.
    pub(super) fn listen(&self) {
        let task = tokio::spawn(self.clone().heard_from_server());
        *self.listening() = Some(AbortOnDropHandle::new(task));
    }

    /// Says a line to the client. A client that does not read holds up whoever speaks to it.
    pub(super) async fn say(&self, line: Vec<u8>) {
        // Nobody reads: the bridge is about to end.
        drop(self.0.out.send(line).await);
    }

    /// The headers that a modern message repeats.
    pub(super) fn mirrored(&self, said: &Message) -> Option<HeaderMap> {
        if !said.mentions(VERSION_KEY) {
            return None;
        }
        self.tools().headers(&said.method, &said.params())
    }

    pub(super) fn session(&self) -> MutexGuard<'_, Session> {
        self.0.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tools(&self) -> MutexGuard<'_, ToolHeaders> {
        self.0.tools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flights(&self) -> MutexGuard<'_, BTreeMap<String, Flight>> {
        self.0.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listening(&self) -> MutexGuard<'_, Option<AbortOnDropHandle<()>>> {
        self.0.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
