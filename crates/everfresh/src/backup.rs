//! `everfresh export` and `everfresh restore`: a sealed backup of servers, clients and logins.
//!
//! Both work on the store itself, while no daemon does: refresh tokens leave the store here and on no
//! other way, so that the local key alone never reveals one.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use everfresh_application::ServerSettings;
use everfresh_application::backup::{Backup, FORMAT, PutBack};
use everfresh_domain::{GrantId, Secret};
use everfresh_infrastructure::backup as sealed;
use everfresh_infrastructure::store::has_records;
use everfresh_infrastructure::system::SystemEntropy;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::cli::Global;
use crate::client::{Api, Need, running_daemon};
use crate::exit::{Exit, Failure};
use crate::paths::Paths;
use crate::{compose, loading, output};

/// Where the passphrase is, if no file is named.
const PASSPHRASE: &str = "EVERFRESH_BACKUP_PASSPHRASE";

/// Shorter ones are guessed, however long a guess takes.
const PASSPHRASE_MIN: usize = 12;

/// Of a file only the first line counts; so much of it is read.
const PASSPHRASE_FILE_MAX: u64 = 64 * 1024;

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The file to write; it must not exist.
    pub(crate) file: PathBuf,
    /// A file whose first line is the passphrase; else it is taken from EVERFRESH_BACKUP_PASSPHRASE.
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The backup.
    pub(crate) file: PathBuf,
    /// A file whose first line is the passphrase; else it is taken from EVERFRESH_BACKUP_PASSPHRASE.
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Do not find out at once which of the logins still live.
    #[arg(long)]
    pub(crate) no_refresh: bool,
}

/// Runs `everfresh export`.
pub(crate) async fn export(global: &Global, paths: &Paths, export: &Export) -> Result<Exit, Failure> {
    let passphrase = passphrase(export.passphrase_file.as_deref())?;
    demand_no_daemon(global, paths).await?;
    let config = loading::load(paths, global)?;
    if !has_records(&paths.data) {
        let text = format!("there is nothing to back up in {}", paths.data.display());
        return Err(Failure::new(Exit::Failed, text));
    }
    let store = compose::open_store(paths, &config)?;
    let taken = Backup::take(store.store(), crate::commands::now()).await;
    let (backup, unreadable) = taken.map_err(|error| Failure::new(Exit::Store, error.to_string()))?;
    let text = serde_json::to_vec(&backup).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    let sealed_text = sealed::seal(&SystemEntropy, &passphrase, &Zeroizing::new(text));
    sealed::write(&export.file, &sealed_text)
        .map_err(|error| Failure::new(Exit::Failed, format!("{} cannot be written: {error}", export.file.display())))?;
    let (servers, grants) = (backup.servers.len(), backup.grants.len());
    output::line(format!("{}: {servers} servers, {grants} logins, sealed", export.file.display()));
    output::note("The configuration file is not in it: keep that as well.");
    output::note(
        "Each login in it is good until everfresh refreshes that login again, since providers replace refresh tokens: \
         use it to move to another machine, with this one left stopped.",
    );
    if unreadable.is_empty() {
        return Ok(Exit::Done);
    }
    let names: Vec<String> = unreadable.iter().map(GrantId::to_string).collect();
    Err(Failure::new(Exit::Store, format!("not in it, since they cannot be read: {}", names.join(", "))))
}

/// Runs `everfresh restore`.
pub(crate) async fn restore(global: &Global, paths: &Paths, restore: &Restore) -> Result<Exit, Failure> {
    let passphrase = passphrase(restore.passphrase_file.as_deref())?;
    let backup = read(&restore.file, &passphrase)?;
    demand_no_daemon(global, paths).await?;
    let config = loading::load(paths, global)?;
    let outcomes = {
        let store = compose::open_store(paths, &config)?;
        backup.put_back(store.store()).await.map_err(|error| Failure::new(Exit::Store, error.to_string()))?
    };
    for server in &outcomes.differing {
        output::note(format!("{server}: there is a server of that name with other settings, which stays"));
    }
    for (server, why) in &outcomes.refused {
        output::note(format!("{server}: the server is not put back: {why}"));
    }
    let refused = |server: &&ServerSettings| outcomes.refused.iter().any(|(name, _)| *name == server.name);
    let put_back = backup.servers.iter().filter(|server| !refused(server));
    let servers: BTreeSet<String> =
        config.servers.iter().chain(put_back).map(|server| server.name.to_string()).collect();
    let mut restored = Vec::new();
    let mut worst = if outcomes.refused.is_empty() { Exit::Done } else { Exit::Refused };
    for (grant, outcome) in &outcomes.grants {
        match outcome {
            PutBack::OtherLogin => {
                worst = Exit::Refused;
                output::line(format!(
                    "{grant}: left as it is: another login lives there, and is not given up for an older one; to have \
                     that of the backup, log out first (everfresh logout {grant})"
                ));
            }
            PutBack::Newer => {
                output::line(format!("{grant}: left as it is: the store has the same login or a newer one"))
            }
            PutBack::Restored if !servers.contains(grant.server.as_str()) => output::line(format!(
                "{grant}: restored; its server is not here: it stood in the configuration file, or was not put back"
            )),
            PutBack::Restored => restored.push(grant),
        }
    }
    if restore.no_refresh {
        restored.iter().for_each(|grant| output::line(format!("{grant}: restored, as of {}", backup.taken_at)));
        return Ok(worst);
    }
    let proven = prove(global, paths, &restored).await?;
    Ok(if worst == Exit::Done { proven } else { worst })
}

/// Refreshes what was restored: whoever has refreshed it since the backup has spent its token.
async fn prove(global: &Global, paths: &Paths, restored: &[&GrantId]) -> Result<Exit, Failure> {
    if restored.is_empty() {
        return Ok(Exit::Done);
    }
    let api = Api::open(global, paths, Need::Refresh).await?;
    let mut worst = Exit::Done;
    for grant in restored {
        let exit = match api.post(&format!("/api/v1/servers/{grant}/refresh"), None).await {
            Ok(answer) => told(grant, &answer),
            Err(failure) => {
                output::line(format!("{grant}: restored, not refreshed: {}", failure.text));
                failure.exit
            }
        };
        worst = if worst == Exit::Done { exit } else { worst };
    }
    api.close().await;
    Ok(worst)
}

fn told(grant: &GrantId, answer: &Value) -> Exit {
    let server = &answer["server"];
    let (health, has_token) = (&server["health"], server["token"]["has_refresh_token"] == true);
    let summary = output::text(&health["summary"]);
    if answer["outcome"] == "refreshed" {
        output::line(format!("{grant}: restored and refreshed; everfresh on the other machine must stay stopped"));
        return Exit::Done;
    }
    if health["action"] == "login" {
        let why = if has_token { "; it was refreshed after the backup was taken, or ended since" } else { "" };
        output::line(format!("{grant}: restored, and it needs a login: {summary}{why}: everfresh login {grant}"));
        return Exit::LoginNeeded;
    }
    output::line(format!("{grant}: restored, not refreshed yet: {summary}"));
    Exit::Unreachable
}

fn read(file: &Path, passphrase: &Secret) -> Result<Backup, Failure> {
    let failed = |cause: String| Failure::new(Exit::Failed, format!("{}: {cause}", file.display()));
    let sealed_text = sealed::read(file).map_err(|error| failed(error.to_string()))?;
    let text = sealed::open(passphrase, &sealed_text).map_err(|error| failed(error.to_string()))?;
    // What is wrong in it is not repeated: it may be a secret.
    let backup: Backup =
        serde_json::from_slice(&text).map_err(|_| failed("it does not hold what a backup holds".to_owned()))?;
    if backup.format > FORMAT {
        return Err(failed(format!("it was made by a newer version of everfresh (format {})", backup.format)));
    }
    Ok(backup)
}

fn passphrase(file: Option<&Path>) -> Result<Secret, Failure> {
    let usage = |text: String| Failure::new(Exit::Usage, text);
    let text = match file {
        Some(path) => {
            let mut text = Zeroizing::new(String::new());
            let read = File::open(path).and_then(|file| file.take(PASSPHRASE_FILE_MAX).read_to_string(&mut text));
            read.map_err(|error| usage(format!("{} cannot be read: {error}", path.display())))?;
            text
        }
        None => Zeroizing::new(std::env::var(PASSPHRASE).unwrap_or_default()),
    };
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() < PASSPHRASE_MIN {
        return Err(usage(format!(
            "a passphrase of at least {PASSPHRASE_MIN} characters is needed: name a file that holds it with \
             --passphrase-file, or set {PASSPHRASE}"
        )));
    }
    Ok(Secret::new(line))
}

async fn demand_no_daemon(global: &Global, paths: &Paths) -> Result<(), Failure> {
    match running_daemon(global, paths).await {
        None => Ok(()),
        Some(base_url) => {
            let text = format!(
                "everfresh runs at {base_url}: stop it first. Backups are taken and put back while nothing is refreshed, \
                 since each refresh makes the tokens before it worthless"
            );
            Err(Failure::new(Exit::Store, text))
        }
    }
}
