//! What the provider answers, and how it goes out: whole, by half, or not at all.

use everfresh_domain::Timestamp;
use serde_json::{Value, json};

/// How a reply goes out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// Whole.
    #[default]
    Whole,
    /// With a body that never ends.
    Endless,
    /// Not at all, and the connection stays open.
    Hang,
    /// Not at all, and the connection is closed.
    Close,
    /// By half, and the connection stays open.
    Half,
    /// By half, and the connection is closed.
    HalfClose,
    /// Not at all, and the connection is reset.
    Reset,
}

/// A reply.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Headers besides the length.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
    /// How it goes out.
    pub manner: Manner,
    /// After how many milliseconds.
    pub delay_ms: u64,
}

impl Reply {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Self { status, headers, body: body.to_string(), ..Self::default() }
    }

    pub(super) fn error(status: u16, error: &str) -> Self {
        Self::json(status, &json!({ "error": error }))
    }

    pub(super) fn of(manner: Manner) -> Self {
        Self { status: 200, manner, ..Self::default() }
    }
}

/// A moment as headers tell it (RFC 9110 section 5.6.7).
pub(crate) fn http_date(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_millisecond(at.as_millis()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}
