//! Where things are: flags and variables first, then the platform's folders.

use std::path::PathBuf;

use crate::cli::Global;
use crate::exit::{Exit, Failure};

/// The places that a command works with.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    /// The configuration file.
    pub(crate) config: PathBuf,
    /// Whether it was named; a named one must be there.
    pub(crate) config_is_named: bool,
    /// The data folder.
    pub(crate) data: PathBuf,
}

impl Paths {
    pub(crate) fn of(global: &Global) -> Result<Self, Failure> {
        let folders = directories::ProjectDirs::from("", "", "everfresh");
        let no_home = || Failure::new(Exit::Usage, "this user has no home folder: give --config and --data-dir");
        let config = match (&global.config, &folders) {
            (Some(path), _) => path.clone(),
            (None, Some(folders)) => folders.config_dir().join("config.toml"),
            (None, None) => return Err(no_home()),
        };
        let data = match (&global.data_dir, &folders) {
            (Some(path), _) => path.clone(),
            (None, Some(folders)) => folders.state_dir().unwrap_or_else(|| folders.data_local_dir()).to_owned(),
            (None, None) => return Err(no_home()),
        };
        Ok(Self { config, config_is_named: global.config.is_some(), data })
    }

    /// The key that clients show.
    pub(crate) fn local_key(&self) -> PathBuf {
        self.data.join(everfresh_infrastructure::keys::LOCAL_KEY)
    }

    /// What is known of limited keys.
    pub(crate) fn limited_keys(&self) -> PathBuf {
        self.data.join(everfresh_infrastructure::keys::LIMITED_KEYS)
    }

    /// Where a running daemon says where it listens.
    pub(crate) fn daemon(&self) -> PathBuf {
        self.data.join("daemon.json")
    }
}
