//! Logins in the files of other programs: found, and their copies disarmed once they have moved.
//!
//! Files are only read, within bounds, until a login has moved; then its copy is set aside in a way
//! that its program understands and that a person can turn back. Which logins are moved, and what
//! they are called here, is not decided here.

mod bolt;
mod clients;
mod disarm;
mod json;
mod mcp_remote;
mod mcpproxy;
mod processes;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use everfresh_application::ForeignLogin;

pub use clients::{Launch, client_files, launches_in};
pub use disarm::{Disarmed, disarm};
pub use json::read as read_json;
pub use mcp_remote::find as find_mcp_remote;
pub use mcpproxy::find as find_mcpproxy;
pub use processes::{Process, processes};

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;

/// A file of JSON that is larger is none of those that are looked for.
const FILE_MAX: u64 = 4 * 1024 * 1024;

/// A login in another program's files.
#[derive(Debug)]
pub struct FoundLogin {
    /// The login; its name is the other program's, if that has one.
    pub login: ForeignLogin,
    /// Where it lies.
    pub origin: Origin,
    /// What its owner should know of it.
    pub notes: Vec<String>,
}

/// Where a login lies in another program's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In files of its own, all with the same refresh token.
    Files(Vec<PathBuf>),
    /// In a bbolt database, under this key of the bucket `oauth_tokens`.
    Database {
        /// The database.
        file: PathBuf,
        /// The key.
        key: String,
    },
    /// In a document that somebody wrote for the import.
    Document,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Logins.
    pub logins: Vec<FoundLogin>,
    /// What was found as well and cannot be moved, with what to do about it.
    pub problems: Vec<String>,
    /// While this is kept, the other program cannot use its database.
    pub held: Option<File>,
}

/// Why nothing can be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// There is nothing at that place.
    #[error("{0} is not there; name the place: everfresh import SOURCE PATH")]
    Missing(PathBuf),
    /// It cannot be read, or is not what it should be.
    #[error("{path}: {cause}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why, without any of its content.
        cause: String,
    },
    /// Its program runs, and would go on using the login.
    #[error(
        "{0} is in use: its program runs, and two owners of one refresh token end the login; stop it (mcpproxy: quit \
         it, or `mcpproxy stop`), then import again"
    )]
    InUse(PathBuf),
}

impl SourceError {
    fn unreadable(path: &Path, cause: impl ToString) -> Self {
        Self::Unreadable { path: path.to_owned(), cause: cause.to_string() }
    }
}

/// A whole file, if it is one and not larger than what is looked for: a pipe of that name would be
/// waited for without end.
fn read_file(path: &Path) -> io::Result<zeroize::Zeroizing<Vec<u8>>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
    }
    let mut bytes = zeroize::Zeroizing::new(Vec::new());
    File::open(path)?.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too large to be what it should be"));
    }
    Ok(bytes)
}

/// A warning where others on this machine can read `path`.
#[cfg(unix)]
fn open_to_others(path: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;

    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    (mode & 0o077 != 0).then(|| {
        format!(
            "{} can be read by other users of this machine (mode {:03o}): who read it has the login",
            path.display(),
            mode & 0o777
        )
    })
}

/// A warning where others on this machine can read `path`: on this platform the profile's folder
/// decides that.
#[cfg(not(unix))]
fn open_to_others(_path: &Path) -> Option<String> {
    None
}

/// A name for a server with this URL: what its host is called, without what many hosts are called.
pub fn name_for(url: &str) -> String {
    const COMMON: [&str; 8] = ["mcp", "www", "api", "app", "remote", "server", "gateway", "v1"];
    let parsed = url::Url::parse(url).ok();
    let host = match parsed.as_ref().and_then(url::Url::host) {
        Some(url::Host::Domain(name)) => name.to_ascii_lowercase(),
        Some(url::Host::Ipv4(address)) => address.to_string(),
        Some(url::Host::Ipv6(_)) | None => return "imported".to_owned(),
    };
    if host.parse::<std::net::Ipv4Addr>().is_ok() || !host.contains('.') {
        return as_name(&host);
    }
    let labels: Vec<&str> = host.split('.').collect();
    let owned = &labels[..labels.len() - 1];
    let told = owned.iter().find(|label| !COMMON.contains(label)).or_else(|| owned.last());
    as_name(told.unwrap_or(&"imported"))
}

/// `text` as a name that can be used here.
pub fn as_name(text: &str) -> String {
    let usable =
        |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_') { c.to_ascii_lowercase() } else { '-' };
    let name: String = text.chars().map(usable).take(everfresh_domain::ids::NAME_LENGTH_MAX).collect();
    let name = name.trim_start_matches(|c: char| !c.is_ascii_alphanumeric()).trim_end_matches('-');
    if name.is_empty() { "imported".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_after_who_runs_them() {
        let cases = [
            ("https://mcp.linear.app/mcp", "linear"),
            ("https://api.githubcopilot.com/mcp/", "githubcopilot"),
            ("https://mcp.eu.example.co.uk/", "eu"),
            ("https://example.com", "example"),
            ("https://mcp.com", "mcp"),
            ("http://127.0.0.1:8080/mcp", "127.0.0.1"),
            ("http://localhost:8080/mcp", "localhost"),
            ("http://[::1]:8080/mcp", "imported"),
            ("nonsense", "imported"),
        ];
        for (url, expected) in cases {
            assert_eq!(name_for(url), expected, "{url}");
        }
    }

    #[test]
    fn every_text_becomes_a_name() {
        for (text, expected) in [("My Server", "my-server"), ("_x", "x"), ("Ünïcode", "n-code"), ("", "imported")] {
            assert_eq!(as_name(text), expected);
            expected.parse::<everfresh_domain::ServerName>().unwrap();
        }
        as_name(&"x".repeat(500)).parse::<everfresh_domain::ServerName>().unwrap();
    }
}
