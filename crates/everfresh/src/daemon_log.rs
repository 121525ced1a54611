//! The log of a daemon that nobody reads the output of: a file in the data folder.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use everfresh_infrastructure::files;

use crate::paths::Paths;

/// A log that is longer is set aside at the next start.
const LENGTH_MAX: u64 = 16 << 20;

/// Opens the log for writing at its end; the one before it is kept as `daemon.log.1`.
pub(crate) fn open(paths: &Paths) -> io::Result<(PathBuf, File)> {
    files::create_private_folder(&paths.data)?;
    let log = paths.data.join("daemon.log");
    if std::fs::metadata(&log).is_ok_and(|log| log.len() > LENGTH_MAX) {
        std::fs::rename(&log, log.with_added_extension("1"))?;
    }
    let file = files::append_private(&log)?;
    Ok((log, file))
}
