//! sled 0.34, used so that it cannot hurt: the recipe of `docs/STORAGE.md`, and every panic caught.
//!
//! It holds the second copy of every sealed record, and the journals. It is never the only copy of
//! a token, and when it fails the store goes on without it and says so.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use everfresh_application::journal::{Line, surplus};
use everfresh_application::ports::JournalEntry;
use everfresh_domain::Timestamp;

use crate::files;

/// Larger segments than sled's own choice: with those, a power cut loses records of 12 KiB.
const SEGMENT: usize = 2 << 20;

/// sled's cache; everything here is small and read once.
const CACHE: u64 = 1 << 20;

/// A journal is looked through for what may go once in so many entries.
const THINNED_EVERY: u64 = 64;

/// Something went wrong inside sled: an error or a panic.
#[derive(Debug, thiserror::Error)]
#[error("sled: {0}")]
pub(super) struct TreeError(String);

impl From<sled::Error> for TreeError {
    fn from(error: sled::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<io::Error> for TreeError {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

/// Runs `work`; a panic in it becomes an error.
fn caught<T>(work: impl FnOnce() -> Result<T, TreeError>) -> Result<T, TreeError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Err(TreeError(format!("it panicked: {}", text.lines().next().unwrap_or_default())))
    })
}

/// An open sled.
pub(super) struct Tree {
    folder: PathBuf,
    db: sled::Db,
    records: sled::Tree,
    journal: sled::Tree,
}

impl Tree {
    /// Opens sled in `folder`, or makes it there.
    pub(super) fn open(folder: &Path) -> Result<Self, TreeError> {
        caught(|| {
            files::create_private_folder(folder)?;
            remove_torn_snapshots(folder)?;
            let config =
                sled::Config::new().path(folder).cache_capacity(CACHE).segment_size(SEGMENT).flush_every_ms(None);
            let db = config.open()?;
            let records = db.open_tree("records")?;
            let journal = db.open_tree("journal")?;
            let tree = Self { folder: folder.to_owned(), db, records, journal };
            tree.force()?;
            files::sync_folder(folder)?;
            Ok(tree)
        })
    }

    /// Every sealed record.
    pub(super) fn records(&self) -> Result<Vec<(String, Vec<u8>)>, TreeError> {
        caught(|| {
            let record = |entry: sled::Result<(sled::IVec, sled::IVec)>| {
                let (name, sealed) = entry?;
                Ok((String::from_utf8_lossy(&name).into_owned(), sealed.to_vec()))
            };
            self.records.iter().map(record).collect()
        })
    }

    /// Stores and removes records. Durable once returned.
    pub(super) fn write<'a>(
        &self,
        changes: impl IntoIterator<Item = (&'a str, Option<&'a [u8]>)>,
    ) -> Result<(), TreeError> {
        caught(|| {
            for (name, sealed) in changes {
                match sealed {
                    Some(sealed) => self.records.insert(name, sealed)?,
                    None => self.records.remove(name)?,
                };
            }
            self.force()
        })
    }

    /// sled's own `flush` leaves the file to the operating system: a power cut would lose it.
    fn force(&self) -> Result<(), TreeError> {
        self.db.flush()?;
        Ok(files::sync(&self.folder.join("db"))?)
    }

    /// Appends to a journal, and forgets what is too old. Durable with the next record at the latest.
    pub(super) fn append(&self, grant: &str, entry: &[u8]) -> Result<(), TreeError> {
        caught(|| {
            let prefix = journal_prefix(grant);
            let last = self.journal.scan_prefix(&prefix).next_back().transpose()?;
            let number = last.and_then(|(key, _)| number_in(&key)).map_or(0, |last| last + 1);
            self.journal.insert([prefix.as_slice(), &number.to_be_bytes()].concat(), entry)?;
            if number % THINNED_EVERY == 0 { self.thin(&prefix) } else { Ok(()) }
        })
    }

    fn thin(&self, prefix: &[u8]) -> Result<(), TreeError> {
        let entries: Vec<(sled::IVec, sled::IVec)> =
            self.journal.scan_prefix(prefix).rev().collect::<Result<_, sled::Error>>()?;
        // What cannot be read is out of the ordinary, and as old as the one after it.
        let mut newer = Timestamp::EPOCH;
        let lines: Vec<Line> = entries
            .iter()
            .map(|(_, entry)| {
                let entry = serde_json::from_slice::<JournalEntry>(entry).ok();
                let line = entry.map_or(Line { at: newer, is_routine: false }, |entry| Line::from(&entry));
                newer = line.at;
                line
            })
            .collect();
        for index in surplus(&lines) {
            self.journal.remove(&entries[index].0)?;
        }
        Ok(())
    }

    /// The newest entries of a journal, newest first.
    pub(super) fn newest(&self, grant: &str, limit: usize) -> Result<Vec<Vec<u8>>, TreeError> {
        caught(|| {
            let entries = self.journal.scan_prefix(journal_prefix(grant)).values().rev().take(limit);
            entries.map(|entry| Ok(entry?.to_vec())).collect()
        })
    }

    /// Forgets a journal.
    pub(super) fn forget_journal(&self, grant: &str) -> Result<(), TreeError> {
        caught(|| {
            for key in self.journal.scan_prefix(journal_prefix(grant)).keys().collect::<Vec<_>>() {
                self.journal.remove(key?)?;
            }
            Ok(())
        })
    }

    /// Closes it. A panic on the way is caught: everything that counts is durable already.
    pub(super) fn close(self) {
        drop(caught(|| {
            self.force()?;
            drop(self);
            Ok(())
        }));
    }
}

/// sled takes the newest `snap.*` file for a snapshot, a half-written one too.
fn remove_torn_snapshots(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn journal_prefix(grant: &str) -> Vec<u8> {
    [grant.as_bytes(), &[0]].concat()
}

pub(super) fn number_in(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use everfresh_application::journal::OLDER_KEPT;
    use everfresh_application::ports::JournalOutcome;

    use super::*;

    /// One of a journal in which an attempt a day failed.
    fn entry(day: usize) -> String {
        let entry = JournalEntry {
            attempt: everfresh_domain::AttemptId { run: 1, number: 1 },
            started_at: Timestamp::EPOCH.after(Duration::from_secs(86_400) * u32::try_from(day).unwrap()),
            duration: Duration::ZERO,
            trigger: "schedule".to_owned(),
            generation: everfresh_domain::Generation(1),
            refresh_token: None,
            credential: None,
            outcome: JournalOutcome::Discarded,
        };
        serde_json::to_string(&entry).unwrap()
    }

    #[test]
    fn a_panic_inside_is_an_error_with_its_words() {
        let error = caught::<()>(|| panic!("Read corrupted data at {}", 7)).unwrap_err();
        assert_eq!(error.to_string(), "sled: it panicked: Read corrupted data at 7");
    }

    #[test]
    fn a_journal_is_bounded_and_newest_first() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        let most = OLDER_KEPT + usize::try_from(THINNED_EVERY).unwrap();
        for number in 0..2 * most {
            tree.append("linear", entry(number).as_bytes()).unwrap();
        }
        tree.append("linear2", b"of another").unwrap();
        let all = tree.newest("linear", usize::MAX).unwrap();
        assert!((OLDER_KEPT..=most).contains(&all.len()), "{}", all.len());
        assert_eq!(all[0], entry(2 * most - 1).as_bytes());
        tree.forget_journal("linear").unwrap();
        assert!(tree.newest("linear", 1).unwrap().is_empty());
        assert_eq!(tree.newest("linear2", 1).unwrap().len(), 1);
    }

    #[test]
    fn a_torn_snapshot_is_removed_before_opening() {
        let folder = tempfile::tempdir().unwrap();
        Tree::open(folder.path()).unwrap().close();
        let torn = folder.path().join("snap.00000001.generating");
        fs::write(&torn, b"half").unwrap();
        Tree::open(folder.path()).unwrap();
        assert!(!torn.exists());
    }
}
