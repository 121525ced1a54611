//! How the service is: as its manager sees it, and as the daemon says.

use std::time::Duration;

use serde_json::{Value, json};

use super::manager::{Manager, State};
use crate::cli::{Global, Output};
use crate::client::{Api, Need, absence, running_daemon, told};
use crate::exit::{Exit, Failure};
use crate::output::{self, Look};
use crate::paths::Paths;

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
    let mut seen = Seen { base_url, pid: told(paths).map(|told| told.pid), ..Seen::default() };
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
        Output::Table => output::line(people(manager, &state, seen.as_ref(), paths, Look::of_stdout())),
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

/// Where what is said of each thing begins.
const WORDS_AT: usize = 11;

/// The same for people.
fn people(manager: &dyn Manager, state: &State, seen: Option<&Seen>, paths: &Paths, look: Look) -> String {
    let mut told = vec![("installed", installation(manager, state)), ("service", running(state))];
    told.extend(state.words.iter().map(|words| ("says", words.clone())));
    match seen {
        None => told.push(("daemon", absence(paths))),
        Some(seen) => {
            let version = seen.version.as_deref().unwrap_or("unknown");
            let ready = if seen.ready { "ready" } else { "not ready" };
            told.push(("daemon", format!("{}, version {version}, {ready}", seen.base_url)));
            told.extend(seen.reasons.iter().map(|reason| ("", reason.clone())));
            told.extend(remark(seen, is_ours(state, seen), env!("CARGO_PKG_VERSION")).map(|remark| ("", remark)));
        }
    }
    told.push(("log", manager.log(&paths.data)));
    let lines = told.iter().map(|(what, words)| format!("{what:<WORDS_AT$}{}", look.wrapped(words, WORDS_AT)));
    lines.collect::<Vec<_>>().join("\n")
}

fn installation(manager: &dyn Manager, state: &State) -> String {
    let Some(path) = &state.definition else { return "no: everfresh service install".to_owned() };
    let login = if state.enabled { "starts at login" } else { "does not start at login" };
    format!("{} ({}), {login}", path.display(), manager.name())
}

fn running(state: &State) -> String {
    let pid = state.pid.map(|pid| format!(", pid {pid}")).unwrap_or_default();
    let since = state.since.map(|since| format!(", since {}", output::both(crate::commands::now(), &json!(since))));
    format!("{}{pid}{}", state.details, since.unwrap_or_default())
}

/// What is to be known of the daemon beside this program, which has version `own`.
fn remark(seen: &Seen, ours: bool, own: &str) -> Option<String> {
    if !ours {
        let pid = seen.pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
        return Some(format!("it was not started by this service{pid}"));
    }
    let is_other = seen.version.as_deref().is_some_and(|version| version != own);
    is_other.then(|| format!("this program is {own}: everfresh service restart"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(running: Option<bool>, pid: Option<u32>) -> State {
        State { definition: Some("/unit".into()), running, pid, ..State::default() }
    }

    #[test]
    fn a_daemon_is_the_services_own_where_the_manager_says_so() {
        let seen = |pid| Seen { pid, ..Seen::default() };
        let cases = [
            (state(Some(true), Some(7)), seen(Some(7)), true),
            (state(Some(true), Some(7)), seen(Some(8)), false),
            (state(Some(true), Some(7)), seen(None), true),
            (state(Some(false), Some(7)), seen(Some(7)), false),
            (state(Some(true), None), seen(Some(8)), true),
            (state(Some(false), None), seen(Some(8)), false),
            (state(None, None), seen(Some(8)), true),
            (State::default(), seen(Some(8)), false),
        ];
        for (state, seen, expected) in cases {
            assert_eq!(is_ours(&state, &seen), expected, "{state:?} {seen:?}");
        }
    }

    #[test]
    fn a_daemon_of_another_version_or_of_somebody_else_is_remarked_on() {
        let seen = Seen { version: Some("0.1.0".to_owned()), pid: Some(7), ..Seen::default() };
        assert_eq!(remark(&seen, true, "0.1.0"), None);
        assert_eq!(remark(&Seen { version: None, ..Seen::default() }, true, "0.1.0"), None);
        assert_eq!(remark(&seen, true, "0.2.0").unwrap(), "this program is 0.2.0: everfresh service restart");
        assert_eq!(remark(&seen, false, "0.2.0").unwrap(), "it was not started by this service (pid 7)");
    }
}
