//! The attempts of a login, newest first, in words.

use everfresh_domain::Timestamp;
use serde_json::Value;

use super::{now, path_of};
use crate::cli::{Journal, Output};
use crate::client::Api;
use crate::exit::{Exit, Failure};
use crate::output::{self, Look, measured, moment, on_the_clock, seen_from, text, width_of};

/// Blanks before what belongs to the line above.
const INDENT: usize = 6;

/// Blanks between two columns.
const GAP: usize = 2;

pub(super) async fn journal(api: &Api, journal: &Journal) -> Result<Exit, Failure> {
    let answer = api.get(&format!("{}/journal?limit={}", path_of(&journal.name)?, journal.limit)).await?;
    match journal.output {
        Output::Json => output::json(&answer),
        Output::Table => {
            let entries = answer["entries"].as_array().cloned().unwrap_or_default();
            output::line(rendered(&entries, now(), Look::of_stdout()));
        }
    }
    Ok(Exit::Done)
}

fn rendered(entries: &[Value], now: Timestamp, look: Look) -> String {
    if entries.is_empty() {
        return "no attempt yet".to_owned();
    }
    entries.iter().map(|entry| attempt(entry, now, look)).collect::<Vec<_>>().join("\n")
}

/// When it began and how it ended, then why it was made and with what.
fn attempt(entry: &Value, now: Timestamp, look: Look) -> String {
    let when = moment(&entry["started_at"])
        .map_or_else(|| "-".to_owned(), |at| format!("{}  {:<12}", on_the_clock(at), seen_from(now, at)));
    let (level, outcome) = outcome(entry);
    let story = format!("{}; {}; attempt {}", trigger(entry), tokens(entry), text(&entry["attempt_id"]));
    let story = look.wrapped(&story, INDENT);
    let fits = look.width.is_none_or(|width| width_of(&when) + GAP + width_of(&outcome) <= width);
    let indent = " ".repeat(INDENT);
    if fits {
        return format!("{when}{}{}\n{indent}{story}", " ".repeat(GAP), look.level(level, &outcome));
    }
    let outcome: Vec<String> = look.wrapped(&outcome, INDENT).lines().map(|line| look.level(level, line)).collect();
    format!("{}\n{indent}{}\n{indent}{story}", when.trim_end(), outcome.join("\n"))
}

/// How it ended, and how good that is.
fn outcome(entry: &Value) -> (&'static str, String) {
    let took = entry["duration_ms"].as_u64().map(measured).unwrap_or_default();
    match entry["result"].as_str() {
        Some("refreshed") => ("healthy", format!("refreshed in {took}")),
        Some("adopted") => ("healthy", "not needed: another one had stored newer tokens".to_owned()),
        Some("discarded") => ("degraded", format!("discarded after {took}: the login had changed meanwhile")),
        Some("failed") => {
            let code = entry["oauth_error"].as_str().map(|code| format!(" ({code})")).unwrap_or_default();
            ("unhealthy", format!("failed after {took}: {}{code}", text(&entry["message"])))
        }
        _ => ("degraded", text(&entry["result"])),
    }
}

/// What it was made for.
fn trigger(entry: &Value) -> String {
    match entry["trigger"].as_str() {
        Some("schedule") => "on schedule".to_owned(),
        Some("retry") => "because an earlier attempt had failed".to_owned(),
        Some("lost_answer") => "because the answer to an earlier attempt was lost".to_owned(),
        Some("request") => "because a request needed a token".to_owned(),
        Some("upstream") => "because the server refused the token before".to_owned(),
        Some("user") => "because somebody asked".to_owned(),
        _ => text(&entry["trigger"]),
    }
}

/// What was sent, and what came of it, by fingerprint.
fn tokens(entry: &Value) -> String {
    match (entry["refresh_token"].as_str(), entry["credential"].as_str(), entry["new_refresh_token"].as_str()) {
        (Some(sent), _, Some(new)) if sent != new => format!("refresh token {sent} became {new}"),
        (Some(sent), _, _) => format!("refresh token {sent} was sent"),
        (None, Some(credential), _) => format!("credential {credential} was sent"),
        (None, None, _) => "nothing was sent".to_owned(),
    }
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
