//! The daemon as a client sees it: its events, followed through restarts, and the few calls that a
//! person's click makes.

use std::time::Duration;

use bytes::Bytes;
use everfresh_domain::Secret;
use futures_util::{Stream, StreamExt, stream};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use sse_stream::SseByteStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use url::Url;

use crate::model::{Absence, Told};
use crate::place::{Place, Seeker};

/// After this long without an event the daemon is asked whether it lives. Its own heartbeat is
/// slower than an outage may stay unseen: [`SILENCE`] and [`ALIVE`] together are under 5 s.
const SILENCE: Duration = Duration::from_millis(1500);

/// How long a daemon may take to say that it lives, or to open the stream.
const ALIVE: Duration = Duration::from_secs(2);

/// Between a stream's end and the next try. Most ends are restarts.
const PAUSE_MIN: Duration = Duration::from_millis(200);

/// Between two tries when many have failed: a daemon that starts shows within this.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Calls may wait for a refresh and its spacing.
const PATIENCE: Duration = Duration::from_secs(120);

/// Why a call did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// There is no daemon to call.
    #[error("everfresh does not run")]
    NoDaemon,
    /// It does not answer.
    #[error("everfresh does not answer")]
    Silent(#[source] reqwest::Error),
    /// It says no, in its own words.
    #[error("{0}")]
    Refused(String),
    /// It answers something that is none of its answers.
    #[error("the daemon's answer is not understood: are it and the tray of one version?")]
    NotUnderstood,
}

/// A login that has begun.
#[derive(Deserialize)]
pub(crate) struct LoginStarted {
    /// What a person opens; it carries the `state`.
    #[serde(deserialize_with = "secret")]
    pub(crate) authorization_url: Secret,
    /// What a person types in, where the login is by device code (RFC 8628).
    pub(crate) device: Option<DevicePrompt>,
}

/// What a person needs for a login by device code.
#[derive(Deserialize)]
pub(crate) struct DevicePrompt {
    pub(crate) user_code: String,
}

#[derive(Deserialize)]
struct PageLink {
    #[serde(deserialize_with = "secret")]
    url: Secret,
}

fn secret<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
    String::deserialize(deserializer).map(Secret::new)
}

/// The way to the daemon.
#[derive(Clone)]
pub(crate) struct Daemon {
    seeker: Seeker,
    client: reqwest::Client,
}

impl Daemon {
    pub(crate) fn new(seeker: Seeker) -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let roots = rustls::RootCertStore::empty();
        let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let client = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls);
        let client = client.redirect(reqwest::redirect::Policy::none());
        Self { seeker, client: client.build().expect("a client without any file can be built") }
    }

    /// Tells what happens, and whether there is a daemon, until nobody listens.
    pub(crate) async fn follow(&self, tell: mpsc::Sender<Told>) {
        let mut last_id = None;
        let mut pause = PAUSE_MIN;
        while !tell.is_closed() {
            let absence = match self.seeker.find() {
                Ok(place) => self.listen(&place, &mut last_id, &tell).await,
                Err(absence) => Some(absence),
            };
            match absence {
                // It may be back at once, at another port: the next try decides whether it is gone.
                None => pause = PAUSE_MIN,
                Some(absence) => drop(tell.send(Told::Gone(absence)).await),
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Reads one stream to its end: None for one that was open and was closed. `last_id` is where
    /// the next one goes on.
    async fn listen(&self, place: &Place, last_id: &mut Option<String>, tell: &mpsc::Sender<Told>) -> Option<Absence> {
        let silent = || Some(Absence::Silent(place.base_url.clone()));
        let mut request = self.request(place, Method::GET, "/events");
        if let Some(id) = last_id {
            request = request.header("last-event-id", id.as_str());
        }
        let Ok(Ok(response)) = timeout(ALIVE, request.send()).await else { return silent() };
        if let Some(absence) = refusal(&response) {
            return Some(absence);
        }
        let mut events = Box::pin(SseByteStream::new(chunks(response)));
        tell.send(Told::Live).await.ok()?;
        loop {
            match timeout(SILENCE, events.next()).await {
                Err(_) if self.lives(place).await => {}
                Err(_) => return silent(),
                Ok(None | Some(Err(_))) => return None,
                Ok(Some(Ok(event))) => {
                    if event.id.is_some() {
                        *last_id = event.id;
                    }
                    if let (Some(name), Some(data)) = (event.event, event.data) {
                        tell.send(Told::Event { name, data }).await.ok()?;
                    }
                }
            }
        }
    }

    async fn lives(&self, place: &Place) -> bool {
        let answer = self.client.get(format!("{}/healthz", place.base_url)).timeout(ALIVE).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// Begins a login, or joins the one that is pending.
    pub(crate) async fn log_in(&self, grant: &str) -> Result<LoginStarted, Failure> {
        understood(self.post(&["servers", grant, "login"]).await?)
    }

    /// One attempt, as soon as its spacing allows.
    pub(crate) async fn refresh(&self, grant: &str) -> Result<(), Failure> {
        self.post(&["servers", grant, "refresh"]).await.map(drop)
    }

    /// Switches a server on.
    pub(crate) async fn enable(&self, grant: &str) -> Result<(), Failure> {
        self.post(&["servers", grant, "enable"]).await.map(drop)
    }

    /// A link that opens the page once.
    pub(crate) async fn page_link(&self) -> Result<Secret, Failure> {
        understood(self.post(&["page-link"]).await?).map(|PageLink { url }| url)
    }

    async fn post(&self, path: &[&str]) -> Result<Value, Failure> {
        let place = self.seeker.find().map_err(|_| Failure::NoDaemon)?;
        let mut url = Url::parse(&place.base_url).map_err(|_| Failure::NoDaemon)?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.clear().extend(["api", "v1"]).extend(path);
        }
        let request = self.request(&place, Method::POST, url.path()).timeout(PATIENCE);
        let silent = |error: reqwest::Error| Failure::Silent(error.without_url());
        let response = request.send().await.map_err(silent)?;
        let status = response.status();
        let body: Value = serde_json::from_slice(&response.bytes().await.map_err(silent)?).unwrap_or_default();
        if status.is_success() {
            return Ok(body);
        }
        let words = body["detail"].as_str().map(str::to_owned);
        Err(Failure::Refused(words.unwrap_or_else(|| format!("the daemon answered {status}"))))
    }

    fn request(&self, place: &Place, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", place.base_url));
        match &place.key {
            Some(key) => request.header("x-everfresh-key", key.expose()),
            None => request,
        }
    }
}

/// Why an answer is not a stream of events.
fn refusal(response: &Response) -> Option<Absence> {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    match response.status() {
        StatusCode::OK if kind.starts_with("text/event-stream") => None,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Some(Absence::KeyRefused),
        other => Some(Absence::Stranger(other.as_u16())),
    }
}

/// The bytes of a body as they come.
fn chunks(response: Response) -> impl Stream<Item = Result<Bytes, reqwest::Error>> {
    stream::try_unfold(response, |mut response| async move {
        let chunk = response.chunk().await?;
        Ok(chunk.map(|chunk| (chunk, response)))
    })
}

fn understood<T: serde::de::DeserializeOwned>(answer: Value) -> Result<T, Failure> {
    serde_json::from_value(answer).map_err(|_| Failure::NotUnderstood)
}
