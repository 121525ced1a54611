//! One login in full, for people.

use everfresh_domain::Timestamp;
use everfresh_presentation::api::Timeline;
use serde_json::Value;
use utoipa::ToSchema;

use super::{NOT_RUNNING, now, past, path_of};
use crate::cli::Output;
use crate::client::Api;
use crate::exit::{Exit, Failure};
use crate::explain;
use crate::output::{self, Look, both, name_of, text, texts};

/// The column in which values begin.
const VALUES_AT: usize = 22;

pub(super) async fn show(api: &Api, name: &str, format: Output) -> Result<Exit, Failure> {
    let path = path_of(name)?;
    let mut server = api.get(&path).await?;
    // A daemon from before the timeline has none; the rest is told all the same.
    server["timeline"] = api.get(&format!("{path}/timeline")).await.unwrap_or_default();
    match format {
        Output::Json => output::json(&server),
        Output::Table => {
            output::line(rendered(&server, now(), Look::of_stdout()));
            if !api.is_daemon() {
                output::note(NOT_RUNNING);
            }
            if let Some(hint) = explain::hint([&server]) {
                output::note(hint);
            }
        }
    }
    Ok(Exit::Done)
}

/// What `show` tells of a login beyond what `list` does.
#[derive(ToSchema)]
pub(crate) struct Shown {
    /// What the login was in the last 24 hours; null where the daemon is too old to say.
    #[expect(dead_code, reason = "it is there for its schema: what is printed is what the API answers")]
    timeline: Option<Timeline>,
}

/// A group of lines under one title; lines without a value are left out.
type Group = (&'static str, Vec<(&'static str, String)>);

fn rendered(server: &Value, now: Timestamp, look: Look) -> String {
    let health = &server["health"];
    let level = health["level"].as_str().unwrap_or_default();
    let summary = look.wrapped(&text(&health["summary"]), 2);
    let mut parts = vec![format!("{}  {}\n  {summary}", look.bold(&name_of(server)), look.level(level, level))];
    let detail = text(&health["detail"]);
    if detail != "-" {
        parts[0] += &format!("\n  {}", look.wrapped(&detail, 2));
    }
    if let Some(command) = health["command"].as_str() {
        parts[0] += &format!("\n  -> {command}");
    }
    parts.extend(past::told(&server["timeline"], look).map(|told| {
        let meanings: Vec<String> = told.meanings.iter().map(|(sign, words)| line(sign, words, look)).collect();
        format!("{}\n  {}\n{}", look.bold(&told.title), told.signs, meanings.join("\n"))
    }));
    for (title, lines) in [of_server(server), of_token(server, now), of_refresh(server, now), of_login(server, now)] {
        let told = lines.iter().filter(|(_, value)| value != "-" && !value.is_empty());
        let lines: Vec<String> = told.map(|(title, value)| line(title, value, look)).collect();
        if !lines.is_empty() {
            parts.push(format!("{}\n{}", look.bold(title), lines.join("\n")));
        }
    }
    parts.join("\n\n")
}

/// A value behind its title, in the column of all values.
fn line(title: &str, value: &str, look: Look) -> String {
    format!("  {title:<width$}{}", look.wrapped(value, VALUES_AT), width = VALUES_AT - 2)
}

fn of_server(server: &Value) -> Group {
    let source = match (server["source"].as_str(), &server["shadows_stored"]) {
        (Some("file"), Value::Bool(true)) => "the configuration file, which wins over everfresh add",
        (Some("file"), _) => "the configuration file",
        _ => "everfresh add",
    };
    let lines = vec![
        ("url", text(&server["url"])),
        ("defined by", source.to_owned()),
        ("grant", text(&server["grant"])),
        ("issuer", text(&server["issuer"])),
        ("profile", profile(&server["profile"])),
        ("state", text(&server["health"]["admin_state"])),
        ("reason", text(&server["health"]["reason"])),
    ];
    ("Server", lines)
}

fn of_token(server: &Value, now: Timestamp) -> Group {
    let token = &server["token"];
    if token.is_null() {
        return ("Token", vec![("access token", "none; nobody is logged in".to_owned())]);
    }
    let refresh_token = match (&token["has_refresh_token"], token["refresh_token_expires_at"].as_str()) {
        (Value::Bool(true), Some(_)) => format!("yes, until {}", both(now, &token["refresh_token_expires_at"])),
        (Value::Bool(true), None) => "yes, and its end is not known".to_owned(),
        _ => "no: the login lasts as long as its token".to_owned(),
    };
    let ends = match token["expires_at"].as_str() {
        Some(_) => both(now, &token["expires_at"]),
        None => "not known".to_owned(),
    };
    let lines = vec![
        ("type", text(&token["type"])),
        ("issued", both(now, &token["issued_at"])),
        ("ends", ends),
        ("refresh token", refresh_token),
        ("scopes", texts(&token["scopes"]).join(" ")),
        ("scopes taken back", texts(&token["lost_scopes"]).join(" ")),
        ("fingerprint", text(&token["fingerprint"])),
        ("generation", text(&token["generation"])),
    ];
    ("Token", lines)
}

fn of_refresh(server: &Value, now: Timestamp) -> Group {
    let refresh = &server["refresh"];
    let failures = match refresh["retry_count"].as_u64() {
        None | Some(0) => "-".to_owned(),
        Some(count) => count.to_string(),
    };
    let lines = vec![
        ("state", text(&refresh["state"])),
        ("next attempt", both(now, &refresh["next_attempt_at"])),
        ("last attempt", both(now, &refresh["last_attempt_at"])),
        ("last success", both(now, &refresh["last_success_at"])),
        ("failures in a row", failures),
        ("last error", text(&refresh["last_error"]["message"])),
        ("its attempt", text(&refresh["last_error"]["attempt_id"])),
    ];
    ("Refresh", lines)
}

fn of_login(server: &Value, now: Timestamp) -> Group {
    let login = &server["login"];
    let pending = match login["pending"] == true {
        true => format!("until {}", both(now, &login["pending_until"])),
        false => "-".to_owned(),
    };
    let lines = vec![
        ("under way", pending),
        ("asked for", texts(&login["requested_scopes"]).join(" ")),
        ("asked for next", texts(&login["needed_scopes"]).join(" ")),
        ("client secret ends", both(now, &login["client_secret_expires_at"])),
    ];
    ("Login", lines)
}

/// The provider's profile with what people should know of it.
fn profile(profile: &Value) -> String {
    match (profile["name"].as_str(), profile["note"].as_str()) {
        (None, _) => "-".to_owned(),
        (Some(name), None) => name.to_owned(),
        (Some(name), Some(note)) => format!("{name} ({note})"),
    }
}

#[cfg(test)]
#[path = "show_tests.rs"]
mod tests;
