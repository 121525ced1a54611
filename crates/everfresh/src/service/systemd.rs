//! systemd, for one user: the unit, and `systemctl --user`.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use everfresh_domain::Timestamp;
use service_manager::{ServiceManager, SystemdServiceManager};

use super::manager::{Manager, State, install_context, label, library, start_context, stop_context, uninstall_context};
use super::plan::Plan;
use crate::exit::{Exit, Failure};

/// The unit.
const UNIT: &str = "everfresh.service";

/// The unit that holds the sockets while the daemon is away.
const SOCKET: &str = "everfresh.socket";

/// What cuts the service off from the rest of the machine, by system calls.
const BY_SYSTEM_CALLS: &[&str] = &[
    "MemoryDenyWriteExecute=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "RestrictNamespaces=yes",
    "SystemCallArchitectures=native",
    "SystemCallErrorNumber=EPERM",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@resources @privileged",
];

/// The same by namespaces, which a user's own manager has only where the kernel lets users make them.
const BY_NAMESPACES: &[&str] =
    &["PrivateUsers=yes", "PrivateTmp=yes", "ProtectSystem=strict", "ProtectKernelTunables=yes"];

/// What fits every program.
const ALWAYS: &[&str] =
    &["NoNewPrivileges=yes", "LockPersonality=yes", "RestrictRealtime=yes", "RestrictSUIDSGID=yes", "UMask=0077"];

/// How far the service is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sandbox {
    /// It writes to its data folder and nowhere else.
    Full,
    /// No namespaces can be had here.
    WithoutNamespaces,
    /// Its configuration runs other programs, which do as they need.
    ForCommands,
}

impl Sandbox {
    fn settings(self) -> impl Iterator<Item = &'static str> {
        let (calls, namespaces): (&[&str], &[&str]) = match self {
            Self::Full => (BY_SYSTEM_CALLS, BY_NAMESPACES),
            Self::WithoutNamespaces => (BY_SYSTEM_CALLS, &[]),
            Self::ForCommands => (&[], &[]),
        };
        ALWAYS.iter().chain(calls).chain(namespaces).copied()
    }
}

/// The unit's text.
pub(super) fn unit(plan: &Plan, sandbox: Sandbox) -> String {
    let mut command = quoted(&plan.program.to_string_lossy(), Dollar::Kept);
    for argument in &plan.arguments {
        command.push(' ');
        command.push_str(&quoted(argument, Dollar::Doubled));
    }
    let environment = plan.environment.to_string_lossy().replace('%', "%%");
    let mut text = format!(
        "# Written by `everfresh service install`, and written anew by the next one: what is to stay goes into
# `systemctl --user edit {UNIT}`.
[Unit]
Description=everfresh: keeps OAuth logins fresh
Documentation=man:everfresh(1)
# Never given up: what fails is tried again until it works. The daemon itself spaces its requests.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
ExecReload=kill -HUP $MAINPID
EnvironmentFile=-{environment}
Restart=on-failure
RestartSec=5
# A wrong configuration does not mend itself.
RestartPreventExitStatus=2
# A stop waits for refreshes under way: their tokens must be stored.
TimeoutStopSec=90
WatchdogSec=60
"
    );
    for setting in sandbox.settings() {
        let _ = writeln!(text, "{setting}");
    }
    if sandbox == Sandbox::Full {
        let _ = writeln!(text, "ReadWritePaths={}", quoted(&plan.data.to_string_lossy(), Dollar::Kept));
    }
    text.push_str("\n[Install]\nWantedBy=default.target\n");
    text
}

/// The socket unit's text: connections wait here while the daemon is away.
pub(super) fn socket_unit(addresses: &[std::net::SocketAddr]) -> String {
    let mut text = "# Written by `everfresh service install --socket`.
[Unit]
Description=everfresh: where clients connect

[Socket]
"
    .to_owned();
    for address in addresses {
        let _ = writeln!(text, "ListenStream={address}");
    }
    text.push_str("BindIPv6Only=ipv6-only\nNoDelay=yes\n\n[Install]\nWantedBy=sockets.target\n");
    text
}

/// Whether `$` begins a variable where the text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dollar {
    Kept,
    Doubled,
}

/// One word of a unit: quoted, with specifiers and variables taken literally.
fn quoted(word: &str, dollar: Dollar) -> String {
    let mut text = String::with_capacity(word.len() + 2);
    text.push('"');
    for character in word.chars() {
        match character {
            '"' | '\\' => text.extend(['\\', character]),
            '%' => text.push_str("%%"),
            '$' if dollar == Dollar::Doubled => text.push_str("$$"),
            other => text.push(other),
        }
    }
    text.push('"');
    text
}

/// The manager of this user's services.
#[derive(Debug)]
pub(super) struct Systemd {
    library: SystemdServiceManager,
    /// Where the socket unit listens, if there is to be one.
    pub(super) socket: Option<Vec<std::net::SocketAddr>>,
}

impl Systemd {
    pub(super) fn new() -> Self {
        Self { library: SystemdServiceManager::user(), socket: None }
    }

    fn folder() -> Result<PathBuf, Failure> {
        service_manager::systemd_user_dir_path().map_err(|error| library("find the folder of units", &error))
    }

    /// How far the service can be cut off here: tried with the program itself.
    fn sandbox(plan: &Plan) -> Sandbox {
        if plan.runs_commands {
            return Sandbox::ForCommands;
        }
        let mut trial = Command::new("systemd-run");
        trial.args(["--user", "--quiet", "--wait", "--collect", "--service-type=exec"]);
        for setting in Sandbox::Full.settings() {
            trial.arg(format!("--property={setting}"));
        }
        let ran = trial.arg(&plan.program).arg("--version").output();
        if ran.is_ok_and(|ran| ran.status.success()) { Sandbox::Full } else { Sandbox::WithoutNamespaces }
    }

    fn install_socket(&self) -> Result<(), Failure> {
        let path = Self::folder()?.join(SOCKET);
        let Some(addresses) = &self.socket else {
            if path.exists() {
                systemctl(&["disable", "--now", SOCKET])?;
                fs::remove_file(&path).map_err(|error| library("remove the socket unit", &error))?;
            }
            return Ok(());
        };
        fs::write(&path, socket_unit(addresses)).map_err(|error| library("write the socket unit", &error))?;
        systemctl(&["daemon-reload"])?;
        systemctl(&["enable", SOCKET])?;
        Ok(())
    }
}

impl Manager for Systemd {
    fn name(&self) -> &'static str {
        "systemd"
    }

    fn check(&self) -> Result<(), Failure> {
        let Err(failure) = systemctl(&["show", "--property=Version"]) else { return Ok(()) };
        let text = format!(
            "systemd does not run for this user ({}). Where there is none, in a container or WSL, run `everfresh \
             serve` under what is there; in WSL, `systemd=true` in /etc/wsl.conf brings it. After `su` or `sudo`, log \
             in as that user instead: machinectl shell USER@",
            failure.text
        );
        Err(Failure::new(Exit::Failed, text))
    }

    fn definition(&self) -> Result<PathBuf, Failure> {
        Ok(Self::folder()?.join(UNIT))
    }

    fn render(&self, plan: &Plan) -> Result<String, Failure> {
        Ok(unit(plan, Self::sandbox(plan)))
    }

    fn companions(&self) -> Vec<(String, String)> {
        self.socket.iter().map(|addresses| (SOCKET.to_owned(), socket_unit(addresses))).collect()
    }

    fn install(&self, plan: &Plan, text: String) -> Result<(), Failure> {
        self.library.install(install_context(plan, text)).map_err(|error| library("install the unit", &error))?;
        systemctl(&["daemon-reload"])?;
        self.install_socket()
    }

    fn uninstall(&self) -> Result<(), Failure> {
        if Self::folder()?.join(SOCKET).exists() {
            Self { socket: None, ..Self::new() }.install_socket()?;
        }
        self.library.stop(stop_context()).map_err(|error| library("stop the service", &error))?;
        self.library.uninstall(uninstall_context()).map_err(|error| library("remove the unit", &error))?;
        systemctl(&["daemon-reload"]).map(|_| ())
    }

    fn start(&self) -> Result<(), Failure> {
        if Self::folder()?.join(SOCKET).exists() {
            systemctl(&["start", SOCKET])?;
        }
        self.library.start(start_context()).map_err(|error| library("start the service", &error))
    }

    fn stop(&self) -> Result<(), Failure> {
        if Self::folder()?.join(SOCKET).exists() {
            systemctl(&["stop", SOCKET])?;
        }
        self.library.stop(stop_context()).map_err(|error| library("stop the service", &error))
    }

    fn state(&self) -> Result<State, Failure> {
        let wanted = "--property=LoadState,ActiveState,SubState,UnitFileState,MainPID,FragmentPath,StatusText,\
                      ActiveEnterTimestamp,NRestarts";
        let told = systemctl(&["show", UNIT, "--timestamp=unix", wanted])?;
        Ok(state_in(&told))
    }

    fn hints(&self) -> Vec<String> {
        let linger = Command::new("loginctl").args(["show-user", "--property=Linger", "--value"]).arg(user()).output();
        let lingers = linger.is_ok_and(|told| told.stdout.starts_with(b"yes"));
        let remote = std::env::var_os("DISPLAY").is_none() && std::env::var_os("WAYLAND_DISPLAY").is_none();
        if lingers || !remote {
            return Vec::new();
        }
        vec![
            "it runs from your first login until your last logout. On a machine without a screen it should run \
             always: loginctl enable-linger. A keychain is locked then: [master_key] keychain = false keeps the key \
             in the data folder"
                .to_owned(),
        ]
    }

    fn log(&self, _data: &std::path::Path) -> String {
        format!("journalctl --user --unit {} --lines 50", label().application)
    }
}

/// Whose services these are.
fn user() -> String {
    std::env::var("USER").unwrap_or_default()
}

/// What `systemctl show` tells.
fn state_in(told: &str) -> State {
    let value = |name: &str| {
        let lines = told.lines().filter_map(|line| line.split_once('='));
        lines.filter(|(key, _)| *key == name).map(|(_, value)| value).find(|value| !value.is_empty())
    };
    let seconds = value("ActiveEnterTimestamp").and_then(|text| text.strip_prefix('@')?.parse::<i64>().ok());
    let active = value("ActiveState").unwrap_or("unknown");
    State {
        definition: value("FragmentPath").map(PathBuf::from),
        enabled: value("UnitFileState").is_some_and(|state| state.starts_with("enabled")),
        running: Some(matches!(active, "active" | "reloading")),
        pid: value("MainPID").and_then(|pid| pid.parse().ok()).filter(|pid| *pid != 0),
        since: seconds.filter(|_| active == "active").map(|seconds| Timestamp::from_millis(seconds * 1000)),
        words: value("StatusText").map(str::to_owned),
        details: format!("{active} ({})", value("SubState").unwrap_or("unknown")),
    }
}

/// Runs `systemctl --user`, and returns what it prints.
fn systemctl(arguments: &[&str]) -> Result<String, Failure> {
    let named = || format!("systemctl --user {}", arguments.join(" "));
    let ran = Command::new("systemctl").arg("--user").args(arguments).output();
    let ran = ran.map_err(|error| Failure::new(Exit::Failed, format!("{}: {error}", named())))?;
    if ran.status.success() {
        return Ok(String::from_utf8_lossy(&ran.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&ran.stderr);
    Err(Failure::new(Exit::Failed, format!("{}: {}", named(), said.trim())))
}

#[cfg(test)]
#[path = "systemd_tests.rs"]
mod tests;
