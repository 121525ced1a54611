//! The folder of mcp-remote, in every layout that it has had.
//!
//! `~/.mcp-auth`, or `MCP_REMOTE_CONFIG_DIR`, holds `<digest>_tokens.json` and
//! `<digest>_client_info.json`: at first in the folder itself (until 0.0.10), then in
//! `mcp-remote-<version>` (until 0.2), then in `mcp-remote-v1`; one fork has them in `mcp-remote`. So one
//! server may have logins in several places, of which the newest is the one in use.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use everfresh_application::ForeignLogin;
use everfresh_domain::grant::ClientAuthMethod;
use everfresh_domain::{Secret, Timestamp};
use serde_json::Value;

use super::clients::Launch;
use super::{Found, FoundLogin, Origin, SourceError, open_to_others, read_file};

const TOKENS: &str = "_tokens.json";
const CLIENT: &str = "_client_info.json";

/// Folders of its versions, of which few are ever in use.
const FOLDERS_MAX: usize = 200;

/// One `tokens.json`.
struct Kept {
    path: PathBuf,
    saved_at: SystemTime,
    tokens: Value,
}

/// The logins in `folder`. Whose they are follows from `launches`.
pub fn find(folder: &Path, launches: &[Launch]) -> Result<Found, SourceError> {
    let by_digest: BTreeMap<String, &Launch> = launches.iter().rev().map(|launch| (launch.digest(), launch)).collect();
    let mut found = Found::default();
    for (digest, kept) in kept(folder, &mut found.problems)? {
        let newest = kept.iter().max_by_key(|kept| kept.saved_at);
        let Some(newest) = newest else { continue };
        match by_digest.get(&digest) {
            Some(launch) => found.logins.push(login(newest, &kept, launch)),
            None => found.problems.push(format!(
                "{}: mcp-remote does not note which server this is for, and no configuration of a client that was found \
                 starts it; name the server with --url URL, exactly as it was given to mcp-remote",
                newest.path.display()
            )),
        }
    }
    Ok(found)
}

/// Every file of tokens, by digest.
fn kept(folder: &Path, problems: &mut Vec<String>) -> Result<BTreeMap<String, Vec<Kept>>, SourceError> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(SourceError::Missing(folder.to_owned()));
        }
        entries => entries.map_err(|error| SourceError::unreadable(folder, error))?,
    };
    let mut folders = vec![folder.to_owned()];
    let of_version = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("mcp-remote") && path.is_dir()
    };
    folders.extend(entries.flatten().map(|entry| entry.path()).filter(of_version).take(FOLDERS_MAX));
    let mut kept: BTreeMap<String, Vec<Kept>> = BTreeMap::new();
    for folder in folders {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some(digest) = name.strip_suffix(TOKENS).filter(|digest| is_digest(digest)) else { continue };
            match read(&path) {
                Ok(file) => kept.entry(digest.to_owned()).or_default().push(file),
                Err(cause) => problems.push(format!("{}: {cause}", path.display())),
            }
        }
    }
    Ok(kept)
}

fn is_digest(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn read(path: &Path) -> Result<Kept, String> {
    let bytes = read_file(path).map_err(|error| error.to_string())?;
    let tokens: Value =
        serde_json::from_slice(&bytes).map_err(|_| "it is not JSON; mcp-remote itself would not read it")?;
    let saved_at = std::fs::metadata(path).and_then(|file| file.modified()).map_err(|error| error.to_string())?;
    Ok(Kept { path: path.to_owned(), saved_at, tokens })
}

/// The newest of the logins that one server has there.
fn login(newest: &Kept, all: &[Kept], launch: &Launch) -> FoundLogin {
    let name = newest.path.file_name().unwrap_or_default().to_string_lossy();
    let beside = newest.path.with_file_name(name.replace(TOKENS, CLIENT));
    let registered = read_file(&beside).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    let client = launch.client().or(registered).unwrap_or(Value::Null);
    let tokens = &newest.tokens;
    let refresh_token = text(&tokens["refresh_token"]);
    let (same, older): (Vec<&Kept>, Vec<&Kept>) =
        all.iter().partition(|kept| kept.path == newest.path || text(&kept.tokens["refresh_token"]) == refresh_token);
    let mut notes: Vec<String> = open_to_others(&newest.path).into_iter().collect();
    notes.extend(older.iter().filter(|_| refresh_token.is_some()).map(|kept| {
        let path = kept.path.display();
        format!("{path} holds an older login of the same server; it is not imported, and left there")
    }));
    FoundLogin {
        login: described(tokens, &client, launch, newest.saved_at),
        origin: Origin::Files(same.into_iter().map(|kept| kept.path.clone()).collect()),
        notes,
    }
}

fn described(tokens: &Value, client: &Value, launch: &Launch, saved_at: SystemTime) -> ForeignLogin {
    let lifetime = seconds(&tokens["expires_in"]);
    // Newer versions note when the access token ends; older ones only how long it lived when it was saved.
    let noted = number(&tokens["expires_at"]).map(|ms| Timestamp::from_millis(ms as i64));
    let saved_at = Timestamp::from_millis(millis(saved_at));
    let issued_at = noted.zip(lifetime).map_or(saved_at, |(end, lifetime)| end.before(lifetime));
    let method = client["token_endpoint_auth_method"].as_str();
    let secret_ends = number(&client["client_secret_expires_at"]).filter(|at| *at > 0.0);
    ForeignLogin {
        issuer: text(&tokens["issuer"]).or_else(|| text(&client["issuer"])),
        client_id: text(&client["client_id"]),
        client_secret: text(&client["client_secret"]).map(Secret::new),
        token_endpoint_auth_method: method.and_then(|method| {
            [ClientAuthMethod::None, ClientAuthMethod::ClientSecretBasic, ClientAuthMethod::ClientSecretPost]
                .into_iter()
                .find(|known| known.as_str() == method)
        }),
        client_secret_expires_at: secret_ends.map(|at| Timestamp::from_millis((at * 1000.0) as i64)),
        redirect_uris: client["redirect_uris"].as_array().into_iter().flatten().filter_map(text).collect(),
        refresh_token: text(&tokens["refresh_token"]).map(Secret::new),
        access_token: text(&tokens["access_token"]).map(Secret::new),
        token_type: text(&tokens["token_type"]),
        issued_at: Some(issued_at),
        expires_at: noted.or_else(|| lifetime.map(|lifetime| saved_at.after(lifetime))),
        scopes: tokens["scope"].as_str().unwrap_or_default().split_whitespace().map(str::to_owned).collect(),
        resource: launch.resource(),
        ..ForeignLogin::of(launch.url.as_str())
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// A number, also where a provider wrote it as a string.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok()).filter(|number| number.is_finite())
}

fn seconds(value: &Value) -> Option<Duration> {
    Duration::try_from_secs_f64(number(value)?).ok().filter(|lifetime| !lifetime.is_zero())
}

fn millis(at: SystemTime) -> i64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
