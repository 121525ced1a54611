//! The embedded store under the store's contract, and what is its own: locks, keys, permissions.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use everfresh_application::ports::{StoreError, TokenStore};
use everfresh_domain::Generation;
use everfresh_infrastructure::custody::MasterKey;
use everfresh_infrastructure::store::disk::{Disk, RealDisk};
use everfresh_infrastructure::store::{OpenError, SledStore};
use everfresh_infrastructure::system::{SystemClock, SystemEntropy};
use everfresh_testkit::contract::store::{Subject, all, record};
use tempfile::TempDir;

pub(crate) fn key() -> MasterKey {
    MasterKey::from_bytes([7; 32])
}

pub(crate) fn open(folder: &Path) -> Result<SledStore, OpenError> {
    SledStore::open(folder, &key(), Arc::new(SystemClock::default()), Arc::new(SystemEntropy))
}

pub(crate) fn open_on(disk: Arc<dyn Disk>, folder: &Path) -> Result<SledStore, OpenError> {
    SledStore::open_on(disk, folder, &key(), Arc::new(SystemClock::default()), Arc::new(SystemEntropy))
}

struct Opened {
    store: Arc<SledStore>,
    folder: TempDir,
}

impl Opened {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { store: Arc::new(open(folder.path()).unwrap()), folder }
    }
}

impl Subject for Opened {
    fn store(&self) -> Arc<dyn TokenStore> {
        Arc::clone(&self.store) as _
    }

    async fn reopen(self) -> Self {
        drop(Arc::into_inner(self.store).expect("nobody else has the store"));
        Self { store: Arc::new(open(self.folder.path()).unwrap()), folder: self.folder }
    }
}

#[tokio::test]
async fn it_keeps_the_contract_of_a_token_store() {
    all(|| async { Opened::new() }).await;
}

#[tokio::test]
async fn a_second_opener_is_told_who_has_it() {
    let opened = Opened::new();
    let error = open(opened.folder.path()).map(drop).unwrap_err();
    assert!(matches!(&error, OpenError::Locked { .. }), "{error}");
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
}

#[tokio::test]
async fn a_wrong_key_opens_nothing_and_changes_nothing() {
    let opened = Opened::new();
    opened.store.replace(None, &record("linear", 1)).await.unwrap();
    let Opened { store, folder } = opened;
    drop(store);
    let wrong = MasterKey::from_bytes([8; 32]);
    let result = SledStore::open(folder.path(), &wrong, Arc::new(SystemClock::default()), Arc::new(SystemEntropy));
    assert!(matches!(result.map(drop), Err(OpenError::WrongKey { .. })));
    let store = open(folder.path()).unwrap();
    assert_eq!(store.read(&record("linear", 1).id).await.unwrap(), Some(record("linear", 1)));
}

#[tokio::test]
async fn a_wrong_key_is_noticed_before_there_is_any_record() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).unwrap());
    let wrong = MasterKey::from_bytes([8; 32]);
    let result = SledStore::open(folder.path(), &wrong, Arc::new(SystemClock::default()), Arc::new(SystemEntropy));
    assert!(matches!(result.map(drop), Err(OpenError::WrongKey { .. })));
}

#[tokio::test]
async fn a_newer_layout_is_refused_and_left_alone() {
    let opened = Opened::new();
    opened.store.replace(None, &record("linear", 1)).await.unwrap();
    let Opened { store, folder } = opened;
    drop(store);
    let path = folder.path().join("records/grant.linear.sealed");
    let mut bytes = std::fs::read(&path).unwrap();
    (bytes[4], bytes[5]) = (200, !200);
    std::fs::write(&path, &bytes).unwrap();
    assert!(matches!(open(folder.path()).map(drop), Err(OpenError::NewerSchema { schema: 200, .. })));
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[tokio::test]
async fn nothing_on_disk_shows_a_token() {
    let opened = Opened::new();
    opened.store.replace(None, &record("linear", 1)).await.unwrap();
    let Opened { store, folder } = opened;
    drop(store);
    for path in files(folder.path()) {
        let bytes = std::fs::read(&path).unwrap();
        for canary in [b"access-linear-1".as_slice(), b"refresh-linear-1", b"client-secret"] {
            assert!(!bytes.windows(canary.len()).any(|part| part == canary), "{}", path.display());
        }
    }
}

#[cfg(unix)]
#[tokio::test]
async fn everything_is_its_owners_only_and_made_so_again() {
    use std::os::unix::fs::PermissionsExt;

    let opened = Opened::new();
    opened.store.replace(None, &record("linear", 1)).await.unwrap();
    for path in [opened.folder.path().join("records"), opened.folder.path().join("sled")] {
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700, "{}", path.display());
    }
    let file = opened.folder.path().join("records/grant.linear.sealed");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let Opened { store, folder } = opened;
    drop(store);
    let records = folder.path().join("records");
    std::fs::set_permissions(&records, std::fs::Permissions::from_mode(0o755)).unwrap();
    let store = open(folder.path()).unwrap();
    assert_eq!(records.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(store.warnings().len(), 1, "{:?}", store.warnings());
}

/// A disk that is full from some moment on.
#[derive(Default)]
struct FullDisk {
    full: AtomicBool,
}

impl FullDisk {
    fn checked(&self, result: io::Result<()>) -> io::Result<()> {
        if self.full.load(Ordering::Relaxed) { Err(io::Error::from(io::ErrorKind::StorageFull)) } else { result }
    }
}

impl Disk for FullDisk {
    fn write_synced(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        self.checked(RealDisk.write_synced(path, content))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        RealDisk.sync_folder(folder)
    }
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_what_was_stored_is_still_there() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(FullDisk::default());
    let store = open_on(Arc::clone(&disk) as _, folder.path()).unwrap();
    store.replace(None, &record("linear", 1)).await.unwrap();
    disk.full.store(true, Ordering::Relaxed);
    let error = store.replace(Some(Generation(1)), &record("linear", 2)).await.unwrap_err();
    assert!(matches!(&error, StoreError::Unwritable { .. }), "{error}");
    assert_eq!(store.read(&record("linear", 1).id).await.unwrap(), Some(record("linear", 1)));
    disk.full.store(false, Ordering::Relaxed);
    store.replace(Some(Generation(1)), &record("linear", 2)).await.unwrap();
    drop(store);
    assert_eq!(open(folder.path()).unwrap().read(&record("linear", 1).id).await.unwrap(), Some(record("linear", 2)));
}

/// Every file under `folder`.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}
