//! The session of a legacy connection (MCP 2025-03-26 to 2025-11-25), which the upstream may lose
//! and the client never notices.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::message::Message;
use super::mirror::VERSION_HEADER;

const SESSION_HEADER: HeaderName = HeaderName::from_static("mcp-session-id");

/// What must be known to go on with a session, or to open it again.
#[derive(Debug, Default)]
pub(super) struct Session {
    opening: Option<Message>,
    id: Option<HeaderValue>,
    version: Option<HeaderValue>,
    /// Whether the client has said that it is ready.
    pub(super) is_initialized: bool,
    /// Counts the sessions.
    pub(super) number: u64,
}

impl Session {
    /// The upstream answers `opening`.
    pub(super) fn begin(&mut self, opening: &Message, headers: &HeaderMap) {
        let id = headers.get(SESSION_HEADER).cloned();
        *self =
            Self { opening: Some(opening.clone()), id, version: None, is_initialized: false, number: self.number + 1 };
    }

    /// The result of the opening says which revision is spoken.
    pub(super) fn negotiated(&mut self, result: &Value) {
        self.version = version_in(result);
    }

    /// The session was lost and is open again.
    pub(super) fn reopened(&mut self, headers: &HeaderMap) {
        self.id = headers.get(SESSION_HEADER).cloned();
        self.number += 1;
    }

    /// The message that opened it.
    pub(super) fn opening(&self) -> Option<Message> {
        self.opening.clone()
    }

    /// Whether another opening led to the same revision: the client goes on in the first one's.
    pub(super) fn speaks(&self, result: &Value) -> bool {
        self.version == version_in(result)
    }

    /// Whether the upstream can lose it.
    pub(super) fn has_id(&self) -> bool {
        self.id.is_some()
    }

    /// What every message after the opening carries.
    pub(super) fn headers(&self) -> HeaderMap {
        let id = self.id.clone().map(|id| (SESSION_HEADER, id));
        let version = self.version.clone().map(|version| (VERSION_HEADER, version));
        id.into_iter().chain(version).collect()
    }
}

fn version_in(result: &Value) -> Option<HeaderValue> {
    HeaderValue::from_str(result["protocolVersion"].as_str()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn opening() -> Message {
        Message::read(r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}"#.into()).unwrap()
    }

    fn answer(id: Option<&'static str>) -> HeaderMap {
        id.map(|id| (SESSION_HEADER, HeaderValue::from_static(id))).into_iter().collect()
    }

    #[test]
    fn a_session_carries_its_id_and_revision_once_they_are_known() {
        let mut session = Session::default();
        assert!(session.headers().is_empty() && !session.has_id());
        session.begin(&opening(), &answer(Some("s-1")));
        session.negotiated(&json!({ "protocolVersion": "2025-06-18" }));
        let headers = session.headers();
        assert_eq!(
            (headers[SESSION_HEADER].as_bytes(), headers[VERSION_HEADER].as_bytes()),
            (&b"s-1"[..], &b"2025-06-18"[..])
        );
    }

    #[test]
    fn a_session_that_is_open_again_has_another_id_and_the_same_revision() {
        let mut session = Session::default();
        session.begin(&opening(), &answer(Some("s-1")));
        session.negotiated(&json!({ "protocolVersion": "2025-06-18" }));
        session.is_initialized = true;
        let before = session.number;
        assert!(session.speaks(&json!({ "protocolVersion": "2025-06-18" })));
        assert!(!session.speaks(&json!({ "protocolVersion": "2025-03-26" })) && !session.speaks(&json!({})));
        session.reopened(&answer(Some("s-2")));
        assert_eq!((session.headers()[SESSION_HEADER].as_bytes(), session.headers().len()), (&b"s-2"[..], 2));
        assert!(session.is_initialized && session.number > before);
        assert_eq!(session.opening().unwrap().body, opening().body);
    }

    #[test]
    fn a_new_opening_forgets_the_session_before() {
        let mut session = Session::default();
        session.begin(&opening(), &answer(Some("s-1")));
        session.negotiated(&json!({ "protocolVersion": "2025-06-18" }));
        session.is_initialized = true;
        session.begin(&opening(), &answer(None));
        assert!(!session.has_id() && !session.is_initialized && session.headers().is_empty());
    }
}
