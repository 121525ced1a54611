//! What is done to the copy of a login that has moved: its program finds no refresh token any more.
//!
//! A copy that is used again is a dead token at best; at providers that take it for theft it ends the
//! login that moved. What is set aside keeps its content, so that a person can look at it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use everfresh_domain::Secret;
use serde::Deserialize;

use super::bolt::{Bolt, BoltError, Entry};
use super::mcpproxy::LOGINS;
use super::{Origin, read_file};
use crate::files::{folder_of, sync_folder};

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

/// What was done to the copies of a login.
#[derive(Debug, Default)]
pub struct Disarmed {
    /// In words; empty where nothing was to be done.
    pub told: Vec<String>,
    /// While this is kept, the other program cannot use its database.
    pub held: Option<File>,
}

/// Disarms the copies at `origin` of the login that came with `refresh_token`. A copy that holds another
/// one by now is its program's living login, and is left as it is.
pub fn disarm(origin: &Origin, refresh_token: &Secret) -> io::Result<Disarmed> {
    match origin {
        Origin::Files(files) => {
            // All of them, also where one fails.
            let done: Vec<io::Result<String>> = files.iter().map(|file| set_aside(file, refresh_token)).collect();
            Ok(Disarmed { told: done.into_iter().collect::<io::Result<_>>()?, held: None })
        }
        Origin::Database { file, key } => blank(file, key, refresh_token),
        Origin::Document => Ok(Disarmed::default()),
    }
}

fn set_aside(file: &Path, refresh_token: &Secret) -> io::Result<String> {
    let aside = free_name(file, MOVED);
    check_unchanged(&read_file(file)?, refresh_token)?;
    fs::rename(file, &aside)?;
    // Written meanwhile: what is in it has its old name back, unless that has been taken.
    if let Err(error) = check_unchanged(&read_file(&aside)?, refresh_token) {
        if !file.exists() {
            fs::rename(&aside, file)?;
        }
        return Err(error);
    }
    sync_folder(folder_of(file))?;
    Ok(format!("{} is renamed to {}", file.display(), name_of(&aside)))
}

/// That `kept`, as JSON, still has the refresh token that was moved.
fn check_unchanged(kept: &[u8], refresh_token: &Secret) -> io::Result<()> {
    let kept: Kept = serde_json::from_slice(kept).map_err(|_| odd())?;
    if kept.refresh_token.map(Secret::new).as_ref() == Some(refresh_token) {
        return Ok(());
    }
    let text = "it holds another login than the one that was imported: its program was used meanwhile";
    Err(io::Error::new(io::ErrorKind::InvalidData, text))
}

/// The only thing of a copy that is looked at again.
#[derive(Deserialize)]
struct Kept {
    refresh_token: Option<String>,
}

fn odd() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "its refresh token is not where it should be")
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
fn blank(database: &Path, key: &str, refresh_token: &Secret) -> io::Result<Disarmed> {
    let writing = database.with_added_extension(WRITING);
    fs::copy(database, &writing)?;
    let written = blank_in(&writing, key, refresh_token).and_then(|()| hold(&writing));
    let held = match written {
        Ok(held) => held,
        Err(error) => {
            fs::remove_file(&writing)?;
            return Err(error);
        }
    };
    let before = free_name(database, BEFORE);
    fs::hard_link(database, &before).or_else(|_| fs::copy(database, &before).map(drop))?;
    fs::rename(&writing, database)?;
    sync_folder(folder_of(database))?;
    let told = format!(
        "the refresh token of {key:?} is blanked in {}; the database from before is kept as {}",
        database.display(),
        name_of(&before)
    );
    Ok(Disarmed { told: vec![told], held })
}

/// The lock that mcpproxy would take, on a database that has not its name yet: from one to the next
/// there is no moment in which it could begin.
#[cfg(unix)]
fn hold(writing: &Path) -> io::Result<Option<File>> {
    let file = File::open(writing)?;
    file.try_lock()?;
    Ok(Some(file))
}

/// Its lock cannot be taken on this platform.
#[cfg(not(unix))]
fn hold(_writing: &Path) -> io::Result<Option<File>> {
    Ok(None)
}

fn blank_in(database: &Path, key: &str, refresh_token: &Secret) -> io::Result<()> {
    let entry = entry(database, key)?;
    check_unchanged(&entry.value, refresh_token)?;
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
