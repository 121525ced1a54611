//! The stdio transport's framing: a message is a line of UTF-8 text (MCP, "stdio").

use bytes::{Bytes, BytesMut};

/// The longest message; what is longer is no message but a mistake, and must not fill the memory.
pub(super) const MESSAGE_MAX: usize = 64 << 20;

/// What a client wrote.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Message(Bytes),
    /// Longer than any message; it has been skipped.
    TooLong,
}

/// Cuts what is read into lines. Empty ones are left out.
#[derive(Debug)]
pub(super) struct Lines {
    read: BytesMut,
    /// Up to here `read` holds no end of a line.
    looked: usize,
    longest: usize,
    /// Whether the line under way is too long.
    is_skipping: bool,
}

impl Default for Lines {
    fn default() -> Self {
        Self { read: BytesMut::new(), looked: 0, longest: MESSAGE_MAX, is_skipping: false }
    }
}

impl Lines {
    /// Where what is read next goes to.
    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        self.read.reserve(64 * 1024);
        &mut self.read
    }

    /// The next line, if its end has been read.
    pub(super) fn next(&mut self) -> Option<Line> {
        loop {
            let Some(at) = self.read[self.looked..].iter().position(|byte| *byte == b'\n') else {
                self.looked = self.read.len();
                if self.looked > self.longest {
                    self.is_skipping = true;
                    (self.read, self.looked) = (BytesMut::new(), 0);
                }
                return None;
            };
            let line = self.read.split_to(self.looked + at + 1).freeze();
            self.looked = 0;
            if std::mem::take(&mut self.is_skipping) || line.len() > self.longest {
                return Some(Line::TooLong);
            }
            let text = line.trim_ascii();
            if !text.is_empty() {
                return Some(Line::Message(line.slice_ref(text)));
            }
        }
    }

    /// What was read of a line that nobody ended.
    pub(super) fn last(mut self) -> Option<Line> {
        self.buffer().extend_from_slice(b"\n");
        self.next()
    }
}

/// A JSON text as a line: between its tokens an end of a line is a space, and within them JSON has
/// none. `None` where it is no JSON.
pub(super) fn one_line(json: &[u8]) -> Option<Vec<u8>> {
    let json = json.trim_ascii();
    serde_json::from_slice::<&serde_json::value::RawValue>(json).ok()?;
    let mut line: Vec<u8> = json.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect();
    line.push(b'\n');
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(longest: usize, pieces: &[&[u8]]) -> Vec<Option<String>> {
        let (mut lines, mut found) = (Lines { longest, ..Lines::default() }, Vec::new());
        let text = |line| match line {
            Line::Message(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
            Line::TooLong => None,
        };
        for piece in pieces {
            lines.buffer().extend_from_slice(piece);
            while let Some(line) = lines.next() {
                found.push(text(line));
            }
        }
        found.extend(lines.last().map(text));
        found
    }

    #[test]
    fn lines_are_found_wherever_reads_cut_them() {
        let stream = b"{\"a\":1}\r\n\n  {\"b\":2}\n{\"c\":\"\xc3\xa9\"}";
        let expected = ["{\"a\":1}", "{\"b\":2}", "{\"c\":\"é\"}"].map(|line| Some(line.to_owned()));
        for cut in 0..=stream.len() {
            assert_eq!(lines(100, &[&stream[..cut], &stream[cut..]]), expected, "cut at {cut}");
        }
        let single: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(lines(100, &single), expected);
    }

    #[test]
    fn a_line_without_bounds_is_skipped_and_the_next_one_is_read() {
        let long = [b'x'; 50];
        for pieces in [vec![&long[..], b"\n{}\n"], vec![&long[..20], &long[20..], b"x", b"x\n{}\n"]] {
            assert_eq!(lines(16, &pieces), [None, Some("{}".to_owned())]);
        }
        assert_eq!(lines(16, &[&long[..]]), [None], "also at the end");
    }

    #[test]
    fn a_message_is_one_line_and_otherwise_as_it_was() {
        let line = |json: &str| one_line(json.as_bytes()).map(|line| String::from_utf8(line).unwrap());
        assert_eq!(
            line("{\n  \"a\": 1.10,\r\n \"b\": \"\\n\"}\n").as_deref(),
            Some("{   \"a\": 1.10,   \"b\": \"\\n\"}\n")
        );
        for no_json in ["", "{", "not json", "{} {}", "\"a\nb\""] {
            assert_eq!(line(no_json), None, "{no_json:?}");
        }
    }
}
