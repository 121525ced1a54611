//! TOML with places: every value can say on which line it stands, and every error is collected.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "of a foreign enum one variant is right and all others are wrong alike"
)]

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One error: where, what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) line: usize,
    pub(crate) text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, self.text)
    }
}

/// The text that is read, and what is wrong with it so far.
pub(super) struct Reader<'t> {
    text: &'t str,
    pub(super) problems: Vec<Problem>,
}

/// One table on its way through the reader: what is taken from it is known, what is left is not.
pub(super) struct Section<'a, 't> {
    /// As in `servers.linear.oauth`; empty for the whole file.
    name: String,
    table: &'a DeTable<'t>,
    known: Vec<&'static str>,
    line: usize,
}

type Value<'a, 't> = &'a Spanned<DeValue<'t>>;

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, problems: Vec::new() }
    }

    /// What is wrong, by line.
    pub(super) fn told(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| problem.line);
        self.problems
    }

    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        let before = self.text.as_bytes().iter().take(span.start);
        1 + before.filter(|byte| **byte == b'\n').count()
    }

    pub(super) fn problem(&mut self, line: usize, text: impl Into<String>) {
        self.problems.push(Problem { line, text: text.into() });
    }

    /// Says that the value at `span` is wrong.
    pub(super) fn wrong(&mut self, span: &Range<usize>, text: impl Into<String>) {
        let line = self.line(span);
        self.problem(line, text);
    }

    pub(super) fn text_of(&mut self, name: &str, value: Value<'_, '_>) -> Option<String> {
        match value.get_ref() {
            DeValue::String(text) => Some(text.to_string()),
            other => {
                self.wrong(&value.span(), format!("{name} must be a text in quotes, not {}", kind(other)));
                None
            }
        }
    }

    pub(super) fn texts_of(&mut self, name: &str, value: Value<'_, '_>) -> Option<Vec<String>> {
        match value.get_ref() {
            DeValue::Array(list) => {
                Some(list.iter().filter_map(|item| self.text_of(&format!("each of {name}"), item)).collect())
            }
            other => {
                self.wrong(
                    &value.span(),
                    format!("{name} must be a list of texts like [\"a\", \"b\"], not {}", kind(other)),
                );
                None
            }
        }
    }
}

impl<'a, 't> Section<'a, 't> {
    pub(super) fn new(name: impl Into<String>, table: &'a DeTable<'t>, line: usize) -> Self {
        Self { name: name.into(), table, known: Vec::new(), line }
    }

    /// Where the section begins.
    pub(super) fn line(&self) -> usize {
        self.line
    }

    /// The line of `key`, where it is there.
    pub(super) fn place(&self, reader: &Reader<'_>, key: &str) -> Option<usize> {
        self.table.get(key).map(|value| reader.line(&value.span()))
    }

    /// The full name of one of its keys.
    pub(super) fn named(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    pub(super) fn take(&mut self, key: &'static str) -> Option<Value<'a, 't>> {
        self.known.push(key);
        self.table.get(key)
    }

    pub(super) fn text(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<(String, Range<usize>)> {
        let value = self.take(key)?;
        Some((reader.text_of(&self.named(key), value)?, value.span()))
    }

    pub(super) fn texts(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<Vec<String>> {
        let value = self.take(key)?;
        reader.texts_of(&self.named(key), value)
    }

    pub(super) fn truth(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<bool> {
        let value = self.take(key)?;
        match value.get_ref() {
            DeValue::Boolean(truth) => Some(*truth),
            other => {
                let name = self.named(key);
                reader.wrong(&value.span(), format!("{name} must be true or false, not {}", kind(other)));
                None
            }
        }
    }

    pub(super) fn number(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<f64> {
        let value = self.take(key)?;
        let number = match value.get_ref() {
            DeValue::Float(number) => number.as_str().parse().ok(),
            DeValue::Integer(number) => number.as_str().parse().ok(),
            _ => None,
        };
        if number.is_none() {
            let name = self.named(key);
            reader.wrong(&value.span(), format!("{name} must be a number, not {}", kind(value.get_ref())));
        }
        number
    }

    pub(super) fn duration(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<Duration> {
        let (text, span) = self.text(reader, key)?;
        match humantime::parse_duration(&text) {
            Ok(duration) => Some(duration),
            Err(_) => {
                let name = self.named(key);
                reader.wrong(&span, format!("{name} = {text:?} is not a time; write it like \"10s\" or \"5m\""));
                None
            }
        }
    }

    pub(super) fn section(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<Self> {
        let value = self.take(key)?;
        let name = self.named(key);
        match value.get_ref() {
            DeValue::Table(table) => Some(Self::new(name, table, reader.line(&value.span()))),
            other => {
                reader.wrong(&value.span(), format!("{name} must be a table like [{name}], not {}", kind(other)));
                None
            }
        }
    }

    /// Every key with its value, for tables whose keys are the user's.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a Spanned<toml::de::DeString<'t>>, Value<'a, 't>)> {
        self.table.iter()
    }

    /// Complains about every key that was not taken.
    pub(super) fn finish(self, reader: &mut Reader<'_>) {
        for (key, _) in self.table {
            let key_text: &str = key.get_ref();
            if self.known.contains(&key_text) {
                continue;
            }
            let near = nearest(key_text, self.known.iter().copied());
            let fix = match near {
                Some(near) => format!("did you mean {near}?"),
                None if self.known.is_empty() => "remove it".to_owned(),
                None => format!("known here are: {}", self.known.join(", ")),
            };
            let name = self.named(key_text);
            reader.wrong(&key.span(), format!("{name} is not known; {fix}"));
        }
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The one of `names` that `wanted` is a slip of: one in three letters, and two at most. In shorter names
/// one letter makes another name.
pub(crate) fn nearest<'n>(wanted: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let slips = |name: &'n str| {
        let allowed = (wanted.chars().count().max(name.chars().count()) / 3).min(2);
        Some((strsim::osa_distance(wanted, name), name)).filter(|(slips, _)| *slips <= allowed)
    };
    names.filter_map(slips).min_by_key(|(slips, _)| *slips).map(|(_, name)| name)
}
