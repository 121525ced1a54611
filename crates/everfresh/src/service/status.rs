//! How the service is: as its manager sees it, and as the daemon says.

use std::time::Duration;

use serde_json::{Value, json};

use super::manager::{Manager, State};
use crate::cli::{Global, Output};
use crate::client::{Api, Need, running_daemon};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::paths::Paths;
use crate::serve::DaemonFile;

/// How long the daemon may take to say how it is.
const ANSWER: Duration = Duration::from_secs(5);

/// The daemon of this data folder, whoever started it.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) base_url: String,
    pub(super) pid: Option<u32>,
    pub(super) version: Option<String>,
    pub(super) ready: bool,
    pub(super) reasons: Vec<String>,
}

/// Looks for the daemon where its folder says that it listens, wherever the next one shall listen.
pub(super) async fn daemon(global: &Global, paths: &Paths) -> Option<Seen> {
    let global = &Global { listen: None, ..global.clone() };
    let base_url = running_daemon(global, paths).await?;
    let told = std::fs::read(paths.daemon()).ok().and_then(|json| serde_json::from_slice::<DaemonFile>(&json).ok());
    let mut seen = Seen { base_url, pid: told.map(|told| told.pid), ..Seen::default() };
    let status = async {
        let api = Api::open(global, paths, Need::Look).await?;
        api.get("/api/v1/status").await
    };
    let status = match tokio::time::timeout(ANSWER, status).await {
        Ok(Ok(status)) => status,
        Ok(Err(failure)) => {
            seen.reasons.push(failure.text);
            return Some(seen);
        }
        Err(_) => {
            seen.reasons.push(format!("it has not said within {} s how it is", ANSWER.as_secs()));
            return Some(seen);
        }
    };
    seen.version = status["version"].as_str().map(str::to_owned);
    seen.ready = status["ready"] == true;
    let reasons = status["reasons"].as_array().into_iter().flatten().filter_map(Value::as_str);
    seen.reasons.extend(reasons.map(str::to_owned));
    Some(seen)
}

/// Whether the daemon that is seen is the service's own.
pub(super) fn is_ours(state: &State, seen: &Seen) -> bool {
    match (state.running, state.pid) {
        (Some(running), None) => running,
        (Some(running), Some(pid)) => running && seen.pid.is_none_or(|seen| seen == pid),
        // A manager that does not say: the daemon of an installed service is taken for it.
        (None, _) => state.definition.is_some(),
    }
}

/// Prints how the service is. 0: it runs and is ready. 1: it runs, and something is wrong. 6: it does
/// not run.
pub(super) async fn status(
    global: &Global,
    paths: &Paths,
    manager: &dyn Manager,
    format: Output,
) -> Result<Exit, Failure> {
    let seen = daemon(global, paths).await;
    // Without a manager there may be a daemon all the same.
    let state = match manager.check().and_then(|()| manager.state()) {
        Ok(state) => state,
        Err(failure) if seen.is_none() => return Err(failure),
        Err(failure) => State { running: Some(false), details: failure.text, ..State::default() },
    };
    let ours = seen.as_ref().filter(|seen| is_ours(&state, seen));
    match format {
        Output::Json => output::json(&machine(manager, &state, seen.as_ref(), paths)),
        Output::Table => people(manager, &state, seen.as_ref(), ours.is_some(), paths),
    }
    Ok(match ours {
        Some(seen) if seen.ready => Exit::Done,
        Some(_) => Exit::Failed,
        None => Exit::NoDaemon,
    })
}

fn machine(manager: &dyn Manager, state: &State, seen: Option<&Seen>, paths: &Paths) -> Value {
    let ours = seen.filter(|seen| is_ours(state, seen));
    json!({
        "manager": manager.name(),
        "installed": state.definition.is_some(),
        "definition": state.definition,
        "starts_at_login": state.enabled,
        "running": state.running.unwrap_or_else(|| ours.is_some()),
        "pid": state.pid.or_else(|| ours.and_then(|seen| seen.pid)),
        "since": state.since,
        "words": state.words,
        "details": state.details,
        "log": manager.log(&paths.data),
        "daemon": seen.map(|seen| json!({
            "base_url": seen.base_url,
            "pid": seen.pid,
            "version": seen.version,
            "ready": seen.ready,
            "reasons": seen.reasons,
            "is_service": is_ours(state, seen),
        })),
    })
}

fn people(manager: &dyn Manager, state: &State, seen: Option<&Seen>, ours: bool, paths: &Paths) {
    match &state.definition {
        Some(path) => {
            let login = if state.enabled { "starts at login" } else { "does not start at login" };
            output::line(format!("installed  {} ({}), {login}", path.display(), manager.name()));
        }
        None => output::line("installed  no: everfresh service install"),
    }
    let mut running = state.details.clone();
    if let Some(pid) = state.pid {
        running.push_str(&format!(", pid {pid}"));
    }
    if let Some(since) = state.since {
        let words = output::relative(crate::commands::now(), &json!(since));
        running.push_str(&format!(", since {since} ({words})"));
    }
    output::line(format!("service    {running}"));
    if let Some(words) = &state.words {
        output::line(format!("says       {words}"));
    }
    let Some(seen) = seen else {
        output::line("daemon     does not answer");
        return output::line(format!("log        {}", manager.log(&paths.data)));
    };
    let version = seen.version.as_deref().unwrap_or("unknown");
    let ready = if seen.ready { "ready" } else { "not ready" };
    output::line(format!("daemon     {}, version {version}, {ready}", seen.base_url));
    for reason in &seen.reasons {
        output::line(format!("           {reason}"));
    }
    if !ours {
        let pid = seen.pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
        output::line(format!("           it was not started by this service{pid}"));
    } else if seen.version.as_deref().is_some_and(|version| version != env!("CARGO_PKG_VERSION")) {
        let this = env!("CARGO_PKG_VERSION");
        output::line(format!("           this program is {this}: everfresh service restart"));
    }
    output::line(format!("log        {}", manager.log(&paths.data)));
}
