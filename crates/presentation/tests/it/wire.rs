//! HTTP by hand and by hyper, as clients speak it.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::home::{Home, KEY, within};

/// A message as it came over the wire.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    /// The start line and the header lines.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Message {
    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// The values of all lines of that name.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    fn is_chunked(&self) -> bool {
        self.values("transfer-encoding") == ["chunked"]
    }
}

/// One connection, read and written by hand.
pub(crate) struct Wire {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, read: Vec::new() }
    }

    pub(crate) async fn connect(home: &Home) -> Self {
        let stream = TcpStream::connect(home.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::new(stream)
    }

    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        within("writing", self.stream.write_all(bytes.as_ref())).await.unwrap();
    }

    /// Writes to a peer that may close before it has read all.
    pub(crate) async fn try_write(&mut self, bytes: &[u8]) {
        drop(within("writing", self.stream.write_all(bytes)).await);
    }

    /// More bytes; false at the end of the connection.
    async fn more(&mut self) -> bool {
        let read = within("more bytes", self.stream.read_buf(&mut self.read)).await;
        read.is_ok_and(|count| count > 0)
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.read.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.read.drain(..end + 2).collect();
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// Start line and headers; `None` at the end of the connection.
    pub(crate) async fn head(&mut self) -> Option<String> {
        let mut head = String::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Some(head);
            }
            head.push_str(&line);
            head.push('\n');
        }
    }

    pub(crate) async fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.read.len() < count {
            assert!(self.more().await, "the connection ended after {:?}", String::from_utf8_lossy(&self.read));
        }
        self.read.drain(..count).collect()
    }

    /// Everything until the connection ends.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.read)
    }

    /// One chunk of a chunked body; empty at its end.
    pub(crate) async fn chunk(&mut self) -> Vec<u8> {
        let size = self.line().await.unwrap();
        let chunk = self.exactly(usize::from_str_radix(&size, 16).unwrap()).await;
        assert_eq!(self.line().await.as_deref(), Some(""));
        chunk
    }

    /// The body that `head` announces.
    async fn body(&mut self, head: String, is_answer: bool) -> Message {
        let mut message = Message { head, body: Vec::new() };
        let length: Option<usize> = message.values("content-length").first().map(|length| length.parse().unwrap());
        if message.is_chunked() {
            loop {
                let chunk = self.chunk().await;
                if chunk.is_empty() {
                    break;
                }
                message.body.extend(chunk);
            }
        } else if let Some(length) = length {
            message.body = self.exactly(length).await;
        } else if is_answer {
            message.body = self.rest().await;
        }
        message
    }

    /// A whole request; `None` at the end of the connection.
    pub(crate) async fn request(&mut self) -> Option<Message> {
        let head = self.head().await?;
        Some(self.body(head, false).await)
    }

    /// A whole answer.
    pub(crate) async fn answer(&mut self) -> Message {
        let head = self.head().await.unwrap();
        self.body(head, true).await
    }

    /// An answer that has no body, whatever its head says.
    pub(crate) async fn answer_without_body(&mut self) -> Message {
        Message { head: self.head().await.unwrap(), body: Vec::new() }
    }
}

/// A head with this machine as host and the key. `more` ends each of its lines with CR LF.
pub(crate) fn head(home: &Home, line: &str, more: &str) -> String {
    format!("{line} HTTP/1.1\r\nhost: {}\r\nx-everfresh-key: {KEY}\r\n{more}\r\n", home.address)
}

/// Sends `bytes` on a connection of its own, and reads the answer.
pub(crate) async fn exchange(home: &Home, bytes: impl AsRef<[u8]>) -> Message {
    let mut wire = Wire::connect(home).await;
    wire.write(bytes).await;
    wire.answer().await
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {:?}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Demands a problem of this status and kind, and that nothing in it starts a client's OAuth.
    pub(crate) fn expect_problem(&self, status: u16, kind: &str) -> Value {
        let problem = self.json();
        assert_eq!(self.status, status, "{problem}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{problem}");
        assert_eq!(self.header("www-authenticate"), None, "{problem}");
        assert_eq!(problem["type"], format!("urn:everfresh:problem:{kind}"), "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        problem
    }
}

impl Home {
    /// Sends a request as it is, on a connection of its own, and returns the answer as it comes.
    pub(crate) async fn open<B>(&self, request: Request<B>) -> Response<Incoming>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: std::error::Error + Send + Sync,
    {
        let io = TokioIo::new(TcpStream::connect(self.address).await.unwrap());
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        within("an answer", sender.send_request(request)).await.unwrap()
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn send<B>(&self, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: std::error::Error + Send + Sync,
    {
        let (head, body) = self.open(request).await.into_parts();
        let body = within("the whole body", body.collect()).await.unwrap().to_bytes();
        Answer { status: head.status.as_u16(), headers: head.headers, body }
    }

    /// A request of ours, without the key.
    pub(crate) fn bare(&self, method: Method, path: &str) -> http::request::Builder {
        Request::builder().method(method).uri(path).header("host", self.address.to_string())
    }

    /// A request with the key.
    pub(crate) fn keyed(&self, method: Method, path: &str) -> http::request::Builder {
        self.bare(method, path).header("x-everfresh-key", KEY)
    }

    /// The page's cookie and its proof, by a one-time link.
    pub(crate) async fn open_page(&self) -> [(&'static str, String); 2] {
        let send =
            async |request: http::request::Builder| self.send(request.body(Full::<Bytes>::default()).unwrap()).await;
        let link = send(self.keyed(Method::POST, "/api/v1/page-link")).await.json();
        let path = link["url"].as_str().unwrap().strip_prefix(&format!("http://{}", self.address)).unwrap().to_owned();
        let looked_at = send(self.bare(Method::HEAD, &path)).await;
        assert_eq!(looked_at.header("set-cookie"), None, "a look does not use it up");
        let opened = send(self.bare(Method::GET, &path)).await;
        assert_eq!(opened.status, 303);
        let proof = opened.header("location").unwrap().strip_prefix("/#opened=").unwrap().to_owned();
        let cookie = opened.header("set-cookie").unwrap().to_owned();
        for attribute in ["; HttpOnly", "; SameSite=Strict", "; Path=/"] {
            assert!(cookie.contains(attribute), "{cookie}");
        }
        let again = send(self.bare(Method::GET, &path)).await;
        assert_eq!((again.status, again.header("set-cookie")), (403, None), "a link opens once");
        [("cookie", cookie.split(';').next().unwrap().to_owned()), ("x-everfresh-page", proof)]
    }

    /// A request with what the page holds.
    pub(crate) fn by_page(
        &self,
        opened: &[(&'static str, String)],
        method: Method,
        path: &str,
    ) -> http::request::Builder {
        opened.iter().fold(self.bare(method, path), |request, (name, value)| request.header(*name, value))
    }

    /// GET with the key.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.keyed(Method::GET, path).body(Full::default()).unwrap()).await
    }

    /// POST of JSON with the key.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        let request = self.keyed(Method::POST, path).header("content-type", "application/json");
        self.send(request.body(Full::from(body.to_string())).unwrap()).await
    }

    /// A call of a tool.
    pub(crate) async fn call(&self, server: &str, tool: &str) -> Answer {
        self.post(&format!("/mcp/{server}"), &call(1, tool)).await
    }

    /// A grant, as the API shows it.
    pub(crate) async fn shown(&self, name: &str) -> Value {
        self.get(&format!("/api/v1/servers/{name}")).await.json()
    }
}

/// A call of a tool as JSON-RPC.
pub(crate) fn call(id: usize, tool: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": tool, "arguments": {} } })
}
