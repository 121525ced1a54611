//! What is done to the copy of a login that has moved: its program finds no refresh token any more.
//!
//! A copy that is used again is a dead token at best; at providers that take it for theft it ends the
//! login that moved. What is set aside keeps its content, so that a person can look at it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::Origin;
use super::bolt::{Bolt, BoltError, Entry};
use super::mcpproxy::LOGINS;
use crate::files::sync_folder;

/// What set-aside files of tokens are called.
const MOVED: &str = "moved-to-everfresh";
/// What the database from before is called.
const BEFORE: &str = "before-everfresh";
/// The database while it is being written.
const WRITING: &str = "everfresh-tmp";

/// The field of a refresh token, and its name afterwards, of the same length: what mcpproxy does not
/// know it passes over.
const FIELD: &[u8] = br#""refresh_token":""#;
const FIELD_MOVED: &[u8] = br#""refresh_moved":""#;

/// Disarms the copies at `origin`. Returns what was done, for people; empty where nothing is to be
/// done.
pub fn disarm(origin: &Origin) -> io::Result<Vec<String>> {
    match origin {
        Origin::Files(files) => files.iter().map(|file| set_aside(file)).collect(),
        Origin::Database { file, key } => blank(file, key).map(|told| vec![told]),
        Origin::Document => Ok(Vec::new()),
    }
}

fn set_aside(file: &Path) -> io::Result<String> {
    let aside = free_name(file, MOVED);
    fs::rename(file, &aside)?;
    sync_folder(file.parent().unwrap_or_else(|| Path::new(".")))?;
    Ok(format!("{} is renamed to {}", file.display(), name_of(&aside)))
}

/// A name beside `file` that nothing has yet.
fn free_name(file: &Path, ending: &str) -> PathBuf {
    let first = file.with_added_extension(ending);
    let further = (2..).map(|number| first.with_added_extension(number.to_string()));
    std::iter::once(first.clone()).chain(further).find(|name| !name.exists()).unwrap_or(first)
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Writes the database anew without the refresh token under `key`, and keeps the one before.
///
/// Only bytes within that one value change, and none of them is under a checksum.
fn blank(database: &Path, key: &str) -> io::Result<String> {
    let writing = database.with_added_extension(WRITING);
    fs::copy(database, &writing)?;
    let written = blank_in(&writing, key);
    if written.is_err() {
        fs::remove_file(&writing)?;
    }
    written?;
    let before = free_name(database, BEFORE);
    fs::hard_link(database, &before).or_else(|_| fs::copy(database, &before).map(drop))?;
    fs::rename(&writing, database)?;
    sync_folder(database.parent().unwrap_or_else(|| Path::new(".")))?;
    Ok(format!(
        "the refresh token of {key:?} is blanked in {}; the database from before is kept as {}",
        database.display(),
        name_of(&before)
    ))
}

fn blank_in(database: &Path, key: &str) -> io::Result<()> {
    let entry = entry(database, key)?;
    let odd = || io::Error::new(io::ErrorKind::InvalidData, "its refresh token is not where it should be");
    let at = entry.value.windows(FIELD.len()).position(|bytes| bytes == FIELD).ok_or_else(odd)?;
    let token = &entry.value[at + FIELD.len()..];
    let length = token.iter().position(|byte| *byte == b'"').ok_or_else(odd)?;
    let mut file = OpenOptions::new().write(true).open(database)?;
    file.seek(SeekFrom::Start(entry.at + at as u64))?;
    file.write_all(FIELD_MOVED)?;
    file.write_all(&vec![b'-'; length])?;
    file.sync_all()?;
    let after = self::entry(database, key)?;
    let whole = serde_json::from_slice::<serde_json::Value>(&after.value).map_err(|_| odd())?;
    if whole["refresh_token"].is_null() { Ok(()) } else { Err(odd()) }
}

fn entry(database: &Path, key: &str) -> io::Result<Entry> {
    let broken = |error: BoltError| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
    let mut bolt = Bolt::open(File::open(database)?).map_err(broken)?;
    let entries = bolt.bucket(LOGINS).map_err(broken)?.unwrap_or_default();
    let found = entries.into_iter().find(|entry| entry.key == key.as_bytes());
    found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the login is not there any more"))
}
