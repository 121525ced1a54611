//! Whether the daemon is ready, as an exit code: for health checks of containers, and for scripts.

use std::time::Duration;

use clap::Args;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::cli::Global;
use crate::client::{absence, http_client, running_daemon, told};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::paths::Paths;

/// How often it is asked while waiting.
const LOOK: Duration = Duration::from_millis(200);

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(3);

/// Arguments of `everfresh ready`.
#[derive(Debug, Args)]
pub(crate) struct Ready {
    /// How long to wait for it.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    wait: Option<Duration>,
}

/// Ends well once the daemon is ready: store, engine and listener work. Needs no key.
pub(crate) async fn ready(global: &Global, paths: &Paths, wanted: &Ready) -> Result<Exit, Failure> {
    let deadline = Instant::now() + wanted.wait.unwrap_or_default();
    loop {
        match ask(global, paths).await {
            Ok(base_url) => {
                output::line(format!("ready at {base_url}"));
                return Ok(Exit::Done);
            }
            Err(failure) if Instant::now() >= deadline => return Err(failure),
            Err(_) => sleep(LOOK).await,
        }
    }
}

async fn ask(global: &Global, paths: &Paths) -> Result<String, Failure> {
    let Some(base_url) = running_daemon(global, paths).await else {
        let text = match (global.listen, told(paths)) {
            (Some(address), _) => format!("no daemon answers at {address}; start it with: everfresh serve"),
            (None, Some(_)) => format!("the daemon {}; look closer with: everfresh doctor", absence(paths)),
            (None, None) => format!("no daemon runs on {}; start it with: everfresh serve", paths.data.display()),
        };
        return Err(Failure::new(Exit::NoDaemon, text));
    };
    let gone = |error: reqwest::Error| {
        Failure::new(Exit::NoDaemon, format!("the daemon at {base_url} does not answer: {}", error.without_url()))
    };
    let answer = http_client().get(format!("{base_url}/readyz")).timeout(ANSWER).send().await.map_err(gone)?;
    if answer.status().is_success() {
        return Ok(base_url);
    }
    let text = answer.text().await.map_err(gone)?;
    let reasons = serde_json::from_str::<Value>(&text).unwrap_or_default();
    let reasons: Vec<&str> = reasons["reasons"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    Err(Failure::new(Exit::Failed, format!("the daemon at {base_url} is not ready: {}", reasons.join("; "))))
}
