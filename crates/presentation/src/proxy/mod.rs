//! The data plane: requests pass to their upstream with the token added, and answers pass back.
//!
//! Transparent: method, path tail, query, body and all headers pass but ours and hop-by-hop. The
//! token is read for each request and never kept by a connection. It knows no MCP era: only when
//! there is nothing to pass on does it look whether a body is JSON-RPC.

mod answer;
mod body;
mod counters;
mod denial;
mod endpoint;
mod headers;
mod pool;
mod proof;
mod span;
mod target;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use everfresh_application::challenge::{Scheme, parse_www_authenticate};
use everfresh_application::ports::{Challenge, DPOP, Dialer, ProofError};
use everfresh_application::{Access, Bearer, Denial, Pass, Route};
use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, HOST, LOCATION, TRANSFER_ENCODING, UPGRADE,
    WWW_AUTHENTICATE,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use tracing::Instrument;

use crate::guard::{Caller, Guard};
use crate::problem::Problem;
pub use answer::{BodyError, ProxyBody};
pub use endpoint::{EndpointError, Seals};
pub(crate) use headers::is_configurable;

use answer::{Asked, Events, Inner};
use body::{Copy, RequestBody, collected};
pub(crate) use counters::describe as describe_metrics;
use counters::{Counters, Parked};
use denial::Refusal;
use pool::{Pool, ResponseBody, SendError, Upstream};
use proof::not_proven;
use target::{DataPath, UpstreamUrl, climbs, data_path};

/// Where a browser will show an answer.
static SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// Bodies up to this many bytes are kept for one replay.
pub const REPLAY_MAX: usize = 4 << 20;

/// Whether a path belongs to the data plane.
pub fn is_data_path(path: &str) -> bool {
    path.starts_with("/mcp/") || path.starts_with("/k/")
}

/// What all threads of the data plane share.
pub struct Shared {
    /// Tokens and routes.
    pub access: Access,
    /// Who may ask.
    pub guard: Arc<Guard>,
    /// How upstreams are reached.
    pub dialer: Arc<dyn Dialer>,
    /// Under which endpoints of HTTP+SSE servers are reached.
    pub seals: Seals,
    /// Where the page is.
    pub page_url: String,
}

/// The data plane of one thread, with its own connections to upstreams.
pub struct Proxy {
    shared: Arc<Shared>,
    pool: Pool,
    prepared: Mutex<BTreeMap<String, Arc<Prepared>>>,
}

/// Everything about a route that does not change from request to request.
struct Prepared {
    route: Arc<Route>,
    url: UpstreamUrl,
    upstream: Upstream,
    headers: Vec<(HeaderName, HeaderValue)>,
    counters: Counters,
}

/// One request of somebody who may send it, to a server that there is.
struct Admitted<'a> {
    began: Instant,
    prepared: &'a Arc<Prepared>,
    /// The path under which the client knows the upstream, and what follows it.
    place: &'a str,
    tail: &'a str,
    query: Option<&'a str>,
    method: Method,
    headers: HeaderMap,
}

/// One request on its way: what is sent, as often as it is sent.
struct Outgoing<'a> {
    prepared: &'a Arc<Prepared>,
    /// The path under which the client knows the upstream.
    place: &'a str,
    /// Whether it goes to the endpoint of an HTTP+SSE server, whose client reads answers elsewhere.
    is_to_endpoint: bool,
    method: Method,
    uri: Uri,
    /// As they came from the client.
    headers: HeaderMap,
}

/// How long the upstream took, over all tries.
#[derive(Default)]
struct Clocked(Duration);

impl Proxy {
    /// The data plane of one more thread.
    pub fn new(shared: Arc<Shared>) -> Self {
        let pool = Pool::new(shared.access.clone(), Arc::clone(&shared.dialer));
        Self { shared, pool, prepared: Mutex::default() }
    }

    /// Closes connections that nobody used for long.
    pub fn sweep(&self) {
        self.pool.sweep();
    }

    /// Serves one request of the data plane.
    pub async fn serve(&self, request: Request<Incoming>) -> Response<ProxyBody> {
        let began = Instant::now();
        let (head, body) = request.into_parts();
        let admitted = self.admitted(&head.uri, &head.headers);
        let (name, tail) = match admitted.and_then(|(caller, path)| Ok((caller.server(path.name)?, path.tail))) {
            Ok(admitted) => admitted,
            // What a key is refused is told in the client's own way, what a stranger is refused is not.
            Err(problem) if problem.reason.is_some() => {
                return plain(&Refusal::of(problem), readable(&head.method, body).await.as_ref());
            }
            Err(problem) => return plain(&Refusal::of(problem), None),
        };
        let Some(prepared) = self.prepared(&name) else {
            let problem = everfresh_application::AppError::NoSuchServer(name.into_owned());
            return plain(&Refusal::of(problem.into()), readable(&head.method, body).await.as_ref());
        };
        let path = head.uri.path();
        let (place, query) = (&path[..path.len() - tail.len()], head.uri.query());
        let span = span::of(&prepared.route.grant, &head.method, &head.headers);
        let asked =
            Admitted { began, prepared: &prepared, place, tail, query, method: head.method, headers: head.headers };
        let response = self.serve_admitted(asked, body).instrument(span.clone()).await;
        span::answered(&span, &response);
        response
    }

    async fn serve_admitted(&self, asked: Admitted<'_>, body: Incoming) -> Response<ProxyBody> {
        let Admitted { began, prepared, place, tail, query, method, headers } = asked;
        let target = unsupported(&method, &headers).map_or_else(|| self.target(prepared, &method, tail, query), Err);
        let uri = match target {
            Ok(target) => target.into(),
            Err(problem) => return plain(&Refusal::of(problem), None),
        };
        // What an upstream sends must not run in a browser with the rights of our own page.
        let is_shown = headers.get(&SEC_FETCH_DEST).is_some_and(|dest| dest != "empty");
        let is_to_endpoint = endpoint::is_sealed(tail);
        let outgoing = Outgoing { prepared, place, is_to_endpoint, method, uri, headers };
        let mut clocked = Clocked::default();
        let mut response = self.forward(&outgoing, body, &mut clocked).await;
        if is_shown {
            response.headers_mut().append(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
        }
        let overhead = began.elapsed().saturating_sub(clocked.0);
        prepared.counters.answered(&outgoing.method, response.status(), clocked.0, overhead);
        response
    }

    /// Checks where the request comes from and that it knows a key.
    fn admitted<'a>(&self, uri: &'a Uri, headers: &HeaderMap) -> Result<(Caller, DataPath<'a>), Problem> {
        let guard = &self.shared.guard;
        guard.check_place(uri, headers)?;
        Guard::check_site(headers)?;
        let path = data_path(uri.path());
        let caller = guard.known_by_key(path.as_ref().and_then(|path| path.key), headers)?;
        let caller = caller.ok_or_else(Guard::key_needed)?;
        let path = path.ok_or_else(|| Problem::not_found("there is nothing here; servers are under /mcp/NAME"))?;
        Ok((caller, path))
    }

    /// The route of `name`, prepared once for each version of its settings.
    fn prepared(&self, name: &str) -> Option<Arc<Prepared>> {
        let route = self.shared.access.route(name)?;
        let mut all = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(prepared) = all.get(name).filter(|prepared| Arc::ptr_eq(&prepared.route, &route)) {
            return Some(Arc::clone(prepared));
        }
        let header = |(name, value): (&String, &String)| Some((name.parse().ok()?, HeaderValue::from_str(value).ok()?));
        let prepared = Arc::new(Prepared {
            url: UpstreamUrl::parse(&route.settings.url)?,
            headers: route
                .settings
                .headers
                .iter()
                .filter_map(header)
                .filter(|(name, _)| is_configurable(name))
                .collect(),
            counters: Counters::of(name),
            upstream: self.pool.upstream(&route.settings),
            route,
        });
        all.retain(|name, _| self.shared.access.route(name).is_some());
        all.insert(name.to_owned(), Arc::clone(&prepared));
        Some(prepared)
    }

    /// What to ask the upstream for.
    fn target(
        &self,
        prepared: &Prepared,
        method: &Method,
        tail: &str,
        query: Option<&str>,
    ) -> Result<PathAndQuery, Problem> {
        if endpoint::is_sealed(tail) {
            // Endpoints are posted to, and the seal stands for no more than that.
            let path = self.shared.seals.open(&prepared.route, tail).filter(|_| *method == Method::POST);
            let target = path.and_then(|path| target::path_and_query(&path, query));
            let detail = "the server announced no such endpoint to this daemon: open its stream again, and post there";
            return target.ok_or_else(|| Problem::new(StatusCode::GONE, "endpoint-gone", "Endpoint gone", detail));
        }
        let target = prepared.url.path_and_query(tail, query).filter(|_| !climbs(tail));
        let detail = "the path leaves its server";
        target.ok_or_else(|| Problem::new(StatusCode::BAD_REQUEST, "bad-path", "Bad path", detail))
    }

    async fn forward(&self, outgoing: &Outgoing<'_>, body: Incoming, clocked: &mut Clocked) -> Response<ProxyBody> {
        let pass = match self.pass(outgoing.prepared).await {
            Ok(pass) => pass,
            Err(denial) => return self.deny(outgoing, &denial, readable(&outgoing.method, body).await.as_ref()),
        };
        let (body, copy) = RequestBody::passing(body, REPLAY_MAX);
        let response = match self.send_proven(outgoing, bearer_of(&pass), body, &copy, clocked).await {
            Ok(response) => response,
            Err(answer) => return answer,
        };
        if is_refused(&response, scheme_of(&pass)) {
            let challenge = challenge_in(response.headers(), scheme_of(&pass)).unwrap_or_default();
            drop(response);
            return self.refused(outgoing, &pass, challenge, &copy, clocked).await;
        }
        self.passed(outgoing, &pass, response)
    }

    /// A token, at once or after parking.
    async fn pass(&self, prepared: &Prepared) -> Result<Pass, Denial> {
        let (access, route) = (&self.shared.access, &prepared.route);
        if let Some(pass) = access.try_pass(route) {
            return Ok(pass);
        }
        let pass = access.pass(route).await;
        prepared.counters.parked(if pass.is_ok() { Parked::Served } else { Parked::Denied });
        pass
    }

    /// Sends the request. A kept connection that the upstream closed meanwhile gets a second try
    /// on a fresh one, if nothing can have happened twice.
    async fn send(
        &self,
        outgoing: &Outgoing<'_>,
        bearer: Option<&Bearer>,
        body: RequestBody,
        copy: &Copy,
        clocked: &mut Clocked,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let (access, route) = (&self.shared.access, &outgoing.prepared.route);
        let upstream = &outgoing.prepared.upstream;
        let request = |body| outgoing.request(access, bearer, body);
        let not_proven = |error: ProofError| not_proven(route, &error);
        let began = Instant::now();
        let mut result = self.pool.send(upstream, request(body).map_err(not_proven)?, false).await;
        if let Err(SendError::Broken { sent, reused: true, .. }) = &result
            && (!sent || outgoing.method.is_idempotent())
            && let Some(whole) = copy.complete(REPLAY_MAX).await
        {
            result = self.pool.send(upstream, request(RequestBody::known(whole)).map_err(not_proven)?, true).await;
        }
        clocked.0 += began.elapsed();
        let grant = &route.grant;
        let detail = match result {
            Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                format!("{grant}: it switched to another protocol, which nobody had asked for")
            }
            Ok(response) => {
                self.note_nonce(route, bearer, response.headers());
                return Ok(response);
            }
            Err(SendError::Unreachable(cause)) => format!("{grant}: cannot be reached: {cause}"),
            Err(SendError::Broken { cause, .. }) => {
                format!("{grant}: the connection broke before an answer: {}", in_words(&cause))
            }
        };
        let problem = Problem::new(StatusCode::BAD_GATEWAY, "upstream-unreachable", "Upstream unreachable", detail);
        Err(Refusal::of(problem))
    }

    /// The upstream refused the token (rule 11): one replay with a newer one, never a loop.
    async fn refused(
        &self,
        outgoing: &Outgoing<'_>,
        pass: &Pass,
        challenge: Challenge,
        copy: &Copy,
        clocked: &mut Clocked,
    ) -> Response<ProxyBody> {
        let (access, route) = (&self.shared.access, &outgoing.prepared.route);
        access.challenged(route, challenge);
        let newer = match pass {
            Pass::Bearer(bearer) => access.pass_after_refusal(route, bearer.generation).await,
            Pass::Anonymous => Err(access.denial(route)),
        };
        let whole = copy.complete(REPLAY_MAX).await;
        let newer = match newer {
            Ok(newer) => newer,
            Err(denial) => return self.deny(outgoing, &denial, whole.as_ref()),
        };
        let Some(whole) = whole else {
            return plain(&not_replayed(route, "the token was refused and has been renewed"), None);
        };
        outgoing.prepared.counters.replayed();
        let again = RequestBody::known(whole.clone());
        let response = match self.send_proven(outgoing, Some(&newer), again, copy, clocked).await {
            Ok(response) => response,
            Err(answer) => return answer,
        };
        if is_refused(&response, scheme_of(pass)) {
            drop(response);
            // The engine learns that the fresh token is refused as well; there is no third try.
            let denial = access.pass_after_refusal(route, newer.generation).await.err();
            return self.deny(outgoing, &denial.unwrap_or_else(|| access.denial(route)), Some(&whole));
        }
        self.passed(outgoing, &Pass::Bearer(newer), response)
    }

    /// Passes the upstream's answer on.
    fn passed(&self, outgoing: &Outgoing<'_>, pass: &Pass, response: Response<ResponseBody>) -> Response<ProxyBody> {
        let (access, route) = (&self.shared.access, &outgoing.prepared.route);
        if response.status() == StatusCode::FORBIDDEN
            && let Some(challenge) = challenge_in(response.headers(), scheme_of(pass))
            && challenge.error.as_deref() == Some("insufficient_scope")
        {
            access.scope_demanded(route, pass, challenge);
        }
        if let Pass::Bearer(bearer) = pass {
            access.accepted(route, bearer.generation);
        }
        let (mut head, body) = response.into_parts();
        // The version is of one hop, and this one is ours.
        head.version = Version::HTTP_11;
        headers::strip_response(&mut head.headers);
        if let Some(location) = head.headers.get(LOCATION).and_then(|location| outgoing.location(location)) {
            head.headers.insert(LOCATION, location);
        }
        let inner = match outgoing.events(&head) {
            Some(asked) => {
                head.headers.remove(CONTENT_LENGTH);
                let (prepared, shared) = (Arc::clone(outgoing.prepared), Arc::clone(&self.shared));
                Inner::Events(Box::new(Events::new(body, asked, prepared, shared)))
            }
            None => Inner::Upstream(body),
        };
        Response::from_parts(head, ProxyBody(inner))
    }

    fn deny(&self, outgoing: &Outgoing<'_>, denial: &Denial, body: Option<&Bytes>) -> Response<ProxyBody> {
        self.shared.access.turned_away(&outgoing.prepared.route);
        // A JSON-RPC error would be read by nobody where answers come over a stream.
        let body = body.filter(|_| !outgoing.is_to_endpoint);
        plain(&Refusal::denied(denial, &self.shared.page_url), body)
    }
}

impl Outgoing<'_> {
    /// Where a redirect leads the client, where that differs from what the upstream says.
    fn location(&self, location: &HeaderValue) -> Option<HeaderValue> {
        let (url, asked) = (&self.prepared.url, self.uri.path_and_query()?);
        HeaderValue::try_from(url.location(self.place, asked, location.to_str().ok()?)?).ok()
    }

    /// For an answer whose first event may be an endpoint: what was asked.
    fn events(&self, head: &http::response::Parts) -> Option<Asked> {
        let is_stream =
            self.method == Method::GET && head.status == StatusCode::OK && headers::are_events(&head.headers);
        let target = self.uri.path_and_query().filter(|_| is_stream)?;
        Some(Asked { place: self.place.to_owned(), target: target.clone() })
    }

    /// The headers of the request but for its token.
    fn headers(&self) -> HeaderMap {
        let mut headers = headers::passing(&self.headers);
        if self.method == Method::GET {
            headers::keep_events_readable(&mut headers);
        }
        headers.insert(HOST, self.prepared.url.host.clone());
        for (name, value) in &self.prepared.headers {
            headers.insert(name, value.clone());
        }
        headers
    }

    /// The request with its token, and a proof of its own where the token needs one.
    fn request(
        &self,
        access: &Access,
        bearer: Option<&Bearer>,
        body: RequestBody,
    ) -> Result<Request<RequestBody>, ProofError> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers();
        if let Some(bearer) = bearer {
            request.headers_mut().insert(AUTHORIZATION, bearer.authorization.clone());
            if bearer.is_bound() {
                let htu = self.prepared.url.htu(self.uri.path());
                let proof = access.proof(&self.prepared.route, bearer, self.method.as_str(), &htu)?;
                request.headers_mut().extend(proof.map(|proof| (HeaderName::from_static(DPOP), proof)));
            }
        }
        Ok(request)
    }
}

/// What is not passed on, in words.
fn unsupported(method: &Method, headers: &HeaderMap) -> Option<Problem> {
    let is_websocket = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"websocket");
    let is_chunked = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
    let (kind, detail) = if matches!(*method, Method::TRACE | Method::CONNECT) {
        ("method", "TRACE and CONNECT are about the way of a request, and would show what is added on it")
    } else if headers.get(UPGRADE).is_some_and(is_websocket) {
        ("upgrade", "WebSockets are not passed on")
    } else if headers.get_all(TRANSFER_ENCODING).iter().any(|value| !is_chunked(value)) {
        ("transfer-coding", "no transfer coding but chunked is undone here")
    } else {
        return None;
    };
    Some(Problem::new(StatusCode::NOT_IMPLEMENTED, kind, "Not implemented", detail))
}

fn bearer_of(pass: &Pass) -> Option<&Bearer> {
    match pass {
        Pass::Bearer(bearer) => Some(bearer),
        Pass::Anonymous => None,
    }
}

/// How the token of `pass` is sent; challenges of that scheme are about it.
fn scheme_of(pass: &Pass) -> Scheme {
    if bearer_of(pass).is_some_and(Bearer::is_bound) { Scheme::Dpop } else { Scheme::Bearer }
}

/// What is said of a request that cannot be sent again because of its length. `why` it would have to be.
fn not_replayed(route: &Route, why: &str) -> Refusal {
    let detail = format!("{}: {why}, and the body was too long to be sent again; repeat the request", route.grant);
    let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-replayed", "Repeat the request", detail);
    Refusal::of(Problem { retry_after: Some(Duration::from_secs(1)), ..problem })
}

/// 401, or 403 with `invalid_token`: the token was refused, and the request was not executed.
fn is_refused(response: &Response<ResponseBody>, sent: Scheme) -> bool {
    match response.status() {
        StatusCode::UNAUTHORIZED => true,
        StatusCode::FORBIDDEN => challenge_in(response.headers(), sent)
            .is_some_and(|challenge| challenge.error.as_deref() == Some("invalid_token")),
        _ => false,
    }
}

/// Why a connection broke: its cause says more than it does itself.
fn in_words(error: &hyper::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

fn challenge_in(headers: &HeaderMap, sent: Scheme) -> Option<Challenge> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    let values: Vec<_> = values.collect();
    parse_www_authenticate(values.iter().map(|value| &**value), sent)
}

/// The body of a request that is refused, where it may be JSON-RPC.
async fn readable(method: &Method, body: Incoming) -> Option<Bytes> {
    if method == Method::POST { collected(body, REPLAY_MAX).await } else { None }
}

fn plain(refusal: &Refusal, body: Option<&Bytes>) -> Response<ProxyBody> {
    refusal.answer(body).map(|bytes| ProxyBody(Inner::Own(Full::new(bytes))))
}
