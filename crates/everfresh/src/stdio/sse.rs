//! Server-sent events as they come (WHATWG HTML, "Server-sent events").

use std::time::Duration;

use bytes::BytesMut;

use super::framing::MESSAGE_MAX;

/// One event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// Empty for one without a name, which is a message.
    pub(crate) name: String,
    pub(crate) data: Vec<u8>,
    /// The last id so far, its own or an earlier one's.
    pub(crate) id: Option<String>,
}

/// An event longer than any message.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is longer than {MESSAGE_MAX} bytes")]
pub(crate) struct TooLong;

/// Reads events out of a stream.
#[derive(Debug)]
pub(crate) struct Events {
    read: BytesMut,
    /// Up to here `read` holds no end of a line.
    looked: usize,
    /// Whether the line before ended with CR: LF right after belongs to it.
    after_cr: bool,
    /// Whether the stream's first line is over.
    is_under_way: bool,
    name: String,
    data: Option<Vec<u8>>,
    id: Option<String>,
    retry: Option<Duration>,
}

impl Events {
    /// A stream that goes on behind the event `id`.
    pub(crate) fn after(id: Option<String>) -> Self {
        Self {
            read: BytesMut::new(),
            looked: 0,
            after_cr: false,
            is_under_way: false,
            name: String::new(),
            data: None,
            id,
            retry: None,
        }
    }

    /// Takes what came next.
    pub(crate) fn push(&mut self, chunk: &[u8]) -> Result<(), TooLong> {
        self.read.extend_from_slice(chunk);
        let held = self.read.len() + self.data.as_ref().map_or(0, Vec::len);
        if held > MESSAGE_MAX + chunk.len() { Err(TooLong) } else { Ok(()) }
    }

    /// The next event, if all of it has come.
    pub(crate) fn next(&mut self) -> Option<Event> {
        while let Some(line) = self.line() {
            if line.is_empty() {
                let (name, data) = (std::mem::take(&mut self.name), self.data.take());
                if let Some(data) = data {
                    return Some(Event { name, data, id: self.id.clone() });
                }
            } else {
                self.field(&line);
            }
        }
        None
    }

    /// The id to go on behind.
    pub(crate) fn last_id(&self) -> Option<&str> {
        self.id.as_deref().filter(|id| !id.is_empty())
    }

    /// How long the server wants a client to wait before it comes again.
    pub(crate) fn retry(&self) -> Option<Duration> {
        self.retry
    }

    fn line(&mut self) -> Option<BytesMut> {
        if self.after_cr {
            let next = *self.read.first()?;
            self.after_cr = false;
            if next == b'\n' {
                drop(self.read.split_to(1));
            }
        }
        let from = self.looked.min(self.read.len());
        let Some(at) = self.read[from..].iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
            self.looked = self.read.len();
            return None;
        };
        let mut line = self.read.split_to(from + at);
        self.after_cr = self.read.split_to(1)[..] == *b"\r";
        self.looked = 0;
        if !std::mem::replace(&mut self.is_under_way, true) && line.starts_with(b"\xef\xbb\xbf") {
            drop(line.split_to(3));
        }
        Some(line)
    }

    fn field(&mut self, line: &[u8]) {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        let text = || String::from_utf8_lossy(value).into_owned();
        match &line[..colon] {
            b"event" => self.name = text(),
            b"data" => match &mut self.data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                None => self.data = Some(value.to_vec()),
            },
            b"id" if !value.contains(&0) => self.id = Some(text()),
            b"retry" => self.retry = text().parse().ok().map(Duration::from_millis).or(self.retry),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(pieces: &[&[u8]]) -> (Vec<(String, String, Option<String>)>, Events) {
        let (mut events, mut found) = (Events::after(None), Vec::new());
        for piece in pieces {
            events.push(piece).unwrap();
            while let Some(Event { name, data, id }) = events.next() {
                found.push((name, String::from_utf8(data).unwrap(), id));
            }
        }
        (found, events)
    }

    #[test]
    fn events_are_read_wherever_chunks_cut_them() {
        let stream = "\u{feff}: c\r\nid: 1\r\nretry: 250\r\ndata:\r\n\r\nevent: message\ndata: {\ndata:  1}\n\n\
                      id\rdata: x\r\rretry: soon\nid: a\0b\n\ndata\n\ndata: lost\n";
        let id = |id: &str| Some(id.to_owned());
        let expected = [
            (String::new(), String::new(), id("1")),
            ("message".to_owned(), "{\n 1}".to_owned(), id("1")),
            (String::new(), "x".to_owned(), id("")),
            (String::new(), String::new(), id("")),
        ];
        let stream = stream.as_bytes();
        for cut in 0..=stream.len() {
            let (found, after) = events(&[&stream[..cut], &stream[cut..]]);
            assert_eq!(found, expected, "cut at {cut}");
            assert_eq!((after.retry(), after.last_id()), (Some(Duration::from_millis(250)), None));
        }
        let single: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(events(&single).0, expected);
    }

    #[test]
    fn an_event_without_bounds_is_given_up() {
        let mut events = Events::after(None);
        let (chunk, mut pushed) = (vec![b'x'; 8 << 20], 0);
        while events.push(&chunk).is_ok() {
            assert!(events.next().is_none());
            pushed += chunk.len();
            assert!(pushed <= MESSAGE_MAX + chunk.len());
        }
        assert!(pushed >= MESSAGE_MAX);
    }
}
