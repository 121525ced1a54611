//! The machine that clients are installed on: where its kind of system keeps settings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A kind of system. A value and not a build: tests look at all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    /// Linux, and what is like it.
    Linux,
    MacOs,
    Windows,
}

impl System {
    /// The one that this is.
    pub(crate) fn this() -> Self {
        if cfg!(windows) {
            Self::Windows
        } else if cfg!(target_os = "macos") {
            Self::MacOs
        } else {
            Self::Linux
        }
    }
}

/// A user's machine.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) system: System,
    pub(crate) home: PathBuf,
    /// The environment, as far as it can be read.
    pub(crate) variables: BTreeMap<String, String>,
}

impl Machine {
    /// This one; `None` where this user has no home folder.
    pub(crate) fn this() -> Option<Self> {
        let variables: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let system = System::this();
        let home = match (system, variables.get("USERPROFILE")) {
            (System::Windows, Some(profile)) if !profile.is_empty() => PathBuf::from(profile),
            _ => directories::BaseDirs::new()?.home_dir().to_owned(),
        };
        Some(Self { system, home, variables })
    }

    /// A path that a variable names; an empty one names none.
    pub(crate) fn named(&self, variable: &str) -> Option<PathBuf> {
        self.variables.get(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
    }

    /// A path below the home folder.
    pub(crate) fn home(&self, path: impl AsRef<Path>) -> PathBuf {
        self.home.join(path)
    }

    /// `$XDG_CONFIG_HOME`, by whatever system: many programs ask for it everywhere.
    pub(crate) fn config_home(&self) -> PathBuf {
        self.named("XDG_CONFIG_HOME").unwrap_or_else(|| self.home(".config"))
    }

    /// The roaming settings of Windows.
    pub(crate) fn app_data(&self) -> PathBuf {
        self.named("APPDATA").unwrap_or_else(|| self.home("AppData/Roaming"))
    }

    /// The local settings of Windows.
    pub(crate) fn local_app_data(&self) -> PathBuf {
        self.named("LOCALAPPDATA").unwrap_or_else(|| self.home("AppData/Local"))
    }

    /// Where programs built with Electron keep their settings (its `appData`).
    pub(crate) fn electron(&self) -> PathBuf {
        match self.system {
            System::Linux => self.config_home(),
            System::MacOs => self.home("Library/Application Support"),
            System::Windows => self.app_data(),
        }
    }
}
