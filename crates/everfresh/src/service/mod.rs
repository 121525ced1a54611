//! The daemon in the background: installed with the user's own service manager, and looked after.
//!
//! A user's, never the system's: the logins, the keychain and the data folder are the user's.

mod keeper;
mod launchd;
mod manager;
mod plan;
pub(crate) mod ready;
mod run;
pub(crate) mod sd;
mod status;
mod systemd;
mod task;

use std::path::Path;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use everfresh_infrastructure::files;
use tokio::time::{Instant, sleep};

use crate::cli::{Global, Output};
use crate::compose;
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::loading;
use crate::output;
use crate::paths::Paths;
use manager::Manager;
use plan::Plan;

/// How long the daemon may take to be ready, and to end.
const PATIENCE: Duration = Duration::from_secs(90);

/// How often it is looked whether it is.
const LOOK: Duration = Duration::from_millis(100);

/// What is to be done with the service.
#[derive(Debug, Subcommand)]
pub(crate) enum Service {
    /// Install it for this user, and start it. What is installed already is brought up to date.
    Install(Install),
    /// Stop and remove it. Logins and configuration stay.
    Uninstall(With),
    /// Start it.
    Start(With),
    /// Stop it, until the next login.
    Stop(With),
    /// Start it anew, as after an upgrade.
    Restart(With),
    /// Say how it is. Exits with 0 if it runs and is ready, 1 if something is wrong, 6 if it does not run.
    Status(Status),
    /// Run the daemon and start it again when it fails, with its log in the data folder.
    #[command(hide = true)]
    Run,
}

/// Which manager.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct With {
    /// The service manager, where not this system's own.
    #[arg(long, hide = true, value_name = "MANAGER")]
    manager: Option<Kind>,
}

/// Arguments of `service install`.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Install {
    /// Print what would be installed, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not start it.
    #[arg(long)]
    no_start: bool,
    /// Let systemd hold the listener, so that clients wait while the daemon is restarted.
    #[arg(long)]
    socket: bool,
    #[command(flatten)]
    with: With,
}

/// Arguments of `service status`.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Status {
    /// How to print it.
    #[arg(short, long, default_value = "table")]
    output: Output,
    #[command(flatten)]
    with: With,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Systemd,
    Launchd,
    Task,
}

impl Kind {
    const fn native() -> Self {
        if cfg!(windows) {
            Self::Task
        } else if cfg!(target_os = "macos") {
            Self::Launchd
        } else {
            Self::Systemd
        }
    }
}

impl With {
    fn manager(self, data: &Path) -> Box<dyn Manager> {
        match self.manager.unwrap_or(const { Kind::native() }) {
            Kind::Systemd => Box::new(systemd::Systemd::new()),
            Kind::Launchd => Box::new(launchd::Launchd::new()),
            Kind::Task => Box::new(task::Tasks::new(data)),
        }
    }
}

/// Runs a command on the service.
pub(crate) async fn service(global: &Global, paths: &Paths, command: &Service) -> Result<Exit, Failure> {
    match command {
        Service::Install(wanted) => install(global, paths, *wanted).await,
        Service::Uninstall(with) => uninstall(global, paths, &*with.manager(&paths.data)).await,
        Service::Start(with) => start(global, paths, &*with.manager(&paths.data)).await,
        Service::Stop(with) => stop(global, paths, &*with.manager(&paths.data)).await,
        Service::Restart(with) => {
            let manager = with.manager(&paths.data);
            stop(global, paths, &*manager).await?;
            start(global, paths, &*manager).await
        }
        Service::Status(wanted) => {
            status::status(global, paths, &*wanted.with.manager(&paths.data), wanted.output).await
        }
        Service::Run => run::run(global, paths).await,
    }
}

fn manager_for(wanted: Install, paths: &Paths, config: &Config) -> Result<Box<dyn Manager>, Failure> {
    if !wanted.socket {
        return Ok(wanted.with.manager(&paths.data));
    }
    if wanted.with.manager.unwrap_or(const { Kind::native() }) != Kind::Systemd {
        return Err(Failure::new(Exit::Usage, "--socket is for systemd; other managers pass no sockets"));
    }
    let mut systemd = systemd::Systemd::new();
    systemd.socket = Some(config.listen.clone());
    Ok(Box::new(systemd))
}

async fn install(global: &Global, paths: &Paths, wanted: Install) -> Result<Exit, Failure> {
    let config = loading::load(paths, global)?;
    let plan = Plan::of(global, paths, &config)?;
    let manager = manager_for(wanted, paths, &config)?;
    if wanted.dry_run {
        return show(&*manager, &plan, &config);
    }
    manager.check()?;
    warn(&plan, &config);
    // The sandbox opens the data folder, so it must be there.
    files::create_private_folder(&plan.data)
        .map_err(|error| Failure::new(Exit::Store, format!("{} cannot be made: {error}", plan.data.display())))?;
    let text = manager.render(&plan)?;
    let definition = manager.definition()?;
    let before = std::fs::read_to_string(&definition).ok();
    let state = manager.state()?;
    let same = before.as_ref() == Some(&text) && state.enabled && manager.companions().is_empty();
    if same {
        output::line(format!("{}: installed already, and as it should be", definition.display()));
    } else {
        let ours = status::daemon(global, paths).await.is_some_and(|seen| status::is_ours(&state, &seen));
        if state.running.unwrap_or(ours) && state.definition.is_some() {
            stop(global, paths, &*manager).await?;
        }
        manager.install(&plan, text)?;
        let what = if before.is_some() { "brought up to date" } else { "installed; it starts when you log in" };
        output::line(format!("{}: {what}", definition.display()));
    }
    if !wanted.no_start {
        if let Some(seen) = status::daemon(global, paths).await {
            return Ok(found(&*manager, &seen));
        }
        if !wanted.socket {
            // What stands in the way is told before the service fails for it.
            drop(compose::bind(&config)?);
        }
        start(global, paths, &*manager).await?;
    }
    manager.hints().iter().for_each(output::note);
    Ok(Exit::Done)
}

/// Says which daemon runs already.
fn found(manager: &dyn Manager, seen: &status::Seen) -> Exit {
    if manager.state().is_ok_and(|state| status::is_ours(&state, seen)) {
        output::line(format!("it runs at {}", seen.base_url));
        return Exit::Done;
    }
    let pid = seen.pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
    output::note(format!(
        "a daemon that this service has not started runs at {}{pid}: stop that one, then `everfresh service start`",
        seen.base_url
    ));
    Exit::Done
}

fn show(manager: &dyn Manager, plan: &Plan, config: &Config) -> Result<Exit, Failure> {
    warn(plan, config);
    let definition = manager.definition()?;
    output::line(format!("# {}", definition.display()));
    output::line(manager.render(plan)?.trim_end());
    for (name, text) in manager.companions() {
        output::line(format!("\n# {}", definition.with_file_name(name).display()));
        output::line(text.trim_end());
    }
    Ok(Exit::Done)
}

fn warn(plan: &Plan, config: &Config) {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    for warning in plan::warnings(plan, config, set) {
        output::note(format!("warning: {warning}"));
    }
}

async fn uninstall(global: &Global, paths: &Paths, manager: &dyn Manager) -> Result<Exit, Failure> {
    manager.check()?;
    let definition = manager.definition()?;
    let state = manager.state()?;
    if !definition.exists() {
        let other = state.definition.map_or_else(
            || "it is not installed".to_owned(),
            |path| {
                format!(
                    "{} comes with a package; remove that, or: systemctl --user disable --now everfresh",
                    path.display()
                )
            },
        );
        output::line(other);
        return Ok(Exit::Done);
    }
    let daemon = status::daemon(global, paths).await;
    let was_ours = daemon.is_some_and(|seen| status::is_ours(&state, &seen));
    manager.uninstall()?;
    if was_ours {
        until_gone(global, paths).await?;
    }
    output::line(format!("{}: removed; the daemon is stopped", definition.display()));
    output::line(format!("logins and keys stay in {}", paths.data.display()));
    Ok(Exit::Done)
}

fn installed(manager: &dyn Manager) -> Result<manager::State, Failure> {
    manager.check()?;
    let state = manager.state()?;
    match &state.definition {
        Some(_) => Ok(state),
        None => Err(Failure::new(Exit::Failed, "the service is not installed: everfresh service install")),
    }
}

async fn start(global: &Global, paths: &Paths, manager: &dyn Manager) -> Result<Exit, Failure> {
    installed(manager)?;
    if let Some(seen) = status::daemon(global, paths).await {
        return Ok(found(manager, &seen));
    }
    let log = manager.log(&paths.data);
    let hint = |failure: Failure| Failure { text: format!("{}\nits log: {log}", failure.text), ..failure };
    manager.start().map_err(hint)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = status::daemon(global, paths).await {
            output::line(format!("it runs at {}", seen.base_url));
            return Ok(Exit::Done);
        }
        if Instant::now() >= deadline {
            return Err(hint(Failure::new(Exit::NoDaemon, "the service is started, and its daemon does not answer")));
        }
        sleep(LOOK).await;
    }
}

async fn stop(global: &Global, paths: &Paths, manager: &dyn Manager) -> Result<Exit, Failure> {
    let state = installed(manager)?;
    let daemon = status::daemon(global, paths).await;
    let was_ours = daemon.is_some_and(|seen| status::is_ours(&state, &seen));
    manager.stop()?;
    if was_ours {
        until_gone(global, paths).await?;
    }
    output::line("stopped");
    Ok(Exit::Done)
}

/// Waits until no daemon answers: what it had under way is stored then.
async fn until_gone(global: &Global, paths: &Paths) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    while status::daemon(global, paths).await.is_some() {
        if Instant::now() >= deadline {
            return Err(Failure::new(Exit::Failed, "the daemon was told to stop, and still answers"));
        }
        sleep(LOOK).await;
    }
    Ok(())
}
