//! A daemon that says what a test tells it: `/events`, `/healthz`, and one answer to every POST.

use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

/// What the connections share.
struct Shared {
    key: String,
    snapshot: Value,
    events: broadcast::Sender<String>,
    hangs: watch::Sender<bool>,
    answer: Mutex<(u16, Value)>,
    called: mpsc::UnboundedSender<String>,
    opened: mpsc::UnboundedSender<Option<String>>,
}

/// The daemon. Dropped, it is killed: its connections end in the middle.
pub(crate) struct FakeDaemon {
    base_url: String,
    shared: Arc<Shared>,
    told: std::sync::atomic::AtomicU32,
    serving: JoinHandle<()>,
    /// What says that it lives.
    held: Mutex<Option<std::fs::File>>,
    /// Each POST with the right key: its method and path.
    pub(crate) calls: mpsc::UnboundedReceiver<String>,
    /// Each stream that was opened: its `Last-Event-ID`.
    pub(crate) opened: mpsc::UnboundedReceiver<Option<String>>,
}

impl FakeDaemon {
    /// A daemon on a free port that wants `key` and has these servers.
    pub(crate) async fn start(key: &str, servers: &[Value]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let base_url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let (called, calls) = mpsc::unbounded_channel();
        let (opening, opened) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            key: key.to_owned(),
            snapshot: json!({ "servers": servers, "problems": [] }),
            events: broadcast::channel(16).0,
            hangs: watch::channel(false).0,
            answer: Mutex::new((200, Value::Null)),
            called,
            opened: opening,
        });
        let of_connections = Arc::clone(&shared);
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&of_connections)));
            }
        });
        Self { base_url, shared, told: 1.into(), serving, held: Mutex::default(), calls, opened }
    }

    /// Says in the data folder where it is and what it wants.
    pub(crate) fn announce(&self, data: &Path) {
        std::fs::write(data.join("local-key"), format!("{}\n", self.shared.key)).expect("the key is written");
        std::fs::write(data.join("daemon.json"), json!({ "base_url": self.base_url, "pid": 1 }).to_string())
            .expect("the file is written");
        let lock = std::fs::File::create(data.join("daemon.lock")).expect("the lock is made");
        lock.lock().expect("nobody else is the daemon of this folder");
        *self.held.lock().expect("no test has panicked") = Some(lock);
    }

    /// Sends an event to whoever listens.
    pub(crate) fn tell(&self, name: &str, data: &Value) {
        let id = self.told.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        self.shared.events.send(format!("event: {name}\nid: run-{id}\ndata: {data}\n\n")).expect("a stream is open");
    }

    /// What every POST is answered.
    pub(crate) fn answer(&self, status: u16, body: Value) {
        *self.shared.answer.lock().expect("no test has panicked") = (status, body);
    }

    /// Whether it takes connections and answers nothing.
    pub(crate) fn hang(&self, hangs: bool) {
        self.shared.hangs.send_replace(hangs);
    }

    /// Ends it, with all connections.
    pub(crate) fn stop(&self) {
        drop(self.held.lock().expect("no test has panicked").take());
        self.serving.abort();
    }
}

impl Drop for FakeDaemon {
    fn drop(&mut self) {
        self.stop();
    }
}

/// One connection, one request.
async fn serve(mut stream: TcpStream, shared: Arc<Shared>) -> Option<()> {
    let mut read = Vec::new();
    while !read.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    }
    let head = String::from_utf8(read).ok()?;
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    shared.hangs.subscribe().wait_for(|hangs| !hangs).await.ok()?;
    let request = head.lines().next()?.trim_end_matches(" HTTP/1.1").to_owned();
    if request == "GET /healthz" {
        return reply(&mut stream, 200, &Value::Null).await;
    }
    if header("x-everfresh-key").as_deref() != Some(&shared.key) {
        return reply(&mut stream, 401, &Value::Null).await;
    }
    if request == "GET /events" {
        return events(&mut stream, &shared, header("last-event-id")).await;
    }
    let (status, body) = shared.answer.lock().ok()?.clone();
    shared.called.send(request).ok()?;
    reply(&mut stream, status, &body).await
}

async fn reply(stream: &mut TcpStream, status: u16, body: &Value) -> Option<()> {
    let body = body.to_string();
    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes()).await.ok()
}

async fn events(stream: &mut TcpStream, shared: &Shared, last_id: Option<String>) -> Option<()> {
    let mut live = shared.events.subscribe();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    let first = format!("{head}event: snapshot\nid: run-1\ndata: {}\n\n", shared.snapshot);
    stream.write_all(first.as_bytes()).await.ok()?;
    shared.opened.send(last_id).ok()?;
    while let Ok(event) = live.recv().await {
        stream.write_all(event.as_bytes()).await.ok()?;
    }
    None
}
