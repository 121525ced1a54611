//! A daemon kept running where the system's own manager does not: what the Windows task starts.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{Instant, sleep, timeout};

use super::keeper::Keeper;
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

/// How long a daemon that is told to end may take: less than whoever stops the service waits.
const ENDING: Duration = Duration::from_secs(80);

/// Runs the daemon, with its log in the data folder, until it is told to stop, it ends well or its
/// configuration is wrong.
pub(super) async fn run(global: &Global, paths: &Paths) -> Result<Exit, Failure> {
    let keeper = Keeper::of(&paths.data);
    let _held = keeper.hold().await?;
    let mut pause = PAUSE_MIN;
    loop {
        let began = Instant::now();
        let (mut daemon, pipe) = start(global, paths)?;
        let ended = tokio::select! {
            ended = daemon.wait() => ended.map_err(|error| unusable(&error))?,
            () = told_to_stop(&keeper) => {
                end(daemon, pipe).await.map_err(|error| unusable(&error))?;
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
            () = told_to_stop(&keeper) => return Ok(Exit::Done),
        }
    }
}

/// Starts a daemon that ends, in its own time, once the pipe is closed that comes with it: by this
/// process, or with it.
fn start(global: &Global, paths: &Paths) -> Result<(Child, Option<ChildStdin>), Failure> {
    let (_, log) = daemon_log::open(paths).map_err(|error| unusable(&error))?;
    let program = std::env::current_exe().map_err(|error| unusable(&error))?;
    let mut command = Command::new(program);
    command.args(plan::arguments(global, paths)?).args(["--log-format", "json", "--until-stdin-ends"]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
    let mut daemon = command.spawn().map_err(|error| unusable(&error))?;
    // Taken out of it: whoever waits for a child closes what is left in there.
    let pipe = daemon.stdin.take();
    Ok((daemon, pipe))
}

/// Ends the daemon. What it has under way is stored, unless it takes too long.
async fn end(mut daemon: Child, pipe: Option<ChildStdin>) -> std::io::Result<()> {
    drop(pipe);
    match timeout(ENDING, daemon.wait()).await {
        Ok(ended) => ended.map(drop),
        Err(_) => daemon.kill().await,
    }
}

async fn told_to_stop(keeper: &Keeper) {
    tokio::select! {
        () = signalled() => {}
        () = keeper.asked() => {}
    }
}

fn unusable(error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("the daemon cannot be run: {error}"))
}

#[cfg(unix)]
async fn signalled() {
    use tokio::signal::unix::{SignalKind, signal};

    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

#[cfg(not(unix))]
async fn signalled() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}
