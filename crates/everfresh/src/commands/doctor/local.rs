//! What is on this machine: configuration, folders, keys, the daemon and its port.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use serde_json::Value;

use super::report::{Check, Kind, Verdict};
use crate::cli::Global;
use crate::client::{self, Api, Need};
use crate::compose;
use crate::config::Config;
use crate::exit::Exit;
use crate::loading;
use crate::output::{text, texts};
use crate::paths::Paths;
use crate::serve::DaemonFile;

/// With less room than this a refresh may fail.
const ROOM_MIN: u64 = 8 << 20;

/// With less room than this it will not be long.
const ROOM_GOOD: u64 = 64 << 20;

/// The variables that name proxies, in either case.
const PROXY_VARIABLES: [&str; 3] = ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"];

/// What was found, and whether the servers' settings can be asked for.
pub(super) struct Local {
    pub(super) checks: Vec<Check>,
    pub(super) api_can_be_had: bool,
}

pub(super) async fn checks(global: &Global, paths: &Paths) -> Local {
    let config = loading::load(paths, global);
    let mut checks = vec![match &config {
        Ok(_) if paths.config.exists() => {
            Check::ok(Kind::Configuration, format!("{} is valid", paths.config.display()))
        }
        Ok(_) => {
            let found = format!("there is no {}; the defaults are in force", paths.config.display());
            Check::ok(Kind::Configuration, found)
        }
        Err(failure) => Check::failed(Kind::Configuration, Exit::Usage, &failure.text, "correct the lines named"),
    }];
    checks.extend(configuration_access(&paths.config));
    checks.extend([data_folder(paths), disk_space(&paths.data)]);
    let config = config.ok();
    let daemon = client::running_daemon(global, paths).await;
    let api_can_be_had = match &daemon {
        Some(base_url) => {
            let asked = running(global, paths, base_url).await;
            checks.extend(asked);
            !failed(&checks, Kind::LocalKey)
        }
        None => {
            checks.extend(not_running(paths, config.as_ref()));
            let works = |kind| checks.iter().any(|check| check.is(kind) && check.works());
            works(Kind::Store) && works(Kind::LocalKey)
        }
    };
    checks.push(proxies(|name| std::env::var(name).ok()));
    Local { checks, api_can_be_had }
}

fn failed(checks: &[Check], kind: Kind) -> bool {
    checks.iter().any(|check| check.is(kind) && check.result == Verdict::Failed)
}

/// The daemon at `base_url`, as it tells itself.
async fn running(global: &Global, paths: &Paths, base_url: &str) -> Vec<Check> {
    let status = match Api::open(global, paths, Need::Look).await {
        Ok(api) => api.get("/api/v1/status").await,
        Err(failure) => Err(failure),
    };
    let status = match status {
        Ok(status) => status,
        Err(failure) => {
            let unsaid = |kind| Check::skipped(kind, "the daemon says so only to whoever shows its key");
            let fix = "name that daemon's data folder with --data-dir, or give its key in EVERFRESH_KEY";
            return vec![
                Check::ok(Kind::Daemon, format!("one answers at {base_url}")),
                unsaid(Kind::Version),
                unsaid(Kind::Ready),
                Check::ok(Kind::Port, format!("clients find it at {base_url}")),
                Check::failed(Kind::LocalKey, failure.exit, failure.text, fix),
                unsaid(Kind::Store),
                unsaid(Kind::MasterKey),
            ];
        }
    };
    vec![
        Check::ok(Kind::Daemon, format!("it runs as process {}", text(&status["pid"]))),
        version(&text(&status["version"]), env!("CARGO_PKG_VERSION")),
        ready(&status),
        Check::ok(Kind::Port, format!("clients find it at {base_url}")),
        Check::ok(Kind::LocalKey, "the daemon takes the one that is here"),
        store(&paths.data, &texts(&status["store_warnings"])),
        master_key(client::told(paths).and_then(|told| told.key).as_deref(), &paths.data),
    ]
}

/// What there is without a daemon.
fn not_running(paths: &Paths, config: Option<&Config>) -> Vec<Check> {
    let opened = config.map(|config| compose::open_store(paths, config));
    let hangs = opened.as_ref().and_then(|opened| client::holding_daemon(paths, opened.as_ref().err()?));
    let mut checks = vec![
        match &hangs {
            Some(told) => hanging(told),
            None => {
                let found = format!("it {}", client::absence(paths));
                Check::warning(Kind::Daemon, found, "start it with: everfresh serve")
            }
        },
        Check::skipped(Kind::Version, "there is no daemon to compare with"),
        Check::skipped(Kind::Ready, "there is no daemon to ask"),
    ];
    let (Some(config), Some(opened)) = (config, opened) else {
        let kinds = [Kind::Port, Kind::LocalKey, Kind::Store, Kind::MasterKey];
        checks.extend(kinds.map(|kind| Check::skipped(kind, "the configuration cannot be used")));
        return checks;
    };
    checks.push(match hangs {
        Some(_) => Check::skipped(Kind::Port, "the daemon that does not answer has it"),
        None => port(&config.listen, config.listen_is_chosen),
    });
    checks.push(match crate::local_key::find(paths) {
        Ok(Some(_)) => Check::ok(Kind::LocalKey, format!("{} holds one", paths.local_key().display())),
        Ok(None) => Check::ok(Kind::LocalKey, "there is none yet; the first start makes one"),
        Err(failure) => {
            Check::failed(Kind::LocalKey, failure.exit, failure.text, "make it readable for you, or remove it")
        }
    });
    match opened {
        Ok(opened) => {
            let warnings = opened.warnings();
            checks.push(store(&paths.data, &warnings.iter().map(String::as_str).collect::<Vec<_>>()));
            checks.push(master_key(Some(&opened.key_origin.to_string()), &paths.data));
        }
        Err(_) if hangs.is_some() => {
            let kinds = [Kind::Store, Kind::MasterKey];
            checks.extend(kinds.map(|kind| Check::skipped(kind, "the daemon that does not answer has the store")));
        }
        Err(error) => {
            let fix = "the text says what to do; docs/STORAGE.md says more";
            checks.push(Check::failed(Kind::Store, Exit::Store, error.to_string(), fix));
            checks.push(Check::skipped(Kind::MasterKey, "the store cannot be opened"));
        }
    }
    checks
}

/// A daemon that has the store and does not answer.
fn hanging(told: &DaemonFile) -> Check {
    let DaemonFile { base_url, pid, .. } = told;
    let found = format!("its process {pid} runs, and does not answer at {base_url}: it hangs, or takes long to end");
    let fix = format!("if that stays so, end process {pid} and start it anew with: everfresh serve");
    Check::failed(Kind::Daemon, Exit::NoDaemon, found, fix)
}

fn version(daemon: &str, own: &str) -> Check {
    if daemon == own {
        return Check::ok(Kind::Version, format!("{own}, as this command"));
    }
    let found = format!("the daemon is {daemon}, and this command {own}");
    Check::warning(Kind::Version, found, "end the daemon and start it again")
}

fn ready(status: &Value) -> Check {
    let reasons = texts(&status["reasons"]);
    if reasons.is_empty() {
        return Check::ok(Kind::Ready, "store, engine and listener work");
    }
    let fix = "correct what is named; a changed configuration is read at once";
    Check::failed(Kind::Ready, Exit::Failed, reasons.join("; "), fix)
}

fn store(folder: &Path, warnings: &[&str]) -> Check {
    if warnings.is_empty() {
        return Check::ok(Kind::Store, format!("{} is readable and whole", folder.display()));
    }
    Check::warning(Kind::Store, warnings.join("; "), "nothing to do at once; docs/STORAGE.md says what it means")
}

fn master_key(origin: Option<&str>, folder: &Path) -> Check {
    match origin {
        None => Check::skipped(Kind::MasterKey, "the daemon does not say where its key comes from"),
        Some(origin) if origin.contains(&*folder.to_string_lossy()) => Check::ok(
            Kind::MasterKey,
            format!("it comes from {origin}, beside what it seals: whoever copies the folder has both"),
        ),
        Some(origin) => Check::ok(Kind::MasterKey, format!("it comes from {origin}")),
    }
}

/// Whether the daemon could listen where it is to.
fn port(addresses: &[SocketAddr], are_chosen: bool) -> Check {
    let wanted = if are_chosen { addresses } else { &addresses[..1] };
    for address in wanted {
        if let Err(error) = TcpListener::bind(address) {
            let in_use = error.kind() == std::io::ErrorKind::AddrInUse;
            let cause =
                if in_use { "is in use by another program".to_owned() } else { format!("is not to be had: {error}") };
            let fix = "end that program, or choose another address with --listen or listen in the configuration";
            return Check::failed(Kind::Port, Exit::Failed, format!("{address} {cause}"), fix);
        }
    }
    let listed: Vec<String> = wanted.iter().map(ToString::to_string).collect();
    Check::ok(Kind::Port, format!("{} is free for the daemon", listed.join(" and ")))
}

/// The proxies of the environment, without what may be a password in them.
fn proxies(variable: impl Fn(&str) -> Option<String>) -> Check {
    let host = |value: &str| {
        let url = url::Url::parse(value).or_else(|_| url::Url::parse(&format!("http://{value}"))).ok()?;
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        Some(format!("{}{port}", url.host_str()?))
    };
    let named = PROXY_VARIABLES.iter().filter_map(|name| {
        let value = variable(name).or_else(|| variable(&name.to_lowercase())).filter(|value| !value.is_empty())?;
        Some(format!("{name} is {}", host(&value).unwrap_or_else(|| "no URL".to_owned())))
    });
    let named: Vec<String> = named.collect();
    if named.is_empty() {
        return Check::ok(Kind::Proxies, "the environment names none");
    }
    let found = format!("{} here; a daemon keeps those that it was started with", named.join(", "));
    Check::ok(Kind::Proxies, found)
}

fn disk_space(folder: &Path) -> Check {
    let there = folder.ancestors().find(|folder| folder.is_dir()).unwrap_or(folder);
    let fix = format!("make room on the disk of {}", there.display());
    match fs4::available_space(there) {
        Err(error) => Check::warning(Kind::DiskSpace, format!("the system does not tell it: {error}"), fix),
        Ok(room) => judged_room(room, fix),
    }
}

fn judged_room(room: u64, fix: String) -> Check {
    let found = if room >= 10 << 30 { format!("{} GiB free", room >> 30) } else { format!("{} MiB free", room >> 20) };
    if room < ROOM_MIN {
        Check::failed(Kind::DiskSpace, Exit::Store, found, fix)
    } else if room < ROOM_GOOD {
        Check::warning(Kind::DiskSpace, found, fix)
    } else {
        Check::ok(Kind::DiskSpace, found)
    }
}

#[cfg(unix)]
fn mode(path: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;

    Some(std::fs::metadata(path).ok()?.permissions().mode())
}

/// On this platform the user's profile decides who may read.
#[cfg(not(unix))]
fn mode(_path: &Path) -> Option<u32> {
    None
}

fn configuration_access(path: &Path) -> Option<Check> {
    let mode = mode(path)?;
    Some(match mode & 0o022 {
        0 => Check::ok(Kind::ConfigurationAccess, "only you can change it"),
        _ => {
            let found = format!("others can change {}", path.display());
            Check::warning(Kind::ConfigurationAccess, found, format!("chmod go-w {}", path.display()))
        }
    })
}

fn data_folder(paths: &Paths) -> Check {
    if !paths.data.exists() {
        let found = format!("there is no {} yet; the first start makes it", paths.data.display());
        return Check::ok(Kind::DataFolder, found);
    }
    if !paths.data.is_dir() {
        let found = format!("{} is no folder", paths.data.display());
        return Check::failed(Kind::DataFolder, Exit::Store, found, "name another with --data-dir");
    }
    let private = [paths.data.clone(), paths.local_key(), paths.limited_keys(), paths.data.join("master.key")];
    let open = private.iter().filter(|path| mode(path).is_some_and(|mode| mode & 0o077 != 0));
    let open: Vec<String> = open.map(|path| path.display().to_string()).collect();
    if !open.is_empty() {
        let fix = format!("chmod go-rwx {}", open.join(" "));
        return Check::failed(Kind::DataFolder, Exit::Store, format!("others can read {}", open.join(", ")), fix);
    }
    if cfg!(unix) {
        return Check::ok(Kind::DataFolder, format!("{} is its owner's only", paths.data.display()));
    }
    let profile = directories::BaseDirs::new().map(|folders| folders.home_dir().to_owned());
    in_profile(&paths.data, profile.as_deref())
}

/// Where files have no mode, the user's profile decides who may read; elsewhere nobody has decided it.
fn in_profile(folder: &Path, profile: Option<&Path>) -> Check {
    let whole = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path)).ok();
    let (data, profile) = (whole(folder), profile.and_then(whole));
    if data.zip(profile).is_some_and(|(data, profile)| data.starts_with(profile)) {
        return Check::ok(Kind::DataFolder, format!("{} is within your profile, which is yours", folder.display()));
    }
    let found = format!("{} is outside your profile: others may be able to read it", folder.display());
    let user = std::env::var("USERNAME").unwrap_or_else(|_| "YOU".to_owned());
    let fix = format!("icacls \"{}\" /inheritance:r /grant:r \"{user}:(OI)(CI)F\" /T", folder.display());
    Check::warning(Kind::DataFolder, found, fix)
}

#[cfg(test)]
#[path = "local_tests.rs"]
mod tests;
