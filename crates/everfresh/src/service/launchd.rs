//! launchd, for one user: the agent's property list, and `launchctl`.

use std::path::{Path, PathBuf};
use std::process::Command;

use plist::{Dictionary, Value};
use service_manager::{LaunchdServiceManager, ServiceManager};

use super::manager::{Manager, State, install_context, label, library, start_context, stop_context, uninstall_context};
use super::plan::Plan;
use crate::exit::{Exit, Failure};

/// How long launchd waits before it kills what should end: refreshes under way are waited for.
const EXIT_TIMEOUT: i64 = 90;

/// Seconds between starts of an agent that fails.
const THROTTLE: i64 = 5;

/// The agent's property list.
pub(super) fn agent(plan: &Plan) -> Result<String, plist::Error> {
    let words = std::iter::once(plan.program.to_string_lossy().into_owned()).chain(plan.arguments.iter().cloned());
    let log = log_of(&plan.data).to_string_lossy().into_owned();
    // Started again when it fails, and left alone when it was told to end.
    let keep_alive = Dictionary::from_iter([("SuccessfulExit", Value::from(false))]);
    let agent = Dictionary::from_iter([
        ("Label", Value::from(label().to_qualified_name())),
        ("ProgramArguments", Value::Array(words.map(Value::from).collect())),
        ("RunAtLoad", Value::from(true)),
        ("KeepAlive", Value::from(keep_alive)),
        ("ThrottleInterval", Value::from(THROTTLE)),
        ("ExitTimeOut", Value::from(EXIT_TIMEOUT)),
        ("ProcessType", Value::from("Background")),
        ("LowPriorityIO", Value::from(false)),
        ("Umask", Value::from(0o077)),
        ("StandardErrorPath", Value::from(log)),
        ("StandardOutPath", Value::from("/dev/null")),
    ]);
    let mut text = Vec::new();
    Value::from(agent).to_writer_xml(&mut text)?;
    Ok(format!("{}\n", String::from_utf8_lossy(&text).trim_end()))
}

/// Where the daemon's log goes; `everfresh stdio` writes there as well.
fn log_of(data: &Path) -> PathBuf {
    data.join("daemon.log")
}

/// The manager of this user's agents.
#[derive(Debug)]
pub(super) struct Launchd(LaunchdServiceManager);

impl Launchd {
    pub(super) fn new() -> Self {
        Self(LaunchdServiceManager::user())
    }
}

impl Manager for Launchd {
    fn name(&self) -> &'static str {
        "launchd"
    }

    fn check(&self) -> Result<(), Failure> {
        match self.0.available() {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::new(Exit::Failed, "there is no launchctl on the search path")),
            Err(error) => Err(library("look for launchctl", &error)),
        }
    }

    fn definition(&self) -> Result<PathBuf, Failure> {
        let folders = directories::BaseDirs::new();
        let folders = folders.ok_or_else(|| Failure::new(Exit::Usage, "this user has no home folder"))?;
        Ok(folders.home_dir().join("Library/LaunchAgents").join(format!("{}.plist", label().to_qualified_name())))
    }

    fn render(&self, plan: &Plan) -> Result<String, Failure> {
        agent(plan).map_err(|error| Failure::new(Exit::Failed, format!("the property list cannot be made: {error}")))
    }

    fn install(&self, plan: &Plan, text: String) -> Result<(), Failure> {
        self.0.install(install_context(plan, text)).map_err(|error| library("install the agent", &error))
    }

    fn uninstall(&self) -> Result<(), Failure> {
        self.0.uninstall(uninstall_context()).map_err(|error| library("remove the agent", &error))
    }

    fn start(&self) -> Result<(), Failure> {
        self.0.start(start_context()).map_err(|error| library("start the agent", &error))
    }

    fn stop(&self) -> Result<(), Failure> {
        self.0.stop(stop_context()).map_err(|error| library("stop the agent", &error))
    }

    fn state(&self) -> Result<State, Failure> {
        let definition = self.definition()?;
        let ran = Command::new("launchctl").args(["list", &label().to_qualified_name()]).output();
        let ran = ran.map_err(|error| Failure::new(Exit::Failed, format!("launchctl list: {error}")))?;
        let loaded = ran.status.success().then(|| String::from_utf8_lossy(&ran.stdout).into_owned());
        Ok(State { definition: definition.exists().then_some(definition), ..state_in(loaded.as_deref()) })
    }

    fn log(&self, data: &Path) -> String {
        format!("tail -n 50 '{}'", log_of(data).display())
    }
}

/// What `launchctl list LABEL` tells of an agent that is loaded.
fn state_in(told: Option<&str>) -> State {
    let Some(told) = told else {
        return State { running: Some(false), details: "not loaded".to_owned(), ..State::default() };
    };
    let value = |name: &str| {
        let lines = told.lines().filter_map(|line| line.trim().trim_end_matches(';').split_once(" = "));
        lines.filter(|(key, _)| key.trim_matches('"') == name).map(|(_, value)| value.to_owned()).next()
    };
    let pid: Option<u32> = value("PID").and_then(|pid| pid.parse().ok());
    let details = match (pid, value("LastExitStatus")) {
        (Some(_), _) => "running".to_owned(),
        (None, Some(status)) => format!("loaded, not running; its last exit status is {status}"),
        (None, None) => "loaded, not running".to_owned(),
    };
    State { enabled: true, running: Some(pid.is_some()), pid, details, ..State::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_is_what_it_should_be() {
        let plan = Plan {
            program: "/opt/homebrew/bin/everfresh".into(),
            arguments: ["serve", "--data-dir", "/Users/a & b/state <1>"].map(str::to_owned).to_vec(),
            data: "/Users/a & b/state <1>".into(),
            environment: "/x".into(),
            runs_commands: false,
        };
        insta::assert_snapshot!("agent", agent(&plan).unwrap());
    }

    #[test]
    fn the_state_is_read() {
        let running = "{\n\t\"LimitLoadToSessionType\" = \"Aqua\";\n\t\"Label\" = \"everfresh\";\n\t\"PID\" = 812;\n};";
        assert_eq!((state_in(Some(running)).running, state_in(Some(running)).pid), (Some(true), Some(812)));
        let ended = state_in(Some("{\n\t\"LastExitStatus\" = 512;\n\t\"Label\" = \"everfresh\";\n};"));
        assert_eq!((ended.running, ended.enabled), (Some(false), true));
        assert!(ended.details.contains("512"), "{ended:?}");
        assert_eq!((state_in(None).running, state_in(None).enabled), (Some(false), false));
    }
}
