//! One message to the server, and what comes back for it: an answer, a stream, or trouble.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use reqwest::Response;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::bridge::Bridge;
use super::framing::one_line;
use super::message::{self, Id, Message, OURS, UPSTREAM};
use super::sse::{Event, Events};
use super::upstream::{SendError, media_type, whole};

/// Times in a row that a broken stream is taken up again without anything new in it.
const RESUMES_MAX: u32 = 8;

/// How long to wait before a stream is taken up again, where the server says nothing, and at most.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Characters of an answer that are shown, where it is not JSON-RPC.
const SHOWN_MAX: usize = 300;

/// The id of an opening that the client knows nothing of.
const REOPENING: &str = "everfresh-reopening";

/// Why a message has no answer, as the client is told.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) code: i32,
    pub(super) text: String,
    pub(super) data: Option<Value>,
    /// Whether the answer was lost on its way.
    pub(super) is_lost: bool,
}

impl Trouble {
    fn upstream(text: impl Into<String>) -> Self {
        Self { code: UPSTREAM, text: text.into(), data: None, is_lost: false }
    }
}

impl From<SendError> for Trouble {
    fn from(error: SendError) -> Self {
        let (reason, action) = match &error {
            SendError::NoDaemon(_) => ("daemon_unreachable", "view_logs"),
            SendError::Broken(_) => ("answer_lost", "retry"),
        };
        let is_lost = matches!(error, SendError::Broken(_));
        Self { code: OURS, text: error.to_string(), data: Some(json!({ "reason": reason, "action": action })), is_lost }
    }
}

impl Bridge {
    /// Sends a message and passes on what comes back. `pending` are the requests in it that have
    /// no answer yet; those that are left with trouble are to be told of it.
    pub(super) async fn exchange(&self, said: &Message, pending: &mut Vec<Id>) -> Result<(), Trouble> {
        let (mut response, session) = self.send(said).await?;
        if response.status() == StatusCode::NOT_FOUND
            && let Some(number) = session
        {
            // The server did not know the session, so it has done nothing.
            self.reopen(number).await?;
            if said.is_answer() {
                // What it answers was asked in the lost session.
                return Ok(());
            }
            response = self.send(said).await?.0;
        }
        if !response.status().is_success() {
            return self.refused(response, pending).await;
        }
        if said.method == "initialize" {
            self.session().begin(said, response.headers());
        }
        if pending.is_empty() {
            return Ok(());
        }
        match &*media_type(&response) {
            "text/event-stream" => self.stream(response, said, pending).await,
            "application/json" => {
                let body = whole(&mut response).await?;
                self.deliver(&body, said, pending).await;
                let text = "the server's answer does not answer the request";
                if pending.is_empty() { Ok(()) } else { Err(Trouble::upstream(text)) }
            }
            // The answer will come over another stream, if at all.
            _ if response.status() == StatusCode::ACCEPTED => Ok(()),
            other => Err(Trouble::upstream(format!("the server answered with {other:?}, which is no message"))),
        }
    }

    /// The answer to a message, and the number of the session that it was sent in, if it has an id.
    async fn send(&self, said: &Message) -> Result<(Response, Option<u64>), SendError> {
        let (headers, session) = match self.mirrored(said) {
            Some(headers) => (headers, None),
            None if said.method == "initialize" => (HeaderMap::new(), None),
            None => {
                let session = self.session();
                (session.headers(), session.has_id().then_some(session.number))
            }
        };
        let response = self.0.upstream.post(&headers, &said.body, said.is_repeatable()).await?;
        Ok((response, session))
    }

    /// Opens the session again that the server has lost, unless somebody has done it meanwhile.
    async fn reopen(&self, lost: u64) -> Result<(), Trouble> {
        let _reopening = self.0.reopening.lock().await;
        let (number, opening, is_initialized) = {
            let session = self.session();
            (session.number, session.opening(), session.is_initialized)
        };
        let Some(opening) = opening.filter(|_| number == lost) else { return Ok(()) };
        let opening = opening.with_id(REOPENING);
        let mut response = self.0.upstream.post(&HeaderMap::new(), &opening.body, true).await?;
        if !response.status().is_success() {
            return Err(Trouble::upstream(format!(
                "the server ended the session, and opens no other: {}",
                response.status()
            )));
        }
        let result = self.only_result(&mut response).await?;
        if !self.session().speaks(&result) {
            return Err(Trouble::upstream(
                "the server ended the session, and speaks another revision now; start again",
            ));
        }
        self.session().reopened(response.headers());
        tracing::info!("the server had lost the session; it is open again");
        if is_initialized {
            let ready = Message::notification("notifications/initialized");
            let headers = self.session().headers();
            self.0.upstream.post(&headers, &ready.body, true).await?;
            self.listen();
        }
        Ok(())
    }

    /// The result in an answer that the client does not see.
    async fn only_result(&self, response: &mut Response) -> Result<Value, Trouble> {
        let none = || Trouble::upstream("the server ended the session, and its answer to another opening is none");
        if media_type(response) != "text/event-stream" {
            return message::result(&whole(response).await?).ok_or_else(none);
        }
        let mut events = Events::after(None);
        loop {
            while let Some(event) = events.next() {
                if let Some(result) = message::result(&event.data) {
                    return Ok(result);
                }
            }
            let chunk = response.chunk().await.ok().flatten().ok_or_else(none)?;
            events.push(&chunk).map_err(|error| Trouble::upstream(error.to_string()))?;
        }
    }

    /// Passes on a stream until every request in `pending` has its answer. A stream of a session
    /// that breaks off before is taken up again, where its events have ids.
    async fn stream(&self, mut response: Response, said: &Message, pending: &mut Vec<Id>) -> Result<(), Trouble> {
        let (mut events, mut resumes) = (Events::after(None), 0);
        let is_modern = self.mirrored(said).is_some();
        loop {
            if self.pass_on(&mut response, &mut events, said, Some(pending)).await? {
                resumes = 0;
            }
            if pending.is_empty() {
                return Ok(());
            }
            let lost = || SendError::Broken("the stream ended without the answer".to_owned());
            let Some(last_id) = events.last_id().map(str::to_owned).filter(|_| !is_modern) else {
                return Err(lost().into());
            };
            let mut pause = events.retry().unwrap_or(PAUSE).min(PAUSE_MAX);
            response = loop {
                resumes += 1;
                if resumes > RESUMES_MAX {
                    return Err(lost().into());
                }
                sleep(pause).await;
                pause = (pause * 2).clamp(PAUSE, PAUSE_MAX);
                let headers = self.session().headers();
                match self.0.upstream.resume(&headers, &last_id).await {
                    Ok(response) if is_stream(&response) => break response,
                    Ok(response) if response.status().is_client_error() => return Err(lost().into()),
                    Ok(_) | Err(_) => {}
                }
            };
            events = Events::after(Some(last_id));
        }
    }

    /// Passes on the events of one response, to its end or until nothing is pending. Returns
    /// whether there was any.
    async fn pass_on(
        &self,
        response: &mut Response,
        events: &mut Events,
        said: &Message,
        mut pending: Option<&mut Vec<Id>>,
    ) -> Result<bool, Trouble> {
        let mut any = false;
        while let Ok(Some(chunk)) = response.chunk().await {
            events.push(&chunk).map_err(|error| Trouble::upstream(error.to_string()))?;
            while let Some(Event { name, data, .. }) = events.next() {
                any = true;
                // An event without data only tells an id.
                if data.is_empty() || !matches!(&*name, "" | "message") {
                    continue;
                }
                let mut none = Vec::new();
                self.deliver(&data, said, pending.as_deref_mut().unwrap_or(&mut none)).await;
                if pending.as_ref().is_some_and(|pending| pending.is_empty()) {
                    return Ok(true);
                }
            }
        }
        Ok(any)
    }

    /// Gives a message of the server's to the client, after a look at what it means here.
    async fn deliver(&self, json: &[u8], said: &Message, pending: &mut Vec<Id>) {
        let Some(line) = one_line(json) else {
            tracing::warn!(bytes = json.len(), "the server sent something that is no JSON; it is left out");
            return;
        };
        let ids = message::answered(json);
        if !ids.is_empty() && pending.len() == 1 {
            // Whatever the server made of its id: a stream answers its own request.
            pending.clear();
        } else {
            pending.retain(|id| !ids.contains(id));
        }
        if !ids.is_empty() {
            match &*said.method {
                "initialize" => message::result(json).into_iter().for_each(|result| self.session().negotiated(&result)),
                "tools/list" => message::result(json).into_iter().for_each(|result| self.tools().learn(&result)),
                _ => {}
            }
        }
        self.say(line).await;
    }

    /// What an HTTP error says to the one who asked.
    async fn refused(&self, mut response: Response, pending: &mut Vec<Id>) -> Result<(), Trouble> {
        let (status, kind) = (response.status(), media_type(&response));
        let body = whole(&mut response).await.unwrap_or_default();
        if let [id] = pending.as_slice()
            && let Some(line) = message::error_in(&body, id)
        {
            pending.clear();
            self.say(line).await;
            return Ok(());
        }
        let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
        let is_ours = kind == "application/problem+json"
            && problem["type"]
                .as_str()
                .is_some_and(|kind| kind.starts_with(everfresh_presentation::problem::TYPE_PREFIX));
        if is_ours {
            let reason = [&problem["reason"], &problem["title"]].into_iter().find_map(Value::as_str);
            let data = json!({ "reason": reason, "action": problem["action"], "status": status.as_u16() });
            let text = problem["detail"].as_str().unwrap_or("everfresh does not say why").to_owned();
            return Err(Trouble { code: OURS, text, data: Some(data), is_lost: false });
        }
        let words: String = String::from_utf8_lossy(&body).trim().chars().take(SHOWN_MAX).collect();
        let words = if words.is_empty() { String::new() } else { format!(": {words}") };
        let text = format!("the server answered {status}{words}");
        Err(Trouble { data: Some(json!({ "status": status.as_u16() })), ..Trouble::upstream(text) })
    }

    /// Keeps the stream open that the server speaks on by itself, for as long as it offers one.
    pub(super) async fn heard_from_server(self) {
        let (mut events, mut pause) = (Events::after(None), PAUSE);
        let nothing = Message::notification("");
        loop {
            let headers = self.session().headers();
            match self.0.upstream.listen(&headers, events.last_id()).await {
                Ok(mut response) if is_stream(&response) => {
                    events = Events::after(events.last_id().map(str::to_owned));
                    match self.pass_on(&mut response, &mut events, &nothing, None).await {
                        Ok(any) => pause = if any { PAUSE } else { (pause * 2).min(PAUSE_MAX) },
                        Err(trouble) => tracing::warn!(cause = trouble.text, "the server's own stream broke off"),
                    }
                }
                // It offers none (405), or does not know the session: the next message will tell.
                Ok(response) if response.status().is_client_error() => return,
                Ok(_) | Err(_) => pause = (pause * 2).min(PAUSE_MAX),
            }
            sleep(events.retry().unwrap_or(pause).min(PAUSE_MAX)).await;
        }
    }
}

fn is_stream(response: &Response) -> bool {
    response.status() == StatusCode::OK && media_type(response) == "text/event-stream"
}
