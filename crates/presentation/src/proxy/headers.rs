//! Which headers pass. Everything does, except what is ours and what is hop-by-hop (RFC 9110
//! section 7.6.1).

use everfresh_application::ports::{DPOP, DPOP_NONCE};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, GetAll,
    HOST, ORIGIN, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, REFERER, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
    WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::guard::KEY_HEADER;

static HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// The media type of server-sent events.
const EVENT_STREAM: &str = "text/event-stream";

/// What a client sends to us and not to the upstream. Cookies are for this host, which is ours.
static OURS: [HeaderName; 6] =
    [AUTHORIZATION, HOST, ORIGIN, COOKIE, HeaderName::from_static(KEY_HEADER), HeaderName::from_static(DPOP)];

/// What an upstream sends to us and not to the client. A challenge would make it start its own OAuth
/// against us, and a nonce is for proofs that it cannot make.
static TOLD_TO_US: [HeaderName; 2] = [WWW_AUTHENTICATE, HeaderName::from_static(DPOP_NONCE)];

/// Whether a server's settings may have a header of this name: it is not about the framing or the
/// way of a message, and not the token's.
pub(crate) fn is_configurable(name: &HeaderName) -> bool {
    *name != CONTENT_LENGTH && *name != AUTHORIZATION && name.as_str() != DPOP && !HOP_BY_HOP.contains(name)
}

/// The headers of a client's request that reach the upstream, with room for those of ours.
pub(super) fn passing(from: &HeaderMap) -> HeaderMap {
    let (lines, hides_referer) = (from.get_all(CONNECTION), names_our_page(from));
    let stays =
        |name: &HeaderName| OURS.contains(name) || is_of_one_hop(name, &lines) || (hides_referer && *name == REFERER);
    let mut passing = HeaderMap::with_capacity(from.len() + OURS.len());
    for (name, value) in from.iter().filter(|(name, _)| !stays(name)) {
        passing.append(name.clone(), value.clone());
    }
    passing
}

/// Asks for a stream of events as it is, where a client asks for one: its first event may have to
/// be read.
pub(super) fn keep_events_readable(headers: &mut HeaderMap) {
    let accepts = |value: &HeaderValue| value.to_str().is_ok_and(|value| value.contains(EVENT_STREAM));
    if headers.contains_key(ACCEPT_ENCODING) && headers.get_all(ACCEPT).iter().any(accepts) {
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
}

/// Whether an answer is a stream of events that can be read.
pub(super) fn are_events(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let media_type = media_type.split(|byte| *byte == b';').next().unwrap_or_default();
    media_type.trim_ascii().eq_ignore_ascii_case(EVENT_STREAM.as_bytes()) && !headers.contains_key(CONTENT_ENCODING)
}

/// Takes from a response what must not reach the client.
pub(super) fn strip_response(headers: &mut HeaderMap) {
    settle_length(headers);
    let lines = headers.get_all(CONNECTION);
    let stays = headers.keys().filter(|name| TOLD_TO_US.contains(name) || is_of_one_hop(name, &lines));
    for name in stays.cloned().collect::<Vec<_>>() {
        headers.remove(name);
    }
}

/// Whether the `Referer` is a page here, whose path may hold the key.
fn names_our_page(headers: &HeaderMap) -> bool {
    let (Some(host), Some(referer)) = (headers.get(HOST), headers.get(REFERER)) else { return false };
    let authority = referer.to_str().ok().and_then(|referer| referer.split_once("://")).map(|(_, rest)| rest);
    authority.and_then(|rest| rest.split('/').next()).is_some_and(|authority| host == authority)
}

/// Leaves one length, and none beside a transfer coding, which overrides it (RFC 9112 section 6.3).
fn settle_length(headers: &mut HeaderMap) {
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    let Some(first) = headers.get(CONTENT_LENGTH) else { return };
    if first.as_bytes().contains(&b',') || headers.get_all(CONTENT_LENGTH).iter().nth(1).is_some() {
        // Those that differ have been refused with the whole answer.
        let one = first.as_bytes().split(|byte| *byte == b',').next().unwrap_or_default();
        if let Ok(one) = HeaderValue::from_bytes(one.trim_ascii()) {
            headers.insert(CONTENT_LENGTH, one);
        }
    }
}

/// Whether this header is of one hop: by its name, or because a `Connection` line names it. What a
/// message cannot do without is of both.
fn is_of_one_hop(name: &HeaderName, lines: &GetAll<'_, HeaderValue>) -> bool {
    let is_it = |named: &[u8]| named.trim_ascii().eq_ignore_ascii_case(name.as_str().as_bytes());
    let is_named = || lines.iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).any(is_it);
    HOP_BY_HOP.contains(name) || (!matches!(*name, CONTENT_LENGTH | CONTENT_TYPE) && is_named())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn everything_passes_but_ours_and_hop_by_hop() {
        let request = headers(&[
            ("authorization", "Bearer local"),
            ("dpop", "a-proof-of-its-own"),
            ("x-everfresh-key", "local"),
            ("host", "127.0.0.1"),
            ("origin", "http://x"),
            ("cookie", "everfresh=1"),
            ("connection", "keep-alive, X-Hop"),
            ("x-hop", "1"),
            ("te", "trailers"),
            ("keep-alive", "5"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("proxy-connection", "close"),
            ("accept", "text/event-stream"),
            ("mcp-session-id", "s"),
            ("mcp-protocol-version", "2026-07-28"),
            ("mcp-method", "tools/call"),
            ("mcp-param-city", "=?base64?w6k=?="),
            ("last-event-id", "7"),
            ("x-custom", "y"),
        ]);
        let passing = passing(&request);
        let mut left: Vec<&str> = passing.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        let expected = [
            "accept",
            "last-event-id",
            "mcp-method",
            "mcp-param-city",
            "mcp-protocol-version",
            "mcp-session-id",
            "x-custom",
        ];
        assert_eq!(left, expected);
    }

    #[test]
    fn a_challenge_never_reaches_a_client() {
        let mut response = headers(&[
            ("www-authenticate", "Bearer"),
            ("dpop-nonce", "n1"),
            ("mcp-session-id", "s"),
            ("connection", "close"),
        ]);
        strip_response(&mut response);
        assert_eq!(response.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["mcp-session-id"]);
    }
}
