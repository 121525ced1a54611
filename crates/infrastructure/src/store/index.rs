//! What is durable right now: the newest sealed copy of every record, in memory.
//!
//! The files and sled are written; this is what is read. One process holds the store, so nothing
//! changes behind its back, and reading a record costs no disk and no lock across an await.

use std::collections::BTreeMap;
use std::sync::Arc;

use everfresh_domain::Generation;

use super::seal::{UnsealError, Version};

/// A record as it is known.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    /// Whole, still sealed.
    Sealed { version: Version, bytes: Arc<[u8]> },
    /// There, and not to be opened. It is set aside before anything takes its place.
    Unreadable { cause: UnsealError },
}

impl Entry {
    /// The generation, where it can be known.
    pub(super) fn generation(&self) -> Option<Generation> {
        match self {
            Self::Sealed { version, .. } => Some(version.generation),
            Self::Unreadable { .. } => None,
        }
    }
}

/// All records by name, as `grant.linear` or `server.linear`.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: BTreeMap<String, Entry>,
    writes: u64,
}

impl Index {
    pub(super) fn put(&mut self, name: String, entry: Entry) {
        if let Entry::Sealed { version, .. } = &entry {
            self.writes = self.writes.max(version.writes);
        }
        self.entries.insert(name, entry);
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.entries.remove(name);
    }

    pub(super) fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// Every entry whose name begins with `prefix`, in order.
    pub(super) fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a String, &'a Entry)> {
        self.entries.range(prefix.to_owned()..).take_while(move |(name, _)| name.starts_with(prefix))
    }

    /// The count for the next write: it never falls, so the newer of two copies is always known.
    pub(super) fn next_write(&mut self) -> u64 {
        self.writes += 1;
        self.writes
    }

    /// Takes a count into account that only a lost copy may have carried.
    pub(super) fn seen(&mut self, version: Version) {
        self.writes = self.writes.max(version.writes);
    }
}
