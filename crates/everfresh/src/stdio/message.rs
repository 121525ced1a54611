//! JSON-RPC messages, read as far as a bridge must, and passed on byte for byte.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

/// The error code of what everfresh itself says, here as in the data plane.
pub(super) const OURS: i32 = -32001;
/// The error code for an HTTP status that the upstream sent without a JSON-RPC error.
pub(super) const UPSTREAM: i32 = -32000;
/// JSON-RPC 2.0 section 5.1.
pub(super) const PARSE_ERROR: i32 = -32700;
/// JSON-RPC 2.0 section 5.1.
pub(super) const INVALID_REQUEST: i32 = -32600;

/// The fields that tell messages apart.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// What a client says.
#[derive(Clone, Debug)]
pub(super) struct Message {
    /// As it came.
    pub(super) body: Bytes,
    /// The ids of the requests in it: one, none, or a batch's.
    pub(super) requests: Vec<Id>,
    /// Empty for answers and batches.
    pub(super) method: String,
    params: Option<Box<RawValue>>,
}

/// A request's id, as it came.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Id(Box<RawValue>);

impl PartialEq for Id {
    fn eq(&self, other: &Self) -> bool {
        self.value() == other.value()
    }
}

impl Id {
    fn value(&self) -> Value {
        serde_json::from_str(self.0.get()).unwrap_or_default()
    }

    /// The same for ids that are written differently.
    pub(super) fn key(&self) -> String {
        self.value().to_string()
    }
}

/// Why a line is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoMessage {
    NoJson,
    NoJsonRpc,
}

impl Message {
    pub(super) fn read(body: Bytes) -> Result<Self, NoMessage> {
        serde_json::from_slice::<&RawValue>(&body).map_err(|_| NoMessage::NoJson)?;
        if body.starts_with(b"[") {
            let batch: Vec<Envelope<'_>> = serde_json::from_slice(&body).map_err(|_| NoMessage::NoJsonRpc)?;
            let requests = batch.iter().filter_map(Envelope::request).collect();
            return Ok(Self { requests, method: String::new(), params: None, body });
        }
        let envelope: Envelope<'_> = serde_json::from_slice(&body).map_err(|_| NoMessage::NoJsonRpc)?;
        if envelope.method.is_none() && !envelope.is_answer() {
            return Err(NoMessage::NoJsonRpc);
        }
        let requests = envelope.request().into_iter().collect();
        let (method, params) =
            (envelope.method.unwrap_or_default().into_owned(), envelope.params.map(ToOwned::to_owned));
        Ok(Self { requests, method, params, body })
    }

    /// Its parameters, taken apart.
    pub(super) fn params(&self) -> Value {
        self.params.as_ref().and_then(|params| serde_json::from_str(params.get()).ok()).unwrap_or_default()
    }

    /// Whether `text` stands anywhere in the parameters: cheaper than taking them apart.
    pub(super) fn mentions(&self, text: &str) -> bool {
        self.params.as_ref().is_some_and(|params| params.get().contains(text))
    }

    /// The request that a `notifications/cancelled` is about.
    pub(super) fn cancels(&self) -> Option<String> {
        if self.method != "notifications/cancelled" {
            return None;
        }
        Some(self.params().get("requestId")?.to_string())
    }

    /// Whether it answers the server.
    pub(super) fn is_answer(&self) -> bool {
        self.method.is_empty() && self.requests.is_empty()
    }

    /// Whether it can be sent again though it may have arrived: it asks, and changes nothing.
    pub(super) fn is_repeatable(&self) -> bool {
        matches!(
            &*self.method,
            "initialize"
                | "ping"
                | "server/discover"
                | "tools/list"
                | "resources/list"
                | "resources/templates/list"
                | "prompts/list"
        )
    }

    /// The same request under another id.
    pub(super) fn with_id(&self, id: &str) -> Self {
        let body = json!({ "jsonrpc": "2.0", "id": id, "method": self.method, "params": self.params() });
        let id = Id(to_raw_value(id).expect("a text is JSON"));
        Self { body: body.to_string().into(), requests: vec![id], ..self.clone() }
    }

    /// A notification of ours.
    pub(super) fn notification(method: &str) -> Self {
        let body = json!({ "jsonrpc": "2.0", "method": method }).to_string().into();
        Self { body, requests: Vec::new(), method: method.to_owned(), params: None }
    }
}

impl Envelope<'_> {
    fn request(&self) -> Option<Id> {
        let id = self.id.filter(|_| self.method.is_some())?;
        Some(Id(id.to_owned()))
    }

    fn is_answer(&self) -> bool {
        self.id.is_some() && (self.result.is_some() || self.error.is_some())
    }
}

/// The ids that a server's message answers.
pub(super) fn answered(message: &[u8]) -> Vec<Id> {
    let id = |envelope: &Envelope<'_>| {
        envelope.id.filter(|_| envelope.method.is_none() && envelope.is_answer()).map(|id| Id(id.to_owned()))
    };
    if message.trim_ascii_start().starts_with(b"[") {
        let batch: Vec<Envelope<'_>> = serde_json::from_slice(message).unwrap_or_default();
        return batch.iter().filter_map(id).collect();
    }
    serde_json::from_slice::<Envelope<'_>>(message).ok().as_ref().and_then(id).into_iter().collect()
}

/// The result in an answer.
pub(super) fn result(message: &[u8]) -> Option<Value> {
    let envelope: Envelope<'_> = serde_json::from_slice(message).ok()?;
    serde_json::from_str(envelope.result?.get()).ok()
}

/// The error in an answer to `id` that may name no id, or another's: servers that could not read a
/// request know none.
pub(super) fn error_in(body: &[u8], id: &Id) -> Option<Vec<u8>> {
    let envelope: Envelope<'_> = serde_json::from_slice(body).ok()?;
    let error = envelope.error.filter(|error| error.get().starts_with('{'))?;
    if answered(body).first() == Some(id) {
        return super::framing::one_line(body);
    }
    #[derive(Serialize)]
    struct Answer<'a> {
        jsonrpc: &'static str,
        id: &'a Id,
        error: &'a RawValue,
    }
    super::framing::one_line(&serde_json::to_vec(&Answer { jsonrpc: "2.0", id, error }).ok()?)
}

/// An error of ours, as a line. Without an id: nobody knows what was asked.
pub(super) fn error(id: Option<&Id>, code: i32, message: &str, data: Option<Value>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Answer<'a> {
        jsonrpc: &'static str,
        id: Option<&'a Id>,
        error: Error<'a>,
    }
    #[derive(Serialize)]
    struct Error<'a> {
        code: i32,
        message: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<Value>,
    }
    let answer = Answer { jsonrpc: "2.0", id, error: Error { code, message, data } };
    let mut line = serde_json::to_vec(&answer).expect("an error of ours is JSON");
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &'static str) -> Result<Message, NoMessage> {
        Message::read(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn messages_are_told_apart() {
        for (text, method, ids) in [
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, "ping", vec!["1"]),
            (r#"{"jsonrpc":"2.0","id":"a","method":"tools\/call","params":{}}"#, "tools/call", vec!["\"a\""]),
            (r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#, "notifications/initialized", vec![]),
            (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, "", vec![]),
            (r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":""}}"#, "", vec![]),
            (r#"[{"id":1,"method":"a"},{"method":"n"},{"id":2,"method":"b"},{"id":3,"result":1}]"#, "", vec!["1", "2"]),
        ] {
            let message = read(text).unwrap();
            assert_eq!((&*message.method, &message.body[..]), (method, text.as_bytes()));
            assert_eq!(message.requests.iter().map(Id::key).collect::<Vec<_>>(), ids, "{text}");
        }
    }

    #[test]
    fn what_is_no_message_says_why() {
        for text in ["", "nonsense", "{", "{} {}", "{'id':1}"] {
            assert_eq!(read(text).unwrap_err(), NoMessage::NoJson, "{text}");
        }
        for text in ["{}", "1", "null", "\"x\"", "[1]", r#"{"id":1}"#, r#"{"id":1,"method":7}"#] {
            assert_eq!(read(text).unwrap_err(), NoMessage::NoJsonRpc, "{text}");
        }
    }

    #[test]
    fn a_cancellation_names_its_request() {
        let cancelled = |params: &str| {
            let text = format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{params}}}"#);
            Message::read(text.into()).unwrap().cancels()
        };
        assert_eq!(
            cancelled(r#"{"requestId":7}"#),
            read(r#"{"id":7,"method":"x"}"#).unwrap().requests.first().map(Id::key)
        );
        assert_eq!(cancelled(r#"{"requestId":"7"}"#).as_deref(), Some("\"7\""));
        assert_eq!(cancelled("{}"), None);
        assert_eq!(read(r#"{"method":"notifications/x","params":{"requestId":7}}"#).unwrap().cancels(), None);
    }

    #[test]
    fn an_error_of_the_server_goes_to_the_request_that_it_is_about() {
        let id = &read(r#"{"id":"q","method":"x"}"#).unwrap().requests[0];
        let line = |body: &str| error_in(body.as_bytes(), id).map(|line| String::from_utf8(line).unwrap());
        let own = r#"{"jsonrpc":"2.0","id":"q","error":{"code":-32020,"message":"m"},"x":1}"#;
        assert_eq!(line(own), Some(format!("{own}\n")));
        for id in ["", r#""id":null,"#, r#""id":"other","#] {
            let body = format!(r#"{{"jsonrpc":"2.0",{id}"error":{{"code": -32020}}}}"#);
            let expected = "{\"jsonrpc\":\"2.0\",\"id\":\"q\",\"error\":{\"code\": -32020}}\n";
            assert_eq!(line(&body).as_deref(), Some(expected), "{body}");
        }
        for other in ["", "<html>", r#"{"error":"invalid_token"}"#, r#"{"id":"q","result":{}}"#] {
            assert_eq!(line(other), None, "{other}");
        }
    }

    #[test]
    fn answers_are_told_from_what_a_server_asks() {
        let keys = |text: &str| answered(text.as_bytes()).iter().map(Id::key).collect::<Vec<_>>();
        assert_eq!(keys(r#"{"id":1,"result":{}}"#), ["1"]);
        assert_eq!(keys(r#"[{"id":1,"result":{}},{"id":"b","error":{}},{"method":"x"}]"#), ["1", "\"b\""]);
        for text in
            [r#"{"id":1,"method":"ping"}"#, r#"{"method":"notifications/progress"}"#, "{", r#"{"id":null,"error":{}}"#]
        {
            assert_eq!(keys(text), [] as [&str; 0], "{text}");
        }
    }

    #[test]
    fn our_errors_keep_the_id_as_it_came() {
        let id = &read(r#"{"id":1.50,"method":"x"}"#).unwrap().requests[0];
        let text = |line| String::from_utf8(line).unwrap();
        let expected = "{\"jsonrpc\":\"2.0\",\"id\":1.50,\"error\":{\"code\":-32001,\"message\":\"no\"}}\n";
        assert_eq!(text(error(Some(id), OURS, "no", None)), expected);
        assert!(text(error(None, PARSE_ERROR, "no", None)).contains("\"id\":null"));
    }

    #[test]
    fn an_opening_is_repeated_under_another_id() {
        let message = read(r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"a":1}}"#).unwrap();
        let again = message.with_id("x");
        let body: Value = serde_json::from_slice(&again.body).unwrap();
        assert_eq!(body, json!({ "jsonrpc": "2.0", "id": "x", "method": "initialize", "params": { "a": 1 } }));
        assert_eq!(again.requests[0].key(), "\"x\"");
    }
}
