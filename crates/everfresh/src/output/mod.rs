//! Results on stdout, for people and for programs; everything else on stderr.

mod grid;
mod look;
mod moment;
pub(crate) mod progress;

use std::io::{self, Write};
use std::sync::OnceLock;

use serde_json::Value;

pub(crate) use grid::{GAP, fitted, print, table, text_of};
pub(crate) use look::{Look, can_draw, clipped, size, width_of, wrap};
pub(crate) use moment::{both, length, measured, moment, on_the_clock, relative, seen_from};

/// Why something could not be printed to stdout, first of all.
static LOST: OnceLock<io::Error> = OnceLock::new();

/// Why not all was printed, if it was not. Nobody reading is fine: `everfresh list | head` ends quietly.
pub(crate) fn lost() -> Option<&'static io::Error> {
    LOST.get()
}

/// Prints a line to stdout.
pub(crate) fn line(text: impl AsRef<str>) {
    bytes(format!("{}\n", text.as_ref()).as_bytes());
}

/// Prints a line to stderr.
pub(crate) fn note(text: impl AsRef<str>) {
    drop(writeln!(io::stderr().lock(), "{}", text.as_ref()));
}

/// Prints JSON for programs.
pub(crate) fn json(value: &Value) {
    line(serde_json::to_string_pretty(value).unwrap_or_default());
}

/// Prints bytes to stdout as they are.
pub(crate) fn bytes(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => drop(LOST.set(error)),
        Ok(()) | Err(_) => {}
    }
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
