//! Exit codes. They are part of the contract and never change their meaning.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// Failed, for a reason that no other code names.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// A login is needed.
    LoginNeeded = 3,
    /// The provider or the upstream cannot be reached.
    Unreachable = 4,
    /// There is no such server.
    NoSuchServer = 5,
    /// The daemon cannot be reached.
    NoDaemon = 6,
    /// The store is locked, unreadable or not writable.
    Store = 7,
    /// A rule forbids it.
    Refused = 8,
    /// `list --check`: something is unhealthy.
    Unhealthy = 10,
    /// `list --check`: something is degraded.
    Degraded = 11,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what it should: words for a person, and the exit code.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into() }
    }
}
