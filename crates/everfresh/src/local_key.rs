//! The local key: 256 bits that a client shows, made at first need.
//!
//! `EVERFRESH_KEY` may hold the full key or a limited one. A limited one is for commands and bridges to
//! show, and never what a daemon opens to.

use std::fs;
use std::io;

use everfresh_application::LocalKey;
use everfresh_application::ports::Entropy;
use everfresh_domain::Secret;
use everfresh_domain::key::LIMITED_PREFIX;
use everfresh_infrastructure::files;
use everfresh_infrastructure::system::SystemEntropy;

use crate::exit::{Exit, Failure};
use crate::paths::Paths;

/// The variable that holds a key.
pub(crate) const VARIABLE: &str = "EVERFRESH_KEY";

/// The key to show: of the environment, else of the data folder.
pub(crate) fn find(paths: &Paths) -> Result<Option<String>, Failure> {
    match of_environment() {
        Some(key) => Ok(Some(key)),
        None => kept(paths),
    }
}

/// Whether the environment holds a key.
pub(crate) fn is_given() -> bool {
    of_environment().is_some()
}

/// The limited key of the environment, if it is one.
pub(crate) fn limited() -> Option<String> {
    of_environment().filter(|key| is_limited(key))
}

/// The full key, which is made where there is none.
pub(crate) fn find_or_make(paths: &Paths) -> Result<LocalKey, Failure> {
    if let Some(key) = of_environment().filter(|key| !is_limited(key)) {
        return Ok(LocalKey::Given(Secret::new(key)));
    }
    if let Some(key) = kept(paths)? {
        return Ok(LocalKey::Kept(Secret::new(key)));
    }
    let key: String = SystemEntropy.bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let made = files::create_private_folder(&paths.data)
        .and_then(|()| files::write_private(&paths.local_key(), format!("{key}\n").as_bytes()));
    made.map_err(|error| unusable(paths, &error))?;
    Ok(LocalKey::Kept(Secret::new(key)))
}

/// A full key as clients show it.
pub(crate) fn text(key: &LocalKey) -> &str {
    match key {
        LocalKey::Kept(key) | LocalKey::Given(key) => key.expose(),
    }
}

fn of_environment() -> Option<String> {
    std::env::var(VARIABLE).ok().map(|key| key.trim().to_owned()).filter(|key| !key.is_empty())
}

fn is_limited(key: &str) -> bool {
    key.starts_with(LIMITED_PREFIX)
}

fn kept(paths: &Paths) -> Result<Option<String>, Failure> {
    match fs::read_to_string(paths.local_key()) {
        Ok(text) if !text.trim().is_empty() => Ok(Some(text.trim().to_owned())),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unusable(paths, &error)),
    }
}

fn unusable(paths: &Paths, error: &io::Error) -> Failure {
    let text = format!("the local key {} cannot be used: {error}", paths.local_key().display());
    Failure::new(Exit::Store, text)
}
