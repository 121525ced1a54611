//! Settings files of others, edited in place: what is not asked for stays as it is, byte by byte.
//!
//! Each format has a parser that keeps comments, order and layout. Whatever it answers is parsed
//! again and compared with what was meant ([`Edit::finish`]): a file that it would damage is left alone.

mod json;
mod toml;
mod yaml;

use serde_json::{Map, Value};

/// How a client's file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// JSON, comments and trailing commas included.
    Json,
    Toml,
    Yaml,
}

/// Why a file is left alone.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    /// It is not what its name says.
    #[error("line {line}, column {column}: {what}")]
    Broken { line: usize, column: usize, what: String },
    /// Something else is where the servers belong.
    #[error("{0} is there, and is not a set of names and values")]
    NotAMap(String),
    /// It is valid, and written in a way that an edit could damage.
    #[error("{0}")]
    Unsafe(&'static str),
}

/// A value that is written.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Item {
    Text(String),
    Flag(bool),
    List(Vec<String>),
    Map(Vec<(String, Self)>),
}

impl Item {
    /// The same as a parser would find it.
    pub(crate) fn value(&self) -> Value {
        match self {
            Self::Text(text) => Value::from(text.as_str()),
            Self::Flag(flag) => Value::from(*flag),
            Self::List(texts) => Value::from(texts.as_slice()),
            Self::Map(fields) => fields.iter().map(|(name, item)| (name.clone(), item.value())).collect(),
        }
    }
}

/// One format: a text that takes edits.
trait Document {
    /// All that it says, in one shape for every format. What has no like in JSON is any value that
    /// differs where it differs.
    fn tree(&self) -> Value;
    /// Sets what is at `path`, with all that leads to it. Never called with an empty path.
    fn set(&mut self, path: &[&str], item: &Item) -> Result<(), Unusable>;
    /// Takes away what is at `path`, if it is there.
    fn remove(&mut self, path: &[&str]) -> Result<(), Unusable>;
    /// The text as it has become.
    fn text(&self) -> String;
}

fn parse(format: Format, text: &str) -> Result<Box<dyn Document>, Unusable> {
    Ok(match format {
        Format::Json => Box::new(json::Json::parse(text)?),
        Format::Toml => Box::new(toml::Toml::parse(text)?),
        Format::Yaml => Box::new(yaml::Yaml::parse(text)?),
    })
}

/// Signs that belong to the file and not to its format.
struct Frame {
    has_mark: bool,
    is_dos: bool,
}

const BYTE_ORDER_MARK: char = '\u{feff}';

impl Frame {
    /// Takes the frame off. Line endings are put aside only where all are the same.
    fn off(text: &str) -> (Self, String) {
        let bare = text.strip_prefix(BYTE_ORDER_MARK);
        let inner = bare.unwrap_or(text);
        let is_dos = inner.contains("\r\n") && inner.matches('\n').count() == inner.matches("\r\n").count();
        let content = if is_dos { inner.replace("\r\n", "\n") } else { inner.to_owned() };
        (Self { has_mark: bare.is_some(), is_dos }, content)
    }

    fn on(&self, text: &str) -> String {
        let ended = if self.is_dos { text.replace('\n', "\r\n") } else { text.to_owned() };
        if self.has_mark { format!("{BYTE_ORDER_MARK}{ended}") } else { ended }
    }
}

/// A text that is being edited, and what it must say in the end.
pub(crate) struct Edit {
    format: Format,
    frame: Frame,
    document: Box<dyn Document>,
    meant: Value,
    changes: usize,
}

impl Edit {
    /// Reads a text.
    pub(crate) fn of(format: Format, text: &str) -> Result<Self, Unusable> {
        let (frame, content) = Frame::off(text);
        if format != Format::Json && content.contains('\r') {
            return Err(Unusable::Unsafe("its lines end in different ways"));
        }
        let document = parse(format, &content)?;
        let meant = document.tree();
        Ok(Self { format, frame, document, meant, changes: 0 })
    }

    /// How many changes were made so far.
    pub(crate) fn changes(&self) -> usize {
        self.changes
    }

    /// What is at `path`.
    pub(crate) fn at(&self, path: &[&str]) -> Option<&Value> {
        path.iter().try_fold(&self.meant, |value, name| value.get(name))
    }

    /// Sets what is at `path`; nothing happens where it is that already.
    pub(crate) fn set(&mut self, path: &[&str], item: &Item) -> Result<(), Unusable> {
        let value = item.value();
        if self.at(path) == Some(&value) {
            return Ok(());
        }
        self.document.set(path, item)?;
        let Some((name, above)) = path.split_last() else { return Ok(()) };
        let mut map = &mut self.meant;
        for step in above {
            map = map_in(map)?.entry(*step).or_insert(Value::Null);
            // A name without a value, as YAML has it, is a map to be.
            if map.is_null() {
                *map = Value::Object(Map::new());
            }
        }
        map_in(map)?.insert((*name).to_owned(), value);
        self.changes += 1;
        Ok(())
    }

    /// Takes away what is at `path`, if it is there.
    pub(crate) fn remove(&mut self, path: &[&str]) -> Result<(), Unusable> {
        if self.at(path).is_none() {
            return Ok(());
        }
        self.document.remove(path)?;
        let Some((name, above)) = path.split_last() else { return Ok(()) };
        let map = above.iter().try_fold(&mut self.meant, |value, step| value.get_mut(step));
        if let Some(map) = map {
            map_in(map)?.remove(*name);
        }
        self.changes += 1;
        Ok(())
    }

    /// The new text, if it is another one and says exactly what was meant.
    pub(crate) fn finish(self) -> Result<Option<String>, Unusable> {
        if self.changes == 0 {
            return Ok(None);
        }
        let text = self.document.text();
        match parse(self.format, &text) {
            Ok(read) if same(&read.tree(), &self.meant) => Ok(Some(self.frame.on(&text))),
            Ok(_) | Err(_) => Err(Unusable::Unsafe("it is written in a way that an edit would damage")),
        }
    }
}

/// Whether two trees say the same. A map that is empty says as much as none: parents come and go
/// with what is in them in some formats.
fn same(left: &Value, right: &Value) -> bool {
    let says_something = |value: &Value| !value.as_object().is_some_and(Map::is_empty);
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            let within = |one: &Map<String, Value>, other: &Map<String, Value>| {
                one.iter().all(|(name, value)| match other.get(name) {
                    Some(found) => same(value, found),
                    None => !says_something(value),
                })
            };
            within(left, right) && within(right, left)
        }
        (left, right) => left == right,
    }
}

fn map_in(value: &mut Value) -> Result<&mut Map<String, Value>, Unusable> {
    value.as_object_mut().ok_or_else(|| Unusable::NotAMap("a value".to_owned()))
}

#[cfg(test)]
mod tests;
