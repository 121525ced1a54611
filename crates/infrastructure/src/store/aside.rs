//! What could not be read is kept for whoever can mend it, out of the way and never for ever.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use everfresh_application::ports::Clock;

use crate::files::create_private_folder;

/// Things that are kept; the oldest go first.
const KEPT: usize = 16;

/// The folder for things that were set aside.
#[derive(Clone)]
pub(super) struct Aside {
    folder: PathBuf,
    clock: Arc<dyn Clock>,
}

impl Aside {
    pub(super) fn new(folder: PathBuf, clock: Arc<dyn Clock>) -> Self {
        Self { folder, clock }
    }

    /// Copies a file here. A file that is not there any more needs no copy.
    pub(super) fn copy(&self, file: &Path) -> io::Result<()> {
        if !file.exists() {
            return Ok(());
        }
        let place = self.place(file)?;
        fs::copy(file, place)?;
        self.forget_oldest()
    }

    /// Moves a file or folder here.
    pub(super) fn take(&self, path: &Path) -> io::Result<()> {
        let place = self.place(path)?;
        fs::rename(path, place)?;
        self.forget_oldest()
    }

    /// A free name that sorts by time.
    fn place(&self, path: &Path) -> io::Result<PathBuf> {
        create_private_folder(&self.folder)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let at = self.clock.now().as_millis();
        let free = (0..).map(|n| self.folder.join(format!("{at:015}.{n}-{name}"))).find(|place| !place.exists());
        free.ok_or_else(|| io::Error::other("no free name to set it aside"))
    }

    fn forget_oldest(&self) -> io::Result<()> {
        let mut kept: Vec<PathBuf> =
            fs::read_dir(&self.folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
        kept.sort();
        let surplus = kept.len().saturating_sub(KEPT);
        for old in kept.drain(..surplus) {
            if old.is_dir() { fs::remove_dir_all(old)? } else { fs::remove_file(old)? }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::SystemClock;

    #[test]
    fn what_is_set_aside_does_not_pile_up() {
        let folder = tempfile::tempdir().unwrap();
        let aside = Aside::new(folder.path().join("aside"), Arc::new(SystemClock::default()));
        let file = folder.path().join("grant.linear.sealed");
        fs::write(&file, b"damaged").unwrap();
        for _ in 0..KEPT + 5 {
            aside.copy(&file).unwrap();
        }
        aside.take(&file).unwrap();
        assert!(!file.exists());
        assert_eq!(fs::read_dir(folder.path().join("aside")).unwrap().count(), KEPT);
    }
}
