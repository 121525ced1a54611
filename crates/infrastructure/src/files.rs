//! Files and folders that are their owner's only.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use everfresh_application::ports::Entropy;

use crate::system::SystemEntropy;

#[cfg(unix)]
const PRIVATE_FILE: u32 = 0o600;
#[cfg(unix)]
const PRIVATE_FOLDER: u32 = 0o700;

/// The folder that `path` lies in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    // Of a bare name it is the empty path, which cannot be opened.
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// Gives a file the name of another in the same folder, which it replaces in one step.
///
/// Windows forces no folder to the disk. There the file is forced once more under its new name, which
/// takes along what the file system's journal says of it.
pub(crate) fn replace(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    if cfg!(windows) { sync(to) } else { Ok(()) }
}

/// Forces the content of a file to the disk that somebody else wrote.
pub(crate) fn sync(path: &Path) -> io::Result<()> {
    // Windows flushes only what is open for writing.
    OpenOptions::new().write(true).open(path)?.sync_data()
}

/// Forces the names in `folder` to the disk, where the platform has that.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

/// Writes `content` as a file of its owner only: whole and durable, or not at all.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = folder_of(path);
    let beside = path.with_added_extension("tmp");
    write_synced(&beside, content)?;
    replace(&beside, path)?;
    sync_folder(folder)
}

/// The same for a file that must not be there yet: nothing is written over, whoever else may write in
/// that folder.
pub(crate) fn create_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let drawn = hex::encode(&SystemEntropy.bytes()[..8]);
    let beside = path.with_added_extension(drawn).with_added_extension("tmp");
    let mut options = private_file();
    let written = options.write(true).create_new(true).open(&beside).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_data()
    });
    let placed = written.and_then(|()| place_new(&beside, path));
    if placed.is_err() {
        drop(fs::remove_file(&beside));
    }
    placed?;
    sync_folder(folder_of(path))
}

/// Gives `beside` a name that nothing has. Where there are no links, as on many a memory stick, it is
/// looked before.
fn place_new(beside: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(beside, path) {
        Ok(()) => fs::remove_file(beside),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists || path.symlink_metadata().is_ok() => {
            Err(io::ErrorKind::AlreadyExists.into())
        }
        Err(_) => fs::rename(beside, path),
    }
}

/// The same without forcing anything to the disk: whole, also where the process is killed, and maybe
/// lost with the machine.
pub(crate) fn replace_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = path.with_added_extension("tmp");
    write_new(&beside, content)?;
    fs::rename(&beside, path)
}

/// Writes a new file and forces its content to the disk. Its name may still be lost.
pub(crate) fn write_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    write_new(path, content)?.sync_data()
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<File> {
    let mut file = private_file().write(true).create(true).truncate(true).open(path)?;
    file.write_all(content)?;
    Ok(file)
}

/// Opens a file of its owner only, to write behind what is in it.
pub fn append_private(path: &Path) -> io::Result<File> {
    private_file().append(true).create(true).open(path)
}

/// How a file is made that is its owner's only.
fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, PRIVATE_FILE);
    options
}

/// Makes a folder for its owner only, with all that leads to it.
pub fn create_private_folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, PRIVATE_FOLDER);
    builder.create(path)
}

/// Takes away what others may do with `path`. Returns whether there was something to take away.
#[cfg(unix)]
pub(crate) fn tighten(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;

    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        metadata => metadata?,
    };
    let wanted = if metadata.is_dir() { PRIVATE_FOLDER } else { PRIVATE_FILE };
    let open_to_others = metadata.permissions().mode() & 0o077 != 0;
    if open_to_others {
        fs::set_permissions(path, fs::Permissions::from_mode(wanted))?;
    }
    Ok(open_to_others)
}

/// Takes away what others may do with `path`: on this platform the user's profile does that.
#[cfg(not(unix))]
pub(crate) fn tighten(_path: &Path) -> io::Result<bool> {
    Ok(false)
}
