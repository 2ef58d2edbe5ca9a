//! The simulated world's store: one of the real ones, and what a kill of its process does to it.

use coordinator_core::store::Store;
use coordinator_core::store::memory::MemoryStore;
use portsweep::store::sqlite::SqliteStore;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

/// Which store a world has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Memory,
    Sqlite,
}

pub(super) enum SimStore {
    /// Stands for any store whose transactions are whole. `before` is what stays if its process is killed now.
    Memory { store: MemoryStore, before: Option<Box<MemoryStore>> },
    /// Closed only while it is opened again.
    Sqlite { store: Option<Box<SqliteStore>>, path: PathBuf, _directory: tempfile::TempDir },
}

impl SimStore {
    pub(super) fn new(which: Which) -> Result<Self, String> {
        if which == Which::Memory {
            return Ok(Self::Memory { store: MemoryStore::new(), before: None });
        }
        // A killed process loses nothing that it gave to the system: what the disk does is another test's matter, so memory serves.
        let memory = Path::new("/dev/shm");
        let directory = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let directory = directory.map_err(|error| error.to_string())?;
        let path = directory.path().join("scan.db");
        let store = SqliteStore::create(&path).map_err(|error| error.to_string())?;
        Ok(Self::Sqlite { store: Some(Box::new(store)), path, _directory: directory })
    }

    /// A copy of what is kept, of the store in memory.
    pub(super) fn copy(&self) -> Option<MemoryStore> {
        match self {
            Self::Memory { store, .. } => Some(store.clone()),
            Self::Sqlite { .. } => None,
        }
    }

    /// To be called before a group within which the process is killed.
    pub(super) fn remember(&mut self) {
        if let Self::Memory { store, before } = self {
            *before = Some(Box::new(store.clone()));
        }
    }

    /// Its process is killed: a group that was not committed is gone. Another process opens it.
    pub(super) fn kill(&mut self) -> Result<(), String> {
        match self {
            Self::Memory { store, before } => {
                if let Some(before) = before.take() {
                    *store = *before;
                }
            }
            Self::Sqlite { store, path, .. } => {
                drop(store.take());
                *store = Some(Box::new(SqliteStore::open(path).map_err(|error| error.to_string())?));
            }
        }
        Ok(())
    }
}

impl Deref for SimStore {
    type Target = dyn Store;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Memory { store, .. } => store,
            Self::Sqlite { store, .. } => store.as_deref().expect("it is open between kills"),
        }
    }
}

impl DerefMut for SimStore {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match self {
            Self::Memory { store, .. } => store,
            Self::Sqlite { store, .. } => store.as_deref_mut().expect("it is open between kills"),
        }
    }
}
