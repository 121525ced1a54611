//! An upstream that answers as a test wants, to clients that need no login.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::{AbortHandle, JoinSet};

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// GET, POST or DELETE.
    pub method: String,
    /// Path and query.
    pub target: String,
    headers: Vec<(String, String)>,
    /// The message; null where there is none.
    pub message: Value,
    /// The body as it came.
    pub body: String,
}

impl Asked {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// Method of HTTP, and of JSON-RPC where there is one.
    pub fn what(&self) -> String {
        match self.message["method"].as_str() {
            Some(method) => format!("{} {method}", self.method),
            None => self.method.clone(),
        }
    }
}

/// What is answered.
pub enum Reply {
    /// A status, header lines, and a whole body.
    Whole(u16, &'static str, String),
    /// A whole body that is no text, with status 200.
    Bytes(Vec<u8>),
    /// A stream of events, as they come; it ends with its sender.
    Stream(UnboundedReceiver<String>),
}

impl Reply {
    /// A JSON-RPC result.
    pub fn result(asked: &Asked, result: &Value) -> Self {
        let answer = serde_json::json!({ "jsonrpc": "2.0", "id": asked.message["id"], "result": result });
        Self::Whole(200, "content-type: application/json\r\n", answer.to_string())
    }

    /// A status without a body.
    pub fn status(status: u16) -> Self {
        Self::Whole(status, "", String::new())
    }
}

#[derive(Default)]
struct Log {
    seen: Vec<Asked>,
    streams_closed: usize,
}

/// The upstream. It runs until it is dropped.
pub struct Scripted {
    /// Where it is.
    pub url: String,
    log: Arc<Mutex<Log>>,
    task: AbortHandle,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Scripted {
    /// Answers every request with what `script` says.
    pub async fn start(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0", script).await
    }

    /// The same at an address that is free.
    pub async fn start_at(address: &str, script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).await.expect("the port is free");
        let url = format!("http://{}/mcp", listener.local_addr().expect("it has an address"));
        let (log, script) = (Arc::new(Mutex::new(Log::default())), Arc::new(script));
        let kept = Arc::clone(&log);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (log, script) = (Arc::clone(&kept), Arc::clone(&script));
                connections.spawn(async move { serve(BufReader::new(stream), &log, &*script).await });
            }
        });
        Self { url, log, task: task.abort_handle() }
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Asked> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).seen.clone()
    }

    /// The same in words.
    pub fn story(&self) -> Vec<String> {
        self.seen().iter().map(Asked::what).collect()
    }

    /// Streams that the other side closed.
    pub fn streams_closed(&self) -> usize {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).streams_closed
    }
}

async fn serve(mut stream: BufReader<TcpStream>, log: &Mutex<Log>, script: &(impl Fn(&Asked) -> Reply + ?Sized)) {
    while let Some(asked) = read(&mut stream).await {
        log.lock().unwrap_or_else(PoisonError::into_inner).seen.push(asked.clone());
        match script(&asked) {
            Reply::Whole(status, headers, body) => {
                let head = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n", body.len());
                if stream.write_all(format!("{head}{body}").as_bytes()).await.is_err() {
                    return;
                }
            }
            Reply::Bytes(body) => {
                let head = format!("HTTP/1.1 200 X\r\ncontent-length: {}\r\n\r\n", body.len());
                if stream.write_all(&[head.as_bytes(), &body].concat()).await.is_err() {
                    return;
                }
            }
            Reply::Stream(mut events) => {
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
                drop(stream.write_all(head.as_bytes()).await);
                let mut byte = [0];
                loop {
                    tokio::select! {
                        event = events.recv() => match event {
                            Some(event) => drop(stream.write_all(event.as_bytes()).await),
                            None => return,
                        },
                        _ = stream.read(&mut byte) => {
                            log.lock().unwrap_or_else(PoisonError::into_inner).streams_closed += 1;
                            return;
                        }
                    }
                }
            }
        }
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let mut words = lines.first()?.split(' ').map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let pair =
        |line: &String| line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    let headers: Vec<_> = lines[1..].iter().filter_map(pair).collect();
    let asked = Asked { method, target, headers, message: Value::Null, body: String::new() };
    let mut body = vec![0; asked.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    let message = serde_json::from_slice(&body).unwrap_or_default();
    Some(Asked { message, body: String::from_utf8_lossy(&body).into_owned(), ..asked })
}
