//! Where the daemon is and which key it wants: looked up anew for every connection, since a daemon
//! that starts again may have another port and another key.

use std::fs::{self, File, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use everfresh_domain::Secret;
use serde::Deserialize;

use crate::model::Absence;

/// The file of the full local key, in the data folder.
const LOCAL_KEY: &str = "local-key";

/// What a running daemon says of itself in its data folder, as far as it matters here.
#[derive(Deserialize)]
struct DaemonFile {
    base_url: String,
}

/// A daemon, and what it wants to see.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Without a slash at its end.
    pub(crate) base_url: String,
    /// None where no key is to be found: a daemon with `local_key = "off"` wants none.
    pub(crate) key: Option<Secret>,
}

/// Looks for the daemon where `everfresh` does.
#[derive(Clone, Debug)]
pub(crate) struct Seeker {
    data: PathBuf,
    listen: Option<SocketAddr>,
}

impl Seeker {
    /// With what the command line names; None for a user without a home folder who named nothing.
    pub(crate) fn new(data: Option<PathBuf>, listen: Option<SocketAddr>) -> Option<Self> {
        let platform = || {
            let folders = directories::ProjectDirs::from("", "", "everfresh")?;
            Some(folders.state_dir().unwrap_or_else(|| folders.data_local_dir()).to_owned())
        };
        Some(Self { data: data.or_else(platform)?, listen })
    }

    /// The daemon, if one should be there.
    pub(crate) fn find(&self) -> Result<Place, Absence> {
        let told = || {
            let json = fs::read(self.data.join("daemon.json")).ok()?;
            serde_json::from_slice::<DaemonFile>(&json).ok().map(|told| told.base_url)
        };
        let named = self.listen.map(|address| format!("http://{address}"));
        let base_url = named.or_else(told).ok_or(Absence::NotRunning)?;
        let key = match given() {
            Some(key) => Some(key),
            None => self.kept().map_err(|error| Absence::NoKey(error.to_string()))?.filter(|_| self.is_alive()),
        };
        if key.is_none() && self.data.join(LOCAL_KEY).exists() {
            return Err(Absence::NotRunning);
        }
        Ok(Place { base_url: base_url.trim_end_matches('/').to_owned(), key })
    }

    /// The key of the data folder.
    fn kept(&self) -> io::Result<Option<Secret>> {
        match fs::read_to_string(self.data.join(LOCAL_KEY)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(|key| secret(&key)),
        }
    }

    /// Whether the folder's daemon lives, by the lock that it holds: what took its port after it died is
    /// shown no key of the folder.
    fn is_alive(&self) -> bool {
        let lock = File::open(self.data.join("daemon.lock"));
        lock.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }
}

/// The key of the environment.
fn given() -> Option<Secret> {
    std::env::var("EVERFRESH_KEY").ok().as_deref().and_then(secret)
}

fn secret(text: &str) -> Option<Secret> {
    let text = text.trim();
    (!text.is_empty()).then(|| Secret::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeker(files: &[(&str, &str)], listen: Option<&str>) -> (tempfile::TempDir, Seeker) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let seeker = Seeker::new(Some(folder.path().to_owned()), listen.map(|address| address.parse().unwrap()));
        (folder, seeker.unwrap())
    }

    #[test]
    fn the_daemon_is_where_its_folder_says_unless_an_address_is_named() {
        let file = ("daemon.json", r#"{"base_url":"http://127.0.0.1:4711","pid":1,"more":2}"#);
        let key = ("local-key", "0123abcd\n");
        let (folder, here) = seeker(&[file, key], None);
        assert_eq!(here.find().unwrap_err(), Absence::NotRunning, "it died, and something else may answer there");
        let held = File::create(folder.path().join("daemon.lock")).unwrap();
        held.lock().unwrap();
        let place = here.find().unwrap();
        assert_eq!(place.base_url, "http://127.0.0.1:4711");
        assert_eq!(place.key.as_ref().map(Secret::expose), Some("0123abcd"));
        assert!(!format!("{place:?}").contains("0123abcd"), "{place:?}");
        let (_folder, named) = seeker(&[file], Some("127.0.0.1:1"));
        let place = named.find().unwrap();
        assert_eq!((place.base_url.as_str(), place.key), ("http://127.0.0.1:1", None));
    }

    #[test]
    fn a_folder_without_a_daemon_or_with_a_broken_file_has_none_running() {
        for files in [&[][..], &[("daemon.json", "{\"base")]] {
            let (_folder, seeker) = seeker(files, None);
            assert_eq!(seeker.find().unwrap_err(), Absence::NotRunning);
        }
    }
}
