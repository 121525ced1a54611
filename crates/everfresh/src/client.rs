//! Calls of the API: of the running daemon, or, where none runs, of an application in this process.
//!
//! Both go through the same routes, so that a command has one way of working and one kind of answer.

use std::time::Duration;

use axum::Router;
use everfresh_application::Application;
use everfresh_presentation::Server;
use http::{Method, Request};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::time::{Instant, sleep};
use tower::ServiceExt;

use crate::alive;
use crate::cli::Global;
use crate::compose::{self, NotOpened, OpenStore};
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::loading;
use crate::local_key;
use crate::output::progress;
use crate::paths::Paths;
use crate::serve::DaemonFile;

/// How long a daemon may take to say that it lives.
const ALIVE: Duration = Duration::from_secs(3);

/// Calls may wait for a refresh and its spacing.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long whoever has the store is waited for, and how long at first until it is looked again; then
/// twice as long each time.
const HELD_MAX: Duration = Duration::from_secs(5);
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// What a command needs an application in its own process for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// To look or to change settings: nothing is sent to any provider.
    Look,
    /// To refresh.
    Refresh,
    /// To log in: the answer comes back to a listener.
    Login,
}

enum Transport {
    Daemon { client: reqwest::Client, base_url: String },
    Local { router: Box<Router>, application: Application, server: Option<Server>, base_url: String },
}

/// The API, wherever it is.
pub(crate) struct Api {
    transport: Transport,
    key: String,
}

/// The daemon of this data folder, if one runs; where an address and a key are given, the one that is there.
pub(crate) async fn running_daemon(global: &Global, paths: &Paths) -> Option<String> {
    let base_url = match (global.listen, told(paths)) {
        (Some(address), _) => format!("http://{address}"),
        (None, Some(told)) => told.base_url,
        (None, None) => return None,
    };
    let is_given = global.listen.is_some() && local_key::is_given();
    if !is_given && !alive::is_held(paths) {
        return None;
    }
    answers(&base_url).await.then_some(base_url)
}

/// Whether something at `base_url` says that it lives.
async fn answers(base_url: &str) -> bool {
    let alive = http_client().get(format!("{base_url}/healthz")).timeout(ALIVE).send().await;
    alive.is_ok_and(|answer| answer.status().is_success())
}

/// What the last daemon of this folder said of itself. One that ended by itself took it back.
pub(crate) fn told(paths: &Paths) -> Option<DaemonFile> {
    serde_json::from_slice(&std::fs::read(paths.daemon()).ok()?).ok()
}

/// What is known of a daemon that does not answer, after "the daemon".
pub(crate) fn absence(paths: &Paths) -> String {
    match told(paths) {
        Some(told) => format!(
            "does not answer at {}, where it was last (process {}): it has ended without a word, or hangs",
            told.base_url, told.pid
        ),
        None => "does not run".to_owned(),
    }
}

/// The daemon of this data folder and the key that it wants, if one runs.
pub(crate) async fn daemon(global: &Global, paths: &Paths) -> Result<Option<(String, String)>, Failure> {
    let Some(base_url) = running_daemon(global, paths).await else { return Ok(None) };
    match local_key::find(paths)? {
        Some(key) => Ok(Some((base_url, key))),
        None => Err(no_key(&base_url, paths)),
    }
}

/// Refuses a `--listen` at which the data folder's daemon is not: where it is at another address, it holds
/// the store, and where another one answers, that one's logins are meant.
async fn elsewhere(global: &Global, paths: &Paths) -> Result<(), Failure> {
    let Some(address) = global.listen else { return Ok(()) };
    match running_daemon(&Global { listen: None, ..global.clone() }, paths).await {
        None if answers(&format!("http://{address}")).await => {
            let text = format!(
                "what answers at {address} is not the daemon of {}, and is shown no key of it: name its own data folder \
                 with --data-dir, or give its key in EVERFRESH_KEY",
                paths.data.display()
            );
            Err(Failure::new(Exit::Refused, text))
        }
        None => Ok(()),
        Some(base_url) => {
            let text = format!(
                "no daemon answers at {address}; the one of this data folder is at {base_url}: leave out --listen, or \
                 name another folder with --data-dir"
            );
            Err(Failure::new(Exit::NoDaemon, text))
        }
    }
}

/// The failure where the one that has the store is the daemon, which does not answer.
fn hanging(paths: &Paths, error: &NotOpened) -> Option<Failure> {
    let told = holding_daemon(paths, error)?;
    let text = format!(
        "the daemon does not answer at {}, and its process {} still has {}: it hangs, or takes long to end. Try again in \
         a moment; if that does not help, end that process and start it anew with: everfresh serve",
        told.base_url,
        told.pid,
        paths.data.display()
    );
    Some(Failure::new(Exit::NoDaemon, text))
}

/// The daemon, if it is what has the store.
pub(crate) fn holding_daemon(paths: &Paths, error: &NotOpened) -> Option<DaemonFile> {
    let holder = error.holder()?;
    // Where files that are locked cannot be read, nobody knows the process.
    told(paths).filter(|told| holder.is_none_or(|pid| pid == told.pid.to_string()))
}

fn no_key(base_url: &str, paths: &Paths) -> Failure {
    let text = format!(
        "the daemon at {base_url} wants a local key, and there is none in {}: name that daemon's data folder with \
         --data-dir, or give its key in EVERFRESH_KEY",
        paths.data.display()
    );
    Failure::new(Exit::NoDaemon, text)
}

/// What a daemon at `base_url` said where it did not do what was asked.
pub(crate) async fn refused_by(base_url: &str, response: reqwest::Response) -> Failure {
    let status = response.status().as_u16();
    let problem = response.json().await.unwrap_or(Value::Null);
    failure(base_url, status, &problem)
}

/// A client of the API, on this machine.
pub(crate) fn http_client() -> reqwest::Client {
    local_client().timeout(PATIENCE).build().expect("a client without any file can be built")
}

/// A client for this machine: no proxy, no TLS roots.
pub(crate) fn local_client() -> reqwest::ClientBuilder {
    drop(rustls::crypto::ring::default_provider().install_default());
    let roots = rustls::RootCertStore::empty();
    let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls)
}

impl Api {
    /// The running daemon's API, else one in this process that does what `need` says. Whoever has the
    /// store is waited for: a daemon that is starting or ending, or another command.
    pub(crate) async fn open(global: &Global, paths: &Paths, need: Need) -> Result<Self, Failure> {
        let mut held = match Self::try_open(global, paths, need).await? {
            Ok(api) => return Ok(api),
            Err(held) => held,
        };
        let until_free = async {
            let deadline = Instant::now() + HELD_MAX;
            let mut pause = PAUSE_MIN;
            while Instant::now() + pause < deadline {
                sleep(pause).await;
                pause *= 2;
                match Self::try_open(global, paths, need).await? {
                    Ok(api) => return Ok(api),
                    Err(still) => held = still,
                }
            }
            Err(hanging(paths, &held).unwrap_or_else(|| held.into()))
        };
        progress::during("waiting for the everfresh that has the data folder", until_free).await
    }

    /// The same without waiting: where another process has the store, why.
    async fn try_open(global: &Global, paths: &Paths, need: Need) -> Result<Result<Self, NotOpened>, Failure> {
        if let Some((base_url, key)) = daemon(global, paths).await? {
            return Ok(Ok(Self { transport: Transport::Daemon { client: http_client(), base_url }, key }));
        }
        elsewhere(global, paths).await?;
        let mut config = loading::load(paths, global)?;
        if need == Need::Look {
            // No place for any attempt: whoever only looks sends nothing.
            config.policy.concurrency = 0;
        }
        match compose::open_store(paths, &config) {
            Ok(store) => Self::here(paths, &config, store, need).await.map(Ok),
            Err(error) if error.holder().is_some() => Ok(Err(error)),
            Err(error) => Err(error.into()),
        }
    }

    /// An API in this process.
    async fn here(paths: &Paths, config: &Config, store: OpenStore, need: Need) -> Result<Self, Failure> {
        let listeners = if need == Need::Login { compose::bind(config)? } else { Vec::new() };
        let bound = listeners.first().and_then(|listener| listener.local_addr().ok());
        let address = bound.unwrap_or(config.listen[0]);
        let running = compose::start(paths, config, store, address).await?;
        let failed = |error: std::io::Error| Failure::new(Exit::Failed, error.to_string());
        let server = match listeners.is_empty() {
            true => None,
            false => Some(Server::start(&listeners, running.surfaces.clone(), 1).map_err(failed)?),
        };
        let base_url = running.surfaces.base_url.clone();
        let router = Box::new(Server::router(running.surfaces));
        Ok(Self {
            transport: Transport::Local { router, application: running.application, server, base_url },
            key: local_key::limited().unwrap_or(running.key),
        })
    }

    /// Where clients connect to.
    pub(crate) fn base_url(&self) -> &str {
        match &self.transport {
            Transport::Daemon { base_url, .. } | Transport::Local { base_url, .. } => base_url,
        }
    }

    /// The local key.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Whether a daemon answers, and not this process.
    pub(crate) fn is_daemon(&self) -> bool {
        matches!(self.transport, Transport::Daemon { .. })
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.call(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Option<Value>) -> Result<Value, Failure> {
        self.call(Method::POST, path, body).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Result<Value, Failure> {
        self.call(Method::PATCH, path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<Value, Failure> {
        self.call(Method::DELETE, path, None).await
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, Failure> {
        let content = body.map(|body| body.to_string()).unwrap_or_default();
        let (status, text) = match &self.transport {
            Transport::Daemon { client, base_url } => {
                let request = client
                    .request(method, format!("{base_url}{path}"))
                    .header("x-everfresh-key", &self.key)
                    .header("content-type", "application/json")
                    .body(content);
                let gone = |error: reqwest::Error| {
                    let cause = if error.is_timeout() { "it took too long".to_owned() } else { innermost(&error) };
                    let text = format!(
                        "the daemon at {base_url} does not answer any more: {cause}. See its log, or start it with: \
                         everfresh serve"
                    );
                    Failure::new(Exit::NoDaemon, text)
                };
                let answer = request.send().await.map_err(gone)?;
                (answer.status(), answer.text().await.map_err(gone)?)
            }
            Transport::Local { router, .. } => {
                let request = Request::builder()
                    .method(method)
                    .uri(path)
                    .header("host", "localhost")
                    .header("x-everfresh-key", &self.key)
                    .header("content-type", "application/json")
                    .body(axum::body::Body::from(content));
                let broken = |text: String| Failure::new(Exit::Failed, text);
                let request = request.map_err(|error| broken(error.to_string()))?;
                let Ok(answer) = (**router).clone().oneshot(request).await;
                let status = answer.status();
                let bytes = answer.into_body().collect().await.map_err(|error| broken(error.to_string()))?.to_bytes();
                (status, String::from_utf8_lossy(&bytes).into_owned())
            }
        };
        if status.is_success() {
            return Ok(serde_json::from_str(&text).unwrap_or(Value::Null));
        }
        Err(failure(self.base_url(), status.as_u16(), &serde_json::from_str(&text).unwrap_or(Value::Null)))
    }

    /// Ends an application in this process: what it began is stored.
    pub(crate) async fn close(self) {
        if let Transport::Local { application, server, .. } = self.transport {
            application.shutdown().await;
            if let Some(server) = server {
                server.shutdown().await;
            }
        }
    }
}

/// The cause that says what happened.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// A problem of the API at `base_url`, as words and exit code.
fn failure(base_url: &str, status: u16, problem: &Value) -> Failure {
    let kind = problem["type"].as_str().unwrap_or_default();
    let name = kind.strip_prefix(everfresh_presentation::problem::TYPE_PREFIX).unwrap_or_default();
    let exit = match name {
        "no-such-server" | "no-such-key" => Exit::NoSuchServer,
        "login-needed" => Exit::LoginNeeded,
        "token-unavailable" if problem["reason"] == "retrying_network" => Exit::Unreachable,
        "provider-unreachable" | "upstream-unreachable" => Exit::Unreachable,
        "store" => Exit::Store,
        "invalid" | "not-the-answer" => Exit::Usage,
        "defined-in-file" | "disabled" | "login-impossible" | "forbidden" | "key-needed" | "beyond-key"
        | "key-over" | "key-given" | "too-many-keys" | "logged-in" | "not-undoable" => Exit::Refused,
        _ => Exit::Failed,
    };
    if name == "key-needed" {
        let given = std::env::var_os("EVERFRESH_KEY").is_some_and(|key| !key.is_empty());
        let text = if given {
            format!(
                "the daemon at {base_url} does not take the key in EVERFRESH_KEY; correct it, or unset it so that the one \
                 in the data folder counts"
            )
        } else {
            format!(
                "the daemon at {base_url} does not take the local key of this data folder: it runs on another one. Name \
                 that with --data-dir, or another daemon with --listen"
            )
        };
        return Failure::new(exit, text);
    }
    let text = match problem["detail"].as_str() {
        Some(detail) => detail.to_owned(),
        None => {
            format!("what listens at {base_url} answered {status} and no words of everfresh: is it another program?")
        }
    };
    Failure::new(exit, text)
}
