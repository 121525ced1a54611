//! The one writer: takes changes from all tasks, makes them durable in groups, and answers.
//!
//! It runs on a thread of its own, so that no disk is ever waited for on an async thread. Changes
//! that arrive together share one sync of the folder and one flush of sled. The order within a
//! group is what makes it crash-safe: files first, then sled, then the index, then the answers;
//! for removals sled first, so that no copy is left that could bring the record back.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use everfresh_application::ports::Entropy;
use everfresh_domain::Generation;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::aside::Aside;
use super::disk::{Disk, temporary};
use super::index::{Entry, Index};
use super::seal::{Sealer, UnsealError, Version};
use super::tree::Tree;
use crate::files;

/// Changes that are made durable together, at most.
const GROUP: usize = 256;

/// From how many files on a group is written by several threads.
const PARALLEL_FROM: usize = 16;
const WRITERS: usize = 4;

/// After how long without work the journals are forced to the disk.
const IDLE: Duration = Duration::from_secs(5);

/// What a change demands of the record that it takes the place of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expected {
    /// This generation, or no record at all.
    Generation(Option<Generation>),
    /// Nothing.
    Anything,
}

/// One change of one record.
pub(super) enum Change {
    Put { name: String, expected: Expected, generation: Generation, body: Zeroizing<Vec<u8>> },
    Remove { name: String },
}

impl Change {
    fn name(&self) -> &str {
        match self {
            Self::Put { name, .. } | Self::Remove { name } => name,
        }
    }
}

/// Why a change was not made. What was stored before still is.
#[derive(Debug)]
pub(super) enum NotWritten {
    Conflict(Option<Generation>),
    Unreadable(UnsealError),
    Disk(String),
}

impl From<io::Error> for NotWritten {
    fn from(error: io::Error) -> Self {
        Self::Disk(error.to_string())
    }
}

type Answer<T> = oneshot::Sender<T>;

/// What the keeper is asked to do.
pub(super) enum Order {
    Change(Change, Answer<Result<(), NotWritten>>),
    Append { grant: String, entry: Vec<u8>, done: Answer<Result<(), String>> },
    Journal { grant: String, limit: usize, done: Answer<Result<Vec<Vec<u8>>, String>> },
    ForgetJournal { grant: String },
    Runs { done: Answer<io::Result<Option<Vec<u8>>>> },
    PutRuns { runs: Vec<u8>, done: Answer<io::Result<()>> },
    Close,
}

/// A change on its way: sealed and written beside its place, or refused.
struct Staged {
    name: String,
    /// `None` removes.
    sealed: Option<(Version, Arc<[u8]>)>,
    result: Result<(), NotWritten>,
    done: Answer<Result<(), NotWritten>>,
}

pub(super) struct Keeper {
    pub(super) folder: PathBuf,
    pub(super) sled_folder: PathBuf,
    /// The file that says when the daemon ran.
    pub(super) runs: PathBuf,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) sealer: Arc<Sealer>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) tree: Option<Tree>,
    pub(super) index: Arc<RwLock<Index>>,
    pub(super) aside: Aside,
    pub(super) warnings: Arc<Mutex<Vec<String>>>,
}

impl Keeper {
    /// Works until told to close, or until nobody can order anything any more.
    pub(super) fn run(mut self, orders: &Receiver<Order>) {
        let mut waiting = VecDeque::new();
        let mut journal_is_dirty = false;
        loop {
            if waiting.is_empty() {
                match orders.recv_timeout(IDLE) {
                    Ok(order) => waiting.push_back(order),
                    Err(RecvTimeoutError::Timeout) => {
                        if std::mem::take(&mut journal_is_dirty) {
                            self.write_tree(&[]);
                        }
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            waiting.extend(orders.try_iter().take(GROUP));
            match waiting.pop_front() {
                Some(Order::Change(change, done)) => {
                    let group = take_group((change, done), &mut waiting);
                    self.change(group);
                    journal_is_dirty = false;
                }
                Some(Order::Append { grant, entry, done }) => {
                    drop(done.send(self.append(&grant, &entry)));
                    journal_is_dirty = true;
                }
                Some(Order::Journal { grant, limit, done }) => drop(done.send(self.journal(&grant, limit))),
                Some(Order::ForgetJournal { grant }) => {
                    self.tree.as_ref().map(|tree| tree.forget_journal(&grant));
                }
                Some(Order::Runs { done }) => drop(done.send(read_if_there(&self.runs))),
                Some(Order::PutRuns { runs, done }) => drop(done.send(files::replace_private(&self.runs, &runs))),
                Some(Order::Close) => break,
                None => {}
            }
        }
        if let Some(tree) = self.tree.take() {
            tree.close();
        }
    }

    /// Makes a group of changes durable, and answers.
    pub(super) fn change(&mut self, group: Vec<(Change, Answer<Result<(), NotWritten>>)>) {
        let mut staged: Vec<Staged> = group.into_iter().map(|(change, done)| self.stage(change, done)).collect();
        self.remove_from_tree(&staged);
        self.write_beside(&mut staged);
        self.move_into_place(&mut staged);
        let written: Vec<(&str, Option<&[u8]>)> = staged
            .iter()
            .filter(|change| change.result.is_ok())
            .map(|change| (change.name.as_str(), change.sealed.as_ref().map(|(_, bytes)| &**bytes)))
            .collect();
        self.publish(&staged);
        self.write_tree(&written);
        for change in staged {
            drop(change.done.send(change.result));
        }
    }

    /// Checks what the change demands, and seals it.
    fn stage(&self, change: Change, done: Answer<Result<(), NotWritten>>) -> Staged {
        match change {
            Change::Remove { name } => Staged { name, sealed: None, result: Ok(()), done },
            Change::Put { name, expected, generation, body } => {
                let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
                let result = demanded(expected, index.entry(&name));
                let version = Version { generation, writes: index.next_write() };
                drop(index);
                let sealed = self.sealer.seal(&*self.entropy, &name, version, &body);
                Staged { name, sealed: Some((version, sealed.into())), result, done }
            }
        }
    }

    /// A removed record leaves sled before its file goes: a crash in between removes nothing.
    fn remove_from_tree(&mut self, staged: &[Staged]) {
        let removed: Vec<(&str, Option<&[u8]>)> =
            staged.iter().filter(|change| change.sealed.is_none()).map(|change| (change.name.as_str(), None)).collect();
        if !removed.is_empty() {
            self.write_tree(&removed);
        }
    }

    /// Writes and syncs the new files beside their places, several at a time.
    fn write_beside(&self, staged: &mut [Staged]) {
        let threads = if staged.len() < PARALLEL_FROM { 1 } else { WRITERS };
        let share = staged.len().div_ceil(threads).max(1);
        let write = |change: &mut Staged| {
            let Some((_, bytes)) = change.sealed.as_ref().filter(|_| change.result.is_ok()) else { return };
            let beside = temporary(&self.path_of(&change.name));
            if let Err(error) = self.disk.write_synced(&beside, bytes) {
                drop(self.disk.remove(&beside));
                change.result = Err(error.into());
            }
        };
        if threads == 1 {
            return staged.iter_mut().for_each(write);
        }
        std::thread::scope(|scope| {
            for part in staged.chunks_mut(share) {
                scope.spawn(|| part.iter_mut().for_each(write));
            }
        });
    }

    /// Gives the new files their names, removes what is to be removed, and syncs the folder once.
    fn move_into_place(&self, staged: &mut [Staged]) {
        for change in staged.iter_mut().filter(|change| change.result.is_ok()) {
            change.result = self.move_one(change).map_err(NotWritten::from);
        }
        if let Err(error) = self.disk.sync_folder(&self.folder) {
            let cause = error.to_string();
            for change in staged.iter_mut().filter(|change| change.result.is_ok()) {
                change.result = Err(NotWritten::Disk(cause.clone()));
            }
        }
    }

    fn move_one(&self, change: &Staged) -> io::Result<()> {
        let path = self.path_of(&change.name);
        let unreadable = {
            let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
            matches!(index.entry(&change.name), Some(Entry::Unreadable { .. }))
        };
        if unreadable {
            self.aside.copy(&path)?;
        }
        match &change.sealed {
            Some(_) => self.disk.rename(&temporary(&path), &path),
            None => self.disk.remove(&path),
        }
    }

    fn publish(&self, staged: &[Staged]) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        for change in staged.iter().filter(|change| change.result.is_ok()) {
            match &change.sealed {
                Some((version, bytes)) => {
                    let entry = Entry::Sealed { version: *version, bytes: Arc::clone(bytes) };
                    index.put(change.name.clone(), entry);
                }
                None => index.remove(&change.name),
            }
        }
    }

    /// Writes the second copies. Where sled fails it is made anew: the first copies are durable.
    fn write_tree(&mut self, changes: &[(&str, Option<&[u8]>)]) {
        let Some(tree) = &self.tree else { return };
        if let Err(error) = tree.write(changes.iter().copied()) {
            self.warn(format!("{error}; it was set aside and made anew from the record files"));
            if let Some(tree) = self.tree.take() {
                tree.close();
            }
            // What the index does not show yet, a removal above all, is to be in the new one as well.
            let again = |tree: Tree| tree.write(changes.iter().copied()).is_ok().then_some(tree);
            self.tree = rebuilt(&self.sled_folder, &self.aside, &self.index).and_then(again);
        }
    }

    fn append(&self, grant: &str, entry: &[u8]) -> Result<(), String> {
        let tree = self.tree.as_ref().ok_or("sled is out of use")?;
        tree.append(grant, entry).map_err(|error| error.to_string())
    }

    fn journal(&self, grant: &str, limit: usize) -> Result<Vec<Vec<u8>>, String> {
        let tree = self.tree.as_ref().ok_or("sled is out of use")?;
        tree.newest(grant, limit).map_err(|error| error.to_string())
    }

    fn path_of(&self, name: &str) -> PathBuf {
        path_of(&self.folder, name)
    }

    fn warn(&self, warning: String) {
        tracing::error!("{warning}");
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(warning);
    }
}

fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// Where the sealed file of the record called `name` lies.
pub(super) fn path_of(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.{SUFFIX}"))
}

/// How the files of sealed records end.
pub(super) const SUFFIX: &str = "sealed";

/// A new sled with a copy of every record, the old one set aside; `None` where that fails too.
pub(super) fn rebuilt(folder: &Path, aside: &Aside, index: &RwLock<Index>) -> Option<Tree> {
    if folder.exists() {
        aside.take(folder).inspect_err(|error| tracing::error!(%error, "sled cannot be set aside")).ok()?;
    }
    let records: Vec<(String, Arc<[u8]>)> = {
        let index = index.read().unwrap_or_else(PoisonError::into_inner);
        let sealed = |(name, entry): (&String, &Entry)| match entry {
            Entry::Sealed { bytes, .. } => Some((name.clone(), Arc::clone(bytes))),
            Entry::Unreadable { .. } => None,
        };
        index.with_prefix("").filter_map(sealed).collect()
    };
    let made = Tree::open(folder).and_then(|tree| {
        tree.write(records.iter().map(|(name, bytes)| (name.as_str(), Some(&**bytes))))?;
        Ok(tree)
    });
    made.inspect_err(|error| tracing::error!(%error, "sled cannot be made anew")).ok()
}

/// The changes that can be made durable together: the next ones of other records.
fn take_group(
    first: (Change, Answer<Result<(), NotWritten>>),
    waiting: &mut VecDeque<Order>,
) -> Vec<(Change, Answer<Result<(), NotWritten>>)> {
    let mut names = BTreeSet::from([first.0.name().to_owned()]);
    let mut group = vec![first];
    while let Some(Order::Change(change, _)) = waiting.front() {
        if group.len() == GROUP || !names.insert(change.name().to_owned()) {
            break;
        }
        if let Some(Order::Change(change, done)) = waiting.pop_front() {
            group.push((change, done));
        }
    }
    group
}

/// Compare-and-swap on the generation.
fn demanded(expected: Expected, stored: Option<&Entry>) -> Result<(), NotWritten> {
    match (expected, stored) {
        (Expected::Anything, _) | (Expected::Generation(None), Some(Entry::Unreadable { .. })) => Ok(()),
        (Expected::Generation(Some(_)), Some(Entry::Unreadable { cause })) => Err(NotWritten::Unreadable(*cause)),
        (Expected::Generation(expected), stored) => {
            let stored = stored.and_then(Entry::generation);
            if stored == expected { Ok(()) } else { Err(NotWritten::Conflict(stored)) }
        }
    }
}

/// Removes what a crash left half-written beside the records.
pub(super) fn remove_leftovers(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "tmp") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}
