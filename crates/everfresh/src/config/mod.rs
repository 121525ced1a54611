//! The configuration: flags over variables over the file over defaults, valid or refused whole.

mod file;
mod reader;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use everfresh_application::ServerSettings;
use everfresh_domain::Policy;

use crate::cli::Global;
use crate::exit::{Exit, Failure};
use crate::paths::Paths;

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
            servers: Vec::new(),
        }
    }
}

/// Reads the configuration that is in force with these flags. Every error is told at once.
pub(crate) fn load(paths: &Paths, global: &Global) -> Result<Config, Failure> {
    let mut config = match std::fs::read_to_string(&paths.config) {
        Ok(text) => parse(&paths.config, &text)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !paths.config_is_named => Config::default(),
        Err(error) => {
            let text = format!("the configuration {} cannot be read: {error}", paths.config.display());
            return Err(Failure::new(Exit::Usage, text));
        }
    };
    if let Some(address) = global.listen {
        if !address.ip().is_loopback() {
            let text = format!(
                "--listen {address} is open to the network: everfresh hands out tokens; listen on 127.0.0.1, or set \
                 allow_remote = true in the configuration"
            );
            return Err(Failure::new(Exit::Usage, text));
        }
        config.listen = vec![address];
        config.listen_is_chosen = true;
    }
    Ok(config)
}

fn parse(path: &Path, text: &str) -> Result<Config, Failure> {
    file::parse(text, path.parent().unwrap_or_else(|| Path::new("."))).map_err(|problems| {
        let name = path.display();
        let lines: Vec<String> = problems.iter().map(|problem| format!("{name}:{problem}")).collect();
        let count = if lines.len() == 1 { "one error".to_owned() } else { format!("{} errors", lines.len()) };
        Failure::new(Exit::Usage, format!("the configuration has {count}:\n{}", lines.join("\n")))
    })
}
