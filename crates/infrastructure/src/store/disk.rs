//! Files that are whole or not there: the few steps from which durability is made.
//!
//! Each step is a method of [`Disk`], so that a test can record them and cut the power between any
//! two. What a step guarantees stands at the method; nothing else is taken for granted.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::files;

/// The steps.
pub trait Disk: Send + Sync {
    /// Writes a new file and forces its content to the disk. Its name may still be lost.
    fn write_synced(&self, path: &Path, content: &[u8]) -> io::Result<()>;

    /// Gives a file the name of another in the same folder, which it replaces in one step.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a name.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Forces the names in a folder to the disk.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
}

/// The real disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn write_synced(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        files::write_synced(path, content)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        files::replace(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        files::sync_folder(folder)
    }
}

/// The name under which a file is written before it takes its own.
pub(super) fn temporary(path: &Path) -> PathBuf {
    path.with_added_extension("tmp")
}
