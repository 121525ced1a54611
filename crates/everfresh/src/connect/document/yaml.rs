//! YAML, edited by whole lines of block mappings. No well-kept library edits it without loss: the
//! parser says where names are, and the lines of a name go or come together.

use std::ops::Range;

use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};
use serde_json::{Map, Value};

use super::{Document, Item, Unusable};

/// How much deeper a map is than its name, where the file does not show it.
const INDENT: usize = 2;

pub(super) struct Yaml {
    /// With their line ends; only the last may have none.
    lines: Vec<String>,
    tree: Value,
}

/// A name of a block mapping.
struct Name {
    text: String,
    /// The line and column where it begins, from 0.
    line: usize,
    column: usize,
}

/// What is at a place in the file.
enum Found {
    /// A map of names on lines of their own.
    Block(Vec<Name>),
    /// Nothing: no value, or a map with nothing in it that ends its line.
    Nothing,
    /// Anything else.
    Other,
}

const FLOW: Unusable = Unusable::Unsafe("its servers are not written on lines of their own");

impl Yaml {
    pub(super) fn parse(text: &str) -> Result<Self, Unusable> {
        let documents = load(text)?;
        let tree = match &*documents {
            [] => Value::Object(Map::new()),
            [one] => match value_of(one) {
                Value::Null => Value::Object(Map::new()),
                tree @ Value::Object(_) => tree,
                Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                    return Err(Unusable::NotAMap("the whole file".to_owned()));
                }
            },
            [_, _, ..] => return Err(Unusable::Unsafe("it holds several documents")),
        };
        Ok(Self { lines: text.split_inclusive('\n').map(str::to_owned).collect(), tree })
    }

    fn whole(&self) -> String {
        self.lines.concat()
    }

    /// What is at `path`, and the lines that belong to it. `None` where it is not there.
    fn find(&self, path: &[&str]) -> Result<Option<(Found, Range<usize>)>, Unusable> {
        let text = self.whole();
        let documents = load(&text)?;
        let Some(root) = documents.first() else {
            return Ok(path.is_empty().then_some((Found::Nothing, 0..self.lines.len())));
        };
        let (mut node, mut lines) = (root, 0..self.lines.len());
        for step in path {
            let YamlData::Mapping(map) = &node.data else { return Ok(None) };
            let names = match self.look(node) {
                Found::Block(names) => names,
                Found::Nothing => return Ok(None),
                Found::Other => return Err(FLOW),
            };
            let Some(index) = names.iter().position(|name| name.text == *step) else { return Ok(None) };
            let Some((_, value)) = map.iter().nth(index) else { return Ok(None) };
            lines = self.lines_of(&names, index, &lines);
            node = value;
        }
        Ok(Some((self.look(node), lines)))
    }

    fn look(&self, node: &MarkedYaml<'_>) -> Found {
        match &node.data {
            YamlData::Value(Scalar::Null) => Found::Nothing,
            YamlData::Mapping(map) if map.is_empty() => Found::Nothing,
            YamlData::Mapping(map) => {
                let mut names = Vec::new();
                for key in map.keys() {
                    let YamlData::Value(Scalar::String(text)) = &key.data else { return Found::Other };
                    let (line, column) = (key.span.start.line() - 1, key.span.start.col());
                    // A name that does not begin its line is in braces, or behind a "?".
                    let before = self.lines[line].chars().take(column);
                    if !before.eq(std::iter::repeat_n(' ', column)) {
                        return Found::Other;
                    }
                    names.push(Name { text: text.to_string(), line, column });
                }
                Found::Block(names)
            }
            YamlData::Value(_)
            | YamlData::Representation(..)
            | YamlData::Sequence(_)
            | YamlData::Tagged(..)
            | YamlData::Alias(_)
            | YamlData::BadValue => Found::Other,
        }
    }

    /// The lines of one of `names`: up to the next, without the empty lines and comments before it.
    fn lines_of(&self, names: &[Name], index: usize, within: &Range<usize>) -> Range<usize> {
        let name = &names[index];
        let mut end = names.get(index + 1).map_or(within.end, |next| next.line);
        while end > name.line + 1 && !self.belongs(end - 1, name.column) {
            end -= 1;
        }
        name.line..end
    }

    /// Whether a line that may end a value is part of it: it says something, deeper than its name.
    fn belongs(&self, line: usize, column: usize) -> bool {
        let text = self.lines[line].trim_end();
        let depth = text.len() - text.trim_start_matches(' ').len();
        let is_comment = text.trim_start().starts_with('#');
        let is_end = matches!(text, "---" | "...");
        !text.is_empty() && !is_end && (depth > column || (!is_comment && depth >= column))
    }

    /// Puts lines in, and gives the line before them its end.
    fn insert(&mut self, at: usize, text: &str) {
        let is_last = at == self.lines.len();
        let mut added: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
        if is_last && let Some(last) = self.lines.last_mut().filter(|last| !last.ends_with('\n')) {
            last.push('\n');
            if let Some(end) = added.last_mut() {
                end.truncate(end.trim_end_matches('\n').len());
            }
        }
        self.lines.splice(at..at, added);
    }

    /// Takes lines out, and the end of the line before them where the file had none.
    fn cut(&mut self, lines: Range<usize>) {
        let had_end = self.lines.last().is_none_or(|last| last.ends_with('\n'));
        self.lines.drain(lines);
        if !had_end && let Some(last) = self.lines.last_mut() {
            last.truncate(last.trim_end_matches('\n').len());
        }
    }

    fn refresh(&mut self) -> Result<(), Unusable> {
        let text = self.whole();
        *self = Self::parse(&text)?;
        Ok(())
    }
}

impl Document for Yaml {
    fn tree(&self) -> Value {
        self.tree.clone()
    }

    fn set(&mut self, path: &[&str], item: &Item) -> Result<(), Unusable> {
        let Some((name, above)) = path.split_last() else { return Ok(()) };
        if let Some((_, lines)) = self.find(path)? {
            let column = self.lines[lines.start].len() - self.lines[lines.start].trim_start_matches(' ').len();
            let had_end = self.lines[lines.end - 1].ends_with('\n');
            let mut text = written(name, item, column);
            text.truncate(text.len() - usize::from(!had_end));
            self.lines.splice(lines, text.split_inclusive('\n').map(str::to_owned));
            return self.refresh();
        }
        match self.find(above)? {
            None => self.set(above, &Item::Map(vec![((*name).to_owned(), item.clone())])),
            Some((Found::Block(names), lines)) => {
                let Some(last) = names.len().checked_sub(1) else { return Err(FLOW) };
                let at = self.lines_of(&names, last, &lines).end;
                self.insert(at, &written(name, item, names[last].column));
                self.refresh()
            }
            Some((Found::Nothing, lines)) => {
                let Some(parent) = above.last() else {
                    let at = self.lines.len();
                    self.insert(at, &written(name, item, 0));
                    return self.refresh();
                };
                let head = &mut self.lines[lines.start];
                let column = head.len() - head.trim_start_matches(' ').len();
                if let Some(braces) = head.trim_end().strip_suffix("{}") {
                    let end = if head.ends_with('\n') { "\n" } else { "" };
                    *head = format!("{}{end}", braces.trim_end());
                }
                if !self.lines[lines.start].trim_end().ends_with(':') {
                    return Err(Unusable::NotAMap((*parent).to_owned()));
                }
                self.insert(lines.start + 1, &written(name, item, column + INDENT));
                self.refresh()
            }
            Some((Found::Other, _)) => Err(FLOW),
        }
    }

    fn remove(&mut self, path: &[&str]) -> Result<(), Unusable> {
        let Some((_, lines)) = self.find(path)? else { return Ok(()) };
        let Some((_, above)) = path.split_last() else { return Ok(()) };
        let is_last = matches!(self.find(above)?, Some((Found::Block(names), _)) if names.len() == 1);
        if is_last && let Some((_, parent)) = self.find(above)?.filter(|_| !above.is_empty()) {
            let head = self.lines[parent.start].trim_end().to_owned();
            if !head.ends_with(':') {
                return Err(FLOW);
            }
            self.lines[parent.start] = format!("{head} {{}}\n");
        }
        self.cut(lines);
        self.refresh()
    }

    fn text(&self) -> String {
        self.whole()
    }
}

fn load(text: &str) -> Result<Vec<MarkedYaml<'_>>, Unusable> {
    let broken = |error: saphyr::ScanError| {
        let at = error.marker();
        Unusable::Broken { line: at.line(), column: at.col() + 1, what: error.info().to_owned() }
    };
    MarkedYaml::load_from_str(text).map_err(broken)
}

/// A name and its value as lines that begin at `column`.
fn written(name: &str, item: &Item, column: usize) -> String {
    let head = format!("{:column$}{}:", "", scalar(name));
    match item {
        Item::Text(text) => format!("{head} {}\n", scalar(text)),
        Item::Flag(flag) => format!("{head} {flag}\n"),
        Item::List(texts) if texts.is_empty() => format!("{head} []\n"),
        Item::List(texts) => {
            let lines = texts.iter().map(|text| format!("{:column$}- {}\n", "", scalar(text)));
            std::iter::once(format!("{head}\n")).chain(lines).collect()
        }
        Item::Map(fields) if fields.is_empty() => format!("{head} {{}}\n"),
        Item::Map(fields) => {
            let lines = fields.iter().map(|(name, item)| written(name, item, column + INDENT));
            std::iter::once(format!("{head}\n")).chain(lines).collect()
        }
    }
}

/// Text that YAML takes for this text: plain where it is a plain word, else as JSON writes it.
fn scalar(text: &str) -> String {
    const WORDS: [&str; 10] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "~"];
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:@".contains(c))
        && !text.ends_with(':')
        && !WORDS.contains(&&*text.to_ascii_lowercase());
    if is_plain { text.to_owned() } else { Value::from(text).to_string() }
}

fn value_of(node: &MarkedYaml<'_>) -> Value {
    match &node.data {
        YamlData::Value(Scalar::Null) => Value::Null,
        YamlData::Value(Scalar::Boolean(flag)) => Value::from(*flag),
        YamlData::Value(Scalar::Integer(number)) => Value::from(*number),
        YamlData::Value(Scalar::FloatingPoint(number)) => Value::from(format!("float {number:?}")),
        YamlData::Value(Scalar::String(text)) => Value::from(text.as_ref()),
        YamlData::Sequence(values) => values.iter().map(value_of).collect(),
        YamlData::Mapping(map) => {
            let name = |key: &MarkedYaml<'_>| match value_of(key) {
                Value::String(text) => text,
                other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                    format!("key {other}")
                }
            };
            map.iter().map(|(key, value)| (name(key), value_of(value))).collect()
        }
        YamlData::Tagged(tag, value) => Value::from(vec![Value::from(tag.to_string()), value_of(value)]),
        YamlData::Representation(text, ..) => Value::from(format!("text {text}")),
        YamlData::Alias(number) => Value::from(format!("alias {number}")),
        YamlData::BadValue => Value::from("bad value"),
    }
}
