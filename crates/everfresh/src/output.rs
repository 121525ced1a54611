//! Results on stdout, for people and for programs; everything else on stderr.

use std::io::{IsTerminal, Write};

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use everfresh_domain::Timestamp;
use serde_json::Value;

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

/// Whether colours help.
fn colours() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// A table that fits the terminal.
pub(crate) fn table<const N: usize>(head: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if colours() {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    if !std::io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Disabled);
    }
    table.set_header(head.map(|title| Cell::new(title).add_attribute(Attribute::Bold)));
    table
}

/// Prints a table.
pub(crate) fn print(table: &Table) {
    for row in table.to_string().lines() {
        line(row.trim_end());
    }
}

/// A level, in its colour.
pub(crate) fn level(level: &str) -> Cell {
    let colour = match level {
        "healthy" => Color::Green,
        "degraded" => Color::Yellow,
        _ => Color::Red,
    };
    Cell::new(level).fg(colour)
}

/// A moment as seen from `now`, in words.
pub(crate) fn relative(now: Timestamp, moment: &Value) -> String {
    let Some(at) = moment.as_str().and_then(|text| text.parse::<Timestamp>().ok()) else { return "-".to_owned() };
    let (distance, past) = if at < now { (now.since(at), true) } else { (at.since(now), false) };
    let seconds = distance.as_secs();
    let words = match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    };
    if past { format!("{words} ago") } else { format!("in {words}") }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn moments_are_told_in_words() {
        let now: Timestamp = "2026-11-23T14:00:00Z".parse().unwrap();
        let cases = [
            (json!("2026-11-23T14:00:30Z"), "in 30 s"),
            (json!("2026-11-23T13:50:00Z"), "10 min ago"),
            (json!("2026-11-24T14:00:00Z"), "in 24 h"),
            (json!("2027-11-23T14:00:00Z"), "in 365 days"),
            (json!(null), "-"),
        ];
        for (moment, expected) in cases {
            assert_eq!(relative(now, &moment), expected);
        }
    }
}
