//! One server: switched, refreshed, logged out, removed, reached.

use serde_json::Value;

use super::{now, path_of};
use crate::cli::Output;
use crate::client::Api;
use crate::exit::{Exit, Failure};
use crate::keys;
use crate::output::{self, progress};

pub(super) async fn logout(api: &Api, name: &str) -> Result<Exit, Failure> {
    api.post(&format!("{}/logout", path_of(name)?), None).await?;
    output::line(format!("{name}: logged out; its tokens are erased"));
    Ok(Exit::Done)
}

pub(super) async fn remove(api: &Api, name: &str) -> Result<Exit, Failure> {
    api.delete(&path_of(name)?).await?;
    let what = if name.contains('@') { "its login is removed" } else { "removed with its logins" };
    output::line(format!("{name}: {what}"));
    Ok(Exit::Done)
}

pub(super) async fn switch(api: &Api, name: &str, to: &str) -> Result<Exit, Failure> {
    api.post(&format!("{}/{to}", path_of(name)?), None).await?;
    output::line(format!("{name}: {to}d"));
    Ok(Exit::Done)
}

pub(super) async fn refresh(api: &Api, name: &str, format: Output) -> Result<Exit, Failure> {
    let path = format!("{}/refresh", path_of(name)?);
    let answer = progress::during(&format!("{name}: asking the provider"), api.post(&path, None)).await?;
    let is_refreshed = answer["outcome"] == "refreshed";
    match format {
        // Also where it failed: how the login is stands in it.
        Output::Json => output::json(&answer),
        Output::Table if is_refreshed => {
            let ends = output::both(now(), &answer["server"]["token"]["expires_at"]);
            output::line(format!("{name}: refreshed; the new token ends at {ends}"));
        }
        Output::Table => {}
    }
    match is_refreshed {
        true => Ok(Exit::Done),
        false => Err(not_well(name, &answer["server"]["health"], "everfresh refresh")),
    }
}

/// What is wrong with a login, and the command that helps, unless that is `command`, which just did not.
pub(super) fn not_well(name: &str, health: &Value, command: &str) -> Failure {
    let detail = sentence(&health["detail"]);
    let mut text = format!("{name}: {}", sentence(&health["summary"]));
    if !detail.is_empty() {
        text += &format!(". {detail}");
    }
    if let Some(helps) = health["command"].as_str().filter(|helps| !helps.starts_with(command)) {
        text += &format!(". Run: {helps}");
    }
    Failure::new(exit_for(health), text)
}

/// A text without the full stop at its end, so that something can follow.
pub(super) fn sentence(text: &Value) -> String {
    text.as_str().unwrap_or_default().trim_end_matches('.').to_owned()
}

/// The exit code that a health's action stands for.
pub(super) fn exit_for(health: &Value) -> Exit {
    match (health["action"].as_str(), health["reason"].as_str()) {
        (Some("login"), _) => Exit::LoginNeeded,
        (_, Some("credential_refused")) => Exit::Refused,
        (_, Some("misconfigured")) => Exit::Usage,
        (_, Some("retrying_network" | "retrying_provider" | "rate_limited")) => Exit::Unreachable,
        (_, Some("store_write_failed" | "store_unreadable")) => Exit::Store,
        (_, Some("disabled")) => Exit::Refused,
        _ => Exit::Failed,
    }
}

pub(super) async fn url(api: &Api, name: &str, whom: Option<&str>) -> Result<Exit, Failure> {
    api.get(&path_of(name)?).await?;
    if !api.is_daemon() {
        output::note("No daemon runs: nobody answers there until one does. Start it with: everfresh serve");
    }
    output::note("For clients that can send headers:");
    output::note(format!("  {}/mcp/{name}   with   Authorization: Bearer <key>", api.base_url()));
    let Some(whom) = whom else {
        output::note(
            "For all others, with the local key in it, which opens everything (keep it to yourself, or give a",
        );
        output::note(format!("client one of its own: everfresh url {name} --for CLIENT):"));
        output::line(format!("{}/k/{}/mcp/{name}", api.base_url(), api.key()));
        return Ok(Exit::Done);
    };
    let (key, words) = keys::make_for(api, whom, name).await?;
    output::note("For all others, with a key in it:");
    output::line(format!("{}/k/{}/mcp/{name}", api.base_url(), key.expose()));
    output::note(format!("{words} It is shown this once; to end it: everfresh key remove {whom}"));
    Ok(Exit::Done)
}
