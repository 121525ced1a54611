//! A client's file: read once, and replaced as a whole, or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use everfresh_domain::Timestamp;

use crate::exit::{Exit, Failure};

/// Backups that are kept of a file.
const BACKUPS_MAX: usize = 5;

/// Symbolic links that are followed from one file.
const LINKS_MAX: usize = 16;

/// What is only its owner's to read.
#[cfg(unix)]
const PRIVATE: u32 = 0o600;

/// A file as it was read.
#[derive(Debug)]
pub(crate) struct Held {
    /// Where it really is, behind symbolic links.
    path: PathBuf,
    /// What was in it; `None` where there is no file.
    seen: Option<Vec<u8>>,
}

impl Held {
    /// Reads the file. That it is not there is no error.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let path = followed(path);
        match fs::read(&path) {
            Ok(seen) => Ok(Self { path, seen: Some(seen) }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self { path, seen: None }),
            Err(error) => Err(Failure::new(Exit::Failed, format!("{} cannot be read: {error}", path.display()))),
        }
    }

    /// What is in it.
    pub(crate) fn text(&self) -> Result<&str, Failure> {
        std::str::from_utf8(self.seen.as_deref().unwrap_or_default()).map_err(|error| {
            let text = format!(
                "{} is not UTF-8 text (byte {}); nothing was changed",
                self.path.display(),
                error.valid_up_to()
            );
            Failure::new(Exit::Usage, text)
        })
    }

    /// Where it really is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The same for whatever way led to it: as the file is known to others.
    pub(crate) fn name(&self) -> String {
        let there = self.path.ancestors().skip(1).find_map(|folder| Some((folder, real(folder)?)));
        let name = match there {
            Some((folder, real)) => real.join(self.path.strip_prefix(folder).unwrap_or(&self.path)),
            None => self.path.clone(),
        };
        name.display().to_string()
    }

    /// The repository that the file is in: whatever is written to it may be shared.
    pub(crate) fn repository(&self) -> Option<PathBuf> {
        // A folder on the way may be a link into one.
        let real = self.path.ancestors().skip(1).find_map(|folder| folder.canonicalize().ok())?;
        let found = real.ancestors().find(|folder| folder.join(".git").exists() || folder.join(".hg").exists());
        found.map(Path::to_owned)
    }

    /// Whether others than its owner may read it.
    pub(crate) fn is_open_to_others(&self) -> bool {
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;

            const OTHERS: u32 = 0o077;
            fs::metadata(&self.path).is_ok_and(|found| found.permissions().mode() & OTHERS != 0)
        }
        #[cfg(not(unix))]
        false
    }

    /// Replaces it by `text`, after a copy of what was in it. Its permissions stay, but for those of
    /// others where it becomes `private`. Returns where the copy is.
    ///
    /// # Errors
    /// Where it cannot be written, or somebody else wrote it since it was read. It is as it was then.
    pub(crate) fn replace(&self, text: &str, private: bool, now: Timestamp) -> Result<Option<PathBuf>, Failure> {
        let cannot = |error: io::Error| {
            let text = format!("{} cannot be written: {error}; nothing was changed", self.path.display());
            Failure::new(Exit::Failed, text)
        };
        if fs::metadata(&self.path).is_ok_and(|found| found.permissions().readonly()) {
            return Err(cannot(io::Error::other("it is read-only")));
        }
        let folder = self.path.parent().unwrap_or_else(|| Path::new("."));
        fs::create_dir_all(folder).map_err(cannot)?;
        let beside = self.beside(&format!("everfresh-{}.tmp", std::process::id()));
        drop(fs::remove_file(&beside));
        let backup = self.seen.as_ref().map(|seen| self.back_up(seen, now)).transpose().map_err(cannot)?;
        let replaced = self
            .write_beside(&beside, text, private)
            .and_then(|()| if self.is_unchanged()? { fs::rename(&beside, &self.path) } else { Err(changed()) });
        if let Err(error) = replaced {
            drop(fs::remove_file(&beside));
            drop(backup.as_ref().map(fs::remove_file));
            return Err(cannot(error));
        }
        self.forget_old_backups();
        Ok(backup)
    }

    fn write_beside(&self, beside: &Path, text: &str, private: bool) -> io::Result<()> {
        let mut file = create_private(beside)?;
        file.write_all(text.as_bytes())?;
        if let Ok(found) = fs::metadata(&self.path)
            && !private
        {
            file.set_permissions(found.permissions())?;
        }
        file.sync_all()
    }

    fn is_unchanged(&self) -> io::Result<bool> {
        match fs::read(&self.path) {
            Ok(found) => Ok(self.seen.as_ref() == Some(&found)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(self.seen.is_none()),
            Err(error) => Err(error),
        }
    }

    /// A copy for its owner only: it may hold what others must not read.
    fn back_up(&self, seen: &[u8], now: Timestamp) -> io::Result<PathBuf> {
        let moment: String = now.to_string().chars().filter(|c| c.is_ascii_alphanumeric()).collect();
        let mut copy = self.beside(&format!("{BACKUP}{moment}"));
        let mut number = 2;
        let mut file = loop {
            match create_private(&copy) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    copy = self.beside(&format!("{BACKUP}{moment}-{number}"));
                    number += 1;
                }
                created => break created?,
            }
        };
        file.write_all(seen)?;
        file.sync_all()?;
        Ok(copy)
    }

    /// Takes all backups away but the last few. One that does not go is no harm.
    fn forget_old_backups(&self) {
        let (Some(folder), Some(name)) = (self.path.parent(), self.path.file_name()) else { return };
        let start = format!("{}.{BACKUP}", name.to_string_lossy());
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut backups: Vec<PathBuf> = entries
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&start))
            .map(|entry| entry.path())
            .collect();
        backups.sort();
        for old in backups.iter().rev().skip(BACKUPS_MAX) {
            drop(fs::remove_file(old));
        }
    }

    fn beside(&self, end: &str) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".");
        name.push(end);
        self.path.with_file_name(name)
    }
}

/// What a backup's name has behind the file's own.
const BACKUP: &str = "everfresh-backup-";

fn changed() -> io::Error {
    io::Error::other("another program wrote it at the same time (run this again)")
}

/// A folder that is there, without links on the way to it.
fn real(folder: &Path) -> Option<PathBuf> {
    // What Windows answers is a form of path that people do not know.
    if cfg!(windows) {
        std::path::absolute(folder).ok().filter(|path| path.is_dir())
    } else {
        folder.canonicalize().ok()
    }
}

/// The file behind symbolic links, also where it is not there yet.
fn followed(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        let Ok(target) = fs::read_link(&path) else { break };
        path = path.parent().unwrap_or_else(|| Path::new("")).join(target);
    }
    path
}

fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, PRIVATE);
    options.open(path)
}

#[cfg(test)]
mod tests;
