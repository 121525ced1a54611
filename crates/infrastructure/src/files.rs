//! Files and folders that are their owner's only.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

#[cfg(unix)]
const PRIVATE_FILE: u32 = 0o600;
#[cfg(unix)]
const PRIVATE_FOLDER: u32 = 0o700;

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
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    let beside = path.with_added_extension("tmp");
    write_synced(&beside, content)?;
    replace(&beside, path)?;
    sync_folder(folder)
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
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, PRIVATE_FILE);
    let mut file = options.open(path)?;
    file.write_all(content)?;
    Ok(file)
}

/// Opens a file of its owner only, to write behind what is in it.
pub fn append_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, PRIVATE_FILE);
    options.open(path)
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
