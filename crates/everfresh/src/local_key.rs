//! The local key: 256 bits that a client shows, made at first need.

use std::fs;
use std::io;

use everfresh_application::ports::Entropy;
use everfresh_infrastructure::files;
use everfresh_infrastructure::system::SystemEntropy;

use crate::exit::{Exit, Failure};
use crate::paths::Paths;

/// The key of the environment, else of the data folder.
pub(crate) fn find(paths: &Paths) -> Result<Option<String>, Failure> {
    if let Some(key) = std::env::var("EVERFRESH_KEY").ok().filter(|key| !key.is_empty()) {
        return Ok(Some(key));
    }
    match fs::read_to_string(paths.local_key()) {
        Ok(text) if !text.trim().is_empty() => Ok(Some(text.trim().to_owned())),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unusable(paths, &error)),
    }
}

/// The key, which is made where there is none.
pub(crate) fn find_or_make(paths: &Paths) -> Result<String, Failure> {
    if let Some(key) = find(paths)? {
        return Ok(key);
    }
    let key: String = SystemEntropy.bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let made = files::create_private_folder(&paths.data)
        .and_then(|()| files::write_private(&paths.local_key(), format!("{key}\n").as_bytes()));
    made.map_err(|error| unusable(paths, &error))?;
    Ok(key)
}

fn unusable(paths: &Paths, error: &io::Error) -> Failure {
    let text = format!("the local key {} cannot be used: {error}", paths.local_key().display());
    Failure::new(Exit::Store, text)
}
