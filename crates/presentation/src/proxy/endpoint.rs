//! The `endpoint` of an HTTP+SSE server (MCP 2024-11-05): found in its stream, and sealed into a
//! path that leads through here.
//!
//! Such a server says in the first event of its stream where messages are to be posted, and that
//! may be anywhere on its origin. Posted there, they would go past us, without the token. A seal
//! makes of the place a path below the server's own that opens only what the upstream announced.

use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use everfresh_application::Route;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What a sealed path begins with, after the server's name.
const PREFIX: &str = "/.endpoint/";

/// Bytes of a seal before the path: half of a SHA-256, as RFC 2104 section 5 recommends at least.
const TAG: usize = 16;

/// Bytes of a first event that are held back; an endpoint is a URL, and not a long one.
const HELD_MAX: usize = 16 * 1024;

/// What is before the first line of a stream, and not part of it.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Seals paths of upstreams, and opens what it has sealed itself.
pub struct Seals([u8; 32]);

impl Seals {
    /// With this key, which lives as long as the streams: a process.
    pub fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// The tail under which clients of `route` reach `path` of its upstream.
    pub(super) fn seal(&self, route: &Route, path: &str) -> String {
        let tag = self.mac(route, path).finalize().into_bytes();
        let sealed = [&tag[..TAG], path.as_bytes()].concat();
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(sealed))
    }

    /// The path in a tail of [`seal`](Self::seal), if it was made here and for this route.
    pub(super) fn open(&self, route: &Route, tail: &str) -> Option<String> {
        let sealed = URL_SAFE_NO_PAD.decode(tail.strip_prefix(PREFIX)?).ok()?;
        let (tag, path) = sealed.split_at_checked(TAG)?;
        let path = std::str::from_utf8(path).ok()?;
        self.mac(route, path).verify_truncated_left(tag).ok()?;
        Some(path.to_owned())
    }

    /// Over whose token it is, to which server it goes, and where there.
    fn mac(&self, route: &Route, path: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::new_from_slice(&self.0).expect("a MAC takes keys of any length");
        for part in [&route.grant.to_string(), &route.settings.url, path] {
            mac.update(part.as_bytes());
            mac.update(b"\n");
        }
        mac
    }
}

/// Whether a tail claims to be sealed.
pub(super) fn is_sealed(tail: &str) -> bool {
    tail.starts_with(PREFIX)
}

/// Why an announced endpoint is not passed on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Messages would go to another origin, and the client's key with them.
    #[error("the endpoint is at another origin, {0}")]
    OtherOrigin(String),
    /// It leads nowhere.
    #[error("the endpoint is no URL")]
    NoUrl,
}

/// A stream up to the end of its first event.
#[derive(Debug, Default)]
pub(super) struct FirstEvent {
    /// What came and has not gone on.
    held: Vec<u8>,
    /// Where the line begins that has not ended yet.
    line: usize,
    /// Up to here there is no other end of a line.
    looked: usize,
    /// Whether the line before ended with CR: LF right after belongs to it.
    after_cr: bool,
    /// Whether the stream's first line is over.
    is_under_way: bool,
    /// Whether the event has a field.
    has_begun: bool,
    is_endpoint: bool,
    /// Where its data are.
    data: Vec<Range<usize>>,
}

/// What goes on of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Passed {
    pub(super) bytes: Bytes,
    /// Whether the rest passes unseen.
    pub(super) is_over: bool,
}

/// What a line is to its event.
enum Line {
    Blank,
    Comment,
    Field,
    /// The event's name, which is another.
    OtherEvent,
}

impl FirstEvent {
    /// Takes what came next. Nothing is held back but an event that may be the endpoint; in that,
    /// `rewrite` says what becomes of the URL.
    pub(super) fn push(
        &mut self,
        chunk: &[u8],
        rewrite: impl FnOnce(&str) -> Result<String, EndpointError>,
    ) -> Result<Passed, EndpointError> {
        self.held.extend_from_slice(chunk);
        let mut free = 0;
        while let Some(line) = self.next_line() {
            match self.read(line) {
                Line::OtherEvent => return Ok(self.all(true)),
                Line::Blank if self.data.is_empty() => (self.has_begun, self.is_endpoint) = (false, false),
                Line::Blank if self.is_endpoint => return self.rewritten(rewrite),
                Line::Blank => return Ok(self.all(true)),
                Line::Field => self.has_begun = true,
                Line::Comment => {}
            }
            if !self.has_begun {
                free = self.line;
            }
        }
        if !self.has_begun {
            free = self.line;
        }
        if self.held.len() - free > HELD_MAX {
            return Ok(self.all(true));
        }
        Ok(Passed { bytes: self.release(free), is_over: false })
    }

    /// What was held back, at the end of the stream: an event without an end is none.
    pub(super) fn end(mut self) -> Bytes {
        self.all(true).bytes
    }

    /// Whether nothing is held back.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    fn next_line(&mut self) -> Option<Range<usize>> {
        if self.after_cr {
            let next = self.held.get(self.line)?;
            self.after_cr = false;
            if *next == b'\n' {
                self.line += 1;
            }
        }
        let from = self.looked.max(self.line);
        let Some(at) = self.held[from..].iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
            self.looked = self.held.len();
            return None;
        };
        let line = self.line..from + at;
        self.after_cr = self.held[line.end] == b'\r';
        self.line = line.end + 1;
        Some(line)
    }

    fn read(&mut self, mut line: Range<usize>) -> Line {
        if !self.is_under_way && self.held[line.clone()].starts_with(BOM) {
            line.start += BOM.len();
        }
        self.is_under_way = true;
        let text = &self.held[line.clone()];
        if text.is_empty() {
            return Line::Blank;
        }
        let colon = text.iter().position(|byte| *byte == b':').unwrap_or(text.len());
        let mut value = (line.start + colon + 1).min(line.end)..line.end;
        if self.held[value.clone()].starts_with(b" ") {
            value.start += 1;
        }
        match &text[..colon] {
            b"" => Line::Comment,
            b"event" => {
                self.is_endpoint = &self.held[value] == b"endpoint";
                if self.is_endpoint { Line::Field } else { Line::OtherEvent }
            }
            b"data" => {
                self.data.push(value);
                Line::Field
            }
            _ => Line::Field,
        }
    }

    fn rewritten(
        &mut self,
        rewrite: impl FnOnce(&str) -> Result<String, EndpointError>,
    ) -> Result<Passed, EndpointError> {
        let [data] = self.data.as_slice() else { return Err(EndpointError::NoUrl) };
        let url = std::str::from_utf8(&self.held[data.clone()]).map_err(|_| EndpointError::NoUrl)?;
        let rewritten = rewrite(url)?;
        self.held.splice(data.clone(), rewritten.into_bytes());
        Ok(self.all(true))
    }

    fn all(&mut self, is_over: bool) -> Passed {
        Passed { bytes: std::mem::take(&mut self.held).into(), is_over }
    }

    /// Lets the first `free` bytes go.
    fn release(&mut self, free: usize) -> Bytes {
        let rest = self.held.split_off(free);
        self.line -= free;
        self.looked = self.looked.saturating_sub(free);
        for data in &mut self.data {
            *data = data.start - free..data.end - free;
        }
        std::mem::replace(&mut self.held, rest).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a stream that comes in these pieces.
    fn passed(pieces: &[&[u8]]) -> Result<Vec<u8>, EndpointError> {
        let (mut first, mut out) = (Some(FirstEvent::default()), Vec::new());
        for piece in pieces {
            let Some(open) = &mut first else {
                out.extend_from_slice(piece);
                continue;
            };
            let passed = open.push(piece, |url| Ok(format!("<{url}>")))?;
            out.extend_from_slice(&passed.bytes);
            first = first.filter(|_| !passed.is_over);
        }
        out.extend(first.map(FirstEvent::end).unwrap_or_default());
        Ok(out)
    }

    fn check(stream: &str, expected: &str) {
        let bytes = stream.as_bytes();
        let text = |out: Result<Vec<u8>, EndpointError>| String::from_utf8(out.unwrap()).unwrap();
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(text(passed(&pieces)), expected, "{stream:?} cut at {first} and {second}");
            }
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(text(passed(&single)), expected, "{stream:?} byte by byte");
    }

    #[test]
    fn the_endpoint_is_rewritten_and_nothing_else() {
        for (stream, expected) in [
            ("event: endpoint\ndata: /m?s=1\n\ndata: /m\n\n", "event: endpoint\ndata: </m?s=1>\n\ndata: /m\n\n"),
            ("event: endpoint\r\ndata: /m\r\n\r\nx", "event: endpoint\r\ndata: </m>\r\n\r\nx"),
            ("event: endpoint\rdata: /m\r\rx", "event: endpoint\rdata: </m>\r\rx"),
            ("\u{feff}event: endpoint\ndata: /m\n\n", "\u{feff}event: endpoint\ndata: </m>\n\n"),
            ("event:endpoint\ndata:/m\n\n", "event:endpoint\ndata:</m>\n\n"),
            ("data: /m\nid: 7\n: c\nevent: endpoint\n\n", "data: </m>\nid: 7\n: c\nevent: endpoint\n\n"),
            (
                ": hello\r\n\r\nretry: 5\n\nevent: endpoint\ndata: /m\n\n",
                ": hello\r\n\r\nretry: 5\n\nevent: endpoint\ndata: </m>\n\n",
            ),
            ("event: endpoint\n\nevent: endpoint\ndata: /m\n\n", "event: endpoint\n\nevent: endpoint\ndata: </m>\n\n"),
            (
                "event: endpoint\ndata: /m\n\nevent: endpoint\ndata: /n\n\n",
                "event: endpoint\ndata: </m>\n\nevent: endpoint\ndata: /n\n\n",
            ),
        ] {
            check(stream, expected);
        }
    }

    #[test]
    fn whatever_is_no_endpoint_passes_as_it_is() {
        for stream in [
            "",
            "data: /m\n\nevent: endpoint\ndata: /m\n\n",
            "event: message\ndata: {}\n\nevent: endpoint\ndata: /m\n\n",
            "event: endpoint \ndata: /m\n\n",
            " event: endpoint\ndata: /m\n\n",
            "event: endpoint\ndata: /m\n",
            "id: 1\ndata:\n\nevent: endpoint\ndata: /m\n\n",
            "\u{feff}\u{feff}event: endpoint\ndata: /m\n\n",
            "data\n\nevent: endpoint\ndata: /m\n\n",
            "event: endpoint\nevent: message\ndata: /m\n\n",
        ] {
            check(stream, stream);
        }
    }

    #[test]
    fn nothing_waits_but_the_first_event() {
        let mut first = FirstEvent::default();
        let mut push = |piece: &str| {
            let passed = first.push(piece.as_bytes(), |url| Ok(url.to_uppercase())).unwrap();
            (String::from_utf8(passed.bytes.to_vec()).unwrap(), passed.is_over)
        };
        assert_eq!(push(": alive\r\n\r"), (": alive\r\n\r".to_owned(), false));
        assert_eq!(push("\n"), ("\n".to_owned(), false));
        assert_eq!(push("id: 1\n"), (String::new(), false));
        assert_eq!(push("event: endpoint\ndata: /m\n"), (String::new(), false));
        assert_eq!(push("\nmore"), ("id: 1\nevent: endpoint\ndata: /M\n\nmore".to_owned(), true));
    }

    #[test]
    fn another_first_event_is_not_waited_for() {
        let mut first = FirstEvent::default();
        let passed = first.push(b"event: message\ndata: {", |_| Ok(String::new())).unwrap();
        assert_eq!(passed, Passed { bytes: Bytes::from_static(b"event: message\ndata: {"), is_over: true });
    }

    #[test]
    fn no_more_is_held_back_than_an_endpoint_needs() {
        let mut first = FirstEvent::default();
        let chunk = [b'x'; 1024];
        let (mut pushed, mut out) = (6, first.push(b"data: ", |_| Ok(String::new())).unwrap().bytes.len());
        assert_eq!(out, 0);
        loop {
            let passed = first.push(&chunk, |_| Ok(String::new())).unwrap();
            pushed += chunk.len();
            out += passed.bytes.len();
            if passed.is_over {
                break;
            }
            assert!(pushed <= HELD_MAX);
        }
        assert_eq!(out, pushed);
    }

    #[test]
    fn an_endpoint_that_is_refused_goes_to_nobody() {
        for stream in ["event: endpoint\ndata: a\ndata: b\n\n", "event: endpoint\ndata: \u{fffd}\n\n"] {
            let bytes = stream.replace('\u{fffd}', "x").into_bytes();
            let refused = FirstEvent::default().push(&bytes, |_| Err(EndpointError::NoUrl));
            assert_eq!(refused, Err(EndpointError::NoUrl), "{stream:?}");
        }
        let invalid = FirstEvent::default().push(b"event: endpoint\ndata: \xff\n\n", |url| Ok(url.to_owned()));
        assert_eq!(invalid, Err(EndpointError::NoUrl));
    }
}
