//! A protected MCP server over Streamable HTTP, and a plain HTTP API beside it, whose tokens a
//! [`ProviderServer`]'s model knows.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::header::{ACCEPT, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{Method, Response};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::provider::{Access, Model, Presented, ProviderServer, UpstreamFault};
use crate::serving::{Body, Received, Serving, now, serve, streaming, whole};

/// How often an open stream says that it is alive.
const KEEP_ALIVE: Duration = Duration::from_millis(200);

/// One request as the server saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Method, path and query.
    pub target: String,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The digest of the body, in hexadecimal.
    pub body_sha256: String,
}

#[derive(Default)]
struct Log {
    seen: Vec<Seen>,
    keep: bool,
}

/// A protected server that runs until it is dropped.
pub struct McpServer {
    origin: String,
    log: Arc<Mutex<Log>>,
    _serving: Serving,
}

impl McpServer {
    /// A server on a free port of this machine that trusts `provider`.
    pub async fn start(provider: &ProviderServer) -> io::Result<Self> {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), provider).await
    }

    /// The same at `address`.
    pub async fn start_at(address: SocketAddr, provider: &ProviderServer) -> io::Result<Self> {
        Self::start_behind("http", address, provider).await
    }

    /// The same behind something that makes `scheme` of it.
    pub async fn start_behind(
        scheme: &'static str,
        address: SocketAddr,
        provider: &ProviderServer,
    ) -> io::Result<Self> {
        let (model, log) = (provider.model(), Arc::new(Mutex::new(Log { keep: true, ..Log::default() })));
        let kept = Arc::clone(&log);
        let serving = serve(address, move |received| {
            let upstream = Upstream { model: Arc::clone(&model), scheme, log: Arc::clone(&kept) };
            async move { upstream.answer(received).await }
        })
        .await?;
        Ok(Self { origin: format!("http://{}", serving.address), log, _serving: serving })
    }

    /// Where MCP clients connect to.
    pub fn url(&self) -> String {
        format!("{}/mcp", self.origin)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self._serving.address
    }

    /// Its scheme, host and port. `/api/...` is a plain HTTP API that tells what it was sent.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Every request that it saw.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.log).seen.clone()
    }

    /// Stops remembering requests, for long runs.
    pub fn forget_requests(&self) {
        let mut log = lock(&self.log);
        log.keep = false;
        log.seen.clear();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Upstream {
    model: Arc<Mutex<Model>>,
    /// The scheme under which it is reached.
    scheme: &'static str,
    log: Arc<Mutex<Log>>,
}

/// Counts an open stream down when its other side goes away.
struct OpenStream(Arc<Mutex<Model>>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut model = lock(&self.0);
        model.counters.streams_open -= 1;
        model.counters.streams_closed += 1;
    }
}

impl Upstream {
    async fn answer(&self, received: Received) -> io::Result<Response<Body>> {
        let path = received.uri.path().to_owned();
        if let Some(resource) = path.strip_prefix("/.well-known/oauth-protected-resource") {
            let mut document = json!({
                "resource": format!("{}{resource}", self.reached_at(&received)),
                "authorization_servers": [lock(&self.model).issuer],
                "scopes_supported": ["read"],
            });
            lock(&self.model).tell_dpop(&mut document);
            return respond(200, &document);
        }
        self.remember(&received);
        let mut response = self.protected(&received)?;
        if let Some(nonce) = lock(&self.model).resource_nonce() {
            response.headers_mut().insert("dpop-nonce", nonce.try_into().map_err(io::Error::other)?);
        }
        Ok(response)
    }

    fn protected(&self, received: &Received) -> io::Result<Response<Body>> {
        let path = received.uri.path();
        let message: Value = serde_json::from_slice(&received.body).unwrap_or_default();
        if let Some(refusal) = self.refusal(received, &message) {
            return refusal;
        }
        if path.starts_with("/mcp") {
            self.mcp(received, &message)
        } else if path.starts_with("/stream") {
            self.stream()
        } else {
            api(received)
        }
    }

    /// Scheme, host and port as the other side wrote them.
    fn reached_at(&self, received: &Received) -> String {
        let host = received.headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        format!("{}://{host}", self.scheme)
    }

    fn remember(&self, received: &Received) {
        let mut log = lock(&self.log);
        if !log.keep {
            return;
        }
        let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        log.seen.push(Seen {
            target: format!("{} {}", received.method, received.uri),
            headers: received.headers.iter().map(header).collect(),
            body_sha256: hex(&Sha256::digest(&received.body)),
        });
    }

    /// 401 to a bad token, and whatever the switches want of a good one.
    fn refusal(&self, received: &Received, message: &Value) -> Option<io::Result<Response<Body>>> {
        let opening = message["method"] == "initialize";
        let origin = self.reached_at(received);
        let mut model = lock(&self.model);
        let url = received.url();
        let (scheme, token) = received.authorization().unzip();
        let proof = received.proof(&url);
        let presented = Presented { scheme: scheme.unwrap_or_default(), token, proof };
        let access = model.access_proven(now(), &presented, opening);
        if access != Access::Accepted {
            if model.switches.upstream == UpstreamFault::ServerErrorOnBadToken {
                return Some(respond(500, &json!({ "error": "internal" })));
            }
            let metadata = format!("{origin}/.well-known/oauth-protected-resource{}", received.uri.path());
            let parameters = format!("resource_metadata=\"{metadata}\", scope=\"read\"");
            let error = if let Access::Objected(error) = access { Some(error) } else { None };
            return Some(challenged(401, &model.challenges(&parameters, error), error.unwrap_or("invalid_token")));
        }
        match &model.switches.upstream {
            UpstreamFault::WantsScope { scope } if message["method"] == "tools/call" => {
                let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\"");
                Some(challenged(403, &[challenge], "insufficient_scope"))
            }
            UpstreamFault::WantsScope { .. }
            | UpstreamFault::None
            | UpstreamFault::RefusesAll
            | UpstreamFault::ServerErrorOnBadToken
            | UpstreamFault::AnonymousInitialize
            | UpstreamFault::ClosesStreams => None,
        }
    }

    fn mcp(&self, received: &Received, message: &Value) -> io::Result<Response<Body>> {
        match received.method {
            Method::GET => self.stream(),
            Method::DELETE => respond(200, &json!({})),
            _ if message["method"] == "subscriptions/listen" => self.stream(),
            _ if message["id"].is_null() => Response::builder().status(202).body(whole("")).map_err(io::Error::other),
            _ => {
                let result = self.call(message);
                let answer = match result {
                    Ok(result) => json!({ "jsonrpc": "2.0", "id": message["id"], "result": result }),
                    Err(error) => json!({ "jsonrpc": "2.0", "id": message["id"], "error": error }),
                };
                in_wanted_form(received, message, &answer)
            }
        }
    }

    fn call(&self, message: &Value) -> Result<Value, Value> {
        let text = |text: String| Ok(json!({ "content": [{ "type": "text", "text": text }] }));
        let arguments = &message["params"]["arguments"];
        match (message["method"].as_str().unwrap_or_default(), message["params"]["name"].as_str().unwrap_or_default()) {
            ("initialize", _) => Ok(json!({
                "protocolVersion": message["params"]["protocolVersion"],
                "capabilities": { "tools": {} },
                "serverInfo": { "name": "everfresh-testkit", "version": "1" },
            })),
            ("ping", _) => Ok(json!({})),
            ("tools/list", _) => {
                let tool =
                    |name: &str| json!({ "name": name, "description": name, "inputSchema": { "type": "object" } });
                Ok(json!({ "tools": [tool("echo"), tool("add"), tool("count")] }))
            }
            ("tools/call", "echo") => text(arguments["text"].as_str().unwrap_or_default().to_owned()),
            ("tools/call", "add") => {
                let sum = arguments["a"].as_i64().unwrap_or_default() + arguments["b"].as_i64().unwrap_or_default();
                text(sum.to_string())
            }
            ("tools/call", "count") => {
                let mut model = lock(&self.model);
                model.counters.executions += 1;
                text(model.counters.executions.to_string())
            }
            (method, _) => Err(json!({ "code": -32601, "message": format!("no method {method}") })),
        }
    }

    /// A stream that lives until its other side closes it.
    fn stream(&self) -> io::Result<Response<Body>> {
        lock(&self.model).counters.streams_open += 1;
        let open = OpenStream(Arc::clone(&self.model));
        let first = stream::once(async { Bytes::from_static(b": open\n\n") });
        let beats = stream::unfold(open, |open| async move {
            tokio::time::sleep(KEEP_ALIVE).await;
            Some((Bytes::from_static(b": alive\n\n"), open))
        });
        let response = Response::builder().header(CONTENT_TYPE, "text/event-stream");
        if lock(&self.model).switches.upstream == UpstreamFault::ClosesStreams {
            return response.body(streaming(first)).map_err(io::Error::other);
        }
        response.body(streaming(first.chain(beats))).map_err(io::Error::other)
    }
}

/// As SSE where the client takes that, else as JSON; a new session gets its id.
fn in_wanted_form(received: &Received, message: &Value, answer: &Value) -> io::Result<Response<Body>> {
    let accepted = received.headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let mut response = Response::builder();
    if message["method"] == "initialize" {
        response = response.header("mcp-session-id", "session-1");
    }
    let response = if accepted.contains("text/event-stream") {
        response.header(CONTENT_TYPE, "text/event-stream").body(whole(format!("event: message\ndata: {answer}\n\n")))
    } else {
        response.header(CONTENT_TYPE, "application/json").body(whole(answer.to_string()))
    };
    response.map_err(io::Error::other)
}

/// What a plain HTTP API was sent.
fn api(received: &Received) -> io::Result<Response<Body>> {
    let size = received.uri.path().strip_prefix("/download/").and_then(|size| size.parse::<usize>().ok());
    if let Some(size) = size {
        let chunk = Bytes::from_static(&[b'x'; 16 * 1024]);
        let chunks = stream::iter((0..size.div_ceil(chunk.len())).map(move |_| chunk.clone()));
        return Ok(Response::new(streaming(chunks)));
    }
    respond(
        200,
        &json!({
            "method": received.method.as_str(),
            "target": received.uri.to_string(),
            "body_sha256": hex(&Sha256::digest(&received.body)),
            "body_length": received.body.len(),
        }),
    )
}

fn respond(status: u16, body: &Value) -> io::Result<Response<Body>> {
    let response = Response::builder().status(status).header(CONTENT_TYPE, "application/json");
    response.body(whole(body.to_string())).map_err(io::Error::other)
}

fn challenged(status: u16, challenges: &[String], error: &str) -> io::Result<Response<Body>> {
    let mut response = Response::builder().status(status);
    for challenge in challenges {
        response = response.header(WWW_AUTHENTICATE, challenge);
    }
    response.body(whole(json!({ "error": error }).to_string())).map_err(io::Error::other)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
