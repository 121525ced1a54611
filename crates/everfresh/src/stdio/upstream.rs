//! Requests of the data plane, through whichever daemon there is.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::{Client, Response, redirect};

use super::daemon::{Daemon, Place};
use super::framing::MESSAGE_MAX;
use crate::client::local_client;
use crate::exit::Failure;

/// How long this machine may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// Times that one request is tried, where nothing can have happened twice.
const TRIES: usize = 4;

/// Redirects that are followed, all of them within the daemon.
const REDIRECTS_MAX: usize = 5;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// Nothing was sent.
    #[error("everfresh cannot be reached: {0}")]
    NoDaemon(#[from] Failure),
    /// It may have been executed.
    #[error("the connection to everfresh broke before the answer; it may or may not have been executed: {0}")]
    Broken(String),
}

/// One server behind the daemon.
pub(super) struct Upstream {
    daemon: Daemon,
    client: Client,
    path: String,
}

impl Upstream {
    /// The server or login of this name.
    pub(super) fn new(daemon: Daemon, name: &str) -> Self {
        // A connection for each request: one that cannot be made has sent nothing, for certain.
        // The key must not follow a redirect to elsewhere.
        let client = local_client()
            .pool_max_idle_per_host(0)
            .connect_timeout(CONNECT)
            .redirect(redirect::Policy::custom(|attempt| {
                let within = attempt.previous().first().is_some_and(|first| first.origin() == attempt.url().origin());
                if within && attempt.previous().len() <= REDIRECTS_MAX { attempt.follow() } else { attempt.stop() }
            }))
            .build();
        let client = client.expect("a client without any file can be built");
        Self { daemon, client, path: format!("/mcp/{name}") }
    }

    /// Sends a message. A daemon that is gone is waited for or started, and asked again where the
    /// message cannot have arrived, or may arrive twice.
    pub(super) async fn post(
        &self,
        headers: &HeaderMap,
        body: &Bytes,
        may_repeat: bool,
    ) -> Result<Response, SendError> {
        let mut place = self.daemon.reach().await?;
        for last in (0..TRIES).map(|try_| try_ + 1 == TRIES) {
            let request = |place: &Place| {
                self.request(Method::POST, place, headers)
                    .header(CONTENT_TYPE, "application/json")
                    .header(ACCEPT, "application/json, text/event-stream")
                    .body(body.clone())
            };
            match self.sent(&place, request).await {
                Ok(response) => return Ok(response),
                Err(error) if !last && (error.is_connect() || may_repeat) => {
                    tracing::info!(cause = told(&error), "everfresh did not answer; trying again");
                    place = self.daemon.reach_again(&place).await?;
                }
                Err(error) => return Err(SendError::Broken(told(&error))),
            }
        }
        unreachable!("the last try returns")
    }

    /// Opens a stream. No daemon is started for it: whoever stopped one may want it so.
    pub(super) async fn listen(&self, headers: &HeaderMap, last_id: Option<&str>) -> Result<Response, SendError> {
        let gone = || SendError::Broken("no daemon runs".to_owned());
        let place = self.daemon.look().await?.ok_or_else(gone)?;
        self.get(&place, headers, last_id).await.inspect_err(|_| self.daemon.forget(&place))
    }

    /// Opens a stream again whose answer the client waits for.
    pub(super) async fn resume(&self, headers: &HeaderMap, last_id: &str) -> Result<Response, SendError> {
        let place = self.daemon.reach().await?;
        match self.get(&place, headers, Some(last_id)).await {
            Ok(response) => Ok(response),
            Err(_) => {
                let place = self.daemon.reach_again(&place).await?;
                self.get(&place, headers, Some(last_id)).await
            }
        }
    }

    async fn get(&self, place: &Arc<Place>, headers: &HeaderMap, last_id: Option<&str>) -> Result<Response, SendError> {
        let id = last_id.and_then(|id| HeaderValue::try_from(id).ok());
        let request = |place: &Place| {
            let request = self.request(Method::GET, place, headers).header(ACCEPT, "text/event-stream");
            match &id {
                Some(id) => request.header("last-event-id", id),
                None => request,
            }
        };
        self.sent(place, request).await.map_err(|error| SendError::Broken(told(&error)))
    }

    /// Ends a session, if a daemon runs.
    pub(super) async fn delete(&self, headers: &HeaderMap) {
        if let Ok(Some(place)) = self.daemon.look().await {
            drop(self.sent(&place, |place| self.request(Method::DELETE, place, headers)).await);
        }
    }

    /// Sends what `request` makes. What is forbidden with a key that has been rotated is asked again with
    /// the one that is kept: whoever forbids has done nothing.
    async fn sent(
        &self,
        place: &Arc<Place>,
        request: impl Fn(&Place) -> reqwest::RequestBuilder,
    ) -> reqwest::Result<Response> {
        let response = request(place).send().await?;
        if response.status() != StatusCode::FORBIDDEN {
            return Ok(response);
        }
        match self.daemon.rekeyed(place) {
            Some(place) => request(&place).send().await,
            None => Ok(response),
        }
    }

    fn request(&self, method: Method, place: &Place, headers: &HeaderMap) -> reqwest::RequestBuilder {
        let url = format!("{}{}", place.base_url, self.path);
        self.client.request(method, url).header("x-everfresh-key", &place.key).headers(headers.clone())
    }
}

/// An error with its causes, without the URL.
fn told(error: &reqwest::Error) -> String {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    if causes.is_empty() { "no cause is known".to_owned() } else { causes.join(": ") }
}

/// The media type of an answer, in lower case and without parameters.
pub(super) fn media_type(response: &Response) -> String {
    let value = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The whole body of an answer, as long as it is no longer than any message.
pub(super) async fn whole(response: &mut Response) -> Result<Bytes, SendError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| SendError::Broken(told(&error)))? {
        body.extend_from_slice(&chunk);
        if body.len() > MESSAGE_MAX {
            return Err(SendError::Broken(format!("the answer is longer than {MESSAGE_MAX} bytes")));
        }
    }
    Ok(body.freeze())
}
