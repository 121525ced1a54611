//! Opening the store: one process, private files, the right key, and the newer of two copies.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use everfresh_application::ports::{Clock, Entropy};
use everfresh_domain::Generation;

use super::aside::Aside;
use super::disk::{Disk, temporary};
use super::index::{Entry, Index};
use super::keeper::{Keeper, SUFFIX, path_of, rebuilt, remove_leftovers};
use super::seal::{Sealer, UnsealError, Version, version_of};
use super::tree::Tree;
use super::{GRANT, SERVER};
use crate::custody::MasterKey;
use crate::files::{create_private_folder, tighten};

/// A record that proves the key. It holds nothing.
const CHECK: &str = "check";

/// Why the store cannot be opened. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "the data folder {} is in use by another everfresh{}; stop that one, or choose another folder with --data-dir",
        folder.display(), pid.as_deref().map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    Locked {
        /// The data folder.
        folder: PathBuf,
        /// The other process, where known.
        pid: Option<String>,
    },
    /// The folder cannot be used.
    #[error("{} cannot be used: {cause}; everfresh needs a folder that it can read and write", path.display())]
    Unusable {
        /// Which path.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The key does not open what is there.
    #[error(
        "the key is not the one that sealed the records in {}; give the right one in EVERFRESH_MASTER_KEY, or put back \
         the key file or keychain entry (nothing was changed)", folder.display()
    )]
    WrongKey {
        /// The data folder.
        folder: PathBuf,
    },
    /// A later version wrote it.
    #[error(
        "{} was written by a newer everfresh (schema {schema}); update everfresh (nothing was changed)", path.display()
    )]
    NewerSchema {
        /// Which file.
        path: PathBuf,
        /// Its schema.
        schema: u8,
    },
}

/// Whether a data folder holds sealed records already.
pub fn has_records(folder: &Path) -> bool {
    let files = fs::read_dir(folder.join("records")).into_iter().flatten().flatten();
    let sealed = files.map(|file| file.path()).any(|path| path.extension().is_some_and(|end| end == SUFFIX));
    sealed || folder.join("sled").join("db").exists()
}

/// The servers and logins that a data folder has records of, by their names alone: for completion,
/// while the store may be in use.
pub fn recorded_names(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder.join("records")).into_iter().flatten().flatten();
    let named = files.filter_map(|file| {
        let name = file.file_name().into_string().ok()?;
        let record = name.strip_suffix(SUFFIX)?.strip_suffix('.')?;
        record.strip_prefix(GRANT).or_else(|| record.strip_prefix(SERVER)).map(str::to_owned)
    });
    let mut names: Vec<String> = named.collect();
    names.sort();
    names.dedup();
    names
}

/// What an open store is made of.
pub(super) struct Opened {
    pub(super) lock: File,
    pub(super) keeper: Keeper,
}

/// One copy of a record.
type Copy = Result<(Version, Arc<[u8]>), UnsealError>;

/// Both copies of a record.
#[derive(Default)]
struct Copies {
    file: Option<Copy>,
    tree: Option<Copy>,
}

pub(super) fn open(
    folder: &Path,
    key: &MasterKey,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    disk: Arc<dyn Disk>,
) -> Result<Opened, OpenError> {
    let unusable = |path: &Path| {
        let path = path.to_owned();
        move |cause: io::Error| OpenError::Unusable { path, cause }
    };
    create_private_folder(folder).map_err(unusable(folder))?;
    let warnings = Arc::new(Mutex::new(Vec::new()));
    let lock = lock(folder)?;
    let (records, sled_folder) = (folder.join("records"), folder.join("sled"));
    create_private_folder(&records).map_err(unusable(&records))?;
    for path in [folder, &records, &sled_folder] {
        if tighten(path).map_err(unusable(path))? {
            note(&warnings, format!("{} was open to other users; it is private now", path.display()));
        }
    }
    let sealer = Arc::new(Sealer::new(key));
    let files = read_files(&records, &sealer)?;
    remove_leftovers(&records).map_err(unusable(&records))?;
    let aside = Aside::new(folder.join("aside"), clock);
    let (tree, seconds) = read_tree(&sled_folder, &sealer);
    if !opens_anything(&files, seconds.as_ref().map_or(&[], |copies| copies)) {
        return Err(OpenError::WrongKey { folder: folder.to_owned() });
    }
    let index = Arc::new(RwLock::new(Index::default()));
    let mut keeper = Keeper {
        folder: records.clone(),
        sled_folder,
        runs: folder.join("runs.json"),
        disk,
        sealer,
        entropy,
        tree,
        index,
        aside,
        warnings,
    };
    keeper.reconcile(files, seconds).map_err(unusable(&records))?;
    Ok(Opened { lock, keeper })
}

/// Takes the lock that is held for the life of the process.
fn lock(folder: &Path) -> Result<File, OpenError> {
    let path = folder.join("lock");
    let unusable = |cause| OpenError::Unusable { path: path.clone(), cause };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&path).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let known = file.read_to_string(&mut pid).is_ok() && !pid.trim().is_empty();
            let pid = known.then(|| pid.trim().to_owned());
            return Err(OpenError::Locked { folder: folder.to_owned(), pid });
        }
        Err(TryLockError::Error(cause)) => return Err(unusable(cause)),
    }
    let told = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
    // The process id is a courtesy: on a full disk the lock holds without it.
    drop(told);
    Ok(file)
}

/// Every record file, opened once to see that it is whole. A newer layout ends it here.
fn read_files(folder: &Path, sealer: &Sealer) -> Result<Vec<(String, Copy)>, OpenError> {
    let unusable = |path: &Path, cause| OpenError::Unusable { path: path.to_owned(), cause };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(|cause| unusable(folder, cause))? {
        let path = entry.map_err(|cause| unusable(folder, cause))?.path();
        let Some(name) = record_name(&path) else { continue };
        let sealed = fs::read(&path).map_err(|cause| unusable(&path, cause))?;
        match whole(sealer, &name, sealed) {
            Err(UnsealError::NewerSchema(schema)) => return Err(OpenError::NewerSchema { path, schema }),
            copy => files.push((name, copy)),
        }
    }
    Ok(files)
}

fn record_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?.strip_suffix('.')?;
    Some(name.to_owned())
}

fn whole(sealer: &Sealer, name: &str, sealed: Vec<u8>) -> Copy {
    let version = version_of(&sealed)?;
    sealer.open(name, &sealed)?;
    Ok((version, sealed.into()))
}

/// sled's copies; nothing where it cannot be read.
fn read_tree(folder: &Path, sealer: &Sealer) -> (Option<Tree>, Option<Vec<(String, Copy)>>) {
    let opened = Tree::open(folder).and_then(|tree| {
        let records = tree.records()?;
        Ok((tree, records))
    });
    match opened {
        Ok((tree, records)) => {
            let copy = |(name, sealed): (String, Vec<u8>)| {
                let copy = whole(sealer, &name, sealed);
                (name, copy)
            };
            (Some(tree), Some(records.into_iter().map(copy).collect()))
        }
        Err(error) => {
            tracing::error!(%error, "sled cannot be opened");
            (None, None)
        }
    }
}

/// Whether the key is right: it opens something, or there is nothing to be opened.
fn opens_anything(files: &[(String, Copy)], tree: &[(String, Copy)]) -> bool {
    let mut sealed = files.iter().chain(tree).filter(|(_, copy)| !matches!(copy, Err(UnsealError::Foreign))).peekable();
    sealed.peek().is_none() || sealed.any(|(_, copy)| copy.is_ok())
}

fn note(warnings: &Mutex<Vec<String>>, warning: String) {
    tracing::warn!("{warning}");
    warnings.lock().unwrap_or_else(PoisonError::into_inner).push(warning);
}

impl Keeper {
    /// Takes the newer of both copies of each record, and mends the other one.
    fn reconcile(&mut self, files: Vec<(String, Copy)>, tree: Option<Vec<(String, Copy)>>) -> io::Result<()> {
        let sled_is_lost = tree.is_none();
        let mut records: BTreeMap<String, Copies> = BTreeMap::new();
        for (name, copy) in files {
            records.entry(name).or_default().file = Some(copy);
        }
        for (name, copy) in tree.into_iter().flatten() {
            records.entry(name).or_default().tree = Some(copy);
        }
        let mut behind = Vec::new();
        for (name, copies) in records {
            let in_tree = version_in(copies.tree.as_ref());
            let entry = self.take_newer(&name, copies)?;
            if let Entry::Sealed { version, bytes } = &entry
                && in_tree != Some(*version)
            {
                behind.push((name.clone(), Arc::clone(bytes)));
            }
            self.index.write().unwrap_or_else(PoisonError::into_inner).put(name, entry);
        }
        if sled_is_lost {
            self.tree = rebuilt(&self.sled_folder, &self.aside, &self.index);
            let made = if self.tree.is_some() { "was made anew from the record files" } else { "is out of use" };
            let warning = format!("sled could not be read: it was set aside and {made}; earlier journals are lost");
            note(&self.warnings, warning);
        } else if let (Some(tree), false) = (&self.tree, behind.is_empty()) {
            let changes = behind.iter().map(|(name, bytes)| (name.as_str(), Some(&**bytes)));
            if tree.write(changes).is_err() {
                self.tree = None;
                self.tree = rebuilt(&self.sled_folder, &self.aside, &self.index);
            }
        }
        self.prove_key()
    }

    /// The newer whole copy. The file is written from it where it is not that copy.
    fn take_newer(&self, name: &str, copies: Copies) -> io::Result<Entry> {
        let file = version_in(copies.file.as_ref());
        let tree = version_in(copies.tree.as_ref());
        self.remember(copies.tree.as_ref());
        match (copies.file, copies.tree) {
            (Some(Ok((version, bytes))), _) if tree <= file => Ok(Entry::Sealed { version, bytes }),
            (damaged, Some(Ok((version, bytes)))) => {
                let path = path_of(&self.folder, name);
                self.aside.copy(&path)?;
                self.disk.write_synced(&temporary(&path), &bytes)?;
                self.disk.rename(&temporary(&path), &path)?;
                self.disk.sync_folder(&self.folder)?;
                let was = match damaged {
                    None => "missing",
                    Some(Ok(_)) => "older than its second copy",
                    Some(Err(_)) => "damaged",
                };
                note(&self.warnings, format!("the file {} was {was}; it was restored from sled", path.display()));
                Ok(Entry::Sealed { version, bytes })
            }
            (Some(Ok((version, bytes))), _) => Ok(Entry::Sealed { version, bytes }),
            (Some(Err(cause)), _) | (None, Some(Err(cause))) => {
                let path = path_of(&self.folder, name);
                let warning =
                    format!("{} cannot be read: {cause}; it is left as it is until it is replaced", path.display());
                note(&self.warnings, warning);
                Ok(Entry::Unreadable { cause })
            }
            (None, None) => Ok(Entry::Unreadable { cause: UnsealError::Damaged }),
        }
    }

    /// The count of writes goes on even where a copy of it lost.
    fn remember(&self, copy: Option<&Copy>) {
        if let Some(Ok((version, _))) = copy {
            self.index.write().unwrap_or_else(PoisonError::into_inner).seen(*version);
        }
    }

    /// Leaves a record by which the key is known again, also where there is no other record.
    fn prove_key(&mut self) -> io::Result<()> {
        let proven = {
            let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
            matches!(index.entry(CHECK), Some(Entry::Sealed { .. }))
        };
        if proven {
            return Ok(());
        }
        let writes = self.index.write().unwrap_or_else(PoisonError::into_inner).next_write();
        let version = Version { generation: Generation(0), writes };
        let bytes: Arc<[u8]> = self.sealer.seal(&*self.entropy, CHECK, version, b"everfresh").into();
        let path = path_of(&self.folder, CHECK);
        self.disk.write_synced(&temporary(&path), &bytes)?;
        self.disk.rename(&temporary(&path), &path)?;
        self.disk.sync_folder(&self.folder)?;
        if let Some(tree) = &self.tree
            && let Err(error) = tree.write([(CHECK, Some(&*bytes))])
        {
            tracing::warn!(%error, "the key's proof has no second copy");
        }
        self.index
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .put(CHECK.to_owned(), Entry::Sealed { version, bytes });
        Ok(())
    }
}

fn version_in(copy: Option<&Copy>) -> Option<Version> {
    copy.and_then(|copy| copy.as_ref().ok()).map(|(version, _)| *version)
}
