//! A scan that is kept: its database, and what can be seen of it.

use super::{StateError, StoredRequest};
use crate::store::sqlite::{OpenError, SqliteStore};
use coordinator_core::store::{ScanRecord, ScanStatus, Store};
use jiff::Timestamp;
use protocol::id::ScanId;
use std::fs::{self, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Whoever only looks whether a scan is live holds its lock for a moment.
const LOCK_TRIES: u32 = 40;
const LOCK_PAUSE: Duration = Duration::from_millis(25);

/// The database of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    id: ScanId,
    path: PathBuf,
}

/// What was seen of a scan.
#[derive(Clone, Debug)]
pub struct Seen {
    /// As it is stored.
    pub record: ScanRecord,
    /// What was asked for.
    pub request: StoredRequest,
    /// Whether a process runs it.
    pub is_live: bool,
    /// When something of it was last stored.
    pub updated: Timestamp,
}

impl Seen {
    /// How far it is. What nobody runs any more was interrupted.
    #[must_use]
    pub fn status(&self) -> ScanStatus {
        match (self.record.status, self.is_live) {
            (ScanStatus::Running, false) => ScanStatus::Interrupted,
            (status, _) => status,
        }
    }

    /// Whether it can be gone on with, now.
    #[must_use]
    pub fn is_resumable(&self) -> bool {
        !self.is_live && self.record.status != ScanStatus::Done
    }

    /// How long it ran up to when it was last stored.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.request.ran(self.updated)
    }
}

impl Kept {
    pub(super) fn new(id: ScanId, path: PathBuf) -> Self {
        Self { id, path }
    }

    /// The scan's id.
    #[must_use]
    pub fn id(&self) -> ScanId {
        self.id
    }

    /// Its database.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is stored of it; `None` where a process died before the scan was.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn look(&self) -> Result<Option<Seen>, StateError> {
        let is_live = SqliteStore::is_in_use(&self.path)?;
        self.seen_in(&self.read()?, is_live)
    }

    /// Its database, for reading.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn read(&self) -> Result<SqliteStore, StateError> {
        Ok(SqliteStore::open_read_only(&self.path)?)
    }

    /// Becomes its writer, to go on with it.
    ///
    /// # Errors
    /// If it is live, finished, or cannot be opened.
    pub fn take(&self) -> Result<(SqliteStore, Seen), StateError> {
        let mut tries = 0;
        let store = loop {
            tries += 1;
            match SqliteStore::open(&self.path) {
                Err(OpenError::Locked { .. }) if tries < LOCK_TRIES => std::thread::sleep(LOCK_PAUSE),
                Err(OpenError::Locked { .. }) => return Err(StateError::Live(self.id)),
                opened => break opened?,
            }
        };
        match self.seen_in(&store, false)? {
            Some(seen) if seen.is_resumable() => Ok((store, seen)),
            Some(_) => Err(StateError::Done(self.id)),
            None => Err(StateError::Empty(self.id)),
        }
    }

    /// Waits until the process, or the thread, that writes to it is through with it.
    ///
    /// # Errors
    /// [`StateError::Live`] if it does not let go within a second.
    pub fn wait_for_writer(&self) -> Result<(), StateError> {
        for _ in 0..LOCK_TRIES {
            if !SqliteStore::is_in_use(&self.path)? {
                return Ok(());
            }
            std::thread::sleep(LOCK_PAUSE);
        }
        Err(StateError::Live(self.id))
    }

    /// Deletes it, unless it is live.
    ///
    /// # Errors
    /// [`StateError::Live`], or if a file cannot be removed.
    pub fn remove(&self) -> Result<(), StateError> {
        let beside = |extension: &str| self.path.with_extension(extension);
        let failed = |path: &Path, why| StateError::Remove { path: path.to_owned(), why };
        // The lock that whoever runs a scan holds (`store/sqlite/open.rs`): nobody begins to while it goes.
        let lock = beside("lock");
        let held = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&lock);
        let held = held.map_err(|why| failed(&lock, why))?;
        match held.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StateError::Live(self.id)),
            Err(TryLockError::Error(why)) => return Err(failed(&lock, why)),
        }
        for path in [self.path.clone(), beside("db-wal"), beside("db-shm"), lock] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&path, error)),
                _ => {}
            }
        }
        Ok(())
    }

    fn seen_in(&self, store: &SqliteStore, is_live: bool) -> Result<Option<Seen>, StateError> {
        let Some(record) = store.scans()?.into_iter().find(|record| record.id == self.id) else { return Ok(None) };
        let request = StoredRequest::read(&record)?;
        let updated = self.updated().unwrap_or(request.started).max(request.started);
        Ok(Some(Seen { record, request, is_live, updated }))
    }

    /// When the database or its log was last written.
    fn updated(&self) -> Option<Timestamp> {
        let files = [self.path.clone(), self.path.with_extension("db-wal")];
        let times = files.iter().filter_map(|file| Timestamp::try_from(fs::metadata(file).ok()?.modified().ok()?).ok());
        times.max()
    }
}
