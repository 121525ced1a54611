//! What clients need to get to everfresh, as it is on this machine: servers, address, key, program.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use everfresh_domain::{GrantId, Secret};

use super::clients::Transport;
use super::entry::Gate;
use crate::cli::Global;
use crate::client::{Api, Need};
use crate::config::LocalKeyRule;
use crate::exit::{Exit, Failure};
use crate::loading;
use crate::output;
use crate::paths::Paths;
use crate::serve::DaemonFile;

/// How near a name must be to be suggested, from 0 to 1.
const LIKENESS: f32 = 0.6;

/// A login as everfresh lists it.
struct Listed {
    grant: GrantId,
    /// Where its server really is.
    upstream: String,
    needs_login: bool,
}

/// What everfresh says of itself.
pub(super) struct Known {
    /// `None` where nobody could be asked.
    servers: Option<Vec<Listed>>,
    base_url: String,
    is_running: bool,
}

impl Known {
    fn listed(&self, grant: &GrantId) -> Option<&Listed> {
        self.servers.iter().flatten().find(|listed| listed.grant == *grant)
    }

    /// Where a server really is.
    pub(super) fn upstream(&self, grant: &GrantId) -> Option<&str> {
        self.listed(grant).map(|listed| listed.upstream.as_str())
    }

    /// Whether nothing comes through before somebody logs in.
    pub(super) fn needs_login(&self, grant: &GrantId) -> bool {
        self.listed(grant).is_some_and(|listed| listed.needs_login)
    }

    /// Where the daemon listens.
    pub(super) fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Whether there is that server, be it under another account.
    pub(super) fn has_server(&self, grant: &GrantId) -> bool {
        self.servers.iter().flatten().any(|listed| listed.grant.server == grant.server)
    }

    /// Whether a daemon answers.
    pub(super) fn is_running(&self) -> bool {
        self.is_running
    }
}

/// The API of the daemon, or of the store where none runs. A client that starts everfresh by itself needs
/// no answer of it: `None` then, with a word on why.
pub(super) async fn open(global: &Global, paths: &Paths, transport: Transport) -> Result<Option<Api>, Failure> {
    match Api::open(global, paths, Need::Look).await {
        Ok(api) => Ok(Some(api)),
        Err(failure) => unchecked(failure, transport).map(|()| None),
    }
}

/// What everfresh says of itself.
pub(super) async fn know(api: Option<&Api>, transport: Transport) -> Result<Known, Failure> {
    let nothing = || Known { servers: None, base_url: String::new(), is_running: false };
    let Some(api) = api else { return Ok(nothing()) };
    let answer = match api.get("/api/v1/servers").await {
        Ok(answer) => answer,
        Err(failure) => return unchecked(failure, transport).map(|()| nothing()),
    };
    let servers = answer["servers"].as_array().cloned().unwrap_or_default();
    let named = servers.iter().filter_map(|server| {
        let (name, url) = (server["name"].as_str()?, server["url"].as_str()?);
        let account = server["account"].as_str().unwrap_or(everfresh_domain::ids::DEFAULT_ACCOUNT);
        let grant = format!("{name}@{account}").parse().ok()?;
        Some(Listed { grant, upstream: url.to_owned(), needs_login: server["health"]["action"] == "login" })
    });
    Ok(Known { servers: Some(named.collect()), base_url: api.base_url().to_owned(), is_running: api.is_daemon() })
}

/// That everfresh could not be asked is told where it was only to be checked, and fails elsewhere.
fn unchecked(failure: Failure, transport: Transport) -> Result<(), Failure> {
    if transport == Transport::Http || failure.exit == Exit::Usage {
        return Err(failure);
    }
    output::note(format!("note: the names of servers could not be checked: {}", failure.text));
    Ok(())
}

/// The logins that are meant.
pub(super) fn grants(known: &Known, names: &[String], all: bool) -> Result<Vec<GrantId>, Failure> {
    if all {
        let all: Vec<GrantId> = known.servers.iter().flatten().map(|listed| listed.grant.clone()).collect();
        return match all.is_empty() {
            true => {
                Err(Failure::new(Exit::NoSuchServer, "there is no server yet; add one with: everfresh add NAME URL"))
            }
            false => Ok(all),
        };
    }
    names.iter().map(|name| parse(name).and_then(|grant| checked(known, grant))).collect()
}

/// A login by its name.
pub(super) fn parse(name: &str) -> Result<GrantId, Failure> {
    let unusable = |error: everfresh_domain::ids::InvalidName| Failure::new(Exit::NoSuchServer, error.to_string());
    name.parse().map_err(unusable)
}

fn checked(known: &Known, grant: GrantId) -> Result<GrantId, Failure> {
    let Some(servers) = &known.servers else { return Ok(grant) };
    if known.listed(&grant).is_some() {
        return Ok(grant);
    }
    let hint = if servers.iter().any(|listed| listed.grant.server == grant.server) {
        format!("nobody has logged in to it as that account: everfresh login {grant}")
    } else {
        let names: Vec<String> = servers.iter().map(|listed| listed.grant.to_string()).collect();
        let texts: Vec<&str> = names.iter().map(String::as_str).collect();
        match similar::get_close_matches(grant.to_string().as_str(), &texts, 1, LIKENESS).first() {
            Some(near) => format!("is {near} meant?"),
            None => "everfresh list shows all; add it with: everfresh add NAME URL".to_owned(),
        }
    };
    Err(Failure::new(Exit::NoSuchServer, format!("there is no server {grant}; {hint}")))
}

/// Whether the daemon has the same address at each start.
pub(super) fn has_fixed_port(global: &Global, paths: &Paths) -> Result<bool, Failure> {
    Ok(loading::load(paths, global)?.listen.first().is_some_and(|address| address.port() != 0))
}

/// The address of the daemon that runs or ran last, else the one that is configured.
pub(super) fn address(global: &Global, paths: &Paths) -> Option<String> {
    let told = std::fs::read(paths.daemon()).ok().and_then(|json| serde_json::from_slice::<DaemonFile>(&json).ok());
    let configured = || {
        let listen: Vec<SocketAddr> = loading::load(paths, global).ok()?.listen;
        listen.first().map(|address| format!("http://{address}"))
    };
    told.map(|told| told.base_url).or_else(configured)
}

/// How a client gets to everfresh, with `key`. In a project's file there is nothing of this machine alone.
pub(super) fn gate(
    global: &Global,
    paths: &Paths,
    base_url: &str,
    key: Option<Secret>,
    is_project: bool,
) -> Result<Gate, Failure> {
    let base_url = base_url.to_owned();
    if is_project {
        return Ok(Gate { base_url, key, command: PROGRAM.to_owned(), places: Vec::new() });
    }
    Ok(Gate { base_url, key, command: program()?.display().to_string(), places: places(global, paths) })
}

/// Whether clients must show a key.
pub(super) fn wants_key(global: &Global, paths: &Paths) -> Result<bool, Failure> {
    Ok(loading::load(paths, global)?.local_key == LocalKeyRule::Required)
}

/// Refuses an address that is another one at each start.
pub(super) fn check_port(base_url: &str) -> Result<(), Failure> {
    if base_url.ends_with(":0") {
        let text = "the daemon has another port at each start: give it one (listen), or use --transport stdio";
        return Err(Failure::new(Exit::Usage, text));
    }
    Ok(())
}

const PROGRAM: &str = "everfresh";

/// This program as it is found by name, where that is the same file: package managers keep that
/// name through updates, and not the file behind it.
fn program() -> Result<PathBuf, Failure> {
    let unknown = |error: std::io::Error| Failure::new(Exit::Failed, format!("this program's own path: {error}"));
    let running = std::env::current_exe().map_err(unknown)?;
    let Ok(real) = running.canonicalize() else { return Ok(running) };
    let name = format!("{PROGRAM}{}", std::env::consts::EXE_SUFFIX);
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let mut named =
        std::env::split_paths(&folders).filter(|folder| folder.is_absolute()).map(|folder| folder.join(&name));
    Ok(named.find(|path| path.canonicalize().is_ok_and(|found| found == real)).unwrap_or(running))
}

/// Options that say where everfresh's files are: clients start it in their own environment.
fn places(global: &Global, paths: &Paths) -> Vec<String> {
    let whole = |path: &Path| {
        // What Windows answers here is a path that few programs take.
        let real = if cfg!(windows) { None } else { path.canonicalize().ok() };
        real.or_else(|| std::path::absolute(path).ok()).unwrap_or_else(|| path.to_owned()).display().to_string()
    };
    let mut places = Vec::new();
    if global.data_dir.is_some() {
        places.extend(["--data-dir".to_owned(), whole(&paths.data)]);
    }
    if paths.config_is_named {
        places.extend(["--config".to_owned(), whole(&paths.config)]);
    }
    if let Some(address) = global.listen {
        places.extend(["--listen".to_owned(), address.to_string()]);
    }
    places
}
