//! A daemon kept running where the system's own manager does not: what the Windows task starts.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::plan;
use crate::cli::Global;
use crate::daemon_log;
use crate::exit::{Exit, Failure};
use crate::paths::Paths;

/// The pause before a daemon that failed is started again. It doubles while it keeps failing,
const PAUSE_MIN: Duration = Duration::from_secs(5);
/// up to this.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// A daemon that ran for so long is not one that keeps failing.
const STEADY: Duration = Duration::from_secs(60);

/// Runs the daemon, with its log in the data folder, until it ends well or its configuration is wrong.
pub(super) async fn run(global: &Global, paths: &Paths) -> Result<Exit, Failure> {
    let mut pause = PAUSE_MIN;
    loop {
        let began = Instant::now();
        let mut daemon = start(global, paths)?;
        let ended = tokio::select! {
            ended = daemon.wait() => ended.map_err(|error| unusable(&error))?,
            () = told_to_stop() => {
                daemon.kill().await.map_err(|error| unusable(&error))?;
                return Ok(Exit::Done);
            }
        };
        if ended.success() {
            return Ok(Exit::Done);
        }
        if ended.code() == Some(Exit::Usage as i32) {
            let text = format!("the configuration is wrong: see {}", paths.data.join("daemon.log").display());
            return Err(Failure::new(Exit::Usage, text));
        }
        pause = if began.elapsed() >= STEADY { PAUSE_MIN } else { pause };
        tracing::warn!(%ended, ?pause, "the daemon has ended, and is started again");
        tokio::select! {
            () = sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
            () = told_to_stop() => return Ok(Exit::Done),
        }
    }
}

fn start(global: &Global, paths: &Paths) -> Result<Child, Failure> {
    let (_, log) = daemon_log::open(paths).map_err(|error| unusable(&error))?;
    let program = std::env::current_exe().map_err(|error| unusable(&error))?;
    let mut command = Command::new(program);
    command.args(plan::arguments(global, paths)?).args(["--log-format", "json"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
    command.spawn().map_err(|error| unusable(&error))
}

fn unusable(error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("the daemon cannot be run: {error}"))
}

#[cfg(unix)]
async fn told_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};

    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

#[cfg(not(unix))]
async fn told_to_stop() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}
