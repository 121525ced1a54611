//! What there is and how it is.

use std::time::Duration;

use serde_json::Value;

use super::{now, path_of};
use crate::cli::{Journal, List, Output};
use crate::client::Api;
use crate::exit::{Exit, Failure};
use crate::output;

/// How often `--watch` looks.
const LOOK: Duration = Duration::from_secs(1);

pub(super) async fn list(api: &Api, list: List) -> Result<Exit, Failure> {
    let mut shown = None;
    loop {
        let answer = api.get("/api/v1/servers").await?;
        let text = match list.output {
            Output::Json => serde_json::to_string_pretty(&answer).unwrap_or_default(),
            Output::Table => rows(&answer),
        };
        if shown.as_ref() != Some(&text) {
            if list.watch && list.output == Output::Table {
                // To the top, and everything below is gone: one calm redraw.
                output::line("\u{1b}[H\u{1b}[2J");
            }
            output::line(&text);
            shown = Some(text);
        }
        for problem in answer["problems"].as_array().into_iter().flatten().filter(|_| !list.watch) {
            output::note(format!("problem: {}", output::text(problem)));
        }
        if !list.watch {
            return Ok(if list.check { worst(&answer) } else { Exit::Done });
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn name_of(server: &Value) -> String {
    match (server["name"].as_str().unwrap_or_default(), server["account"].as_str()) {
        (name, None | Some("default")) => name.to_owned(),
        (name, Some(account)) => format!("{name}@{account}"),
    }
}

fn rows(answer: &Value) -> String {
    let servers = answer["servers"].as_array().cloned().unwrap_or_default();
    if servers.is_empty() {
        return "no server yet; add one with: everfresh add NAME URL".to_owned();
    }
    let now = now();
    let mut table = output::table(["NAME", "LEVEL", "SUMMARY", "EXPIRES", "NEXT REFRESH", "ACTION"]);
    for server in &servers {
        let health = &server["health"];
        let name =
            if server["shadows_stored"] == true { format!("{} (file)", name_of(server)) } else { name_of(server) };
        let cells: [comfy_table::Cell; 6] = [
            name.into(),
            output::level(health["level"].as_str().unwrap_or_default()),
            output::text(&health["summary"]).into(),
            output::relative(now, &server["token"]["expires_at"]).into(),
            output::relative(now, &server["refresh"]["next_attempt_at"]).into(),
            output::text(&health["action"]).into(),
        ];
        table.add_row(cells);
    }
    table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

fn worst(answer: &Value) -> Exit {
    let levels = || answer["servers"].as_array().into_iter().flatten().map(|server| &server["health"]["level"]);
    if levels().any(|level| level == "unhealthy") {
        Exit::Unhealthy
    } else if levels().any(|level| level == "degraded") {
        Exit::Degraded
    } else {
        Exit::Done
    }
}

pub(super) async fn show(api: &Api, name: &str, format: Output) -> Result<Exit, Failure> {
    let server = api.get(&path_of(name)?).await?;
    if format == Output::Json {
        output::json(&server);
        return Ok(Exit::Done);
    }
    let (health, token, refresh) = (&server["health"], &server["token"], &server["refresh"]);
    let list = |value: &'_ Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let (scopes, lost) = (list(&token["scopes"]), list(&token["lost_scopes"]));
    let lines = [
        ("name", name_of(&server)),
        ("url", output::text(&server["url"])),
        ("grant", output::text(&server["grant"])),
        ("source", output::text(&server["source"])),
        ("issuer", output::text(&server["issuer"])),
        ("profile", profile_of(&server)),
        ("level", output::text(&health["level"])),
        ("summary", output::text(&health["summary"])),
        ("detail", output::text(&health["detail"])),
        ("reason", output::text(&health["reason"])),
        ("action", output::text(&health["action"])),
        ("token type", output::text(&token["type"])),
        ("token issued", output::text(&token["issued_at"])),
        ("token ends", output::text(&token["expires_at"])),
        ("refresh token", if token["has_refresh_token"] == true { "yes" } else { "no" }.to_owned()),
        ("refresh token ends", output::text(&token["refresh_token_expires_at"])),
        ("scopes", if scopes.is_empty() { "-".to_owned() } else { scopes.join(" ") }),
        ("scopes taken back", if lost.is_empty() { "-".to_owned() } else { lost.join(" ") }),
        ("client secret ends", output::text(&server["login"]["client_secret_expires_at"])),
        ("generation", output::text(&token["generation"])),
        ("fingerprint", output::text(&token["fingerprint"])),
        ("refresh state", output::text(&refresh["state"])),
        ("next attempt", output::text(&refresh["next_attempt_at"])),
        ("last attempt", output::text(&refresh["last_attempt_at"])),
        ("last success", output::text(&refresh["last_success_at"])),
        ("failures in a row", output::text(&refresh["retry_count"])),
        ("last error", output::text(&refresh["last_error"]["message"])),
    ];
    for (title, value) in lines {
        output::line(format!("{title:<20}{value}"));
    }
    Ok(Exit::Done)
}

/// The provider's profile with what people should know of it.
fn profile_of(server: &Value) -> String {
    let profile = &server["profile"];
    match (profile["name"].as_str(), profile["note"].as_str()) {
        (None, _) => "-".to_owned(),
        (Some(name), None) => name.to_owned(),
        (Some(name), Some(note)) => format!("{name} ({note})"),
    }
}

pub(super) async fn journal(api: &Api, journal: &Journal) -> Result<Exit, Failure> {
    let answer = api.get(&format!("{}/journal?limit={}", path_of(&journal.name)?, journal.limit)).await?;
    if journal.output == Output::Json {
        output::json(&answer);
        return Ok(Exit::Done);
    }
    let entries = answer["entries"].as_array().cloned().unwrap_or_default();
    if entries.is_empty() {
        output::line("no attempt yet");
        return Ok(Exit::Done);
    }
    let mut table = output::table(["STARTED", "TRIGGER", "RESULT", "MS", "TOKEN", "NEW TOKEN", "WHAT HAPPENED"]);
    for entry in &entries {
        table.add_row([
            output::text(&entry["started_at"]),
            output::text(&entry["trigger"]),
            output::text(&entry["result"]),
            output::text(&entry["duration_ms"]),
            output::text(&entry["refresh_token"]),
            output::text(&entry["new_refresh_token"]),
            output::text(&entry["message"]),
        ]);
    }
    output::print(&table);
    Ok(Exit::Done)
}
