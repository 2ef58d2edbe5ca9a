//! The state directory: what outlives a process.
//!
//! STATE is `--state`, else `PORTSWEEP_STATE`, else `state` in the config file, else `$XDG_STATE_HOME/portsweep` (or
//! `~/.local/state/portsweep`), for root `/var/lib/portsweep`. Each scan from here has a database of its own, `STATE/scans/ID.db`,
//! under an exclusive lock while a process runs it, so that scans run side by side, and whoever gets the lock knows the process before
//! dead. What is kept says which addresses answer what: the directories are for their owner alone (0700).

mod error;
mod kept;
mod stored;
#[cfg(test)]
mod tests;

pub use error::StateError;
pub use kept::{Kept, Seen};
pub use stored::{Ask, StoredRequest};

use crate::store::sqlite::{OpenError, SqliteStore};
use coordinator_core::store::ScanStatus;
use protocol::id::ScanId;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// For root, as the file system hierarchy has it.
const ROOT_DIRECTORY: &str = "/var/lib/portsweep";
/// The directories' mode: their owner's alone.
const DIRECTORY_MODE: u32 = 0o700;
/// How many finished scans stay unless `--keep` says.
pub const KEEP_DEFAULT: usize = 20;

/// The state directory. It need not exist yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    directory: PathBuf,
    is_typed: bool,
}

impl State {
    /// The directory that was named; `is_typed` if it was by `--state`, so that it must be typed again.
    ///
    /// # Errors
    /// If it cannot be made absolute.
    pub fn named(directory: &Path, is_typed: bool) -> Result<Self, StateError> {
        let absolute = std::path::absolute(directory);
        let directory = absolute.map_err(|why| StateError::Unusable { path: directory.to_owned(), why })?;
        Ok(Self { directory, is_typed })
    }

    /// Where it is unless it is named. `home` is where state is kept as XDG has it.
    ///
    /// # Errors
    /// [`StateError::NoPlace`] for a user without a home.
    pub fn usual(home: Option<PathBuf>, is_root: bool) -> Result<Self, StateError> {
        let directory = match (is_root, home) {
            (true, _) => PathBuf::from(ROOT_DIRECTORY),
            (false, Some(home)) => home.join("portsweep"),
            (false, None) => return Err(StateError::NoPlace),
        };
        Ok(Self { directory, is_typed: false })
    }

    /// Its path, absolute.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What is to be typed to go on with a scan of it.
    #[must_use]
    pub fn resume_line(&self, id: ScanId) -> String {
        let named = match self.is_typed {
            true => format!(" --state {}", crate::cli::quoted(&self.directory.to_string_lossy())),
            false => String::new(),
        };
        format!("portsweep resume{named} {id}")
    }

    /// Makes the database of a new scan, and becomes its writer. Makes the directories that are missing.
    ///
    /// # Errors
    /// If a directory or the database cannot be made.
    pub fn create(&self, id: ScanId) -> Result<SqliteStore, StateError> {
        let scans = self.scans_directory();
        let unusable = |why| StateError::Unusable { path: self.directory.clone(), why };
        DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(&scans).map_err(unusable)?;
        SqliteStore::create(&self.path(id))
            .map_err(|source| StateError::Create { path: self.directory.clone(), source })
    }

    /// The database of this machine's coordinator, and becomes its writer. Makes what is missing.
    ///
    /// # Errors
    /// [`StateError::Serving`] while another process is its writer, or if it cannot be made or opened.
    pub fn coordinator(&self) -> Result<SqliteStore, StateError> {
        let unusable = |why| StateError::Unusable { path: self.directory.clone(), why };
        DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(&self.directory).map_err(unusable)?;
        let path = self.directory.join("coordinator.db");
        let opened = if path.exists() { SqliteStore::open(&path) } else { SqliteStore::create(&path) };
        match opened {
            Err(OpenError::Locked { .. }) => Err(StateError::Serving(self.directory.clone())),
            opened => Ok(opened?),
        }
    }

    /// The scans that are kept, newest first.
    ///
    /// # Errors
    /// If the directory cannot be read. One that does not exist has none.
    pub fn kept(&self) -> Result<Vec<Kept>, StateError> {
        let unreadable = |why| StateError::Unreadable { path: self.scans_directory(), why };
        let entries = match fs::read_dir(self.scans_directory()) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unreadable(error)),
        };
        let mut kept = Vec::new();
        for entry in entries {
            let path = entry.map_err(unreadable)?.path();
            let is_database = path.extension().is_some_and(|extension| extension == "db");
            let id = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
            kept.extend(id.filter(|_| is_database).map(|id| Kept::new(id, path)));
        }
        kept.sort_by_key(|kept| std::cmp::Reverse(kept.id()));
        Ok(kept)
    }

    /// The one scan whose id begins with `prefix`, dashes or not.
    ///
    /// # Errors
    /// If there is none, or several.
    pub fn find(&self, prefix: &str) -> Result<Kept, StateError> {
        let digits = |text: &str| text.replace('-', "").to_ascii_lowercase();
        let wanted = digits(prefix);
        let fits = |kept: &Kept| !wanted.is_empty() && digits(&kept.id().to_string()).starts_with(&wanted);
        let mut fitting = self.kept()?.into_iter().filter(fits);
        match (fitting.next(), fitting.next()) {
            (Some(kept), None) => Ok(kept),
            (Some(_), Some(_)) => Err(StateError::Ambiguous(protocol::quote::Quoted::new(prefix))),
            (None, _) => Err(StateError::Unknown(protocol::quote::Quoted::new(prefix))),
        }
    }

    /// The newest scan that can be gone on with: interrupted, partial, or running with nobody who runs it.
    ///
    /// # Errors
    /// If there is none, or the directory cannot be read.
    pub fn newest_resumable(&self) -> Result<Kept, StateError> {
        for kept in self.kept()? {
            match kept.look() {
                Ok(Some(seen)) if seen.is_resumable() => return Ok(kept),
                Ok(_) => {}
                Err(error) => tracing::warn!(id = %kept.id(), %error, "a scan is passed over"),
            }
        }
        Err(StateError::NothingToResume(self.directory.clone()))
    }

    /// Removes the oldest finished scans beyond the newest `keep`. What is interrupted, partial or runs stays, and so does what cannot be
    /// read.
    ///
    /// # Errors
    /// If the directory cannot be read, or one cannot be removed.
    pub fn trim(&self, keep: usize) -> Result<(), StateError> {
        let finished = self.kept()?.into_iter().filter(|kept| {
            let seen = kept.look().ok().flatten();
            seen.is_some_and(|seen| seen.record.status == ScanStatus::Done && !seen.is_live)
        });
        finished.skip(keep).try_for_each(|kept| kept.remove())
    }

    fn scans_directory(&self) -> PathBuf {
        self.directory.join("scans")
    }

    fn path(&self, id: ScanId) -> PathBuf {
        self.scans_directory().join(format!("{id}.db"))
    }
}
