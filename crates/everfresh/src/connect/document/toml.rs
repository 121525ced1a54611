//! TOML.

use serde_json::Value;
use toml_edit::{Array, DocumentMut, InlineTable, Table, TableLike};

use super::{Document, Item, Unusable};

pub(super) struct Toml(DocumentMut);

/// Where a table goes.
struct Place {
    position: isize,
    /// What is above its head.
    prefix: String,
    is_last: bool,
}

impl Toml {
    pub(super) fn parse(text: &str) -> Result<Self, Unusable> {
        let broken = |error: toml_edit::TomlError| {
            let before = &text[..error.span().map_or(0, |span| span.start).min(text.len())];
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
            Unusable::Broken { line, column, what: error.message().trim().replace('\n', "; ") }
        };
        text.parse().map(Self).map_err(broken)
    }

    /// Where a new table of `section` is written: behind the last that is there, else at the end.
    fn place_in(&self, section: &[&str]) -> Place {
        let last = last_position(self.0.as_table());
        let servers = section.iter().try_fold(self.0.as_item(), |item, step| item.get(step));
        let sibling = servers.and_then(toml_edit::Item::as_table).and_then(last_position);
        if let Some(position) = sibling.filter(|position| Some(*position) != last) {
            return Place { position, prefix: "\n".to_owned(), is_last: false };
        }
        // What stands at the end of the file stands above what is put there.
        let end = self.0.trailing().as_str().unwrap_or_default();
        let is_empty = self.0.as_table().is_empty() && end.is_empty();
        let gap = if is_empty { "" } else { "\n" };
        Place { position: last.map_or(0, |last| last + 1), prefix: format!("{end}{gap}"), is_last: true }
    }

    fn find(&mut self, path: &[&str]) -> Option<&mut dyn TableLike> {
        let mut table: &mut dyn TableLike = self.0.as_table_mut();
        for step in path {
            table = table.get_mut(step)?.as_table_like_mut()?;
        }
        Some(table)
    }
}

impl Document for Toml {
    fn tree(&self) -> Value {
        table_value(self.0.as_table())
    }

    fn set(&mut self, path: &[&str], item: &Item) -> Result<(), Unusable> {
        let Some((name, above)) = path.split_last() else { return Ok(()) };
        let place = self.place_in(above);
        let mut table: &mut dyn TableLike = self.0.as_table_mut();
        for step in above {
            let found = table.entry(step).or_insert_with(|| {
                let mut between = Table::new();
                between.set_implicit(true);
                toml_edit::Item::Table(between)
            });
            table = found.as_table_like_mut().ok_or_else(|| Unusable::NotAMap((*step).to_owned()))?;
        }
        match (table.get_mut(name), item) {
            (Some(found), item) => match found.as_value_mut() {
                Some(value) => {
                    let decor = value.decor().clone();
                    *value = value_of(item);
                    *value.decor_mut() = decor;
                }
                None => *found = toml_edit::Item::Value(value_of(item)),
            },
            (None, Item::Map(fields)) => {
                let mut entry = Table::new();
                for (field, item) in fields {
                    entry.insert(field, toml_edit::Item::Value(value_of(item)));
                }
                entry.decor_mut().set_prefix(place.prefix);
                entry.set_position(Some(place.position));
                table.insert(name, toml_edit::Item::Table(entry));
                if place.is_last {
                    self.0.set_trailing("");
                }
            }
            (None, Item::Text(_) | Item::Flag(_) | Item::List(_)) => {
                table.insert(name, toml_edit::Item::Value(value_of(item)));
            }
        }
        Ok(())
    }

    fn remove(&mut self, path: &[&str]) -> Result<(), Unusable> {
        let Some((name, above)) = path.split_last() else { return Ok(()) };
        let Some(removed) = self.find(above).and_then(|table| table.remove(name)) else { return Ok(()) };
        let toml_edit::Item::Table(removed) = removed else { return Ok(()) };
        let prefix = removed.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default();
        // A comment above a table is not the table's alone: it stays.
        let kept = prefix.strip_suffix('\n').unwrap_or(prefix).to_owned();
        if kept.contains('#') {
            let after = removed.position().and_then(|position| next_position(self.0.as_table(), position));
            match after.and_then(|position| table_at(self.0.as_table_mut(), position)) {
                Some(next) => {
                    let below = next.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default();
                    let prefix = format!("{kept}{below}");
                    next.decor_mut().set_prefix(prefix);
                }
                None => {
                    let below = self.0.trailing().as_str().unwrap_or_default().to_owned();
                    self.0.set_trailing(format!("{kept}{below}"));
                }
            }
        }
        Ok(())
    }

    fn text(&self) -> String {
        self.0.to_string()
    }
}

/// The position of the table that is written last of `table` and all in it.
fn last_position(table: &Table) -> Option<isize> {
    let inner = table.iter().flat_map(|(_, item)| match item {
        toml_edit::Item::Table(inner) => vec![inner],
        toml_edit::Item::ArrayOfTables(tables) => tables.iter().collect(),
        toml_edit::Item::None | toml_edit::Item::Value(_) => Vec::new(),
    });
    inner.filter_map(last_position).chain(table.position()).max()
}

/// The position of the table that is written next after `position`.
fn next_position(table: &Table, position: isize) -> Option<isize> {
    let inner = table.iter().filter_map(|(_, item)| item.as_table());
    let found = inner.filter_map(|inner| {
        let own = inner.position().filter(|own| *own > position && !inner.is_implicit());
        own.into_iter().chain(next_position(inner, position)).min()
    });
    found.min()
}

fn table_at(table: &mut Table, position: isize) -> Option<&mut Table> {
    let inner = table.iter_mut().filter_map(|(_, item)| item.as_table_mut());
    inner
        .filter_map(|inner| if inner.position() == Some(position) { Some(inner) } else { table_at(inner, position) })
        .next()
}

fn value_of(item: &Item) -> toml_edit::Value {
    match item {
        Item::Text(text) => text.as_str().into(),
        Item::Flag(flag) => (*flag).into(),
        Item::List(texts) => texts.iter().map(String::as_str).collect::<Array>().into(),
        Item::Map(fields) => {
            let mut table = InlineTable::new();
            for (name, item) in fields {
                table.insert(name, value_of(item));
            }
            table.into()
        }
    }
}

fn table_value(table: &dyn TableLike) -> Value {
    table.iter().map(|(name, item)| (name.to_owned(), item_value(item))).collect()
}

fn item_value(item: &toml_edit::Item) -> Value {
    match item {
        toml_edit::Item::None => Value::Null,
        toml_edit::Item::Value(value) => plain_value(value),
        toml_edit::Item::Table(table) => table_value(table),
        toml_edit::Item::ArrayOfTables(tables) => tables.iter().map(|table| table_value(table)).collect(),
    }
}

fn plain_value(value: &toml_edit::Value) -> Value {
    match value {
        toml_edit::Value::String(text) => Value::from(text.value().as_str()),
        toml_edit::Value::Integer(number) => Value::from(*number.value()),
        toml_edit::Value::Float(number) => Value::from(format!("float {:?}", number.value())),
        toml_edit::Value::Boolean(flag) => Value::from(*flag.value()),
        toml_edit::Value::Datetime(moment) => Value::from(format!("datetime {}", moment.value())),
        toml_edit::Value::Array(values) => values.iter().map(plain_value).collect(),
        toml_edit::Value::InlineTable(table) => table_value(table),
    }
}
