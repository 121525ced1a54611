//! Power cuts, replayed: the steps of the store are recorded, and for every moment the worst disk
//! that the steps so far allow is built and opened.
//!
//! Worst means: of the record files only what was forced to the disk, names only where their folder
//! was; of sled nothing at all, or its state at the beginning. So this proves the guarantee without
//! trusting sled; what it does not prove is that the operating system's own sync calls are honest.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use everfresh_application::ports::TokenStore;
use everfresh_domain::{Generation, GrantId};
use everfresh_infrastructure::store::disk::{Disk, RealDisk};
use everfresh_testkit::contract::store::record;

use crate::store::{open, open_on};

#[derive(Clone, Debug)]
enum Step {
    Written(PathBuf, Vec<u8>),
    Renamed(PathBuf, PathBuf),
    Removed(PathBuf),
    FolderSynced,
    /// The store has said that the record of this grant is of this generation, or erased.
    Acknowledged(GrantId, Option<Generation>),
    /// An erasure has begun: until it is acknowledged both are right.
    Erasing(GrantId),
}

#[derive(Default)]
struct Recorder {
    steps: Mutex<Vec<Step>>,
}

impl Recorder {
    fn record(&self, step: Step) {
        self.steps.lock().unwrap().push(step);
    }
}

impl Disk for Recorder {
    fn write_synced(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        self.record(Step::Written(path.to_owned(), content.to_owned()));
        RealDisk.write_synced(path, content)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.record(Step::Renamed(from.to_owned(), to.to_owned()));
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.record(Step::Removed(path.to_owned()));
        RealDisk.remove(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.record(Step::FolderSynced);
        RealDisk.sync_folder(folder)
    }
}

/// The names and contents that have surely reached the disk after `steps`, and what was promised.
fn surely_on_disk(steps: &[Step]) -> (BTreeMap<PathBuf, Vec<u8>>, BTreeMap<GrantId, Option<Generation>>) {
    let (mut seen, mut sure, mut promised) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for step in steps {
        match step {
            Step::Written(path, content) => drop(seen.insert(path.clone(), content.clone())),
            Step::Renamed(from, to) => {
                let content = seen.remove(from).expect("only what was written is renamed");
                seen.insert(to.clone(), content);
            }
            Step::Removed(path) => drop(seen.remove(path)),
            Step::FolderSynced => sure.clone_from(&seen),
            Step::Erasing(grant) => drop(promised.remove(grant)),
            Step::Acknowledged(grant, generation) => drop(promised.insert(grant.clone(), *generation)),
        }
    }
    (sure, promised)
}

async fn check(origin: &Path, moment: usize, steps: &[Step]) {
    let (sure, promised) = surely_on_disk(steps);
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("records")).unwrap();
    for (path, content) in sure {
        fs::write(folder.path().join(path.strip_prefix(origin).unwrap()), content).unwrap();
    }
    let store = open(folder.path()).unwrap();
    for (grant, generation) in promised {
        let found = store.read(&grant).await.unwrap().map(|record| record.generation);
        let kept = if generation.is_some() { found >= generation } else { found.is_none() };
        assert!(kept, "moment {moment}: {grant} is {found:?}, and {generation:?} was promised");
    }
}

#[tokio::test]
async fn whatever_was_acknowledged_survives_a_power_cut_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Arc::new(Recorder::default());
    let store = Arc::new(open_on(Arc::clone(&recorder) as _, folder.path()).unwrap());
    for generation in 1..6 {
        let mut writes = tokio::task::JoinSet::new();
        for name in ["a", "b", "c", "d"] {
            let (store, recorder) = (Arc::clone(&store), Arc::clone(&recorder));
            writes.spawn(async move {
                let next = record(name, generation);
                let expected = (generation > 1).then(|| Generation(generation - 1));
                store.replace(expected, &next).await.unwrap();
                recorder.record(Step::Acknowledged(next.id, Some(next.generation)));
            });
        }
        writes.join_all().await;
    }
    recorder.record(Step::Erasing(record("d", 1).id));
    store.erase(&record("d", 1).id).await.unwrap();
    recorder.record(Step::Acknowledged(record("d", 1).id, None));
    let steps = recorder.steps.lock().unwrap().clone();
    assert!(steps.len() > 50, "{}", steps.len());
    for moment in 0..=steps.len() {
        check(folder.path(), moment, &steps[..moment]).await;
    }
}
