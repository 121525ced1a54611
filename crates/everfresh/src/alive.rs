//! Whether the daemon of a data folder lives: it holds a lock for as long as it does, however it ends.
//!
//! What answers where a daemon was may be another user's program that took its port. It can answer as it
//! likes, and cannot hold a lock in this user's folder: without one, nobody is shown the local key.

use std::fs::{File, TryLockError};
use std::io;
use std::path::PathBuf;

use everfresh_infrastructure::files;

use crate::paths::Paths;

fn lock(paths: &Paths) -> PathBuf {
    paths.data.join("daemon.lock")
}

/// Says that this process is the daemon, until the file is closed. Whoever looks holds the lock for a
/// moment, and is waited for.
pub(crate) fn hold(paths: &Paths) -> io::Result<File> {
    let file = files::append_private(&lock(paths))?;
    file.lock()?;
    Ok(file)
}

/// Whether some process is the daemon.
pub(crate) fn is_held(paths: &Paths) -> bool {
    // To look only, so that it also works for whoever may not write.
    File::open(lock(paths)).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_is_there_for_as_long_as_it_holds_on() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths { config: folder.path().join("c"), config_is_named: false, data: folder.path().to_owned() };
        assert!(!is_held(&paths), "there is no file");
        let held = hold(&paths).unwrap();
        assert!(is_held(&paths) && is_held(&paths), "looking takes nothing away");
        drop(held);
        assert!(!is_held(&paths), "the file stays and says nothing");
    }
}
