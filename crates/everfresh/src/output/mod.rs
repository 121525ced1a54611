//! Results on stdout, for people and for programs; everything else on stderr.

mod grid;
mod look;
mod moment;
pub(crate) mod progress;

use std::io::Write;

use serde_json::Value;

pub(crate) use grid::{fitted, print, table, text_of};
pub(crate) use look::{Look, can_draw, clipped, size, width_of, wrap};
pub(crate) use moment::{both, measured, moment, on_the_clock, relative, seen_from};

/// Prints a line to stdout. Nobody reading is fine: `everfresh list | head` ends quietly.
pub(crate) fn line(text: impl AsRef<str>) {
    drop(writeln!(std::io::stdout().lock(), "{}", text.as_ref()));
}

/// Prints a line to stderr.
pub(crate) fn note(text: impl AsRef<str>) {
    drop(writeln!(std::io::stderr().lock(), "{}", text.as_ref()));
}

/// Prints JSON for programs.
pub(crate) fn json(value: &Value) {
    line(serde_json::to_string_pretty(value).unwrap_or_default());
}

/// Prints bytes to stdout as they are.
pub(crate) fn bytes(bytes: &[u8]) {
    drop(std::io::stdout().lock().write_all(bytes));
}

/// A text, or a dash.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => other.to_string(),
    }
}

/// The texts of a list.
pub(crate) fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The name under which people know a login: NAME, or NAME@ACCOUNT.
pub(crate) fn name_of(server: &Value) -> String {
    match (server["name"].as_str().unwrap_or_default(), server["account"].as_str()) {
        (name, None | Some("default")) => name.to_owned(),
        (name, Some(account)) => format!("{name}@{account}"),
    }
}
