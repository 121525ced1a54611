//! Software from npm, locked in this repository and installed into the target folder.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{Result, root, run};

/// Installs what `tests/{name}` locks into `target/{name}`, with the scripts of `tests/{name}`
/// beside it; that folder. What is installed already is not installed again.
pub(crate) fn install(name: &str) -> Result<PathBuf> {
    let (sources, place) = (root().join("tests").join(name), root().join("target").join(name));
    std::fs::create_dir_all(&place).map_err(|error| format!("{}: {error}", place.display()))?;
    let lock = "package-lock.json";
    let read = |path: PathBuf| std::fs::read(path).ok();
    // npm writes its own copy of the lock last.
    let is_whole = place.join("node_modules/.package-lock.json").exists();
    let is_there = is_whole && read(place.join(lock)) == read(sources.join(lock));
    copy_files(&sources, &place)?;
    if !is_there {
        run(Command::new("npm").args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(&place))?;
    }
    Ok(place)
}

fn copy_files(from: &Path, to: &Path) -> Result {
    let failed = |error: std::io::Error| format!("{}: {error}", from.display());
    for entry in std::fs::read_dir(from).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if let Some(name) = path.file_name().filter(|_| path.is_file()) {
            std::fs::copy(&path, to.join(name)).map_err(failed)?;
        }
    }
    Ok(())
}
