//! What there is and how it is, in one line each.

mod change;
mod table;
mod watch;

use serde_json::Value;

use super::{NOT_RUNNING, now};
use crate::cli::{Global, List, Output};
use crate::client::Api;
use crate::exit::{Exit, Failure};
use crate::explain;
use crate::output::{self, Look};
use crate::paths::Paths;

pub(crate) use change::Change;

/// Lists once.
pub(super) async fn list(api: &Api, list: List) -> Result<Exit, Failure> {
    let answer = api.get("/api/v1/servers").await?;
    match list.output {
        Output::Json => output::json(&answer),
        Output::Table => {
            let mut problems = problems_of(&answer);
            if !api.is_daemon() && !servers_of(&answer).is_empty() {
                problems.push(NOT_RUNNING.to_owned());
            }
            output::line(table::rendered(servers_of(&answer), &problems, now(), Look::of_stdout()));
            if let Some(hint) = explain::hint(servers_of(&answer)) {
                output::note(hint);
            }
        }
    }
    Ok(if list.check { worst(&answer, api.is_daemon()) } else { Exit::Done })
}

/// Lists anew with every change, until told to end.
pub(super) async fn watch(global: &Global, paths: &Paths, list: List) -> Result<Exit, Failure> {
    watch::watch(global, paths, list.output).await
}

fn servers_of(answer: &Value) -> &[Value] {
    answer["servers"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn problems_of(answer: &Value) -> Vec<String> {
    output::texts(&answer["problems"]).into_iter().map(str::to_owned).collect()
}

/// The exit code for the worst there is: logins that nobody keeps fresh are not well either.
fn worst(answer: &Value, is_kept_fresh: bool) -> Exit {
    let levels = || servers_of(answer).iter().map(|server| &server["health"]["level"]);
    if levels().any(|level| level == "unhealthy") {
        Exit::Unhealthy
    } else if levels().any(|level| level == "degraded") {
        Exit::Degraded
    } else if !is_kept_fresh && !servers_of(answer).is_empty() {
        Exit::NoDaemon
    } else {
        Exit::Done
    }
}
