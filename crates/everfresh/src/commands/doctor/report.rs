//! What a check found: a verdict, words, and what to do.

use serde::Serialize;
use utoipa::ToSchema;

use crate::exit::Exit;
use crate::output::{Look, width_of};

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and should be looked at.
    Warning,
    /// It does not work.
    Failed,
    /// Something before it is missing.
    Skipped,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $name:literal: $meaning:literal,)*) => {
        /// What is checked.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Kind {
            $($(#[$doc])* $variant,)*
        }

        impl Kind {
            /// Its name, which stays the same.
            fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// What hangs on it.
            fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => $meaning,)*
                }
            }
        }
    };
}

kinds! {
    /// The configuration as a whole.
    Configuration = "configuration":
        "everfresh does not start with an error in it, and a running daemon keeps the version before",
    /// Who may write the configuration file.
    ConfigurationAccess = "file access":
        "whoever can change the file decides where your tokens are sent",
    /// The folder of store and keys.
    DataFolder = "data folder": "whoever can read it has your logins",
    /// Room on the disk.
    DiskSpace = "disk space": "a new token that cannot be saved may cost the login",
    /// The running daemon.
    Daemon = "daemon": "without it nothing is refreshed, and clients reach nothing",
    /// Its version.
    Version = "version": "the daemon is still the program that was started, until it is started again",
    /// Whether it is ready.
    Ready = "ready": "the daemon itself says what is wrong with it",
    /// Where it listens.
    Port = "port": "clients connect here, and logins come back here",
    /// The local key.
    LocalKey = "local key": "whoever shows it may use your logins",
    /// Keys in the files of clients.
    ClientFiles = "client files": "whoever can read a client's file has what its key opens",
    /// The store.
    Store = "store": "your logins are in it",
    /// Where the store's key is kept.
    MasterKey = "master key": "it opens the store",
    /// Proxies of the environment.
    Proxies = "proxies": "every call to providers and servers goes through them",
    /// The clock.
    Clock = "clock": "the end of a token is a time of the provider's clock",
    /// A server's authorities and client certificate.
    Certificates = "certificates": "connections to the server are made with them",
    /// The way to the server.
    Upstream = "server": "it must be reached from here",
    /// The provider's metadata.
    Provider = "provider": "logins and refreshes need what its metadata says",
    /// The token endpoint.
    TokenEndpoint = "token endpoint": "refreshes go there",
    /// The client at the provider.
    Client = "client": "the provider must know who asks",
    /// The login.
    Login = "login": "requests need a valid token",
    /// Whether the server takes the token.
    Answer = "answer": "the server itself decides whether a token is good",
}

/// One check.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Check {
    /// What was checked; names stay the same.
    check: &'static str,
    /// Of which server or login; null where it is about everfresh itself.
    server: Option<String>,
    /// `ok`, `warning`, `failed` or `skipped`.
    pub(super) result: Verdict,
    /// What was found.
    pub(super) found: String,
    /// What hangs on it.
    meaning: &'static str,
    /// What to do; empty where there is nothing to do.
    fix: String,
    /// The exit code that this check stands for where it failed.
    #[serde(skip)]
    exit: Exit,
}

impl Check {
    fn new(kind: Kind, result: Verdict, found: impl Into<String>) -> Self {
        let (check, meaning) = (kind.name(), kind.meaning());
        Self { check, server: None, result, found: found.into(), meaning, fix: String::new(), exit: Exit::Failed }
    }

    pub(super) fn ok(kind: Kind, found: impl Into<String>) -> Self {
        Self::new(kind, Verdict::Ok, found)
    }

    pub(super) fn warning(kind: Kind, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { fix: fix.into(), ..Self::new(kind, Verdict::Warning, found) }
    }

    pub(super) fn failed(kind: Kind, exit: Exit, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { fix: fix.into(), exit, ..Self::new(kind, Verdict::Failed, found) }
    }

    pub(super) fn skipped(kind: Kind, why: impl Into<String>) -> Self {
        Self::new(kind, Verdict::Skipped, why)
    }

    /// Whether it is a check of this kind.
    pub(super) fn is(&self, kind: Kind) -> bool {
        self.check == kind.name()
    }

    /// Whether what was checked works, as it should be or nearly so.
    pub(super) fn works(&self) -> bool {
        matches!(self.result, Verdict::Ok | Verdict::Warning)
    }

    /// The same check, of this server or login.
    pub(super) fn of(self, server: &str) -> Self {
        Self { server: Some(server.to_owned()), ..self }
    }
}

/// How many checks ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
struct Summary {
    ok: usize,
    warning: usize,
    failed: usize,
    skipped: usize,
}

/// What `everfresh doctor -o json` prints.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Report {
    /// everfresh itself first, then each server, always in the same order.
    checks: Vec<Check>,
    /// How many ended how.
    summary: Summary,
    /// With what the command ends: 0, or what the first failed check stands for.
    exit_code: u8,
}

impl Report {
    pub(super) fn of(checks: Vec<Check>) -> Self {
        let count = |result| checks.iter().filter(|check| check.result == result).count();
        let summary = Summary {
            ok: count(Verdict::Ok),
            warning: count(Verdict::Warning),
            failed: count(Verdict::Failed),
            skipped: count(Verdict::Skipped),
        };
        let exit_code = exit_of(&checks) as u8;
        Self { checks, summary, exit_code }
    }

    /// With what the command ends.
    pub(super) fn exit(&self) -> Exit {
        exit_of(&self.checks)
    }

    /// The report for people.
    pub(super) fn rendered(&self, look: Look) -> String {
        let names = self.checks.iter().map(|check| width_of(check.check)).max().unwrap_or_default();
        let mut lines = Vec::new();
        let mut group = None;
        for check in &self.checks {
            let heading = check.server.as_deref().unwrap_or("everfresh");
            if group != Some(heading) {
                if group.is_some() {
                    lines.push(String::new());
                }
                lines.push(look.bold(heading));
                group = Some(heading);
            }
            lines.push(check.rendered(names, look));
        }
        lines.push(String::new());
        lines.push(self.summary.rendered(look));
        lines.join("\n")
    }
}

fn exit_of(checks: &[Check]) -> Exit {
    checks.iter().find(|check| check.result == Verdict::Failed).map_or(Exit::Done, |check| check.exit)
}

impl Check {
    fn rendered(&self, names: usize, look: Look) -> String {
        let (mark, level) = match self.result {
            Verdict::Ok => ("ok", "healthy"),
            Verdict::Warning => ("warning", "degraded"),
            Verdict::Failed => ("FAILED", "unhealthy"),
            Verdict::Skipped => ("skipped", "degraded"),
        };
        let padded = format!("{mark:<9}");
        let mark = if self.result == Verdict::Skipped { padded } else { look.level(level, &padded) };
        let is_narrow = look.width.is_some_and(|width| width < 72);
        let at = if is_narrow { 4 } else { 2 + 9 + names + 2 };
        let found = look.wrapped(&self.found, at);
        let mut text = if is_narrow {
            format!("  {mark}{}\n    {found}", self.check)
        } else {
            format!("  {mark}{:<names$}  {found}", self.check)
        };
        if matches!(self.result, Verdict::Warning | Verdict::Failed) {
            let indent = " ".repeat(at);
            text += &format!("\n{indent}({})", look.wrapped(self.meaning, at));
            if !self.fix.is_empty() {
                text += &format!("\n{indent}-> {}", look.wrapped(&self.fix, at + 3));
            }
        }
        text
    }
}

impl Summary {
    fn rendered(self, look: Look) -> String {
        let all = self.ok + self.warning + self.failed + self.skipped;
        let mut parts = vec![format!("{} ok", self.ok)];
        for (count, word) in [(self.warning, "warning"), (self.failed, "failed"), (self.skipped, "skipped")] {
            if count > 0 {
                let plural = if word == "warning" && count > 1 { "s" } else { "" };
                parts.push(format!("{count} {word}{plural}"));
            }
        }
        let verdict = match self {
            Self { failed: 1.., .. } => look.level("unhealthy", "not well"),
            Self { warning: 1.., .. } => look.level("degraded", "well, with something to look at"),
            Self { .. } => look.level("healthy", "all is well"),
        };
        format!("{all} checks: {}; {verdict}", parts.join(", "))
    }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
