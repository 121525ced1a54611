//! What a service manager that listens is told, and what it passes: readiness, state and life by
//! sd_notify(3), sockets by sd_listen_fds(3). Where none listens, nobody is told.
//!
//! That the daemon lives is said only after its driver has answered: a timer alone would say so of a
//! daemon that refreshes nothing.

use std::net::TcpListener;
use std::time::Duration;

use everfresh_application::Application;
use everfresh_domain::health::{AdminState, HealthAction, Level};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::MissedTickBehavior;

use crate::exit::Failure;

/// How long changes are gathered before they are told.
const SETTLE: Duration = Duration::from_millis(200);

/// One thing to tell.
#[derive(Debug)]
enum News {
    /// Store, engine and listener work.
    Ready,
    /// The configuration is being read again.
    Reloading,
    /// Nothing more is begun.
    Stopping,
    /// The driver has just answered.
    Alive,
    /// A line for people.
    Status(String),
}

/// Says that everything works, and how the logins are.
pub(crate) fn ready(application: &Application) {
    tell(&[News::Ready, News::Status(status_of(application))]);
}

/// Says that the configuration is being read again; [`ready`] ends it.
pub(crate) fn reloading() {
    tell(&[News::Reloading]);
}

/// Says that the daemon is about to end.
pub(crate) fn stopping() {
    tell(&[News::Stopping, News::Status("waiting for what is under way".to_owned())]);
}

/// Keeps telling, for as long as this runtime runs.
pub(crate) fn keep_told(application: &Application) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    tokio::spawn(tell_changes(application.clone()));
    if let Some(limit) = watchdog() {
        tokio::spawn(tell_life(application.clone(), limit / 2));
    }
}

async fn tell_changes(application: Application) {
    let mut live = application.events().subscribe(None).live;
    let mut told = status_of(&application);
    loop {
        match live.recv().await {
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
        // What comes in one breath is told once.
        tokio::time::sleep(SETTLE).await;
        while !matches!(live.try_recv(), Err(TryRecvError::Empty | TryRecvError::Closed)) {}
        let status = status_of(&application);
        if status != told {
            tell(&[News::Status(status.clone())]);
            told = status;
        }
    }
}

async fn tell_life(application: Application, every: Duration) {
    let mut due = tokio::time::interval(every);
    due.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        due.tick().await;
        if !application.pulse().await {
            tracing::warn!("the refresh engine has stopped: the service manager is not told of any life");
            return;
        }
        tell(&[News::Alive]);
    }
}

fn status_of(application: &Application) -> String {
    let servers = application.servers();
    let healths = servers.iter().map(|server| &server.health);
    let healths = healths.map(|health| (health.level, health.action, health.admin_state));
    status_line(healths, &application.not_ready())
}

/// The state in one line: how many logins, how many of them need somebody, what else is wrong.
fn status_line(healths: impl Iterator<Item = (Level, HealthAction, AdminState)>, not_ready: &[String]) -> String {
    let (mut count, mut waiting, mut troubled) = (0, 0, 0);
    for (level, action, _) in healths.filter(|(_, _, admin_state)| *admin_state == AdminState::Enabled) {
        count += 1;
        match (level, action) {
            (Level::Healthy, _) => {}
            (_, HealthAction::Login | HealthAction::Configure) => waiting += 1,
            (_, HealthAction::Retry | HealthAction::ViewLogs | HealthAction::Enable | HealthAction::None) => {
                troubled += 1;
            }
        }
    }
    let mut parts = vec![match count {
        0 => "no logins".to_owned(),
        1 => "1 login".to_owned(),
        more => format!("{more} logins"),
    }];
    match waiting {
        0 => {}
        1 => parts.push("1 needs you".to_owned()),
        more => parts.push(format!("{more} need you")),
    }
    if troubled > 0 {
        parts.push(format!("{troubled} in trouble"));
    }
    if count > 0 && waiting + troubled == 0 {
        parts.push("all well".to_owned());
    }
    // The protocol has one line for it.
    parts.extend(not_ready.iter().filter_map(|reason| reason.lines().next()).map(str::to_owned));
    parts.join(", ")
}

#[cfg(target_os = "linux")]
fn tell(news: &[News]) {
    use sd_notify::NotifyState;

    let mut states = Vec::new();
    for news in news {
        match news {
            News::Ready => states.push(NotifyState::Ready),
            News::Reloading => {
                states.push(NotifyState::Reloading);
                states.extend(NotifyState::monotonic_usec_now());
            }
            News::Stopping => states.push(NotifyState::Stopping),
            News::Alive => states.push(NotifyState::Watchdog),
            News::Status(line) => states.push(NotifyState::Status(line)),
        }
    }
    if let Err(error) = sd_notify::notify(&states) {
        tracing::warn!(%error, ?news, "the service manager cannot be told");
    }
}

#[cfg(not(target_os = "linux"))]
fn tell(news: &[News]) {
    for news in news {
        match news {
            News::Status(line) => tracing::trace!(line, "there is no service manager to tell"),
            News::Ready | News::Reloading | News::Stopping | News::Alive => {
                tracing::trace!(?news, "there is no service manager to tell");
            }
        }
    }
}

/// Within which time the service manager wants to hear that the daemon lives, if it does.
#[cfg(target_os = "linux")]
fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero())
}

#[cfg(not(target_os = "linux"))]
fn watchdog() -> Option<Duration> {
    None
}

/// The listeners that the service manager holds for this process, if any. Takes what the environment
/// says of them out of it, and so must come before any thread.
#[cfg(unix)]
pub(crate) fn passed_listeners() -> Result<Vec<TcpListener>, Failure> {
    let mut passed = listenfd::ListenFd::from_env();
    let listeners = (0..passed.len()).map(|index| {
        let unusable = |error: std::io::Error| {
            let text = format!("socket {index} of the service manager is no TCP listener: {error}");
            Failure::new(crate::exit::Exit::Usage, text)
        };
        passed.take_tcp_listener(index).map_err(unusable)
    });
    Ok(listeners.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

#[cfg(not(unix))]
pub(crate) fn passed_listeners() -> Result<Vec<TcpListener>, Failure> {
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_one_line() {
        let (well, dead) = (
            (Level::Healthy, HealthAction::None, AdminState::Enabled),
            (Level::Unhealthy, HealthAction::Login, AdminState::Enabled),
        );
        let (retrying, off) = (
            (Level::Degraded, HealthAction::Retry, AdminState::Enabled),
            (Level::Healthy, HealthAction::Enable, AdminState::Disabled),
        );
        let cases: [(&[_], &[&str], &str); 6] = [
            (&[], &[], "no logins"),
            (&[well, off], &[], "1 login, all well"),
            (&[well, dead], &[], "2 logins, 1 needs you"),
            (&[dead, dead, retrying, well], &[], "4 logins, 2 need you, 1 in trouble"),
            (&[off], &[], "no logins"),
            (&[well], &["line 1: wrong\nline 2"], "1 login, all well, line 1: wrong"),
        ];
        for (servers, not_ready, expected) in cases {
            let not_ready: Vec<String> = not_ready.iter().map(|&reason| reason.to_owned()).collect();
            assert_eq!(status_line(servers.iter().copied(), &not_ready), expected);
        }
    }
}
