//! What SQLite's failures mean, and what to do about them.

use coordinator_core::store::StoreError;
use rusqlite::ErrorCode;

/// Why the medium failed.
#[derive(Debug, thiserror::Error)]
pub enum MediumError {
    /// There is no room.
    #[error("the disk is full: make room, then `portsweep resume`")]
    Full(#[source] rusqlite::Error),
    /// The disk does not do what it is told.
    #[error("the disk gives errors: look at the system's log, then `portsweep resume`")]
    Io(#[source] rusqlite::Error),
    /// The file was damaged.
    #[error("the file is damaged: restore it, or scan again")]
    Damaged(#[source] rusqlite::Error),
    /// The file, or its directory, cannot be written.
    #[error("the file or its directory cannot be written by this user")]
    ReadOnly(#[source] rusqlite::Error),
    /// Something in it cannot be read.
    #[error("a stored {0} cannot be read: the file is damaged, or of another version; restore it, or scan again")]
    Malformed(&'static str),
    /// What was done before it in the same transaction was undone.
    #[error("the transaction that it belongs to was undone")]
    Undone,
    /// Any other.
    #[error("the database refuses it")]
    Other(#[source] rusqlite::Error),
}

impl From<rusqlite::Error> for MediumError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full(error),
            Some(ErrorCode::SystemIoFailure) => Self::Io(error),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(error),
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => Self::ReadOnly(error),
            _ => Self::Other(error),
        }
    }
}

/// Why a step of a method failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// As SQLite says.
    Sql(rusqlite::Error),
    /// As the store's contract says.
    Refused(StoreError),
    /// What is stored is not what it should be.
    Malformed(&'static str),
}

impl Failure {
    /// As callers see it, who were doing `action`.
    pub(super) fn doing(self, action: &'static str) -> StoreError {
        let medium = |error: MediumError| StoreError::Medium { action, source: Box::new(error) };
        match self {
            Self::Sql(error) => medium(error.into()),
            Self::Refused(error) => error,
            Self::Malformed(what) => medium(MediumError::Malformed(what)),
        }
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}
