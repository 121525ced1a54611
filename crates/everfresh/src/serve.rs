//! The daemon: start, ready line, reload, drain.

use std::fs::File;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use clap::Args;
use everfresh_infrastructure::files;
use everfresh_presentation::Server;
use notify::{RecursiveMode, Watcher};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::alive;
use crate::cli::Global;
use crate::compose::{self, Running};
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::loading;
use crate::paths::Paths;
use crate::service::sd;

/// How long the configuration file must be still before it is read: editors write in steps.
const SETTLE: Duration = Duration::from_millis(150);

/// Data-plane threads: requests cost little, and more threads cost memory.
const THREADS_MAX: usize = 4;

/// What a running daemon says of itself in its data folder.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DaemonFile {
    pub(crate) base_url: String,
    pub(crate) pid: u32,
    /// Where the key of its store comes from, for people.
    #[serde(default)]
    pub(crate) key: Option<String>,
}

/// Why the daemon does something.
enum Signal {
    Stop(&'static str),
    Reload,
}

/// Arguments of `serve`.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct Serve {
    /// Stop when standard input ends: whoever started the daemon has gone, or wants that.
    #[arg(long, hide = true)]
    until_stdin_ends: bool,
}

/// Runs the daemon until it is told to stop.
pub(crate) async fn serve(global: &Global, paths: &Paths, wanted: Serve) -> Result<(), Failure> {
    // Before there is any thread: what the environment says of them is taken out of it.
    let passed = sd::passed_listeners()?;
    // Watched before it is read, so that no change falls in between.
    let (changed, mut changes) = mpsc::channel(1);
    let _watcher = watch(&paths.config, changed);
    let config = loading::load(paths, global)?;
    let (tell, mut signals) = mpsc::channel(4);
    hear_signals(tell.clone());
    if wanted.until_stdin_ends {
        hear_stdin(tell);
    }
    let store = compose::open_store(paths, &config)?;
    tracing::info!(key = %store.key_origin, data = %paths.data.display(), "the store is open");
    let key_origin = store.key_origin.to_string();
    let listeners = compose::listeners(&config, passed)?;
    let address = listeners.first().and_then(|listener| listener.local_addr().ok());
    let address = reachable(address.ok_or_else(|| Failure::new(Exit::Failed, "no address to listen on"))?);
    let running = compose::start(paths, &config, store, address).await?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let failed = |error: std::io::Error| Failure::new(Exit::Failed, format!("the listeners cannot be used: {error}"));
    let server = Server::start(&listeners, running.surfaces.clone(), threads).map_err(failed)?;
    drop(listeners);
    running.surfaces.notices.watch();
    let _alive = announce(paths, address, key_origin);
    sd::ready(&running.application);
    sd::keep_told(&running.application);
    running.application.attend().await;
    let mut live = config;
    loop {
        let signal = tokio::select! {
            Some(signal) = signals.recv() => signal,
            Some(()) = changes.recv() => {
                tokio::time::sleep(SETTLE).await;
                while changes.try_recv().is_ok() {}
                Signal::Reload
            }
        };
        match signal {
            Signal::Stop(name) => {
                tracing::info!(signal = name, "stopping: answers and refreshes under way are waited for");
                sd::stopping();
                break;
            }
            Signal::Reload => {
                sd::reloading();
                reload(global, paths, &running, &mut live).await;
                sd::ready(&running.application);
            }
        }
    }
    // Attempts first: their tokens must be stored, whatever clients still stream.
    tokio::join!(running.application.shutdown(), running.surfaces.notices.shutdown());
    server.shutdown().await;
    drop(std::fs::remove_file(paths.daemon()));
    tracing::info!("stopped");
    Ok(())
}

/// Where this machine reaches a listener: what listens on every address does so on loopback too, and
/// under no other name is anybody let in without being asked for it.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Says that the daemon is ready: to whoever started it, and to commands of this data folder, which believe
/// it while the file is held.
fn announce(paths: &Paths, address: SocketAddr, key_origin: String) -> Option<File> {
    let untold =
        |error: std::io::Error| tracing::warn!(%error, "commands will not find this daemon by its data folder");
    let alive = alive::hold(paths).map_err(untold).ok();
    let base_url = format!("http://{address}");
    let told = DaemonFile { base_url: base_url.clone(), pid: std::process::id(), key: Some(key_origin) };
    let json = serde_json::to_vec(&told).unwrap_or_default();
    files::write_private(&paths.daemon(), &json).unwrap_or_else(untold);
    let mut out = std::io::stdout().lock();
    let written = writeln!(out, "listening on {base_url}").and_then(|()| out.flush());
    // Nobody may be reading.
    drop(written);
    tracing::info!(url = base_url, "listening");
    alive
}

/// Takes over a new version of the configuration file, or says why not.
async fn reload(global: &Global, paths: &Paths, running: &Running, live: &mut Config) {
    let application = &running.application;
    let next = match loading::load(paths, global) {
        Ok(next) => next,
        Err(failure) => {
            let text = format!("{}; the version before it stays in force", failure.text);
            tracing::error!(problem = text, "the new configuration is refused");
            application.set_config_problem(Some(text));
            return;
        }
    };
    application.set_config_problem(None);
    if next == *live {
        return;
    }
    let fixed = |config: &Config| {
        let (listen, hosts) = (config.listen.clone(), config.allowed_hosts.clone());
        (listen, config.local_key, hosts, config.redirect_host.clone())
    };
    if fixed(&next) != fixed(live) {
        tracing::warn!("listen, local_key, allowed_hosts and redirect_host change with the next start");
    }
    application.set_policy(next.policy.clone()).await;
    if next.notify != live.notify || next.servers != live.servers {
        running.surfaces.notices.configure(running.ways.settings(&next)).await;
    }
    if let Err(error) = application.replace_file_servers(next.servers.clone()).await {
        tracing::error!(%error, "the new configuration is in force, but not all of its logins could be read");
    }
    tracing::info!(servers = next.servers.len(), "the new configuration is in force");
    *live = next;
}

/// Tells of changes of the configuration file; its folder is watched, since editors replace files.
fn watch(path: &Path, changed: mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
    let folder = path.parent().filter(|folder| folder.is_dir())?;
    let name = path.file_name()?.to_owned();
    let tell = move |event: notify::Result<notify::Event>| {
        let about_it = event.is_ok_and(|event| {
            !event.kind.is_access() && event.paths.iter().any(|path| path.file_name() == Some(&name))
        });
        if about_it {
            // A change that waits already stands for this one.
            let _ = changed.try_send(());
        }
    };
    let mut watcher = notify::recommended_watcher(tell).ok()?;
    let watching = watcher.watch(folder, RecursiveMode::NonRecursive);
    watching.inspect_err(|error| tracing::warn!(%error, "changes of the configuration need a SIGHUP")).ok()?;
    Some(watcher)
}

#[cfg(unix)]
fn hear_signals(tell: mpsc::Sender<Signal>) {
    use tokio::signal::unix::{SignalKind, signal};

    let kinds: [(SignalKind, fn() -> Signal); 3] = [
        (SignalKind::terminate(), || Signal::Stop("SIGTERM")),
        (SignalKind::interrupt(), || Signal::Stop("SIGINT")),
        (SignalKind::hangup(), || Signal::Reload),
    ];
    for (kind, told) in kinds {
        let tell = tell.clone();
        let Ok(mut incoming) = signal(kind) else { continue };
        tokio::spawn(async move {
            while incoming.recv().await.is_some() {
                drop(tell.send(told()).await);
            }
        });
    }
}

#[cfg(windows)]
fn hear_signals(tell: mpsc::Sender<Signal>) {
    use tokio::signal::windows;

    tokio::spawn(async move {
        let (Ok(mut pressed), Ok(mut broken), Ok(mut closed)) =
            (windows::ctrl_c(), windows::ctrl_break(), windows::ctrl_close())
        else {
            return;
        };
        let name = tokio::select! {
            _ = pressed.recv() => "Ctrl-C",
            _ = broken.recv() => "Ctrl-Break",
            _ = closed.recv() => "the console's end",
        };
        drop(tell.send(Signal::Stop(name)).await);
    });
}

/// Tells of the end of standard input, on a thread of its own: its reading cannot be called off.
fn hear_stdin(tell: mpsc::Sender<Signal>) {
    let hear = move || {
        drop(std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()));
        drop(tell.blocking_send(Signal::Stop("the end of standard input")));
    };
    if let Err(error) = std::thread::Builder::new().name("stdin".to_owned()).spawn(hear) {
        tracing::warn!(%error, "the daemon will not notice the end of whoever started it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_reached_on_loopback() {
        let cases = [
            ("0.0.0.0:7411", "127.0.0.1:7411"),
            ("[::]:7411", "[::1]:7411"),
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("10.0.0.7:80", "10.0.0.7:80"),
        ];
        for (address, expected) in cases {
            assert_eq!(reachable(address.parse().unwrap()).to_string(), expected);
        }
    }
}
