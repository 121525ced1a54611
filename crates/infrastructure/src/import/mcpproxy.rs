//! The database of mcpproxy-go: `~/.mcpproxy/config.db`, a bbolt file.
//!
//! The bucket `oauth_tokens` holds a login by `<server>_<first 16 digits of the SHA-256 of
//! "server|URL">`, with the client that was registered for it; `upstreams` holds the servers, as does
//! `mcp_config.json` beside it. While mcpproxy runs it holds a lock on the file, and refreshes what is
//! in it.

use std::fs::File;
use std::path::{Path, PathBuf};

use everfresh_application::ForeignLogin;
use everfresh_domain::{Secret, Timestamp};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::bolt::{Bolt, BoltError, Entry};
use super::{Found, FoundLogin, Origin, SourceError, open_to_others, read_file};

pub(super) const LOGINS: &[u8] = b"oauth_tokens";
const SERVERS: &[u8] = b"upstreams";
const DATABASE: &str = "config.db";
const CONFIGURATION: &str = "mcp_config.json";

/// What mcpproxy keeps of a login.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Kept {
    display_name: String,
    access_token: String,
    refresh_token: String,
    token_type: String,
    expires_at: Option<Timestamp>,
    scopes: Option<Vec<String>>,
    updated: Option<Timestamp>,
    client_id: String,
    client_secret: String,
    callback_port: u16,
    redirect_uri: String,
}

/// What it keeps of a server.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Upstream {
    name: String,
    url: String,
    oauth: Option<Client>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Client {
    client_id: String,
    client_secret: String,
    extra_params: Option<std::collections::BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Configuration {
    #[serde(rename = "mcpServers")]
    servers: Vec<Upstream>,
}

/// The logins in the database at `place`, or in the one in that folder. Unless `is_stopped` says so,
/// the database must be free; it stays locked as long as what is found is kept.
pub fn find(place: &Path, is_stopped: bool) -> Result<Found, SourceError> {
    let path = if place.is_dir() { place.join(DATABASE) } else { place.to_owned() };
    let unreadable = |error: BoltError| SourceError::unreadable(&path, error);
    let not_there = |error: std::io::Error| {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        if missing { SourceError::Missing(path.clone()) } else { SourceError::unreadable(&path, error) }
    };
    if !std::fs::metadata(&path).map_err(not_there)?.is_file() {
        return Err(SourceError::unreadable(&path, "it is not a file"));
    }
    let file = File::open(&path).map_err(not_there)?;
    let held = if is_stopped { None } else { Some(lock(&file, &path)?) };
    let mut bolt = Bolt::open(&file).map_err(unreadable)?;
    let logins = bolt.bucket(LOGINS).map_err(unreadable)?.unwrap_or_default();
    let stored = bolt.bucket(SERVERS).map_err(unreadable)?.unwrap_or_default();
    let mut servers: Vec<Upstream> =
        stored.iter().filter_map(|entry| serde_json::from_slice(&entry.value).ok()).collect();
    servers.extend(configured(&path));
    let mut found = Found { held, ..Found::default() };
    let exposed = open_to_others(&path);
    for entry in logins {
        match login(&entry, &servers, &path) {
            Ok(Some(mut login)) => {
                login.notes.extend(exposed.clone());
                found.logins.push(login);
            }
            Ok(None) => {}
            Err(problem) => found.problems.push(problem),
        }
    }
    Ok(found)
}

/// Takes the lock that mcpproxy holds while it runs.
#[cfg(unix)]
fn lock(file: &File, path: &Path) -> Result<File, SourceError> {
    use std::fs::TryLockError;

    let held = file.try_clone().map_err(|error| SourceError::unreadable(path, error))?;
    match held.try_lock() {
        Ok(()) => Ok(held),
        Err(TryLockError::WouldBlock) => Err(SourceError::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(SourceError::unreadable(path, error)),
    }
}

/// Its lock lies beyond what this platform's standard lock covers, so it cannot be asked for.
#[cfg(not(unix))]
fn lock(_file: &File, path: &Path) -> Result<File, SourceError> {
    let cause = "whether mcpproxy runs cannot be seen on this platform; stop it, and give --source-stopped";
    Err(SourceError::unreadable(path, cause))
}

fn configured(database: &Path) -> Vec<Upstream> {
    let bytes = read_file(&database.with_file_name(CONFIGURATION)).unwrap_or_default();
    serde_json::from_slice::<Configuration>(&bytes).unwrap_or_default().servers
}

/// One login; `None` where nobody is logged in.
fn login(entry: &Entry, servers: &[Upstream], path: &Path) -> Result<Option<FoundLogin>, String> {
    let key = String::from_utf8_lossy(&entry.key).into_owned();
    let place = || format!("{}: the login {key:?}", path.display());
    let kept: Kept = serde_json::from_slice(&entry.value).map_err(|_| format!("{} cannot be read", place()))?;
    if kept.access_token.is_empty() && kept.refresh_token.is_empty() {
        return Ok(None);
    }
    let named = servers.iter().find(|server| key_of(server) == key);
    let named = named.or_else(|| servers.iter().find(|server| server.name == key && !server.url.is_empty()));
    let Some(server) = named else {
        return Err(format!("{} is for a server that mcpproxy has no URL of any more; it is left there", place()));
    };
    let (login, note) = described(kept, server);
    let origin = Origin::Database { file: PathBuf::from(path), key };
    Ok(Some(FoundLogin { login, origin, notes: note.into_iter().collect() }))
}

fn key_of(server: &Upstream) -> String {
    let digest = hex::encode(Sha256::digest(format!("{}|{}", server.name, server.url)));
    format!("{}_{}", server.name, &digest[..16])
}

fn described(kept: Kept, server: &Upstream) -> (ForeignLogin, Option<String>) {
    let configured = server.oauth.clone().unwrap_or_default();
    let some = |text: String| (!text.is_empty()).then_some(text);
    let registered = some(kept.client_id).map(|id| (id, some(kept.client_secret.clone())));
    let client = registered.or_else(|| some(configured.client_id).map(|id| (id, some(configured.client_secret))));
    let (client_id, secret) = client.map_or((None, None), |(id, secret)| (Some(id), secret));
    // Secrets of the configuration may be references that only mcpproxy resolves.
    let is_reference = secret.as_ref().is_some_and(|secret| secret.starts_with("${"));
    let note = is_reference.then(|| {
        "its client secret is kept elsewhere by mcpproxy (keyring or environment) and does not come along; if the \
         provider wants it, add the server with --client-id and --client-secret-env, and log in"
            .to_owned()
    });
    let redirect = some(kept.redirect_uri).or_else(|| {
        (kept.callback_port != 0).then(|| format!("http://127.0.0.1:{}/oauth/callback", kept.callback_port))
    });
    // Go writes the year 1 for a time that is not known.
    let known = |at: &Timestamp| *at > Timestamp::EPOCH;
    let login = ForeignLogin {
        name: some(if kept.display_name.is_empty() { server.name.clone() } else { kept.display_name }),
        client_id,
        client_secret: secret.filter(|_| !is_reference).map(Secret::new),
        redirect_uris: redirect.into_iter().collect(),
        refresh_token: some(kept.refresh_token).map(Secret::new),
        access_token: some(kept.access_token).map(Secret::new),
        token_type: some(kept.token_type),
        issued_at: kept.updated.filter(known),
        expires_at: kept.expires_at.filter(known),
        scopes: kept.scopes.unwrap_or_default(),
        resource: configured.extra_params.unwrap_or_default().remove("resource"),
        ..ForeignLogin::of(server.url.as_str())
    };
    (login, note)
}
