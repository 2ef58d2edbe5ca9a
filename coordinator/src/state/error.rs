//! What can be wrong with the state directory. Each is one line: what is wrong, and what to do.

use crate::cli::ExitCode;
use crate::store::sqlite::OpenError;
use coordinator_core::store::StoreError;
use protocol::id::ScanId;
use protocol::quote::Quoted;
use std::io;
use std::path::PathBuf;

/// Why state cannot be kept or used. The cause is its source, and not repeated in its text.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// There is no home to put it in.
    #[error(
        "there is no place to keep scans in, as HOME is not set: name one with --state DIR, or scan with --no-state"
    )]
    NoPlace,
    /// The directory cannot be made or used.
    #[error(
        "the state directory {path:?} cannot be used ({why}): name another with --state DIR, or scan with --no-state"
    )]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// No database can be made in it.
    #[error("the state directory {path:?} takes no new scan: name another with --state DIR, or scan with --no-state")]
    Create {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: OpenError,
    },
    /// It cannot be listed.
    #[error("the state directory {path:?} cannot be read: {why}")]
    Unreadable {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// There is no such scan.
    #[error("no scan that is kept here is called {0}: `portsweep scans` lists them")]
    Unknown(Quoted),
    /// There are several.
    #[error("several scans have an id that begins with {0}: write more of it")]
    Ambiguous(Quoted),
    /// Nothing is to be gone on with.
    #[error("no scan in {0:?} was interrupted or could not look everywhere: there is nothing to go on with")]
    NothingToResume(PathBuf),
    /// It is finished.
    #[error("scan {0} is done: there is nothing to go on with (`portsweep scans show {0}`)")]
    Done(ScanId),
    /// A process runs it.
    #[error("scan {0} is being run by another portsweep: stop that first")]
    Live(ScanId),
    /// A coordinator has it.
    #[error("another portsweep serve uses {0:?}: stop it, or name another with --state DIR")]
    Serving(PathBuf),
    /// A process died before it had begun.
    #[error("scan {0} never began: `portsweep scans rm {0}` removes it")]
    Empty(ScanId),
    /// What is kept of the request is not ours.
    #[error("the request of scan {id} cannot be read ({why}): it was made by another version")]
    Request {
        /// The scan.
        id: ScanId,
        /// Why.
        why: serde_json::Error,
    },
    /// Its database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its database cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be removed.
    #[error("{path:?} cannot be removed: {why}")]
    Remove {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
}

impl StateError {
    /// Its exit code: what was typed is at fault, or what is there.
    #[must_use]
    pub const fn exit(&self) -> ExitCode {
        match self {
            Self::Unknown(_) | Self::Ambiguous(_) | Self::NothingToResume(_) | Self::Done(_) | Self::Live(_) => {
                ExitCode::Usage
            }
            _ => ExitCode::Failed,
        }
    }
}
