//! How the process that keeps a daemon running is found and ended: by two files in the data folder.
//!
//! Windows has no signal that reaches it, and ending its task ends no more than the console that holds
//! it. While it runs it holds a lock, which no crash leaves behind; a file beside the lock asks it to end.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use everfresh_infrastructure::files;

use crate::exit::{Exit, Failure};

/// How often it looks whether it is asked to end. Nothing else wakes it.
const LOOK: Duration = Duration::from_secs(1);

/// How often whoever waits for it looks.
const BEAT: Duration = Duration::from_millis(50);

/// How long somebody who only looks may hold the lock.
const PROBING: Duration = Duration::from_secs(1);

/// The keeper of one data folder's daemon.
#[derive(Clone, Debug)]
pub(super) struct Keeper {
    lock: PathBuf,
    request: PathBuf,
}

impl Keeper {
    /// The keeper of the daemon whose data folder is `data`.
    pub(super) fn of(data: &Path) -> Self {
        Self { lock: data.join("service.lock"), request: data.join("service.stop") }
    }

    /// Makes this process the keeper, until what is returned is dropped. What the one before was asked
    /// is forgotten.
    pub(super) async fn hold(&self) -> Result<File, Failure> {
        let deadline = tokio::time::Instant::now() + PROBING;
        loop {
            match self.taken() {
                Ok(Some(lock)) => {
                    self.forget_request().map_err(|error| self.unusable(&error))?;
                    return Ok(lock);
                }
                Ok(None) if tokio::time::Instant::now() < deadline => tokio::time::sleep(BEAT).await,
                Ok(None) => return Err(Failure::new(Exit::Failed, "the service runs already")),
                Err(error) => return Err(self.unusable(&error)),
            }
        }
    }

    /// Whether there is one. A folder that cannot be written to has none.
    pub(super) fn runs(&self) -> bool {
        self.lock.exists() && matches!(self.taken(), Ok(None))
    }

    /// Asks the keeper to end, and waits for that; it ends its daemon first. Nothing happens where
    /// there is none.
    pub(super) fn stop(&self, patience: Duration) -> Result<(), Failure> {
        if !self.runs() {
            return Ok(());
        }
        files::write_private(&self.request, b"").map_err(|error| self.unusable(&error))?;
        if self.becomes(false, patience) {
            return Ok(());
        }
        drop(self.forget_request());
        let text = format!("`everfresh service run` was asked to end, and still runs after {} s", patience.as_secs());
        Err(Failure::new(Exit::Failed, text))
    }

    /// Waits until there is a keeper, or none. Returns whether that came in time.
    pub(super) fn becomes(&self, running: bool, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while self.runs() != running {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(BEAT);
        }
        true
    }

    /// Returns once the keeper, which is this process, is asked to end.
    pub(super) async fn asked(&self) {
        let mut look = tokio::time::interval(LOOK);
        while !self.request.exists() {
            look.tick().await;
        }
    }

    /// The lock; `None` where another has it.
    fn taken(&self) -> io::Result<Option<File>> {
        if let Some(folder) = self.lock.parent() {
            files::create_private_folder(folder)?;
        }
        let lock = files::append_private(&self.lock)?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(lock)),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn forget_request(&self) -> io::Result<()> {
        match fs::remove_file(&self.request) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    fn unusable(&self, error: &io::Error) -> Failure {
        let folder = self.lock.parent().unwrap_or(&self.lock);
        Failure::new(Exit::Store, format!("{} cannot be used: {error}", folder.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_keeper_holds_the_folder_and_ends_when_it_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let keeper = Keeper::of(&folder.path().join("data"));
        assert!(!keeper.runs());
        keeper.stop(Duration::ZERO).unwrap();
        assert!(!keeper.request.exists(), "nobody is there to be asked");

        let held = keeper.hold().await.unwrap();
        assert!(keeper.runs());
        assert!(keeper.hold().await.unwrap_err().text.contains("runs already"));
        let still = keeper.stop(Duration::ZERO).unwrap_err();
        assert!(still.text.contains("still runs"), "{}", still.text);
        assert!(!keeper.request.exists(), "a request that was given up ends nobody later");

        let (asked, asks) = (keeper.clone(), keeper.clone());
        let stopping = std::thread::spawn(move || asks.stop(Duration::from_secs(60)));
        asked.asked().await;
        drop(held);
        stopping.join().unwrap().unwrap();
        assert!(!keeper.runs());
    }

    #[tokio::test]
    async fn what_one_keeper_was_asked_does_not_end_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let keeper = Keeper::of(folder.path());
        fs::write(&keeper.request, "").unwrap();
        let _held = keeper.hold().await.unwrap();
        assert!(!keeper.request.exists());
    }
}
