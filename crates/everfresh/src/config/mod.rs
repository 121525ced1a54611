//! The configuration: flags over variables over the file over defaults, valid or refused whole.

mod file;
#[cfg(test)]
mod fuzzing;
mod notify;
mod oauth;
mod reader;
#[cfg(test)]
mod reference_tests;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use everfresh_application::ServerSettings;
use everfresh_domain::Policy;

pub(crate) use file::parse;
pub(crate) use notify::NotifySettings;
pub(crate) use reader::nearest;

/// The port that everfresh listens on unless told otherwise.
pub(crate) const PORT: u16 = 7411;

/// Whether clients must show the local key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LocalKeyRule {
    #[default]
    Required,
    Off,
}

/// Where the master key is to be had, as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum MasterKeySource {
    /// The keychain of the system, else a file.
    #[default]
    Auto,
    /// A file in the data folder.
    DataFolder,
    /// This file.
    File(PathBuf),
    /// What this command prints.
    Command(Vec<String>),
}

/// A valid configuration.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    /// Where to listen. Of several, the first is the one that is told.
    pub(crate) listen: Vec<SocketAddr>,
    /// Whether the addresses were chosen; a default one that is not to be had is left out.
    pub(crate) listen_is_chosen: bool,
    /// Names under which this daemon is reached besides those of this machine.
    pub(crate) allowed_hosts: Vec<String>,
    pub(crate) local_key: LocalKeyRule,
    pub(crate) master_key: MasterKeySource,
    pub(crate) policy: Policy,
    pub(crate) client_id_metadata_url: Option<String>,
    /// Under which name answers to logins come back to this machine; the address itself unless told.
    pub(crate) redirect_host: Option<String>,
    /// What is told without being asked.
    pub(crate) notify: NotifySettings,
    pub(crate) servers: Vec<ServerSettings>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![(Ipv4Addr::LOCALHOST, PORT).into(), (Ipv6Addr::LOCALHOST, PORT).into()],
            listen_is_chosen: false,
            allowed_hosts: Vec::new(),
            local_key: LocalKeyRule::default(),
            master_key: MasterKeySource::default(),
            policy: Policy::default(),
            client_id_metadata_url: None,
            redirect_host: None,
            notify: NotifySettings::default(),
            servers: Vec::new(),
        }
    }
}
