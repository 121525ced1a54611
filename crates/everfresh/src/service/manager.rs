//! What every service manager can do, and what the library that speaks to them wants to hear.

use std::io;
use std::path::{Path, PathBuf};

use everfresh_domain::Timestamp;
use service_manager::{
    RestartPolicy, ServiceInstallCtx, ServiceLabel, ServiceStartCtx, ServiceStopCtx, ServiceUninstallCtx,
};

use super::plan::Plan;
use crate::exit::{Exit, Failure};

/// How the service is, as its manager sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// Its definition, if it is installed.
    pub(super) definition: Option<PathBuf>,
    /// Whether it starts at login.
    pub(super) enabled: bool,
    /// Whether it runs; `None` where the manager does not say.
    pub(super) running: Option<bool>,
    /// Its process.
    pub(super) pid: Option<u32>,
    /// Since when it runs.
    pub(super) since: Option<Timestamp>,
    /// What it says of itself.
    pub(super) words: Option<String>,
    /// The manager's own words.
    pub(super) details: String,
}

/// A manager of one user's services.
pub(super) trait Manager {
    /// Its name.
    fn name(&self) -> &'static str;
    /// Fails, with what to do, where it cannot be used.
    fn check(&self) -> Result<(), Failure>;
    /// Where the definition lies once the service is installed.
    fn definition(&self) -> Result<PathBuf, Failure>;
    /// The definition's text. Changes nothing.
    fn render(&self, plan: &Plan) -> Result<String, Failure>;
    /// Further definitions, by name.
    fn companions(&self) -> Vec<(String, String)> {
        Vec::new()
    }
    /// Once this returns, the service starts with the next login.
    fn install(&self, plan: &Plan, text: String) -> Result<(), Failure>;
    /// Once this returns, the service has ended and is not started again.
    fn uninstall(&self) -> Result<(), Failure>;
    /// Starts it; where the manager is told of readiness, waits for that.
    fn start(&self) -> Result<(), Failure>;
    /// Stops it, until the next login or [`Self::start`].
    fn stop(&self) -> Result<(), Failure>;
    /// How it is.
    fn state(&self) -> Result<State, Failure>;
    /// What to know after an installation.
    fn hints(&self) -> Vec<String> {
        Vec::new()
    }
    /// How its log is read.
    fn log(&self, data: &Path) -> String;
}

/// The service's name, for every manager.
pub(super) fn label() -> ServiceLabel {
    ServiceLabel { qualifier: None, organization: None, application: "everfresh".to_owned() }
}

pub(super) fn install_context(plan: &Plan, text: String) -> ServiceInstallCtx {
    ServiceInstallCtx {
        label: label(),
        program: plan.program.clone(),
        args: plan.arguments.iter().map(Into::into).collect(),
        contents: Some(text),
        username: None,
        working_directory: None,
        environment: None,
        autostart: true,
        restart_policy: RestartPolicy::OnFailure { delay_secs: None, max_retries: None, reset_after_secs: None },
    }
}

pub(super) fn start_context() -> ServiceStartCtx {
    ServiceStartCtx { label: label() }
}

pub(super) fn stop_context() -> ServiceStopCtx {
    ServiceStopCtx { label: label() }
}

pub(super) fn uninstall_context() -> ServiceUninstallCtx {
    ServiceUninstallCtx { label: label() }
}

/// What the library could not do.
pub(super) fn library(what: &str, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot {what}: {error}"))
}
