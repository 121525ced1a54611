//! One login in full, for people.

use everfresh_domain::Timestamp;
use serde_json::Value;

use super::{now, path_of};
use crate::cli::Output;
use crate::client::Api;
use crate::exit::{Exit, Failure};
use crate::explain;
use crate::output::{self, Look, both, name_of, text, texts};

/// The column in which values begin.
const VALUES_AT: usize = 22;

pub(super) async fn show(api: &Api, name: &str, format: Output) -> Result<Exit, Failure> {
    let server = api.get(&path_of(name)?).await?;
    match format {
        Output::Json => output::json(&server),
        Output::Table => {
            output::line(rendered(&server, now(), Look::of_stdout()));
            if let Some(hint) = explain::hint([&server]) {
                output::note(hint);
            }
        }
    }
    Ok(Exit::Done)
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
    for (title, lines) in [of_server(server), of_token(server, now), of_refresh(server, now), of_login(server, now)] {
        let lines: Vec<String> = lines
            .into_iter()
            .filter(|(_, value)| value != "-" && !value.is_empty())
            .map(|(title, value)| {
                format!("  {title:<width$}{}", look.wrapped(&value, VALUES_AT), width = VALUES_AT - 2)
            })
            .collect();
        if !lines.is_empty() {
            parts.push(format!("{}\n{}", look.bold(title), lines.join("\n")));
        }
    }
    parts.join("\n\n")
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
